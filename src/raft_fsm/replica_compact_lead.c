/*
 * How far compacted topics may be cleaned: in rounds, one each retention_interval_ms.
 *
 *      round, every replica   of each compacted topic: how much is dirty, what comes next (for
 *        │                    `topic describe`); CLEANED to the leader: how far this copy is clean
 *        └── the leader       COMPACT: clean_to is raised, and tombstones_below
 *
 * clean_to goes up to the end of the leader's last segment that is sealed and that its newest
 * snapshot has, when what is dirty below that takes half of all bytes below it, so that a topic is
 * rewritten as often as it doubles, and not more; or when something dirty has waited for
 * WAIT_ROUNDS. Where it is the snapshot alone that is missing, it is taken.
 *
 * tombstones_below goes up to the lowest offset of these: clean_to; where records begin that are
 * not tombstone_ms old for sure (raft_fsm/ages.h); what all members have told, for a while, that
 * their copies are clean below. It goes up when it reaches clean_to, when it covers half of what is
 * left up to there, or along with a clean_to: each time, all copies are gone through for
 * tombstones.
 *
 * Why for a while. A tombstone may go when no copy has an older record of its key. A member that
 * told that it is clean may have lost a segment since, and been given it back by one that was not
 * clean then and is now: all have told that they are clean, and one of them is not. So whatever a
 * copy was given by others, it tells that nothing is clean for HOLD_ROUNDS afterwards, also when it
 * is opened, since nobody knows what was before; and a level is settled when every report of
 * SETTLED_ROUNDS has reached it, none of them more than GAP_ROUNDS after the one before. Then every
 * member was clean SETTLED_ROUNDS - GAP_ROUNDS ago; somebody who was given what was not clean was
 * given it before that, and would have told within GAP_ROUNDS, his messages being late by the
 * difference at most. Who is not heard at all, a member that is down, a spare, keeps tombstones
 * where they are.
 *
 * Reports are kept a topic and member (struct compact_watch); those of another term are void: a new
 * leader starts anew, and is late, never early. A proposal that is lost is decided again.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum {
    TOPICS_AT_ONCE = 16, /* compacted ones: a few looks at the disk each */
    PAUSE_MS = 20,       /* between two parts of what is a lot */
    SEGMENTS_MAX = 4096, /* looked at to tell how many bytes a range takes */
    WAIT_ROUNDS = 10,
    GAP_ROUNDS = 3,
    HOLD_ROUNDS = 6,
    SETTLED_ROUNDS = 8,
};

_Static_assert(HOLD_ROUNDS > GAP_ROUNDS && SETTLED_ROUNDS >= GAP_ROUNDS + HOLD_ROUNDS - 1,
               "messages may be two rounds late");

/* What a member told of a topic. */
struct member_reports {
    uint64_t id; /* 0: free */
    uint64_t heard_ms;
    uint64_t level;    /* All reports since then have told this, or more … */
    uint64_t since_ms; /* … */
    uint64_t next;     /* … and since then so much more: 0 when not */
    uint64_t next_since_ms;
};

struct compact_watch {
    unsigned changes;  /* of the topic's log, when this replica reported last */
    uint64_t hold_ms;  /* It reports 0 until then. */
    uint64_t dirty_ms; /* Something above dirty_from could be cleaned and waits since then; 0: … */
    uint64_t dirty_from;
    uint64_t term; /* of the reports */
    struct member_reports members[MEMBERSHIP_MAX];
};

/* What there is to be cleaned. */
struct assessment {
    uint64_t sealed_to; /* >= clean_to: the end of the last sealed segment */
    uint64_t held_to;   /* … that the newest snapshot has, too */
    uint64_t dirty;     /* bytes in [clean_to, sealed_to) */
    uint64_t below;     /* bytes below sealed_to */
    uint64_t above;     /* bytes at or above it */
    bool due;
};

static uint64_t rounds_ms(const struct replica *self, unsigned rounds)
{
    return rounds * replica_retention_interval_ms(self);
}

/* Whether this replica leads and has applied what leaders before it decided. */
static bool leads(const struct replica *self)
{
    return raft_driver_role(self->driver) == RAFT_ROLE_LEADER &&
           raft_driver_read_ready(self->driver) && !replica_handing_over(self);
}

