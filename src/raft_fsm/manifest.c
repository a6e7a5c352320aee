#include "raft_fsm/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft_fsm/topic_settings_message.h"
#include "raft_fsm/unpack.h"
#include "replicated.pb-c.h"

enum { CRC_SIZE = 4 };

static const uint8_t no_digest[DIGEST_SIZE];

void manifest_fini(struct manifest *self)
{
    free(self->topics);
    producers_free(self->producers);
    free(self->nodes);
    cursors_free(self->cursors);
    ages_fini(&self->ages);
    *self = (struct manifest){0};
}

enum err manifest_copy(const struct manifest *self, struct manifest *ret_manifest)
{
    struct manifest copy = *self;
    enum err err;

    ASSERT(self->producers != NULL && self->cursors != NULL);
    copy.producers = NULL;
    copy.cursors = NULL;
    copy.nodes = NULL;
    copy.ages = (struct ages){.marks = NULL};
    copy.topics = calloc(self->topic_count + 1, sizeof *copy.topics); /* never of size 0 */
    if (copy.topics == NULL) {
        return ERR_NOMEM;
    }
    if (self->topic_count > 0) {
        memcpy(copy.topics, self->topics, self->topic_count * sizeof *copy.topics);
    }
    err = ages_copy(&self->ages, &copy.ages);
    if (err == ERR_OK && self->nodes != NULL) {
        err = nodes_copy(self->nodes, &copy.nodes);
    }
    if (err == ERR_OK) {
        err = producers_copy(self->producers, &copy.producers);
    }
    if (err == ERR_OK) {
        err = cursors_copy(self->cursors, &copy.cursors);
    }
    if (err != ERR_OK) {
        manifest_fini(&copy);
        return err;
    }
    *ret_manifest = copy;
    return ERR_OK;
}

static int compare_id(const void *key, const void *element)
{
    const uint64_t *id = key;
    const struct manifest_topic *topic = element;

    return (*id > topic->id) - (*id < topic->id);
}

const struct manifest_topic *manifest_find(const struct manifest *self, uint64_t id)
{
    if (self->topic_count == 0) {
        return NULL;
    }
    return bsearch(&id, self->topics, self->topic_count, sizeof *self->topics, compare_id);
}

/* ---- encoding ---- */

/* A message and what it points to. */
struct cursor_item {
    Replicated__CursorState state;
    struct cursor cursor;
};

/* The cursors' messages in one array, with the strings that they point to, and the pointers that
 * protobuf wants. */
struct cursor_tree {
    struct cursor_item *items;
    Replicated__CursorState **pointers;
    size_t used; /* filled so far */
    size_t count;
};

/* The messages of a manifest, each kind in one array, and the pointers that protobuf wants. */
struct tree {
    Replicated__Manifest manifest;
    Replicated__TopicState *topics;
    Replicated__TopicState **topic_pointers;
    struct topic_settings_message *settings; /* of the topics that have any */
    size_t settings_used;
    uint64_t *ages; /* marks: the indexes, then the ages */
    Replicated__ProducerState *producers;
    Replicated__ProducerState **producer_pointers;
    Replicated__ProducerTopicState *windows;
    Replicated__ProducerTopicState **window_pointers;
    Replicated__WindowBatch *batches;
    Replicated__WindowBatch **batch_pointers;
    Replicated__NodeDisk *nodes;
    Replicated__NodeDisk **node_pointers;
    struct cursor_tree cursors;
    struct producers_counts used; /* filled so far */
    struct producers_counts counts;
};

static void tree_fini(struct tree *tree)
{
    free(tree->topics);
    free(tree->topic_pointers);
    free(tree->settings);
    free(tree->ages);
    free(tree->producers);
    free(tree->producer_pointers);
    free(tree->windows);
    free(tree->window_pointers);
    free(tree->batches);
    free(tree->batch_pointers);
    free(tree->nodes);
    free(tree->node_pointers);
    free(tree->cursors.items);
    free(tree->cursors.pointers);
}

