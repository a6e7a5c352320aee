#include "archive/fsck.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/identity_file.h"
#include "archive/node_dir.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "raft_fsm/journal_segment.h"

enum { ALONE = 1, THREE = 3, PLACES = 15 };

static struct node_dir dir;
static struct node_dir other;
static struct fsck_summary summary;
static struct err_info info;

/* All that was said in the last check. */
static struct {
    char text[64 * 1024];
    size_t size;
    unsigned count;
    enum fsck_level worst;
} said;

static enum err note(void *arg, const struct fsck_finding *finding)
{
    int size =
        snprintf(said.text + said.size, sizeof said.text - said.size, "%s %s %s: %s\n",
                 fsck_level_name(finding->level), finding->what, finding->path, finding->text);

    (void)arg;
    ck_assert_int_gt(size, 0);
    ck_assert_uint_lt(said.size + (size_t)size, sizeof said.text);
    ck_assert_uint_gt(strlen(finding->advice), 0);
    ck_assert(!finding->has_range || (finding->topic != NULL && finding->from <= finding->to));
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

static const char *name_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

static void assert_said(const char *text)
{
    ck_assert_msg(strstr(said.text, text) != NULL, "'%s' is not in what was said:\n%s", text,
                  said.text);
}

static void find(const char *begin, const char *end, unsigned nth, char path[IO_PATH_SIZE],
                 uint64_t *ret_size)
{
    ck_assert_msg(node_dir_find(&dir, begin, end, nth, path, ret_size), "no %s…%s", begin, end);
}

/* The last file of that kind. */
static void find_last(const char *begin, const char *end, char path[IO_PATH_SIZE],
                      uint64_t *ret_size)
{
    unsigned nth = 0;

    while (node_dir_find(&dir, begin, end, nth, path, ret_size)) {
        nth++;
    }
    ck_assert_uint_gt(nth, 0);
}

/* What the next start does is what was foretold: it fails only where somebody has to act. */
static void assert_start_agrees(void)
{
    uint64_t missing = 0;
    enum err err = node_dir_start(&dir, &missing, &info);

    ck_assert_msg(err == ERR_OK || said.worst == FSCK_ACT, "the node does not start: %s: %s\n%s",
                  err_name(err), info.text, said.text);
    if (err == ERR_OK && missing > 0) {
        ck_assert_msg(said.count > 0, "%llu offsets are missing", (unsigned long long)missing);
    }
}

/* ---- what is right ---- */

START_TEST(a_clean_directory_has_nothing_to_say)
{
    node_dir_make(&dir, (unsigned)_i, 1);
    check_dir();
    ck_assert_msg(said.count == 0, "%s", said.text);
    ck_assert_uint_eq(summary.node_id, 1);
    ck_assert_uint_eq(summary.topics, 3);
    ck_assert_uint_eq(summary.records, dir.a_last + dir.b_last + 4 * 4 * 2);
    assert_start_agrees();
    check_dir(); /* What a start leaves is clean, too. */
    ck_assert_msg(said.count == 0, "%s", said.text);
    node_dir_fini(&dir);
}
END_TEST

static int refuse_changes(void *arg, struct mem_io_op *op)
{
    (void)arg;
    ck_assert_msg(op->kind != MEM_IO_PWRITEV && op->kind != MEM_IO_TRUNCATE &&
                      op->kind != MEM_IO_RENAME && op->kind != MEM_IO_UNLINK &&
                      op->kind != MEM_IO_MKDIR && op->kind != MEM_IO_RMDIR &&
                      op->kind != MEM_IO_ALLOCATE,
                  "'%s' is changed", op->path);
    return 0;
}

START_TEST(nothing_is_changed)
{
    char path[IO_PATH_SIZE];
    uint64_t size;

    node_dir_make(&dir, THREE, 1);
    find(dir.a, ".store", 1, path, &size);
    node_dir_flip(&dir, path, size / 2, 1);
    find(NODE_DIR_GROUP "/journal", ".journal", 0, path, &size);
    mem_io_set_hook(&dir.disk, refuse_changes, NULL);
    check_dir();
    ck_assert_uint_eq(summary.counts[FSCK_REPAIRED], 1);
    mem_io_set_hook(&dir.disk, NULL, NULL);
    node_dir_fini(&dir);
}
END_TEST

START_TEST(a_directory_in_use_is_refused)
{
    const struct fsck_options options = {.io = &dir.disk.io, .dir = NODE_DIR, .cb = note};
    int fd = -1;

    node_dir_make(&dir, THREE, 1);
    ck_assert_int_eq(io_open(&dir.disk.io, NODE_DIR "/lock", O_RDWR, &fd, &info), ERR_OK);
    ck_assert_int_eq(dir.disk.io.lock(&dir.disk.io, fd), 0);
    ck_assert_int_eq(fsck_run(&options, &summary, &info), ERR_LOCKED);
    ck_assert_ptr_nonnull(strstr(info.text, "stop it first"));
    io_close(&dir.disk.io, &fd);
    check_dir();
    node_dir_fini(&dir);
}
END_TEST

START_TEST(what_is_no_data_directory_is_told)
{
    const struct fsck_options options = {.io = &dir.disk.io, .dir = "/", .cb = note};

    node_dir_make(&dir, THREE, 1);
    ck_assert_int_eq(fsck_run(&options, &summary, &info), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(info.text, "no data directory"));
    node_dir_fini(&dir);
}
END_TEST

/* ---- bits that flip ---- */

static const struct {
    const char *begin;
    const char *end;
    unsigned nth;
    unsigned members;
    enum fsck_level level; /* at least */
} kinds[] = {
    {NODE_DIR "/identity", "identity", 0, THREE, FSCK_ACT},
    {NODE_DIR_GROUP "/snapshot", "snapshot", 0, THREE, FSCK_ACT},
    {NODE_DIR_GROUP "/snapshot", "snapshot", 0, ALONE, FSCK_ACT},
    {NODE_DIR_GROUP "/ballot", "ballot", 0, THREE, FSCK_REPAIRED},
    {NODE_DIR_GROUP "/topics/a-", ".store", 0, THREE, FSCK_REPAIRED},
    {NODE_DIR_GROUP "/topics/a-", ".store", 1, ALONE, FSCK_ACT},
    {NODE_DIR_GROUP "/topics/b-", ".store", 2, THREE, FSCK_REPAIRED},
    {NODE_DIR_GROUP "/topics/a-", ".index", 0, THREE, FSCK_REPAIRED},
    {NODE_DIR_GROUP "/topics/b-", ".index", 1, ALONE, FSCK_REPAIRED},
    {NODE_DIR_GROUP "/topics/c-", ".store", 0, THREE, FSCK_NOTE},
    {NODE_DIR_GROUP "/topics/c-", ".store", 1, ALONE, FSCK_NOTE},
};

START_TEST(every_flipped_bit_is_found_and_its_file_named)
{
    char path[IO_PATH_SIZE];
    uint64_t size;
    uint64_t step;

    node_dir_make(&dir, kinds[_i].members, 1);
    find(kinds[_i].begin, kinds[_i].end, kinds[_i].nth, path, &size);
    step = size / 150 + 1;
    for (uint64_t at = 0; at < size; at += step) {
        unsigned bit = (unsigned)(at / step % 8);

        node_dir_flip(&dir, path, at, bit);
        check_dir();
        ck_assert_msg(said.count > 0, "bit %u at %llu of '%s' is not found", bit,
                      (unsigned long long)at, path);
        assert_said(name_of(path));
        ck_assert_msg(said.worst >= kinds[_i].level, "bit %u at %llu of '%s': %s", bit,
                      (unsigned long long)at, path, said.text);
        node_dir_flip(&dir, path, at, bit);
    }
    check_dir();
    ck_assert_uint_eq(said.count, 0);
    node_dir_fini(&dir);
}
END_TEST

/* The parts of a journal's file that count: its head, each batch with its entries. */
static bool counts(const uint8_t *bytes, uint64_t size, uint64_t at, bool *ret_last)
{
    struct journal_header header;
    uint64_t position = JOURNAL_HEADER_SIZE;
    struct journal_batch batch;

    *ret_last = false;
    ck_assert_int_eq(journal_header_decode(bytes, "", &header, NULL), ERR_OK);
    if (at < JOURNAL_HEADER_SIZE) {
        return true;
    }
    while (position < size &&
           journal_batch_decode(bytes + position, header.segment, header.salt, &batch)) {
        if (at >= position && at < position + JOURNAL_BATCH_HEADER_SIZE + batch.size) {
            *ret_last = batch.type == JOURNAL_BATCH_SEAL;
            return true;
        }
        position += journal_batch_extent(batch.size);
    }
    return false;
}

START_TEST(every_flipped_bit_that_counts_in_the_journal_is_found)
{
    char path[IO_PATH_SIZE];
    uint64_t size;
    uint8_t *bytes;
    unsigned harmless = 0;

    node_dir_make(&dir, THREE, 1);
    find(NODE_DIR_GROUP "/journal", ".journal", 0, path, &size);
    bytes = node_dir_read(&dir, path, &size);
    for (uint64_t at = 0; at < size; at += 173) {
        unsigned bit = (unsigned)(at % 8);
        bool last;

        node_dir_flip(&dir, path, at, bit);
        check_dir();
        if (!counts(bytes, size, at, &last)) {
            ck_assert_msg(said.count == 0, "%s", said.text);
            harmless++;
        } else if (last) { /* The seal: a torn one looks the same, and is none. */
            ck_assert(said.worst == FSCK_NOTE);
        } else {
            ck_assert_msg(said.worst == FSCK_ACT, "bit %u at %llu: %s", bit, (unsigned long long)at,
                          said.text);
            assert_said(name_of(path));
        }
        node_dir_flip(&dir, path, at, bit);
    }
    ck_assert_uint_gt(harmless, 0);
    free(bytes);
    node_dir_fini(&dir);
}
END_TEST

START_TEST(a_flipped_bit_in_the_disks_file_is_found)
{
    node_dir_make(&dir, THREE, 1);
    for (uint64_t at = 0; at < DISK_FILE_SIZE; at++) {
        node_dir_flip(&dir, NODE_DIR_GROUP "/disk", at, 0);
        check_dir();
        assert_said("act");
        assert_said("group-1/disk");
        node_dir_flip(&dir, NODE_DIR_GROUP "/disk", at, 0);
    }
    node_dir_fini(&dir);
}
END_TEST

START_TEST(another_disks_file_is_found_through_the_snapshot)
{
    char text[DISK_FILE_SIZE + 1];

    node_dir_make(&dir, THREE, 1);
    disk_encode(NODE_DIR_DISK + 1, text);
    node_dir_write(&dir, NODE_DIR_GROUP "/disk", text, DISK_FILE_SIZE_OLD);
    check_dir();
    assert_said("act");
    assert_said("group-1/disk");
    node_dir_fini(&dir);
}
END_TEST

START_TEST(both_slots_of_the_ballot_are_needed_by_nobody_but_one_is)
{
    node_dir_make(&dir, THREE, 1);
    node_dir_flip(&dir, NODE_DIR_GROUP "/ballot", 4096 + 17, 3);
    check_dir();
    ck_assert_int_eq(said.worst, FSCK_REPAIRED);
    node_dir_flip(&dir, NODE_DIR_GROUP "/ballot", 20, 3);
    check_dir();
    ck_assert_int_eq(said.worst, FSCK_ACT);
    assert_start_agrees();
    node_dir_fini(&dir);
}
END_TEST

START_TEST(a_start_with_a_flipped_bit_does_what_was_said)
{
    static const struct {
        const char *begin;
        const char *end;
    } files[] = {
        {NODE_DIR "/identity", "identity"},      {NODE_DIR_GROUP "/snapshot", "snapshot"},
        {NODE_DIR_GROUP "/ballot", "ballot"},    {NODE_DIR_GROUP "/journal", ".journal"},
        {NODE_DIR_GROUP "/topics/a-", ".store"}, {NODE_DIR_GROUP "/topics/b-", ".index"},
        {NODE_DIR_GROUP "/topics/c-", ".store"},
    };
    unsigned members = _i % 2 == 0 ? THREE : ALONE;

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[IO_PATH_SIZE];
        uint64_t size;

        node_dir_make(&dir, members, 1);
        if (_i % 3 == 0) {
            find(files[i].begin, files[i].end, 0, path, &size);
        } else {
            find_last(files[i].begin, files[i].end, path, &size);
        }
        if (size > 0) {
            node_dir_flip(&dir, path, (uint64_t)_i * 7919 % size, (unsigned)_i % 8);
            check_dir();
            assert_start_agrees();
        }
        node_dir_fini(&dir);
    }
}
END_TEST

