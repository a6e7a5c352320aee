/*
 * Filling holes: fetching what this replica lacks from those that have it.
 *
 *      NONE ── next_hole ──► OPEN ── ask ──► chunk comes ── job: follow the chain ──► put in ──┐
 *       ▲                     ▲ └─────────────────────────────────────────────────────────────┘
 *       │                     │   silent, lacks it: another peer
 *       │                     │   does not follow: refused, another peer
 *       │                     │   ends above the hole: another peer; nobody has it otherwise: what
 *       │                     │     is above is dropped as far as that, and comes again
 *       ├── met, or its turn is over: the next topic's lowest hole
 *       ├── nobody has it: other holes, then a rest
 *       ├── chunk after chunk was refused: what was put in is dropped
 *       └── the end does not meet what is above: what was put in is dropped, loudly
 *
 * The next chunk is asked for as soon as one came, while that one is checked: at most one is on its
 * way, one waits and one is being checked, whatever the size of the hole. Rates are kept by a
 * bucket of bytes. Called on the replica's thread; bodies are hashed in a job.
 *
 * Nothing is remembered but the files: a restart finds a shorter hole. What was put in is synced
 * now and then, so that a power loss costs little.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum {
    ANSWER_MS = 3000, /* a peer that says nothing for so long is silent … */
    SILENT_MS = 3000, /* … and is not asked for so long */
    BUSY_MS = 100,
    REFUSED_MS = 10000,  /* nor one that gave what does not follow, … */
    DIVERGED_MS = 60000, /* … or does not meet what is above */
    REST_MS = 1000,      /* when nobody has any of what is missing */
    REFUSED_MAX = 3,     /* in a row: it is what was put in that is wrong */
    TURN_CHUNKS = 16,    /* of one topic, before the next one's turn */
    SYNC_CHUNKS = 32,    /* put in, of full size, between two syncs */
    RATE_MS = 1000,      /* rates are measured over so long */
};

struct check_job {
    struct job job;
    uint64_t number;      /* the fill's, when it began */
    uint64_t peer;        /* whose chunk it is */
    struct fsm_hole hole; /* owns a reference to its topic */
    struct fsm_chunk chunk;
    uint64_t end; /* as its sender said */
    bool met;
    enum err edge_err; /* the upper edge could not be met */
};

struct sync_job {
    struct job job;
    struct fsm_sync *sync;
};

static bool is_open(const struct fill *fill)
{
    return fill->hole.topic != NULL;
}

static bool is_idle(const struct fill *fill)
{
    return !fill->asked && !fill->own.reading && !fill->checking && fill->waiting.block == NULL;
}

static void drop_waiting(struct fill *fill)
{
    block_unref(fill->waiting.block);
    fill->waiting = (struct slice){.block = NULL};
}

/* What is on its way or being checked is void; the hole goes on where its chain stands. */
static void rewind(struct fill *fill)
{
    drop_waiting(fill);
    fill->number++;
    fill->asked = false;
    fill->checking = false;
    fill->next = fill->hole.chain.offset;
}

static void close_hole(struct fill *fill)
{
    rewind(fill);
    fsm_hole_fini(&fill->hole);
    fill->peer = 0;
}

void replica_fill_fini(struct replica *self)
{
    close_hole(&self->fill);
    self->fill.own.reading = false; /* No job runs any more. */
    replica_own_drop(self);
}

/* ---- the rate ---- */

static void pour(struct replica *self, uint64_t now_ms)
{
    struct fill *fill = &self->fill;
    uint64_t rate = self->options.fill_rate;
    uint64_t past_ms = now_ms - fill->tokens_at_ms;
    int64_t full = (int64_t)(rate / 8 + FETCH_CHUNK_SIZE);

    ASSERT(rate > 0 && rate <= INT64_MAX / 4);
    past_ms = past_ms < 1000 ? past_ms : 1000;
    if (past_ms * rate < 1000) {
        return; /* Not a byte yet. */
    }
    fill->tokens += (int64_t)(past_ms * rate / 1000);
    fill->tokens = fill->tokens < full ? fill->tokens : full;
    fill->tokens_at_ms = now_ms;
}

