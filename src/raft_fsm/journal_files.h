/*
 * The files of a journal: segments that come into use, spares that are kept ready, and segments
 * that become spares again.
 *
 *      (nothing) ── fill: zeros, sync ──► N.spare ── take: header, sync, rename ──► N.journal
 *                                            ▲                                         │
 *                                            └────────── release: rename ──────────────┘
 *
 * Invariants:
 *   F1  A segment has its header, durably, before it has its name; so a segment without a valid
 *       header is damaged.
 *   F2  The name of a released segment is gone, durably, before anything is written into the file;
 *       so is the name of an older one before that of a newer one.
 *   F3  A file that has a segment's name has its full size, durably: writes never change it.
 */
#ifndef QUORLOG_RAFT_FSM_JOURNAL_FILES_H
#define QUORLOG_RAFT_FSM_JOURNAL_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"

enum {
    JOURNAL_SPARES_MAX = 16,
    JOURNAL_SPARES_KEPT = 4, /* of released segments, when fewer are asked for */
};

/* A file that is being filled with zeros. */
struct journal_filler {
    int fd; /* -1: none */
    uint64_t number;
    uint64_t size;
    uint64_t done;
};

struct journal_files {
    struct io *io; /* borrowed */
    char dir[IO_PATH_SIZE];
    uint64_t node_id;
    uint64_t salt_state; /* of the generator of salts */
    uint64_t segment_size;
    bool direct;
    unsigned spares_wanted;
    unsigned spare_count;
    uint64_t spares[JOURNAL_SPARES_MAX]; /* numbers; all of segment_size bytes */
    uint64_t next_number;                /* of the next spare */
    struct journal_filler filler;
    uint8_t *zeros; /* owned, aligned; zeros_size bytes, one write of a filler */
    size_t zeros_size;
    uint8_t *sector; /* owned, aligned */
};

struct journal_options;

/* Finds out whether the file system takes O_DIRECT. Changes no segment. ERR_NOMEM, ERR_IO,
 * ERR_NOSPACE. */
enum err journal_files_open(struct journal_files *self, const struct journal_options *options,
                            struct err_info *info);

/* Removes a spare that is not complete. Fine after a failed open. */
void journal_files_close(struct journal_files *self);

/* A spare that stands in the directory: kept, or removed when it has the wrong size or there are
 * enough. The directory is synced already (F2). */
enum err journal_files_add_spare(struct journal_files *self, uint64_t number,
                                 struct err_info *info);

/* Works at most `step` bytes (0: no bound) towards the spares that are wanted. */
enum err journal_files_fill(struct journal_files *self, uint64_t step, bool *ret_more,
                            struct err_info *info);

/*
 * Makes an empty segment of segment_size bytes, or of `size` if that is more, and opens it. Writes
 * a whole new file when there is no spare.
 */
struct journal_taken {
    int fd; /* the caller's */
    uint64_t size;
    uint64_t salt;
};
enum err journal_files_take(struct journal_files *self, uint64_t segment, uint64_t size,
                            struct journal_taken *ret_taken, struct err_info *info);

/* The segment is no longer needed: makes it a spare, or removes it. No one has it open. */
enum err journal_files_release(struct journal_files *self, uint64_t segment, uint64_t size,
                               struct err_info *info);

/* Writes aligned bytes, which stay as they are, at an aligned position; goes on after a short
 * write. */
enum err journal_files_write(struct journal_files *self, int fd, const char *path, uint8_t *data,
                             size_t size, uint64_t position, int rwf_flags, struct err_info *info);

#endif
