#include "archive/chained.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "raft_fsm/manifest.h"
#include "raft_fsm/merged.h"

void chained_init(struct chained *self, uint64_t id, const char *name)
{
    *self = (struct chained){.id = id, .name = name, .bytes = malloc(CHAINED_SIZE_MAX)};
    ck_assert_ptr_nonnull(self->bytes);
}

void chained_fini(struct chained *self)
{
    free(self->bytes);
    *self = (struct chained){0};
}

void chained_add(struct chained *self, uint32_t record_count, uint32_t body_size)
{
    struct batch_header *header = &self->headers[self->count];
    uint8_t *batch = self->bytes + self->size;
    uint8_t *body = batch + BATCH_HEADER_SIZE;
    uint8_t body_digest[DIGEST_SIZE];

    ck_assert_uint_lt(self->count, CHAINED_MAX);
    ck_assert_uint_le(self->size + BATCH_HEADER_SIZE + body_size, CHAINED_SIZE_MAX);
    for (uint32_t i = 0; i < body_size; i++) {
        body[i] = (uint8_t)(self->end * 31 + i);
    }
    *header = (struct batch_header){.size = BATCH_HEADER_SIZE + body_size,
                                    .record_count = record_count,
                                    .base_offset = self->end,
                                    .raft_index = self->count + 1,
                                    .raft_term = 1,
                                    .append_time_us = (int64_t)self->count,
                                    .body_crc32c = crc32c(body, body_size)};
    digest_bytes(body, body_size, body_digest);
    digest_chain(self->digest, header, body_digest, header->digest);
    memcpy(self->digest, header->digest, DIGEST_SIZE);
    batch_header_encode(header, batch);
    self->size += header->size;
    self->positions[++self->count] = self->size;
    self->end += record_count;
}

void chained_merge(struct chained *self, size_t first, size_t count)
{
    size_t at = self->positions[first];
    size_t end = self->positions[first + count];
    size_t rest = self->size - end;
    struct buf merged;

    ck_assert_uint_le(first + count, self->count);
    buf_init(&merged, CHAINED_SIZE_MAX);
    merged_batch(self->bytes + at, end - at, first > 0 ? self->headers[first - 1].digest : NULL,
                 &merged);
    ck_assert_uint_le(at + merged.size + rest, CHAINED_SIZE_MAX);
    memmove(self->bytes + at + merged.size, self->bytes + end, rest);
    memcpy(self->bytes + at, merged.data, merged.size);
    self->size = at + merged.size + rest;
    self->count = 0;
    for (size_t position = 0; position < self->size;) {
        struct batch_header *header = &self->headers[self->count++];

        ck_assert_int_eq(
            batch_header_decode(self->bytes + position, CHAINED_SIZE_MAX, header, NULL), ERR_OK);
        position += header->size;
        self->positions[self->count] = position;
    }
    buf_fini(&merged);
}

void chained_link(const struct chained *self, size_t at, uint8_t ret_link[CHAIN_LINK_SIZE])
{
    const uint8_t *batch = self->bytes + self->positions[at];

    ck_assert_uint_lt(at, self->count);
    memcpy(ret_link, batch, BATCH_HEADER_SIZE);
    chain_part(&self->headers[at], batch + BATCH_HEADER_SIZE, ret_link + BATCH_HEADER_SIZE);
}

struct slice chained_manifest(const struct chained *topics, size_t count, uint64_t index)
{
    struct manifest manifest = {.applied_index = index, .topic_count = count};
    struct slice bytes;

    manifest.topics = calloc(count + 1, sizeof *manifest.topics);
    ck_assert_ptr_nonnull(manifest.topics);
    for (size_t i = 0; i < count; i++) {
        struct manifest_topic *topic = &manifest.topics[i];

        topic->id = topics[i].id;
        topic->start = topic->log_start = topics[i].start;
        memcpy(topic->start_digest, topics[i].start_digest, DIGEST_SIZE);
        topic->end = topics[i].end;
        (void)snprintf(topic->name, sizeof topic->name, "%s", topics[i].name); /* fits */
        memcpy(topic->digest, topics[i].digest, DIGEST_SIZE);
    }
    ck_assert_int_eq(producers_new(&manifest.producers), ERR_OK);
    ck_assert_int_eq(cursors_new(&manifest.cursors), ERR_OK);
    ck_assert_int_eq(manifest_encode(&manifest, &bytes), ERR_OK);
    manifest_fini(&manifest);
    return bytes;
}
