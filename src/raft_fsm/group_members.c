/*
 * Who a group's links go to, and which disks the nodes on them show.
 *
 * Links follow the members, and guests: nodes that dialled us and that our members do not include,
 * because we lag or have just been added. Without a link to them we could not answer a leader that
 * we do not know yet. A guest is forgotten when it is known as a member, or as removed.
 *
 * Each node shows a disk id with its hello, both ways. One that is not the disk that its id is
 * bound to (nodes.h) takes no part.
 */
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/group_internal.h"

/* ---- the hello of links ---- */

static void on_hello(void *arg, struct conn *conn, uint64_t to, uint64_t to_disk)
{
    struct group *self = arg;

    (void)to_disk; /* The links know of no disks. */
    self->events.hello(self->events.arg, conn, to, replica_disk_id(self->replica, to));
}

static enum err on_hello_reply(void *arg, const struct frame *frame, uint64_t to,
                               uint64_t *ret_disk, struct err_info *info)
{
    struct group *self = arg;
    enum err err = self->events.hello_reply(self->events.arg, frame, to, ret_disk, info);

    if (err == ERR_OK) {
        err = group_check_node(self, to, *ret_disk, info);
    }
    if (err == ERR_OK) {
        replica_learn_disk(self->replica, to, *ret_disk);
    }
    return err;
}

void group_members_init(struct group *self)
{
    self->link_events = self->events;
    self->link_events.arg = self;
    self->link_events.hello = on_hello;
    self->link_events.hello_reply = on_hello_reply;
}

/* ---- disks ---- */

bool group_members_removed(void *arg, uint64_t id)
{
    const struct group *self = arg;

    return self->status.membership.count > 0 &&
           membership_find(&self->status.membership, id) == NULL &&
           nodes_find(&self->disks, id) != 0;
}

enum err group_check_node(struct group *self, uint64_t id, uint64_t disk_id, struct err_info *info)
{
    uint64_t known;
    bool removed;

    group_lock(self);
    known = nodes_find(&self->disks, id);
    removed = group_members_removed(self, id);
    group_unlock(self);
    if (known != 0 && disk_id != 0 && known != disk_id) {
        return err_set(info, ERR_WRONG_DISK,
                       "the id of node %llu belongs to another disk: a node whose data was lost or "
                       "emptied never comes back under its old id. Start it under an id that was "
                       "never used, with an empty data directory and --join, and replace the lost "
                       "one: quorlog cluster replace %llu NEW-ID HOST:PORT",
                       (unsigned long long)id, (unsigned long long)id);
    }
    if (removed) {
        return err_set(info, ERR_ID_USED, "node %llu was removed from this cluster: stop it",
                       (unsigned long long)id);
    }
    return ERR_OK;
}

/* ---- links ---- */

static void drop_guest(struct membership *guests, unsigned at)
{
    ASSERT(at < guests->count);
    memmove(&guests->members[at], &guests->members[at + 1],
            (guests->count - at - 1) * sizeof guests->members[0]);
    guests->count--;
}

/* Links go to the members, and to as many guests as there is room for. */
static void update(struct group *self)
{
    struct membership *guests = &self->guests;
    struct membership merged = self->members;

    for (unsigned i = guests->count; i > 0; i--) {
        const struct member *guest = &guests->members[i - 1];

        if (membership_find(&self->members, guest->id) != NULL ||
            group_members_removed(self, guest->id)) {
            drop_guest(guests, i - 1);
        } else {
            /* Without room, or at a member's address: it is not dialled. */
            (void)membership_add(&merged, guest->id, guest->address, MEMBER_SPARE);
        }
    }
    group_peers_update(self->peers, &merged);
}

void group_members_guest(struct group *self, uint64_t id, const char *address)
{
    struct membership *guests = &self->guests;

    if (address[0] == '\0' || membership_find(&self->members, id) != NULL ||
        id == self->options.replica.id || self->state != GROUP_RUNNING) {
        return;
    }
    for (unsigned i = guests->count; i > 0; i--) {
        const struct member *guest = &guests->members[i - 1];

        if (guest->id == id && strcmp(guest->address, address) == 0) {
            return;
        }
        if (guest->id == id || strcmp(guest->address, address) == 0) {
            drop_guest(guests, i - 1);
        }
    }
    if (guests->count == MEMBERSHIP_MAX) {
        drop_guest(guests, 0);
    }
    if (membership_add(guests, id, address, MEMBER_SPARE) == ERR_OK) {
        update(self);
    } /* Else it is no address. */
}

void group_members_follow(struct group *self, const struct membership *membership)
{
    uint64_t version = replica_disks_version(self->replica);

    if (version != self->disks_version) {
        group_lock(self);
        replica_disks(self->replica, &self->disks);
        group_unlock(self);
        self->disks_version = version;
    }
    if (memcmp(&self->members, membership, sizeof self->members) != 0) {
        self->members = *membership;
        update(self);
    }
}