/* ---- files that are gone, cut, swapped, or strange ---- */

static const struct {
    const char *begin;
    const char *end;
    unsigned nth;
    unsigned members;
    enum fsck_level level;
    const char *says;
} removed[] = {
    {NODE_DIR "/identity", "identity", 0, THREE, FSCK_ACT, "missing /data/identity"},
    {NODE_DIR_GROUP "/ballot", "ballot", 0, THREE, FSCK_ACT, "missing /data/group-1/ballot"},
    {NODE_DIR_GROUP "/disk", "disk", 0, THREE, FSCK_ACT, "missing /data/group-1/disk"},
    {NODE_DIR_GROUP "/journal", "1.journal", 0, THREE, FSCK_ACT, "journal"},
    {NODE_DIR_GROUP "/topics/a-", ".store", 0, THREE, FSCK_NOTE, "hole"},
    {NODE_DIR_GROUP "/topics/a-", ".store", 1, THREE, FSCK_NOTE, "hole"},
    {NODE_DIR_GROUP "/topics/a-", ".store", 1, ALONE, FSCK_ACT, "missing"},
    {NODE_DIR_GROUP "/topics/a-", ".index", 1, THREE, FSCK_REPAIRED, "the index of the segment"},
    {NODE_DIR_GROUP "/topics/b-", ".index", 0, ALONE, FSCK_REPAIRED, "the index of the segment"},
};

