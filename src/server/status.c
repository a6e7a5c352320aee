#include "server/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utlist.h>

#include "base/assert.h"
#include "base/container.h"
#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/front.h"

enum { ANSWER_MS = 500 };

enum part_state { PART_UNASKED, PART_ASKED, PART_DONE };

/* What one other member says. */
struct part {
    struct passed passed;
    struct inquiry *inquiry;
    const struct member *member;
    enum part_state state;
    Quorlog__StatusReply *reply; /* owned; NULL: it did not answer */
};

struct inquiry {
    struct request request;
    struct front *front;
    struct deadline deadline;
    struct replica_status status;
    unsigned part_count;
    struct part parts[MEMBERSHIP_MAX];
    status_survey_cb surveyed; /* NULL: the request is answered with what was learned */
    void *arg;
    struct inquiry *prev;
    struct inquiry *next;
};

/* ---- this node ---- */

static const char *role_name(enum member_role role)
{
    switch (role) {
    case MEMBER_VOTER:
        return "voter";
    case MEMBER_STANDBY:
        return "standby";
    case MEMBER_SPARE:
        break;
    }
    return "spare";
}

static const char *state_name(const struct replica_status *status)
{
    if (status->installing) {
        return "installing";
    }
    switch (status->role) {
    case RAFT_ROLE_LEADER:
        return "leader";
    case RAFT_ROLE_CANDIDATE:
        return "candidate";
    case RAFT_ROLE_FOLLOWER:
        break;
    }
    return "follower";
}