static enum err tree_init(struct tree *tree, size_t topics, unsigned nodes,
                          struct producers_counts counts)
{
    *tree = (struct tree){.manifest = REPLICATED__MANIFEST__INIT, .counts = counts};
    /* One more of each: never of size 0. */
    tree->topics = calloc(topics + 1, sizeof *tree->topics);
    tree->topic_pointers = calloc(topics + 1, sizeof(Replicated__TopicState *));
    tree->producers = calloc(counts.producers + 1, sizeof *tree->producers);
    tree->producer_pointers = calloc(counts.producers + 1, sizeof(Replicated__ProducerState *));
    tree->windows = calloc(counts.windows + 1, sizeof *tree->windows);
    tree->window_pointers = calloc(counts.windows + 1, sizeof(Replicated__ProducerTopicState *));
    tree->batches = calloc(counts.batches + 1, sizeof *tree->batches);
    tree->batch_pointers = calloc(counts.batches + 1, sizeof(Replicated__WindowBatch *));
    tree->nodes = calloc(nodes + 1, sizeof *tree->nodes);
    tree->node_pointers = calloc(nodes + 1, sizeof(Replicated__NodeDisk *));
    if (tree->nodes == NULL || tree->node_pointers == NULL || tree->topics == NULL ||
        tree->topic_pointers == NULL || tree->producers == NULL ||
        tree->producer_pointers == NULL || tree->windows == NULL || tree->window_pointers == NULL ||
        tree->batches == NULL || tree->batch_pointers == NULL) {
        tree_fini(tree);
        return ERR_NOMEM;
    }
    return ERR_OK;
}

static enum err put_producer(void *arg, const struct producer_view *producer)
{
    struct tree *tree = arg;
    Replicated__ProducerState *to = &tree->producers[tree->used.producers];

    ASSERT(tree->used.producers < tree->counts.producers);
    replicated__producer_state__init(to);
    to->id = producer->id;
    to->epoch = producer->epoch;
    to->used_time_us = producer->used_time_us;
    to->topics = &tree->window_pointers[tree->used.windows];
    tree->producer_pointers[tree->used.producers++] = to;
    return ERR_OK;
}

static enum err put_window(void *arg, uint64_t topic_id, uint64_t records,
                           const struct window_batch *batches, unsigned count)
{
    struct tree *tree = arg;
    Replicated__ProducerTopicState *to = &tree->windows[tree->used.windows];

    ASSERT(tree->used.windows < tree->counts.windows);
    ASSERT(count <= tree->counts.batches - tree->used.batches);
    replicated__producer_topic_state__init(to);
    to->topic_id = topic_id;
    to->records = records;
    to->window = &tree->batch_pointers[tree->used.batches];
    to->n_window = count;
    for (unsigned i = 0; i < count; i++) {
        Replicated__WindowBatch *batch = &tree->batches[tree->used.batches];

        replicated__window_batch__init(batch);
        batch->base_sequence = batches[i].base_sequence;
        batch->record_count = batches[i].record_count;
        batch->base_offset = batches[i].base_offset;
        batch->body_crc32c = batches[i].body_crc32c;
        batch->raft_index = batches[i].raft_index;
        batch->raft_term = batches[i].raft_term;
        batch->append_time_us = batches[i].append_time_us;
        tree->batch_pointers[tree->used.batches++] = batch;
    }
    tree->window_pointers[tree->used.windows++] = to;
    tree->producers[tree->used.producers - 1].n_topics++;
    return ERR_OK;
}

static enum err make_settings(struct tree *tree, const struct manifest *manifest)
{
    size_t count = 0;

    for (size_t i = 0; i < manifest->topic_count; i++) {
        count += !topic_settings_are_default(&manifest->topics[i].settings);
    }
    tree->settings = calloc(count + 1, sizeof *tree->settings); /* never of size 0 */
    return tree->settings == NULL ? ERR_NOMEM : ERR_OK;
}

