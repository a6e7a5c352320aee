/*
 * A topic's settings as commands and manifests hold them (proto/replicated.proto, TopicSettings).
 */
#ifndef QUORLOG_RAFT_FSM_TOPIC_SETTINGS_MESSAGE_H
#define QUORLOG_RAFT_FSM_TOPIC_SETTINGS_MESSAGE_H

#include <stdbool.h>

#include "base/err.h"
#include "raft_fsm/topic_settings.h"
#include "replicated.pb-c.h"

/* A message and what it points to: it stays where it is while it is used. */
struct topic_settings_message {
    Replicated__TopicSettings message;
    Replicated__NodeIndexes nodes[TOPIC_INDEX_NODES_MAX];
    Replicated__NodeIndexes *pointers[TOPIC_INDEX_NODES_MAX];
};

/* All of them at their defaults: no message is written. */
bool topic_settings_are_default(const struct topic_settings *settings);

void topic_settings_put(const struct topic_settings *settings,
                        struct topic_settings_message *ret_message);

/*
 * NULL gives the defaults. ERR_VERSION for fields, indexes and codecs that a newer program knows;
 * ERR_CORRUPT for more nodes than any program writes; `where` says of what. Whether the values are
 * allowed is not looked at.
 */
enum err topic_settings_take(const Replicated__TopicSettings *message, const char *where,
                             struct topic_settings *ret_settings, struct err_info *info);

#endif
