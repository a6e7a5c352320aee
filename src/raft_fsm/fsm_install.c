/*
 * Installing another replica's manifest.
 *
 * Happy path: plan finds or makes the log of every topic and knows the digest of its last batch;
 * fill checks what comes against that chain and appends it; once every log reaches the promised
 * end, and has been synced, finish checks the ends and makes the manifest the state.
 *
 * Failure modes: a plan that is given up leaves the logs of topics that existed before longer than
 * their topics' ends (what entries bring is then compared instead of written), and the logs of new
 * topics as staged ones, which the next plan takes up again, or the entry that creates the topic.
 * After a crash the former are verified and compared, the latter removed.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

/* ---- plan ---- */

static void free_install(struct install *install)
{
    if (install != NULL) {
        manifest_fini(&install->manifest);
        free(install->topics);
        free(install);
    }
}

static enum err contradiction(const struct manifest_topic *promised, const char *what,
                              struct err_info *info)
{
    return err_set(info, ERR_DIVERGED, "topic '%s' of the snapshot: %s", promised->name, what);
}

/* Can the topic here become what is promised? */
static enum err check_topic(const struct topic *topic, const struct manifest_topic *promised,
                            struct err_info *info)
{
    if (strcmp(topic->name, promised->name) != 0) {
        return contradiction(promised, "here it has another name", info);
    }
    if (topic->start > promised->start || topic->end > promised->end) {
        return contradiction(promised, "here it holds what the snapshot does not", info);
    }
    return ERR_OK;
}

static struct staged_topic *find_staged(const struct fsm *self, uint64_t id)
{
    struct staged_topic *staged = self->staged;

    while (staged != NULL && staged->id != id) {
        staged = staged->next;
    }
    return staged;
}

/* The staged topic for a promised one, a new one if need be. */
static enum err stage(struct fsm *self, const struct manifest_topic *promised,
                      struct staged_topic **ret_staged, struct err_info *info)
{
    struct staged_topic *staged = find_staged(self, promised->id);
    enum err err;

    if (staged != NULL) {
        *ret_staged = staged;
        return strcmp(staged->name, promised->name) == 0
                   ? ERR_OK
                   : contradiction(promised, "an earlier snapshot had another name for it", info);
    }
    staged = calloc(1, sizeof *staged);
    if (staged == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    staged->id = promised->id;
    memcpy(staged->name, promised->name, sizeof staged->name);
    err = fsm_make_log(self, promised, &staged->log, info);
    if (err != ERR_OK) {
        free(staged);
        return err;
    }
    staged->next = self->staged;
    self->staged = staged;
    *ret_staged = staged;
    return ERR_OK;
}

/* Where the log ends, and the digest there. */
static enum err measure(struct install_topic *topic, struct err_info *info)
{
    uint64_t end = log_end(topic->log);
    struct batch_header last;
    enum err err;

    if (end == log_start(topic->log)) {
        memset(topic->digest, 0, DIGEST_SIZE);
        topic->digest_known = end == 0;
        return ERR_OK;
    }
    err = log_read_header(topic->log, end - 1, &last, info);
    if (err == ERR_OK) {
        memcpy(topic->digest, last.digest, DIGEST_SIZE);
        topic->digest_known = true;
    }
    return err;
}

/* The promised end lies at or below the log's. */
static enum err check_promised(const struct install_topic *topic, struct err_info *info)
{
    enum err err = fsm_check_end(topic->log, topic->promised, info);

    if (err == ERR_CORRUPT && info != NULL) {
        info->code = ERR_DIVERGED;
    }
    if (err != ERR_OK) {
        (void)err_prefix(info, err, "topic '%s' of the snapshot", topic->promised->name);
    }
    return err == ERR_CORRUPT ? ERR_DIVERGED : err;
}

static enum err plan_topic(struct fsm *self, const struct manifest_topic *promised,
                           struct install_topic *ret_topic, struct err_info *info)
{
    struct install_topic topic = {.promised = promised,
                                  .topic = catalog_peek_id(self->catalog, promised->id)};
    enum err err = ERR_OK;

    if (topic.topic != NULL) {
        err = check_topic(topic.topic, promised, info);
        topic.log = topic.topic->log;
    } else if (fsm_topic_created_index(promised->id) <= self->applied_index) {
        err = contradiction(promised, "here it was deleted, or never created", info);
    } else {
        struct staged_topic *staged = NULL;

        err = stage(self, promised, &staged, info);
        topic.log = staged == NULL ? NULL : staged->log;
    }
    if (err == ERR_OK && log_end(topic.log) < promised->start) {
        /* All that is here is below the cluster's start. */
        err = log_reset(topic.log, promised->start, info);
    }
    if (err == ERR_OK) {
        err = measure(&topic, info);
    }
    if (err == ERR_OK && log_end(topic.log) >= promised->end) {
        err = check_promised(&topic, info);
    }
    if (err == ERR_OK) {
        *ret_topic = topic;
    }
    return err;
}

static bool is_local_failure(enum err err)
{
    return err == ERR_IO || err == ERR_NOSPACE || err == ERR_FAILED;
}

enum err fsm_install_plan(struct fsm *self, const struct manifest *manifest, struct err_info *info)
{
    struct install *install;
    enum err err;

