/*
 * What every node holds. A node answers a read of records that its own disk lacks with another's,
 * so each piece that is read is compared with the node's PROOF of the same range, which is made of
 * its own bytes and never passed on: header by header, and the bodies' SHA-256.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "load.h"
#include "load_batches.h"
#include "load_copies.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/chain.h"

enum {
    PIECE_SIZE = 1 << 20,
    PROOF_SIZE = 16 << 20,
    AGAIN_MS = 200,
    REQUEST_MAX_S = 20,
    REWRITES_MAX = 20
};

struct dump {
    struct load *load;
    uint64_t deadline_us;
    struct copy_node *node;
    const struct copy_topic *topic;
    char label[LOAD_LABEL_SIZE + 256];
    bool failed;
    /* Of a piece: the links that its batches must have. */
    const uint8_t *links;
    size_t link_count;
    size_t links_met;
    bool differs;
    unsigned rewrites; /* Of a compacted topic: how often that may be. */
};

static void complain(struct dump *self, uint64_t offset, const char *text)
{
    (void)fprintf(stderr, "load: node %u (%s), topic %s, offset %" PRIu64 ": %s\n", self->node->id,
                  self->node->server, self->label, offset, text);
    self->failed = true;
}

/* ---- one piece ---- */

static enum err read_piece(struct dump *self, uint64_t offset, struct answer *ret_answer)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;
    const struct client_question question = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CONSUME,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY,
        .request = &request.base,
        .reply = &quorlog__consume_reply__descriptor,
    };

    request.topic = (char *)self->topic->name;
    request.offset = offset;
    request.bytes_max = PIECE_SIZE;
    return copies_ask(self->node->client, &question, ret_answer);
}

static enum err prove_piece(struct dump *self, uint64_t offset, uint64_t end,
                            struct answer *ret_answer)
{
    Quorlog__ProofRequest request = QUORLOG__PROOF_REQUEST__INIT;
    const struct client_question question = {
        .type = QUORLOG__FRAME_TYPE__FRAME_PROOF,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_PROOF_REPLY,
        .request = &request.base,
        .reply = &quorlog__proof_reply__descriptor,
    };

    request.topic = (char *)self->topic->name;
    request.offset = offset;
    request.end = end;
    request.bytes_max = PROOF_SIZE;
    return copies_ask(self->node->client, &question, ret_answer);
}

/* Every batch has to have its link. */
static void compare_batch(void *arg, const struct batch_header *header, const uint8_t *body)
{
    struct dump *self = arg;
    uint8_t link[CHAIN_LINK_SIZE];
    size_t at = self->links_met * CHAIN_LINK_SIZE;

    batch_header_encode(header, link);
    chain_part(header, body, link + BATCH_HEADER_SIZE);
    if (self->links_met >= self->link_count || memcmp(self->links + at, link, sizeof link) != 0) {
        self->differs = true;
    }
    self->links_met++;
}

static void write_piece(struct dump *self, const struct load_values *values, uint64_t applied)
{
    struct history_op op = {
        .kind = HISTORY_DUMP,
        .node = self->node->id,
        .invoke_us = recorder_now_us(),
        .topic = self->label,
        .log_start = self->topic->start,
        .log_end = self->topic->end,
        .token = applied,
    };

    load_values_tell(values, &op);
    recorder_note(self->load->recorder, &op, 0);
}

