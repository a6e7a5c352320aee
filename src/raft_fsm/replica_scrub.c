/*
 * Scrubbing: reading everything that lies on this disk again, and what happens to damage.
 *
 *      IDLE ── due, or a report ──► READING (job) ── all well ──► IDLE
 *       ▲                              └── damage, others have it ──► PUNCHING (job) ──► IDLE
 *       └── end of a pass: a pause
 *
 * A pass goes through the topics in order of name, each from its start to its end, a chunk at a
 * time, at most scrub_rate bytes a second. Every batch is verified by its checksums and by the
 * chain of digests. A chunk with damage in it is read again batch by batch, so that the hole begins
 * where the damage does. Where nobody else has a copy nothing is punched: the damage is told, and
 * what lies behind it stays readable. A read elsewhere that meets damage reports it: it is looked
 * at before the pass goes on, at once, also when scrubbing is off.
 *
 * Called on the replica's thread; files are read in a job, one at a time.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum {
    CHUNK_SIZE = 256 * 1024,
    PASS_MS = 10000, /* between the beginnings of passes, at least */
    RETRY_MS = 1000, /* after memory was short */
};

struct scrub_job {
    struct job job;
    struct topic *topic; /* owned reference */
    bool reported;
    bool alone;         /* Nobody else has a copy. */
    uint64_t offset;    /* in: where to read; out: where to go on */
    struct chain chain; /* that offset is on */
    uint64_t batches;   /* verified */
    uint64_t bytes;
    enum err found;         /* AGAIN, RANGE, HOLE; what says damage; OK */
    struct err_info damage; /* with file and position */
    uint64_t damaged;       /* offset in the damaged batch */
    struct log_punch *punch;
};

static bool is_damage(enum err err)
{
    /* A sector that cannot be read is as lost as one that reads wrong. */
    return err == ERR_CORRUPT || err == ERR_IO || err == ERR_VERSION;
}

/* ---- reading, on another thread ---- */

/* Verifies up to size_max bytes of batches at job->offset, and moves it behind them. */
static enum err read_chunk(struct scrub_job *job, size_t size_max)
{
    struct batch_header first;
    struct block *block;
    uint64_t end;
    enum err err =
        log_read(job->topic->log, job->offset, UINT64_MAX, size_max, &block, &end, &job->damage);

    if (err != ERR_OK) {
        return err;
    }
    err = batch_header_decode(block->data, UINT32_MAX, &first, &job->damage);
    if (err == ERR_OK && first.base_offset != job->chain.offset) {
        job->chain = (struct chain){.offset = first.base_offset};
    }
    if (err == ERR_OK) {
        err = chain_follow(&job->chain, block->data, block->size, &job->damage);
    }
    if (err == ERR_OK) {
        ASSERT(job->chain.offset == end);
        job->bytes += block->size;
        job->batches += 1;
        for (size_t at = first.size; at < block->size; job->batches++) {
            struct batch_header header = {0};

            err = batch_header_decode(block->data + at, UINT32_MAX, &header, NULL);
            ASSERT(err == ERR_OK); /* The chain followed it. */
            at += header.size;
        }
        job->offset = end;
    }
    block_unref(block);
    return err;
}

/* The offset of some batch behind the damage that can be read; the log's end when none was found:
 * the steps grow, so that a few of them reach everywhere. */
static uint64_t probe(struct log *log, uint64_t damaged)
{
    uint64_t end = log_end(log);

    for (uint64_t step = 1; damaged < end && step < end - damaged; step *= 2) {
        struct batch_header header;
        enum err err = log_read_header(log, damaged + step, &header, NULL);

        if (err == ERR_OK && header.base_offset > damaged) {
            return header.base_offset;
        }
        if (err == ERR_HOLE) {
            return damaged + step;
        }
    }
    return end;
}

static void run_reading(struct replica_job *base)
{
    struct scrub_job *job = (struct scrub_job *)replica_job_of(base);

    job->found = read_chunk(job, CHUNK_SIZE);
    if (!is_damage(job->found)) {
        return;
    }
    do {
        job->found = read_chunk(job, 1);
    } while (job->found == ERR_OK && job->bytes <= CHUNK_SIZE);
    if (!is_damage(job->found)) {
        return; /* It was not damage, or it is not there any more. */
    }
    job->damaged = job->offset;
    if (job->alone) {
        job->offset = probe(job->topic->log, job->damaged);
        job->chain.known = false;
    }
}

static void run_punching(struct replica_job *base)
{
    struct scrub_job *job = (struct scrub_job *)replica_job_of(base);

    /* What it comes to is the log's to say, at the end. */
    (void)log_punch_run(job->punch, &job->damage);
}

/* ---- passes ---- */

