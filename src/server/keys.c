#include "server/keys.h"

#include <inttypes.h>

#include "base/assert.h"
#include "record/batch_records.h"
#include "record/record_set.h"

enum { HEADER_LOOK_SIZE = 1 }; /* log_find gives one batch at least */

enum err keys_check(const char *topic, const uint8_t *set, size_t size, struct err_info *info)
{
    struct record_reader reader;
    struct record record;
    size_t number = 0;
    enum err err;

    ASSERT(topic != NULL && set != NULL);
    record_reader_init(&reader);
    record_reader_start(&reader, set, size);
    while ((err = record_reader_next(&reader, &record)) == ERR_OK && record.key != NULL) {
        number++;
    }
    record_reader_fini(&reader);
    if (err == ERR_AGAIN) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        return err_set(info, ERR_INVALID,
                       "record %zu of the batch, counted from 0, has no key, and this topic keeps "
                       "the latest record of each key: give every record a key (as 'quorlog "
                       "produce' does with --key or --key-separator), or keep all records with "
                       "'quorlog topic alter %s --compact off'",
                       number, topic);
    }
    if (err == ERR_CORRUPT) {
        return err_set(info, ERR_INVALID, "record %zu of the batch, counted from 0, is none",
                       number);
    }
    return err_set(info, err, "%s", err_text(err));
}

bool keys_are_wanted(struct catalog *catalog, const char *topic)
{
    struct topic *found = catalog_find(catalog, topic);
    struct topic_settings settings;

    if (found == NULL) {
        return false; /* The leader knows it. */
    }
    topic_settings_get(found, &settings);
    topic_unref(found);
    return settings.compact;
}

/* In one batch, which was verified, from offset `from` on. */
static enum err find_in_batch(const uint8_t *batch, const struct batch_header *header,
                              uint64_t from, bool *ret_missing, uint64_t *ret_offset,
                              struct err_info *info)
{
    struct batch_records walk;
    struct record record;
    enum err err;

    batch_records_init(&walk);
    err = batch_records_start(&walk, header, batch + BATCH_HEADER_SIZE, 0, info);
    while (err == ERR_OK && !*ret_missing) {
        err = batch_records_next(&walk, &record);
        if (err == ERR_OK && record.key == NULL && record.offset >= from) {
            *ret_missing = true;
            *ret_offset = record.offset;
        } else if (err != ERR_OK && err != ERR_AGAIN) {
            (void)err_set(info, err, "a record of the batch at offset %" PRIu64 ": %s",
                          header->base_offset, err_text(err));
        }
    }
    batch_records_fini(&walk);
    return err == ERR_AGAIN ? ERR_OK : err;
}

/* In the batches from the one that holds `from` on, records below `from` left out. */
static enum err find_from(struct log *log, uint64_t from, bool *ret_missing, uint64_t *ret_offset,
                          struct err_info *info)
{
    struct batch_header header;
    struct block *batches;
    uint64_t end;
    enum err err = log_read(log, from, log_end(log), KEYS_LOOK_SIZE, &batches, &end, info);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t at = 0; err == ERR_OK && !*ret_missing && at < batches->size; at += header.size) {
        err = batch_header_decode(batches->data + at, UINT32_MAX, &header, info);
        if (err == ERR_OK) {
            err = find_in_batch(batches->data + at, &header, from, ret_missing, ret_offset, info);
        }
    }
    block_unref(batches);
    return err;
}

/* The first batch of the last segment from which on there are KEYS_LOOK_SIZE bytes at most; the
 * last one, when that is larger. */
static enum err find_tail(struct log *log, uint64_t *ret_offset, struct err_info *info)
{
    uint64_t end = log_end(log);
    struct log_extent extent;
    uint64_t low;
    uint64_t high = end - 1; /* The batch that holds it will do. */
    enum err err = log_extent_at(log, end - 1, &extent, info);

    if (err != ERR_OK) {
        return err;
    }
    low = extent.base_offset > log_start(log) ? extent.base_offset : log_start(log);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct log_chunk chunk;

        err = log_find(log, middle, end, HEADER_LOOK_SIZE, &chunk, info);
        if (err != ERR_OK) {
            return err;
        }
        if (chunk.position + KEYS_LOOK_SIZE >= extent.size) {
            high = middle;
        } else {
            low = chunk.end_offset < high ? chunk.end_offset : high;
        }
        log_chunk_release(&chunk);
    }
    *ret_offset = low;
    return ERR_OK;
}

enum err keys_find_missing(struct log *log, bool *ret_missing, uint64_t *ret_offset,
                           struct err_info *info)
{
    uint64_t tail;
    enum err err;

    *ret_missing = false;
    if (log_start(log) == log_end(log)) {
        return ERR_OK;
    }
    err = find_from(log, log_start(log), ret_missing, ret_offset, info);
    if (err != ERR_OK || *ret_missing) {
        return err;
    }
    err = find_tail(log, &tail, info);
    return err == ERR_OK ? find_from(log, tail, ret_missing, ret_offset, info) : err;
}
