/*
 * The state machine: opening, each command, a long history, snapshots with their file, forgetting
 * deleted topics and trimmed records, installing another node's snapshot, filling holes, making
 * holes of damage.
 *
 * The promise: with the newest snapshot file and the entries behind it a node comes to the state
 * that it would have come to undisturbed, whatever failed; and after a failure it does nothing
 * more. Where memory is short in the middle of an entry the node stops.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "lib/exhaust.h"
#include "raft_fsm/history.h"
#include "raft_fsm/manifest.h"
#include "sim/mem_io.h"

enum { SAVED_AT = 5, BASE = 8, ENTRIES = 12, LONG = 60, INSTALL_AT = 40 };

/* A node that nothing disturbs. */
struct source {
    struct mem_io disk;
    struct fsm *fsm;
};

static struct history history;
static struct source all;        /* with all entries */
static struct source installing; /* with those up to INSTALL_AT */
static void (*built)(void);      /* What `history` was made by. */
static bool holes;               /* are allowed: others have everything */

static struct fsm_options options_for(struct io *io)
{
    return (struct fsm_options){.io = io,
                                .dir = "/topics",
                                .segment_size_max = 4096,
                                .index_interval = 512,
                                .holes_allowed = holes};
}

static void source_init(struct source *self, uint64_t to)
{
    struct fsm_options options;

    mem_io_init(&self->disk);
    ck_assert_int_eq(self->disk.io.mkdir(&self->disk.io, "/topics", 0700), 0);
    options = options_for(&self->disk.io);
    ck_assert_int_eq(fsm_open(&options, NULL, &self->fsm, NULL), ERR_OK);
    history_apply(&history, self->fsm, to);
}

/* ---- entries ---- */

static void put(struct packer *packer)
{
    history.count++;
    history.entries[history.count - 1] = packer_entry(packer, history.count, 1);
}

static uint64_t topic_id(unsigned number)
{
    return 1 * COMMAND_COUNT_MAX + number; /* They are created by the first entry. */
}

static void put_batch(unsigned topic, uint32_t sequence, uint32_t body_size)
{
    struct packer packer;

    packer_begin(&packer, 1000 * (int64_t)(history.count + 1));
    packer_produce(&packer, topic_id(topic),
                   &(struct produced){.producer_id = 1,
                                      .sequence = sequence,
                                      .record_count = 2,
                                      .body_size = body_size,
                                      .seed = history.count});
    put(&packer);
}

static void put_cursor(const char *name, uint64_t offset)
{
    struct cursor_change change = {.topic = "a", .offset = offset, .metadata = "where I am"};
    struct packer packer;

    memcpy(change.name, name, strlen(name) + 1);
    packer_begin(&packer, 8000);
    packer_set_cursor(&packer, &change);
    put(&packer);
}

/* Entries 1 to 8: three topics, a producer, batches, a cursor. */
static void begin_history(void)
{
    struct packer packer;

    exhaust_pause();
    history = (struct history){.entries = calloc(LONG, sizeof *history.entries)};
    packer_begin(&packer, 1000);
    packer_create(&packer, "a");
    packer_create(&packer, "b");
    packer_create(&packer, "c");
    packer_init_producer(&packer);
    put(&packer);
    put_batch(0, 0, 1500);
    put_batch(1, 0, 900);
    put_batch(0, 2, 1500);
    put_cursor("first", 2);
    put_batch(0, 4, 1500);
    put_batch(0, 6, 100);
    put_cursor("second", 4);
    ck_assert_uint_eq(history.count, BASE);
}

/* Entries 10 to 12, behind the one that it is about. */
static void end_history(void)
{
    put_batch(0, 1000, 50); /* a gap: refused */
    put_cursor("first", 5);
    put_batch(1, 2, 700);
    ck_assert_uint_eq(history.count, ENTRIES);
    exhaust_resume();
}

