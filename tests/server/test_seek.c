/* Looking into a log, before and after it is compacted: times, and filtered reads. */
#include "server/seek.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/io.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "record/batch_records.h"
#include "record/compact_log.h"
#include "record/record_set.h"

enum { RECORDS = 1500, KEYS = 40, SEGMENT_SIZE = 8192 };

struct model_record {
    int64_t time_us;
    int key; /* -1: none */
    bool present;
};

static const char *dir;
static struct log *log_;
static struct model_record model[RECORDS];
static uint64_t random_state;

static uint64_t draw(uint64_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % bound;
}

static int no_sync(struct io *io, int fd)
{
    (void)io;
    (void)fd;
    return 0;
}

static int no_sync_dir(struct io *io, const char *path)
{
    (void)io;
    (void)path;
    return 0;
}

/* The kernel, but syncs are not waited for: no test here pulls the plug. */
static struct io *quick_io(void)
{
    static struct io io;

    io = *io_real();
    io.fdatasync = no_sync;
    io.sync_dir = no_sync_dir;
    return &io;
}

static void append(uint32_t count, int64_t time_us)
{
    struct batch_header header = {.record_count = count,
                                  .base_offset = log_end(log_),
                                  .raft_index = 1 + log_end(log_),
                                  .raft_term = 1,
                                  .append_time_us = time_us};
    struct buf body;

    buf_init(&body, 1 << 20);
    for (uint32_t i = 0; i < count; i++) {
        struct model_record *of = &model[header.base_offset + i];
        char key[16];
        struct record record = {.value = "value", .value_size = 5};

        *of = (struct model_record){
            .time_us = time_us, .key = draw(9) == 0 ? -1 : (int)draw(KEYS), .present = true};
        if (of->key >= 0) {
            record.key = key;
            record.key_size = (size_t)snprintf(key, sizeof key, "k%d", of->key);
        }
        ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    }
    header.size = (uint32_t)(BATCH_HEADER_SIZE + body.size);
    header.body_crc32c = crc32c(body.data, body.size);
    memcpy(header.digest, &header.base_offset, sizeof header.base_offset);
    ck_assert_int_eq(log_append(log_, &header, body.data, NULL), ERR_OK);
    buf_fini(&body);
}

static void setup(void)
{
    struct log_options options = {.io = quick_io(), .segment_size_max = SEGMENT_SIZE};
    struct log_report report;
    int64_t time_us = 1000;

    dir = tmpdir_new();
    options.dir = dir;
    random_state = 1;
    ck_assert_int_eq(log_open(&options, &log_, &report, NULL), ERR_OK);
    while (log_end(log_) + 10 < RECORDS) {
        time_us += (int64_t)draw(3) * 10;
        append((uint32_t)(1 + draw(8)), time_us);
    }
}

static void teardown(void)
{
    log_close(log_);
    tmpdir_remove(dir);
}

static void mark_present(void)
{
    struct batch_records records;
    struct batch_header header;
    struct record record;
    struct block *block;
    uint64_t end;

    for (size_t i = 0; i < RECORDS; i++) {
        model[i].present = false;
    }
    batch_records_init(&records);
    for (uint64_t offset = log_start(log_); offset < log_end(log_); offset = end) {
        ck_assert_int_eq(log_read(log_, offset, UINT64_MAX, 1 << 20, &block, &end, NULL), ERR_OK);
        for (size_t at = 0; at < block->size; at += header.size) {
            const uint8_t *body = block->data + at + BATCH_HEADER_SIZE;

            ck_assert_int_eq(batch_header_decode(block->data + at, UINT32_MAX, &header, NULL),
                             ERR_OK);
            ck_assert_int_eq(batch_records_start(&records, &header, body, 0, NULL), ERR_OK);
            while (batch_records_next(&records, &record) == ERR_OK) {
                model[record.offset].present = true;
            }
        }
        block_unref(block);
    }
    batch_records_fini(&records);
}

static void compact(uint64_t clean_to, unsigned group_max)
{
    const struct compact_log_options options = {.clean_to = clean_to, .group_max = group_max};

    ck_assert_uint_gt(compact_log(log_, &options), 0);
    mark_present();
}

/* ---- times ---- */

/* No record from there on is earlier, none before is not; and it is there, or the end, or begins a
 * batch of which nothing is left. */
static void check_time(int64_t time_us)
{
    struct err_info info = {0};
    uint64_t offset;

    ck_assert_msg(seek_time(log_, time_us, &offset, &info) == ERR_OK, "%s", info.text);
    ck_assert_uint_ge(offset, log_start(log_));
    for (uint64_t i = log_start(log_); i < log_end(log_); i++) {
        if (model[i].present) {
            ck_assert_msg((i < offset) == (model[i].time_us < time_us),
                          "time %lld is at %llu, but the record at %llu is of %lld",
                          (long long)time_us, (unsigned long long)offset, (unsigned long long)i,
                          (long long)model[i].time_us);
        }
    }
}