START_TEST(every_file_that_is_gone_is_missed)
{
    char path[IO_PATH_SIZE];
    uint64_t size;

    node_dir_make(&dir, removed[_i].members, 1);
    find(removed[_i].begin, removed[_i].end, removed[_i].nth, path, &size);
    node_dir_remove(&dir, path);
    check_dir();
    assert_said(removed[_i].says);
    ck_assert_msg(said.worst == removed[_i].level, "%s", said.text);
    if (_i > 2) {
        assert_start_agrees();
    }
    node_dir_fini(&dir);
}
END_TEST

START_TEST(a_topic_whose_directory_is_gone_is_missed)
{
    char path[IO_PATH_SIZE];
    uint64_t size;

    node_dir_make(&dir, (unsigned)_i, 1);
    while (node_dir_find(&dir, dir.b, "", 0, path, &size)) {
        node_dir_remove(&dir, path);
    }
    ck_assert_int_eq(dir.disk.io.rmdir(&dir.disk.io, dir.b), 0);
    check_dir();
    assert_said("the topic's directory is missing");
    assert_said(name_of(dir.b));
    ck_assert_int_eq(said.worst, _i == ALONE ? FSCK_ACT : FSCK_REPAIRED);
    assert_start_agrees();
    node_dir_fini(&dir);
}
END_TEST

