#include "keyed.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft_fsm/digest.h"
#include "record/batch_records.h"
#include "record/compactor.h"

struct slice keyed_batch(struct keyed_topic *topic, const struct keyed *records, unsigned count,
                         size_t size)
{
    struct batch_header header = {.record_count = count};
    struct block *block;
    struct buf body;

    buf_init(&body, 1 << 20);
    for (unsigned i = 0; i < count; i++) {
        char key[16];
        char value[4096];
        struct record record = {.value = value};

        ck_assert_uint_lt(topic->count, KEYED_MAX);
        ck_assert_uint_lt(size, sizeof value - 32);
        topic->records[topic->count++] = records[i];
        if (records[i].key != KEYED_NO_KEY) {
            record.key = key;
            record.key_size = (size_t)snprintf(key, sizeof key, "k%u", records[i].key);
        }
        if (records[i].value != 0) {
            record.value_size =
                (size_t)snprintf(value, sizeof value, "%llu:%0*u",
                                 (unsigned long long)records[i].value, (int)size, 7);
        }
        ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    }
    header.size = (uint32_t)(BATCH_HEADER_SIZE + body.size);
    header.body_crc32c = crc32c(body.data, body.size);
    block = block_new(header.size);
    ck_assert_ptr_nonnull(block);
    batch_header_encode(&header, block->data);
    bytes_put_u32(block->data + 4, 0); /* header_crc32c is stamped later */
    memcpy(block->data + BATCH_HEADER_SIZE, body.data, body.size);
    buf_fini(&body);
    return (struct slice){.block = block, .data = block->data, .size = block->size};
}

/* ---- reading ---- */

struct reading {
    const struct keyed_topic *topic;
    uint64_t start;
    struct keyed_bounds bounds;
    bool *there; /* by offset */
    uint64_t next;
    bool known;
    uint8_t digest[DIGEST_SIZE];
    struct keyed_seen seen;
};

/* The number that the bytes begin with, behind `prefix`. */
static uint64_t number(const void *bytes, size_t size, const char *prefix)
{
    size_t skipped = strlen(prefix);
    char text[24] = "";

    ck_assert_uint_gt(size, skipped);
    ck_assert_mem_eq(bytes, prefix, skipped);
    size = size - skipped < sizeof text - 1 ? size - skipped : sizeof text - 1;
    memcpy(text, (const char *)bytes + skipped, size);
    return strtoull(text, NULL, 10);
}

static void read_record(struct reading *self, const struct record *record)
{
    const struct keyed *written = &self->topic->records[record->offset];
    unsigned key = KEYED_NO_KEY;
    uint64_t value = 0;

    ck_assert_uint_lt(record->offset, self->topic->count);
    if (record->key != NULL) {
        key = (unsigned)number(record->key, record->key_size, "k");
    }
    if (record->value_size > 0) {
        value = number(record->value, record->value_size, "");
    }
    ck_assert_msg(key == written->key && value == written->value,
                  "offset %llu: k%u=%llu was written, k%u=%llu is there",
                  (unsigned long long)record->offset, written->key,
                  (unsigned long long)written->value, key, (unsigned long long)value);
    self->there[record->offset] = true;
    self->seen.records++;
}

static void follow(struct reading *self, const struct batch_header *header, const uint8_t *body)
{
    uint8_t digest[DIGEST_SIZE];

    if ((header->attributes & BATCH_COMPACTED) != 0) {
        self->seen.compacted++;
        ck_assert(!self->known || memcmp(self->digest, body, DIGEST_SIZE) == 0);
    } else if (self->known) {
        digest_bytes(body, header->size - BATCH_HEADER_SIZE, digest);
        digest_chain(self->digest, header, digest, digest);
        ck_assert_mem_eq(digest, header->digest, DIGEST_SIZE);
    }
    ck_assert(!self->known || header->base_offset == self->next);
    memcpy(self->digest, header->digest, DIGEST_SIZE);
    self->known = true;
    self->next = batch_end_offset(header);
    self->seen.batches++;
}

static void read_block(struct reading *self, const struct block *block)
{
    struct batch_records walk;

    batch_records_init(&walk);
    for (size_t at = 0; at < block->size;) {
        const uint8_t *body = block->data + at + BATCH_HEADER_SIZE;
        struct batch_header header;
        struct record record;
        enum err err;

        ck_assert_int_eq(batch_header_decode(block->data + at, UINT32_MAX, &header, NULL), ERR_OK);
        follow(self, &header, body);
        ck_assert_int_eq(batch_records_start(&walk, &header, body, 0, NULL), ERR_OK);
        while ((err = batch_records_next(&walk, &record)) == ERR_OK) {
            read_record(self, &record);
        }
        ck_assert_int_eq(err, ERR_AGAIN);
        at += header.size;
    }
    batch_records_fini(&walk);
}