/* 0 where it cannot be told. */
static uint64_t resident_size(void)
{
    unsigned long total = 0;
    unsigned long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%lu %lu", &total, &resident) != 2) {
        resident = 0;
    }
    (void)fclose(file); /* It was only read. */
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t cpu_us(void)
{
    struct rusage usage;
    int rv = getrusage(RUSAGE_SELF, &usage);

    ASSERT(rv == 0); /* Fails only for wrong arguments. */
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void fill_member(const struct member *member, Quorlog__NodeStatus *ret_node)
{
    quorlog__node_status__init(ret_node);
    ret_node->id = member->id;
    ret_node->address = (char *)(uintptr_t)member->address; /* Only read from. */
    ret_node->role = (char *)(uintptr_t)role_name(member->role);
}

/* What the answer's figures of delays are in. */
struct own_delays {
    Quorlog__Delays raft;
    Quorlog__Delays fronts;
    Quorlog__Delays journal;
    uint64_t octaves[3][DELAYS_OCTAVES];
};

/* Octaves behind the last one that has any are left out. */
static void fill_delays(const struct delays_snapshot *delays, uint64_t octaves[DELAYS_OCTAVES],
                        Quorlog__Delays *ret_delays)
{
    size_t count = DELAYS_OCTAVES;

    quorlog__delays__init(ret_delays);
    delays_snapshot_octaves(delays, octaves);
    while (count > 0 && octaves[count - 1] == 0) {
        count--;
    }
    ret_delays->count = delays->count;
    ret_delays->p50_us = delays_snapshot_quantile_us(delays, 0.5);
    ret_delays->p99_us = delays_snapshot_quantile_us(delays, 0.99);
    ret_delays->max_us = delays->max_us;
    ret_delays->long_count = delays->long_count;
    ret_delays->octaves = octaves;
    ret_delays->n_octaves = count;
}

static void fill_turns(const struct turns_figures *turns, uint64_t octaves[DELAYS_OCTAVES],
                       Quorlog__Delays *ret_delays)
{
    fill_delays(&turns->delays, octaves, ret_delays);
    ret_delays->stalls = turns->stalls;
    ret_delays->longest = (char *)(uintptr_t)turns->longest_step; /* Only read from. */
}

static void fill_own_delays(const struct node *node, struct own_delays *delays,
                            Quorlog__NodeStatus *ret_node)
{
    struct turns_figures fronts = {.stalls = 0};
    struct turns_figures turns;
    struct delays_snapshot journal;

    group_turns(node->group, &turns);
    fill_turns(&turns, delays->octaves[0], &delays->raft);
    for (unsigned i = 0; i < node->front_count; i++) {
        turns_read(&node->fronts[i].turns, &turns);
        turns_figures_add(&fronts, &turns);
    }
    fill_turns(&fronts, delays->octaves[1], &delays->fronts);
    group_journal_delays(node->group, &journal);
    fill_delays(&journal, delays->octaves[2], &delays->journal);
    ret_node->raft_turns = &delays->raft;
    ret_node->front_turns = &delays->fronts;
    ret_node->journal_delays = &delays->journal;
}

/* The strings are borrowed from status and constants. */
static void fill_own(const struct node *node, const struct replica_status *status,
                     Quorlog__NodeStatus *ret_node)
{
    static const char version[] = QUORLOG_VERSION;
    const struct member *member = membership_find(&status->membership, node->identity.node_id);
    struct file_cache_stats files;
    struct group_stats stats;

    group_stats(node->group, &stats);
    file_cache_stats(node->files, &files);
    if (member != NULL) {
        fill_member(member, ret_node);
    } else {
        quorlog__node_status__init(ret_node);
        ret_node->id = node->identity.node_id;
        ret_node->address = (char *)(uintptr_t)node->address;
        ret_node->role = (char *)(uintptr_t)role_name(MEMBER_SPARE);
    }
    ret_node->state = (char *)(uintptr_t)state_name(status);
    ret_node->term = status->term;
    ret_node->applied = status->applied_index;
    ret_node->commit = status->commit_index;
    ret_node->first = status->first_index;
    ret_node->last = status->last_index;
    ret_node->snapshot = status->snapshot_index;
    ret_node->version = (char *)(uintptr_t)version;
    ret_node->uptime_ms = clock_monotonic_ms(node->clock) - node->started_ms;
    ret_node->journal_writes = stats.journal.writes;
    ret_node->journal_entries = stats.journal.entries;
    ret_node->journal_bytes = stats.journal.bytes;
    ret_node->records = stats.records;
    ret_node->cpu_us = cpu_us();
    ret_node->memory = resident_size();
    ret_node->connections = atomic_load(&node->sockets);
    ret_node->disk_free = status->disk_free;
    ret_node->disk_size = status->disk_size;
    ret_node->disk_reserve = status->disk_reserve;
    ret_node->disk_short = status->disk_short;
    ret_node->disk_critical = status->disk_critical;
    ret_node->holes = status->holes;
    ret_node->missing = status->missing;
    ret_node->filled = status->filled;
    ret_node->fill_rate = status->fill_rate;
    ret_node->fill_left_s = status->fill_left_s;
    ret_node->scrub_bytes = status->scrub_bytes;
    ret_node->scrub_damage = status->scrub_damage;
    ret_node->scrub_passed_ms = status->scrub_passed_ms;
    ret_node->compact_bytes_in = status->compact_bytes_in;
    ret_node->compact_bytes_out = status->compact_bytes_out;
    ret_node->compact_dropped = status->compact_dropped;
    ret_node->compact_topic = (char *)(uintptr_t)status->compact_topic;
    ret_node->files_open = files.descriptors;
    ret_node->files_mapped = files.mapped;
    ret_node->files_hits = files.hits;
    ret_node->files_misses = files.misses;
    ret_node->files_evicted = files.evictions;
}

/* ---- the answer ---- */

static const struct part *find_part(const struct inquiry *self, const struct member *member)
{
    for (unsigned i = 0; i < self->part_count; i++) {
        if (self->parts[i].member == member) {
            return &self->parts[i];
        }
    }
    return NULL;
}

/* Entries behind the leader's commit index, or, where it did not answer, the highest known. */
static void fill_lags(Quorlog__NodeStatus *nodes, size_t count, uint64_t leader_id)
{
    uint64_t commit = 0;

    for (size_t i = 0; i < count; i++) {
        if (nodes[i].commit > commit) {
            commit = nodes[i].commit;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (nodes[i].id == leader_id && strcmp(nodes[i].state, "leader") == 0) {
            commit = nodes[i].commit;
        }
    }
    for (size_t i = 0; i < count; i++) {
        nodes[i].lag = commit > nodes[i].applied ? commit - nodes[i].applied : 0;
    }
}

static void reply(struct inquiry *self, bool local)
{
    static const char unreachable[] = "unreachable";
    struct node *node = self->front->node;
    const struct membership *membership = &self->status.membership;
    Quorlog__StatusReply reply = QUORLOG__STATUS_REPLY__INIT;
    Quorlog__NodeStatus nodes[MEMBERSHIP_MAX + 1];
    Quorlog__NodeStatus *pointers[MEMBERSHIP_MAX + 1];
    struct own_delays delays;
    size_t count = 0;

    fill_own(node, &self->status, &nodes[count]);
    fill_own_delays(node, &delays, &nodes[count++]);
    for (unsigned i = 0; i < membership->count && !local; i++) {
        const struct member *member = &membership->members[i];
        const struct part *part = find_part(self, member);

        if (part == NULL) {
            continue; /* This node. */
        }
        if (part->reply != NULL) {
            nodes[count++] = *part->reply->nodes[0]; /* Its strings stay the reply's. */
        } else {
            fill_member(member, &nodes[count]);
            nodes[count++].state = (char *)(uintptr_t)unreachable;
        }
    }
    fill_lags(nodes, count, self->status.leader_id);
    for (size_t i = 0; i < count; i++) {
        pointers[i] = &nodes[i];
    }
    reply.cluster_id = node->identity.cluster_id;
    reply.node_id = node->identity.node_id;
    reply.leader_id = self->status.leader_id;
    reply.term = self->status.term;
    reply.nodes = pointers;
    reply.n_nodes = count;
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_STATUS_REPLY, &reply.base, NULL);
}

static void release(struct inquiry *self)
{
    struct front *front = self->front;

    deadlines_cancel(&front->deadlines, &self->deadline);
    for (unsigned i = 0; i < self->part_count; i++) {
        remote_forget(&self->parts[i].passed);
        if (self->parts[i].reply != NULL) {
            quorlog__status_reply__free_unpacked(self->parts[i].reply, NULL);
        }
    }
    request_end(&self->request);
    DL_DELETE(front->statuses.list, self);
    free(self);
    front_check_finished(front);
}

/* Tells what was learned to who asked for it; the request is his again. */
static void hand_over(struct inquiry *self, struct session *session)
{
    struct member_fact facts[MEMBERSHIP_MAX] = {{0}};
    const struct frame frame = {.type = self->request.type, .request_id = self->request.id};
    status_survey_cb surveyed = self->surveyed;
    void *arg = self->arg;
    unsigned count = self->part_count;

    ASSERT(surveyed != NULL);
    for (unsigned i = 0; i < count; i++) {
        const struct part *part = &self->parts[i];

        facts[i].id = part->member->id;
        if (part->reply != NULL && part->reply->nodes[0]->id == facts[i].id) {
            facts[i].answered = true;
            facts[i].holes = part->reply->nodes[0]->holes;
        }
    }
    release(self);
    surveyed(arg, session, &frame, facts, count);
}

static void finish(struct inquiry *self)
{
    if (self->surveyed != NULL) {
        hand_over(self, self->request.session);
        return;
    }
    reply(self, false);
    release(self);
}

static bool all_done(const struct inquiry *self)
{
    for (unsigned i = 0; i < self->part_count; i++) {
        if (self->parts[i].state != PART_DONE) {
            return false;
        }
    }
    return true;
}

static void on_deadline(struct deadline *deadline)
{
    finish(CONTAINER_OF(deadline, struct inquiry, deadline));
}

static void on_cancel(struct request *request, enum err err)
{
    struct inquiry *self = CONTAINER_OF(request, struct inquiry, request);

    if (self->surveyed != NULL) {
        if (err == ERR_SHUTDOWN) {
            request_fail_plain(&self->request, err, "change the members");
        }
        hand_over(self, NULL);
        return;
    }
    if (err == ERR_SHUTDOWN) {
        reply(self, false);
    }
    release(self);
}

/* ---- the others ---- */

static void part_done(struct part *part)
{
    part->state = PART_DONE;
    if (all_done(part->inquiry)) {
        finish(part->inquiry);
    }
}

static void on_answered(struct passed *passed, const struct frame *frame)
{
    struct part *part = CONTAINER_OF(passed, struct part, passed);

    ASSERT(part->state == PART_ASKED && part->reply == NULL);
    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_STATUS_REPLY) {
        part->reply = quorlog__status_reply__unpack(NULL, frame->header_size, frame->header);
    }
    if (part->reply != NULL && part->reply->n_nodes == 0) {
        quorlog__status_reply__free_unpacked(part->reply, NULL);
        part->reply = NULL;
    }
    part_done(part);
}

