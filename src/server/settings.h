/*
 * A topic's settings, as requests and answers hold them (proto/quorlog.proto).
 */
#ifndef QUORLOG_SERVER_SETTINGS_H
#define QUORLOG_SERVER_SETTINGS_H

#include "base/err.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/catalog.h"
#include "raft_fsm/topic_settings.h"

/* A message and what it points to: it stays where it is while it is used. */
struct settings_message {
    Quorlog__TopicSettings message;
    Quorlog__NodeIndexes nodes[TOPIC_INDEX_NODES_MAX];
    Quorlog__NodeIndexes *pointers[TOPIC_INDEX_NODES_MAX];
};

void settings_put(const struct topic_settings *settings, struct settings_message *ret_message);

/* ERR_INVALID: they are not allowed, the text says what is; ERR_UNSUPPORTED. */
enum err settings_take(const Quorlog__TopicSettings *message, struct topic_settings *ret_settings,
                       struct err_info *info);

/* A request's change, and the other way round: `which` has room for SETTINGS_WHICH_MAX. Errors as
 * above. */
enum { SETTINGS_WHICH_MAX = 32 };
enum err settings_take_change(const Quorlog__TopicAlterRequest *request,
                              struct topic_change *ret_change, struct err_info *info);
size_t settings_put_which(const struct topic_change *change, uint32_t which[SETTINGS_WHICH_MAX]);

/* The codec that a topic's settings name; 0 where there is no such topic (any more). Any thread. */
uint32_t settings_compression(struct catalog *catalog, const char *topic);

#endif
