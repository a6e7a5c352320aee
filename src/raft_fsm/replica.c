/*
 * The replica's life: opening, what happens to it, closing. See replica.h.
 */
#include "raft_fsm/replica.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/turns.h"
#include "raft_fsm/replica_internal.h"
#include "raft_fsm/steps.h"

enum {
    /* Entries kept behind a snapshot at least. It is bytes that count (trailing_size): entries may
     * be large, and a follower that lags by more than that gets the snapshot. */
    TRAILING_MIN = 32,
    /* Longer than a client that sends one record at a time takes for the next one, whose entry
     * brings the news. */
    NEWS_MS = 5,
};

uint64_t replica_now_ms(const struct replica *self)
{
    return clock_monotonic_ms(self->host.clock);
}

enum err replica_driver_failed(struct replica *self, enum err err, struct err_info *info)
{
    if (self->apply_info.code != ERR_OK) {
        if (info != NULL) {
            *info = self->apply_info;
        }
        return self->apply_info.code;
    }
    return err_set(info, err, "the raft core cannot go on: %s", err_text(err));
}

void replica_post_task(struct replica *self, struct journal_task *task)
{
    if (self->opening) {
        task->next = NULL;
        *self->held_tail = task;
        self->held_tail = &task->next;
    } else {
        self->host.journal(self->host.arg, task);
    }
}

struct job *replica_job_of(struct replica_job *job)
{
    _Static_assert(offsetof(struct job, job) == 0, "a job begins with its replica_job");
    return (struct job *)job;
}

/* ---- what the driver asks for ---- */

static enum err save_ballot(void *arg, uint64_t term, uint64_t vote)
{
    struct replica *self = arg;

    return ballot_write(&self->ballot, term, vote, &self->apply_info);
}

static void append(void *arg, const struct entry *entries, unsigned count)
{
    struct replica *self = arg;
    struct journal_task *task = journal_task_new(JOURNAL_APPEND, count);
    uint64_t version = self->nodes_ahead.version;
    enum err err =
        nodes_ahead_append(&self->nodes_ahead, entries, count, fsm_applied_index(self->fsm));

    /* The driver cannot go back; the supervisor starts us again. */
    ASSERT(task != NULL && err == ERR_OK);
    self->changed = self->changed || self->nodes_ahead.version != version;
    for (unsigned i = 0; i < count; i++) {
        task->entries[i] = entries[i];
        entry_ref(&entries[i]);
        /* Once in the journal, once in the topics. */
        replica_room_wrote(self, 2 * (uint64_t)entry_frame_size(entries[i].size));
    }
    replica_post_task(self, task);
}

static void send_message(void *arg, const struct message *message)
{
    struct replica *self = arg;
    struct message told = *message; /* Its references stay the driver's. */

    if (message->type == MESSAGE_APPEND_RESULT) {
        struct fsm_holes holes;

        fsm_holes(self->fsm, &holes);
        told.append_result.holes = holes.holes > 0;
        told.append_result.no_room = replica_is_short(self);
    }
    self->host.send(self->host.arg, &told);
}

static enum err apply(void *arg, const struct entry *entry)
{
    struct replica *self = arg;
    struct pending *pending = replica_take_pending(self, entry);
    unsigned step = turns_step(self->host.turns, STEP_APPLY);
    enum err err;

    err = fsm_apply(self->fsm, entry, pending != NULL ? replica_answer : NULL, pending,
                    &self->apply_info);
    if (err != ERR_OK) {
        self->apply_info.code = err;
    }
    if (pending != NULL) {
        replica_answered(self, pending);
    }
    self->size_since_snapshot += entry_frame_size(entry->size);
    self->changed = true;
    (void)turns_step(self->host.turns, step); /* The one that ended is ours. */
    return err;
}

static void changed(void *arg)
{
    struct replica *self = arg;

    self->changed = true;
    if (self->driver != NULL && raft_driver_role(self->driver) != RAFT_ROLE_LEADER) {
        replica_fail_pending(self, ERR_LEADERSHIP_LOST);
        replica_fail_held(self);
    }
}

/* ---- opening ---- */

