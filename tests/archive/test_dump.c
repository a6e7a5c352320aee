#include "archive/dump.h"

#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/node_dir.h"
#include "base/bytes.h"
#include "lib/runner.h"

static struct node_dir dir;
static struct dump_result result;
static struct err_info info;

/* What was told, as text: "kind name=value …", a line each. */
static struct {
    char text[1 << 20];
    size_t size;
    unsigned count;
} told;

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(told.text + told.size, sizeof told.text - told.size, format, arguments);
    va_end(arguments);
    ck_assert_int_ge(size, 0);
    told.size += (size_t)size;
    ck_assert_uint_lt(told.size, sizeof told.text);
}

static void tell_field(const struct dump_field *field)
{
    switch (field->type) {
    case DUMP_NUMBER:
    case DUMP_BOOL:
        tell(" %s=%" PRIu64, field->name, field->number);
        break;
    case DUMP_TIME:
        tell(" %s=%" PRId64, field->name, field->time_us);
        break;
    case DUMP_TEXT:
        tell(" %s=%s", field->name, (const char *)field->data);
        break;
    case DUMP_BYTES:
        tell(" %s=%.*s", field->name, (int)field->size,
             field->data == NULL ? "" : (const char *)field->data);
        break;
    case DUMP_HEADERS:
        tell(" %s=%zu", field->name, field->size);
        break;
    }
}

static enum err note(void *arg, const struct dump_item *item)
{
    (void)arg;
    tell("%s", item->kind);
    for (size_t i = 0; i < item->count; i++) {
        tell_field(&item->fields[i]);
    }
    tell("\n");
    told.count++;
    return ERR_OK;
}

static enum err try_dump(const char *path, struct dump_options options)
{
    unsigned open = mem_io_open_count(&dir.disk);
    enum err err;

    options.io = &dir.disk.io;
    options.cb = note;
    told.size = 0;
    told.count = 0;
    told.text[0] = '\0';
    err = dump_path(&options, path, &result, &info);
    ck_assert_uint_eq(mem_io_open_count(&dir.disk), open);
    return err;
}

static void dump(const char *path, struct dump_options options)
{
    enum err err = try_dump(path, options);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
}

static unsigned count_of(const char *what)
{
    unsigned count = 0;

    for (const char *at = strstr(told.text, what); at != NULL; at = strstr(at + 1, what)) {
        count++;
    }
    return count;
}

static void assert_told(const char *what)
{
    ck_assert_msg(strstr(told.text, what) != NULL, "'%s' is not in:\n%.4000s", what, told.text);
}

static void find(const char *begin, const char *end, unsigned nth, char path[IO_PATH_SIZE],
                 uint64_t *ret_size)
{
    ck_assert(node_dir_find(&dir, begin, end, nth, path, ret_size));
}

static void setup(void)
{
    node_dir_make(&dir, 3, 1);
}

static void teardown(void)
{
    node_dir_fini(&dir);
}

/* ---- formats ---- */

START_TEST(small_files_are_told)
{
    dump(NODE_DIR "/identity", (struct dump_options){0});
    assert_told("file path=/data/identity format=identity");
    assert_told("identity version=3 cluster=quorlog cluster_id=0123456789abcdef0123456789abcdef "
                "node=1 origin=join\n");
    dump(NODE_DIR_GROUP "/disk", (struct dump_options){0});
    assert_told("disk id=0123456789abcdef\n");
    dump(NODE_DIR_GROUP "/ballot", (struct dump_options){0});
    assert_told("ballot slot=0 valid=1 counts=1 node=1 term=3 vote=1");
    assert_told("ballot slot=1 valid=1 counts=0 node=1 term=3 vote=1");
    ck_assert_uint_eq(result.damaged, 0);
}
END_TEST

START_TEST(the_snapshot_has_members_topics_and_nodes)
{
    char topic[160];

    dump(NODE_DIR_GROUP "/snapshot", (struct dump_options){0});
    assert_told("snapshot index=28 term=3 members_index=1\n");
    assert_told("member id=2 address=n2:7437 role=voter\n");
    assert_told("manifest index=28");
    snprintf(topic, sizeof topic,
             "name=a start=0 end=%" PRIu64 " log_start=0 clean_to=0 tombstones_below=0 created=",
             dir.a_end);
    assert_told(topic);
    assert_told("node id=1 disk=0123456789abcdef\n");
}
END_TEST

