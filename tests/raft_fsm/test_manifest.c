#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "history.h"
#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "raft_fsm/manifest.h"
#include "sim/mem_io.h"

static void add_cursor(struct cursors *cursors, uint64_t topic_id, const char *name,
                       const struct cursor_position *at, const char *metadata)
{
    struct cursor cursor = {.topic_id = topic_id, .at = *at};

    memcpy(cursor.name, name, strlen(name));
    memcpy(cursor.metadata, metadata, strlen(metadata));
    ck_assert_int_eq(cursors_restore(cursors, &cursor), ERR_OK);
}

static void add_cursors(struct manifest *manifest)
{
    ck_assert_int_eq(cursors_new(&manifest->cursors), ERR_OK);
    add_cursor(manifest->cursors, 9000, "late",
               &(struct cursor_position){
                   .offset = 77, .revision = 40000, .owner = UINT64_MAX, .updated_time_us = 4999},
               "who: me");
    add_cursor(manifest->cursors, 4097, "b",
               &(struct cursor_position){.offset = 8, .revision = 36864 + 4095}, "");
    add_cursor(manifest->cursors, 4097, "a",
               &(struct cursor_position){.revision = 4098, .updated_time_us = -7}, "");
}

/* Three topics, two producers with three windows, three cursors. */
static struct manifest some_manifest(void)
{
    struct manifest manifest = {.applied_index = 9, .time_us = 5000, .topic_count = 3};
    struct batch_header header = {.producer_id = 1, .record_count = 3, .body_crc32c = 77};
    uint16_t epoch;
    uint64_t id;

    manifest.topics = calloc(3, sizeof *manifest.topics);
    ck_assert_ptr_nonnull(manifest.topics);
    manifest.topics[0] = (struct manifest_topic){.id = 4096, .name = "a", .created_time_us = -1};
    manifest.topics[1] =
        (struct manifest_topic){.id = 4097, .name = "B", .start = 5, .log_start = 6, .end = 8};
    manifest.topics[2] = (struct manifest_topic){.id = 9000, .name = "c", .end = UINT64_MAX};
    manifest.topics[1].settings = (struct topic_settings){
        .retention_ms = 1000,
        .indexes = TOPIC_INDEX_TIME,
        .node_index_count = 2,
        .node_indexes = {{.node_id = 2, .indexes = 0}, {.node_id = 3, .indexes = 6}},
        .preallocate = true};
    manifest.topics[2].settings = (struct topic_settings){.compact = true, .segment_bytes = 4096};
    manifest.topics[2].clean = (struct topic_clean){.clean_to = 300, .tombstones_below = 7};
    memset(manifest.topics[1].digest, 0xab, DIGEST_SIZE);
    memset(manifest.topics[2].digest, 0x12, DIGEST_SIZE);
    ck_assert_int_eq(producers_new(&manifest.producers), ERR_OK);
    ck_assert_int_eq(producers_init(manifest.producers, 4000, &id, &epoch), ERR_OK);
    ck_assert_int_eq(producers_init(manifest.producers, 4001, &id, &epoch), ERR_OK);
    ck_assert_int_eq(producers_note(manifest.producers, 9000, 4002, &header), ERR_OK);
    ck_assert_int_eq(producers_note(manifest.producers, 4097, 4003, &header), ERR_OK);
    header.base_sequence = 3;
    header.base_offset = 3;
    header.raft_index = 9;
    header.raft_term = 4;
    header.append_time_us = 4500;
    ck_assert_int_eq(producers_note(manifest.producers, 4097, 4500, &header), ERR_OK);
    header.producer_id = 2;
    header.base_sequence = 0;
    ck_assert_int_eq(producers_note(manifest.producers, 4097, 4501, &header), ERR_OK);
    manifest.nodes = calloc(1, sizeof *manifest.nodes);
    ck_assert_ptr_nonnull(manifest.nodes);
    ck_assert_int_eq(nodes_bind(manifest.nodes, 2, 22), ERR_OK);
    ck_assert_int_eq(nodes_bind(manifest.nodes, 1, 11), ERR_OK);
    add_cursors(&manifest);
    ck_assert_int_eq(ages_add(&manifest.ages, 3, 70), ERR_OK);
    ck_assert_int_eq(ages_add(&manifest.ages, 8, 50), ERR_OK);
    return manifest;
}