#define HISTORY(name, ...)                                                                         \
    static void build_##name(void)                                                                 \
    {                                                                                              \
        struct packer packer;                                                                      \
                                                                                                   \
        begin_history();                                                                           \
        packer_begin(&packer, 9000);                                                               \
        __VA_ARGS__;                                                                               \
        put(&packer);                                                                              \
        end_history();                                                                             \
    }                                                                                              \
    static void prepare_##name(struct io *io)                                                      \
    {                                                                                              \
        prepare(io, build_##name);                                                                 \
    }

static void build_long(void)
{
    history_init(&history, 4711, LONG);
}

static void build_trimmed(void)
{
    static struct mem_io leader;

    mem_io_init(&leader);
    ck_assert_int_eq(leader.io.mkdir(&leader.io, "/topics", 0700), 0);
    history_init_trimmed(&history, 4714, LONG, &leader.io, "/topics");
    mem_io_fini(&leader);
}

/* ---- a node ---- */

static enum err save(struct io *io, const struct fsm *fsm, const struct slice *manifest)
{
    struct snapshot snapshot = {
        .index = fsm_applied_index(fsm), .term = 1, .membership_index = 1, .manifest = *manifest};

    snapshot.membership.data = (const uint8_t *)"members";
    snapshot.membership.size = 7;
    return snapshot_save(io, "/", &snapshot, NULL);
}

static enum err sync_fsm(struct fsm *fsm)
{
    struct fsm_sync *sync;
    enum err err = fsm_sync_begin(fsm, &sync);

    if (err == ERR_OK && sync != NULL) {
        (void)fsm_sync_run(sync, NULL); /* end says the same, and more */
        err = fsm_sync_end(fsm, sync);
    }
    return err;
}

/* As a replica takes a snapshot. */
static enum err take_snapshot(struct io *io, struct fsm *fsm)
{
    struct manifest manifest;
    struct slice bytes;
    enum err err = fsm_manifest(fsm, &manifest);

    if (err != ERR_OK) {
        return err;
    }
    err = manifest_encode(&manifest, &bytes);
    manifest_fini(&manifest);
    if (err != ERR_OK) {
        return err;
    }
    err = sync_fsm(fsm);
    err = err == ERR_OK ? save(io, fsm, &bytes) : err;
    block_unref(bytes.block);
    return err == ERR_OK ? fsm_forget(fsm, fsm_applied_index(fsm), NULL) : err;
}

/* As a replica starts: the snapshot's file, and what it promises. */
static enum err open_fsm(struct io *io, struct fsm **ret_fsm)
{
    struct fsm_options options = options_for(io);
    struct manifest manifest = {0};
    struct err_info info = {.text = ""};
    struct snapshot snapshot;
    enum err err = snapshot_load(io, "/", &snapshot, &info);
    bool found = err == ERR_OK;

    if (found) {
        err = manifest_decode(snapshot.manifest.data, snapshot.manifest.size, &manifest, &info);
        snapshot_fini(&snapshot);
    } else if (err == ERR_NOT_FOUND) {
        err = ERR_OK;
    }
    if (err == ERR_OK) {
        err = fsm_open(&options, found ? &manifest : NULL, ret_fsm, &info);
    }
    manifest_fini(&manifest);
    ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "%s without a text", err_name(err));
    ck_assert_msg(err != ERR_CORRUPT && err != ERR_DIVERGED, "%s", info.text);
    return err;
}

static enum err apply_to(struct fsm *fsm, uint64_t to)
{
    struct err_info info = {.text = ""};
    enum err err = ERR_OK;

    while (err == ERR_OK && fsm_applied_index(fsm) < to) {
        err = fsm_apply(fsm, &history.entries[fsm_applied_index(fsm)], NULL, NULL, &info);
        ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "%s without a text", err_name(err));
    }
    return err;
}

/* From the other node, chunk by chunk; the other node's memory is not ours. */
static enum err fill(struct fsm *fsm, unsigned chunks)
{
    struct fsm_hole hole;
    enum err err = ERR_OK;

    while (chunks-- > 0 && err == ERR_OK && fsm_next_hole(fsm, &hole) == ERR_OK) {
        struct topic *topic;
        static struct slice batches; /* Of the chunk before, maybe of a node that stopped. */
        struct chain after = hole.chain;
        uint64_t end;
        bool met;

        exhaust_pause();
        block_unref(batches.block);
        topic = fsm_find_promised(all.fsm, hole.topic->id);
        if (topic == NULL) {
            topic = fsm_find_promised(installing.fsm, hole.topic->id);
        }
        ck_assert_ptr_nonnull(topic);
        ck_assert_int_eq(
            log_read(topic->log, after.offset, hole.to, 1500, &batches.block, &end, NULL), ERR_OK);
        topic_unref(topic);
        exhaust_resume();
        batches.data = batches.block->data;
        batches.size = batches.block->size;
        ck_assert_int_eq(chain_follow(&after, batches.data, batches.size, NULL), ERR_OK);
        met = after.offset == hole.to;
        err = met ? fsm_hole_meets(&hole, &after, NULL) : ERR_OK;
        err = err == ERR_OK ? fsm_fill(fsm, &hole, &batches, &after, met, NULL) : err;
        fsm_hole_fini(&hole);
    }
    return err;
}

