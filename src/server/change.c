#include "server/change.h"

#include <inttypes.h>
#include <stdlib.h>
#include <utlist.h>

#include "base/assert.h"
#include "base/container.h"
#include "quorlog.pb-c.h"
#include "server/front.h"

enum {
    DEADLINE_DEFAULT_MS = 30000,
    RETRY_MS = 20,        /* after a refusal without a hint */
    LEADER_LOST_MS = 500, /* an answer may still be on its way from a node that leads no more */
    CONFIRM_MARGIN_MS = 200,
    HINTS_MAX = 8, /* followed at once, one after the other; then with RETRY_MS between */
};

static void route(struct change *self);

static struct change *of_request(struct request *request)
{
    return CONTAINER_OF(request, struct change, request);
}

/* ---- state ---- */

static void move(struct change *self, enum change_state state)
{
    enum {
        ANYWHERE = 1U << CHANGE_HELD | 1U << CHANGE_CATCHING_UP | 1U << CHANGE_SUBMITTED |
                   1U << CHANGE_SENT | 1U << CHANGE_OVER
    };
    static const unsigned allowed[] = {
        [CHANGE_ROUTING] = ANYWHERE,
        [CHANGE_HELD] = ANYWHERE,
        [CHANGE_CATCHING_UP] = ANYWHERE,
        [CHANGE_SUBMITTED] = 1U << CHANGE_ROUTING,
        [CHANGE_SENT] = 1U << CHANGE_ROUTING | 1U << CHANGE_OVER,
        [CHANGE_OVER] = 0,
    };
    struct changes *changes = &self->front->changes;
    struct change **lists[] = {
        [CHANGE_HELD] = &changes->held,
        [CHANGE_CATCHING_UP] = &changes->catching_up,
        [CHANGE_SENT] = &changes->sent,
        [CHANGE_OVER] = NULL,
    };

    ASSERT((allowed[self->state] & 1U << state) != 0);
    self->state = state;
    if (self->list == lists[state]) {
        return; /* HELD again: it keeps its place. */
    }
    if (self->list != NULL) {
        DL_DELETE(*self->list, self);
    }
    self->list = lists[state];
    if (self->list != NULL) {
        DL_APPEND(*self->list, self);
        front_watch(self->front);
    }
}

static void release(struct change *self)
{
    struct front *front = self->front;
    struct changes *changes = &front->changes;

    ASSERT(self->list == NULL && self->passed.remote == NULL && self->deadline.place == 0);
    ASSERT(self->request.session == NULL);
    ASSERT(changes->count > 0 && changes->size >= self->request.size);
    changes->count--;
    changes->size -= self->request.size;
    if (changes->crowded && changes->size <= front->node->requests_size_max / 2) {
        changes->crowded = false;
        pressure_eased(front);
    }
    block_unref(self->body.block);
    free(self->step);
    free(self->cursor);
    free(self->settings);
    free(self);
    front_check_finished(front);
}

/* The request is answered, or nobody is there to hear it. Frees, unless the group has it. */
static void over(struct change *self)
{
    bool submitted = self->state == CHANGE_SUBMITTED;

    ASSERT(self->state != CHANGE_OVER);
    deadlines_cancel(&self->front->deadlines, &self->deadline);
    remote_forget(&self->passed);
    request_end(&self->request);
    if (!submitted) {
        move(self, CHANGE_OVER);
        release(self);
    }
}

static void fail(struct change *self, struct failure *failure)
{
    ASSERT(failure->info.code != ERR_OK);
    if (self->topic[0] == '\0') {
        (void)err_prefix(&failure->info, failure->info.code, "%s", self->kind->verb);
    } else {
        (void)err_prefix(&failure->info, failure->info.code, "%s '%s'", self->kind->verb,
                         self->topic);
    }
    request_fail(&self->request, failure);
    over(self);
}

/* The node stops, or the connection has ended. */
static void on_cancel(struct request *request, enum err err)
{
    struct change *self = of_request(request);
    struct failure failure;

    if (err == ERR_SHUTDOWN) {
        (void)failure_set(&failure, err, "this node is stopping; try another node");
        failure.unknown = self->state == CHANGE_SUBMITTED || self->state == CHANGE_SENT;
        fail(self, &failure);
    } else {
        over(self);
    }
}

