/* Ballot, snapshot and journal: each of them, and whether they belong together. */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "archive/fsck_internal.h"
#include "base/assert.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/membership.h"
#include "raft_fsm/raft_disk.h"

/* What is damaged, as info says: a person has to act. */
static enum err tell_damage(struct fsck *self, const char *path, enum err found,
                            const struct err_info *info)
{
    const struct fsck_finding finding = {
        .level = FSCK_ACT,
        .what = found == ERR_NOT_FOUND ? "missing" : "damaged",
        .path = path,
        .advice = found == ERR_VERSION ? "start the newer program again" : fsck_replace};

    switch ((int)found) {
    case ERR_CORRUPT:
    case ERR_VERSION:
    case ERR_WRONG_CLUSTER:
    case ERR_NOT_FOUND:
        self->state_unknown = true;
        return fsck_tell(self, &finding, "%s", info->text);
    default:
        return err_set(self->info, found, "%s", info->text);
    }
}

/* Adds the size of a file that was read. */
static enum err count_file(struct fsck *self, const char *path)
{
    uint64_t size = 0;
    int fd = -1;
    enum err err = io_open(self->io, path, O_RDONLY, &fd, self->info);
    int rv = err == ERR_OK ? self->io->size(self->io, fd, &size) : 0;

    io_close(self->io, &fd);
    self->summary.files++;
    fsck_progress(self, path, size);
    return rv < 0 ? io_error(rv, "stat", path, self->info) : err;
}

/* ---- the snapshot ---- */

static enum err check_manifest(struct fsck *self, const char *path)
{
    struct err_info info = {0};
    enum err err = manifest_decode(self->snapshot.manifest.data, self->snapshot.manifest.size,
                                   &self->manifest, &info);

    if (err != ERR_OK) {
        self->manifest = (struct manifest){0};
        return tell_damage(self, path, err, &info);
    }
    if (self->manifest.applied_index != self->snapshot.index) {
        (void)err_set(&info, ERR_CORRUPT,
                      "the snapshot is of entry %" PRIu64 ", its manifest of entry %" PRIu64,
                      self->snapshot.index, self->manifest.applied_index);
        return tell_damage(self, path, ERR_CORRUPT, &info);
    }
    return ERR_OK;
}

static enum err check_snapshot(struct fsck *self, const char *group_dir)
{
    char path[IO_PATH_SIZE];
    struct err_info info = {0};
    enum err err = io_path(path, group_dir, "snapshot", self->info);

    if (err != ERR_OK) {
        return err;
    }
    err = snapshot_read(self->io, path, &self->snapshot, &info);
    if (err == ERR_NOT_FOUND) {
        return ERR_OK; /* There is none before the first; the journal tells whether one is needed.
                        */
    }
    if (err != ERR_OK) {
        return tell_damage(self, path, err, &info);
    }
    err = count_file(self, path);
    return err == ERR_OK ? check_manifest(self, path) : err;
}

/* Nothing was ever written here: neither snapshot nor ballot. */
static bool find_fresh(const struct fsck *self, const char *group_dir)
{
    struct ballot_contents ballot;
    char path[IO_PATH_SIZE];

    return self->snapshot.index == 0 && !self->state_unknown &&
           io_path(path, group_dir, "ballot", NULL) == ERR_OK &&
           ballot_read(self->io, path, 0, &ballot, NULL) == ERR_NOT_FOUND;
}

/* ---- the journal ---- */

static enum err tell_torn(struct fsck *self, const char *dir)
{
    char path[IO_PATH_SIZE];
    const struct fsck_finding finding = {
        .what = "torn",
        .path = path,
        .has_position = true,
        .position = self->journal.end_position,
        .advice = "the node cuts it. After a clean stop it is damage of the last write, which "
                  "nothing can tell from a torn one: check the disk"};
    enum err err = io_path(path, dir, self->journal.end_name, self->info);

    return err == ERR_OK ? fsck_tell(self, &finding,
                                     "the last write was cut off; nothing in it was acknowledged")
                         : err;
}

static enum err count_segments(struct fsck *self, const char *dir)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < self->journal.segment_count && err == ERR_OK; i++) {
        char name[JOURNAL_NAME_SIZE];
        char path[IO_PATH_SIZE];

        journal_segment_name(name, self->journal.segments[i].sequence);
        err = io_path(path, dir, name, self->info);
        err = err == ERR_OK ? count_file(self, path) : err;
    }
    return err;
}

static enum err check_journal(struct fsck *self, const char *group_dir)
{
    char dir[IO_PATH_SIZE];
    struct err_info info = {0};
    enum err err = io_path(dir, group_dir, "journal", self->info);