static struct slice encode(const struct manifest *manifest)
{
    struct slice bytes;

    ck_assert_int_eq(manifest_encode(manifest, &bytes), ERR_OK);
    return bytes;
}

static enum err decode(const uint8_t *bytes, size_t size, struct manifest *ret_manifest)
{
    struct err_info info = {0};
    enum err err = manifest_decode(bytes, size, ret_manifest, &info);

    ck_assert(err == ERR_OK || err == ERR_CORRUPT || err == ERR_VERSION);
    ck_assert(err == ERR_OK || (info.code == err && info.text[0] != '\0'));
    return err;
}

START_TEST(what_is_encoded_is_decoded)
{
    struct manifest manifest = some_manifest();
    struct slice bytes = encode(&manifest);
    struct manifest decoded;
    struct cursor cursor;
    struct slice again;

    ck_assert_int_eq(decode(bytes.data, bytes.size, &decoded), ERR_OK);
    ck_assert_uint_eq(decoded.applied_index, 9);
    ck_assert_int_eq(decoded.time_us, 5000);
    ck_assert_uint_eq(decoded.topic_count, 3);
    ck_assert_str_eq(decoded.topics[1].name, "B");
    ck_assert_uint_eq(decoded.topics[1].start, 5);
    ck_assert_uint_eq(decoded.topics[1].log_start, 6);
    ck_assert_uint_eq(decoded.topics[0].log_start, 0);
    ck_assert_uint_eq(decoded.topics[1].clean.clean_to, 0);
    ck_assert_uint_eq(decoded.topics[2].clean.clean_to, 300);
    ck_assert_uint_eq(decoded.topics[2].clean.tombstones_below, 7);
    ck_assert(ages_equal(&decoded.ages, &manifest.ages));
    ck_assert_uint_eq(decoded.topics[1].end, 8);
    ck_assert_mem_eq(decoded.topics[1].digest, manifest.topics[1].digest, DIGEST_SIZE);
    ck_assert_int_eq(decoded.topics[0].created_time_us, -1);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(topic_settings_equal(&decoded.topics[i].settings, &manifest.topics[i].settings));
    }
    ck_assert_uint_eq(producers_next_id(decoded.producers), 3);
    ck_assert_uint_eq(producers_count(decoded.producers).batches, 4);
    ck_assert_uint_eq(decoded.nodes->count, 2);
    ck_assert_uint_eq(nodes_find(decoded.nodes, 2), 22);
    ck_assert_uint_eq(cursors_count(decoded.cursors), 3);
    ck_assert(cursors_find(decoded.cursors, 9000, "late", &cursor));
    ck_assert_uint_eq(cursor.at.offset, 77);
    ck_assert_uint_eq(cursor.at.revision, 40000);
    ck_assert_uint_eq(cursor.at.owner, UINT64_MAX);
    ck_assert_int_eq(cursor.at.updated_time_us, 4999);
    ck_assert_str_eq(cursor.metadata, "who: me");
    ck_assert(cursors_find(decoded.cursors, 4097, "a", &cursor));
    ck_assert_int_eq(cursor.at.updated_time_us, -7);
    ck_assert_ptr_eq(manifest_find(&decoded, 9000), &decoded.topics[2]);
    ck_assert_ptr_null(manifest_find(&decoded, 9001));
    again = encode(&decoded);
    ck_assert_uint_eq(again.size, bytes.size);
    ck_assert_mem_eq(again.data, bytes.data, bytes.size);
    block_unref(again.block);
    block_unref(bytes.block);
    manifest_fini(&decoded);
    manifest_fini(&manifest);
}
END_TEST

START_TEST(a_copy_is_equal_and_its_own)
{
    struct manifest manifest = some_manifest();
    struct slice bytes = encode(&manifest);
    struct manifest copy;
    struct slice again;

    ck_assert_int_eq(manifest_copy(&manifest, &copy), ERR_OK);
    manifest_fini(&manifest);
    again = encode(&copy);
    ck_assert_uint_eq(again.size, bytes.size);
    ck_assert_mem_eq(again.data, bytes.data, bytes.size);
    block_unref(again.block);
    block_unref(bytes.block);
    manifest_fini(&copy);
}
END_TEST

