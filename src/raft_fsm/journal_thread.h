/*
 * The journal's own thread: group commit.
 *
 * Tasks that are posted while a write is under way are performed together by the next one. The
 * thread also prepares spare segments and writes seals while it has nothing else to do (20 ms
 * after the last append).
 *
 * Waking a thread and being woken by it costs as much as a quick disk takes for a small write. So
 * who posts may first try to perform the task itself, which is refused wherever it could have to
 * wait for more than that one write.
 */
#ifndef QUORLOG_RAFT_FSM_JOURNAL_THREAD_H
#define QUORLOG_RAFT_FSM_JOURNAL_THREAD_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/delays.h"
#include "base/err.h"
#include "raft_fsm/journal.h"

struct journal_thread;

/* done is called on the journal's thread with a list of performed tasks, in order; the callee owns
 * them from then on (and posts them to the raft thread). journal: taken over, closed by stop.
 * clock: by which the disk is quick or slow; any thread; outlives self. */
enum err journal_thread_start(struct journal *journal, const struct clock *clock,
                              void (*done)(void *arg, struct journal_task *list), void *arg,
                              struct journal_thread **ret_thread);

/* Any one thread. Takes over the task. */
void journal_thread_post(struct journal_thread *self, struct journal_task *task);

/*
 * The thread that posts. Performs the task (next is NULL) here and now, if nothing is posted or
 * under way, it is one small append that fits into the segment that is open, and the disk has been
 * quick lately. True: performed, task->err says how, and the task stays the caller's. False:
 * nothing was done; post it.
 */
bool journal_thread_try(struct journal_thread *self, struct journal_task *task);

/* Performs what was posted, closes the journal, joins and frees. */
void journal_thread_stop(struct journal_thread *self);

void journal_thread_stats(struct journal_thread *self, struct journal_stats *ret_stats);

/* Any thread. How long it took to perform what was performed together: writes, most of all. */
void journal_thread_delays(const struct journal_thread *self, struct delays_snapshot *ret_delays);

#endif
