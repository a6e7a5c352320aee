/* Stores and indexes of topics. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/dump_internal.h"
#include "archive/store_walk.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "log/index.h"
#include "record/batch_records.h"
#include "record/codec.h"

/* ---- stores ---- */

struct store_dump {
    struct dump *dump;
    struct store_walk walk;
    struct batch_records records;
    struct buf body;
};

static enum err dump_batch(struct store_dump *self, const struct batch_header *header,
                           const char *checksum)
{
    struct dump *dump = self->dump;
    char digest[DIGEST_TEXT_SIZE];
    const char *codec = codec_name((enum codec)(header->attributes & BATCH_CODEC_MASK));

    digest_to_text(header->digest, digest);
    dump_begin(dump, "batch");
    dump_number(dump, "position", self->walk.position);
    dump_number(dump, "offset", header->base_offset);
    dump_number(dump, "records", header->record_count);
    dump_number(dump, "size", header->size);
    dump_number(dump, "index", header->raft_index);
    dump_number(dump, "term", header->raft_term);
    dump_time(dump, "time", header->append_time_us);
    dump_number(dump, "producer", header->producer_id);
    dump_number(dump, "epoch", header->producer_epoch);
    dump_number(dump, "sequence", header->base_sequence);
    dump_text(dump, "codec", codec != NULL ? codec : "unknown");
    dump_bool(dump, "sparse", (header->attributes & BATCH_SPARSE) != 0);
    dump_bool(dump, "compacted", (header->attributes & BATCH_COMPACTED) != 0);
    dump_text(dump, "checksum", checksum);
    dump_text(dump, "digest", digest);
    if ((header->attributes & BATCH_COMPACTED) != 0) {
        ASSERT(self->body.size >= BATCH_DIGEST_SIZE); /* log/batch.h */
        digest_to_text(self->body.data, digest);
        dump_text(dump, "before", digest);
    }
    return dump_end(dump);
}

static enum err dump_record(struct dump *dump, const struct batch_header *header,
                            const struct record *record)
{
    dump_begin(dump, "record");
    dump_number(dump, "offset", record->offset);
    if (record->append_time_us != header->append_time_us) {
        dump_time(dump, "time", record->append_time_us);
    }
    if (record->timestamp_us != 0) {
        dump_time(dump, "timestamp", record->timestamp_us);
    }
    dump_bytes(dump, "key", record->key, record->key_size);
    dump_headers(dump, "headers", record->headers, record->header_count);
    dump_bytes(dump, "value", record->value != NULL ? record->value : "", record->value_size);
    return dump_end(dump);
}

static enum err dump_records(struct store_dump *self, const struct batch_header *header)
{
    struct dump *dump = self->dump;
    struct err_info info = {0};
    struct record record;
    enum err err = batch_records_start(&self->records, header, self->body.data, 0, &info);

    while (err == ERR_OK && !dump_is_full(dump)) {
        err = batch_records_next(&self->records, &record);
        if (err == ERR_OK && record.offset >= dump->options->from) {
            enum err told = dump_record(dump, header, &record);

            if (told != ERR_OK) {
                return told;
            }
        }
    }
    if (err == ERR_CORRUPT || err == ERR_TOO_LARGE || err == ERR_UNSUPPORTED) {
        return dump_damage(dump, self->walk.position,
                           info.text[0] != '\0' ? info.text
                                                : "the body holds no records that make sense");
    }
    return err == ERR_OK || err == ERR_AGAIN ? ERR_OK
                                             : err_set(dump->info, err, "%s", err_text(err));
}

static enum err dump_next_batch(struct store_dump *self, const struct batch_header *header)
{
    struct dump *dump = self->dump;
    struct err_info info = {0};
    enum err found = store_walk_body(&self->walk, header, &self->body, &info);
    enum err err;

    if (found != ERR_OK && found != ERR_CORRUPT) {
        return err_set(dump->info, found, "%s", info.text);
    }
    err = dump_batch(self, header, found == ERR_OK ? "ok" : "bad");
    if (err == ERR_OK && found != ERR_OK) {
        return dump_damage(dump, self->walk.position, info.text);
    }
    return err == ERR_OK && dump->options->records ? dump_records(self, header) : err;
}