START_TEST(the_empty_one_is_one_too)
{
    struct manifest manifest = {0};
    struct manifest decoded;
    struct slice bytes;

    ck_assert_int_eq(producers_new(&manifest.producers), ERR_OK);
    ck_assert_int_eq(cursors_new(&manifest.cursors), ERR_OK);
    bytes = encode(&manifest);
    ck_assert_int_eq(decode(bytes.data, bytes.size, &decoded), ERR_OK);
    ck_assert_uint_eq(decoded.topic_count, 0);
    block_unref(bytes.block);
    manifest_fini(&decoded);
    manifest_fini(&manifest);
}
END_TEST

START_TEST(cut_or_flipped_bytes_are_seen)
{
    struct manifest manifest = some_manifest();
    struct slice bytes = encode(&manifest);
    struct manifest decoded;

    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *copy = malloc(size + (size == 0));

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, bytes.data, size);
        ck_assert_int_eq(decode(copy, size, &decoded), ERR_CORRUPT);
        free(copy);
    }
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.block->data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        ck_assert_int_eq(decode(bytes.data, bytes.size, &decoded), ERR_CORRUPT);
        bytes.block->data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    block_unref(bytes.block);
    manifest_fini(&manifest);
}
END_TEST

/* Whoever wrote it made a checksum for it: what decodes must be a state that can be worked with. */
static void try_with_right_checksum(uint8_t *bytes, size_t size)
{
    struct manifest decoded;

    bytes_put_u32(bytes + size - 4, crc32c(bytes, size - 4));
    if (decode(bytes, size, &decoded) == ERR_OK) {
        struct slice again = encode(&decoded);
        struct manifest twice;

        producers_check(decoded.producers);
        cursors_check(decoded.cursors);
        ck_assert_int_eq(decode(again.data, again.size, &twice), ERR_OK);
        block_unref(again.block);
        manifest_fini(&twice);
        manifest_fini(&decoded);
    }
}

START_TEST(wrong_bytes_with_a_right_checksum_do_no_harm)
{
    struct manifest manifest = some_manifest();
    struct slice bytes = encode(&manifest);
    uint8_t *copy = malloc(bytes.size);

    ck_assert_ptr_nonnull(copy);
    for (size_t bit = 0; bit < (bytes.size - 4) * 8; bit++) {
        memcpy(copy, bytes.data, bytes.size);
        copy[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        try_with_right_checksum(copy, bytes.size);
    }
    for (size_t size = 4; size < bytes.size; size++) {
        memcpy(copy, bytes.data, bytes.size);
        try_with_right_checksum(copy, size);
    }
    free(copy);
    block_unref(bytes.block);
    manifest_fini(&manifest);
}
END_TEST

/* Encodes what is changed, so that only the meaning is wrong. */
static enum err decode_changed(void (*change)(struct manifest *manifest))
{
    struct manifest manifest = some_manifest();
    struct manifest decoded = {0};
    struct slice bytes;
    enum err err;

    change(&manifest);
    bytes = encode(&manifest);
    err = decode(bytes.data, bytes.size, &decoded);
    block_unref(bytes.block);
    manifest_fini(&decoded);
    manifest_fini(&manifest);
    return err;
}

static void change_nothing(struct manifest *manifest)
{
    (void)manifest;
}

static void change_name(struct manifest *manifest)
{
    manifest->topics[0].name[0] = '/';
}

static void change_to_same_name(struct manifest *manifest)
{
    manifest->topics[2].name[0] = 'a';
}

static void change_applied_index(struct manifest *manifest)
{
    manifest->applied_index = 1; /* before the third topic */
}

static void change_topic_id(struct manifest *manifest)
{
    manifest->topics[2].id = 8999; /* which a producer's window does not name */
}

static void change_time(struct manifest *manifest)
{
    manifest->time_us = 4400; /* before a producer was used */
}

/* A cursor of its topic 1, which is 4097, but for what is said. */
static void change_cursor(struct manifest *manifest, const struct cursor_position *at,
                          uint64_t topic_id)
{
    add_cursor(manifest->cursors, topic_id, "wrong", at, "");
}

static void change_nothing_of_cursor(struct manifest *manifest)
{
    change_cursor(manifest, &(struct cursor_position){.offset = 8, .revision = 5000}, 4097);
}

static void change_cursor_offset(struct manifest *manifest)
{
    change_cursor(manifest, &(struct cursor_position){.offset = 9, .revision = 5000}, 4097);
}

static void change_cursor_topic(struct manifest *manifest)
{
    change_cursor(manifest, &(struct cursor_position){.revision = 5000}, 4098);
}

static void change_cursor_revision(struct manifest *manifest)
{
    change_cursor(manifest, &(struct cursor_position){.revision = 40960}, 4097);
}

static void change_cursor_revision_back(struct manifest *manifest)
{
    change_cursor(manifest, &(struct cursor_position){.revision = 4097}, 4097);
}

static void change_cursor_time(struct manifest *manifest)
{
    change_cursor(manifest, &(struct cursor_position){.revision = 5000, .updated_time_us = 5001},
                  4097);
}

START_TEST(a_cursor_that_cannot_be_is_refused)
{
    ck_assert_int_eq(decode_changed(change_nothing_of_cursor), ERR_OK);
    ck_assert_int_eq(decode_changed(change_cursor_offset), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_cursor_topic), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_cursor_revision), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_cursor_revision_back), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_cursor_time), ERR_CORRUPT);
}
END_TEST

