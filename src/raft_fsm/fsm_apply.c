/*
 * Applying entries.
 *
 * The outcome of each command is decided here, from the entry and the state only. An error that is
 * returned is this node's own (disk, memory, divergence) and ends in the failed state: an entry may
 * then be half applied, in memory; what is on the disk is replayed and compared after opening
 * again.
 */
#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

/* The command that is being applied. */
struct step {
    const struct entry *entry;
    unsigned number; /* of the command in the entry */
    struct command_view command;
    struct fsm_result result;
    struct err_info *info;
};

/* Where memory is short, nobody has said so yet. */
static enum err say_where(const struct step *step, enum err err, const char *topic_name)
{
    ASSERT(err != ERR_OK);
    if (step->info != NULL && step->info->code != err) {
        (void)err_set(step->info, err, "%s", err_text(err));
    }
    (void)err_prefix(step->info, err, "topic '%s'", topic_name);
    return err;
}

static enum err differs(const struct step *step, const struct topic *topic,
                        const struct batch_header *here)
{
    return err_set(step->info, ERR_DIVERGED,
                   "topic '%s' at offset %" PRIu64 ": this node holds a batch at %" PRIu64
                   " of entry %" PRIu64 " that is not the one that entry %" PRIu64 " writes",
                   topic->name, topic->end, here->base_offset, here->raft_index,
                   step->entry->index);
}

/* Whether the batch was compacted here, with others perhaps. Where it is the last one of them the
 * digest tells. */
static bool stands_for(const struct batch_header *here, const struct batch_header *header)
{
    ASSERT(here->base_offset <= header->base_offset);
    if ((here->attributes & BATCH_COMPACTED) == 0 ||
        batch_end_offset(here) < batch_end_offset(header)) {
        return false;
    }
    if (batch_end_offset(here) > batch_end_offset(header)) {
        return here->raft_index >= header->raft_index;
    }
    return here->raft_index == header->raft_index &&
           memcmp(here->digest, header->digest, DIGEST_SIZE) == 0;
}

/* The log holds the batch already, from before a restart: it must be equal. Where it was lost
 * since, whoever fills the hole compares. */
static enum err compare_batch(const struct step *step, const struct topic *topic,
                              const struct batch_header *header)
{
    struct batch_header here;
    enum err err;

    if (header->base_offset < log_start(topic->log)) {
        return ERR_OK; /* It was there, and was trimmed since. */
    }
    err = log_read_header(topic->log, header->base_offset, &here, step->info);
    if (err == ERR_HOLE) {
        return ERR_OK;
    }
    if (err != ERR_OK) {
        return say_where(step, err, topic->name);
    }
    if (stands_for(&here, header)) {
        return ERR_OK;
    }
    if (here.base_offset != header->base_offset || here.raft_index != header->raft_index ||
        memcmp(here.digest, header->digest, DIGEST_SIZE) != 0) {
        return differs(step, topic, &here);
    }
    return ERR_OK;
}

static enum err place_batch(const struct step *step, struct topic *topic,
                            const struct batch_header *header)
{
    enum err err;

    ASSERT(header->base_offset == topic->end);
    if (log_end(topic->log) > topic->end) {
        return compare_batch(step, topic, header);
    }
    ASSERT(log_end(topic->log) == topic->end); /* F1 */
    err = log_append(topic->log, header, step->command.produce.body, step->info);
    return err == ERR_OK ? ERR_OK : say_where(step, err, topic->name);
}

static void tell_duplicate(struct step *step, const struct window_batch *before)
{
    step->result.duplicate = true;
    step->result.base_offset = before->base_offset;
    step->result.record_count = before->record_count;
    step->result.raft_index = before->raft_index;
    step->result.raft_term = before->raft_term;
    step->result.append_time_us = before->append_time_us;
}

/* Decides whether the batch is to be written; if not, the result is complete. */
static bool decide_produce(struct fsm *self, struct step *step, const struct topic *topic)
{
    const struct batch_header *header = &step->command.produce.header;
    struct window_batch before;
    enum err err = ERR_OK;

    if (header->producer_id != 0) {
        err = producers_decide(self->producers, topic->id, self->time_us, header, &before);
    }
    if (err == ERR_EXISTS) {
        tell_duplicate(step, &before); /* Whatever it expects: it was written where it expected. */
        return false;
    }
    if (err == ERR_OK && step->command.produce.has_expect &&
        step->command.produce.expect_offset != topic->end) {
        step->result.log_end = topic->end;
        err = ERR_EXPECT_FAILED;
    }
    step->result.err = err;
    return err == ERR_OK;
}

