/*
 * Happy path: read_index_wait → ask() → the group, or READ_INDEX to the leader's node → take() →
 * everybody whose wait it fits. Failure modes: no leader, no connection to it, a refusal, a lost
 * connection, an answer that does not come (a stopped process): asked again, of whoever leads then;
 * how long is for those who wait to say, by forgetting. On the other side api_read_index answers
 * the questions of other nodes, with a wait of its own kind.
 */
#include "server/read_index.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <utlist.h>

#include "base/assert.h"
#include "base/container.h"
#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/front.h"

enum {
    RETRY_MS = 20,
    SILENT_MS = 1000, /* no answer: asked again */
};

#define NS_PER_S UINT64_C(1000000000)

uint64_t read_index_now_ns(void)
{
    struct timespec now;
    int rv = clock_gettime(CLOCK_BOOTTIME, &now);

    ASSERT(rv == 0); /* Every kernel that we run on has this clock. */
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec + 1;
}

uint64_t read_index_since_now(const struct front *front)
{
    const struct read_indexes *self = &front->indexes;
    uint64_t now_ns = read_index_now_ns();
    uint64_t asked_ns = self->state == INDEX_IDLE ? self->known_ns : self->asked_ns;

    /* A question of the same nanosecond was asked before. */
    return now_ns > asked_ns ? now_ns : asked_ns + 1;
}

bool read_index_known(const struct front *front, uint64_t since_ns, uint64_t *ret_index,
                      uint64_t *ret_known_ns)
{
    const struct read_indexes *self = &front->indexes;

    ASSERT(since_ns > 0);
    if (self->known_ns < since_ns) {
        return false;
    }
    *ret_index = self->known_index; /* X1 */
    *ret_known_ns = self->known_ns;
    return true;
}

/* ---- asking ---- */

static void retry_after(struct front *front, uint64_t delay_ms)
{
    /* Without memory for the deadline: what the group publishes next is the next chance. */
    (void)front_deadline(front, &front->indexes.retry, front_now_ms(front) + delay_ms);
}

static void on_read_done(struct group_read *read)
{
    struct read_indexes *self = CONTAINER_OF(read, struct read_indexes, read);

    front_index_answer(CONTAINER_OF(self, struct front, indexes), read);
}

static void ask_group(struct front *front)
{
    struct read_indexes *self = &front->indexes;

    self->read.done = on_read_done;
    if (group_read(front->node->group, &self->read) == ERR_OK) {
        self->state = INDEX_ASKED_GROUP;
    } else {
        retry_after(front, RETRY_MS);
    }
}

static void ask_node(struct front *front, uint64_t leader_id)
{
    struct read_indexes *self = &front->indexes;
    struct frame_out frame = {.type = QUORLOG__FRAME_TYPE__FRAME_READ_INDEX};

    if (remote_send(front, leader_id, &self->passed, &frame) == ERR_OK) {
        self->state = INDEX_ASKED_NODE;
        self->asked_node = leader_id;
        retry_after(front, SILENT_MS);
    } else {
        retry_after(front, RETRY_MS);
    }
}

/* One question for all who wait. */
static void ask(struct front *front)
{
    struct read_indexes *self = &front->indexes;
    uint64_t leader_id = group_leader_id(front->node->group);
    const struct index_wait *wait;
    bool own = false; /* Somebody waits who is not another node. */

    ASSERT(self->state == INDEX_IDLE);
    DL_FOREACH(self->waits, wait)
    {
        own = own || !wait->passed_on;
    }
    deadlines_cancel(&front->deadlines, &self->retry);
    if (self->waits == NULL || front->state != FRONT_RUNNING) {
        return;
    }
    self->asked_ns = read_index_since_now(front);
    if (leader_id == front->node->identity.node_id) {
        ask_group(front);
    } else if (leader_id == 0 || !own) {
        retry_after(front, RETRY_MS);
    } else {
        ask_node(front, leader_id);
    }
}

