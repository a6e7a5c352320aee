/*
 * What the files of dump share: items on their way out, and one function a format.
 *
 *      dump.c            which file is what; directories; the small files
 *      dump_log.c        stores and indexes
 *      dump_journal.c    segments of journals
 *      dump_snapshot.c   snapshots, manifests, indexes of backups
 *      dump_indexes.c    indexes of lookups
 */
#ifndef QUORLOG_ARCHIVE_DUMP_INTERNAL_H
#define QUORLOG_ARCHIVE_DUMP_INTERNAL_H

#include "archive/dump.h"
#include "raft_fsm/digest.h"

enum { DUMP_FIELDS_MAX = 24 };

struct dump {
    const struct dump_options *options;
    struct dump_result result;
    uint64_t left; /* items that may still be told */
    struct err_info *info;
    const char *path; /* of the file that is dumped; borrowed */
    /* The item that is made. */
    const char *kind;
    struct dump_field fields[DUMP_FIELDS_MAX];
    size_t count;
};

/* An item: begin, its fields in order, end. What fields point to is borrowed until end. */
void dump_begin(struct dump *self, const char *kind);
void dump_number(struct dump *self, const char *name, uint64_t number);
void dump_time(struct dump *self, const char *name, int64_t time_us);
void dump_bool(struct dump *self, const char *name, bool value);
void dump_text(struct dump *self, const char *name, const char *text);
void dump_bytes(struct dump *self, const char *name, const void *data, size_t size);
void dump_headers(struct dump *self, const char *name, const struct record_header *headers,
                  size_t count);
enum err dump_end(struct dump *self);

/* Whether options->limit was reached: nothing more needs to be looked for. */
bool dump_is_full(const struct dump *self);

/* The file's own item: begin with path and format, the format's fields, then end. */
void dump_begin_file(struct dump *self, const char *format, uint64_t size);

/* An item of kind damage, or torn, which does not count as damage. */
enum err dump_damage(struct dump *self, uint64_t position, const char *text);
enum err dump_torn(struct dump *self, uint64_t position, uint64_t size, const char *text);

/* One format each. OK also after damage, which they tell. */
enum err dump_store(struct dump *self, const char *path);
enum err dump_index(struct dump *self, const char *path);
enum err dump_journal(struct dump *self, const char *path);
enum err dump_snapshot(struct dump *self, const char *path, uint64_t size);
enum err dump_backup(struct dump *self, const char *path);

/* A file of the indexes of lookups: by its name, or by a seal at its end that is whole. */
bool dump_is_part(struct io *io, int fd, const char *path, uint64_t size);
enum err dump_part(struct dump *self, const char *path, uint64_t size);

/* ERR_NOT_FOUND: it is no manifest. */
enum err dump_manifest_file(struct dump *self, const char *path);

#endif
