#include "log/hole_lab.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

enum { BODY_MAX = 900, BYTES_MAX = 4 << 20 };

void hole_lab_init(struct hole_lab *self)
{
    memset(self, 0, sizeof *self);
    fixture_init(&self->f);
    self->f.options.holes_allowed = true;
}

void hole_lab_fini(struct hole_lab *self)
{
    for (size_t i = 0; i < self->f.expected.count; i++) {
        free(self->raw[i]);
    }
    fixture_fini(&self->f);
}

void hole_lab_open(struct hole_lab *self)
{
    struct err_info info = {0};
    enum err err;

    ck_assert_ptr_null(self->f.log);
    err = log_open(&self->f.options, &self->f.log, &self->f.report, &info);
    ck_assert_msg(err == ERR_OK, "log_open: %s", info.text);
    log_check(self->f.log);
}

void hole_lab_produce(struct hole_lab *self, unsigned count)
{
    struct expected *truth = &self->f.expected;

    for (unsigned i = 0; i < count; i++) {
        uint8_t body[BODY_MAX];
        struct batch_header header;
        uint32_t records;
        uint32_t size;

        ck_assert_uint_lt(truth->count, FIXTURE_BATCHES_MAX);
        records = (uint32_t)(1 + fixture_random(&self->f, 4));
        size = (uint32_t)(1 + fixture_random(&self->f, BODY_MAX));
        fixture_next(&self->f, records, size, &header, body);
        self->raw[truth->count] = malloc(header.size);
        ck_assert_ptr_nonnull(self->raw[truth->count]);
        batch_header_encode(&header, self->raw[truth->count]);
        memcpy(self->raw[truth->count] + BATCH_HEADER_SIZE, body, header.size - BATCH_HEADER_SIZE);
        self->present[truth->count] = false;
        truth->batches[truth->count] = header;
        truth->count += 1;
    }
}

size_t hole_lab_find(const struct hole_lab *self, uint64_t offset)
{
    const struct expected *truth = &self->f.expected;

    for (size_t i = 0; i < truth->count; i++) {
        if (batch_end_offset(&truth->batches[i]) > offset) {
            return i;
        }
    }
    return truth->count;
}

const uint8_t *hole_lab_bytes(const struct hole_lab *self, size_t from, size_t to, size_t *ret_size)
{
    static uint8_t bytes[BYTES_MAX];
    size_t size = 0;

    for (size_t i = from; i < to; i++) {
        ck_assert_uint_le(size + self->f.expected.batches[i].size, sizeof bytes);
        memcpy(bytes + size, self->raw[i], self->f.expected.batches[i].size);
        size += self->f.expected.batches[i].size;
    }
    *ret_size = size;
    return bytes;
}

enum err hole_lab_append(struct hole_lab *self, unsigned count)
{
    enum err err = ERR_OK;

    for (unsigned i = 0; err == ERR_OK && i < count; i++) {
        size_t n = self->f.expected.count;
        const struct batch_header *header = &self->f.expected.batches[n];

        hole_lab_produce(self, 1);
        err = log_append(self->f.log, header, self->raw[n] + BATCH_HEADER_SIZE, NULL);
        self->present[n] = err == ERR_OK;
        self->attempt[n] = err != ERR_OK;
        self->end = err == ERR_OK ? batch_end_offset(header) : self->end;
    }
    return err;
}

enum err hole_lab_skip(struct hole_lab *self, unsigned count)
{
    enum err err;

    hole_lab_produce(self, count);
    err = log_skip(self->f.log, expected_end(&self->f.expected), NULL);
    self->end = err == ERR_OK ? expected_end(&self->f.expected) : self->end;
    return err;
}

/* The first batch of a run of up to `count` missing ones from offset on, and where it ends. */
static size_t missing_run(const struct hole_lab *self, uint64_t offset, unsigned count,
                          size_t *ret_to)
{
    size_t from = hole_lab_find(self, offset);
    size_t to = from;

    while (to < self->f.expected.count && to - from < count && !self->present[to] &&
           self->f.expected.batches[to].base_offset < self->end) {
        to += 1;
    }
    *ret_to = to;
    return from;
}

enum err hole_lab_fill(struct hole_lab *self, uint64_t offset, unsigned count)
{
    struct err_info info = {0};
    const uint8_t *bytes;
    size_t size;
    size_t to;
    size_t from = missing_run(self, offset, count, &to);
    enum err err;

    ck_assert_uint_gt(to, from);
    bytes = hole_lab_bytes(self, from, to, &size);
    err = log_fill(self->f.log, bytes, size, &info);
    ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "an error of log_fill says what failed");
    for (size_t i = from; i < to; i++) {
        self->present[i] = err == ERR_OK;
        self->attempt[i] = err != ERR_OK;
    }
    return err;
}

enum err hole_lab_fill_all(struct hole_lab *self)
{
    struct log_hole hole;
    enum err err = ERR_OK;

    while (err == ERR_OK && log_holes(self->f.log, 0, &hole, 1) == 1) {
        err = hole_lab_fill(self, hole.from, 7);
    }
    return err;
}

static bool is_missing(struct hole_lab *self, size_t batch)
{
    const struct batch_header *header = &self->f.expected.batches[batch];
    uint64_t offset = header->base_offset > self->start ? header->base_offset : self->start;
    struct batch_header found;

    return log_read_header(self->f.log, offset, &found, NULL) == ERR_HOLE;
}

