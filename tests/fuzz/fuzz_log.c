/*
 * A log's directory with any files in it: opened, read, changed, closed and opened again.
 *
 *      u8 1: checksums are made right, 2: holes are allowed | u8 start | u8 durable end | u8 what
 *      is done | files, up to 6: u8 kind, u8 base offset, a part
 *
 * kind: as enum segment_file; else a foreign name. What is done: see change.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "fuzz/log_seeds.h"
#include "fuzz/log_walk.h"
#include "log/segment.h"

enum { FILES_MAX = 6 };

static void put_files(struct io *io, struct fuzz_input *input, bool fixed)
{
    for (unsigned i = 0; i < FILES_MAX && input->size > 0; i++) {
        uint8_t kind = fuzz_u8(input);
        uint64_t base_offset = fuzz_u8(input);
        struct fuzz_input part = fuzz_part(input);
        uint8_t *bytes = fuzz_copy(&part);
        char path[IO_PATH_SIZE] = "/foreign";

        if (kind < SEGMENT_FILE_COUNT) {
            (void)segment_path(path, "/", base_offset, kind, NULL); /* fits */
        }
        if (fixed && kind == SEGMENT_INDEX) {
            fix_index(bytes, part.size);
        } else if (fixed) {
            fix_store(bytes, part.size);
        }
        fuzz_write_file(io, path, bytes, part.size);
        free(bytes);
    }
}

static void append(struct log *log)
{
    const struct batch_header header = {.size = BATCH_HEADER_SIZE + 5,
                                        .record_count = 1,
                                        .base_offset = log_end(log),
                                        .raft_index = UINT64_MAX,
                                        .append_time_us = INT64_MAX};
    enum err err;

    if (log_end(log) < UINT64_MAX) {
        err = log_append(log, &header, "12345", NULL);
        ASSERT(err == ERR_OK);
    }
}

static void change(struct log *log, uint8_t what)
{
    uint64_t middle = log_start(log) + (log_end(log) - log_start(log)) / 2;
    enum err err = ERR_OK;

    switch (what % 8) {
    case 1:
        append(log);
        break;
    case 2:
        err = log_truncate_front(log, middle, NULL);
        break;
    case 3:
        err = log_truncate_back(log, middle, NULL);
        ASSERT(err == ERR_OK || err == ERR_INVALID || err == ERR_CORRUPT);
        return;
    case 4:
        err = log_reset(log, middle, NULL);
        break;
    case 5:
        err = log_skip(log, log_end(log) < UINT64_MAX - 9 ? log_end(log) + 9 : log_end(log), NULL);
        break;
    case 6:
        err = middle < log_end(log) ? log_punch(log, middle, middle + 1, NULL) : ERR_OK;
        break;
    case 7:
        err = log_sync(log, NULL);
        break;
    default:
        break;
    }
    ASSERT(err == ERR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    uint8_t start = fuzz_u8(&input);
    uint8_t durable_end = fuzz_u8(&input);
    uint8_t what = fuzz_u8(&input);
    bool verified = durable_end == 0; /* Else sealed segments are believed until they are read. */
    struct mem_io disk;
    struct log_options options = {.io = fuzz_disk_init(&disk),
                                  .dir = "/",
                                  .start = start < durable_end ? start : durable_end,
                                  .durable_end = durable_end,
                                  .segment_size_max = 4096,
                                  .index_interval = 128,
                                  .holes_allowed = (control & 2) != 0};
    struct log_report report;
    struct log *log;
    enum err err;

    put_files(options.io, &input, (control & 1) != 0);
    err = log_open(&options, &log, &report, NULL);
    for (unsigned i = 0; i < 2 && err == ERR_OK; i++) {
        ASSERT(log_start(log) >= options.start || options.start > log_end(log));
        ASSERT(!options.holes_allowed || log_end(log) >= options.durable_end);
        ASSERT(report.end == log_end(log));
        log_walk(log);
        if (verified) {
            log_check(log);
        }
        change(log, (uint8_t)(what >> (4 * i)));
        log_walk(log);
        append(log);
        err = log_sync(log, NULL);
        ASSERT(err == ERR_OK && log_healthy(log));
        options.start = log_start(log);
        options.durable_end = log_end(log);
        log_close(log);
        err = log_open(&options, &log, &report, NULL);
        ASSERT(err == ERR_OK || err == ERR_CORRUPT);
    }
    if (err == ERR_OK) {
        log_close(log);
    } else {
        ASSERT(err == ERR_CORRUPT || err == ERR_VERSION);
    }
    fuzz_disk_fini(&disk);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (uint8_t what = 0; what < 16; what++) {
        struct buf seed = {0};

        fuzz_put_u8(&seed, (uint8_t)(1 | (what & 2)));
        fuzz_put_u8(&seed, what % 4);
        fuzz_put_u8(&seed, what < 8 ? 0 : (uint8_t)(what - 4));
        fuzz_put_u8(&seed, (uint8_t)(what * 17));
        log_seeds_put(&seed);
        fuzz_emit(emit, arg, &seed);
    }
}