static void end_pass(struct replica *self)
{
    struct scrub *scrub = &self->scrub;

    for (size_t i = 0; i < scrub->topic_count; i++) {
        topic_unref(scrub->topics[i]);
    }
    free(scrub->topics);
    scrub->topics = NULL;
    scrub->topic_count = 0;
    scrub->topic = 0;
    scrub->begun = false;
}

void replica_scrub_fini(struct replica *self)
{
    end_pass(self);
}

/* The next topic of the pass that has something to read at scrub->offset; NULL: the pass is over.
 */
static struct topic *next_topic(struct scrub *scrub)
{
    while (scrub->topic < scrub->topic_count) {
        struct topic *topic = scrub->topics[scrub->topic];
        uint64_t start = log_start(topic->log);

        if (!scrub->begun) {
            /* The chain begins with zeros. */
            scrub->begun = true;
            scrub->offset = start;
            scrub->chain = (struct chain){.offset = start, .known = start == 0};
        }
        scrub->offset = scrub->offset < start ? start : scrub->offset;
        if (!atomic_load(&topic->deleted) && scrub->offset < log_end(topic->log)) {
            return topic;
        }
        scrub->topic++;
        scrub->begun = false;
    }
    return NULL;
}

static enum err finish_reading(struct replica *self, struct job *base, struct err_info *info);
static enum err finish_punching(struct replica *self, struct job *base, struct err_info *info);

static bool start_reading(struct replica *self, struct topic *topic, uint64_t offset,
                          const struct chain *chain)
{
    struct scrub_job *job = calloc(1, sizeof *job);
    struct membership members;

    ASSERT(!self->scrub.working);
    if (job == NULL) {
        return false;
    }
    raft_driver_membership(self->driver, &members);
    topic_ref(topic);
    job->topic = topic;
    job->reported = chain == NULL;
    job->alone = members.count < 2;
    job->offset = offset;
    job->chain = chain != NULL ? *chain : (struct chain){.offset = offset};
    job->job.replica = self;
    job->job.job.run = run_reading;
    job->job.finish = finish_reading;
    self->scrub.working = true;
    self->host.job(self->host.arg, &job->job.job);
    return true;
}

static void begin_pass(struct replica *self, uint64_t now_ms)
{
    struct scrub *scrub = &self->scrub;

    if (catalog_list(fsm_catalog(self->fsm), &scrub->topics, &scrub->topic_count) != ERR_OK) {
        scrub->topics = NULL;
        scrub->topic_count = 0;
        scrub->next_ms = now_ms + RETRY_MS;
        return;
    }
    scrub->pass = true;
    scrub->pass_at_ms = now_ms;
}

/* The next chunk of the pass, or its end. */
static void go_on(struct replica *self)
{
    struct scrub *scrub = &self->scrub;
    uint64_t now_ms = replica_now_ms(self);
    struct topic *topic;

    if (!scrub->pass) {
        begin_pass(self, now_ms);
    }
    if (!scrub->pass) {
        return;
    }
    topic = next_topic(scrub);
    if (topic == NULL) {
        end_pass(self);
        scrub->pass = false;
        scrub->passed_ms = (uint64_t)(self->host.clock->wall_us(self->host.clock) / 1000);
        scrub->next_ms =
            scrub->pass_at_ms + PASS_MS > now_ms ? scrub->pass_at_ms + PASS_MS : now_ms;
        self->changed = true;
        return;
    }
    scrub->next_ms = now_ms;
    if (!start_reading(self, topic, scrub->offset, &scrub->chain)) {
        scrub->next_ms = now_ms + RETRY_MS;
    }
}

/* ---- reports ---- */

void replica_report_damage(struct replica *self, uint64_t topic_id, uint64_t offset)
{
    struct scrub *scrub = &self->scrub;

    for (unsigned i = 0; i < scrub->report_count; i++) {
        if (scrub->reports[i].topic_id == topic_id && scrub->reports[i].offset == offset) {
            return;
        }
    }
    if (scrub->report_count < SCRUB_REPORTS_MAX) { /* Else the next read says it again. */
        scrub->reports[scrub->report_count] =
            (struct scrub_report){.topic_id = topic_id, .offset = offset};
        scrub->report_count++;
    }
}

static void take_report(struct replica *self)
{
    struct scrub *scrub = &self->scrub;
    const struct scrub_report report = scrub->reports[0];
    struct topic *topic = catalog_find_id(fsm_catalog(self->fsm), report.topic_id);

    scrub->report_count--;
    memmove(scrub->reports, scrub->reports + 1, scrub->report_count * sizeof scrub->reports[0]);
    if (topic != NULL) {
        (void)start_reading(self, topic, report.offset, NULL); /* as above */
        topic_unref(topic);
    }
}

/* ---- what came of it ---- */

static void free_job(struct replica *self, struct scrub_job *job)
{
    self->scrub.working = false;
    topic_unref(job->topic);
    free(job);
}

/* Behind the hole that holds the offset. */
static uint64_t behind_hole(const struct log *log, uint64_t offset)
{
    struct log_hole hole;

    return log_holes(log, offset, &hole, 1) == 1 && hole.from <= offset ? hole.to : offset;
}

