#include "keyed.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft_fsm/compact_step.h"
#include "raft_fsm/digest.h"
#include "record/batch_records.h"

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
    struct compact_step step;
    unsigned rewritten;
};

static enum err note(struct pass *self, uint64_t from)
{
    enum err err = ERR_OK;

    self->step.offset = from;
    self->step.to = self->step.options.clean_to;
    while (err == ERR_OK && self->step.offset < self->step.to) {
        err = compact_note(&self->step, NULL);
        ck_assert(!self->step.full);
    }
    self->step.options.clean_to = self->step.offset;
    return err;
}

/* Looks at the group, or writes it. */
static enum err go_through(struct pass *self, uint64_t from, struct log_rewrite *rewrite)
{
    struct compact_step *step = &self->step;
    bool changes = false;
    enum err err = ERR_OK;

    step->offset = from;
    step->rewrite = rewrite;
    while (err == ERR_OK && step->offset < step->to) {
        err = rewrite == NULL ? compact_look(step, NULL) : compact_write(step, NULL);
        changes = changes || step->changes;
    }
    step->changes = changes;
    compactor_free(step->compactor);
    step->compactor = NULL;
    return err;
}

static enum err clean_group(struct pass *self, const struct fsm_group *group)
{
    uint64_t start = log_start(self->topic->log);
    struct log_rewrite *rewrite;
    enum err err;

    self->step.first = COMPACT_FIRST_UNKNOWN;
    self->step.changes = false;
    self->step.to = group->to;
    err = go_through(self, group->from < start ? start : group->from, NULL);
    if (err != ERR_OK || (group->segments == 1 && !self->step.changes)) {
        return err;
    }
    err = fsm_rewrite_begin(self->fsm, self->topic, group, &rewrite, NULL);
    if (err != ERR_OK) {
        return err;
    }
    err = go_through(self, group->from, rewrite);
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
    pass.step = (struct compact_step){
        .log = topic->log,
        .latest = pass.latest,
        .options = {.latest = pass.latest,
                    .clean_to =
                        due.records ? topic->clean.clean_to : atomic_load(&topic->cleaned_to),
                    .tombstones_below = due.tombstones_below,
                    .batch_size = 1024},
        .start = topic->start,
        .chunk_size = 2000,
    };
    memcpy(pass.step.start_digest, topic->start_digest, DIGEST_SIZE);
    err = due.records ? note(&pass, due.from) : ERR_OK;
    while (err == ERR_OK &&
           (err = fsm_next_group(fsm, topic, at, pass.step.options.clean_to, &group)) == ERR_OK) {
        err = clean_group(&pass, &group);
        at = group.to;
    }
    latest_free(pass.latest);
    if (err == ERR_NOT_FOUND || err == ERR_AGAIN) {
        err = sync_pass(&pass);
        at = at < pass.step.options.clean_to ? at : pass.step.options.clean_to;
        if (err == ERR_OK) {
            fsm_set_cleaned(topic, at, due.tombstones_below < at ? due.tombstones_below : at);
        }
    }
    *ret_rewritten = pass.rewritten;
    return err;
}
