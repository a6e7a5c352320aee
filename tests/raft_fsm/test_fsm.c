#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "history.h"
#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"

static const char *dirs[3];

static void setup(void)
{
    for (unsigned i = 0; i < 3; i++) {
        dirs[i] = tmpdir_new();
    }
}

static void teardown(void)
{
    for (unsigned i = 0; i < 3; i++) {
        tmpdir_remove(dirs[i]);
    }
}

static struct fsm *open_fsm(const char *dir, const struct manifest *manifest, uint64_t segment_size)
{
    const struct fsm_options options = {
        .io = io_real(), .dir = dir, .segment_size_max = segment_size, .index_interval = 256};
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

struct results {
    unsigned count;
    struct fsm_result items[16];
};

static void take_result(void *arg, unsigned number, const struct fsm_result *result)
{
    struct results *results = arg;

    ck_assert_uint_eq(number, results->count);
    results->items[results->count++] = *result;
}

/* Applies what is packed as the next entry, of term 1. */
static struct results apply(struct fsm *fsm, struct packer *packer)
{
    struct entry entry = packer_entry(packer, fsm_applied_index(fsm) + 1, 1);
    struct results results = {0};
    struct err_info info = {0};
    enum err err = fsm_apply(fsm, &entry, take_result, &results, &info);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    entry_unref(&entry);
    return results;
}

static bool is_dir(const char *dir, const char *name)
{
    char path[IO_PATH_SIZE];
    struct stat st;

    ck_assert_int_eq(io_path(path, dir, name, NULL), ERR_OK);
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- results ---- */

START_TEST(topics_are_created_found_and_deleted)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct results results;
    struct packer packer;
    struct topic *topic;

    packer_begin(&packer, 500);
    packer_create(&packer, "a");
    packer_create(&packer, "b");
    packer_create(&packer, "a");
    packer_delete(&packer, "c");
    results = apply(fsm, &packer);
    ck_assert_uint_eq(results.count, 4);
    ck_assert_int_eq(results.items[0].err, ERR_OK);
    ck_assert_uint_eq(results.items[0].topic_id, 4096);
    ck_assert_uint_eq(results.items[0].raft_index, 1);
    ck_assert_int_eq(results.items[0].append_time_us, 500);
    ck_assert_uint_eq(results.items[1].topic_id, 4097);
    ck_assert_int_eq(results.items[2].err, ERR_TOPIC_EXISTS);
    ck_assert_uint_eq(results.items[2].topic_id, 4096);
    ck_assert_int_eq(results.items[3].err, ERR_TOPIC_UNKNOWN);
    ck_assert_uint_eq(results.items[3].topic_id, 0);
    ck_assert(is_dir(dirs[0], "a-4096") && is_dir(dirs[0], "b-4097"));
    topic = catalog_find(fsm_catalog(fsm), "a");
    ck_assert_int_eq(topic->created_time_us, 500);

    packer_begin(&packer, 501);
    packer_delete(&packer, "a");
    packer_create(&packer, "a");
    results = apply(fsm, &packer);
    ck_assert_uint_eq(results.items[0].topic_id, 4096);
    ck_assert_int_eq(results.items[0].err, ERR_OK);
    ck_assert_uint_eq(results.items[1].topic_id, 2 * 4096 + 1);
    ck_assert(atomic_load(&topic->deleted));
    topic_unref(topic);
    ck_assert(is_dir(dirs[0], "a-4096"));
    topic = fsm_find_promised(fsm, 4096);
    ck_assert_ptr_nonnull(topic);
    topic_unref(topic);
    ck_assert_int_eq(fsm_forget(fsm, 1, NULL), ERR_OK);
    ck_assert(is_dir(dirs[0], "a-4096"));
    ck_assert_int_eq(fsm_forget(fsm, 2, NULL), ERR_OK);
    ck_assert(!is_dir(dirs[0], "a-4096"));
    ck_assert(is_dir(dirs[0], "a-8193"));
    ck_assert_ptr_null(fsm_find_promised(fsm, 4096));
    fsm_close(fsm);
}
END_TEST

static struct topic_settings settings_of(struct fsm *fsm, const char *name)
{
    struct topic *topic = catalog_find(fsm_catalog(fsm), name);
    struct topic_settings settings;

    ck_assert_ptr_nonnull(topic);
    topic_settings_get(topic, &settings);
    topic_unref(topic);
    return settings;
}

START_TEST(a_topic_is_made_with_settings_and_altered)
{
    const struct topic_settings first = {.retention_ms = 5, .segment_ms = 2000};
    const struct topic_change change = {
        .which = TOPIC_SETTING_SEGMENT_MS | TOPIC_SETTING_COMPRESSION, .to = {.compression = 2}};
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct topic_settings settings;
    struct results results;
    struct packer packer;

    packer_begin(&packer, 500);
    packer_create_with(&packer, "a", &first);
    packer_create(&packer, "b");
    packer_create_with(&packer, "a", &(struct topic_settings){.retention_ms = 6});
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[0].err, ERR_OK);
    ck_assert_int_eq(results.items[2].err, ERR_TOPIC_EXISTS);
    settings = settings_of(fsm, "a");
    ck_assert(topic_settings_equal(&settings, &first));
    settings = settings_of(fsm, "b");
    ck_assert(topic_settings_equal(&settings, &(struct topic_settings){0}));
    for (unsigned i = 0; i < 2; i++) { /* The second time changes nothing. */
        packer_begin(&packer, 501);
        packer_alter(&packer, "a", &change);
        results = apply(fsm, &packer);
        ck_assert_int_eq(results.items[0].err, ERR_OK);
        ck_assert_uint_eq(results.items[0].topic_id, 4096);
        ck_assert_uint_eq(results.items[0].raft_index, 2 + i);
        ck_assert_int_eq(results.items[0].append_time_us, 501);
        settings = settings_of(fsm, "a");
        ck_assert(topic_settings_equal(
            &settings, &(struct topic_settings){.retention_ms = 5, .compression = 2}));
    }
    fsm_close(fsm);
}
END_TEST

