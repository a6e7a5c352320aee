#include "sim/oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/log.h"
#include "sim/prng.h"

#define U(value) ((unsigned long long)(value))

enum { READ_SIZE = 64 * 1024 };

void sim_violation(const struct sim_oracle *self, const char *format, ...)
{
    va_list args;
    bool found;

    (void)fflush(stdout);
    (void)fprintf(stderr, "VIOLATION seed %llu at %llu ms: ", U(self->seed), U(*self->now_ms));
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    found = self->violated != NULL && self->violated(self->arg);
    (void)fflush(stderr);
    _exit(self->off && !found ? SIM_EXIT_OTHER : SIM_EXIT);
}

void sim_oracle_init(struct sim_oracle *self, uint64_t seed, const uint64_t *now_ms)
{
    *self = (struct sim_oracle){.seed = seed, .now_ms = now_ms};
}

void sim_oracle_fini(struct sim_oracle *self)
{
    for (size_t i = 0; i < self->content_count; i++) {
        block_unref(self->contents[i]->batch.block);
        free(self->contents[i]);
    }
    for (size_t i = 0; i < self->topic_count; i++) {
        free(self->topics[i].batches);
        free(self->topics[i].sequences);
    }
    free(self->contents);
    free(self->fresh);
    free(self->topics);
    free(self->applied);
    free(self->leaders);
    free(self->producer_ids);
    free(self->revisions);
    free(self->claims);
}

void sim_seen_fini(struct sim_seen *self)
{
    free(self->counts);
    free(self->holes);
    *self = (struct sim_seen){.counts = NULL};
}

/* Room for an element at `at`; new ones are zeros. */
static void *grown(void *array, size_t *capacity, size_t at, size_t size)
{
    size_t before = *capacity;

    if (at < before) {
        return array;
    }
    *capacity = before == 0 ? 64 : before;
    while (*capacity <= at) {
        *capacity *= 2;
    }
    array = realloc(array, *capacity * size);
    ASSERT(array != NULL);
    memset((uint8_t *)array + before * size, 0, (*capacity - before) * size);
    return array;
}

/* ---- contents ---- */

static uint8_t body_byte(uint64_t number, uint32_t at)
{
    return (uint8_t)(number * 31 + at * 7);
}