/* The pass goes on behind what was read. */
static void advance(struct replica *self, const struct scrub_job *job)
{
    struct scrub *scrub = &self->scrub;
    uint64_t wait_ms =
        (job->bytes * 1000 + self->options.scrub_rate - 1) / self->options.scrub_rate;

    scrub->next_ms += wait_ms;
    scrub->chain = job->chain;
    scrub->offset = job->offset;
    if (job->found == ERR_HOLE) {
        scrub->offset = behind_hole(job->topic->log, job->offset);
    } else if (job->found == ERR_RANGE) {
        scrub->offset = log_start(job->topic->log); /* The front went. */
    } else if (job->found == ERR_NOMEM || job->found == ERR_LIMIT) {
        scrub->next_ms += RETRY_MS;
    }
}

static void tell_damage(struct replica *self, const struct scrub_job *job)
{
    diag_event(self->host.diag, DIAG_ERROR, "raft_fsm", "damage_found",
               "topic=%s offset=%" PRIu64 " found_by=%s repair=%s text=\"%s\"", job->topic->name,
               job->damaged, job->reported ? "read" : "scrub",
               job->alone ? "none: there is no other copy" : "from other nodes", job->damage.text);
}

/* Damage that others have whole: a hole, which is filled. Takes the job over when it says so. */
static bool start_punching(struct replica *self, struct scrub_job *job, enum err *ret_err,
                           struct err_info *info)
{
    struct log *log = job->topic->log;
    uint64_t from = job->damaged;

    *ret_err = ERR_OK;
    if (job->alone || atomic_load(&job->topic->deleted) || from < log_start(log) ||
        from >= log_end(log)) {
        return false;
    }
    *ret_err = fsm_punch_begin(self->fsm, job->topic, from, from + 1, &job->punch, info);
    if (*ret_err != ERR_OK) {
        *ret_err = *ret_err == ERR_NOMEM ? ERR_OK : *ret_err; /* It is found again. */
        return false;
    }
    job->job.job.run = run_punching;
    job->job.finish = finish_punching;
    self->host.job(self->host.arg, &job->job.job);
    return true;
}

static enum err finish_reading(struct replica *self, struct job *base, struct err_info *info)
{
    struct scrub_job *job = (struct scrub_job *)base;
    struct scrub *scrub = &self->scrub;
    enum err err = ERR_OK;

    ASSERT(scrub->working);
    if (job->job.err == ERR_CANCELED) {
        free_job(self, job);
        return ERR_OK;
    }
    scrub->batches += job->batches;
    scrub->bytes += job->bytes;
    self->changed = true;
    if (!job->reported) {
        advance(self, job);
    }
    if (is_damage(job->found)) {
        scrub->damage++;
        tell_damage(self, job);
        if (start_punching(self, job, &err, info)) {
            return ERR_OK;
        }
    }
    free_job(self, job);
    return err;
}

static enum err finish_punching(struct replica *self, struct job *base, struct err_info *info)
{
    struct scrub_job *job = (struct scrub_job *)base;
    enum err err;

    ASSERT(self->scrub.working);
    if (job->job.err == ERR_CANCELED) {
        log_punch_cancel(job->punch);
        free_job(self, job);
        return ERR_OK;
    }
    err = fsm_punch_end(self->fsm, job->topic, job->punch, info);
    if (err == ERR_NOSPACE || err == ERR_NOMEM) {
        diag_event(self->host.diag, DIAG_WARN, "raft_fsm", "repair_put_off", "topic=%s reason=%s",
                   job->topic->name, err_name(err));
        self->scrub.next_ms = replica_now_ms(self) + RETRY_MS;
        err = ERR_OK;
    }
    self->changed = true;
    free_job(self, job);
    return err;
}

/* ---- what the replica calls ---- */

uint64_t replica_scrub_deadline_ms(const struct replica *self)
{
    const struct scrub *scrub = &self->scrub;

    if (scrub->working || self->installing.state != INSTALLING_IDLE) {
        return UINT64_MAX; /* Its end is a call. */
    }
    if (scrub->report_count > 0) {
        return 0;
    }
    return self->options.scrub_rate > 0 ? scrub->next_ms : UINT64_MAX;
}

void replica_scrub_tick(struct replica *self)
{
    if (replica_now_ms(self) < replica_scrub_deadline_ms(self)) {
        return;
    }
    if (self->scrub.report_count > 0) {
        take_report(self);
    } else {
        go_on(self);
    }
}

void replica_scrub_status(const struct replica *self, struct replica_status *status)
{
    status->scrub_batches = self->scrub.batches;
    status->scrub_bytes = self->scrub.bytes;
    status->scrub_damage = self->scrub.damage;
    status->scrub_passed_ms = self->scrub.passed_ms;
}
