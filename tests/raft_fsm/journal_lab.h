/*
 * What the tests of the journal share: entries whose bytes follow from index and term, and a model
 * of what a journal must hold.
 */
#ifndef QUORLOG_TESTS_RAFT_FSM_JOURNAL_LAB_H
#define QUORLOG_TESTS_RAFT_FSM_JOURNAL_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "raft_fsm/journal.h"
#include "sim/mem_io.h"

enum { LAB_NODE = 7, LAB_INDEX_MAX = 4096, LAB_SEGMENT_SIZE = 64 * 1024 };

/* The log as acknowledged: [first, last], where last + 1 == first for an empty one. */
struct lab_model {
    uint64_t first;
    uint64_t last;
    uint64_t terms[LAB_INDEX_MAX];
};

/* An entry of `size` bytes that index, term and size determine. */
struct entry lab_entry(uint64_t index, uint64_t term, uint32_t size);

/* Appends [first, first + count) in one call. */
enum err lab_append(struct journal *journal, uint64_t first, size_t count, uint64_t term,
                    uint32_t size);

/* The same as a task. */
struct journal_task *lab_append_task(uint64_t first, unsigned count, uint64_t term, uint32_t size);

/* Journals of small segments and writes in dir of io. */
struct journal_options lab_options(struct io *io, const char *dir);

/* Opens; fails the test when that fails. */
struct journal *lab_open(const struct journal_options *options, struct journal_contents *contents);

void lab_model_init(struct lab_model *self);
void lab_model_append(struct lab_model *self, uint64_t first, size_t count, uint64_t term);
void lab_model_trim(struct lab_model *self, uint64_t index);
void lab_model_reset(struct lab_model *self, uint64_t next_index);

/* Does the journal hold what the model says, and below its first index, which a trim only allows
 * to go, nothing but entries as lab_entry makes them? */
bool lab_model_matches(const struct lab_model *self, const struct journal_contents *contents);

/* Opens, compares, closes. */
void lab_assert_holds(const struct journal_options *options, const struct lab_model *model);

/* Closes the journal of a dead process: nothing of it reaches the disk. */
void lab_abandon(struct mem_io *disk, struct journal *journal);

/* A repeatable generator; as a callback for mem_io_crash, too. */
uint64_t lab_draw(void *state);
uint64_t lab_below(uint64_t *state, uint64_t bound);

#endif