static void set_defaults(struct replica_options *options)
{
    options->heartbeat_ms = options->heartbeat_ms != 0 ? options->heartbeat_ms : 50;
    options->election_ms = options->election_ms != 0 ? options->election_ms : 300;
    options->snapshot_size = options->snapshot_size != 0 ? options->snapshot_size : 64 << 20;
    options->trailing_size = options->trailing_size != 0 ? options->trailing_size : 32 << 20;
    options->trailing_min = options->trailing_min != 0 ? options->trailing_min : TRAILING_MIN;
    options->entry_size_max = options->entry_size_max != 0 ? options->entry_size_max : 512 << 10;
    options->fill_chunk_size =
        options->fill_chunk_size != 0 ? options->fill_chunk_size : FETCH_CHUNK_SIZE;
    options->compact_memory = options->compact_memory != 0 ? options->compact_memory : 32 << 20;
    options->inflight_size_max =
        options->inflight_size_max != 0 ? options->inflight_size_max : 16 << 20;
}

static enum err make_dirs(const struct replica *self, struct err_info *info)
{
    enum err err = io_make_dir(self->host.io, self->dir, "journal", info);

    return err == ERR_OK ? io_make_dir(self->host.io, self->dir, "topics", info) : err;
}

static enum err open_journal(const struct replica *self, struct journal **ret_journal,
                             struct journal_contents *ret_contents, struct err_info *info)
{
    char dir[IO_PATH_SIZE];
    enum err err = io_path(dir, self->dir, "journal", info);

    if (err != ERR_OK) {
        return err;
    }
    err = journal_open(
        &(struct journal_options){
            .io = self->host.io,
            .dir = dir,
            .node_id = self->options.id,
            .segment_size = self->options.journal_segment_size,
            .no_direct = self->options.no_direct,
            .seed = self->host.clock->random(self->host.clock),
        },
        ret_journal, ret_contents, info);
    if (err == ERR_OK && ret_contents->torn) {
        diag_event(self->host.diag, DIAG_WARN, "raft_fsm", "journal_tail_cut",
                   "file=%s position=%llu", ret_contents->torn_path,
                   (unsigned long long)ret_contents->torn_position);
    }
    return err;
}

/* Whether this replica knows of others: by its snapshot, or by a later change. */
static bool has_peers(const struct snapshot *snapshot, const struct journal_contents *contents)
{
    struct membership members = {0};
    struct slice newest = snapshot != NULL ? snapshot->membership : (struct slice){0};

    for (size_t i = 0; i < contents->count; i++) {
        const struct entry *entry = &contents->entries[i];

        if (entry->type == ENTRY_CHANGE) {
            newest = (struct slice){.data = entry_payload(entry), .size = entry->size};
        }
    }
    /* What does not decode, the driver refuses in a moment. */
    return newest.size > 0 &&
           membership_decode(newest.data, newest.size, &members, NULL) == ERR_OK &&
           members.count > 1;
}

static enum err open_fsm(struct replica *self, const struct snapshot *snapshot,
                         const struct journal_contents *contents, struct err_info *info)
{
    char dir[IO_PATH_SIZE];
    struct fsm_options options = {
        .io = self->host.io,
        .dir = dir,
        .diag = self->host.diag,
        .files = self->options.files,
        .segment_size_max = self->options.segment_size_max,
        .holes_allowed = has_peers(snapshot, contents),
    };
    struct manifest manifest;
    enum err err = io_path(dir, self->dir, "topics", info);

    if (err != ERR_OK) {
        return err;
    }
    if (snapshot == NULL) {
        return fsm_open(&options, NULL, &self->fsm, info);
    }
    err = manifest_decode(snapshot->manifest.data, snapshot->manifest.size, &manifest, info);
    if (err != ERR_OK) {
        return err_prefix(info, err, "the snapshot in '%s'", self->dir);
    }
    err = fsm_open(&options, &manifest, &self->fsm, info);
    manifest_fini(&manifest);
    return err;
}

/* The first entry of a cluster: its members. */
static enum err first_entry(const struct membership *members, struct entry *ret_entry)
{
    size_t size = membership_encoded_size(members);
    struct block *block = entry_block_new((uint32_t)size);

