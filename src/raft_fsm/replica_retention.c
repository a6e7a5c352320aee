/*
 * Retention: in rounds, one each retention_interval_ms.
 *
 *      round ── the leader: AGE, if some topic wants it
 *        │      each topic with a bound, some of them at a time: what goes now, what next
 *        │      (retention.h); the leader: TOPIC_TRIM
 *        └── files that no snapshot promises any more go, some at a time; where files wait for one
 *            for long, it is taken
 *
 * Time is what this process's monotonic clock counted while it led: from the moment it took office
 * on, and from one AGE to the next. What an AGE that was lost would have added is lost, so that
 * nothing can be counted twice: errors are late, never early.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"
#include "raft_fsm/retention.h"

enum {
    INTERVAL_MS = 10000,
    TOPICS_AT_ONCE = 16,  /* with bounds: a few looks at the disk each */
    SEGMENTS_AT_ONCE = 4, /* files that are removed */
    PAUSE_MS = 20,        /* between two parts of what is a lot */
    PASSED_ROUNDS = 3,    /* files wait so long for a snapshot that is taken anyway */
};

uint64_t replica_retention_interval_ms(const struct replica *self)
{
    unsigned set_ms = self->options.retention_interval_ms;

    return set_ms == 0 ? INTERVAL_MS : set_ms;
}

/* ---- ages ---- */

static void on_aged(struct proposal *proposal)
{
    struct retention *retention = CONTAINER_OF(proposal, struct retention, age);
    struct replica *self = CONTAINER_OF(retention, struct replica, retention);
    uint64_t to_ms;

    ASSERT(retention->aging);
    retention->aging = false;
    /* Unknown: it may be applied yet. What is not certain to be missing is not added again. */
    to_ms = proposal->result.err == ERR_OK ? retention->aging_ms : replica_now_ms(self);
    retention->aged_ms = to_ms > retention->aged_ms ? to_ms : retention->aged_ms;
}

static void propose_age(struct replica *self)
{
    struct retention *retention = &self->retention;
    uint64_t elapsed_us;

    if (retention->aging) {
        return;
    }
    retention->aging_ms = replica_now_ms(self);
    ASSERT(retention->aging_ms >= retention->aged_ms);
    elapsed_us = (retention->aging_ms - retention->aged_ms) * 1000;
    if (elapsed_us == 0) {
        return;
    }
    retention->aging = true;
    retention->age = (struct proposal){
        .command = {.type = COMMAND_AGE,
                    .elapsed_us =
                        elapsed_us < AGES_ELAPSED_MAX_US ? elapsed_us : AGES_ELAPSED_MAX_US},
        .done = on_aged,
    };
    replica_propose(self, &retention->age);
}

/* Whether this replica leads and has applied what leaders before it decided. */
static bool leads(struct replica *self)
{
    struct retention *retention = &self->retention;
    bool now = raft_driver_role(self->driver) == RAFT_ROLE_LEADER &&
               raft_driver_read_ready(self->driver) && !replica_handing_over(self);

    uint64_t term = now ? raft_driver_term(self->driver) : 0;

    if (now && term != retention->term) { /* Others may have led, and counted, meanwhile. */
        retention->aged_ms = replica_now_ms(self);
    }
    retention->term = term;
    return now;
}

/* ---- trims ---- */

static void on_trimmed(struct proposal *proposal)
{
    struct retention_trim *trim = CONTAINER_OF(proposal, struct retention_trim, proposal);

    ASSERT(trim->under_way);
    trim->under_way = false; /* Lost, it is decided again, by whoever leads. */
}

/* A free place; NULL when so many are under way. */
static struct retention_trim *free_trim(struct retention *retention, uint64_t topic_id)
{
    struct retention_trim *found = NULL;

    for (size_t i = 0; i < RETENTION_TRIMS_MAX; i++) {
        struct retention_trim *trim = &retention->trims[i];

        if (trim->under_way && trim->proposal.command.trim.topic_id == topic_id) {
            return NULL; /* One at a time. */
        }
        found = trim->under_way ? found : trim;
    }
    return found;
}

static const char *bound_name(enum retention_bound bound)
{
    switch (bound) {
    case RETENTION_AGE:
        return "age";
    case RETENTION_BYTES:
        return "bytes";
    case RETENTION_RECORDS:
        return "records";
    case RETENTION_NONE:
        break;
    }
    return "none";
}

static void propose_trim(struct replica *self, const struct topic *topic,
                         const struct topic_trim *to, enum retention_bound bound)
{
    struct retention_trim *trim = free_trim(&self->retention, topic->id);

    if (trim == NULL) {
        return; /* In the next round. */
    }
    diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "retention",
               "topic=%s from=%llu to=%llu bound=%s", topic->name,
               (unsigned long long)topic->log_start, (unsigned long long)to->start,
               bound_name(bound));
    trim->under_way = true;
    trim->proposal =
        (struct proposal){.command = {.type = COMMAND_TOPIC_TRIM, .trim = *to}, .done = on_trimmed};
    replica_propose(self, &trim->proposal);
}

/* What a program does that takes append times, which are wall clocks', for ages. */
static bool decide_by_wall_clock(const struct replica *self, const struct topic *topic,
                                 struct topic_trim *ret_trim)
{
    int64_t now_us = self->host.clock->wall_us(self->host.clock);
    struct batch_header first;

