/*
 * What stands in the logs of nodes: S1, S2, S4, S5, S10 to S13.
 */
#include "base/bytes.h"
#include "log/log.h"
#include "sim/oracle_internal.h"

enum { READ_SIZE = 64 * 1024 };

void sim_seen_fini(struct sim_seen *self)
{
    for (size_t i = 0; i < self->count; i++) {
        free(self->topics[i].present);
    }
    free(self->topics);
    *self = (struct sim_seen){.rewritten = self->rewritten};
}

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

/* The content of a batch that is seen for the first time; returns it. */
static const struct sim_content *check_content(struct sim_oracle *self,
                                               const struct sim_topic *topic,
                                               const struct batch_header *header,
                                               const uint8_t *body)
{
    const struct sim_content *found = sim_oracle_find(self, header, body);
    struct sim_content *content = found == NULL ? NULL : self->contents[found->number - 1];
    uint64_t number = found == NULL ? 0 : found->number;

    if (content == NULL) {
        sim_violation(self, "topic %llu offset %llu: nobody sent that", U(topic->id),
                      U(header->base_offset));
    }
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
        content->base_sequence != header->base_sequence) {
        sim_violation(self, "content %llu was changed", U(number));
    }
    content->seen = true;
    content->base_offset = header->base_offset;
    content->raft_index = header->raft_index;
    if (content->answered) {
        sim_oracle_check_answer(self, content);
    }
    return content;
}

static void check_batch(struct sim_oracle *self, struct sim_topic *topic, unsigned node, size_t at,
                        const uint8_t *bytes, const struct batch_header *header)
{
    struct sim_batch batch = {
        .base_offset = header->base_offset,
        .header_crc32c = bytes_get_u32(bytes + 4),
        .body_crc32c = header->body_crc32c,
        .raft_index = header->raft_index,
        .append_time_us = header->append_time_us,
        .digest = bytes_get_u64(header->digest),
    };

    if (at == topic->count) {
        size_t capacity = topic->capacity;

        if (header->base_offset != topic->end) {
            sim_violation(self, "topic %llu of node %u: offset %llu follows on %llu", U(topic->id),
                          node, U(header->base_offset), U(topic->end)); /* S2 */
        }
        batch.content = check_content(self, topic, header, bytes + BATCH_HEADER_SIZE);
        batch.sent_ms = batch.content->sent_ms;
        check_sequence(self, topic, header);
        if (batch.content->keyed) {
            sim_compaction_note(topic, batch.content, batch.base_offset);
        }
        topic->batches = grown(topic->batches, &capacity, at, sizeof batch);
        topic->capacity = capacity;
        topic->batches[topic->count++] = batch;
        topic->end = batch_end_offset(header);
    } else if (topic->batches[at].base_offset != batch.base_offset ||
               topic->batches[at].header_crc32c != batch.header_crc32c ||
               topic->batches[at].body_crc32c != batch.body_crc32c) {
        sim_violation(self, "topic %llu of node %u: offset %llu is not what others read",
                      U(topic->id), node, U(header->base_offset)); /* S1 */
    }
}

size_t sim_topic_find(const struct sim_topic *self, uint64_t offset)
{
    size_t low = 0;
    size_t high = self->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->batches[middle].base_offset < offset) {
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
    *seen = sim_topic_find(topic, hole.to);
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
    size_t i = sim_topic_find(known, from);

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
    *seen = sim_topic_find(known, start);
    if (!known->blind && start != known->end && known->batches[*seen].base_offset != start) {
        sim_violation(self, "topic %llu of node %u starts at %llu, where no batch begins",
                      U(known->id), node, U(start)); /* S13 */
    }
    return start;
}

/* Compares the batches of a block; each is counted. */
static void check_batches(struct sim_oracle *self, struct sim_topic *topic, unsigned node,
                          struct sim_seen_topic *seen, const struct block *block)
{
    for (size_t at = 0; at < block->size;) {
        const uint8_t *bytes = block->data + at;
        struct err_info info = {.text = ""};
        struct batch_header header;

        if (batch_header_decode(bytes, (uint32_t)(block->size - at), &header, &info) != ERR_OK) {
            sim_violation(self, "topic %llu of node %u: a batch: %s", U(topic->id), node,
                          info.text);
        }
        if ((header.attributes & BATCH_COMPACTED) != 0) {
            sim_compaction_check(self, topic, node, seen, bytes, &header);
            seen->count = sim_topic_find(topic, batch_end_offset(&header));
        } else {
            check_batch(self, topic, node, seen->count, bytes, &header);
            sim_compaction_whole(topic, seen, &header);
            seen->count++;
        }
        at += header.size;
    }
}

static void read_topic(struct sim_oracle *self, unsigned node, size_t number,
                       const struct topic *here, struct sim_seen *state)
{
    struct sim_topic *topic = &self->topics[number];
    struct log *log = here->log;
    struct sim_seen_topic *known = &state->topics[number];
    bool whole = known->count == 0;
    size_t *seen = &known->count;
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
        check_batches(self, topic, node, known, block);
        block_unref(block);
    }
    if (topic->keyed && whole && !log_has_holes(log)) {
        sim_compaction_view(self, topic, node, known, log_start(log), state->apart);
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

/* When there is something else where it was read already, it is read again. */
static void begin_again(const struct sim_topic *known, const struct topic *topic,
                        uint64_t rewritten, struct sim_seen_topic *seen)
{
    bool holes = log_has_holes(topic->log);

    if (seen->holes && !holes) {
        seen->count = 0; /* What was put in, too. */
    }
    if (known->keyed && seen->rewritten != rewritten) {
        seen->count = 0;
    }
    seen->holes = holes;
    seen->rewritten = rewritten;
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
        sim_compaction_allow(self, topic, topics[i]);
        if (self->off) {
            topic_unref(topics[i]);
            continue;
        }
        seen->topics = grown(seen->topics, &seen->count, at, sizeof *seen->topics);
        begin_again(topic, topics[i], seen->rewritten, &seen->topics[at]);
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
            sim_oracle_check_seen(self, self->contents[i], node, catalog);
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
