#include "server/elsewhere.h"

#include <inttypes.h>
#include <string.h>
#include <utlist.h>

#include "base/assert.h"
#include "base/container.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/chain.h"
#include "record/batch_cut.h"
#include "server/front.h"
#include "server/reading_internal.h"
#include "server/record_count.h"

enum {
    NODE_MS = 2000, /* a member is given so long, dialling included */
    HEADER_SIZE_MAX = 512,
};

static bool was_asked(const struct elsewhere *self, uint64_t id)
{
    for (unsigned i = 0; i < self->asked_count; i++) {
        if (self->asked[i] == id) {
            return true;
        }
    }
    return false;
}

/* The next member in the ring that begins behind this node; 0: all were asked. */
static uint64_t choose(const struct elsewhere *self)
{
    uint64_t own = self->front->node->identity.node_id;
    struct replica_status status;
    const struct membership *members = &status.membership;
    uint64_t above = UINT64_MAX;
    uint64_t lowest = UINT64_MAX;

    group_status(self->front->node->group, &status);
    for (unsigned i = 0; i < members->count; i++) {
        uint64_t id = members->members[i].id;

        if (id == own || was_asked(self, id)) {
            continue;
        }
        lowest = id < lowest ? id : lowest;
        above = id > own && id < above ? id : above;
    }
    above = above != UINT64_MAX ? above : lowest;
    return above != UINT64_MAX && self->asked_count < MEMBERSHIP_MAX ? above : 0;
}

static void end(struct elsewhere *self)
{
    remote_forget(&self->passed);
    deadlines_cancel(&self->front->deadlines, &self->deadline);
    DL_DELETE(self->front->elsewheres.list, self);
    self->front = NULL;
}

void elsewhere_cancel(struct elsewhere *self)
{
    if (self->front != NULL) {
        end(self);
    }
}

/* ERR_AGAIN, ERR_BUSY: later; other errors: not to this one. */
static enum err send_query(struct elsewhere *self)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;
    uint8_t header[HEADER_SIZE_MAX + READING_FILTER_SIZE_MAX];
    struct frame_out frame = {.type = QUORLOG__FRAME_TYPE__FRAME_CONSUME, .header = header};
    const struct reading_filter *filter = self->query.filter;
    enum err err;

    ASSERT(!self->sent);
    request.topic = (char *)(uintptr_t)self->query.topic; /* Only read from. */
    request.topic_id = self->query.topic_id;
    request.start = self->query.by_time ? QUORLOG__START__START_TIME : QUORLOG__START__START_OFFSET;
    request.offset = self->query.offset;
    request.time_us = self->query.time_us;
    request.records_max =
        self->query.records_max < UINT32_MAX ? (uint32_t)self->query.records_max : 0;
    request.bytes_max = self->query.by_time ? 1 : self->query.bytes_max;
    if (filter != NULL) {
        request.filter = quorlog__record_filter__unpack(NULL, filter->packed_size, filter->packed);
        if (request.filter == NULL) {
            return ERR_NOMEM;
        }
    }
    ASSERT(quorlog__consume_request__get_packed_size(&request) <= sizeof header);
    frame.header_size = quorlog__consume_request__pack(&request, header);
    err = remote_send(self->front, self->to, &self->passed, &frame);
    if (request.filter != NULL) {
        quorlog__record_filter__free_unpacked(request.filter, NULL);
    }
    return err;
}

/* Asks the member `to`, now or when there is a connection. False: it cannot be asked. */
static bool ask_one(struct elsewhere *self)
{
    struct front *front = self->front;
    enum err err;

    self->asked[self->asked_count] = self->to;
    self->asked_count++;
    self->sent = false;
    if (front_deadline(front, &self->deadline, front_now_ms(front) + NODE_MS) != ERR_OK) {
        return false;
    }
    err = send_query(self);
    self->sent = err == ERR_OK;
    return err == ERR_OK || err == ERR_AGAIN || err == ERR_BUSY;
}

/* False: there is nobody left. */
static bool ask_next(struct elsewhere *self)
{
    for (;;) {
        self->to = choose(self);
        if (self->to == 0) {
            return false;
        }
        if (ask_one(self)) {
            return true;
        }
    }
}

/* The one that was asked does not help. */
static void pass_over(struct elsewhere *self)
{
    remote_forget(&self->passed);
    if (!ask_next(self)) {
        end(self);
        self->nobody(self);
    }
}

static void on_deadline(struct deadline *deadline)
{
    pass_over(CONTAINER_OF(deadline, struct elsewhere, deadline));
}

static void on_lost(struct passed *passed, enum err err, const char *text)
{
    (void)err; /* The next one may know. */
    (void)text;
    pass_over(CONTAINER_OF(passed, struct elsewhere, passed));
}

/* Whether the batches are what was asked for, up to next. Filtered ones may leave out some. */
static bool fits(const struct elsewhere *self, const struct slice *batches, uint64_t next)
{
    bool filtered = self->query.filter != NULL;
    uint64_t offset = filtered ? self->query.offset : 0;
    size_t at = 0;

    while (at < batches->size) {
        struct batch_header header;

        if (batches->size - at < BATCH_HEADER_SIZE ||
            batch_header_decode(batches->data + at, UINT32_MAX, &header, NULL) != ERR_OK ||
            header.size > batches->size - at) {
            return false;
        }
        if (filtered ? at > 0 && header.base_offset < offset
                     : (at > 0 && header.base_offset != offset) ||
                           (at == 0 && header.base_offset > self->query.offset)) {
            return false;
        }
        offset = batch_end_offset(&header);
        at += header.size;
    }
    return filtered ? next > self->query.offset && offset <= next
                    : offset > self->query.offset && offset == next;
}

