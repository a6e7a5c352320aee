/*
 * What a client or another node can ask for: one table of frame types and the functions that carry
 * them out. Each function decodes the frame's header, checks it, and sees to an answer: at once, or
 * later through a request of its own.
 */
#ifndef QUORLOG_SERVER_API_H
#define QUORLOG_SERVER_API_H

#include "server/session.h"
#include "transport/transport.h"

/* A frame of an established connection of a client or node. */
void api_dispatch(struct session *session, const struct frame *frame);

/* Answers a frame, before a request was made of it. */
void api_refuse(struct session *session, const struct frame *frame, const struct failure *failure);
void api_refuse_header(struct session *session, const struct frame *frame, const char *name);

/* Checks a topic's name; answers and returns false when it is none. */
bool api_check_topic(struct session *session, const struct frame *frame, const char *verb,
                     const char *topic);

/* The same for a cursor's. */
bool api_check_cursor(struct session *session, const struct frame *frame, const char *name);

void api_produce(struct session *session, const struct frame *frame);
void api_consume(struct session *session, const struct frame *frame);
void api_consume_stream(struct session *session, const struct frame *frame);
void api_credit(struct session *session, const struct frame *frame);
void api_cancel(struct session *session, const struct frame *frame);
void api_topic_create(struct session *session, const struct frame *frame);
void api_topic_delete(struct session *session, const struct frame *frame);
void api_topic_trim(struct session *session, const struct frame *frame);
void api_topic_list(struct session *session, const struct frame *frame);
void api_topic_describe(struct session *session, const struct frame *frame);
void api_topic_alter(struct session *session, const struct frame *frame);
void api_init_producer(struct session *session, const struct frame *frame);
void api_read_index(struct session *session, const struct frame *frame);
void api_cursor_get(struct session *session, const struct frame *frame);
void api_cursor_set(struct session *session, const struct frame *frame);
void api_cursor_list(struct session *session, const struct frame *frame);
void api_cursor_delete(struct session *session, const struct frame *frame);
void api_status(struct session *session, const struct frame *frame);
void api_cluster_add(struct session *session, const struct frame *frame);
void api_cluster_remove(struct session *session, const struct frame *frame);
void api_cluster_replace(struct session *session, const struct frame *frame);
void api_cluster_transfer(struct session *session, const struct frame *frame);
void api_digest(struct session *session, const struct frame *frame);
void api_proof(struct session *session, const struct frame *frame);
void api_manifest(struct session *session, const struct frame *frame);

/* What the group answered to a MANIFEST. */
struct group_capture;
void manifest_captured(struct group_capture *capture);

#endif