/* When the next chunk may be asked for. */
static uint64_t token_ms(const struct replica *self)
{
    const struct fill *fill = &self->fill;
    uint64_t rate = self->options.fill_rate;

    if (rate == 0 || fill->tokens > 0) {
        return 0;
    }
    return fill->tokens_at_ms + ((uint64_t)(1 - fill->tokens) * 1000 + rate - 1) / rate;
}

static void measure(struct replica *self)
{
    struct fill *fill = &self->fill;
    uint64_t past_ms = replica_now_ms(self) - fill->mark_ms;

    if (past_ms < RATE_MS) {
        return;
    }
    fill->byte_rate = (fill->bytes - fill->mark_bytes) * 1000 / past_ms;
    fill->record_rate = (fill->records - fill->mark_records) * 1000 / past_ms;
    fill->mark_ms += past_ms;
    fill->mark_bytes = fill->bytes;
    fill->mark_records = fill->records;
}

void replica_fill_status(const struct replica *self, struct replica_status *status)
{
    const struct fill *fill = &self->fill;
    bool lately = replica_now_ms(self) < fill->mark_ms + 3 * RATE_MS;
    struct fsm_holes holes;

    fsm_holes(self->fsm, &holes);
    status->holes = holes.holes;
    status->missing = holes.missing;
    status->filled = fill->bytes;
    if (holes.holes > 0 && lately) {
        status->fill_rate = fill->byte_rate;
        status->fill_left_s = fill->record_rate == 0 ? 0 : holes.missing / fill->record_rate + 1;
    }
}

/* ---- syncing ---- */

static uint64_t sync_size(const struct replica *self)
{
    return self->options.fill_chunk_size * SYNC_CHUNKS;
}

static bool wants_sync(const struct replica *self)
{
    struct fsm_holes holes;

    fsm_holes(self->fsm, &holes);
    return self->fill.unsynced >= sync_size(self) || (self->fill.unsynced > 0 && holes.holes == 0);
}

static void run_sync(struct replica_job *base)
{
    struct sync_job *job = (struct sync_job *)replica_job_of(base);

    job->job.err = fsm_sync_run(job->sync, &job->job.info);
}

static enum err finish_sync(struct replica *self, struct job *base, struct err_info *info)
{
    struct sync_job *job = (struct sync_job *)base;
    enum err err = base->err;
    enum err end = fsm_sync_end(self->fsm, job->sync);

    ASSERT(self->syncing_job);
    self->syncing_job = false;
    if (err != ERR_OK && info != NULL) {
        *info = base->info;
    }
    free(job);
    return err == ERR_OK ? end : err;
}

static enum err begin_sync(struct replica *self, struct err_info *info)
{
    struct sync_job *job = calloc(1, sizeof *job);
    enum err err = job == NULL ? ERR_NOMEM : fsm_sync_begin(self->fsm, &job->sync);

    if (err != ERR_OK) {
        free(job);
        return err_set(info, err, "the topics' logs cannot be synced: %s", err_text(err));
    }
    self->fill.unsynced = 0;
    if (job->sync == NULL) {
        free(job);
        return ERR_OK;
    }
    job->job.job.run = run_sync;
    job->job.replica = self;
    job->job.finish = finish_sync;
    self->syncing_job = true;
    self->host.job(self->host.arg, &job->job.job);
    return ERR_OK;
}

/* ---- dropping what was wrong ---- */

/* Everything that was put into this hole goes again. */
static enum err drop_filled(struct replica *self, const char *why, struct err_info *info)
{
    struct fsm_hole *hole = &self->fill.hole;
    uint64_t start = log_start(hole->topic->log);
    uint64_t from = hole->begin < start ? start : hole->begin;
    struct err_info reason = {.text = ""};
    char quoted[2 * sizeof reason.text];
    enum err err = ERR_OK;