START_TEST(a_topic_that_ends_before_what_the_snapshot_promises_is_found)
{
    char path[IO_PATH_SIZE];
    uint64_t size;

    node_dir_make(&dir, THREE, 1);
    while (node_dir_find(&dir, dir.a, ".store", 2, path, &size)) {
        node_dir_remove(&dir, path);
    }
    check_dir();
    assert_said("the snapshot promises");
    ck_assert_int_eq(said.worst, FSCK_REPAIRED);
    assert_start_agrees();
    node_dir_fini(&dir);
}
END_TEST

static void cut(const char *path, uint64_t size)
{
    int fd = -1;

    ck_assert_int_eq(io_open(&dir.disk.io, path, O_RDWR, &fd, &info), ERR_OK);
    ck_assert_int_eq(dir.disk.io.truncate(&dir.disk.io, fd, size), 0);
    io_close(&dir.disk.io, &fd);
}

START_TEST(a_file_that_was_cut_is_found)
{
    static const struct {
        const char *begin;
        const char *end;
        bool last;
        enum fsck_level level;
    } cuts[] = {
        {NODE_DIR "/identity", "identity", false, FSCK_ACT},
        {NODE_DIR_GROUP "/disk", "disk", false, FSCK_ACT},
        {NODE_DIR_GROUP "/ballot", "ballot", false, FSCK_ACT},
        {NODE_DIR_GROUP "/snapshot", "snapshot", false, FSCK_ACT},
        {NODE_DIR_GROUP "/topics/a-", ".store", false, FSCK_REPAIRED},
        {NODE_DIR_GROUP "/topics/a-", ".index", false, FSCK_REPAIRED},
        {NODE_DIR_GROUP "/topics/a-", ".store", true, FSCK_NOTE},
        {NODE_DIR_GROUP "/topics/c-", ".store", true, FSCK_NOTE},
    };
    char path[IO_PATH_SIZE];
    uint64_t size;

    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        node_dir_make(&dir, THREE, 1);
        if (cuts[i].last) {
            find_last(cuts[i].begin, cuts[i].end, path, &size);
        } else {
            find(cuts[i].begin, cuts[i].end, 0, path, &size);
        }
        cut(path, size - 5);
        check_dir();
        assert_said(name_of(path));
        ck_assert_msg(said.worst == cuts[i].level, "%s: %s", path, said.text);
        assert_start_agrees();
        node_dir_fini(&dir);
    }
}
END_TEST

