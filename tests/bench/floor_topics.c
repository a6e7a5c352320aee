#include "floor_topics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "raft_fsm/journal_segment.h"

enum {
    SEGMENT_SIZE = 64 << 20,
    WRITE_BACK_SIZE = 4 << 20,
    CHUNK_SIZE = 1 << 20,
    MEMORY_SIZE = 4 << 20,
};

bool floor_second_of(const char *name, enum floor_second *ret_second)
{
    static const char *const names[FLOOR_SECOND_COUNT] = {
        [FLOOR_SECOND_NONE] = "none",       [FLOOR_SECOND_BUFFERED] = "buffered",
        [FLOOR_SECOND_CHUNKED] = "chunked", [FLOOR_SECOND_DIRECT] = "direct",
        [FLOOR_SECOND_MEMORY] = "memory",
    };

    for (unsigned i = 0; i < FLOOR_SECOND_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret_second = (enum floor_second)i;
            return true;
        }
    }
    return false;
}

_Noreturn void floor_die(const char *what, const char *path, int result)
{
    (void)fprintf(stderr, "floor: %s '%s': %s\n", what, path, strerror(-result)); /* Last words. */
    _exit(1);
}

int floor_open(struct io *io, const char *dir, const char *kind, uint64_t number, bool direct)
{
    char path[IO_PATH_SIZE + 64];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s%llu", dir, kind, (unsigned long long)number);
    fd = io->open(io, path, O_RDWR | O_CREAT | O_TRUNC | (direct ? O_DIRECT : 0), 0640);
    if (direct && fd == -EINVAL) { /* No O_DIRECT here: the journal, too, does without. */
        fd = io->open(io, path, O_RDWR | O_CREAT | O_TRUNC, 0640);
    }
    if (fd < 0) {
        floor_die("open", path, fd);
    }
    return fd;
}

void floor_topics_init(struct floor_topics *self, enum floor_second second, struct io *io,
                       const char *dir, const uint8_t *data)
{
    *self =
        (struct floor_topics){.second = second, .io = io, .dir = dir, .data = data, .store = -1};
    if (second == FLOOR_SECOND_CHUNKED || second == FLOOR_SECOND_DIRECT) {
        self->chunk = aligned_alloc(JOURNAL_BLOCK, CHUNK_SIZE);
        ASSERT(self->chunk != NULL);
        memset(self->chunk, 0, CHUNK_SIZE);
    }
}

void floor_topics_fini(struct floor_topics *self)
{
    ASSERT(self->gathered == 0);
    io_close(self->io, &self->store);
    free(self->chunk);
    self->chunk = NULL;
}

/* ---- files ---- */

static void write_back(struct floor_topics *self, uint64_t at_least)
{
    int rv;

    if (self->second == FLOOR_SECOND_DIRECT ||
        self->store_size - self->write_back_from < at_least) {
        return;
    }
    rv = self->io->write_back(self->io, self->store, self->write_back_from,
                              self->store_size - self->write_back_from);
    if (rv < 0) {
        floor_die("write back in", self->dir, rv);
    }
    self->write_back_from = self->store_size;
}

/* Parts of `size` bytes in all go to the end of the file: another one, when this one is full. */
static void write_parts(struct floor_topics *self, const struct iovec *parts, int count,
                        size_t size)
{
    ssize_t n;

    ASSERT(size <= SEGMENT_SIZE);
    if (self->store < 0 || self->store_size + size > SEGMENT_SIZE) {
        if (self->store >= 0) {
            write_back(self, 1);
            io_close(self->io, &self->store);
        }
        self->store = floor_open(self->io, self->dir, "store", self->store_number++,
                                 self->second == FLOOR_SECOND_DIRECT);
        self->store_size = 0;
        self->write_back_from = 0;
    }
    n = self->io->pwritev(self->io, self->store, parts, count, self->store_size, 0);
    if (n != (ssize_t)size) {
        floor_die("write in", self->dir, n < 0 ? (int)n : -EIO);
    }
    self->store_size += size;
    write_back(self, WRITE_BACK_SIZE);
}

/* ---- ways ---- */

/* Whole chunks; the file's last one is as large as what it holds, to the next block. */
static void write_chunk(struct floor_topics *self)
{
    struct iovec part = {.iov_base = self->chunk, .iov_len = self->gathered};

    if (self->second == FLOOR_SECOND_DIRECT) {
        part.iov_len = bytes_round_up(self->gathered, JOURNAL_BLOCK);
    }
    write_parts(self, &part, 1, part.iov_len);
    self->written += self->gathered;
    self->gathered = 0;
}

static void copy_to_chunk(struct floor_topics *self, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t room = CHUNK_SIZE - self->gathered;
        size_t part = size - at < room ? size - at : room;

        memcpy(self->chunk + self->gathered, self->data + at, part);
        self->gathered += part;
        at += part;
        if (self->gathered == CHUNK_SIZE) {
            write_chunk(self);
        }
    }
}

static void write_gathered(struct floor_topics *self)
{
    write_parts(self, self->parts, self->part_count, self->gathered);
    self->written += self->gathered;
    self->gathered = 0;
    self->part_count = 0;
}

static void refer_to(struct floor_topics *self, size_t size)
{
    union {
        const uint8_t *from;
        void *to; /* An iovec has no const. */
    } data = {.from = self->data};

    self->parts[self->part_count++] = (struct iovec){.iov_base = data.to, .iov_len = size};
    self->gathered += size;
    if (self->gathered >= MEMORY_SIZE || self->part_count == FLOOR_TOPICS_PARTS_MAX) {
        write_gathered(self);
    }
}

void floor_topics_write(struct floor_topics *self, size_t size)
{
    ASSERT(size > 0);
    switch (self->second) {
    case FLOOR_SECOND_NONE:
    case FLOOR_SECOND_COUNT:
        ASSERT(!"there is no second write");
        break;
    case FLOOR_SECOND_BUFFERED:
        refer_to(self, size);
        if (self->part_count > 0) {
            write_gathered(self);
        }
        break;
    case FLOOR_SECOND_CHUNKED:
    case FLOOR_SECOND_DIRECT:
        copy_to_chunk(self, size);
        break;
    case FLOOR_SECOND_MEMORY:
        refer_to(self, size);
        break;
    }
}

void floor_topics_flush(struct floor_topics *self)
{
    if (self->gathered == 0) {
        return;
    }
    if (self->second == FLOOR_SECOND_MEMORY) {
        write_gathered(self);
    } else {
        write_chunk(self);
    }
    ASSERT(self->gathered == 0);
}
