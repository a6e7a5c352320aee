/* The indexes of lookups: of times, of keys, and Bloom filters of keys. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/dump_internal.h"
#include "base/assert.h"
#include "lookup/bloom_part.h"
#include "lookup/key_run.h"
#include "lookup/part.h"
#include "lookup/time_part.h"

static const char temporary[] = ".tmp";

static const char *const formats[PART_KIND_COUNT] = {
    [PART_TIME] = "time-index",
    [PART_KEYS] = "key-index",
    [PART_BLOOM] = "bloom-index",
};

struct part_dump {
    struct dump *dump;
    struct io *io;
    char dir[IO_PATH_SIZE];
    struct part_seal seal;
    int fd;
};

/* ---- which file is one ---- */

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

/* What is being written, or was when the node crashed. */
static bool is_temporary(const char *path)
{
    const char *name = name_of(path);
    size_t size = strlen(name);
    char whole[PART_NAME_SIZE];
    struct part_seal seal;

    if (size < sizeof temporary || size - strlen(temporary) >= sizeof whole ||
        strcmp(name + size - strlen(temporary), temporary) != 0) {
        return false;
    }
    memcpy(whole, name, size - strlen(temporary));
    whole[size - strlen(temporary)] = '\0';
    return part_parse_name(whole, &seal);
}

bool dump_is_part(struct io *io, int fd, const char *path, uint64_t size)
{
    uint8_t bytes[PART_SEAL_SIZE];
    struct part_seal seal;
    size_t done = 0;

    if (part_parse_name(name_of(path), &seal) || is_temporary(path)) {
        return true;
    }
    return size > sizeof bytes &&
           io_read(io, fd, path, bytes, sizeof bytes, size - sizeof bytes, &done, NULL) == ERR_OK &&
           done == sizeof bytes && part_seal_decode(bytes, &seal, NULL) == ERR_OK &&
           seal.body_size == size - sizeof bytes;
}

/* ---- what they hold ---- */

/* What was found is told when it is damage, and an error of this dump else. */
static enum err tell_found(struct part_dump *self, enum err found, uint64_t position,
                           const struct err_info *info)
{
    if (found == ERR_CORRUPT || found == ERR_VERSION) {
        return dump_damage(self->dump, position, info->text);
    }
    return found == ERR_OK ? ERR_OK : err_set(self->dump->info, found, "%s", info->text);
}

static enum err dump_times(struct part_dump *self)
{
    struct dump *dump = self->dump;
    struct time_entry *entries = NULL;
    struct err_info info = {0};
    size_t count = 0;
    enum err found = time_part_read(self->io, self->dir, &self->seal, &entries, &count, &info);
    enum err err = tell_found(self, found, 0, &info);

    for (size_t i = 0; i < count && err == ERR_OK && !dump_is_full(dump); i++) {
        if (entries[i].offset < dump->options->from) {
            continue;
        }
        dump_begin(dump, "time_entry");
        dump_number(dump, "offset", entries[i].offset);
        dump_time(dump, "time", entries[i].time_us);
        err = dump_end(dump);
    }
    free(entries);
    return err;
}

static uint64_t count_bits(const uint8_t *bytes, size_t size)
{
    uint64_t count = 0;

    for (size_t i = 0; i < size; i++) {
        count += (uint64_t)__builtin_popcount(bytes[i]);
    }
    return count;
}

static enum err dump_page(struct part_dump *self, uint64_t number)
{
    struct dump *dump = self->dump;
    uint8_t page[BLOOM_PAGE_SIZE];
    struct err_info info = {0};
    uint64_t position = number * BLOOM_PAGE_SIZE;
    enum err found = bloom_part_read_page(self->io, self->fd, &self->seal, number, page, &info);

    if (found != ERR_OK) {
        return tell_found(self, found, position, &info);
    }
    dump_begin(dump, "bloom_page");
    dump_number(dump, "position", position);
    dump_number(dump, "number", number);
    dump_number(dump, "bits",
                count_bits(page + BLOOM_PAGE_HEADER_SIZE, sizeof page - BLOOM_PAGE_HEADER_SIZE));
    return dump_end(dump);
}

/* Pages behind the limit are still looked at for damage. */
static enum err dump_pages(struct part_dump *self)
{
    uint64_t count = self->seal.body_size / BLOOM_PAGE_SIZE;
    enum err err = ERR_OK;

    if (count == 0 || self->seal.body_size % BLOOM_PAGE_SIZE != 0) {
        return dump_damage(self->dump, 0, "the seal's size is not one of whole pages");
    }
    for (uint64_t number = 0; number < count && err == ERR_OK; number++) {
        err = dump_page(self, number);
    }
    return err;
}

static enum err dump_key(struct dump *dump, const struct key_entry *entry)
{
    char hash[20];

    (void)snprintf(hash, sizeof hash, "%016" PRIx64, entry->hash); /* fits */
    dump_begin(dump, "key_entry");
    dump_text(dump, "hash", hash);
    dump_number(dump, "offset", entry->offset);
    return dump_end(dump);
}

static enum err walk_keys(struct part_dump *self, struct key_walk *walk)
{
    struct dump *dump = self->dump;
    struct key_entry entry;
    struct err_info info = {0};
    uint64_t count = 0;
    enum err found = ERR_OK;
    enum err err = ERR_OK;

