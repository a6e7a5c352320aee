/*
 * The indexes of lookups, beside the topics' logs: each file by itself, and whether the log that it
 * was made of is the one that is here. What the node does with them at its next start is in
 * lookup/lookup_files.c (a topic's) and lookup/lookup_worker.c (directories). All of them are
 * derived: nothing that is wrong here is wrong with a record.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "archive/fsck_internal.h"
#include "base/assert.h"
#include "lookup/bloom_part.h"
#include "lookup/key_run.h"
#include "lookup/lookup.h"
#include "lookup/time_part.h"

/* What becomes of a file, by what it is. */
static const struct {
    const char *what;
    enum fsck_level level;
    const char *advice;
} fates[] = {
    {"damaged", FSCK_REPAIRED,
     "the node removes it when it reads or checks it, and makes it again from the topic's log"},
    {"stale", FSCK_NOTE, "the node removes it, and makes it again from the topic's log"},
    {"leftover", FSCK_NOTE, "the node removes it"},
    {"unknown", FSCK_NOTE, "the node leaves it alone"},
};

static enum err tell_name(struct fsck *self, const struct fsck_parts *parts, const char *name,
                          const char *what, const char *text)
{
    char path[IO_PATH_SIZE];
    struct fsck_finding finding = {.what = what, .path = path, .topic = parts->topic};
    enum err err = io_path(path, parts->dir, name, self->info);

    for (size_t i = 0; i < sizeof fates / sizeof fates[0]; i++) {
        if (strcmp(fates[i].what, what) == 0) {
            finding.level = fates[i].level;
            finding.advice = fates[i].advice;
        }
    }
    ASSERT(finding.advice != NULL);
    return err == ERR_OK ? fsck_tell(self, &finding, "%s", text) : err;
}

static enum err tell_part(struct fsck *self, const struct fsck_parts *parts,
                          const struct part_seal *seal, const char *what, const char *text)
{
    char name[PART_NAME_SIZE];

    part_name(name, seal);
    return tell_name(self, parts, name, what, text);
}

/* ---- a file by itself ---- */

struct reading {
    struct fsck *fsck;
    const char *path;
    uint64_t left; /* bytes that were not told yet */
};

static bool note_progress(void *arg, uint64_t size)
{
    struct reading *reading = arg;
    uint64_t told = size < reading->left ? size : reading->left; /* The last piece may be short. */

    fsck_progress(reading->fsck, reading->path, told);
    reading->left -= told;
    return true;
}

/* All of its bytes, as the node checks them. */
static enum err verify(struct fsck *self, const char *dir, const struct part_seal *seal,
                       struct err_info *info)
{
    struct part_seal named = *seal;
    struct reading reading = {.fsck = self, .path = dir, .left = seal->body_size + PART_SEAL_SIZE};
    struct time_entry *entries = NULL;
    size_t count;
    enum err err = ERR_INVALID;

    ASSERT(seal->kind < PART_KIND_COUNT);
    switch (seal->kind) {
    case PART_TIME:
        err = time_part_read(self->io, dir, &named, &entries, &count, info);
        if (err == ERR_OK) {
            free(entries);
        }
        break;
    case PART_BLOOM:
        err = bloom_part_probe(&named.probe);
        err = err == ERR_OK ? bloom_part_verify(self->io, dir, &named, info)
                            : err_set(info, err, "out of memory");
        break;
    case PART_KEYS:
        err = key_run_check(self->io, dir, &named, note_progress, &reading, info);
        break;
    case PART_KIND_COUNT:
        break;
    }
    fsck_progress(self, dir, reading.left);
    return err;
}

/* What is sealed rightly is put into parts, also when its body is damaged: the node finds that
 * later than what its offsets say. */
static enum err check_part(struct fsck *self, struct fsck_parts *parts,
                           const struct part_seal *named)
{
    struct part_seal seal;
    struct err_info info = {0};
    int fd = -1;
    enum err found = part_open(self->io, parts->dir, named, &fd, &seal, &info);

    io_close(self->io, &fd);
    self->summary.files++;
    self->summary.index_files++;
    if (found == ERR_OK) {
        found = verify(self, parts->dir, &seal, &info);
        parts->list[parts->count] = (struct fsck_part){.seal = seal, .sound = found == ERR_OK};
        parts->count++;
    }
    if (found == ERR_CORRUPT || found == ERR_VERSION) {
        return tell_part(self, parts, named, found == ERR_CORRUPT ? "damaged" : "stale", info.text);
    }
    return found == ERR_OK ? ERR_OK : err_set(self->info, found, "%s", info.text);
}

