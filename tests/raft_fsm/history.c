#include "history.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

uint64_t history_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

unsigned history_below(uint64_t *state, unsigned limit)
{
    return (unsigned)(history_random(state) % limit);
}

struct slice history_batch(const struct produced *produced)
{
    struct batch_header header = {
        .size = BATCH_HEADER_SIZE + produced->body_size,
        .record_count = produced->record_count,
        .producer_id = produced->producer_id,
        .producer_epoch = produced->epoch,
        .base_sequence = produced->sequence,
    };
    struct block *block = block_new(header.size);
    uint8_t *body;
    uint64_t seed = produced->seed;

    ck_assert_ptr_nonnull(block);
    body = block->data + BATCH_HEADER_SIZE;
    for (uint32_t i = 0; i < produced->body_size; i++) {
        body[i] = (uint8_t)history_random(&seed);
    }
    header.body_crc32c = crc32c(body, produced->body_size);
    batch_header_encode(&header, block->data);
    bytes_put_u32(block->data + 4, 0); /* header_crc32c is stamped later */
    return (struct slice){.block = block, .data = block->data, .size = block->size};
}

/* ---- packing ---- */

void packer_begin(struct packer *self, int64_t time_us)
{
    *self = (struct packer){.time_us = time_us};
}

static struct command *add(struct packer *self, enum command_type type)
{
    struct command *command = &self->commands[self->count++];

    ck_assert_uint_le(self->count, sizeof self->commands / sizeof self->commands[0]);
    *command = (struct command){.type = type};
    return command;
}

void packer_produce(struct packer *self, uint64_t topic_id, const struct produced *produced)
{
    struct command *command = add(self, COMMAND_PRODUCE);

    command->produce.topic_id = topic_id;
    command->produce.batch = history_batch(produced);
    command->produce.has_expect = produced->has_expect;
    command->produce.expect_offset = produced->expect_offset;
    digest_bytes(command->produce.batch.data + BATCH_HEADER_SIZE,
                 command->produce.batch.size - BATCH_HEADER_SIZE, command->produce.body_digest);
}

static void set_name(struct command *command, const char *name)
{
    ck_assert_uint_le(strlen(name), TOPIC_NAME_SIZE_MAX);
    memcpy(command->topic_name, name, strlen(name) + 1);
}

void packer_create(struct packer *self, const char *name)
{
    set_name(add(self, COMMAND_TOPIC_CREATE), name);
}

void packer_create_with(struct packer *self, const char *name,
                        const struct topic_settings *settings)
{
    struct command *command = add(self, COMMAND_TOPIC_CREATE);
    struct topic_change *kept = &self->changes[self->count - 1];

    set_name(command, name);
    kept->to = *settings;
    command->settings = &kept->to;
}

void packer_alter(struct packer *self, const char *name, const struct topic_change *change)
{
    struct command *command = add(self, COMMAND_TOPIC_ALTER);
    struct topic_change *kept = &self->changes[self->count - 1];

    set_name(command, name);
    *kept = *change;
    command->change = kept;
}

void packer_delete(struct packer *self, const char *name)
{
    set_name(add(self, COMMAND_TOPIC_DELETE), name);
}

void packer_init_producer(struct packer *self)
{
    (void)add(self, COMMAND_INIT_PRODUCER); /* It has no body. */
}

static void add_cursor(struct packer *self, enum command_type type,
                       const struct cursor_change *change)
{
    struct command *command = add(self, type);
    struct cursor_change *kept = &self->cursors[self->count - 1];

    *kept = *change;
    command->cursor = kept;
}

void packer_set_cursor(struct packer *self, const struct cursor_change *change)
{
    add_cursor(self, COMMAND_CURSOR_SET, change);
}

void packer_delete_cursor(struct packer *self, const struct cursor_change *change)
{
    add_cursor(self, COMMAND_CURSOR_DELETE, change);
}

void packer_raise(struct packer *self, const struct producer_claim *claim)
{
    add(self, COMMAND_RAISE_EPOCH)->claim = *claim;
}

void packer_trim(struct packer *self, const struct topic_trim *trim)
{
    add(self, COMMAND_TOPIC_TRIM)->trim = *trim;
}

