#include "client/fake_node.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"
#include "record/batch_records.h"
#include "record/codec.h"
#include "transport/transport.h"

enum { WINDOW = 64, TYPES = 128, STREAM_FRAME_SIZE = 1 << 20 };

#define TYPE(name) QUORLOG__FRAME_TYPE__FRAME_##name

/* A frame that answers, made before it is sent. */
struct answer {
    uint16_t type;
    uint64_t request_id;
    uint8_t *header; /* owned */
    size_t header_size;
    uint8_t *body; /* owned */
    size_t body_size;
};

struct stream {
    struct stream *prev;
    struct stream *next;
    uint64_t request_id;
    struct fake_topic *topic;
    uint64_t offset;
    int64_t credit;
};

struct client_conn {
    struct client_conn *prev;
    struct client_conn *next;
    struct fake_node *node;
    struct conn *conn;
    bool hello_seen;
    bool closing;
    struct stream *streams;
};

struct held {
    struct held *prev;
    struct held *next;
    struct client_conn *conn; /* NULL: gone */
    struct answer answer;     /* of type 0: the request is to be answered at the release */
    struct frame request;     /* holds a reference to its block */
};

struct rule {
    struct rule *prev;
    struct rule *next;
    struct fake_rule rule;
};

struct fake_node {
    struct fake_cluster *cluster;
    struct listener *listener;
    bool listener_closed;
    uint64_t id;
    char address[32];
    struct fake_node_settings settings;
    struct rule *rules;
    struct client_conn *conns;
    struct held *held;
    unsigned held_count;
    unsigned seen[TYPES];
    unsigned accepted;
    uint64_t streamed;
    struct fake_asked asked;
    struct fake_settings alteration;
    struct fake_settings created_with;
};

/* ---- the loop ---- */

