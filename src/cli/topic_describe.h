/*
 * What a person, or a program, is shown of a topic.
 */
#ifndef QUORLOG_CLI_TOPIC_DESCRIBE_H
#define QUORLOG_CLI_TOPIC_DESCRIBE_H

#include <jansson.h>

#include "quorlog.pb-c.h"

/* An object with what is known of it; the caller's. */
json_t *topic_info_json(const Quorlog__TopicInfo *topic);

#endif
