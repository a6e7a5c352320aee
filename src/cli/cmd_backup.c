/*
 * quorlog backup: copies what a live cluster holds into a directory, and checks such a directory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "archive/restore.h"
#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/fleet.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/question.h"
#include "quorlog.pb-c.h"

enum {
    CHUNK_SIZE = 4 << 20,
    TRIES = 5,
    CONNECT_MS = 3000,
    FRAME_SIZE_MAX = 300 << 20,
    BEHIND_MS = 3000, /* a node that is behind is waited for so long */
    LOOK_AGAIN_MS = 10,
};

static const struct option_spec options[] = {
    CALLER_OPTIONS,
    {"topic", 't', "NAME", true, "back up this topic, and others so named; default: all"},
    {"data", 0, "DATA", false,
     "data directory of a node on this machine: link its files if possible"},
    {"rate", 0, "SIZE", false, "copy at most so many bytes a second; default 0: no bound"},
    {"verify", 0, NULL, false, "check what is in DIR, without any node"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

struct backup_run {
    const struct invocation *invocation;
    const char *dir;
    struct fleet fleet;
    struct client *client; /* of the node that is read from */
    uint64_t node_id;
    uint64_t index_min; /* the leader had applied it when we began: all that was acknowledged */
    struct progress progress;
    const char *topics[OPTION_REPEATS_MAX];
    struct backup_totals totals;
    struct err_info info; /* why the last try failed */
};

/* ---- the node ---- */

/* The better one to read from stands first: followers that have much, the leader, the rest. */
static int rank(const struct fleet *fleet, const struct fleet_node *node)
{
    if (node->holes > 0 || strcmp(node->state, "unreachable") == 0 ||
        strcmp(node->state, "installing") == 0) {
        return 2;
    }
    return node->id == fleet->leader_id ? 1 : 0;
}

static void sort_nodes(struct fleet *fleet)
{
    for (unsigned i = 1; i < fleet->count; i++) {
        for (unsigned j = i; j > 0; j--) {
            struct fleet_node *a = &fleet->nodes[j - 1];
            struct fleet_node *b = &fleet->nodes[j];
            struct fleet_node swap = *a;
            int order = rank(fleet, a) - rank(fleet, b);

            if (order < 0 || (order == 0 && a->applied >= b->applied)) {
                break;
            }
            *a = *b;
            *b = swap;
        }
    }
}

static enum err open_client(struct backup_run *self, const struct fleet_node *node)
{
    struct client_options client = {.servers = node->address,
                                    .name = "quorlog-cli",
                                    .frame_size_max = FRAME_SIZE_MAX,
                                    .connect_timeout_ms = CONNECT_MS};

    if (caller_timeout(self->invocation, &client.timeout_ms) != EXIT_OK) {
        return ERR_INVALID; /* It was said, and is not tried again. */
    }
    self->node_id = node->id;
    return client_new(&client, NULL, &self->client, &self->info);
}

/* ---- one try ---- */

static enum err ask_manifest(struct backup_run *self, struct reply *ret_reply,
                             Quorlog__ManifestReply **ret_manifest)
{
    Quorlog__ManifestRequest request = QUORLOG__MANIFEST_REQUEST__INIT;

    question_try(self->client, QUORLOG__FRAME_TYPE__FRAME_MANIFEST, &request.base,
                 &quorlog__manifest_reply__descriptor, ret_reply);
    if (ret_reply->err != ERR_OK) {
        return err_set(&self->info, ret_reply->err, "%s", ret_reply->text);
    }
    *ret_manifest =
        quorlog__manifest_reply__unpack(NULL, ret_reply->header_size, ret_reply->header);
    ASSERT(*ret_manifest != NULL); /* The client has looked at it. */
    if (strlen((*ret_manifest)->cluster_id) >= BACKUP_CLUSTER_ID_SIZE ||
        (*ret_manifest)->index == 0 || (*ret_manifest)->term == 0) {
        quorlog__manifest_reply__free_unpacked(*ret_manifest, NULL);
        reply_fini(ret_reply);
        return err_set(&self->info, ERR_PROTOCOL, "the node's answer makes no sense");
    }
    return ERR_OK;
}

/* Whatever was acknowledged before the backup began is in it, whichever node it is made from. */
static enum err ask_fresh_manifest(struct backup_run *self, struct reply *ret_reply,
                                   Quorlog__ManifestReply **ret_manifest)
{
    const struct timespec pause = {.tv_nsec = LOOK_AGAIN_MS * 1000000};
    uint64_t index = 0;

    for (unsigned waited_ms = 0; waited_ms <= BEHIND_MS; waited_ms += LOOK_AGAIN_MS) {
        enum err err = ask_manifest(self, ret_reply, ret_manifest);

        if (err != ERR_OK || (*ret_manifest)->index >= self->index_min) {
            return err;
        }
        index = (*ret_manifest)->index;
        quorlog__manifest_reply__free_unpacked(*ret_manifest, NULL);
        reply_fini(ret_reply);
        (void)nanosleep(&pause, NULL); /* Cut short, it looks sooner. */
    }
    return err_set(&self->info, ERR_LAGGING,
                   "node %llu is at entry %llu, and %llu was applied when the backup began",
                   (unsigned long long)self->node_id, (unsigned long long)index,
                   (unsigned long long)self->index_min);
}

static enum err begin(struct backup_run *self, struct backup_writer **ret_writer)
{
    const struct invocation *invocation = self->invocation;
    Quorlog__ManifestReply *manifest = NULL;
    struct backup_source source;
    struct reply reply;
    enum err err = ask_fresh_manifest(self, &reply, &manifest);

    if (err != ERR_OK) {
        return err;
    }
    source = (struct backup_source){
        .cluster_id = manifest->cluster_id,
        .index = manifest->index,
        .term = manifest->term,
        .manifest = reply.body,
        .manifest_size = reply.body_size,
        .topics = option_given(invocation, "topic") ? self->topics : NULL,
        .topic_count = option_count(invocation, "topic"),
        .data = option_value(invocation, "data"),
    };
    err = backup_begin(io_real(), self->dir, &source, ret_writer, &self->info);
    quorlog__manifest_reply__free_unpacked(manifest, NULL);
    reply_fini(&reply);
    return err;
}

/* Batches of what is wanted. */
static enum err fetch(struct backup_run *self, struct backup_writer *writer,
                      const struct backup_want *want)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;
    struct reply reply;
    uint64_t rate = self->progress.rate;
    enum err err;

    request.topic = (char *)want->name; /* not written to */
    request.start = QUORLOG__START__START_OFFSET;
    request.offset = want->offset;
    request.bytes_max = rate > 0 && rate < CHUNK_SIZE ? (uint32_t)rate : CHUNK_SIZE;
    question_try(self->client, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request.base,
                 &quorlog__consume_reply__descriptor, &reply);
    if (reply.err != ERR_OK) {
        return err_set(&self->info, reply.err, "%s", reply.text);
    }
    if (reply.body_size == 0) {
        err = err_set(&self->info, ERR_RANGE, "the node has no more of topic '%s'", want->name);
    } else {
        err = backup_add(writer, reply.body, reply.body_size, &self->info);
    }
    progress_add(&self->progress, want->name, reply.body_size, want->offset, want->end);
    reply_fini(&reply);
    return err;
}

static enum err copy_from(struct backup_run *self)
{
    struct backup_writer *writer;
    struct backup_want want;
    bool wanted = true;
    enum err err = begin(self, &writer);

    if (err != ERR_OK) {
        return err;
    }
    while (err == ERR_OK && wanted) {
        err = backup_next(writer, &wanted, &want, &self->info);
        if (err == ERR_OK && wanted) {
            err = fetch(self, writer, &want);
        }
    }
    if (err != ERR_OK) {
        backup_abort(writer);
        return err;
    }
    return backup_end(writer, &self->totals, &self->info);
}

/* Whether another node, or a new look at the same, may help: what failed is not on our side. */
static bool is_worth_another(enum err err)
{
    switch ((int)err) {
    case ERR_INVALID:
    case ERR_LOCKED:
    case ERR_WRONG_CLUSTER:
    case ERR_IO:
    case ERR_NOSPACE:
    case ERR_NOMEM:
    case ERR_NOT_FOUND:
    case ERR_VERSION:
    case ERR_UNSUPPORTED:
        return false;
    default:
        return true;
    }
}

/* Node after node. A topic that was deleted meanwhile, too, is told by the next look. */
static int run_copy(struct backup_run *self)
{
    enum err err = ERR_NO_LEADER;

    (void)err_set(&self->info, err, "no node has data");
    for (unsigned i = 0; i < TRIES && err != ERR_OK && is_worth_another(err); i++) {
        const struct fleet_node *node;

        if (self->fleet.count == 0) {
            break;
        }
        node = &self->fleet.nodes[i % self->fleet.count];
        err = open_client(self, node);
        if (err == ERR_OK) {
            err = copy_from(self);
            caller_close(self->client);
        }
    }
    progress_clear(&self->progress);
    return err == ERR_OK ? EXIT_OK : fail("%s", self->info.text);
}

static void print_totals(const struct backup_run *self, bool json)
{
    const struct backup_totals *totals = &self->totals;
    char copied[24];
    char linked[24];

    if (json) {
        json_print(json_pack("{s:s,s:o,s:o,s:o,s:o,s:o,s:o}", "backup", self->dir, "node",
                             json_number(self->node_id), "index", json_number(totals->index),
                             "topics", json_number(totals->topics), "records",
                             json_number(totals->records), "copied", json_number(totals->copied),
                             "linked", json_number(totals->linked)));
        return;
    }
    printf("backup %s: %zu topic%s up to entry %llu, from node %llu; new: %llu records, %s copied, "
           "%s linked\n",
           self->dir, totals->topics, totals->topics == 1 ? "" : "s",
           (unsigned long long)totals->index, (unsigned long long)self->node_id,
           (unsigned long long)totals->records, human_size(copied, totals->copied),
           human_size(linked, totals->linked));
}

static int run_make(const struct invocation *invocation)
{
    struct backup_run *self = calloc(1, sizeof *self);
    struct err_info info;
    uint64_t rate;
    int code;

    ASSERT(self != NULL); /* Some kilobytes. */
    self->invocation = invocation;
    self->dir = invocation->arguments[0];
    if (option_number(invocation, "rate", 0, 0, UINT64_C(1) << 40, &rate, &info) != ERR_OK) {
        free(self);
        return usage("%s", info.text);
    }
    for (unsigned i = 0; i < option_count(invocation, "topic"); i++) {
        self->topics[i] = option_value_at(invocation, "topic", i);
    }
    code = fleet_open(invocation, &self->fleet);
    if (code == EXIT_OK) {
        progress_begin(&self->progress, "backup", rate);
        sort_nodes(&self->fleet);
        for (unsigned i = 0; i < self->fleet.count; i++) {
            const struct fleet_node *node = &self->fleet.nodes[i];

            self->index_min = node->applied > self->index_min ? node->applied : self->index_min;
        }
        code = run_copy(self);
        fleet_close(&self->fleet);
    }
    if (code == EXIT_OK) {
        print_totals(self, option_given(invocation, "json"));
    }
    free(self);
    return code;
}

/* ---- checking ---- */

struct checked {
    struct progress progress;
    uint64_t bytes;
};

static void on_checked(void *arg, const char *topic, size_t size)
{
    struct checked *checked = arg;

    checked->bytes += size;
    progress_add(&checked->progress, topic, size, 0, 0);
}

static int run_verify(const struct invocation *invocation)
{
    const char *dir = invocation->arguments[0];
    struct checked checked = {.bytes = 0};
    struct backup backup;
    struct err_info info;
    uint64_t records = 0;
    char size[24];
    enum err err = backup_open(io_real(), dir, &backup, &info);

    if (err != ERR_OK) {
        return fail("%s", info.text);
    }
    progress_begin(&checked.progress, "verify", 0);
    err = backup_verify(&backup, on_checked, &checked, &info);
    progress_clear(&checked.progress);
    for (size_t i = 0; i < backup.topic_count; i++) {
        records += backup.topics[i].end - backup.topics[i].start;
    }
    if (err == ERR_OK && option_given(invocation, "json")) {
        json_print(json_pack("{s:s,s:s,s:o,s:o,s:o,s:o}", "backup", dir, "cluster",
                             backup.cluster_id, "index", json_number(backup.index), "topics",
                             json_number(backup.topic_count), "records", json_number(records),
                             "bytes", json_number(checked.bytes)));
    } else if (err == ERR_OK) {
        printf("backup %s holds: %zu topic%s, %llu records, %s, up to entry %llu\n", dir,
               backup.topic_count, backup.topic_count == 1 ? "" : "s", (unsigned long long)records,
               human_size(size, checked.bytes), (unsigned long long)backup.index);
    }
    backup_close(&backup);
    return err == ERR_OK ? EXIT_OK : fail("%s", info.text);
}

static int run_backup(const struct invocation *invocation)
{
    return option_given(invocation, "verify") ? run_verify(invocation) : run_make(invocation);
}

const struct command_spec command_backup = {
    .name = "backup",
    .synopsis = "DIR",
    .summary = "copy what a live cluster holds into DIR, or what is new since the last time",
    .details =
        "Everything up to one entry: topics with their records, offsets and digests, cursors,\n"
        "producers. A follower is read from, if there is one. Every batch is verified before it\n"
        "is written. Into the same DIR again only what is new is copied; an interrupted run\n"
        "leaves the backup that was there. --data makes hard links to a node's sealed files where\n"
        "both lie on one file system: quick, but the same bytes on the same disk.\n"
        "\n"
        "examples:\n"
        "  quorlog backup /backup/events -s n1:7437,n2:7437,n3:7437\n"
        "  quorlog backup --verify /backup/events\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_backup,
};