static void read_log(struct reading *self, struct log *log)
{
    struct err_info info = {.text = ""};
    uint64_t at = log_start(log);

    while (at < log_end(log)) {
        struct block *block;
        enum err err = log_read(log, at, UINT64_MAX, 64 * 1024, &block, &at, &info);

        ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
        read_block(self, block);
        block_unref(block);
    }
    ck_assert_uint_eq(at, log_end(log));
}

/* ---- judging ---- */

/* What may have gone, and what must be there. From the end to the beginning: the later ones are
 * known. */
static void judge(struct reading *self, uint64_t end)
{
    const struct keyed_bounds *bounds = &self->bounds;
    bool *later = calloc(2 * (KEYED_NO_KEY + 1), sizeof *later);
    bool *later_gone = later + KEYED_NO_KEY + 1;

    ck_assert_ptr_nonnull(later);
    for (uint64_t at = end; at > self->start; at--) {
        const struct keyed *written = &self->topic->records[at - 1];
        bool keyed = written->key != KEYED_NO_KEY;
        bool there = self->there[at - 1];
        bool may_go =
            keyed && at <= bounds->clean_to &&
            (later[written->key] || (written->value == 0 && at <= bounds->tombstones_below));

        ck_assert_msg(there || may_go, "offset %llu, k%u=%llu, is missing",
                      (unsigned long long)at - 1, written->key, (unsigned long long)written->value);
        if (keyed && at <= bounds->cleaned_to) {
            self->seen.superseded += there && later_gone[written->key];
            later_gone[written->key] = true;
        }
        self->seen.tombstones +=
            keyed && there && written->value == 0 && at <= bounds->tombstones_gone;
        later[written->key] = later[written->key] || (keyed && at <= bounds->clean_to);
    }
    free(later);
}

struct keyed_seen keyed_check(const struct keyed_topic *topic, struct log *log,
                              const struct keyed_bounds *bounds, const uint8_t *digest)
{
    struct reading reading = {.topic = topic,
                              .start = log_start(log),
                              .bounds = *bounds,
                              .known = log_start(log) == 0,
                              .there = calloc(KEYED_MAX, sizeof *reading.there)};

    ck_assert_ptr_nonnull(reading.there);
    ck_assert_uint_le(log_end(log), topic->count);
    read_log(&reading, log);
    judge(&reading, log_end(log));
    if (digest != NULL && reading.known) {
        ck_assert_mem_eq(reading.digest, digest, DIGEST_SIZE);
    }
    free(reading.there);
    return reading.seen;
}

/* ---- a pass ---- */

struct pass {
    struct fsm *fsm;
    struct topic *topic;
    struct latest *latest;
    struct compactor_options options;
    unsigned rewritten;
};

static enum err note(struct pass *self, uint64_t from)
{
    uint64_t to = self->options.clean_to;
    enum err err = ERR_OK;

    while (err == ERR_OK && from < to) {
        struct block *block;
        uint64_t noted = from;
        uint64_t end;

        err = log_read(self->topic->log, from, to, 2000, &block, &end, NULL);
        if (err == ERR_OK) {
            err = compactor_note(self->latest, to, block->data, block->size, &noted, NULL);
            block_unref(block);
            to = noted < end ? noted : to;
            from = noted;
        }
    }
    self->options.clean_to = to;
    return err;
}

/* The compactor for what begins with the block's first batch. */
static enum err make_compactor(const struct pass *self, const struct block *block,
                               struct compactor **ret_compactor)
{
    struct batch_header first;
    struct batch_header below = {.digest = {0}};
    enum err err = batch_header_decode(block->data, UINT32_MAX, &first, NULL);

    if (err == ERR_OK && first.base_offset == self->topic->start) {
        memcpy(below.digest, self->topic->start_digest, DIGEST_SIZE);
    } else if (err == ERR_OK && first.base_offset > log_start(self->topic->log)) {
        err = log_read_header(self->topic->log, first.base_offset - 1, &below, NULL);
    } else if (err == ERR_OK) {
        ck_assert((first.attributes & BATCH_COMPACTED) != 0);
        memcpy(below.digest, block->data + BATCH_HEADER_SIZE, DIGEST_SIZE);
    }
    return err == ERR_OK
               ? compactor_new(&self->options, first.base_offset, below.digest, ret_compactor)
               : err;
}

