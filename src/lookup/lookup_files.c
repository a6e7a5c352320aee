#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "lookup/bloom_part.h"
#include "lookup/key_merge.h"
#include "lookup/lookup_internal.h"

/* ---- loading ---- */

struct listing {
    struct lookup *lookup;
    struct topic_indexes *indexes;
    struct part_seal *found; /* owned */
    size_t count;
    size_t capacity;
    enum err err;
    struct err_info *info;
};

static int remove_temporary(const struct listing *listing, const char *name)
{
    struct io *io = listing->lookup->io;
    char path[IO_PATH_SIZE];
    int rv;

    if (io_path(path, listing->indexes->dir, name, NULL) != ERR_OK) {
        return 0; /* Of no index then. */
    }
    rv = io->unlink(io, path);
    return rv < 0 && rv != -ENOENT ? rv : 0;
}

static int list_one(void *arg, const char *name)
{
    struct listing *listing = arg;
    struct part_seal seal;
    size_t length = strlen(name);

    if (length > 4 && strcmp(name + length - 4, ".tmp") == 0) {
        return remove_temporary(listing, name);
    }
    if (!part_parse_name(name, &seal)) {
        return 0;
    }
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 64 : 2 * listing->capacity;
        struct part_seal *found = realloc(listing->found, capacity * sizeof *found);

        if (found == NULL) {
            listing->err = err_set(listing->info, ERR_NOMEM, "no memory for a list of indexes");
            return 1;
        }
        listing->found = found;
        listing->capacity = capacity;
    }
    seal.topic_id = listing->indexes->id;
    listing->found[listing->count++] = seal;
    return 0;
}

/* What covers others first: they went into it, and were left over. */
static int compare_places(const void *a, const void *b)
{
    const struct part_seal *left = a;
    const struct part_seal *right = b;

    if (left->base_offset != right->base_offset) {
        return left->base_offset < right->base_offset ? -1 : 1;
    }
    return left->end_offset > right->end_offset ? -1 : left->end_offset < right->end_offset;
}

/* Is it of this log? The digest of a batch stands for all batches up to it. */
static bool belongs(struct log *log, const struct part_seal *seal)
{
    struct batch_header header;

    return seal->end_offset <= log_end(log) && seal->end_offset > log_start(log) &&
           log_read_header(log, seal->end_offset - 1, &header, NULL) == ERR_OK &&
           batch_end_offset(&header) == seal->end_offset &&
           memcmp(header.digest, seal->digest, sizeof header.digest) == 0;
}

static enum err load_part(struct lookup *self, struct topic_indexes *indexes,
                          const struct part_seal *named, struct err_info *info)
{
    struct part_seal seal = *named;
    struct part *part;
    int fd = -1;
    enum err err = part_open(self->io, indexes->dir, named, &fd, &seal, info);

    io_close(self->io, &fd);
    if (err == ERR_OK && seal.kind == PART_BLOOM && seal.probe != self->probe) {
        err = err_set(info, ERR_VERSION, "it was made by another version of libbloom");
    }
    if (err != ERR_OK) {
        return err;
    }
    part = part_new(&seal);
    if (part == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for an index");
    }
    part->checked_ms = lookup_now_ms(self);
    topic_indexes_lock(indexes);
    err = part_list_add(&indexes->kinds[seal.kind].parts, part);
    topic_indexes_unlock(indexes);
    if (err != ERR_OK) {
        part_unref(part);
    }
    return err;
}

/* A file that was written, and could not be told for sure to be there: what went into it may be in
 * memory still, to be written again. The file is as good. */
static void forget_written(struct topic_indexes *indexes, const struct part_seal *seal)
{
    const struct fresh *fresh = &indexes->kinds[seal->kind].fresh;

    if (fresh->base < seal->end_offset && seal->base_offset < fresh->end) {
        lookup_forget(indexes, seal->kind);
    }
}