/* Compares and writes down what was read; *ret_next: where to go on. Not ERR_OK: told in info. */
static enum err take_piece(struct dump *self, const struct answer *piece,
                           const struct answer *proof, uint64_t *ret_next, struct err_info *info)
{
    static struct load_values values; /* One thread; too large for the stack. */
    Quorlog__ConsumeReply *reply =
        quorlog__consume_reply__unpack(NULL, piece->header_size, piece->header);
    uint64_t applied;
    uint64_t offset;
    enum err err;

    ASSERT(reply != NULL); /* The client has looked. */
    applied = reply->applied_index;
    offset = reply->offset;
    quorlog__consume_reply__free_unpacked(reply, NULL);
    self->links = proof->body;
    self->link_count = proof->body_size / CHAIN_LINK_SIZE;
    self->links_met = 0;
    self->differs = false;
    err = load_batches_read(piece->body, piece->body_size, offset, compare_batch, self, &values,
                            info);
    if (err != ERR_OK) {
        return err;
    }
    if (values.next == offset) {
        return err_set(info, ERR_RANGE, "there is nothing, though the log goes on");
    }
    if (self->differs && self->rewrites > 0) {
        self->rewrites--; /* It may have been compacted between the two answers. */
        return err_set(info, ERR_AGAIN, "what the node answers is not what it has");
    }
    if (self->differs) {
        complain(self, offset, "what the node answers is not what it has");
        memset(values.values, 0, values.count * sizeof values.values[0]); /* Not what it holds. */
    }
    while (values.count > 0 && values.offsets[values.count - 1] >= self->topic->end) {
        values.count--;
    }
    values.next = values.next < self->topic->end ? values.next : self->topic->end;
    write_piece(self, &values, applied);
    *ret_next = values.next;
    return ERR_OK;
}

/* One try at the piece from offset on. */
static enum err dump_piece(struct dump *self, uint64_t offset, uint64_t *ret_next,
                           struct err_info *info)
{
    Quorlog__ConsumeReply *reply;
    struct answer piece;
    struct answer proof = {0};
    enum err err = read_piece(self, offset, &piece);

    if (err != ERR_OK) {
        (void)err_set(info, err, "read: %s", piece.text); /* Told by the caller. */
        goto out;
    }
    reply = quorlog__consume_reply__unpack(NULL, piece.header_size, piece.header);
    ASSERT(reply != NULL); /* The client has looked. */
    err = prove_piece(self, offset, reply->next_offset, &proof);
    quorlog__consume_reply__free_unpacked(reply, NULL);
    if (err != ERR_OK) {
        (void)err_set(info, err, "its own copy: %s", proof.text); /* Told by the caller. */
        goto out;
    }
    err = take_piece(self, &piece, &proof, ret_next, info);
out:
    answer_fini(&piece);
    answer_fini(&proof);
    return err;
}

/* ---- a copy ---- */

static void dump_topic(struct dump *self)
{
    const struct copy_topic *topic = self->topic;
    uint64_t offset = topic->start;
    struct err_info info;

    (void)snprintf(self->label, sizeof self->label, "%s#%" PRIu64, topic->name, topic->id);
    self->rewrites = strcmp(topic->name, LOAD_COMPACTED_TOPIC) == 0 ? REWRITES_MAX : 0;
    if (offset == topic->end) {
        static struct load_values none; /* Too large for the stack. */

        none.offset = none.next = offset;
        write_piece(self, &none, 0);
    }
    while (offset < topic->end) {
        if (dump_piece(self, offset, &offset, &info) == ERR_OK) {
            continue;
        }
        if (recorder_now_us() > self->deadline_us) {
            complain(self, offset, info.text);
            return;
        }
        (void)usleep(AGAIN_MS * 1000); /* What is damaged is being repaired. */
    }
}

int load_dump(struct load *self)
{
    struct dump dump = {.load = self};
    uint64_t request_s =
        self->options.timeout_s < REQUEST_MAX_S ? self->options.timeout_s : REQUEST_MAX_S;
    struct copies copies;

    dump.deadline_us = recorder_now_us() + self->options.timeout_s * 1000000;
    if (copies_open(&copies, self->servers, self->server_count, request_s * 1000) != ERR_OK) {
        (void)fprintf(stderr, "load: no clients can be made for the dump\n");
        return 1;
    }
    recorder_event(self->recorder, HISTORY_EVENT_SETTLED, "dump");
    dump.failed = !copies_wait(&copies, dump.deadline_us);
    for (unsigned i = 0; i < copies.count; i++) {
        dump.node = &copies.nodes[i];
        for (size_t k = 0; k < dump.node->topic_count; k++) {
            dump.topic = &dump.node->topics[k];
            dump_topic(&dump);
        }
    }
    copies_close(&copies);
    return dump.failed ? 1 : 0;
}