/* Whoever proposed it has not checked it: nobody may trust that. */
START_TEST(settings_that_are_not_allowed_change_nothing)
{
    struct topic_change change = {.which = TOPIC_SETTING_SEGMENT_BYTES, .to = {.segment_bytes = 1}};
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct topic_settings settings;
    struct results results;
    struct packer packer;

    packer_begin(&packer, 500);
    packer_create_with(&packer, "a", &(struct topic_settings){.segment_bytes = 1});
    packer_create(&packer, "a");
    packer_alter(&packer, "a", &change);
    change.to.segment_bytes = 4096;
    packer_alter(&packer, "c", &change);
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[0].err, ERR_INVALID);
    ck_assert_uint_eq(results.items[0].topic_id, 0);
    ck_assert_int_eq(results.items[1].err, ERR_OK);
    ck_assert_int_eq(results.items[2].err, ERR_INVALID);
    ck_assert_uint_eq(results.items[2].raft_index, 0);
    ck_assert_int_eq(results.items[3].err, ERR_TOPIC_UNKNOWN);
    ck_assert_uint_eq(results.items[3].topic_id, 0);
    settings = settings_of(fsm, "a");
    ck_assert(topic_settings_equal(&settings, &(struct topic_settings){0}));
    packer_begin(&packer, 501);
    packer_delete(&packer, "a");
    packer_alter(&packer, "a", &change);
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[1].err, ERR_TOPIC_UNKNOWN);
    fsm_close(fsm);
}
END_TEST

static unsigned segments_after(struct fsm *fsm, unsigned batches)
{
    struct topic *topic = catalog_find_id(fsm_catalog(fsm), 4096);
    struct produced produced = {.record_count = 1, .body_size = 1000};
    struct packer packer;
    unsigned count;

    for (unsigned i = 0; i < batches; i++) {
        packer_begin(&packer, 500);
        packer_produce(&packer, 4096, &produced);
        (void)apply(fsm, &packer);
    }
    count = log_segment_count(topic->log);
    topic_unref(topic);
    return count;
}

START_TEST(the_size_of_segments_follows_the_settings)
{
    const struct topic_settings small = {.segment_bytes = 4096};
    const struct topic_change to_default = {.which = TOPIC_SETTING_SEGMENT_BYTES};
    const struct topic_change to_small = {.which = TOPIC_SETTING_SEGMENT_BYTES, .to = small};
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct manifest manifest;
    struct packer packer;

    packer_begin(&packer, 500);
    packer_create_with(&packer, "a", &small);
    (void)apply(fsm, &packer);
    ck_assert_uint_eq(segments_after(fsm, 9), 3); /* three batches a segment */
    packer_begin(&packer, 500);
    packer_alter(&packer, "a", &to_default);
    (void)apply(fsm, &packer);
    ck_assert_uint_eq(segments_after(fsm, 9), 3);
    packer_begin(&packer, 500);
    packer_alter(&packer, "a", &to_small);
    (void)apply(fsm, &packer);
    ck_assert_uint_eq(segments_after(fsm, 3), 4);
    sync_fsm(fsm);
    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    fsm_close(fsm);
    fsm = open_fsm(dirs[0], &manifest, 0); /* It knows still. */
    ck_assert_uint_eq(segments_after(fsm, 3), 5);
    manifest_fini(&manifest);
    fsm_close(fsm);
}
END_TEST

START_TEST(settings_come_with_a_manifest)
{
    const struct topic_settings first = {.retention_ms = 5, .indexes = TOPIC_INDEX_TIME};
    const struct topic_change change = {.which = TOPIC_SETTING_SEGMENT_BYTES,
                                        .to = {.segment_bytes = 4096}};
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct fsm *other = open_fsm(dirs[1], NULL, 0);
    struct topic_settings settings;
    struct manifest manifest;
    struct packer packer;

    for (unsigned i = 0; i < 2; i++) {
        packer_begin(&packer, 500);
        packer_create_with(&packer, "a", &first);
        (void)apply(i == 0 ? fsm : other, &packer);
    }
    packer_begin(&packer, 500);
    packer_create_with(&packer, "b", &first);
    packer_alter(&packer, "a", &change);
    (void)apply(fsm, &packer);
    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    ck_assert_int_eq(fsm_install(other, &manifest, NULL), ERR_OK);
    settings = settings_of(other, "b");
    ck_assert(topic_settings_equal(&settings, &first));
    settings = settings_of(other, "a");
    ck_assert_uint_eq(settings.retention_ms, 5);
    ck_assert_uint_eq(settings.segment_bytes, 4096);
    ck_assert_uint_eq(segments_after(other, 9), 3);
    manifest_fini(&manifest);
    fsm_close(other);
    fsm_close(fsm);
}
END_TEST

START_TEST(a_produce_gets_offset_index_term_and_time)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct produced produced = {.record_count = 3, .body_size = 30, .seed = 1};
    struct batch_header header;
    struct results results;
    struct packer packer;
    struct topic *topic;

    packer_begin(&packer, 1000);
    packer_create(&packer, "t");
    packer_produce(&packer, 4096, &produced);
    packer_produce(&packer, 4096, &produced);
    packer_produce(&packer, 9999, &produced);
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[2].err, ERR_OK);
    ck_assert_uint_eq(results.items[2].base_offset, 3);
    ck_assert_uint_eq(results.items[2].record_count, 3);
    ck_assert_uint_eq(results.items[2].raft_index, 1);
    ck_assert_uint_eq(results.items[2].raft_term, 1);
    ck_assert_int_eq(results.items[2].append_time_us, 1000);
    ck_assert(!results.items[2].duplicate);
    ck_assert_int_eq(results.items[3].err, ERR_TOPIC_UNKNOWN);
    packer_begin(&packer, 400); /* another leader's clock */
    packer_produce(&packer, 4096, &produced);
    results = apply(fsm, &packer);
    ck_assert_uint_eq(results.items[0].base_offset, 6);
    ck_assert_int_eq(results.items[0].append_time_us, 1000);
    ck_assert_int_eq(fsm_time_us(fsm), 1000);
    ck_assert_uint_eq(fsm_records_applied(fsm), 9);

    topic = catalog_find_id(fsm_catalog(fsm), 4096);
    ck_assert_uint_eq(topic->end, 9);
    ck_assert_uint_eq(log_end(topic->log), 9);
    ck_assert_int_eq(log_read_header(topic->log, 8, &header, NULL), ERR_OK);
    ck_assert_uint_eq(header.base_offset, 6);
    ck_assert_uint_eq(header.raft_index, 2);
    ck_assert_mem_eq(header.digest, topic->digest, DIGEST_SIZE);
    log_check(topic->log);
    topic_unref(topic);
    fsm_close(fsm);
}
END_TEST

