/* One topic: its files in order, the holes between them, and where they end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/fsck_internal.h"
#include "base/assert.h"

/* The files of one base offset. */
struct found {
    uint64_t base_offset;
    bool has[SEGMENT_FILE_COUNT];
    bool head_valid;
    uint64_t generation; /* of the store, when head_valid */
    uint16_t rewrites;   /* as generation */
};

struct files {
    struct found *list; /* owned; by base offset */
    size_t count;
    uint64_t generation; /* the highest */
};

struct fsck_verdict fsck_lost(const struct fsck *self)
{
    if (self->state_unknown) {
        return (struct fsck_verdict){.level = FSCK_ACT, .advice = fsck_replace};
    }
    if (self->has_peers) {
        return (struct fsck_verdict){
            .level = FSCK_REPAIRED,
            .advice = "the node fetches it from the others: at its next start, or when a reader or "
                      "the scrubber meets it"};
    }
    return (struct fsck_verdict){
        .level = FSCK_ACT,
        .advice = "no other node has it: restore the topic's directory from a backup"};
}

struct fsck_verdict fsck_replay(const struct fsck *self)
{
    if (self->state_unknown) {
        return (struct fsck_verdict){.level = FSCK_ACT, .advice = fsck_replace};
    }
    return (struct fsck_verdict){
        .level = FSCK_REPAIRED,
        .advice = "the node cuts the file there and writes what follows again from its journal"};
}

/* ---- the directory ---- */

static enum err tell_name(struct fsck *self, const struct fsck_topic *topic, const char *name,
                          const char *what, const char *text)
{
    char path[IO_PATH_SIZE];
    const struct fsck_finding finding = {.what = what,
                                         .path = path,
                                         .topic = topic->promised.name,
                                         .advice = strcmp(what, "leftover") == 0
                                                       ? "the node removes it"
                                                       : "the node leaves it alone"};
    enum err err = io_path(path, topic->dir, name, self->info);

    return err == ERR_OK ? fsck_tell(self, &finding, "%s", text) : err;
}

static enum err tell_file(struct fsck *self, const struct fsck_topic *topic,
                          const struct found *found, enum segment_file file, const char *text)
{
    char path[IO_PATH_SIZE];
    enum err err = segment_path(path, topic->dir, found->base_offset, file, self->info);

    return err == ERR_OK ? tell_name(self, topic, strrchr(path, '/') + 1, "leftover", text) : err;
}

/* Groups the names by base offset; they are sorted, so files of one stand together. */
static enum err sort_files(struct fsck *self, const struct fsck_topic *topic,
                           const struct fsck_names *names, struct files *files)
{
    files->list = calloc(names->count + 1, sizeof *files->list); /* never of size 0 */
    if (files->list == NULL) {
        return err_set(self->info, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < names->count; i++) {
        enum segment_file file;
        uint64_t base;

        if (!segment_parse_name(names->list[i], &base, &file)) {
            enum err err =
                tell_name(self, topic, names->list[i], "unknown", "no file that a node makes");

            if (err != ERR_OK) {
                return err;
            }
            continue;
        }
        if (files->count == 0 || files->list[files->count - 1].base_offset != base) {
            files->list[files->count] = (struct found){.base_offset = base};
            files->count++;
        }
        files->list[files->count - 1].has[file] = true;
    }
    return ERR_OK;
}

static bool is_filling(const struct found *found)
{
    return found->has[SEGMENT_FILLING] && !found->has[SEGMENT_STORE];
}

static bool has_store(const struct found *found)
{
    return found->has[SEGMENT_STORE] || found->has[SEGMENT_FILLING];
}

/* What an interrupted step left of this segment. */
static enum err tell_leftovers(struct fsck *self, const struct fsck_topic *topic,
                               const struct found *found)
{
    enum err err = ERR_OK;

    if (found->has[SEGMENT_TEMPORARY]) {
        err = tell_file(self, topic, found, SEGMENT_TEMPORARY, "an interrupted step left it");
    }
    if (err == ERR_OK && found->has[SEGMENT_FILLING_TEMPORARY]) {
        err =
            tell_file(self, topic, found, SEGMENT_FILLING_TEMPORARY, "an interrupted step left it");
    }
    if (err == ERR_OK && found->has[SEGMENT_COMPACT]) {
        err = tell_file(self, topic, found, SEGMENT_COMPACT, "an interrupted compaction left it");
    }
    if (err == ERR_OK && found->has[SEGMENT_COMPACT_INDEX]) {
        err = tell_file(self, topic, found, SEGMENT_COMPACT_INDEX,
                        "an interrupted compaction left it");
    }
    if (err == ERR_OK && found->has[SEGMENT_FILLING] && found->has[SEGMENT_STORE]) {
        err = tell_file(self, topic, found, SEGMENT_FILLING, "the store itself is there");
    }
    if (err == ERR_OK && found->has[SEGMENT_INDEX] && !found->has[SEGMENT_STORE]) {
        err = tell_file(self, topic, found, SEGMENT_INDEX, "an index without its store");
    }
    if (err == ERR_OK && found->has[SEGMENT_DAMAGED]) {
        err = tell_file(self, topic, found, SEGMENT_DAMAGED,
                        "damaged once, and kept until the topic has no holes");
    }
    return err;
}

/* Reads the head of each store: an interrupted reset leaves those of a lower generation. */
static enum err read_heads(struct fsck *self, const struct fsck_topic *topic, struct files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        struct found *found = &files->list[i];
        struct store_walk walk;
        char path[IO_PATH_SIZE];
        enum err err = tell_leftovers(self, topic, found);

        if (err != ERR_OK || !has_store(found)) {
            if (err != ERR_OK) {
                return err;
            }
            continue;
        }
        err = segment_path(path, topic->dir, found->base_offset,
                           is_filling(found) ? SEGMENT_FILLING : SEGMENT_STORE, self->info);
        if (err != ERR_OK) {
            return err;
        }
        err = store_walk_open(&walk, self->io, path, self->info);
        found->head_valid = err == ERR_OK && walk.header.base_offset == found->base_offset;
        if (found->head_valid) {
            found->generation = walk.header.generation;
            found->rewrites = walk.header.rewrites;
            files->generation =
                found->generation > files->generation ? found->generation : files->generation;
        }
        store_walk_close(&walk);
        if (err != ERR_OK && err != ERR_CORRUPT && err != ERR_VERSION) {
            return err;
        }
    }
    return ERR_OK;
}

