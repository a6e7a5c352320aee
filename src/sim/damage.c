/*
 * Damage to disks, within what the others can make good: of all nodes one at a time is harmed, and
 * another has everything.
 *
 *   topics' files     lost, or a bit turned, while up or down: found by the scrubber, by readers or
 *                     at start; what was there is fetched from others
 *   journal, snapshot a bit turned: nothing happens until the next start, which must refuse; then
 *                     the operator replaces the node
 *   ballot            in one slot: the other one counts; in both: as for the journal
 *   the whole disk    the node is replaced; perhaps somebody starts it with an emptied disk first
 *
 * Damage that a start overlooks is a violation, as is a changed byte that any reader sees (S1).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/journal_segment.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

enum {
    FILES_MAX = 256,
    LOOK_MS = 2000,
    SNAPSHOTS = 2,    /* one of them began and ended since */
    BALLOT_SIZE = 44, /* of a slot, that counts */
    BALLOT_BLOCK = 4096,
};

/* ---- who may be harmed ---- */

static bool is_whole(const struct sim_node *node)
{
    struct replica_status status;

    if (node->replica == NULL || node->wiped || node->harm != 0) {
        return false;
    }
    replica_status(node->replica, &status);
    return status.holes == 0 && !status.installing;
}

static bool is_voter(const struct membership *members, const struct sim_node *node)
{
    const struct member *member = membership_find(members, node->id);

    return member != NULL && member->role == MEMBER_VOTER;
}

/* Whether a majority of the voters is whole without this one, and one of them has all that it has
 * applied: nothing done here takes the last copy of anything. */
static bool may_harm(struct sim_cluster *cluster, const struct sim_node *node)
{
    const struct sim_node *leader = sim_leader(cluster);
    struct membership members;
    unsigned whole = 0;
    bool complete = false;

    if (leader == NULL || node->replica == NULL || cluster->admin.last_id >= SIM_IDS_MAX) {
        return false;
    }
    raft_driver_membership(replica_driver(leader->replica), &members);
    if (!is_voter(&members, node) || raft_driver_changing(replica_driver(leader->replica))) {
        return false;
    }
    for (unsigned i = 1; i <= cluster->node_count; i++) {
        const struct sim_node *other = &cluster->nodes[i];

        if (other->harm != 0) {
            return false;
        }
        if (other == node || !is_voter(&members, other) || !is_whole(other) ||
            replica_disk_id(other->replica, node->id) == 0) {
            continue;
        }
        whole++;
        complete =
            complete || (other->applied >= node->applied &&
                         raft_driver_stored_index(replica_driver(other->replica)) >= node->applied);
    }
    return complete && whole >= membership_voters(&members) / 2 + 1;
}

/* ---- files ---- */

struct files {
    const char *begin; /* of the paths that are wanted */
    const char *end;
    char paths[FILES_MAX][96];
    uint64_t sizes[FILES_MAX];
    unsigned count;
};

static void note_file(void *arg, const char *path, uint64_t size)
{
    struct files *self = arg;
    size_t length = strlen(path);
    size_t end = strlen(self->end);

    if (strncmp(path, self->begin, strlen(self->begin)) == 0 && length >= end &&
        strcmp(path + length - end, self->end) == 0 && self->count < FILES_MAX && size > 0) {
        self->sizes[self->count] = size;
        (void)snprintf(self->paths[self->count++], sizeof self->paths[0], "%s", path); /* fits */
    }
}

static struct files *find_files(struct sim_node *node, const char *begin, const char *end)
{
    struct files *self = calloc(1, sizeof *self);

    ASSERT(self != NULL);
    self->begin = begin;
    self->end = end;
    mem_io_files(&node->disk.mem, note_file, self);
    return self;
}

/* Reads past the node's own calls: no plan strikes here. */
static size_t read_file(struct sim_node *node, const char *path, uint64_t position, void *to,
                        size_t size)
{
    struct mem_node *file;

    if (mem_tree_find(&node->disk.mem.tree, path, &file) < 0 || file->is_dir) {
        return 0;
    }
    return mem_file_read(&file->file, to, size, position);
}