    ASSERT(self->install == NULL);
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    if (manifest->applied_index <= self->applied_index || manifest->topic_count > FSM_TOPICS_MAX) {
        return err_set(info, ERR_INVALID,
                       "a snapshot at index %" PRIu64 " with %zu topics cannot be installed at "
                       "index %" PRIu64,
                       manifest->applied_index, manifest->topic_count, self->applied_index);
    }
    install = calloc(1, sizeof *install);
    if (install == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    install->topics = calloc(manifest->topic_count + 1, sizeof *install->topics);
    err = install->topics == NULL ? ERR_NOMEM : manifest_copy(manifest, &install->manifest);
    if (err != ERR_OK) {
        (void)err_set(info, err, "%s", err_text(err));
    }
    for (size_t i = 0; err == ERR_OK && i < manifest->topic_count; i++) {
        err = plan_topic(self, &install->manifest.topics[i], &install->topics[i], info);
    }
    if (err != ERR_OK) {
        free_install(install);
        return is_local_failure(err) ? fsm_fail(self, err) : err;
    }
    self->install = install;
    return ERR_OK;
}

void fsm_install_abandon(struct fsm *self)
{
    free_install(self->install);
    self->install = NULL;
}

/* ---- fill ---- */

static bool is_missing(const struct install_topic *topic)
{
    return log_end(topic->log) < topic->promised->end;
}

bool fsm_install_missing(const struct fsm *self, struct fsm_missing *ret_missing)
{
    const struct install *install = self->install;

    ASSERT(install != NULL);
    for (size_t i = 0; i < install->manifest.topic_count; i++) {
        const struct install_topic *topic = &install->topics[i];

        if (is_missing(topic)) {
            *ret_missing = (struct fsm_missing){.topic_id = topic->promised->id,
                                                .offset = log_end(topic->log),
                                                .end = topic->promised->end};
            return true;
        }
    }
    return false;
}

static struct install_topic *find_install_topic(struct install *install, uint64_t id)
{
    const struct manifest_topic *promised = manifest_find(&install->manifest, id);

    return promised == NULL ? NULL : &install->topics[promised - install->manifest.topics];
}

/* How far the verified batches go. */
struct chain {
    uint64_t offset;             /* of the next batch */
    uint8_t digest[DIGEST_SIZE]; /* of the one before it */
    bool digest_known;
};

/* Verifies that the batch follows the chain, and adds it. */
static enum err chain_add(struct chain *chain, const struct batch_header *header,
                          const uint8_t *body, struct err_info *info)
{
    uint8_t digest[DIGEST_SIZE];

    if (header->base_offset != chain->offset) {
        return err_set(info, ERR_CORRUPT,
                       "a batch at offset %" PRIu64 " came where %" PRIu64 " belongs",
                       header->base_offset, chain->offset);
    }
    digest_bytes(body, header->size - BATCH_HEADER_SIZE, digest);
    digest_chain(chain->digest, header, digest, digest);
    if (chain->digest_known && memcmp(digest, header->digest, DIGEST_SIZE) != 0) {
        return err_set(info, ERR_CORRUPT,
                       "the batch at offset %" PRIu64 " does not follow the one before it here",
                       chain->offset);
    }
    memcpy(chain->digest, header->digest, DIGEST_SIZE);
    chain->digest_known = true;
    chain->offset = batch_end_offset(header);
    return ERR_OK;
}

/* All of them, before the first is appended, so that a wrong one changes nothing. */
static enum err check_batches(const struct install_topic *topic, const uint8_t *batches,
                              size_t size, struct chain *ret_chain, struct err_info *info)
{
    struct chain chain = {.offset = log_end(topic->log), .digest_known = topic->digest_known};
    size_t position = 0;

    memcpy(chain.digest, topic->digest, DIGEST_SIZE);
    while (position < size) {
        struct batch_header header;
        enum err err;

        if (size - position < BATCH_HEADER_SIZE) {
            return err_set(info, ERR_CORRUPT, "the header of a batch is cut off");
        }
        err = batch_header_decode(batches + position, COMMAND_BATCH_SIZE_MAX, &header, info);
        if (err != ERR_OK) {
            return err;
        }
        if (header.size > size - position) {
            return err_set(info, ERR_CORRUPT, "a batch of %u bytes is cut off", header.size);
        }
        err = batch_check_body(&header, batches + position + BATCH_HEADER_SIZE, info);
        if (err == ERR_OK) {
            err = chain_add(&chain, &header, batches + position + BATCH_HEADER_SIZE, info);
        }
        if (err != ERR_OK) {
            return err;
        }
        position += header.size;
    }
    ASSERT(position == size);
    if (chain.offset > topic->promised->end) {
        return err_set(info, ERR_CORRUPT, "the batches end at %" PRIu64 ", not at %" PRIu64,
                       chain.offset, topic->promised->end);
    }
    *ret_chain = chain;
    return ERR_OK;
}

enum err fsm_install_fill(struct fsm *self, uint64_t topic_id, const uint8_t *batches, size_t size,
                          struct err_info *info)
{
    struct install_topic *topic;
    struct chain chain;
    enum err err;

