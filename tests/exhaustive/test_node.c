/*
 * A node's data directory: whose it is, beginning a cluster anew from it, and making it out of a
 * backup; and the backup itself.
 *
 * The promise: an identity, and a disk's id, once returned stay; who begins anew keeps all entries
 * and has the old members or himself alone; a restore that was cut short leaves nothing that a node
 * would start from; a backup that was cut short leaves the one before.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "archive/backup.h"
#include "archive/chained.h"
#include "archive/restore.h"
#include "lib/exhaust.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/fsm.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/recovery.h"
#include "server/identity.h"
#include "server/restore.h"

#define CLUSTER "0123456789abcdef0123456789abcdef"

static struct config config;
static struct err_info info;

static enum err told(enum err err)
{
    ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "%s without a text", err_name(err));
    info.text[0] = '\0';
    return err;
}

static void set(const char *name, const char *value)
{
    ck_assert_int_eq(config_set_flag(&config, name, value, &info), ERR_OK);
}

static void prepare_nothing(struct io *io)
{
    (void)io;
    info.text[0] = '\0';
    config_init(&config);
    set("data", "/data");
    set("id", "2");
    set("bootstrap", "1=n1:1,2=n2:1,3=n3:1");
}

/* ---- identity ---- */

static char cluster_id[CLUSTER_ID_SIZE]; /* returned; "": never */
static uint64_t disk_id;                 /* the same; 0: never */
static bool adopting;                    /* It may be CLUSTER, too. */

static enum err use_identity(struct io *io, uint64_t fresh)
{
    struct identity identity;
    enum err err = told(identity_open(&identity, io, &config, &info));

    if (err != ERR_OK) {
        return err;
    }
    ck_assert(cluster_id[0] == '\0' || strcmp(cluster_id, identity.cluster_id) == 0 ||
              (adopting && strcmp(identity.cluster_id, CLUSTER) == 0));
    memcpy(cluster_id, identity.cluster_id, sizeof cluster_id);
    err = told(identity_open_disk(&identity, "/data", fresh, &info));
    if (err == ERR_OK) {
        ck_assert(disk_id == 0 ? identity.disk_id != 0 : identity.disk_id == disk_id);
        disk_id = identity.disk_id;
    }
    identity_close(&identity);
    return err;
}

static void prepare_no_identity(struct io *io)
{
    prepare_nothing(io);
    cluster_id[0] = '\0';
    disk_id = 0;
    adopting = false;
}

static void prepare_identity(struct io *io)
{
    prepare_no_identity(io);
    ck_assert_int_eq(use_identity(io, 11), ERR_OK);
}

static enum err run_identity(struct io *io)
{
    enum err err = use_identity(io, 11);

    return exhaust_may_retry(err) ? use_identity(io, 11) : err;
}

/* As an older program wrote it. */
static void prepare_older_identity(struct io *io)
{
    static const char older[] =
        "version = 2\ncluster = quorlog\ncluster_id = " CLUSTER "\nnode_id = 2\norigin = join\n";

    prepare_no_identity(io);
    ck_assert_int_eq(io_make_dir(io, "/", "data", NULL), ERR_OK);
    ck_assert_int_eq(io_replace_file(io, "/data", "identity", older, strlen(older), NULL), ERR_OK);
    memcpy(cluster_id, CLUSTER, sizeof cluster_id);
}

static enum err run_open_existing(struct io *io)
{
    struct identity identity;
    enum err err = told(identity_open_existing(&identity, io, &config, &info));

    if (err == ERR_OK) {
        ck_assert_str_eq(identity.cluster_id, cluster_id);
        identity_close(&identity);
    }
    return err;
}

static enum err run_adopt(struct io *io)
{
    struct identity identity;
    enum err err = told(identity_open(&identity, io, &config, &info));

    if (err == ERR_OK) {
        adopting = true;
        err = told(identity_adopt(&identity, &config, IDENTITY_RECOVER, CLUSTER, &info));
        identity_close(&identity);
    }
    if (err == ERR_OK) {
        memcpy(cluster_id, CLUSTER, sizeof cluster_id);
    }
    return err;
}