/* Takes out what is no segment of the log: of an older generation, or below its start. */
static enum err drop_passed(struct fsck *self, const struct fsck_topic *topic, struct files *files)
{
    size_t kept = 0;
    enum err err = ERR_OK;

    for (size_t i = 0; i < files->count && err == ERR_OK; i++) {
        const struct found *found = &files->list[i];
        bool filling = is_filling(found);

        if (!has_store(found)) {
            continue;
        }
        if (found->head_valid && found->generation < files->generation) {
            err = tell_file(self, topic, found, filling ? SEGMENT_FILLING : SEGMENT_STORE,
                            "what a reset of the log left");
            continue;
        }
        files->list[kept] = *found;
        kept++;
    }
    files->count = kept;
    for (kept = 0; err == ERR_OK && kept + 1 < files->count &&
                   files->list[kept + 1].base_offset <= topic->promised.start;
         kept++) {
        err = tell_file(self, topic, &files->list[kept],
                        is_filling(&files->list[kept]) ? SEGMENT_FILLING : SEGMENT_STORE,
                        "it lies below the topic's start");
    }
    memmove(files->list, files->list + kept, (files->count - kept) * sizeof *files->list);
    files->count -= kept;
    return err;
}

/* ---- the segments ---- */

static enum err tell_hole(struct fsck *self, const struct fsck_topic *topic, uint64_t from,
                          uint64_t to)
{
    const struct fsck_finding finding = {
        .level = self->has_peers || self->state_unknown ? FSCK_NOTE : FSCK_ACT,
        .what = self->has_peers || self->state_unknown ? "hole" : "missing",
        .path = topic->dir,
        .topic = topic->promised.name,
        .has_range = true,
        .from = from,
        .to = to,
        .advice = self->has_peers || self->state_unknown
                      ? "a hole is no damage: the node fetches these records from the others"
                      : fsck_lost(self).advice};

    self->summary.holes++;
    self->summary.missing += to - from;
    return fsck_tell(self, &finding, "records are not on this disk");
}

/* Says that nothing from this segment on is believed, above what was promised. */
static enum err tell_behind(struct fsck *self, struct fsck_topic *topic, const struct found *found)
{
    struct fsck_verdict verdict = fsck_replay(self);
    char path[IO_PATH_SIZE];
    const struct fsck_finding finding = {
        .level = FSCK_NOTE,
        .what = "leftover",
        .path = path,
        .topic = topic->promised.name,
        .advice = self->state_unknown
                      ? verdict.advice
                      : "the node removes it, and writes it again from its journal"};
    enum err err = segment_path(path, topic->dir, found->base_offset,
                                is_filling(found) ? SEGMENT_FILLING : SEGMENT_STORE, self->info);

    topic->ended = true;
    return err == ERR_OK ? fsck_tell(self, &finding,
                                     "it does not follow on what is before it, above the snapshot")
                         : err;
}

static enum err tell_order(struct fsck *self, const struct fsck_topic *topic,
                           const struct found *found)
{
    struct fsck_verdict verdict = fsck_lost(self);
    char path[IO_PATH_SIZE];
    const struct fsck_finding finding = {.level = verdict.level,
                                         .what = "mismatch",
                                         .path = path,
                                         .topic = topic->promised.name,
                                         .advice = verdict.advice};
    enum err err = segment_path(path, topic->dir, found->base_offset,
                                is_filling(found) ? SEGMENT_FILLING : SEGMENT_STORE, self->info);

    return err == ERR_OK
               ? fsck_tell(self, &finding,
                           "it begins at offset %" PRIu64 ", inside the segment before, which ends "
                           "at %" PRIu64,
                           found->base_offset, topic->chain.offset)
               : err;
}