static enum err apply_produce(struct fsm *self, struct step *step)
{
    struct topic *topic = catalog_peek_id(self->catalog, step->command.produce.topic_id);
    struct batch_header header = step->command.produce.header;
    enum err err;

    if (topic == NULL) {
        step->result.err = ERR_TOPIC_UNKNOWN;
        return ERR_OK;
    }
    step->result.topic_id = topic->id;
    if (!decide_produce(self, step, topic)) {
        return ERR_OK;
    }
    ASSERT(topic->end <= UINT64_MAX - header.record_count); /* 2^32 batches of 2^32 records */
    header.base_offset = topic->end;
    header.raft_index = step->entry->index;
    header.raft_term = step->entry->term;
    header.append_time_us = self->time_us;
    digest_chain(topic->digest, &header, step->command.produce.body_digest, header.digest);
    err = place_batch(step, topic, &header);
    if (err != ERR_OK) {
        return err;
    }
    topic->end = batch_end_offset(&header);
    memcpy(topic->digest, header.digest, DIGEST_SIZE);
    self->records_applied += header.record_count;
    if (header.producer_id != 0) {
        err = producers_note(self->producers, topic->id, self->time_us, &header);
    }
    step->result.base_offset = header.base_offset;
    step->result.record_count = header.record_count;
    step->result.raft_index = header.raft_index;
    step->result.raft_term = header.raft_term;
    step->result.append_time_us = header.append_time_us;
    return err;
}

static void tell_written(const struct fsm *self, struct step *step)
{
    ASSERT(step->result.err == ERR_OK);
    step->result.raft_index = step->entry->index;
    step->result.raft_term = step->entry->term;
    step->result.append_time_us = self->time_us;
}

static enum err apply_create(struct fsm *self, struct step *step)
{
    struct topic *topic = catalog_peek(self->catalog, step->command.topic_name);
    struct manifest_topic created = {.id = step->entry->index * COMMAND_COUNT_MAX + step->number,
                                     .created_time_us = self->time_us};
    const struct topic_settings *settings = step->command.settings;
    struct log *log = NULL;
    enum err err;

    if (topic != NULL) {
        step->result.err = ERR_TOPIC_EXISTS;
        step->result.topic_id = topic->id;
        return ERR_OK;
    }
    if (catalog_count(self->catalog) >= FSM_TOPICS_MAX) {
        step->result.err = ERR_LIMIT;
        return ERR_OK;
    }
    if (topic_settings_check(settings, NULL) != ERR_OK) {
        step->result.err = ERR_INVALID;
        return ERR_OK;
    }
    created.settings = *settings;
    memcpy(created.name, step->command.topic_name, sizeof created.name);
    err = fsm_make_log(self, &created, 0, &log, step->info);
    if (err != ERR_OK) {
        return say_where(step, err, created.name);
    }
    err =
        catalog_add(self->catalog, created.id, created.name, log, created.created_time_us, &topic);
    if (err != ERR_OK) {
        ASSERT(err == ERR_NOMEM); /* The rest was asked before. */
        log_close(log);
        return err;
    }
    fsm_use_settings(self, topic, settings);
    step->result.topic_id = topic->id;
    tell_written(self, step);
    return ERR_OK;
}

static enum err apply_alter(struct fsm *self, struct step *step)
{
    struct topic *topic = catalog_peek(self->catalog, step->command.topic_name);
    struct topic_settings settings;

    if (topic == NULL) {
        step->result.err = ERR_TOPIC_UNKNOWN;
        return ERR_OK;
    }
    step->result.topic_id = topic->id;
    step->result.err =
        topic_settings_change(&topic->settings, step->command.change, &settings, NULL);
    if (step->result.err == ERR_OK) {
        fsm_use_settings(self, topic, &settings);
        self->alterations++;
        tell_written(self, step);
    }
    return ERR_OK;
}

static enum err apply_delete(struct fsm *self, struct step *step)
{
    struct topic *topic = catalog_peek(self->catalog, step->command.topic_name);
    enum err err;

    if (topic == NULL) {
        step->result.err = ERR_TOPIC_UNKNOWN;
        return ERR_OK;
    }
    step->result.topic_id = topic->id;
    err = fsm_drop_topic(self, topic, step->entry->index);
    if (err == ERR_OK) {
        tell_written(self, step);
    }
    return err;
}