static void put_settings(struct tree *tree, const struct topic_settings *from,
                         Replicated__TopicState *to)
{
    if (!topic_settings_are_default(from)) {
        topic_settings_put(from, &tree->settings[tree->settings_used]);
        to->settings = &tree->settings[tree->settings_used++].message;
    }
}

static void put_topics(struct tree *tree, const struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->topic_count; i++) {
        const struct manifest_topic *from = &manifest->topics[i];
        Replicated__TopicState *to = &tree->topics[i];

        ASSERT(IMPLIES(i > 0, from->id > manifest->topics[i - 1].id));
        ASSERT(from->start <= from->log_start && from->log_start <= from->end);
        ASSERT(from->clean.tombstones_below <= from->clean.clean_to);
        ASSERT(from->clean.clean_to <= from->end);
        replicated__topic_state__init(to);
        to->id = from->id;
        to->name = (char *)(uintptr_t)from->name; /* not written to */
        to->start = from->start;
        to->log_start = from->log_start > from->start ? from->log_start : 0;
        to->end = from->end;
        to->created_time_us = from->created_time_us;
        to->clean_to = from->clean.clean_to;
        to->tombstones_below = from->clean.tombstones_below;
        if (from->end > 0) {
            to->digest.data = (uint8_t *)(uintptr_t)from->digest; /* as above */
            to->digest.len = DIGEST_SIZE;
        }
        if (from->start > 0) {
            to->start_digest.data = (uint8_t *)(uintptr_t)from->start_digest; /* as above */
            to->start_digest.len = DIGEST_SIZE;
        }
        put_settings(tree, &from->settings, to);
        tree->topic_pointers[i] = to;
    }
}

static enum err put_ages(struct tree *tree, const struct ages *ages)
{
    ages_check(ages);
    tree->ages = calloc(2 * ages->count + 1, sizeof *tree->ages); /* never of size 0 */
    if (tree->ages == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < ages->count; i++) {
        tree->ages[i] = ages->marks[i].raft_index;
        tree->ages[ages->count + i] = ages->marks[i].age_us;
    }
    tree->manifest.age_us = ages->age_us;
    tree->manifest.age_indexes = tree->ages;
    tree->manifest.n_age_indexes = ages->count;
    tree->manifest.age_marks_us = tree->ages + ages->count;
    tree->manifest.n_age_marks_us = ages->count;
    return ERR_OK;
}

static void put_nodes(struct tree *tree, const struct nodes *nodes)
{
    for (unsigned i = 0; i < nodes->count; i++) {
        replicated__node_disk__init(&tree->nodes[i]);
        tree->nodes[i].id = nodes->list[i].id;
        tree->nodes[i].disk_id = nodes->list[i].disk_id;
        tree->node_pointers[i] = &tree->nodes[i];
    }
    tree->manifest.nodes = tree->node_pointers;
    tree->manifest.n_nodes = nodes->count;
}

static enum err put_cursor(void *arg, const struct cursor *cursor)
{
    struct cursor_tree *tree = arg;
    struct cursor_item *item = &tree->items[tree->used];

    ASSERT(tree->used < tree->count);
    item->cursor = *cursor;
    replicated__cursor_state__init(&item->state);
    item->state.topic_id = cursor->topic_id;
    item->state.name = item->cursor.name;
    item->state.offset = cursor->at.offset;
    item->state.revision = cursor->at.revision;
    item->state.owner = cursor->at.owner;
    item->state.updated_time_us = cursor->at.updated_time_us;
    item->state.metadata = item->cursor.metadata;
    tree->pointers[tree->used++] = &item->state;
    return ERR_OK;
}

