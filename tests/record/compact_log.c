#include "record/compact_log.h"

#include <check.h>
#include <string.h>

#include "record/compactor.h"

enum { READ_SIZE = 64 * 1024, OUT_MAX = 64 << 20 };

struct cleaning {
    struct log *log;
    const struct compact_log_options *options;
    struct latest *latest;
    uint64_t clean_to;
};

static struct block *read_at(struct log *log, uint64_t offset, uint64_t end_max, uint64_t *ret_end)
{
    struct err_info info = {0};
    struct block *block;

    ck_assert_msg(log_read(log, offset, end_max, READ_SIZE, &block, ret_end, &info) == ERR_OK, "%s",
                  info.text);
    return block;
}

static void note(struct cleaning *self)
{
    uint64_t at = log_start(self->log);
    uint64_t noted = at;

    while (at < log_end(self->log) && noted == at) {
        uint64_t end;
        struct block *block = read_at(self->log, at, UINT64_MAX, &end);
        enum err err = compactor_note(self->latest, self->options->clean_to, block->data,
                                      block->size, &noted, NULL);

        ck_assert_int_eq(err, ERR_OK);
        block_unref(block);
        at = end;
    }
    self->clean_to = noted;
}

/* Where the group of segments that begins there ends; `from`: there is none. */
static uint64_t group_end(const struct cleaning *self, uint64_t from)
{
    unsigned count = self->options->group_max > 0 ? self->options->group_max : 1;
    uint64_t end = from;

    for (unsigned i = 0; i < count && end < self->clean_to; i++) {
        struct log_extent extent;

        if (log_extent_at(self->log, end, &extent, NULL) != ERR_OK || !extent.sealed ||
            extent.base_offset != end || extent.end_offset > self->clean_to) {
            break;
        }
        end = extent.end_offset;
    }
    return end;
}

static void digest_before(struct log *log, uint64_t offset, uint8_t digest[BATCH_DIGEST_SIZE])
{
    struct batch_header header;

    memset(digest, 0, BATCH_DIGEST_SIZE);
    if (offset > 0) {
        ck_assert_int_eq(log_read_header(log, offset - 1, &header, NULL), ERR_OK);
        ck_assert_uint_eq(batch_end_offset(&header), offset);
        memcpy(digest, header.digest, BATCH_DIGEST_SIZE);
    }
}

static void rewrite(struct cleaning *self, uint64_t from, uint64_t to)
{
    const struct compactor_options options = {.latest = self->latest,
                                              .clean_to = self->clean_to,
                                              .tombstones_below = self->options->tombstones_below,
                                              .batch_size = self->options->batch_size,
                                              .codec = self->options->codec};
    uint8_t digest[BATCH_DIGEST_SIZE];
    struct compactor *compactor;
    struct log_rewrite *rewriting;
    struct err_info info = {0};
    struct buf out;
    uint64_t end;

    digest_before(self->log, from, digest);
    buf_init(&out, OUT_MAX);
    ck_assert_int_eq(compactor_new(&options, from, digest, &compactor), ERR_OK);
    for (uint64_t at = from; at < to; at = end) {
        struct block *block = read_at(self->log, at, to, &end);

        ck_assert_msg(compactor_take(compactor, block->data, block->size, &out, &info) == ERR_OK,
                      "%s", info.text);
        block_unref(block);
    }
    ck_assert_int_eq(compactor_finish(compactor, &out, &info), ERR_OK);
    ck_assert_uint_eq(compactor_offset(compactor), to);
    compactor_free(compactor);
    ck_assert_msg(log_rewrite_begin(self->log, from, to, &rewriting, &info) == ERR_OK, "%s",
                  info.text);
    ck_assert_msg(log_rewrite_put(rewriting, out.data, out.size, &info) == ERR_OK, "%s", info.text);
    ck_assert_int_eq(log_rewrite_run(rewriting, &info), ERR_OK);
    ck_assert_int_eq(log_rewrite_end(self->log, rewriting, &info), ERR_OK);
    buf_fini(&out);
}

uint64_t compact_log(struct log *log, const struct compact_log_options *options)
{
    struct cleaning self = {.log = log, .options = options};
    uint64_t at = log_start(log);
    struct log_extent extent;

    ck_assert_int_eq(latest_new(16 << 20, &self.latest), ERR_OK);
    note(&self);
    if (at < log_end(log) && log_extent_at(log, at, &extent, NULL) == ERR_OK &&
        extent.base_offset < at) {
        at = extent.end_offset; /* What lies below the start cannot be read. */
    }
    for (uint64_t end = group_end(&self, at); end > at; end = group_end(&self, at)) {
        rewrite(&self, at, end);
        at = end;
    }
    ck_assert_int_eq(log_sync(log, NULL), ERR_OK);
    latest_free(self.latest);
    return at;
}