    if (err != ERR_OK) {
        return err;
    }
    err = journal_recovery_look(&self->journal, self->io, dir, self->summary.node_id, &info);
    if (err == ERR_NOT_FOUND && find_fresh(self, group_dir)) {
        return ERR_OK;
    }
    if (err == ERR_OK && self->journal.segment_count == 0 && self->snapshot.index != 0) {
        err = err_set(&info, ERR_NOT_FOUND, "the journal has no files, but there is a snapshot");
    }
    if (err == ERR_OK) {
        err = count_segments(self, dir);
        return err == ERR_OK && self->journal.torn ? tell_torn(self, dir) : err;
    }
    return tell_damage(self, dir, err, &info);
}

/* ---- the ballot ---- */

static enum err check_slots(struct fsck *self, const char *path,
                            const struct ballot_contents *contents)
{
    enum err err = ERR_OK;

    for (unsigned i = 0; i < BALLOT_SLOTS && err == ERR_OK; i++) {
        const struct fsck_finding finding = {
            .level = FSCK_REPAIRED,
            .what = "damaged",
            .path = path,
            .has_position = true,
            .position = (uint64_t)i * BALLOT_SLOT_SIZE,
            .advice = "the node writes it again from the other one; if no crash explains it, check "
                      "the disk"};

        if (!contents->slots[i].valid) {
            err = fsck_tell(self, &finding, "one of the ballot's two slots does not verify");
        }
    }
    return err;
}

static enum err check_ballot(struct fsck *self, const char *group_dir,
                             struct ballot_contents *ret_contents, bool *ret_valid)
{
    char path[IO_PATH_SIZE];
    struct err_info info = {0};
    enum err err = io_path(path, group_dir, "ballot", self->info);

    *ret_valid = false;
    if (err != ERR_OK) {
        return err;
    }
    err = ballot_read(self->io, path, self->summary.node_id, ret_contents, &info);
    if (err != ERR_OK) {
        if (err == ERR_NOT_FOUND) {
            (void)err_set(&info, err, "the ballot, this node's term and vote, is missing");
        }
        return tell_damage(self, path, err, &info);
    }
    *ret_valid = true;
    err = count_file(self, path);
    return err == ERR_OK ? check_slots(self, path, ret_contents) : err;
}

/* ---- together ---- */

/* Whether the newest members that the node knows of are more than itself. */
static bool find_peers(const struct fsck *self)
{
    struct slice newest = self->snapshot.membership;
    struct membership members;

    for (size_t i = 0; i < self->journal.entry_count; i++) {
        const struct entry *entry = &self->journal.entries[i];

        if (entry->type == ENTRY_CHANGE) {
            newest = (struct slice){.data = entry_payload(entry), .size = entry->size};
        }
    }
    return newest.size > 0 &&
           membership_decode(newest.data, newest.size, &members, NULL) == ERR_OK &&
           members.count > 1;
}

static enum err check_together(struct fsck *self, const char *group_dir,
                               const struct ballot_contents *ballot)
{
    const struct ballot_slot *slot = &ballot->slots[ballot->chosen];
    struct raft_driver_disk disk = {
        .term = slot->term,
        .vote = slot->vote,
        .snapshot = self->snapshot.index != 0 ? &self->snapshot : NULL,
        .first_index = self->journal.first_index != 0 ? self->journal.first_index : 1,
        .entries = self->journal.entries,
        .count = self->journal.entry_count,
    };
    struct err_info info = {0};
    enum err err;

    if (slot->term == 0 && disk.snapshot == NULL && disk.count <= 1) {
        return ERR_OK; /* The beginning of a cluster was cut short, and is finished. */
    }
    err = raft_disk_check(&disk, &info);
    if (err != ERR_OK) {
        return tell_damage(self, group_dir, err, &info);
    }
    self->journal_void = raft_disk_journal_is_void(&disk);
    return ERR_OK;
}

enum err fsck_raft(struct fsck *self, const char *group_dir)
{
    struct ballot_contents ballot = {.chosen = 0};
    bool ballot_valid = false;
    enum err err = check_snapshot(self, group_dir);

    if (err == ERR_OK && self->summary.node_id == 0) {
        char path[IO_PATH_SIZE];

        err = io_path(path, group_dir, "ballot", self->info);
        if (err == ERR_OK && ballot_read(self->io, path, 0, &ballot, NULL) == ERR_OK) {
            self->summary.node_id = ballot.slots[ballot.chosen].node_id;
        }
    }
    err = err == ERR_OK ? check_journal(self, group_dir) : err;
    if (err == ERR_OK && self->journal.entry_count == 0 && find_fresh(self, group_dir)) {
        return ERR_OK;
    }
    err = err == ERR_OK ? check_ballot(self, group_dir, &ballot, &ballot_valid) : err;
    if (err == ERR_OK && ballot_valid && !self->state_unknown) {
        err = check_together(self, group_dir, &ballot);
    }
    self->has_peers = find_peers(self);
    return err;
}
