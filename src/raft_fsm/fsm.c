#include "raft_fsm/fsm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

_Static_assert(TOPIC_NAME_SIZE_MAX + 1 + 20 < 255, "a topic's directory fits a file name");
_Static_assert(FSM_DIR_NAME_SIZE > TOPIC_NAME_SIZE_MAX + 1 + 20, "and its buffer");

/* Of a state machine that is alone: a tool, a simulated node. */
static const struct file_cache_options own_files = {
    .descriptors_max = 16,
    .descriptors_limit = 1024,
    .mapped_max = 16 << 20,
};
/* Segments whose files go with a snapshot, at once. */
enum { FORGET_SEGMENTS = 16 };

enum err fsm_fail(struct fsm *self, enum err err)
{
    ASSERT(err != ERR_OK);
    self->failed = true;
    return err;
}

/* ---- topics and their directories ---- */

void fsm_dir_name(char buffer[FSM_DIR_NAME_SIZE], const char *name, uint64_t id)
{
    int size = snprintf(buffer, FSM_DIR_NAME_SIZE, "%s-%" PRIu64, name, id);

    ASSERT(size > 0 && size < FSM_DIR_NAME_SIZE);
}

/* Whether fsm_dir_name makes such names. */
static bool is_dir_name(const char *dir_name)
{
    const char *dash = strrchr(dir_name, '-');
    char again[FSM_DIR_NAME_SIZE];
    char name[TOPIC_NAME_SIZE_MAX + 1];
    uint64_t id = 0;

    if (dash == NULL || dash - dir_name > TOPIC_NAME_SIZE_MAX ||
        sscanf(dash + 1, "%20" SCNu64, &id) != 1) {
        return false;
    }
    memcpy(name, dir_name, (size_t)(dash - dir_name));
    name[dash - dir_name] = '\0';
    if (topic_name_check(name, strlen(name), NULL) != ERR_OK) {
        return false;
    }
    fsm_dir_name(again, name, id);
    return strcmp(again, dir_name) == 0;
}

static void tell_report(const struct fsm *self, const struct manifest_topic *topic,
                        const struct log_report *report)
{
    char quoted[sizeof report->damage.text + 64];

    if (report->torn) {
        diag_event(self->diag, DIAG_WARN, "raft_fsm", "torn_tail",
                   "topic=%s file=%s position=%" PRIu64 " bytes=%" PRIu64 " end=%" PRIu64,
                   topic->name, report->path, report->position, report->size_cut, report->end);
    }
    if (report->indexes_rebuilt > 0) {
        diag_event(self->diag, DIAG_INFO, "raft_fsm", "indexes_rebuilt", "topic=%s count=%u",
                   topic->name, report->indexes_rebuilt);
    }
    if (report->damaged > 0) {
        diag_event(self->diag, DIAG_ERROR, "raft_fsm", "damage_found",
                   "topic=%s places=%u first=%s", topic->name, report->damaged,
                   diag_quote(quoted, sizeof quoted, report->damage.text));
    }
    if (report->holes > 0) {
        diag_event(self->diag, DIAG_WARN, "raft_fsm", "holes", "topic=%s holes=%u offsets=%" PRIu64,
                   topic->name, report->holes, report->missing);
    }
}

void fsm_configure_log(struct log *log, const struct topic_settings *settings)
{
    log_configure(log, &(struct log_tuning){.segment_size_max = settings->segment_bytes,
                                            .segment_ms = settings->segment_ms,
                                            .preallocate = settings->preallocate});
}

enum err fsm_open_log(struct fsm *self, const struct manifest_topic *topic, struct log **ret_log,
                      struct err_info *info)
{
    char name[FSM_DIR_NAME_SIZE];
    char path[IO_PATH_SIZE];
    struct log_report report = {0};
    const struct log_options options = {
        .io = self->io,
        .files = self->files,
        .dir = path,
        .start = topic->start,
        .durable_end = topic->end,
        .segment_size_max = self->segment_size_max,
        .batch_size_max = COMMAND_BATCH_SIZE_MAX,
        .index_interval = self->index_interval,
        .write_back_size = self->write_back_size,
        .holes_allowed = self->holes_allowed,
    };
    enum err err;

