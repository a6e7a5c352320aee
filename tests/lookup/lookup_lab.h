/*
 * Topics with records whose keys and times a test knows, their logs in a temporary directory, and
 * lookups over them.
 */
#ifndef QUORLOG_TESTS_LOOKUP_LOOKUP_LAB_H
#define QUORLOG_TESTS_LOOKUP_LOOKUP_LAB_H

#include <stdbool.h>
#include <stdint.h>

#include "lookup/lookup.h"

enum { LAB_RECORDS_MAX = 200000, LAB_NO_KEY = -1 };

/* A record as it was appended. */
struct lab_record {
    int32_t key; /* LAB_NO_KEY, or the number in "key-N" */
    bool gone;   /* in a compaction */
    int64_t time_us;
};

struct lab_topic {
    struct topic *topic; /* borrowed from the catalog */
    struct log *log;     /* borrowed */
    struct lab_record *records;
    uint64_t end;
    int64_t time_us;
    uint64_t raft_index;
};

struct lab {
    const char *dir; /* owned */
    struct catalog *catalog;
    struct lookup *lookup; /* NULL: not started */
    struct lookup_options options;
    struct diag diag;
    uint64_t random;
    unsigned segment_size; /* of the topics' logs; 4 KiB */
    /* What was said: under no lock, looked at when lookups are stopped, or as a hint. */
    _Atomic unsigned damage_told;
    char damage_text[512];
};

void lab_init(struct lab *self, uint64_t seed);
void lab_fini(struct lab *self);

/* [0, bound) */
uint64_t lab_random(struct lab *self, uint64_t bound);

void lab_start(struct lab *self);
void lab_stop(struct lab *self);

void lab_topic_init(struct lab *self, struct lab_topic *topic, uint64_t id, const char *name);
/* Takes it out of the catalog; its log is closed with its last reference. */
void lab_topic_delete(struct lab *self, struct lab_topic *topic);
void lab_topic_fini(struct lab_topic *topic);

void lab_set_indexes(struct lab_topic *topic, uint32_t bits);

/* A batch of `count` records with keys of [0, keys), every tenth without one, some time later than
 * the batch before. */
void lab_append(struct lab *self, struct lab_topic *topic, unsigned count, unsigned keys);

/* Compacts what lies in sealed segments below clean_to; up to group_max of them become one. What
 * went is `gone` then, and the topic's cleaned_to says how far it came. */
void lab_compact(struct lab_topic *topic, uint64_t clean_to, unsigned group_max);

/* Until all its indexes are ready, and cover all there is; fails the test after a while. */
void lab_wait_ready(struct lab *self, struct lab_topic *topic);

/* Whether a record matches; as the query says. key: as in lab_record. */
bool lab_matches(const struct lab_record *record, int32_t key, const struct lookup_query *query);

/* The text of a key, static, in turn. */
const char *lab_key(int32_t key);

struct lab_cost {
    uint64_t scanned; /* offsets that had to be looked at */
    uint64_t found;
    uint64_t questions;
};

/* Asks until all of [from, to) is answered, looks where it is told to, and fails the test unless
 * what is found is what brute force finds. key: LAB_NO_KEY: any. */
void lab_check(struct lab *self, struct lab_topic *topic, int32_t key, struct lookup_query *query,
               uint64_t from, uint64_t to, struct lab_cost *ret_cost);

/* Paths of the index files of a topic, with that ending ("": all); owned, NULL-terminated. */
char **lab_files(struct lab *self, const struct lab_topic *topic, const char *suffix);
void lab_files_free(char **files);

void lab_flip_bit(const char *path, uint64_t bit);
uint64_t lab_file_size(const char *path);

#endif
