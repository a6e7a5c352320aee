#include "archive/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "archive/dump_internal.h"
#include "archive/identity_file.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "log/index.h"
#include "log/store.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/journal_segment.h"
#include "raft_fsm/manifest.h"

enum {
    DEPTH_MAX = 8, /* of directories: a node's has four */
    HEAD_SIZE = 32,
    MANIFEST_FIRST_BYTE = 0x08, /* protobuf: field 1, a number; every manifest has it */
};

/* ---- items ---- */

void dump_begin(struct dump *self, const char *kind)
{
    ASSERT(kind != NULL);
    self->kind = kind;
    self->count = 0;
}

static struct dump_field *add(struct dump *self, const char *name, enum dump_type type)
{
    struct dump_field *field = &self->fields[self->count];

    ASSERT(self->count < DUMP_FIELDS_MAX);
    *field = (struct dump_field){.name = name, .type = type};
    self->count++;
    return field;
}

void dump_number(struct dump *self, const char *name, uint64_t number)
{
    add(self, name, DUMP_NUMBER)->number = number;
}

void dump_time(struct dump *self, const char *name, int64_t time_us)
{
    add(self, name, DUMP_TIME)->time_us = time_us;
}

void dump_bool(struct dump *self, const char *name, bool value)
{
    add(self, name, DUMP_BOOL)->number = value;
}

void dump_text(struct dump *self, const char *name, const char *text)
{
    ASSERT(text != NULL);
    add(self, name, DUMP_TEXT)->data = text;
}

void dump_bytes(struct dump *self, const char *name, const void *data, size_t size)
{
    struct dump_field *field = add(self, name, DUMP_BYTES);

    field->data = data;
    field->size = size;
}

void dump_headers(struct dump *self, const char *name, const struct record_header *headers,
                  size_t count)
{
    struct dump_field *field = add(self, name, DUMP_HEADERS);

    field->data = headers;
    field->size = count;
}

/* Whether the limit is for items of this kind. */
static bool is_counted(const char *kind)
{
    return strcmp(kind, "file") != 0 && strcmp(kind, "torn") != 0 && strcmp(kind, "damage") != 0;
}

enum err dump_end(struct dump *self)
{
    const struct dump_item item = {
        .kind = self->kind, .fields = self->fields, .count = self->count};
    enum err err;

    if (is_counted(self->kind)) {
        if (self->left == 0) {
            return ERR_OK;
        }
        self->left--;
    }
    err = self->options->cb(self->options->arg, &item);
    return err == ERR_OK ? ERR_OK : err_set(self->info, err, "%s", err_text(err));
}

bool dump_is_full(const struct dump *self)
{
    return self->left == 0;
}

void dump_begin_file(struct dump *self, const char *format, uint64_t size)
{
    self->result.files++;
    dump_begin(self, "file");
    dump_text(self, "path", self->path);
    dump_text(self, "format", format);
    dump_number(self, "size", size);
}

enum err dump_damage(struct dump *self, uint64_t position, const char *text)
{
    self->result.damaged++;
    dump_begin(self, "damage");
    dump_text(self, "path", self->path);
    dump_number(self, "position", position);
    dump_text(self, "text", text);
    return dump_end(self);
}

enum err dump_torn(struct dump *self, uint64_t position, uint64_t size, const char *text)
{
    dump_begin(self, "torn");
    dump_text(self, "path", self->path);
    dump_number(self, "position", position);
    dump_number(self, "size", size);
    dump_text(self, "text", text);
    return dump_end(self);
}

/* ---- the small files ---- */

static enum err dump_slot(struct dump *self, unsigned number, const struct ballot_slot *slot,
                          bool counts)
{
    dump_begin(self, "ballot");
    dump_number(self, "slot", number);
    dump_bool(self, "valid", slot->valid);
    if (slot->valid) {
        dump_bool(self, "counts", counts);
        dump_number(self, "node", slot->node_id);
        dump_number(self, "term", slot->term);
        dump_number(self, "vote", slot->vote);
        dump_number(self, "sequence", slot->sequence);
    }
    return dump_end(self);
}

static enum err dump_ballot(struct dump *self, const char *path, uint64_t size)
{
    struct ballot_contents contents = {.chosen = 0};
    struct err_info info = {0};
    enum err found = ballot_read(self->options->io, path, 0, &contents, &info);
    enum err err;

