/* Compaction of a topic as the state machine sees it: what is due, groups, replay, holes, starts.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "keyed.h"
#include "lib/runner.h"
#include "sim/mem_io.h"

enum { VALUE_SIZE = 150, ENTRIES_MAX = 400, SEGMENT_SIZE = 4096 };

static struct mem_io disk;
static struct keyed_topic written;
static struct entry entries[ENTRIES_MAX];
static unsigned entry_count;
static uint64_t seed;
static uint64_t value;

static struct fsm *open_fsm(const struct manifest *manifest)
{
    const struct fsm_options options = {.io = &disk.io,
                                        .dir = "/topics",
                                        .segment_size_max = SEGMENT_SIZE,
                                        .index_interval = 256,
                                        .holes_allowed = true};
    struct err_info info = {.text = ""};
    struct fsm *fsm = NULL;
    enum err err = fsm_open(&options, manifest, &fsm, &info);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    return fsm;
}

static void setup(void)
{
    mem_io_init(&disk);
    ck_assert_int_eq(disk.io.mkdir(&disk.io, "/topics", 0700), 0);
    memset(&written, 0, sizeof written);
    entry_count = 0;
    seed = 4711;
    value = 0;
}

static void teardown(void)
{
    while (entry_count > 0) {
        entry_unref(&entries[--entry_count]);
    }
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    mem_io_fini(&disk);
}

static void apply(struct fsm *fsm, struct packer *packer)
{
    ck_assert_uint_lt(entry_count, ENTRIES_MAX);
    entries[entry_count] = packer_entry(packer, fsm_applied_index(fsm) + 1, 1);
    ck_assert_int_eq(fsm_apply(fsm, &entries[entry_count], NULL, NULL, NULL), ERR_OK);
    entry_count++;
    fsm_check(fsm);
}

static enum err apply_again(struct fsm *fsm, struct err_info *info)
{
    enum err err = ERR_OK;

    while (err == ERR_OK && fsm_applied_index(fsm) < entry_count) {
        err = fsm_apply(fsm, &entries[fsm_applied_index(fsm)], NULL, NULL, info);
    }
    return err;
}

static struct topic *topic_of(struct fsm *fsm)
{
    struct topic *topic = catalog_peek(fsm_catalog(fsm), "keys");

    ck_assert_ptr_nonnull(topic);
    return topic;
}

static struct fsm *open_topic(void)
{
    const struct topic_settings settings = {.compact = true};
    struct fsm *fsm = open_fsm(NULL);
    struct packer packer;

    packer_begin(&packer, 1);
    packer_create_with(&packer, "keys", &settings);
    apply(fsm, &packer);
    return fsm;
}

static void put(struct fsm *fsm, const struct keyed *records, unsigned count)
{
    struct packer packer;
    struct command *command = &packer.commands[0];

    packer_begin(&packer, (int64_t)(10 * fsm_applied_index(fsm)));
    packer.count = 1;
    *command = (struct command){.type = COMMAND_PRODUCE};
    command->produce.topic_id = topic_of(fsm)->id;
    command->produce.batch = keyed_batch(&written, records, count, VALUE_SIZE);
    digest_bytes(command->produce.batch.data + BATCH_HEADER_SIZE,
                 command->produce.batch.size - BATCH_HEADER_SIZE, command->produce.body_digest);
    apply(fsm, &packer);
}

static void put_some(struct fsm *fsm, unsigned batches, unsigned keys)
{
    for (unsigned i = 0; i < batches; i++) {
        struct keyed records[3];
        unsigned count = 1 + history_below(&seed, 3);

        for (unsigned k = 0; k < count; k++) {
            unsigned kind = history_below(&seed, 20);

            records[k] =
                (struct keyed){.key = kind == 0 ? KEYED_NO_KEY : history_below(&seed, keys),
                               .value = kind > 0 && kind < 4 ? 0 : ++value};
        }
        put(fsm, records, count);
    }
}

static void allow(struct fsm *fsm, uint64_t clean_to, uint64_t tombstones_below)
{
    struct packer packer;

    packer_begin(&packer, 1);
    packer_compact(&packer, &(struct topic_compact){.topic_id = topic_of(fsm)->id,
                                                    .clean_to = clean_to,
                                                    .tombstones_below = tombstones_below});
    apply(fsm, &packer);
}

static unsigned clean(struct fsm *fsm)
{
    unsigned rewritten = 0;

    ck_assert_int_eq(keyed_clean(fsm, topic_of(fsm), &rewritten), ERR_OK);
    fsm_check(fsm);
    log_check(topic_of(fsm)->log);
    return rewritten;
}

static struct fsm_cleaning due(struct fsm *fsm)
{
    struct fsm_cleaning due;

    fsm_cleaning_due(fsm, topic_of(fsm), &due);
    return due;
}

static struct keyed_seen check(struct fsm *fsm)
{
    const struct topic *topic = topic_of(fsm);
    const struct keyed_bounds bounds = {.clean_to = topic->clean.clean_to,
                                        .tombstones_below = topic->clean.tombstones_below,
                                        .cleaned_to = atomic_load(&topic->cleaned_to),
                                        .tombstones_gone = topic->cleaned.tombstones_below};
    struct keyed_seen seen = keyed_check(&written, topic->log, &bounds, topic->digest);

    ck_assert_uint_eq(topic->end, written.count);
    ck_assert_uint_eq(seen.superseded, 0);
    ck_assert_uint_eq(seen.tombstones, 0);
    return seen;
}

static struct manifest save(struct fsm *fsm)
{
    struct manifest manifest;
    struct fsm_sync *sync;

    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    ck_assert_int_eq(fsm_sync_begin(fsm, &sync), ERR_OK);
    if (sync != NULL) {
        ck_assert_int_eq(fsm_sync_run(sync, NULL), ERR_OK);
        ck_assert_int_eq(fsm_sync_end(fsm, sync), ERR_OK);
    }
    return manifest;
}

/* ---- what is due ---- */