static void on_lost(struct passed *passed, enum err err, const char *text)
{
    struct part *part = CONTAINER_OF(passed, struct part, passed);

    (void)err; /* Unreachable is unreachable. */
    (void)text;
    part_done(part);
}

static void ask(struct part *part)
{
    uint8_t header[16];
    Quorlog__StatusRequest request = QUORLOG__STATUS_REQUEST__INIT;
    struct frame_out frame = {.type = QUORLOG__FRAME_TYPE__FRAME_STATUS, .header = header};

    ASSERT(part->state == PART_UNASKED);
    request.local = true;
    frame.header_size = quorlog__status_request__pack(&request, header);
    ASSERT(frame.header_size <= sizeof header);
    part->passed.answered = on_answered;
    part->passed.lost = on_lost;
    if (remote_send(part->inquiry->front, part->member->id, &part->passed, &frame) == ERR_OK) {
        part->state = PART_ASKED;
    } /* Otherwise statuses_retry, or the deadline. */
}

void statuses_retry(struct front *front)
{
    struct inquiry *self;

    DL_FOREACH(front->statuses.list, self)
    {
        for (unsigned i = 0; i < self->part_count; i++) {
            if (self->parts[i].state == PART_UNASKED) {
                ask(&self->parts[i]);
            }
        }
    }
}

