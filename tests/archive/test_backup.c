#include "archive/backup.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/chained.h"
#include "archive/restore.h"
#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "log/log.h"

#define CLUSTER "0123456789abcdef0123456789abcdef"

static struct chained topics[2]; /* "a" and "b" */
static const char *tmp;
static char dir[256];
static struct backup_totals totals;

/* The kernel, but syncs are not waited for. */
static int no_sync(struct io *io, int fd)
{
    (void)io;
    (void)fd;
    return 0;
}

static int no_sync_dir(struct io *io, const char *path)
{
    (void)io;
    (void)path;
    return 0;
}

static struct io *quick_io(void)
{
    static struct io io;

    io = *io_real();
    io.fdatasync = no_sync;
    io.sync_dir = no_sync_dir;
    return &io;
}

static void setup(void)
{
    tmp = tmpdir_new();
    (void)snprintf(dir, sizeof dir, "%s/backup", tmp); /* fits */
    chained_init(&topics[0], 4096, "a");
    chained_init(&topics[1], 8192, "b");
    for (int i = 0; i < 4; i++) {
        chained_add(&topics[0], 2, 40);
        chained_add(&topics[1], 1, 25);
    }
}

static void teardown(void)
{
    chained_fini(&topics[0]);
    chained_fini(&topics[1]);
    tmpdir_remove(tmp);
}

/* Gives the writer what it wants, out of the topics here. */
static enum err feed(struct backup_writer *writer, struct err_info *info)
{
    struct backup_want want;
    bool wanted = true;
    enum err err = ERR_OK;

    while (err == ERR_OK && wanted) {
        const struct chained *topic;
        size_t at = 0;

        err = backup_next(writer, &wanted, &want, info);
        if (err != ERR_OK || !wanted) {
            break;
        }
        topic = strcmp(want.name, "a") == 0 ? &topics[0] : &topics[1];
        while (batch_end_offset(&topic->headers[at]) <= want.offset) {
            at++;
        }
        err = backup_add(writer, topic->bytes + topic->positions[at],
                         topic->size - topic->positions[at], info);
    }
    return err;
}

static enum err make(struct io *io, uint64_t index, const struct backup_source *more,
                     struct err_info *info)
{
    struct slice manifest = chained_manifest(topics, 2, index);
    struct backup_source source = more != NULL ? *more : (struct backup_source){0};
    struct backup_writer *writer;
    enum err err;

    source.cluster_id = source.cluster_id != NULL ? source.cluster_id : CLUSTER;
    source.index = index;
    source.term = 3;
    source.manifest = manifest.data;
    source.manifest_size = manifest.size;
    err = backup_begin(io, dir, &source, &writer, info);
    if (err == ERR_OK) {
        err = feed(writer, info);
        if (err == ERR_OK) {
            err = backup_end(writer, &totals, info);
        } else {
            backup_abort(writer);
        }
    }
    block_unref(manifest.block);
    return err;
}

/* Opens and verifies. */
static enum err look(uint64_t *ret_index, uint64_t *ret_records, struct err_info *info)
{
    struct backup backup;
    enum err err = backup_open(io_real(), dir, &backup, info);

    if (err != ERR_OK) {
        return err;
    }
    err = backup_verify(&backup, NULL, NULL, info);
    *ret_index = backup.index;
    *ret_records = 0;
    for (size_t i = 0; i < backup.topic_count; i++) {
        *ret_records += backup.topics[i].end - backup.topics[i].start;
    }
    backup_close(&backup);
    return err;
}

static void expect_backup(uint64_t index, uint64_t records)
{
    struct err_info info = {0};
    uint64_t found_index = 0;
    uint64_t found_records = 0;

    ck_assert_msg(look(&found_index, &found_records, &info) == ERR_OK, "%s", info.text);
    ck_assert_uint_eq(found_index, index);
    ck_assert_uint_eq(found_records, records);
}

static void make_ok(uint64_t index, const struct backup_source *more)
{
    struct err_info info = {0};

    ck_assert_msg(make(quick_io(), index, more, &info) == ERR_OK, "%s", info.text);
}

/* ---- tests ---- */

START_TEST(what_was_written_is_there_and_verifies)
{
    uint64_t number;

    ck_assert_int_eq(look(&number, &number, NULL), ERR_NOT_FOUND);
    make_ok(50, NULL);
    expect_backup(50, 12);
    ck_assert_uint_eq(totals.records, 12);
    ck_assert_uint_eq(totals.topics, 2);
    ck_assert_uint_eq(totals.linked, 0);
}
END_TEST

