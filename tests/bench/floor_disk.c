#include "floor_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/io.h"
#include "log/batch.h"
#include "raft_fsm/command.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/journal_segment.h"

enum {
    SEGMENT_SIZE = 64 << 20, /* of the journal */
    SEGMENT_COUNT = 2,       /* of the journal; used again in turn */
    FILL_SIZE = 1 << 20,
    ENTRY_SIZE = 512 << 10,
    INFLIGHT_SIZE = 16 << 20, /* payload that the topics may be behind the journal */
};

/* What a load makes of one journal write. */
struct shape {
    uint64_t payload;       /* bytes that count */
    size_t extent;          /* of the journal's batch */
    size_t topic_write;     /* header and body of a client's batch */
    unsigned topic_writes;  /* of them */
    size_t last_topic_size; /* of the last one, which may be smaller */
};

/* In memory that parent and writers share. */
struct share {
    atomic_bool ready;
    atomic_bool *go;
    double bytes_per_s;
    struct histogram latency;
};

struct writer {
    const struct floor_load *load;
    struct shape shape;
    struct share *share;
    struct io *io;
    char dir[IO_PATH_SIZE];
    uint8_t *data; /* what is written, aligned */
    int segments[SEGMENT_COUNT];
    unsigned segment;
    uint64_t position;          /* in the current segment */
    struct floor_topics topics; /* of the topics' thread */
    pthread_mutex_t lock;       /* Guards what follows. */
    pthread_cond_t changed;
    uint64_t journaled; /* batches */
    uint64_t stored;    /* batches that the topics have, too */
    bool ended;         /* The journal writes no more. */
};

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

/* ---- sizes ---- */

static uint64_t varint_size(uint64_t value)
{
    uint64_t size = 1;

    for (; value >= 0x80; value >>= 7) {
        size++;
    }
    return size;
}

/* Bytes of a record with a value of `size` bytes in a RecordSet (proto/record.proto). */
static uint64_t record_wire_size(uint64_t size)
{
    uint64_t record = 1 + varint_size(size) + size;

    return 1 + varint_size(record) + record;
}

static uint64_t command_size(uint64_t batch_size)
{
    return bytes_round_up(COMMAND_HEADER_SIZE + COMMAND_PRODUCE_HEADER_SIZE + batch_size, 8);
}

static struct shape shape_of(const struct floor_load *load)
{
    uint64_t wire = record_wire_size(load->record_size);
    uint64_t records = load->batch_size / load->record_size;
    uint64_t per_batch = load->client_batch_size / wire;
    uint64_t batches;
    uint64_t last;
    uint64_t commands;
    uint64_t entries;

    records = records == 0 ? 1 : records;
    per_batch = per_batch == 0 ? 1 : per_batch;
    per_batch = per_batch > records ? records : per_batch;
    batches = (records + per_batch - 1) / per_batch;
    last = records - (batches - 1) * per_batch;
    commands = (batches - 1) * command_size(BATCH_HEADER_SIZE + per_batch * wire) +
               command_size(BATCH_HEADER_SIZE + last * wire);
    entries = (commands + ENTRY_SIZE - 1) / ENTRY_SIZE;
    commands += entries * (COMMAND_PAYLOAD_HEADER_SIZE + ENTRY_HEADER_SIZE);
    return (struct shape){
        .payload = records * load->record_size,
        .extent = journal_batch_extent((uint32_t)commands),
        .topic_write = BATCH_HEADER_SIZE + per_batch * wire,
        .topic_writes = (unsigned)batches,
        .last_topic_size = BATCH_HEADER_SIZE + last * wire,
    };
}

/* What the topics write of one journal write. */
static uint64_t topics_size(const struct shape *shape)
{
    return (uint64_t)(shape->topic_writes - 1) * shape->topic_write + shape->last_topic_size;
}

/* ---- files ---- */

static void write_all(struct writer *self, int fd, size_t size, uint64_t position, int flags)
{
    struct iovec part = {.iov_base = self->data, .iov_len = size};
    ssize_t n = self->io->pwritev(self->io, fd, &part, 1, position, flags);

    if (n != (ssize_t)size) {
        floor_die("write in", self->dir, n < 0 ? (int)n : -EIO);
    }
}