static enum err recover_identity(struct io *io)
{
    return use_identity(io, 22);
}

/* ---- beginning anew ---- */

static bool anew;          /* acknowledged */
static uint64_t last_term; /* seen */

static void write_entries(struct io *io)
{
    struct membership members = {.count = 0};
    struct journal_contents contents;
    struct journal *journal;
    struct entry entries[2];
    struct block *block;
    size_t size;

    ck_assert_int_eq(membership_add(&members, 1, "n1:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(membership_add(&members, 2, "n2:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(membership_add(&members, 3, "n3:1", MEMBER_VOTER), ERR_OK);
    size = membership_encoded_size(&members);
    block = entry_block_new((uint32_t)size);
    membership_encode(&members, block->data + ENTRY_HEADER_SIZE);
    entry_seal(block, (uint32_t)size, 1, 1, ENTRY_CHANGE, &entries[0]);
    block = entry_block_new(0);
    entry_seal(block, 0, 2, 4, ENTRY_BARRIER, &entries[1]);
    ck_assert_int_eq(journal_open(
                         &(struct journal_options){
                             .io = io, .dir = "/data/journal", .node_id = 2, .segment_size = 65536},
                         &journal, &contents, NULL),
                     ERR_OK);
    ck_assert_int_eq(journal_append(journal, entries, 2, NULL), ERR_OK);
    journal_close(journal);
    journal_contents_fini(&contents);
    entry_unref(&entries[0]);
    entry_unref(&entries[1]);
}

static void prepare_node(struct io *io)
{
    struct ballot ballot;

    prepare_nothing(io);
    anew = false;
    last_term = 5;
    ck_assert_int_eq(io_make_dir(io, "/", "data", NULL), ERR_OK);
    ck_assert_int_eq(io_make_dir(io, "/data", "journal", NULL), ERR_OK);
    ck_assert_int_eq(ballot_open(&ballot, io, "/data", 2, true, NULL), ERR_OK);
    ck_assert_int_eq(ballot_write(&ballot, 5, 3, NULL), ERR_OK);
    ballot_close(&ballot);
    write_entries(io);
}

static enum err run_inspect(struct io *io)
{
    struct recovery_report report;
    enum err err = told(recovery_inspect(io, "/data", 2, &report, &info));

    if (exhaust_may_retry(err)) {
        err = told(recovery_inspect(io, "/data", 2, &report, &info));
    }
    return err;
}

static enum err run_anew(struct io *io)
{
    struct recovery_report report;
    enum err err = told(recovery_begin_anew(io, "/data", 2, "n2:1", &report, &info));

    anew = anew || err == ERR_OK;
    return err;
}

static enum err recover_anew(struct io *io)
{
    struct recovery_report report;
    enum err err = told(recovery_inspect(io, "/data", 2, &report, &info));

    if (err != ERR_OK) {
        return err;
    }
    ck_assert_uint_ge(report.term, last_term);
    last_term = report.term;
    ck_assert_uint_ge(report.last_index, 2);
    ck_assert(report.membership.count == (report.last_index == 2 ? 3 : 1));
    ck_assert(!anew || report.last_index > 2);
    if (report.last_index > 2) {
        ck_assert_uint_eq(report.membership.members[0].id, 2);
        ck_assert_uint_gt(report.last_term, 5);
        anew = true;
    }
    return exhaust_is_last() ? run_anew(io) : ERR_OK;
}

/* ---- the backup ---- */

static struct chained topics[2];
static uint64_t backup_index; /* acknowledged; 0: none */

static void make_topics(void)
{
    static bool made;

    if (!made) {
        chained_init(&topics[0], 4096, "a");
        chained_init(&topics[1], 8192, "b");
        for (int i = 0; i < 6; i++) {
            chained_add(&topics[0], 2, 700);
            chained_add(&topics[1], 1, 25);
        }
        made = true;
    }
}

/* Of topic `a` `count` batches are there, of `b` all. */
static struct slice manifest_of(size_t count, uint64_t index)
{
    const struct chained whole = topics[0];
    struct slice manifest;

    topics[0].count = count;
    topics[0].size = whole.positions[count];
    topics[0].end = batch_end_offset(&whole.headers[count - 1]);
    memcpy(topics[0].digest, whole.headers[count - 1].digest, DIGEST_SIZE);
    manifest = chained_manifest(topics, 2, index);
    topics[0] = whole;
    return manifest;
}

static enum err feed(struct backup_writer *writer)
{
    enum err err = ERR_OK;
    bool wanted = true;

    while (err == ERR_OK && wanted) {
        const struct chained *topic;
        struct backup_want want;
        size_t at = 0;

        err = told(backup_next(writer, &wanted, &want, &info));
        if (err != ERR_OK || !wanted) {
            break;
        }
        topic = strcmp(want.name, "a") == 0 ? &topics[0] : &topics[1];
        while (topic->headers[at].base_offset < want.offset) {
            at++;
        }
        /* Two batches at a time. */
        err = told(backup_add(writer, topic->bytes + topic->positions[at],
                              topic->positions[at + 2 < topic->count ? at + 2 : topic->count] -
                                  topic->positions[at],
                              &info));
    }
    return err;
}

static enum err back_up(struct io *io, size_t count, uint64_t index)
{
    struct backup_source source = {.cluster_id = CLUSTER, .index = index, .term = 3};
    struct backup_totals totals;
    struct backup_writer *writer;
    static struct slice manifests[2]; /* One that stops would not give it back. */
    struct slice manifest = manifests[count == 6];
    enum err err;

    if (manifest.block == NULL) {
        exhaust_pause();
        manifest = manifests[count == 6] = manifest_of(count, index);
        exhaust_resume();
    }
    source.manifest = manifest.data;
    source.manifest_size = manifest.size;
    err = told(backup_begin(io, "/backup", &source, &writer, &info));
    if (err == ERR_OK) {
        err = feed(writer);
        if (err == ERR_OK) {
            err = told(backup_end(writer, &totals, &info));
        } else {
            backup_abort(writer);
        }
    }
    backup_index = err == ERR_OK ? index : backup_index;
    return err;
}

static void prepare_no_backup(struct io *io)
{
    prepare_nothing(io);
    make_topics();
    backup_index = 0;
}

static void prepare_backup(struct io *io)
{
    prepare_no_backup(io);
    ck_assert_int_eq(back_up(io, 4, 50), ERR_OK);
}

static enum err run_back_up(struct io *io)
{
    enum err err = back_up(io, 6, 60);

    return exhaust_may_retry(err) ? back_up(io, 6, 60) : err;
}

static enum err verify(struct io *io, uint64_t *ret_index)
{
    struct backup backup;
    enum err err = told(backup_open(io, "/backup", &backup, &info));

    if (err == ERR_OK) {
        err = told(backup_verify(&backup, NULL, NULL, &info));
        *ret_index = backup.index;
        backup_close(&backup);
    }
    return err;
}

static enum err run_verify(struct io *io)
{
    uint64_t index;
    enum err err = verify(io, &index);

    return exhaust_may_retry(err) ? verify(io, &index) : err;
}

static enum err recover_backup(struct io *io)
{
    uint64_t index = 0;
    enum err err = verify(io, &index);

    ck_assert_msg(err == ERR_OK || (err == ERR_NOT_FOUND && backup_index == 0), "%s",
                  err_name(err));
    ck_assert(index == backup_index || index == 60);
    return back_up(io, 6, 60);
}

/* ---- the restore ---- */

static bool restored;

static enum err restore(struct io *io)
{
    const struct restore_request request = {.backup = "/backup", .config = &config};
    struct restored result;
    enum err err = told(server_restore(io, &request, &result, &info));

    if (err == ERR_OK) {
        restored = true;
        ck_assert_uint_eq(result.index, 50);
    }
    return err;
}

static void prepare_restore(struct io *io)
{
    prepare_backup(io);
    restored = false;
}

static bool exists(struct io *io, const char *path)
{
    int fd = io->open(io, path, O_RDONLY, 0);

    if (fd >= 0) {
        (void)io->close(io, fd); /* Read only. */
    }
    return fd >= 0;
}

static int note_name(void *arg, const char *name)
{
    (void)snprintf(arg, 256, "%.255s", name); /* fits */
    return 1;
}

static void remove_tree(struct io *io, const char *path)
{
    char child[600];
    char name[256];

    while (io->list(io, path, note_name, name) == 1) {
        (void)snprintf(child, sizeof child, "%s/%s", path, name); /* fits */
        if (io->unlink(io, child) == -EISDIR) {
            remove_tree(io, child);
        }
    }
    ck_assert_int_eq(io->rmdir(io, path), 0);
}

/* Everything that a node finds at its first start. */
static void check_restored(struct io *io)
{
    struct fsm_options options = {.io = io, .dir = "/data/group-1/topics"};
    struct manifest manifest;
    struct snapshot snapshot;
    struct ballot ballot;
    struct topic *topic;
    struct fsm *fsm;

    ck_assert(exists(io, "/data/identity"));
    ck_assert_int_eq(snapshot_load(io, "/data/group-1", &snapshot, NULL), ERR_OK);
    ck_assert_uint_eq(snapshot.index, 50);
    ck_assert_int_eq(
        manifest_decode(snapshot.manifest.data, snapshot.manifest.size, &manifest, NULL), ERR_OK);
    ck_assert_int_eq(fsm_open(&options, &manifest, &fsm, NULL), ERR_OK);
    topic = catalog_find(fsm_catalog(fsm), "a");
    ck_assert_uint_eq(log_end(topic->log), 8);
    topic_unref(topic);
    fsm_close(fsm);
    manifest_fini(&manifest);
    snapshot_fini(&snapshot);
    ck_assert_int_eq(ballot_open(&ballot, io, "/data/group-1", 2, false, NULL), ERR_OK);
    ck_assert_uint_eq(ballot.term, 3);
    ballot_close(&ballot);
}

static enum err recover_restored(struct io *io)
{
    ck_assert(!restored || exists(io, "/data"));
    if (!exists(io, "/data")) {
        if (exists(io, "/data.restoring")) {
            remove_tree(io, "/data.restoring"); /* As the message says. */
        }
        ck_assert_int_eq(restore(io), ERR_OK);
    }
    check_restored(io);
    return ERR_OK;
}

static const struct exhaust_scenario scenarios[] = {
    {"identity_new", prepare_no_identity, run_identity, recover_identity,
     EXHAUST_TWICE | EXHAUST_STOPS},
    {"identity", prepare_identity, run_identity, recover_identity, EXHAUST_STOPS},
    {"identity_older", prepare_older_identity, run_identity, recover_identity,
     EXHAUST_TWICE | EXHAUST_STOPS},
    {"identity_existing", prepare_identity, run_open_existing, recover_identity, 0},
    {"identity_adopt", prepare_identity, run_adopt, recover_identity,
     EXHAUST_TWICE | EXHAUST_STOPS},
    {"inspect", prepare_node, run_inspect, recover_anew, 0},
    {"begin_anew", prepare_node, run_anew, recover_anew, EXHAUST_TWICE},
    {"backup_new", prepare_no_backup, run_back_up, recover_backup, EXHAUST_STOPS},
    {"backup_more", prepare_backup, run_back_up, recover_backup, EXHAUST_STOPS},
    {"backup_verify", prepare_backup, run_verify, recover_backup, EXHAUST_STOPS},
    {"restore", prepare_restore, restore, recover_restored, EXHAUST_STOPS},
};

int main(void)
{
    return exhaust_main("node", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
