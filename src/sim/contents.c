/*
 * What is in a batch that a simulated client sends. Most topics' bodies are a number of their own
 * and bytes that follow from it. Of a topic that may be compacted they are RecordSets, since nodes
 * look into them: each record carries its number in the history as its timestamp, from which the
 * rest of it follows.
 */
#include <stdio.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "record/record_set.h"
#include "sim/oracle_internal.h"

static uint8_t body_byte(uint64_t number, uint32_t at)
{
    return (uint8_t)(number * 31 + at * 7);
}

/* ---- records with keys ---- */

/* A record of a content, as it is produced: its parts, which live in *ret_parts. */
struct parts {
    char key[16];
    uint8_t value[SIM_VALUE_SIZE_MAX];
};

static void make_record(const struct sim_content *content, uint32_t at, struct parts *ret_parts,
                        struct record *ret_record)
{
    uint64_t number = content->value + at;

    ASSERT(at < content->record_count && content->value_size <= SIM_VALUE_SIZE_MAX);
    (void)snprintf(ret_parts->key, sizeof ret_parts->key, "k%u", content->keys[at]); /* fits */
    for (uint32_t i = 0; i < content->value_size; i++) {
        ret_parts->value[i] = body_byte(number, i);
    }
    *ret_record = (struct record){
        .key = ret_parts->key,
        .key_size = strlen(ret_parts->key),
        .value = content->tombstones[at] ? NULL : ret_parts->value,
        .value_size = content->tombstones[at] ? 0 : content->value_size,
        .timestamp_us = (int64_t)number,
    };
}

static void append_keyed(const struct sim_content *content, struct buf *to)
{
    for (uint32_t i = 0; i < content->record_count; i++) {
        struct parts parts;
        struct record record;

        make_record(content, i, &parts, &record);
        if (record_set_append(to, &record) != ERR_OK) {
            ASSERT(false);
        }
    }
}

/* Whose record has this number. */
static const struct sim_content *find_value(const struct sim_oracle *self, uint64_t value)
{
    size_t low = 0;
    size_t high = self->content_count;

    if (value == 0 || high == 0) {
        return NULL;
    }
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (self->contents[middle]->value <= value) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return value < self->contents[low]->value + self->contents[low]->record_count
               ? self->contents[low]
               : NULL;
}

uint64_t sim_oracle_value(const struct sim_oracle *self, const struct record *record)
{
    uint64_t value = (uint64_t)record->timestamp_us;
    const struct sim_content *content = find_value(self, value);
    struct record made;
    struct parts parts;

    if (content == NULL || !content->keyed) {
        return 0;
    }
    make_record(content, (uint32_t)(value - content->value), &parts, &made);
    if (record->key == NULL || record->key_size != made.key_size ||
        memcmp(record->key, made.key, made.key_size) != 0 ||
        record->value_size != made.value_size || record->header_count != 0 ||
        (made.value_size > 0 && memcmp(record->value, made.value, made.value_size) != 0)) {
        return 0;
    }
    return value;
}

/* Of a batch as it was produced. */
static const struct sim_content *find_keyed(const struct sim_oracle *self,
                                            const struct batch_header *header, const uint8_t *body)
{
    const struct sim_content *content = NULL;
    struct record_reader reader;
    struct record record;
    uint32_t count = 0;

    record_reader_init(&reader);
    record_reader_start(&reader, body, header->size - BATCH_HEADER_SIZE);
    while (record_reader_next(&reader, &record) == ERR_OK) {
        uint64_t value = sim_oracle_value(self, &record);

        if (count == 0) {
            content = find_value(self, value);
        }
        if (content == NULL || value != content->value + count) {
            count = UINT32_MAX;
            break;
        }
        count++;
    }
    record_reader_fini(&reader);
    return content != NULL && count == content->record_count && count == header->record_count
               ? content
               : NULL;
}

static struct slice make_batch(const struct sim_content *content, const uint8_t *keyed,
                               uint32_t body_size)
{
    struct batch_header header = {
        .size = BATCH_HEADER_SIZE + body_size,
        .record_count = content->record_count,
        .producer_id = content->producer_id,
        .producer_epoch = content->epoch,
        .base_sequence = content->base_sequence,
    };
    struct block *block = block_new(header.size);
    uint8_t *body;

    ASSERT(block != NULL && body_size >= 8);
    body = block->data + BATCH_HEADER_SIZE;
    if (content->keyed) {
        memcpy(body, keyed, body_size);
    } else {
        bytes_put_u64(body, content->number);
        for (uint32_t i = 8; i < body_size; i++) {
            body[i] = body_byte(content->number, i);
        }
    }
    header.body_crc32c = crc32c(body, body_size);
    batch_header_encode(&header, block->data);
    bytes_put_u32(block->data + 4, 0); /* header_crc32c is stamped later */
    return (struct slice){.block = block, .data = block->data, .size = block->size};
}

struct sim_content *sim_oracle_content(struct sim_oracle *self, const struct sim_content *like,
                                       uint32_t body_size)
{
    struct sim_content *content = malloc(sizeof *content);
    struct buf keyed;

    ASSERT(content != NULL);
    *content = *like;
    content->number = self->content_count + 1;
    content->sent_ms = *self->now_ms;
    content->value = self->values + 1;
    self->values += content->record_count;
    buf_init(&keyed, UINT32_MAX);
    if (content->keyed) {
        append_keyed(content, &keyed);
        body_size = (uint32_t)keyed.size;
    }
    content->body_size = body_size;
    content->batch = make_batch(content, keyed.data, body_size);
    buf_fini(&keyed);
    digest_bytes(content->batch.data + BATCH_HEADER_SIZE, body_size, content->body_digest);
    self->contents =
        grown(self->contents, &self->content_capacity, self->content_count, sizeof *self->contents);
    self->contents[self->content_count++] = content;
    return content;
}

void sim_oracle_release(struct sim_content *content)
{
    block_unref(content->batch.block);
    content->batch = (struct slice){.block = NULL};
}

const struct sim_content *sim_oracle_find(const struct sim_oracle *self,
                                          const struct batch_header *header, const uint8_t *body)
{
    uint32_t size = header->size - BATCH_HEADER_SIZE;
    uint64_t number = size >= 8 ? bytes_get_u64(body) : 0;
    const struct sim_content *content;

    ASSERT((header->attributes & BATCH_COMPACTED) == 0);
    if (number == 0 || number > self->content_count || self->contents[number - 1]->keyed) {
        return find_keyed(self, header, body);
    }
    content = self->contents[number - 1];
    if (content->record_count != header->record_count || content->body_size != size) {
        return NULL;
    }
    for (uint32_t i = 8; i < size; i++) {
        if (body[i] != body_byte(number, i)) {
            return NULL;
        }
    }
    return content;
}
