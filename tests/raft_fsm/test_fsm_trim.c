#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "history.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"

static const char *dirs[4];

static void setup(void)
{
    for (unsigned i = 0; i < 4; i++) {
        dirs[i] = tmpdir_new();
    }
}

static void teardown(void)
{
    for (unsigned i = 0; i < 4; i++) {
        tmpdir_remove(dirs[i]);
    }
}

static struct fsm *open_fsm(const char *dir, const struct manifest *manifest, bool holes_allowed)
{
    const struct fsm_options options = {.io = io_real(),
                                        .dir = dir,
                                        .segment_size_max = 4096,
                                        .index_interval = 256,
                                        .holes_allowed = holes_allowed};
    struct err_info info = {0};
    struct fsm *fsm = NULL;
    enum err err = fsm_open(&options, manifest, &fsm, &info);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    return fsm;
}

static void sync_fsm(struct fsm *fsm)
{
    struct fsm_sync *sync;

    ck_assert_int_eq(fsm_sync_begin(fsm, &sync), ERR_OK);
    if (sync != NULL) {
        ck_assert_int_eq(fsm_sync_run(sync, NULL), ERR_OK);
        ck_assert_int_eq(fsm_sync_end(fsm, sync), ERR_OK);
    }
}

static struct manifest manifest_of(struct fsm *fsm)
{
    struct manifest manifest;

    sync_fsm(fsm);
    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    return manifest;
}

static uint64_t hole_count(const struct fsm *fsm)
{
    struct fsm_holes holes;

    fsm_holes(fsm, &holes);
    return holes.holes;
}

static struct fsm_result last_result;

static void take_result(void *arg, unsigned number, const struct fsm_result *result)
{
    (void)arg;
    (void)number;
    last_result = *result;
}

/* Applies what is packed; the last command's result. */
static struct fsm_result apply(struct fsm *fsm, struct packer *packer)
{
    struct entry entry = packer_entry(packer, fsm_applied_index(fsm) + 1, 1);

    ck_assert_int_eq(fsm_apply(fsm, &entry, take_result, NULL, NULL), ERR_OK);
    entry_unref(&entry);
    fsm_check(fsm);
    return last_result;
}

static struct fsm_result trim(struct fsm *fsm, uint64_t start, uint64_t batch_start)
{
    struct topic_trim trim = {.topic_id = 4096, .start = start, .batch_start = batch_start};
    const struct topic *topic = catalog_peek_id(fsm_catalog(fsm), 4096);
    struct batch_header below;
    struct packer packer;

    if (batch_start > 0 && log_read_header(topic->log, batch_start - 1, &below, NULL) == ERR_OK) {
        memcpy(trim.digest, below.digest, DIGEST_SIZE);
    }
    packer_begin(&packer, 7);
    packer_trim(&packer, &trim);
    return apply(fsm, &packer);
}

/* As a leader decides it whose log is that of `leader`. */
static struct fsm_result trim_as_leader(struct fsm *fsm, struct fsm *leader, uint64_t start)
{
    struct topic_trim trim = history_trim(catalog_peek_id(fsm_catalog(leader), 4096), start);
    struct packer packer;

    packer_begin(&packer, 7);
    packer_trim(&packer, &trim);
    return apply(fsm, &packer);
}

/* Topic "t", id 4096: batches of 3 records and 900 bytes. */
static struct fsm *open_topic(const char *dir, unsigned batches)
{
    struct fsm *fsm = open_fsm(dir, NULL, false);
    struct packer packer;

    packer_begin(&packer, 5);
    packer_create(&packer, "t");
    (void)apply(fsm, &packer);
    for (unsigned i = 0; i < batches; i++) {
        packer_begin(&packer, 6);
        packer_produce(&packer, 4096,
                       &(struct produced){.record_count = 3, .body_size = 900, .seed = i});
        (void)apply(fsm, &packer);
    }
    return fsm;
}

static struct topic *topic_of(struct fsm *fsm)
{
    return catalog_peek(fsm_catalog(fsm), "t");
}

/* ---- what a trim does ---- */

