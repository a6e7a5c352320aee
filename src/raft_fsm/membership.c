#include "raft_fsm/membership.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

enum {
    ENCODING_VERSION = 1,
    HEADER_SIZE = 9, /* version and count */
    /* A member: id, one character of address with its zero, role. */
    MEMBER_SIZE_MIN = 8 + 2 + 1,
};

const struct member *membership_find(const struct membership *self, uint64_t id)
{
    ASSERT(self->count <= MEMBERSHIP_MAX);
    for (unsigned i = 0; i < self->count; i++) {
        if (self->members[i].id == id) {
            return &self->members[i];
        }
    }
    return NULL;
}

unsigned membership_voters(const struct membership *self)
{
    unsigned count = 0;

    ASSERT(self->count <= MEMBERSHIP_MAX);
    for (unsigned i = 0; i < self->count; i++) {
        count += self->members[i].role == MEMBER_VOTER ? 1 : 0;
    }
    return count;
}

enum err membership_add(struct membership *self, uint64_t id, const char *address,
                        enum member_role role)
{
    size_t size = strlen(address) + 1;
    struct member *member;

    ASSERT(self->count <= MEMBERSHIP_MAX);
    ASSERT(role == MEMBER_STANDBY || role == MEMBER_VOTER || role == MEMBER_SPARE);
    if (id == 0 || size == 1 || size > MEMBER_ADDRESS_SIZE) {
        return ERR_INVALID;
    }
    for (unsigned i = 0; i < self->count; i++) {
        if (self->members[i].id == id || strcmp(self->members[i].address, address) == 0) {
            return ERR_EXISTS;
        }
    }
    if (self->count == MEMBERSHIP_MAX) {
        return ERR_LIMIT;
    }
    member = &self->members[self->count++];
    *member = (struct member){.id = id, .role = role};
    memcpy(member->address, address, size);
    return ERR_OK;
}

static size_t unpadded_size(const struct membership *self)
{
    size_t size = HEADER_SIZE;

    ASSERT(self->count <= MEMBERSHIP_MAX);
    for (unsigned i = 0; i < self->count; i++) {
        size += 8 + strlen(self->members[i].address) + 1 + 1;
    }
    return size;
}

size_t membership_encoded_size(const struct membership *self)
{
    return bytes_round_up(unpadded_size(self), 8);
}

void membership_encode(const struct membership *self, uint8_t *to)
{
    size_t size = unpadded_size(self);
    uint8_t *at = to + HEADER_SIZE;

    ASSERT(self->count >= 1);
    to[0] = ENCODING_VERSION;
    bytes_put_u64(to + 1, self->count);
    for (unsigned i = 0; i < self->count; i++) {
        const struct member *member = &self->members[i];
        size_t address_size = strlen(member->address) + 1;

        bytes_put_u64(at, member->id);
        memcpy(at + 8, member->address, address_size);
        at[8 + address_size] = (uint8_t)member->role;
        at += 8 + address_size + 1;
    }
    ASSERT((size_t)(at - to) == size);
    memset(at, 0, bytes_round_up(size, 8) - size);
}

/* One member at *at; moves *at behind it. */
static enum err decode_member(struct membership *self, const uint8_t **at, const uint8_t *end,
                              struct err_info *info)
{
    size_t room = (size_t)(end - *at);
    const uint8_t *address = *at + 8;
    const uint8_t *zero;
    uint64_t id;
    uint8_t role;
    enum err err;

    if (room < MEMBER_SIZE_MIN) {
        return err_set(info, ERR_CORRUPT, "a member is cut off");
    }
    id = bytes_get_u64(*at);
    zero = memchr(address, 0, room - 8);
    if (zero == NULL || zero + 1 == end) {
        return err_set(info, ERR_CORRUPT, "the address of member %llu is cut off",
                       (unsigned long long)id);
    }
    role = zero[1];
    if (role > MEMBER_SPARE) {
        return err_set(info, ERR_CORRUPT, "member %llu has the unknown role %u",
                       (unsigned long long)id, role);
    }
    err = membership_add(self, id, (const char *)address, (enum member_role)role);
    if (err != ERR_OK) {
        return err_set(info, ERR_CORRUPT, "member %llu: %s", (unsigned long long)id,
                       err == ERR_EXISTS ? "its id or address stands there twice"
                                         : "its id or address is not valid");
    }
    *at = zero + 2;
    return ERR_OK;
}

enum err membership_decode(const uint8_t *from, size_t size, struct membership *ret_membership,
                           struct err_info *info)
{
    struct membership membership = {.count = 0};
    const uint8_t *at;
    const uint8_t *end;
    uint64_t count;

    if (size < HEADER_SIZE || size % 8 != 0) {
        return err_set(info, ERR_CORRUPT, "a membership of %zu bytes", size);
    }
    if (from[0] != ENCODING_VERSION) {
        return err_set(info, ERR_CORRUPT, "a membership of unknown version %u", from[0]);
    }
    count = bytes_get_u64(from + 1);
    if (count == 0 || count > MEMBERSHIP_MAX) {
        return err_set(info, ERR_CORRUPT, "a membership of %llu members",
                       (unsigned long long)count);
    }
    at = from + HEADER_SIZE;
    end = from + size;
    for (uint64_t i = 0; i < count; i++) {
        enum err err = decode_member(&membership, &at, end, info);

        if (err != ERR_OK) {
            return err;
        }
    }
    if (end - at >= 8) {
        return err_set(info, ERR_CORRUPT, "bytes behind a membership");
    }
    for (; at < end; at++) {
        if (*at != 0) {
            return err_set(info, ERR_CORRUPT, "the padding of a membership is not zero");
        }
    }
    ASSERT(membership.count == count);
    *ret_membership = membership;
    return ERR_OK;
}
