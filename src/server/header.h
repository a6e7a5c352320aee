/*
 * Whether the text in a protobuf header is text: what the decoder does not look at.
 *
 * protobuf-c keeps a string up to its first zero byte, so that "a\0b" would be taken for "a", and
 * does not care for UTF-8, which a string of proto3 is and which those who read it again, in an
 * error's text or in a log, count on.
 */
#ifndef QUORLOG_SERVER_HEADER_H
#define QUORLOG_SERVER_HEADER_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* ERR_INVALID, with the field's name, for a string that is not UTF-8 or has a zero byte in it, here
 * or in a message inside; also for bytes that are no protobuf fields at all. Whether they are the
 * right ones is for the decoder to say. */
enum err header_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *header,
                      size_t size, struct err_info *info);

#endif