START_TEST(a_trim_moves_the_start_exactly_and_the_log_by_batches)
{
    struct fsm *fsm = open_topic(dirs[0], 20);
    struct topic *topic = topic_of(fsm);
    struct fsm_result result = trim(fsm, 31, 30);
    struct batch_header header;

    ck_assert_int_eq(result.err, ERR_OK);
    ck_assert_uint_eq(result.topic_id, 4096);
    ck_assert_uint_eq(result.log_start, 31);
    ck_assert_uint_eq(result.log_end, 60);
    ck_assert_uint_eq(result.raft_index, fsm_applied_index(fsm));
    ck_assert_uint_eq(topic_start(topic), 31);
    ck_assert_uint_eq(log_start(topic->log), 30);
    ck_assert_int_eq(log_read_header(topic->log, 30, &header, NULL), ERR_OK);
    ck_assert_int_eq(log_read_header(topic->log, 29, &header, NULL), ERR_RANGE);
    /* In the same batch: exact, and nothing else changes. */
    ck_assert_uint_eq(trim(fsm, 32, 30).log_start, 32);
    ck_assert_uint_eq(log_start(topic->log), 30);
    ck_assert_uint_eq(trim(fsm, 60, 60).log_start, 60);
    ck_assert_uint_eq(log_start(topic->log), 60);
    fsm_close(fsm);
}
END_TEST

START_TEST(a_lower_start_changes_nothing_and_tells_the_present_one)
{
    struct fsm *fsm = open_topic(dirs[0], 10);
    struct fsm_result result;

    (void)trim(fsm, 16, 15);
    for (uint64_t start = 0; start <= 16; start++) {
        result = trim(fsm, start, start / 3 * 3);
        ck_assert_int_eq(result.err, ERR_OK);
        ck_assert_uint_eq(result.log_start, 16);
    }
    ck_assert_uint_eq(topic_of(fsm)->start, 15);
    fsm_close(fsm);
}
END_TEST

START_TEST(trims_that_make_no_sense_are_refused)
{
    struct fsm *fsm = open_topic(dirs[0], 10);
    struct packer packer;

    ck_assert_int_eq(trim(fsm, 31, 30).err, ERR_RANGE);
    ck_assert_int_eq(trim(fsm, 31, 31).err, ERR_RANGE);
    ck_assert_int_eq(trim(fsm, 10, 12).err, ERR_INVALID);
    ck_assert_int_eq(trim(fsm, 10, 9).err, ERR_OK);
    ck_assert_int_eq(trim(fsm, 12, 6).err, ERR_INVALID);
    ck_assert_uint_eq(trim(fsm, 12, 6).log_start, 10);
    packer_begin(&packer, 7);
    packer_trim(&packer, &(struct topic_trim){.topic_id = 77});
    ck_assert_int_eq(apply(fsm, &packer).err, ERR_TOPIC_UNKNOWN);
    packer_begin(&packer, 7);
    packer_age(&packer, AGES_ELAPSED_MAX_US + 1);
    ck_assert_int_eq(apply(fsm, &packer).err, ERR_INVALID);
    fsm_close(fsm);
}
END_TEST

START_TEST(files_stay_until_a_snapshot_has_the_new_start)
{
    struct fsm *fsm = open_topic(dirs[0], 40);
    struct log *log = topic_of(fsm)->log;
    bool more = true;

    ck_assert(!fsm_has_passed(fsm));
    (void)trim(fsm, 91, 90);
    ck_assert(fsm_has_passed(fsm) && fsm_has_deleted(fsm));
    ck_assert_uint_ne(log_passed_start(log), UINT64_MAX);
    ck_assert_int_eq(fsm_forget(fsm, fsm_applied_index(fsm) - 1, NULL), ERR_OK);
    ck_assert_int_eq(fsm_remove_passed(fsm, 100, &more, NULL), ERR_OK);
    ck_assert(!more && fsm_has_passed(fsm));
    sync_fsm(fsm);
    ck_assert_int_eq(fsm_forget(fsm, fsm_applied_index(fsm), NULL), ERR_OK);
    ck_assert(!fsm_has_passed(fsm));
    ck_assert_uint_eq(log_passed_start(log), UINT64_MAX);
    fsm_close(fsm);
}
END_TEST