    diag_event(self->host.diag, DIAG_ERROR, "raft_fsm", "hole_refilled",
               "topic=%s from=%llu to=%llu why=%s", hole->topic->name,
               (unsigned long long)hole->begin, (unsigned long long)hole->chain.offset,
               diag_quote(quoted, sizeof quoted, why));
    hole->topic->refused = 0;
    if (from < hole->chain.offset && !atomic_load(&hole->topic->deleted)) {
        err = fsm_punch(self->fsm, hole->topic, from, hole->chain.offset, &reason);
    }
    close_hole(&self->fill);
    if (err == ERR_NOSPACE || err == ERR_NOMEM) {
        return ERR_OK; /* Tried again when the hole's end is met again. */
    }
    if (err != ERR_OK && info != NULL) {
        *info = reason;
    }
    return err;
}

static void refuse(struct replica *self, uint64_t peer, const char *why)
{
    struct fill *fill = &self->fill;
    char quoted[512];

    diag_event(self->host.diag, DIAG_WARN, "raft_fsm", "chunk_refused",
               "topic=%s offset=%llu peer=%llu why=%s", fill->hole.topic->name,
               (unsigned long long)fill->hole.chain.offset, (unsigned long long)peer,
               diag_quote(quoted, sizeof quoted, why));
    if (peer == 0) {
        replica_own_drop(self); /* Others may have it otherwise. */
    } else {
        replica_peer_away(self, peer, REFUSED_MS);
    }
    fill->hole.topic->refused++;
    rewind(fill);
    fill->peer = 0;
}

/* ---- checking ---- */

static void run_check(struct replica_job *base)
{
    struct check_job *job = (struct check_job *)replica_job_of(base);
    struct err_info *info = &job->job.info;
    struct fsm_chunk *chunk = &job->chunk;
    enum err err = fsm_hole_fit(&job->hole, chunk, info);

    if (err == ERR_OK && chunk->fit != FSM_FIT_BEGINS_LOW && chunk->after.offset != job->end) {
        err = err_set(info, ERR_CORRUPT, "the batches end at %llu, not at %llu",
                      (unsigned long long)chunk->after.offset, (unsigned long long)job->end);
    }
    job->job.err = err;
    if (err == ERR_OK && chunk->fit == FSM_FIT_WHOLE && chunk->after.offset == job->hole.to) {
        job->edge_err = fsm_hole_meets(&job->hole, &chunk->after, info);
        job->met = job->edge_err == ERR_OK;
    }
}

static enum err finish_check(struct replica *self, struct job *base, struct err_info *info);

static bool start_check(struct replica *self)
{
    struct fill *fill = &self->fill;
    struct check_job *job = calloc(1, sizeof *job);

    ASSERT(!fill->checking && fill->waiting.block != NULL);
    if (job == NULL) {
        return false;
    }
    job->job.job.run = run_check;
    job->job.replica = self;
    job->job.finish = finish_check;
    job->number = fill->number;
    job->peer = fill->waiting_peer;
    job->hole = fill->hole;
    topic_ref(job->hole.topic);
    job->chunk.batches = fill->waiting;
    job->end = fill->waiting_end;
    fill->waiting = (struct slice){.block = NULL};
    fill->checking = true;
    self->host.job(self->host.arg, &job->job.job);
    return true;
}

static void free_check(struct check_job *job)
{
    fsm_hole_fini(&job->hole);
    block_unref(job->chunk.batches.block);
    free(job);
}

/* The chunk follows; what is known of the upper edge is in the job. */
static enum err put_in(struct replica *self, struct check_job *job, struct err_info *info)
{
    struct fill *fill = &self->fill;
    const struct fsm_chunk *chunk = &job->chunk;
    uint64_t from = fill->hole.chain.offset;
    struct err_info reason = {.text = ""};
    enum err err;

    err = fsm_fill(self->fsm, &fill->hole, &chunk->batches, &chunk->after, job->met, &reason);
    if (err == ERR_NOT_FOUND) {
        close_hole(fill); /* It was closed, or moved: a new start, a deletion. */
        return ERR_OK;
    }
    if (err == ERR_CORRUPT || err == ERR_TOO_LARGE) {
        refuse(self, job->peer, reason.text);
        close_hole(fill);
        return ERR_OK;
    }
    if (err != ERR_OK) {
        if (info != NULL) {
            *info = reason;
        }
        return err;
    }
    fill->bytes += chunk->batches.size;
    fill->records += chunk->after.offset - from;
    fill->unsynced += chunk->batches.size;
    fill->above = 0;
    fill->chunks++;
    fill->in_vain = 0;
    fill->hole.topic->refused = 0;
    self->changed = true;
    measure(self);
    if (job->met) {
        diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "hole_filled",
                   "topic=%s from=%llu to=%llu", fill->hole.topic->name,
                   (unsigned long long)fill->hole.begin, (unsigned long long)fill->hole.to);
        close_hole(fill);
    }
    return ERR_OK;
}