static enum err put_cursors(struct cursor_tree *tree, const struct cursors *cursors)
{
    tree->count = cursors_count(cursors);
    /* One more of each: never of size 0. */
    tree->items = calloc(tree->count + 1, sizeof *tree->items);
    tree->pointers = calloc(tree->count + 1, sizeof(Replicated__CursorState *));
    if (tree->items == NULL || tree->pointers == NULL) {
        return ERR_NOMEM;
    }
    return cursors_visit(cursors, put_cursor, tree);
}

static enum err pack(const Replicated__Manifest *manifest, struct slice *ret_bytes)
{
    size_t size = replicated__manifest__get_packed_size(manifest);
    struct block *block;
    size_t packed;

    if (size > MANIFEST_SIZE_MAX - CRC_SIZE) {
        return ERR_TOO_LARGE;
    }
    block = block_new(size + CRC_SIZE);
    if (block == NULL) {
        return ERR_NOMEM;
    }
    packed = replicated__manifest__pack(manifest, block->data);
    ASSERT(packed == size);
    bytes_put_u32(block->data + size, crc32c(block->data, size));
    *ret_bytes = (struct slice){.block = block, .data = block->data, .size = block->size};
    return ERR_OK;
}

enum err manifest_encode(const struct manifest *self, struct slice *ret_bytes)
{
    struct tree tree;
    struct producers_visitor visitor = {
        .arg = &tree, .producer = put_producer, .window = put_window};
    unsigned nodes = self->nodes != NULL ? self->nodes->count : 0;
    enum err err;

    ASSERT(self->producers != NULL && self->cursors != NULL);
    err = tree_init(&tree, self->topic_count, nodes, producers_count(self->producers));
    if (err != ERR_OK) {
        return err;
    }
    err = make_settings(&tree, self);
    if (err == ERR_OK) {
        put_topics(&tree, self);
        if (nodes > 0) {
            put_nodes(&tree, self->nodes);
        }
        err = producers_visit(self->producers, &visitor);
    }
    if (err == ERR_OK) {
        err = put_cursors(&tree.cursors, self->cursors);
    }
    if (err == ERR_OK) {
        err = put_ages(&tree, &self->ages);
    }
    if (err == ERR_OK) {
        ASSERT(tree.used.batches == tree.counts.batches);
        ASSERT(tree.cursors.used == tree.cursors.count);
        tree.manifest.applied_index = self->applied_index;
        tree.manifest.time_us = self->time_us;
        tree.manifest.next_producer_id = producers_next_id(self->producers);
        tree.manifest.topics = tree.topic_pointers;
        tree.manifest.n_topics = self->topic_count;
        tree.manifest.producers = tree.producer_pointers;
        tree.manifest.n_producers = tree.used.producers;
        tree.manifest.cursors = tree.cursors.pointers;
        tree.manifest.n_cursors = tree.cursors.used;
        err = pack(&tree.manifest, ret_bytes);
    }
    tree_fini(&tree);
    return err;
}

/* ---- decoding ---- */

static bool has_unknown(const ProtobufCMessage *message)
{
    return message->n_unknown_fields > 0;
}

static enum err unknown_field(const char *where, struct err_info *info)
{
    return err_set(info, ERR_VERSION, "a snapshot's %s has fields that this program does not know",
                   where);
}

static enum err get_topic(const Replicated__TopicState *from, struct manifest_topic *ret_topic,
                          struct err_info *info)
{
    size_t size = strlen(from->name);
    enum err err;

