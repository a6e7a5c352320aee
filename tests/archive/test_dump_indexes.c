#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/dump.h"
#include "archive/index_files.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"

static struct node_dir dir;
static struct dump_result result;
static struct err_info info;
static char path[IO_PATH_SIZE];

/* What was told, as text: "kind name=value …", a line each. */
static struct {
    char text[1 << 20];
    size_t size;
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

static enum err note(void *arg, const struct dump_item *item)
{
    (void)arg;
    tell("%s", item->kind);
    for (size_t i = 0; i < item->count; i++) {
        const struct dump_field *field = &item->fields[i];

        if (field->type == DUMP_TEXT) {
            tell(" %s=%s", field->name, (const char *)field->data);
        } else if (field->type == DUMP_TIME) {
            tell(" %s=%" PRId64, field->name, field->time_us);
        } else if (field->type == DUMP_NUMBER) {
            tell(" %s=%" PRIu64, field->name, field->number);
        }
    }
    tell("\n");
    return ERR_OK;
}

static enum err dump_in(struct io *io, const char *of, struct dump_options options)
{
    options.io = io;
    options.cb = note;
    told.size = 0;
    told.text[0] = '\0';
    info.text[0] = '\0';
    return dump_path(&options, of, &result, &info);
}

static void dump(const char *of, struct dump_options options)
{
    unsigned open = mem_io_open_count(&dir.disk);
    enum err err = dump_in(dir.io, of, options);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    ck_assert_uint_eq(mem_io_open_count(&dir.disk), open);
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

static void setup(void)
{
    node_dir_make(&dir, 3, 1);
}

static void teardown(void)
{
    node_dir_fini(&dir);
}

static struct part_seal add(enum part_kind kind)
{
    struct part_seal seal = index_files_seal(&dir, dir.a, kind, 0, 0);

    index_files_add(&dir, dir.a, &seal, path);
    return seal;
}

/* ---- what they hold ---- */

START_TEST(a_time_index_has_its_seal_and_entries)
{
    struct part_seal seal = add(PART_TIME);
    char line[256];

    dump(path, (struct dump_options){0});
    assert_told(" format=time-index size=208\n");
    snprintf(line, sizeof line,
             "part index=time topic=%" PRIu64 " base_offset=0 end_offset=%" PRIu64
             " entries=5 first_time=0 last_time=40 log_kib=4 digest=",
             seal.topic_id, seal.end_offset);
    assert_told(line);
    assert_told("\ntime_entry offset=0 time=0\ntime_entry offset=1 time=10\n");
    ck_assert_uint_eq(count_of("time_entry "), 5);
    ck_assert_uint_eq(result.damaged, 0);
    dump(path, (struct dump_options){.from = 2});
    ck_assert_uint_eq(count_of("time_entry "), 3);
    dump(path, (struct dump_options){.limit = 3});
    ck_assert_uint_eq(count_of("time_entry "), 2);
}
END_TEST

START_TEST(a_bloom_filter_has_pages_and_how_full_they_are)
{
    uint64_t bits = 0;

    (void)add(PART_BLOOM);
    dump(path, (struct dump_options){0});
    assert_told(" format=bloom-index size=4224\n");
    assert_told("part index=bloom ");
    assert_told(" probe=");
    assert_told("bloom_page position=0 number=0 bits=");
    bits = strtoull(strstr(told.text, " bits=") + strlen(" bits="), NULL, 10);
    ck_assert_uint_ge(bits, INDEX_FILES_ENTRIES); /* of seven a key, few are shared */
    ck_assert_uint_le(bits, 7 * INDEX_FILES_ENTRIES);
    ck_assert_uint_eq(result.damaged, 0);
}
END_TEST

/* LMDB reads real files only. */
static void write_keys(const char *real_dir)
{
    struct part_seal seal = {
        .kind = PART_KEYS, .topic_id = 3, .base_offset = 10, .end_offset = 200, .level = 2};
    char name[PART_NAME_SIZE];

    index_files_write_keys(real_dir, &seal);
    part_name(name, &seal);
    ck_assert_int_eq(io_path(path, real_dir, name, NULL), ERR_OK);
}

START_TEST(a_key_index_has_hashes_and_offsets_newest_first)
{
    const char *real_dir = tmpdir_new();

    write_keys(real_dir);
    ck_assert_int_eq(dump_in(io_real(), path, (struct dump_options){0}), ERR_OK);
    assert_told(" format=key-index ");
    assert_told("part index=btree topic=3 base_offset=10 end_offset=200 entries=10 ");
    assert_told(" level=2 ");
    assert_told("key_entry hash=0000000000000000 offset=110\n"
                "key_entry hash=0000000000000000 offset=109\n"
                "key_entry hash=0000000000000001 offset=108\n");
    ck_assert_uint_eq(count_of("key_entry "), INDEX_FILES_ENTRIES);
    ck_assert_uint_eq(result.damaged, 0);
    ck_assert_int_eq(dump_in(io_real(), path, (struct dump_options){.from = 105}), ERR_OK);
    ck_assert_uint_eq(count_of("key_entry "), 6);
    ck_assert_int_eq(dump_in(io_real(), real_dir, (struct dump_options){.limit = 4}), ERR_OK);
    ck_assert_uint_eq(count_of("key_entry "), 3);
    ck_assert_uint_eq(result.damaged, 0);
    tmpdir_remove(real_dir);
}
END_TEST

START_TEST(a_key_index_with_other_entries_than_its_seal_has_is_damaged)
{
    const char *real_dir = tmpdir_new();
    uint8_t bytes[PART_SEAL_SIZE];
    struct part_seal seal;
    FILE *file;

    write_keys(real_dir);
    file = fopen(path, "r+");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, -PART_SEAL_SIZE, SEEK_END), 0);
    ck_assert_uint_eq(fread(bytes, 1, sizeof bytes, file), sizeof bytes);
    ck_assert_int_eq(part_seal_decode(bytes, &seal, NULL), ERR_OK);
    seal.count++;
    part_seal_encode(&seal, bytes);
    ck_assert_int_eq(fseek(file, -PART_SEAL_SIZE, SEEK_END), 0);
    ck_assert_uint_eq(fwrite(bytes, 1, sizeof bytes, file), sizeof bytes);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(dump_in(io_real(), path, (struct dump_options){0}), ERR_OK);
    assert_told("text=the seal has 11 entries, and there are 10");
    ck_assert_uint_eq(result.damaged, 1);
    tmpdir_remove(real_dir);
}
END_TEST