START_TEST(a_conditional_produce_is_written_at_its_offset_or_not_at_all)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct produced plain = {.record_count = 3, .body_size = 30, .seed = 1};
    struct produced expecting = {
        .record_count = 2, .body_size = 20, .seed = 2, .has_expect = true, .expect_offset = 3};
    struct results results;
    struct packer packer;

    packer_begin(&packer, 1000);
    packer_create(&packer, "t");
    packer_init_producer(&packer);
    packer_produce(&packer, 4096, &expecting); /* too early */
    packer_produce(&packer, 4096, &plain);
    packer_produce(&packer, 4096, &expecting);
    packer_produce(&packer, 4096, &expecting); /* too late */
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[2].err, ERR_EXPECT_FAILED);
    ck_assert_uint_eq(results.items[2].log_end, 0);
    ck_assert_int_eq(results.items[4].err, ERR_OK);
    ck_assert_uint_eq(results.items[4].base_offset, 3);
    ck_assert_int_eq(results.items[5].err, ERR_EXPECT_FAILED);
    ck_assert_uint_eq(results.items[5].log_end, 5);

    /* With a producer: a retry of what was written gets its offset; what was refused has used up no
     * sequence. */
    expecting = (struct produced){.producer_id = results.items[1].producer_id,
                                  .record_count = 1,
                                  .body_size = 9,
                                  .has_expect = true,
                                  .expect_offset = 4};
    packer_begin(&packer, 1001);
    packer_produce(&packer, 4096, &expecting);
    expecting.expect_offset = 5;
    packer_produce(&packer, 4096, &expecting);
    packer_produce(&packer, 4096, &plain);
    packer_produce(&packer, 4096, &expecting);
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[0].err, ERR_EXPECT_FAILED);
    ck_assert_int_eq(results.items[1].err, ERR_OK);
    ck_assert_uint_eq(results.items[1].base_offset, 5);
    ck_assert_int_eq(results.items[3].err, ERR_OK);
    ck_assert(results.items[3].duplicate);
    ck_assert_uint_eq(results.items[3].base_offset, 5);
    ck_assert_uint_eq(fsm_records_applied(fsm), 9);
    fsm_close(fsm);
}
END_TEST

START_TEST(a_claim_raises_the_epoch_and_tells_the_records)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct produced produced = {.producer_id = 1, .record_count = 3, .body_size = 30, .seed = 1};
    struct results results;
    struct packer packer;

    packer_begin(&packer, 1000);
    packer_create(&packer, "t");
    packer_init_producer(&packer);
    packer_produce(&packer, 4096, &produced);
    packer_raise(&packer, &(struct producer_claim){.id = 1, .topic_id = 4096});
    packer_raise(&packer, &(struct producer_claim){.id = 1, .topic_id = 9999});
    packer_raise(&packer, &(struct producer_claim){.id = 2});
    packer_raise(&packer, &(struct producer_claim){.id = 1, .has_epoch = true});
    produced.sequence = 3;
    packer_produce(&packer, 4096, &produced);
    produced.epoch = 1;
    packer_produce(&packer, 4096, &produced);
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[3].err, ERR_OK);
    ck_assert_uint_eq(results.items[3].producer_id, 1);
    ck_assert_uint_eq(results.items[3].producer_epoch, 1);
    ck_assert_uint_eq(results.items[3].producer_records, 3);
    ck_assert_uint_eq(results.items[3].raft_index, 1);
    ck_assert_int_eq(results.items[4].err, ERR_TOPIC_UNKNOWN);
    ck_assert_int_eq(results.items[5].err, ERR_PRODUCER_UNKNOWN);
    ck_assert_int_eq(results.items[6].err, ERR_FENCED);
    ck_assert_int_eq(results.items[7].err, ERR_FENCED);
    ck_assert_int_eq(results.items[8].err, ERR_OK);
    fsm_close(fsm);
}
END_TEST

START_TEST(the_digest_in_the_log_is_the_chain_of_all_before)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    uint8_t digest[DIGEST_SIZE] = {0};
    struct packer packer;
    struct topic *topic;

    packer_begin(&packer, 1);
    packer_create(&packer, "t");
    (void)apply(fsm, &packer);
    topic = catalog_find(fsm_catalog(fsm), "t");
    for (uint64_t i = 0; i < 20; i++) {
        const struct produced produced = {.record_count = 1, .body_size = 10, .seed = i};
        struct slice batch = history_batch(&produced);
        uint8_t body_digest[DIGEST_SIZE];
        struct batch_header header;

        packer_begin(&packer, 2);
        packer_produce(&packer, 4096, &produced);
        (void)apply(fsm, &packer);
        ck_assert_int_eq(log_read_header(topic->log, i, &header, NULL), ERR_OK);
        digest_bytes(batch.data + BATCH_HEADER_SIZE, 10, body_digest);
        digest_chain(digest, &header, body_digest, digest);
        ck_assert_mem_eq(header.digest, digest, DIGEST_SIZE);
        block_unref(batch.block);
    }
    topic_unref(topic);
    fsm_close(fsm);
}
END_TEST

START_TEST(a_retry_gets_its_first_answer)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct produced first = {.producer_id = 1, .record_count = 2, .body_size = 5, .seed = 1};
    struct produced second = {
        .producer_id = 1, .sequence = 2, .record_count = 1, .body_size = 5, .seed = 2};
    struct produced gap = {
        .producer_id = 1, .sequence = 9, .record_count = 1, .body_size = 5, .seed = 3};
    struct produced unknown = {.producer_id = 2, .record_count = 1, .body_size = 5, .seed = 4};
    struct results results;
    struct packer packer;

    packer_begin(&packer, 10);
    packer_create(&packer, "t");
    packer_init_producer(&packer);
    packer_produce(&packer, 4096, &first);
    results = apply(fsm, &packer);
    ck_assert_uint_eq(results.items[1].producer_id, 1);
    ck_assert_uint_eq(results.items[1].producer_epoch, 0);
    packer_begin(&packer, 20);
    packer_produce(&packer, 4096, &second);
    packer_produce(&packer, 4096, &first);
    packer_produce(&packer, 4096, &gap);
    packer_produce(&packer, 4096, &unknown);
    results = apply(fsm, &packer);
    ck_assert_uint_eq(results.items[0].base_offset, 2);
    ck_assert_int_eq(results.items[1].err, ERR_OK);
    ck_assert(results.items[1].duplicate);
    ck_assert_uint_eq(results.items[1].base_offset, 0);
    ck_assert_uint_eq(results.items[1].record_count, 2);
    ck_assert_uint_eq(results.items[1].raft_index, 1);
    ck_assert_int_eq(results.items[1].append_time_us, 10);
    ck_assert_int_eq(results.items[2].err, ERR_SEQUENCE_GAP);
    ck_assert_int_eq(results.items[3].err, ERR_PRODUCER_UNKNOWN);
    ck_assert_uint_eq(fsm_records_applied(fsm), 3);
    fsm_close(fsm);
}
END_TEST