/* ---- a topic's files ---- */

/* What covers others first, as lookup_load has it. */
static int compare_places(const void *a, const void *b)
{
    const struct part_seal *left = &((const struct fsck_part *)a)->seal;
    const struct part_seal *right = &((const struct fsck_part *)b)->seal;

    if (left->kind != right->kind) {
        return left->kind < right->kind ? -1 : 1;
    }
    if (left->base_offset != right->base_offset) {
        return left->base_offset < right->base_offset ? -1 : 1;
    }
    return left->end_offset > right->end_offset ? -1 : left->end_offset < right->end_offset;
}

static int compare_ends(const void *a, const void *b)
{
    const struct part_seal *left = &((const struct fsck_part *)a)->seal;
    const struct part_seal *right = &((const struct fsck_part *)b)->seal;

    return left->end_offset < right->end_offset ? -1 : left->end_offset > right->end_offset;
}

/* Files that went into a larger one, and that a crash kept from being removed. What stays in the
 * list is sound, and in the order of its ends. */
static enum err drop_covered(struct fsck *self, struct fsck_parts *parts)
{
    uint64_t covered[PART_KIND_COUNT] = {0};
    size_t kept = 0;
    enum err err = ERR_OK;

    if (parts->count > 1) {
        qsort(parts->list, parts->count, sizeof *parts->list, compare_places);
    }
    for (size_t i = 0; i < parts->count && err == ERR_OK; i++) {
        const struct fsck_part *part = &parts->list[i];

        if (part->seal.base_offset < covered[part->seal.kind]) {
            err = tell_part(self, parts, &part->seal, "leftover",
                            "another file of its kind has its offsets");
            continue;
        }
        covered[part->seal.kind] = part->seal.end_offset;
        if (part->sound) {
            parts->list[kept] = *part;
            kept++;
        }
    }
    parts->count = kept;
    if (kept > 1) {
        qsort(parts->list, kept, sizeof *parts->list, compare_ends);
    }
    return err;
}

static enum err check_name(struct fsck *self, struct fsck_parts *parts, const char *name)
{
    struct part_seal named;
    size_t size = strlen(name);

    if (size > 4 && strcmp(name + size - 4, ".tmp") == 0) {
        return tell_name(self, parts, name, "leftover", "what a write that was cut off left");
    }
    if (!part_parse_name(name, &named)) {
        return tell_name(self, parts, name, "unknown", "no file that a node makes");
    }
    named.topic_id = parts->topic_id;
    return check_part(self, parts, &named);
}

static int skip_name(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return 1;
}

/* No directory: the node cannot make indexes there. */
static enum err tell_no_directory(struct fsck *self, const char *path, const char *topic)
{
    const struct fsck_finding finding = {
        .level = FSCK_ACT,
        .what = "unknown",
        .path = path,
        .topic = topic,
        .advice = "remove it: the node cannot make indexes as long as it is there"};

    return fsck_tell(self, &finding, "no directory, where one for indexes belongs");
}

static bool is_directory(struct fsck *self, const char *path)
{
    return self->io->list(self->io, path, skip_name, NULL) != -ENOTDIR;
}

enum err fsck_parts_load(struct fsck *self, const struct manifest_topic *topic,
                         const char *dir_name, struct fsck_parts *ret_parts)
{
    struct fsck_parts *parts = ret_parts;
    struct fsck_names names = {0};
    char indexes[IO_PATH_SIZE];
    enum err err;

    *parts = (struct fsck_parts){.topic = topic->name, .topic_id = topic->id};
    if (!self->has_indexes) {
        return ERR_OK;
    }
    err = io_path(indexes, self->options->dir, LOOKUP_DIR_NAME, self->info);
    err = err == ERR_OK ? io_path(parts->dir, indexes, dir_name, self->info) : err;
    if (err == ERR_OK && !is_directory(self, parts->dir)) {
        return tell_no_directory(self, parts->dir, topic->name);
    }
    err = err == ERR_OK ? fsck_list(self, parts->dir, &names) : err;
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND ? ERR_OK : err; /* It has none. */
    }
    parts->list = calloc(names.count + 1, sizeof *parts->list); /* never of size 0 */
    if (parts->list == NULL) {
        err = err_set(self->info, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        err = check_name(self, parts, names.list[i]);
    }
    fsck_names_free(&names);
    return err == ERR_OK ? drop_covered(self, parts) : err;
}

