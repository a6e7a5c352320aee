/*
 * Compacting this node's copies of topics, as far as entries allow it (COMPACT).
 *
 *                                    ┌───────────── the next group ─────────────┐
 *      IDLE ── due ──► NOTING ──► LOOKING ── something would go ──► WRITING ──► CLOSING
 *       ▲                │           │ └── nothing would: the next group
 *       │                └ put off   └── no more groups ──► SYNCING ──► cleaned_to
 *       └────────────────────────────────────────────────────────────────┘
 *
 * A pass notes the keys of [cleaned_to, clean_to), as many as fit into the memory that it may have,
 * and then goes through the groups of segments below the last one noted, in ascending order from
 * the log's start on (fsm_next_group). Looking is compacting without writing, up to the first
 * record that would go; several segments become one in any case. When it is through, and durable,
 * the topic's copy is clean so far. A tombstone goes in a pass that begins when all that is older
 * is gone, durably.
 *
 * Failure modes: no room, no memory, a hole: what was begun is dropped, and the topic is put off,
 * longer each time. Damage is reported as the scrubber does it. What others did to the log in the
 * middle, a hole, a deletion, ends the pass. A crash leaves whole segments, old or new ones, and
 * the first pass afterwards begins at the start.
 *
 * Called on the replica's thread. All reading, compacting and writing is in jobs, one at a time, at
 * most compact_rate bytes a second; a pass's objects are the job's while there is one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum {
    CHUNK_SIZE = 256 * 1024,
    LOOK_MS = 1000,          /* between the beginnings of rounds */
    RETRY_MS = 1000,         /* after memory was short */
    REST_MS = 10000,         /* after a pass that changed nothing */
    PUT_OFF_MS_MAX = 600000, /* … or could not be brought to its end */
    TRANSIENT_MAX = 3,
};

#define NOTE_MEMORY_MAX (UINT64_C(1) << 30)

struct compact_job {
    struct job job;
    enum cleaner_state state;
    struct topic *topic;      /* owned reference */
    struct compact_step step; /* but for SYNCING */
    enum err found;
    struct fsm_sync *sync;  /* SYNCING; NULL: nothing is dirty */
    char dir[IO_PATH_SIZE]; /* SYNCING: the topic's */
};

static bool is_damage(enum err err)
{
    return err == ERR_CORRUPT || err == ERR_IO || err == ERR_VERSION;
}

/* ---- on another thread ---- */

static enum err sync(struct compact_job *job, struct err_info *info)
{
    enum err err = job->sync != NULL ? fsm_sync_run(job->sync, info) : ERR_OK;

    /* A name may have been given before a restart, and seen, and never synced. */
    return err == ERR_OK ? io_sync_dir(job->job.replica->host.io, job->dir, info) : err;
}

static void run(struct replica_job *base)
{
    struct compact_job *job = (struct compact_job *)replica_job_of(base);
    struct err_info *info = &job->job.info;

    switch (job->state) {
    case CLEANER_NOTING:
        job->found = compact_note(&job->step, info);
        break;
    case CLEANER_LOOKING:
        job->found = compact_look(&job->step, info);
        break;
    case CLEANER_WRITING:
        job->found = compact_write(&job->step, info);
        break;
    case CLEANER_CLOSING:
        job->step.writing = true;
        job->found = log_rewrite_run(job->step.rewrite, info);
        break;
    case CLEANER_SYNCING:
        job->found = sync(job, info);
        break;
    case CLEANER_IDLE:
    default:
        ASSERT(false); /* It has no job. */
    }
}

/* ---- a pass ---- */

static void end_group(struct cleaner *cleaner)
{
    if (cleaner->rewrite != NULL) {
        log_rewrite_cancel(cleaner->topic->log, cleaner->rewrite);
        cleaner->rewrite = NULL;
    }
    compactor_free(cleaner->compactor);
    cleaner->compactor = NULL;
}

static void end_pass(struct cleaner *cleaner)
{
    ASSERT(!cleaner->working);
    end_group(cleaner);
    latest_free(cleaner->latest);
    cleaner->latest = NULL;
    topic_unref(cleaner->topic);
    cleaner->topic = NULL;
    cleaner->state = CLEANER_IDLE;
}

static void end_round(struct cleaner *cleaner)
{
    for (size_t i = 0; i < cleaner->topic_count; i++) {
        topic_unref(cleaner->topics[i]);
    }
    free(cleaner->topics);
    cleaner->topics = NULL;
    cleaner->topic_count = 0;
    cleaner->turn = 0;
}