/* Where the batches end whose headers can be made out, from the store's beginning on. */
static enum err measure_store(struct fsck *self, const struct fsck_topic *topic,
                              const struct found *found, uint64_t *ret_end)
{
    struct batch_header header;
    struct store_walk walk;
    char path[IO_PATH_SIZE];
    enum err err = segment_path(path, topic->dir, found->base_offset,
                                is_filling(found) ? SEGMENT_FILLING : SEGMENT_STORE, self->info);

    *ret_end = found->base_offset;
    if (err != ERR_OK) {
        return err;
    }
    err = store_walk_open(&walk, self->io, path, self->info);
    while (err == ERR_OK && (err = store_walk_next(&walk, &header, self->info)) == ERR_OK) {
        *ret_end = batch_end_offset(&header);
    }
    store_walk_close(&walk);
    return err == ERR_AGAIN || err == ERR_CORRUPT || err == ERR_VERSION ? ERR_OK : err;
}

/* Compaction put another store in the place of this one, and a crash kept it from being removed:
 * as log/log_rewrite.c has it. */
static enum err is_superseded(struct fsck *self, const struct fsck_topic *topic,
                              const struct found *found, bool *ret_superseded)
{
    uint64_t end;
    enum err err = ERR_OK;

    *ret_superseded = false;
    if (found->base_offset < topic->rewritten_end) {
        err = measure_store(self, topic, found, &end);
        *ret_superseded = err == ERR_OK && end <= topic->rewritten_end;
    }
    return err;
}

static enum err check_next(struct fsck *self, struct fsck_topic *topic, const struct files *files,
                           size_t i)
{
    const struct found *found = &files->list[i];
    uint64_t end = topic->begun ? topic->chain.offset : topic->promised.start;
    const struct fsck_segment segment = {
        .base_offset = found->base_offset,
        .next_base = i + 1 < files->count ? files->list[i + 1].base_offset : UINT64_MAX,
        .filling = is_filling(found),
        .has_index = found->has[SEGMENT_INDEX],
    };
    bool superseded;
    enum err err = is_superseded(self, topic, found, &superseded);

    if (err != ERR_OK || superseded) {
        return err != ERR_OK ? err
                             : tell_file(self, topic, found,
                                         segment.filling ? SEGMENT_FILLING : SEGMENT_STORE,
                                         "compaction has put another one in its place");
    }
    if (topic->begun && found->base_offset < end) {
        return found->base_offset < topic->promised.end ? tell_order(self, topic, found)
                                                        : tell_behind(self, topic, found);
    }
    if (found->base_offset > end) {
        if (end >= topic->promised.end && !self->state_unknown) {
            return tell_behind(self, topic, found);
        }
        err = tell_hole(self, topic, end, found->base_offset);
    }
    if (!topic->begun || found->base_offset > end) {
        chain_init(&topic->chain, found->base_offset, NULL);
        topic->begun = true;
    }
    err = err == ERR_OK ? fsck_segment(self, topic, &segment) : err;
    if (found->rewrites > 0) {
        topic->rewritten_end = topic->chain.offset;
    }
    return err;
}

static enum err check_end(struct fsck *self, const struct fsck_topic *topic)
{
    uint64_t end = topic->begun ? topic->chain.offset : topic->promised.start;
    struct fsck_verdict verdict = fsck_lost(self);
    const struct fsck_finding finding = {.level = verdict.level,
                                         .what = "missing",
                                         .path = topic->dir,
                                         .topic = topic->promised.name,
                                         .has_range = true,
                                         .from = end,
                                         .to = topic->promised.end,
                                         .advice = verdict.advice};

    if (end >= topic->promised.end) {
        return ERR_OK;
    }
    return fsck_tell(self, &finding,
                     "the files end at offset %" PRIu64 ", but the snapshot promises all below "
                     "%" PRIu64,
                     end, topic->promised.end);
}

enum err fsck_topic(struct fsck *self, struct fsck_topic *topic)
{
    struct fsck_names names = {0};
    struct files files = {0};
    enum err err = fsck_list(self, topic->dir, &names);

    topic->last_time_us = INT64_MIN;
    err = err == ERR_OK ? sort_files(self, topic, &names, &files) : err;
    fsck_names_free(&names);
    err = err == ERR_OK ? read_heads(self, topic, &files) : err;
    err = err == ERR_OK ? drop_passed(self, topic, &files) : err;
    for (size_t i = 0; i < files.count && err == ERR_OK; i++) {
        err = topic->ended ? tell_behind(self, topic, &files.list[i])
                           : check_next(self, topic, &files, i);
    }
    err = err == ERR_OK ? check_end(self, topic) : err;
    free(files.list);
    return err;
}
