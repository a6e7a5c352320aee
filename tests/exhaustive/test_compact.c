/*
 * Compaction of a topic: passes over it, on a node that was started from a snapshot in the middle
 * of what is compacted.
 *
 * The promise: whatever fails, and wherever it is cut short, with the snapshot and the entries
 * behind it the node comes to the same state, the topic shows the latest record of each key and
 * nothing that was not written, and another pass, undisturbed, takes the rest. What a pass has told
 * to be clean is so after a crash.
 */
#include <check.h>
#include <string.h>

#include "base/assert.h"
#include "lib/exhaust.h"
#include "raft_fsm/history.h"
#include "raft_fsm/keyed.h"
#include "raft_fsm/manifest.h"

enum { SAVED_AT = 20, ENTRIES = 64, KEYS = 5, VALUE_SIZE = 150 };

static struct keyed_topic written;
static struct entry entries[ENTRIES];
static unsigned entry_count;
static uint64_t seed = 4711;
static uint64_t value;
static struct slice saved; /* the manifest at SAVED_AT */
/* What the run told. */
static uint64_t cleaned_to;
static uint64_t tombstones_gone;

static uint64_t topic_id(void)
{
    return 1 * COMMAND_COUNT_MAX; /* It is created by the first entry. */
}

/* ---- entries ---- */

static void put_entry(struct packer *packer)
{
    ASSERT(entry_count < ENTRIES);
    entries[entry_count] = packer_entry(packer, entry_count + 1, 1);
    entry_count++;
}

static void put_batch(void)
{
    struct packer packer;
    struct command *command = &packer.commands[0];
    struct keyed records[3];

    for (unsigned i = 0; i < 3; i++) {
        unsigned kind = history_below(&seed, 20);

        records[i] = (struct keyed){.key = kind == 0 ? KEYED_NO_KEY : history_below(&seed, KEYS),
                                    .value = kind > 0 && kind < 6 ? 0 : ++value};
    }
    packer_begin(&packer, 10 * (int64_t)entry_count);
    packer.count = 1;
    *command = (struct command){.type = COMMAND_PRODUCE};
    command->produce.topic_id = topic_id();
    command->produce.batch = keyed_batch(&written, records, 3, VALUE_SIZE);
    digest_bytes(command->produce.batch.data + BATCH_HEADER_SIZE,
                 command->produce.batch.size - BATCH_HEADER_SIZE, command->produce.body_digest);
    put_entry(&packer);
}

static void put_compact(uint64_t clean_to, uint64_t tombstones_below)
{
    struct packer packer;

    packer_begin(&packer, 1000);
    packer_compact(&packer, &(struct topic_compact){.topic_id = topic_id(),
                                                    .clean_to = clean_to,
                                                    .tombstones_below = tombstones_below});
    put_entry(&packer);
}

static void build(void)
{
    const struct topic_settings settings = {.compact = true};
    struct packer packer;

    packer_begin(&packer, 1);
    packer_create_with(&packer, "keys", &settings);
    put_entry(&packer);
    while (entry_count < 40) {
        put_batch();
    }
    put_compact(written.count, 0);
    while (entry_count < ENTRIES - 2) {
        put_batch();
    }
    put_compact(written.count, 60);
    ASSERT(entry_count < ENTRIES);
}

/* ---- a node ---- */

static struct fsm_options options_for(struct io *io)
{
    return (struct fsm_options){
        .io = io, .dir = "/topics", .segment_size_max = 4096, .index_interval = 512};
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

static enum err open_fsm(struct io *io, struct fsm **ret_fsm)
{
    struct fsm_options options = options_for(io);
    struct manifest manifest = {0};
    struct err_info info = {.text = ""};
    enum err err = ERR_OK;

    if (saved.block != NULL) {
        err = manifest_decode(saved.data, saved.size, &manifest, &info);
    }
    if (err == ERR_OK) {
        err = fsm_open(&options, saved.block != NULL ? &manifest : NULL, ret_fsm, &info);
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
        err = fsm_apply(fsm, &entries[fsm_applied_index(fsm)], NULL, NULL, &info);
        ck_assert_msg(err != ERR_CORRUPT && err != ERR_DIVERGED, "%s", info.text);
    }
    return err;
}

static struct topic *topic_of(struct fsm *fsm)
{
    struct topic *topic = catalog_peek_id(fsm_catalog(fsm), topic_id());

    ck_assert_ptr_nonnull(topic);
    return topic;
}

static struct keyed_seen check(struct fsm *fsm, uint64_t to, uint64_t tombstones)
{
    struct topic *topic = topic_of(fsm);
    const struct keyed_bounds bounds = {.clean_to = topic->clean.clean_to,
                                        .tombstones_below = topic->clean.tombstones_below,
                                        .cleaned_to = to,
                                        .tombstones_gone = tombstones};
    struct keyed_seen seen;

