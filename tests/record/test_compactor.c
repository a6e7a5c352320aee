/*
 * A history is written as batches, with a model of every record beside it, and compacted in pass
 * after pass; after each one, all that came out is read and held against the model.
 */
#include "record/compactor.h"

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "lib/runner.h"
#include "record/batch_records.h"
#include "record/codec.h"

enum { RECORDS_MAX = 20000, KEY_NONE = -1, BATCH_MAX = 1 << 20 };

struct model_record {
    bool present;
    int key; /* KEY_NONE: none */
    bool tombstone;
    int64_t append_time_us;
};

static struct model_record model[RECORDS_MAX];
/* Of the batch that ended there when it was appended; size 0: none did. */
static struct batch_header ends[RECORDS_MAX + 1];
static uint64_t end_offset;
static struct buf history;
static uint64_t seed;

static uint64_t draw(uint64_t bound)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % bound;
}

static void setup(void)
{
    memset(model, 0, sizeof model);
    memset(ends, 0, sizeof ends);
    end_offset = 0;
    seed = 1;
    buf_init(&history, 64 << 20);
}

static void teardown(void)
{
    buf_fini(&history);
}

/* ---- writing a history ---- */

struct text {
    char bytes[64];
    size_t size;
};

static struct text key_text(int key)
{
    struct text text = {.size = 0};

    /* Key 0 is the empty one. */
    if (key > 0) {
        text.size = (size_t)snprintf(text.bytes, sizeof text.bytes, "key-%d", key);
    }
    return text;
}

static struct text value_text(uint64_t offset)
{
    struct text text;

    text.size = (size_t)snprintf(text.bytes, sizeof text.bytes, "value %llu %.*s",
                                 (unsigned long long)offset, (int)(offset % 30),
                                 "abcdefghijklmnopqrstuvwxyz0123456789");
    return text;
}

static const struct record_header one_header = {.name = "h", .value = "x", .value_size = 1};

static void append_record(struct buf *set, uint64_t offset)
{
    const struct model_record *of = &model[offset];
    struct text key = key_text(of->key);
    struct text value = value_text(offset);
    struct record record = {.value = value.bytes,
                            .value_size = of->tombstone ? 0 : value.size,
                            .key = of->key == KEY_NONE ? NULL : key.bytes,
                            .key_size = of->key == KEY_NONE ? 0 : key.size,
                            .timestamp_us = (int64_t)offset};

    if (offset % 7 == 0) {
        record.headers = &one_header;
        record.header_count = 1;
    }
    ck_assert_int_eq(record_set_append(set, &record), ERR_OK);
}

/* What stands in model[] from the history's end on, `count` records, as one batch. */
static void append_batch(uint32_t count, int64_t append_time_us, enum codec codec)
{
    struct batch_header header = {.record_count = count,
                                  .base_offset = end_offset,
                                  .raft_index = 10 + end_offset,
                                  .raft_term = 2 + end_offset / 50,
                                  .append_time_us = append_time_us,
                                  .producer_id = 77,
                                  .producer_epoch = 3,
                                  .base_sequence = (uint32_t)end_offset,
                                  .attributes = (uint16_t)codec};
    uint8_t encoded[BATCH_HEADER_SIZE];
    struct buf set;
    struct buf body;

    ck_assert_uint_le(end_offset + count, RECORDS_MAX);
    buf_init(&set, BATCH_MAX);
    buf_init(&body, BATCH_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct model_record *record = &model[end_offset + i];

        record->present = true;
        record->append_time_us = append_time_us;
        append_record(&set, end_offset + i);
    }
    if (codec == CODEC_NONE) {
        ck_assert_int_eq(buf_append(&body, set.data, set.size), ERR_OK);
    } else {
        ck_assert_int_eq(codec_compress(codec, set.data, set.size, &body, NULL), ERR_OK);
    }
    end_offset += count;
    memset(header.digest, (int)(1 + end_offset % 251), sizeof header.digest);
    memcpy(header.digest, &end_offset, sizeof end_offset);
    header.size = (uint32_t)(BATCH_HEADER_SIZE + body.size);
    header.body_crc32c = crc32c(body.data, body.size);
    batch_header_encode(&header, encoded);
    ck_assert_int_eq(buf_append(&history, encoded, sizeof encoded), ERR_OK);
    ck_assert_int_eq(buf_append(&history, body.data, body.size), ERR_OK);
    ends[end_offset] = header;
    buf_fini(&set);
    buf_fini(&body);
}

