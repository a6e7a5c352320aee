#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/fsck.h"
#include "archive/index_files.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "raft_fsm/manifest.h"

enum { ALONE = 1, THREE = 3 };

static struct node_dir dir;
static struct fsck_summary summary;
static struct err_info info;
static char path[IO_PATH_SIZE];

/* All that was said in the last check. */
static struct {
    char text[64 * 1024];
    size_t size;
    unsigned count;
    enum fsck_level worst;
} said;

static enum err note(void *arg, const struct fsck_finding *finding)
{
    int size = snprintf(said.text + said.size, sizeof said.text - said.size, "%s %s %s: %s; %s\n",
                        fsck_level_name(finding->level), finding->what, finding->path,
                        finding->text, finding->advice);

    (void)arg;
    ck_assert_int_gt(size, 0);
    ck_assert_uint_lt(said.size + (size_t)size, sizeof said.text);
    said.size += (size_t)size;
    said.count++;
    said.worst = finding->level > said.worst ? finding->level : said.worst;
    return ERR_OK;
}

static void check_dir(void)
{
    const struct fsck_options options = {.io = &dir.disk.io, .dir = NODE_DIR, .cb = note};
    unsigned open = mem_io_open_count(&dir.disk);
    enum err err;

    memset(&said, 0, sizeof said);
    info.text[0] = '\0';
    err = fsck_run(&options, &summary, &info);
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    ck_assert_uint_eq(mem_io_open_count(&dir.disk), open);
    ck_assert_uint_eq(summary.counts[0] + summary.counts[1] + summary.counts[2], said.count);
}

/* One thing is said: "LEVEL WHAT PATH: ", then something with `text`. */
static void check_says(const char *begin, const char *at, const char *text)
{
    char line[IO_PATH_SIZE + 64];

    check_dir();
    snprintf(line, sizeof line, "%s %s: ", begin, at);
    ck_assert_msg(said.count == 1 && strncmp(said.text, line, strlen(line)) == 0 &&
                      strstr(said.text, text) != NULL,
                  "'%s', '%s' is not what was said:\n%s", line, text, said.text);
}

static void check_says_nothing(void)
{
    check_dir();
    ck_assert_msg(said.count == 0, "%s", said.text);
}

static void setup(void)
{
    node_dir_make(&dir, THREE, 1);
}

static void teardown(void)
{
    node_dir_fini(&dir);
}

static struct part_seal add(const char *topic_dir, enum part_kind kind, unsigned first,
                            unsigned last)
{
    struct part_seal seal = index_files_seal(&dir, topic_dir, kind, first, last);

    index_files_add(&dir, topic_dir, &seal, path);
    return seal;
}

/* ---- what is right ---- */

START_TEST(indexes_of_the_log_have_nothing_to_say)
{
    uint64_t bytes;
    uint64_t files;

    check_says_nothing();
    ck_assert_uint_eq(summary.index_files, 0);
    bytes = summary.bytes;
    files = summary.files;
    for (unsigned i = 0; i < 2; i++) {
        (void)add(dir.a, PART_TIME, i, i);
        (void)add(dir.a, PART_BLOOM, i, i);
        (void)add(dir.b, PART_TIME, i, i);
    }
    (void)add(dir.a, PART_KEYS, 0, 1);
    (void)add(dir.a, PART_KEYS, 2, 2);
    (void)add(dir.c, PART_TIME, 0, 0); /* The journal makes the topic. */
    (void)add(dir.c, PART_KEYS, 0, 0);
    check_says_nothing();
    ck_assert_uint_eq(summary.index_files, 10);
    ck_assert_uint_eq(summary.files, files + 10);
    ck_assert_uint_gt(summary.bytes, bytes + 2 * 4096);
}
END_TEST

static int refuse_changes(void *arg, struct mem_io_op *op)
{
    (void)arg;
    ck_assert_msg(op->kind != MEM_IO_PWRITEV && op->kind != MEM_IO_TRUNCATE &&
                      op->kind != MEM_IO_RENAME && op->kind != MEM_IO_UNLINK &&
                      op->kind != MEM_IO_MKDIR && op->kind != MEM_IO_RMDIR,
                  "'%s' is changed", op->path);
    return 0;
}