static void compare(struct fsm *fsm)
{
    exhaust_pause();
    history_assert_equal(fsm, all.fsm);
    fsm_check(fsm);
    exhaust_resume();
}

static void prepare(struct io *io, void (*build)(void))
{
    struct fsm *fsm;

    if (built != build) {
        ASSERT(built == NULL); /* A process for each test. */
        build();
        source_init(&all, history.count);
        source_init(&installing, history.count < INSTALL_AT ? history.count : INSTALL_AT);
        built = build;
    }
    holes = false;
    ck_assert_int_eq(io->mkdir(io, "/topics", 0700), 0);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    ck_assert_int_eq(open_fsm(io, &fsm), ERR_OK);
    ck_assert_int_eq(apply_to(fsm, SAVED_AT), ERR_OK);
    ck_assert_int_eq(take_snapshot(io, fsm), ERR_OK);
    ck_assert_int_eq(apply_to(fsm, BASE), ERR_OK);
    fsm_close(fsm);
}

HISTORY(create, packer_create(&packer, "new"))
HISTORY(create_again, packer_create(&packer, "a"))
HISTORY(delete, packer_delete(&packer, "b"))
HISTORY(delete_and_create, packer_delete(&packer, "a"); packer_create(&packer, "a"))
HISTORY(produce, packer_produce(&packer, topic_id(2),
                                &(struct produced){.producer_id = 1,
                                                   .record_count = 3,
                                                   .body_size = 3000,
                                                   .has_expect = true}))
HISTORY(produce_rolling, packer_produce(&packer, topic_id(0),
                                        &(struct produced){.record_count = 1, .body_size = 4000}))
HISTORY(init_producer, packer_init_producer(&packer))
HISTORY(raise_epoch,
        packer_raise(&packer, &(struct producer_claim){.id = 1, .topic_id = topic_id(0)}))
HISTORY(set_cursor,
        packer_set_cursor(&packer,
                          &(struct cursor_change){
                              .topic = "a", .name = "third", .offset = 1, .metadata = "x"}))
HISTORY(move_cursor,
        packer_set_cursor(&packer,
                          &(struct cursor_change){
                              .topic = "a", .name = "first", .offset = 6, .metadata = "there"}))
HISTORY(delete_cursor,
        packer_delete_cursor(&packer, &(struct cursor_change){.topic = "a", .name = "first"}))

HISTORY(trim, packer_trim(&packer, &(struct topic_trim){
                                       .topic_id = topic_id(0), .start = 5, .batch_start = 4}))
HISTORY(trim_all, packer_trim(&packer, &(struct topic_trim){
                                           .topic_id = topic_id(0), .start = 8, .batch_start = 8}))
HISTORY(age, packer_age(&packer, 5000000))

static void prepare_trimmed(struct io *io)
{
    prepare(io, build_trimmed);
}

static const struct topic_settings tuned = {.segment_bytes = 5000, .flush_ms = 20};

HISTORY(create_with, packer_create_with(&packer, "new", &tuned))
HISTORY(alter, packer_alter(&packer, "a",
                            &(struct topic_change){.which = TOPIC_SETTING_SEGMENT_BYTES |
                                                            TOPIC_SETTING_FLUSH_MS,
                                                   .to = tuned}))
HISTORY(upkeep, packer.time_us = 5000000;
        packer_alter(&packer, "a",
                     &(struct topic_change){.which = TOPIC_SETTING_SEGMENT_MS |
                                                     TOPIC_SETTING_FLUSH_MS,
                                            .to = {.segment_ms = 2000, .flush_ms = 20}}))

static void prepare_long(struct io *io)
{
    prepare(io, build_long);
}

static void prepare_nothing(struct io *io)
{
    if (built == NULL) {
        build_produce();
        source_init(&all, ENTRIES);
        built = build_produce;
    }
    holes = false;
    ck_assert_int_eq(io->mkdir(io, "/topics", 0700), 0);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
}

/* All is there and synced, others have it, too. */
static void prepare_whole(struct io *io)
{
    struct fsm *fsm;

    prepare(io, build_produce);
    ck_assert_int_eq(open_fsm(io, &fsm), ERR_OK);
    ck_assert_int_eq(apply_to(fsm, ENTRIES), ERR_OK);
    ck_assert_int_eq(take_snapshot(io, fsm), ERR_OK);
    fsm_close(fsm);
    holes = true;
}