/* The same file of another directory, or of another topic, in place of this one. */
static void put_instead(const char *path, struct node_dir *from, const char *from_path)
{
    uint64_t size;
    uint8_t *bytes = node_dir_read(from, from_path, &size);

    node_dir_write(&dir, path, bytes, size);
    free(bytes);
}

START_TEST(a_store_of_another_topic_is_found)
{
    char path[IO_PATH_SIZE];
    char from[IO_PATH_SIZE];
    uint64_t size;

    /* The first segments of both begin at 0 and chain up by themselves: offsets, or the snapshot's
     * digests tell. The ones of "c" are above the snapshot: the journal tells. */
    node_dir_make(&dir, THREE, 1);
    find(dir.a, ".store", 0, path, &size);
    find(dir.b, ".store", 0, from, &size);
    put_instead(path, &dir, from);
    check_dir();
    ck_assert_msg(said.worst >= FSCK_REPAIRED, "%s", said.text);
    assert_said(dir.a);
    node_dir_fini(&dir);

    node_dir_make(&dir, THREE, 1);
    find(dir.c, ".store", 0, path, &size);
    find(dir.b, ".store", 0, from, &size);
    put_instead(path, &dir, from);
    check_dir();
    ck_assert_msg(said.worst == FSCK_ACT || said.count > 0, "%s", said.text);
    assert_said(dir.c);
    node_dir_fini(&dir);
}
END_TEST

START_TEST(a_store_of_another_node_with_other_records_is_found)
{
    char path[IO_PATH_SIZE];
    uint64_t size;

    node_dir_make(&dir, THREE, 1);
    node_dir_make(&other, THREE, 2);
    for (unsigned i = 0; node_dir_find(&dir, dir.a, ".store", i, path, &size); i++) {
        uint8_t *mine = node_dir_read(&dir, path, &size);

        put_instead(path, &other, path);
        check_dir();
        ck_assert_msg(said.worst >= FSCK_REPAIRED, "%s: %s", path, said.text);
        assert_said(dir.a);
        node_dir_write(&dir, path, mine, size);
        free(mine);
    }
    check_dir();
    ck_assert_uint_eq(said.count, 0);
    node_dir_fini(&other);
    node_dir_fini(&dir);
}
END_TEST

START_TEST(all_stores_of_a_topic_of_another_node_are_found_by_the_snapshot_and_the_journal)
{
    char path[IO_PATH_SIZE];
    uint64_t size;

    node_dir_make(&dir, THREE, 1);
    node_dir_make(&other, THREE, 2);
    for (unsigned i = 0; node_dir_find(&dir, dir.a, "", i, path, &size); i++) {
        put_instead(path, &other, path);
    }
    check_dir();
    ck_assert_int_eq(said.worst, FSCK_ACT);
    assert_said("is not the one that the snapshot has for the topic's end");
    assert_said("of the journal wrote");
    assert_start_agrees();
    node_dir_fini(&dir);

    node_dir_make(&dir, THREE, 1);
    for (unsigned i = 0; node_dir_find(&dir, dir.c, "", i, path, &size); i++) {
        put_instead(path, &other, path);
    }
    check_dir();
    assert_said("of the journal wrote");
    node_dir_fini(&other);
    node_dir_fini(&dir);
}
END_TEST