START_TEST(nothing_is_changed_and_all_bytes_are_counted)
{
    uint64_t before;
    uint64_t size;

    check_says_nothing();
    before = summary.bytes;
    (void)add(dir.a, PART_KEYS, 0, 1);
    ck_assert(node_dir_find(&dir, path, "", 0, path, &size));
    mem_io_set_hook(&dir.disk, refuse_changes, NULL);
    check_says_nothing();
    ck_assert_uint_eq(summary.bytes, before + size);
    node_dir_flip(&dir, path, size / 2, 3);
    check_dir();
    ck_assert_uint_eq(summary.counts[FSCK_REPAIRED], 1);
    mem_io_set_hook(&dir.disk, NULL, NULL);
}
END_TEST

/* ---- damage ---- */

/* Each bit of what is small, each third one of the seals, and some of the rest: all of it is tried
 * in test_dump_indexes.c, which verifies by the same code. */
START_TEST(every_flipped_bit_is_found_and_its_file_named)
{
    uint64_t size;
    uint64_t step;

    (void)add(dir.c, (enum part_kind)_i, 0, 0);
    ck_assert(node_dir_find(&dir, path, "", 0, path, &size));
    for (uint64_t bit = 0; bit < size * 8; bit += step) {
        step = size < 1024 ? 1 : bit / 8 + 256 < size ? size * 8 / 250 : 3;
        node_dir_flip(&dir, path, bit / 8, (unsigned)bit % 8);
        check_dir();
        ck_assert_msg(said.count == 1 && said.worst <= FSCK_REPAIRED &&
                          strstr(said.text, path) != NULL,
                      "bit %llu: %s", (unsigned long long)bit, said.text);
        ck_assert_ptr_nonnull(strstr(said.text, "makes it again from the topic's log"));
        node_dir_flip(&dir, path, bit / 8, (unsigned)bit % 8);
    }
    check_says_nothing();
}
END_TEST

START_TEST(a_file_that_was_cut_is_found)
{
    uint64_t size;
    uint8_t *bytes;

    (void)add(dir.a, (enum part_kind)_i, 0, 0);
    bytes = node_dir_read(&dir, path, &size);
    for (uint64_t cut = 0; cut < size; cut += size / 20 + 1) {
        node_dir_write(&dir, path, bytes, cut);
        check_says("repaired damaged", path, "");
    }
    free(bytes);
}
END_TEST

START_TEST(a_file_of_another_topic_or_under_another_name_is_damaged)
{
    struct part_seal seal = index_files_seal(&dir, dir.a, (enum part_kind)_i, 0, 0);
    char name[PART_NAME_SIZE];
    char other[IO_PATH_SIZE];
    uint64_t size;
    uint8_t *bytes;

    seal.topic_id++;
    index_files_add(&dir, dir.a, &seal, path);
    check_says("repaired damaged", path, "is not what its seal says");
    seal.topic_id--;
    index_files_add(&dir, dir.a, &seal, path);
    check_says_nothing();
    bytes = node_dir_read(&dir, path, &size);
    node_dir_remove(&dir, path);
    seal.end_offset++;
    part_name(name, &seal);
    snprintf(other, sizeof other, "%.*s/%s", (int)(strrchr(path, '/') - path), path, name);
    node_dir_write(&dir, other, bytes, size);
    check_says("repaired damaged", other, "is not what its seal says");
    free(bytes);
}
END_TEST

static void change_probe(struct part_seal *seal)
{
    seal->probe ^= 1;
}

START_TEST(what_another_version_wrote_is_stale)
{
    uint64_t size;
    uint8_t *bytes;

    (void)add(dir.a, PART_BLOOM, 0, 0);
    index_files_reseal(&dir, path, change_probe);
    check_says("note stale", path, "another version of libbloom");
    (void)add(dir.a, PART_BLOOM, 0, 0);
    bytes = node_dir_read(&dir, path, &size);
    bytes_put_u32(bytes + size - PART_SEAL_SIZE + 8, 9);
    bytes_put_u32(bytes + size - PART_SEAL_SIZE + 4,
                  crc32c(bytes + size - PART_SEAL_SIZE + 8, PART_SEAL_SIZE - 8));
    node_dir_write(&dir, path, bytes, size);
    check_says("note stale", path, "format 9 is not known");
    free(bytes);
}
END_TEST