static enum err install(struct io *io, struct fsm *fsm)
{
    static struct slice bytes; /* A node that stops would not give it back. */
    struct manifest manifest;
    enum err err;

    if (bytes.block == NULL) {
        exhaust_pause();
        bytes = history_manifest_bytes(installing.fsm);
        exhaust_resume();
    }
    err = manifest_decode(bytes.data, bytes.size, &manifest, NULL);
    if (err == ERR_OK) {
        err = fsm_install(fsm, &manifest, NULL);
        manifest_fini(&manifest);
    }
    err = err == ERR_OK ? sync_fsm(fsm) : err;
    err = err == ERR_OK ? save(io, fsm, &bytes) : err;
    return err == ERR_OK ? fsm_forget(fsm, fsm_applied_index(fsm), NULL) : err;
}

/* An install that has just happened: the holes are there. */
static void prepare_installed(struct io *io)
{
    struct fsm *fsm;

    prepare(io, build_long);
    holes = true;
    ck_assert_int_eq(open_fsm(io, &fsm), ERR_OK);
    ck_assert_int_eq(install(io, fsm), ERR_OK);
    fsm_close(fsm);
}

/* ---- operations ---- */

static enum err apply_one(struct io *io, struct fsm *fsm)
{
    (void)io;
    return apply_to(fsm, BASE + 1);
}

static enum err apply_all(struct io *io, struct fsm *fsm)
{
    (void)io;
    return apply_to(fsm, history.count);
}

static enum err apply_with_snapshots(struct io *io, struct fsm *fsm)
{
    enum err err = ERR_OK;

    for (uint64_t to = BASE + 9; err == ERR_OK && to < history.count; to += 9) {
        err = apply_to(fsm, to);
        err = err == ERR_OK ? take_snapshot(io, fsm) : err;
    }
    return err;
}

static enum err delete_and_forget(struct io *io, struct fsm *fsm)
{
    enum err err = apply_to(fsm, BASE + 1);

    return err == ERR_OK ? take_snapshot(io, fsm) : err;
}

static enum err install_and_apply(struct io *io, struct fsm *fsm)
{
    enum err err = install(io, fsm);

    return err == ERR_OK ? apply_to(fsm, INSTALL_AT + 5) : err;
}

/* A segment is sealed that has grown old, and all of it is synced. */
static enum err keep(struct io *io, struct fsm *fsm)
{
    struct fsm_sync *sync = NULL;
    enum err err = apply_to(fsm, BASE + 1);

    (void)io;
    err = err == ERR_OK ? fsm_upkeep(fsm, 100, &sync, NULL) : err;
    if (err == ERR_OK && sync != NULL) {
        (void)fsm_sync_run(sync, NULL); /* end says the same, and more */
        err = fsm_sync_end(fsm, sync);
    }
    return err;
}

static enum err fill_some(struct io *io, struct fsm *fsm)
{
    (void)io;
    return fill(fsm, 5);
}

static enum err fill_all_and_save(struct io *io, struct fsm *fsm)
{
    enum err err = fill(fsm, UINT32_MAX);

    return err == ERR_OK ? take_snapshot(io, fsm) : err;
}

static enum err punch(struct io *io, struct fsm *fsm)
{
    struct topic *topic = catalog_find(fsm_catalog(fsm), "a");
    enum err err;

    (void)io;
    ck_assert_ptr_nonnull(topic);
    err = fsm_punch(fsm, topic, 1, 3, NULL);
    if (exhaust_may_retry(err)) {
        err = fsm_punch(fsm, topic, 1, 3, NULL); /* NOMEM: nothing was changed. */
    }
    topic_unref(topic);
    return err;
}

static enum err punch_and_fill(struct io *io, struct fsm *fsm)
{
    enum err err = punch(io, fsm);

    return err == ERR_OK ? fill_all_and_save(io, fsm) : err;
}

/* After a failure in the middle of an entry nothing is applied any more. */
static void check_failed_state(struct fsm *fsm, uint64_t before)
{
    uint64_t index = fsm_applied_index(fsm);

    if (index < history.count && index >= before) {
        enum err err = fsm_apply(fsm, &history.entries[index], NULL, NULL, NULL);

        ck_assert_msg(err == ERR_FAILED || err == ERR_OK, "%s", err_name(err));
    }
}

typedef enum err (*operation_cb)(struct io *io, struct fsm *fsm);

static enum err open_then(struct io *io, operation_cb operation)
{
    struct fsm *fsm = NULL;
    uint64_t index;
    enum err err = open_fsm(io, &fsm);