void statuses_stop(struct front *front)
{
    while (front->statuses.list != NULL) {
        finish(front->statuses.list);
    }
}

static void begin(struct inquiry *self, bool local)
{
    const struct membership *membership = &self->status.membership;
    struct front *front = self->front;

    group_status(front->node->group, &self->status);
    for (unsigned i = 0; i < membership->count && !local; i++) {
        if (membership->members[i].id != front->node->identity.node_id) {
            self->parts[self->part_count++] =
                (struct part){.inquiry = self, .member = &membership->members[i]};
        }
    }
    if (self->part_count == 0 ||
        front_deadline(front, &self->deadline, front_now_ms(front) + ANSWER_MS) != ERR_OK) {
        finish(self);
        return;
    }
    for (unsigned i = 0; i < self->part_count; i++) {
        ask(&self->parts[i]);
    }
}

enum err status_survey(struct session *session, const struct frame *frame, status_survey_cb cb,
                       void *arg)
{
    struct inquiry *self = calloc(1, sizeof *self);

    ASSERT(cb != NULL);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->front = session_front(session);
    self->request.cancel = on_cancel;
    self->deadline.passed = on_deadline;
    self->surveyed = cb;
    self->arg = arg;
    DL_APPEND(self->front->statuses.list, self);
    request_begin(&self->request, session, frame, sizeof *self);
    begin(self, false);
    return ERR_OK;
}

void api_status(struct session *session, const struct frame *frame)
{
    Quorlog__StatusRequest *request =
        quorlog__status_request__unpack(NULL, frame->header_size, frame->header);
    struct inquiry *self = calloc(1, sizeof *self);
    struct failure failure;

    if (request == NULL) {
        api_refuse_header(session, frame, "STATUS");
        free(self);
        return;
    }
    if (self == NULL) {
        (void)failure_set(&failure, ERR_NOMEM, "status: %s", err_text(ERR_NOMEM));
        api_refuse(session, frame, &failure);
    } else {
        self->front = session_front(session);
        self->request.cancel = on_cancel;
        self->deadline.passed = on_deadline;
        DL_APPEND(self->front->statuses.list, self);
        request_begin(&self->request, session, frame, sizeof *self);
        begin(self, request->local || session_of_node(session));
    }
    quorlog__status_request__free_unpacked(request, NULL);
}