void replica_compact_fini(struct replica *self)
{
    end_pass(&self->cleaner);
    end_round(&self->cleaner);
}

/* The log changed under our hands: nothing is wrong, unless it goes on like that. */
static bool is_transient(enum err err)
{
    return err == ERR_AGAIN || err == ERR_RANGE || err == ERR_HOLE;
}

/* The topic rests, longer each time in a row; what is wrong is told once. */
static void put_off(struct replica *self, enum err why, const char *text)
{
    struct cleaner *cleaner = &self->cleaner;
    struct topic_cleaned *cleaned = &cleaner->topic->cleaned;
    uint64_t rest_ms = PUT_OFF_MS_MAX;
    char quoted[512];

    if (cleaned->failures < 10 && (UINT64_C(1) << cleaned->failures) * RETRY_MS < rest_ms) {
        rest_ms = (UINT64_C(1) << cleaned->failures) * RETRY_MS;
    }
    if (cleaned->failures == (is_transient(why) ? TRANSIENT_MAX : 0)) {
        diag_event(self->host.diag, DIAG_WARN, "raft_fsm", "compaction_put_off",
                   "topic=%s reason=%s text=%s", cleaner->topic->name, err_name(why),
                   diag_quote(quoted, sizeof quoted, text));
    }
    cleaned->failures++;
    cleaned->rest_until_ms = replica_now_ms(self) + rest_ms;
    end_pass(cleaner);
}

/* Whether the pass may go on: nobody changed the log behind its back. */
static bool holds(const struct replica *self)
{
    const struct cleaner *cleaner = &self->cleaner;

    return cleaner->topic->cleaned.changes == cleaner->changes &&
           fsm_may_clean(self->fsm, cleaner->topic);
}

static bool begin_notes(struct cleaner *cleaner, uint64_t memory)
{
    latest_free(cleaner->latest);
    cleaner->latest = NULL;
    cleaner->memory = memory < LATEST_MEMORY_MIN ? LATEST_MEMORY_MIN : memory;
    return latest_new(cleaner->memory, &cleaner->latest) == ERR_OK;
}

static void begin_pass(struct replica *self, struct topic *topic, const struct fsm_cleaning *due)
{
    struct cleaner *cleaner = &self->cleaner;

    ASSERT(cleaner->state == CLEANER_IDLE && cleaner->topic == NULL);
    topic_ref(topic);
    cleaner->topic = topic;
    cleaner->changes = topic->cleaned.changes;
    cleaner->noted_from = cleaner->offset = due->from;
    cleaner->noted = due->records;
    cleaner->clean_to = due->records ? topic->clean.clean_to : atomic_load(&topic->cleaned_to);
    cleaner->tombstones_below = due->tombstones_below;
    cleaner->pass = (struct compactor_counts){0};
    cleaner->rewritten = 0;
    cleaner->merging = false;
    cleaner->state = CLEANER_NOTING;
    if (!begin_notes(cleaner, due->records ? self->options.compact_memory : 0)) {
        put_off(self, ERR_NOMEM, err_text(ERR_NOMEM));
    }
}

/* The next topic of the round that is due; NULL: the round is over. */
static struct topic *next_topic(struct replica *self, struct fsm_cleaning *ret_due)
{
    struct cleaner *cleaner = &self->cleaner;

    while (cleaner->turn < cleaner->topic_count) {
        struct topic *topic = cleaner->topics[cleaner->turn++];

        if (topic->clean.clean_to > 0 && replica_now_ms(self) >= topic->cleaned.rest_until_ms) {
            fsm_cleaning_due(self->fsm, topic, ret_due);
            if (ret_due->records || ret_due->tombstones) {
                return topic;
            }
        }
    }
    return NULL;
}

static void look_around(struct replica *self)
{
    struct cleaner *cleaner = &self->cleaner;
    uint64_t now_ms = replica_now_ms(self);
    struct fsm_cleaning due;
    struct topic *topic;

    if (cleaner->topics == NULL &&
        catalog_list(fsm_catalog(self->fsm), &cleaner->topics, &cleaner->topic_count) != ERR_OK) {
        cleaner->topics = NULL;
        cleaner->topic_count = 0;
        cleaner->next_ms = now_ms + RETRY_MS;
        return;
    }
    topic = next_topic(self, &due);
    if (topic == NULL) {
        end_round(cleaner);
        cleaner->next_ms = now_ms + LOOK_MS;
        return;
    }
    cleaner->next_ms = now_ms;
    begin_pass(self, topic, &due);
    self->changed = true; /* The status names it. */
}

/* ---- steps ---- */

static enum err finish(struct replica *self, struct job *base, struct err_info *info);

