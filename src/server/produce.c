#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"
#include "record/codec.h"
#include "server/api.h"
#include "server/change.h"
#include "server/front.h"
#include "server/keys.h"
#include "server/record_count.h"
#include "server/settings.h"

enum { RECORD_SIZE_MIN = 2 }; /* its tag, and the size 0 */

static enum err produce_command(struct change *self, struct command *ret_command)
{
    struct topic *topic = catalog_find(group_catalog(self->front->node->group), self->topic);

    ASSERT(self->body.size > BATCH_HEADER_SIZE);
    if (topic == NULL) {
        return ERR_AGAIN;
    }
    if (!self->digested) {
        digest_bytes(self->body.data + BATCH_HEADER_SIZE, self->body.size - BATCH_HEADER_SIZE,
                     self->body_digest);
        self->digested = true;
    }
    *ret_command = (struct command){.type = COMMAND_PRODUCE};
    ret_command->produce.topic_id = topic->id;
    memcpy(ret_command->produce.body_digest, self->body_digest, DIGEST_SIZE);
    ret_command->produce.batch = self->body;
    ret_command->produce.has_expect = self->has_expect;
    ret_command->produce.expect_offset = self->expect_offset;
    (void)block_ref(self->body.block); /* Now the command's too. */
    topic_unref(topic);
    return ERR_OK;
}

