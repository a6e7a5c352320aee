/*
 * Logs of batches whose contents follow from their headers, so that a test can tell a batch that
 * was written from one that was invented or changed.
 */
#ifndef QUORLOG_TESTS_LOG_LOG_FIXTURE_H
#define QUORLOG_TESTS_LOG_LOG_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/log.h"

enum { FIXTURE_BATCHES_MAX = 4096 };

/* What a log should hold, batch by batch. */
struct expected {
    uint64_t start; /* base offset of the first batch kept here, or the end when there is none */
    size_t count;
    struct batch_header batches[FIXTURE_BATCHES_MAX];
};

struct fixture {
    const char *dir; /* owned: the temporary directory; the log lies in DIR/log */
    char log_dir[256];
    struct log_options options;
    struct log *log;
    struct log_report report;
    struct expected expected;
    struct batch_header attempted; /* the last batch given to log_append */
    uint64_t random;
};

/* The kernel, but syncs are not waited for: no test here pulls the plug. */
struct io *fixture_io(void);

/* A new, empty directory; small segments (4 KiB) and index intervals (256). Nothing is open. */
void fixture_init(struct fixture *self);
void fixture_fini(struct fixture *self);

/* Opens with self->options; the code of log_open. */
enum err fixture_try_open(struct fixture *self);
/* Opens, and fails the test unless that works and log_check and fixture_verify do. */
void fixture_open(struct fixture *self);
void fixture_close(struct fixture *self);

/* A number in [0, bound); the same row for the same self->random. */
uint64_t fixture_random(struct fixture *self, uint64_t bound);

/* The header of the next batch of the log, with its body (body_size bytes) in `body`. */
void fixture_next(struct fixture *self, uint32_t record_count, uint32_t body_size,
                  struct batch_header *ret_header, uint8_t *body);

/* Appends one; expected only when that works. */
enum err fixture_try_append(struct fixture *self, uint32_t record_count, uint32_t body_size);
void fixture_append(struct fixture *self, uint32_t record_count, uint32_t body_size);
/* `count` batches of 2 records in 300 bytes. */
void fixture_fill(struct fixture *self, unsigned count);

/* A compaction of whole batches in [from, to), as log_rewrite takes it: `run` neighbours become one
 * with a body of body_size bytes. */
struct rewriting {
    uint64_t from;
    uint64_t to;
    unsigned run;
    uint32_t body_size;
};
/* What the batches of `expected` become. */
void expected_rewrite(struct expected *self, const struct rewriting *rewriting);
/* Begins, puts what is `expected` in [from, to), and runs; ERR_OK: *ret_rewrite is to be ended. */
enum err fixture_begin_rewrite(struct fixture *self, uint64_t from, uint64_t to,
                               struct log_rewrite **ret_rewrite);
/* All of it; expected changes only when that works. */
enum err fixture_try_rewrite(struct fixture *self, const struct rewriting *rewriting);

uint64_t expected_end(const struct expected *self);
/* Forgets batches at or above / wholly below offset. */
void expected_truncate_back(struct expected *self, uint64_t offset);
void expected_truncate_front(struct expected *self, uint64_t offset);

/* The open log holds exactly what is expected in [log_start, log_end), and log_end is right. */
void fixture_verify(struct fixture *self);
/* What it holds is a run of `expected`, from wherever the log starts. */
bool fixture_holds_part_of(struct fixture *self, const struct expected *expected);

/* The path of a segment's file: DIR/log/<base>.SUFFIX; static. */
const char *fixture_file(struct fixture *self, uint64_t base_offset, const char *suffix);
bool file_exists(const char *path);
size_t file_read(const char *path, uint8_t *data, size_t size_max);
void file_write(const char *path, const uint8_t *data, size_t size);
size_t file_size(const char *path);
/* A second directory with the same files. */
void copy_dir(const char *from, const char *to);

#endif
