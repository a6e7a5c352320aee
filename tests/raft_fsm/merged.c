#include "merged.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "record/record_set.h"

enum { SIZE_MAX_ALL = 64 << 20 };

void merged_batch(const uint8_t *from, size_t size, const uint8_t *before, struct buf *to)
{
    static const uint8_t zeros[BATCH_HEADER_SIZE];
    struct batch_header first;
    struct batch_header last = {0};
    size_t at = to->size;

    ck_assert_int_eq(batch_header_decode(from, UINT32_MAX, &first, NULL), ERR_OK);
    for (size_t done = 0; done < size; done += last.size) {
        ck_assert_int_eq(batch_header_decode(from + done, UINT32_MAX, &last, NULL), ERR_OK);
    }
    ck_assert_int_eq(buf_append(to, zeros, BATCH_HEADER_SIZE), ERR_OK);
    ck_assert_int_eq(buf_append(to, before != NULL ? before : zeros, BATCH_DIGEST_SIZE), ERR_OK);
    for (uint64_t n = first.base_offset; n < batch_end_offset(&last); n++) {
        char value[32];
        struct record record = {.value = value, .offset = n};

        record.value_size =
            (size_t)snprintf(value, sizeof value, "record %llu", (unsigned long long)n); /* fits */
        if (n % 3 == 0) {
            ck_assert_int_eq(record_set_append_sparse(to, &record, last.append_time_us), ERR_OK);
        }
    }
    last.record_count = (uint32_t)(batch_end_offset(&last) - first.base_offset);
    last.base_offset = first.base_offset;
    last.size = (uint32_t)(to->size - at);
    last.producer_id = 0;
    last.producer_epoch = 0;
    last.base_sequence = 0;
    last.attributes = BATCH_SPARSE | BATCH_COMPACTED;
    last.body_crc32c = crc32c(to->data + at + BATCH_HEADER_SIZE, last.size - BATCH_HEADER_SIZE);
    batch_header_encode(&last, to->data + at);
}

/* All batches from the start to the end. */
static void read_all(struct log *log, struct buf *to)
{
    uint64_t offset = log_start(log);

    while (offset < log_end(log)) {
        struct block *block;
        struct err_info info;
        enum err err = log_read(log, offset, UINT64_MAX, 1 << 20, &block, &offset, &info);

        ck_assert_msg(err == ERR_OK, "%s", info.text);
        ck_assert_int_eq(buf_append(to, block->data, block->size), ERR_OK);
        block_unref(block);
    }
}

/* What becomes of them. */
static void merge(const struct buf *from, const struct merged_range ranges[], size_t count,
                  struct buf *to)
{
    uint8_t before[BATCH_DIGEST_SIZE] = {0};
    struct batch_header header = {0};
    size_t range = 0;
    size_t begin = 0;

    for (size_t at = 0; at < from->size; at += header.size) {
        ck_assert_int_eq(batch_header_decode(from->data + at, UINT32_MAX, &header, NULL), ERR_OK);
        if (range == count || batch_end_offset(&header) <= ranges[range].from) {
            ck_assert_int_eq(buf_append(to, from->data + at, header.size), ERR_OK);
            memcpy(before, header.digest, sizeof before);
            continue;
        }
        ck_assert_uint_le(batch_end_offset(&header), ranges[range].to);
        begin = header.base_offset == ranges[range].from ? at : begin;
        if (batch_end_offset(&header) == ranges[range].to) {
            merged_batch(from->data + begin, at + header.size - begin, before, to);
            memcpy(before, header.digest, sizeof before);
            range++;
        }
    }
    ck_assert_uint_eq(range, count);
}

void merged_log(struct log *log, const struct merged_range ranges[], size_t count)
{
    struct buf all;
    struct buf merged;
    struct err_info info = {.text = ""};
    enum err err;

    buf_init(&all, SIZE_MAX_ALL);
    buf_init(&merged, SIZE_MAX_ALL);
    read_all(log, &all);
    merge(&all, ranges, count, &merged);
    ck_assert_int_eq(log_punch(log, log_start(log), log_end(log), NULL), ERR_OK);
    err = log_fill(log, merged.data, merged.size, &info);
    ck_assert_msg(err == ERR_OK, "%s", info.text);
    ck_assert(!log_has_holes(log));
    ck_assert_int_eq(log_sync(log, NULL), ERR_OK);
    buf_fini(&all);
    buf_fini(&merged);
}