static const struct cursor_change a_cursor = {.topic = "t", .name = "c", .offset = 2, .owner = 9};

START_TEST(a_cursor_is_compared_and_set_where_its_topic_is)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 8192);
    struct cursor_change change = a_cursor;
    struct cursor_change stale = a_cursor;
    struct cursor_change beyond = a_cursor;
    struct results results;
    struct packer packer;
    struct cursor cursor;

    packer_begin(&packer, 50);
    packer_set_cursor(&packer, &change); /* no topic yet */
    packer_create(&packer, "t");
    packer_produce(&packer, COMMAND_COUNT_MAX + 1,
                   &(struct produced){.record_count = 3, .body_size = 5});
    beyond.offset = 4;
    packer_set_cursor(&packer, &beyond);
    packer_set_cursor(&packer, &change);
    stale.expect = CURSOR_EXPECT_REVISION;
    stale.expected = COMMAND_COUNT_MAX + 4;
    packer_set_cursor(&packer, &stale);
    packer_set_cursor(&packer, &stale); /* It was good for one change. */
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[0].err, ERR_TOPIC_UNKNOWN);
    ck_assert_int_eq(results.items[3].err, ERR_RANGE);
    ck_assert_uint_eq(results.items[3].cursor.revision, 0);
    ck_assert_int_eq(results.items[4].err, ERR_OK);
    ck_assert_uint_eq(results.items[4].topic_id, COMMAND_COUNT_MAX + 1);
    ck_assert_uint_eq(results.items[4].raft_index, 1);
    ck_assert_uint_eq(results.items[4].cursor.revision, COMMAND_COUNT_MAX + 4);
    ck_assert_int_eq(results.items[5].err, ERR_OK);
    ck_assert_uint_eq(results.items[5].cursor.revision, COMMAND_COUNT_MAX + 5);
    ck_assert_int_eq(results.items[6].err, ERR_CURSOR_CONFLICT);
    ck_assert_uint_eq(results.items[6].cursor.revision, COMMAND_COUNT_MAX + 5);
    ck_assert_uint_eq(results.items[6].cursor.offset, 2);
    ck_assert_uint_eq(results.items[6].cursor.owner, 9);
    ck_assert_int_eq(results.items[6].cursor.updated_time_us, 50);
    ck_assert(cursors_find(catalog_cursors(fsm_catalog(fsm)), COMMAND_COUNT_MAX + 1, "c", &cursor));
    ck_assert_uint_eq(cursor.at.revision, COMMAND_COUNT_MAX + 5);
    packer_begin(&packer, 60);
    packer_delete_cursor(&packer, &stale);
    packer_delete_cursor(&packer, &change);
    packer_delete_cursor(&packer, &change);
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[0].err, ERR_CURSOR_CONFLICT);
    ck_assert_int_eq(results.items[1].err, ERR_OK);
    ck_assert_uint_eq(results.items[1].raft_index, 2);
    ck_assert_int_eq(results.items[2].err, ERR_CURSOR_UNKNOWN);
    ck_assert_uint_eq(cursors_count(catalog_cursors(fsm_catalog(fsm))), 0);
    fsm_close(fsm);
}
END_TEST

START_TEST(a_topic_takes_its_cursors_along)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 8192);
    struct cursor_change change = a_cursor;
    struct results results;
    struct packer packer;

    change.offset = 0;
    packer_begin(&packer, 50);
    packer_create(&packer, "t");
    packer_set_cursor(&packer, &change);
    packer_delete(&packer, "t");
    packer_create(&packer, "t");
    change.expect = CURSOR_EXPECT_REVISION; /* There must be none. */
    packer_set_cursor(&packer, &change);
    results = apply(fsm, &packer);
    ck_assert_int_eq(results.items[4].err, ERR_OK);
    ck_assert_uint_eq(results.items[4].topic_id, COMMAND_COUNT_MAX + 3);
    ck_assert_uint_eq(cursors_count(catalog_cursors(fsm_catalog(fsm))), 1);
    fsm_close(fsm);
}
END_TEST

START_TEST(barriers_and_changes_only_move_the_index)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);

    for (uint64_t i = 1; i <= 2; i++) {
        struct entry entry;

        entry_seal(entry_block_new(4), 4, i, 1, i == 1 ? ENTRY_BARRIER : ENTRY_CHANGE, &entry);
        ck_assert_int_eq(fsm_apply(fsm, &entry, NULL, NULL, NULL), ERR_OK);
        ck_assert_uint_eq(fsm_applied_index(fsm), i);
        entry_unref(&entry);
    }
    fsm_close(fsm);
}
END_TEST

START_TEST(what_cannot_be_read_stops_the_node)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct block *block = entry_block_new(COMMAND_PAYLOAD_HEADER_SIZE);
    struct err_info info = {0};
    struct fsm_sync *sync;
    struct entry entry;

    memset(block->data + ENTRY_HEADER_SIZE, 0, COMMAND_PAYLOAD_HEADER_SIZE);
    block->data[ENTRY_HEADER_SIZE] = 2; /* version */
    entry_seal(block, COMMAND_PAYLOAD_HEADER_SIZE, 1, 1, ENTRY_COMMAND, &entry);
    ck_assert_int_eq(fsm_apply(fsm, &entry, NULL, NULL, &info), ERR_VERSION);
    ck_assert_ptr_nonnull(strstr(info.text, "entry 1"));
    ck_assert_uint_eq(fsm_applied_index(fsm), 0);
    ck_assert_int_eq(fsm_apply(fsm, &entry, NULL, NULL, &info), ERR_FAILED);
    ck_assert_int_eq(fsm_sync_begin(fsm, &sync), ERR_FAILED);
    entry_unref(&entry);
    fsm_close(fsm);
}
END_TEST

/* ---- replay ---- */

/* The state after `applied` entries in dir, synced and closed. */
static struct manifest leave(const char *dir, const struct history *history, uint64_t applied,
                             uint64_t go_on_to)
{
    struct fsm *fsm = open_fsm(dir, NULL, 4096);
    struct manifest manifest;

    history_apply(history, fsm, applied);
    sync_fsm(fsm);
    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    history_apply(history, fsm, go_on_to);
    fsm_close(fsm);
    return manifest;
}

START_TEST(the_same_entries_give_the_same_state_in_any_segments)
{
    struct history history;
    struct fsm *a = open_fsm(dirs[0], NULL, 4096);
    struct fsm *b = open_fsm(dirs[1], NULL, 0);

    history_init(&history, 100 + (uint64_t)_i, 200);
    history_apply(&history, a, 200);
    history_apply(&history, b, 200);
    history_assert_equal(a, b);
    fsm_close(a);
    fsm_close(b);
    history_fini(&history);
}
END_TEST