/* NULL when memory is short: in the next round. */
static struct compact_watch *watch_of(struct replica *self, struct topic *topic)
{
    if (topic->watch == NULL) {
        topic->watch = calloc(1, sizeof *topic->watch);
        if (topic->watch != NULL) {
            topic->watch->changes = topic->cleaned.changes;
            topic->watch->hold_ms = replica_now_ms(self) + rounds_ms(self, HOLD_ROUNDS);
        }
    }
    return topic->watch;
}

/* ---- reports ---- */

/* Its place; a free one, or that of somebody who is no member any more, when it has none. */
static struct member_reports *reports_of(struct replica *self, struct compact_watch *watch,
                                         uint64_t id)
{
    struct member_reports *found = NULL;
    struct membership members;

    raft_driver_membership(self->driver, &members);
    if (membership_find(&members, id) == NULL) {
        return NULL;
    }
    if (watch->term != raft_driver_term(self->driver)) {
        watch->term = raft_driver_term(self->driver);
        for (size_t i = 0; i < MEMBERSHIP_MAX; i++) {
            watch->members[i] = (struct member_reports){.id = 0};
        }
    }
    for (size_t i = 0; i < MEMBERSHIP_MAX; i++) {
        struct member_reports *reports = &watch->members[i];

        if (reports->id == id) {
            return reports;
        }
        if (reports->id == 0 || membership_find(&members, reports->id) == NULL) {
            found = reports;
        }
    }
    ASSERT(found != NULL); /* There are no more members than places. */
    *found = (struct member_reports){.id = id};
    return found;
}

static void note_report(struct replica *self, struct compact_watch *watch, uint64_t id,
                        uint64_t cleaned_to)
{
    struct member_reports *reports = reports_of(self, watch, id);
    uint64_t now_ms = replica_now_ms(self);

    if (reports == NULL) {
        return;
    }
    if (reports->heard_ms == 0 || now_ms - reports->heard_ms > rounds_ms(self, GAP_ROUNDS)) {
        reports->level = cleaned_to;
        reports->since_ms = now_ms;
        reports->next = 0;
    } else if (cleaned_to <= reports->level) {
        reports->level = cleaned_to;
        reports->next = 0;
    } else if (reports->next == 0) {
        reports->next = cleaned_to;
        reports->next_since_ms = now_ms;
    } else {
        reports->next = cleaned_to < reports->next ? cleaned_to : reports->next;
    }
    if (reports->next > 0 && now_ms - reports->next_since_ms >= rounds_ms(self, SETTLED_ROUNDS)) {
        reports->level = reports->next;
        reports->since_ms = reports->next_since_ms;
        reports->next = 0;
    }
    reports->heard_ms = now_ms;
}

void replica_receive_cleaned(struct replica *self, const struct message *message)
{
    struct topic *topic = catalog_peek_id(fsm_catalog(self->fsm), message->cleaned.topic_id);
    struct compact_watch *watch;

    ASSERT(message->type == MESSAGE_CLEANED && message->from != self->options.id);
    if (topic == NULL || !topic->settings.compact || !leads(self) ||
        message->term != raft_driver_term(self->driver)) {
        return;
    }
    watch = watch_of(self, topic);
    if (watch != NULL) {
        note_report(self, watch, message->from, message->cleaned.cleaned_to);
    }
}

/* What all members have told for long enough. */
static uint64_t settled(const struct replica *self, const struct compact_watch *watch)
{
    uint64_t now_ms = replica_now_ms(self);
    uint64_t lowest = UINT64_MAX;
    struct membership members;

    raft_driver_membership(self->driver, &members);
    ASSERT(members.count > 0);
    if (watch->term != raft_driver_term(self->driver)) {
        return 0;
    }
    for (unsigned i = 0; i < members.count; i++) {
        const struct member_reports *found = NULL;

        for (size_t j = 0; j < MEMBERSHIP_MAX; j++) {
            found = watch->members[j].id == members.members[i].id ? &watch->members[j] : found;
        }
        if (found == NULL || now_ms - found->heard_ms > rounds_ms(self, GAP_ROUNDS) ||
            now_ms - found->since_ms < rounds_ms(self, SETTLED_ROUNDS)) {
            return 0;
        }
        lowest = found->level < lowest ? found->level : lowest;
    }
    return lowest;
}