START_TEST(files_of_another_node_are_found)
{
    char identity[512];
    uint64_t size;
    uint8_t *bytes;

    node_dir_make(&dir, THREE, 1);
    bytes = node_dir_read(&dir, NODE_DIR "/identity", &size);
    ck_assert_uint_lt(size, sizeof identity);
    /* As a person writes it, without a checksum. */
    snprintf(identity, sizeof identity,
             "version = 2\ncluster = quorlog\ncluster_id = 0123456789abcdef0123456789abcdef\n"
             "node_id = 2\norigin = join\n");
    node_dir_write(&dir, NODE_DIR "/identity", identity, strlen(identity));
    check_dir();
    assert_said("belongs to node 1, not to");
    assert_said("/ballot");
    assert_said(".journal");
    ck_assert_int_eq(said.worst, FSCK_ACT);
    free(bytes);
    node_dir_fini(&dir);
}
END_TEST

START_TEST(before_the_first_snapshot_the_journal_has_all)
{
    node_dir_make(&dir, THREE, 1);
    node_dir_remove(&dir, NODE_DIR_GROUP "/snapshot");
    check_dir();
    ck_assert_msg(said.count == 0, "%s", said.text);
    assert_start_agrees();
    node_dir_fini(&dir);
}
END_TEST

START_TEST(strange_files_are_named_and_no_harm)
{
    static const char *const strange[] = {
        NODE_DIR "/notes.txt",           NODE_DIR "/identity.tmp",
        NODE_DIR_GROUP "/core",          NODE_DIR_GROUP "/snapshot.tmp",
        NODE_DIR_GROUP "/journal/x",     NODE_DIR_GROUP "/journal/0000000000000001.journal.bak",
        NODE_DIR_GROUP "/topics/readme", NODE_DIR_GROUP "/topics/-1",
    };
    char inside[IO_PATH_SIZE];

    node_dir_make(&dir, THREE, 1);
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        node_dir_write(&dir, strange[i], "x", 1);
    }
    snprintf(inside, sizeof inside, "%s/00000000000000000000.store.orig", dir.a);
    node_dir_write(&dir, inside, "x", 1);
    check_dir();
    ck_assert_int_eq(said.worst, FSCK_NOTE);
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        assert_said(strange[i]);
    }
    assert_said(inside);
    ck_assert_uint_eq(said.count, sizeof strange / sizeof strange[0] + 1);
    assert_start_agrees();
    node_dir_fini(&dir);
}
END_TEST

START_TEST(what_interrupted_steps_leave_is_named_and_no_harm)
{
    static const char *const names[] = {
        "00000000000000000000.store.tmp",      "00000000000000000000.store.fill",
        "00000000000000000000.store.fill.tmp", "00000000000000000000.store.damaged",
        "00000000000000000007.index",
    };
    char path[IO_PATH_SIZE];

    node_dir_make(&dir, THREE, 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir.a, names[i]);
        node_dir_write(&dir, path, "x", 1);
    }
    ck_assert_int_eq(io_make_dir(&dir.disk.io, NODE_DIR_GROUP "/topics", "gone-123", &info),
                     ERR_OK);
    check_dir();
    ck_assert_int_eq(said.worst, FSCK_NOTE);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_said(names[i]);
    }
    assert_said("gone-123");
    assert_start_agrees();
    node_dir_fini(&dir);
}
END_TEST

START_TEST(a_compacted_topic_has_nothing_to_say)
{
    uint64_t records;

    node_dir_make(&dir, (unsigned)_i, 1);
    check_dir();
    records = summary.records;
    ck_assert_uint_gt(node_dir_compact(&dir, dir.a_end), 0);
    check_dir();
    ck_assert_msg(said.count == 0, "%s", said.text);
    ck_assert_uint_lt(summary.records, records);
    assert_start_agrees();
    node_dir_fini(&dir);
    /* Above the snapshot, too, and with batches on both of its sides. */
    node_dir_make(&dir, (unsigned)_i, 1);
    ck_assert_uint_gt(node_dir_compact(&dir, dir.a_last), dir.a_end);
    check_dir();
    ck_assert_msg(said.count == 0, "%s", said.text);
    node_dir_fini(&dir);
}
END_TEST

