#include "server/inspect.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "archive/chained.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"

static struct chained t;
static const char *tmp;
static struct log *opened;

static void open_log(void)
{
    const struct log_options options = {.io = io_real(), .dir = tmp, .segment_size_max = 4096};
    struct log_report report;

    ck_assert_int_eq(log_open(&options, &opened, &report, NULL), ERR_OK);
}

static void setup(void)
{
    tmp = tmpdir_new();
    open_log();
    chained_init(&t, 4096, "t");
    for (int i = 0; i < 20; i++) {
        chained_add(&t, 3, 400);
    }
}

static void teardown(void)
{
    log_close(opened);
    chained_fini(&t);
    tmpdir_remove(tmp);
}

static void fill(void)
{
    ck_assert_int_eq(log_append_raw(opened, t.bytes, t.size, NULL), ERR_OK);
    ck_assert_uint_gt(log_segment_count(opened), 1);
}

static struct inspect inspect(enum inspect_kind kind, uint64_t offset, uint64_t end, size_t size)
{
    struct inspect self = {
        .log = opened, .kind = kind, .offset = offset, .end = end, .size_max = size};

    inspect_run(&self);
    return self;
}

START_TEST(the_header_of_any_offset_and_of_the_last)
{
    struct inspect self = inspect(INSPECT_HEADER, UINT64_MAX, 0, 0);
    uint8_t bytes[BATCH_HEADER_SIZE];

    ck_assert_int_eq(self.err, ERR_OK);
    ck_assert(!self.has_header); /* The log is empty. */
    fill();
    self = inspect(INSPECT_HEADER, 31, 0, 0);
    ck_assert_int_eq(self.err, ERR_OK);
    ck_assert(self.has_header);
    batch_header_encode(&self.header, bytes);
    ck_assert_mem_eq(bytes, t.bytes + t.positions[10], sizeof bytes);
    self = inspect(INSPECT_HEADER, UINT64_MAX, 0, 0);
    ck_assert_mem_eq(self.header.digest, t.digest, DIGEST_SIZE);
    self = inspect(INSPECT_HEADER, 60, 0, 0);
    ck_assert_int_eq(self.err, ERR_RANGE);
}
END_TEST

START_TEST(a_whole_log_verifies_piece_by_piece)
{
    uint64_t next = 0;
    uint64_t size = 0;
    unsigned pieces = 0;

    fill();
    while (next < log_end(opened)) {
        struct inspect self = inspect(INSPECT_CHECK, next, UINT64_MAX, 1500);

        ck_assert_int_eq(self.err, ERR_OK);
        ck_assert_int_eq(self.damage, ERR_OK);
        ck_assert_uint_gt(self.next, next);
        ck_assert_uint_le(self.size, 1500);
        next = self.next;
        size += self.size;
        pieces++;
    }
    ck_assert_uint_eq(size, t.size);
    ck_assert_uint_gt(pieces, 5);
    next = inspect(INSPECT_CHECK, 0, 9, 1 << 20).next;
    ck_assert_uint_eq(next, 9); /* No batch at or above the end. */
}
END_TEST

/* Changes a byte of a file of the log, under its eyes. */
static void change(uint64_t base, long position)
{
    char path[300];
    FILE *file;
    int c;

    (void)snprintf(path, sizeof path, "%s/%020llu.store", tmp, (unsigned long long)base); /* fits */
    file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, position, SEEK_SET), 0);
    c = getc(file);
    ck_assert_int_eq(fseek(file, position, SEEK_SET), 0);
    ck_assert_int_eq(putc(c ^ 1, file), c ^ 1);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(damage_is_found_at_its_offset_whatever_the_piece)
{
    static const size_t sizes[] = {1, 1200, 1 << 20};

    fill();
    change(0, 32 + 4 * 504 + 300); /* the body of batch 4 */
    for (size_t i = 0; i < 3; i++) {
        struct inspect self = {.next = 0};

        while (self.damage == ERR_OK) {
            self = inspect(INSPECT_CHECK, self.next, UINT64_MAX, sizes[i]);
            ck_assert_int_eq(self.err, ERR_OK);
            ck_assert_uint_le(self.next, 12);
        }
        ck_assert_int_eq(self.damage, ERR_CORRUPT);
        ck_assert_uint_eq(self.next, 12);
        ck_assert_ptr_nonnull(strstr(self.info.text, ".store"));
        ck_assert_ptr_nonnull(strstr(self.info.text, "2048"));
    }
    ck_assert_int_eq(inspect(INSPECT_CHECK, 15, UINT64_MAX, 1 << 20).damage, ERR_OK);
}
END_TEST

