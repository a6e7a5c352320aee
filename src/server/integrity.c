/*
 * What lets others check this node's copy of a topic: DIGEST and PROOF. Each is one piece of work
 * of the pool; what it may bring is reserved in the session first, so that whoever asks much and
 * takes little waits.
 *
 *      WAITING ── room ──► WORKING ── done ──► answered, freed
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/container.h"
#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/front.h"
#include "server/inspect.h"

/* What an answer brings: a header, or links. */
enum { DIGEST_ANSWER_SIZE = 1024, LINKS_ANSWER_SIZE = INSPECT_LINKS_MAX * CHAIN_LINK_SIZE };

struct examination {
    struct request request;
    struct front *front;
    struct topic *topic; /* owned reference */
    uint64_t applied;
    size_t answer_size; /* bytes */
    bool working;
    struct work work;
    struct inspect inspect; /* the worker's while working */
};

static void release(struct examination *self)
{
    ASSERT(self->request.session == NULL);
    topic_unref(self->topic);
    inspect_fini(&self->inspect);
    free(self);
}

static void reply_digest(struct examination *self)
{
    Quorlog__DigestReply reply = QUORLOG__DIGEST_REPLY__INIT;
    const struct inspect *inspect = &self->inspect;
    uint8_t header[BATCH_HEADER_SIZE];
    char text[sizeof inspect->info.text];

    memcpy(text, inspect->info.text, sizeof text);
    reply.topic_id = self->topic->id;
    reply.log_start = log_start(self->topic->log);
    reply.log_end = log_end(self->topic->log);
    reply.node_id = self->front->node->identity.node_id;
    reply.applied = self->applied;
    if (inspect->has_header) {
        batch_header_encode(&inspect->header, header);
        reply.header.data = header;
        reply.header.len = sizeof header;
    }
    reply.next_offset = inspect->next;
    reply.bytes = inspect->size;
    reply.damage = inspect->damage;
    if (inspect->damage != ERR_OK) {
        reply.damage_text = text;
    }
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_DIGEST_REPLY, &reply.base, NULL);
}

static void reply_proof(struct examination *self)
{
    Quorlog__ProofReply reply = QUORLOG__PROOF_REPLY__INIT;
    struct inspect *inspect = &self->inspect;
    struct slice body = {0};

    reply.topic_id = self->topic->id;
    reply.offset = inspect->has_header ? inspect->header.base_offset : inspect->next;
    reply.next_offset = inspect->next;
    reply.log_end = log_end(self->topic->log);
    reply.node_id = self->front->node->identity.node_id;
    if (inspect->has_previous) {
        reply.previous.data = inspect->previous.digest;
        reply.previous.len = DIGEST_SIZE;
    }
    if (inspect->links != NULL) {
        body = (struct slice){
            .block = inspect->links, .data = inspect->links->data, .size = inspect->links->size};
    }
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_PROOF_REPLY, &reply.base, &body);
}

static void reply_failure(struct examination *self)
{
    struct failure failure;
    const char *text = self->inspect.info.text;

    (void)failure_set(&failure, self->inspect.err, "examine '%s': %s", self->topic->name,
                      text[0] != '\0' ? text : err_text(self->inspect.err));
    failure.unknown = false; /* Nothing was to be changed. */
    failure.log_start = log_start(self->topic->log);
    failure.log_end = log_end(self->topic->log);
    request_fail(&self->request, &failure);
}

static void on_run(struct work *work)
{
    inspect_run(&CONTAINER_OF(work, struct examination, work)->inspect);
}

static void on_done(struct work *work)
{
    struct examination *self = CONTAINER_OF(work, struct examination, work);
    struct session *session = self->request.session;

    ASSERT(self->working);
    if (session != NULL) {
        session_unreserve(session, self->answer_size);
        if (self->inspect.err != ERR_OK) {
            reply_failure(self);
        } else if (self->inspect.kind == INSPECT_LINKS) {
            reply_proof(self);
        } else {
            reply_digest(self);
        }
        session_wake(session);
    }
    release(self);
}