/* Segments as the journal has them: written before they are used. */
static void prepare(struct writer *self)
{
    int rv = self->io->mkdir(self->io, self->dir, 0750);

    if (rv < 0) {
        floor_die("make", self->dir, rv);
    }
    for (unsigned i = 0; i < SEGMENT_COUNT; i++) {
        self->segments[i] = floor_open(self->io, self->dir, "journal", i, true);
        for (uint64_t at = 0; at < SEGMENT_SIZE; at += FILL_SIZE) {
            write_all(self, self->segments[i], FILL_SIZE, at, 0);
        }
        rv = self->io->fdatasync(self->io, self->segments[i]);
        if (rv < 0) {
            floor_die("sync files in", self->dir, rv);
        }
    }
    self->position = JOURNAL_HEADER_SIZE;
}

static void write_journal(struct writer *self)
{
    uint64_t begin_ns;

    if (self->shape.extent > SEGMENT_SIZE - self->position) {
        self->segment = (self->segment + 1) % SEGMENT_COUNT;
        write_all(self, self->segments[self->segment], JOURNAL_HEADER_SIZE, 0, RWF_DSYNC);
        self->position = JOURNAL_HEADER_SIZE;
    }
    begin_ns = now_ns();
    write_all(self, self->segments[self->segment], self->shape.extent, self->position, RWF_DSYNC);
    histogram_add(&self->share->latency, now_ns() - begin_ns);
    self->position += self->shape.extent;
}

/* ---- one writer ---- */

static void lock(struct writer *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

static void unlock(struct writer *self)
{
    int rv = pthread_cond_signal(&self->changed);

    ASSERT(rv == 0);
    rv = pthread_mutex_unlock(&self->lock);
    ASSERT(rv == 0);
}

/* With the lock held. */
static void wait_for_change(struct writer *self)
{
    int rv = pthread_cond_wait(&self->changed, &self->lock);

    ASSERT(rv == 0);
}

/* Waits for a batch of the journal; false when there will be none. */
static bool take_batch(struct writer *self)
{
    bool more;

    lock(self);
    while (self->stored == self->journaled && !self->ended) {
        wait_for_change(self);
    }
    more = self->stored < self->journaled;
    unlock(self);
    return more;
}

static void *topics_main(void *arg)
{
    struct writer *self = arg;

    while (take_batch(self)) {
        for (unsigned i = 0; i + 1 < self->shape.topic_writes; i++) {
            floor_topics_write(&self->topics, self->shape.topic_write);
        }
        floor_topics_write(&self->topics, self->shape.last_topic_size);
        lock(self);
        self->stored++;
        unlock(self);
    }
    floor_topics_flush(&self->topics);
    return NULL;
}

static bool has_topics(const struct writer *self)
{
    return self->load->second != FLOOR_SECOND_NONE;
}

static void journal_main(struct writer *self, uint64_t until_ns)
{
    while (now_ns() < until_ns) {
        write_journal(self);
        lock(self);
        self->journaled++;
        while (has_topics(self) &&
               (self->journaled - self->stored) * self->shape.payload > INFLIGHT_SIZE) {
            wait_for_change(self);
        }
        unlock(self);
    }
    lock(self);
    self->ended = true;
    unlock(self);
}

static void run(struct writer *self)
{
    uint64_t begin_ns = now_ns();
    uint64_t until_ns = begin_ns + (uint64_t)(self->load->seconds * 1e9);
    pthread_t topics;
    int rv = 0;

    if (has_topics(self)) {
        rv = pthread_create(&topics, NULL, topics_main, self);
        ASSERT(rv == 0);
    }
    journal_main(self, until_ns);
    if (has_topics(self)) {
        rv = pthread_join(topics, NULL);
        ASSERT(rv == 0);
        ASSERT(self->stored == self->journaled);
        ASSERT(self->topics.written == self->stored * topics_size(&self->shape));
    }
    self->share->bytes_per_s =
        (double)(self->journaled * self->shape.payload) * 1e9 / (double)(now_ns() - begin_ns);
}

_Noreturn static void writer_main(const struct floor_load *load, unsigned number,
                                  struct share *share)
{
    struct writer self = {.load = load, .shape = shape_of(load), .share = share, .io = io_real()};
    size_t size =
        self.shape.extent > self.shape.topic_write ? self.shape.extent : self.shape.topic_write;
    int rv;

    size = bytes_round_up(size > FILL_SIZE ? size : FILL_SIZE, JOURNAL_BLOCK);
    self.data = aligned_alloc(JOURNAL_BLOCK, size);
    ASSERT(self.data != NULL);
    memset(self.data, 0, size);
    (void)snprintf(self.dir, sizeof self.dir, "%s/writer%u", load->dir, number);
    rv = pthread_mutex_init(&self.lock, NULL);
    ASSERT(rv == 0);
    rv = pthread_cond_init(&self.changed, NULL);
    ASSERT(rv == 0);
    prepare(&self);
    floor_topics_init(&self.topics, load->second, self.io, self.dir, self.data);
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        bytes_put_u64(self.data + i, i * UINT64_C(0x9e3779b97f4a7c15)); /* Not all zeros. */
    }
    atomic_store(&share->ready, true);
    while (!atomic_load(share->go)) {
        (void)usleep(1000);
    }
    run(&self);
    floor_topics_fini(&self.topics);
    _exit(0);
}