static void on_deadline(struct deadline *deadline)
{
    struct change *self = CONTAINER_OF(deadline, struct change, deadline);
    struct failure failure;

    switch (self->state) {
    case CHANGE_HELD:
        if (self->held_for == ERR_BUSY) {
            (void)failure_set(&failure, ERR_BUSY, "the leader had no room until the deadline");
            break;
        }
        (void)failure_set(&failure, ERR_NO_LEADER, "%s until the deadline; nothing was written",
                          self->held_for == ERR_AGAIN ? "the leader could not be reached"
                                                      : "no leader was known");
        break;
    case CHANGE_CATCHING_UP:
        (void)failure_set(&failure, ERR_NO_LEADER,
                          "the leader is new and did not finish reading its log before the "
                          "deadline; nothing was written");
        break;
    case CHANGE_SENT:
    case CHANGE_SUBMITTED:
        if (self->leader_lost) {
            (void)failure_set(&failure, ERR_LEADERSHIP_LOST,
                              "the leader that had it was replaced; it may or may not have taken "
                              "effect");
            break;
        }
        (void)failure_set(&failure, ERR_TIMEOUT,
                          "the deadline passed without an answer; it may or may not have taken "
                          "effect");
        break;
    case CHANGE_ROUTING:
    case CHANGE_OVER:
        ASSERT(false); /* They last no longer than a call. */
    }
    fail(self, &failure);
}

/* ---- held back ---- */

/* Tries again a little later, whether anything else happens or not. */
static void arm_retry(struct front *front)
{
    if (front->changes.retry.place == 0) {
        /* Without memory for it, the next thing that happens retries. */
        (void)front_deadline(front, &front->changes.retry, front_now_ms(front) + RETRY_MS);
    }
}

static void hold(struct change *self, enum err why)
{
    ASSERT(why == ERR_NO_LEADER || why == ERR_AGAIN || why == ERR_BUSY);
    if (self->front->state != FRONT_RUNNING) {
        route(self); /* The group gave it back while the node stops: refused. */
        return;
    }
    self->held_for = why;
    move(self, CHANGE_HELD);
    arm_retry(self->front);
}

static void on_retry(struct deadline *deadline)
{
    struct changes *changes = CONTAINER_OF(deadline, struct changes, retry);
    struct front *front = CONTAINER_OF(changes, struct front, changes);

    changes_retry(front);
    ASSERT(IMPLIES(changes->held != NULL, changes->held->state == CHANGE_HELD));
}

void changes_init(struct front *front)
{
    front->changes = (struct changes){.retry = {.passed = on_retry}};
}

/* Routes what is held, in order. Where the first finds no way, the others find none either. */
void changes_retry(struct front *front)
{
    const struct change *first;

    do {
        first = front->changes.held;
        if (first != NULL) {
            ASSERT(first->state == CHANGE_HELD);
            route(front->changes.held);
        }
    } while (front->changes.held != first);
}

/* It was passed on to this node, which does not lead. */
static void refuse(struct change *self)
{
    struct failure failure;

    ASSERT(self->forwarded);
    (void)failure_set(&failure, ERR_NOT_LEADER, "node %" PRIu64 " does not lead",
                      self->front->node->identity.node_id);
    fail(self, &failure);
}

/* A node, this one or another, does not lead and says so: nothing was done. leader_id: who leads,
 * in its view; 0: not known. */
static void refused(struct change *self, uint64_t leader_id)
{
    ASSERT(self->state == CHANGE_ROUTING);
    if (self->forwarded) {
        refuse(self);
    } else if (leader_id != 0 && self->hints < HINTS_MAX) {
        self->hint = leader_id;
        self->hints++;
        route(self);
    } else {
        self->hints = 0;
        hold(self, ERR_NO_LEADER); /* What the group publishes has to catch up. */
    }
}

/* ---- here: the group ---- */

static void on_submission_done(struct group_request *submission)
{
    struct change *self = CONTAINER_OF(submission, struct change, submission);

    front_answer(self->front, submission);
}

static void wait_for_topic(struct change *self)
{
    struct replica_status status;
    struct failure failure;

    group_status(self->front->node->group, &status);
    if (self->caught_up || status.applied_index >= status.last_index) {
        (void)failure_set(&failure, ERR_TOPIC_UNKNOWN,
                          "there is no such topic; create it first (quorlog topic create)");
        fail(self, &failure);
        return;
    }
    self->applied_index = status.last_index;
    move(self, CHANGE_CATCHING_UP);
}

/* How long to wait for all voters: less than what is left, so that the answer, which says more than
 * a deadline that has passed, still arrives in time. */
static uint64_t confirm_ms(const struct change *self)
{
    uint64_t now_ms = front_now_ms(self->front);
    uint64_t left_ms = self->deadline_ms > now_ms ? self->deadline_ms - now_ms : 0;
    uint64_t margin_ms = left_ms / 4 < CONFIRM_MARGIN_MS ? left_ms / 4 : CONFIRM_MARGIN_MS;

    return left_ms - margin_ms;
}