/* Tells the leader, which may be this one, how far this copy is clean; where that may raise
 * something. */
static void report(struct replica *self, const struct topic *topic, struct compact_watch *watch,
                   bool leading)
{
    struct message message = {.type = MESSAGE_CLEANED,
                              .from = self->options.id,
                              .to = raft_driver_leader(self->driver),
                              .term = raft_driver_term(self->driver),
                              .cleaned = {.topic_id = topic->id}};
    uint64_t now_ms = replica_now_ms(self);

    if (watch->changes != topic->cleaned.changes || topic->holes > 0) {
        watch->changes = topic->cleaned.changes;
        watch->hold_ms = now_ms + rounds_ms(self, HOLD_ROUNDS);
    }
    if (topic->clean.tombstones_below == topic->clean.clean_to) {
        return;
    }
    message.cleaned.cleaned_to = now_ms < watch->hold_ms ? 0 : atomic_load(&topic->cleaned_to);
    if (leading) {
        note_report(self, watch, self->options.id, message.cleaned.cleaned_to);
    } else if (message.to != 0 && message.to != self->options.id) {
        self->host.send(self->host.arg, &message);
    }
}

/* ---- what there is ---- */

/* Bytes of segments in [from, to); of a part of one its share; all, where they are many. */
static uint64_t bytes_within(const struct topic *topic, uint64_t from, uint64_t to)
{
    uint64_t sum = 0;

    for (unsigned i = 0; from < to; i++) {
        struct log_extent extent;
        uint64_t end;
        double share;

        if (i == SEGMENTS_MAX) {
            return log_size(topic->log);
        }
        if (log_extent_at(topic->log, from, &extent, NULL) != ERR_OK) {
            return sum;
        }
        end = extent.end_offset < to ? extent.end_offset : to;
        share = (double)(end - from) / (double)(extent.end_offset - extent.base_offset);
        sum += (uint64_t)((double)extent.size * share);
        from = extent.end_offset;
    }
    return sum;
}

/* The end of the last sealed segment that does not pass `limit`; clean_to where that is lower. */
static uint64_t sealed_below(const struct topic *topic, uint64_t limit)
{
    struct log_extent extent;
    uint64_t to = topic->clean.clean_to;

    if (limit > topic->log_start && log_extent_at(topic->log, limit - 1, &extent, NULL) == ERR_OK) {
        limit =
            extent.sealed && extent.end_offset <= limit ? extent.end_offset : extent.base_offset;
        to = limit > to ? limit : to;
    }
    return to;
}

/* False: it cannot be told now. */
static bool assess(const struct replica *self, const struct topic *topic,
                   const struct compact_watch *watch, struct assessment *ret_assessment)
{
    struct assessment found = {.sealed_to = sealed_below(topic, topic->end)};
    uint64_t snapshot_end = 0;
    uint64_t waited_ms;

    found.held_to = topic->clean.clean_to;
    if (found.sealed_to > topic->clean.clean_to && self->snapshot_index > 0) {
        if (log_find_raft_index(topic->log, self->snapshot_index, &snapshot_end, NULL) != ERR_OK) {
            return false;
        }
        found.held_to = sealed_below(topic, snapshot_end);
    }
    found.above = bytes_within(topic, found.sealed_to, topic->end);
    found.dirty = bytes_within(
        topic, topic->clean.clean_to > topic->log_start ? topic->clean.clean_to : topic->log_start,
        found.sealed_to);
    found.below = log_size(topic->log);
    found.below = found.above < found.below ? found.below - found.above : 0;
    waited_ms = watch->dirty_ms > 0 ? replica_now_ms(self) - watch->dirty_ms : 0;
    found.due = found.sealed_to > topic->clean.clean_to &&
                (found.dirty >= found.below / 2 || waited_ms >= rounds_ms(self, WAIT_ROUNDS));
    *ret_assessment = found;
    return true;
}

/* ---- what is decided ---- */

