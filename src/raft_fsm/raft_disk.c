#include "raft_fsm/raft_disk.h"

#include "base/assert.h"
#include "raft_fsm/membership.h"

static enum err check_entries(const struct raft_driver_disk *self, struct err_info *info)
{
    uint64_t term = 0;

    for (size_t i = 0; i < self->count; i++) {
        const struct entry *entry = &self->entries[i];
        struct membership membership;

        if (entry->index != self->first_index + i || entry->term < term ||
            entry->term > self->term || entry->term == 0) {
            return err_set(
                info, ERR_CORRUPT,
                "the journal's entry %llu of term %llu follows term %llu, in the ballot's "
                "term %llu",
                (unsigned long long)entry->index, (unsigned long long)entry->term,
                (unsigned long long)term, (unsigned long long)self->term);
        }
        term = entry->term;
        if (entry->type == ENTRY_CHANGE) {
            enum err err = membership_decode(entry_payload(entry), entry->size, &membership, info);

            if (err != ERR_OK) {
                return err_prefix(info, err, "the journal's entry %llu",
                                  (unsigned long long)entry->index);
            }
        }
    }
    return ERR_OK;
}

enum err raft_disk_check(const struct raft_driver_disk *self, struct err_info *info)
{
    const struct snapshot *snapshot = self->snapshot;
    struct membership membership;
    enum err err;

    if (self->term == 0 && (self->vote != 0 || snapshot != NULL || self->count > 0)) {
        return err_set(info, ERR_CORRUPT,
                       "the ballot has no term, but there is a vote, a snapshot or a journal");
    }
    if (self->first_index == 0) {
        return err_set(info, ERR_CORRUPT, "the journal begins at index 0");
    }
    if (snapshot == NULL) {
        if (self->first_index != 1) {
            return err_set(info, ERR_CORRUPT, "the journal begins at %llu and there is no snapshot",
                           (unsigned long long)self->first_index);
        }
        if (self->count > 0 && self->entries[0].type != ENTRY_CHANGE) {
            return err_set(info, ERR_CORRUPT, "the journal's first entry holds no members");
        }
        return check_entries(self, info);
    }
    if (snapshot->index == 0 || snapshot->term == 0 || snapshot->term > self->term ||
        snapshot->membership_index == 0 || snapshot->membership_index > snapshot->index) {
        return err_set(info, ERR_CORRUPT,
                       "the snapshot's index %llu and term %llu make no sense beside the ballot's "
                       "term %llu and its members of index %llu",
                       (unsigned long long)snapshot->index, (unsigned long long)snapshot->term,
                       (unsigned long long)self->term,
                       (unsigned long long)snapshot->membership_index);
    }
    if (self->first_index > snapshot->index + 1) {
        return err_set(
            info, ERR_CORRUPT, "entries %llu to %llu, between snapshot and journal, are missing",
            (unsigned long long)snapshot->index + 1, (unsigned long long)self->first_index - 1);
    }
    err =
        membership_decode(snapshot->membership.data, snapshot->membership.size, &membership, info);
    if (err != ERR_OK) {
        return err_prefix(info, err, "the snapshot at %llu", (unsigned long long)snapshot->index);
    }
    return check_entries(self, info);
}

bool raft_disk_journal_is_void(const struct raft_driver_disk *self)
{
    const struct snapshot *snapshot = self->snapshot;

    if (snapshot == NULL || self->first_index == snapshot->index + 1) {
        return false;
    }
    if (self->first_index + self->count <= snapshot->index) {
        return true;
    }
    return self->entries[snapshot->index - self->first_index].term != snapshot->term;
}