START_TEST(files_go_on_going_however_often_the_start_moves)
{
    struct fsm *fsm = open_topic(dirs[0], 60);
    struct log *log = topic_of(fsm)->log;
    uint64_t snapshot = 0;

    for (uint64_t start = 3; start < 180; start += 3) {
        (void)trim(fsm, start, start);
        if (start % 21 == 0) { /* It became durable while others were applied. */
            sync_fsm(fsm);
            ck_assert_int_eq(snapshot == 0 ? ERR_OK : fsm_forget(fsm, snapshot, NULL), ERR_OK);
            snapshot = fsm_applied_index(fsm) - 3;
        }
        ck_assert(log_passed_start(log) == UINT64_MAX || start < 110 ||
                  log_passed_start(log) > start - 110);
    }
    fsm_close(fsm);
}
END_TEST

START_TEST(removing_takes_no_more_than_it_is_told_at_once)
{
    struct fsm *fsm = open_topic(dirs[0], 120);
    bool more = false;
    unsigned rounds = 0;

    (void)trim(fsm, 360, 360);
    sync_fsm(fsm);
    ck_assert_int_eq(fsm_forget(fsm, fsm_applied_index(fsm), NULL), ERR_OK);
    do {
        ck_assert_int_eq(fsm_remove_passed(fsm, 5, &more, NULL), ERR_OK);
        rounds++;
    } while (more);
    ck_assert_uint_gt(rounds, 2);
    ck_assert(!fsm_has_passed(fsm));
    fsm_close(fsm);
}
END_TEST

START_TEST(a_deleted_topic_takes_its_passed_files_along)
{
    struct fsm *fsm = open_topic(dirs[0], 30);
    struct packer packer;

    (void)trim(fsm, 60, 60);
    packer_begin(&packer, 9);
    packer_delete(&packer, "t");
    (void)apply(fsm, &packer);
    ck_assert_int_eq(fsm_forget(fsm, fsm_applied_index(fsm), NULL), ERR_OK);
    ck_assert(!fsm_has_passed(fsm) && !fsm_has_deleted(fsm));
    fsm_close(fsm);
}
END_TEST

/* ---- what may be taken by compaction ---- */

static struct fsm_result compact(struct fsm *fsm, uint64_t clean_to, uint64_t tombstones_below)
{
    struct packer packer;

    packer_begin(&packer, 7);
    packer_compact(&packer, &(struct topic_compact){.topic_id = 4096,
                                                    .clean_to = clean_to,
                                                    .tombstones_below = tombstones_below});
    return apply(fsm, &packer);
}

static void set_compact(struct fsm *fsm, bool on)
{
    const struct topic_change change = {.which = TOPIC_SETTING_COMPACT, .to = {.compact = on}};
    struct packer packer;

    packer_begin(&packer, 7);
    packer_alter(&packer, "t", &change);
    ck_assert_int_eq(apply(fsm, &packer).err, ERR_OK);
}

START_TEST(what_may_be_taken_only_ever_grows)
{
    struct fsm *fsm = open_topic(dirs[0], 10);
    const struct topic_clean *clean = &topic_of(fsm)->clean;
    struct fsm_result result;

    set_compact(fsm, true);
    result = compact(fsm, 21, 9);
    ck_assert_int_eq(result.err, ERR_OK);
    ck_assert_uint_eq(result.topic_id, 4096);
    ck_assert_uint_eq(result.log_end, 30);
    ck_assert_uint_eq(result.raft_index, fsm_applied_index(fsm));
    ck_assert(clean->clean_to == 21 && clean->tombstones_below == 9);
    ck_assert_int_eq(compact(fsm, 15, 12).err, ERR_OK); /* each of them by itself */
    ck_assert(clean->clean_to == 21 && clean->tombstones_below == 12);
    ck_assert_int_eq(compact(fsm, 30, 0).err, ERR_OK);
    ck_assert(clean->clean_to == 30 && clean->tombstones_below == 12);
    fsm_close(fsm);
}
END_TEST

