/* Records without keys, in what is produced, and in a log on the disk. */
#include "server/keys.h"

#include <check.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/io.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "record/codec.h"
#include "record/record_set.h"

enum { SEGMENT_SIZE = 8 * 1024 * 1024, VALUE_SIZE = 200 * 1024 };

static const char *dir;
static struct log *log_;
static struct buf set;

static void open_log(void)
{
    const struct log_options options = {
        .io = io_real(), .dir = dir, .segment_size_max = SEGMENT_SIZE};
    struct log_report report;
    struct err_info info = {0};

    ck_assert_msg(log_open(&options, &log_, &report, &info) == ERR_OK, "%s", info.text);
}

static void setup(void)
{
    dir = tmpdir_new();
    buf_init(&set, 16 << 20);
    open_log();
}

static void teardown(void)
{
    log_close(log_);
    buf_fini(&set);
    tmpdir_remove(dir);
}

static char value[VALUE_SIZE];

/* One batch: 'k' a record with a key, 'e' with an empty one, '.' without, 'K' a large one. */
static void append(const char *text, enum codec codec)
{
    struct batch_header header = {.record_count = (uint32_t)strlen(text),
                                  .base_offset = log_end(log_),
                                  .raft_index = 1 + log_end(log_),
                                  .raft_term = 1,
                                  .append_time_us = 1,
                                  .attributes = (uint16_t)codec};
    struct buf body;

    set.size = 0;
    buf_init(&body, 16 << 20);
    for (const char *at = text; *at != 0; at++) {
        const struct record record = {.value = value,
                                      .value_size = *at == 'K' ? VALUE_SIZE : 10,
                                      .key = *at == '.' ? NULL : "key",
                                      .key_size = *at == '.' || *at == 'e' ? 0 : 3};

        ck_assert_int_eq(record_set_append(&set, &record), ERR_OK);
    }
    if (codec == CODEC_NONE) {
        ck_assert_int_eq(buf_append(&body, set.data, set.size), ERR_OK);
    } else {
        ck_assert_int_eq(codec_compress(codec, set.data, set.size, &body, NULL), ERR_OK);
    }
    header.size = BATCH_HEADER_SIZE + (uint32_t)body.size;
    header.body_crc32c = crc32c(body.data, body.size);
    ck_assert_int_eq(log_append(log_, &header, body.data, NULL), ERR_OK);
    buf_fini(&body);
}

/* UINT64_MAX: none is missing. */
static uint64_t find(void)
{
    struct err_info info = {0};
    uint64_t offset = 0;
    bool missing;

    ck_assert_msg(keys_find_missing(log_, &missing, &offset, &info) == ERR_OK, "%s", info.text);
    return missing ? offset : UINT64_MAX;
}

/* ---- check ---- */

static enum err check(const char *text, struct err_info *info)
{
    set.size = 0;
    for (const char *at = text; *at != 0; at++) {
        const struct record record = {.value = "v",
                                      .value_size = 1,
                                      .key = *at == '.' ? NULL : "key",
                                      .key_size = *at == '.' || *at == 'e' ? 0 : 3};

        ck_assert_int_eq(record_set_append(&set, &record), ERR_OK);
    }
    return keys_check("prices", set.data, set.size, info);
}

START_TEST(every_record_needs_a_key_and_an_empty_one_is_one)
{
    struct err_info info = {0};

    ck_assert_int_eq(check("k", &info), ERR_OK);
    ck_assert_int_eq(check("kekk", &info), ERR_OK);
    ck_assert_int_eq(check("kk.k", &info), ERR_INVALID);
    ck_assert_msg(strstr(info.text, "record 2 of the batch") != NULL, "%s", info.text);
    ck_assert_ptr_nonnull(strstr(info.text, "--key"));
    ck_assert_ptr_nonnull(strstr(info.text, "quorlog topic alter prices --compact off"));
    ck_assert_int_eq(check(".", &info), ERR_INVALID);
}
END_TEST

