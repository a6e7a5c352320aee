#include "server/record_count.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "record.pb-c.h"

enum { BODY_SIZE_MAX = 64 * 1024 };

static void counts(const void *body, size_t size, uint32_t expected)
{
    struct err_info info = {0};
    uint32_t count = UINT32_MAX;

    ck_assert_msg(record_count(body, size, &count, &info) == ERR_OK, "%s", info.text);
    ck_assert_uint_eq(count, expected);
}

static void refused(const void *body, size_t size, const char *text)
{
    struct err_info info = {0};
    uint32_t count = 4711;

    ck_assert_int_eq(record_count(body, size, &count, &info), ERR_INVALID);
    ck_assert_uint_eq(count, 4711);
    ck_assert_int_eq(info.code, ERR_INVALID);
    ck_assert_msg(strstr(info.text, text) != NULL, "'%s' is not in '%s'", text, info.text);
    ck_assert_int_eq(record_count(body, size, &count, NULL), ERR_INVALID);
}

/* count records of all sizes of length varint up to three bytes, as protobuf packs them. */
static size_t pack(uint8_t to[BODY_SIZE_MAX], unsigned count)
{
    static const size_t sizes[] = {0, 1, 120, 130, 16384};
    static uint8_t value[16384];
    Record__RecordSet set = RECORD__RECORD_SET__INIT;
    Record__Record records[16];
    Record__Record *pointers[16];

    ck_assert_uint_le(count, 16);
    for (unsigned i = 0; i < count; i++) {
        record__record__init(&records[i]);
        records[i].value.data = value;
        records[i].value.len = sizes[i % (sizeof sizes / sizeof sizes[0])];
        pointers[i] = &records[i];
    }
    set.records = pointers;
    set.n_records = count;
    ck_assert_uint_le(record__record_set__get_packed_size(&set), BODY_SIZE_MAX);
    return record__record_set__pack(&set, to);
}

START_TEST(it_counts_what_protobuf_packs)
{
    static uint8_t body[BODY_SIZE_MAX];

    for (unsigned count = 0; count <= 11; count++) {
        counts(body, pack(body, count), count);
    }
}
END_TEST

START_TEST(an_empty_record_is_one)
{
    counts("\x0a\x00\x0a\x00\x0a\x00", 6, 3);
    counts("\x0a\x80\x00", 3, 1); /* A length with a byte more than it needs. */
    counts("\x0a\x80\x80\x80\x80\x00", 6, 1);
    counts("\x0a\x02\x0a\x00", 4, 1); /* What looks like one inside another is not one. */
}
END_TEST

START_TEST(every_cut_within_a_record_is_refused)
{
    static uint8_t body[BODY_SIZE_MAX];
    size_t size = pack(body, 3);
    unsigned whole = 0;

    for (size_t cut = 0; cut <= size; cut++) {
        uint8_t *exact = malloc(cut + 1); /* A sanitizer sees what is read behind it. */
        uint32_t count;

        ck_assert_ptr_nonnull(exact);
        memcpy(exact + 1, body, cut);
        if (record_count(exact + 1, cut, &count, NULL) == ERR_OK) {
            ck_assert_uint_eq(count, whole);
            whole++;
        }
        free(exact);
    }
    ck_assert_uint_eq(whole, 4);
}
END_TEST

START_TEST(other_fields_are_refused_with_their_place)
{
    refused("\x12\x01x", 3, "at byte 0: tag 0x12");
    refused("\x0a\x01x\x10\x01", 5, "at byte 3: tag 0x10");
    refused("\x0b\x0c", 2, "tag 0x0b");      /* a group */
    refused("\x08\x01", 2, "tag 0x08");      /* field 1 as a varint */
    refused("\x8a\x00\x01x", 4, "tag 0x8a"); /* field 1, its tag in two bytes */
    refused("\x00", 1, "tag 0x00");
    refused("hello", 5, "tag 0x68");
}
END_TEST

START_TEST(lengths_that_lie_are_refused)
{
    refused("\x0a", 1, "without a valid length at byte 0");
    refused("\x0a\x80", 2, "without a valid length");
    refused("\x0a\x05hell", 6, "claims 5 bytes, and 4 are left");
    refused("\x0a\xff\xff\xff\xff\x0f", 6, "claims 4294967295 bytes, and 0 are left");
    refused("\x0a\xff\xff\xff\xff\x7f", 6, "claims 34359738367 bytes");
    refused("\x0a\x80\x80\x80\x80\x80\x00", 7, "without a valid length");
    refused("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "without a valid length");
}
END_TEST

START_TEST(random_bytes_are_counted_or_refused_within_their_bounds)
{
    uint64_t state = 4711;
    unsigned accepted = 0;

    for (unsigned i = 0; i < 100000; i++) {
        size_t size = (state >> 33) % 24;
        uint8_t *body = malloc(size + 1);
        uint32_t count = 0;

        ck_assert_ptr_nonnull(body);
        for (size_t j = 0; j < size; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            body[j] = j % 2 == 0 && state >> 62 != 0 ? 0x0a : (uint8_t)(state >> 56) % 8;
        }
        state = state * 6364136223846793005u + 1442695040888963407u;
        if (record_count(body, size, &count, NULL) == ERR_OK) {
            accepted++;
            ck_assert_uint_le(count, size / 2);
        }
        free(body);
    }
    ck_assert_uint_gt(accepted, 1000);
    ck_assert_uint_lt(accepted, 99000);
}
END_TEST

START_TEST(the_check_compares_with_what_the_batch_says)
{
    struct err_info info = {0};

    ck_assert_int_eq(record_count_check((const uint8_t *)"\x0a\x00\x0a\x00", 4, 2, &info), ERR_OK);
    ck_assert_int_eq(record_count_check((const uint8_t *)"\x0a\x00\x0a\x00", 4, 3, &info),
                     ERR_INVALID);
    ck_assert_str_eq(info.text, "batch record_count says 3, but the body has 2 records");
    ck_assert_int_eq(record_count_check((const uint8_t *)"\x0a\x00", 2, UINT32_MAX, &info),
                     ERR_INVALID);
    ck_assert_str_eq(info.text, "batch record_count says 4294967295, but the body has 1 record");
    ck_assert_int_eq(record_count_check((const uint8_t *)"\x0a\x01", 2, 1, &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, "ends within the record"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("record_count");
    TCase *tcase = tcase_create("count");

    tcase_add_test(tcase, it_counts_what_protobuf_packs);
    tcase_add_test(tcase, an_empty_record_is_one);
    tcase_add_test(tcase, every_cut_within_a_record_is_refused);
    tcase_add_test(tcase, other_fields_are_refused_with_their_place);
    tcase_add_test(tcase, lengths_that_lie_are_refused);
    tcase_add_test(tcase, random_bytes_are_counted_or_refused_within_their_bounds);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("check");
    tcase_add_test(tcase, the_check_compares_with_what_the_batch_says);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
