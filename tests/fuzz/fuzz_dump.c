/*
 * A node's directory with any bytes in its files: dumped, and checked, which changes nothing and
 * comes to an end.
 *
 *      u8 1: checksums are made right, 2: with records, 4: from offset 3, 8: at most 9 items |
 *      files, up to 8: u8 place, u8 number, a part
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/dump.h"
#include "archive/fsck.h"
#include "archive/index_files.h"
#include "archive/node_dir.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "log/index.h"
#include "log/segment.h"
#include "log/store.h"
#include "lookup/part.h"
#include "raft_fsm/journal_segment.h"
#include "raft_fsm/manifest.h"

enum {
    FILES_MAX = 8,
    TOPIC_FILE = 8,
    INDEX_FILE = TOPIC_FILE + SEGMENT_FILE_COUNT,
    PLACES = INDEX_FILE + PART_KIND_COUNT + 1, /* one of an index that is being written */
    PART_SIZE_MAX = 60000,
};

/* Places; what is TOPIC_FILE and above is a topic's file of that kind, number its base offset; what
 * is INDEX_FILE and above is one of its indexes of times or keys, number the last offset in it. */
static const char *const places[TOPIC_FILE] = {
    NODE_DIR "/identity",           NODE_DIR_GROUP "/ballot", NODE_DIR_GROUP "/disk",
    NODE_DIR_GROUP "/snapshot",     NODE_DIR "/BACKUP",       NODE_DIR "/manifest",
    NODE_DIR_GROUP "/journal/file", NODE_DIR "/other",
};
static const char topic_dir[] = NODE_DIR_GROUP "/topics/a-8192";
static const char index_dir[] = NODE_DIR "/indexes/a-8192";

static void put_index_path(char path[IO_PATH_SIZE], unsigned kind, uint8_t number)
{
    char name[PART_NAME_SIZE];
    const struct part_seal seal = {.kind =
                                       kind < PART_KIND_COUNT ? (enum part_kind)kind : PART_KEYS,
                                   .end_offset = number + UINT64_C(1)};

    part_name(name, &seal);
    (void)snprintf(path, IO_PATH_SIZE, "%s/%s%s", index_dir, name,
                   kind < PART_KIND_COUNT ? "" : ".tmp"); /* fits */
}

static void put_path(char path[IO_PATH_SIZE], uint8_t place, uint8_t number)
{
    char name[JOURNAL_NAME_SIZE];
    enum err err;

    place = (uint8_t)(place % PLACES);
    if (place >= INDEX_FILE) {
        put_index_path(path, place - INDEX_FILE, number);
    } else if (place >= TOPIC_FILE) {
        err = segment_path(path, topic_dir, number, (enum segment_file)(place - TOPIC_FILE), NULL);
        ASSERT(err == ERR_OK);
    } else if (place == 6) {
        journal_segment_name(name, number == 0 ? 1 : number);
        err = io_path(path, NODE_DIR_GROUP "/journal", name, NULL);
        ASSERT(err == ERR_OK);
    } else {
        (void)snprintf(path, IO_PATH_SIZE, "%s", places[place]); /* fits */
    }
}

/* Of the seal at the end, and of a body that it covers with one checksum. */
static void fix_part(uint8_t *bytes, size_t size)
{
    uint8_t *seal = bytes + size - PART_SEAL_SIZE;

    bytes_put_u64(seal + 64, size - PART_SEAL_SIZE);
    bytes_put_u32(seal + 72, crc32c(bytes, size - PART_SEAL_SIZE));
    bytes_put_u32(seal + 4, crc32c(seal + 8, PART_SEAL_SIZE - 8));
}

