/*
 * The data directory of a node that has stopped, on a disk in memory, made by what makes it in a
 * node: identity, ballot, journal, state machine, snapshot. And a start from it, as a node's.
 *
 * Topics "a" and "b" have several segments each that a snapshot covers, and more above it; "c" was
 * made above the snapshot.
 */
#ifndef QUORLOG_TESTS_ARCHIVE_NODE_DIR_H
#define QUORLOG_TESTS_ARCHIVE_NODE_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "sim/mem_io.h"

#define NODE_DIR "/data"
#define NODE_DIR_GROUP NODE_DIR "/group-1"
#define NODE_DIR_DISK UINT64_C(0x0123456789abcdef)

enum { NODE_DIR_SEGMENT_SIZE = 4096, NODE_DIR_JOURNAL_SIZE = 64 * 1024 };

struct node_dir {
    struct mem_io disk; /* with the directory on it, unless it is on another one */
    struct io *io;
    uint64_t a_end; /* in the snapshot */
    uint64_t b_end;
    uint64_t a_last; /* in the end */
    uint64_t b_last;
    char a[64]; /* directories of the topics */
    char b[64];
    char c[64];
};

/* seed: other values in the records, so that two directories differ. */
void node_dir_make(struct node_dir *self, unsigned members, uint64_t seed);
void node_dir_fini(struct node_dir *self);

/* The same on a disk of the caller's; no fini. */
void node_dir_make_on(struct node_dir *self, struct io *io, unsigned members, uint64_t seed);

/* What a node does at its start: the first error, or OK once all entries are applied. Changes the
 * directory. *ret_missing: offsets in holes. */
enum err node_dir_start(struct node_dir *self, uint64_t *ret_missing, struct err_info *info);

/* Compacts topic "a" as its cleaner does, below clean_to; all of its records have one key. Two
 * neighbouring segments become one. Returns up to where it is clean. */
uint64_t node_dir_compact(struct node_dir *self, uint64_t clean_to);

/* ---- files ---- */

/* All of the file, into a buffer of the caller's (free). */
uint8_t *node_dir_read(struct node_dir *self, const char *path, uint64_t *ret_size);
void node_dir_write(struct node_dir *self, const char *path, const void *data, uint64_t size);
void node_dir_remove(struct node_dir *self, const char *path);
void node_dir_flip(struct node_dir *self, const char *path, uint64_t position, unsigned bit);

/* The nth file (0, 1 …) whose path begins so and ends so; false when there are not so many. */
bool node_dir_find(struct node_dir *self, const char *begin, const char *end, unsigned nth,
                   char ret_path[IO_PATH_SIZE], uint64_t *ret_size);

#endif