START_TEST(replay_from_a_manifest_gives_the_same_state)
{
    struct history history;
    struct manifest manifest;
    struct fsm *straight = open_fsm(dirs[1], NULL, 4096);
    struct fsm *replayed;
    uint64_t random = 7 * (uint64_t)_i;
    uint64_t at = history_below(&random, 150);
    uint64_t went_on_to = at + history_below(&random, 50);

    history_init(&history, 200 + (uint64_t)_i, 200);
    history_apply(&history, straight, 200);
    manifest = leave(dirs[0], &history, at, went_on_to);
    replayed = open_fsm(dirs[0], &manifest, 4096);
    ck_assert_uint_eq(fsm_applied_index(replayed), at);
    history_apply(&history, replayed, 200);
    history_assert_equal(replayed, straight);
    manifest_fini(&manifest);
    fsm_close(replayed);
    fsm_close(straight);
    history_fini(&history);
}
END_TEST

START_TEST(another_batch_in_the_log_is_a_divergence)
{
    struct produced one = {.record_count = 1, .body_size = 8, .seed = 1};
    struct produced other = {.record_count = 1, .body_size = 8, .seed = 2};
    struct fsm *fsm = open_fsm(dirs[0], NULL, 0);
    struct manifest manifest;
    struct err_info info = {0};
    struct packer packer;
    struct entry entry;

    packer_begin(&packer, 1);
    packer_create(&packer, "t");
    (void)apply(fsm, &packer);
    sync_fsm(fsm);
    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    packer_begin(&packer, 2);
    packer_produce(&packer, 4096, &one);
    (void)apply(fsm, &packer);
    fsm_close(fsm);

    fsm = open_fsm(dirs[0], &manifest, 0);
    packer_begin(&packer, 2);
    packer_produce(&packer, 4096, &other);
    entry = packer_entry(&packer, 2, 1);
    ck_assert_int_eq(fsm_apply(fsm, &entry, NULL, NULL, &info), ERR_DIVERGED);
    ck_assert_ptr_nonnull(strstr(info.text, "'t' at offset 0"));
    entry_unref(&entry);
    fsm_close(fsm);

    fsm = open_fsm(dirs[0], &manifest, 0); /* the right one is fine */
    packer_begin(&packer, 2);
    packer_produce(&packer, 4096, &one);
    (void)apply(fsm, &packer);
    fsm_close(fsm);
    manifest_fini(&manifest);
}
END_TEST

/* ---- opening ---- */

START_TEST(unknown_directories_go_and_other_things_stay)
{
    static const char *const kept[] = {"lost+found", "x-", "x-01", "-1", "x-1y", "x-4096"};
    char path[IO_PATH_SIZE];
    struct history history;
    struct manifest manifest;
    struct fsm *fsm;

    history_init(&history, 3, 30);
    manifest = leave(dirs[0], &history, 30, 30);
    ck_assert_uint_gt(manifest.topic_count, 0);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        ck_assert_int_eq(io_path(path, dirs[0], kept[i], NULL), ERR_OK);
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
    fsm = open_fsm(dirs[0], &manifest, 4096);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        ck_assert(is_dir(dirs[0], kept[i]) == (strcmp(kept[i], "x-4096") != 0));
    }
    fsm_close(fsm);
    fsm = open_fsm(dirs[0], NULL, 4096);
    for (size_t i = 0; i < manifest.topic_count; i++) {
        char name[256];

        (void)snprintf(name, sizeof name, "%s-%" PRIu64, manifest.topics[i].name,
                       manifest.topics[i].id); /* fits */
        ck_assert(!is_dir(dirs[0], name));
    }
    fsm_close(fsm);
    manifest_fini(&manifest);
    history_fini(&history);
}
END_TEST

static enum err try_open(const struct manifest *manifest, struct err_info *info)
{
    const struct fsm_options options = {.io = io_real(), .dir = dirs[0], .segment_size_max = 4096};
    struct fsm *fsm = NULL;
    enum err err = fsm_open(&options, manifest, &fsm, info);

    fsm_close(fsm);
    return err;
}

/* A topic "t" with some batches, synced. */
static struct manifest leave_topic(void)
{
    struct fsm *fsm = open_fsm(dirs[0], NULL, 4096);
    struct manifest manifest;
    struct packer packer;

    packer_begin(&packer, 1);
    packer_create(&packer, "t");
    for (uint64_t i = 0; i < 12; i++) {
        packer_produce(&packer, 4096,
                       &(struct produced){.record_count = 2, .body_size = 900, .seed = i});
    }
    (void)apply(fsm, &packer);
    sync_fsm(fsm);
    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    fsm_close(fsm);
    return manifest;
}

START_TEST(what_the_manifest_promises_must_be_there)
{
    struct manifest manifest = leave_topic();
    struct err_info info = {0};
    char path[IO_PATH_SIZE];

    ck_assert_int_eq(try_open(&manifest, &info), ERR_OK);
    manifest.topics[0].digest[31] ^= 1;
    ck_assert_int_eq(try_open(&manifest, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "copy of topic 't' is damaged"));
    ck_assert_ptr_nonnull(strstr(info.text, "digest"));
    ck_assert_ptr_nonnull(strstr(info.text, "Stop the node"));
    manifest.topics[0].digest[31] ^= 1;
    manifest.topics[0].end++; /* nothing is there */
    ck_assert_int_eq(try_open(&manifest, &info), ERR_CORRUPT);
    manifest.topics[0].end -= 2; /* inside of a batch */
    ck_assert_int_eq(try_open(&manifest, &info), ERR_CORRUPT);
    manifest.topics[0].end++;
    ck_assert_int_eq(try_open(&manifest, &info), ERR_OK);
    ck_assert_int_eq(io_path(path, dirs[0], "t-4096/00000000000000000000.store", NULL), ERR_OK);
    ck_assert_int_eq(truncate(path, 2000), 0);
    ck_assert_int_eq(try_open(&manifest, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "copy of topic 't' is damaged"));
    ck_assert_int_eq(io_remove_dir(io_real(), dirs[0], "t-4096", NULL), ERR_OK);
    ck_assert_int_eq(try_open(&manifest, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "missing"));
    manifest_fini(&manifest);
}
END_TEST