static void change_segment_bytes(struct manifest *manifest)
{
    manifest->topics[0].settings.segment_bytes = 17;
}

static void change_node_indexes(struct manifest *manifest)
{
    manifest->topics[1].settings.node_indexes[1].node_id = 2; /* as the one before */
}

static void change_indexes(struct manifest *manifest)
{
    manifest->topics[0].settings.indexes = 8;
}

static void change_ages(struct manifest *manifest)
{
    manifest->ages.marks[1].raft_index = manifest->applied_index;
}

START_TEST(ages_that_cannot_be_are_refused)
{
    ck_assert_int_eq(decode_changed(change_ages), ERR_CORRUPT);
}
END_TEST

/* A trimmed topic: id 4096, name "a", start 5, end 8, digest, log_start. */
START_TEST(a_log_start_that_cannot_be_is_refused)
{
    static const uint8_t starts[] = {6, 8, 5, 4, 9};

    for (size_t i = 0; i < sizeof starts; i++) {
        uint8_t bytes[128] = {0x08, 0x09, 0x18, 0x01, 0x22, 50,   0x08, 0x80, 0x20,
                              0x12, 0x01, 0x61, 0x18, 0x05, 0x20, 0x08, 0x2a, 0x20};
        size_t size = 18 + DIGEST_SIZE;
        struct manifest decoded;
        enum err err;

        bytes[size++] = 0x80; /* field 32 */
        bytes[size++] = 0x02;
        bytes[size++] = starts[i];
        bytes[size++] = 0x8a; /* field 33: what its first batch follows on */
        bytes[size++] = 0x02;
        bytes[size++] = DIGEST_SIZE;
        size += DIGEST_SIZE;
        bytes[5] = (uint8_t)(size - 6);
        bytes_put_u32(bytes + size, crc32c(bytes, size));
        err = decode(bytes, size + 4, &decoded);
        ck_assert_int_eq(err, i < 2 ? ERR_OK : ERR_CORRUPT);
        if (err == ERR_OK) {
            ck_assert_uint_eq(decoded.topics[0].log_start, starts[i]);
            manifest_fini(&decoded);
        }
    }
}
END_TEST

/* A topic: id 4096, name "a", end 8, digest, clean_to, tombstones_below. */
START_TEST(what_may_be_compacted_that_cannot_be_is_refused)
{
    static const uint8_t bounds[][2] = {{8, 8}, {8, 1}, {9, 1}, {3, 4}};

    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        uint8_t bytes[128] = {0x08, 0x09, 0x18, 0x01, 0x22, 50,   0x08, 0x80,
                              0x20, 0x12, 0x01, 0x61, 0x20, 0x08, 0x2a, 0x20};
        size_t size = 16 + DIGEST_SIZE;
        struct manifest decoded;
        enum err err;

        bytes[size++] = 0xc8; /* field 41 */
        bytes[size++] = 0x02;
        bytes[size++] = bounds[i][0];
        bytes[size++] = 0xd0; /* field 42 */
        bytes[size++] = 0x02;
        bytes[size++] = bounds[i][1];
        bytes[5] = (uint8_t)(size - 6);
        bytes_put_u32(bytes + size, crc32c(bytes, size));
        err = decode(bytes, size + 4, &decoded);
        ck_assert_int_eq(err, i < 2 ? ERR_OK : ERR_CORRUPT);
        if (err == ERR_OK) {
            ck_assert_uint_eq(decoded.topics[0].clean.clean_to, bounds[i][0]);
            ck_assert_uint_eq(decoded.topics[0].clean.tombstones_below, bounds[i][1]);
            manifest_fini(&decoded);
        }
    }
}
END_TEST