void packer_age(struct packer *self, uint64_t elapsed_us)
{
    add(self, COMMAND_AGE)->elapsed_us = elapsed_us;
}

void packer_compact(struct packer *self, const struct topic_compact *compact)
{
    add(self, COMMAND_COMPACT)->compact = *compact;
}

struct entry packer_entry(struct packer *self, uint64_t index, uint64_t term)
{
    size_t size = COMMAND_PAYLOAD_HEADER_SIZE;
    struct block *block;
    struct entry entry;
    uint8_t *to;

    for (unsigned i = 0; i < self->count; i++) {
        size += command_encoded_size(&self->commands[i]);
    }
    block = entry_block_new((uint32_t)size);
    ck_assert_ptr_nonnull(block);
    to = block->data + ENTRY_HEADER_SIZE;
    to += command_encode_header(self->time_us, to);
    for (unsigned i = 0; i < self->count; i++) {
        to += command_encode(&self->commands[i], to);
        command_fini(&self->commands[i]);
    }
    ck_assert_uint_eq((size_t)(to - block->data), ENTRY_HEADER_SIZE + size);
    self->count = 0;
    entry_seal(block, (uint32_t)size, index, term, ENTRY_COMMAND, &entry);
    return entry;
}

/* ---- histories ---- */

enum { NAMES = 5, PRODUCERS = 6 };

/* What the history knows of the state; it need not be right. */
struct guess {
    uint64_t topic_ids[NAMES];
    unsigned producers;
    uint16_t epochs[PRODUCERS + 1];
    struct produced last[PRODUCERS + 1][NAMES];
    int64_t time_us;
};

static void pack_produce(struct packer *packer, struct guess *guess, uint64_t *random)
{
    unsigned topic = history_below(random, NAMES);
    unsigned producer = history_below(random, guess->producers + 1);
    struct produced *last = &guess->last[producer][topic];
    struct produced next = {.producer_id = producer,
                            .epoch = guess->epochs[producer],
                            .sequence = last->sequence + last->record_count,
                            .record_count = 1 + history_below(random, 4),
                            .body_size = 1 + history_below(random, 400),
                            .seed = history_random(random)};

    if (producer == 0) {
        next.sequence = 0;
        packer_produce(packer, guess->topic_ids[topic], &next);
        return;
    }
    switch (history_below(random, 14)) {
    case 12: /* right now and then */
        next.has_expect = true;
        next.expect_offset = history_below(random, 3);
        packer_produce(packer, guess->topic_ids[topic], &next);
        return;
    case 13:
        packer_raise(packer, &(struct producer_claim){.id = producer,
                                                      .topic_id = guess->topic_ids[topic],
                                                      .epoch = guess->epochs[producer],
                                                      .has_epoch = true});
        if (history_below(random, 4) > 0) {
            guess->epochs[producer]++;
        } /* Else: it will be fenced. */
        return;
    case 0:
        if (last->record_count > 0) {
            packer_produce(packer, guess->topic_ids[topic], last); /* a retry */
            return;
        }
        break;
    case 1:
        next.sequence += 1 + history_below(random, 9);
        packer_produce(packer, guess->topic_ids[topic], &next); /* a gap */
        return;
    case 2:
        next.sequence = last->sequence;
        packer_produce(packer, guess->topic_ids[topic], &next); /* reused */
        return;
    default:
        break;
    }
    packer_produce(packer, guess->topic_ids[topic], &next);
    *last = next;
}

/* Of any topic; one in three expects something. */
static void pack_cursor(struct packer *packer, const char *topic, uint64_t index, uint64_t *random)
{
    struct cursor_change change = {.offset = history_below(random, 40),
                                   .owner = history_random(random)};
    unsigned size = history_below(random, CURSOR_METADATA_SIZE_MAX);

    memcpy(change.topic, topic, strlen(topic));
    memcpy(change.name, "cursor-0", sizeof "cursor-0");
    change.name[7] = (char)('0' + history_below(random, 3));
    memset(change.metadata, 'm', size);
    switch (history_below(random, 6)) {
    case 0:
        change.expect = CURSOR_EXPECT_OFFSET;
        change.expected = history_below(random, 40);
        break;
    case 1:
        change.expect = CURSOR_EXPECT_REVISION;
        change.expected =
            history_below(random, 2) == 0 ? 0 : index * COMMAND_COUNT_MAX - COMMAND_COUNT_MAX;
        break;
    default:
        break;
    }
    if (history_below(random, 5) > 0) {
        packer_set_cursor(packer, &change);
        return;
    }
    change.offset = 0;
    change.owner = 0;
    change.metadata[0] = '\0';
    packer_delete_cursor(packer, &change);
}