/* Why the state machine, or the group, did not do it. */
static void tell_refusal(struct change *self, const struct fsm_result *result)
{
    struct failure failure;

    if (result->err == ERR_EXPECT_FAILED) {
        (void)failure_set(&failure, result->err,
                          "the log ends at %" PRIu64 ", not at %" PRIu64 "; nothing was written",
                          result->log_end, self->expect_offset);
        failure.log_end = result->log_end;
    } else if (result->err == ERR_NOSPACE) {
        (void)failure_set(&failure, result->err,
                          "the disks of too many nodes are nearly full (quorlog cluster status "
                          "shows which); nothing was written");
    } else {
        (void)failure_set(&failure, result->err, "%s", err_text(result->err));
    }
    if (self->kind->refuse != NULL) {
        self->kind->refuse(self, result, &failure);
    }
    fail(self, &failure);
}

static bool has_read_log(const struct change *self)
{
    struct replica_status status;

    group_status(self->front->node->group, &status);
    return status.applied_index >= status.last_index;
}

static void submit(struct change *self)
{
    struct failure failure;
    enum err err = self->kind->command(self, &self->submission.proposal.command);

    if (err == ERR_AGAIN && !self->caught_up && has_read_log(self)) {
        /* It may have finished reading just now. */
        self->caught_up = true;
        err = self->kind->command(self, &self->submission.proposal.command);
    }
    if (err == ERR_AGAIN) {
        wait_for_topic(self);
        return;
    }
    if (err != ERR_OK) {
        (void)failure_set(&failure, err, "%s", self->why.text);
        failure.unknown = false; /* Nothing was proposed. */
        fail(self, &failure);
        return;
    }
    self->submission.done = on_submission_done;
    self->submission.size = self->request.size;
    self->submission.proposal.acks_all = self->acks_all;
    self->submission.proposal.confirm_ms = confirm_ms(self);
    err = group_submit(self->front->node->group, &self->submission);
    if (err == ERR_OK) {
        move(self, CHANGE_SUBMITTED);
        return;
    }
    command_fini(&self->submission.proposal.command);
    if (err == ERR_BUSY) {
        hold(self, ERR_BUSY);
        return;
    }
    (void)failure_set(&failure, err, "%s", err_text(err));
    failure.unknown = false;
    fail(self, &failure);
}

void change_answered(struct group_request *submission)
{
    struct change *self = CONTAINER_OF(submission, struct change, submission);
    const struct fsm_result *result = &submission->proposal.result;

    ASSERT(self->state == CHANGE_SUBMITTED);
    command_fini(&submission->proposal.command);
    move(self, CHANGE_ROUTING);
    if (self->request.session == NULL) {
        over(self);
    } else if (result->err == ERR_OK || result->err == ERR_NOT_CONFIRMED) {
        self->kind->reply(self, result);
        over(self);
    } else if (result->err == ERR_NOT_LEADER) {
        refused(self, 0);
    } else {
        tell_refusal(self, result);
    }
}

/* ---- elsewhere: the leader ---- */

static void lose(struct change *self, enum err err, const char *text)
{
    struct failure failure;

    (void)failure_set(&failure, err,
                      "the leader's answer did not come (%.200s); it may or may not have taken "
                      "effect",
                      text);
    failure.unknown = true;
    fail(self, &failure);
}

static void on_lost(struct passed *passed, enum err err, const char *text)
{
    struct change *self = CONTAINER_OF(passed, struct change, passed);

    ASSERT(self->state == CHANGE_SENT);
    move(self, CHANGE_ROUTING);
    lose(self, err, text);
}

static void on_answered(struct passed *passed, const struct frame *frame)
{
    struct change *self = CONTAINER_OF(passed, struct change, passed);
    Quorlog__Error *error = NULL;

    ASSERT(self->state == CHANGE_SENT);
    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_ERROR) {
        error = quorlog__error__unpack(NULL, frame->header_size, frame->header);
    }
    move(self, CHANGE_ROUTING);
    if (error != NULL && error->code == ERR_NOT_LEADER) {
        refused(self, error->leader_id);
    } else if (error != NULL || frame->type == self->kind->reply_type) {
        session_send_packed(self->request.session, frame->type, self->request.id, frame->header,
                            frame->header_size);
        over(self);
    } else {
        lose(self, ERR_PROTOCOL, "its answer cannot be understood");
    }
    if (error != NULL) {
        quorlog__error__free_unpacked(error, NULL);
    }
}