enum err hole_lab_punch(struct hole_lab *self, uint64_t from, uint64_t to)
{
    enum err err = log_punch(self->f.log, from, to, NULL);

    for (size_t i = hole_lab_find(self, self->start); i < self->f.expected.count; i++) {
        const struct batch_header *header = &self->f.expected.batches[i];
        bool hit = batch_end_offset(header) > from && header->base_offset < to;

        if (header->base_offset >= self->end || !self->present[i]) {
            continue;
        }
        if (err != ERR_OK) {
            self->attempt[i] = true; /* Or it may be gone. */
        } else {
            ck_assert(IMPLIES(hit, is_missing(self, i)));
            ck_assert(IMPLIES(batch_end_offset(header) <= from, !is_missing(self, i)));
            self->present[i] = !is_missing(self, i);
        }
    }
    return err;
}

/* What the log shows at the batch is true; false when it is in a hole. */
static bool check_batch(struct hole_lab *self, size_t batch)
{
    const struct batch_header *header = &self->f.expected.batches[batch];
    uint64_t offset = header->base_offset > self->start ? header->base_offset : self->start;
    struct err_info info = {0};
    struct block *block = NULL;
    uint64_t end;
    enum err err = log_read(self->f.log, offset, UINT64_MAX, 1, &block, &end, &info);

    if (err == ERR_HOLE) {
        ck_assert_ptr_nonnull(strstr(info.text, "missing"));
        return false;
    }
    ck_assert_msg(err == ERR_OK, "at %" PRIu64 ": %s", offset, info.text);
    ck_assert_uint_eq(end, batch_end_offset(header));
    ck_assert_uint_eq(block->size, header->size);
    ck_assert_mem_eq(block->data, self->raw[batch], header->size);
    block_unref(block);
    return true;
}

/* log_holes says what the model says. */
static void verify_holes(struct hole_lab *self)
{
    static struct log_hole holes[FIXTURE_BATCHES_MAX];
    size_t count = log_holes(self->f.log, 0, holes, FIXTURE_BATCHES_MAX);
    size_t next = 0;
    uint64_t after = 0;

    for (size_t i = hole_lab_find(self, self->start); i < self->f.expected.count;) {
        struct log_hole hole = {.from = self->f.expected.batches[i].base_offset};
        struct log_hole found;

        if (hole.from >= self->end) {
            break;
        }
        if (self->present[i]) {
            i += 1;
            continue;
        }
        hole.from = hole.from > self->start ? hole.from : self->start;
        while (i < self->f.expected.count && !self->present[i] &&
               self->f.expected.batches[i].base_offset < self->end) {
            hole.to = batch_end_offset(&self->f.expected.batches[i]);
            i += 1;
        }
        hole.to = hole.to < self->end ? hole.to : self->end;
        ck_assert_uint_lt(next, count);
        ck_assert_uint_eq(holes[next].from, hole.from);
        ck_assert_uint_eq(holes[next].to, hole.to);
        ck_assert_uint_eq(log_holes(self->f.log, after, &found, 1), 1);
        ck_assert_uint_eq(found.from, hole.from);
        after = hole.to;
        next += 1;
    }
    ck_assert_uint_eq(next, count);
    ck_assert(log_has_holes(self->f.log) == (count > 0));
    ck_assert_uint_eq(log_holes(self->f.log, after, holes, 1), 0);
}

void hole_lab_verify(struct hole_lab *self)
{
    ck_assert_uint_eq(log_start(self->f.log), self->start);
    ck_assert_uint_eq(log_end(self->f.log), self->end);
    for (size_t i = hole_lab_find(self, self->start); i < self->f.expected.count; i++) {
        if (self->f.expected.batches[i].base_offset < self->end) {
            ck_assert_msg(check_batch(self, i) == self->present[i], "batch %zu", i);
        }
    }
    verify_holes(self);
}

void hole_lab_adopt(struct hole_lab *self)
{
    self->start = log_start(self->f.log);
    self->end = log_end(self->f.log);
    for (size_t i = 0; i < self->f.expected.count; i++) {
        const struct batch_header *header = &self->f.expected.batches[i];
        bool visible = batch_end_offset(header) > self->start && header->base_offset < self->end;

        self->present[i] = visible && check_batch(self, i);
        self->attempt[i] = false;
    }
}

void hole_lab_damage(struct hole_lab *self, size_t batch)
{
    struct log_chunk chunk;
    char link[64];
    char path[512];
    ssize_t size;
    uint8_t byte;
    FILE *file;

    ck_assert_int_eq(log_find(self->f.log, self->f.expected.batches[batch].base_offset, UINT64_MAX,
                              1, &chunk, NULL),
                     ERR_OK);
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", chunk.fd);
    size = readlink(link, path, sizeof path - 1);
    ck_assert_int_gt(size, 0);
    path[size] = '\0';
    file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, (long)chunk.position + BATCH_HEADER_SIZE, SEEK_SET), 0);
    ck_assert_uint_eq(fread(&byte, 1, 1, file), 1);
    byte ^= 0x10;
    ck_assert_int_eq(fseek(file, (long)chunk.position + BATCH_HEADER_SIZE, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite(&byte, 1, 1, file), 1);
    ck_assert_int_eq(fclose(file), 0);
    log_chunk_release(&chunk);
}
