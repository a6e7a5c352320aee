/*
 * Cursors: named positions in topics that the cluster keeps, and a committer, which keeps one up to
 * date as its consumer goes on.
 */
#ifndef QUORLOG_CLIENT_CURSOR_H
#define QUORLOG_CLIENT_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "client/client.h"

/* ---- single calls; answers as packed messages, as in client.h ---- */

/* What the cursor must be for a change to be made. */
enum client_cursor_expect {
    CLIENT_CURSOR_ANY,
    CLIENT_CURSOR_REVISION, /* its revision is `expected`; 0: there is none */
    CLIENT_CURSOR_OFFSET,   /* it is there, at offset `expected` */
};

struct client_cursor_change {
    const char *topic; /* in, copied, as the next */
    const char *name;
    enum client_cursor_expect expect;
    uint64_t expected;
    /* Of a set: */
    uint64_t offset;      /* of the record to be read next */
    uint64_t owner;       /* who sets it, by a number of its own choice; 0: none */
    const char *metadata; /* in, copied; at most 256 bytes; NULL: none */
};

/* ERR_INVALID for a topic or name of no or more than 200 characters. at_least: a token; what it
 * stands for is seen; 0: whatever the node has. A failed compare is ERR_CURSOR_CONFLICT, and the
 * error's `cursor` is what it is. */
enum err client_cursor_get(struct client *self, const char *topic, const char *name,
                           uint64_t at_least, client_reply_cb cb, void *arg);
enum err client_cursor_set(struct client *self, const struct client_cursor_change *change,
                           client_reply_cb cb, void *arg);
enum err client_cursor_delete(struct client *self, const struct client_cursor_change *change,
                              client_reply_cb cb, void *arg);
/* A part of the list, by topic id and name, behind (after_topic_id, after_name); topic: NULL for
 * all. The reply's `more` says that there is a next part, behind the last one of this. */
enum err client_cursor_list(struct client *self, const char *topic, uint64_t after_topic_id,
                            const char *after_name, client_reply_cb cb, void *arg);

/* ---- a committer ---- */

/*
 * Takes a cursor over, tells where it stands, and then moves it behind its consumer: what is done
 * (committer_advance) is committed by count and time. Each change expects the revision of the one
 * before: whoever takes the cursor over, or sets it by hand, ends the committer with
 * ERR_CURSOR_CONFLICT. It looks every few seconds when it has nothing to commit.
 *
 * At least once: what was done and not committed is read again by the next one.
 */
struct committer;

struct committer_options {
    const char *topic;    /* in, copied, as the next two */
    const char *name;     /* of the cursor */
    const char *metadata; /* NULL: none */
    uint64_t records_max; /* commit after so many; 0: 1000 */
    uint64_t interval_ms; /* and so long after the first that is not committed; 0: 1000 */
};

struct committer_events {
    /* Once, first, unless committer_free comes before. On success: where the cursor stands, and a
     * token with which a consumer sees as much, and the same topic, if another had its name before.
     * There is none (exists is false, offset 0): it is made by the first committer_advance. After a
     * failure nothing else comes. */
    void (*opened)(void *arg, const struct client_error *error, bool exists, uint64_t offset,
                   uint64_t token);
    /* Once, last: ERR_OK after committer_close, when all is committed; or why it cannot go on.
     * committed: where the cursor stood after the last change that was its own. */
    void (*ended)(void *arg, const struct client_error *error, uint64_t committed);
};

enum err committer_new(struct client *client, const struct committer_options *options,
                       const struct committer_events *events, void *arg,
                       struct committer **ret_committer);

/* All records below offset are done. Never down; only after `opened`. The first call makes a cursor
 * that was not there. */
void committer_advance(struct committer *self, uint64_t offset);

/* Commits the rest, at once; `ended` comes when that is done, and the node that the client talks to
 * shows it. Only after `opened`. */
void committer_close(struct committer *self);

/* No further events; what is not committed stays so. Frees; legal from inside an event. NULL is
 * fine. */
void committer_free(struct committer *self);

#endif