/* One in four is refused. */
static void pack_alter(struct packer *packer, const char *name, uint64_t *random)
{
    struct topic_change change = {.which = 1 + history_below(random, TOPIC_SETTINGS_KNOWN),
                                  .to = {.retention_ms = history_below(random, 9),
                                         .retention_bytes = history_below(random, 9),
                                         .retention_records = history_below(random, 9),
                                         .compact = history_below(random, 2) == 0,
                                         .tombstone_ms = history_below(random, 9),
                                         .compression = history_below(random, 3),
                                         .indexes = history_below(random, TOPIC_INDEXES_KNOWN + 1),
                                         .segment_bytes = 4096 + history_below(random, 9000),
                                         .segment_ms = 1000 * history_below(random, 5),
                                         .flush_ms = 10 * history_below(random, 5)}};

    if (history_below(random, 4) == 0) {
        change.to.segment_bytes = 17;
    }
    if (change.to.compact) { /* It goes without bounds only. */
        change.which |= TOPIC_SETTING_COMPACT | TOPIC_SETTING_RETENTION_MS |
                        TOPIC_SETTING_RETENTION_BYTES | TOPIC_SETTING_RETENTION_RECORDS;
        change.to.retention_ms = change.to.retention_bytes = 0;
        change.to.retention_records = history_below(random, 4) == 0;
    }
    if (history_below(random, 2) == 0) {
        change.which |= TOPIC_SETTING_INDEXES;
        change.on_count = 1;
        change.on_nodes[0] = 1 + history_below(random, 3);
    }
    packer_alter(packer, name, &change);
}

static struct entry random_entry(struct history *self, struct guess *guess, uint64_t index)
{
    unsigned count = 1 + history_below(&self->random, 8);
    struct packer packer;

    guess->time_us += (int64_t)history_below(&self->random, 2000) - 500;
    packer_begin(&packer, guess->time_us);
    for (unsigned i = 0; i < count; i++) {
        unsigned topic = history_below(&self->random, NAMES);
        char name[] = "topic-0";

        name[6] = (char)('0' + topic);
        switch (history_below(&self->random, 28)) {
        case 0:
        case 1:
            packer_create(&packer, name);
            if (guess->topic_ids[topic] == 0) {
                guess->topic_ids[topic] = index * COMMAND_COUNT_MAX + packer.count - 1;
            }
            break;
        case 2:
            if (history_below(&self->random, 3) == 0) {
                packer_delete(&packer, name);
                guess->topic_ids[topic] = 0;
                for (unsigned p = 0; p <= PRODUCERS; p++) {
                    guess->last[p][topic] = (struct produced){0};
                }
            }
            break;
        case 3:
            if (guess->producers < PRODUCERS) {
                packer_init_producer(&packer);
                guess->producers++;
            }
            break;
        case 4:
        case 5:
        case 6:
            pack_cursor(&packer, name, index, &self->random);
            break;
        case 7:
            pack_alter(&packer, name, &self->random);
            break;
        default:
            pack_produce(&packer, guess, &self->random);
            break;
        }
    }
    return packer_entry(&packer, index, 1 + index / 40);
}

void history_init(struct history *self, uint64_t seed, size_t count)
{
    struct guess guess = {.time_us = 1000000};

    *self = (struct history){.random = seed, .count = count};
    self->entries = calloc(count, sizeof *self->entries);
    ck_assert_ptr_nonnull(self->entries);
    for (size_t i = 0; i < count; i++) {
        if (history_below(&self->random, 20) == 0) {
            struct block *block = entry_block_new(0);

            ck_assert_ptr_nonnull(block);
            entry_seal(block, 0, i + 1, 1 + (i + 1) / 40, ENTRY_BARRIER, &self->entries[i]);
        } else {
            self->entries[i] = random_entry(self, &guess, i + 1);
        }
    }
}

