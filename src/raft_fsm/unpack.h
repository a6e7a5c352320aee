/*
 * Decoding protobuf, where it matters why that failed: bytes that are no message mean damage, and
 * an operator acts on that; memory that was short means nothing.
 */
#ifndef QUORLOG_RAFT_FSM_UNPACK_H
#define QUORLOG_RAFT_FSM_UNPACK_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Decodes `size` bytes as the message that descriptor describes. ERR_CORRUPT, ERR_NOMEM.
 * *ret_message: owned; protobuf_c_message_free_unpacked(message, NULL). */
enum err unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size,
                ProtobufCMessage **ret_message);

#endif