/* What lies in [from, to) stands in the way of batches that others have, or is damaged: it goes,
 * and comes from them. */
static enum err widen(struct replica *self, uint64_t from, uint64_t to, struct err_info *info)
{
    struct fill *fill = &self->fill;
    struct topic *topic = fill->hole.topic;
    enum err err = ERR_OK;

    ASSERT(from < to && (to == fill->hole.chain.offset || from == fill->hole.to));
    if (!atomic_load(&topic->deleted) && from >= log_start(topic->log)) {
        diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "hole_widened",
                   "topic=%s from=%llu to=%llu", topic->name, (unsigned long long)from,
                   (unsigned long long)to);
        if (from == fill->hole.to) {
            replica_own_keep(self, topic, from, to);
        }
        err = fsm_punch(self->fsm, topic, from, to, info);
    }
    close_hole(fill);
    if (err == ERR_NOSPACE || err == ERR_NOMEM) {
        fill->rest_until_ms = replica_now_ms(self) + REST_MS; /* It is found again. */
        err = ERR_OK;
    }
    return err;
}

/* The peer has a batch that ends above the hole. Others, who compacted at another time, may have
 * one that does not. */
static void note_above(struct replica *self, const struct check_job *job)
{
    struct fill *fill = &self->fill;
    uint64_t above = job->chunk.after.offset;

    /* Beyond this node's own end: it has to catch up first. */
    if (above <= fill->hole.topic->end && (fill->above == 0 || above < fill->above)) {
        fill->above = above;
    }
    if (job->peer == 0) {
        replica_own_drop(self);
    } else {
        replica_peer_lacks(self, job->peer);
    }
    rewind(fill);
    fill->peer = 0;
}

/* The hole is full but for this chunk, and its end does not meet what is above. */
static enum err not_met(struct replica *self, const struct check_job *job, struct err_info *info)
{
    struct fill *fill = &self->fill;
    enum err err = ERR_OK;

    if (job->edge_err == ERR_DIVERGED) {
        if (job->peer != 0) {
            replica_peer_away(self, job->peer, DIVERGED_MS);
        }
        replica_own_drop(self);
        return drop_filled(self, job->job.info.text, info);
    }
    if (job->edge_err == ERR_CORRUPT && !atomic_load(&fill->hole.topic->deleted)) {
        /* The batch above is damaged: it is missing, too. */
        err = fsm_punch(self->fsm, fill->hole.topic, fill->hole.to, fill->hole.to + 1, info);
        err = err == ERR_NOSPACE || err == ERR_NOMEM ? ERR_OK : err;
    } else if (job->edge_err == ERR_IO) {
        err = err_set(info, ERR_IO, "%s", job->job.info.text);
    }
    /* Otherwise there is nothing above yet, or no memory to look. */
    fill->rest_until_ms = replica_now_ms(self) + REST_MS;
    close_hole(fill);
    return err;
}

static enum err finish_check(struct replica *self, struct job *base, struct err_info *info)
{
    struct check_job *job = (struct check_job *)base;
    struct fill *fill = &self->fill;
    enum err err = ERR_OK;

    if (base->err == ERR_CANCELED || job->number != fill->number) {
        free_check(job); /* Void. */
        return ERR_OK;
    }
    ASSERT(is_open(fill) && fill->checking);
    fill->checking = false;
    if (base->err == ERR_NOMEM) {
        rewind(fill); /* It is asked for again. */
    } else if (base->err != ERR_OK) {
        refuse(self, job->peer, base->info.text);
    } else if (job->chunk.fit == FSM_FIT_BEGINS_LOW) {
        err = widen(self, fill->hole.chain.offset - 1, fill->hole.chain.offset, info);
    } else if (job->chunk.fit == FSM_FIT_PASSES) {
        note_above(self, job);
    } else if (job->edge_err != ERR_OK) {
        err = not_met(self, job, info);
    } else {
        err = put_in(self, job, info);
    }
    if (err == ERR_OK && is_open(fill) && fill->waiting.block != NULL && !start_check(self)) {
        rewind(fill); /* Memory is short: it is asked for again. */
    }
    free_check(job);
    return err == ERR_OK ? replica_fill_tick(self, info) : err;
}