/* ---- what should not be there ---- */

static void put(const char *topic_dir, const char *name)
{
    snprintf(path, sizeof path, INDEX_FILES_DIR "/%s/%s", strrchr(topic_dir, '/') + 1, name);
    node_dir_write(&dir, path, "x", 1);
}

START_TEST(names_that_are_no_index_are_known_for_what_they_are)
{
    static const struct {
        const char *name;
        const char *begin;
    } names[] = {
        {"00000000000000000000-00000000000000000010.keys.tmp", "note leftover"},
        {"x.tmp", "note leftover"},
        {"00000000000000000000-00000000000000000010.times", "note unknown"},
        {"00000000000000000010-00000000000000000010.keys", "note unknown"},
        {"0-10.bloom", "note unknown"},
        {".hidden", "note unknown"},
    };

    (void)add(dir.a, PART_TIME, 0, 0);
    put(dir.a, names[_i].name);
    check_says(names[_i].begin, path,
               strcmp(names[_i].begin, "note unknown") == 0 ? "the node leaves it alone"
                                                            : "the node removes it");
    ck_assert_uint_eq(summary.index_files, 1);
}
END_TEST

START_TEST(a_directory_of_no_topic_is_told_and_is_what_the_node_removes)
{
    static const struct {
        const char *name;
        const char *begin;
        const char *text;
    } names[] = {
        {"gone-77", "note leftover", "it was deleted"},
        {"a-77", "note leftover", "it was deleted"},
        {"strange", "note unknown", "no directory that a node makes"},
        {"a-0008192", "note unknown", "no directory that a node makes"},
    };

    (void)add(dir.a, PART_TIME, 0, 0);
    ck_assert_int_eq(io_make_dir(dir.io, INDEX_FILES_DIR, names[_i].name, NULL), ERR_OK);
    snprintf(path, sizeof path, INDEX_FILES_DIR "/%s", names[_i].name);
    check_says(names[_i].begin, path, names[_i].text);
    ck_assert_ptr_nonnull(strstr(said.text, "; the node removes it"));
}
END_TEST

START_TEST(a_file_among_the_directories_is_unknown)
{
    (void)add(dir.a, PART_TIME, 0, 0);
    node_dir_write(&dir, INDEX_FILES_DIR "/strange", "x", 1);
    check_says("note unknown", INDEX_FILES_DIR "/strange", "the node leaves it alone");
}
END_TEST

START_TEST(a_file_in_the_place_of_a_directory_must_be_removed_by_somebody)
{
    node_dir_write(&dir, INDEX_FILES_DIR, "x", 1);
    check_says("act unknown", INDEX_FILES_DIR, "remove it");
    node_dir_remove(&dir, INDEX_FILES_DIR);
    ck_assert_int_eq(io_make_dir(dir.io, NODE_DIR, "indexes", NULL), ERR_OK);
    check_says_nothing();
    snprintf(path, sizeof path, INDEX_FILES_DIR "/%s", strrchr(dir.b, '/') + 1);
    node_dir_write(&dir, path, "x", 1);
    check_says("act unknown", path, "remove it");
}
END_TEST

START_TEST(what_was_merged_into_a_larger_one_is_a_leftover)
{
    char first[IO_PATH_SIZE];

    (void)add(dir.a, PART_KEYS, 0, 0);
    memcpy(first, path, sizeof first);
    check_says_nothing();
    (void)add(dir.a, PART_KEYS, 0, 1);
    check_says("note leftover", first, "another file of its kind has its offsets");
    (void)add(dir.a, PART_TIME, 0, 0); /* Kinds do not cover one another. */
    check_says("note leftover", first, "another file of its kind has its offsets");
}
END_TEST

/* ---- and the log ---- */