/* Batches of keys: a letter is a key, a capital one its tombstone, '.' a record without key. */
static void append_text(const char *text, int64_t append_time_us, enum codec codec)
{
    for (size_t i = 0; text[i] != 0; i++) {
        char c = text[i];
        bool is_tombstone = c >= 'A' && c <= 'Z';

        model[end_offset + i] = (struct model_record){
            .key = c == '.' ? KEY_NONE : (is_tombstone ? c - 'A' : c - 'a') + 1,
            .tombstone = is_tombstone};
    }
    append_batch((uint32_t)strlen(text), append_time_us, codec);
}

struct shape {
    unsigned batches;
    unsigned records_max; /* of a batch */
    unsigned keys;
    unsigned keyless_percent;
    unsigned tombstone_percent;
};

static void append_random(const struct shape *shape)
{
    int64_t time = 1000000;

    for (unsigned i = 0; i < shape->batches; i++) {
        uint32_t count = (uint32_t)(1 + draw(shape->records_max));

        time += (int64_t)(draw(3) * draw(100000));
        for (uint32_t k = 0; k < count; k++) {
            model[end_offset + k] = (struct model_record){
                .key = draw(100) < shape->keyless_percent ? KEY_NONE : (int)draw(shape->keys),
                .tombstone = draw(100) < shape->tombstone_percent};
        }
        append_batch(count, time, (enum codec)(draw(2) * draw(3)));
    }
}

/* ---- reading ---- */

static void check_record(const struct record *record)
{
    const struct model_record *of = &model[record->offset];
    struct text key = key_text(of->key);
    struct text value = value_text(record->offset);

    ck_assert_uint_eq(record->value_size, of->tombstone ? 0 : value.size);
    ck_assert_mem_eq(record->value, value.bytes, record->value_size);
    ck_assert_int_eq(record->key == NULL, of->key == KEY_NONE);
    if (record->key != NULL) {
        ck_assert_uint_eq(record->key_size, key.size);
        ck_assert_mem_eq(record->key, key.bytes, key.size);
    }
    ck_assert_int_eq(record->timestamp_us, (int64_t)record->offset);
    ck_assert_uint_eq(record->header_count, record->offset % 7 == 0);
    ck_assert_int_eq(record->append_time_us, of->append_time_us);
}

static struct batch_header decode(const struct buf *batches, size_t at)
{
    struct batch_header header;
    struct err_info info = {0};

    ck_assert_uint_ge(batches->size - at, BATCH_HEADER_SIZE);
    ck_assert_msg(batch_header_decode(batches->data + at, BATCH_MAX, &header, &info) == ERR_OK,
                  "%s", info.text);
    ck_assert_uint_ge(batches->size - at, header.size);
    ck_assert_msg(batch_check_body(&header, batches->data + at + BATCH_HEADER_SIZE, &info) ==
                      ERR_OK,
                  "%s", info.text);
    return header;
}

/* Boundaries are those of before, and so is what the chain goes on from, and ends with. */
static void check_stamps(const struct batch_header *header, const uint8_t *body)
{
    static const uint8_t zeros[BATCH_DIGEST_SIZE];
    uint64_t base = header->base_offset;
    const struct batch_header *end = &ends[batch_end_offset(header)];

    ck_assert_uint_gt(end->size, 0);
    ck_assert(base == 0 || ends[base].size > 0);
    ck_assert_uint_eq(header->raft_index, end->raft_index);
    ck_assert_uint_eq(header->raft_term, end->raft_term);
    ck_assert_int_eq(header->append_time_us, end->append_time_us);
    ck_assert_mem_eq(header->digest, end->digest, sizeof header->digest);
    if ((header->attributes & BATCH_COMPACTED) != 0) {
        ck_assert_mem_eq(body, base == 0 ? zeros : ends[base].digest, BATCH_DIGEST_SIZE);
        ck_assert_uint_eq(header->producer_id, 0);
        ck_assert_uint_eq(header->producer_epoch, 0);
        ck_assert_uint_eq(header->base_sequence, 0);
    } else {
        ck_assert_uint_eq(header->size, end->size);
        ck_assert_uint_eq(header->body_crc32c, end->body_crc32c);
        ck_assert_uint_eq(header->producer_id, 77);
        ck_assert_uint_eq(header->base_sequence, (uint32_t)base);
    }
}