static uint64_t tombstone_us(const struct topic *topic)
{
    uint64_t ms = topic->settings.tombstone_ms > 0 ? topic->settings.tombstone_ms
                                                   : (uint64_t)TOPIC_TOMBSTONE_MS;

    ASSERT(ms <= TOPIC_MS_MAX);
    return ms * 1000;
}

/* How far tombstones may go; not lower than they may already. */
static uint64_t find_tombstones(struct replica *self, const struct topic *topic,
                                const struct compact_watch *watch)
{
    uint64_t now = topic->clean.tombstones_below;
    uint64_t to = settled(self, watch);
    uint64_t index;
    uint64_t old_to;

    to = to < topic->clean.clean_to ? to : topic->clean.clean_to;
    if (to <= now) {
        return now;
    }
    index = ages_older_than(fsm_ages(self->fsm), tombstone_us(topic));
    if (index == 0 || log_find_raft_index(topic->log, index, &old_to, NULL) != ERR_OK) {
        return now;
    }
    to = old_to < to ? old_to : to;
    return to > now ? to : now;
}

static void on_compacted(struct proposal *proposal)
{
    struct compact_proposal *compact = CONTAINER_OF(proposal, struct compact_proposal, proposal);

    ASSERT(compact->under_way);
    compact->under_way = false;
}

static struct compact_proposal *free_proposal(struct compact_lead *lead, uint64_t topic_id)
{
    struct compact_proposal *found = NULL;

    for (size_t i = 0; i < COMPACT_PROPOSALS_MAX; i++) {
        struct compact_proposal *proposal = &lead->proposals[i];

        if (proposal->under_way && proposal->proposal.command.compact.topic_id == topic_id) {
            return NULL; /* One at a time. */
        }
        found = proposal->under_way ? found : proposal;
    }
    return found;
}

static void propose(struct replica *self, const struct topic *topic, const struct topic_clean *to)
{
    struct compact_proposal *proposal = free_proposal(&self->compact_lead, topic->id);

    ASSERT(to->tombstones_below <= to->clean_to && to->clean_to <= topic->end);
    if (proposal == NULL) {
        return; /* In the next round. */
    }
    diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "compaction",
               "topic=%s clean_to=%llu tombstones_below=%llu", topic->name,
               (unsigned long long)to->clean_to, (unsigned long long)to->tombstones_below);
    proposal->under_way = true;
    proposal->proposal =
        (struct proposal){.command = {.type = COMMAND_COMPACT,
                                      .compact = {.topic_id = topic->id,
                                                  .clean_to = to->clean_to,
                                                  .tombstones_below = to->tombstones_below}},
                          .done = on_compacted};
    replica_propose(self, &proposal->proposal);
}

static void decide(struct replica *self, const struct topic *topic,
                   const struct compact_watch *watch, const struct assessment *found)
{
    const struct topic_clean *now = &topic->clean;
    struct topic_clean to = {.clean_to = found->due ? found->held_to : now->clean_to,
                             .tombstones_below = find_tombstones(self, topic, watch)};
    uint64_t raised = to.tombstones_below - now->tombstones_below;
    uint64_t left = now->clean_to - now->tombstones_below;

    ASSERT(to.clean_to >= now->clean_to && to.tombstones_below >= now->tombstones_below);
    if (found->due && found->held_to < found->sealed_to) {
        self->compact_lead.wants_snapshot = true;
        if (found->held_to - now->clean_to < found->sealed_to - found->held_to) {
            to.clean_to = now->clean_to; /* Most of it is worth a round's wait. */
        }
    }
    if (to.clean_to > now->clean_to || (raised > 0 && raised >= left - left / 2)) {
        propose(self, topic, &to);
    }
}

/* ---- rounds ---- */