static void flip(struct sim_node *node, const char *path, uint64_t position)
{
    int rv = mem_io_flip(&node->disk.mem, path, position,
                         (unsigned)prng_range(&node->cluster->prng, 0, 7));

    ASSERT(rv == 0);
    sim_trace(node->cluster, "n%u: a bit of %s at %llu is turned", node->id, path, U(position));
}

/* ---- topics ---- */

static void lose_files(struct sim_cluster *cluster, struct sim_node *node)
{
    struct prng *prng = &cluster->prng;
    unsigned percent = prng_percent(prng, 30) ? 100 : (unsigned)prng_range(prng, 1, 40);
    struct io *io = &node->disk.mem.io;
    struct files *files;
    unsigned lost = 0;

    sim_node_crash(node, prng_percent(prng, 50), prng_range(prng, 1, 3000));
    node->harm |= SIM_HARM_FILES;
    node->whole = 0;
    files = find_files(node, "/topics/", "");
    for (unsigned i = 0; i < files->count; i++) {
        char *path = files->paths[i];
        int rv;

        if (!prng_percent(prng, percent)) {
            continue;
        }
        rv = io->unlink(io, path);
        ASSERT(rv == 0);
        *strrchr(path, '/') = '\0';
        rv = io->sync_dir(io, path);
        ASSERT(rv == 0);
        if (percent == 100 && io->rmdir(io, path) == 0) {
            rv = io->sync_dir(io, "/topics");
            ASSERT(rv == 0);
        }
        lost++;
    }
    sim_trace(cluster, "n%u has lost %u files", node->id, lost);
    cluster->stats->damaged++;
    free(files);
}

static bool flip_topic(struct sim_node *node, const char *end, unsigned harm)
{
    struct prng *prng = &node->cluster->prng;
    struct files *files = find_files(node, "/topics/", end);
    unsigned times = (unsigned)prng_range(prng, 1, 3);
    bool any = files->count > 0;

    if (any && prng_percent(prng, 30)) {
        sim_node_crash(node, prng_percent(prng, 50), prng_range(prng, 1, 3000));
        free(files);
        files = find_files(node, "/topics/", end); /* As the crash left them. */
        any = files->count > 0;
    }
    for (unsigned i = 0; any && i < times; i++) {
        unsigned at = (unsigned)prng_range(prng, 0, files->count - 1);

        flip(node, files->paths[at], prng_range(prng, 0, files->sizes[at] - 1));
        node->harm |= harm;
        node->whole = 0;
    }
    free(files);
    return any;
}

/* ---- journal, snapshot, ballot ---- */

/* Notes what stands there after the damage: a start that finds the same must refuse it. */
static void mark(struct sim_node *node, const char *path, uint64_t position, size_t size)
{
    struct sim_mark *mark = &node->mark;

    ASSERT(size <= sizeof mark->bytes);
    (void)snprintf(mark->path, sizeof mark->path, "%s", path); /* fits */
    mark->position = position;
    mark->size = read_file(node, path, position, mark->bytes, size);
}

static bool is_marked(struct sim_node *node)
{
    const struct sim_mark *mark = &node->mark;
    uint8_t bytes[sizeof mark->bytes];
    size_t size = read_file(node, mark->path, mark->position, bytes, mark->size);

    return size == mark->size && memcmp(bytes, mark->bytes, size) == 0;
}

/* A batch of some segment, and the highest sequence in all of them. */
struct pick {
    char path[96];
    uint64_t position;
    uint64_t size; /* that counts: header and frames */
    uint64_t sequence;
    uint64_t newest;
    uint64_t seen;
};

static void pick_batch(struct sim_node *node, const char *path, uint64_t file_size,
                       struct pick *pick)
{
    uint8_t bytes[JOURNAL_BATCH_HEADER_SIZE];
    struct journal_batch batch;
    uint64_t segment;
    uint64_t salt;

