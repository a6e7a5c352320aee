/*
 * Entries in a block, and the members that one of them may hold.
 *
 *      u8 1: checksums are made right; 2: the bytes are members | the bytes
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/membership.h"

enum { PAYLOAD_MAX = 1 << 16 };

static void check_members(const uint8_t *bytes, size_t size)
{
    struct membership members;
    struct membership again = {0};
    struct membership decoded;
    uint8_t encoded[MEMBERSHIP_MAX * (MEMBER_ADDRESS_SIZE + 9) + 16];
    enum err err = membership_decode(bytes, size, &members, NULL);

    if (err != ERR_OK) {
        ASSERT(err == ERR_CORRUPT);
        return;
    }
    ASSERT(members.count >= 1 && members.count <= MEMBERSHIP_MAX);
    ASSERT(membership_voters(&members) <= members.count);
    for (unsigned i = 0; i < members.count; i++) {
        const struct member *member = &members.members[i];

        ASSERT(membership_find(&members, member->id) == member);
        err = membership_add(&again, member->id, member->address, member->role);
        ASSERT(err == ERR_OK);
    }
    ASSERT(membership_encoded_size(&members) <= sizeof encoded);
    membership_encode(&members, encoded);
    err = membership_decode(encoded, membership_encoded_size(&members), &decoded, NULL);
    ASSERT(err == ERR_OK && decoded.count == members.count);
}

static void check_entries(struct block *block)
{
    size_t position = 0;
    struct entry entry;
    struct entry sealed;

    /* Whether an index is one that is due, its reader decides; none is made with index 0. */
    while (position < block->size &&
           entry_parse(block, position, block->size, PAYLOAD_MAX, &entry, NULL) == ERR_OK) {
        struct block *again;

        ASSERT(entry.size <= PAYLOAD_MAX && entry_frame_size(entry.size) <= block->size - position);
        if (entry.index > 0) {
            again = entry_block_new(entry.size);
            ASSERT(again != NULL);
            memcpy(again->data + ENTRY_HEADER_SIZE, entry_payload(&entry), entry.size);
            entry_seal(again, entry.size, entry.index, entry.term, entry.type, &sealed);
            ASSERT(memcmp(sealed.frame, entry.frame, entry_frame_size(entry.size)) == 0);
            entry_unref(&sealed);
        }
        if (entry.type == ENTRY_CHANGE) {
            check_members(entry_payload(&entry), entry.size);
        }
        position += entry_frame_size(entry.size);
        entry_unref(&entry);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    uint8_t *bytes = fuzz_copy(&input);
    struct block *block;

    if ((control & 2) != 0) {
        check_members(bytes, input.size);
    } else {
        if ((control & 1) != 0) {
            fix_entries(bytes, input.size);
        }
        block = block_new(input.size);
        ASSERT(block != NULL);
        memcpy(block->data, bytes, input.size);
        check_entries(block);
        block_unref(block);
    }
    free(bytes);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    struct buf entries = {0};
    struct buf seed = {0};
    struct membership members = {0};
    uint8_t encoded[1024];

    (void)membership_add(&members, 1, "n1:7437", MEMBER_VOTER); /* An empty one takes these. */
    (void)membership_add(&members, 2, "[::1]:1", MEMBER_STANDBY);
    (void)membership_add(&members, UINT64_MAX, "h", MEMBER_SPARE);
    membership_encode(&members, encoded);
    fuzz_put_u8(&seed, 2);
    fuzz_put(&seed, encoded, membership_encoded_size(&members));
    fuzz_emit(emit, arg, &seed);
    fuzz_put_u8(&entries, 1);
    for (unsigned i = 0; i < 3; i++) {
        static const enum entry_type types[] = {ENTRY_BARRIER, ENTRY_COMMAND, ENTRY_CHANGE};
        size_t size = i == 2 ? membership_encoded_size(&members) : i * 9;
        struct block *block = entry_block_new((uint32_t)size);
        struct entry entry;

        ASSERT(block != NULL);
        memcpy(block->data + ENTRY_HEADER_SIZE, encoded, size);
        entry_seal(block, (uint32_t)size, 5 + i, 2, types[i], &entry);
        fuzz_put(&entries, entry.frame, entry_frame_size(entry.size));
        entry_unref(&entry);
    }
    fuzz_emit(emit, arg, &entries);
}