START_TEST(a_pass_takes_what_is_superseded_and_tombstones_go_in_the_next_one)
{
    struct fsm *fsm = open_topic();
    struct topic *topic = topic_of(fsm);
    uint64_t records;

    put(fsm, (const struct keyed[]){{.key = 100, .value = 1}, {.key = 100}, {.key = 101}}, 3);
    put_some(fsm, 60, 8);
    ck_assert(!due(fsm).records && !due(fsm).tombstones);
    allow(fsm, written.count, written.count / 2);
    ck_assert(due(fsm).records && !due(fsm).tombstones);
    ck_assert_uint_gt(clean(fsm), 4);
    ck_assert_uint_gt(atomic_load(&topic->cleaned_to), written.count / 2);
    ck_assert_uint_lt(atomic_load(&topic->cleaned_to), written.count); /* One segment is active. */
    ck_assert_uint_eq(topic->cleaned.tombstones_below, 0);
    records = check(fsm).records;
    ck_assert_uint_lt(records, written.count / 2);
    ck_assert(!due(fsm).records && due(fsm).tombstones);
    (void)clean(fsm);
    ck_assert_uint_eq(topic->cleaned.tombstones_below, written.count / 2);
    ck_assert_uint_lt(check(fsm).records, records);
    ck_assert(!due(fsm).records && !due(fsm).tombstones);
    put_some(fsm, 20, 8); /* What was active is sealed by now. */
    ck_assert(due(fsm).records);
    (void)clean(fsm);
    (void)check(fsm);
    fsm_close(fsm);
}
END_TEST

START_TEST(nothing_is_due_where_the_setting_is_off_or_entries_are_replayed)
{
    const struct topic_change off = {.which = TOPIC_SETTING_COMPACT};
    struct fsm *fsm = open_topic();
    struct manifest manifest;
    struct packer packer;

    put_some(fsm, 60, 8);
    allow(fsm, written.count, 0);
    manifest = save(fsm);
    put_some(fsm, 1, 8);
    fsm_close(fsm);
    fsm = open_fsm(&manifest);
    ck_assert(!fsm_may_clean(fsm, topic_of(fsm)) && !due(fsm).records);
    ck_assert_int_eq(apply_again(fsm, NULL), ERR_OK);
    ck_assert(fsm_may_clean(fsm, topic_of(fsm)) && due(fsm).records);
    packer_begin(&packer, 1);
    packer_alter(&packer, "keys", &off);
    apply(fsm, &packer);
    ck_assert(!due(fsm).records);
    fsm_close(fsm);
    manifest_fini(&manifest);
}
END_TEST