    if (read_file(node, path, 0, bytes, sizeof bytes) < sizeof bytes) {
        return;
    }
    segment = bytes_get_u64(bytes + 8);
    salt = bytes_get_u64(bytes + 24);
    for (uint64_t at = JOURNAL_HEADER_SIZE; at < file_size;) {
        size_t size = read_file(node, path, at, bytes, sizeof bytes);

        if (size < sizeof bytes || !journal_batch_decode(bytes, segment, salt, &batch)) {
            break;
        }
        pick->newest = batch.sequence > pick->newest ? batch.sequence : pick->newest;
        if (prng_next(&node->cluster->prng) % ++pick->seen == 0) {     /* each as likely */
            (void)snprintf(pick->path, sizeof pick->path, "%s", path); /* fits */
            pick->position = at;
            pick->size = JOURNAL_BATCH_HEADER_SIZE + (uint64_t)batch.size;
            pick->sequence = batch.sequence;
        }
        at += journal_batch_extent(batch.size);
    }
}

/* Of any batch but the last: that one, without a seal, cannot be told from a torn write. */
static bool flip_journal(struct sim_node *node)
{
    struct files *files = find_files(node, "/journal/", ".journal");
    struct pick pick = {.seen = 0};
    uint64_t position;

    for (unsigned i = 0; i < files->count; i++) {
        pick_batch(node, files->paths[i], files->sizes[i], &pick);
    }
    free(files);
    if (pick.seen == 0 || pick.sequence == pick.newest) {
        return false;
    }
    position = prng_range(&node->cluster->prng, 0, pick.size - 1);
    flip(node, pick.path, pick.position + position);
    mark(node, pick.path, pick.position, JOURNAL_BATCH_HEADER_SIZE);
    node->harm |= SIM_HARM_JOURNAL;
    return true;
}

static bool flip_snapshot(struct sim_node *node)
{
    struct files *files = find_files(node, "/snapshot", "snapshot");
    bool any = files->count > 0;

    if (any) {
        flip(node, "/snapshot", prng_range(&node->cluster->prng, 0, files->sizes[0] - 1));
        mark(node, "/snapshot", files->sizes[0] > 64 ? files->sizes[0] - 64 : 0, 64);
        node->harm |= SIM_HARM_SNAPSHOT;
    }
    free(files);
    return any;
}

static bool flip_ballot(struct sim_node *node)
{
    struct prng *prng = &node->cluster->prng;
    uint8_t first[BALLOT_SIZE];
    uint8_t second[BALLOT_SIZE];
    uint64_t slot = prng_range(prng, 0, 1);

    if (read_file(node, "/ballot", 0, first, sizeof first) < sizeof first ||
        read_file(node, "/ballot", BALLOT_BLOCK, second, sizeof second) < sizeof second ||
        memcmp(first, second, sizeof first) != 0) {
        return false; /* They differ where one was turned before, and nothing was voted since. */
    }
    flip(node, "/ballot", slot * BALLOT_BLOCK + prng_range(prng, 0, BALLOT_SIZE - 1));
    if (prng_percent(prng, 40)) {
        flip(node, "/ballot", (1 - slot) * BALLOT_BLOCK + prng_range(prng, 0, BALLOT_SIZE - 1));
        mark(node, "/ballot", 0, BALLOT_SIZE);
        node->harm |= SIM_HARM_BALLOT;
    }
    return true;
}

/* ---- the disk ---- */

static void destroy(struct sim_cluster *cluster, struct sim_node *node)
{
    bool believed = (cluster->options.broken & SIM_BREAK_AMNESIA) != 0;
    bool wipe = (sim_may(cluster, SIM_FAULT_WIPE) && prng_percent(&cluster->prng, 60)) || believed;

    sim_trace(cluster, "n%u: its disk is lost", node->id);
    sim_node_stop(node);
    node->harm |= SIM_HARM_DISK;
    if (wipe) {
        sim_node_renew(node, node->id);
        if (believed) {
            node->wiped = false; /* Nobody sees anything wrong about it. */
            node->harm = 0;
        }
        sim_node_start(node);
    }
}