/* Every batch of `batches`, which follow on each other up to the end; the records are marked. */
static void check_log(const struct buf *batches, bool ret_found[RECORDS_MAX])
{
    struct batch_records walk;
    struct record record;
    uint64_t next = 0;
    struct batch_header header;

    memset(ret_found, 0, RECORDS_MAX * sizeof *ret_found);
    batch_records_init(&walk);
    for (size_t at = 0; at < batches->size; at += header.size) {
        const uint8_t *body = batches->data + at + BATCH_HEADER_SIZE;
        enum err err;

        header = decode(batches, at);
        ck_assert_uint_eq(header.base_offset, next);
        check_stamps(&header, body);
        ck_assert_int_eq(batch_records_start(&walk, &header, body, 0, NULL), ERR_OK);
        while ((err = batch_records_next(&walk, &record)) == ERR_OK) {
            check_record(&record);
            ret_found[record.offset] = true;
        }
        ck_assert_int_eq(err, ERR_AGAIN);
        next = batch_end_offset(&header);
    }
    ck_assert_uint_eq(next, end_offset);
    batch_records_fini(&walk);
}

/* Whole batches from `at` on, some of them. */
static size_t draw_batches(const struct buf *batches, size_t at, uint64_t count)
{
    size_t size = 0;

    for (uint64_t i = 0; i < count && at + size < batches->size; i++) {
        size += decode(batches, at + size).size;
    }
    return size;
}

/* ---- passes ---- */

struct pass {
    uint64_t cleaned_to; /* what is below was cleaned before */
    uint64_t clean_to;
    uint64_t tombstones_below;
    uint32_t batch_size;
    unsigned codec;
    bool noted_from_start;
};

/* Notes from where the last pass ended, in several calls; *ret_clean_to: how far it went. */
static enum err note_all(struct latest *latest, const struct pass *pass, uint64_t *ret_clean_to)
{
    struct batch_header header;
    uint64_t end = pass->cleaned_to;
    size_t at = 0;
    enum err err = ERR_OK;

    while (at < history.size && !pass->noted_from_start) {
        header = decode(&history, at);
        if (batch_end_offset(&header) > pass->cleaned_to) {
            break;
        }
        at += header.size;
    }
    while (err == ERR_OK && at < history.size) {
        size_t size = draw_batches(&history, at, 1 + draw(5));

        err = compactor_note(latest, pass->clean_to, history.data + at, size, &end, NULL);
        at += size;
        if (at < history.size && end < decode(&history, at).base_offset) {
            break;
        }
    }
    *ret_clean_to = end > pass->cleaned_to ? end : pass->cleaned_to;
    ck_assert_uint_le(latest_end(latest), *ret_clean_to);
    return err;
}

static void compact(const struct compactor_options *options, const struct buf *from, struct buf *to,
                    struct compactor_counts *ret_counts)
{
    struct err_info info = {0};
    struct compactor *compactor;
    size_t size;

    ck_assert_int_eq(compactor_new(options, 0, NULL, &compactor), ERR_OK);
    for (size_t at = 0; at < from->size; at += size) {
        size = draw_batches(from, at, 1 + draw(6));
        ck_assert_msg(compactor_take(compactor, from->data + at, size, to, &info) == ERR_OK, "%s",
                      info.text);
        ck_assert_uint_le(compactor_offset(compactor), end_offset);
    }
    ck_assert_int_eq(compactor_finish(compactor, to, &info), ERR_OK);
    ck_assert_uint_eq(compactor_offset(compactor), end_offset);
    compactor_counts(compactor, ret_counts);
    compactor_free(compactor);
    ck_assert_uint_eq(ret_counts->bytes_in, from->size);
    ck_assert_uint_eq(ret_counts->bytes_out, to->size);
    ck_assert_uint_le(ret_counts->batches_out, ret_counts->batches_in);
}

/* Where the batches end that clean_to does not cut. */
static uint64_t whole_below(uint64_t clean_to)
{
    uint64_t whole = 0;
    struct batch_header header;

    for (size_t at = 0; at < history.size; at += header.size) {
        header = decode(&history, at);
        if (batch_end_offset(&header) > clean_to) {
            break;
        }
        whole = batch_end_offset(&header);
    }
    return whole;
}

/* Marks in the model what the pass takes away; the last noted of a key is what counts. */
static void apply_to_model(const struct pass *pass, uint64_t clean_to,
                           struct compactor_counts *ret_counts)
{
    static bool is_superseded[RECORDS_MAX];
    uint64_t to = whole_below(clean_to);

    memset(ret_counts, 0, sizeof *ret_counts);
    memset(is_superseded, 0, sizeof is_superseded);
    for (uint64_t i = to; i-- > 0;) {
        struct model_record *record = &model[i];

        if (!record->present) {
            continue;
        }
        ret_counts->records++;
        if (record->key == KEY_NONE) {
            ret_counts->keyless++;
        } else if (is_superseded[record->key]) {
            record->present = false;
            ret_counts->superseded++;
        } else if (record->tombstone && i < pass->tombstones_below) {
            record->present = false;
            ret_counts->tombstones++;
        }
        if (record->key != KEY_NONE && (i >= pass->cleaned_to || pass->noted_from_start)) {
            is_superseded[record->key] = true;
        }
    }
}

