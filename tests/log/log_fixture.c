#include "log/log_fixture.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/tmpdir.h"

enum { BODY_SIZE_MAX = 64 * 1024 };

static int skip_fdatasync(struct io *self, int fd)
{
    (void)self;
    return fd >= 0 ? 0 : -EBADF;
}

static int skip_sync_dir(struct io *self, const char *path)
{
    (void)self;
    return file_exists(path) ? 0 : -ENOENT;
}

struct io *fixture_io(void)
{
    static struct io io;

    io = *io_real();
    io.fdatasync = skip_fdatasync;
    io.sync_dir = skip_sync_dir;
    return &io;
}

void fixture_init(struct fixture *self)
{
    memset(self, 0, sizeof *self);
    self->dir = tmpdir_new();
    (void)snprintf(self->log_dir, sizeof self->log_dir, "%s/log", self->dir);
    ck_assert_int_eq(mkdir(self->log_dir, 0750), 0);
    self->options = (struct log_options){
        .io = fixture_io(),
        .dir = self->log_dir,
        .segment_size_max = 4096,
        .index_interval = 256,
    };
    self->random = 1;
}

void fixture_fini(struct fixture *self)
{
    fixture_close(self);
    tmpdir_remove(self->dir);
}

uint64_t fixture_random(struct fixture *self, uint64_t bound)
{
    uint64_t value;

    self->random += UINT64_C(0x9e3779b97f4a7c15);
    value = self->random;
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (value ^ (value >> 31)) % bound;
}

enum err fixture_try_open(struct fixture *self)
{
    struct err_info info = {0};
    enum err err;

    ck_assert_ptr_null(self->log);
    err = log_open(&self->options, &self->log, &self->report, &info);
    if (err != ERR_OK) {
        ck_assert_msg(info.text[0] != '\0', "an error of log_open must say what failed");
    }
    return err;
}

void fixture_open(struct fixture *self)
{
    struct err_info info = {0};
    enum err err;

    ck_assert_ptr_null(self->log);
    err = log_open(&self->options, &self->log, &self->report, &info);
    ck_assert_msg(err == ERR_OK, "log_open: %s", info.text);
    log_check(self->log);
    fixture_verify(self);
}

void fixture_close(struct fixture *self)
{
    log_close(self->log);
    self->log = NULL;
}

/* The bytes of a body follow from its header's offset, salt (term) and place. */
static void make_body(const struct batch_header *header, uint8_t *body)
{
    uint64_t state = header->base_offset * 31 + header->raft_term * 17 + header->size;

    for (uint32_t i = 0; i < header->size - BATCH_HEADER_SIZE; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407U;
        body[i] = (uint8_t)(state >> 56);
    }
}

uint64_t expected_end(const struct expected *self)
{
    return self->count == 0 ? self->start : batch_end_offset(&self->batches[self->count - 1]);
}

void fixture_next(struct fixture *self, uint32_t record_count, uint32_t body_size,
                  struct batch_header *ret_header, uint8_t *body)
{
    const struct expected *expected = &self->expected;

    ck_assert_uint_le(body_size, BODY_SIZE_MAX);
    *ret_header = (struct batch_header){
        .size = BATCH_HEADER_SIZE + body_size,
        .record_count = record_count,
        .base_offset = expected_end(expected),
        .raft_index = 1000 + expected_end(expected),
        .raft_term = fixture_random(self, 1000),
        .append_time_us = (int64_t)expected_end(expected) * 5,
        .producer_id = 7,
        .base_sequence = (uint32_t)expected_end(expected),
    };
    make_body(ret_header, body);
    ret_header->body_crc32c = crc32c(body, body_size);
    memset(ret_header->digest, (int)(ret_header->base_offset & 0xff), BATCH_DIGEST_SIZE);
}

enum err fixture_try_append(struct fixture *self, uint32_t record_count, uint32_t body_size)
{
    static uint8_t body[BODY_SIZE_MAX];
    struct batch_header header;
    struct err_info info = {0};
    enum err err;