    if (block == NULL) {
        return ERR_NOMEM;
    }
    membership_encode(members, block->data + ENTRY_HEADER_SIZE);
    entry_seal(block, (uint32_t)size, 1, 1, ENTRY_CHANGE, ret_entry);
    return ERR_OK;
}

/*
 * Begins a cluster in an empty directory: entry 1 first, then term 1, so that a crash in between is
 * found (term 0 with at most that one entry) and finished.
 */
static enum err bootstrap(struct replica *self, struct journal *journal,
                          struct journal_contents *contents, struct err_info *info)
{
    enum err err;

    ASSERT(self->ballot.term == 0);
    if (contents->count == 0) {
        contents->entries = calloc(1, sizeof *contents->entries);
        if (contents->entries == NULL) {
            return err_set(info, ERR_NOMEM, "out of memory");
        }
        err = first_entry(self->options.bootstrap, &contents->entries[0]);
        if (err != ERR_OK) {
            return err_set(info, err, "%s", err_text(err));
        }
        contents->count = 1;
        contents->first_index = 1;
        err = journal_append(journal, contents->entries, 1, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ballot_write(&self->ballot, 1, 0, info);
}

/* Which files they are, and what the person who reads it can do about it. */
static enum err do_not_fit(const struct replica *self, struct err_info *info)
{
    char what[sizeof info->text] = "";

    if (info != NULL) {
        memcpy(what, info->text, sizeof what);
    }
    return err_set(
        info, ERR_CORRUPT,
        "'%.120s/snapshot', '%.120s/ballot' and its journal do not belong together: %.140s. "
        "Restore the whole directory, or replace the node: quorlog cluster replace",
        self->dir, self->dir, what);
}

static enum err start_driver(struct replica *self, struct journal *journal,
                             const struct snapshot *snapshot,
                             const struct journal_contents *contents, struct err_info *info)
{
    const struct raft_driver_options options = {
        .id = self->options.id,
        .address = self->address,
        .seed = self->options.seed != 0 ? self->options.seed
                                        : self->host.clock->random(self->host.clock) | 1,
        .heartbeat_ms = self->options.heartbeat_ms,
        .election_ms = self->options.election_ms,
        .news_ms = NEWS_MS,
        .trailing_size = self->options.trailing_size,
        .trailing_min = self->options.trailing_min,
        .diag = self->host.diag,
        .rules_off = self->options.rules_off,
    };
    const struct raft_driver_host host = {
        .arg = self,
        .save_ballot = save_ballot,
        .append = append,
        .send = send_message,
        .apply = apply,
        .install = replica_install_begin,
        .changed = changed,
    };
    const struct raft_driver_disk disk = {
        .term = self->ballot.term,
        .vote = self->ballot.vote,
        .snapshot = snapshot,
        .first_index = contents->first_index,
        .entries = contents->entries,
        .count = contents->count,
    };
    bool reset = false;
    enum err err;

    err = nodes_ahead_append(&self->nodes_ahead, contents->entries, contents->count,
                             fsm_applied_index(self->fsm));
    if (err == ERR_OK) {
        err = raft_driver_new(&options, &host, &self->driver);
    }
    if (err != ERR_OK) {
        return err_set(info, err, "the raft core cannot be made: %s", err_text(err));
    }
    err = raft_driver_start(self->driver, replica_now_ms(self), &disk, &reset, info);
    if (err == ERR_CORRUPT) {
        return do_not_fit(self, info);
    }
    if (err == ERR_OK && reset) {
        /* Before any task that start posted: those are held. */
        nodes_ahead_clear(&self->nodes_ahead);
        err = journal_reset(journal, snapshot->index + 1, info);
    }
    return err;
}

static void give_back(struct replica *self)
{
    replica_drop_taking(self);
    if (self->installing.state != INSTALLING_IDLE) {
        snapshot_fini(&self->installing.snapshot);
    }
    replica_fill_fini(self);
    replica_scrub_fini(self);
    replica_compact_fini(self);
    replica_retention_fini(self);
    replica_compact_lead_fini(self);
    while (self->held != NULL) {
        struct journal_task *next = self->held->next;

        journal_task_free(self->held);
        self->held = next;
    }
    raft_driver_free(self->driver);
    nodes_ahead_fini(&self->nodes_ahead);
    if (self->fsm != NULL) {
        fsm_close(self->fsm);
    }
    ballot_close(&self->ballot);
    free(self);
}

static enum err open_parts(struct replica *self, struct journal **ret_journal,
                           struct err_info *info)
{
    struct journal_contents contents = {0};
    struct snapshot snapshot = {0};
    bool fresh;
    enum err err;

    err = snapshot_load(self->host.io, self->dir, &snapshot, info);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    self->snapshot_index = snapshot.index;
    err = open_journal(self, ret_journal, &contents, info);
    if (err != ERR_OK) {
        goto err_after_load;
    }
    /* With data in the directory the ballot must be there: without it this node might vote twice.
     */
    fresh = snapshot.index == 0 && contents.count == 0;
    err = ballot_open(&self->ballot, self->host.io, self->dir, self->options.id, fresh, info);
    if (err == ERR_OK && self->ballot.term == 0 && snapshot.index == 0 &&
        self->options.bootstrap != NULL) {
        err = bootstrap(self, *ret_journal, &contents, info);
    }
    if (err == ERR_OK) {
        err = open_fsm(self, snapshot.index != 0 ? &snapshot : NULL, &contents, info);
    }
    if (err == ERR_OK) {
        err = start_driver(self, *ret_journal, snapshot.index != 0 ? &snapshot : NULL, &contents,
                           info);
    }
    if (err != ERR_OK) {
        journal_close(*ret_journal);
        *ret_journal = NULL;
    }
    journal_contents_fini(&contents);
err_after_load:
    snapshot_fini(&snapshot);
    return err;
}

enum err replica_open(const struct replica_options *options, const struct replica_host *host,
                      struct replica **ret_replica, struct journal **ret_journal,
                      struct err_info *info)
{
    struct replica *self;
    enum err err;

    ASSERT(options->id != 0 && host->clock != NULL && host->io != NULL);
    if (strlen(options->address) >= MEMBER_ADDRESS_SIZE || strlen(options->dir) >= IO_PATH_SIZE) {
        return err_set(info, ERR_TOO_LARGE, "the address or the directory's path is too long");
    }
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    self->options = *options;
    set_defaults(&self->options);
    (void)snprintf(self->address, sizeof self->address, "%s", options->address); /* fits */
    (void)snprintf(self->dir, sizeof self->dir, "%s", options->dir);             /* fits */
    self->host = *host;
    self->ballot.fd = -1;
    nodes_ahead_init(&self->nodes_ahead);
    self->queue_tail = &self->queue;
    self->pending_tail = &self->pending;
    replica_init_held(&self->held_acks);
    self->held_tail = &self->held;
    self->opening = true;
    self->room = (struct room){
        .io = host->io, .dir = self->dir, .diag = host->diag, .reserve = options->disk_reserve};
    err = make_dirs(self, info);
    if (err == ERR_OK) {
        room_init(&self->room); /* Before anything is written: it may free the ballast for that. */
        err = open_parts(self, ret_journal, info);
    }
    if (err != ERR_OK) {
        give_back(self);
        return err;
    }
    if (options->disk_id != 0) {
        replica_learn_disk(self, options->id, options->disk_id);
    }
    self->opening = false;
    for (struct journal_task *task = self->held; task != NULL;) {
        struct journal_task *next = task->next;

        self->host.journal(self->host.arg, task);
        task = next;
    }
    self->held = NULL;
    *ret_replica = self;
    return ERR_OK;
}

void replica_fail(struct replica *self, enum err err)
{
    replica_fail_held(self);
    replica_fail_pending(self, err);
    replica_fail_queue(self, err);
    replica_fail_reads(self, err);
}

void replica_close(struct replica *self)
{
    replica_fail(self, ERR_SHUTDOWN);
    give_back(self);
}

/* ---- what happens ---- */

/* The end of every call: what follows from what has changed. */
static enum err settle(struct replica *self, enum err err, struct err_info *info)
{
    if (err == ERR_OK) {
        replica_confirm(self);
        err = replica_handover_step(self, info);
    }
    if (err == ERR_OK) {
        replica_bind_disks(self);
        err = replica_maybe_snapshot(self, info);
    }
    if (err == ERR_OK) {
        err = replica_read_flush(self, info);
    }
    if (self->changed) {
        unsigned step = turns_step(self->host.turns, STEP_PUBLISH);

        self->changed = false;
        self->host.published(self->host.arg);
        (void)turns_step(self->host.turns, step); /* As in apply. */
    }
    return err;
}

uint64_t replica_deadline_ms(const struct replica *self)
{
    const uint64_t deadlines_ms[] = {
        raft_driver_deadline_ms(self->driver),
        replica_install_deadline_ms(self),
        replica_fill_deadline_ms(self),
        replica_resign_deadline_ms(self),
        replica_scrub_deadline_ms(self),
        replica_compact_deadline_ms(self),
        replica_retention_deadline_ms(self),
        replica_compact_lead_deadline_ms(self),
        replica_upkeep_deadline_ms(self),
        replica_handover_deadline_ms(self),
        self->room.reserve > 0 ? self->room_at_ms : UINT64_MAX,
        self->held_acks.deadline_ms,
    };
    uint64_t first_ms = UINT64_MAX;

    for (size_t i = 0; i < sizeof deadlines_ms / sizeof deadlines_ms[0]; i++) {
        first_ms = deadlines_ms[i] < first_ms ? deadlines_ms[i] : first_ms;
    }
    return first_ms;
}

enum err replica_tick(struct replica *self, struct err_info *info)
{
    uint64_t now_ms = replica_now_ms(self);
    enum err err = ERR_OK;

    if (now_ms >= raft_driver_deadline_ms(self->driver)) {
        err = raft_driver_tick(self->driver, now_ms);
        err = err == ERR_OK ? ERR_OK : replica_driver_failed(self, err, info);
    }
    if (err == ERR_OK) {
        err = replica_room_tick(self);
        err = err == ERR_OK ? ERR_OK : replica_driver_failed(self, err, info);
    }
    if (err == ERR_OK) {
        err = replica_install_tick(self, info);
    }
    if (err == ERR_OK) {
        err = replica_fill_tick(self, info);
    }
    if (err == ERR_OK) {
        err = replica_resign_with_holes(self, info);
    }
    if (err == ERR_OK) {
        err = replica_upkeep_tick(self, info);
    }
    if (err == ERR_OK) {
        replica_scrub_tick(self);
        err = replica_compact_tick(self, info);
    }
    if (err == ERR_OK) {
        err = replica_retention_tick(self, info);
        replica_compact_lead_tick(self);
    }
    return settle(self, err, info);
}

enum err replica_receive(struct replica *self, const struct message *message, struct err_info *info)
{
    struct message rest = *message; /* borrows what message owns */
    enum err err;

    if (message->to != self->options.id || message->from == self->options.id) {
        return ERR_OK; /* Not for us: a node took over another's address. */
    }
    if (message->type == MESSAGE_APPEND_RESULT) {
        replica_note_peer(self, message);
        replica_note_peer_room(self, message->from, message->append_result.no_room);
    }
    if (!replica_cut_growth(self, message, &rest)) {
        return ERR_OK;
    }
    message = &rest;
    switch (message->type) {
    case MESSAGE_CLEANED:
        replica_receive_cleaned(self, message);
        err = ERR_OK;
        break;
    case MESSAGE_FETCH:
        err = replica_receive_fetch(self, message, info);
        break;
    case MESSAGE_FETCH_RESULT:
        err = replica_receive_fetch_result(self, message, info);
        break;
    case MESSAGE_APPEND:
    case MESSAGE_APPEND_RESULT:
    case MESSAGE_VOTE:
    case MESSAGE_VOTE_RESULT:
    case MESSAGE_SNAPSHOT:
    case MESSAGE_TIMEOUT_NOW:
    case MESSAGE_CONFIRM:
    case MESSAGE_CONFIRM_RESULT:
    default:
        err = raft_driver_receive(self->driver, replica_now_ms(self), message);
        err = err == ERR_OK ? ERR_OK : replica_driver_failed(self, err, info);
        break;
    }
    return settle(self, err, info);
}

/* Answers to `calls` appends. */
static enum err appended(struct replica *self, unsigned calls, struct err_info *info)
{
    enum err err;

    if (calls == 0) {
        return ERR_OK;
    }
    err = raft_driver_appended(self->driver, replica_now_ms(self), calls);
    return err == ERR_OK ? ERR_OK : replica_driver_failed(self, err, info);
}

enum err replica_journal_done(struct replica *self, struct journal_task *list,
                              struct err_info *info)
{
    enum err err = ERR_OK;
    unsigned calls = 0;

    while (list != NULL) {
        struct journal_task *next = list->next;

        if (err == ERR_OK && list->err != ERR_OK) {
            err = err_set(info, list->err, "the journal in '%s/journal' failed: %s", self->dir,
                          err_text(list->err));
        }
        if (err == ERR_OK && list->type == JOURNAL_APPEND) {
            calls++;
        } else if (err == ERR_OK && list->type == JOURNAL_RESET) {
            err = appended(self, calls, info);
            calls = 0;
            err = err == ERR_OK ? replica_install_reset_done(self, info) : err;
        }
        journal_task_free(list);
        list = next;
    }
    if (err == ERR_OK) {
        err = appended(self, calls, info);
    }
    return settle(self, err, info);
}

enum err replica_job_done(struct replica *self, struct replica_job *base, struct err_info *info)
{
    struct job *job = replica_job_of(base);

    ASSERT(job->replica == self);
    return settle(self, job->finish(self, job, info), info);
}

void replica_job_discard(struct replica *self, struct replica_job *base)
{
    struct job *job = replica_job_of(base);

    ASSERT(job->replica == self);
    job->err = ERR_CANCELED;
    (void)job->finish(self, job, NULL); /* Of interest to nobody, see the header. */
}

enum err replica_resign(struct replica *self)
{
    if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER) {
        return ERR_NOT_LEADER;
    }
    if (raft_driver_transferring(self->driver)) {
        return ERR_OK;
    }
    if (self->pending != NULL) {
        return ERR_AGAIN; /* What is proposed is answered first: its outcome would be unknown. */
    }
    return raft_driver_transfer(self->driver, replica_now_ms(self), 0);
}

/* ---- accessors ---- */

void replica_status(const struct replica *self, struct replica_status *ret_status)
{
    *ret_status = (struct replica_status){
        .id = self->options.id,
        .role = raft_driver_role(self->driver),
        .term = raft_driver_term(self->driver),
        .leader_id = raft_driver_leader(self->driver),
        .commit_index = raft_driver_commit_index(self->driver),
        .applied_index = fsm_applied_index(self->fsm),
        .first_index = raft_driver_first_index(self->driver),
        .last_index = raft_driver_last_index(self->driver),
        .snapshot_index = self->snapshot_index,
        .installing = self->installing.state != INSTALLING_IDLE,
        .records = fsm_records_applied(self->fsm),
        .memory = raft_driver_memory(self->driver),
        .disk_free = self->room.free,
        .disk_size = self->room.total,
        .disk_reserve = self->room.reserve,
        .disk_short = self->room.state != ROOM_PLENTY,
        .disk_critical = self->room.state == ROOM_CRITICAL,
    };
    raft_driver_membership(self->driver, &ret_status->membership);
    replica_fill_status(self, ret_status);
    replica_scrub_status(self, ret_status);
    replica_compact_status(self, ret_status);
}

struct catalog *replica_catalog(struct replica *self)
{
    return fsm_catalog(self->fsm);
}

struct raft_driver *replica_driver(struct replica *self)
{
    return self->driver;
}

struct fsm *replica_fsm(struct replica *self)
{
    return self->fsm;
}

void replica_check(const struct replica *self)
{
    raft_driver_check(self->driver);
    fsm_check(self->fsm);
    ASSERT(IMPLIES(self->pending != NULL, raft_driver_role(self->driver) == RAFT_ROLE_LEADER));
    ASSERT(
        IMPLIES(self->held_acks.first != NULL, raft_driver_role(self->driver) == RAFT_ROLE_LEADER));
    ASSERT(IMPLIES(self->pending == NULL, self->pending_size == 0));
    ASSERT(IMPLIES(self->queue == NULL, self->queue_size == 0));
    ASSERT(IMPLIES(self->installing.state == INSTALLING_IDLE,
                   fsm_applied_index(self->fsm) == raft_driver_applied_index(self->driver)));
}
