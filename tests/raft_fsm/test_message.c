#include "raft_fsm/message.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/membership.h"

enum { BODY_MAX = 8192, SLICES_MAX = 16 };

/* A message as it travels. */
struct wire {
    uint8_t header[MESSAGE_HEADER_SIZE];
    uint8_t body[BODY_MAX];
    size_t body_size;
    unsigned slices;
};

static struct membership members(void)
{
    struct membership membership = {.count = 0};

    ck_assert_int_eq(membership_add(&membership, 1, "one:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(membership_add(&membership, 2, "two:2", MEMBER_STANDBY), ERR_OK);
    return membership;
}

static struct entry make_entry(uint64_t index, uint64_t term, uint32_t size)
{
    struct block *block = entry_block_new(size);
    struct entry entry;

    memset(block->data + ENTRY_HEADER_SIZE, 'x', size);
    entry_seal(block, size, index, term, ENTRY_COMMAND, &entry);
    return entry;
}

static struct entry make_change(uint64_t index, uint64_t term)
{
    struct membership membership = members();
    uint32_t size = (uint32_t)membership_encoded_size(&membership);
    struct block *block = entry_block_new(size);
    struct entry entry;

    membership_encode(&membership, block->data + ENTRY_HEADER_SIZE);
    entry_seal(block, size, index, term, ENTRY_CHANGE, &entry);
    return entry;
}

static struct slice make_slice(const void *bytes, size_t size)
{
    struct block *block = block_new(size);

    memcpy(block->data, bytes, size);
    return (struct slice){.block = block, .data = block->data, .size = size};
}

static struct message make_append(unsigned count)
{
    struct message message = {.type = MESSAGE_APPEND, .from = 1, .to = 2, .term = 9};

    message.append.prev_index = 10;
    message.append.prev_term = 3;
    message.append.commit = 8;
    message.append.count = count;
    if (count > 0) {
        message.append.entries = calloc(count, sizeof message.append.entries[0]);
    }
    for (unsigned i = 0; i < count; i++) {
        message.append.entries[i] =
            i == 1 ? make_change(11 + i, 4) : make_entry(11 + i, 4 + i / 2, i * 5);
    }
    return message;
}

static struct message make_snapshot(void)
{
    struct message message = {.type = MESSAGE_SNAPSHOT, .from = 1, .to = 2, .term = 9};
    struct membership membership = members();
    uint8_t bytes[256];

    membership_encode(&membership, bytes);
    message.snapshot = (struct snapshot){
        .index = 50,
        .term = 8,
        .membership_index = 12,
        .membership = make_slice(bytes, membership_encoded_size(&membership)),
        .manifest = make_slice("manifest", 8),
    };
    return message;
}

/* One message of each shape; the last one has type 0. */
static void make_all(struct message messages[24])
{
    struct message empty = {.from = 1, .to = 2, .term = 9};
    unsigned n = 0;

    for (unsigned i = 0; i < 24; i++) {
        messages[i] = empty;
    }
    messages[n++] = make_append(0);
    messages[n++] = make_append(4);
    messages[n].type = MESSAGE_APPEND_RESULT;
    messages[n].append_result.rejected = 5;
    messages[n].append_result.last_index = 4;
    messages[n++].append_result.stale = true;
    messages[n].type = MESSAGE_APPEND_RESULT;
    messages[n++].append_result.holes = true;
    messages[n].type = MESSAGE_VOTE;
    messages[n].vote.last_index = 77;
    messages[n].vote.last_term = 6;
    messages[n++].vote.pre_vote = true;
    messages[n].type = MESSAGE_VOTE;
    messages[n++].vote.disrupt_leader = true;
    messages[n].type = MESSAGE_VOTE_RESULT;
    messages[n++].vote_result.pre_vote = true;
    messages[n].type = MESSAGE_VOTE_RESULT;
    messages[n++].vote_result.granted = true;
    messages[n++] = make_snapshot();
    messages[n].type = MESSAGE_TIMEOUT_NOW;
    messages[n].timeout_now.last_index = 3;
    messages[n++].timeout_now.last_term = 2;
    messages[n].type = MESSAGE_FETCH;
    messages[n].fetch.topic_id = 5;
    messages[n].fetch.offset = 100;
    messages[n].fetch.end = 200;
    messages[n++].fetch.size_max = 4096;
    messages[n].type = MESSAGE_FETCH_RESULT;
    messages[n].fetch_result.topic_id = 5;
    messages[n].fetch_result.offset = 100;
    messages[n].fetch_result.end = 103;
    messages[n++].fetch_result.batches = make_slice("batches", 7);
    messages[n].type = MESSAGE_FETCH_RESULT;
    messages[n++].fetch_result.err = ERR_TOPIC_UNKNOWN;
    messages[n].type = MESSAGE_APPEND_RESULT;
    messages[n++].append_result.no_room = true;
    messages[n].type = MESSAGE_CONFIRM;
    messages[n++].confirm.round = 7;
    messages[n].type = MESSAGE_CONFIRM_RESULT;
    messages[n++].confirm.round = 7;
    messages[n].type = MESSAGE_CLEANED;
    messages[n].cleaned.topic_id = 4096;
    messages[n++].cleaned.cleaned_to = 300;
    ck_assert_uint_lt(n, 24);
}

static void free_all(struct message messages[24])
{
    for (unsigned i = 0; i < 24; i++) {
        message_fini(&messages[i]);
    }
}

static void to_wire(const struct message *message, struct wire *wire)
{
    struct slice slices[SLICES_MAX];

    wire->body_size = 0;
    ck_assert_int_eq(message_encode(message, wire->header, slices, SLICES_MAX, &wire->slices),
                     ERR_OK);
    for (unsigned i = 0; i < wire->slices; i++) {
        ck_assert_uint_le(wire->body_size + slices[i].size, BODY_MAX);
        memcpy(wire->body + wire->body_size, slices[i].data, slices[i].size);
        wire->body_size += slices[i].size;
    }
}

/* Decodes from memory of exactly the right size: ASan watches its end. */
static enum err from_wire(const struct wire *wire, size_t header_size, size_t body_size,
                          struct message *ret_message)
{
    struct block *block = block_new(body_size);
    uint8_t *header = malloc(header_size + 1);
    enum err err;

    memcpy(block->data, wire->body, body_size);
    memcpy(header, wire->header, header_size);
    err = message_decode(header, header_size, block, block->data, body_size, ret_message, NULL);
    free(header);
    block_unref(block);
    return err;
}

static void assert_same_wire(const struct wire *a, const struct wire *b)
{
    ck_assert_mem_eq(a->header, b->header, MESSAGE_HEADER_SIZE);
    ck_assert_uint_eq(a->body_size, b->body_size);
    ck_assert_mem_eq(a->body, b->body, a->body_size);
}

START_TEST(every_type_comes_back_as_it_was)
{
    struct message messages[24];

    make_all(messages);
    for (unsigned i = 0; messages[i].type != 0; i++) {
        struct message decoded;
        struct wire wire;
        struct wire again;

        to_wire(&messages[i], &wire);
        ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, wire.body_size, &decoded), ERR_OK);
        ck_assert_int_eq(decoded.type, messages[i].type);
        ck_assert_uint_eq(decoded.from, 1);
        ck_assert_uint_eq(decoded.to, 2);
        ck_assert_uint_eq(decoded.term, 9);
        to_wire(&decoded, &again);
        assert_same_wire(&wire, &again);
        message_fini(&decoded);
    }
    free_all(messages);
}
END_TEST