    if (found != ERR_OK && found != ERR_CORRUPT && found != ERR_VERSION) {
        return err_set(self->info, found, "%s", info.text);
    }
    dump_begin_file(self, "ballot", size);
    err = dump_end(self);
    for (unsigned i = 0; i < BALLOT_SLOTS && err == ERR_OK; i++) {
        const struct ballot_slot *slot = &contents.slots[i];

        err = dump_slot(self, i, slot, found == ERR_OK && i == contents.chosen);
        if (err == ERR_OK && found == ERR_OK && !slot->valid) {
            err = dump_damage(self, (uint64_t)i * BALLOT_SLOT_SIZE,
                              "this slot does not verify; the other one counts");
        }
    }
    return err == ERR_OK && found != ERR_OK ? dump_damage(self, 0, info.text) : err;
}

static enum err dump_identity(struct dump *self, const struct buf *file)
{
    struct identity_record record;
    struct err_info info = {0};
    enum err found = identity_decode(self->path, file->data, file->size, &record, &info);
    enum err err;

    dump_begin_file(self, "identity", file->size);
    err = dump_end(self);
    if (err != ERR_OK || found != ERR_OK) {
        return err != ERR_OK ? err : dump_damage(self, 0, info.text);
    }
    dump_begin(self, "identity");
    dump_number(self, "version", record.version);
    dump_text(self, "cluster", record.cluster);
    dump_text(self, "cluster_id", record.cluster_id);
    dump_number(self, "node", record.node_id);
    dump_text(self, "origin", identity_origin_name(record.origin));
    return dump_end(self);
}

static enum err dump_disk(struct dump *self, const struct buf *file)
{
    char text[DISK_FILE_SIZE + 1];
    struct err_info info = {0};
    uint64_t id = 0;
    enum err found = disk_decode(self->path, file->data, file->size, &id, &info);
    enum err err;

    dump_begin_file(self, "disk", file->size);
    err = dump_end(self);
    if (err != ERR_OK || found != ERR_OK) {
        return err != ERR_OK ? err : dump_damage(self, 0, info.text);
    }
    disk_encode(id, text);
    text[DISK_FILE_SIZE_OLD - 1] = '\0'; /* The end of the line. */
    dump_begin(self, "disk");
    dump_text(self, "id", text + strlen("disk = "));
    return dump_end(self);
}

static enum err dump_small(struct dump *self, const char *path,
                           enum err (*dump)(struct dump *self, const struct buf *file))
{
    struct buf file;
    enum err err;

    buf_init(&file, IDENTITY_FILE_SIZE_MAX + 1);
    err = io_read_file(self->options->io, path, IDENTITY_FILE_SIZE_MAX, &file, self->info);
    if (err == ERR_TOO_LARGE) {
        dump_begin_file(self, "unknown", IDENTITY_FILE_SIZE_MAX);
        err = dump_end(self);
        err = err == ERR_OK ? dump_damage(self, 0, "too large for what it begins like") : err;
    } else if (err == ERR_OK) {
        err = dump(self, &file);
    }
    buf_fini(&file);
    return err;
}

/* ---- one file ---- */

static bool begins(const uint8_t *head, size_t size, const char *text)
{
    return size >= strlen(text) && memcmp(head, text, strlen(text)) == 0;
}

static bool is_spare(const char *path)
{
    const char *slash = strrchr(path, '/');
    uint64_t number;

    return strlen(slash == NULL ? path : slash + 1) >= 16 &&
           journal_spare_name_parse(slash == NULL ? path : slash + 1, &number);
}

static enum err dump_other(struct dump *self, const char *path, const uint8_t *head, uint64_t size)
{
    if (size > 0 && head[0] == MANIFEST_FIRST_BYTE) {
        enum err err = dump_manifest_file(self, path);

        if (err != ERR_NOT_FOUND) {
            return err;
        }
    }
    self->result.unknown += size > 0;
    dump_begin_file(self, size > 0 ? "unknown" : "empty", size);
    return dump_end(self);
}

static enum err dump_known(struct dump *self, const char *path, const uint8_t *head, size_t size,
                           uint64_t file_size)
{
    uint32_t magic = size >= 4 ? bytes_get_u32(head) : 0;

    if (is_spare(path)) {
        dump_begin_file(self, "journal-spare", file_size);
        return dump_end(self);
    }
    if (begins(head, size, "version = ")) {
        return dump_small(self, path, dump_identity);
    }
    if (begins(head, size, "disk = ")) {
        return dump_small(self, path, dump_disk);
    }
    if (begins(head, size, "quorlog-backup ")) {
        return dump_backup(self, path);
    }
    switch (magic) {
    case STORE_MAGIC:
        return dump_store(self, path);
    case INDEX_MAGIC:
        return dump_index(self, path);
    case JOURNAL_MAGIC:
        return dump_journal(self, path);
    case SNAPSHOT_MAGIC:
        return dump_snapshot(self, path, file_size);
    case BALLOT_MAGIC:
        return dump_ballot(self, path, file_size);
    default:
        return dump_other(self, path, head, file_size);
    }
}