    ck_assert_int_eq(err, ERR_OK);
    ck_assert_int_eq(apply_to(fsm, BASE), ERR_OK);
    index = fsm_applied_index(fsm);
    exhaust_start();
    err = operation(io, fsm);
    if (exhaust_heal()) {
        if (err != ERR_OK) {
            check_failed_state(fsm, index);
        } else if (!holes && apply_to(fsm, history.count) == ERR_OK) {
            compare(fsm); /* It did the right thing, whatever failed. */
        }
    }
    fsm_close(fsm);
    return err;
}

#define RUN(operation)                                                                             \
    static enum err run_##operation(struct io *io)                                                 \
    {                                                                                              \
        return open_then(io, operation);                                                           \
    }

RUN(apply_one)
RUN(apply_all)
RUN(apply_with_snapshots)
RUN(take_snapshot)
RUN(delete_and_forget)
RUN(install_and_apply)
RUN(keep)
RUN(fill_some)
RUN(fill_all_and_save)
RUN(punch)
RUN(punch_and_fill)

static enum err run_open(struct io *io)
{
    struct fsm *fsm = NULL;
    enum err err = open_fsm(io, &fsm);

    if (exhaust_may_retry(err)) {
        err = open_fsm(io, &fsm);
    }
    err = err == ERR_OK ? apply_to(fsm, BASE) : err;
    fsm_close(fsm);
    return err;
}

static enum err run_install_and_apply_with_holes(struct io *io)
{
    holes = true;
    return run_install_and_apply(io);
}

/* ---- what is left ---- */

static enum err recover(struct io *io)
{
    struct fsm *fsm = NULL;
    enum err err = open_fsm(io, &fsm);

    if (err == ERR_OK && !exhaust_is_dead()) {
        err = apply_to(fsm, history.count);
        err = err == ERR_OK && holes ? fill(fsm, UINT32_MAX) : err;
    }
    if (err == ERR_OK && !exhaust_is_dead()) {
        compare(fsm);
    }
    fsm_close(fsm);
    return err;
}

#define COMMAND(name)                                                                              \
    {                                                                                              \
        "apply_" #name, prepare_##name, run_apply_one, recover, EXHAUST_STOPS                      \
    }

static const struct exhaust_scenario scenarios[] = {
    {"open_a_new_one", prepare_nothing, run_open, recover, EXHAUST_STOPS | EXHAUST_TWICE},
    {"open", prepare_produce, run_open, recover, EXHAUST_STOPS},
    COMMAND(create),
    COMMAND(create_again),
    COMMAND(create_with),
    COMMAND(alter),
    COMMAND(delete),
    COMMAND(delete_and_create),
    COMMAND(produce),
    COMMAND(produce_rolling),
    COMMAND(init_producer),
    COMMAND(raise_epoch),
    COMMAND(set_cursor),
    COMMAND(move_cursor),
    COMMAND(delete_cursor),
    COMMAND(trim),
    COMMAND(trim_all),
    COMMAND(age),
    {"apply_all", prepare_long, run_apply_all, recover, EXHAUST_STOPS},
    {"apply_with_snapshots", prepare_long, run_apply_with_snapshots, recover, EXHAUST_STOPS},
    {"trim_with_snapshots", prepare_trimmed, run_apply_with_snapshots, recover, EXHAUST_STOPS},
    {"trim_and_forget", prepare_trim, run_delete_and_forget, recover, EXHAUST_STOPS},
    {"trim_all_and_forget", prepare_trim_all, run_delete_and_forget, recover, EXHAUST_STOPS},
    {"install_trimmed", prepare_trimmed, run_install_and_apply_with_holes, recover, EXHAUST_STOPS},
    {"take_snapshot", prepare_produce, run_take_snapshot, recover, EXHAUST_TWICE},
    {"delete_and_forget", prepare_delete_and_create, run_delete_and_forget, recover, 0},
    {"install", prepare_long, run_install_and_apply_with_holes, recover, EXHAUST_STOPS},
    {"upkeep", prepare_upkeep, run_keep, recover, EXHAUST_STOPS},
    {"fill_some", prepare_installed, run_fill_some, recover, EXHAUST_STOPS},
    {"fill_all_and_save", prepare_installed, run_fill_all_and_save, recover, EXHAUST_STOPS},
    {"punch", prepare_whole, run_punch, recover, 0},
    {"punch_and_fill", prepare_whole, run_punch_and_fill, recover, EXHAUST_STOPS},
};

int main(void)
{
    return exhaust_main("fsm", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