START_TEST(batches_of_entries_that_the_manifest_covers_cannot_lie_above_it)
{
    struct manifest manifest = leave_topic();
    struct fsm *fsm = open_fsm(dirs[0], &manifest, 4096);
    struct err_info info = {0};
    struct packer packer;

    packer_begin(&packer, 1);
    packer_produce(&packer, 4096, &(struct produced){.record_count = 1, .body_size = 9});
    (void)apply(fsm, &packer);
    fsm_close(fsm);
    ck_assert_int_eq(try_open(&manifest, &info), ERR_OK);
    manifest.applied_index = 2;
    ck_assert_int_eq(try_open(&manifest, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "of entry 2"));
    manifest_fini(&manifest);
}
END_TEST

static void take_line(void *arg, const char *line, size_t size)
{
    size_t used = strlen(arg);

    (void)snprintf((char *)arg + used, 2048 - used, "%.*s", (int)size, line); /* or cut */
}

START_TEST(a_torn_tail_is_told_and_replayed)
{
    struct manifest manifest = leave_topic();
    struct fsm *fsm = open_fsm(dirs[0], &manifest, 0);
    const struct produced produced = {.record_count = 1, .body_size = 900, .seed = 77};
    static char line[2048];
    const struct diag diag = {
        .level = DIAG_INFO, .clock = clock_real(), .write = take_line, .arg = line};
    const struct fsm_options options = {
        .io = io_real(), .dir = dirs[0], .diag = &diag, .segment_size_max = 4096};
    char command[IO_PATH_SIZE + 64];
    struct results results;
    struct packer packer;

    packer_begin(&packer, 2);
    packer_produce(&packer, 4096, &produced);
    (void)apply(fsm, &packer);
    fsm_close(fsm);
    (void)snprintf(command, sizeof command,
                   "f=$(ls %s/t-4096/*.store | tail -n 1) && truncate -s -7 \"$f\"", dirs[0]);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(fsm_open(&options, &manifest, &fsm, NULL), ERR_OK);
    ck_assert_ptr_nonnull(strstr(line, "event=torn_tail topic=t file="));
    ck_assert_ptr_nonnull(strstr(line, "bytes=997"));
    packer_begin(&packer, 2);
    packer_produce(&packer, 4096, &produced);
    results = apply(fsm, &packer);
    ck_assert_uint_eq(results.items[0].base_offset, 24);
    fsm_close(fsm);
    manifest_fini(&manifest);
}
END_TEST

/* ---- installing ---- */

static struct fsm *open_with_holes(const char *dir, const struct manifest *manifest,
                                   const struct diag *diag)
{
    const struct fsm_options options = {.io = io_real(),
                                        .dir = dir,
                                        .diag = diag,
                                        .segment_size_max = 4096,
                                        .index_interval = 256,
                                        .holes_allowed = true};
    struct err_info info = {0};
    struct fsm *fsm = NULL;
    enum err err = fsm_open(&options, manifest, &fsm, &info);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    return fsm;
}

static uint64_t hole_count(const struct fsm *fsm)
{
    struct fsm_holes holes;

    fsm_holes(fsm, &holes);
    ck_assert((holes.holes == 0) == (holes.missing == 0 && holes.topics == 0));
    return holes.holes;
}

static void install(struct fsm *to, const struct manifest *manifest)
{
    struct err_info info = {0};
    enum err err = fsm_install(to, manifest, &info);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    ck_assert_uint_eq(fsm_applied_index(to), manifest->applied_index);
    sync_fsm(to);
    fsm_check(to);
}

/* Closes it and opens it again with its own manifest. */
static struct fsm *reopen(struct fsm *fsm, const char *dir)
{
    struct manifest manifest;

    sync_fsm(fsm);
    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    fsm_close(fsm);
    fsm = open_with_holes(dir, &manifest, NULL);
    manifest_fini(&manifest);
    return fsm;
}

/* Brings `to` to where `from` is in one of the ways there are. */
static void advance(struct fsm *to, struct fsm *from, const struct history *history,
                    uint64_t *random)
{
    uint64_t at = fsm_applied_index(from);
    struct manifest manifest;

    ck_assert_int_eq(fsm_manifest(from, &manifest), ERR_OK);
    if (at > fsm_applied_index(to) && history_below(random, 3) > 0) {
        install(to, &manifest);
        (void)history_fill(to, from, history_below(random, 6), NULL);
    } else {
        history_apply(history, to, at); /* Above the holes, where there are some. */
    }
    if (history_below(random, 2) == 0) {
        ck_assert_int_eq(fsm_forget(to, fsm_applied_index(to), NULL), ERR_OK);
    }
    fsm_check(to);
    manifest_fini(&manifest);
}

static size_t cursors_of(struct fsm *fsm)
{
    return cursors_count(catalog_cursors(fsm_catalog(fsm)));
}

START_TEST(installing_filling_and_applying_come_to_the_same)
{
    struct history history;
    struct fsm *from = open_fsm(dirs[0], NULL, 8192);
    struct fsm *to = open_with_holes(dirs[1], NULL, NULL);
    uint64_t random = 1000 + (uint64_t)_i;
    uint64_t holes = 0;
    size_t most = 0;

    history_init(&history, 300 + (uint64_t)_i, 240);
    while (fsm_applied_index(from) < 240) {
        uint64_t next = fsm_applied_index(from) + 1 + history_below(&random, 30);

        history_apply(&history, from, next < 240 ? next : 240);
        advance(to, from, &history, &random);
        holes += hole_count(to);
        most = cursors_of(to) > most ? cursors_of(to) : most;
        if (history_below(&random, 3) == 0) {
            uint64_t before = hole_count(to);

            to = reopen(to, dirs[1]);
            ck_assert_uint_eq(hole_count(to), before);
        }
        if (history_below(&random, 3) == 0) {
            ck_assert(history_fill(to, from, UINT32_MAX, NULL));
            history_assert_equal(to, from);
        }
    }
    ck_assert_uint_gt(holes, 0);
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    ck_assert_uint_eq(hole_count(to), 0);
    history_assert_equal(to, from);
    ck_assert_uint_gt(most, 2);
    fsm_close(from);
    fsm_close(to);
    history_fini(&history);
}
END_TEST

/* Applies two batches of topic 4096 as the next entry. */
static void apply_two(struct fsm *fsm, uint64_t seed)
{
    struct packer packer;

    packer_begin(&packer, 5);
    for (unsigned i = 0; i < 2; i++) {
        packer_produce(&packer, 4096,
                       &(struct produced){.record_count = 2, .body_size = 900, .seed = seed + i});
    }
    (void)apply(fsm, &packer);
}