/* The latest record of each key, below `to`; a tombstone is no value. UINT64_MAX: none. */
static void view(uint64_t to, uint64_t ret_view[RECORDS_MAX])
{
    memset(ret_view, 0xff, RECORDS_MAX * sizeof *ret_view);
    for (uint64_t i = 0; i < to; i++) {
        if (model[i].present && model[i].key != KEY_NONE) {
            ret_view[model[i].key] = model[i].tombstone ? UINT64_MAX : i;
        }
    }
}

static bool found[RECORDS_MAX];
static uint64_t view_before[RECORDS_MAX];
static uint64_t view_after[RECORDS_MAX];

static void check_again(const struct compactor_options *options)
{
    struct compactor_counts counts;
    struct buf again;

    buf_init(&again, 64 << 20);
    compact(options, &history, &again, &counts);
    ck_assert_uint_eq(counts.superseded + counts.tombstones, 0); /* K3 */
    ck_assert_uint_le(again.size, history.size);
    check_log(&again, found);
    for (uint64_t i = 0; i < end_offset; i++) {
        ck_assert_int_eq(found[i], model[i].present);
    }
    buf_fini(&again);
}

/* Returns how far it went. */
static uint64_t run_pass(const struct pass *pass, struct latest *latest)
{
    struct compactor_options options = {.latest = latest,
                                        .tombstones_below = pass->tombstones_below,
                                        .batch_size = pass->batch_size,
                                        .batch_size_max = BATCH_MAX,
                                        .codec = pass->codec};
    struct compactor_counts counts;
    struct compactor_counts expected;
    struct buf out;
    enum err err;

    latest_clear(latest);
    err = note_all(latest, pass, &options.clean_to);
    ck_assert(err == ERR_OK || err == ERR_LIMIT);
    ck_assert(err == ERR_LIMIT || options.clean_to == pass->cleaned_to ||
              options.clean_to == whole_below(pass->clean_to));
    view(options.clean_to, view_before);
    buf_init(&out, 64 << 20);
    compact(&options, &history, &out, &counts);
    apply_to_model(pass, options.clean_to, &expected);
    view(options.clean_to, view_after);
    ck_assert_mem_eq(view_before, view_after, sizeof view_before); /* K2 */
    ck_assert_uint_eq(counts.records, expected.records);
    ck_assert_uint_eq(counts.keyless, expected.keyless);
    ck_assert_uint_eq(counts.superseded, expected.superseded);
    ck_assert_uint_eq(counts.tombstones, expected.tombstones);
    buf_fini(&history);
    history = out;
    check_log(&history, found);
    for (uint64_t i = 0; i < end_offset; i++) {
        ck_assert_int_eq(found[i], model[i].present);
    }
    check_again(&options);
    return options.clean_to;
}

static void run_passes(const struct shape *shape, struct latest *latest)
{
    uint64_t cleaned_to = 0;
    unsigned rounds = 0;

    append_random(shape);
    while (cleaned_to < end_offset) {
        struct pass pass = {.cleaned_to = cleaned_to,
                            .clean_to = cleaned_to + draw(2 * (end_offset - cleaned_to) + 1),
                            .tombstones_below = draw(cleaned_to + 1),
                            .batch_size = (uint32_t)(draw(2) * (1 + draw(4000))),
                            .codec = (unsigned)draw(3)};

        if (pass.clean_to > end_offset || rounds > 20) {
            pass.clean_to = end_offset;
        }
        if (rounds > 0 && draw(4) == 0) {
            pass.noted_from_start = true; /* After a restart. */
            pass.tombstones_below = 0;
        }
        cleaned_to = run_pass(&pass, latest);
        ck_assert_uint_lt(++rounds, 1000);
    }
}

START_TEST(any_history_keeps_its_view_through_any_passes)
{
    struct shape shape;
    struct latest *latest;

    seed = (uint64_t)_i + 1;
    shape = (struct shape){.batches = (unsigned)(1 + draw(80)),
                           .records_max = (unsigned)(1 + draw(12)),
                           .keys = (unsigned)(1 + draw(60)),
                           .keyless_percent = (unsigned)(draw(2) * draw(60)),
                           .tombstone_percent = (unsigned)draw(50)};
    ck_assert_int_eq(latest_new(LATEST_MEMORY_MIN, &latest), ERR_OK);
    run_passes(&shape, latest);
    latest_free(latest);
}
END_TEST

