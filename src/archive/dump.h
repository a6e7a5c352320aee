/*
 * What the files of a node hold, told item by item: stores with their batches and records, indexes,
 * snapshots, manifests, ballots, journals, identities, the indexes of backups, and those of
 * lookups.
 *
 * A file is known by its first bytes, not by its name (but for journal/N.spare, whose contents do
 * not count, for the indexes of lookups, which have a seal at the end, and for a manifest of a
 * backup, which has no magic and is known by its checksum at the end). A directory gives what is in
 * it, in order. Nothing is ever changed, and the files may be those of a running node: what a write
 * that is under way has left at the end of a file is told as torn, and is no damage.
 *
 * An item has a kind and fields, each with a name and a value. Their names and meanings are for
 * programs, too, and stable; man/quorlog.1 has them.
 */
#ifndef QUORLOG_ARCHIVE_DUMP_H
#define QUORLOG_ARCHIVE_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "record/record.h"

enum dump_type {
    DUMP_NUMBER,
    DUMP_TIME, /* microseconds since 1970 */
    DUMP_BOOL,
    DUMP_TEXT,    /* with a closing zero */
    DUMP_BYTES,   /* what somebody else wrote: anything */
    DUMP_HEADERS, /* of a record */
};

struct dump_field {
    const char *name;
    enum dump_type type;
    uint64_t number; /* NUMBER, BOOL */
    int64_t time_us;
    const void *data; /* TEXT, BYTES (NULL: absent), HEADERS; borrowed for the call */
    size_t size;      /* BYTES: bytes; HEADERS: how many struct record_header */
};

struct dump_item {
    const char *kind;
    const struct dump_field *fields;
    size_t count;
};

/* Not OK ends the dump, and is what it returns. */
typedef enum err (*dump_cb)(void *arg, const struct dump_item *item);

struct dump_options {
    struct io *io; /* borrowed */
    uint64_t
        from; /* batches, records and entries of indexes that end at or below it are left out */
    uint64_t limit; /* items but those of kind file, torn and damage at most; 0: all */
    bool records;   /* each record of a batch, each entry of a journal's batch */
    dump_cb cb;
    void *arg;
};

/* What was met on the way. */
struct dump_result {
    uint64_t files;
    uint64_t unknown; /* files that are none of ours */
    uint64_t damaged; /* places, each told by an item of kind damage */
};

/* Dumps a file, or all in a directory. Damage is no error: the rest is told as far as it can be
 * made out. ERR_NOT_FOUND, ERR_IO, ERR_NOMEM, and what cb returned. */
enum err dump_path(const struct dump_options *options, const char *path,
                   struct dump_result *ret_result, struct err_info *info);

#endif
