/*
 * Neighbouring key indexes of equal size become one, step by step, while readers go on with them.
 */
#ifndef QUORLOG_LOOKUP_KEY_MERGE_H
#define QUORLOG_LOOKUP_KEY_MERGE_H

#include "lookup/run_cache.h"
#include "lookup/topic_indexes.h"

enum { KEY_MERGE_WIDTH = 8, KEY_MERGE_STEP = 32768 };

struct key_merge;

/* The first of KEY_MERGE_WIDTH files in `parts` that follow on each other without a gap, are of the
 * same level and can be used; false: there are none. */
bool key_merge_find(const struct part_list *parts, size_t *ret_at);

/* Begins. Errors of the files read, and of the one written; *ret_damaged (NULL when it was neither
 * of them): the part that could not be read, borrowed. */
enum err key_merge_new(struct io *io, struct run_cache *runs, const char *dir,
                       struct part *const *parts, struct key_merge **ret_merge,
                       struct part **ret_damaged, struct err_info *info);

/* KEY_MERGE_STEP entries, at most; those below `start` are left out. *ret_done: the file is there.
 */
enum err key_merge_step(struct key_merge *self, uint64_t start, bool *ret_done,
                        struct part **ret_damaged, struct err_info *info);

/* After it is done: the file's seal. */
const struct part_seal *key_merge_seal(const struct key_merge *self);

/* The parts that went into it; borrowed. */
struct part *const *key_merge_parts(const struct key_merge *self);

/* Gives up what is not done. NULL is fine. */
void key_merge_free(struct key_merge *self);

#endif