static void fix(uint8_t *bytes, size_t size)
{
    if (size >= PART_SEAL_SIZE && memcmp(bytes + size - PART_SEAL_SIZE, "QLI1", 4) == 0) {
        fix_part(bytes, size);
        return;
    }
    switch (size < 32 ? 0 : bytes_get_u32(bytes)) {
    case STORE_MAGIC:
        fix_store(bytes, size);
        break;
    case INDEX_MAGIC:
        fix_index(bytes, size);
        break;
    case JOURNAL_MAGIC:
        fix_journal(bytes, size);
        break;
    case SNAPSHOT_MAGIC:
        bytes_put_u32(bytes + 12, (uint32_t)size - 16);
        bytes_put_u32(bytes + 8, crc32c(bytes + 16, size - 16));
        break;
    default:
        break;
    }
}

static void make_dirs(struct io *io)
{
    static const char *const dirs[][2] = {{"/", "data"},
                                          {NODE_DIR, "group-1"},
                                          {NODE_DIR_GROUP, "journal"},
                                          {NODE_DIR_GROUP, "topics"},
                                          {NODE_DIR_GROUP "/topics", "a-8192"},
                                          {NODE_DIR, "indexes"},
                                          {NODE_DIR "/indexes", "a-8192"}};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        enum err err = io_make_dir(io, dirs[i][0], dirs[i][1], NULL);

        ASSERT(err == ERR_OK);
    }
}

/* Reads all that it is given, so that a sanitizer sees what is not there. */
static enum err take_item(void *arg, const struct dump_item *item)
{
    uint32_t *sum = arg;

    *sum = crc32c_extend(*sum, (const uint8_t *)item->kind, strlen(item->kind));
    for (size_t i = 0; i < item->count; i++) {
        const struct dump_field *field = &item->fields[i];

        ASSERT(field->name != NULL);
        if (field->type == DUMP_TEXT) {
            *sum = crc32c_extend(*sum, field->data, strlen(field->data));
        } else if (field->type == DUMP_BYTES && field->data != NULL) {
            *sum = crc32c_extend(*sum, field->data, field->size);
        }
    }
    return ERR_OK;
}

static enum err take_finding(void *arg, const struct fsck_finding *finding)
{
    uint32_t *sum = arg;

    ASSERT(finding->path[0] == '/' && finding->advice[0] != '\0');
    ASSERT(!finding->has_range || (finding->topic != NULL && finding->from <= finding->to));
    *sum = crc32c_extend(*sum, (const uint8_t *)finding->text, strlen(finding->text));
    return ERR_OK;
}

static int refuse_changes(void *arg, struct mem_io_op *op)
{
    (void)arg;
    ASSERT(op->kind != MEM_IO_PWRITEV && op->kind != MEM_IO_TRUNCATE && op->kind != MEM_IO_RENAME);
    ASSERT(op->kind != MEM_IO_UNLINK && op->kind != MEM_IO_MKDIR && op->kind != MEM_IO_RMDIR);
    return 0;
}