START_TEST(one_of_another_log_is_a_leftover)
{
    struct part_seal seal = index_files_seal(&dir, dir.a, (enum part_kind)_i, 0, 0);

    seal.digest[5] ^= 1;
    index_files_add(&dir, dir.a, &seal, path);
    check_says("note leftover", path, "with the digest that it was made with");
    node_dir_remove(&dir, path);
    seal = index_files_seal(&dir, dir.a, (enum part_kind)_i, 0, 0);
    seal.end_offset--; /* inside a batch */
    index_files_add(&dir, dir.a, &seal, path);
    check_says("note leftover", path, "no batch on this disk ends where it does");
}
END_TEST

/* Changes what the snapshot says of topic "a", and of the journal. */
static void change_snapshot(void (*change)(struct snapshot *snapshot, struct manifest *manifest))
{
    struct snapshot snapshot = {0};
    struct manifest manifest;

    ck_assert_int_eq(snapshot_load(dir.io, NODE_DIR_GROUP, &snapshot, &info), ERR_OK);
    ck_assert_int_eq(
        manifest_decode(snapshot.manifest.data, snapshot.manifest.size, &manifest, &info), ERR_OK);
    ck_assert_str_eq(manifest.topics[0].name, "a");
    change(&snapshot, &manifest);
    block_unref(snapshot.manifest.block);
    ck_assert_int_eq(manifest_encode(&manifest, &snapshot.manifest), ERR_OK);
    manifest_fini(&manifest);
    ck_assert_int_eq(snapshot_save(dir.io, NODE_DIR_GROUP, &snapshot, &info), ERR_OK);
    snapshot_fini(&snapshot);
}

static struct part_seal first_part;

static void trim(struct snapshot *snapshot, struct manifest *manifest)
{
    (void)snapshot;
    manifest->topics[0].start = first_part.end_offset;
    manifest->topics[0].log_start = first_part.end_offset;
    memcpy(manifest->topics[0].start_digest, first_part.digest, sizeof first_part.digest);
}

START_TEST(one_below_the_start_is_a_leftover)
{
    char line[IO_PATH_SIZE + 64];

    first_part = add(dir.a, (enum part_kind)_i, 0, 0);
    snprintf(line, sizeof line, "note leftover %s: it lies below the topic's start", path);
    (void)add(dir.a, (enum part_kind)_i, 1, 1);
    check_says_nothing();
    change_snapshot(trim);
    check_dir();
    ck_assert_msg(strstr(said.text, line) != NULL, "%s", said.text);
    ck_assert_ptr_null(strstr(said.text, path)); /* of the segment that stays */
}
END_TEST

START_TEST(one_above_the_end_is_no_leftover_while_the_journal_may_bring_the_log_there)
{
    struct part_seal seal = index_files_seal(&dir, dir.a, PART_TIME, 0, 0);
    char name[PART_NAME_SIZE];
    uint64_t size;
    unsigned last = 0;

    while (node_dir_find(&dir, dir.a, ".store", last + 1, path, &size)) {
        last++;
    }
    seal = add(dir.a, PART_TIME, last, last);
    part_name(name, &seal);
    ck_assert_uint_eq(seal.end_offset, dir.a_last);
    check_says_nothing();
    ck_assert(node_dir_find(&dir, dir.a, ".store", last, path, &size));
    node_dir_remove(&dir, path); /* It had not been synced. */
    check_dir();
    ck_assert_msg(strstr(said.text, name) == NULL, "%s", said.text);
}
END_TEST

static void take_all(struct snapshot *snapshot, struct manifest *manifest)
{
    snapshot->index += 1000;
    manifest->applied_index = snapshot->index;
}

START_TEST(one_above_the_end_is_a_leftover_where_nothing_follows)
{
    struct part_seal seal = index_files_seal(&dir, dir.a, PART_TIME, 0, 0);

    seal.base_offset = dir.a_last + 100;
    seal.end_offset = dir.a_last + 200;
    index_files_add(&dir, dir.a, &seal, path);
    check_says_nothing();
    change_snapshot(take_all);
    check_dir();
    ck_assert_msg(strstr(said.text, "it reaches beyond the topic's end") != NULL, "%s", said.text);
}
END_TEST