/* ---- groups ---- */

START_TEST(neighbours_that_fit_together_are_a_group_and_a_large_one_is_left_alone)
{
    struct fsm *fsm = open_topic();
    struct topic *topic = topic_of(fsm);
    struct fsm_group group;
    struct fsm_group next;

    put_some(fsm, 200, 120);
    ck_assert_int_eq(fsm_next_group(fsm, topic, 0, written.count, &group), ERR_OK);
    ck_assert(group.from == 0 && group.segments == 1); /* They are full. */
    ck_assert_int_eq(fsm_next_group(fsm, topic, group.to - 1, written.count, &next), ERR_OK);
    ck_assert_uint_eq(next.from, 0);
    ck_assert_int_eq(fsm_next_group(fsm, topic, group.to, group.to, &next), ERR_NOT_FOUND);
    ck_assert_int_eq(fsm_next_group(fsm, topic, written.count - 1, written.count, &next),
                     ERR_AGAIN);
    allow(fsm, written.count, 0);
    (void)clean(fsm);
    ck_assert_int_eq(fsm_next_group(fsm, topic, 0, written.count, &group), ERR_OK);
    ck_assert_uint_gt(group.segments, 1);
    ck_assert_uint_le(group.size, SEGMENT_SIZE);
    ck_assert_int_eq(fsm_next_group(fsm, topic, 0, 1, &next), ERR_OK);
    ck_assert_uint_eq(next.segments, 1);
    ck_assert_int_eq(fsm_next_group(fsm, topic, group.to, written.count, &next), ERR_OK);
    ck_assert_uint_eq(next.from, group.to);
    fsm_close(fsm);
}
END_TEST

/* ---- replay ---- */

START_TEST(entries_are_replayed_over_what_was_compacted)
{
    struct fsm *fsm = open_topic();
    struct manifest manifest;
    struct keyed_seen seen;
    uint64_t end;

    put_some(fsm, 17, 6);
    manifest = save(fsm); /* Its end will lie inside of a merged batch. */
    end = written.count;
    put_some(fsm, 60, 6);
    allow(fsm, written.count, 0);
    (void)clean(fsm);
    (void)clean(fsm);
    seen = check(fsm);
    ck_assert_uint_gt(seen.compacted, 0);
    fsm_close(fsm);

    fsm = open_fsm(&manifest);
    ck_assert_uint_eq(topic_of(fsm)->end, end);
    ck_assert_int_eq(apply_again(fsm, NULL), ERR_OK);
    ck_assert_uint_eq(check(fsm).records, seen.records);
    fsm_check(fsm);
    put_some(fsm, 5, 6);
    (void)check(fsm);
    fsm_close(fsm);
    manifest_fini(&manifest);
}
END_TEST

START_TEST(another_history_than_the_compacted_one_is_told)
{
    struct err_info info = {.text = ""};
    struct fsm *fsm = open_topic();
    struct keyed_topic kept;
    struct keyed other = {.key = 1, .value = 999999};
    struct manifest manifest;
    unsigned before;

    manifest = save(fsm);
    put_some(fsm, 70, 6);
    before = entry_count;
    allow(fsm, written.count, 0);
    (void)clean(fsm);
    fsm_close(fsm);
    /* The same entries, but for one in the middle of the first merged batch. */
    memcpy(&kept, &written, sizeof kept);
    for (unsigned i = 1; i < before; i++) {
        struct command_reader reader;
        struct command_view view;

        ck_assert_int_eq(
            command_reader_begin(&reader, entry_payload(&entries[i]), entries[i].size, NULL),
            ERR_OK);
        ck_assert_int_eq(command_reader_next(&reader, &view, NULL), ERR_OK);
        if (view.produce.header.record_count == 1) {
            struct packer packer;

            packer_begin(&packer, 10 * (int64_t)i);
            packer.count = 1;
            packer.commands[0] = (struct command){.type = COMMAND_PRODUCE};
            packer.commands[0].produce.topic_id = view.produce.topic_id;
            packer.commands[0].produce.batch = keyed_batch(&kept, &other, 1, VALUE_SIZE);
            entry_unref(&entries[i]);
            entries[i] = packer_entry(&packer, i + 1, 1);
            break;
        }
    }
    fsm = open_fsm(&manifest);
    ck_assert_int_eq(apply_again(fsm, &info), ERR_DIVERGED);
    ck_assert_ptr_nonnull(strstr(info.text, "keys"));
    fsm_close(fsm);
    manifest_fini(&manifest);
}
END_TEST