static void look_through(struct mem_io *disk, uint8_t control)
{
    uint32_t sum = 0;
    const struct dump_options dump = {.io = &disk->io,
                                      .records = (control & 2) != 0,
                                      .from = (control & 4) != 0 ? 3 : 0,
                                      .limit = (control & 8) != 0 ? 9 : 0,
                                      .cb = take_item,
                                      .arg = &sum};
    const struct fsck_options fsck = {
        .io = &disk->io, .dir = NODE_DIR, .cb = take_finding, .arg = &sum};
    struct dump_result result;
    struct fsck_summary summary;
    struct err_info info = {0};
    enum err err;

    mem_io_set_hook(disk, refuse_changes, NULL);
    err = dump_path(&dump, NODE_DIR, &result, &info);
    ASSERT(err == ERR_OK);
    err = fsck_run(&fsck, &summary, &info);
    ASSERT(err == ERR_OK);
    mem_io_set_hook(disk, NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    struct mem_io disk;
    struct io *io = fuzz_disk_init(&disk);

    make_dirs(io);
    for (unsigned i = 0; i < FILES_MAX && input.size > 0; i++) {
        uint8_t place = fuzz_u8(&input);
        uint8_t number = fuzz_u8(&input);
        struct fuzz_input part = fuzz_part(&input);
        uint8_t *bytes = fuzz_copy(&part);
        char path[IO_PATH_SIZE];

        put_path(path, place, number);
        if ((control & 1) != 0) {
            fix(bytes, part.size);
        }
        fuzz_write_file(io, path, bytes, part.size);
        free(bytes);
    }
    look_through(&disk, control);
    fuzz_disk_fini(&disk);
    return 0;
}

/* ---- inputs to begin with: files of a node ---- */

static void put_file(struct buf *seed, struct node_dir *dir, uint8_t place, uint8_t number,
                     const char *path)
{
    uint64_t size;
    uint8_t *bytes = node_dir_read(dir, path, &size);

    fuzz_put_u8(seed, place);
    fuzz_put_u8(seed, number);
    fuzz_put_part(seed, bytes, size < PART_SIZE_MAX ? (size_t)size : PART_SIZE_MAX);
    free(bytes);
}

static void put_topic(struct buf *seed, struct node_dir *dir, const char *end, unsigned nth)
{
    char path[IO_PATH_SIZE];
    enum segment_file file = SEGMENT_STORE;
    uint64_t base = 0;
    uint64_t size;
    bool found = node_dir_find(dir, dir->a, end, nth, path, &size);

    ASSERT(found);
    found = segment_parse_name(strrchr(path, '/') + 1, &base, &file);
    ASSERT(found);
    put_file(seed, dir, (uint8_t)(TOPIC_FILE + file), (uint8_t)base, path);
}

/* The snapshot that has the topic, its first segment, and an index of that. */
static void put_index(struct buf *seed, struct node_dir *dir, uint8_t control, enum part_kind kind)
{
    struct part_seal part = index_files_seal(dir, dir->a, kind, 0, 0);
    char path[IO_PATH_SIZE];

    ASSERT(part.base_offset == 0 && part.end_offset <= UINT8_MAX);
    index_files_add(dir, dir->a, &part, path);
    fuzz_put_u8(seed, control);
    put_file(seed, dir, 3, 0, places[3]);
    put_topic(seed, dir, ".store", 0);
    put_file(seed, dir, (uint8_t)(INDEX_FILE + kind), (uint8_t)(part.end_offset - 1), path);
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    static const char backup[] = "quorlog-backup 1\ncluster 0123456789abcdef0123456789abcdef\n"
                                 "entry 5 1\nmanifest 5 00\n";
    struct node_dir dir;
    struct buf seed = {0};

    node_dir_make(&dir, 3, 1);
    for (uint8_t control = 0; control < 4; control++) {
        fuzz_put_u8(&seed, control);
        put_file(&seed, &dir, 0, 0, places[0]);
        put_file(&seed, &dir, 1, 0, places[1]);
        put_file(&seed, &dir, 2, 0, places[2]);
        put_file(&seed, &dir, 3, 0, places[3]);
        put_file(&seed, &dir, 6, 1, NODE_DIR_GROUP "/journal/0000000000000001.journal");
        fuzz_emit(emit, arg, &seed);
        fuzz_put_u8(&seed, control);
        put_file(&seed, &dir, 3, 0, places[3]);
        put_topic(&seed, &dir, ".store", 0);
        put_topic(&seed, &dir, ".index", 0);
        put_topic(&seed, &dir, ".store", 1);
        fuzz_emit(emit, arg, &seed);
    }
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        put_index(&seed, &dir, kind == PART_TIME, (enum part_kind)kind);
        fuzz_emit(emit, arg, &seed);
    }
    fuzz_put_u8(&seed, 0);
    fuzz_put_u8(&seed, 4);
    fuzz_put_u8(&seed, 0);
    fuzz_put_part(&seed, backup, sizeof backup - 1);
    fuzz_emit(emit, arg, &seed);
    node_dir_fini(&dir);
}