    exhaust_pause();
    seen = keyed_check(&written, topic->log, &bounds, topic->digest);
    ck_assert_uint_eq(seen.superseded, 0);
    ck_assert_uint_eq(seen.tombstones, 0);
    ck_assert_uint_eq(topic->end, written.count);
    fsm_check(fsm);
    exhaust_resume();
    return seen;
}

/* The topic is written, synced, and was never compacted. */
static void prepare(struct io *io)
{
    struct fsm *fsm;

    exhaust_pause();
    if (entry_count == 0) {
        build();
    }
    block_unref(saved.block);
    saved = (struct slice){.block = NULL};
    cleaned_to = tombstones_gone = 0;
    ck_assert_int_eq(io->mkdir(io, "/topics", 0700), 0);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    ck_assert_int_eq(open_fsm(io, &fsm), ERR_OK);
    ck_assert_int_eq(apply_to(fsm, SAVED_AT), ERR_OK);
    saved = history_manifest_bytes(fsm);
    ck_assert_int_eq(apply_to(fsm, entry_count), ERR_OK);
    ck_assert_int_eq(sync_fsm(fsm), ERR_OK);
    fsm_close(fsm);
    exhaust_resume();
}

static enum err clean(struct fsm *fsm, unsigned passes)
{
    struct topic *topic = topic_of(fsm);
    unsigned rewritten;
    enum err err = ERR_OK;

    for (unsigned i = 0; i < passes && err == ERR_OK; i++) {
        err = keyed_clean(fsm, topic, &rewritten);
        if (exhaust_may_retry(err)) {
            err = keyed_clean(fsm, topic, &rewritten); /* Nothing was changed. */
        }
        cleaned_to = atomic_load(&topic->cleaned_to);
        tombstones_gone = topic->cleaned.tombstones_below;
    }
    return err;
}

/* Some passes: the first one drops what is superseded, the next one tombstones and merges. */
static enum err run_passes(struct io *io, unsigned passes)
{
    struct fsm *fsm = NULL;
    enum err err = open_fsm(io, &fsm);

    ck_assert_int_eq(err, ERR_OK);
    ck_assert_int_eq(apply_to(fsm, entry_count), ERR_OK);
    exhaust_start();
    err = clean(fsm, passes);
    if (exhaust_heal()) {
        (void)check(fsm, cleaned_to, tombstones_gone);
    }
    fsm_close(fsm);
    return err;
}

static enum err run_one(struct io *io)
{
    return run_passes(io, 1);
}

static enum err run_three(struct io *io)
{
    return run_passes(io, 3);
}

/* What was compacted is opened, and the entries behind the snapshot are replayed over it. */
static void prepare_cleaned(struct io *io)
{
    struct fsm *fsm;

    prepare(io);
    exhaust_pause();
    ck_assert_int_eq(open_fsm(io, &fsm), ERR_OK);
    ck_assert_int_eq(apply_to(fsm, entry_count), ERR_OK);
    ck_assert_int_eq(clean(fsm, 3), ERR_OK);
    ck_assert_uint_gt(tombstones_gone, 0);
    fsm_close(fsm);
    exhaust_resume();
}

static enum err run_replay(struct io *io)
{
    struct fsm *fsm = NULL;
    enum err err;

    exhaust_start();
    err = open_fsm(io, &fsm);
    if (exhaust_may_retry(err)) {
        err = open_fsm(io, &fsm);
    }
    err = err == ERR_OK ? apply_to(fsm, entry_count) : err;
    if (err == ERR_OK && exhaust_heal()) {
        (void)check(fsm, cleaned_to, tombstones_gone);
    }
    fsm_close(fsm);
    return err;
}

/* ---- what is left ---- */

static enum err recover(struct io *io)
{
    uint64_t told = cleaned_to;
    uint64_t told_gone = tombstones_gone;
    struct fsm *fsm = NULL;
    enum err err = open_fsm(io, &fsm);

    if (err == ERR_OK && !exhaust_is_dead()) {
        err = apply_to(fsm, entry_count);
    }
    if (err == ERR_OK && !exhaust_is_dead()) {
        (void)check(fsm, told, told_gone);
        log_check(topic_of(fsm)->log);
        if (exhaust_is_last()) {
            err = clean(fsm, 3);
            (void)check(fsm, cleaned_to, tombstones_gone);
            ck_assert_uint_eq(tombstones_gone, 60);
        }
    }
    cleaned_to = told;
    tombstones_gone = told_gone;
    fsm_close(fsm);
    return err;
}

static const struct exhaust_scenario scenarios[] = {
    {"pass", prepare, run_one, recover, EXHAUST_STOPS | EXHAUST_TWICE},
    {"passes", prepare, run_three, recover, EXHAUST_STOPS},
    {"replay", prepare_cleaned, run_replay, recover, EXHAUST_STOPS},
};

int main(void)
{
    return exhaust_main("compact", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