START_TEST(what_is_no_record_is_invalid)
{
    struct err_info info = {0};

    ck_assert_int_eq(check("kk", &info), ERR_OK);
    set.data[set.size - 1] = 0x80; /* of has_key: its value ends nowhere */
    ck_assert_int_eq(keys_check("t", set.data, set.size, &info), ERR_INVALID);
    ck_assert_msg(strstr(info.text, "record 1 of the batch") != NULL, "%s", info.text);
}
END_TEST

/* ---- find_missing ---- */

START_TEST(empty_log_lacks_no_key)
{
    ck_assert_uint_eq(find(), UINT64_MAX);
    append("..", CODEC_NONE);
    ck_assert_uint_eq(find(), 0);
    ck_assert_int_eq(log_truncate_front(log_, 2, NULL), ERR_OK);
    ck_assert_uint_eq(find(), UINT64_MAX);
}
END_TEST

START_TEST(first_record_without_key_is_found_whatever_the_codec)
{
    append("kk", (enum codec)_i);
    append("ke", (enum codec)_i);
    ck_assert_uint_eq(find(), UINT64_MAX);
    append("k.k.", (enum codec)_i);
    append("..", (enum codec)_i);
    ck_assert_uint_eq(find(), 5);
}
END_TEST

START_TEST(both_ends_are_looked_at_and_not_the_middle)
{
    append("kk", CODEC_NONE);
    for (unsigned i = 0; i < 8; i++) {
        append("K", CODEC_NONE);
    }
    append(".", CODEC_NONE); /* 1.6 MiB from the beginning … */
    for (unsigned i = 0; i < 8; i++) {
        append("K", CODEC_NONE); /* … and from the end. */
    }
    ck_assert_uint_eq(find(), UINT64_MAX);
    append("k", CODEC_NONE);
    append("k.", CODEC_NONE);
    append("k", CODEC_NONE);
    ck_assert_uint_eq(find(), 21);
    for (unsigned i = 0; i < 4; i++) {
        append("K", CODEC_NONE); /* 0.8 MiB from the end */
    }
    ck_assert_uint_eq(find(), 21);
    append("K", CODEC_NONE);
    append("K", CODEC_NONE);
    ck_assert_uint_eq(find(), UINT64_MAX);
}
END_TEST

START_TEST(last_batch_is_looked_at_whatever_its_size)
{
    append("kk", CODEC_NONE);
    append("KKKKKKKK", CODEC_NONE);
    append("KKKKKKK.", CODEC_NONE);
    ck_assert_uint_eq(find(), 17);
}
END_TEST

START_TEST(records_below_the_start_do_not_count)
{
    append(".k.k", CODEC_NONE);
    ck_assert_int_eq(log_truncate_front(log_, 1, NULL), ERR_OK);
    ck_assert_uint_eq(find(), 2);
    ck_assert_int_eq(log_truncate_front(log_, 3, NULL), ERR_OK);
    ck_assert_uint_eq(find(), UINT64_MAX);
}
END_TEST

START_TEST(hole_is_said_to_be_one)
{
    struct err_info info = {0};
    uint64_t offset;
    bool missing;

    ck_assert_int_eq(log_skip(log_, 5, NULL), ERR_OK);
    ck_assert_int_eq(keys_find_missing(log_, &missing, &offset, &info), ERR_HOLE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server/keys");
    TCase *checks = tcase_create("check");
    TCase *finds = tcase_create("find_missing");

    tcase_add_checked_fixture(checks, setup, teardown);
    tcase_add_test(checks, every_record_needs_a_key_and_an_empty_one_is_one);
    tcase_add_test(checks, what_is_no_record_is_invalid);
    suite_add_tcase(suite, checks);
    tcase_add_checked_fixture(finds, setup, teardown);
    tcase_add_test(finds, empty_log_lacks_no_key);
    tcase_add_loop_test(finds, first_record_without_key_is_found_whatever_the_codec, 0, 3);
    tcase_add_test(finds, both_ends_are_looked_at_and_not_the_middle);
    tcase_add_test(finds, last_batch_is_looked_at_whatever_its_size);
    tcase_add_test(finds, records_below_the_start_do_not_count);
    tcase_add_test(finds, hole_is_said_to_be_one);
    suite_add_tcase(suite, finds);
    return runner_main(suite);
}
