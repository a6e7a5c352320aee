#include "sim/driver_oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "sim/prng.h"

#define U(value) ((unsigned long long)(value))

void oracle_violation(const struct oracle *self, const char *format, ...)
{
    va_list args;

    (void)fflush(stdout);
    (void)fprintf(stderr, "VIOLATION seed %llu at %llu ms: ", U(self->seed), U(*self->now_ms));
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    (void)fflush(stderr);
    _exit(ORACLE_EXIT);
}

void oracle_init(struct oracle *self, uint64_t seed, const uint64_t *now_ms)
{
    *self = (struct oracle){.seed = seed, .now_ms = now_ms};
}

void oracle_fini(struct oracle *self)
{
    for (size_t i = 0; i < self->leaders_capacity; i++) {
        free(self->leaders[i].terms);
        free(self->leaders[i].values);
    }
    free(self->leaders);
    free(self->committed);
    free(self->values);
}

uint64_t oracle_entry_value(const struct entry *entry)
{
    /* The checksum covers index, term, type and payload. */
    uint64_t value = bytes_get_u32(entry->frame);

    if (entry->size >= 8) {
        value ^= bytes_get_u64(entry_payload(entry)) << 8;
    }
    return value;
}

uint64_t oracle_hash(uint64_t hash, const struct entry *entry)
{
    return prng_mix(prng_mix(hash ^ oracle_entry_value(entry)) + entry->term);
}

static struct oracle_value *find_value(struct oracle_value *table, size_t capacity, uint64_t index,
                                       uint64_t term)
{
    size_t at = (size_t)prng_mix(index * 0x9e3779b97f4a7c15u + term) & (capacity - 1);

    while (table[at].index != 0 && (table[at].index != index || table[at].term != term)) {
        at = (at + 1) & (capacity - 1);
    }
    return &table[at];
}

static void grow_values(struct oracle *self)
{
    size_t capacity = self->values_capacity == 0 ? 4096 : self->values_capacity * 2;
    struct oracle_value *table = calloc(capacity, sizeof *table);

    ASSERT(table != NULL);
    for (size_t i = 0; i < self->values_capacity; i++) {
        const struct oracle_value *value = &self->values[i];

        if (value->index != 0) {
            *find_value(table, capacity, value->index, value->term) = *value;
        }
    }
    free(self->values);
    self->values = table;
    self->values_capacity = capacity;
}

void oracle_appended(struct oracle *self, unsigned id, const struct entry *entry)
{
    uint64_t value = oracle_entry_value(entry);
    struct oracle_value *known;

    if (self->values_count * 2 >= self->values_capacity) {
        grow_values(self);
    }
    known = find_value(self->values, self->values_capacity, entry->index, entry->term);
    if (known->index == 0) {
        *known = (struct oracle_value){entry->index, entry->term, value};
        self->values_count++;
    } else if (known->value != value) {
        oracle_violation(self, "log matching: node %u has another entry %llu of term %llu", id,
                         U(entry->index), U(entry->term)); /* O2 */
    }
}

static void reserve_leader(struct oracle *self, uint64_t term)
{
    size_t capacity = self->leaders_capacity == 0 ? 64 : self->leaders_capacity;

    while (capacity <= term) {
        capacity *= 2;
    }
    if (capacity == self->leaders_capacity) {
        return;
    }
    self->leaders = realloc(self->leaders, capacity * sizeof *self->leaders);
    ASSERT(self->leaders != NULL);
    memset(self->leaders + self->leaders_capacity, 0,
           (capacity - self->leaders_capacity) * sizeof *self->leaders);
    self->leaders_capacity = capacity;
}

static void keep_log(struct oracle_leader *leader, const struct raft_driver *driver)
{
    size_t count;

    leader->first = raft_driver_first_index(driver);
    leader->last = raft_driver_last_index(driver);
    count = (size_t)(leader->last + 1 - leader->first);
    free(leader->terms);
    free(leader->values);
    leader->terms = malloc((count + 1) * sizeof *leader->terms);
    leader->values = malloc((count + 1) * sizeof *leader->values);
    ASSERT(leader->terms != NULL && leader->values != NULL);
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = raft_driver_entry(driver, leader->first + i);

        leader->terms[i] = entry->term;
        leader->values[i] = oracle_entry_value(entry);
    }
}

void oracle_elected(struct oracle *self, unsigned id, const struct raft_driver *driver)
{
    uint64_t term = raft_driver_term(driver);
    struct oracle_leader *leader;

    reserve_leader(self, term);
    leader = &self->leaders[term];
    if (leader->id != 0 && leader->id != id) {
        oracle_violation(self, "two leaders in term %llu: %u and %u", U(term), leader->id,
                         id); /* O1 */
    }
    leader->id = id;
    keep_log(leader, driver);
    self->last_term = term > self->last_term ? term : self->last_term;
    for (uint64_t i = leader->first; i <= self->last; i++) {
        const struct oracle_entry *known = &self->committed[i];

        if (known->leader_term < term &&
            (i > leader->last || leader->terms[i - leader->first] != known->term ||
             leader->values[i - leader->first] != known->value)) {
            oracle_violation(self, "leader completeness: leader %u of term %llu lacks entry %llu",
                             id, U(term), U(i)); /* O3 */
        }
    }
}

/* O3, when an entry is committed after the election of a leader of a later term. */
static void check_late(const struct oracle *self, const struct oracle_entry *entry, uint64_t index)
{
    for (uint64_t term = entry->leader_term + 1; term <= self->last_term; term++) {
        const struct oracle_leader *leader = &self->leaders[term];

        if (leader->id != 0 && index >= leader->first &&
            (index > leader->last || leader->terms[index - leader->first] != entry->term ||
             leader->values[index - leader->first] != entry->value)) {
            oracle_violation(self,
                             "leader completeness: entry %llu is committed in term %llu, but "
                             "leader %u of term %llu did not have it",
                             U(index), U(entry->leader_term), leader->id, U(term));
        }
    }
}

void oracle_applied(struct oracle *self, unsigned id, const struct raft_driver *driver,
                    const struct entry *entry, uint64_t hash)
{
    uint64_t index = entry->index;
    struct oracle_entry new = {.value = oracle_entry_value(entry),
                               .term = entry->term,
                               .leader_term = raft_driver_term(driver),
                               .hash = hash};

    if (index <= self->last) {
        const struct oracle_entry *known = &self->committed[index];

        if (known->term != new.term || known->value != new.value) {
            oracle_violation(self,
                             "a committed entry changed: node %u applies entry %llu of term %llu, "
                             "others applied one of term %llu",
                             id, U(index), U(new.term), U(known->term)); /* O4 */
        }
        if (known->hash != hash) {
            oracle_violation(self, "the state of node %u differs at entry %llu", id,
                             U(index)); /* O5 */
        }
        return;
    }
    if (index != self->last + 1) {
        oracle_violation(self, "node %u applies entry %llu, the last applied is %llu", id, U(index),
                         U(self->last)); /* O5 */
    }
    if (index > 1 && raft_driver_role(driver) != RAFT_ROLE_LEADER && !self->any_applier) {
        oracle_violation(self, "node %u is the first to apply entry %llu and does not lead", id,
                         U(index)); /* O4 */
    }
    check_late(self, &new, index);
    if (index >= self->committed_capacity) {
        self->committed_capacity =
            self->committed_capacity == 0 ? 4096 : self->committed_capacity * 2;
        self->committed =
            realloc(self->committed, self->committed_capacity * sizeof *self->committed);
        ASSERT(self->committed != NULL);
    }
    self->committed[index] = new;
    self->last = index;
}