    if (!self->options.retention_by_wall_clock || topic->settings.retention_ms == 0 ||
        topic->log_start == topic->end ||
        log_read_header(topic->log, topic->log_start, &first, NULL) != ERR_OK ||
        now_us - first.append_time_us < (int64_t)topic->settings.retention_ms * 1000) {
        return false;
    }
    return retention_trim_to(topic, batch_end_offset(&first), ret_trim, NULL) == ERR_OK;
}

static void look_at(struct replica *self, struct topic *topic, bool leading)
{
    struct topic_forecast next;
    struct topic_trim trim;
    struct err_info info = {.text = ""};
    enum err err = retention_decide(topic, fsm_ages(self->fsm), &trim, &next, &info);

    if (err == ERR_NOT_FOUND && decide_by_wall_clock(self, topic, &trim)) {
        err = ERR_OK;
    }
    if (err == ERR_CORRUPT) {
        replica_report_damage(self, topic->id, topic->log_start);
    }
    topic_forecast_set(topic, &next);
    if (err == ERR_OK && leading) {
        propose_trim(self, topic, &trim, next.bound);
    }
}

/* ---- rounds ---- */

static void end_round(struct retention *retention)
{
    for (size_t i = 0; i < retention->topic_count; i++) {
        topic_unref(retention->topics[i]);
    }
    free(retention->topics);
    retention->topics = NULL;
    retention->topic_count = 0;
    retention->turn = 0;
}

static void begin_round(struct replica *self, uint64_t now_ms)
{
    struct retention *retention = &self->retention;

    ASSERT(retention->topics == NULL);
    retention->round_ms = now_ms;
    if (catalog_list(fsm_catalog(self->fsm), &retention->topics, &retention->topic_count) !=
        ERR_OK) {
        retention->topics = NULL; /* Memory is short: in the next round. */
        retention->topic_count = 0;
        return;
    }
    if (!leads(self)) {
        return;
    }
    for (size_t i = 0; i < retention->topic_count; i++) {
        if (retention_wants_age(retention->topics[i])) {
            propose_age(self);
            return;
        }
    }
    if (!retention->aging) {
        retention->aged_ms = now_ms; /* Time that nobody wanted is not kept for later. */
    }
}

/* Some topics of the round; whether it goes on. */
static bool look_at_some(struct replica *self)
{
    struct retention *retention = &self->retention;
    bool leading = leads(self);
    unsigned looked = 0;

    while (retention->turn < retention->topic_count && looked < TOPICS_AT_ONCE) {
        struct topic *topic = retention->topics[retention->turn++];

        if (!atomic_load(&topic->deleted) &&
            (retention_is_set(topic) || topic->forecast.bound != RETENTION_NONE)) {
            look_at(self, topic, leading);
            looked++;
        }
    }
    if (retention->turn < retention->topic_count) {
        return true;
    }
    end_round(retention);
    return false;
}

/* Files that wait for a snapshot do not wait for ever. */
static void watch_passed(struct replica *self, uint64_t now_ms)
{
    struct retention *retention = &self->retention;

    if (!fsm_has_passed(self->fsm)) {
        retention->passed_ms = 0;
    } else if (retention->passed_ms == 0) {
        retention->passed_ms = now_ms;
    } else if (now_ms >=
               retention->passed_ms + PASSED_ROUNDS * replica_retention_interval_ms(self)) {
        retention->passed_ms = now_ms;
        retention->wants_snapshot = true;
    }
}

enum err replica_retention_tick(struct replica *self, struct err_info *info)
{
    struct retention *retention = &self->retention;
    uint64_t now_ms = replica_now_ms(self);
    bool more_files = false;
    bool more_topics;
    enum err err;

    if (now_ms < replica_retention_deadline_ms(self) || self->installing.state != INSTALLING_IDLE) {
        (void)leads(self); /* Its clock runs from the beginning on. */
        return ERR_OK;
    }
    if (retention->topics == NULL &&
        (now_ms >= retention->round_ms + replica_retention_interval_ms(self) ||
         retention->alterations != fsm_alterations(self->fsm))) {
        retention->alterations = fsm_alterations(self->fsm);
        begin_round(self, now_ms);
    }
    more_topics = look_at_some(self);
    err = fsm_remove_passed(self->fsm, SEGMENTS_AT_ONCE, &more_files, info);
    watch_passed(self, now_ms);
    retention->next_ms = more_topics || more_files
                             ? now_ms + PAUSE_MS
                             : retention->round_ms + replica_retention_interval_ms(self);
    if (retention->next_ms <= now_ms) {
        retention->next_ms = now_ms + replica_retention_interval_ms(self);
    }
    return err;
}

uint64_t replica_retention_deadline_ms(const struct replica *self)
{
    const struct retention *retention = &self->retention;

    if (self->installing.state != INSTALLING_IDLE) {
        return UINT64_MAX;
    }
    /* Where settings changed, something may be due. */
    return retention->alterations != fsm_alterations(self->fsm) ? 0 : retention->next_ms;
}

void replica_retention_fini(struct replica *self)
{
    end_round(&self->retention);
}
