/*
 * Every call to the disk fails once, with and without the machine losing power then. Whatever
 * happens: with the last manifest that was durable and the entries, the state machine comes to the
 * state that it would have come to anyway.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>

#include "history.h"
#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "sim/mem_io.h"

/* The last entries come after the last snapshot: where a life ended with closing what was deleted,
 * nobody would hear of a failure. */
enum { ENTRIES = 76, SNAPSHOT_EVERY = 9, INSTALL_AT = 40 };

/* A node: its disk, and what a journal and a snapshot file would keep for it. */
struct node {
    struct mem_io disk;
    struct manifest manifest; /* producers is NULL: none yet */
    bool holes;               /* are allowed: there are others that have everything */
};

static struct history history;
static struct node source; /* Undisturbed, with all entries applied. */
static struct fsm *source_fsm;
static struct fsm *source_at_install; /* The same at INSTALL_AT. */
static struct node source_at_install_node;

static struct fsm_options options_for(struct io *io)
{
    return (struct fsm_options){
        .io = io, .dir = "/topics", .segment_size_max = 4096, .index_interval = 512};
}

static void node_init(struct node *self)
{
    *self = (struct node){0};
    mem_io_init(&self->disk);
    ck_assert_int_eq(self->disk.io.mkdir(&self->disk.io, "/topics", 0700), 0);
    ck_assert_int_eq(self->disk.io.sync_dir(&self->disk.io, "/"), 0);
}

static void node_fini(struct node *self)
{
    manifest_fini(&self->manifest);
    mem_io_fini(&self->disk);
}

/* Takes what `fsm` has as the snapshot, if the disk plays along. */
static enum err take_snapshot(struct node *self, struct fsm *fsm)
{
    struct manifest manifest;
    struct fsm_sync *sync;
    enum err err;

    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    err = fsm_sync_begin(fsm, &sync);
    if (err == ERR_OK && sync != NULL) {
        enum err run = fsm_sync_run(sync, NULL);

        err = fsm_sync_end(fsm, sync);
        ck_assert(run == ERR_OK || run == err); /* end has something to do, too. */
    }
    if (err != ERR_OK) {
        manifest_fini(&manifest);
        return err;
    }
    manifest_fini(&self->manifest);
    self->manifest = manifest;
    return fsm_forget(fsm, manifest.applied_index, NULL);
}

static enum err apply_to(struct node *self, struct fsm *fsm, uint64_t to)
{
    enum err err = ERR_OK;

    while (err == ERR_OK && fsm_applied_index(fsm) < to) {
        err = fsm_apply(fsm, &history.entries[fsm_applied_index(fsm)], NULL, NULL, NULL);
        if (err == ERR_OK && fsm_applied_index(fsm) % SNAPSHOT_EVERY == 0) {
            err = take_snapshot(self, fsm);
        }
    }
    return err;
}

static enum err open_node(struct node *self, struct io *io, struct fsm **ret_fsm)
{
    struct fsm_options options = options_for(io);
    struct err_info info = {0};
    enum err err;

    options.holes_allowed = self->holes;
    err = fsm_open(&options, self->manifest.producers == NULL ? NULL : &self->manifest, ret_fsm,
                   &info);

    ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "an error without a text");
    /* Nothing that was promised is ever missed. */
    ck_assert_msg(err != ERR_CORRUPT && err != ERR_DIVERGED, "%s", info.text);
    return err;
}

/* A life of a node: opens, applies all entries. */
static enum err live(struct node *self, struct io *io, struct fsm **ret_fsm)
{
    enum err err = open_node(self, io, ret_fsm);

    return err == ERR_OK ? apply_to(self, *ret_fsm, ENTRIES) : err;
}

/* The snapshot of another node becomes the state, and is durable. */
static enum err install(struct node *self, struct fsm *fsm)
{
    struct manifest manifest;
    struct fsm_sync *sync;
    enum err err;

    ck_assert_int_eq(fsm_manifest(source_at_install, &manifest), ERR_OK);
    err = fsm_install(fsm, &manifest, NULL);
    if (err == ERR_OK) {
        err = fsm_sync_begin(fsm, &sync);
    }
    if (err == ERR_OK && sync != NULL) {
        (void)fsm_sync_run(sync, NULL); /* end says the same */
        err = fsm_sync_end(fsm, sync);
    }
    if (err != ERR_OK) {
        manifest_fini(&manifest);
        return err;
    }
    manifest_fini(&self->manifest);
    self->manifest = manifest;
    return fsm_forget(fsm, manifest.applied_index, NULL);
}

/* A life with a few entries, an install, and the rest of the entries, while the holes are filled.
 */
static enum err live_installing(struct node *self, struct io *io, struct fsm **ret_fsm)
{
    enum err err;

