/*
 * The second write of a floor's writer: what the journal has goes into topics' files, in one of
 * several ways, so that what each way gives can be compared.
 *
 *      way        calls                                            copies   write-back
 *      buffered   a pwritev for each client's batch: the store's    1       begun every 4 MiB
 *      chunked    gathered in 1 MiB of memory, a pwritev each       2       begun every 4 MiB
 *      direct     the same, O_DIRECT, so none is left to be done    1       -
 *      memory     batches stay where the journal's thread has       1       begun every 4 MiB
 *                 them, a pwritev for each 4 MiB of them
 *      none       -                                                 0       -
 *
 * (Copies are the kernel's into the page cache, and ours.)
 */
#ifndef QUORLOG_TESTS_BENCH_FLOOR_TOPICS_H
#define QUORLOG_TESTS_BENCH_FLOOR_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/io.h"

enum floor_second {
    FLOOR_SECOND_NONE,
    FLOOR_SECOND_BUFFERED,
    FLOOR_SECOND_CHUNKED,
    FLOOR_SECOND_DIRECT,
    FLOOR_SECOND_MEMORY,
    FLOOR_SECOND_COUNT,
};

/* False when there is no way of that name. */
bool floor_second_of(const char *name, enum floor_second *ret_second);

enum { FLOOR_TOPICS_PARTS_MAX = 1024 };

struct floor_topics {
    enum floor_second second;
    struct io *io;       /* borrowed */
    const char *dir;     /* borrowed; exists */
    const uint8_t *data; /* borrowed; what is written */
    int store;
    uint64_t store_number;
    uint64_t store_size; /* bytes in its file, or on the way there */
    uint64_t write_back_from;
    uint8_t *chunk; /* owned, aligned; of chunked and direct */
    size_t gathered;
    struct iovec parts[FLOOR_TOPICS_PARTS_MAX]; /* of memory */
    int part_count;
    uint64_t written; /* bytes of batches that are in files */
};

void floor_topics_init(struct floor_topics *self, enum floor_second second, struct io *io,
                       const char *dir, const uint8_t *data);
void floor_topics_fini(struct floor_topics *self);

/* A batch of `size` bytes, at most a file's; ends the process when it cannot be written. */
void floor_topics_write(struct floor_topics *self, size_t size);

/* What is gathered goes into the file. */
void floor_topics_flush(struct floor_topics *self);

/* Says why, and ends the process: for a writer, which has nobody to tell. */
_Noreturn void floor_die(const char *what, const char *path, int result);

/* A new file in dir, with O_DIRECT if asked for and possible. */
int floor_open(struct io *io, const char *dir, const char *kind, uint64_t number, bool direct);

#endif