/* What becomes of the group: written into `rewrite`, or only counted when that is NULL. */
static enum err put_group(const struct pass *self, const struct fsm_group *group,
                          struct log_rewrite *rewrite, struct compactor_counts *ret_counts)
{
    struct log *log = self->topic->log;
    uint64_t at = group->from < log_start(log) ? log_start(log) : group->from;
    struct compactor *compactor = NULL;
    enum err err = ERR_OK;

    while (err == ERR_OK && at < group->to) {
        struct block *block;
        struct buf out;

        err = log_read(log, at, group->to, 2000, &block, &at, NULL);
        if (err != ERR_OK) {
            break;
        }
        buf_init(&out, 1 << 20);
        err = compactor == NULL ? make_compactor(self, block, &compactor) : ERR_OK;
        err = err != ERR_OK ? err : compactor_take(compactor, block->data, block->size, &out, NULL);
        if (err == ERR_OK && at == group->to) {
            err = compactor_finish(compactor, &out, NULL);
        }
        if (err == ERR_OK && rewrite != NULL) {
            err = log_rewrite_put(rewrite, out.data, out.size, NULL);
        }
        buf_fini(&out);
        block_unref(block);
    }
    if (err == ERR_OK) {
        compactor_counts(compactor, ret_counts);
    }
    compactor_free(compactor);
    return err;
}

static enum err clean_group(struct pass *self, const struct fsm_group *group)
{
    struct compactor_counts counts = {0};
    struct log_rewrite *rewrite;
    enum err err = put_group(self, group, NULL, &counts);

    if (err != ERR_OK || (group->segments == 1 && counts.superseded + counts.tombstones == 0)) {
        return err;
    }
    err = fsm_rewrite_begin(self->fsm, self->topic, group, &rewrite, NULL);
    if (err != ERR_OK) {
        return err;
    }
    err = put_group(self, group, rewrite, &counts);
    err = err == ERR_OK ? log_rewrite_run(rewrite, NULL) : err;
    if (err != ERR_OK) {
        log_rewrite_cancel(self->topic->log, rewrite);
        return err;
    }
    err = fsm_rewrite_end(self->fsm, self->topic, rewrite, NULL);
    self->rewritten += err == ERR_OK ? group->segments : 0;
    return err;
}

static enum err sync_pass(struct pass *self)
{
    struct fsm_sync *sync;
    enum err err = fsm_clean_sync_begin(self->fsm, self->topic, &sync, NULL);

    if (err == ERR_OK && sync != NULL) {
        (void)fsm_sync_run(sync, NULL); /* end says the same, and more */
        err = fsm_sync_end(self->fsm, sync);
    }
    return err;
}

enum err keyed_clean(struct fsm *fsm, struct topic *topic, unsigned *ret_rewritten)
{
    struct pass pass = {.fsm = fsm, .topic = topic};
    uint64_t at = log_start(topic->log);
    struct fsm_cleaning due;
    struct fsm_group group;
    enum err err;

    fsm_cleaning_due(fsm, topic, &due);
    err = latest_new(LATEST_MEMORY_MIN, &pass.latest);
    if (err != ERR_OK) {
        return err;
    }
    pass.options = (struct compactor_options){
        .latest = pass.latest,
        .clean_to = due.records ? topic->clean.clean_to : atomic_load(&topic->cleaned_to),
        .tombstones_below = due.tombstones_below,
        .batch_size = 1024};
    err = due.records ? note(&pass, due.from) : ERR_OK;
    while (err == ERR_OK &&
           (err = fsm_next_group(fsm, topic, at, pass.options.clean_to, &group)) == ERR_OK) {
        err = clean_group(&pass, &group);
        at = group.to;
    }
    latest_free(pass.latest);
    if (err == ERR_NOT_FOUND || err == ERR_AGAIN) {
        err = sync_pass(&pass);
        at = at < pass.options.clean_to ? at : pass.options.clean_to;
        if (err == ERR_OK) {
            fsm_set_cleaned(topic, at, due.tombstones_below < at ? due.tombstones_below : at);
        }
    }
    *ret_rewritten = pass.rewritten;
    return err;
}