START_TEST(more_keys_than_memory_take_several_passes)
{
    const struct shape shape = {.batches = 120,
                                .records_max = 150,
                                .keys = 4000,
                                .keyless_percent = 5,
                                .tombstone_percent = 20};
    uint64_t cleaned_to = 0;
    unsigned passes = 0;
    struct latest *latest;

    seed = (uint64_t)_i + 1;
    append_random(&shape);
    ck_assert_int_eq(latest_new(LATEST_MEMORY_MIN, &latest), ERR_OK);
    while (cleaned_to < end_offset) {
        const struct pass pass = {.cleaned_to = cleaned_to, .clean_to = end_offset};
        uint64_t to = run_pass(&pass, latest);

        ck_assert_uint_gt(to, cleaned_to);
        ck_assert_uint_gt(ends[to].size, 0); /* A batch ends there. */
        cleaned_to = to;
        passes++;
    }
    ck_assert_uint_gt(passes, 2);
    /* Nothing is left but the latest of each key. */
    view(end_offset, view_after);
    for (uint64_t i = 0; i < end_offset; i++) {
        if (model[i].present && model[i].key != KEY_NONE && !model[i].tombstone) {
            ck_assert_uint_eq(view_after[model[i].key], i);
        }
    }
    latest_free(latest);
}
END_TEST

/* ---- by hand ---- */

static struct latest *small;
static struct buf out;
static struct compactor_options options;

static void setup_small(void)
{
    setup();
    ck_assert_int_eq(latest_new(LATEST_MEMORY_MIN, &small), ERR_OK);
    buf_init(&out, 64 << 20);
    options = (struct compactor_options){.latest = small, .batch_size_max = BATCH_MAX};
}

static void teardown_small(void)
{
    buf_fini(&out);
    latest_free(small);
    teardown();
}

/* Notes and compacts up to `clean_to`. */
static struct compactor_counts compact_to(uint64_t clean_to)
{
    struct compactor_counts counts;
    uint64_t end;

    latest_clear(small);
    ck_assert_int_eq(compactor_note(small, clean_to, history.data, history.size, &end, NULL),
                     ERR_OK);
    options.clean_to = clean_to;
    compact(&options, &history, &out, &counts);
    check_log(&out, found);
    return counts;
}

static void check_found(const char *expected)
{
    ck_assert_uint_eq(strlen(expected), end_offset);
    for (uint64_t i = 0; i < end_offset; i++) {
        ck_assert_msg(found[i] == (expected[i] == 'x'), "offset %llu", (unsigned long long)i);
    }
}

static unsigned count_batches(const struct buf *batches)
{
    unsigned count = 0;

    for (size_t at = 0; at < batches->size; at += decode(batches, at).size) {
        count++;
    }
    return count;
}

START_TEST(later_record_above_clean_to_supersedes_nothing)
{
    struct compactor_counts counts;

    append_text("ab", 10, CODEC_NONE);
    append_text("a", 20, CODEC_NONE);
    append_text("c", 30, CODEC_NONE);
    append_text("B", 40, CODEC_NONE);
    append_text("ax", 50, CODEC_NONE);
    counts = compact_to(5);
    check_found("..xxxxx");
    ck_assert_uint_eq(count_batches(&out), 2);
    ck_assert_uint_eq(counts.superseded, 2);
    ck_assert_uint_eq(counts.records, 5);
    /* The last one is as it was. */
    ck_assert_mem_eq(out.data + out.size - ends[7].size, history.data + history.size - ends[7].size,
                     ends[7].size);
}
END_TEST

START_TEST(batch_that_ends_above_clean_to_is_neither_noted_nor_touched)
{
    uint64_t end;

    append_text("ab", 10, CODEC_NONE);
    append_text("ab", 20, CODEC_NONE);
    append_text("ab", 30, CODEC_NONE);
    ck_assert_int_eq(compactor_note(small, 5, history.data, history.size, &end, NULL), ERR_OK);
    ck_assert_uint_eq(end, 4);
    ck_assert_uint_eq(latest_end(small), 4);
    (void)compact_to(5);
    check_found("..xxxx");
    latest_clear(small);
    ck_assert_int_eq(compactor_note(small, 1, history.data, history.size, &end, NULL), ERR_OK);
    ck_assert_uint_eq(end, 0);
    ck_assert_uint_eq(latest_count(small), 0);
    /* Not even where what is given begins above it. */
    ck_assert_int_eq(compactor_note(small, 1, history.data + decode(&history, 0).size,
                                    decode(&history, 0).size, &end, NULL),
                     ERR_OK);
    ck_assert_uint_eq(end, 1);
}
END_TEST