static void check_times(void)
{
    for (uint64_t i = 0; i < log_end(log_); i += 37) {
        check_time(model[i].time_us - 1);
        check_time(model[i].time_us);
        check_time(model[i].time_us + 1);
    }
    check_time(0);
    check_time(INT64_MAX);
}

START_TEST(the_first_record_of_a_time_is_found)
{
    check_times();
    compact(log_end(log_) * 2 / 3, (unsigned)_i);
    check_times();
    compact(log_end(log_), (unsigned)_i);
    check_times();
    ck_assert_int_eq(log_truncate_front(log_, log_end(log_) / 2, NULL), ERR_OK);
    check_times();
}
END_TEST

/* ---- filters ---- */

/* All that a filtered read brings, step by step, is what the model has. */
static void check_filter(const struct filter *filter, uint64_t offset, size_t size_max)
{
    static bool found[RECORDS];
    struct batch_records records;
    uint64_t begin = offset;

    memset(found, 0, sizeof found);
    batch_records_init(&records);
    while (offset < log_end(log_)) {
        struct seek seek = {.log = log_,
                            .offset = offset,
                            .size_max = size_max,
                            .filter = filter,
                            .matches_max = UINT64_MAX};
        struct batch_header header;
        struct record record;

        seek_run(&seek);
        ck_assert_msg(seek.err == ERR_OK, "%s", seek.info.text);
        ck_assert_uint_gt(seek.end, offset);
        for (size_t at = 0; seek.block != NULL && at < seek.block->size; at += header.size) {
            const uint8_t *body = seek.block->data + at + BATCH_HEADER_SIZE;

            ck_assert_int_eq(batch_header_decode(seek.block->data + at, UINT32_MAX, &header, NULL),
                             ERR_OK);
            ck_assert_int_eq(batch_check_body(&header, body, NULL), ERR_OK);
            ck_assert_uint_eq(header.attributes, BATCH_SPARSE);
            ck_assert_int_eq(batch_records_start(&records, &header, body, 0, NULL), ERR_OK);
            while (batch_records_next(&records, &record) == ERR_OK) {
                ck_assert(!found[record.offset]);
                ck_assert_int_eq(record.append_time_us, model[record.offset].time_us);
                found[record.offset] = true;
            }
        }
        offset = seek.end;
        seek_fini(&seek);
    }
    batch_records_fini(&records);
    for (uint64_t i = 0; i < log_end(log_); i++) {
        const struct model_record *of = &model[i];
        const uint8_t *key;
        char text[16];
        size_t size;
        bool wanted = of->present && i >= begin &&
                      (filter->since_us == 0 || of->time_us >= filter->since_us) &&
                      (filter->until_us == 0 || of->time_us < filter->until_us);

        if (filter_key(filter, &key, &size)) {
            (void)snprintf(text, sizeof text, "k%d", of->key);
            wanted = wanted && size == strlen(text) && memcmp(key, text, size) == 0;
        }
        ck_assert_msg(found[i] == wanted, "offset %llu", (unsigned long long)i);
    }
}

START_TEST(filtered_reads_bring_exactly_what_is_there)
{
    compact(log_end(log_) * 2 / 3, (unsigned)_i);
    for (unsigned i = 0; i < 30; i++) {
        struct filter filter;
        char key[16];

        filter_init(&filter);
        if (draw(3) > 0) {
            size_t size = (size_t)snprintf(key, sizeof key, "k%d", (int)draw(KEYS));

            ck_assert_int_eq(filter_add_key(&filter, key, size, NULL), ERR_OK);
        }
        if (draw(2) == 0) {
            filter.since_us = model[draw(log_end(log_))].time_us + (int64_t)draw(2);
        }
        if (draw(2) == 0) {
            filter.until_us = model[draw(log_end(log_))].time_us + (int64_t)draw(2);
        }
        check_filter(&filter, draw(log_end(log_)), draw(2) == 0 ? 100 : 1 << 20);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server/seek");
    TCase *times = tcase_create("time");
    TCase *filters = tcase_create("filter");

    tcase_set_timeout(times, 60);
    tcase_set_timeout(filters, 60);
    tcase_add_checked_fixture(times, setup, teardown);
    tcase_add_loop_test(times, the_first_record_of_a_time_is_found, 1, 4);
    suite_add_tcase(suite, times);
    tcase_add_checked_fixture(filters, setup, teardown);
    tcase_add_loop_test(filters, filtered_reads_bring_exactly_what_is_there, 1, 4);
    suite_add_tcase(suite, filters);
    return runner_main(suite);
}