    fixture_next(self, record_count, body_size, &header, body);
    self->attempted = header;
    err = log_append(self->log, &header, body, &info);
    if (err == ERR_OK) {
        ck_assert_uint_lt(self->expected.count, FIXTURE_BATCHES_MAX);
        self->expected.batches[self->expected.count] = header;
        self->expected.count += 1;
    } else {
        ck_assert_msg(info.text[0] != '\0', "an error of log_append must say what failed");
    }
    return err;
}

void fixture_append(struct fixture *self, uint32_t record_count, uint32_t body_size)
{
    ck_assert_int_eq(fixture_try_append(self, record_count, body_size), ERR_OK);
}

void fixture_fill(struct fixture *self, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fixture_append(self, 2, 300);
    }
}

void expected_rewrite(struct expected *self, const struct rewriting *rewriting)
{
    static uint8_t body[BODY_SIZE_MAX];
    size_t kept = 0;

    for (size_t i = 0; i < self->count;) {
        struct batch_header header = self->batches[i++];

        if (header.base_offset >= rewriting->from && batch_end_offset(&header) <= rewriting->to) {
            uint64_t base_offset = header.base_offset;

            for (unsigned n = 1; n < rewriting->run && i < self->count &&
                                 batch_end_offset(&self->batches[i]) <= rewriting->to;
                 n++) {
                header = self->batches[i++];
            }
            header.record_count = (uint32_t)(batch_end_offset(&header) - base_offset);
            header.base_offset = base_offset;
            header.size = BATCH_HEADER_SIZE + rewriting->body_size;
            header.producer_id = 0;
            header.base_sequence = 0;
            header.attributes = BATCH_SPARSE | BATCH_COMPACTED;
            make_body(&header, body);
            header.body_crc32c = crc32c(body, rewriting->body_size);
        }
        self->batches[kept++] = header;
    }
    self->count = kept;
}

enum err fixture_begin_rewrite(struct fixture *self, uint64_t from, uint64_t to,
                               struct log_rewrite **ret_rewrite)
{
    static uint8_t bytes[BATCH_HEADER_SIZE + BODY_SIZE_MAX];
    struct log_rewrite *rewrite = NULL;
    struct err_info info = {0};
    enum err err = log_rewrite_begin(self->log, from, to, &rewrite, &info);

    if (err != ERR_OK) {
        ck_assert(info.text[0] != '\0');
        return err;
    }
    for (size_t i = 0; i < self->expected.count && err == ERR_OK; i++) {
        const struct batch_header *header = &self->expected.batches[i];

        if (header->base_offset >= from && batch_end_offset(header) <= to) {
            batch_header_encode(header, bytes);
            make_body(header, bytes + BATCH_HEADER_SIZE);
            err = log_rewrite_put(rewrite, bytes, header->size, &info);
        }
    }
    (void)log_rewrite_run(rewrite, &info); /* end says the same */
    *ret_rewrite = rewrite;
    return ERR_OK;
}

enum err fixture_try_rewrite(struct fixture *self, const struct rewriting *rewriting)
{
    static struct expected before;
    struct log_rewrite *rewrite;
    enum err err;

    before = self->expected;
    expected_rewrite(&self->expected, rewriting);
    err = fixture_begin_rewrite(self, rewriting->from, rewriting->to, &rewrite);
    if (err == ERR_OK) {
        err = log_rewrite_end(self->log, rewrite, NULL);
    }
    if (err != ERR_OK) {
        self->expected = before;
    }
    return err;
}

void expected_truncate_back(struct expected *self, uint64_t offset)
{
    while (self->count > 0 && self->batches[self->count - 1].base_offset >= offset) {
        self->count -= 1;
    }
    if (self->count == 0 && self->start > offset) {
        self->start = offset;
    }
}

void expected_truncate_front(struct expected *self, uint64_t offset)
{
    size_t gone = 0;

    while (gone < self->count && batch_end_offset(&self->batches[gone]) <= offset) {
        gone += 1;
    }
    if (gone > 0) {
        self->start = batch_end_offset(&self->batches[gone - 1]);
        self->count -= gone;
        memmove(self->batches, self->batches + gone, self->count * sizeof self->batches[0]);
    }
}