/* A job for the next step of the pass; NULL: there is no memory, later. */
static struct compact_job *new_job(struct replica *self)
{
    struct cleaner *cleaner = &self->cleaner;
    struct topic *topic = cleaner->topic;
    struct compact_job *job = calloc(1, sizeof *job);

    if (job == NULL) {
        cleaner->next_ms = replica_now_ms(self) + RETRY_MS;
        return NULL;
    }
    job->state = cleaner->state;
    topic_ref(topic);
    job->topic = topic;
    job->step = (struct compact_step){
        .log = topic->log,
        .latest = cleaner->latest,
        .compactor = cleaner->compactor,
        .rewrite = cleaner->rewrite,
        .options = {.latest = cleaner->latest,
                    .clean_to = cleaner->clean_to,
                    .tombstones_below = cleaner->tombstones_below,
                    .batch_size_max = COMMAND_BATCH_SIZE_MAX,
                    .codec = topic->settings.compression},
        .start = topic->start,
        .chunk_size = CHUNK_SIZE,
        .offset = cleaner->offset,
        .to = cleaner->state == CLEANER_NOTING ? cleaner->clean_to : cleaner->group.to,
        .first = cleaner->first,
    };
    memcpy(job->step.start_digest, topic->start_digest, DIGEST_SIZE);
    job->job.replica = self;
    job->job.job.run = run;
    job->job.finish = finish;
    return job;
}

static void free_job(struct compact_job *job)
{
    topic_unref(job->topic);
    free(job);
}

static void post(struct replica *self, struct compact_job *job)
{
    ASSERT(!self->cleaner.working);
    self->cleaner.working = true;
    self->host.job(self->host.arg, &job->job.job);
}

static void start_step(struct replica *self)
{
    struct compact_job *job = new_job(self);

    if (job != NULL) {
        post(self, job);
    }
}

/* Where a pass without notes of its own has something to do, at most. */
static uint64_t pass_end(const struct cleaner *cleaner)
{
    uint64_t end = cleaner->noted ? cleaner->clean_to : cleaner->tombstones_below;

    return cleaner->merging && cleaner->reached < end ? cleaner->reached : end;
}

/* The next group from `offset` on. Once all were gone through it is about those alone that have
 * become small beside each other. */
static enum err find_group(struct replica *self, uint64_t *offset)
{
    struct cleaner *cleaner = &self->cleaner;
    enum err err;

    do {
        err =
            fsm_next_group(self->fsm, cleaner->topic, *offset, pass_end(cleaner), &cleaner->group);
        if (err != ERR_OK || cleaner->group.segments > 1 || !cleaner->merging) {
            return err;
        }
        *offset = cleaner->group.to;
    } while (true);
}

/* The pass goes on with the group at `offset`, or to its end. */
static void next_group(struct replica *self, uint64_t offset)
{
    struct cleaner *cleaner = &self->cleaner;
    uint64_t start = log_start(cleaner->topic->log);
    enum err err;

    end_group(cleaner);
    offset = offset < start ? start : offset;
    err = find_group(self, &offset);
    if ((err == ERR_NOT_FOUND || err == ERR_AGAIN) && !cleaner->merging) {
        cleaner->reached = err == ERR_AGAIN ? offset : pass_end(cleaner);
        cleaner->merging = true;
        offset = start;
        err = cleaner->rewritten > 0 ? find_group(self, &offset) : ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        cleaner->state = CLEANER_LOOKING;
        cleaner->offset = offset;
        cleaner->first = COMPACT_FIRST_UNKNOWN;
    } else if (err == ERR_NOT_FOUND || err == ERR_AGAIN) {
        cleaner->state = CLEANER_SYNCING;
    } else {
        put_off(self, err, err_text(err));
    }
}

/* Something would go, or several segments become one. */
static enum err begin_writing(struct replica *self, struct err_info *info)
{
    struct cleaner *cleaner = &self->cleaner;
    struct err_info reason = {.text = ""};
    uint64_t first = cleaner->first;
    enum err err;

    end_group(cleaner);
    if (self->room.state == ROOM_CRITICAL) {
        put_off(self, ERR_NOSPACE, "the disk is nearly full");
        return ERR_OK;
    }
    err = fsm_rewrite_begin(self->fsm, cleaner->topic, &cleaner->group, &cleaner->rewrite, &reason);
    if (err == ERR_OK) {
        cleaner->first = first;
        cleaner->offset = cleaner->group.from;
        cleaner->state = CLEANER_WRITING;
        return ERR_OK;
    }
    cleaner->rewrite = NULL;
    if (err == ERR_IO || err == ERR_FAILED) {
        if (info != NULL) {
            *info = reason;
        }
        return err;
    }
    put_off(self, err, reason.text);
    return ERR_OK;
}