    fsm_dir_name(name, topic->name, topic->id);
    err = io_path(path, self->dir, name, info);
    if (err == ERR_OK) {
        err = log_open(&options, ret_log, &report, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    tell_report(self, topic, &report);
    fsm_configure_log(*ret_log, &topic->settings);
    err = fsm_ease_files(self, *ret_log, info); /* At start there are many to come. */
    if (err != ERR_OK) {
        log_close(*ret_log);
    }
    return err;
}

enum err fsm_make_log(struct fsm *self, const struct manifest_topic *topic, uint64_t durable_end,
                      struct log **ret_log, struct err_info *info)
{
    char name[FSM_DIR_NAME_SIZE];
    char path[IO_PATH_SIZE];
    struct manifest_topic there = *topic;
    enum err err;
    int rv;

    fsm_dir_name(name, topic->name, topic->id);
    err = io_path(path, self->dir, name, info);
    if (err != ERR_OK) {
        return err;
    }
    /* An earlier try may have come so far and no further. */
    rv = self->io->mkdir(self->io, path, 0750);
    if (rv < 0 && err_from_errno(-rv) != ERR_EXISTS) {
        return io_error(rv, "make directory", path, info);
    }
    self->dir_changes++; /* Synced with the logs, before a manifest promises it. */
    there.end = durable_end;
    return fsm_open_log(self, &there, ret_log, info);
}

enum err fsm_check_end(struct log *log, const struct manifest_topic *topic, struct err_info *info)
{
    struct batch_header header;
    enum err err;

    if (topic->end == 0 || topic->end <= log_start(log)) {
        return ERR_OK; /* There is no batch to look at. */
    }
    err = log_read_header(log, topic->end - 1, &header, info);
    if (err != ERR_OK) {
        return err == ERR_HOLE ? ERR_OK : err;
    }
    if (batch_end_offset(&header) > topic->end && (header.attributes & BATCH_COMPACTED) != 0) {
        return ERR_OK; /* Merged with later ones, whose entries are replayed: no digest is left. */
    }
    if (batch_end_offset(&header) != topic->end) {
        return err_set(info, ERR_DIVERGED,
                       "the batch at offset %" PRIu64 " ends at %" PRIu64 " and not at %" PRIu64,
                       header.base_offset, batch_end_offset(&header), topic->end);
    }
    if (memcmp(header.digest, topic->digest, DIGEST_SIZE) != 0) {
        return err_set(info, ERR_DIVERGED, "the digest of the batch at offset %" PRIu64 " differs",
                       header.base_offset);
    }
    return ERR_OK;
}

static enum err drop(struct fsm *self, const struct deleted_topic *what)
{
    struct deleted_topic *deleted = malloc(sizeof *deleted);

    if (deleted == NULL) {
        return ERR_NOMEM;
    }
    *deleted = *what;
    deleted->next = self->deleted;
    self->deleted = deleted;
    return ERR_OK;
}

enum err fsm_drop_topic(struct fsm *self, struct topic *topic, uint64_t index)
{
    struct deleted_topic deleted = {.topic = topic, .id = topic->id, .index = index};
    enum err err;

    memcpy(deleted.name, topic->name, sizeof deleted.name);
    err = drop(self, &deleted);
    if (err == ERR_OK) {
        topic_ref(topic);
        fsm_forget_holes(self, topic);
        fsm_end_upkeep(self, topic);
        producers_forget_topic(self->producers, topic->id);
        cursors_forget_topic(catalog_cursors(self->catalog), topic->id);
        catalog_remove(self->catalog, topic);
    }
    return err;
}

/* ---- opening ---- */

/* The names in the directory that are topics'. */
struct listing {
    char **names; /* owned */
    size_t count;
    size_t capacity;
    enum err err;
};

static void listing_fini(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++) {
        free(listing->names[i]);
    }
    free(listing->names);
}

static int note_name(void *arg, const char *name)
{
    struct listing *listing = arg;

    if (!is_dir_name(name)) {
        return 0; /* Not ours: left alone. */
    }
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 64 : listing->capacity * 2;
        char **grown = realloc(listing->names, capacity * sizeof *grown);

        if (grown == NULL) {
            listing->err = ERR_NOMEM;
            return 1;
        }
        listing->names = grown;
        listing->capacity = capacity;
    }
    listing->names[listing->count] = strdup(name);
    if (listing->names[listing->count] == NULL) {
        listing->err = ERR_NOMEM;
        return 1;
    }
    listing->count++;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

static enum err list_dirs(struct fsm *self, struct listing *listing, struct err_info *info)
{
    int rv = self->io->list(self->io, self->dir, note_name, listing);