START_TEST(nothing_may_be_taken_beyond_the_end_or_where_the_setting_says_no)
{
    struct fsm *fsm = open_topic(dirs[0], 10);
    const struct topic_clean *clean = &topic_of(fsm)->clean;
    struct packer packer;

    ck_assert_int_eq(compact(fsm, 9, 0).err, ERR_INVALID);
    set_compact(fsm, true);
    ck_assert_int_eq(compact(fsm, 31, 0).err, ERR_INVALID);
    ck_assert_uint_eq(clean->clean_to, 0);
    ck_assert_int_eq(compact(fsm, 9, 3).err, ERR_OK);
    set_compact(fsm, false);
    ck_assert_int_eq(compact(fsm, 12, 3).err, ERR_INVALID);
    ck_assert(clean->clean_to == 9 && clean->tombstones_below == 3); /* It stays. */
    packer_begin(&packer, 7);
    packer_compact(&packer, &(struct topic_compact){.topic_id = 77});
    ck_assert_int_eq(apply(fsm, &packer).err, ERR_TOPIC_UNKNOWN);
    fsm_close(fsm);
}
END_TEST

START_TEST(what_may_be_taken_is_in_manifests)
{
    struct fsm *from = open_topic(dirs[1], 10);
    struct fsm *to = open_fsm(dirs[0], NULL, true);
    struct manifest manifest;

    set_compact(from, true);
    (void)compact(from, 21, 9);
    manifest = manifest_of(from);
    ck_assert_int_eq(fsm_install(to, &manifest, NULL), ERR_OK);
    ck_assert(topic_of(to)->clean.clean_to == 21 && topic_of(to)->clean.tombstones_below == 9);
    fsm_close(from);
    from = open_fsm(dirs[1], &manifest, false);
    ck_assert(topic_of(from)->clean.clean_to == 21 && topic_of(from)->clean.tombstones_below == 9);
    fsm_close(from);
    fsm_close(to);
    manifest_fini(&manifest);
}
END_TEST

/* Histories agree on it: who has more of it than a later manifest has another one. */
START_TEST(a_manifest_with_less_than_may_be_taken_here_is_another_history)
{
    struct fsm *from = open_topic(dirs[1], 10);
    struct manifest manifest;

    set_compact(from, true);
    (void)compact(from, 21, 9);
    manifest = manifest_of(from);
    manifest.applied_index += 5;
    manifest.topics[0].clean.tombstones_below = 8;
    ck_assert_int_eq(fsm_install(from, &manifest, NULL), ERR_DIVERGED);
    manifest.topics[0].clean = (struct topic_clean){.clean_to = 20, .tombstones_below = 9};
    ck_assert_int_eq(fsm_install(from, &manifest, NULL), ERR_DIVERGED);
    manifest.topics[0].clean.clean_to = 21;
    ck_assert_int_eq(fsm_install(from, &manifest, NULL), ERR_OK);
    fsm_close(from);
    manifest_fini(&manifest);
}
END_TEST

/* ---- replay and install ---- */

/* Whatever entry the newest snapshot is of, whatever was applied and removed since: what is
 * replayed comes to the same, and nothing is a hole meanwhile. */
START_TEST(replay_from_any_snapshot_to_any_place_gives_the_same_state)
{
    struct history history;
    struct fsm *straight = open_fsm(dirs[1], NULL, false);
    struct fsm *fsm = open_fsm(dirs[0], NULL, _i % 2 == 1);
    struct manifest manifest = {0};
    uint64_t random = 31 * (uint64_t)_i;
    bool saved = false;

    history_init_trimmed(&history, 900 + (uint64_t)_i, 200, io_real(), dirs[2]);
    history_apply(&history, straight, 200);
    while (fsm_applied_index(fsm) < 200) {
        uint64_t to = fsm_applied_index(fsm) + 1 + history_below(&random, 12);

        history_apply(&history, fsm, to < 200 ? to : 200);
        ck_assert_uint_eq(hole_count(fsm), 0);
        switch (history_below(&random, 3)) {
        case 0: /* a snapshot, and files go */
            manifest_fini(&manifest);
            manifest = manifest_of(fsm);
            saved = true;
            ck_assert_int_eq(fsm_forget(fsm, manifest.applied_index, NULL), ERR_OK);
            break;
        case 1: /* a crash */
            fsm_close(fsm);
            fsm = open_fsm(dirs[0], saved ? &manifest : NULL, _i % 2 == 1);
            ck_assert_uint_eq(hole_count(fsm), 0);
            break;
        default:
            break;
        }
    }
    history_assert_equal(fsm, straight);
    ck_assert(ages_equal(fsm_ages(fsm), fsm_ages(straight)));
    manifest_fini(&manifest);
    fsm_close(fsm);
    fsm_close(straight);
    history_fini(&history);
}
END_TEST