    if (has_unknown(&from->base)) {
        return unknown_field("topic", info);
    }
    err = topic_name_check(from->name, size, NULL);
    if (err != ERR_OK) {
        return err_set(info, ERR_CORRUPT, "a snapshot has a topic whose name no topic may have");
    }
    if (from->start > from->end || from->log_start > from->end ||
        (from->log_start != 0 && from->log_start <= from->start) || from->clean_to > from->end ||
        from->tombstones_below > from->clean_to ||
        from->digest.len != (from->end > 0 ? DIGEST_SIZE : 0) ||
        from->start_digest.len != (from->start > 0 ? DIGEST_SIZE : 0)) {
        return err_set(info, ERR_CORRUPT, "a snapshot has topic '%s' with impossible bounds",
                       from->name);
    }
    *ret_topic = (struct manifest_topic){
        .id = from->id,
        .start = from->start,
        .log_start = from->log_start > 0 ? from->log_start : from->start,
        .end = from->end,
        .created_time_us = from->created_time_us,
        .clean = {.clean_to = from->clean_to, .tombstones_below = from->tombstones_below}};
    memcpy(ret_topic->name, from->name, size + 1);
    memcpy(ret_topic->digest, from->end > 0 ? from->digest.data : no_digest, DIGEST_SIZE);
    memcpy(ret_topic->start_digest, from->start > 0 ? from->start_digest.data : no_digest,
           DIGEST_SIZE);
    err = topic_settings_take(from->settings, "a snapshot's topic", &ret_topic->settings, info);
    if (err == ERR_OK && topic_settings_check(&ret_topic->settings, NULL) != ERR_OK) {
        err = err_set(info, ERR_CORRUPT, "a snapshot has topic '%s' with impossible settings",
                      from->name);
    }
    return err;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

static enum err check_names_differ(const struct manifest *manifest, struct err_info *info)
{
    const char **names = malloc((manifest->topic_count + 1) * sizeof *names);
    enum err err = ERR_OK;

    if (names == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < manifest->topic_count; i++) {
        names[i] = manifest->topics[i].name;
    }
    qsort(names, manifest->topic_count, sizeof *names, compare_names);
    for (size_t i = 1; i < manifest->topic_count && err == ERR_OK; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            err = err_set(info, ERR_CORRUPT, "a snapshot has topic '%s' twice", names[i]);
        }
    }
    free(names);
    return err;
}

static enum err get_topics(const Replicated__Manifest *from, struct manifest *manifest,
                           struct err_info *info)
{
    manifest->topics = calloc(from->n_topics + 1, sizeof *manifest->topics);
    if (manifest->topics == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < from->n_topics; i++) {
        enum err err = get_topic(from->topics[i], &manifest->topics[i], info);

        if (err != ERR_OK) {
            return err;
        }
        if (i > 0 && manifest->topics[i].id <= manifest->topics[i - 1].id) {
            return err_set(info, ERR_CORRUPT, "a snapshot's topics are not in order");
        }
        if (manifest->topics[i].id / COMMAND_COUNT_MAX > manifest->applied_index) {
            return err_set(info, ERR_CORRUPT, "a snapshot has topic '%s' from after itself",
                           manifest->topics[i].name);
        }
    }
    manifest->topic_count = from->n_topics;
    return check_names_differ(manifest, info);
}

static enum err get_window(struct producers *producers, uint64_t producer_id,
                           const Replicated__ProducerTopicState *from, struct err_info *info)
{
    struct window_batch batches[PRODUCERS_WINDOW];
    enum err err;

    if (has_unknown(&from->base)) {
        return unknown_field("producer", info);
    }
    if (from->n_window > PRODUCERS_WINDOW) {
        return err_set(info, ERR_CORRUPT, "a snapshot has a producer with too many batches");
    }
    for (size_t i = 0; i < from->n_window; i++) {
        const Replicated__WindowBatch *batch = from->window[i];

        if (has_unknown(&batch->base)) {
            return unknown_field("producer", info);
        }
        batches[i] = (struct window_batch){
            .base_sequence = batch->base_sequence,
            .record_count = batch->record_count,
            .base_offset = batch->base_offset,
            .body_crc32c = batch->body_crc32c,
            .raft_index = batch->raft_index,
            .raft_term = batch->raft_term,
            .append_time_us = batch->append_time_us,
        };
    }
    err = producers_restore_window(producers, producer_id, from->topic_id, from->records, batches,
                                   (unsigned)from->n_window);
    if (err == ERR_CORRUPT) {
        return err_set(info, err, "a snapshot has producer %" PRIu64 " with an impossible window",
                       producer_id);
    }
    return err;
}