START_TEST(tombstones_go_only_below_their_bound)
{
    struct compactor_counts counts;

    append_text("aAbBcC", 10, CODEC_NONE);
    append_text("d", 10, CODEC_NONE);
    options.tombstones_below = 3;
    options.clean_to = 7;
    counts = compact_to(7);
    check_found("...x.xx");
    ck_assert_uint_eq(counts.tombstones, 1);
    ck_assert_uint_eq(counts.superseded, 3);
}
END_TEST

START_TEST(records_without_key_stay)
{
    struct compactor_counts counts;

    append_text("a.a.", 10, CODEC_NONE);
    append_text(".a", 10, CODEC_NONE);
    counts = compact_to(6);
    check_found(".x.xxx");
    ck_assert_uint_eq(counts.keyless, 3);
}
END_TEST

START_TEST(nothing_taken_from_a_big_or_lonely_batch_leaves_it_as_it_is)
{
    char text[2001];

    memset(text, '.', sizeof text - 1);
    text[sizeof text - 1] = 0;
    append_text("ab", 10, CODEC_NONE);
    append_text(text, 10, (enum codec)_i);
    append_text("cd", 10, CODEC_LZ4);
    (void)compact_to(end_offset);
    ck_assert_uint_eq(out.size, history.size);
    ck_assert_mem_eq(out.data, history.data, out.size);
}
END_TEST

START_TEST(all_records_gone_leave_an_empty_batch)
{
    struct batch_header header;

    append_text("aaaa", 10, CODEC_ZSTD);
    append_text("bbbb", 20, CODEC_ZSTD);
    append_text("ab", 30, CODEC_ZSTD);
    options.codec = CODEC_LZ4;
    options.clean_to = 10;
    ck_assert_uint_eq(compact_to(10).superseded, 8);
    check_found("........xx");
    ck_assert_uint_eq(count_batches(&out), 1);
    /* And where nothing at all is left: no frame of either format holds nothing. */
    buf_fini(&history);
    buf_init(&history, 64 << 20);
    end_offset = 0;
    out.size = 0;
    latest_clear(small);
    append_text("AB", 10, CODEC_ZSTD);
    append_text("CD", 20, CODEC_ZSTD);
    options.tombstones_below = 4;
    (void)compact_to(4);
    check_found("....");
    header = decode(&out, 0);
    ck_assert_uint_eq(header.size, BATCH_HEADER_SIZE + BATCH_DIGEST_SIZE);
    ck_assert_uint_eq(header.record_count, 4);
    ck_assert_uint_eq(header.attributes, BATCH_SPARSE | BATCH_COMPACTED);
}
END_TEST

static char *long_text(size_t size, unsigned different)
{
    char *text = malloc(size + 1);

    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < size; i++) {
        text[i] = (char)('a' + i % different);
    }
    text[size] = 0;
    return text;
}

START_TEST(made_batches_are_compressed_as_asked_or_as_they_were)
{
    char *text = long_text(300, 20);

    append_text(text, 10, (enum codec)_i);
    append_text("a.", 10, CODEC_NONE);
    options.codec = CODEC_NONE;
    (void)compact_to(end_offset);
    ck_assert_uint_eq(decode(&out, 0).attributes, BATCH_SPARSE | BATCH_COMPACTED | (unsigned)_i);
    out.size = 0;
    options.codec = CODEC_LZ4;
    (void)compact_to(end_offset);
    ck_assert_uint_eq(decode(&out, 0).attributes, BATCH_SPARSE | BATCH_COMPACTED | CODEC_LZ4);
    free(text);
}
END_TEST

START_TEST(what_is_left_is_compressed_where_it_does_not_fit_otherwise)
{
    struct compactor_counts counts;
    struct compactor *compactor;
    struct err_info info = {0};
    char *text = long_text(3000, 1);
    uint64_t end;

    memset(text + 1, '.', 2999); /* Offsets and times of those without key take space. */
    append_text(text, 1700000000000000, CODEC_NONE);
    append_text("a", 1700000000000000, CODEC_NONE);
    options.batch_size_max = decode(&history, 0).size;
    counts = compact_to(end_offset);
    ck_assert_uint_eq(counts.superseded, 1);
    ck_assert_uint_eq(decode(&out, 0).attributes, BATCH_SPARSE | BATCH_COMPACTED | CODEC_ZSTD);
    /* A compressed one may be too small a measure for what is left, however it is compressed. */
    buf_fini(&history);
    buf_init(&history, 64 << 20);
    end_offset = 0;
    latest_clear(small);
    append_text(text, 1700000000000000, CODEC_ZSTD);
    append_text("a", 1700000000000000, CODEC_NONE);
    options.batch_size_max = decode(&history, 0).size;
    ck_assert_int_eq(compactor_note(small, end_offset, history.data, history.size, &end, NULL),
                     ERR_OK);
    ck_assert_int_eq(compactor_new(&options, 0, NULL, &compactor), ERR_OK);
    out.size = 0;
    ck_assert_int_eq(compactor_take(compactor, history.data, history.size, &out, &info) == ERR_OK
                         ? compactor_finish(compactor, &out, &info)
                         : ERR_TOO_LARGE,
                     ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(info.text, "the batch at offset 0"));
    compactor_free(compactor);
    free(text);
}
END_TEST