START_TEST(the_next_one_adds_only_what_is_new)
{
    uint64_t first;

    make_ok(50, NULL);
    first = totals.copied;
    make_ok(51, NULL); /* Nothing new. */
    ck_assert_uint_eq(totals.copied, 0);
    expect_backup(51, 12);
    chained_add(&topics[1], 5, 30);
    make_ok(60, NULL);
    ck_assert_uint_eq(totals.records, 5);
    ck_assert_uint_lt(totals.copied, first);
    expect_backup(60, 17);
}
END_TEST

/* The node has merged what is in the backup with what is not. */
START_TEST(the_next_one_takes_its_part_of_a_batch_that_was_merged_across_the_old_end)
{
    make_ok(50, NULL);
    chained_add(&topics[0], 3, 40);
    chained_add(&topics[0], 2, 40);
    chained_merge(&topics[0], 2, 3);
    make_ok(60, NULL);
    expect_backup(60, 17);
    ck_assert_uint_eq(totals.records, 5);
}
END_TEST

/* … with what was written after the manifest was taken. */
START_TEST(a_batch_that_was_merged_across_the_end_is_cut_at_it)
{
    struct chained later;
    uint64_t end = topics[0].end;
    uint8_t digest[DIGEST_SIZE];

    memcpy(digest, topics[0].digest, sizeof digest);
    chained_add(&topics[0], 3, 40);
    chained_add(&topics[0], 2, 40);
    chained_merge(&topics[0], 2, 3);
    later = topics[0];
    topics[0].end = end;
    memcpy(topics[0].digest, digest, sizeof digest);
    make_ok(50, NULL);
    expect_backup(50, 12);
    topics[0] = later;
    memcpy(topics[0].digest, later.headers[later.count - 1].digest, sizeof digest);
    make_ok(60, NULL);
    expect_backup(60, 17);
}
END_TEST

START_TEST(only_the_named_topics_are_in_it_and_in_its_manifest)
{
    static const char *const names[] = {"b"};
    static const char *const strange[] = {"b", "c"};
    const struct backup_source source = {.topics = names, .topic_count = 1};
    const struct backup_source wrong = {.topics = strange, .topic_count = 2};
    struct manifest manifest;
    struct backup backup;
    struct slice bytes;

    ck_assert_int_eq(make(quick_io(), 50, &wrong, NULL), ERR_NOT_FOUND);
    make_ok(50, &source);
    expect_backup(50, 4);
    ck_assert_int_eq(backup_open(io_real(), dir, &backup, NULL), ERR_OK);
    ck_assert_int_eq(backup_manifest(&backup, &bytes, NULL), ERR_OK);
    ck_assert_int_eq(manifest_decode(bytes.data, bytes.size, &manifest, NULL), ERR_OK);
    ck_assert_uint_eq(manifest.topic_count, 1);
    ck_assert_str_eq(manifest.topics[0].name, "b");
    manifest_fini(&manifest);
    block_unref(bytes.block);
    backup_close(&backup);
    make_ok(51, NULL);
    expect_backup(51, 12);
}
END_TEST

START_TEST(another_cluster_an_older_state_and_another_history_are_refused)
{
    const struct backup_source other = {.cluster_id = "f123456789abcdef0123456789abcdef"};

    make_ok(50, NULL);
    ck_assert_int_eq(make(quick_io(), 60, &other, NULL), ERR_WRONG_CLUSTER);
    ck_assert_int_eq(make(quick_io(), 49, NULL, NULL), ERR_RANGE);
    topics[0].digest[0] ^= 1;
    ck_assert_int_eq(make(quick_io(), 60, NULL, NULL), ERR_CORRUPT);
    topics[0].digest[0] ^= 1;
    expect_backup(50, 12);
}
END_TEST

START_TEST(batches_that_are_not_the_manifests_are_refused)
{
    struct err_info info = {0};

    make_ok(50, NULL);
    chained_add(&topics[0], 1, 10);
    topics[0].bytes[topics[0].size - 1] ^= 1;
    ck_assert_int_eq(make(quick_io(), 60, NULL, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "'a'"));
    topics[0].bytes[topics[0].size - 1] ^= 1;
    topics[0].digest[5] ^= 1;
    ck_assert_int_eq(make(quick_io(), 60, NULL, &info), ERR_CORRUPT);
    topics[0].digest[5] ^= 1;
    expect_backup(50, 12);
    make_ok(60, NULL);
    expect_backup(60, 13);
}
END_TEST