struct topic_trim history_trim(const struct topic *topic, uint64_t start)
{
    struct topic_trim trim = {.topic_id = topic->id, .start = start, .batch_start = start};
    struct batch_header header;

    if (start >= topic_start(topic) && start < topic->end) {
        ck_assert_int_eq(log_read_header(topic->log, start, &header, NULL), ERR_OK);
        trim.batch_start = header.base_offset;
    }
    if (trim.batch_start > topic->start && trim.batch_start <= topic->end) {
        ck_assert_int_eq(log_read_header(topic->log, trim.batch_start - 1, &header, NULL), ERR_OK);
        memcpy(trim.digest, header.digest, DIGEST_SIZE);
    }
    return trim;
}

/* Lower than before, higher, beyond the end; it may be no compacted topic. */
static void pack_compact(struct history *self, const struct topic *topic, struct packer *packer)
{
    struct topic_compact compact = {.topic_id = topic->id};

    compact.clean_to = history_below(&self->random, (unsigned)topic->end + 2);
    compact.tombstones_below = history_below(&self->random, (unsigned)compact.clean_to + 1);
    packer_compact(packer, &compact);
}

/* Trims some topics: below their start, inside, to their end, beyond it; compacts some. */
static void pack_trims(struct history *self, struct fsm *leader, struct packer *packer)
{
    struct topic **topics;
    size_t count;

    ck_assert_int_eq(catalog_list(fsm_catalog(leader), &topics, &count), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        unsigned held = (unsigned)(topics[i]->end - topics[i]->log_start);
        uint64_t start = topics[i]->log_start + history_below(&self->random, held / 2 + 2);
        struct topic_trim trim;

        switch (history_below(&self->random, 8)) {
        case 0:
            start = start > 5 ? start - 5 : 0;
            break;
        case 1:
            start = topics[i]->end;
            break;
        default:
            break;
        }
        trim = history_trim(topics[i], start);
        if (history_below(&self->random, 3) > 0) {
            packer_trim(packer, &trim);
        }
        if (history_below(&self->random, 2) == 0) {
            pack_compact(self, topics[i], packer);
        }
        topic_unref(topics[i]);
    }
    free(topics);
    if (history_below(&self->random, 2) == 0) {
        packer_age(packer, history_below(&self->random, 20) * UINT64_C(200000000));
    }
}

void history_init_trimmed(struct history *self, uint64_t seed, size_t count, struct io *io,
                          const char *dir)
{
    const struct fsm_options options = {
        .io = io, .dir = dir, .segment_size_max = 4096, .index_interval = 256};
    struct guess guess = {.time_us = 1000000};
    struct fsm *leader;

    ck_assert_int_eq(fsm_open(&options, NULL, &leader, NULL), ERR_OK);
    *self = (struct history){.random = seed};
    self->entries = calloc(count, sizeof *self->entries);
    ck_assert_ptr_nonnull(self->entries);
    while (self->count < count) {
        uint64_t index = self->count + 1;
        struct packer packer;

        if (history_below(&self->random, 6) == 0) {
            packer_begin(&packer, guess.time_us);
            pack_trims(self, leader, &packer);
            self->entries[self->count++] = packer_entry(&packer, index, 1 + index / 40);
        } else {
            self->entries[self->count++] = random_entry(self, &guess, index);
        }
        history_apply(self, leader, self->count);
    }
    fsm_close(leader);
}

void history_fini(struct history *self)
{
    for (size_t i = 0; i < self->count; i++) {
        entry_unref(&self->entries[i]);
    }
    free(self->entries);
}

void history_apply(const struct history *self, struct fsm *fsm, uint64_t to)
{
    struct err_info info = {0};

    ck_assert_uint_le(to, self->count);
    while (fsm_applied_index(fsm) < to) {
        enum err err = fsm_apply(fsm, &self->entries[fsm_applied_index(fsm)], NULL, NULL, &info);

        ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    }
    fsm_check(fsm);
}

struct slice history_manifest_bytes(const struct fsm *fsm)
{
    struct manifest manifest;
    struct slice bytes;

    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    ck_assert_int_eq(manifest_encode(&manifest, &bytes), ERR_OK);
    manifest_fini(&manifest);
    /* Whoever gets it must be able to read it. */
    ck_assert_int_eq(manifest_decode(bytes.data, bytes.size, &manifest, NULL), ERR_OK);
    manifest_fini(&manifest);
    return bytes;
}