static void on_late(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static bool is_done(void *arg)
{
    return **(const bool **)arg;
}

static void on_closed_flag(uv_handle_t *handle)
{
    handle->data = NULL;
}

static bool run(uv_loop_t *loop, unsigned ms, bool (*condition)(void *arg), void *arg)
{
    uv_timer_t timer;
    bool late = false;
    bool met;

    ck_assert_int_eq(uv_timer_init(loop, &timer), 0);
    timer.data = &late;
    uv_update_time(loop);
    ck_assert_int_eq(uv_timer_start(&timer, on_late, ms, 0), 0);
    while (!(met = condition != NULL && condition(arg)) && !late) {
        (void)uv_run(loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&timer, on_closed_flag);
    while (timer.data != NULL) {
        (void)uv_run(loop, UV_RUN_NOWAIT);
    }
    return met;
}

void loop_run_until_true(uv_loop_t *loop, bool (*condition)(void *arg), void *arg)
{
    ck_assert_msg(run(loop, 5000, condition, arg), "what was waited for has not happened");
}

void loop_run_until(uv_loop_t *loop, const bool *done)
{
    loop_run_until_true(loop, is_done, &done);
}

void loop_run_for(uv_loop_t *loop, unsigned ms)
{
    (void)run(loop, ms, NULL, NULL);
}

/* ---- topics ---- */

void fake_cluster_init(struct fake_cluster *self, uv_loop_t *loop)
{
    *self = (struct fake_cluster){.loop = loop, .next_producer_id = 1};
}

struct fake_topic *fake_cluster_topic(struct fake_cluster *self, const char *name)
{
    for (unsigned i = 0; i < self->topic_count; i++) {
        if (strcmp(self->topics[i].name, name) == 0) {
            return &self->topics[i];
        }
    }
    return NULL;
}

struct fake_topic *fake_cluster_add_topic(struct fake_cluster *self, const char *name)
{
    struct fake_topic *topic = &self->topics[self->topic_count++];

    ck_assert_uint_le(self->topic_count, 8);
    ck_assert_uint_lt(strlen(name), sizeof topic->name);
    strcpy(topic->name, name);
    topic->id = self->topic_count;
    return topic;
}

static struct fake_batch *add_batch(struct fake_cluster *self, struct fake_topic *topic,
                                    const struct batch_header *header, const uint8_t *body)
{
    struct batch_header stamped = *header;
    struct fake_batch *batch;

    self->raft_index++;
    stamped.base_offset = topic->end;
    stamped.raft_index = self->raft_index;
    stamped.raft_term = 3;
    stamped.append_time_us = 1000000 + (int64_t)self->raft_index;
    topic->batches = realloc(topic->batches, (topic->batch_count + 1) * sizeof topic->batches[0]);
    ck_assert_ptr_nonnull(topic->batches);
    batch = &topic->batches[topic->batch_count++];
    *batch = (struct fake_batch){
        .bytes = malloc(header->size),
        .size = header->size,
        .base_offset = topic->end,
        .record_count = header->record_count,
        .producer_id = header->producer_id,
        .base_sequence = header->base_sequence,
        .body_crc32c = header->body_crc32c,
    };
    ck_assert_ptr_nonnull(batch->bytes);
    batch_header_encode(&stamped, batch->bytes);
    memcpy(batch->bytes + BATCH_HEADER_SIZE, body, header->size - BATCH_HEADER_SIZE);
    topic->end += header->record_count;
    return batch;
}

static void pump_streams(struct fake_cluster *self);

void fake_topic_append(struct fake_cluster *self, struct fake_topic *topic, unsigned count)
{
    struct buf body;
    struct batch_header header = {.record_count = count};
    char value[32];

    buf_init(&body, 1 << 24);
    for (unsigned i = 0; i < count; i++) {
        struct record record = {.value = value};

        record.value_size =
            (size_t)snprintf(value, sizeof value, "v%llu", (unsigned long long)(topic->end + i));
        ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    }
    header.size = (uint32_t)(BATCH_HEADER_SIZE + body.size);
    header.body_crc32c = crc32c(body.data, body.size);
    (void)add_batch(self, topic, &header, body.data);
    buf_fini(&body);
    pump_streams(self);
}

void fake_topic_append_as(struct fake_cluster *self, struct fake_topic *topic, unsigned count,
                          uint16_t attributes)
{
    enum codec codec = (enum codec)(attributes & BATCH_CODEC_MASK);
    struct buf set;
    struct buf packed;
    struct batch_header header = {.record_count = count, .attributes = attributes};
    char value[32];

    buf_init(&set, 1 << 24);
    buf_init(&packed, 1 << 24);
    for (unsigned i = 0; i < count; i++) {
        struct record record = {.value = value, .offset = topic->end + i, .append_time_us = 7};

        if ((attributes & BATCH_SPARSE) != 0 && record.offset % 2 == 0) {
            continue;
        }
        record.value_size =
            (size_t)snprintf(value, sizeof value, "v%llu", (unsigned long long)record.offset);
        ck_assert_int_eq((attributes & BATCH_SPARSE) != 0
                             ? record_set_append_sparse(&set, &record, 8)
                             : record_set_append(&set, &record),
                         ERR_OK);
    }
    if (codec == CODEC_NONE) {
        ck_assert_int_eq(buf_append(&packed, set.data, set.size), ERR_OK);
    } else {
        ck_assert_int_eq(codec_compress(codec, set.data, set.size, &packed, NULL), ERR_OK);
    }
    header.size = (uint32_t)(BATCH_HEADER_SIZE + packed.size);
    header.body_crc32c = crc32c(packed.data, packed.size);
    (void)add_batch(self, topic, &header, packed.data);
    buf_fini(&set);
    buf_fini(&packed);
    pump_streams(self);
}

const char *fake_topic_value(const struct fake_topic *topic, uint64_t offset)
{
    static char value[4096];

    for (size_t i = 0; i < topic->batch_count; i++) {
        const struct fake_batch *batch = &topic->batches[i];
        struct batch_records records;
        struct batch_header header;
        struct record record;

        if (offset < batch->base_offset || offset >= batch->base_offset + batch->record_count) {
            continue;
        }
        ck_assert_int_eq(batch_header_decode(batch->bytes, UINT32_MAX, &header, NULL), ERR_OK);
        batch_records_init(&records);
        ck_assert_int_eq(
            batch_records_start(&records, &header, batch->bytes + BATCH_HEADER_SIZE, 0, NULL),
            ERR_OK);
        for (uint64_t at = batch->base_offset; at <= offset; at++) {
            ck_assert_int_eq(batch_records_next(&records, &record), ERR_OK);
        }
        ck_assert_uint_lt(record.value_size, sizeof value);
        memcpy(value, record.value, record.value_size);
        value[record.value_size] = '\0';
        batch_records_fini(&records);
        return value;
    }
    ck_abort_msg("no record at offset %llu of '%s'", (unsigned long long)offset, topic->name);
}

/* ---- producing: the state machine's rules ---- */

static enum err decide(struct fake_cluster *self, const struct fake_topic *topic,
                       const struct batch_header *header, const struct fake_batch **ret_before)
{
    uint32_t expected = 0;
    unsigned newer = 0;

    if (header->producer_id == 0) {
        return ERR_OK;
    }
    if (header->producer_id >= self->next_producer_id) {
        return ERR_PRODUCER_UNKNOWN;
    }
    for (size_t i = 0; i < topic->batch_count; i++) {
        if (topic->batches[i].producer_id == header->producer_id) {
            expected += topic->batches[i].record_count;
        }
    }
    if (header->producer_epoch != self->epoch) {
        return header->producer_epoch < self->epoch ? ERR_FENCED : ERR_PRODUCER_UNKNOWN;
    }
    if (header->base_sequence == expected) {
        return ERR_OK;
    }
    if (header->base_sequence > expected) {
        return ERR_SEQUENCE_GAP;
    }
    for (size_t i = topic->batch_count; i > 0 && newer < WINDOW; i--) {
        const struct fake_batch *batch = &topic->batches[i - 1];

        if (batch->producer_id != header->producer_id) {
            continue;
        }
        newer++;
        if (batch->base_sequence == header->base_sequence) {
            *ret_before = batch;
            return batch->body_crc32c == header->body_crc32c ? ERR_EXISTS : ERR_SEQUENCE_REUSED;
        }
    }
    return newer == WINDOW ? ERR_DUPLICATE_OLD : ERR_SEQUENCE_REUSED;
}

/* ---- answers ---- */

static void pack(struct answer *answer, uint16_t type, const ProtobufCMessage *message)
{
    answer->type = type;
    answer->header_size = protobuf_c_message_get_packed_size(message);
    answer->header = malloc(answer->header_size + 1);
    ck_assert_ptr_nonnull(answer->header);
    (void)protobuf_c_message_pack(message, answer->header);
}

static void pack_error(struct answer *answer, const struct fake_node *node, enum err err,
                       bool unknown)
{
    Quorlog__Error message = QUORLOG__ERROR__INIT;

    message.code = err;
    message.name = (char *)err_name(err);
    message.text = (char *)err_text(err);
    message.retryable = err_retryable(err);
    message.outcome_unknown = unknown;
    message.node_id = node->id;
    pack(answer, TYPE(ERROR), &message.base);
}

static void send_answer(struct client_conn *conn, const struct answer *answer)
{
    struct slice body = {.data = answer->body, .size = answer->body_size};
    struct frame_out frame = {
        .type = answer->type,
        .request_id = answer->request_id,
        .header = answer->header,
        .header_size = answer->header_size,
        .body = &body,
        .body_count = answer->body_size > 0 ? 1 : 0,
    };

    if (!conn->closing) {
        (void)conn_send(conn->conn, &frame, true); /* The client may be gone. */
    }
}

static void free_answer(struct answer *answer)
{
    free(answer->header);
    free(answer->body);
}

static void pack_end(struct answer *answer, uint64_t end)
{
    Quorlog__Error message = QUORLOG__ERROR__INIT;

    message.code = ERR_EXPECT_FAILED;
    message.text = (char *)"the log ends elsewhere";
    message.log_end = end;
    pack(answer, TYPE(ERROR), &message.base);
}

static void answer_produce(struct fake_node *self, const struct frame *frame, struct answer *answer)
{
    Quorlog__ProduceRequest *request =
        quorlog__produce_request__unpack(NULL, frame->header_size, frame->header);
    Quorlog__ProduceReply reply = QUORLOG__PRODUCE_REPLY__INIT;
    const struct fake_batch *batch = NULL;
    struct batch_header header;
    struct fake_topic *topic;
    struct err_info info;
    bool acks_all;
    bool expects;
    uint64_t expected;
    enum err err;

    ck_assert_ptr_nonnull(request);
    ck_assert_uint_gt(request->deadline_ms, 0);
    topic = fake_cluster_topic(self->cluster, request->topic);
    acks_all = request->acks == QUORLOG__ACKS__ACKS_ALL;
    expects = request->has_expect_offset;
    expected = request->expect_offset;
    quorlog__produce_request__free_unpacked(request, NULL);
    err = batch_check_produced(frame->body, frame->body_size, 1 << 30, &header, &info);
    ck_assert_msg(err == ERR_OK, "%s", err == ERR_OK ? "" : info.text);
    self->cluster->produces++;
    err = topic == NULL ? ERR_TOPIC_UNKNOWN : decide(self->cluster, topic, &header, &batch);
    if (err == ERR_OK && expects && topic->end != expected) {
        pack_end(answer, topic->end);
        return;
    }
    if (err != ERR_OK && err != ERR_EXISTS) {
        pack_error(answer, self, err, false);
        return;
    }
    if (err == ERR_OK) {
        batch = add_batch(self->cluster, topic, &header, frame->body + BATCH_HEADER_SIZE);
    }
    reply.duplicate = err == ERR_EXISTS;
    reply.offset = batch->base_offset;
    reply.record_count = batch->record_count;
    reply.term = 3;
    reply.raft_index = self->cluster->raft_index;
    reply.replicas = self->cluster->unconfirmed ? 2 : 3;
    reply.voters = 3;
    reply.compression = self->cluster->compression;
    reply.code = acks_all && self->cluster->unconfirmed ? ERR_NOT_CONFIRMED : 0;
    pack(answer, TYPE(PRODUCE_REPLY), &reply.base);
    if (err == ERR_OK) {
        pump_streams(self->cluster);
    }
}

static uint64_t visible_end(const struct fake_node *self, const struct fake_topic *topic)
{
    uint64_t end = self->settings.visible_end;

    return end != 0 && end < topic->end ? end : topic->end;
}

/* Whole batches from the one that holds offset on. */
static void read_batches(struct fake_node *self, const struct fake_topic *topic, uint64_t offset,
                         uint64_t size_max, struct answer *answer)
{
    Quorlog__ConsumeReply reply = QUORLOG__CONSUME_REPLY__INIT;
    uint64_t end = visible_end(self, topic);
    unsigned count = 0;

    reply.offset = offset;
    reply.next_offset = offset;
    reply.log_start = topic->start;
    reply.log_end = end;
    reply.node_id = self->id;
    reply.applied_index = self->settings.applied_index;
    reply.topic_id = topic->id;
    for (size_t i = 0; i < topic->batch_count; i++) {
        const struct fake_batch *batch = &topic->batches[i];
        uint64_t next = batch->base_offset + batch->record_count;

        if (next <= offset || next > end) {
            continue;
        }
        if (self->settings.passes_over > 0 && count == 0) {
            self->settings.passes_over--;
            reply.next_offset = next;
            reply.records_scanned = next - offset;
            reply.bytes_scanned = batch->size;
            reply.segments_skipped = 1;
            break;
        }
        if (count > 0 &&
            (answer->body_size + batch->size > size_max || count == self->settings.batches_max)) {
            break;
        }
        answer->body = realloc(answer->body, answer->body_size + batch->size);
        ck_assert_ptr_nonnull(answer->body);
        memcpy(answer->body + answer->body_size, batch->bytes, batch->size);
        answer->body_size += batch->size;
        reply.next_offset = next;
        count++;
    }
    pack(answer, TYPE(CONSUME_REPLY), &reply.base);
}

/* Where the reading begins; false: answered with an error. */
static bool find_start(struct fake_node *self, const Quorlog__ConsumeRequest *request,
                       struct answer *answer, struct fake_topic **ret_topic, uint64_t *ret_offset)
{
    struct fake_topic *topic = fake_cluster_topic(self->cluster, request->topic);
    Quorlog__Error error = QUORLOG__ERROR__INIT;
    uint64_t offset = request->offset;
    uint64_t end;

    self->asked = (struct fake_asked){.at_least = request->at_least,
                                      .linearizable = request->linearizable,
                                      .max_lag_ms = request->max_lag_ms,
                                      .deadline_ms = request->deadline_ms};
    if (request->filter != NULL) {
        self->asked.filtered = true;
        self->asked.conditions =
            (unsigned)(request->filter->n_headers + request->filter->n_contains) +
            (request->filter->has_key ? 1 : 0);
        self->asked.since_us = request->filter->since_us;
    }
    if (topic == NULL || (request->topic_id != 0 && request->topic_id != topic->id)) {
        pack_error(answer, self, ERR_TOPIC_UNKNOWN, false);
        return false;
    }
    end = visible_end(self, topic);
    if (request->start == QUORLOG__START__START_EARLIEST) {
        offset = topic->start;
    } else if (request->start == QUORLOG__START__START_LATEST) {
        offset = end;
    } else if (request->start == QUORLOG__START__START_TAIL) {
        offset = end - topic->start < offset ? topic->start : end - offset;
    } else if (offset < topic->start || offset > end) {
        error.code = ERR_RANGE;
        error.text = "offset out of range";
        error.log_start = topic->start;
        error.log_end = end;
        pack(answer, TYPE(ERROR), &error.base);
        return false;
    }
    *ret_topic = topic;
    *ret_offset = offset;
    return true;
}

static void answer_consume(struct fake_node *self, const struct frame *frame, struct answer *answer)
{
    Quorlog__ConsumeRequest *request =
        quorlog__consume_request__unpack(NULL, frame->header_size, frame->header);
    struct fake_topic *topic;
    uint64_t offset;

    ck_assert_ptr_nonnull(request);
    ck_assert_uint_gt(request->bytes_max, 0);
    if (find_start(self, request, answer, &topic, &offset)) {
        read_batches(self, topic, offset, request->bytes_max, answer);
    }
    quorlog__consume_request__free_unpacked(request, NULL);
}

static void pump_stream(struct client_conn *conn, struct stream *stream)
{
    while (stream->credit > 0 && stream->offset < visible_end(conn->node, stream->topic)) {
        struct answer answer = {.request_id = stream->request_id};
        Quorlog__ConsumeReply *reply;

        read_batches(conn->node, stream->topic, stream->offset, STREAM_FRAME_SIZE, &answer);
        reply = quorlog__consume_reply__unpack(NULL, answer.header_size, answer.header);
        ck_assert_ptr_nonnull(reply);
        stream->offset = reply->next_offset;
        quorlog__consume_reply__free_unpacked(reply, NULL);
        stream->credit -= (int64_t)answer.body_size;
        conn->node->streamed += answer.body_size;
        send_answer(conn, &answer);
        free_answer(&answer);
    }
}

static void pump_streams(struct fake_cluster *self)
{
    for (unsigned i = 0; i < self->node_count; i++) {
        struct client_conn *conn;
        struct stream *stream;

        DL_FOREACH(self->nodes[i]->conns, conn)
        {
            DL_FOREACH(conn->streams, stream)
            {
                pump_stream(conn, stream);
            }
        }
    }
}

/* The stream's first frames follow by pump_stream; only an error is an answer. */
static void open_stream(struct client_conn *conn, const struct frame *frame, struct answer *answer)
{
    Quorlog__ConsumeStreamRequest *request =
        quorlog__consume_stream_request__unpack(NULL, frame->header_size, frame->header);
    struct stream *stream = calloc(1, sizeof *stream);

    ck_assert_ptr_nonnull(request);
    ck_assert_ptr_nonnull(stream);
    ck_assert_uint_gt(request->credit, 0);
    stream->request_id = frame->request_id;
    stream->credit = (int64_t)request->credit;
    if (find_start(conn->node, request->from, answer, &stream->topic, &stream->offset)) {
        DL_APPEND(conn->streams, stream);
        pump_stream(conn, stream);
    } else {
        free(stream);
    }
    quorlog__consume_stream_request__free_unpacked(request, NULL);
}

static void add_credit(struct client_conn *conn, const struct frame *frame)
{
    Quorlog__Credit *credit = quorlog__credit__unpack(NULL, frame->header_size, frame->header);
    struct stream *stream;

    ck_assert_ptr_nonnull(credit);
    DL_FOREACH(conn->streams, stream)
    {
        if (stream->request_id == frame->request_id) {
            stream->credit += (int64_t)credit->bytes;
            pump_stream(conn, stream);
        }
    }
    quorlog__credit__free_unpacked(credit, NULL);
}

static void cancel_stream(struct client_conn *conn, const struct frame *frame,
                          struct answer *answer)
{
    struct stream *stream;
    struct stream *next;

    DL_FOREACH_SAFE(conn->streams, stream, next)
    {
        if (stream->request_id == frame->request_id) {
            DL_DELETE(conn->streams, stream);
            free(stream);
        }
    }
    answer->type = TYPE(STREAM_END);
}

static void answer_init(struct fake_node *self, const struct frame *frame, struct answer *answer)
{
    Quorlog__InitProducerRequest *request =
        quorlog__init_producer_request__unpack(NULL, frame->header_size, frame->header);
    Quorlog__InitProducerReply reply = QUORLOG__INIT_PRODUCER_REPLY__INIT;
    bool stale;
    bool told;

    ck_assert_ptr_nonnull(request);
    told = request->compression_of[0] != '\0';
    ck_assert(request->producer_id != 0 || (request->topic[0] == '\0' && !request->has_epoch));
    reply.producer_id = request->producer_id;
    stale = request->has_epoch && request->epoch != self->cluster->epoch;
    quorlog__init_producer_request__free_unpacked(request, NULL);
    if (stale) {
        pack_error(answer, self, ERR_FENCED, false);
        return;
    }
    if (reply.producer_id != 0) {
        reply.epoch = ++self->cluster->epoch;
    } else {
        reply.producer_id = self->cluster->next_producer_id++;
        reply.epoch = self->cluster->epoch;
    }
    reply.window = WINDOW;
    reply.compression = told ? self->cluster->compression : 0;
    self->cluster->inits++;
    pack(answer, TYPE(INIT_PRODUCER_REPLY), &reply.base);
}

static void note(struct fake_settings *settings, const ProtobufCMessage *message)
{
    settings->size = protobuf_c_message_get_packed_size(message);
    ck_assert_uint_le(settings->size, sizeof settings->bytes);
    (void)protobuf_c_message_pack(message, settings->bytes); /* size bytes */
}

const struct fake_settings *fake_node_alteration(const struct fake_node *self)
{
    return &self->alteration;
}

const struct fake_settings *fake_node_created_with(const struct fake_node *self)
{
    return &self->created_with;
}

static void answer_alter(struct fake_node *self, const struct frame *frame, struct answer *answer)
{
    Quorlog__TopicAlterRequest *request =
        quorlog__topic_alter_request__unpack(NULL, frame->header_size, frame->header);
    Quorlog__TopicAlterReply reply = QUORLOG__TOPIC_ALTER_REPLY__INIT;

    ck_assert_ptr_nonnull(request);
    if (fake_cluster_topic(self->cluster, request->topic) == NULL) {
        pack_error(answer, self, ERR_TOPIC_UNKNOWN, false);
    } else {
        note(&self->alteration, &request->base);
        reply.settings = request->settings;
        reply.raft_index = 5;
        pack(answer, TYPE(TOPIC_ALTER_REPLY), &reply.base);
    }
    quorlog__topic_alter_request__free_unpacked(request, NULL);
}

static void answer_create(struct fake_node *self, const struct frame *frame, struct answer *answer)
{
    Quorlog__TopicCreateRequest *request =
        quorlog__topic_create_request__unpack(NULL, frame->header_size, frame->header);
    Quorlog__TopicCreateReply reply = QUORLOG__TOPIC_CREATE_REPLY__INIT;

    ck_assert_ptr_nonnull(request);
    self->created_with.size = 0;
    if (request->settings != NULL) {
        note(&self->created_with, &request->settings->base);
    }
    if (fake_cluster_topic(self->cluster, request->topic) != NULL) {
        pack_error(answer, self, ERR_TOPIC_EXISTS, false);
    } else {
        (void)fake_cluster_add_topic(self->cluster, request->topic);
        reply.topic_id = self->cluster->topic_count;
        pack(answer, TYPE(TOPIC_CREATE_REPLY), &reply.base);
    }
    quorlog__topic_create_request__free_unpacked(request, NULL);
}

static void answer_list(struct fake_node *self, struct answer *answer)
{
    Quorlog__TopicListReply reply = QUORLOG__TOPIC_LIST_REPLY__INIT;
    Quorlog__TopicInfo infos[8];
    Quorlog__TopicInfo *topics[8];

    for (unsigned i = 0; i < self->cluster->topic_count; i++) {
        infos[i] = (Quorlog__TopicInfo)QUORLOG__TOPIC_INFO__INIT;
        infos[i].name = self->cluster->topics[i].name;
        topics[i] = &infos[i];
    }
    reply.topics = topics;
    reply.n_topics = self->cluster->topic_count;
    reply.node_id = self->id;
    pack(answer, TYPE(TOPIC_LIST_REPLY), &reply.base);
}

static void fill_cursor(const struct fake_cluster *cluster, Quorlog__CursorInfo *ret_info)
{
    quorlog__cursor_info__init(ret_info);
    ret_info->name = (char *)cluster->cursor.name;
    ret_info->offset = cluster->cursor.offset;
    ret_info->revision = cluster->cursor.revision;
    ret_info->owner = cluster->cursor.owner;
    ret_info->raft_index = cluster->raft_index;
}

static void answer_cursor_get(struct fake_node *self, const struct frame *frame,
                              struct answer *answer)
{
    Quorlog__CursorGetRequest *request =
        quorlog__cursor_get_request__unpack(NULL, frame->header_size, frame->header);
    Quorlog__CursorGetReply reply = QUORLOG__CURSOR_GET_REPLY__INIT;
    Quorlog__CursorInfo info;

    ck_assert_ptr_nonnull(request);
    ck_assert_uint_le(request->at_least, self->cluster->raft_index);
    fill_cursor(self->cluster, &info);
    reply.cursor = &info;
    if (strcmp(self->cluster->cursor.name, request->name) != 0) {
        pack_error(answer, self, ERR_CURSOR_UNKNOWN, false);
    } else {
        pack(answer, TYPE(CURSOR_GET_REPLY), &reply.base);
    }
    quorlog__cursor_get_request__free_unpacked(request, NULL);
}

static void answer_cursor_set(struct fake_node *self, const struct frame *frame,
                              struct answer *answer)
{
    Quorlog__CursorSetRequest *request =
        quorlog__cursor_set_request__unpack(NULL, frame->header_size, frame->header);
    Quorlog__CursorSetReply reply = QUORLOG__CURSOR_SET_REPLY__INIT;
    Quorlog__Error conflict = QUORLOG__ERROR__INIT;
    struct fake_cursor *cursor = &self->cluster->cursor;
    Quorlog__CursorInfo info;

    ck_assert_ptr_nonnull(request);
    ck_assert_uint_gt(request->deadline_ms, 0);
    ck_assert(!request->forwarded);
    if (fake_cluster_topic(self->cluster, request->topic) == NULL) {
        pack_error(answer, self, ERR_TOPIC_UNKNOWN, false);
    } else if (request->expect == QUORLOG__CURSOR_EXPECT__CURSOR_EXPECT_REVISION &&
               request->expected != cursor->revision) {
        fill_cursor(self->cluster, &info);
        conflict.code = ERR_CURSOR_CONFLICT;
        conflict.cursor = &info;
        pack(answer, TYPE(ERROR), &conflict.base);
    } else {
        strcpy(cursor->name, request->name);
        cursor->offset = request->offset;
        cursor->owner = request->owner;
        cursor->revision = 1000 + ++self->cluster->raft_index;
        cursor->sets++;
        reply.revision = cursor->revision;
        reply.raft_index = self->cluster->raft_index;
        pack(answer, TYPE(CURSOR_SET_REPLY), &reply.base);
    }
    quorlog__cursor_set_request__free_unpacked(request, NULL);
}

/* What a node does with a request that no rule is for. An answer of type 0: none. */
static void answer_request(struct client_conn *conn, const struct frame *frame,
                           struct answer *answer)
{
    struct fake_node *self = conn->node;

    answer->request_id = frame->request_id;
    if (self->settings.leaderless &&
        (frame->type == TYPE(PRODUCE) || frame->type == TYPE(INIT_PRODUCER) ||
         frame->type == TYPE(TOPIC_CREATE) || frame->type == TYPE(TOPIC_ALTER) ||
         frame->type == TYPE(CURSOR_SET))) {
        pack_error(answer, self, ERR_NO_LEADER, false);
    } else if (frame->type == TYPE(PRODUCE)) {
        answer_produce(self, frame, answer);
    } else if (frame->type == TYPE(CONSUME)) {
        answer_consume(self, frame, answer);
    } else if (frame->type == TYPE(CONSUME_STREAM)) {
        open_stream(conn, frame, answer);
    } else if (frame->type == TYPE(CREDIT)) {
        add_credit(conn, frame);
    } else if (frame->type == TYPE(CANCEL)) {
        cancel_stream(conn, frame, answer);
    } else if (frame->type == TYPE(INIT_PRODUCER)) {
        answer_init(self, frame, answer);
    } else if (frame->type == TYPE(TOPIC_CREATE)) {
        answer_create(self, frame, answer);
    } else if (frame->type == TYPE(TOPIC_ALTER)) {
        answer_alter(self, frame, answer);
    } else if (frame->type == TYPE(CURSOR_SET)) {
        answer_cursor_set(self, frame, answer);
    } else if (frame->type == TYPE(CURSOR_GET)) {
        answer_cursor_get(self, frame, answer);
    } else if (frame->type == TYPE(TOPIC_LIST)) {
        answer_list(self, answer);
    } else if (frame->type == TYPE(PING)) {
        answer->type = TYPE(PING_REPLY);
    } else {
        ck_abort_msg("a frame of type %u", frame->type);
    }
}

/* ---- scripts ---- */

static void hold(struct client_conn *conn, const struct frame *frame, struct answer *answer)
{
    struct held *held = calloc(1, sizeof *held);

    ck_assert_ptr_nonnull(held);
    held->conn = conn;
    held->answer = *answer;
    held->request = *frame;
    (void)block_ref(frame->block);
    *answer = (struct answer){0};
    DL_PREPEND(conn->node->held, held);
    conn->node->held_count++;
}

void fake_node_release(struct fake_node *self)
{
    while (self->held != NULL) {
        struct held *held = self->held;

        DL_DELETE(self->held, held);
        self->held_count--;
        if (held->conn != NULL && held->answer.type == 0) {
            answer_request(held->conn, &held->request, &held->answer);
        }
        if (held->conn != NULL && held->answer.type != 0) {
            send_answer(held->conn, &held->answer);
        }
        free_answer(&held->answer);
        block_unref(held->request.block);
        free(held);
    }
}

const struct fake_asked *fake_node_asked(const struct fake_node *self)
{
    return &self->asked;
}

static struct fake_rule take_rule(struct fake_node *self, uint16_t type)
{
    struct fake_rule found = {.action = FAKE_ANSWER};
    struct rule *rule;

    DL_FOREACH(self->rules, rule)
    {
        if (rule->rule.type != type) {
            continue;
        }
        found = rule->rule;
        rule->rule.times--;
        if (rule->rule.times == 0) {
            DL_DELETE(self->rules, rule);
            free(rule);
        }
        break;
    }
    return found;
}

static void hang_up(struct client_conn *conn)
{
    conn->closing = true;
    conn_close(conn->conn, 0);
}

static bool applies(enum fake_action action)
{
    return action != FAKE_ERROR && action != FAKE_HOLD && action != FAKE_DROP &&
           action != FAKE_END_STREAM;
}

static void follow_rule(struct client_conn *conn, const struct frame *frame,
                        const struct fake_rule *rule)
{
    struct answer answer = {.request_id = frame->request_id};

    if (applies(rule->action)) {
        answer_request(conn, frame, &answer);
    }
    switch (rule->action) {
    case FAKE_ERROR:
        pack_error(&answer, conn->node, rule->err, rule->unknown);
        break;
    case FAKE_APPLY_ERROR:
        free(answer.header);
        pack_error(&answer, conn->node, rule->err, true);
        break;
    case FAKE_HOLD:
    case FAKE_APPLY_HOLD:
        hold(conn, frame, &answer);
        break;
    case FAKE_DROP:
    case FAKE_APPLY_DROP:
        hang_up(conn);
        break;
    case FAKE_GARBAGE:
        memset(answer.header, 0xff, answer.header_size);
        break;
    case FAKE_WRONG_TYPE:
        answer.type = TYPE(HELLO_REPLY);
        break;
    case FAKE_WRONG_ID:
        answer.request_id += 1000000;
        break;
    case FAKE_DAMAGE:
        ck_assert_uint_gt(answer.body_size, 0);
        answer.body[answer.body_size - 1] ^= 1;
        break;
    case FAKE_END_STREAM:
        answer.type = TYPE(STREAM_END);
        break;
    case FAKE_ANSWER:
    default:
        break;
    }
    if (answer.type != 0) {
        send_answer(conn, &answer);
    }
    free_answer(&answer);
}

/* ---- connections ---- */

static void say_hello(struct client_conn *conn, const struct frame *frame)
{
    const struct fake_node_settings *settings = &conn->node->settings;
    Quorlog__Hello *hello = quorlog__hello__unpack(NULL, frame->header_size, frame->header);
    Quorlog__HelloReply reply = QUORLOG__HELLO_REPLY__INIT;
    struct answer answer = {.request_id = frame->request_id};

    ck_assert_uint_eq(frame->type, TYPE(HELLO));
    ck_assert_ptr_nonnull(hello);
    ck_assert_uint_eq(hello->protocol_version, 1);
    ck_assert_int_eq((int)hello->kind, QUORLOG__CONNECTION_KIND__CONNECTION_CLIENT);
    quorlog__hello__free_unpacked(hello, NULL);
    conn->hello_seen = true;
    if (settings->hello_error != ERR_OK) {
        pack_error(&answer, conn->node, settings->hello_error, false);
    } else {
        reply.protocol_version = settings->version == 0 ? 1 : settings->version;
        reply.cluster_id = (char *)(settings->cluster_id == NULL ? "c1" : settings->cluster_id);
        reply.node_id = conn->node->id;
        reply.leader_id = settings->leads ? conn->node->id : 0;
        reply.version = "0.1.0";
        reply.frame_size_max = 32 << 20;
        reply.batch_size_max = settings->batch_size_max == 0 ? 1 << 20 : settings->batch_size_max;
        pack(&answer, TYPE(HELLO_REPLY), &reply.base);
    }
    send_answer(conn, &answer);
    free_answer(&answer);
}

static void on_frame(struct conn *c, void *arg, const struct frame *frame)
{
    struct client_conn *conn = arg;
    struct fake_rule rule;

    ck_assert_ptr_eq(conn->conn, c);
    ck_assert_uint_lt(frame->type, TYPES);
    conn->node->seen[frame->type]++;
    if (conn->closing) {
        return;
    }
    if (!conn->hello_seen && conn->node->settings.still) {
        return;
    }
    if (!conn->hello_seen) {
        say_hello(conn, frame);
        return;
    }
    if (conn->node->settings.mute) {
        return;
    }
    rule = take_rule(conn->node, frame->type);
    follow_rule(conn, frame, &rule);
}

static void on_failed(struct conn *c, void *arg, enum err err, const char *text)
{
    struct client_conn *conn = arg;

    ck_assert_msg(err == ERR_CLOSED || err == ERR_IO, "the client broke the protocol: %s", text);
    (void)c; /* The same as conn's. */
    hang_up(conn);
}

static void on_closed(struct conn *c, void *arg)
{
    struct client_conn *conn = arg;
    struct held *held;

    (void)c; /* The same as conn's. */
    DL_FOREACH(conn->node->held, held)
    {
        if (held->conn == conn) {
            held->conn = NULL;
        }
    }
    while (conn->streams != NULL) {
        struct stream *stream = conn->streams;

        DL_DELETE(conn->streams, stream);
        free(stream);
    }
    DL_DELETE(conn->node->conns, conn);
    free(conn);
}

static void on_accepted(void *arg, int fd)
{
    static const struct conn_events events = {
        .frame = on_frame,
        .failed = on_failed,
        .closed = on_closed,
    };
    static const char nonsense[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    struct conn_limits limits = {.frame_size_max = 32 << 20, .queue_size_max = 64 << 20};
    struct fake_node *self = arg;
    struct client_conn *conn;

    self->accepted++;
    if (self->settings.speaks_no_frames) {
        ck_assert_int_eq((int)write(fd, nonsense, sizeof nonsense - 1), (int)sizeof nonsense - 1);
    }
    conn = calloc(1, sizeof *conn);
    ck_assert_ptr_nonnull(conn);
    conn->node = self;
    ck_assert_int_eq(conn_open(self->cluster->loop, fd, &limits, &events, conn, &conn->conn),
                     ERR_OK);
    DL_APPEND(self->conns, conn);
}

static void on_accept_failed(void *arg, enum err err, const char *text)
{
    (void)arg;
    ck_abort_msg("accept: %d %s", err, text);
}

static void on_listener_closed(void *arg)
{
    ((struct fake_node *)arg)->listener_closed = true;
}

struct fake_node *fake_node_new(struct fake_cluster *cluster)
{
    static const struct listener_events events = {
        .accepted = on_accepted,
        .failed = on_accept_failed,
        .closed = on_listener_closed,
    };
    struct fake_node *self = calloc(1, sizeof *self);
    struct err_info info;

    ck_assert_ptr_nonnull(self);
    self->cluster = cluster;
    cluster->nodes[cluster->node_count++] = self;
    ck_assert_uint_le(cluster->node_count, 4);
    self->id = cluster->node_count;
    ck_assert_int_eq(
        listener_open(cluster->loop, "127.0.0.1:0", &events, self, &self->listener, &info), ERR_OK);
    (void)snprintf(self->address, sizeof self->address, "127.0.0.1:%u",
                   listener_port(self->listener)); /* It fits. */
    return self;
}

static bool is_gone(void *arg)
{
    const struct fake_node *self = arg;

    return self->listener_closed && self->conns == NULL;
}

void fake_cluster_fini(struct fake_cluster *self)
{
    for (unsigned i = 0; i < self->node_count; i++) {
        struct fake_node *node = self->nodes[i];

        listener_close(node->listener);
        fake_node_hang_up(node);
        loop_run_until_true(self->loop, is_gone, node);
        fake_node_release(node);
        while (node->rules != NULL) {
            struct rule *rule = node->rules;

            DL_DELETE(node->rules, rule);
            free(rule);
        }
        free(node);
    }
    for (unsigned i = 0; i < self->topic_count; i++) {
        for (size_t j = 0; j < self->topics[i].batch_count; j++) {
            free(self->topics[i].batches[j].bytes);
        }
        free(self->topics[i].batches);
    }
}

/* ---- what tests ask ---- */

const char *fake_node_address(const struct fake_node *self)
{
    return self->address;
}

void fake_node_script(struct fake_node *self, const struct fake_rule *rule)
{
    struct rule *one = calloc(1, sizeof *one);

    ck_assert_ptr_nonnull(one);
    one->rule = *rule;
    one->rule.times = rule->times == 0 ? 1 : rule->times;
    DL_APPEND(self->rules, one);
}

unsigned fake_node_rules_left(const struct fake_node *self)
{
    const struct rule *rule;
    unsigned count = 0;

    DL_FOREACH(self->rules, rule)
    {
        count++;
    }
    return count;
}

unsigned fake_node_held(const struct fake_node *self)
{
    return self->held_count;
}

void fake_node_hang_up(struct fake_node *self)
{
    struct client_conn *conn;

    DL_FOREACH(self->conns, conn)
    {
        hang_up(conn);
    }
}

unsigned fake_node_seen(const struct fake_node *self, uint16_t type)
{
    return self->seen[type];
}

unsigned fake_node_accepted(const struct fake_node *self)
{
    return self->accepted;
}

struct fake_node_settings *fake_node_settings(struct fake_node *self)
{
    return &self->settings;
}

uint64_t fake_node_streamed(const struct fake_node *self)
{
    return self->streamed;
}