    self->holes = true;
    err = open_node(self, io, ret_fsm);
    if (err == ERR_OK && fsm_applied_index(*ret_fsm) < INSTALL_AT / 2) {
        err = apply_to(self, *ret_fsm, INSTALL_AT / 2);
    }
    if (err == ERR_OK && fsm_applied_index(*ret_fsm) < INSTALL_AT) {
        err = install(self, *ret_fsm);
    }
    while (err == ERR_OK && fsm_applied_index(*ret_fsm) < ENTRIES) {
        (void)history_fill(*ret_fsm, source_at_install, 1, &err);
        err = err == ERR_OK ? apply_to(self, *ret_fsm, fsm_applied_index(*ret_fsm) + 1) : err;
    }
    if (err == ERR_OK) {
        /* What an earlier life lost above the install is of later entries. */
        (void)history_fill(*ret_fsm, source_fsm, UINT32_MAX, &err);
    }
    return err;
}

typedef enum err (*life)(struct node *self, struct io *io, struct fsm **ret_fsm);

static uint64_t draw(void *arg)
{
    return history_random(arg);
}

enum end { FAILS, DIES, LOSES_POWER };

/* The n-th call fails; *ret_calls: how many there were. */
static bool disturb(life live_once, unsigned n, enum end end)
{
    uint64_t random = n;
    struct faulty_io faulty;
    struct fsm *fsm = NULL;
    struct node node;
    unsigned calls;
    enum err err;

    node_init(&node);
    faulty_io_init(&faulty, &node.disk.io);
    faulty_io_fail_at(&faulty, n, n % 3 == 0 ? ENOSPC : EIO, end != FAILS);
    err = live_once(&node, &faulty.io, &fsm);
    calls = faulty_io_calls(&faulty);
    ck_assert(err == ERR_OK || err == ERR_IO || err == ERR_NOSPACE);
    ck_assert(err != ERR_OK || end == FAILS || calls < n || n == 0);
    fsm_close(fsm);
    ck_assert(end != FAILS || mem_io_open_count(&node.disk) == 0);
    if (end == LOSES_POWER) {
        mem_io_crash(&node.disk, draw, &random);
    } else if (end == DIES) {
        mem_io_kill(&node.disk);
    }
    fsm = NULL;
    ck_assert_int_eq(live_once(&node, &node.disk.io, &fsm), ERR_OK);
    history_assert_equal(fsm, source_fsm);
    fsm_check(fsm);
    fsm_close(fsm);
    ck_assert_uint_eq(mem_io_open_count(&node.disk), 0);
    node_fini(&node);
    return calls >= n;
}

static void disturb_everywhere(life live_once, enum end end, unsigned step)
{
    unsigned n = 1;

    while (disturb(live_once, n, end)) {
        n += step;
    }
    ck_assert_uint_gt(n, 150); /* There is something to disturb. */
}

static void setup(void)
{
    struct fsm_options options;

    history_init(&history, 4711, ENTRIES);
    node_init(&source);
    options = options_for(&source.disk.io);
    options.segment_size_max = 0;
    ck_assert_int_eq(fsm_open(&options, NULL, &source_fsm, NULL), ERR_OK);
    history_apply(&history, source_fsm, ENTRIES);
    ck_assert_uint_gt(fsm_records_applied(source_fsm), 100);
    node_init(&source_at_install_node);
    options.io = &source_at_install_node.disk.io;
    ck_assert_int_eq(fsm_open(&options, NULL, &source_at_install, NULL), ERR_OK);
    history_apply(&history, source_at_install, INSTALL_AT);
}

static void teardown(void)
{
    fsm_close(source_fsm);
    fsm_close(source_at_install);
    node_fini(&source);
    node_fini(&source_at_install_node);
    history_fini(&history);
}

START_TEST(a_call_that_fails_loses_and_doubles_nothing)
{
    disturb_everywhere(live, FAILS, 1);
}
END_TEST

START_TEST(a_process_that_dies_loses_and_doubles_nothing)
{
    disturb_everywhere(live, DIES, 5);
}
END_TEST

START_TEST(lost_power_loses_and_doubles_nothing)
{
    disturb_everywhere(live, LOSES_POWER, 1);
}
END_TEST

START_TEST(a_call_that_fails_during_an_install_loses_and_doubles_nothing)
{
    disturb_everywhere(live_installing, FAILS, 2);
}
END_TEST

START_TEST(lost_power_during_an_install_loses_and_doubles_nothing)
{
    disturb_everywhere(live_installing, LOSES_POWER, 2);
}
END_TEST

/* Power fails again and again, each life getting somewhat further than the one before. */
START_TEST(a_row_of_crashes_loses_and_doubles_nothing)
{
    uint64_t random = 5000 + (uint64_t)_i;
    struct fsm *fsm = NULL;
    struct node node;

    node_init(&node);
    for (unsigned crash = 0; crash < 12; crash++) {
        struct faulty_io faulty;

        faulty_io_init(&faulty, &node.disk.io);
        faulty_io_fail_at(&faulty, 1 + history_below(&random, 300), EIO, true);
        fsm = NULL;
        (void)live(&node, &faulty.io, &fsm); /* It may come to the end. */
        fsm_close(fsm);
        mem_io_crash(&node.disk, draw, &random);
    }
    fsm = NULL;
    ck_assert_int_eq(live(&node, &node.disk.io, &fsm), ERR_OK);
    history_assert_equal(fsm, source_fsm);
    fsm_close(fsm);
    node_fini(&node);
}
END_TEST