/* ---- all of them ---- */

/* False when one has ended, which none does before it may go. */
static bool wait_until_ready(const struct share *shares, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        while (!atomic_load(&shares[i].ready)) {
            if (waitpid(-1, NULL, WNOHANG) != 0) {
                return false;
            }
            (void)usleep(1000);
        }
    }
    return true;
}

static bool wait_until_ended(unsigned count)
{
    bool ok = true;

    for (unsigned i = 0; i < count; i++) {
        int status = 1;

        ok = wait(&status) > 0 && status == 0 && ok;
    }
    return ok;
}

static int compare(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void collect(const struct share *shares, const struct floor_load *load,
                    struct floor_disk_result *ret_result)
{
    double rates[FLOOR_WRITERS_MAX];

    memset(ret_result, 0, sizeof *ret_result);
    for (unsigned i = 0; i < load->writers; i++) {
        rates[i] = shares[i].bytes_per_s;
        for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
            ret_result->latency.counts[bucket] += shares[i].latency.counts[bucket];
        }
        ret_result->latency.total += shares[i].latency.total;
        if (shares[i].latency.max > ret_result->latency.max) {
            ret_result->latency.max = shares[i].latency.max;
        }
    }
    qsort(rates, load->writers, sizeof rates[0], compare);
    ret_result->bytes_per_s = rates[load->writers / 2];
    ret_result->journal_extent = shape_of(load).extent;
}

static void remove_files(const struct floor_load *load)
{
    for (unsigned i = 0; i < load->writers; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "writer%u", i);
        (void)io_remove_dir(io_real(), load->dir, name, NULL); /* The directory is temporary. */
    }
}

bool floor_disk(const struct floor_load *load, struct floor_disk_result *ret_result)
{
    size_t size = (load->writers + 1) * sizeof(struct share);
    struct share *shares =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    atomic_bool *go;
    unsigned count = 0;
    bool ok = true;

    ASSERT(load->writers > 0 && load->writers <= FLOOR_WRITERS_MAX);
    ASSERT(shares != MAP_FAILED);
    go = &shares[load->writers].ready;
    for (; ok && count < load->writers; count++) {
        shares[count].go = go;
        switch (fork()) {
        case -1:
            ok = false;
            count--;
            break;
        case 0:
            writer_main(load, count, &shares[count]);
        default:
            break;
        }
    }
    ok = ok && wait_until_ready(shares, load->writers);
    atomic_store(go, true);
    ok = wait_until_ended(count) && ok;
    if (ok) {
        collect(shares, load, ret_result);
    }
    remove_files(load);
    (void)munmap(shares, size);
    return ok;
}