START_TEST(a_topic_has_batches_records_and_index_entries)
{
    dump(dir.a, (struct dump_options){.records = true});
    ck_assert_uint_eq(count_of("batch position="), dir.a_last / 2);
    ck_assert_uint_eq(count_of("record offset="), dir.a_last);
    ck_assert_uint_gt(count_of("index_entry offset="), 3);
    ck_assert_uint_eq(count_of("format=store"), count_of("format=index") + 1);
    assert_told("records=2 size=");
    assert_told("key=key headers=0 value=1-");
    assert_told("codec=none sparse=0 compacted=0 checksum=ok digest=");
    ck_assert_uint_eq(count_of("checksum=bad"), 0);
    ck_assert_uint_eq(result.damaged, 0);
}
END_TEST

START_TEST(compacted_batches_tell_what_they_follow_on_and_what_is_left)
{
    char digest[80];
    char wanted[96];
    const char *at;

    ck_assert_uint_gt(node_dir_compact(&dir, dir.a_end), 0);
    dump(dir.a, (struct dump_options){.records = true});
    ck_assert_uint_lt(count_of("record offset="), dir.a_last / 2);
    assert_told("sparse=1 compacted=1 checksum=ok digest=");
    assert_told(" before=0000000000000000000000000000000000000000000000000000000000000000\n");
    assert_told("rewrites=1");
    ck_assert_uint_eq(result.damaged, 0);
    /* What the first one ends with is what the next one follows on. */
    at = strstr(told.text, "compacted=1 checksum=ok digest=");
    ck_assert_int_eq(sscanf(at, "compacted=1 checksum=ok digest=%64s", digest), 1);
    snprintf(wanted, sizeof wanted, " before=%s\n", digest);
    assert_told(wanted);
}
END_TEST

START_TEST(from_and_limit_leave_out_what_is_not_wanted)
{
    dump(dir.a, (struct dump_options){.from = dir.a_last - 4});
    ck_assert_uint_eq(count_of("batch position="), 2);
    dump(dir.a, (struct dump_options){.from = dir.a_last - 3, .records = true});
    ck_assert_uint_eq(count_of("batch position="), 2);
    ck_assert_uint_eq(count_of("record offset="), 3);
    dump(dir.a, (struct dump_options){.limit = 7});
    ck_assert_uint_eq(told.count - count_of("file path="), 7);
}
END_TEST

START_TEST(the_journal_has_batches_and_entries)
{
    dump(NODE_DIR_GROUP "/journal", (struct dump_options){.records = true});
    assert_told("format=journal");
    assert_told("type=entries index=1 entries=1");
    assert_told("entry index=1 term=3 type=members");
    assert_told("entry index=2 term=3 type=command");
    assert_told("type=seal index=42 entries=0");
    ck_assert_uint_eq(count_of("journal_batch "), 42);
    ck_assert_uint_eq(result.damaged, 0);
}
END_TEST

START_TEST(a_directory_gives_all_in_order_and_unknown_files_too)
{
    node_dir_write(&dir, NODE_DIR "/zzz", "anything", 8);
    dump(NODE_DIR "/", (struct dump_options){0});
    ck_assert_uint_eq(result.unknown, 1);
    assert_told("file path=/data/zzz format=unknown size=8\n");
    ck_assert(strstr(told.text, "/data/group-1/ballot") < strstr(told.text, "/data/group-1/disk"));
    ck_assert(strstr(told.text, "topics/a-") < strstr(told.text, "topics/b-"));
    ck_assert_uint_eq(result.damaged, 0);
}
END_TEST

START_TEST(a_file_is_known_by_its_contents)
{
    char path[IO_PATH_SIZE];
    uint64_t size;
    uint8_t *bytes;

    find(dir.a, ".store", 0, path, &size);
    bytes = node_dir_read(&dir, path, &size);
    node_dir_write(&dir, "/whatever.index", bytes, size);
    dump("/whatever.index", (struct dump_options){0});
    assert_told("format=store");
    free(bytes);
}
END_TEST

START_TEST(what_is_missing_is_an_error)
{
    ck_assert_int_eq(try_dump("/nowhere", (struct dump_options){0}), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(info.text, "/nowhere"));
}
END_TEST

/* ---- damage ---- */

START_TEST(a_damaged_body_is_told_and_what_follows_as_well)
{
    char path[IO_PATH_SIZE];
    uint64_t size;
    unsigned count;

    find(dir.a, ".store", 0, path, &size);
    dump(path, (struct dump_options){0});
    count = count_of("batch position=");
    node_dir_flip(&dir, path, 32 + 110, 0);
    dump(path, (struct dump_options){0});
    ck_assert_uint_eq(count_of("batch position="), count);
    ck_assert_uint_eq(count_of("checksum=bad"), 1);
    assert_told("position=32 text=the body");
    ck_assert_uint_eq(result.damaged, 1);
}
END_TEST