static void produce_reply(struct change *self, const struct fsm_result *result)
{
    Quorlog__ProduceReply reply = QUORLOG__PRODUCE_REPLY__INIT;

    ASSERT(result->err == ERR_OK || result->err == ERR_NOT_CONFIRMED);
    reply.offset = result->base_offset;
    reply.record_count = result->record_count;
    reply.term = result->raft_term;
    reply.raft_index = result->raft_index;
    reply.duplicate = result->duplicate;
    reply.append_time_us = result->append_time_us;
    reply.leader_id = self->front->node->identity.node_id;
    reply.replicas = self->submission.proposal.replicas;
    reply.voters = self->submission.proposal.voters;
    reply.code = (int32_t)result->err;
    reply.compression = settings_compression(group_catalog(self->front->node->group), self->topic);
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

static size_t produce_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    Quorlog__ProduceRequest request = QUORLOG__PRODUCE_REQUEST__INIT;
    char topic[TOPIC_NAME_SIZE_MAX + 1];

    memcpy(topic, self->topic, sizeof topic);
    request.topic = topic;
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    request.acks = self->acks_all ? QUORLOG__ACKS__ACKS_ALL : QUORLOG__ACKS__ACKS_MAJORITY;
    request.has_expect_offset = self->has_expect;
    request.expect_offset = self->expect_offset;
    ASSERT(quorlog__produce_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__produce_request__pack(&request, to);
}

static const struct change_kind produce_kind = {
    .reply_type = QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY,
    .verb = "produce to",
    .command = produce_command,
    .reply = produce_reply,
    .pack = produce_pack,
};

/* What a compressed body claims, by its frame's header. */
static enum err check_claim(const struct slice *body, const struct batch_header *header,
                            uint32_t batch_size_max, struct err_info *info)
{
    enum codec codec = (enum codec)(header->attributes & BATCH_CODEC_MASK);
    uint64_t plain_size = 0;
    enum err err = codec_plain_size(codec, body->data, body->size, &plain_size, info);

    if (err != ERR_OK) {
        return err == ERR_NOMEM ? err : err_prefix(info, ERR_INVALID, "the batch body");
    }
    if (plain_size > batch_size_max - BATCH_HEADER_SIZE) {
        return err_set(info, ERR_TOO_LARGE,
                       "the batch holds %" PRIu64 " bytes of records, compressed to %zu; the limit "
                       "is %" PRIu32 ", header included",
                       plain_size, body->size, batch_size_max);
    }
    if (header->record_count > plain_size / RECORD_SIZE_MIN) {
        return err_set(info, ERR_INVALID,
                       "batch record_count says %" PRIu32 ", but %" PRIu64
                       " bytes cannot hold so many records",
                       header->record_count, plain_size);
    }
    return ERR_OK;
}

/* Who produces what. */
struct produced {
    const char *topic;
    const struct batch_header *header;
    uint32_t batch_size_max;
    bool trusted;   /* Another node has looked into it before. */
    bool with_keys; /* Each record is to have one. */
};

static enum err check_set(const struct produced *produced, const uint8_t *set, size_t size,
                          struct err_info *info)
{
    enum err err = record_count_check(set, size, produced->header->record_count, info);

    return err == ERR_OK && produced->with_keys ? keys_check(produced->topic, set, size, info)
                                                : err;
}

/* … and whether it is true: a batch that nobody can read would stop all its topic's readers. */
static enum err check_contents(const struct slice *body, const struct produced *produced,
                               struct err_info *info)
{
    const uint32_t batch_size_max = produced->batch_size_max;
    const unsigned codec = produced->header->attributes & BATCH_CODEC_MASK;
    struct buf plain;
    enum err err;

    buf_init(&plain, batch_size_max);
    err = codec_decompress((enum codec)codec, body->data, body->size, batch_size_max, &plain, info);
    if (err == ERR_CORRUPT) {
        err = err_prefix(info, ERR_INVALID, "the batch body");
    } else if (err == ERR_OK) {
        err = check_set(produced, plain.data, plain.size, info);
    }
    buf_fini(&plain);
    return err;
}

static enum err check_body(const struct frame *frame, const struct produced *produced,
                           struct err_info *info)
{
    const struct slice body = {.data = frame->body + BATCH_HEADER_SIZE,
                               .size = frame->body_size - BATCH_HEADER_SIZE};
    enum err err;

    if ((produced->header->attributes & BATCH_CODEC_MASK) == CODEC_NONE) {
        return check_set(produced, body.data, body.size, info);
    }
    err = check_claim(&body, produced->header, produced->batch_size_max, info);
    /* What the other node knew of the topic's settings may be old. */
    return err == ERR_OK && (!produced->trusted || produced->with_keys)
               ? check_contents(&body, produced, info)
               : err;
}

static void begin(struct session *session, const struct frame *frame,
                  const Quorlog__ProduceRequest *request)
{
    const struct node *node = session_front(session)->node;
    struct batch_header header;
    const struct produced produced = {
        .topic = request->topic,
        .header = &header,
        .batch_size_max = (uint32_t)node->config->batch_size_max,
        .trusted = session_of_node(session),
        .with_keys = keys_are_wanted(group_catalog(node->group), request->topic)};
    struct failure failure;
    struct change *change;
    enum err err;

    (void)failure_set(&failure, ERR_INVALID, "not a batch");
    if (request->acks != QUORLOG__ACKS__ACKS_MAJORITY && request->acks != QUORLOG__ACKS__ACKS_ALL) {
        (void)failure_set(&failure, ERR_UNSUPPORTED, "produce to '%s': acks %d is not known",
                          request->topic, (int)request->acks);
        api_refuse(session, frame, &failure);
        return;
    }
    err = batch_check_produced(frame->body, frame->body_size, produced.batch_size_max, &header,
                               &failure.info);
    if (err == ERR_OK) {
        err = check_body(frame, &produced, &failure.info);
    }
    if (err != ERR_OK) {
        failure.info.code = err;
        (void)err_prefix(&failure.info, err, "produce to '%s'", request->topic);
        api_refuse(session, frame, &failure);
        return;
    }
    err = change_new(session, frame, &produce_kind, &change);
    if (err != ERR_OK) {
        (void)failure_set(&failure, err, "produce to '%s': %s", request->topic, err_text(err));
        api_refuse(session, frame, &failure);
        return;
    }
    change->forwarded = request->forwarded;
    change->acks_all = request->acks == QUORLOG__ACKS__ACKS_ALL;
    change->has_expect = request->has_expect_offset;
    change->expect_offset = request->has_expect_offset ? request->expect_offset : 0;
    (void)snprintf(change->topic, sizeof change->topic, "%s", request->topic); /* Checked. */
    change_start(change, request->deadline_ms);
}

void api_produce(struct session *session, const struct frame *frame)
{
    Quorlog__ProduceRequest *request =
        quorlog__produce_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "PRODUCE");
        return;
    }
    if (api_check_topic(session, frame, "produce to", request->topic)) {
        begin(session, frame, request);
    }
    quorlog__produce_request__free_unpacked(request, NULL);
}
