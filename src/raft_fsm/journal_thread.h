/*
 * The journal's own thread: group commit.
 *
 * Tasks that are posted while a write is under way are performed together by the next one. The
 * thread also prepares spare segments and writes seals while it has nothing else to do (20 ms
 * after the last append).
 */
#ifndef QUORLOG_RAFT_FSM_JOURNAL_THREAD_H
#define QUORLOG_RAFT_FSM_JOURNAL_THREAD_H

#include "base/err.h"
#include "raft_fsm/journal.h"

struct journal_thread;

/* done is called on the journal's thread with a list of performed tasks, in order; the callee owns
 * them from then on (and posts them to the raft thread). journal: taken over, closed by stop. */
enum err journal_thread_start(struct journal *journal,
                              void (*done)(void *arg, struct journal_task *list), void *arg,
                              struct journal_thread **ret_thread);

/* Any one thread. Takes over the task. */
void journal_thread_post(struct journal_thread *self, struct journal_task *task);

/* Performs what was posted, closes the journal, joins and frees. */
void journal_thread_stop(struct journal_thread *self);

void journal_thread_stats(struct journal_thread *self, struct journal_stats *ret_stats);

#endif
