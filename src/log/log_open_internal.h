/*
 * What the two files of recovery share: the directory (log_files.c) and what is made of it
 * (log_open.c).
 */
#ifndef QUORLOG_LOG_LOG_OPEN_INTERNAL_H
#define QUORLOG_LOG_LOG_OPEN_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/log_internal.h"

/* What the directory holds for one base offset. */
struct found {
    uint64_t base_offset;
    bool has[SEGMENT_FILE_COUNT];
    bool filling;        /* The store is one that was being filled. */
    struct store *store; /* owned; NULL when its header is damaged, or after it was taken */
    uint64_t size;       /* bytes of the store file */
};

struct recovery {
    struct log *log;
    const struct log_options *options;
    struct log_report *report;
    struct err_info info; /* of the error, or of what is reported */
    struct found *found;  /* owned; by base offset once listed */
    size_t count;
    size_t capacity;
    enum err list_err;
    struct segment_tail tail;     /* of the last segment in the log's list */
    const struct store *measured; /* borrowed; all of it was looked at, … */
    uint64_t measured_end;        /* … and it ends here; 0: something does not verify */
};

/* Steps 1 to 3: lists the directory, removes what interrupted steps left, opens the stores. */
enum err recovery_find_stores(struct recovery *self);

/* Whether entry i is a leftover of a rewriting that made `by`: that one is whole, and has all that
 * can be read of the other. ERR_IO, ERR_NOMEM. */
enum err recovery_is_superseded(struct recovery *self, struct store *by, size_t i,
                                bool *ret_superseded);

/* Removes the files of entry i, and forgets it, after all that happened to the directory is on the
 * disk. */
enum err recovery_remove(struct recovery *self, size_t i);

/* Takes entry i out of the list, with its store. */
void recovery_forget(struct recovery *self, size_t i);

#endif