/* A ballot whose first slot's magic is damaged is still one. */
static bool has_second_slot(struct io *io, int fd, const char *path, uint64_t size)
{
    uint8_t magic[4];
    size_t done = 0;

    return size == (uint64_t)BALLOT_SLOT_SIZE * BALLOT_SLOTS &&
           io_read(io, fd, path, magic, sizeof magic, BALLOT_SLOT_SIZE, &done, NULL) == ERR_OK &&
           done == sizeof magic && bytes_get_u32(magic) == BALLOT_MAGIC;
}

static enum err dump_file(struct dump *self, const char *path)
{
    struct io *io = self->options->io;
    uint8_t head[HEAD_SIZE];
    uint64_t file_size = 0;
    size_t size = 0;
    bool ballot = false;
    bool part = false;
    int fd = -1;
    enum err err = io_open(io, path, O_RDONLY, &fd, self->info);

    if (err == ERR_OK) {
        int rv = io->size(io, fd, &file_size);

        err = rv < 0 ? io_error(rv, "stat", path, self->info)
                     : io_read(io, fd, path, head, sizeof head, 0, &size, self->info);
        ballot = err == ERR_OK && has_second_slot(io, fd, path, file_size);
        part = err == ERR_OK && dump_is_part(io, fd, path, file_size);
    }
    io_close(io, &fd);
    self->path = path;
    if (err != ERR_OK) {
        return err;
    }
    if (part) {
        return dump_part(self, path, file_size);
    }
    return ballot ? dump_ballot(self, path, file_size)
                  : dump_known(self, path, head, size, file_size);
}

/* ---- directories ---- */

struct names {
    char **list; /* owned */
    size_t count;
    size_t capacity;
};

static int note_name(void *arg, const char *name)
{
    struct names *names = arg;

    if (names->count == names->capacity) {
        size_t capacity = names->capacity == 0 ? 64 : names->capacity * 2;
        char **grown = realloc(names->list, capacity * sizeof *grown);

        if (grown == NULL) {
            return -ENOMEM;
        }
        names->list = grown;
        names->capacity = capacity;
    }
    names->list[names->count] = strdup(name);
    if (names->list[names->count] == NULL) {
        return -ENOMEM;
    }
    names->count++;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

static enum err dump_any(struct dump *self, const char *path, unsigned depth);

static enum err dump_directory(struct dump *self, const char *path, const struct names *names,
                               unsigned depth)
{
    char *inner = malloc(IO_PATH_SIZE);
    enum err err = inner == NULL ? err_set(self->info, ERR_NOMEM, "out of memory") : ERR_OK;

    for (size_t i = 0; i < names->count && err == ERR_OK && !dump_is_full(self); i++) {
        err = io_path(inner, path, names->list[i], self->info);
        if (err == ERR_OK) {
            err = dump_any(self, inner, depth + 1);
        }
        /* A running node's files come and go. */
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    free(inner);
    return err;
}

static enum err dump_any(struct dump *self, const char *path, unsigned depth)
{
    struct names names = {0};
    int rv = self->options->io->list(self->options->io, path, note_name, &names);
    enum err err;

    if (rv == -ENOTDIR) {
        err = dump_file(self, path);
    } else if (rv < 0) {
        err = io_error(rv, "list", path, self->info);
    } else if (depth >= DEPTH_MAX) {
        err = err_set(self->info, ERR_LIMIT, "'%s' lies too deep", path);
    } else {
        if (names.count > 0) {
            qsort(names.list, names.count, sizeof *names.list, compare_names);
        }
        err = dump_directory(self, path, &names, depth);
    }
    for (size_t i = 0; i < names.count; i++) {
        free(names.list[i]);
    }
    free(names.list);
    return err;
}

enum err dump_path(const struct dump_options *options, const char *path,
                   struct dump_result *ret_result, struct err_info *info)
{
    struct dump *self = calloc(1, sizeof *self);
    char *trimmed = strdup(path);
    size_t size = strlen(path);
    enum err err;

    ASSERT(options->io != NULL && options->cb != NULL);
    if (self == NULL || trimmed == NULL) {
        free(self);
        free(trimmed);
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    while (size > 1 && trimmed[size - 1] == '/') {
        size--;
        trimmed[size] = '\0';
    }
    self->options = options;
    self->info = info;
    self->left = options->limit == 0 ? UINT64_MAX : options->limit;
    err = dump_any(self, trimmed, 0);
    *ret_result = self->result;
    free(trimmed);
    free(self);
    return err;
}
