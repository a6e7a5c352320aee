/*
 * Questions about cursors that can be taken back. For cursor.c and committer.c only.
 */
#ifndef QUORLOG_CLIENT_CURSOR_REQUEST_H
#define QUORLOG_CLIENT_CURSOR_REQUEST_H

#include "client/client_request.h"
#include "client/cursor.h"

/* As client_cursor_get and client_cursor_set. ret_request: as client_request_start. repeatable: the
 * caller can tell its own change, made by an earlier try, from another's. */
enum err cursor_request_get(struct channel *channel, const char *topic, const char *name,
                            uint64_t at_least, client_reply_cb cb, void *arg,
                            struct client_request **ret_request);
enum err cursor_request_set(struct channel *channel, const struct client_cursor_change *change,
                            bool repeatable, client_reply_cb cb, void *arg,
                            struct client_request **ret_request);

#endif
