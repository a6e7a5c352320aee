/*
 * A walk over the batches of one store file (log/store.h) that changes nothing, with bounded
 * memory: a window, and the largest body that is looked at. Works on files that are being written.
 *
 * Where no batch follows, the walk says why: the file ends, or ends inside a batch or in zeros (a
 * write that was cut off, or is under way), or what stands there is no batch, or a damaged one.
 */
#ifndef QUORLOG_ARCHIVE_STORE_WALK_H
#define QUORLOG_ARCHIVE_STORE_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/io.h"
#include "log/batch.h"
#include "log/store.h"

struct store_walk {
    struct io *io; /* borrowed */
    int fd;
    char path[IO_PATH_SIZE];
    uint64_t size; /* bytes of the file when it was opened */
    struct store_header header;
    uint64_t next;                    /* position of the next batch, or where the walk ended */
    uint64_t position;                /* of the batch that was given last */
    uint8_t bytes[BATCH_HEADER_SIZE]; /* its header as it lies there */
    bool torn;                        /* it ended in a batch that is cut off, or in zeros */
    uint8_t *window;                  /* owned */
    uint64_t window_position;
    size_t window_size;
};

/* Opens and reads the head. ERR_CORRUPT, ERR_VERSION: the file is open all the same, so that close
 * is called, and its size known. ERR_NOT_FOUND, ERR_IO, ERR_NOMEM. */
enum err store_walk_open(struct store_walk *self, struct io *io, const char *path,
                         struct err_info *info);
void store_walk_close(struct store_walk *self); /* Fine after a failed open. */

/* The next batch's header, verified. ERR_AGAIN: no batch follows: at the end, or (torn, text in
 * info) in what a write that was cut off leaves. ERR_CORRUPT with the reason, without file and
 * position. ERR_IO. */
enum err store_walk_next(struct store_walk *self, struct batch_header *ret_header,
                         struct err_info *info);

/* The body of the batch that was given last, all of it, verified, in place of what `body` holds.
 * ERR_CORRUPT: it does not match its checksum (it is in `body` then). ERR_IO, ERR_NOMEM. */
enum err store_walk_body(struct store_walk *self, const struct batch_header *header,
                         struct buf *body, struct err_info *info);

#endif
