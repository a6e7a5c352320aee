/*
 * The commands that make, alter and delete topics (see command.h): their bodies, which are protobuf
 * (proto/replicated.proto).
 */
#ifndef QUORLOG_RAFT_FSM_COMMAND_TOPIC_H
#define QUORLOG_RAFT_FSM_COMMAND_TOPIC_H

#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/command.h"

/* Bytes of the body, and the body. */
size_t command_topic_size(const struct command *self);
void command_topic_put(const struct command *self, uint8_t *to);

/* ret_command->type says which one it is. *ret_change holds what the command points to. As
 * command_reader_next; nothing is said about whether settings are allowed. */
enum err command_topic_read(const uint8_t *body, size_t size, struct command_view *ret_command,
                            struct topic_change *ret_change, struct err_info *info);

#endif