START_TEST(a_damaged_header_ends_the_file_with_its_position)
{
    char path[IO_PATH_SIZE];
    char position[64];
    uint64_t size;
    uint64_t second;
    uint8_t *bytes;

    find(dir.a, ".store", 0, path, &size);
    bytes = node_dir_read(&dir, path, &size);
    second = 32 + bytes_get_u32(bytes + 32 + 8);
    free(bytes);
    node_dir_flip(&dir, path, second + 20, 0);
    dump(path, (struct dump_options){0});
    ck_assert_uint_eq(count_of("batch position="), 1);
    snprintf(position, sizeof position, "position=%" PRIu64 " text=", second);
    assert_told(position);
    ck_assert_uint_eq(result.damaged, 1);
}
END_TEST

START_TEST(a_torn_tail_is_no_damage)
{
    char path[IO_PATH_SIZE];
    uint64_t size;
    uint8_t *bytes;

    find(dir.a, ".store", 0, path, &size);
    bytes = node_dir_read(&dir, path, &size);
    node_dir_write(&dir, path, bytes, size - 7);
    dump(path, (struct dump_options){0});
    assert_told("torn path=");
    assert_told("ends inside a batch");
    ck_assert_uint_eq(result.damaged, 0);
    bytes = realloc(bytes, size + 5000);
    ck_assert_ptr_nonnull(bytes);
    memset(bytes + size, 0, 5000);
    node_dir_write(&dir, path, bytes, size + 5000);
    dump(path, (struct dump_options){0});
    assert_told("size=5000 text=zeros");
    ck_assert_uint_eq(result.damaged, 0);
    free(bytes);
}
END_TEST

/* Each flip in what counts is told as damage, or as torn, or shows; none ends the dump. */
START_TEST(flips_are_told_everywhere)
{
    static const struct {
        const char *begin;
        const char *end;
    } files[] = {
        {NODE_DIR "/identity", ""},
        {NODE_DIR_GROUP "/ballot", ""},
        {NODE_DIR_GROUP "/snapshot", ""},
        {NODE_DIR_GROUP "/topics/a-", ".store"},
        {NODE_DIR_GROUP "/topics/a-", ".index"},
    };
    char path[IO_PATH_SIZE];
    uint64_t size;

    find(files[_i].begin, files[_i].end, 0, path, &size);
    for (uint64_t at = 0; at < size; at += size / 200 + 1) {
        node_dir_flip(&dir, path, at, (unsigned)at % 8);
        dump(path, (struct dump_options){.records = true});
        ck_assert_msg(result.damaged + result.unknown > 0 || count_of("torn ") > 0,
                      "a flip at %" PRIu64 " of %s: %.1000s", at, path, told.text);
        node_dir_flip(&dir, path, at, (unsigned)at % 8);
    }
}
END_TEST

START_TEST(damage_in_the_journal_is_told_and_what_follows_as_well)
{
    char path[IO_PATH_SIZE];
    uint64_t size;

    find(NODE_DIR_GROUP "/journal", ".journal", 0, path, &size);
    node_dir_flip(&dir, path, 1024 + 9, 2); /* the second batch's header */
    dump(NODE_DIR_GROUP "/journal", (struct dump_options){0});
    assert_told("position=1024 text=no batch verifies here, but one follows at ");
    ck_assert_uint_eq(count_of("journal_batch "), 41);
    ck_assert_uint_eq(result.damaged, 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("archive/dump");
    TCase *formats = tcase_create("formats");
    TCase *damage = tcase_create("damage");

    tcase_add_checked_fixture(formats, setup, teardown);
    tcase_add_test(formats, small_files_are_told);
    tcase_add_test(formats, the_snapshot_has_members_topics_and_nodes);
    tcase_add_test(formats, a_topic_has_batches_records_and_index_entries);
    tcase_add_test(formats, compacted_batches_tell_what_they_follow_on_and_what_is_left);
    tcase_add_test(formats, from_and_limit_leave_out_what_is_not_wanted);
    tcase_add_test(formats, the_journal_has_batches_and_entries);
    tcase_add_test(formats, a_directory_gives_all_in_order_and_unknown_files_too);
    tcase_add_test(formats, a_file_is_known_by_its_contents);
    tcase_add_test(formats, what_is_missing_is_an_error);
    suite_add_tcase(suite, formats);
    tcase_add_checked_fixture(damage, setup, teardown);
    tcase_add_test(damage, a_damaged_body_is_told_and_what_follows_as_well);
    tcase_add_test(damage, a_damaged_header_ends_the_file_with_its_position);
    tcase_add_test(damage, a_torn_tail_is_no_damage);
    tcase_add_loop_test(damage, flips_are_told_everywhere, 0, 5);
    tcase_add_test(damage, damage_in_the_journal_is_told_and_what_follows_as_well);
    suite_add_tcase(suite, damage);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