START_TEST(every_flipped_bit_of_a_compacted_store_is_found)
{
    char path[IO_PATH_SIZE];
    uint64_t size;

    node_dir_make(&dir, THREE, 1);
    ck_assert_uint_gt(node_dir_compact(&dir, dir.a_end), 0);
    find(dir.a, ".store", 0, path, &size);
    for (uint64_t position = 0; position < size; position += 1 + size / 200) {
        node_dir_flip(&dir, path, position, (unsigned)position % 8);
        check_dir();
        ck_assert_msg(said.worst >= FSCK_REPAIRED, "%llu: %s", (unsigned long long)position,
                      said.text);
        assert_said(name_of(path));
        node_dir_flip(&dir, path, position, (unsigned)position % 8);
    }
    node_dir_fini(&dir);
}
END_TEST

/* Takes the bytes at `position` for a batch, changes it, and makes its checksums right. */
static void change_batch(const char *path, uint64_t at, unsigned byte_of_body)
{
    uint64_t size;
    uint8_t *bytes = node_dir_read(&dir, path, &size);
    uint8_t *batch = bytes + at;
    uint32_t batch_size = bytes_get_u32(batch + 8);

    ck_assert_uint_le(at + batch_size, size);
    batch[104 + byte_of_body] ^= 1;
    bytes_put_u32(batch + 64, crc32c(batch + 104, batch_size - 104));
    bytes_put_u32(batch + 4, crc32c(batch + 8, 96));
    node_dir_write(&dir, path, bytes, size);
    free(bytes);
}

START_TEST(a_compacted_batch_that_does_not_follow_or_holds_nonsense_is_found)
{
    char path[IO_PATH_SIZE];
    uint64_t clean_to;
    uint64_t size;

    node_dir_make(&dir, THREE, 1);
    ck_assert_uint_gt(node_dir_compact(&dir, dir.a_end), 0);
    find(dir.a, ".store", 1, path, &size);
    change_batch(path, 32, 5);
    check_dir();
    assert_said("does not follow on the digest of the batch before");
    ck_assert_int_ge(said.worst, FSCK_REPAIRED);
    node_dir_fini(&dir);

    /* Up to where a segment ends: the last one of the key is in it, and stays. */
    node_dir_make(&dir, THREE, 1);
    find(dir.a, ".store", 2, path, &size);
    clean_to = strtoull(name_of(path), NULL, 10);
    ck_assert_uint_eq(node_dir_compact(&dir, clean_to), clean_to);
    find(dir.a, ".store", 0, path, &size);
    change_batch(path, 32, 32 + 1); /* the length of the record */
    check_dir();
    assert_said("holds records that make no sense");
    node_dir_fini(&dir);
}
END_TEST

START_TEST(segments_that_compaction_replaced_are_leftovers)
{
    char path[IO_PATH_SIZE];
    char index[IO_PATH_SIZE];
    uint64_t index_size;
    uint64_t size;
    uint8_t *store;
    uint8_t *entries;

    node_dir_make(&dir, THREE, 1);
    find(dir.a, ".store", 1, path, &size);
    find(dir.a, ".index", 1, index, &index_size);
    store = node_dir_read(&dir, path, &size);
    entries = node_dir_read(&dir, index, &index_size);
    ck_assert_uint_gt(node_dir_compact(&dir, dir.a_end), 0);
    node_dir_write(&dir, path, store, size);
    node_dir_write(&dir, index, entries, index_size);
    snprintf(index, sizeof index, "%s/00000000000000000000.store.compact", dir.a);
    node_dir_write(&dir, index, "x", 1);
    snprintf(index, sizeof index, "%s/00000000000000000000.index.compact", dir.a);
    node_dir_write(&dir, index, "x", 1);
    check_dir();
    ck_assert_msg(said.worst == FSCK_NOTE && said.count == 3, "%s", said.text);
    assert_said(name_of(path));
    assert_said("compaction has put another one in its place");
    assert_said("00000000000000000000.store.compact");
    assert_said("00000000000000000000.index.compact");
    assert_start_agrees();
    check_dir();
    ck_assert_msg(said.count == 0, "%s", said.text);
    free(store);
    free(entries);
    node_dir_fini(&dir);
}
END_TEST

