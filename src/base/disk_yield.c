#include "base/disk_yield.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/container.h"

struct disk_yield {
    struct io io; /* the kernel's, but for the two calls below */
    const struct clock *clock;
    uint32_t wait_max_us;
    pthread_mutex_t lock; /* Guards all below. */
    pthread_cond_t changed;
    unsigned writes; /* durable ones under way */
    bool reading;    /* Somebody has the readers' turn. */
    unsigned waiting;
    bool written;      /* ever */
    uint64_t write_ns; /* when the last one ended */
    struct disk_yield_stats stats;
};

static struct disk_yield *from(struct io *io)
{
    return CONTAINER_OF(io, struct disk_yield, io);
}

static void lock(struct disk_yield *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

static void unlock(struct disk_yield *self)
{
    int rv = pthread_mutex_unlock(&self->lock);

    ASSERT(rv == 0);
}

static uint64_t now_ns(const struct disk_yield *self)
{
    return self->clock->monotonic_ns(self->clock);
}

/* Locked: those who wait look again. */
static void tell(struct disk_yield *self)
{
    if (self->waiting > 0) {
        int rv = pthread_cond_broadcast(&self->changed);

        ASSERT(rv == 0);
    }
}

/* ---- writers ---- */

void disk_yield_begin_write(struct disk_yield *self)
{
    lock(self);
    self->writes++;
    unlock(self);
}

void disk_yield_end_write(struct disk_yield *self)
{
    lock(self);
    ASSERT(self->writes > 0);
    self->writes--;
    self->written = true;
    self->write_ns = now_ns(self);
    if (self->writes == 0) {
        tell(self);
    }
    unlock(self);
}

static ssize_t yield_pwritev(struct io *io, int fd, const struct iovec *parts, int count,
                             uint64_t position, int rwf_flags)
{
    struct disk_yield *self = from(io);
    struct io *real = io_real();
    bool durable = (rwf_flags & RWF_DSYNC) != 0;
    ssize_t n;

    if (durable) {
        disk_yield_begin_write(self);
    }
    n = real->pwritev(real, fd, parts, count, position, rwf_flags);
    if (durable) {
        disk_yield_end_write(self);
    }
    return n;
}

/* ---- readers ---- */

static bool is_quiet(struct disk_yield *self)
{
    bool quiet;

    lock(self);
    quiet = self->writes == 0 && (!self->written || now_ns(self) - self->write_ns >
                                                        (uint64_t)DISK_YIELD_QUIET_MS * 1000000);
    unlock(self);
    return quiet;
}

/* Locked. Waits until it is free, or the deadline has passed; true: it is free. */
static bool wait_until(struct disk_yield *self, uint64_t deadline_ns)
{
    const struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / 1000000000),
        .tv_nsec = (long)(deadline_ns % 1000000000),
    };
    int rv = 0;

    self->waiting++;
    while (rv == 0 && (self->writes > 0 || self->reading)) {
        rv = pthread_cond_timedwait(&self->changed, &self->lock, &deadline);
        ASSERT(rv == 0 || rv == ETIMEDOUT);
    }
    self->waiting--;
    return self->writes == 0 && !self->reading;
}

/* Returns whether the readers' turn was taken: who waited for too long goes without. */
static bool begin_read(struct disk_yield *self)
{
    bool taken;

    lock(self);
    taken = self->writes == 0 && !self->reading;
    if (!taken && self->wait_max_us > 0) {
        uint64_t begun_ns = now_ns(self);

        taken = wait_until(self, begun_ns + (uint64_t)self->wait_max_us * 1000);
        self->stats.waits++;
        self->stats.wait_us += (now_ns(self) - begun_ns) / 1000;
        self->stats.expired += taken ? 0 : 1;
    }
    if (taken) {
        self->reading = true;
    }
    unlock(self);
    return taken;
}

static void end_read(struct disk_yield *self)
{
    lock(self);
    ASSERT(self->reading);
    self->reading = false;
    tell(self);
    unlock(self);
}

/* cachestat(2), since Linux 6.5: its number and its structs are the same on all architectures.
 * False where the kernel cannot tell. */
static bool is_cached(int fd, uint64_t position, uint64_t size)
{
    enum { NUMBER = 451 };
    struct {
        uint64_t position;
        uint64_t size;
    } range = {.position = position, .size = size};
    struct {
        uint64_t pages;
        uint64_t dirty;
        uint64_t under_write_back;
        uint64_t evicted;
        uint64_t recently_evicted;
    } found = {0};
    uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t pages = (position + size - 1) / page_size - position / page_size + 1;

    ASSERT(size > 0);
    return syscall(NUMBER, fd, &range, &found, 0U) == 0 && found.pages >= pages;
}

/* Starts to read what comes next, behind the caller's back. Only a hint. */
static void read_ahead(int fd, uint64_t position)
{
    if (!is_cached(fd, position, DISK_YIELD_AHEAD)) {
        (void)posix_fadvise(fd, (off_t)position, DISK_YIELD_AHEAD, POSIX_FADV_WILLNEED);
    }
}

static ssize_t yield_pread_forward(struct io *io, int fd, void *data, size_t size,
                                   uint64_t position)
{
    struct disk_yield *self = from(io);
    struct io *real = io_real();
    size_t piece = size < DISK_YIELD_PIECE ? size : (size_t)DISK_YIELD_PIECE;
    bool taken;
    ssize_t n;

    if (size == 0 || is_quiet(self)) {
        n = real->pread(real, fd, data, size, position);
        if (n > 0 && (size_t)n == size) {
            read_ahead(fd, position + size);
        }
        return n;
    }
    if (is_cached(fd, position, size)) {
        return real->pread(real, fd, data, size, position);
    }
    taken = begin_read(self);
    n = real->pread(real, fd, data, piece, position);
    if (taken) {
        end_read(self);
    }
    return n;
}

/* ---- from new to free ---- */

static void init_sync(struct disk_yield *self)
{
    pthread_condattr_t attributes;
    int rv = pthread_mutex_init(&self->lock, NULL);

    ASSERT(rv == 0);
    rv = pthread_condattr_init(&attributes);
    ASSERT(rv == 0);
    rv = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    ASSERT(rv == 0);
    rv = pthread_cond_init(&self->changed, &attributes);
    ASSERT(rv == 0);
    rv = pthread_condattr_destroy(&attributes);
    ASSERT(rv == 0);
}

enum err disk_yield_new(const struct clock *clock, uint32_t wait_max_us,
                        struct disk_yield **ret_yield)
{
    struct disk_yield *self = calloc(1, sizeof *self);

    ASSERT(clock != NULL);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->io = *io_real(); /* Its calls have no state. */
    self->io.pwritev = yield_pwritev;
    self->io.pread_forward = yield_pread_forward;
    self->clock = clock;
    self->wait_max_us = wait_max_us;
    init_sync(self);
    *ret_yield = self;
    return ERR_OK;
}

void disk_yield_free(struct disk_yield *self)
{
    int rv;

    if (self == NULL) {
        return;
    }
    ASSERT(self->writes == 0 && !self->reading && self->waiting == 0);
    rv = pthread_cond_destroy(&self->changed);
    ASSERT(rv == 0);
    rv = pthread_mutex_destroy(&self->lock);
    ASSERT(rv == 0);
    free(self);
}

struct io *disk_yield_io(struct disk_yield *self)
{
    return &self->io;
}

void disk_yield_stats(struct disk_yield *self, struct disk_yield_stats *ret_stats)
{
    lock(self);
    *ret_stats = self->stats;
    unlock(self);
}