START_TEST(two_at_a_time_are_one_too_many)
{
    struct slice manifest = chained_manifest(topics, 2, 50);
    const struct backup_source source = {.cluster_id = CLUSTER,
                                         .index = 50,
                                         .term = 1,
                                         .manifest = manifest.data,
                                         .manifest_size = manifest.size};
    struct backup_writer *writer;

    ck_assert_int_eq(backup_begin(quick_io(), dir, &source, &writer, NULL), ERR_OK);
    ck_assert_int_eq(make(quick_io(), 51, NULL, NULL), ERR_LOCKED);
    backup_abort(writer);
    make_ok(51, NULL);
    block_unref(manifest.block);
}
END_TEST

/* Calls flip with every file of the backup. */
static void each_file(const char *path, void (*flip)(const char *path))
{
    DIR *opened = opendir(path);
    struct dirent *entry;

    ck_assert_ptr_nonnull(opened);
    while ((entry = readdir(opened)) != NULL) {
        char below[1024];
        struct stat st;

        (void)snprintf(below, sizeof below, "%.500s/%.500s", path, entry->d_name); /* fits */
        ck_assert_int_eq(stat(below, &st), 0);
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "lock") == 0) {
            continue;
        }
        if (S_ISDIR(st.st_mode)) {
            each_file(below, flip);
        } else {
            flip(below);
        }
    }
    ck_assert_int_eq(closedir(opened), 0);
}

static unsigned files_flipped;

static void flip_each_byte(const char *path)
{
    FILE *file = fopen(path, "r+b");
    int c;

    ck_assert_ptr_nonnull(file);
    setbuf(file, NULL);
    files_flipped++;
    for (long at = 0; (c = getc(file)) != EOF; at++) {
        struct err_info info = {0};
        uint64_t number;
        enum err err;

        ck_assert_int_eq(fseek(file, at, SEEK_SET), 0);
        ck_assert_int_eq(putc(c ^ 1 << at % 8, file), (c ^ 1 << at % 8) & 0xff);
        err = look(&number, &number, &info);
        ck_assert_msg(err == ERR_CORRUPT || err == ERR_VERSION, "byte %ld of %s: %s", at, path,
                      err_name(err));
        ck_assert_msg(strstr(info.text, "backup") != NULL, "no place: %s", info.text);
        ck_assert_int_eq(fseek(file, at, SEEK_SET), 0);
        ck_assert_int_eq(putc(c, file), c);
        ck_assert_int_eq(fseek(file, at + 1, SEEK_SET), 0);
    }
    ck_assert_int_eq(fclose(file), 0);
}