/* ---- holes ---- */

START_TEST(a_hole_voids_what_was_cleaned_and_nothing_is_due_until_it_is_filled)
{
    struct fsm *fsm = open_topic();
    struct topic *topic = topic_of(fsm);
    struct log_rewrite *rewrite;
    struct fsm_group group;
    unsigned changes;

    put_some(fsm, 60, 8);
    allow(fsm, written.count, 0);
    (void)clean(fsm);
    ck_assert_uint_gt(atomic_load(&topic->cleaned_to), 0);
    changes = topic->cleaned.changes;
    ck_assert_int_eq(fsm_next_group(fsm, topic, 0, written.count, &group), ERR_OK);
    ck_assert_int_eq(fsm_rewrite_begin(fsm, topic, &group, &rewrite, NULL), ERR_OK);
    ck_assert_int_eq(fsm_punch(fsm, topic, 0, 1, NULL), ERR_OK);
    ck_assert_uint_eq(atomic_load(&topic->cleaned_to), 0);
    ck_assert_uint_ne(topic->cleaned.changes, changes);
    ck_assert(!due(fsm).records && !fsm_may_clean(fsm, topic));
    log_rewrite_cancel(topic->log, rewrite);
    fsm_check(fsm);
    fsm_close(fsm);
}
END_TEST

/* ---- starts ---- */

START_TEST(a_start_inside_of_a_merged_batch_or_a_segment_is_no_obstacle)
{
    struct fsm *fsm = open_topic();
    struct topic *topic = topic_of(fsm);
    struct topic_trim trim = {.topic_id = topic->id};
    struct batch_header first;
    struct packer packer;

    put_some(fsm, 40, 200); /* Nearly nothing is superseded. */
    allow(fsm, written.count, 0);
    (void)clean(fsm);
    put_some(fsm, 40, 8);
    do { /* A merged batch, and an original boundary inside of it. */
        trim.start++;
        ck_assert_int_eq(log_read_header(topic->log, trim.start, &first, NULL), ERR_OK);
    } while (first.base_offset + 1 != trim.start || (first.attributes & BATCH_COMPACTED) == 0 ||
             first.record_count < 3);
    trim.batch_start = trim.start;
    packer_begin(&packer, 1);
    packer_trim(&packer, &trim);
    apply(fsm, &packer);
    ck_assert_uint_eq(log_start(topic->log), trim.start);
    (void)check(fsm);
    allow(fsm, written.count, 0);
    ck_assert_uint_gt(clean(fsm), 0);
    (void)check(fsm);
    ck_assert_uint_gt(atomic_load(&topic->cleaned_to), written.count / 2);
    fsm_close(fsm);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/fsm_compact");
    TCase *tcase = tcase_create("compact");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_pass_takes_what_is_superseded_and_tombstones_go_in_the_next_one);
    tcase_add_test(tcase, nothing_is_due_where_the_setting_is_off_or_entries_are_replayed);
    tcase_add_test(tcase, neighbours_that_fit_together_are_a_group_and_a_large_one_is_left_alone);
    tcase_add_test(tcase, entries_are_replayed_over_what_was_compacted);
    tcase_add_test(tcase, another_history_than_the_compacted_one_is_told);
    tcase_add_test(tcase, a_hole_voids_what_was_cleaned_and_nothing_is_due_until_it_is_filled);
    tcase_add_test(tcase, a_start_inside_of_a_merged_batch_or_a_segment_is_no_obstacle);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