static enum err get_producer(struct manifest *manifest, const Replicated__ProducerState *from,
                             struct err_info *info)
{
    const struct producer_view view = {
        .id = from->id, .epoch = (uint16_t)from->epoch, .used_time_us = from->used_time_us};
    enum err err;

    if (has_unknown(&from->base)) {
        return unknown_field("producer", info);
    }
    err = from->epoch <= UINT16_MAX && from->used_time_us <= manifest->time_us
              ? producers_restore_producer(manifest->producers, &view)
              : ERR_CORRUPT;
    if (err == ERR_CORRUPT) {
        return err_set(info, err, "a snapshot has an impossible producer %" PRIu64, from->id);
    }
    for (size_t i = 0; i < from->n_topics && err == ERR_OK; i++) {
        const Replicated__ProducerTopicState *window = from->topics[i];

        if (manifest_find(manifest, window->topic_id) == NULL ||
            (i > 0 && window->topic_id <= from->topics[i - 1]->topic_id)) {
            return err_set(info, ERR_CORRUPT,
                           "a snapshot has producer %" PRIu64 " with impossible topics", from->id);
        }
        err = get_window(manifest->producers, from->id, window, info);
    }
    return err;
}

static enum err get_producers(const Replicated__Manifest *from, struct manifest *manifest,
                              struct err_info *info)
{
    enum err err = producers_new(&manifest->producers);

    if (err != ERR_OK) {
        return err;
    }
    if (from->next_producer_id == 0) {
        return err_set(info, ERR_CORRUPT, "a snapshot has no next producer id");
    }
    producers_set_next_id(manifest->producers, from->next_producer_id);
    for (size_t i = 0; i < from->n_producers && err == ERR_OK; i++) {
        if (i > 0 && from->producers[i]->id <= from->producers[i - 1]->id) {
            return err_set(info, ERR_CORRUPT, "a snapshot's producers are not in order");
        }
        err = get_producer(manifest, from->producers[i], info);
    }
    return err;
}

static enum err get_ages(const Replicated__Manifest *from, struct manifest *manifest,
                         struct err_info *info)
{
    enum err err = from->n_age_indexes == from->n_age_marks_us ? ERR_OK : ERR_CORRUPT;

    manifest->ages.age_us = from->age_us;
    for (size_t i = 0; i < from->n_age_indexes && err == ERR_OK; i++) {
        err = from->age_indexes[i] >= manifest->applied_index
                  ? ERR_CORRUPT
                  : ages_restore(&manifest->ages, from->age_indexes[i], from->age_marks_us[i]);
    }
    return err == ERR_CORRUPT ? err_set(info, err, "a snapshot's ages make no sense") : err;
}

static enum err get_nodes(const Replicated__Manifest *from, struct manifest *manifest,
                          struct err_info *info)
{
    enum err err = ERR_OK;

    manifest->nodes = calloc(1, sizeof *manifest->nodes);
    if (manifest->nodes == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < from->n_nodes && err == ERR_OK; i++) {
        if (has_unknown(&from->nodes[i]->base)) {
            return unknown_field("node", info);
        }
        err = i > 0 && from->nodes[i]->id <= from->nodes[i - 1]->id
                  ? ERR_CORRUPT
                  : nodes_bind(manifest->nodes, from->nodes[i]->id, from->nodes[i]->disk_id);
    }
    return err == ERR_OK ? ERR_OK : err_set(info, ERR_CORRUPT, "a snapshot's nodes make no sense");
}

/* The order is strict, so no two are of one name. */
static bool cursor_is_behind(const Replicated__CursorState *cursor,
                             const Replicated__CursorState *before)
{
    return cursor->topic_id != before->topic_id ? cursor->topic_id > before->topic_id
                                                : strcmp(cursor->name, before->name) > 0;
}