/* What a sync that is OK has covered is there with no entry to help. */
START_TEST(a_synced_manifest_opens_after_power_was_lost)
{
    uint64_t random = 6000 + (uint64_t)_i;
    struct slice before;
    struct slice after;
    struct fsm *fsm = NULL;
    struct node node;

    node_init(&node);
    ck_assert_int_eq(open_node(&node, &node.disk.io, &fsm), ERR_OK);
    ck_assert_int_eq(apply_to(&node, fsm, 10 + (uint64_t)_i), ERR_OK);
    ck_assert_int_eq(take_snapshot(&node, fsm), ERR_OK);
    before = history_manifest_bytes(fsm);
    ck_assert_int_eq(fsm_apply(fsm, &history.entries[10 + _i], NULL, NULL, NULL), ERR_OK);
    fsm_close(fsm);
    mem_io_crash(&node.disk, draw, &random);
    ck_assert_int_eq(open_node(&node, &node.disk.io, &fsm), ERR_OK);
    after = history_manifest_bytes(fsm);
    ck_assert_uint_eq(before.size, after.size);
    ck_assert_mem_eq(before.data, after.data, before.size);
    block_unref(before.block);
    block_unref(after.block);
    fsm_close(fsm);
    node_fini(&node);
}
END_TEST

START_TEST(a_full_disk_is_said_to_be_full)
{
    struct err_info info = {0};
    struct fsm *fsm = NULL;
    struct node node;
    enum err err = ERR_OK;

    node_init(&node);
    ck_assert_int_eq(open_node(&node, &node.disk.io, &fsm), ERR_OK);
    mem_io_set_free(&node.disk, 3000);
    for (uint64_t i = 0; i < ENTRIES && err == ERR_OK; i++) {
        err = fsm_apply(fsm, &history.entries[i], NULL, NULL, &info);
    }
    ck_assert_int_eq(err, ERR_NOSPACE);
    ck_assert_int_eq(info.code, ERR_NOSPACE);
    ck_assert_str_ne(info.text, "");
    fsm_close(fsm);
    mem_io_set_free(&node.disk, UINT64_MAX);
    ck_assert_int_eq(live(&node, &node.disk.io, &fsm), ERR_OK);
    history_assert_equal(fsm, source_fsm);
    fsm_close(fsm);
    node_fini(&node);
}
END_TEST

/* On a disk in memory, where so many directories cost little. */
static void take_result(void *arg, unsigned number, const struct fsm_result *result)
{
    struct fsm_result *results = arg;

    results[number] = *result;
}

START_TEST(topics_are_limited)
{
    struct fsm_result results[5];
    unsigned created = 0;
    struct fsm *fsm = NULL;
    struct node node;

    node_init(&node);
    ck_assert_int_eq(open_node(&node, &node.disk.io, &fsm), ERR_OK);
    while (created < FSM_TOPICS_MAX + 5) {
        struct packer packer;
        struct entry entry;

        packer_begin(&packer, 1);
        for (unsigned i = 0; i < 5; i++) {
            char name[16];

            (void)snprintf(name, sizeof name, "t%u", created++); /* fits */
            packer_create(&packer, name);
        }
        entry = packer_entry(&packer, fsm_applied_index(fsm) + 1, 1);
        ck_assert_int_eq(fsm_apply(fsm, &entry, take_result, results, NULL), ERR_OK);
        entry_unref(&entry);
        for (unsigned i = 0; i < 5; i++) {
            ck_assert_int_eq(results[i].err, created <= FSM_TOPICS_MAX ? ERR_OK : ERR_LIMIT);
        }
    }
    ck_assert_uint_eq(catalog_count(fsm_catalog(fsm)), FSM_TOPICS_MAX);
    fsm_close(fsm);
    node_fini(&node);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/fsm faults");
    TCase *faults = tcase_create("faults");
    TCase *crashes = tcase_create("crashes");

    tcase_set_timeout(faults, 60);
    tcase_add_checked_fixture(faults, setup, teardown);
    tcase_add_test(faults, a_call_that_fails_loses_and_doubles_nothing);
    tcase_add_test(faults, a_call_that_fails_during_an_install_loses_and_doubles_nothing);
    tcase_add_test(faults, a_full_disk_is_said_to_be_full);
    tcase_add_test(faults, topics_are_limited);
    suite_add_tcase(suite, faults);
    tcase_set_timeout(crashes, 60);
    tcase_add_checked_fixture(crashes, setup, teardown);
    tcase_add_test(crashes, a_process_that_dies_loses_and_doubles_nothing);
    tcase_add_test(crashes, lost_power_loses_and_doubles_nothing);
    tcase_add_test(crashes, lost_power_during_an_install_loses_and_doubles_nothing);
    tcase_add_loop_test(crashes, a_row_of_crashes_loses_and_doubles_nothing, 0, 4);
    tcase_add_loop_test(crashes, a_synced_manifest_opens_after_power_was_lost, 0, 12);
    suite_add_tcase(suite, crashes);
    return runner_main(suite);
}