START_TEST(entries_are_applied_above_a_hole_at_once)
{
    struct manifest manifest = leave_topic();
    struct fsm *from = open_fsm(dirs[0], &manifest, 4096);
    struct fsm *to = open_with_holes(dirs[1], NULL, NULL);
    struct batch_header header;
    struct fsm_hole hole;
    struct topic *topic;

    install(to, &manifest);
    apply_two(from, 77);
    apply_two(to, 77);
    topic = catalog_find(fsm_catalog(to), "t");
    ck_assert_uint_eq(log_end(topic->log), 28);
    ck_assert_int_eq(log_read_header(topic->log, 24, &header, NULL), ERR_OK);
    ck_assert_int_eq(log_read_header(topic->log, 23, &header, NULL), ERR_HOLE);
    topic_unref(topic);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    ck_assert_uint_eq(hole.chain.offset, 0);
    ck_assert_uint_eq(hole.to, 24);
    ck_assert(hole.chain.known && !hole.edge_known); /* The batch above tells. */
    fsm_hole_fini(&hole);
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_NOT_FOUND);
    history_assert_equal(to, from);
    fsm_close(from);
    fsm_close(to);
    manifest_fini(&manifest);
}
END_TEST

/* The first chunk of the hole from the topic of `from`. */
static struct slice read_chunk(struct fsm *from, const struct fsm_hole *hole, size_t size_max)
{
    struct topic *topic = fsm_find_promised(from, hole->topic->id);
    struct block *block;
    uint64_t end;

    ck_assert_ptr_nonnull(topic);
    ck_assert_int_eq(
        log_read(topic->log, hole->chain.offset, hole->to, size_max, &block, &end, NULL), ERR_OK);
    topic_unref(topic);
    return (struct slice){.block = block, .data = block->data, .size = block->size};
}

START_TEST(a_chunk_that_comes_twice_changes_nothing)
{
    struct manifest manifest = leave_topic();
    struct fsm *from = open_fsm(dirs[0], &manifest, 4096);
    struct fsm *to = open_with_holes(dirs[1], NULL, NULL);
    struct fsm_hole hole;
    struct fsm_hole again;
    struct chain after;
    struct slice chunk;

    install(to, &manifest);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    ck_assert_int_eq(fsm_next_hole(to, &again), ERR_OK);
    chunk = read_chunk(from, &hole, 2500);
    after = hole.chain;
    ck_assert_int_eq(chain_follow(&after, chunk.data, chunk.size, NULL), ERR_OK);
    ck_assert_uint_eq(after.offset, 4);
    ck_assert_int_eq(fsm_fill(to, &hole, &chunk, &after, false, NULL), ERR_OK);
    ck_assert_uint_eq(hole.chain.offset, 4);
    ck_assert_int_eq(fsm_fill(to, &again, &chunk, &after, false, NULL), ERR_NOT_FOUND);
    fsm_hole_fini(&again);
    ck_assert_int_eq(fsm_next_hole(to, &again), ERR_OK);
    ck_assert_uint_eq(again.begin, 0); /* It has met nothing yet. */
    ck_assert_uint_eq(again.chain.offset, 4);
    ck_assert_mem_eq(again.chain.digest, after.digest, DIGEST_SIZE);
    block_unref(chunk.block);
    fsm_hole_fini(&hole);
    fsm_hole_fini(&again);
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    history_assert_equal(to, from);
    fsm_close(from);
    fsm_close(to);
    manifest_fini(&manifest);
}
END_TEST

START_TEST(what_comes_for_a_topic_that_was_deleted_is_nobodys)
{
    struct manifest manifest = leave_topic();
    struct fsm *from = open_fsm(dirs[0], &manifest, 4096);
    struct fsm *to = open_with_holes(dirs[1], NULL, NULL);
    struct fsm_hole hole;
    struct chain after;
    struct packer packer;
    struct slice chunk;

    install(to, &manifest);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    chunk = read_chunk(from, &hole, 2500);
    after = hole.chain;
    ck_assert_int_eq(chain_follow(&after, chunk.data, chunk.size, NULL), ERR_OK);
    packer_begin(&packer, 9);
    packer_delete(&packer, "t");
    (void)apply(to, &packer);
    ck_assert_uint_eq(hole_count(to), 0);
    ck_assert_int_eq(fsm_forget(to, 2, NULL), ERR_OK);
    ck_assert_int_eq(fsm_fill(to, &hole, &chunk, &after, false, NULL), ERR_NOT_FOUND);
    block_unref(chunk.block);
    fsm_hole_fini(&hole);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_NOT_FOUND);
    fsm_close(from);
    fsm_close(to);
    manifest_fini(&manifest);
}
END_TEST

/* A node with another history: the same topic, as many records, other contents. */
static struct fsm *another_history(void)
{
    struct fsm *fsm = open_fsm(dirs[2], NULL, 4096);
    struct packer packer;

    packer_begin(&packer, 1);
    packer_create(&packer, "t");
    for (uint64_t i = 0; i < 12; i++) {
        packer_produce(&packer, 4096,
                       &(struct produced){.record_count = 2, .body_size = 900, .seed = 100 + i});
    }
    (void)apply(fsm, &packer);
    return fsm;
}

/* Every batch is whole and follows on the one before; only the end tells. (0: the topic's digest,
 * 1: the batch above) */
START_TEST(another_history_does_not_meet_and_goes_again)
{
    struct manifest manifest = leave_topic();
    struct fsm *from = open_fsm(dirs[0], &manifest, 4096);
    struct fsm *other = another_history();
    struct fsm *to = open_with_holes(dirs[1], NULL, NULL);
    struct err_info info = {0};
    struct fsm_hole hole;
    enum err err = ERR_OK;

    install(to, &manifest);
    if (_i == 1) {
        apply_two(from, 3);
        apply_two(to, 3);
    }
    ck_assert(!history_fill(to, other, UINT32_MAX, &err));
    ck_assert_int_eq(err, ERR_DIVERGED);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    ck_assert_uint_eq(hole.begin, 0);
    ck_assert_uint_gt(hole.chain.offset, 12);
    ck_assert_int_eq(fsm_punch(to, hole.topic, hole.begin, hole.chain.offset, &info), ERR_OK);
    fsm_hole_fini(&hole);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    ck_assert_uint_eq(hole.chain.offset, 0);
    ck_assert_uint_eq(hole.to, 24);
    fsm_hole_fini(&hole);
    to = reopen(to, dirs[1]);
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    history_assert_equal(to, from);
    fsm_close(from);
    fsm_close(other);
    fsm_close(to);
    manifest_fini(&manifest);
}
END_TEST