/* Only running out of memory ends the loading. */
static enum err load_or_remove(struct lookup *self, struct topic_indexes *indexes,
                               const struct part_seal *named, struct err_info *info)
{
    struct err_info reason = {0};
    bool wanted = indexes->kinds[named->kind].wanted;
    enum err err = wanted ? load_part(self, indexes, named, &reason) : ERR_CANCELED;

    if (err == ERR_OK) {
        const struct kind_index *index = &indexes->kinds[named->kind];
        size_t at = part_list_find(&index->parts, named->base_offset);

        if (!belongs(indexes->topic->log, &index->parts.items[at]->seal)) {
            atomic_store(&index->parts.items[at]->gone, true); /* lookup_tidy removes it */
        }
        forget_written(indexes, named);
        return ERR_OK;
    }
    if (err == ERR_NOMEM) {
        *info = reason;
        return err;
    }
    if (err != ERR_CANCELED && err != ERR_EXISTS) {
        char quoted[300];

        atomic_fetch_add(&self->damaged, 1);
        diag_event(self->options.diag, DIAG_WARN, "lookup", "index_damaged",
                   "topic=%s index=%s reason=%s", indexes->topic->name, part_kind_name(named->kind),
                   diag_quote(quoted, sizeof quoted, reason.text));
    }
    return part_remove(self->io, indexes->dir, named, info);
}

static enum err make_dirs(struct lookup *self, struct topic_indexes *indexes, struct err_info *info)
{
    enum err err = io_make_dir(self->io, self->options.dir, LOOKUP_DIR_NAME, info);

    return err != ERR_OK ? err : io_make_dir(self->io, self->dir, indexes->name, info);
}

enum err lookup_load(struct lookup *self, struct topic_indexes *indexes, struct err_info *info)
{
    struct listing listing = {.lookup = self, .indexes = indexes, .info = info};
    enum err err = make_dirs(self, indexes, info);
    int rv = 0;

    ASSERT(!indexes->loaded);
    if (err == ERR_OK) {
        rv = self->io->list(self->io, indexes->dir, list_one, &listing);
        err = listing.err;
        if (err == ERR_OK && rv < 0) {
            err = io_error(rv, "list", indexes->dir, info);
        }
    }
    if (err == ERR_OK && listing.count > 0) {
        qsort(listing.found, listing.count, sizeof *listing.found, compare_places);
    }
    for (size_t i = 0; err == ERR_OK && i < listing.count && !lookup_stops(self); i++) {
        const struct kind_index *index = &indexes->kinds[listing.found[i].kind];
        size_t at = part_list_find(&index->parts, listing.found[i].base_offset);

        /* After a failure it is loaded again: what is known stays. */
        if (at == index->parts.count ||
            compare_places(&index->parts.items[at]->seal, &listing.found[i]) != 0) {
            err = load_or_remove(self, indexes, &listing.found[i], info);
        }
    }
    free(listing.found);
    indexes->loaded = err == ERR_OK;
    return err;
}

/* ---- removing ---- */

static void remove_at(struct lookup *self, struct topic_indexes *indexes, enum part_kind kind,
                      size_t at)
{
    struct err_info info = {0};
    struct part *part;

    topic_indexes_lock(indexes);
    part = part_list_remove(&indexes->kinds[kind].parts, at);
    indexes->kinds[kind].ready = false;
    topic_indexes_unlock(indexes);
    run_cache_drop(&self->runs, part);
    if (part_remove(self->io, indexes->dir, &part->seal, &info) != ERR_OK) {
        /* It is looked at again, and removed, when the topic is loaded next. */
        lookup_fail(self, indexes, kind, &info);
    }
    part_unref(part);
}

/* Whether the merge under way reads it: then that has to go first. */
static bool is_merged(const struct topic_indexes *indexes, const struct part *part)
{
    if (indexes->merge != NULL) {
        struct part *const *parts = key_merge_parts(indexes->merge);

        for (size_t i = 0; i < KEY_MERGE_WIDTH; i++) {
            if (parts[i] == part) {
                return true;
            }
        }
    }
    return false;
}