static void tell(struct replica *self, struct topic *topic, const struct compact_watch *watch,
                 const struct assessment *found)
{
    struct topic_compaction next = {.clean = topic->clean,
                                    .dirty_records = topic->end - topic->clean.clean_to,
                                    .dirty_bytes = found->dirty + found->above};
    uint64_t size = log_size(topic->log);
    uint64_t from = topic->clean.clean_to;
    uint64_t waits_ms = rounds_ms(self, WAIT_ROUNDS);
    uint64_t waited_ms = watch->dirty_ms > 0 ? replica_now_ms(self) - watch->dirty_ms : 0;

    next.dirty_bytes = next.dirty_bytes < size ? next.dirty_bytes : size;
    if (from < topic->log_start) { /* What was trimmed is nobody's to clean. */
        next.dirty_records = topic->end - topic->log_start;
    }
    if (!topic->settings.compact) {
        next.next = COMPACTION_NOTHING;
    } else if (atomic_load(&topic->cleaned_to) < from && from > topic->log_start) {
        next.next = COMPACTION_CLEANING;
    } else if (found->sealed_to > from) {
        next.next = COMPACTION_DIRTY;
        next.to = found->sealed_to;
        next.in_ms = found->due || waited_ms >= waits_ms ? 0 : waits_ms - waited_ms;
    } else if (topic->end > from && topic->end > topic->log_start) {
        next.next = COMPACTION_SEALED;
    } else {
        next.next =
            topic->clean.tombstones_below < from ? COMPACTION_TOMBSTONES : COMPACTION_NOTHING;
    }
    topic_compaction_set(topic, &next);
}

static void look_at(struct replica *self, struct topic *topic)
{
    struct compact_watch *watch = watch_of(self, topic);
    bool leading = leads(self);
    struct assessment found;

    if (watch == NULL) {
        return;
    }
    if (topic->settings.compact) {
        report(self, topic, watch, leading);
    }
    if (topic->holes > 0 || topic->end != log_end(topic->log) ||
        !assess(self, topic, watch, &found)) {
        return;
    }
    if (found.sealed_to == topic->clean.clean_to) {
        watch->dirty_ms = 0; /* … nothing does. */
    } else if (watch->dirty_ms == 0 || watch->dirty_from != topic->clean.clean_to) {
        watch->dirty_ms = replica_now_ms(self);
        watch->dirty_from = topic->clean.clean_to;
    }
    tell(self, topic, watch, &found);
    if (leading && topic->settings.compact) {
        decide(self, topic, watch, &found);
    }
}

static void end_round(struct compact_lead *lead)
{
    for (size_t i = 0; i < lead->topic_count; i++) {
        topic_unref(lead->topics[i]);
    }
    free(lead->topics);
    lead->topics = NULL;
    lead->topic_count = 0;
    lead->turn = 0;
}

static void begin_round(struct replica *self, uint64_t now_ms)
{
    struct compact_lead *lead = &self->compact_lead;

    ASSERT(lead->topics == NULL);
    lead->round_ms = now_ms;
    if (catalog_list(fsm_catalog(self->fsm), &lead->topics, &lead->topic_count) != ERR_OK) {
        lead->topics = NULL; /* Memory is short: in the next round. */
        lead->topic_count = 0;
    }
}

/* Some topics of the round; whether it goes on. */
static bool look_at_some(struct replica *self)
{
    struct compact_lead *lead = &self->compact_lead;
    unsigned looked = 0;

    while (lead->turn < lead->topic_count && looked < TOPICS_AT_ONCE) {
        struct topic *topic = lead->topics[lead->turn++];

        if (!atomic_load(&topic->deleted) &&
            (topic->settings.compact || topic->compaction.next != COMPACTION_NOTHING)) {
            look_at(self, topic);
            looked++;
        }
    }
    if (lead->turn < lead->topic_count) {
        return true;
    }
    end_round(lead);
    return false;
}

void replica_compact_lead_tick(struct replica *self)
{
    struct compact_lead *lead = &self->compact_lead;
    uint64_t now_ms = replica_now_ms(self);

    if (now_ms < replica_compact_lead_deadline_ms(self)) {
        return;
    }
    if (lead->topics == NULL) {
        begin_round(self, now_ms);
    }
    lead->next_ms = look_at_some(self) ? now_ms + PAUSE_MS
                                       : lead->round_ms + replica_retention_interval_ms(self);
    if (lead->next_ms <= now_ms) {
        lead->next_ms = now_ms + replica_retention_interval_ms(self);
    }
}

uint64_t replica_compact_lead_deadline_ms(const struct replica *self)
{
    return self->installing.state != INSTALLING_IDLE ? UINT64_MAX : self->compact_lead.next_ms;
}

void replica_compact_lead_fini(struct replica *self)
{
    end_round(&self->compact_lead);
}