static enum err apply_init_producer(struct fsm *self, struct step *step)
{
    enum err err = producers_init(self->producers, self->time_us, &step->result.producer_id,
                                  &step->result.producer_epoch);

    if (err == ERR_LIMIT) {
        step->result.err = err;
        return ERR_OK;
    }
    if (err == ERR_OK) {
        tell_written(self, step);
    }
    return err;
}

/* The first disk that an id is bound to is the one that counts. */
static enum err apply_node_bind(struct fsm *self, struct step *step)
{
    const struct node_disk *node = &step->command.node;

    step->result.err = nodes_bind(&self->nodes, node->id, node->disk_id);
    ASSERT(step->result.err != ERR_INVALID); /* The reader gives no zeros. */
    if (step->result.err == ERR_OK) {
        tell_written(self, step);
    }
    return ERR_OK;
}

/* The revision is made as a topic's id is: no two changes have the same one. */
static enum err apply_cursor(struct fsm *self, struct step *step)
{
    const struct cursor_change *change = step->command.cursor;
    struct cursors *cursors = catalog_cursors(self->catalog);
    const struct topic *topic = catalog_peek(self->catalog, change->topic);
    struct cursor_stamp stamp = {.revision = step->entry->index * COMMAND_COUNT_MAX + step->number,
                                 .time_us = self->time_us};
    enum err err;

    if (topic == NULL) {
        step->result.err = ERR_TOPIC_UNKNOWN;
        return ERR_OK;
    }
    stamp.topic_id = topic->id;
    stamp.topic_end = topic->end;
    err = step->command.type == COMMAND_CURSOR_SET
              ? cursors_set(cursors, &stamp, change, &step->result.cursor)
              : cursors_delete(cursors, topic->id, change, &step->result.cursor);
    if (err == ERR_NOMEM) {
        return err;
    }
    step->result.topic_id = topic->id;
    step->result.err = err;
    step->result.raft_index = step->entry->index;
    if (err == ERR_OK) {
        tell_written(self, step);
    }
    return ERR_OK;
}

static enum err apply_raise_epoch(struct fsm *self, struct step *step)
{
    const struct producer_claim *claim = &step->command.claim;

    if (claim->topic_id != 0 && catalog_peek_id(self->catalog, claim->topic_id) == NULL) {
        step->result.err = ERR_TOPIC_UNKNOWN;
        return ERR_OK;
    }
    step->result.err =
        producers_raise(self->producers, self->time_us, claim, &step->result.producer_epoch);
    if (step->result.err == ERR_OK) {
        step->result.producer_id = claim->id;
        step->result.topic_id = claim->topic_id;
        step->result.producer_records =
            producers_records(self->producers, claim->id, claim->topic_id);
        tell_written(self, step);
    }
    return ERR_OK;
}

/* Where batch_start lies in the log only its files know: the leader has looked. */
static enum err apply_trim(struct fsm *self, struct step *step)
{
    const struct topic_trim *trim = &step->command.trim;
    struct topic *topic = catalog_peek_id(self->catalog, trim->topic_id);
    struct fsm_start to = {.index = step->entry->index,
                           .start = trim->batch_start,
                           .log_start = trim->start,
                           .digest = trim->digest};
    enum err err = ERR_OK;

    if (topic == NULL) {
        step->result.err = ERR_TOPIC_UNKNOWN;
        return ERR_OK;
    }
    if (trim->start > topic->end) {
        step->result.err = ERR_RANGE;
    } else if (trim->start > topic->log_start &&
               (trim->batch_start > trim->start || trim->batch_start < topic->start)) {
        step->result.err = ERR_INVALID;
    } else if (trim->start > topic->log_start) {
        err = fsm_move_start(self, topic, &to, step->info);
    }
    if (err != ERR_OK) {
        return say_where(step, err, topic->name);
    }
    step->result.topic_id = topic->id;
    step->result.log_start = topic->log_start;
    step->result.log_end = topic->end;
    if (step->result.err == ERR_OK) {
        tell_written(self, step);
    }
    return ERR_OK;
}

/* Only ever up: what was allowed once cannot be taken back. A topic that is not compacted any more
 * loses no more records, whatever a leader proposed before that was applied. */
static enum err apply_compact(struct fsm *self, struct step *step)
{
    const struct topic_compact *compact = &step->command.compact;
    struct topic *topic = catalog_peek_id(self->catalog, compact->topic_id);
    struct topic_clean clean;