    if (listing->err != ERR_OK) {
        return err_set(info, listing->err, "list '%s': %s", self->dir, err_text(listing->err));
    }
    if (rv < 0) {
        return io_error(rv, "list", self->dir, info);
    }
    if (listing->count > 0) {
        qsort(listing->names, listing->count, sizeof *listing->names, compare_names);
    }
    return ERR_OK;
}

static bool listing_has(const struct listing *listing, const char *name)
{
    return listing->count > 0 && bsearch(&name, listing->names, listing->count,
                                         sizeof *listing->names, compare_names) != NULL;
}

/* What the person who reads it can do about it. */
static enum err damaged(const struct fsm *self, const struct manifest_topic *topic,
                        struct err_info *info)
{
    char what[sizeof info->text] = "";

    if (info != NULL) {
        memcpy(what, info->text, sizeof what);
    }
    return err_set(info, ERR_CORRUPT,
                   "this node's copy of topic '%s' is damaged: %.220s. Stop the node; then remove "
                   "it from the cluster and add it again with an empty directory, or restore "
                   "'%s/%s-%" PRIu64 "' from a backup of this node",
                   topic->name, what, self->dir, topic->name, topic->id);
}

/* What lies above the manifest's end was written by later entries. */
static enum err check_above(const struct fsm *self, struct log *log,
                            const struct manifest_topic *topic, struct err_info *info)
{
    struct batch_header header;
    enum err err;

    if (log_end(log) <= topic->end || topic->end < log_start(log)) {
        return ERR_OK;
    }
    err = log_read_header(log, topic->end, &header, info);
    if (err == ERR_OK && header.raft_index <= self->applied_index) {
        return err_set(info, ERR_CORRUPT,
                       "the batch at offset %" PRIu64 " is of entry %" PRIu64
                       ", which the snapshot at %" PRIu64 " does not have",
                       header.base_offset, header.raft_index, self->applied_index);
    }
    return err;
}

/* Nobody reads a whole log at opening, but this batch is looked at. */
static enum err check_last(struct fsm *self, struct log *log, const struct manifest_topic *topic,
                           struct err_info *info)
{
    struct err_info damage = {.text = ""};
    char quoted[sizeof damage.text + 64];
    enum err err = fsm_check_end(log, topic, &damage);

    if (err == ERR_CORRUPT && self->holes_allowed) {
        diag_event(self->diag, DIAG_ERROR, "raft_fsm", "damage_found", "topic=%s places=1 first=%s",
                   topic->name, diag_quote(quoted, sizeof quoted, damage.text));
        return log_punch(log, topic->end - 1, topic->end, info);
    }
    if (err != ERR_OK && info != NULL) {
        *info = damage;
    }
    return err;
}

static enum err open_checked_log(struct fsm *self, const struct manifest_topic *topic,
                                 const struct listing *listing, struct log **ret_log,
                                 struct err_info *info)
{
    char name[FSM_DIR_NAME_SIZE];
    struct log *log;
    enum err err;

