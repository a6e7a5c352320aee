/*
 * A message between replicas. What is decoded is encoded to the bytes that it was.
 *
 *      u8 1: checksums are made right | header, 64 bytes | body
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "raft_fsm/membership.h"
#include "raft_fsm/message.h"

enum { SLICES_MAX = 2048 };

/* The message's bytes are those of `header` and `body`. */
static void check_encoding(const struct message *message, const uint8_t *header,
                           const struct block *body)
{
    static struct slice slices[SLICES_MAX];
    uint8_t encoded[MESSAGE_HEADER_SIZE];
    unsigned count;
    size_t at = 0;
    enum err err = message_encode(message, encoded, slices, SLICES_MAX, &count);

    ASSERT(err == ERR_OK && count <= SLICES_MAX);
    ASSERT(memcmp(encoded, header, sizeof encoded) == 0);
    for (unsigned i = 0; i < count; i++) {
        ASSERT(slices[i].size <= body->size - at);
        ASSERT(slices[i].size == 0 || memcmp(slices[i].data, body->data + at, slices[i].size) == 0);
        at += slices[i].size;
    }
    ASSERT(at == body->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    bool fixed = (fuzz_u8(&input) & 1) != 0;
    size_t header_size = input.size < MESSAGE_HEADER_SIZE ? input.size : MESSAGE_HEADER_SIZE;
    struct fuzz_input part = {.data = input.data, .size = header_size};
    uint8_t *header = fuzz_copy(&part);
    struct block *body = block_new(input.size - header_size);
    struct message message;
    struct message copy;
    enum err err;

    ASSERT(body != NULL);
    if (body->size > 0) {
        memcpy(body->data, input.data + header_size, body->size);
    }
    if (fixed) {
        fix_entries(body->data, body->size);
    }
    err = message_decode(header, header_size, body, body->data, body->size, &message, NULL);
    if (err == ERR_OK) {
        check_encoding(&message, header, body);
        err = message_copy(&message, &copy);
        ASSERT(err == ERR_OK);
        message_fini(&message);
        check_encoding(&copy, header, body);
        message_fini(&copy);
    } else {
        ASSERT(err == ERR_CORRUPT || err == ERR_PROTOCOL);
    }
    block_unref(body);
    free(header);
    return 0;
}

static void emit_message(fuzz_emit_cb emit, void *arg, struct message *message)
{
    struct slice slices[16];
    uint8_t header[MESSAGE_HEADER_SIZE];
    struct buf seed = {0};
    unsigned count;
    enum err err;

    message->from = 1;
    message->to = 2;
    message->term = 3;
    err = message_encode(message, header, slices, 16, &count);
    ASSERT(err == ERR_OK);
    fuzz_put_u8(&seed, 1);
    fuzz_put(&seed, header, sizeof header);
    for (unsigned i = 0; i < count; i++) {
        fuzz_put(&seed, slices[i].data, slices[i].size);
    }
    fuzz_emit(emit, arg, &seed);
    message_fini(message);
}

static struct slice bytes_of(const void *data, size_t size)
{
    struct slice slice = {.block = block_new(size), .size = size};

    ASSERT(slice.block != NULL);
    memcpy(slice.block->data, data, size);
    slice.data = slice.block->data;
    return slice;
}

static void emit_append(fuzz_emit_cb emit, void *arg, unsigned count)
{
    struct message message = {.type = MESSAGE_APPEND};

    message.append.count = count;
    message.append.prev_index = 6;
    message.append.prev_term = 2;
    message.append.commit = 5;
    message.append.entries = calloc(count, sizeof *message.append.entries);
    ASSERT(message.append.entries != NULL);
    for (unsigned i = 0; i < count; i++) {
        struct block *block = entry_block_new(i * 5);

        ASSERT(block != NULL);
        memset(block->data + ENTRY_HEADER_SIZE, 'x', i * 5);
        entry_seal(block, i * 5, 7 + i, 2 + i / 2, i == 0 ? ENTRY_BARRIER : ENTRY_COMMAND,
                   &message.append.entries[i]);
    }
    emit_message(emit, arg, &message);
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    static const enum message_type plain[] = {
        MESSAGE_APPEND_RESULT, MESSAGE_VOTE,    MESSAGE_VOTE_RESULT,    MESSAGE_TIMEOUT_NOW,
        MESSAGE_FETCH,         MESSAGE_CONFIRM, MESSAGE_CONFIRM_RESULT, MESSAGE_CLEANED};
    struct membership members = {0};
    uint8_t encoded[128];
    struct message message;

    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        message = (struct message){.type = plain[i]};
        if (plain[i] == MESSAGE_FETCH) {
            message.fetch.topic_id = 4;
            message.fetch.end = 9;
            message.fetch.size_max = 4096;
        } else if (plain[i] == MESSAGE_VOTE_RESULT) {
            message.vote_result.granted = true;
        } else {
            message.confirm.round = 5; /* The first of each: last_index, rejected, … */
        }
        emit_message(emit, arg, &message);
    }
    emit_append(emit, arg, 1);
    emit_append(emit, arg, 4);
    message = (struct message){.type = MESSAGE_FETCH_RESULT};
    message.fetch_result.topic_id = 4;
    message.fetch_result.end = 9;
    message.fetch_result.batches = bytes_of("batches!", 8);
    emit_message(emit, arg, &message);
    (void)membership_add(&members, 1, "n1:1", MEMBER_VOTER); /* An empty one takes these. */
    (void)membership_add(&members, 2, "n2:1", MEMBER_STANDBY);
    membership_encode(&members, encoded);
    message = (struct message){.type = MESSAGE_SNAPSHOT};
    message.snapshot = (struct snapshot){.index = 9, .term = 2, .membership_index = 1};
    message.snapshot.membership = bytes_of(encoded, membership_encoded_size(&members));
    message.snapshot.manifest = bytes_of("manifest", 8);
    emit_message(emit, arg, &message);
}
