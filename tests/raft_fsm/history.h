/*
 * Entries for the tests of the state machine: made by hand, or whole histories by chance.
 */
#ifndef QUORLOG_TESTS_RAFT_FSM_HISTORY_H
#define QUORLOG_TESTS_RAFT_FSM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/command.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/fsm.h"

/* 64 random bits, the same in every run: splitmix64. */
uint64_t history_random(uint64_t *state);
/* [0, limit) */
unsigned history_below(uint64_t *state, unsigned limit);

/* A batch as a producer sends it. The body is made of `seed`. */
struct produced {
    uint64_t producer_id;
    uint16_t epoch;
    uint32_t sequence;
    uint32_t record_count;
    uint32_t body_size;
    uint64_t seed;
    bool has_expect;
    uint64_t expect_offset;
};
struct slice history_batch(const struct produced *produced);

/* An entry in the making. */
struct packer {
    struct command commands[16];
    struct cursor_change cursors[16]; /* of the command in the same place */
    struct topic_change changes[16];  /* as above */
    unsigned count;
    int64_t time_us;
};
void packer_begin(struct packer *self, int64_t time_us);
void packer_produce(struct packer *self, uint64_t topic_id, const struct produced *produced);
void packer_create(struct packer *self, const char *name);
void packer_create_with(struct packer *self, const char *name,
                        const struct topic_settings *settings);
void packer_alter(struct packer *self, const char *name, const struct topic_change *change);
void packer_delete(struct packer *self, const char *name);
void packer_init_producer(struct packer *self);
void packer_set_cursor(struct packer *self, const struct cursor_change *change);
void packer_delete_cursor(struct packer *self, const struct cursor_change *change);
void packer_raise(struct packer *self, const struct producer_claim *claim);
void packer_trim(struct packer *self, const struct topic_trim *trim);
void packer_age(struct packer *self, uint64_t elapsed_us);
void packer_compact(struct packer *self, const struct topic_compact *compact);
/* The entry; what was packed is gone. */
struct entry packer_entry(struct packer *self, uint64_t index, uint64_t term);

/* A history: entries 1, 2, 3 … with topics that come and go and are altered, producers that repeat
 * themselves, skip, lie, expect and take over, cursors that are expected to be what they are not,
 * and clocks that go backwards. */
struct history {
    struct entry *entries; /* entries[i] has index i + 1 */
    size_t count;
    uint64_t random;
};
void history_init(struct history *self, uint64_t seed, size_t count);
/* The same with topics that are trimmed and compacted, as a leader does it, and ages. `dir` of `io`
 * is empty, and then holds what the leader had. */
void history_init_trimmed(struct history *self, uint64_t seed, size_t count, struct io *io,
                          const char *dir);
void history_fini(struct history *self);

/* A trim to `start` as a leader with this log proposes it. */
struct topic_trim history_trim(const struct topic *topic, uint64_t start);

/* Applies entries until applied index `to`; any error fails the test. */
void history_apply(const struct history *self, struct fsm *fsm, uint64_t to);

/* Encoded manifest; the caller unrefs the block. */
struct slice history_manifest_bytes(const struct fsm *fsm);

/* Fills holes of `to` from what `from` has, chunk by chunk, until there are none or `chunks` were
 * put in; true when there are none. What comes must follow, and meet. *ret_err (may be NULL): an
 * error of the disk; otherwise it fails the test. */
bool history_fill(struct fsm *to, struct fsm *from, unsigned chunks, enum err *ret_err);

/* The same manifest, and the same bytes in all logs up to the topics' ends. */
void history_assert_equal(struct fsm *a, struct fsm *b);

#endif