/* ---- asking ---- */

static bool may_ask(const struct replica *self)
{
    const struct fill *fill = &self->fill;

    return is_open(fill) && !fill->asked && !fill->own.reading && fill->waiting.block == NULL &&
           fill->next < fill->hole.to && fill->chunks < TURN_CHUNKS &&
           fill->unsynced < 2 * sync_size(self) && self->installing.state == INSTALLING_IDLE;
}

static void ask(struct replica *self)
{
    struct fill *fill = &self->fill;
    struct message message = {
        .type = MESSAGE_FETCH,
        .from = self->options.id,
        .to = fill->peer,
        .term = raft_driver_term(self->driver),
        .fetch =
            {
                .topic_id = fill->hole.topic->id,
                .offset = fill->next,
                .end = fill->hole.to,
                .size_max = self->options.fill_chunk_size,
            },
    };

    ASSERT(fill->peer != 0);
    fill->asked = true;
    fill->asked_at_ms = replica_now_ms(self);
    self->host.send(self->host.arg, &message);
}

/* Nobody has what comes next. */
static enum err give_up(struct replica *self, struct err_info *info)
{
    struct fill *fill = &self->fill;
    uint64_t now_ms = replica_now_ms(self);
    struct fsm_holes holes;

    if (fill->above > fill->hole.to && fill->hole.topic->refused < REFUSED_MAX) {
        return widen(self, fill->hole.to, fill->above, info);
    }
    fsm_holes(self->fsm, &holes);
    fill->in_vain++;
    if (fill->in_vain >= holes.topics) {
        uint64_t back_ms = replica_peers_back_ms(self);

        fill->in_vain = 0;
        fill->rest_until_ms = back_ms < now_ms + REST_MS ? back_ms + 1 : now_ms + REST_MS;
        self->changed = true; /* The rate is zero now. */
    }
    if (fill->hole.topic->refused >= REFUSED_MAX && fill->hole.begin < fill->hole.chain.offset) {
        return drop_filled(self, "nobody has anything that follows on what was put in", info);
    }
    close_hole(fill);
    return ERR_OK;
}

/* Opens the next hole; false when there is none, or it is not the time. */
static bool open_hole(struct replica *self, enum err *ret_err)
{
    struct fill *fill = &self->fill;
    uint64_t now_ms = replica_now_ms(self);
    enum err err;

    *ret_err = ERR_OK;
    if (now_ms < fill->rest_until_ms || self->installing.state != INSTALLING_IDLE) {
        return false;
    }
    err = fsm_next_hole(self->fsm, &fill->hole);
    if (err != ERR_OK) {
        *ret_err = err == ERR_IO ? err : ERR_OK;
        fill->rest_until_ms = now_ms + REST_MS;
        return false;
    }
    if (now_ms > fill->mark_ms + 3 * RATE_MS) { /* Nothing was filled lately. */
        fill->mark_ms = now_ms;
        fill->mark_bytes = fill->bytes;
        fill->mark_records = fill->records;
    }
    fill->next = fill->hole.chain.offset;
    fill->chunks = 0;
    fill->above = 0;
    replica_peers_new_hole(self);
    return true;
}

/* Whom to ask next: the same one as long as it delivers. */
static bool find_peer(struct replica *self)
{
    if (self->fill.peer == 0) {
        self->fill.peer = replica_choose_peer(self);
    }
    return self->fill.peer != 0;
}

/* Asks for what comes next, if that may be. */
static enum err go_on(struct replica *self, struct err_info *info)
{
    struct fill *fill = &self->fill;
    uint64_t now_ms = replica_now_ms(self);
    enum err err = ERR_OK;