START_TEST(fields_are_what_was_sent)
{
    struct message messages[24];
    struct message decoded;
    struct wire wire;

    make_all(messages);
    to_wire(&messages[1], &wire);
    ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, wire.body_size, &decoded), ERR_OK);
    ck_assert_uint_eq(decoded.append.prev_index, 10);
    ck_assert_uint_eq(decoded.append.prev_term, 3);
    ck_assert_uint_eq(decoded.append.commit, 8);
    ck_assert_uint_eq(decoded.append.count, 4);
    ck_assert_int_eq(decoded.append.entries[1].type, ENTRY_CHANGE);
    ck_assert_uint_eq(decoded.append.entries[3].index, 14);
    ck_assert_uint_eq(decoded.append.entries[3].size, 15);
    message_fini(&decoded);
    to_wire(&messages[3], &wire);
    ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, wire.body_size, &decoded), ERR_OK);
    ck_assert(decoded.append_result.holes && !decoded.append_result.stale);
    to_wire(&messages[12], &wire);
    ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, wire.body_size, &decoded), ERR_OK);
    ck_assert_int_eq(decoded.fetch_result.err, ERR_TOPIC_UNKNOWN);
    ck_assert_ptr_null(decoded.fetch_result.batches.block);
    message_fini(&decoded);
    free_all(messages);
}
END_TEST

