#include "raft_fsm/membership.h"

#include <check.h>
#include <raft.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"

static struct membership make(unsigned count)
{
    struct membership membership = {.count = 0};

    for (unsigned i = 0; i < count; i++) {
        char address[64];

        (void)snprintf(address, sizeof address, "node-%.*s%u.example:%u", (int)(i % 7), "abcdefg",
                       i, 7000 + i);
        ck_assert_int_eq(
            membership_add(&membership, 100 + i * 3, address, (enum member_role)(i % 3)), ERR_OK);
    }
    return membership;
}

START_TEST(encoding_is_byte_for_byte_that_of_libraft)
{
    for (unsigned count = 1; count <= MEMBERSHIP_MAX; count++) {
        struct membership membership = make(count);
        struct membership decoded;
        struct raft_configuration configuration;
        struct raft_buffer buffer;
        uint8_t *bytes;

        raft_configuration_init(&configuration);
        for (unsigned i = 0; i < count; i++) {
            const struct member *member = &membership.members[i];

            ck_assert_int_eq(raft_configuration_add(&configuration, member->id, member->address,
                                                    (int)member->role),
                             0);
        }
        ck_assert_int_eq(raft_configuration_encode(&configuration, &buffer), 0);
        ck_assert_uint_eq(membership_encoded_size(&membership), buffer.len);
        bytes = malloc(buffer.len);
        membership_encode(&membership, bytes);
        ck_assert_mem_eq(bytes, buffer.base, buffer.len);
        ck_assert_int_eq(membership_decode(buffer.base, buffer.len, &decoded, NULL), ERR_OK);
        ck_assert_mem_eq(&decoded, &membership, sizeof membership);
        free(bytes);
        raft_free(buffer.base);
        raft_configuration_close(&configuration);
    }
}
END_TEST

START_TEST(roles_are_numbered_as_in_libraft)
{
    ck_assert_int_eq(MEMBER_STANDBY, RAFT_STANDBY);
    ck_assert_int_eq(MEMBER_VOTER, RAFT_VOTER);
    ck_assert_int_eq(MEMBER_SPARE, RAFT_SPARE);
}
END_TEST

START_TEST(find_and_voters)
{
    struct membership membership = make(5);

    ck_assert_uint_eq(membership_voters(&membership), 2);
    ck_assert_ptr_eq(membership_find(&membership, 106), &membership.members[2]);
    ck_assert_ptr_null(membership_find(&membership, 107));
}
END_TEST

START_TEST(add_refuses_what_breaks_the_invariants)
{
    struct membership membership = make(1);
    char longest[MEMBER_ADDRESS_SIZE + 1];

    memset(longest, 'x', sizeof longest);
    longest[MEMBER_ADDRESS_SIZE] = '\0';
    ck_assert_int_eq(membership_add(&membership, 0, "a:1", MEMBER_VOTER), ERR_INVALID);
    ck_assert_int_eq(membership_add(&membership, 1, "", MEMBER_VOTER), ERR_INVALID);
    ck_assert_int_eq(membership_add(&membership, 1, longest, MEMBER_VOTER), ERR_INVALID);
    ck_assert_int_eq(membership_add(&membership, 100, "a:1", MEMBER_VOTER), ERR_EXISTS);
    ck_assert_int_eq(membership_add(&membership, 1, membership.members[0].address, MEMBER_VOTER),
                     ERR_EXISTS);
    ck_assert_uint_eq(membership.count, 1);
    longest[MEMBER_ADDRESS_SIZE - 1] = '\0';
    ck_assert_int_eq(membership_add(&membership, 1, longest, MEMBER_VOTER), ERR_OK);
    membership = make(MEMBERSHIP_MAX);
    ck_assert_int_eq(membership_add(&membership, 1, "a:1", MEMBER_VOTER), ERR_LIMIT);
}
END_TEST

/* Decodes from a copy of its own size, so that ASan sees what is read past it. */
static enum err decode(const uint8_t *from, size_t size, struct membership *ret_membership)
{
    uint8_t *copy = malloc(size + 1);
    enum err err;

    memcpy(copy + 1, from, size);
    err = membership_decode(copy + 1, size, ret_membership, NULL);
    free(copy);
    return err;
}

START_TEST(cut_and_extended_encodings_are_corrupt)
{
    struct membership membership = make(4);
    struct membership decoded;
    size_t size = membership_encoded_size(&membership);
    uint8_t bytes[512] = {0};

    membership_encode(&membership, bytes);
    for (size_t cut = 0; cut < size; cut++) {
        ck_assert_int_eq(decode(bytes, cut, &decoded), ERR_CORRUPT);
    }
    for (size_t more = size + 1; more < size + 24; more++) {
        ck_assert_int_eq(decode(bytes, more, &decoded), ERR_CORRUPT);
    }
    ck_assert_int_eq(decode(bytes, size, &decoded), ERR_OK);
}
END_TEST

START_TEST(flipped_bits_give_an_error_or_what_encodes_back)
{
    struct membership membership = make(4);
    size_t size = membership_encoded_size(&membership);
    uint8_t bytes[512];
    uint8_t again[512];

    membership_encode(&membership, bytes);
    for (size_t i = 0; i < size * 8; i++) {
        struct membership decoded;
        enum err err;

        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        err = decode(bytes, size, &decoded);
        ck_assert(err == ERR_OK || err == ERR_CORRUPT);
        if (err == ERR_OK) {
            ck_assert_uint_eq(membership_encoded_size(&decoded), size);
            membership_encode(&decoded, again);
            ck_assert_mem_eq(again, bytes, size);
        }
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/membership");
    TCase *tc = tcase_create("membership_encode");

    tcase_add_test(tc, encoding_is_byte_for_byte_that_of_libraft);
    tcase_add_test(tc, roles_are_numbered_as_in_libraft);
    suite_add_tcase(suite, tc);
    tc = tcase_create("membership_add");
    tcase_add_test(tc, find_and_voters);
    tcase_add_test(tc, add_refuses_what_breaks_the_invariants);
    suite_add_tcase(suite, tc);
    tc = tcase_create("membership_decode");
    tcase_add_test(tc, cut_and_extended_encodings_are_corrupt);
    tcase_add_test(tc, flipped_bits_give_an_error_or_what_encodes_back);
    suite_add_tcase(suite, tc);
    return runner_main(suite);
}