START_TEST(a_batch_of_another_history_is_damage_though_its_checksums_match)
{
    /* The second batch chains to another first one. */
    t.bytes[t.positions[1] + 72] ^= 1;
    memcpy(t.headers[1].digest, t.bytes + t.positions[1] + 72, DIGEST_SIZE);
    batch_header_encode(&t.headers[1], t.bytes + t.positions[1]);
    fill();
    ck_assert_int_eq(inspect(INSPECT_CHECK, 0, UINT64_MAX, 1 << 20).damage, ERR_CORRUPT);
    ck_assert_uint_eq(inspect(INSPECT_CHECK, 0, UINT64_MAX, 1 << 20).next, 3);
    ck_assert_uint_eq(inspect(INSPECT_CHECK, 3, UINT64_MAX, 1 << 20).next, 3);
}
END_TEST

START_TEST(links_lead_to_the_head_from_any_place)
{
    uint64_t next = 7;
    struct chain chain;

    fill();
    while (next < 60) {
        struct inspect self = inspect(INSPECT_LINKS, next, 60, 1100);

        ck_assert_int_eq(self.err, ERR_OK);
        ck_assert_ptr_nonnull(self.links);
        if (next == 7) {
            ck_assert_uint_eq(self.header.base_offset, 6);
            ck_assert(self.has_previous);
            chain = self.previous;
            ck_assert_mem_eq(chain.digest, t.headers[1].digest, DIGEST_SIZE);
        }
        for (size_t at = 0; at < self.links->size; at += CHAIN_LINK_SIZE) {
            ck_assert_int_eq(chain_link(&chain, self.links->data + at, NULL), ERR_OK);
        }
        ck_assert_uint_eq(chain.offset, self.next);
        next = self.next;
        inspect_fini(&self);
    }
    ck_assert_mem_eq(chain.digest, t.digest, DIGEST_SIZE);
    ck_assert_ptr_null(inspect(INSPECT_LINKS, 60, UINT64_MAX, 100).links);
    ck_assert_int_eq(inspect(INSPECT_LINKS, 61, UINT64_MAX, 100).err, ERR_RANGE);
}
END_TEST

/* ---- compacted logs ---- */

START_TEST(a_compacted_log_verifies_and_its_links_lead_to_the_head)
{
    struct inspect self;
    struct chain chain = {.known = true};

    chained_merge(&t, 0, 3);
    chained_merge(&t, 4, 7);
    fill();
    self = inspect(INSPECT_CHECK, 20, UINT64_MAX, 1 << 20);
    ck_assert_int_eq(self.err, ERR_OK);
    ck_assert_int_eq(self.damage, ERR_OK);
    for (uint64_t next = 0; next < 60; next = self.next) {
        self = inspect(INSPECT_LINKS, next, 60, 1100);
        ck_assert_int_eq(self.err, ERR_OK);
        for (size_t at = 0; at < self.links->size; at += CHAIN_LINK_SIZE) {
            ck_assert_int_eq(chain_link(&chain, self.links->data + at, NULL), ERR_OK);
        }
        inspect_fini(&self);
    }
    ck_assert_mem_eq(chain.digest, t.digest, DIGEST_SIZE);
}
END_TEST

/* A start that was set where batches were merged since. */
START_TEST(a_log_may_begin_inside_of_its_first_batch)
{
    struct inspect self;

    chained_merge(&t, 1, 5);
    fill();
    ck_assert_int_eq(log_truncate_front(opened, 8, NULL), ERR_OK);
    self = inspect(INSPECT_CHECK, 8, UINT64_MAX, 600);
    ck_assert_int_eq(self.err, ERR_OK);
    ck_assert_int_eq(self.damage, ERR_OK);
    ck_assert_uint_gt(self.next, 8);
    self = inspect(INSPECT_LINKS, 8, 60, 600);
    ck_assert_int_eq(self.err, ERR_OK);
    ck_assert_uint_eq(self.header.base_offset, 3);
    ck_assert_ptr_nonnull(self.links);
    ck_assert(!self.has_previous);
    inspect_fini(&self);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inspect");
    TCase *tcase = tcase_create("inspect");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_header_of_any_offset_and_of_the_last);
    tcase_add_test(tcase, a_whole_log_verifies_piece_by_piece);
    tcase_add_test(tcase, damage_is_found_at_its_offset_whatever_the_piece);
    tcase_add_test(tcase, a_batch_of_another_history_is_damage_though_its_checksums_match);
    tcase_add_test(tcase, links_lead_to_the_head_from_any_place);
    tcase_add_test(tcase, a_compacted_log_verifies_and_its_links_lead_to_the_head);
    tcase_add_test(tcase, a_log_may_begin_inside_of_its_first_batch);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