    fsm_dir_name(name, topic->name, topic->id);
    if (listing_has(listing, name)) {
        err = fsm_open_log(self, topic, &log, info);
    } else if (self->holes_allowed) {
        diag_event(self->diag, DIAG_ERROR, "raft_fsm", "damage_found",
                   "topic=%s places=1 first=\"the directory '%s/%s' is missing\"", topic->name,
                   self->dir, name);
        err = fsm_make_log(self, topic, topic->end, &log, info);
    } else {
        err = err_set(info, ERR_CORRUPT, "its directory is missing");
    }
    if (err != ERR_OK) {
        return err;
    }
    if (log_end(log) < topic->end) {
        err = err_set(info, ERR_CORRUPT,
                      "it ends at offset %" PRIu64 ", but those below %" PRIu64 " were synced",
                      log_end(log), topic->end);
    }
    if (err == ERR_OK) {
        err = check_last(self, log, topic, info);
    }
    if (err == ERR_OK) {
        err = check_above(self, log, topic, info);
    }
    if (err != ERR_OK) {
        log_close(log);
        return err;
    }
    *ret_log = log;
    return ERR_OK;
}

static enum err open_topic(struct fsm *self, const struct manifest_topic *promised,
                           const struct listing *listing, struct err_info *info)
{
    struct err_info reason = {0};
    struct topic *topic;
    struct log *log = NULL;
    enum err err;

    err = open_checked_log(self, promised, listing, &log, &reason);
    if (err == ERR_CORRUPT || err == ERR_RANGE || err == ERR_DIVERGED) {
        if (info != NULL) {
            *info = reason;
        }
        return damaged(self, promised, info);
    }
    if (err != ERR_OK) {
        return err_set(info, err, "topic '%s': %s", promised->name, reason.text);
    }
    err = catalog_add(self->catalog, promised->id, promised->name, log, promised->created_time_us,
                      &topic);
    if (err != ERR_OK) {
        log_close(log);
        return err_set(info, err == ERR_NOMEM ? err : ERR_CORRUPT, "topic '%s': %s", promised->name,
                       err_text(err));
    }
    fsm_set_start(topic, promised);
    topic->end = promised->end;
    memcpy(topic->digest, promised->digest, DIGEST_SIZE);
    topic->clean = promised->clean;
    fsm_use_settings(self, topic, &promised->settings);
    err = fsm_count_holes(self, topic);
    return err == ERR_OK ? ERR_OK : err_set(info, err, "%s", err_text(err));
}

static enum err remove_unknown(struct fsm *self, const struct manifest *manifest,
                               struct listing *listing, struct err_info *info)
{
    for (size_t i = 0; i < listing->count; i++) {
        const char *name = listing->names[i];
        uint64_t id = 0;
        const struct manifest_topic *topic;
        char expected[FSM_DIR_NAME_SIZE] = "";
        enum err err;

        (void)sscanf(strrchr(name, '-') + 1, "%20" SCNu64, &id); /* is_dir_name has read it. */
        topic = manifest == NULL ? NULL : manifest_find(manifest, id);
        if (topic != NULL) {
            fsm_dir_name(expected, topic->name, topic->id);
        }
        if (strcmp(name, expected) == 0) {
            continue;
        }
        err = io_remove_dir(self->io, self->dir, name, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err open_cursors(struct fsm *self, const struct manifest *manifest)
{
    struct cursors *copy;
    enum err err = cursors_copy(manifest->cursors, &copy);

    if (err == ERR_OK) {
        cursors_exchange(catalog_cursors(self->catalog), copy);
        cursors_free(copy);
    }
    return err;
}

static enum err open_state(struct fsm *self, const struct manifest *manifest, struct err_info *info)
{
    struct listing listing = {0};
    enum err err;

    if (manifest != NULL) {
        self->applied_index = manifest->applied_index;
        self->time_us = manifest->time_us;
        self->nodes = manifest->nodes != NULL ? *manifest->nodes : (struct nodes){.count = 0};
        err = producers_copy(manifest->producers, &self->producers);
        err = err == ERR_OK ? ages_copy(&manifest->ages, &self->ages) : err;
    } else {
        err = producers_new(&self->producers);
    }
    if (err == ERR_OK) {
        err = catalog_new(FSM_TOPICS_MAX, &self->catalog);
    }
    if (err == ERR_OK && manifest != NULL) {
        err = open_cursors(self, manifest);
    }
    if (err != ERR_OK) {
        return err_set(info, err, "%s", err_text(err));
    }
    err = list_dirs(self, &listing, info);
    for (size_t i = 0; manifest != NULL && i < manifest->topic_count && err == ERR_OK; i++) {
        err = open_topic(self, &manifest->topics[i], &listing, info);
    }
    if (err == ERR_OK) {
        err = remove_unknown(self, manifest, &listing, info);
    }
    listing_fini(&listing);
    return err;
}

enum err fsm_open(const struct fsm_options *options, const struct manifest *manifest,
                  struct fsm **ret_fsm, struct err_info *info)
{
    struct fsm *self = calloc(1, sizeof *self);
    enum err err;

    ASSERT(options->io != NULL && options->dir != NULL);
    ASSERT(IMPLIES(manifest != NULL, manifest->producers != NULL && manifest->cursors != NULL));
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    self->io = options->io;
    self->diag = options->diag;
    self->segment_size_max = options->segment_size_max;
    self->index_interval = options->index_interval;
    self->write_back_size = options->write_back_size;
    self->holes_allowed = options->holes_allowed;
    self->files =
        options->files != NULL ? file_cache_ref(options->files) : file_cache_new(&own_files);
    self->dir = strdup(options->dir);
    err = self->dir == NULL || self->files == NULL
              ? err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM))
              : open_state(self, manifest, info);
    if (err != ERR_OK) {
        if (info != NULL && info->code != err) {
            (void)err_set(info, err, "%s", err_text(err)); /* Memory is short. */
        }
        fsm_close(self);
        return err;
    }
    fsm_check(self);
    *ret_fsm = self;
    return ERR_OK;
}

static void free_deleted(struct deleted_topic *deleted)
{
    topic_unref(deleted->topic);
    free(deleted);
}

void fsm_close(struct fsm *self)
{
    if (self == NULL) {
        return;
    }
    ASSERT(!self->syncing);
    for (size_t i = 0; i < self->holed_count; i++) {
        topic_unref(self->holed[i]);
    }
    free(self->holed);
    fsm_forget_passed(self);
    ages_fini(&self->ages);
    while (self->deleted != NULL) {
        struct deleted_topic *deleted = self->deleted;

        self->deleted = deleted->next;
        free_deleted(deleted);
    }
    catalog_free(self->catalog);
    producers_free(self->producers);
    file_cache_unref(self->files);
    free(self->dir);
    free(self);
}

struct catalog *fsm_catalog(struct fsm *self)
{
    return self->catalog;
}

uint64_t fsm_applied_index(const struct fsm *self)
{
    return self->applied_index;
}

const struct nodes *fsm_nodes(const struct fsm *self)
{
    return &self->nodes;
}

int64_t fsm_time_us(const struct fsm *self)
{
    return self->time_us;
}

uint64_t fsm_records_applied(const struct fsm *self)
{
    return self->records_applied;
}

/* ---- snapshots ---- */

static int compare_ids(const void *a, const void *b)
{
    const struct manifest_topic *left = a;
    const struct manifest_topic *right = b;

    return (left->id > right->id) - (left->id < right->id);
}

static void put_topic(const struct topic *topic, struct manifest_topic *ret_topic)
{
    *ret_topic = (struct manifest_topic){.id = topic->id,
                                         .start = topic->start,
                                         .log_start = topic->log_start,
                                         .end = topic->end,
                                         .created_time_us = topic->created_time_us,
                                         .settings = topic->settings,
                                         .clean = topic->clean};
    memcpy(ret_topic->name, topic->name, sizeof ret_topic->name);
    memcpy(ret_topic->digest, topic->digest, DIGEST_SIZE);
    memcpy(ret_topic->start_digest, topic->start_digest, DIGEST_SIZE);
}

enum err fsm_manifest(const struct fsm *self, struct manifest *ret_manifest)
{
    struct manifest manifest = {.applied_index = self->applied_index, .time_us = self->time_us};
    struct topic **topics;
    enum err err;

