/*
 * The cursors: where consumers stand, each by its name, topic by topic.
 *
 * Part of the state machine: changed by the raft thread only, by applying entries, the same on all
 * nodes, kept in snapshots, gone with their topic. All threads may look: a lock guards the table,
 * held for microseconds by the raft thread, and as long as a walk through all cursors takes by who
 * lists them.
 *
 * Invariants:
 *   C1  A cursor's revision is above 0, and no change of any cursor ever has another's: it is made
 *       of the entry's index and the command's number in it, as a topic's id is. Who knows a
 *       revision can therefore tell whether anything happened since.
 *   C2  When it was set, a cursor was not beyond its topic's end.
 *   C3  At most CURSORS_MAX cursors in all topics together.
 */
#ifndef QUORLOG_RAFT_FSM_CURSORS_H
#define QUORLOG_RAFT_FSM_CURSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft_fsm/command.h"

/* Not a setting: it decides what an entry does. A manifest takes at most 510 bytes for one. */
enum { CURSORS_MAX = 100000 };

/* The part of a cursor that results carry. */
struct cursor_position {
    uint64_t offset;   /* of the record to be read next */
    uint64_t revision; /* 0: there is no cursor, and the rest is 0 */
    uint64_t owner;    /* whoever set it last, by a number of its own; 0: none was given */
    int64_t updated_time_us;
};

struct cursor {
    uint64_t topic_id;
    char name[CURSOR_NAME_SIZE_MAX + 1];
    char metadata[CURSOR_METADATA_SIZE_MAX + 1];
    struct cursor_position at;
};

struct cursors;

enum err cursors_new(struct cursors **ret_cursors); /* ERR_NOMEM */
void cursors_free(struct cursors *self);            /* NULL is fine */

/* ---- the raft thread ---- */

/* The circumstances of a change. */
struct cursor_stamp {
    uint64_t topic_id;
    uint64_t topic_end;
    uint64_t revision; /* C1 */
    int64_t time_us;
};

/*
 * Decides and makes a change. *ret_position is what the cursor is afterwards, whatever happened.
 *   set     OK; CURSOR_CONFLICT; RANGE (C2); LIMIT (C3)
 *   delete  OK; CURSOR_CONFLICT; CURSOR_UNKNOWN
 * ERR_NOMEM is this node's own failure: nothing changed.
 */
enum err cursors_set(struct cursors *self, const struct cursor_stamp *stamp,
                     const struct cursor_change *change, struct cursor_position *ret_position);
enum err cursors_delete(struct cursors *self, uint64_t topic_id, const struct cursor_change *change,
                        struct cursor_position *ret_position);

/* A topic was deleted, and its cursors with it. */
void cursors_forget_topic(struct cursors *self, uint64_t topic_id);

/* Each becomes what the other was; both belong to the caller's thread. */
void cursors_exchange(struct cursors *self, struct cursors *other);

/* A second table, equal to self, owned by the caller. ERR_NOMEM. */
enum err cursors_copy(const struct cursors *self, struct cursors **ret_copy);

size_t cursors_count(const struct cursors *self);

/* Visits all by topic id, then by name: the order is the same on all nodes. Stops at the first
 * error of `visit` and returns it; ERR_NOMEM. */
enum err cursors_visit(const struct cursors *self,
                       enum err (*visit)(void *arg, const struct cursor *cursor), void *arg);

/* Puts back what was visited. ERR_CORRUPT for what no table visits, ERR_NOMEM. */
enum err cursors_restore(struct cursors *self, const struct cursor *cursor);

/* ASSERTs C1 and C3. */
void cursors_check(const struct cursors *self);

/* ---- any thread ---- */

/* False when there is none. */
bool cursors_find(struct cursors *self, uint64_t topic_id, const char *name,
                  struct cursor *ret_cursor);

/* A part of the list, in the order of a visit: the first `size_max` cursors behind (after_topic_id,
 * after_name), of one topic or (topic_id 0) of all. */
struct cursors_page {
    uint64_t topic_id;
    uint64_t after_topic_id;
    const char *after_name; /* "": all of after_topic_id are behind it */
    size_t size_max;        /* at least 1 */
    struct cursor *cursors; /* room for size_max; filled */
    size_t count;           /* how many were */
    bool more;              /* there are others behind them */
};
/* ERR_NOMEM. */
enum err cursors_list(struct cursors *self, struct cursors_page *page);

#endif