START_TEST(settings_that_cannot_be_are_refused)
{
    ck_assert_int_eq(decode_changed(change_segment_bytes), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_node_indexes), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_indexes), ERR_VERSION);
}
END_TEST

START_TEST(settings_at_their_defaults_take_no_bytes)
{
    struct manifest manifest = some_manifest();
    struct slice bytes = encode(&manifest);
    struct slice with;

    manifest.topics[0].settings.preallocate = true;
    with = encode(&manifest);
    ck_assert_uint_eq(with.size, bytes.size + 5); /* the two numbers of field 40, a size, two */
    block_unref(with.block);
    manifest.topics[0].settings.preallocate = false;
    with = encode(&manifest);
    ck_assert_uint_eq(with.size, bytes.size);
    ck_assert_mem_eq(with.data, bytes.data, bytes.size);
    block_unref(with.block);
    block_unref(bytes.block);
    manifest_fini(&manifest);
}
END_TEST

/* Made by the program before settings: topic "a" with id 4096, of time 1, at index 9. */
static const uint8_t old_manifest[] = {0x08, 0x09, 0x10, 0x02, 0x18, 0x01, 0x22, 0x08,
                                       0x08, 0x80, 0x20, 0x12, 0x01, 0x61, 0x30, 0x02};

START_TEST(what_was_written_before_there_were_settings_is_read)
{
    uint8_t bytes[sizeof old_manifest + 4];
    struct manifest decoded;

    memcpy(bytes, old_manifest, sizeof old_manifest);
    bytes_put_u32(bytes + sizeof old_manifest, crc32c(old_manifest, sizeof old_manifest));
    ck_assert_int_eq(decode(bytes, sizeof bytes, &decoded), ERR_OK);
    ck_assert_uint_eq(decoded.topic_count, 1);
    ck_assert_int_eq(decoded.topics[0].created_time_us, 1);
    ck_assert(topic_settings_equal(&decoded.topics[0].settings, &(struct topic_settings){0}));
    manifest_fini(&decoded);
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    ck_assert_int_eq(decode_changed(change_nothing), ERR_OK);
    ck_assert_int_eq(decode_changed(change_name), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_to_same_name), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_applied_index), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_topic_id), ERR_CORRUPT);
    ck_assert_int_eq(decode_changed(change_time), ERR_CORRUPT);
}
END_TEST

START_TEST(a_field_of_a_newer_program_is_not_passed_over)
{
    struct manifest manifest = some_manifest();
    struct slice bytes = encode(&manifest);
    uint8_t *longer = malloc(bytes.size + 2);
    struct manifest decoded;

    ck_assert_ptr_nonnull(longer);
    memcpy(longer, bytes.data, bytes.size - 4);
    longer[bytes.size - 4] = 15 << 3; /* field 15, a number */
    longer[bytes.size - 3] = 1;
    bytes_put_u32(longer + bytes.size - 2, crc32c(longer, bytes.size - 2));
    ck_assert_int_eq(decode(longer, bytes.size + 2, &decoded), ERR_VERSION);
    free(longer);
    block_unref(bytes.block);
    manifest_fini(&manifest);
}
END_TEST

/* ---- the snapshot file ---- */

static struct slice new_slice(const char *text)
{
    struct block *block = block_new(strlen(text));

    ck_assert_ptr_nonnull(block);
    memcpy(block->data, text, strlen(text));
    return (struct slice){.block = block, .data = block->data, .size = block->size};
}