START_TEST(a_report_says_of_which_topic_and_how_far)
{
    struct message message = {.type = MESSAGE_CLEANED,
                              .from = 1,
                              .to = 2,
                              .term = 9,
                              .cleaned = {.topic_id = 4096, .cleaned_to = 300}};
    struct message decoded;
    struct wire wire;

    to_wire(&message, &wire);
    ck_assert_uint_eq(wire.header[0], 18);
    ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, 0, &decoded), ERR_OK);
    ck_assert_uint_eq(decoded.cleaned.topic_id, 4096);
    ck_assert_uint_eq(decoded.cleaned.cleaned_to, 300);
    bytes_put_u64(wire.header + 32, 0); /* of none */
    ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, 0, &decoded), ERR_PROTOCOL);
    bytes_put_u64(wire.header + 32, 4096);
    bytes_put_u64(wire.header + 48, 1); /* a field that it has not got */
    ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, 0, &decoded), ERR_PROTOCOL);
}
END_TEST

START_TEST(cut_messages_are_errors)
{
    struct message messages[24];

    make_all(messages);
    for (unsigned i = 0; messages[i].type != 0; i++) {
        struct message decoded;
        struct wire wire;

        to_wire(&messages[i], &wire);
        for (size_t size = 0; size < MESSAGE_HEADER_SIZE; size++) {
            ck_assert_int_eq(from_wire(&wire, size, wire.body_size, &decoded), ERR_PROTOCOL);
        }
        /* The manifest of a snapshot and the batches of a result have no length of their own. */
        if (messages[i].type == MESSAGE_APPEND) {
            for (size_t size = 0; size < wire.body_size; size++) {
                ck_assert_int_ne(from_wire(&wire, MESSAGE_HEADER_SIZE, size, &decoded), ERR_OK);
            }
        }
        if (messages[i].type == MESSAGE_SNAPSHOT) {
            for (size_t size = 0; size < messages[i].snapshot.membership.size; size++) {
                ck_assert_int_ne(from_wire(&wire, MESSAGE_HEADER_SIZE, size, &decoded), ERR_OK);
            }
        }
    }
    free_all(messages);
}
END_TEST

/* Whatever is accepted means exactly the bytes that came. */
static void assert_error_or_same(const struct wire *wire)
{
    struct message decoded;
    struct wire again;
    enum err err = from_wire(wire, MESSAGE_HEADER_SIZE, wire->body_size, &decoded);

    if (err != ERR_OK) {
        ck_assert(err == ERR_PROTOCOL || err == ERR_CORRUPT);
        return;
    }
    to_wire(&decoded, &again);
    assert_same_wire(wire, &again);
    message_fini(&decoded);
}