    if (topic == NULL) {
        step->result.err = ERR_TOPIC_UNKNOWN;
        return ERR_OK;
    }
    ASSERT(compact->tombstones_below <= compact->clean_to); /* The reader says so. */
    step->result.topic_id = topic->id;
    step->result.log_end = topic->end;
    if (!topic->settings.compact || compact->clean_to > topic->end) {
        step->result.err = ERR_INVALID;
        return ERR_OK;
    }
    clean = topic->clean;
    if (compact->clean_to > clean.clean_to) {
        clean.clean_to = compact->clean_to;
    }
    if (compact->tombstones_below > clean.tombstones_below) {
        clean.tombstones_below = compact->tombstones_below;
    }
    topic_clean_set(topic, &clean);
    tell_written(self, step);
    return ERR_OK;
}

static enum err apply_age(struct fsm *self, struct step *step)
{
    /* What is in the same entry may have been written after the leader looked at its clock. */
    enum err err = ages_add(&self->ages, step->entry->index - 1, step->command.elapsed_us);

    if (err == ERR_NOMEM) {
        return err;
    }
    step->result.err = err;
    if (err == ERR_OK) {
        tell_written(self, step);
    }
    return ERR_OK;
}

static enum err apply_command(struct fsm *self, struct step *step)
{
    switch (step->command.type) {
    case COMMAND_PRODUCE:
        return apply_produce(self, step);
    case COMMAND_TOPIC_CREATE:
        return apply_create(self, step);
    case COMMAND_TOPIC_DELETE:
        return apply_delete(self, step);
    case COMMAND_TOPIC_ALTER:
        return apply_alter(self, step);
    case COMMAND_INIT_PRODUCER:
        return apply_init_producer(self, step);
    case COMMAND_NODE_BIND:
        return apply_node_bind(self, step);
    case COMMAND_CURSOR_SET:
    case COMMAND_CURSOR_DELETE:
        return apply_cursor(self, step);
    case COMMAND_RAISE_EPOCH:
        return apply_raise_epoch(self, step);
    case COMMAND_TOPIC_TRIM:
        return apply_trim(self, step);
    case COMMAND_AGE:
        return apply_age(self, step);
    case COMMAND_COMPACT:
        return apply_compact(self, step);
    }
    ASSERT(false); /* The reader gives no other type. */
    return ERR_CORRUPT;
}

static void count_work(struct fsm *self, const struct command_view *command)
{
    bool writes = command->type == COMMAND_PRODUCE;

    work_add(&self->work, command->type, writes ? command->produce.topic_id : 0,
             writes ? command->produce.header.size : 0);
}

static enum err apply_commands(struct fsm *self, const struct entry *entry, fsm_result_cb cb,
                               void *arg, struct err_info *info)
{
    struct step step = {.entry = entry, .info = info};
    struct command_reader reader;
    enum err err;

    err = command_reader_begin(&reader, entry_payload(entry), entry->size, info);
    if (err != ERR_OK) {
        return err;
    }
    /* Never down: the clocks of two leaders may differ. */
    self->time_us = reader.time_us > self->time_us ? reader.time_us : self->time_us;
    for (;;) {
        err = command_reader_next(&reader, &step.command, info);
        if (err != ERR_OK) {
            return err == ERR_AGAIN ? ERR_OK : err;
        }
        step.number = reader.count - 1;
        step.result = (struct fsm_result){0};
        err = fsm_ease_files(self, NULL, info);
        err = err == ERR_OK ? apply_command(self, &step) : err;
        count_work(self, &step.command);
        if (err != ERR_OK) {
            return err;
        }
        if (cb != NULL) {
            cb(arg, step.number, &step.result);
        }
    }
}

enum err fsm_apply(struct fsm *self, const struct entry *entry, fsm_result_cb cb, void *arg,
                   struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(entry->index == self->applied_index + 1); /* F3 */
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    if (info != NULL) {
        *info = (struct err_info){0};
    }
    self->work.sum += WORK_CALL;
    if (entry->type == ENTRY_COMMAND) {
        err = apply_commands(self, entry, cb, arg, info);
    }
    if (err != ERR_OK) {
        if (info != NULL && info->code != err) {
            (void)err_set(info, err, "%s", err_text(err)); /* As in say_where. */
        }
        (void)err_prefix(info, err, "entry %" PRIu64, entry->index);
        return fsm_fail(self, err);
    }
    self->applied_index = entry->index;
    return ERR_OK;
}

uint64_t fsm_work(const struct fsm *self)
{
    return self->work.sum;
}

uint64_t fsm_alterations(const struct fsm *self)
{
    return self->alterations;
}