static struct snapshot new_snapshot(uint64_t index)
{
    return (struct snapshot){.index = index,
                             .term = 3,
                             .membership_index = 2,
                             .membership = new_slice("members"),
                             .manifest = new_slice(index == 7 ? "seven" : "eleven, longer")};
}

static void save(struct io *io, uint64_t index)
{
    struct snapshot snapshot = new_snapshot(index);

    ck_assert_int_eq(snapshot_save(io, "/", &snapshot, NULL), ERR_OK);
    snapshot_fini(&snapshot);
}

static void assert_is(const struct snapshot *snapshot, uint64_t index)
{
    struct snapshot expected = new_snapshot(index);

    ck_assert_uint_eq(snapshot->index, index);
    ck_assert_uint_eq(snapshot->term, 3);
    ck_assert_uint_eq(snapshot->membership_index, 2);
    ck_assert_uint_eq(snapshot->membership.size, 7);
    ck_assert_mem_eq(snapshot->membership.data, "members", 7);
    ck_assert_uint_eq(snapshot->manifest.size, expected.manifest.size);
    ck_assert_mem_eq(snapshot->manifest.data, expected.manifest.data, expected.manifest.size);
    snapshot_fini(&expected);
}

static struct mem_io disk;

static void setup(void)
{
    mem_io_init(&disk);
}

static void teardown(void)
{
    mem_io_fini(&disk);
}

START_TEST(what_is_saved_is_loaded)
{
    struct snapshot snapshot;
    struct snapshot second;

    ck_assert_int_eq(snapshot_load(&disk.io, "/", &snapshot, NULL), ERR_NOT_FOUND);
    save(&disk.io, 7);
    save(&disk.io, 11);
    ck_assert_int_eq(snapshot_load(&disk.io, "/", &snapshot, NULL), ERR_OK);
    assert_is(&snapshot, 11);
    snapshot_ref(&snapshot, &second);
    snapshot_fini(&snapshot);
    assert_is(&second, 11);
    snapshot_fini(&second);
    snapshot_fini(&second); /* empty: fine */
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
}
END_TEST

static uint64_t file_size;

static void note_size(void *arg, const char *path, uint64_t size)
{
    (void)arg;
    if (strcmp(path, "/snapshot") == 0) {
        file_size = size;
    }
}

/* Its checksum is another one, too: see manifest.h. */
START_TEST(a_file_of_a_later_version_is_told_from_a_damaged_one)
{
    struct snapshot snapshot;

    save(&disk.io, 7);
    ck_assert_int_eq(mem_io_flip(&disk, "/snapshot", 4, 0), 0); /* 1 becomes 0 … */
    ck_assert_int_eq(mem_io_flip(&disk, "/snapshot", 4, 1), 0); /* … and 2. */
    ck_assert_int_eq(mem_io_flip(&disk, "/snapshot", 8, 0), 0);
    ck_assert_int_eq(snapshot_load(&disk.io, "/", &snapshot, NULL), ERR_VERSION);
}
END_TEST

START_TEST(a_damaged_file_is_not_loaded)
{
    struct snapshot snapshot;
    struct err_info info;

    save(&disk.io, 7);
    mem_io_files(&disk, note_size, NULL);
    ck_assert_uint_gt(file_size, 16);
    for (uint64_t bit = 0; bit < file_size * 8; bit++) {
        ck_assert_int_eq(mem_io_flip(&disk, "/snapshot", bit / 8, bit % 8), 0);
        ck_assert_int_eq(snapshot_load(&disk.io, "/", &snapshot, &info), ERR_CORRUPT);
        ck_assert_ptr_nonnull(strstr(info.text, "/snapshot'"));
        ck_assert_int_eq(mem_io_flip(&disk, "/snapshot", bit / 8, bit % 8), 0);
    }
    for (uint64_t size = file_size - 1; size < file_size; size--) {
        int fd = disk.io.open(&disk.io, "/snapshot", O_RDWR, 0);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(disk.io.truncate(&disk.io, fd, size), 0);
        ck_assert_int_eq(disk.io.close(&disk.io, fd), 0);
        ck_assert_int_eq(snapshot_load(&disk.io, "/", &snapshot, NULL), ERR_CORRUPT);
    }
}
END_TEST

static uint64_t draw(void *arg)
{
    return history_random(arg);
}

