#include "archive/index_files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/store_walk.h"
#include "lib/tmpdir.h"
#include "log/segment.h"
#include "lookup/bloom_part.h"
#include "lookup/key_run.h"
#include "lookup/time_part.h"

static struct err_info failure;

static void must(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), failure.text);
}

struct part_seal index_files_seal(struct node_dir *dir, const char *topic_dir, enum part_kind kind,
                                  unsigned first, unsigned last)
{
    struct part_seal seal = {.kind = kind, .last_time_us = 1000, .log_kib = 4};

    seal.topic_id = strtoull(strrchr(topic_dir, '-') + 1, NULL, 10);
    for (unsigned i = 0; i <= last; i++) {
        struct batch_header header;
        struct store_walk walk;
        char path[IO_PATH_SIZE];

        must(segment_path(path, topic_dir, seal.end_offset, SEGMENT_STORE, &failure));
        must(store_walk_open(&walk, dir->io, path, &failure));
        if (i == first) {
            seal.base_offset = walk.header.base_offset;
        }
        while (store_walk_next(&walk, &header, &failure) == ERR_OK) {
            seal.end_offset = batch_end_offset(&header);
            memcpy(seal.digest, header.digest, sizeof seal.digest);
        }
        store_walk_close(&walk);
    }
    return seal;
}

void index_files_write_keys(const char *real_dir, struct part_seal *seal)
{
    struct key_writer *writer;

    must(key_writer_open(io_real(), real_dir, seal, INDEX_FILES_ENTRIES, &writer, &failure));
    for (uint64_t i = 0; i < INDEX_FILES_ENTRIES; i++) {
        const struct key_entry entry = {.hash = i / 2, .offset = seal->base_offset + 100 - i};

        must(key_writer_add(writer, &entry, &failure));
    }
    must(key_writer_finish(writer, seal, &failure));
}

/* LMDB writes to real files only: made there, and copied. */
static void copy_keys(struct node_dir *dir, const char *path, struct part_seal *seal)
{
    const char *real_dir = tmpdir_new();
    char real_path[IO_PATH_SIZE];
    struct buf file;

    index_files_write_keys(real_dir, seal);
    must(io_path(real_path, real_dir, strrchr(path, '/') + 1, &failure));
    buf_init(&file, 1 << 24);
    must(io_read_file(io_real(), real_path, 1 << 23, &file, &failure));
    node_dir_write(dir, path, file.data, file.size);
    buf_fini(&file);
    tmpdir_remove(real_dir);
}

static void write_times(struct node_dir *dir, const char *in, struct part_seal *seal)
{
    struct time_table table;

    time_table_init(&table);
    for (unsigned i = 0; i < INDEX_FILES_ENTRIES / 2; i++) {
        const struct time_span times = {.first_us = i * 10, .last_us = i * 10};

        must(time_table_add(&table, seal->base_offset + i, &times, TIME_INTERVAL));
    }
    must(time_part_write(dir->io, in, &table, seal, &failure));
    time_table_fini(&table);
}

void index_files_add(struct node_dir *dir, const char *topic_dir, struct part_seal *seal,
                     char ret_path[IO_PATH_SIZE])
{
    uint64_t hashes[INDEX_FILES_ENTRIES];
    char name[PART_NAME_SIZE];
    char in[IO_PATH_SIZE];

    must(io_make_dir(dir->io, NODE_DIR, "indexes", &failure));
    must(io_make_dir(dir->io, INDEX_FILES_DIR, strrchr(topic_dir, '/') + 1, &failure));
    must(io_path(in, INDEX_FILES_DIR, strrchr(topic_dir, '/') + 1, &failure));
    part_name(name, seal);
    must(io_path(ret_path, in, name, &failure));
    for (uint64_t i = 0; i < INDEX_FILES_ENTRIES; i++) {
        hashes[i] = i * UINT64_C(0x9e3779b97f4a7c15);
    }
    if (seal->kind == PART_TIME) {
        write_times(dir, in, seal);
    } else if (seal->kind == PART_BLOOM) {
        must(bloom_part_write(dir->io, in, hashes, INDEX_FILES_ENTRIES, seal, &failure));
    } else {
        copy_keys(dir, ret_path, seal);
    }
}

void index_files_reseal(struct node_dir *dir, const char *path,
                        void (*change)(struct part_seal *seal))
{
    uint64_t size;
    uint8_t *bytes = node_dir_read(dir, path, &size);
    struct part_seal seal;

    must(part_seal_decode(bytes + size - PART_SEAL_SIZE, &seal, &failure));
    change(&seal);
    part_seal_encode(&seal, bytes + size - PART_SEAL_SIZE);
    node_dir_write(dir, path, bytes, size);
    free(bytes);
}