    while (err == ERR_OK && !dump_is_full(dump) &&
           (found = key_walk_next(walk, &entry, &info)) == ERR_OK) {
        count++;
        err = entry.offset >= dump->options->from ? dump_key(dump, &entry) : ERR_OK;
    }
    if (err == ERR_OK && found == ERR_AGAIN) {
        found = count == self->seal.count
                    ? ERR_OK
                    : err_set(&info, ERR_CORRUPT,
                              "the seal has %" PRIu64 " entries, and there are %" PRIu64,
                              self->seal.count, count);
    }
    return err != ERR_OK ? err : tell_found(self, found, 0, &info);
}

/* All bytes are verified before LMDB is given them, and are what they were then (key_run.h, I1). */
static enum err dump_keys(struct part_dump *self)
{
    struct key_run *run = NULL;
    struct key_walk *walk = NULL;
    struct key_stamp stamp;
    struct err_info info = {0};
    struct err_info gone = {0};
    enum err stamped = key_run_stamp(self->dir, &self->seal, &stamp, &gone);
    enum err found = key_run_check(self->io, self->dir, &self->seal, NULL, NULL, &info);
    enum err err;

    if (found == ERR_OK && stamped != ERR_OK) {
        return err_set(self->dump->info, stamped, "%s", gone.text);
    }
    found = found == ERR_OK ? key_run_open(self->dir, &self->seal, &stamp, &run, &info) : found;
    found = found == ERR_OK ? key_walk_new(run, &walk, &info) : found;
    err = found == ERR_OK ? walk_keys(self, walk) : tell_found(self, found, 0, &info);
    key_walk_free(walk);
    key_run_close(run);
    return err;
}

/* ---- a file ---- */

static enum err dump_part_seal(struct part_dump *self)
{
    const struct part_seal *seal = &self->seal;
    struct dump *dump = self->dump;
    char digest[DIGEST_TEXT_SIZE];

    digest_to_text(seal->digest, digest);
    dump_begin(dump, "part");
    dump_text(dump, "index", part_kind_name(seal->kind));
    dump_number(dump, "topic", seal->topic_id);
    dump_number(dump, "base_offset", seal->base_offset);
    dump_number(dump, "end_offset", seal->end_offset);
    dump_number(dump, "entries", seal->count);
    dump_time(dump, "first_time", seal->first_time_us);
    dump_time(dump, "last_time", seal->last_time_us);
    if (seal->kind == PART_KEYS) {
        dump_number(dump, "level", seal->level);
    } else if (seal->kind == PART_BLOOM) {
        dump_number(dump, "probe", seal->probe);
    }
    dump_number(dump, "log_kib", seal->log_kib);
    dump_text(dump, "digest", digest);
    return dump_end(dump);
}

static enum err dump_body(struct part_dump *self)
{
    switch (self->seal.kind) {
    case PART_TIME:
        return dump_times(self);
    case PART_BLOOM:
        return dump_pages(self);
    case PART_KEYS:
        return dump_keys(self);
    case PART_KIND_COUNT:
        break;
    }
    ASSERT(!"a kind of part");
    return ERR_INVALID;
}

/* The file is read under the name that its seal gives it: under another one it is not believed. */
static enum err dump_named(struct part_dump *self, const char *path)
{
    char name[PART_NAME_SIZE];
    char text[PART_NAME_SIZE + 64];
    enum err err = dump_part_seal(self);

    part_name(name, &self->seal);
    if (err != ERR_OK || strcmp(name, name_of(path)) == 0) {
        return err == ERR_OK ? dump_body(self) : err;
    }
    (void)snprintf(text, sizeof text, "its name is not what its seal says: %s", name); /* fits */
    return dump_damage(self->dump, self->seal.body_size, text);
}

static enum err dump_opened(struct part_dump *self, const char *path, uint64_t size, enum err found,
                            const struct err_info *info)
{
    struct part_seal named;
    const char *format = "unknown";
    enum err err;

    if (found == ERR_OK) {
        format = formats[self->seal.kind];
    } else if (part_parse_name(name_of(path), &named)) {
        format = formats[named.kind];
    }
    dump_begin_file(self->dump, format, size);
    err = dump_end(self->dump);
    if (err != ERR_OK) {
        return err;
    }
    return found == ERR_OK
               ? dump_named(self, path)
               : tell_found(self, found, size < PART_SEAL_SIZE ? 0 : size - PART_SEAL_SIZE, info);
}

enum err dump_part(struct dump *self, const char *path, uint64_t size)
{
    struct part_dump *part;
    struct err_info info = {0};
    enum err found;
    enum err err;

    if (is_temporary(path)) {
        dump_begin_file(self, "index-temporary", size);
        return dump_end(self);
    }
    part = calloc(1, sizeof *part);
    if (part == NULL) {
        return err_set(self->info, ERR_NOMEM, "out of memory");
    }
    *part = (struct part_dump){.dump = self, .io = self->options->io, .fd = -1};
    (void)snprintf(part->dir, sizeof part->dir, "%.*s",
                   name_of(path) == path ? 1 : (int)(name_of(path) - path - 1),
                   name_of(path) == path ? "." : path); /* A part of the path: it fits. */
    found = part_open_file(part->io, path, &part->fd, &part->seal, &info);
    if (found == ERR_OK || found == ERR_CORRUPT || found == ERR_VERSION) {
        err = dump_opened(part, path, size, found, &info);
    } else {
        err = err_set(self->info, found, "%s", info.text);
    }
    io_close(part->io, &part->fd);
    free(part);
    return err;
}