/* Begins when there is room for the answer. */
static void try_begin(struct examination *self)
{
    ASSERT(!self->working && self->request.session != NULL);
    if (session_reserve(self->request.session, self->answer_size)) {
        self->working = true;
        work_start(&self->work, self->front);
    }
}

static void on_drained(struct request *request)
{
    struct examination *self = CONTAINER_OF(request, struct examination, request);

    if (!self->working) {
        try_begin(self);
    }
}

static void on_cancel(struct request *request, enum err err)
{
    struct examination *self = CONTAINER_OF(request, struct examination, request);
    bool waits = !self->working;

    if (self->working) {
        session_unreserve(request->session, self->answer_size);
        waits = work_cancel(&self->work);
    }
    if (err == ERR_SHUTDOWN) {
        request_fail_plain(request, err, "examine a topic");
    }
    request_end(request);
    if (waits) {
        release(self);
    }
}

/* Takes the topic's name and what to do from the request. */
static void begin(struct session *session, const struct frame *frame, const char *name,
                  const struct inspect *inspect)
{
    struct front *front = session_front(session);
    struct examination *self;
    struct failure failure;
    struct topic *topic;

    if (!api_check_topic(session, frame, "examine", name)) {
        return;
    }
    topic = catalog_find(group_catalog(front->node->group), name);
    if (topic == NULL) {
        (void)failure_set(&failure, ERR_TOPIC_UNKNOWN,
                          "examine '%s': there is no such topic on node %" PRIu64, name,
                          front->node->identity.node_id);
        api_refuse(session, frame, &failure);
        return;
    }
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        topic_unref(topic);
        (void)failure_set(&failure, ERR_NOMEM, "examine '%s': %s", name, err_text(ERR_NOMEM));
        api_refuse(session, frame, &failure);
        return;
    }
    self->front = front;
    self->topic = topic;
    self->applied = group_applied_index(front->node->group);
    self->inspect = *inspect;
    self->inspect.log = topic->log;
    self->answer_size = inspect->kind == INSPECT_LINKS ? LINKS_ANSWER_SIZE : DIGEST_ANSWER_SIZE;
    self->request.cancel = on_cancel;
    self->request.drained = on_drained;
    self->work.run = on_run;
    self->work.done = on_done;
    request_begin(&self->request, session, frame, sizeof *self);
    try_begin(self);
}

static size_t size_of(uint32_t bytes_max)
{
    size_t size = bytes_max == 0 ? INSPECT_SIZE_DEFAULT : bytes_max;

    return size < INSPECT_SIZE_MAX ? size : INSPECT_SIZE_MAX;
}

void api_digest(struct session *session, const struct frame *frame)
{
    Quorlog__DigestRequest *request =
        quorlog__digest_request__unpack(NULL, frame->header_size, frame->header);
    struct inspect inspect;

    if (request == NULL) {
        api_refuse_header(session, frame, "DIGEST");
        return;
    }
    inspect = (struct inspect){
        .kind = request->check ? INSPECT_CHECK : INSPECT_HEADER,
        .offset = request->offset,
        .end = request->end == 0 ? UINT64_MAX : request->end,
        .size_max = size_of(request->bytes_max),
    };
    begin(session, frame, request->topic, &inspect);
    quorlog__digest_request__free_unpacked(request, NULL);
}

void api_proof(struct session *session, const struct frame *frame)
{
    Quorlog__ProofRequest *request =
        quorlog__proof_request__unpack(NULL, frame->header_size, frame->header);
    struct inspect inspect;

    if (request == NULL) {
        api_refuse_header(session, frame, "PROOF");
        return;
    }
    inspect = (struct inspect){
        .kind = INSPECT_LINKS,
        .offset = request->offset,
        .end = request->end == 0 ? UINT64_MAX : request->end,
        .size_max = size_of(request->bytes_max),
    };
    begin(session, frame, request->topic, &inspect);
    quorlog__proof_request__free_unpacked(request, NULL);
}
