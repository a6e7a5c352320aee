/*
 * The topics of a bench: made where they are missing, many at a time.
 */
#ifndef QUORLOG_CLI_BENCH_TOPICS_H
#define QUORLOG_CLI_BENCH_TOPICS_H

#include "client/client.h"

/* NAME, or NAME-0 … of several, as load_topic_name. Waits until all are there; *ret_token: a node
 * that has applied it knows those that were made. Returns the exit code; a failure is told. */
int bench_topics_create(struct client *client, const char *topic, uint64_t topics,
                        uint64_t *ret_token);

#endif