static void pass_on(struct change *self, uint64_t leader_id)
{
    uint8_t header[CHANGE_HEADER_SIZE_MAX];
    uint64_t now_ms = front_now_ms(self->front);
    uint64_t left_ms = self->deadline_ms > now_ms ? self->deadline_ms - now_ms : 1;
    struct frame_out frame = {
        .type = self->request.type,
        .header = header,
        .body = &self->body,
        .body_count = self->body.size > 0 ? 1 : 0,
    };
    enum err err;

    frame.header_size = self->kind->pack(self, (uint32_t)left_ms, header);
    ASSERT(frame.header_size <= sizeof header);
    self->passed.answered = on_answered;
    self->passed.lost = on_lost;
    err = remote_send(self->front, leader_id, &self->passed, &frame);
    if (err == ERR_OK) {
        move(self, CHANGE_SENT);
    } else if (err == ERR_BUSY) {
        hold(self, ERR_BUSY);
    } else {
        hold(self, ERR_AGAIN);
    }
}

/* ---- here or elsewhere ---- */

/* self may be gone afterwards. */
static void route(struct change *self)
{
    struct node *node = self->front->node;
    uint64_t leader_id = self->hint != 0 ? self->hint : group_leader_id(node->group);
    struct failure failure;

    ASSERT(self->state != CHANGE_SUBMITTED && self->state != CHANGE_SENT);
    self->hint = 0;
    if (self->front->state != FRONT_RUNNING) {
        (void)failure_set(&failure, ERR_SHUTDOWN, "this node is stopping; try another node");
        failure.unknown = false;
        fail(self, &failure);
    } else if (leader_id == node->identity.node_id) {
        submit(self);
    } else if (self->forwarded) {
        refuse(self);
    } else if (leader_id == 0) {
        hold(self, ERR_NO_LEADER);
    } else {
        pass_on(self, leader_id);
    }
}

enum err change_new(struct session *session, const struct frame *frame,
                    const struct change_kind *kind, struct change **ret_change)
{
    struct front *front = session_front(session);
    size_t size = sizeof(struct change) + frame->body_size;
    struct change *self;

    if (front->changes.size > 0 && front->changes.size + size > front->node->requests_size_max) {
        return ERR_BUSY;
    }
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->front = front;
    self->kind = kind;
    self->deadline.passed = on_deadline;
    self->request.cancel = on_cancel;
    if (frame->body_size > 0) {
        self->body = (struct slice){
            .block = block_ref(frame->block), .data = frame->body, .size = frame->body_size};
    }
    front->changes.count++;
    front->changes.size += size;
    front->changes.crowded =
        front->changes.crowded || front->changes.size > front->node->requests_size_max / 4 * 3;
    request_begin(&self->request, session, frame, size);
    *ret_change = self;
    return ERR_OK;
}

void change_start(struct change *self, uint32_t deadline_ms)
{
    struct front *front = self->front;

    ASSERT(self->state == CHANGE_ROUTING);
    self->deadline_ms =
        front_now_ms(front) + (deadline_ms == 0 ? DEADLINE_DEFAULT_MS : deadline_ms);
    if (front_deadline(front, &self->deadline, self->deadline_ms) != ERR_OK) {
        request_fail_plain(&self->request, ERR_NOMEM, self->kind->verb);
        over(self);
    } else if (front->changes.held != NULL && !self->forwarded) {
        hold(self, front->changes.held->held_for); /* In order, behind what waits already. */
    } else {
        route(self);
    }
}

/* What the old leader has will hardly be answered by it now. */
static void leader_changed(struct front *front, uint64_t leader_id)
{
    struct change *self;
    uint64_t at_ms = front_now_ms(front) + LEADER_LOST_MS;

    DL_FOREACH(front->changes.sent, self)
    {
        if (remote_node(&self->passed) != leader_id && self->deadline.at_ms > at_ms) {
            self->leader_lost = true;
            (void)front_deadline(front, &self->deadline, at_ms); /* It is set: cannot fail. */
        }
    }
}

void changes_published(struct front *front)
{
    uint64_t leader_id = group_leader_id(front->node->group);
    uint64_t applied_index = group_applied_index(front->node->group);
    struct change *self;
    struct change *next;

    if (leader_id != front->changes.leader_id && leader_id != 0) {
        leader_changed(front, leader_id);
        front->changes.leader_id = leader_id;
    }
    DL_FOREACH_SAFE(front->changes.catching_up, self, next)
    {
        if (applied_index >= self->applied_index || leader_id != front->node->identity.node_id) {
            self->caught_up = applied_index >= self->applied_index;
            route(self);
        }
    }
    changes_retry(front);
}

void changes_stop(struct front *front)
{
    ASSERT(front->state == FRONT_STOPPING);
    while (front->changes.held != NULL) {
        route(front->changes.held); /* Refused, in this state. */
    }
    while (front->changes.catching_up != NULL) {
        route(front->changes.catching_up);
    }
    deadlines_cancel(&front->deadlines, &front->changes.retry);
}

bool changes_wait(const struct changes *self)
{
    return self->held != NULL || self->catching_up != NULL || self->sent != NULL;
}
