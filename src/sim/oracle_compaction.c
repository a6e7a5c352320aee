/*
 * What compaction may do to a topic: S14, S15.
 */
#include "base/bytes.h"
#include "record/batch_records.h"
#include "sim/oracle_internal.h"

void sim_compaction_note(struct sim_topic *topic, const struct sim_content *content,
                         uint64_t base_offset)
{
    for (uint32_t i = 0; i < content->record_count; i++) {
        uint64_t offset = base_offset + i;
        uint64_t *last = &topic->last[content->keys[i]];
        size_t capacity = topic->record_capacity;

        ASSERT(content->keys[i] < SIM_KEYS);
        topic->records = grown(topic->records, &capacity, offset, sizeof *topic->records);
        topic->record_capacity = capacity;
        topic->records[offset] = (struct sim_keyed){
            .key = content->keys[i], .tombstone = content->tombstones[i], .later = UINT64_MAX};
        if (*last > 0) {
            topic->records[*last - 1].later = offset;
        }
        *last = offset + 1;
    }
    topic->keyed = true;
}

/* Tombstones that may go from now on are old enough. */
static void check_ages(const struct sim_oracle *self, const struct sim_topic *known,
                       const struct topic *topic, uint64_t from, uint64_t to)
{
    uint64_t bound_ms = topic->settings.tombstone_ms;

    for (size_t i = sim_topic_find(known, from);
         bound_ms > 0 && i < known->count && known->batches[i].base_offset < to; i++) {
        const struct sim_batch *batch = &known->batches[i];

        if (*self->now_ms < batch->sent_ms + bound_ms) {
            sim_violation(
                self,
                "topic %llu: tombstones up to %llu may go, but what is at %llu is %llu ms "
                "old, of %llu that it is to be",
                U(known->id), U(to), U(batch->base_offset), U(*self->now_ms - batch->sent_ms),
                U(bound_ms)); /* S14 */
        }
    }
}

void sim_compaction_allow(struct sim_oracle *self, struct sim_topic *known,
                          const struct topic *topic)
{
    const struct topic_clean *clean = &topic->clean;

    if (topic->settings.compact && !known->compacted) {
        known->compacted = true;
        if (self->compacted != NULL) {
            self->compacted(self->arg, known->name, known->id);
        }
    }
    if (self->off) {
        return;
    }
    if (clean->clean_to > 0 && !known->compacted) {
        sim_violation(self, "topic %llu is to be cleaned, and nobody said so", U(known->id));
    }
    if (clean->clean_to > known->clean.clean_to) {
        known->clean.clean_to = clean->clean_to;
    }
    if (clean->tombstones_below > known->clean.tombstones_below) {
        check_ages(self, known, topic, known->clean.tombstones_below, clean->tombstones_below);
        known->clean.tombstones_below = clean->tombstones_below;
    }
}

static void set_present(struct sim_seen_topic *seen, uint64_t offset, bool present)
{
    seen->present = grown(seen->present, &seen->present_capacity, offset, sizeof *seen->present);
    seen->present[offset] = present;
}

void sim_compaction_whole(const struct sim_topic *topic, struct sim_seen_topic *seen,
                          const struct batch_header *header)
{
    for (uint32_t i = 0; topic->keyed && i < header->record_count; i++) {
        set_present(seen, header->base_offset + i, true);
    }
}

/* What it stands for is what others read. */
static void check_span(const struct sim_oracle *self, const struct sim_topic *topic, unsigned node,
                       const uint8_t *bytes, const struct batch_header *header)
{
    uint64_t end = batch_end_offset(header);
    size_t first = sim_topic_find(topic, header->base_offset);
    size_t behind = sim_topic_find(topic, end);
    const struct sim_batch *last;

    if (end > topic->end || first >= topic->count ||
        topic->batches[first].base_offset != header->base_offset ||
        (behind < topic->count ? topic->batches[behind].base_offset : topic->end) != end) {
        sim_violation(self,
                      "topic %llu of node %u: [%llu, %llu) was compacted into one batch, and no "
                      "batches that others read stand there",
                      U(topic->id), node, U(header->base_offset), U(end)); /* S14 */
    }
    last = &topic->batches[behind - 1];
    if (header->raft_index != last->raft_index || header->append_time_us != last->append_time_us ||
        bytes_get_u64(header->digest) != last->digest || header->producer_id != 0) {
        sim_violation(self,
                      "topic %llu of node %u: what was compacted up to %llu has other stamps than "
                      "what others read there",
                      U(topic->id), node, U(end)); /* S14 */
    }
    if (bytes_get_u64(bytes + BATCH_HEADER_SIZE) !=
        (first == 0 ? 0 : topic->batches[first - 1].digest)) {
        sim_violation(self,
                      "topic %llu of node %u: what was compacted from %llu on follows on something "
                      "else",
                      U(topic->id), node, U(header->base_offset)); /* S14 */
    }
}