/* One that is behind installs a manifest, old or new; it has holes, which trims make smaller, and
 * fills them from one that trims meanwhile. */
START_TEST(installing_filling_and_trimming_come_to_the_same)
{
    struct history history;
    struct fsm *from = open_fsm(dirs[1], NULL, false);
    struct fsm *to = open_fsm(dirs[0], NULL, true);
    uint64_t random = 77 * (uint64_t)_i;
    struct manifest manifest = {0};

    history_init_trimmed(&history, 500 + (uint64_t)_i, 240, io_real(), dirs[2]);
    while (fsm_applied_index(from) < 240) {
        uint64_t next = fsm_applied_index(from) + 1 + history_below(&random, 40);

        history_apply(&history, from, next < 240 ? next : 240);
        manifest_fini(&manifest);
        manifest = manifest_of(from);
        if (manifest.applied_index > fsm_applied_index(to) && history_below(&random, 3) > 0) {
            ck_assert_int_eq(fsm_install(to, &manifest, NULL), ERR_OK);
            sync_fsm(to);
            ck_assert_int_eq(fsm_forget(to, manifest.applied_index, NULL), ERR_OK);
        }
        /* The manifest is older than what `from` has by now. */
        next = fsm_applied_index(from) + history_below(&random, 20);
        history_apply(&history, from, next < 240 ? next : 240);
        ck_assert_int_eq(fsm_forget(from, manifest.applied_index, NULL), ERR_OK);
        history_apply(&history, to, fsm_applied_index(from));
        if (history_below(&random, 3) == 0) {
            uint64_t before = hole_count(to);

            manifest_fini(&manifest);
            manifest = manifest_of(to);
            fsm_close(to);
            to = open_fsm(dirs[0], &manifest, true);
            ck_assert_uint_eq(hole_count(to), before);
        }
        (void)history_fill(to, from, history_below(&random, 8), NULL);
        fsm_check(to);
    }
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    history_assert_equal(to, from);
    manifest_fini(&manifest);
    fsm_close(from);
    fsm_close(to);
    history_fini(&history);
}
END_TEST

START_TEST(a_hole_below_the_start_is_none)
{
    struct fsm *from = open_topic(dirs[1], 30);
    struct fsm *to = open_fsm(dirs[0], NULL, true);
    struct manifest manifest = manifest_of(from);
    struct fsm_hole hole;

    ck_assert_int_eq(fsm_install(to, &manifest, NULL), ERR_OK);
    ck_assert_uint_eq(hole_count(to), 1);
    (void)trim_as_leader(to, from, 31);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    ck_assert_uint_eq(hole.chain.offset, 30);
    fsm_hole_fini(&hole);
    (void)trim(to, 90, 90);
    ck_assert_uint_eq(hole_count(to), 0);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_NOT_FOUND);
    manifest_fini(&manifest);
    fsm_close(from);
    fsm_close(to);
}
END_TEST

/* A checksum is made anew by whoever changes a batch; its digest is not. */
static void change_body(struct block *batch)
{
    struct batch_header header = {0};

    ck_assert_int_eq(batch_header_decode(batch->data, UINT32_MAX, &header, NULL), ERR_OK);
    batch->data[header.size - 1] ^= 1;
    header.body_crc32c = crc32c(batch->data + BATCH_HEADER_SIZE, header.size - BATCH_HEADER_SIZE);
    batch_header_encode(&header, batch->data);
}