/* ---- what a record has beyond what is known ---- */

/* Replaces the history by one batch with this body. */
static void put_body(const uint8_t *body, size_t size, uint32_t count, uint16_t attributes)
{
    struct batch_header header = {.record_count = count,
                                  .base_offset = end_offset,
                                  .append_time_us = 10,
                                  .attributes = attributes,
                                  .size = (uint32_t)(BATCH_HEADER_SIZE + size),
                                  .body_crc32c = crc32c(body, size)};
    uint8_t encoded[BATCH_HEADER_SIZE];

    batch_header_encode(&header, encoded);
    ck_assert_int_eq(buf_append(&history, encoded, sizeof encoded), ERR_OK);
    ck_assert_int_eq(buf_append(&history, body, size), ERR_OK);
    end_offset += count;
}

START_TEST(fields_that_are_not_known_are_kept)
{
    /* value "v", an offset of the producer's, key "k", field 15, a time of the producer's */
    static const uint8_t body[] = {0x0a, 12, 0x0a, 1,    'v', 0x10, 9,
                                   0x2a, 1,  'k',  0x78, 42,  0x48, 3};
    static const uint8_t kept[] = {0x0a, 10, 0x0a, 1, 'v', 0x10, 1, 0x2a, 1, 'k', 0x78, 42};
    const size_t at = BATCH_HEADER_SIZE + BATCH_DIGEST_SIZE;
    uint8_t twice[2 * sizeof body];
    struct compactor *compactor;
    uint64_t end;

    memcpy(twice, body, sizeof body);
    memcpy(twice + sizeof body, body, sizeof body);
    put_body(twice, sizeof twice, 2, 0);
    options.clean_to = 2;
    ck_assert_int_eq(compactor_note(small, 2, history.data, history.size, &end, NULL), ERR_OK);
    ck_assert_int_eq(compactor_new(&options, 0, NULL, &compactor), ERR_OK);
    ck_assert_int_eq(compactor_take(compactor, history.data, history.size, &out, NULL), ERR_OK);
    ck_assert_int_eq(compactor_finish(compactor, &out, NULL), ERR_OK);
    ck_assert_uint_eq(out.size, at + sizeof kept);
    ck_assert_mem_eq(out.data + at, kept, sizeof kept);
    compactor_free(compactor);
}
END_TEST

/* ---- what is wrong ---- */

static enum err take(size_t at, size_t size, uint64_t offset, struct err_info *info)
{
    struct compactor *compactor;
    enum err err;

    ck_assert_int_eq(compactor_new(&options, offset, NULL, &compactor), ERR_OK);
    err = compactor_take(compactor, history.data + at, size, &out, info);
    compactor_free(compactor);
    return err;
}

START_TEST(batch_that_does_not_follow_is_corrupt)
{
    struct err_info info = {0};
    size_t first;

    append_text("ab", 10, CODEC_NONE);
    append_text("ab", 10, CODEC_NONE);
    first = decode(&history, 0).size;
    ck_assert_int_eq(take(0, history.size, 0, NULL), ERR_OK);
    ck_assert_int_eq(take(0, history.size, 1, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "offset 1 would be next"));
    ck_assert_int_eq(take(first, history.size - first, 0, NULL), ERR_CORRUPT);
    ck_assert_int_eq(take(0, history.size - 1, 0, NULL), ERR_CORRUPT);
    ck_assert_int_eq(take(0, first + BATCH_HEADER_SIZE - 1, 0, NULL), ERR_CORRUPT);
}
END_TEST

START_TEST(compacted_batch_after_another_digest_is_corrupt)
{
    uint8_t digest[BATCH_DIGEST_SIZE] = {1};
    struct err_info info = {0};
    struct compactor *compactor;

    put_body(digest, sizeof digest, 3, BATCH_SPARSE | BATCH_COMPACTED);
    ck_assert_int_eq(take(0, history.size, 0, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "follows on another"));
    ck_assert_int_eq(compactor_new(&options, 0, digest, &compactor), ERR_OK);
    ck_assert_int_eq(compactor_take(compactor, history.data, history.size, &out, NULL), ERR_OK);
    compactor_free(compactor);
}
END_TEST