static enum err dump_batches(struct store_dump *self)
{
    struct dump *dump = self->dump;
    struct err_info info = {0};
    enum err found = ERR_OK;

    while (!dump_is_full(dump)) {
        struct batch_header header;
        enum err err = ERR_OK;

        found = store_walk_next(&self->walk, &header, &info);
        if (found != ERR_OK) {
            break;
        }
        if (batch_end_offset(&header) > dump->options->from) {
            err = dump_next_batch(self, &header);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    if (found == ERR_AGAIN) {
        return self->walk.torn
                   ? dump_torn(dump, self->walk.next, self->walk.size - self->walk.next, info.text)
                   : ERR_OK;
    }
    if (found == ERR_CORRUPT) {
        return dump_damage(dump, self->walk.next, info.text);
    }
    return found == ERR_OK ? ERR_OK : err_set(dump->info, found, "%s", info.text);
}

enum err dump_store(struct dump *self, const char *path)
{
    struct store_dump store = {.dump = self};
    struct err_info info = {0};
    enum err found = store_walk_open(&store.walk, self->options->io, path, &info);
    enum err err;

    if (found != ERR_OK && found != ERR_CORRUPT && found != ERR_VERSION) {
        store_walk_close(&store.walk);
        return err_set(self->info, found, "%s", info.text);
    }
    batch_records_init(&store.records);
    buf_init(&store.body, STORE_BATCH_SIZE_MAX);
    dump_begin_file(self, "store", store.walk.size);
    if (found == ERR_OK) {
        dump_number(self, "base_offset", store.walk.header.base_offset);
        dump_number(self, "generation", store.walk.header.generation);
    }
    err = dump_end(self);
    if (err == ERR_OK && found != ERR_OK) {
        err = dump_damage(self, 0, info.text);
    }
    if (err == ERR_OK && found != ERR_VERSION) {
        /* The head may be damaged, and the batches whole. */
        err = dump_batches(&store);
    }
    buf_fini(&store.body);
    batch_records_fini(&store.records);
    store_walk_close(&store.walk);
    return err;
}

/* ---- indexes ---- */

enum { ENTRIES_AT_ONCE = 1024 };

struct index_dump {
    struct dump *dump;
    struct io *io;
    const char *path;
    int fd;
    uint64_t size;
    uint64_t count; /* of entries, as follows from the size */
    struct index_header header;
};

static enum err dump_entry(struct dump *dump, const struct index_entry *entry)
{
    dump_begin(dump, "index_entry");
    dump_number(dump, "offset", entry->offset);
    dump_number(dump, "position", entry->position);
    return dump_end(dump);
}

static enum err dump_some_entries(struct index_dump *self, uint64_t first, const uint8_t *bytes,
                                  size_t count, struct index_entry *before)
{
    struct dump *dump = self->dump;

    for (size_t i = 0; i < count; i++) {
        struct index_entry entry = index_entry_decode(bytes + i * INDEX_ENTRY_SIZE);
        enum err err = ERR_OK;

        if (entry.offset >= dump->options->from && !dump_is_full(dump)) {
            err = dump_entry(dump, &entry);
        }
        if (err == ERR_OK && (first + i == 0 ? entry.offset != self->header.base_offset
                                             : entry.offset <= before->offset ||
                                                   entry.position <= before->position)) {
            err = dump_damage(dump, INDEX_HEADER_SIZE + (first + i) * INDEX_ENTRY_SIZE,
                              "this entry is out of order");
        }
        if (err != ERR_OK) {
            return err;
        }
        *before = entry;
    }
    return ERR_OK;
}

static enum err dump_entries(struct index_dump *self, uint32_t *ret_crc)
{
    uint8_t bytes[ENTRIES_AT_ONCE * INDEX_ENTRY_SIZE];
    struct index_entry before = {0};
    uint32_t crc = 0;
    uint64_t i = 0;

    while (i < self->count) {
        uint64_t left = self->count - i;
        size_t count = left < ENTRIES_AT_ONCE ? (size_t)left : ENTRIES_AT_ONCE;
        size_t done = 0;
        enum err err = io_read(self->io, self->fd, self->path, bytes, count * INDEX_ENTRY_SIZE,
                               INDEX_HEADER_SIZE + i * INDEX_ENTRY_SIZE, &done, self->dump->info);

        if (err == ERR_OK && done < count * INDEX_ENTRY_SIZE) {
            err = err_set(self->dump->info, ERR_IO, "'%s' became shorter while it was read",
                          self->path);
        }
        if (err == ERR_OK) {
            err = dump_some_entries(self, i, bytes, count, &before);
        }
        if (err != ERR_OK) {
            return err;
        }
        crc = crc32c_extend(crc, bytes, count * INDEX_ENTRY_SIZE);
        i += count;
    }
    *ret_crc = crc;
    return ERR_OK;
}

static enum err dump_seal(struct index_dump *self, uint32_t entries_crc)
{
    struct dump *dump = self->dump;
    uint64_t position = INDEX_HEADER_SIZE + self->count * INDEX_ENTRY_SIZE;
    uint8_t bytes[INDEX_SEAL_SIZE];
    struct index_seal seal;
    size_t done = 0;
    enum err err =
        io_read(self->io, self->fd, self->path, bytes, sizeof bytes, position, &done, dump->info);

    if (err != ERR_OK) {
        return err;
    }
    if (done < sizeof bytes || position + sizeof bytes != self->size ||
        index_seal_decode(bytes, (size_t)self->count, entries_crc, &seal, NULL) != ERR_OK) {
        return dump_damage(dump, position,
                           "the seal does not verify: the index is made again from its store");
    }
    dump_begin(dump, "seal");
    dump_number(dump, "store_size", seal.store_size);
    dump_number(dump, "end_offset", seal.end_offset);
    dump_number(dump, "last_position", seal.last_position);
    dump_number(dump, "last_index", seal.last_raft_index);
    dump_time(dump, "last_time", seal.last_append_time_us);
    dump_number(dump, "entries", self->count);
    return dump_end(dump);
}

static enum err dump_open_index(struct index_dump *self)
{
    uint8_t head[INDEX_HEADER_SIZE];
    struct err_info info = {0};
    size_t done = 0;
    uint32_t crc = 0;
    int rv = self->io->size(self->io, self->fd, &self->size);
    enum err err = rv < 0 ? io_error(rv, "stat", self->path, self->dump->info)
                          : io_read(self->io, self->fd, self->path, head, sizeof head, 0, &done,
                                    self->dump->info);
    enum err found;

    if (err != ERR_OK) {
        return err;
    }
    found = done < sizeof head || self->size < INDEX_HEADER_SIZE + INDEX_SEAL_SIZE
                ? err_set(&info, ERR_CORRUPT, "the file is too short for an index")
                : index_header_decode(head, &self->header, &info);
    dump_begin_file(self->dump, "index", self->size);
    if (found == ERR_OK) {
        dump_number(self->dump, "base_offset", self->header.base_offset);
        dump_number(self->dump, "generation", self->header.generation);
    }
    err = dump_end(self->dump);
    if (err != ERR_OK || found != ERR_OK) {
        return err != ERR_OK ? err : dump_damage(self->dump, 0, info.text);
    }
    self->count = (self->size - INDEX_HEADER_SIZE - INDEX_SEAL_SIZE) / INDEX_ENTRY_SIZE;
    err = dump_entries(self, &crc);
    return err == ERR_OK ? dump_seal(self, crc) : err;
}

enum err dump_index(struct dump *self, const char *path)
{
    struct index_dump index = {.dump = self, .io = self->options->io, .path = path, .fd = -1};
    enum err err = io_open(index.io, path, O_RDONLY, &index.fd, self->info);

    if (err == ERR_OK) {
        err = dump_open_index(&index);
        io_close(index.io, &index.fd);
    }
    return err;
}