START_TEST(the_first_batch_that_fills_a_trimmed_topic_has_to_follow_on_what_was_below)
{
    struct fsm *from = open_topic(dirs[1], 30);
    struct fsm *to = open_fsm(dirs[0], NULL, true);
    struct topic *topic = catalog_peek_id(fsm_catalog(from), 4096);
    struct manifest manifest;
    struct fsm_hole hole;
    struct block *batch;
    uint64_t end;

    (void)trim_as_leader(from, from, 31);
    manifest = manifest_of(from);
    ck_assert_int_eq(fsm_install(to, &manifest, NULL), ERR_OK);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    ck_assert_uint_eq(hole.chain.offset, 30);
    ck_assert(hole.chain.known);
    ck_assert_int_eq(log_read(topic->log, 30, 33, 1 << 20, &batch, &end, NULL), ERR_OK);
    change_body(batch);
    ck_assert_int_eq(chain_follow(&hole.chain, batch->data, batch->size, NULL), ERR_CORRUPT);
    block_unref(batch);
    ck_assert_int_eq(log_read(topic->log, 30, 33, 1 << 20, &batch, &end, NULL), ERR_OK);
    ck_assert_int_eq(chain_follow(&hole.chain, batch->data, batch->size, NULL), ERR_OK);
    block_unref(batch);
    fsm_hole_fini(&hole);
    manifest_fini(&manifest);
    fsm_close(from);
    fsm_close(to);
}
END_TEST

/* ---- ages ---- */

START_TEST(what_is_in_the_entry_of_an_age_is_younger_than_it)
{
    struct fsm *fsm = open_topic(dirs[0], 1);
    uint64_t index = fsm_applied_index(fsm);
    struct packer packer;

    packer_begin(&packer, 1);
    packer_age(&packer, 5000);
    packer_produce(&packer, 4096, &(struct produced){.record_count = 1, .body_size = 9});
    (void)apply(fsm, &packer);
    packer_begin(&packer, INT64_MAX / 2); /* The wall clock jumps: it does not matter. */
    packer_age(&packer, 600);
    ck_assert_int_eq(apply(fsm, &packer).err, ERR_OK);
    ck_assert_uint_eq(ages_of(fsm_ages(fsm), index), 600);
    ck_assert_uint_eq(ages_of(fsm_ages(fsm), index + 1), 0);
    ck_assert_uint_eq(ages_older_than(fsm_ages(fsm), 600), index);
    ck_assert_uint_eq(ages_older_than(fsm_ages(fsm), 601), 0);
    fsm_close(fsm);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fsm_trim");
    TCase *tcase = tcase_create("trim");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_trim_moves_the_start_exactly_and_the_log_by_batches);
    tcase_add_test(tcase, a_lower_start_changes_nothing_and_tells_the_present_one);
    tcase_add_test(tcase, trims_that_make_no_sense_are_refused);
    tcase_add_test(tcase, files_stay_until_a_snapshot_has_the_new_start);
    tcase_add_test(tcase, files_go_on_going_however_often_the_start_moves);
    tcase_add_test(tcase, removing_takes_no_more_than_it_is_told_at_once);
    tcase_add_test(tcase, a_deleted_topic_takes_its_passed_files_along);
    tcase_add_test(tcase, what_may_be_taken_only_ever_grows);
    tcase_add_test(tcase, nothing_may_be_taken_beyond_the_end_or_where_the_setting_says_no);
    tcase_add_test(tcase, what_may_be_taken_is_in_manifests);
    tcase_add_test(tcase, a_manifest_with_less_than_may_be_taken_here_is_another_history);
    tcase_add_loop_test(tcase, replay_from_any_snapshot_to_any_place_gives_the_same_state, 0, 16);
    tcase_add_test(tcase,
                   the_first_batch_that_fills_a_trimmed_topic_has_to_follow_on_what_was_below);
    tcase_add_loop_test(tcase, installing_filling_and_trimming_come_to_the_same, 0, 16);
    tcase_add_test(tcase, a_hole_below_the_start_is_none);
    tcase_add_test(tcase, what_is_in_the_entry_of_an_age_is_younger_than_it);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
