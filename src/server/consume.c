/*
 * The frames of readings: CONSUME, CONSUME_STREAM, CREDIT and CANCEL, checked and handed on.
 */
#include <stdlib.h>

#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/front.h"
#include "server/reading_internal.h"

static enum err check(const Quorlog__ConsumeRequest *request, struct failure *failure)
{
    if (request->start != QUORLOG__START__START_OFFSET &&
        request->start != QUORLOG__START__START_EARLIEST &&
        request->start != QUORLOG__START__START_LATEST &&
        request->start != QUORLOG__START__START_TAIL &&
        request->start != QUORLOG__START__START_TIME) {
        return failure_set(failure, ERR_INVALID, "consume '%s': unknown kind of start: %d",
                           request->topic, (int)request->start);
    }
    if (request->linearizable && request->max_lag_ms > 0) {
        return failure_set(failure, ERR_INVALID,
                           "consume '%s': linearizable and max_lag_ms exclude each other",
                           request->topic);
    }
    return ERR_OK;
}

static enum err get_filter(const Quorlog__ConsumeRequest *request,
                           struct reading_filter **ret_filter, struct failure *failure)
{
    enum err err;

    if (request->filter == NULL) {
        return ERR_OK;
    }
    (void)failure_set(failure, ERR_INVALID, "no filter");
    err = reading_filter_new(request->filter, ret_filter, &failure->info);
    return err == ERR_OK ? err : err_prefix(&failure->info, err, "consume '%s'", request->topic);
}

/* Checks what both kinds share; NULL: it was answered. */
static struct reading *begin(struct session *session, const struct frame *frame,
                             const Quorlog__ConsumeRequest *request)
{
    struct reading_filter *filter = NULL;
    struct failure failure;
    struct reading *self;

    if (!api_check_topic(session, frame, "consume", request->topic)) {
        return NULL;
    }
    if (check(request, &failure) != ERR_OK || get_filter(request, &filter, &failure) != ERR_OK) {
        api_refuse(session, frame, &failure);
        return NULL;
    }
    self = reading_new(session, frame, request, filter);
    if (self == NULL) {
        free(filter);
        (void)failure_set(&failure, ERR_NOMEM, "consume '%s': %s", request->topic,
                          err_text(ERR_NOMEM));
        api_refuse(session, frame, &failure);
    }
    return self;
}

void api_consume(struct session *session, const struct frame *frame)
{
    Quorlog__ConsumeRequest *request =
        quorlog__consume_request__unpack(NULL, frame->header_size, frame->header);
    struct reading *self;

    if (request == NULL) {
        api_refuse_header(session, frame, "CONSUME");
        return;
    }
    self = begin(session, frame, request);
    quorlog__consume_request__free_unpacked(request, NULL);
    if (self != NULL) {
        reading_start(self);
    }
}

static void stream(struct session *session, const struct frame *frame,
                   const Quorlog__ConsumeStreamRequest *request)
{
    struct failure failure;
    struct reading *self;

    if (request->from == NULL) {
        (void)failure_set(&failure, ERR_INVALID, "consume: a stream that says not from where");
        api_refuse(session, frame, &failure);
        return;
    }
    if (session_find(session, frame->type, frame->request_id) != NULL) {
        (void)failure_set(&failure, ERR_INVALID, "consume: a stream with this request id is open");
        api_refuse(session, frame, &failure);
        return;
    }
    self = begin(session, frame, request->from);
    if (self != NULL) {
        reading_start_stream(self, request->credit);
    }
}

void api_consume_stream(struct session *session, const struct frame *frame)
{
    Quorlog__ConsumeStreamRequest *request =
        quorlog__consume_stream_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "CONSUME_STREAM");
        return;
    }
    stream(session, frame, request);
    quorlog__consume_stream_request__free_unpacked(request, NULL);
}

/* The stream that a CREDIT or CANCEL is for. One that is not there has ended a moment ago, which
 * the other side will see. */
static struct reading *find_stream(struct session *session, const struct frame *frame)
{
    struct request *request =
        session_find(session, QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM, frame->request_id);

    return request == NULL ? NULL : reading_of(request);
}

void api_credit(struct session *session, const struct frame *frame)
{
    Quorlog__Credit *credit = quorlog__credit__unpack(NULL, frame->header_size, frame->header);
    struct reading *self;

    if (credit == NULL) {
        api_refuse_header(session, frame, "CREDIT");
        return;
    }
    self = find_stream(session, frame);
    if (self != NULL) {
        reading_add_credit(self, credit->bytes);
    }
    quorlog__credit__free_unpacked(credit, NULL);
}

void api_cancel(struct session *session, const struct frame *frame)
{
    struct reading *self = find_stream(session, frame);

    if (self != NULL) {
        reading_cancel_stream(self);
        session_wake(session);
    }
}