/* The batches before the one at `at`, and of that one what lies below end. */
static enum err cut_last(uint64_t end, size_t at, const struct batch_header *header,
                         struct slice *batches, struct block **ret_cut)
{
    const uint8_t *batch = batches->data + at;
    struct batch_cut cut = {.to = end};
    struct block *block = NULL;
    struct buf part;
    enum err err = batch_check_body(header, batch + BATCH_HEADER_SIZE, NULL);

    if (batch_is_compacted(header)) {
        cut.before = batch + BATCH_HEADER_SIZE; /* So that it is one even without a record. */
    }
    buf_init(&part, CHAIN_BATCH_SIZE_MAX);
    err = err == ERR_OK ? batch_cut_append(batch, header->size, &cut, &part, NULL) : err;
    if (err == ERR_OK) {
        block = block_new(at + part.size);
        err = block == NULL ? ERR_NOMEM : ERR_OK;
    }
    if (err == ERR_OK) {
        memcpy(block->data, batches->data, at);
        memcpy(block->data + at, part.data, part.size);
        *batches = (struct slice){.block = block, .data = block->data, .size = block->size};
        *ret_cut = block;
    }
    buf_fini(&part);
    return err;
}

enum err elsewhere_cut(uint64_t end, struct slice *batches, uint64_t *next, struct block **ret_cut)
{
    size_t at = 0;

    *ret_cut = NULL;
    *next = *next < end ? *next : end;
    while (at < batches->size) {
        struct batch_header header = {0};
        enum err err = batch_header_decode(batches->data + at, UINT32_MAX, &header, NULL);

        ASSERT(err == ERR_OK); /* They fit. */
        if (header.base_offset >= end) {
            batches->size = at;
            return ERR_OK;
        }
        if (batch_end_offset(&header) > end) {
            return cut_last(end, at, &header, batches, ret_cut);
        }
        at += header.size;
    }
    return ERR_OK;
}

/* Of batches that fit: the records in them, where they can be told without decoding. */
static uint64_t count_records(const struct slice *batches)
{
    uint64_t all = 0;
    size_t at = 0;

    while (at < batches->size) {
        struct batch_header header;
        uint32_t count = 0;
        enum err err = batch_header_decode(batches->data + at, UINT32_MAX, &header, NULL);

        ASSERT(err == ERR_OK);
        if ((header.attributes & (BATCH_CODEC_MASK | BATCH_COMPACTED)) != 0 ||
            record_count(batches->data + at + BATCH_HEADER_SIZE, header.size - BATCH_HEADER_SIZE,
                         &count, NULL) != ERR_OK) {
            count = 0; /* A node that knows no filter: whoever asked counts what matches. */
        }
        all += count;
        at += header.size;
    }
    return all;
}

static void on_answered(struct passed *passed, const struct frame *frame)
{
    struct elsewhere *self = CONTAINER_OF(passed, struct elsewhere, passed);
    struct slice batches = {.block = frame->block, .data = frame->body, .size = frame->body_size};
    Quorlog__ConsumeReply *reply = NULL;
    struct block *cut = NULL;
    uint64_t next = 0;
    bool helps = false;

    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY) {
        reply = quorlog__consume_reply__unpack(NULL, frame->header_size, frame->header);
    }
    if (reply != NULL) {
        next = self->query.by_time ? reply->offset : reply->next_offset;
        batches.size = self->query.by_time ? 0 : batches.size;
        helps = self->query.by_time || fits(self, &batches, next);
        helps = helps && elsewhere_cut(self->query.end, &batches, &next, &cut) == ERR_OK;
        if (helps && self->query.filter != NULL) {
            self->counts = (struct seek_counts){.records = reply->records_scanned,
                                                .bytes = reply->bytes_scanned,
                                                .segments_skipped = reply->segments_skipped,
                                                .matches = count_records(&batches)};
        }
        quorlog__consume_reply__free_unpacked(reply, NULL);
    }
    if (!helps) {
        pass_over(self);
        return;
    }
    end(self);
    self->answered(self, &batches, next);
    block_unref(cut);
}

bool elsewhere_ask(struct elsewhere *self, struct front *front, const struct elsewhere_query *query)
{
    ASSERT(self->front == NULL && self->passed.remote == NULL);
    ASSERT(self->answered != NULL && self->nobody != NULL);
    self->front = front;
    self->query = *query;
    self->asked_count = 0;
    self->passed.answered = on_answered;
    self->passed.lost = on_lost;
    self->deadline.passed = on_deadline;
    DL_APPEND(front->elsewheres.list, self);
    if (!ask_next(self)) {
        end(self);
        return false;
    }
    return true;
}

void elsewheres_retry(struct front *front)
{
    struct elsewhere *self;
    struct elsewhere *next;

    DL_FOREACH_SAFE(front->elsewheres.list, self, next)
    {
        if (!self->sent) {
            self->sent = send_query(self) == ERR_OK; /* Otherwise again, or the deadline. */
        }
    }
}