static void verify_batch(const struct batch_header *expected, const uint8_t *bytes)
{
    static uint8_t body[BODY_SIZE_MAX];
    uint8_t header[BATCH_HEADER_SIZE];

    batch_header_encode(expected, header);
    make_body(expected, body);
    ck_assert_mem_eq(bytes, header, BATCH_HEADER_SIZE);
    ck_assert_mem_eq(bytes + BATCH_HEADER_SIZE, body, expected->size - BATCH_HEADER_SIZE);
}

/* Reads [start, end) and compares; returns nothing that is not expected. */
static void verify(struct fixture *self)
{
    uint64_t offset = log_start(self->log);
    uint64_t end = log_end(self->log);
    size_t i = 0;

    while (i < self->expected.count && batch_end_offset(&self->expected.batches[i]) <= offset) {
        i += 1;
    }
    while (offset < end) {
        struct block *block = NULL;
        struct err_info info = {0};
        enum err err = log_read(self->log, offset, UINT64_MAX, 2000, &block, &offset, &info);
        size_t at = 0;

        ck_assert_msg(err == ERR_OK, "log_read at %" PRIu64 ": %s", offset, info.text);
        while (at < block->size) {
            ck_assert_uint_lt(i, self->expected.count);
            ck_assert_uint_le(self->expected.batches[i].size, block->size - at);
            verify_batch(&self->expected.batches[i], block->data + at);
            at += self->expected.batches[i].size;
            i += 1;
        }
        ck_assert_uint_eq(offset, batch_end_offset(&self->expected.batches[i - 1]));
        block_unref(block);
    }
}

void fixture_verify(struct fixture *self)
{
    ck_assert_uint_eq(log_end(self->log), expected_end(&self->expected));
    verify(self);
}

bool fixture_holds_part_of(struct fixture *self, const struct expected *expected)
{
    uint64_t offset = log_start(self->log);
    uint64_t end = log_end(self->log);

    if (offset < expected->start || end > expected_end(expected)) {
        return false;
    }
    for (size_t i = 0; i < expected->count && offset < end; i++) {
        struct batch_header header;

        if (batch_end_offset(&expected->batches[i]) <= offset) {
            continue;
        }
        ck_assert_int_eq(log_read_header(self->log, offset, &header, NULL), ERR_OK);
        if (header.base_offset != expected->batches[i].base_offset ||
            header.body_crc32c != expected->batches[i].body_crc32c) {
            return false;
        }
        offset = batch_end_offset(&header);
    }
    return offset == end;
}

const char *fixture_file(struct fixture *self, uint64_t base_offset, const char *suffix)
{
    static char path[512];

    (void)snprintf(path, sizeof path, "%s/%020" PRIu64 "%s", self->log_dir, base_offset, suffix);
    return path;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

size_t file_read(const char *path, uint8_t *data, size_t size_max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    ck_assert_msg(fd >= 0, "open %s", path);
    n = read(fd, data, size_max);
    ck_assert_int_ge(n, 0);
    ck_assert_uint_lt((size_t)n, size_max);
    ck_assert_int_eq(close(fd), 0);
    return (size_t)n;
}

void file_write(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

    ck_assert_msg(fd >= 0, "open %s", path);
    ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
    ck_assert_int_eq(close(fd), 0);
}

size_t file_size(const char *path)
{
    struct stat st;

    ck_assert_msg(stat(path, &st) == 0, "stat %s", path);
    return (size_t)st.st_size;
}

void copy_dir(const char *from, const char *to)
{
    static uint8_t data[1 << 20];
    DIR *dir = opendir(from);
    struct dirent *entry;
    char path[1024];

    ck_assert_ptr_nonnull(dir);
    ck_assert_int_eq(mkdir(to, 0750), 0);
    while ((entry = readdir(dir)) != NULL) {
        size_t size;

        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", from, entry->d_name);
        size = file_read(path, data, sizeof data);
        (void)snprintf(path, sizeof path, "%s/%s", to, entry->d_name);
        file_write(path, data, size);
    }
    ck_assert_int_eq(closedir(dir), 0);
}