/* The new segment is written: it takes the place of the old ones. */
static enum err end_writing(struct replica *self, struct err_info *info)
{
    struct cleaner *cleaner = &self->cleaner;
    struct err_info reason = {.text = ""};
    struct log_rewrite *rewrite = cleaner->rewrite;
    struct compactor_counts counts;
    enum err err;

    compactor_counts(cleaner->compactor, &counts);
    cleaner->rewrite = NULL;
    err = fsm_rewrite_end(self->fsm, cleaner->topic, rewrite, &reason);
    if (err == ERR_OK) {
        cleaner->bytes_in += counts.bytes_in;
        cleaner->bytes_out += counts.bytes_out;
        cleaner->dropped += counts.superseded + counts.tombstones;
        cleaner->pass.bytes_in += counts.bytes_in;
        cleaner->pass.bytes_out += counts.bytes_out;
        cleaner->pass.superseded += counts.superseded;
        cleaner->pass.tombstones += counts.tombstones;
        cleaner->rewritten += cleaner->group.segments;
        next_group(self, cleaner->group.to);
        return ERR_OK;
    }
    if (!log_healthy(cleaner->topic->log) || err == ERR_FAILED) {
        if (info != NULL) {
            *info = reason;
        }
        return err;
    }
    put_off(self, err, reason.text);
    return ERR_OK;
}

/* What was noted so far is what the pass is about. */
static void end_noting(struct replica *self, const struct compact_job *job)
{
    struct cleaner *cleaner = &self->cleaner;

    if (job->step.full && job->step.offset <= cleaner->noted_from) {
        /* One batch has more keys than the memory takes: it takes more, this once. */
        cleaner->offset = cleaner->noted_from;
        if (cleaner->memory >= NOTE_MEMORY_MAX || !begin_notes(cleaner, cleaner->memory * 2)) {
            put_off(self, ERR_NOMEM, "the keys of a single batch do not fit into the memory");
        }
        return;
    }
    cleaner->clean_to = job->step.offset < cleaner->clean_to ? job->step.offset : cleaner->clean_to;
    next_group(self, 0);
}

static enum err took_step(struct replica *self, const struct compact_job *job,
                          struct err_info *info)
{
    struct cleaner *cleaner = &self->cleaner;

    switch (job->state) {
    case CLEANER_NOTING:
        if (job->step.full || job->step.offset >= job->step.to) {
            end_noting(self, job);
        }
        return ERR_OK;
    case CLEANER_LOOKING:
        if (job->step.changes || cleaner->group.segments > 1) {
            return begin_writing(self, info);
        }
        if (job->step.offset >= job->step.to) {
            next_group(self, job->step.to);
        }
        return ERR_OK;
    case CLEANER_WRITING:
        if (job->step.offset >= job->step.to) {
            cleaner->state = CLEANER_CLOSING;
        }
        return ERR_OK;
    case CLEANER_CLOSING:
        return end_writing(self, info);
    case CLEANER_SYNCING:
    case CLEANER_IDLE:
    default:
        ASSERT(false); /* They have no such step. */
        return ERR_FAILED;
    }
}

static void not_possible(struct replica *self, const struct compact_job *job)
{
    if (is_damage(job->found) && !job->step.writing) {
        replica_report_damage(self, job->topic->id, job->step.at);
    }
    put_off(self, job->found, job->job.info.text);
}

static enum err finish(struct replica *self, struct job *base, struct err_info *info)
{
    struct compact_job *job = (struct compact_job *)base;
    struct cleaner *cleaner = &self->cleaner;
    uint64_t rate = self->options.compact_rate;
    enum err err = ERR_OK;

    ASSERT(cleaner->working && cleaner->topic == job->topic);
    cleaner->working = false;
    cleaner->compactor = job->step.compactor;
    if (base->err == ERR_CANCELED) {
        free_job(job);
        return ERR_OK; /* Nothing but the replica's end comes now. */
    }
    cleaner->offset = job->step.offset;
    cleaner->first = job->step.first;
    cleaner->next_ms = replica_now_ms(self) + (job->step.bytes * 1000 + rate - 1) / rate;
    self->changed = true;
    if (!holds(self)) {
        end_pass(cleaner);
    } else if (job->found != ERR_OK) {
        not_possible(self, job);
    } else {
        err = took_step(self, job, info);
    }
    free_job(job);
    return err;
}

/* ---- the end of a pass ---- */