    ASSERT(self->install != NULL);
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    topic = find_install_topic(self->install, topic_id);
    if (topic == NULL || size == 0) {
        return err_set(info, ERR_CORRUPT, "%zu bytes for topic %" PRIu64 ", which nobody asked for",
                       size, topic_id);
    }
    err = check_batches(topic, batches, size, &chain, info);
    if (err != ERR_OK) {
        (void)err_prefix(info, err, "topic '%s'", topic->promised->name);
        return err;
    }
    err = log_append_raw(topic->log, batches, size, info);
    if (err == ERR_OK) {
        memcpy(topic->digest, chain.digest, DIGEST_SIZE);
        topic->digest_known = true;
        return ERR_OK;
    }
    /* Some of the batches may have been appended: only what is there counts. */
    (void)err_prefix(info, err, "topic '%s'", topic->promised->name);
    if (is_local_failure(err) || measure(topic, NULL) != ERR_OK) {
        return fsm_fail(self, err);
    }
    return err;
}

/* ---- finish ---- */

static enum err check_filled(const struct install *install, struct err_info *info)
{
    for (size_t i = 0; i < install->manifest.topic_count; i++) {
        enum err err;

        if (is_missing(&install->topics[i])) {
            return ERR_AGAIN;
        }
        err = check_promised(&install->topics[i], info);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* Topics that the manifest has no more. */
static enum err drop_others(struct fsm *self, const struct manifest *manifest)
{
    struct staged_topic *staged = self->staged;
    struct topic **topics;
    size_t count;
    enum err err = catalog_list(self->catalog, &topics, &count);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        if (err == ERR_OK && manifest_find(manifest, topics[i]->id) == NULL) {
            err = fsm_drop_topic(self, topics[i], manifest->applied_index);
        }
        topic_unref(topics[i]);
    }
    free(topics);
    while (err == ERR_OK && staged != NULL) {
        struct staged_topic *next = staged->next;

        /* One that a later entry creates stays. */
        if (manifest_find(manifest, staged->id) == NULL &&
            fsm_topic_created_index(staged->id) <= manifest->applied_index) {
            (void)fsm_take_staged(self, staged->id); /* staged itself */
            err = fsm_drop_staged(self, staged, manifest->applied_index);
            if (err != ERR_OK) {
                fsm_free_staged(staged);
            }
        }
        staged = next;
    }
    return err;
}

/* Makes a topic of the manifest what it is there. */
static enum err set_topic(struct fsm *self, struct install_topic *install, struct err_info *info)
{
    const struct manifest_topic *promised = install->promised;
    struct topic *topic = install->topic;
    enum err err = ERR_OK;

    if (topic == NULL) {
        struct staged_topic *staged = fsm_take_staged(self, promised->id);

        ASSERT(staged != NULL && staged->log == install->log);
        err = catalog_add(self->catalog, promised->id, promised->name, staged->log,
                          promised->created_time_us, &topic);
        if (err == ERR_OK) {
            staged->log = NULL;
        }
        fsm_free_staged(staged);
    }
    if (err == ERR_OK && log_start(topic->log) < promised->start) {
        err = log_truncate_front(topic->log, promised->start, info);
    }
    if (err == ERR_OK) {
        topic->start = promised->start;
        topic->end = promised->end;
        memcpy(topic->digest, promised->digest, DIGEST_SIZE);
    }
    return err;
}

static enum err take_over(struct fsm *self, struct err_info *info)
{
    struct install *install = self->install;
    struct manifest *manifest = &install->manifest;
    enum err err = drop_others(self, manifest);

    /* Names first became free above: a topic may have been deleted and created again. */
    for (size_t i = 0; i < manifest->topic_count && err == ERR_OK; i++) {
        err = set_topic(self, &install->topics[i], info);
    }
    if (err != ERR_OK) {
        return err;
    }
    producers_free(self->producers);
    self->producers = manifest->producers;
    manifest->producers = NULL;
    cursors_exchange(catalog_cursors(self->catalog), manifest->cursors);
    self->applied_index = manifest->applied_index;
    self->time_us = manifest->time_us;
    return ERR_OK;
}

enum err fsm_install_finish(struct fsm *self, struct err_info *info)
{
    enum err err;

    ASSERT(self->install != NULL);
    ASSERT(!self->syncing);
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    err = check_filled(self->install, info);
    if (err == ERR_AGAIN) {
        return err_set(info, err, "the snapshot's batches are not all here yet");
    }
    if (err == ERR_OK) {
        err = take_over(self, info);
    }
    if (err != ERR_OK) {
        if (info != NULL && info->code != err) {
            (void)err_set(info, err, "%s", err_text(err)); /* Memory is short. */
        }
        return fsm_fail(self, err);
    }
    fsm_install_abandon(self);
    fsm_check(self);
    return ERR_OK;
}
