#include "raft_fsm/nodes_ahead.h"

#include <check.h>
#include <stdlib.h>

#include "lib/runner.h"
#include "raft_fsm/command.h"

static struct nodes_ahead ahead;

static void setup(void)
{
    nodes_ahead_init(&ahead);
}

static void teardown(void)
{
    nodes_ahead_fini(&ahead);
}

/* An entry that binds the ids given, to disks of ten times their number plus `salt`, behind a
 * command of another kind. */
static struct entry binds(uint64_t index, uint64_t salt, const uint64_t *ids, size_t count)
{
    const struct command other = {.type = COMMAND_INIT_PRODUCER};
    struct block *block;
    struct entry entry;
    uint8_t *to;
    size_t size = COMMAND_PAYLOAD_HEADER_SIZE + command_encoded_size(&other);

    for (size_t i = 0; i < count; i++) {
        size += command_encoded_size(&(struct command){.type = COMMAND_NODE_BIND});
    }
    block = entry_block_new((uint32_t)size);
    ck_assert_ptr_nonnull(block);
    to = block->data + ENTRY_HEADER_SIZE;
    to += command_encode_header(1000, to);
    to += command_encode(&other, to);
    for (size_t i = 0; i < count; i++) {
        to +=
            command_encode(&(struct command){.type = COMMAND_NODE_BIND,
                                             .node = {.id = ids[i], .disk_id = 10 * ids[i] + salt}},
                           to);
    }
    entry_seal(block, (uint32_t)size, index, 1, ENTRY_COMMAND, &entry);
    return entry;
}

static void append(struct entry *entries, size_t count, uint64_t applied)
{
    ck_assert_int_eq(nodes_ahead_append(&ahead, entries, count, applied), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        entry_unref(&entries[i]);
    }
}

START_TEST(all_that_an_entry_binds_is_known)
{
    struct entry entry = binds(7, 1, (const uint64_t[]){3, 4}, 2);

    append(&entry, 1, 0);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 3), 31);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 4), 41);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 5), 0);
    ck_assert_uint_ne(ahead.version, 0);
}
END_TEST

START_TEST(of_two_disks_for_an_id_the_first_counts)
{
    struct entry entries[2] = {binds(7, 1, (const uint64_t[]){3}, 1),
                               binds(8, 2, (const uint64_t[]){3}, 1)};

    append(entries, 2, 0);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 3), 31);
    ck_assert_uint_eq(ahead.count, 1);
}
END_TEST

START_TEST(what_is_replaced_is_forgotten)
{
    struct entry first[2] = {binds(7, 1, (const uint64_t[]){3}, 1),
                             binds(8, 1, (const uint64_t[]){4}, 1)};
    struct entry second = binds(8, 2, (const uint64_t[]){5}, 1);
    uint64_t version;

    append(first, 2, 0);
    version = ahead.version;
    append(&second, 1, 0);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 3), 31);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 4), 0);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 5), 52);
    ck_assert_uint_gt(ahead.version, version);
}
END_TEST

START_TEST(what_is_applied_is_forgotten_with_the_next_entries)
{
    struct entry first = binds(7, 1, (const uint64_t[]){3}, 1);
    struct entry second = binds(8, 1, (const uint64_t[]){4}, 1);

    append(&first, 1, 0);
    append(&second, 1, 7);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 3), 0);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 4), 41);
    nodes_ahead_clear(&ahead);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 4), 0);
}
END_TEST

START_TEST(entries_that_were_applied_before_say_nothing)
{
    struct entry entry = binds(7, 1, (const uint64_t[]){3}, 1);

    append(&entry, 1, 7);
    ck_assert_uint_eq(nodes_ahead_find(&ahead, 3), 0);
}
END_TEST

/* Its checksum holds, but nobody wrote it: nothing is read beyond it, nothing is taken from it. */
START_TEST(a_payload_that_is_cut_anywhere_is_no_harm)
{
    struct entry whole = binds(7, 1, (const uint64_t[]){3, 4}, 2);

    for (uint32_t size = 0; size < whole.size; size++) {
        uint8_t *copy = malloc(size + 1); /* So that a sanitizer sees what is read behind it. */
        struct node_disk node;
        size_t position = 0;
        unsigned found = 0;

        ck_assert_ptr_nonnull(copy);
        for (uint32_t i = 0; i < size; i++) {
            copy[i] = entry_payload(&whole)[i];
        }
        while (command_next_binding(copy, size, &position, &node)) {
            found++;
        }
        ck_assert_uint_le(found, 1);
        free(copy);
    }
    entry_unref(&whole);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nodes_ahead");
    TCase *tcase = tcase_create("append");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, all_that_an_entry_binds_is_known);
    tcase_add_test(tcase, of_two_disks_for_an_id_the_first_counts);
    tcase_add_test(tcase, what_is_replaced_is_forgotten);
    tcase_add_test(tcase, what_is_applied_is_forgotten_with_the_next_entries);
    tcase_add_test(tcase, entries_that_were_applied_before_say_nothing);
    tcase_add_test(tcase, a_payload_that_is_cut_anywhere_is_no_harm);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