/* 0: the topic's directory is gone, 1: one of its files, 2: a byte of one differs, 3: one is cut */
START_TEST(what_is_lost_or_damaged_becomes_a_hole_and_is_told)
{
    static char line[2048];
    const struct diag diag = {
        .level = DIAG_WARN, .clock = clock_real(), .write = take_line, .arg = line};
    static const char *const wrongs[] = {
        "rm -r t-4096",
        "rm $(ls t-4096/*.store | sed -n 2p)",
        "printf x | dd conv=notrunc status=none bs=1 seek=1500 of=$(ls t-4096/*.store | tail -n 1)",
        "truncate -s 1100 $(ls t-4096/*.store | sed -n 2p)",
    };
    struct manifest manifest = leave_topic();
    char command[2 * IO_PATH_SIZE];
    struct fsm *from;
    struct fsm *fsm;

    (void)snprintf(command, sizeof command, "cp -r %s/t-4096 %s", dirs[0], dirs[1]); /* fits */
    ck_assert_int_eq(system(command), 0);
    from = open_fsm(dirs[1], &manifest, 4096);
    (void)snprintf(command, sizeof command, "cd %s && %s", dirs[0], wrongs[_i]); /* fits */
    ck_assert_int_eq(system(command), 0);
    fsm = open_with_holes(dirs[0], &manifest, &diag);
    ck_assert_ptr_nonnull(strstr(line, "event=holes topic=t"));
    if (_i != 1) { /* A file that is not there has no name. */
        ck_assert_ptr_nonnull(strstr(line, "event=damage_found topic=t"));
        ck_assert_ptr_nonnull(strstr(line, dirs[0])); /* Which file, where. */
    }
    ck_assert_uint_gt(hole_count(fsm), 0);
    ck_assert(history_fill(fsm, from, UINT32_MAX, NULL));
    history_assert_equal(fsm, from);
    fsm = reopen(fsm, dirs[0]);
    ck_assert_uint_eq(hole_count(fsm), 0);
    history_assert_equal(fsm, from);
    fsm_close(fsm);
    fsm_close(from);
    manifest_fini(&manifest);
}
END_TEST

START_TEST(a_manifest_of_another_history_is_a_divergence)
{
    struct manifest manifest = leave_topic();
    struct fsm *fsm = open_fsm(dirs[0], &manifest, 4096);
    struct err_info info = {0};

    ck_assert_int_eq(fsm_install(fsm, &manifest, &info), ERR_INVALID); /* not ahead */
    manifest.applied_index = 5;
    manifest.topics[0].digest[0] ^= 1;
    ck_assert_int_eq(fsm_install(fsm, &manifest, &info), ERR_DIVERGED);
    ck_assert_int_eq(info.code, ERR_DIVERGED);
    manifest.topics[0].digest[0] ^= 1;
    manifest.topics[0].end -= 2;
    ck_assert_int_eq(fsm_install(fsm, &manifest, &info), ERR_DIVERGED);
    manifest.topics[0].end += 2;
    manifest.topics[0].name[0] = 'x';
    ck_assert_int_eq(fsm_install(fsm, &manifest, &info), ERR_DIVERGED);
    manifest.topics[0].name[0] = 't';
    manifest.topics[0].id++; /* of an entry that was applied here, and is not here */
    ck_assert_int_eq(fsm_install(fsm, &manifest, &info), ERR_DIVERGED);
    manifest.topics[0].id--;
    ck_assert_uint_eq(fsm_applied_index(fsm), 1);
    ck_assert_int_eq(fsm_install(fsm, &manifest, &info), ERR_OK);
    ck_assert_uint_eq(fsm_applied_index(fsm), 5);
    ck_assert_uint_eq(hole_count(fsm), 0);
    fsm_close(fsm);
    manifest_fini(&manifest);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/fsm");
    TCase *results = tcase_create("fsm_apply");
    TCase *replay = tcase_create("replay");
    TCase *opening = tcase_create("fsm_open");
    TCase *installing = tcase_create("fsm_install");

    tcase_add_checked_fixture(results, setup, teardown);
    tcase_add_test(results, topics_are_created_found_and_deleted);
    tcase_add_test(results, a_topic_is_made_with_settings_and_altered);
    tcase_add_test(results, settings_that_are_not_allowed_change_nothing);
    tcase_add_test(results, the_size_of_segments_follows_the_settings);
    tcase_add_test(results, settings_come_with_a_manifest);
    tcase_add_test(results, a_produce_gets_offset_index_term_and_time);
    tcase_add_test(results, a_conditional_produce_is_written_at_its_offset_or_not_at_all);
    tcase_add_test(results, a_claim_raises_the_epoch_and_tells_the_records);
    tcase_add_test(results, the_digest_in_the_log_is_the_chain_of_all_before);
    tcase_add_test(results, a_retry_gets_its_first_answer);
    tcase_add_test(results, a_cursor_is_compared_and_set_where_its_topic_is);
    tcase_add_test(results, a_topic_takes_its_cursors_along);
    tcase_add_test(results, barriers_and_changes_only_move_the_index);
    tcase_add_test(results, what_cannot_be_read_stops_the_node);
    suite_add_tcase(suite, results);
    tcase_add_checked_fixture(replay, setup, teardown);
    tcase_add_loop_test(replay, the_same_entries_give_the_same_state_in_any_segments, 0, 3);
    tcase_add_loop_test(replay, replay_from_a_manifest_gives_the_same_state, 0, 6);
    tcase_add_test(replay, another_batch_in_the_log_is_a_divergence);
    suite_add_tcase(suite, replay);
    tcase_add_checked_fixture(opening, setup, teardown);
    tcase_add_test(opening, unknown_directories_go_and_other_things_stay);
    tcase_add_test(opening, what_the_manifest_promises_must_be_there);
    tcase_add_test(opening, batches_of_entries_that_the_manifest_covers_cannot_lie_above_it);
    tcase_add_test(opening, a_torn_tail_is_told_and_replayed);
    suite_add_tcase(suite, opening);
    tcase_add_checked_fixture(installing, setup, teardown);
    tcase_add_loop_test(installing, installing_filling_and_applying_come_to_the_same, 0, 6);
    tcase_add_test(installing, entries_are_applied_above_a_hole_at_once);
    tcase_add_test(installing, a_chunk_that_comes_twice_changes_nothing);
    tcase_add_test(installing, what_comes_for_a_topic_that_was_deleted_is_nobodys);
    tcase_add_loop_test(installing, another_history_does_not_meet_and_goes_again, 0, 2);
    tcase_add_loop_test(installing, what_is_lost_or_damaged_becomes_a_hole_and_is_told, 0, 4);
    tcase_add_test(installing, a_manifest_of_another_history_is_a_divergence);
    suite_add_tcase(suite, installing);
    return runner_main(suite);
}