/* All bytes of the log's batches below end; the caller frees them. */
static uint8_t *read_all(struct log *log, uint64_t end, size_t *ret_size)
{
    uint64_t offset = log_start(log);
    uint8_t *all = NULL;
    size_t size = 0;

    while (offset < end) {
        struct block *block;
        struct err_info info;
        enum err err = log_read(log, offset, end, 1 << 20, &block, &offset, &info);

        ck_assert_msg(err == ERR_OK, "%s", info.text);
        all = realloc(all, size + block->size);
        ck_assert_ptr_nonnull(all);
        memcpy(all + size, block->data, block->size);
        size += block->size;
        block_unref(block);
    }
    *ret_size = size;
    return all;
}

void history_assert_equal(struct fsm *a, struct fsm *b)
{
    struct slice left = history_manifest_bytes(a);
    struct slice right = history_manifest_bytes(b);
    struct topic **topics;
    size_t count;

    ck_assert_uint_eq(left.size, right.size);
    ck_assert_mem_eq(left.data, right.data, left.size);
    block_unref(left.block);
    block_unref(right.block);
    ck_assert_int_eq(catalog_list(fsm_catalog(a), &topics, &count), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        struct topic *other = catalog_find_id(fsm_catalog(b), topics[i]->id);
        size_t size;
        size_t other_size;
        uint8_t *bytes = read_all(topics[i]->log, topics[i]->end, &size);
        uint8_t *other_bytes;

        ck_assert_ptr_nonnull(other);
        other_bytes = read_all(other->log, other->end, &other_size);
        ck_assert_uint_eq(size, other_size);
        if (size > 0) {
            ck_assert_mem_eq(bytes, other_bytes, size);
        }
        free(bytes);
        free(other_bytes);
        topic_unref(other);
        topic_unref(topics[i]);
    }
    free(topics);
}

/* The next chunk of a hole. */
static enum err fill_chunk(struct fsm *to, struct fsm_hole *hole, struct fsm *from)
{
    struct topic *topic = fsm_find_promised(from, hole->topic->id);
    struct err_info info = {.text = ""};
    struct fsm_chunk chunk = {0};
    struct block *block;
    uint64_t end;
    bool met;
    enum err err;

    ck_assert_ptr_nonnull(topic);
    err = log_read(topic->log, hole->chain.offset, hole->to, 1500, &block, &end, &info);
    ck_assert_msg(err == ERR_OK, "%s", info.text);
    topic_unref(topic);
    chunk.batches = (struct slice){.block = block, .data = block->data, .size = block->size};
    err = fsm_hole_fit(hole, &chunk, &info);
    ck_assert_msg(err == ERR_OK, "%s", info.text);
    if (chunk.fit == FSM_FIT_PASSES) {
        err = fsm_punch(to, hole->topic, hole->to, chunk.after.offset, &info);
    } else if (chunk.fit == FSM_FIT_BEGINS_LOW) {
        err = fsm_punch(to, hole->topic, hole->chain.offset - 1, hole->chain.offset, &info);
    } else {
        met = chunk.after.offset == hole->to;
        err = met ? fsm_hole_meets(hole, &chunk.after, &info) : ERR_OK;
        err = err == ERR_OK ? fsm_fill(to, hole, &chunk.batches, &chunk.after, met, &info) : err;
    }
    block_unref(chunk.batches.block);
    return err;
}

bool history_fill(struct fsm *to, struct fsm *from, unsigned chunks, enum err *ret_err)
{
    struct fsm_hole hole;
    enum err err = ERR_OK;

    while (err == ERR_OK && fsm_next_hole(to, &hole) == ERR_OK) {
        if (chunks == 0) {
            fsm_hole_fini(&hole);
            return false;
        }
        chunks--;
        err = fill_chunk(to, &hole, from);
        fsm_hole_fini(&hole);
    }
    if (ret_err != NULL) {
        *ret_err = err;
    } else {
        ck_assert_int_eq(err, ERR_OK);
    }
    return err == ERR_OK;
}