static bool cursor_is_possible(const struct manifest *manifest, const Replicated__CursorState *from)
{
    const struct manifest_topic *topic = manifest_find(manifest, from->topic_id);

    return topic != NULL && from->offset <= topic->end && from->revision > from->topic_id &&
           from->revision / COMMAND_COUNT_MAX <= manifest->applied_index &&
           from->updated_time_us <= manifest->time_us &&
           strlen(from->metadata) <= CURSOR_METADATA_SIZE_MAX &&
           cursor_name_check(from->name, strlen(from->name), NULL) == ERR_OK;
}

static enum err get_cursor(struct manifest *manifest, const Replicated__CursorState *from,
                           struct err_info *info)
{
    struct cursor cursor = {.topic_id = from->topic_id,
                            .at = {.offset = from->offset,
                                   .revision = from->revision,
                                   .owner = from->owner,
                                   .updated_time_us = from->updated_time_us}};
    enum err err = ERR_CORRUPT;

    if (has_unknown(&from->base)) {
        return unknown_field("cursor", info);
    }
    if (cursor_is_possible(manifest, from)) {
        memcpy(cursor.name, from->name, strlen(from->name));
        memcpy(cursor.metadata, from->metadata, strlen(from->metadata));
        err = cursors_restore(manifest->cursors, &cursor);
    }
    return err == ERR_CORRUPT ? err_set(info, err, "a snapshot has an impossible cursor") : err;
}

static enum err get_cursors(const Replicated__Manifest *from, struct manifest *manifest,
                            struct err_info *info)
{
    enum err err = cursors_new(&manifest->cursors);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < from->n_cursors && err == ERR_OK; i++) {
        if (i > 0 && !cursor_is_behind(from->cursors[i], from->cursors[i - 1])) {
            return err_set(info, ERR_CORRUPT, "a snapshot's cursors are not in order");
        }
        err = get_cursor(manifest, from->cursors[i], info);
    }
    return err;
}

enum err manifest_decode(const uint8_t *bytes, size_t size, struct manifest *ret_manifest,
                         struct err_info *info)
{
    struct manifest manifest = {0};
    Replicated__Manifest *message;
    ProtobufCMessage *unpacked;
    enum err err;

    if (size < CRC_SIZE || size > MANIFEST_SIZE_MAX) {
        return err_set(info, ERR_CORRUPT, "%zu bytes are no snapshot", size);
    }
    size -= CRC_SIZE;
    if (crc32c(bytes, size) != bytes_get_u32(bytes + size)) {
        return err_set(info, ERR_CORRUPT, "a snapshot does not match its checksum");
    }
    err = unpack(&replicated__manifest__descriptor, bytes, size, &unpacked);
    if (err != ERR_OK) {
        return err_set(info, err,
                       err == ERR_NOMEM ? "no memory for a snapshot"
                                        : "a snapshot does not decode");
    }
    message = (Replicated__Manifest *)unpacked;
    if (has_unknown(&message->base)) {
        err = unknown_field("head", info);
        goto out;
    }
    manifest.applied_index = message->applied_index;
    manifest.time_us = message->time_us;
    err = get_topics(message, &manifest, info);
    if (err == ERR_OK) {
        err = get_producers(message, &manifest, info);
    }
    if (err == ERR_OK) {
        err = get_nodes(message, &manifest, info);
    }
    if (err == ERR_OK) {
        err = get_cursors(message, &manifest, info);
    }
    if (err == ERR_OK) {
        err = get_ages(message, &manifest, info);
    }
    if (err == ERR_OK) {
        *ret_manifest = manifest;
    } else {
        manifest_fini(&manifest);
    }
    if (err == ERR_NOMEM) {
        (void)err_set(info, err, "no memory for a snapshot");
    }
out:
    protobuf_c_message_free_unpacked(unpacked, NULL);
    return err;
}