bool sim_damage_act(struct sim_cluster *cluster, struct sim_node *node, enum sim_fault kind)
{
    bool done = true;

    if (!sim_may(cluster, kind) || cluster->healed || !may_harm(cluster, node)) {
        return false;
    }
    if (kind == SIM_FAULT_LOSE) {
        lose_files(cluster, node);
    } else if (kind == SIM_FAULT_FLIP_TOPIC) {
        done = flip_topic(node, ".store", SIM_HARM_FILES);
    } else if (kind == SIM_FAULT_FLIP_INDEX) {
        done = flip_topic(node, ".index", SIM_HARM_INDEX);
    } else if (kind == SIM_FAULT_FLIP_JOURNAL) {
        done = flip_journal(node);
    } else if (kind == SIM_FAULT_FLIP_SNAPSHOT) {
        done = flip_snapshot(node);
    } else if (kind == SIM_FAULT_FLIP_BALLOT) {
        done = flip_ballot(node);
    } else {
        ASSERT(kind == SIM_FAULT_DESTROY);
        destroy(cluster, node);
    }
    if (done) {
        sim_fault(cluster, kind);
    }
    return done;
}

/* ---- what comes of it ---- */

enum { HARM_REFUSED = SIM_HARM_JOURNAL | SIM_HARM_SNAPSHOT | SIM_HARM_BALLOT };

bool sim_damage_explains(struct sim_node *self, enum err err)
{
    return err == ERR_CORRUPT && (self->harm & HARM_REFUSED) != 0;
}

void sim_damage_started(struct sim_node *self)
{
    if ((self->harm & HARM_REFUSED) != 0 && is_marked(self)) {
        sim_violation(&self->cluster->oracle, "node %u opens, and %s is damaged at %llu", self->id,
                      self->mark.path, U(self->mark.position));
    }
    self->whole = 0;
    self->harm &= ~(unsigned)(HARM_REFUSED | SIM_HARM_INDEX);
}

/* Whether all that its topics should hold can be read. */
static bool reads_whole(struct sim_cluster *cluster, struct sim_node *node)
{
    struct sim_seen seen = {.may_be_damaged = true};
    bool damaged;

    sim_oracle_read(&cluster->oracle, node->id, replica_catalog(node->replica), &seen);
    damaged = seen.damaged;
    sim_seen_fini(&seen);
    return !damaged;
}

/* Made good for good: what was put in must outlast a power loss, too, which a snapshot begun
 * since sees to. */
static void look_at(struct sim_cluster *cluster, struct sim_node *node)
{
    struct replica_status status;

    replica_status(node->replica, &status);
    if (status.holes > 0 || status.installing) {
        node->whole = 0;
        return;
    }
    if (node->whole == 0) {
        node->whole = reads_whole(cluster, node) ? 1 : 0;
    } else if (status.snapshot_index > node->whole_index && ++node->whole > SNAPSHOTS) {
        node->harm &= ~(unsigned)SIM_HARM_FILES;
        sim_trace(cluster, "n%u is whole again", node->id);
    }
    node->whole_index = status.snapshot_index;
}

void sim_damage_look(struct sim_cluster *cluster)
{
    for (unsigned i = 1; i <= cluster->node_count; i++) {
        struct sim_node *node = &cluster->nodes[i];

        if ((node->harm & SIM_HARM_FILES) != 0 && node->replica != NULL && !node->wiped &&
            cluster->now_ms >= node->checked_ms + LOOK_MS && cluster->now_ms >= node->paused_ms) {
            node->checked_ms = cluster->now_ms;
            look_at(cluster, node);
        }
    }
}

bool sim_damage_healed(const struct sim_cluster *cluster)
{
    for (unsigned i = 1; i <= cluster->node_count; i++) {
        const struct sim_node *node = &cluster->nodes[i];
        unsigned harm = node->harm;

        if (node->whole > 0) {
            harm &= ~(unsigned)SIM_HARM_FILES;
        }
        if (harm != 0) {
            return false;
        }
    }
    return true;
}
