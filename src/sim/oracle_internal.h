/*
 * What the files of the oracle share: oracle.c (what was sent and answered), contents.c (what is in
 * a batch), oracle_logs.c (what stands in the logs), oracle_compaction.c (what may be missing
 * there), oracle_raft.c (terms, votes, entries, states).
 */
#ifndef QUORLOG_SIM_ORACLE_INTERNAL_H
#define QUORLOG_SIM_ORACLE_INTERNAL_H

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/oracle.h"

#define U(value) ((unsigned long long)(value))

/* Room for an element at `at`; new ones are zeros. */
static inline void *grown(void *array, size_t *capacity, size_t at, size_t size)
{
    size_t before = *capacity;

    if (at < before) {
        return array;
    }
    *capacity = before == 0 ? 64 : before;
    while (*capacity <= at) {
        *capacity *= 2;
    }
    array = realloc(array, *capacity * size);
    ASSERT(array != NULL);
    memset((uint8_t *)array + before * size, 0, (*capacity - before) * size);
    return array;
}

/* The place that an answer names is the place where it is. (S3) */
void sim_oracle_check_answer(const struct sim_oracle *self, const struct sim_content *content);

/* A batch that was answered with OK, and is seen nowhere, in a topic that is there. (S3) */
void sim_oracle_check_seen(const struct sim_oracle *self, const struct sim_content *content,
                           unsigned node, struct catalog *catalog);

/* ---- oracle_logs.c ---- */

/* The first batch at or above offset; count: there is none. */
size_t sim_topic_find(const struct sim_topic *self, uint64_t offset);

/* ---- oracle_compaction.c ---- */

/* A batch of a topic whose records have keys is seen for the first time. */
void sim_compaction_note(struct sim_topic *topic, const struct sim_content *content,
                         uint64_t base_offset);
/* What nodes are allowed to drop, as one has applied it. */
void sim_compaction_allow(struct sim_oracle *self, struct sim_topic *known,
                          const struct topic *topic);
/* A batch as it was produced, of a topic whose records have keys. */
void sim_compaction_whole(const struct sim_topic *topic, struct sim_seen_topic *seen,
                          const struct batch_header *header);
/* A batch that was compacted: what it stands for, and what is left of it. S1, S14 */
void sim_compaction_check(struct sim_oracle *self, struct sim_topic *topic, unsigned node,
                          struct sim_seen_topic *seen, const uint8_t *bytes,
                          const struct batch_header *header);
/* All of a copy was read, from `start` on; apart: of no member. S15 */
void sim_compaction_view(const struct sim_oracle *self, const struct sim_topic *topic,
                         unsigned node, const struct sim_seen_topic *seen, uint64_t start,
                         bool apart);

#endif