START_TEST(indexes_of_a_topic_whose_log_is_gone_are_leftovers)
{
    char file[IO_PATH_SIZE];
    char line[IO_PATH_SIZE + 64];
    uint64_t size;

    (void)add(dir.a, PART_TIME, 0, 0);
    snprintf(line, sizeof line, "note leftover %s: no batch on this disk", path);
    while (node_dir_find(&dir, dir.a, "", 0, file, &size)) {
        node_dir_remove(&dir, file);
    }
    ck_assert_int_eq(dir.io->rmdir(dir.io, dir.a), 0);
    check_dir();
    ck_assert_msg(strstr(said.text, line) != NULL, "%s", said.text);
}
END_TEST

START_TEST(where_the_state_is_not_known_nothing_is_a_leftover)
{
    uint64_t size;

    (void)add(dir.a, PART_TIME, 0, 0);
    (void)add(dir.a, PART_KEYS, 0, 0);
    ck_assert(node_dir_find(&dir, path, "", 0, path, &size));
    node_dir_flip(&dir, NODE_DIR_GROUP "/snapshot", 100, 1);
    check_dir();
    ck_assert_int_eq(said.worst, FSCK_ACT);
    ck_assert_msg(strstr(said.text, "/indexes") == NULL, "%s", said.text);
    ck_assert_uint_eq(summary.index_files, 2);
    node_dir_flip(&dir, path, 100, 1);
    check_dir();
    ck_assert_msg(strstr(said.text, "repaired damaged " INDEX_FILES_DIR) != NULL, "%s", said.text);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("archive/fsck_indexes");
    TCase *right = tcase_create("right");
    TCase *damage = tcase_create("damage");
    TCase *strange = tcase_create("strange");
    TCase *log = tcase_create("log");

    tcase_add_checked_fixture(right, setup, teardown);
    tcase_add_test(right, indexes_of_the_log_have_nothing_to_say);
    tcase_add_test(right, nothing_is_changed_and_all_bytes_are_counted);
    suite_add_tcase(suite, right);
    tcase_set_timeout(damage, 60);
    tcase_add_checked_fixture(damage, setup, teardown);
    tcase_add_loop_test(damage, every_flipped_bit_is_found_and_its_file_named, 0, PART_KIND_COUNT);
    tcase_add_loop_test(damage, a_file_that_was_cut_is_found, 0, PART_KIND_COUNT);
    tcase_add_loop_test(damage, a_file_of_another_topic_or_under_another_name_is_damaged, 0,
                        PART_KIND_COUNT);
    tcase_add_test(damage, what_another_version_wrote_is_stale);
    suite_add_tcase(suite, damage);
    tcase_add_checked_fixture(strange, setup, teardown);
    tcase_add_loop_test(strange, names_that_are_no_index_are_known_for_what_they_are, 0, 6);
    tcase_add_loop_test(strange, a_directory_of_no_topic_is_told_and_is_what_the_node_removes, 0,
                        4);
    tcase_add_test(strange, a_file_among_the_directories_is_unknown);
    tcase_add_test(strange, a_file_in_the_place_of_a_directory_must_be_removed_by_somebody);
    tcase_add_test(strange, what_was_merged_into_a_larger_one_is_a_leftover);
    suite_add_tcase(suite, strange);
    tcase_add_checked_fixture(log, setup, teardown);
    tcase_add_loop_test(log, one_of_another_log_is_a_leftover, 0, PART_KIND_COUNT);
    tcase_add_loop_test(log, one_below_the_start_is_a_leftover, 0, PART_KIND_COUNT);
    tcase_add_test(log, one_above_the_end_is_no_leftover_while_the_journal_may_bring_the_log_there);
    tcase_add_test(log, one_above_the_end_is_a_leftover_where_nothing_follows);
    tcase_add_test(log, indexes_of_a_topic_whose_log_is_gone_are_leftovers);
    tcase_add_test(log, where_the_state_is_not_known_nothing_is_a_leftover);
    suite_add_tcase(suite, log);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