START_TEST(flipped_bits_give_an_error_or_what_encodes_back)
{
    struct message messages[24];

    make_all(messages);
    for (unsigned i = 0; messages[i].type != 0; i++) {
        struct wire wire;

        to_wire(&messages[i], &wire);
        for (size_t bit = 0; bit < MESSAGE_HEADER_SIZE * 8; bit++) {
            wire.header[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_error_or_same(&wire);
            wire.header[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t bit = 0; bit < wire.body_size * 8; bit++) {
            wire.body[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_error_or_same(&wire);
            wire.body[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    free_all(messages);
}
END_TEST

START_TEST(flipped_bits_of_entries_are_corrupt)
{
    struct message message = make_append(3);
    struct message decoded;
    struct wire wire;

    to_wire(&message, &wire);
    for (size_t bit = 0; bit < wire.body_size * 8; bit++) {
        wire.body[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, wire.body_size, &decoded),
                         ERR_CORRUPT);
        wire.body[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    message_fini(&message);
}
END_TEST

START_TEST(count_is_bounded_before_anything_is_allocated)
{
    struct message message = make_append(2);
    struct message decoded;
    struct wire wire;

    to_wire(&message, &wire);
    bytes_put_u64(wire.header + 56, UINT64_MAX);
    ck_assert_int_eq(from_wire(&wire, 64, wire.body_size, &decoded), ERR_PROTOCOL);
    bytes_put_u64(wire.header + 56, wire.body_size / ENTRY_HEADER_SIZE + 1);
    ck_assert_int_eq(from_wire(&wire, 64, wire.body_size, &decoded), ERR_PROTOCOL);
    bytes_put_u64(wire.header + 56, 1);
    ck_assert_int_eq(from_wire(&wire, 64, wire.body_size, &decoded), ERR_PROTOCOL);
    bytes_put_u64(wire.header + 32, UINT64_MAX);
    bytes_put_u64(wire.header + 56, 2);
    ck_assert_int_eq(from_wire(&wire, 64, wire.body_size, &decoded), ERR_PROTOCOL);
    message_fini(&message);
}
END_TEST

/* An append of two entries with these indexes and terms, after entry 10 of term 3, in term 9. */
static enum err decode_pair(uint64_t index0, uint64_t term0, uint64_t index1, uint64_t term1)
{
    struct message message = make_append(0);
    struct entry entries[] = {make_entry(index0, term0, 3), make_entry(index1, term1, 3)};
    struct message decoded;
    struct wire wire;
    enum err err;

    to_wire(&message, &wire);
    bytes_put_u64(wire.header + 56, 2);
    for (unsigned i = 0; i < 2; i++) {
        memcpy(wire.body + i * 40, entries[i].frame, 40);
        entry_unref(&entries[i]);
    }
    wire.body_size = 80;
    err = from_wire(&wire, 64, wire.body_size, &decoded);
    if (err == ERR_OK) {
        message_fini(&decoded);
    }
    message_fini(&message);
    return err;
}

START_TEST(entries_follow_one_another)
{
    ck_assert_int_eq(decode_pair(11, 3, 12, 9), ERR_OK);
    ck_assert_int_eq(decode_pair(12, 3, 13, 3), ERR_CORRUPT);
    ck_assert_int_eq(decode_pair(10, 3, 11, 3), ERR_CORRUPT);
    ck_assert_int_eq(decode_pair(11, 3, 13, 3), ERR_CORRUPT);
    ck_assert_int_eq(decode_pair(11, 2, 12, 3), ERR_CORRUPT);
    ck_assert_int_eq(decode_pair(11, 4, 12, 3), ERR_CORRUPT);
    ck_assert_int_eq(decode_pair(11, 4, 12, 10), ERR_CORRUPT);
}
END_TEST

START_TEST(neighbours_in_one_block_are_one_slice)
{
    struct message message = make_append(4);
    struct message decoded;
    struct slice slices[4];
    struct wire wire;
    struct wire again;
    unsigned count;

    to_wire(&message, &wire);
    ck_assert_uint_eq(wire.slices, 4);
    ck_assert_int_eq(message_encode(&message, wire.header, slices, 3, &count), ERR_TOO_LARGE);
    ck_assert_int_eq(from_wire(&wire, MESSAGE_HEADER_SIZE, wire.body_size, &decoded), ERR_OK);
    to_wire(&decoded, &again);
    ck_assert_uint_eq(again.slices, 1);
    message_fini(&decoded);
    message_fini(&message);
}
END_TEST

START_TEST(copy_lives_on_its_own)
{
    struct message messages[24];

    make_all(messages);
    for (unsigned i = 0; messages[i].type != 0; i++) {
        struct message copy;
        struct wire wire;
        struct wire again;

        to_wire(&messages[i], &wire);
        ck_assert_int_eq(message_copy(&messages[i], &copy), ERR_OK);
        message_fini(&messages[i]);
        ck_assert_int_eq(messages[i].type, 0);
        to_wire(&copy, &again);
        assert_same_wire(&wire, &again);
        message_fini(&copy);
        messages[i].type = MESSAGE_VOTE;
    }
    free_all(messages);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/message");
    TCase *tc = tcase_create("message_encode");

    tcase_add_test(tc, every_type_comes_back_as_it_was);
    tcase_add_test(tc, fields_are_what_was_sent);
    tcase_add_test(tc, a_report_says_of_which_topic_and_how_far);
    tcase_add_test(tc, neighbours_in_one_block_are_one_slice);
    suite_add_tcase(suite, tc);
    tc = tcase_create("message_decode");
    tcase_add_test(tc, cut_messages_are_errors);
    tcase_add_test(tc, flipped_bits_give_an_error_or_what_encodes_back);
    tcase_add_test(tc, flipped_bits_of_entries_are_corrupt);
    tcase_add_test(tc, count_is_bounded_before_anything_is_allocated);
    tcase_add_test(tc, entries_follow_one_another);
    suite_add_tcase(suite, tc);
    tc = tcase_create("message_copy");
    tcase_add_test(tc, copy_lives_on_its_own);
    suite_add_tcase(suite, tc);
    return runner_main(suite);
}