void fsck_parts_free(struct fsck_parts *parts)
{
    free(parts->list);
    parts->list = NULL;
    parts->count = 0;
}

/* ---- and the log ---- */

void fsck_parts_meet(struct fsck_parts *parts, const struct batch_header *header)
{
    uint64_t end = batch_end_offset(header);

    ASSERT(parts->next <= parts->count);
    while (parts->next < parts->count && parts->list[parts->next].seal.end_offset < end) {
        parts->next++;
    }
    for (size_t i = parts->next; i < parts->count && parts->list[i].seal.end_offset == end; i++) {
        struct fsck_part *part = &parts->list[i];

        part->met = memcmp(part->seal.digest, header->digest, sizeof header->digest) == 0;
    }
}

/* Whether entries of the journal may add to the topic what its files lack. */
static bool is_replayed(const struct fsck *self)
{
    const struct journal_recovery *journal = &self->journal;

    return !self->journal_void && journal->entry_count > 0 &&
           journal->first_index + journal->entry_count - 1 > self->snapshot.index;
}

enum err fsck_parts_tell(struct fsck *self, const struct fsck_topic *topic,
                         const struct fsck_parts *parts)
{
    uint64_t start = topic->promised.start;
    uint64_t end = topic->begun ? topic->chain.offset : start;
    enum err err = ERR_OK;

    end = end > topic->promised.end ? end : topic->promised.end;
    for (size_t i = 0; i < parts->count && err == ERR_OK && !self->state_unknown; i++) {
        const struct fsck_part *part = &parts->list[i];

        ASSERT(part->sound);
        if (part->seal.end_offset <= start) {
            err =
                tell_part(self, parts, &part->seal, "leftover", "it lies below the topic's start");
        } else if (part->seal.end_offset > end && !is_replayed(self)) {
            err = tell_part(self, parts, &part->seal, "leftover",
                            "it reaches beyond the topic's end");
        } else if (part->seal.end_offset <= end && !part->met) {
            err = tell_part(self, parts, &part->seal, "leftover",
                            "no batch on this disk ends where it does, with the digest that it "
                            "was made with");
        }
    }
    return err;
}

/* ---- directories ---- */

enum err fsck_indexes_begin(struct fsck *self)
{
    char path[IO_PATH_SIZE];
    enum err err = io_path(path, self->options->dir, LOOKUP_DIR_NAME, self->info);

    if (err != ERR_OK) {
        return err;
    }
    self->has_indexes = is_directory(self, path);
    return self->has_indexes ? ERR_OK : tell_no_directory(self, path, NULL);
}

enum err fsck_indexes_list(struct fsck *self, struct fsck_names *ret_names)
{
    char path[IO_PATH_SIZE];
    enum err err = io_path(path, self->options->dir, LOOKUP_DIR_NAME, self->info);

    *ret_names = (struct fsck_names){0};
    if (err != ERR_OK || !self->has_indexes) {
        return err;
    }
    return fsck_list(self, path, ret_names);
}

enum err fsck_indexes_stray(struct fsck *self, const char *name, bool named_rightly)
{
    char dir[IO_PATH_SIZE];
    char path[IO_PATH_SIZE];
    struct fsck_finding finding = {.what = "unknown", .path = path, .advice = fates[3].advice};
    enum err err = io_path(dir, self->options->dir, LOOKUP_DIR_NAME, self->info);

    err = err == ERR_OK ? io_path(path, dir, name, self->info) : err;
    if (err != ERR_OK) {
        return err;
    }
    if (!is_directory(self, path)) {
        return fsck_tell(self, &finding, "no file that a node makes");
    }
    finding.advice =
        "the node removes it, with its files: that is what it does with each directory "
        "there that is no topic's";
    if (!named_rightly) {
        return fsck_tell(self, &finding, "no directory that a node makes");
    }
    finding.what = "leftover";
    return fsck_tell(self, &finding, "indexes of no topic of the node: it was deleted");
}