    ASSERT(!self->failed);
    err = catalog_list(self->catalog, &topics, &manifest.topic_count);
    if (err != ERR_OK) {
        return err;
    }
    manifest.topics = calloc(manifest.topic_count + 1, sizeof *manifest.topics);
    for (size_t i = 0; i < manifest.topic_count; i++) {
        if (manifest.topics != NULL) {
            put_topic(topics[i], &manifest.topics[i]);
        }
        topic_unref(topics[i]);
    }
    free(topics);
    if (manifest.topics == NULL) {
        return ERR_NOMEM;
    }
    qsort(manifest.topics, manifest.topic_count, sizeof *manifest.topics, compare_ids);
    err = ages_copy(&self->ages, &manifest.ages);
    if (err == ERR_OK) {
        err = nodes_copy(&self->nodes, &manifest.nodes);
    }
    if (err == ERR_OK) {
        err = producers_copy(self->producers, &manifest.producers);
    }
    if (err == ERR_OK) {
        err = cursors_copy(catalog_cursors(self->catalog), &manifest.cursors);
    }
    if (err != ERR_OK) {
        manifest_fini(&manifest);
        return err;
    }
    *ret_manifest = manifest;
    return ERR_OK;
}

enum err fsm_forget(struct fsm *self, uint64_t index, struct err_info *info)
{
    struct deleted_topic **at = &self->deleted;
    bool more;