/* The n-th call of saving 11 over 7 fails, and then power, or all goes on. */
static bool disturb_save(unsigned n, bool lose_power)
{
    struct snapshot next = new_snapshot(11);
    struct faulty_io faulty;
    struct snapshot snapshot;
    uint64_t random = n;
    bool called;
    enum err err;

    mem_io_fini(&disk);
    mem_io_init(&disk);
    save(&disk.io, 7);
    faulty_io_init(&faulty, &disk.io);
    faulty_io_fail_at(&faulty, n, EIO, lose_power);
    err = snapshot_save(&faulty.io, "/", &next, NULL);
    called = faulty_io_calls(&faulty) >= n;
    ck_assert(err == ERR_OK || err == ERR_IO);
    if (lose_power) {
        mem_io_crash(&disk, draw, &random);
    }
    ck_assert_int_eq(snapshot_load(&disk.io, "/", &snapshot, NULL), ERR_OK);
    ck_assert(err != ERR_OK || snapshot.index == 11);
    assert_is(&snapshot, snapshot.index == 7 ? 7 : 11);
    snapshot_fini(&snapshot);
    save(&disk.io, 11); /* Leftovers are in nobody's way. */
    ck_assert_int_eq(snapshot_load(&disk.io, "/", &snapshot, NULL), ERR_OK);
    assert_is(&snapshot, 11);
    snapshot_fini(&snapshot);
    snapshot_fini(&next);
    return called;
}

START_TEST(a_save_that_fails_leaves_the_old_or_the_new)
{
    unsigned n = 1;

    while (disturb_save(n, _i == 1)) {
        n++;
    }
    ck_assert_uint_gt(n, 5); /* open, write, sync, close, rename, sync of the directory */
}
END_TEST

START_TEST(a_load_that_fails_says_so)
{
    struct snapshot snapshot;
    unsigned n = 1;
    enum err err;

    save(&disk.io, 7);
    do {
        struct faulty_io faulty;
        struct err_info info;

        faulty_io_init(&faulty, &disk.io);
        faulty_io_count_only(&faulty, FAULTY_READS);
        faulty_io_fail_at(&faulty, n++, EIO, false);
        err = snapshot_load(&faulty.io, "/", &snapshot, &info);
        ck_assert(err == ERR_OK || (err == ERR_IO && info.code == ERR_IO));
    } while (err != ERR_OK);
    ck_assert_uint_gt(n, 3);
    snapshot_fini(&snapshot);
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/manifest");
    TCase *codec = tcase_create("manifest_decode");
    TCase *file = tcase_create("snapshot_save");

    tcase_add_test(codec, what_is_encoded_is_decoded);
    tcase_add_test(codec, a_copy_is_equal_and_its_own);
    tcase_add_test(codec, the_empty_one_is_one_too);
    tcase_add_test(codec, cut_or_flipped_bytes_are_seen);
    tcase_add_test(codec, wrong_bytes_with_a_right_checksum_do_no_harm);
    tcase_add_test(codec, what_cannot_be_is_refused);
    tcase_add_test(codec, a_cursor_that_cannot_be_is_refused);
    tcase_add_test(codec, ages_that_cannot_be_are_refused);
    tcase_add_test(codec, a_log_start_that_cannot_be_is_refused);
    tcase_add_test(codec, what_may_be_compacted_that_cannot_be_is_refused);
    tcase_add_test(codec, settings_that_cannot_be_are_refused);
    tcase_add_test(codec, settings_at_their_defaults_take_no_bytes);
    tcase_add_test(codec, what_was_written_before_there_were_settings_is_read);
    tcase_add_test(codec, a_field_of_a_newer_program_is_not_passed_over);
    suite_add_tcase(suite, codec);
    tcase_add_checked_fixture(file, setup, teardown);
    tcase_add_test(file, what_is_saved_is_loaded);
    tcase_add_test(file, a_file_of_a_later_version_is_told_from_a_damaged_one);
    tcase_add_test(file, a_damaged_file_is_not_loaded);
    tcase_add_loop_test(file, a_save_that_fails_leaves_the_old_or_the_new, 0, 2);
    tcase_add_test(file, a_load_that_fails_says_so);
    suite_add_tcase(suite, file);
    return runner_main(suite);
}
