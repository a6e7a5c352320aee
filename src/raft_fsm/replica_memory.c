/*
 * What the entries that a replica holds may take of memory: entries_size_max, whatever comes and
 * however long a snapshot takes.
 *
 * Entries go when a snapshot is taken, whoever else has them: a follower that lags is given the
 * snapshot (replica_install.c) and pins nothing. Until then,
 *   - a leader proposes no more; proposals stay queued, and the group leaves requests in their
 *     mailbox, whose bound the senders feel. What raft needs itself passes: barriers, members.
 *   - a follower takes no more new entries, as if they had not been sent: it hears its leader,
 *     learns what is committed, applies that, takes its own snapshot, and is given the rest again.
 *     Entries at indexes that it has pass: they are the same, or shorten its log.
 *
 * Nothing stands still by it. A snapshot is begun well below the bound, and what is applied goes
 * with it but for what trails, which is no more than half of the bound. What is not applied goes
 * only once it is committed, and that may take entries that are still to come: so a follower that
 * has nothing which a snapshot could free takes them. What is not applied is bounded by the
 * leaders: each counts what it inherited as in flight, too.
 */
#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

void replica_memory_defaults(struct replica_options *options)
{
    size_t least = options->trailing_size < SIZE_MAX / 4
                       ? 2 * options->trailing_size + options->inflight_size_max
                       : SIZE_MAX;

    ASSERT(options->inflight_size_max > 0 && options->inflight_size_max < SIZE_MAX / 8);
    if (options->entries_size_max == 0) {
        options->entries_size_max =
            options->snapshot_size < SIZE_MAX / 4 && least < SIZE_MAX / 4
                ? (size_t)options->snapshot_size + least + 2 * options->inflight_size_max
                : SIZE_MAX;
    }
    if (options->entries_size_max < least) {
        options->entries_size_max = least;
    }
}

bool replica_memory_full(const struct replica *self)
{
    return raft_driver_memory(self->driver) >= self->options.entries_size_max;
}

bool replica_memory_crowded(const struct replica *self)
{
    return raft_driver_memory(self->driver) >= self->options.entries_size_max / 4 * 3;
}

/* Whether a snapshot is being taken, or will be, that frees some of what is held. */
static bool will_free(const struct replica *self)
{
    return self->taking.state != TAKING_IDLE ||
           raft_driver_applied_index(self->driver) > self->snapshot_index;
}

void replica_cut_entries(const struct replica *self, struct message *message)
{
    uint64_t last = raft_driver_last_index(self->driver);
    unsigned count = 0;

    if (message->type != MESSAGE_APPEND || !replica_memory_full(self) || !will_free(self)) {
        return;
    }
    ASSERT(IMPLIES(message->append.count > 0, message->append.entries != NULL));
    while (count < message->append.count && message->append.entries[count].index <= last) {
        count++;
    }
    message->append.count = count;
    message->append.entries = count > 0 ? message->append.entries : NULL;
}