static void tidy_kind(struct lookup *self, struct topic_indexes *indexes, enum part_kind kind)
{
    struct kind_index *index = &indexes->kinds[kind];
    uint64_t start = log_start(indexes->topic->log);
    uint64_t end = log_end(indexes->topic->log);

    for (size_t i = index->parts.count; i-- > 0;) {
        struct part *part = index->parts.items[i];

        if (index->wanted && !atomic_load(&part->gone) && part->seal.end_offset > start &&
            part->seal.end_offset <= end) {
            continue;
        }
        if (is_merged(indexes, part)) {
            key_merge_free(indexes->merge);
            indexes->merge = NULL;
        }
        remove_at(self, indexes, kind, i);
    }
    if (index->fresh.base < index->fresh.end &&
        (!index->wanted || index->fresh.end <= start || index->fresh.end > end)) {
        lookup_forget(indexes, kind);
    }
}

void lookup_tidy(struct lookup *self, struct topic_indexes *indexes)
{
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        tidy_kind(self, indexes, (enum part_kind)kind);
    }
}

/* ---- checking ---- */

void lookup_damaged(struct lookup *self, struct topic_indexes *indexes, struct part *part,
                    const struct err_info *info)
{
    char quoted[300];

    if (info->code == ERR_NOMEM || info->code == ERR_CANCELED ||
        atomic_exchange(&part->gone, true)) {
        return; /* or it is being removed */
    }
    atomic_fetch_add(&self->damaged, 1);
    diag_event(self->options.diag, DIAG_WARN, "lookup", "index_damaged",
               "topic=%s index=%s reason=%s", indexes->topic->name, part_kind_name(part->seal.kind),
               diag_quote(quoted, sizeof quoted, info->text));
    lookup_wake(self);
}

static enum err verify(struct lookup *self, struct topic_indexes *indexes, struct part *part,
                       struct err_info *info)
{
    struct time_entry *entries = NULL;
    struct key_stamp stamp;
    size_t count;
    enum err err;

    switch (part->seal.kind) {
    case PART_TIME:
        err = time_part_read(self->io, indexes->dir, &part->seal, &entries, &count, info);
        if (err == ERR_OK) {
            free(entries);
        }
        return err;
    case PART_BLOOM:
        return bloom_part_verify(self->io, indexes->dir, &part->seal, info);
    case PART_KEYS:
        err = key_run_verify(self->io, indexes->dir, &part->seal, lookup_paced, self, &stamp, info);
        if (err == ERR_OK && !part->verified) {
            topic_indexes_lock(indexes);
            part->stamp = stamp;
            part->verified = true;
            topic_indexes_unlock(indexes);
        }
        return err;
    case PART_KIND_COUNT:
        break;
    }
    ASSERT(!"a kind of part");
    return ERR_INVALID;
}

static bool is_due(const struct lookup *self, const struct part *part)
{
    return !atomic_load(&part->gone) &&
           ((part->seal.kind == PART_KEYS && !part->verified) ||
            lookup_now_ms(self) - part->checked_ms >= self->options.check_ms);
}

void lookup_check(struct lookup *self, struct topic_indexes *indexes, bool *ret_busy)
{
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        const struct part_list *parts = &indexes->kinds[kind].parts;

        for (size_t i = 0; i < parts->count; i++) {
            struct part *part = parts->items[i];
            struct err_info info = {0};

            if (!is_due(self, part)) {
                continue;
            }
            part->checked_ms = lookup_now_ms(self);
            info.code = verify(self, indexes, part, &info);
            if (info.code != ERR_OK) {
                lookup_damaged(self, indexes, part, &info);
            }
            *ret_busy = true;
            return;
        }
    }
}