static void on_retry(struct deadline *deadline)
{
    struct read_indexes *self = CONTAINER_OF(deadline, struct read_indexes, retry);
    struct front *front = CONTAINER_OF(self, struct front, indexes);

    if (self->state == INDEX_ASKED_NODE) {
        remote_forget(&self->passed);
        self->state = INDEX_IDLE;
    }
    if (self->state == INDEX_IDLE) {
        ask(front);
    }
}

/* ---- answers ---- */

static void remove_wait(struct read_indexes *self, struct index_wait *wait)
{
    ASSERT(wait->waiting);
    DL_DELETE(self->waits, wait);
    wait->waiting = false;
}

/* Other nodes ask whoever leads. */
static void refuse_others(struct front *front)
{
    struct read_indexes *self = &front->indexes;
    struct index_wait *wait;
    struct index_wait *next;

    DL_FOREACH_SAFE(self->waits, wait, next)
    {
        if (wait->passed_on) {
            remove_wait(self, wait);
            wait->refused(wait);
        }
    }
}

/* The question under way is answered. */
static void take(struct front *front, uint64_t index)
{
    struct read_indexes *self = &front->indexes;
    struct index_wait *wait;

    ASSERT(self->state == INDEX_IDLE && self->asked_ns > self->known_ns);
    self->known_ns = self->asked_ns;
    /* Indexes of one leader never fall; a later leader's cover what an earlier one's did. */
    self->known_index = index > self->known_index ? index : self->known_index;
    for (;;) {
        /* From the front each time: who is called may forget others, or wait anew. The oldest come
         * first, so the search is short. */
        DL_FOREACH(self->waits, wait)
        {
            if (wait->since_ns <= self->known_ns) { /* X2 */
                break;
            }
        }
        if (wait == NULL) {
            break;
        }
        remove_wait(self, wait);
        wait->known(wait);
    }
    if (self->state == INDEX_IDLE) {
        ask(front); /* For those who came meanwhile. */
    }
}

static void failed(struct front *front)
{
    ASSERT(front->indexes.state == INDEX_IDLE);
    refuse_others(front);
    retry_after(front, RETRY_MS);
}

void read_indexes_answered(struct front *front, struct group_read *read)
{
    struct read_indexes *self = &front->indexes;

    ASSERT(read == &self->read && self->state == INDEX_ASKED_GROUP);
    self->state = INDEX_IDLE;
    if (front->state != FRONT_RUNNING) {
        front_check_finished(front);
    } else if (read->read.err == ERR_OK) {
        take(front, read->read.index);
    } else {
        failed(front);
    }
}

static void on_answered(struct passed *passed, const struct frame *frame)
{
    struct read_indexes *self = CONTAINER_OF(passed, struct read_indexes, passed);
    struct front *front = CONTAINER_OF(self, struct front, indexes);
    Quorlog__ReadIndexReply *reply = NULL;

    ASSERT(self->state == INDEX_ASKED_NODE);
    self->state = INDEX_IDLE;
    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_READ_INDEX_REPLY) {
        reply = quorlog__read_index_reply__unpack(NULL, frame->header_size, frame->header);
    }
    if (reply != NULL && reply->index > 0) {
        take(front, reply->index);
    } else {
        failed(front);
    }
    if (reply != NULL) {
        quorlog__read_index_reply__free_unpacked(reply, NULL);
    }
}

static void on_lost(struct passed *passed, enum err err, const char *text)
{
    struct read_indexes *self = CONTAINER_OF(passed, struct read_indexes, passed);

    (void)err; /* Whatever it was: the question is asked again. */
    (void)text;
    ASSERT(self->state == INDEX_ASKED_NODE);
    self->state = INDEX_IDLE;
    failed(CONTAINER_OF(self, struct front, indexes));
}

/* ---- what others call ---- */

void read_indexes_init(struct front *front)
{
    front->indexes = (struct read_indexes){
        .retry = {.passed = on_retry},
        .passed = {.answered = on_answered, .lost = on_lost},
    };
}

void read_index_wait(struct front *front, struct index_wait *wait)
{
    struct read_indexes *self = &front->indexes;

    ASSERT(!wait->waiting && wait->known != NULL && wait->since_ns > 0);
    ASSERT(IMPLIES(wait->passed_on, wait->refused != NULL));
    wait->waiting = true;
    DL_APPEND(self->waits, wait);
    front_watch(front);
    if (self->state == INDEX_IDLE) {
        ask(front);
    }
}