START_TEST(body_that_is_none_is_corrupt_for_both)
{
    static const uint8_t junk[] = {0x0a, 1, 'v'};
    struct err_info info = {0};
    uint64_t end;

    put_body(junk, sizeof junk, 1, (uint16_t)_i);
    options.clean_to = 1;
    ck_assert_int_eq(take(0, history.size, 0, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "the batch at offset 0"));
    ck_assert_int_eq(compactor_note(small, 1, history.data, history.size, &end, NULL), ERR_CORRUPT);
    ck_assert_uint_eq(end, 0);
    ck_assert_int_eq(compactor_note(small, 1, history.data, 50, &end, NULL), ERR_CORRUPT);
}
END_TEST

START_TEST(batch_of_which_not_all_keys_fit_is_not_noted_at_all)
{
    uint64_t number = 0;
    uint64_t end;
    struct err_info info = {0};

    append_text("ab", 10, CODEC_NONE);
    append_text("acdefghijklmnopq", 10, CODEC_NONE);
    while (latest_has_room(small, 10)) {
        ck_assert_int_eq(latest_note(small, &number, sizeof number, 0), ERR_OK);
        number++;
    }
    ck_assert_int_eq(compactor_note(small, 18, history.data, history.size, &end, &info), ERR_LIMIT);
    ck_assert_uint_eq(end, 2);
    ck_assert_ptr_nonnull(strstr(info.text, "the batch at offset 2"));
    ck_assert_uint_eq(latest_end(small), 2);
    ck_assert(!latest_has_later(small, "key-1", 5, 0));
    ck_assert_uint_eq(latest_count(small), number + 2);
}
END_TEST

START_TEST(batch_with_more_records_than_room_fits_when_its_keys_do)
{
    char *text = long_text(100, 5);
    uint64_t number = 0;
    uint64_t end;

    append_text(text, 10, CODEC_NONE);
    while (latest_has_room(small, 6)) {
        ck_assert_int_eq(latest_note(small, &number, sizeof number, 0), ERR_OK);
        number++;
    }
    ck_assert_int_eq(compactor_note(small, 100, history.data, history.size, &end, NULL), ERR_OK);
    ck_assert_uint_eq(end, 100);
    ck_assert(latest_has_later(small, "key-1", 5, 94));
    ck_assert(!latest_has_later(small, "key-1", 5, 95));
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compactor");
    TCase *histories = tcase_create("histories");
    TCase *cases = tcase_create("cases");
    TCase *notes = tcase_create("note");
    TCase *wrong = tcase_create("wrong");

    tcase_add_checked_fixture(histories, setup, teardown);
    tcase_set_timeout(histories, 60);
    tcase_add_loop_test(histories, any_history_keeps_its_view_through_any_passes, 0, 40);
    tcase_add_loop_test(histories, more_keys_than_memory_take_several_passes, 0, 2);
    suite_add_tcase(suite, histories);
    tcase_add_checked_fixture(cases, setup_small, teardown_small);
    tcase_add_test(cases, later_record_above_clean_to_supersedes_nothing);
    tcase_add_test(cases, tombstones_go_only_below_their_bound);
    tcase_add_test(cases, records_without_key_stay);
    tcase_add_loop_test(cases, nothing_taken_from_a_big_or_lonely_batch_leaves_it_as_it_is, 0, 3);
    tcase_add_test(cases, all_records_gone_leave_an_empty_batch);
    tcase_add_loop_test(cases, made_batches_are_compressed_as_asked_or_as_they_were, 0, 3);
    tcase_add_test(cases, what_is_left_is_compressed_where_it_does_not_fit_otherwise);
    tcase_add_test(cases, fields_that_are_not_known_are_kept);
    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(notes, setup_small, teardown_small);
    tcase_add_test(notes, batch_that_ends_above_clean_to_is_neither_noted_nor_touched);
    tcase_add_test(notes, batch_of_which_not_all_keys_fit_is_not_noted_at_all);
    tcase_add_test(notes, batch_with_more_records_than_room_fits_when_its_keys_do);
    suite_add_tcase(suite, notes);
    tcase_add_checked_fixture(wrong, setup_small, teardown_small);
    tcase_add_test(wrong, batch_that_does_not_follow_is_corrupt);
    tcase_add_test(wrong, compacted_batch_after_another_digest_is_corrupt);
    tcase_add_loop_test(wrong, body_that_is_none_is_corrupt_for_both, 0, 2);
    suite_add_tcase(suite, wrong);
    return runner_main(suite);
}