/* From whole to empty; then it is as it was. */
static void cut_at_each_byte(const char *path)
{
    FILE *file = fopen(path, "r+b");
    char bytes[4096];
    size_t size;

    ck_assert_ptr_nonnull(file);
    setbuf(file, NULL);
    files_flipped++;
    size = fread(bytes, 1, sizeof bytes, file);
    ck_assert_uint_lt(size, sizeof bytes);
    for (size_t left = size; left > 0; left--) {
        struct err_info info = {0};
        uint64_t number;

        ck_assert_int_eq(ftruncate(fileno(file), (off_t)left - 1), 0);
        ck_assert_msg(look(&number, &number, &info) == ERR_CORRUPT, "%s of %zu bytes", path,
                      left - 1);
        ck_assert_msg(strstr(info.text, "backup") != NULL, "no place: %s", info.text);
    }
    ck_assert_int_eq(fseek(file, 0, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_file_that_is_cut_anywhere_is_found)
{
    make_ok(50, NULL);
    files_flipped = 0;
    each_file(dir, cut_at_each_byte);
    ck_assert_uint_eq(files_flipped, 4); /* index, manifest, one of a, one of b */
    expect_backup(50, 12);
}
END_TEST

START_TEST(a_changed_byte_of_any_file_is_found)
{
    make_ok(50, NULL);
    chained_add(&topics[0], 1, 10);
    make_ok(51, NULL);
    files_flipped = 0;
    each_file(dir, flip_each_byte);
    ck_assert_uint_eq(files_flipped, 5); /* index, manifest, two of a, one of b */
    expect_backup(51, 13);
}
END_TEST

START_TEST(a_failed_call_leaves_the_backup_that_was_there_or_the_new_one)
{
    struct faulty_io faulty;
    unsigned n = 0;
    bool through = false;

    make_ok(50, NULL);
    while (!through) {
        struct err_info info = {0};
        uint64_t records = 0;
        uint64_t index = 0;
        enum err err;

        n++;
        ck_assert_uint_lt(n, 1000);
        chained_add(&topics[n % 2], 1, 10);
        faulty_io_init(&faulty, quick_io());
        faulty_io_fail_at(&faulty, n, ENOSPC, true);
        err = make(&faulty.io, 50 + n, NULL, &info);
        through = err == ERR_OK && faulty_io_calls(&faulty) < n;
        ck_assert_msg(look(&index, &records, &info) == ERR_OK, "call %u: %s", n, info.text);
        ck_assert_uint_ge(index, 50);
        ck_assert_uint_le(index, 50 + n);
        make_ok(50 + n, NULL);
        expect_backup(50 + n, 12 + n);
    }
    ck_assert_uint_gt(n, 20);
}
END_TEST

/* ---- hard links ---- */

/* The topics as a node keeps them, in small segments. */
static void make_node(const char *data)
{
    char path[512];
    char group[320];

    (void)snprintf(group, sizeof group, "%s/group-1", data); /* fits */
    ck_assert_int_eq(io_make_dir(quick_io(), tmp, "data", NULL), ERR_OK);
    ck_assert_int_eq(io_make_dir(quick_io(), data, "group-1", NULL), ERR_OK);
    ck_assert_int_eq(io_make_dir(quick_io(), group, "topics", NULL), ERR_OK);
    for (size_t i = 0; i < 2; i++) {
        struct log_options options = {.io = quick_io(), .dir = path, .segment_size_max = 4096};
        struct log_report report;
        char name[64];
        struct log *log;

        (void)snprintf(path, sizeof path, "%s/topics", group); /* fits */
        (void)snprintf(name, sizeof name, "%s-%llu", topics[i].name,
                       (unsigned long long)topics[i].id); /* fits */
        ck_assert_int_eq(io_make_dir(quick_io(), path, name, NULL), ERR_OK);
        (void)snprintf(path, sizeof path, "%s/topics/%s", group, name); /* fits */
        ck_assert_int_eq(log_open(&options, &log, &report, NULL), ERR_OK);
        ck_assert_int_eq(log_append_raw(log, topics[i].bytes, topics[i].size, NULL), ERR_OK);
        log_close(log);
    }
}

START_TEST(sealed_segments_are_linked_and_the_rest_is_wanted)
{
    char data[300];
    struct backup_source source = {.data = data};

    (void)snprintf(data, sizeof data, "%s/data", tmp); /* fits */
    make_ok(50, NULL);                                 /* The first batches are copied. */
    for (int i = 0; i < 40; i++) {
        chained_add(&topics[0], 2, 400);
    }
    make_node(data);
    make_ok(60, &source);
    ck_assert_uint_eq(totals.records, 80);
    ck_assert_uint_gt(totals.linked, totals.copied);
    ck_assert_uint_gt(totals.copied, 0);
    expect_backup(60, 92);
    /* What a node's file turns into matters nothing to one that is not there. */
    source.data = "/nowhere";
    chained_add(&topics[0], 2, 400);
    make_ok(61, &source);
    ck_assert_uint_eq(totals.linked, 0);
    expect_backup(61, 94);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("backup");
    TCase *tcase = tcase_create("backup");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, what_was_written_is_there_and_verifies);
    tcase_add_test(tcase, the_next_one_adds_only_what_is_new);
    tcase_add_test(tcase,
                   the_next_one_takes_its_part_of_a_batch_that_was_merged_across_the_old_end);
    tcase_add_test(tcase, a_batch_that_was_merged_across_the_end_is_cut_at_it);
    tcase_add_test(tcase, only_the_named_topics_are_in_it_and_in_its_manifest);
    tcase_add_test(tcase, another_cluster_an_older_state_and_another_history_are_refused);
    tcase_add_test(tcase, batches_that_are_not_the_manifests_are_refused);
    tcase_add_test(tcase, two_at_a_time_are_one_too_many);
    tcase_add_test(tcase, a_file_that_is_cut_anywhere_is_found);
    tcase_add_test(tcase, a_changed_byte_of_any_file_is_found);
    tcase_add_test(tcase, a_failed_call_leaves_the_backup_that_was_there_or_the_new_one);
    tcase_add_test(tcase, sealed_segments_are_linked_and_the_rest_is_wanted);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