/* ---- which they are ---- */

START_TEST(a_directory_has_them_and_what_is_being_written)
{
    char temporary[IO_PATH_SIZE + 8];

    (void)add(PART_BLOOM);
    (void)add(PART_TIME);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    node_dir_write(&dir, temporary, "half", 4);
    dump(NODE_DIR, (struct dump_options){0});
    ck_assert_uint_eq(count_of("format=time-index"), 1);
    ck_assert_uint_eq(count_of("format=bloom-index"), 1);
    ck_assert_uint_eq(count_of("format=index-temporary size=4"), 1);
    ck_assert_uint_eq(result.damaged, 0);
    ck_assert_uint_eq(result.unknown, 0);
}
END_TEST

START_TEST(a_copy_under_another_name_is_known_by_its_seal_and_told)
{
    uint64_t size;
    uint8_t *bytes;

    (void)add((enum part_kind)_i);
    bytes = node_dir_read(&dir, path, &size);
    node_dir_write(&dir, "/copy", bytes, size);
    dump("/copy", (struct dump_options){0});
    ck_assert_uint_eq(count_of("-index size="), 1);
    ck_assert_uint_eq(count_of("part index="), 1);
    assert_told("text=its name is not what its seal says: 00000000000000000000-");
    ck_assert_uint_eq(result.damaged, 1);
    bytes[size - 1] ^= 1; /* Without its seal it is nobody's. */
    node_dir_write(&dir, "/copy", bytes, size);
    dump("/copy", (struct dump_options){0});
    assert_told("format=unknown");
    free(bytes);
}
END_TEST

START_TEST(one_that_goes_away_meanwhile_is_passed_over_in_a_directory)
{
    (void)add(PART_KEYS); /* Not on the real file system, where LMDB looks for it. */
    ck_assert_int_eq(dump_in(dir.io, path, (struct dump_options){0}), ERR_NOT_FOUND);
    ck_assert_uint_gt(strlen(info.text), 0);
    dump(NODE_DIR, (struct dump_options){0});
    ck_assert_uint_eq(result.damaged, 0);
}
END_TEST

/* ---- damage ---- */

/* Of files of more than a few pages each 17th, and each of the seal and before it. */
START_TEST(every_flipped_bit_is_told)
{
    uint64_t size;
    uint64_t step;

    (void)add((enum part_kind)_i);
    ck_assert(node_dir_find(&dir, path, "", 0, path, &size));
    for (uint64_t bit = 0; bit < size * 8; bit += step) {
        step = size > 8192 && bit / 8 + 256 < size ? 17 : 1;
        node_dir_flip(&dir, path, bit / 8, (unsigned)bit % 8);
        dump(path, (struct dump_options){0});
        ck_assert_msg(result.damaged == 1 && result.unknown == 0 && count_of("key_entry") == 0,
                      "bit %" PRIu64 ": %.1000s", bit, told.text);
        node_dir_flip(&dir, path, bit / 8, (unsigned)bit % 8);
    }
}
END_TEST

START_TEST(a_file_that_was_cut_is_damaged)
{
    uint64_t size;
    uint8_t *bytes;

    (void)add((enum part_kind)_i);
    bytes = node_dir_read(&dir, path, &size);
    for (uint64_t cut = 0; cut < size; cut += size / 50 + 1) {
        node_dir_write(&dir, path, bytes, cut);
        dump(path, (struct dump_options){0});
        ck_assert_uint_eq(result.damaged, 1);
        ck_assert_uint_eq(count_of("-index size="), 1);
    }
    free(bytes);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("archive/dump_indexes");
    TCase *contents = tcase_create("contents");
    TCase *files = tcase_create("files");
    TCase *damage = tcase_create("damage");

    tcase_add_checked_fixture(contents, setup, teardown);
    tcase_add_test(contents, a_time_index_has_its_seal_and_entries);
    tcase_add_test(contents, a_bloom_filter_has_pages_and_how_full_they_are);
    tcase_add_test(contents, a_key_index_has_hashes_and_offsets_newest_first);
    tcase_add_test(contents, a_key_index_with_other_entries_than_its_seal_has_is_damaged);
    suite_add_tcase(suite, contents);
    tcase_add_checked_fixture(files, setup, teardown);
    tcase_add_test(files, a_directory_has_them_and_what_is_being_written);
    tcase_add_loop_test(files, a_copy_under_another_name_is_known_by_its_seal_and_told, 0,
                        PART_KIND_COUNT);
    tcase_add_test(files, one_that_goes_away_meanwhile_is_passed_over_in_a_directory);
    suite_add_tcase(suite, files);
    tcase_set_timeout(damage, 60);
    tcase_add_checked_fixture(damage, setup, teardown);
    tcase_add_loop_test(damage, every_flipped_bit_is_told, 0, PART_KIND_COUNT);
    tcase_add_loop_test(damage, a_file_that_was_cut_is_damaged, 0, PART_KIND_COUNT);
    suite_add_tcase(suite, damage);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