START_TEST(an_index_that_names_wrong_places_must_be_removed_by_somebody)
{
    char path[IO_PATH_SIZE];
    uint64_t size;
    uint8_t *bytes;

    /* With its checksum right: the node would believe it. */
    node_dir_make(&dir, THREE, 1);
    find(dir.a, ".index", 1, path, &size);
    bytes = node_dir_read(&dir, path, &size);
    ck_assert_uint_ge(size, 32 + 3 * 16 + 56);
    bytes_put_u64(bytes + 32 + 16 + 8, bytes_get_u64(bytes + 32 + 16 + 8) + 1);
    bytes_put_u32(bytes + size - 52,
                  crc32c_extend(crc32c(bytes + 32, size - 32 - 56), bytes + size - 48, 48));
    node_dir_write(&dir, path, bytes, size);
    check_dir();
    assert_said("names places where no such batch begins");
    ck_assert_int_eq(said.worst, FSCK_ACT);
    free(bytes);
    node_dir_fini(&dir);
}
END_TEST

static Suite *suite(void)
{
    TCase *compacted = tcase_create("compacted");
    Suite *suite = suite_create("archive/fsck");
    TCase *right = tcase_create("right");
    TCase *flips = tcase_create("flips");
    TCase *files = tcase_create("files");

    tcase_add_loop_test(right, a_clean_directory_has_nothing_to_say, ALONE, THREE + 1);
    tcase_add_test(right, nothing_is_changed);
    tcase_add_test(right, a_directory_in_use_is_refused);
    tcase_add_test(right, what_is_no_data_directory_is_told);
    suite_add_tcase(suite, right);
    tcase_set_timeout(compacted, 60);
    tcase_add_loop_test(compacted, a_compacted_topic_has_nothing_to_say, ALONE, THREE + 1);
    tcase_add_test(compacted, every_flipped_bit_of_a_compacted_store_is_found);
    tcase_add_test(compacted, a_compacted_batch_that_does_not_follow_or_holds_nonsense_is_found);
    tcase_add_test(compacted, segments_that_compaction_replaced_are_leftovers);
    suite_add_tcase(suite, compacted);
    tcase_set_timeout(flips, 60);
    tcase_add_loop_test(flips, every_flipped_bit_is_found_and_its_file_named, 0,
                        sizeof kinds / sizeof kinds[0]);
    tcase_add_test(flips, every_flipped_bit_that_counts_in_the_journal_is_found);
    tcase_add_test(flips, a_flipped_bit_in_the_disks_file_is_found);
    tcase_add_test(flips, another_disks_file_is_found_through_the_snapshot);
    tcase_add_test(flips, both_slots_of_the_ballot_are_needed_by_nobody_but_one_is);
    tcase_add_loop_test(flips, a_start_with_a_flipped_bit_does_what_was_said, 0, PLACES);
    suite_add_tcase(suite, flips);
    tcase_add_loop_test(files, every_file_that_is_gone_is_missed, 0,
                        sizeof removed / sizeof removed[0]);
    tcase_add_loop_test(files, a_topic_whose_directory_is_gone_is_missed, ALONE, ALONE + 1);
    tcase_add_loop_test(files, a_topic_whose_directory_is_gone_is_missed, THREE, THREE + 1);
    tcase_add_test(files, a_topic_that_ends_before_what_the_snapshot_promises_is_found);
    tcase_add_test(files, a_file_that_was_cut_is_found);
    tcase_add_test(files, a_store_of_another_topic_is_found);
    tcase_add_test(files, a_store_of_another_node_with_other_records_is_found);
    tcase_add_test(files,
                   all_stores_of_a_topic_of_another_node_are_found_by_the_snapshot_and_the_journal);
    tcase_add_test(files, files_of_another_node_are_found);
    tcase_add_test(files, before_the_first_snapshot_the_journal_has_all);
    tcase_add_test(files, strange_files_are_named_and_no_harm);
    tcase_add_test(files, what_interrupted_steps_leave_is_named_and_no_harm);
    tcase_add_test(files, an_index_that_names_wrong_places_must_be_removed_by_somebody);
    suite_add_tcase(suite, files);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