    if (is_open(fill) && is_idle(fill) && fill->chunks >= TURN_CHUNKS) {
        close_hole(fill);
    }
    if (!is_open(fill) && !open_hole(self, &err)) {
        return err == ERR_OK ? ERR_OK : err_set(info, err, "a hole cannot be looked at");
    }
    if (!may_ask(self)) {
        return ERR_OK;
    }
    if (self->options.fill_rate > 0) {
        pour(self, now_ms);
    }
    if (token_ms(self) > now_ms) {
        return ERR_OK;
    }
    if (replica_own_serves(self) && replica_own_read(self)) {
        return ERR_OK;
    }
    if (find_peer(self)) {
        ask(self);
        return ERR_OK;
    }
    return is_idle(fill) ? give_up(self, info) : ERR_OK;
}

uint64_t replica_fill_deadline_ms(const struct replica *self)
{
    const struct fill *fill = &self->fill;
    struct fsm_holes holes;

    if (wants_sync(self) && !self->syncing_job && self->installing.state == INSTALLING_IDLE) {
        return 0;
    }
    if (!is_open(fill)) {
        fsm_holes(self->fsm, &holes);
        return holes.holes > 0 && self->installing.state == INSTALLING_IDLE ? fill->rest_until_ms
                                                                            : UINT64_MAX;
    }
    if (fill->asked) {
        return fill->asked_at_ms + ANSWER_MS;
    }
    if (is_idle(fill) && fill->chunks >= TURN_CHUNKS) {
        return 0;
    }
    return may_ask(self) && (fill->peer != 0 || is_idle(fill)) ? token_ms(self) : UINT64_MAX;
}

enum err replica_fill_tick(struct replica *self, struct err_info *info)
{
    struct fill *fill = &self->fill;
    uint64_t now_ms = replica_now_ms(self);
    enum err err = ERR_OK;

    replica_own_check(self);
    if (now_ms < replica_fill_deadline_ms(self)) {
        return ERR_OK;
    }
    if (wants_sync(self) && !self->syncing_job && self->installing.state == INSTALLING_IDLE) {
        err = begin_sync(self, info);
    }
    if (fill->asked && now_ms >= fill->asked_at_ms + ANSWER_MS) {
        replica_peer_away(self, fill->peer, SILENT_MS);
        fill->asked = false;
        fill->peer = 0;
    }
    return err == ERR_OK ? go_on(self, info) : err;
}

/* ---- answers ---- */

static void take_refusal(struct replica *self, const struct message *message)
{
    struct fill *fill = &self->fill;

    if (message->fetch_result.err == ERR_BUSY) {
        replica_peer_away(self, message->from, BUSY_MS);
    } else {
        replica_peer_lacks(self, message->from);
    }
    if (message->from == fill->peer) {
        fill->asked = false;
        fill->peer = 0;
    }
}

void replica_fill_take(struct replica *self, const struct slice *batches, uint64_t end,
                       uint64_t peer)
{
    struct fill *fill = &self->fill;

    ASSERT(is_open(fill) && fill->waiting.block == NULL && end > fill->next);
    fill->waiting = *batches;
    (void)block_ref(batches->block);
    fill->waiting_end = fill->next = end;
    fill->waiting_peer = peer;
    if (!fill->checking && !start_check(self)) {
        rewind(fill);
    }
}

enum err replica_receive_fetch_result(struct replica *self, const struct message *message,
                                      struct err_info *info)
{
    struct fill *fill = &self->fill;
    const struct slice *batches = &message->fetch_result.batches;

    if (!is_open(fill) || !fill->asked || message->fetch_result.topic_id != fill->hole.topic->id ||
        message->fetch_result.offset != fill->next) {
        return ERR_OK; /* An answer to a question of long ago. */
    }
    if (message->fetch_result.err != ERR_OK || batches->size == 0 ||
        message->fetch_result.end <= fill->next) {
        take_refusal(self, message);
        return replica_fill_tick(self, info);
    }
    /* One that was slow may answer in the place of the one that is asked now. */
    fill->peer = message->from;
    fill->asked = false;
    fill->tokens -= (int64_t)batches->size;
    replica_fill_take(self, batches, message->fetch_result.end, message->from);
    return replica_fill_tick(self, info);
}
