/*
 * Noting keys and compacting batches, without memory now and then. There is no disk in it.
 *
 * The promise: an error, or the same batches as with all memory.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "lib/exhaust.h"
#include "record/codec.h"
#include "record/compactor.h"
#include "record/record_set.h"

enum { BATCHES = 30, RECORDS = 6, KEYS = 20 };

static struct buf history;
static struct buf expected; /* of the first run, which nothing disturbs */

static void append_batch(uint64_t number)
{
    struct batch_header header = {.record_count = RECORDS,
                                  .base_offset = number * RECORDS,
                                  .append_time_us = 1000 + (int64_t)number,
                                  .attributes = (uint16_t)(number % 3)};
    uint8_t encoded[BATCH_HEADER_SIZE];
    struct buf set;
    struct buf body;

    buf_init(&set, 1 << 16);
    buf_init(&body, 1 << 16);
    for (uint64_t i = 0; i < RECORDS; i++) {
        char key[16];
        struct record record = {.value = "a value of some length", .value_size = 22, .key = key};

        record.key_size =
            (size_t)snprintf(key, sizeof key, "k%d", (int)((number * 7 + i * i) % KEYS));
        ck_assert_int_eq(record_set_append(&set, &record), ERR_OK);
    }
    if (number % 3 == CODEC_NONE) {
        ck_assert_int_eq(buf_append(&body, set.data, set.size), ERR_OK);
    } else {
        ck_assert_int_eq(codec_compress((enum codec)(number % 3), set.data, set.size, &body, NULL),
                         ERR_OK);
    }
    header.size = BATCH_HEADER_SIZE + (uint32_t)body.size;
    header.body_crc32c = crc32c(body.data, body.size);
    batch_header_encode(&header, encoded);
    ck_assert_int_eq(buf_append(&history, encoded, sizeof encoded), ERR_OK);
    ck_assert_int_eq(buf_append(&history, body.data, body.size), ERR_OK);
    buf_fini(&set);
    buf_fini(&body);
}

static void prepare(struct io *io)
{
    (void)io;
    if (history.size == 0) {
        buf_init(&history, 1 << 20);
        buf_init(&expected, 1 << 20);
        for (uint64_t i = 0; i < BATCHES; i++) {
            append_batch(i);
        }
    }
}

static enum err compact(const struct latest *latest, uint64_t clean_to, struct buf *out)
{
    const struct compactor_options options = {
        .latest = latest, .clean_to = clean_to, .codec = CODEC_ZSTD, .batch_size = 500};
    struct compactor *compactor;
    enum err err = compactor_new(&options, 0, NULL, &compactor);

    if (err != ERR_OK) {
        return err;
    }
    err = compactor_take(compactor, history.data, history.size, out, NULL);
    if (err == ERR_OK) {
        err = compactor_finish(compactor, out, NULL);
    }
    compactor_free(compactor);
    return err;
}

static enum err run(struct io *io)
{
    struct latest *latest = NULL;
    uint64_t clean_to = 0;
    struct buf out;
    enum err err;

    (void)io;
    buf_init(&out, 1 << 20);
    exhaust_start();
    err = latest_new(LATEST_MEMORY_MIN, &latest);
    if (err == ERR_OK) {
        err = compactor_note(latest, UINT64_MAX, history.data, history.size, &clean_to, NULL);
    }
    if (err == ERR_OK) {
        ck_assert_uint_eq(clean_to, (uint64_t)BATCHES * RECORDS);
        err = compact(latest, clean_to, &out);
    }
    if (err == ERR_OK) {
        exhaust_pause();
        if (expected.size == 0) {
            ck_assert_int_eq(buf_append(&expected, out.data, out.size), ERR_OK);
        }
        ck_assert_uint_gt(out.size, 0);
        ck_assert_uint_lt(out.size, history.size);
        ck_assert_uint_eq(out.size, expected.size);
        ck_assert_mem_eq(out.data, expected.data, out.size);
        exhaust_resume();
    }
    latest_free(latest);
    buf_fini(&out);
    return err;
}

static enum err recover(struct io *io)
{
    (void)io; /* Nothing was put there. */
    return ERR_OK;
}

static const struct exhaust_scenario scenarios[] = {
    /* libcrypto wants a few hundred bytes to hash: see raft_fsm/digest.c. */
    {"compactor", prepare, run, recover, EXHAUST_STOPS},
};

int main(void)
{
    int rv = exhaust_main("compactor", scenarios, sizeof scenarios / sizeof scenarios[0]);

    buf_fini(&history);
    buf_fini(&expected);
    return rv;
}
