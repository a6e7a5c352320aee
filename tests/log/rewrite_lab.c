#include "log/rewrite_lab.h"

#include <check.h>

void rewrite_lab_open(struct fixture *self)
{
    fixture_init(self);
    fixture_open(self);
    fixture_fill(self, 60);
    ck_assert_int_eq(log_sync(self->log, NULL), ERR_OK);
    self->options.durable_end = log_end(self->log);
}

uint64_t rewrite_lab_base(struct fixture *self, unsigned n)
{
    uint64_t offset = 0;

    for (unsigned i = 0; i < n; i++) {
        struct log_extent extent;

        ck_assert_int_eq(log_extent_at(self->log, offset, &extent, NULL), ERR_OK);
        offset = extent.end_offset;
    }
    return offset;
}

struct rewriting rewrite_lab_segments(struct fixture *self, unsigned first, unsigned last)
{
    return (struct rewriting){
        .from = rewrite_lab_base(self, first),
        .to = rewrite_lab_base(self, last),
        .run = 3,
        .body_size = 400,
    };
}

void rewrite_lab_rewrite(struct fixture *self, const struct rewriting *rewriting)
{
    ck_assert_int_eq(fixture_try_rewrite(self, rewriting), ERR_OK);
    log_check(self->log);
    fixture_verify(self);
}

void rewrite_lab_rewrite_to_the_same_size(struct fixture *self, uint64_t from, uint64_t to)
{
    const struct rewriting parts[] = {
        {from, from + 10, 5, 5 * 404 - BATCH_HEADER_SIZE + 8},
        {from + 10, to - 2, 4, 4 * 404 - BATCH_HEADER_SIZE - 8},
    };
    struct log_rewrite *rewriting;

    expected_rewrite(&self->expected, &parts[0]);
    expected_rewrite(&self->expected, &parts[1]);
    ck_assert_int_eq(fixture_begin_rewrite(self, from, to, &rewriting), ERR_OK);
    ck_assert_int_eq(log_rewrite_end(self->log, rewriting, NULL), ERR_OK);
    ck_assert_uint_eq(file_size(fixture_file(self, from, ".store")), 32 + 10 * 404);
}
