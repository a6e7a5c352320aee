/*
 * Retention: which of a topic's records have passed a bound of its settings, and which will next.
 *
 * Decided from what is replicated (settings, ages, the log); no clock is asked. By records: exactly
 * so many stay. By bytes: the most batches that fit stay, the last one in any case. By age: what is
 * certainly that old goes, batch by batch (raft_fsm/ages.h). Where several bounds are set, what
 * passes any of them goes.
 */
#ifndef QUORLOG_RAFT_FSM_RETENTION_H
#define QUORLOG_RAFT_FSM_RETENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "raft_fsm/ages.h"
#include "raft_fsm/catalog.h"

/* Whether the topic has a bound at all. (raft thread) */
bool retention_is_set(const struct topic *topic);
/* Whether it wants ages to be counted: it has a bound, and something that can reach it; or there may
 * be tombstones that are to go one day. */
bool retention_wants_age(const struct topic *topic);

/* (raft thread) What is to go now: ERR_OK and trim->start above the topic's, and the bound that
 * says so. ERR_NOT_FOUND: nothing. ERR_HOLE: this node lacks what it would have to look at;
 * ERR_CORRUPT, ERR_IO. *ret_next is what will go next, or, where that is up to what is written, the
 * bound that is nearest; bound RETENTION_NONE: no bound is set, or there is nothing. Written in any
 * case. */
enum err retention_decide(const struct topic *topic, const struct ages *ages,
                          struct topic_trim *ret_trim, struct topic_forecast *ret_next,
                          struct err_info *info);

/* (any thread) The trim that makes the topic's log start at `start`, exact to the record. ERR_RANGE
 * beyond the end; ERR_HOLE, ERR_CORRUPT, ERR_IO. A start that lies below the present one comes out
 * as it is: the state machine says so. */
enum err retention_trim_to(const struct topic *topic, uint64_t start, struct topic_trim *ret_trim,
                           struct err_info *info);

#endif