    ASSERT(!self->syncing);
    ASSERT(index <= self->applied_index);
    while (*at != NULL) {
        struct deleted_topic *deleted = *at;
        char name[FSM_DIR_NAME_SIZE];
        enum err err;

        if (deleted->index > index) {
            at = &deleted->next;
            continue;
        }
        /* Readers that hold the topic go on with the files that they have open. */
        fsm_dir_name(name, deleted->name, deleted->id);
        err = io_remove_dir(self->io, self->dir, name, info);
        if (err != ERR_OK) {
            return fsm_fail(self, err);
        }
        *at = deleted->next;
        free_deleted(deleted);
    }
    fsm_note_durable(self, index);
    return fsm_remove_passed(self, FORGET_SEGMENTS, &more, info);
}

bool fsm_has_deleted(const struct fsm *self)
{
    return self->deleted != NULL || fsm_has_passed(self);
}

struct topic *fsm_find_promised(struct fsm *self, uint64_t id)
{
    struct topic *topic = catalog_peek_id(self->catalog, id);

    for (struct deleted_topic *deleted = self->deleted; deleted != NULL && topic == NULL;
         deleted = deleted->next) {
        topic = deleted->id == id ? deleted->topic : NULL;
    }
    if (topic != NULL) {
        topic_ref(topic);
    }
    return topic;
}

void fsm_check(const struct fsm *self)
{
    struct fsm_holes holes = {0};
    struct topic **topics;
    size_t count;

    producers_check(self->producers);
    cursors_check(catalog_cursors(self->catalog));
    if (catalog_list(self->catalog, &topics, &count) != ERR_OK) {
        return; /* No memory to look with. */
    }
    ASSERT(count <= FSM_TOPICS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct topic *topic = topics[i];

        ASSERT(topic->start <= topic->log_start && topic->log_start <= topic->end); /* F4 */
        ASSERT(topic->log_start == topic_start(topic));
        ASSERT(topic->start <= log_start(topic->log));                  /* F7 */
        ASSERT(topic->end <= log_end(topic->log));                      /* F1 */
        ASSERT(topic->clean.tombstones_below <= topic->clean.clean_to); /* F8 */
        ASSERT(topic->clean.clean_to <= topic->end);
        ASSERT(fsm_topic_created_index(topic->id) <= self->applied_index);
        ASSERT(!atomic_load(&topic->deleted));
        ASSERT((topic->holes > 0) == log_has_holes(topic->log));
        ASSERT(topic->holes == 0 || atomic_load(&topic->cleaned_to) == 0); /* F9 */
        ASSERT(topic->kept == (topic->settings.flush_ms > 0 || topic->settings.segment_ms > 0));
        holes.topics += topic->holes > 0;
        holes.holes += topic->holes;
        holes.missing += topic->missing;
        topic_unref(topics[i]);
    }
    free(topics);
    ASSERT(holes.topics == self->holes.topics && holes.holes == self->holes.holes); /* F6 */
    ASSERT(holes.missing == self->holes.missing);
}