static void check_record(const struct sim_oracle *self, const struct sim_topic *topic,
                         unsigned node, const struct record *record)
{
    size_t at = sim_topic_find(topic, record->offset + 1) - 1;
    const struct sim_batch *batch = &topic->batches[at];
    uint64_t expected = batch->content->value + (record->offset - batch->base_offset);

    if (sim_oracle_value(self, record) != expected ||
        record->append_time_us != batch->append_time_us) {
        sim_violation(self, "topic %llu of node %u: offset %llu is not what others read",
                      U(topic->id), node, U(record->offset)); /* S14 */
    }
}

/* The records of [from, to) are missing from a copy. */
static void check_missing(struct sim_topic *topic, const struct sim_oracle *self, unsigned node,
                          struct sim_seen_topic *seen, uint64_t from, uint64_t to)
{
    for (uint64_t offset = from; offset < to; offset++) {
        struct sim_keyed *record = &topic->records[offset];

        set_present(seen, offset, false);
        if (record->later < topic->clean.clean_to) {
            continue;
        }
        if (!record->tombstone || offset >= topic->clean.tombstones_below) {
            sim_violation(self,
                          "topic %llu of node %u: the %s at %llu, key %u, is gone; the next one of "
                          "its key is at %lld, clean_to %llu, tombstones_below %llu",
                          U(topic->id), node, record->tombstone ? "tombstone" : "record", U(offset),
                          record->key, (long long)record->later, U(topic->clean.clean_to),
                          U(topic->clean.tombstones_below)); /* S14 */
        }
        record->gone = true;
    }
}

void sim_compaction_check(struct sim_oracle *self, struct sim_topic *topic, unsigned node,
                          struct sim_seen_topic *seen, const uint8_t *bytes,
                          const struct batch_header *header)
{
    uint64_t next = header->base_offset;
    struct err_info info = {.text = ""};
    struct batch_records records;
    struct record record;
    enum err err;

    check_span(self, topic, node, bytes, header);
    batch_records_init(&records);
    err = batch_records_start(&records, header, bytes + BATCH_HEADER_SIZE, 0, &info);
    while (err == ERR_OK && (err = batch_records_next(&records, &record)) == ERR_OK) {
        check_missing(topic, self, node, seen, next, record.offset);
        check_record(self, topic, node, &record);
        set_present(seen, record.offset, true);
        next = record.offset + 1;
    }
    batch_records_fini(&records);
    if (err != ERR_AGAIN) {
        sim_violation(self, "topic %llu of node %u: what was compacted from %llu on: %s %s",
                      U(topic->id), node, U(header->base_offset), err_name(err), info.text);
    }
    check_missing(topic, self, node, seen, next, batch_end_offset(header));
}

void sim_compaction_view(const struct sim_oracle *self, const struct sim_topic *topic,
                         unsigned node, const struct sim_seen_topic *seen, uint64_t start,
                         bool apart)
{
    uint64_t last[SIM_KEYS] = {0}; /* offset of each key's last one, and 1 */
    uint64_t shown[SIM_KEYS] = {0};
    uint64_t gone[SIM_KEYS] = {0};
    uint64_t end =
        seen->count < topic->count ? topic->batches[seen->count].base_offset : topic->end;

    if (end < topic->clean.clean_to) {
        return; /* It was filled up by others, which know of later records than it has yet. */
    }
    for (uint64_t offset = start; offset < end && !topic->blind; offset++) {
        const struct sim_keyed *record = &topic->records[offset];

        last[record->key] = offset + 1;
        if (seen->present[offset]) {
            shown[record->key] = offset + 1;
        }
    }
    for (uint64_t offset = start; offset < topic->end && !topic->blind; offset++) {
        if (topic->records[offset].gone) {
            gone[topic->records[offset].key] = offset + 1;
        }
    }
    for (unsigned key = 0; key < SIM_KEYS; key++) {
        bool deleted = last[key] > 0 && topic->records[last[key] - 1].tombstone;
        bool shows = shown[key] > 0 && !topic->records[shown[key] - 1].tombstone;

        if (deleted ? shows : shown[key] != last[key]) {
            sim_violation(self, "topic %llu of node %u: of key %u it shows %lld, of %lld%s",
                          U(topic->id), node, key, (long long)shown[key] - 1,
                          (long long)last[key] - 1, deleted ? ", a tombstone" : ""); /* S15 */
        }
        if (shows && shown[key] < gone[key] && !apart) {
            sim_violation(self,
                          "topic %llu of node %u: of key %u it shows %lld, which was deleted at "
                          "%lld, and the tombstone is gone",
                          U(topic->id), node, key, (long long)shown[key] - 1,
                          (long long)gone[key] - 1); /* S15 */
        }
    }
}