/* All that the pass did is durable. */
static void end_cleaned(struct replica *self)
{
    struct cleaner *cleaner = &self->cleaner;
    struct topic *topic = cleaner->topic;
    uint64_t to = cleaner->clean_to < cleaner->reached ? cleaner->clean_to : cleaner->reached;
    uint64_t tombstones_below = cleaner->tombstones_below < to ? cleaner->tombstones_below : to;
    bool further =
        to > atomic_load(&topic->cleaned_to) || tombstones_below > topic->cleaned.tombstones_below;

    fsm_set_cleaned(topic, to, tombstones_below);
    topic->cleaned.failures = 0;
    topic->cleaned.rest_until_ms = further ? 0 : replica_now_ms(self) + REST_MS;
    if (cleaner->rewritten > 0) {
        diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "topic_compacted",
                   "topic=%s cleaned_to=%" PRIu64 " segments=%" PRIu64 " superseded=%" PRIu64
                   " tombstones=%" PRIu64 " bytes_in=%" PRIu64 " bytes_out=%" PRIu64,
                   topic->name, atomic_load(&topic->cleaned_to), cleaner->rewritten,
                   cleaner->pass.superseded, cleaner->pass.tombstones, cleaner->pass.bytes_in,
                   cleaner->pass.bytes_out);
    }
    end_pass(cleaner);
}

static enum err finish_sync(struct replica *self, struct job *base, struct err_info *info)
{
    struct compact_job *job = (struct compact_job *)base;
    enum err err = base->err != ERR_OK ? base->err : job->found;
    enum err end = job->sync != NULL ? fsm_sync_end(self->fsm, job->sync) : ERR_OK;

    ASSERT(self->syncing_job && self->cleaner.working);
    self->syncing_job = false;
    self->cleaner.working = false;
    self->changed = true;
    if (err != ERR_OK && info != NULL) {
        *info = base->info;
    }
    free_job(job);
    if (err == ERR_OK && end == ERR_OK) {
        if (holds(self)) {
            end_cleaned(self);
        } else {
            end_pass(&self->cleaner);
        }
    }
    return err == ERR_OK ? end : err;
}

static enum err start_sync(struct replica *self, struct err_info *info)
{
    struct compact_job *job = new_job(self);
    enum err err;

    if (job == NULL) {
        return ERR_OK;
    }
    err = fsm_topic_path(self->fsm, job->topic, job->dir, info);
    err = err == ERR_OK ? fsm_clean_sync_begin(self->fsm, job->topic, &job->sync, info) : err;
    if (err != ERR_OK) {
        free_job(job);
        return err;
    }
    job->job.finish = finish_sync;
    self->syncing_job = true;
    post(self, job);
    return ERR_OK;
}

/* ---- what the replica calls ---- */

uint64_t replica_compact_deadline_ms(const struct replica *self)
{
    const struct cleaner *cleaner = &self->cleaner;

    if (self->options.compact_rate == 0 || cleaner->working ||
        self->installing.state != INSTALLING_IDLE ||
        (cleaner->state == CLEANER_SYNCING && self->syncing_job)) {
        return UINT64_MAX; /* What it waits for ends in a call. */
    }
    return cleaner->next_ms;
}

enum err replica_compact_tick(struct replica *self, struct err_info *info)
{
    struct cleaner *cleaner = &self->cleaner;

    if (replica_now_ms(self) < replica_compact_deadline_ms(self)) {
        return ERR_OK;
    }
    if (cleaner->state != CLEANER_IDLE && !holds(self)) {
        end_pass(cleaner);
    }
    switch (cleaner->state) {
    case CLEANER_IDLE:
        look_around(self);
        return ERR_OK;
    case CLEANER_SYNCING:
        return start_sync(self, info);
    case CLEANER_NOTING:
        if (!cleaner->noted) {
            next_group(self, 0);
            return ERR_OK;
        }
        start_step(self);
        return ERR_OK;
    case CLEANER_LOOKING:
    case CLEANER_WRITING:
    case CLEANER_CLOSING:
    default:
        start_step(self);
        return ERR_OK;
    }
}

void replica_compact_status(const struct replica *self, struct replica_status *status)
{
    const struct cleaner *cleaner = &self->cleaner;

    status->compact_bytes_in = cleaner->bytes_in;
    status->compact_bytes_out = cleaner->bytes_out;
    status->compact_dropped = cleaner->dropped;
    if (cleaner->topic != NULL) {
        (void)snprintf(status->compact_topic, sizeof status->compact_topic, "%s",
                       cleaner->topic->name); /* fits */
    }
}