static struct slice make_batch(const struct sim_content *content, uint32_t body_size)
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
    bytes_put_u64(body, content->number);
    for (uint32_t i = 8; i < body_size; i++) {
        body[i] = body_byte(content->number, i);
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

    ASSERT(content != NULL);
    *content = *like;
    content->number = self->content_count + 1;
    content->sent_ms = *self->now_ms;
    content->body_size = body_size;
    content->value = self->values + 1;
    self->values += content->record_count;
    content->batch = make_batch(content, body_size);
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

    if (number == 0 || number > self->content_count) {
        return NULL;
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

/* The place that an answer names is the place where it is. (S3) */
static void check_answer(const struct sim_oracle *self, const struct sim_content *content)
{
    const struct fsm_result *answer = &content->answer;

    if (answer->base_offset != content->base_offset || answer->raft_index != content->raft_index ||
        answer->record_count != content->record_count || answer->topic_id != content->topic_id) {
        sim_violation(self,
                      "content %llu was answered: topic %llu offset %llu index %llu, and stands "
                      "in topic %llu at offset %llu index %llu",
                      U(content->number), U(answer->topic_id), U(answer->base_offset),
                      U(answer->raft_index), U(content->topic_id), U(content->base_offset),
                      U(content->raft_index));
    }
}

void sim_oracle_not_written(struct sim_oracle *self, struct sim_content *content)
{
    if (self->off) {
        return;
    }
    ASSERT(content->possible > 0);
    content->possible--;
    if (content->possible == 0 && content->seen) {
        sim_violation(self, "content %llu was never written, they say, but stands at %llu",
                      U(content->number), U(content->base_offset)); /* S4 */
    }
}

static bool may_be_fenced(const struct sim_oracle *self, const struct sim_content *content)
{
    return content->producer_id < self->claim_capacity &&
           content->epoch < self->claims[content->producer_id];
}

void sim_oracle_claim(struct sim_oracle *self, uint64_t producer_id)
{
    self->claims = grown(self->claims, &self->claim_capacity, producer_id, sizeof *self->claims);
    self->claims[producer_id]++;
}

void sim_oracle_fenced(struct sim_oracle *self, struct sim_content *content)
{
    if (self->off) {
        return;
    }
    if (content->seen) {
        sim_violation(self, "content %llu is not among the producer's records, but stands at %llu",
                      U(content->number), U(content->base_offset)); /* S10 */
    }
    content->fenced = true;
}

void sim_oracle_answer(struct sim_oracle *self, struct sim_content *content, unsigned node,
                       const struct fsm_result *result)
{
    if (self->off) {
        self->answered += result->err == ERR_OK && !content->answered;
        content->answered = content->answered || result->err == ERR_OK;
        return;
    }
    switch (err_outcome(result->err)) {
    case ERR_OUTCOME_NOT_WRITTEN:
        if (result->err == ERR_SEQUENCE_REUSED || result->err == ERR_PRODUCER_UNKNOWN ||
            (result->err == ERR_FENCED && !may_be_fenced(self, content))) {
            sim_violation(self, "node %u answers %s to content %llu", node, err_name(result->err),
                          U(content->number));
        }
        sim_oracle_not_written(self, content);
        break;
    case ERR_OUTCOME_WRITTEN:
        if (result->err != ERR_OK && result->err != ERR_NOT_CONFIRMED) {
            if (!content->seen) {
                sim_violation(self, "node %u answers %s to content %llu, which is in no log", node,
                              err_name(result->err), U(content->number));
            }
            break;
        }
        if (content->answered && (content->answer.base_offset != result->base_offset ||
                                  content->answer.raft_index != result->raft_index ||
                                  content->answer.topic_id != result->topic_id)) {
            sim_violation(self, "content %llu is answered with offset %llu, then %llu",
                          U(content->number), U(content->answer.base_offset),
                          U(result->base_offset)); /* S3 */
        }
        if (!content->seen && !content->answered) {
            self->fresh =
                grown(self->fresh, &self->fresh_capacity, self->fresh_count, sizeof *self->fresh);
            self->fresh[self->fresh_count++] = (struct sim_fresh){.content = content, .node = node};
        }
        self->answered += content->answered ? 0 : 1;
        content->answered = true;
        content->answer = *result;
        if (content->seen) {
            check_answer(self, content);
        }
        break;
    case ERR_OUTCOME_UNKNOWN:
        break;
    }
}

/* A batch that was answered with OK, and is seen nowhere, in a topic that is there. (S3) */
static void check_seen(const struct sim_oracle *self, const struct sim_content *content,
                       unsigned node, struct catalog *catalog)
{
    struct topic *topic = catalog_find_id(catalog, content->topic_id);

    for (size_t i = 0; i < self->topic_count; i++) {
        if (self->topics[i].id == content->topic_id && self->topics[i].blind) {
            topic_unref(topic);
            return;
        }
    }
    if (topic != NULL) {
        sim_violation(self, "node %u: content %llu was answered with OK and is in no log", node,
                      U(content->number));
    }
}

void sim_oracle_answered(struct sim_oracle *self, unsigned node, struct catalog *catalog)
{
    size_t kept = 0;

    if (self->off) {
        return;
    }
    for (size_t i = 0; i < self->fresh_count; i++) {
        if (self->fresh[i].node != node) {
            self->fresh[kept++] = self->fresh[i];
        } else if (catalog != NULL && !self->fresh[i].content->seen) {
            check_seen(self, self->fresh[i].content, node, catalog);
        }
    }
    self->fresh_count = kept;
}

void sim_oracle_producer(struct sim_oracle *self, uint64_t producer_id)
{
    if (self->off) {
        return;
    }
    for (size_t i = 0; i < self->producer_count; i++) {
        if (self->producer_ids[i] == producer_id) {
            sim_violation(self, "producer id %llu is given out twice", U(producer_id)); /* S8 */
        }
    }
    self->producer_ids =
        reallocarray(self->producer_ids, self->producer_count + 1, sizeof *self->producer_ids);
    ASSERT(self->producer_ids != NULL);
    self->producer_ids[self->producer_count++] = producer_id;
}

void sim_oracle_cursor(struct sim_oracle *self, const struct cursor_change *change)
{
    if (self->off) {
        return;
    }
    if (change->expect != CURSOR_EXPECT_REVISION || change->expected == 0) {
        return;
    }
    for (size_t i = 0; i < self->revision_count; i++) {
        if (self->revisions[i] == change->expected) {
            sim_violation(self, "revision %llu of a cursor was good for two changes",
                          U(change->expected)); /* S9 */
        }
    }
    self->revisions = reallocarray(self->revisions, self->revision_count + 1, sizeof(uint64_t));
    ASSERT(self->revisions != NULL);
    self->revisions[self->revision_count++] = change->expected;
}

void sim_oracle_deleted(struct sim_oracle *self, uint64_t topic_id, uint64_t now_us)
{
    for (size_t i = 0; i < self->topic_count; i++) {
        struct sim_topic *topic = &self->topics[i];

        if (topic->id == topic_id && topic->deleted_us == 0) {
            topic->deleted_us = now_us;
        }
    }
}

/* ---- logs ---- */

static struct sim_topic *find_topic(struct sim_oracle *self, const struct topic *topic)
{
    struct sim_topic *new;

    for (size_t i = self->topic_count; i-- > 0;) { /* The newest are asked for most. */
        if (self->topics[i].id == topic->id) {
            return &self->topics[i];
        }
    }
    self->topics = reallocarray(self->topics, self->topic_count + 1, sizeof *self->topics);
    ASSERT(self->topics != NULL);
    new = &self->topics[self->topic_count++];
    *new = (struct sim_topic){.id = topic->id, .name = (unsigned)(topic->name[6] - '0')};
    ASSERT(new->name < SIM_TOPIC_NAMES);
    return new;
}

static void check_sequence(struct sim_oracle *self, struct sim_topic *topic,
                           const struct batch_header *header)
{
    if (header->producer_id == 0 || topic->blind) {
        return;
    }
    topic->sequences = grown(topic->sequences, &topic->sequence_count, header->producer_id,
                             sizeof *topic->sequences);
    if (topic->sequences[header->producer_id] != header->base_sequence) {
        sim_violation(self, "topic %llu offset %llu: producer %llu, sequence %u instead of %u",
                      U(topic->id), U(header->base_offset), U(header->producer_id),
                      header->base_sequence, topic->sequences[header->producer_id]); /* S5 */
    }
    topic->sequences[header->producer_id] += header->record_count;
}

/* The content of a batch that is seen for the first time. */
static void check_content(struct sim_oracle *self, const struct sim_topic *topic,
                          const struct batch_header *header, const uint8_t *body)
{
    uint64_t number = bytes_get_u64(body);
    struct sim_content *content;

    if (number == 0 || number > self->content_count) {
        sim_violation(self, "topic %llu offset %llu: nobody sent that", U(topic->id),
                      U(header->base_offset));
    }
    content = self->contents[number - 1];
    if (content->seen) {
        sim_violation(self, "content %llu stands twice: at %llu and at %llu of topic %llu",
                      U(number), U(content->base_offset), U(header->base_offset),
                      U(topic->id)); /* S4 */
    }
    if (content->possible == 0) {
        sim_violation(self, "content %llu was never written, they said, but stands at %llu",
                      U(number), U(header->base_offset)); /* S4 */
    }
    if (content->fenced) {
        sim_violation(self, "content %llu was fenced, and stands at %llu", U(number),
                      U(header->base_offset)); /* S10 */
    }
    if (content->has_expect && content->expect_offset != header->base_offset) {
        sim_violation(self, "content %llu expects offset %llu, and stands at %llu", U(number),
                      U(content->expect_offset), U(header->base_offset)); /* S11 */
    }
    if (content->topic_id != topic->id || content->producer_id != header->producer_id ||
        content->epoch != header->producer_epoch ||
        content->base_sequence != header->base_sequence ||
        sim_oracle_find(self, header, body) != content) {
        sim_violation(self, "content %llu was changed", U(number));
    }
    content->seen = true;
    content->base_offset = header->base_offset;
    content->raft_index = header->raft_index;
    if (content->answered) {
        check_answer(self, content);
    }
}

static void check_batch(struct sim_oracle *self, struct sim_topic *topic, unsigned node, size_t at,
                        const uint8_t *bytes, const struct batch_header *header)
{
    const struct sim_batch batch = {
        .base_offset = header->base_offset,
        .header_crc32c = bytes_get_u32(bytes + 4),
        .body_crc32c = header->body_crc32c,
    };

    if (at == topic->count) {
        size_t capacity = topic->capacity;

        if (header->base_offset != topic->end) {
            sim_violation(self, "topic %llu of node %u: offset %llu follows on %llu", U(topic->id),
                          node, U(header->base_offset), U(topic->end)); /* S2 */
        }
        check_content(self, topic, header, bytes + BATCH_HEADER_SIZE);
        check_sequence(self, topic, header);
        topic->batches = grown(topic->batches, &capacity, at, sizeof batch);
        topic->capacity = capacity;
        topic->batches[topic->count] = batch;
        topic->batches[topic->count++].sent_ms =
            self->contents[bytes_get_u64(bytes + BATCH_HEADER_SIZE) - 1]->sent_ms;
        topic->end = batch_end_offset(header);
    } else if (topic->batches[at].base_offset != batch.base_offset ||
               topic->batches[at].header_crc32c != batch.header_crc32c ||
               topic->batches[at].body_crc32c != batch.body_crc32c) {
        sim_violation(self, "topic %llu of node %u: offset %llu is not what others read",
                      U(topic->id), node, U(header->base_offset)); /* S1 */
    }
}

/* The first batch at or above offset. */
static size_t find_batch(const struct sim_topic *topic, uint64_t offset)
{
    size_t low = 0;
    size_t high = topic->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (topic->batches[middle].base_offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Passes over the hole at *offset, which others have read: a manifest promised it. False: they have
 * not, so it was damage that became a hole here, before anybody else had applied so much. */
static bool pass_hole(const struct sim_oracle *self, unsigned node, const struct sim_topic *topic,
                      const struct log *log, uint64_t *offset, size_t *seen)
{
    struct log_hole hole;

    if (log_holes(log, *offset, &hole, 1) == 0 || hole.from > *offset) {
        sim_violation(self, "topic %llu of node %u: a hole at %llu that is none", U(topic->id),
                      node, U(*offset));
    }
    if (hole.to > topic->end) {
        return false;
    }
    *seen = find_batch(topic, hole.to);
    if ((*seen < topic->count ? topic->batches[*seen].base_offset : topic->end) != hole.to) {
        sim_violation(self, "topic %llu of node %u: a hole up to %llu, where no batch begins",
                      U(topic->id), node, U(hole.to));
    }
    *offset = hole.to;
    return true;
}

static bool is_damage(enum err err)
{
    return err == ERR_CORRUPT || err == ERR_VERSION;
}

/* What lies in [from, to) went, of a topic with no other bound than that of age. (S12) */
static void check_ages(const struct sim_oracle *self, const struct sim_topic *known,
                       const struct topic *topic, uint64_t from, uint64_t to)
{
    uint64_t bound_ms = topic->settings.retention_ms;
    size_t i = find_batch(known, from);

    if (bound_ms == 0 || topic->settings.retention_bytes > 0 ||
        topic->settings.retention_records > 0) {
        return;
    }
    for (; i < known->count && known->batches[i].base_offset < to; i++) {
        if (*self->now_ms < known->batches[i].sent_ms + bound_ms) {
            sim_violation(self,
                          "topic %llu: offset %llu is gone at the age of %llu ms, of %llu that it "
                          "may have",
                          U(known->id), U(known->batches[i].base_offset),
                          U(*self->now_ms - known->batches[i].sent_ms), U(bound_ms)); /* S12 */
        }
    }
}

/* What the node's log has no more is passed over. */
static uint64_t pass_start(struct sim_oracle *self, unsigned node, struct sim_topic *known,
                           const struct topic *topic, size_t *seen)
{
    uint64_t start = log_start(topic->log);

    if (start > known->end) {
        known->blind = true;
        known->end = start;
        *seen = known->count;
        return start;
    }
    *seen = find_batch(known, start);
    if (!known->blind && start != known->end && known->batches[*seen].base_offset != start) {
        sim_violation(self, "topic %llu of node %u starts at %llu, where no batch begins",
                      U(known->id), node, U(start)); /* S13 */
    }
    return start;
}

static void read_topic(struct sim_oracle *self, unsigned node, size_t number,
                       const struct topic *here, struct sim_seen *state)
{
    struct sim_topic *topic = &self->topics[number];
    struct log *log = here->log;
    size_t *seen = &state->counts[number];
    uint64_t offset = *seen < topic->count ? topic->batches[*seen].base_offset : topic->end;
    uint64_t end = log_end(log);

    if (offset < log_start(log)) {
        offset = pass_start(self, node, topic, here, seen);
    }
    if (end < offset) {
        sim_violation(self, "topic %llu of node %u ended at %llu, now at %llu", U(topic->id), node,
                      U(offset), U(end)); /* S1 */
    }
    while (offset < end) {
        struct block *block;
        struct err_info info = {.text = ""};
        enum err err = log_read(log, offset, end, READ_SIZE, &block, &offset, &info);

        if (err == ERR_HOLE) {
            if (!pass_hole(self, node, topic, log, &offset, seen)) {
                state->unread = true;
                return;
            }
            continue;
        }
        if (is_damage(err) && state->may_be_damaged) {
            state->damaged = true;
            state->damaged_topic = topic->id;
            state->damaged_offset = offset;
            return; /* Nobody was shown anything. */
        }
        if (err != ERR_OK) {
            sim_violation(self, "topic %llu of node %u: reading offset %llu: %s", U(topic->id),
                          node, U(offset), info.text);
        }
        for (size_t at = 0; at < block->size;) {
            struct batch_header header;

            err =
                batch_header_decode(block->data + at, (uint32_t)(block->size - at), &header, &info);
            if (err != ERR_OK) {
                sim_violation(self, "topic %llu of node %u: a batch: %s", U(topic->id), node,
                              info.text);
            }
            check_batch(self, topic, node, *seen, block->data + at, &header);
            (*seen)++;
            at += header.size;
        }
        block_unref(block);
    }
}

static void see_start(struct sim_oracle *self, struct sim_topic *known, const struct topic *topic)
{
    uint64_t start = topic_start(topic);

    if (start <= known->start) {
        return;
    }
    if (!self->off) {
        check_ages(self, known, topic, known->start, start);
    }
    known->start = start;
    if (self->trimmed != NULL) {
        self->trimmed(self->arg, known->name, known->id, start);
    }
}

void sim_oracle_read(struct sim_oracle *self, unsigned node, struct catalog *catalog,
                     struct sim_seen *seen)
{
    struct topic **topics;
    size_t count;

    if (catalog_list(catalog, &topics, &count) != ERR_OK) {
        ASSERT(false);
    }
    for (size_t i = 0; i < count; i++) {
        struct sim_topic *topic = find_topic(self, topics[i]);
        size_t at = (size_t)(topic - self->topics);

        see_start(self, topic, topics[i]);
        if (self->off) {
            topic_unref(topics[i]);
            continue;
        }
        seen->counts = grown(seen->counts, &seen->count, at, sizeof *seen->counts);
        seen->holes = grown(seen->holes, &seen->hole_count, at, sizeof *seen->holes);
        if (seen->holes[at] && !log_has_holes(topics[i]->log)) {
            seen->counts[at] = 0; /* What was put in, too. */
        }
        seen->holes[at] = log_has_holes(topics[i]->log);
        read_topic(self, node, at, topics[i], seen);
        topic_unref(topics[i]);
    }
    free(topics);
}

void sim_oracle_final(struct sim_oracle *self, unsigned node, struct catalog *catalog)
{
    unsigned gone[SIM_TOPIC_NAMES] = {0};

    if (self->off) {
        return;
    }
    for (size_t i = 0; i < self->content_count; i++) {
        if (self->contents[i]->answered && !self->contents[i]->seen) {
            check_seen(self, self->contents[i], node, catalog);
        }
    }
    for (size_t i = 0; i < self->topic_count; i++) {
        struct sim_topic *known = &self->topics[i];
        struct topic *topic = catalog_find_id(catalog, known->id);

        if (topic == NULL) {
            gone[known->name]++;
            continue;
        }
        if (log_has_holes(topic->log)) {
            sim_violation(self, "topic %llu of node %u has holes", U(known->id), node);
        }
        if (topic->end != known->end || log_end(topic->log) != known->end) {
            sim_violation(self,
                          "topic %llu of node %u ends at %llu (log %llu), but %llu was "
                          "read somewhere",
                          U(known->id), node, U(topic->end), U(log_end(topic->log)),
                          U(known->end)); /* S1 */
        }
        topic_unref(topic);
    }
    for (unsigned i = 0; i < SIM_TOPIC_NAMES; i++) {
        if (gone[i] > self->deletes[i]) {
            sim_violation(self, "%u topics named topic-%u are gone, %u were deleted", gone[i], i,
                          self->deletes[i]); /* S1 */
        }
    }
}

/* ---- raft ---- */

void sim_oracle_new_node(struct sim_oracle *self, unsigned slot)
{
    ASSERT(slot <= SIM_NODES_MAX);
    self->terms[slot] = 0;
    self->votes[slot] = (struct sim_vote){0};
}

void sim_oracle_leads(struct sim_oracle *self, unsigned node, uint64_t term)
{
    if (self->off) {
        return;
    }
    self->leaders = grown(self->leaders, &self->leader_capacity, term, sizeof *self->leaders);
    if (self->leaders[term] != 0 && self->leaders[term] != node) {
        sim_violation(self, "two leaders in term %llu: %u and %u", U(term), self->leaders[term],
                      node); /* S6 */
    }
    self->leaders[term] = node;
}

void sim_oracle_says(struct sim_oracle *self, unsigned node, const struct message *message)
{
    struct sim_vote *vote = &self->votes[node];
    uint64_t candidate = 0;

    if (self->off) {
        return;
    }
    if ((message->type == MESSAGE_VOTE && message->vote.pre_vote) ||
        (message->type == MESSAGE_VOTE_RESULT && message->vote_result.pre_vote)) {
        return; /* Not of a term that it is in. */
    }
    if (message->term < self->terms[node]) {
        sim_violation(self, "node %u is in term %llu after it was in %llu (message type %d)", node,
                      U(message->term), U(self->terms[node]), (int)message->type); /* S6 */
    }
    self->terms[node] = message->term;
    if (message->type == MESSAGE_VOTE) {
        candidate = message->from;
    } else if (message->type == MESSAGE_VOTE_RESULT && message->vote_result.granted) {
        candidate = message->to;
    }
    if (candidate == 0) {
        return;
    }
    if (vote->term == message->term && vote->candidate != candidate) {
        sim_violation(self, "node %u votes for %llu and for %llu in term %llu", node,
                      U(vote->candidate), U(candidate), U(message->term)); /* S6 */
    }
    *vote = (struct sim_vote){.term = message->term, .candidate = candidate};
}

static struct sim_applied *applied_at(struct sim_oracle *self, uint64_t index)
{
    self->applied = grown(self->applied, &self->applied_capacity, index, sizeof *self->applied);
    self->applied_last = index > self->applied_last ? index : self->applied_last;
    return &self->applied[index];
}

void sim_oracle_entry(struct sim_oracle *self, unsigned node, const struct entry *entry)
{
    struct sim_applied *known = applied_at(self, entry->index);
    /* The checksum covers index, term, type and payload. */
    uint64_t fingerprint = (uint64_t)entry->size << 32 | bytes_get_u32(entry->frame);

    if (self->off) {
        return;
    }
    if (known->term == 0) {
        known->term = entry->term;
        known->entry = fingerprint;
    } else if (known->term != entry->term || known->entry != fingerprint) {
        sim_violation(self, "node %u applies another entry %llu, of term %llu, not %llu", node,
                      U(entry->index), U(entry->term), U(known->term)); /* S7 */
    }
}

void sim_oracle_state(struct sim_oracle *self, unsigned node, uint64_t index, const struct fsm *fsm)
{
    struct sim_applied *known = applied_at(self, index);
    struct manifest manifest;
    struct slice bytes;
    uint64_t hash;

    if (self->off) {
        return;
    }
    if (fsm_manifest(fsm, &manifest) != ERR_OK || manifest_encode(&manifest, &bytes) != ERR_OK) {
        ASSERT(false);
    }
    manifest_fini(&manifest);
    hash = prng_mix((uint64_t)bytes.size << 32 | crc32c(bytes.data, bytes.size)) | 1;
    block_unref(bytes.block);
    if (known->manifest == 0) {
        known->manifest = hash;
    } else if (known->manifest != hash) {
        sim_violation(self, "the state of node %u at %llu is not that of others", node,
                      U(index)); /* S7 */
    }
}