void read_index_forget(struct front *front, struct index_wait *wait)
{
    if (wait->waiting) {
        remove_wait(&front->indexes, wait);
    }
}

void read_indexes_published(struct front *front)
{
    struct read_indexes *self = &front->indexes;
    uint64_t leader_id = group_leader_id(front->node->group);

    if (self->waits == NULL) {
        return;
    }
    if (leader_id != front->node->identity.node_id) {
        refuse_others(front);
    }
    if (self->state == INDEX_ASKED_NODE && leader_id != self->asked_node) {
        remote_forget(&self->passed);
        self->state = INDEX_IDLE;
    }
    if (self->state == INDEX_IDLE && leader_id != 0) {
        ask(front);
    }
}

void read_indexes_retry(struct front *front)
{
    if (front->indexes.state == INDEX_IDLE && front->indexes.waits != NULL) {
        ask(front);
    }
}

void read_indexes_stop(struct front *front)
{
    struct read_indexes *self = &front->indexes;

    ASSERT(front->state == FRONT_STOPPING);
    deadlines_cancel(&front->deadlines, &self->retry);
    if (self->state == INDEX_ASKED_NODE) {
        remote_forget(&self->passed);
        self->state = INDEX_IDLE;
    }
    refuse_others(front);
    ASSERT(self->waits == NULL); /* Readings are stopped before. */
}

/* ---- questions of other nodes ---- */

struct index_inquiry {
    struct request request;
    struct index_wait wait;
    struct front *front;
};

static void end_inquiry(struct index_inquiry *self)
{
    read_index_forget(self->front, &self->wait);
    request_end(&self->request);
    free(self);
}

static void refuse_inquiry(struct index_inquiry *self)
{
    uint64_t node_id = self->front->node->identity.node_id;
    struct failure failure;

    if (self->front->state == FRONT_RUNNING) {
        (void)failure_set(&failure, ERR_NOT_LEADER, "node %" PRIu64 " does not lead", node_id);
    } else {
        (void)failure_set(&failure, ERR_SHUTDOWN, "node %" PRIu64 " is stopping", node_id);
    }
    failure.unknown = false;
    request_fail(&self->request, &failure);
    end_inquiry(self);
}

static void on_known(struct index_wait *wait)
{
    struct index_inquiry *self = CONTAINER_OF(wait, struct index_inquiry, wait);
    Quorlog__ReadIndexReply reply = QUORLOG__READ_INDEX_REPLY__INIT;

    reply.index = self->front->indexes.known_index;
    reply.node_id = self->front->node->identity.node_id;
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_READ_INDEX_REPLY, &reply.base, NULL);
    end_inquiry(self);
}

static void on_refused(struct index_wait *wait)
{
    refuse_inquiry(CONTAINER_OF(wait, struct index_inquiry, wait));
}

static void on_cancel(struct request *request, enum err err)
{
    (void)err; /* The node that asked is told by the end of its connection. */
    end_inquiry(CONTAINER_OF(request, struct index_inquiry, request));
}

void api_read_index(struct session *session, const struct frame *frame)
{
    struct front *front = session_front(session);
    struct index_inquiry *self = calloc(1, sizeof *self);
    struct failure failure;

    if (self == NULL) {
        (void)failure_set(&failure, ERR_NOMEM, "read index: %s", err_text(ERR_NOMEM));
        api_refuse(session, frame, &failure);
        return;
    }
    self->front = front;
    self->request.cancel = on_cancel;
    request_begin(&self->request, session, frame, sizeof *self);
    if (group_leader_id(front->node->group) != front->node->identity.node_id ||
        front->state != FRONT_RUNNING) {
        refuse_inquiry(self);
        return;
    }
    self->wait = (struct index_wait){
        .passed_on = true,
        .since_ns = read_index_since_now(front),
        .known = on_known,
        .refused = on_refused,
    };
    read_index_wait(front, &self->wait);
}
