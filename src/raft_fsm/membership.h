/*
 * The members of a cluster: who they are, where they are, and whether they vote.
 *
 * The encoding is the payload of an ENTRY_CHANGE and stands in manifests. It is libraft's own
 * (version 1), since the core reads these payloads:
 *
 *      0        1                9
 *      +--------+----------------+- - - - - - - - - - - - - - - - - - - - -+- - -
 *      | 1 (u8) | count u64      | id u64 | address, zero-ended | role u8  | …
 *      +--------+----------------+- - - - - - - - - - - - - - - - - - - - -+- - -
 *      padded with zeros to 8 bytes; little-endian; role 0 standby, 1 voter, 2 spare.
 *
 * Invariants: 1 <= count <= MEMBERSHIP_MAX; ids > 0 and distinct; addresses distinct, not empty.
 */
#ifndef QUORLOG_RAFT_FSM_MEMBERSHIP_H
#define QUORLOG_RAFT_FSM_MEMBERSHIP_H

#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/err.h"

enum {
    MEMBERSHIP_MAX = 15,
    MEMBER_ADDRESS_SIZE = 264, /* "host:port" with its zero */
};

enum member_role {
    MEMBER_STANDBY = 0, /* gets all entries, does not vote */
    MEMBER_VOTER = 1,
    MEMBER_SPARE = 2, /* gets nothing */
};

struct member {
    uint64_t id;
    enum member_role role;
    char address[MEMBER_ADDRESS_SIZE];
};

struct membership {
    unsigned count;
    struct member members[MEMBERSHIP_MAX];
};

/* NULL when there is no such member. Borrowed from self. */
const struct member *membership_find(const struct membership *self, uint64_t id);

unsigned membership_voters(const struct membership *self);

/* Adds a member. ERR_EXISTS (id or address), ERR_INVALID (id 0, address empty or too long),
 * ERR_LIMIT. */
enum err membership_add(struct membership *self, uint64_t id, const char *address,
                        enum member_role role);

/* Bytes of the encoding, and the encoding itself. */
size_t membership_encoded_size(const struct membership *self);
void membership_encode(const struct membership *self, uint8_t *to);

/* Reads and verifies; every length is checked. ERR_CORRUPT with text. */
enum err membership_decode(const uint8_t *from, size_t size, struct membership *ret_membership,
                           struct err_info *info);

#endif
