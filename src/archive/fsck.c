#include "archive/fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/fsck_internal.h"
#include "archive/identity_file.h"
#include "base/assert.h"
#include "lookup/lookup.h"

const char fsck_replace[] =
    "acknowledged entries may be missing: restore a copy of this node's whole directory only if it "
    "never ran after the copy was made; else replace the node: quorlog cluster replace";

const char *fsck_level_name(enum fsck_level level)
{
    static const char *const names[] = {"note", "repaired", "act"};

    ASSERT((unsigned)level < sizeof names / sizeof names[0]);
    return names[level];
}

enum err fsck_tell(struct fsck *self, const struct fsck_finding *finding, const char *format, ...)
{
    struct fsck_finding told = *finding;
    va_list arguments;
    enum err err;

    ASSERT(finding->what != NULL && finding->path != NULL && finding->advice != NULL);
    va_start(arguments, format);
    (void)vsnprintf(self->text, sizeof self->text, format, arguments); /* Cut if need be. */
    va_end(arguments);
    told.text = self->text;
    self->summary.counts[told.level]++;
    err = self->options->cb(self->options->arg, &told);
    return err == ERR_OK ? ERR_OK : err_set(self->info, err, "%s", err_text(err));
}

void fsck_progress(struct fsck *self, const char *path, uint64_t bytes)
{
    self->summary.bytes += bytes;
    if (self->options->progress != NULL) {
        self->options->progress(self->options->arg, path, bytes);
    }
}

/* ---- directories ---- */

static int note_name(void *arg, const char *name)
{
    struct fsck_names *names = arg;

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

enum err fsck_list(struct fsck *self, const char *path, struct fsck_names *ret_names)
{
    struct fsck_names names = {0};
    int rv = self->io->list(self->io, path, note_name, &names);

    if (rv < 0) {
        fsck_names_free(&names);
        return io_error(rv, "list", path, self->info);
    }
    if (names.count > 0) {
        qsort(names.list, names.count, sizeof *names.list, compare_names);
    }
    *ret_names = names;
    return ERR_OK;
}

void fsck_names_free(struct fsck_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->list[i]);
    }
    free(names->list);
    *names = (struct fsck_names){0};
}

/* Tells of names that are none of `known` (NULL ends it). */
static enum err check_names(struct fsck *self, const char *dir, const struct fsck_names *names,
                            const char *const *known)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < names->count && err == ERR_OK; i++) {
        const char *name = names->list[i];
        size_t size = strlen(name);
        bool temporary = size > 4 && strcmp(name + size - 4, ".tmp") == 0;
        char path[IO_PATH_SIZE];
        size_t k = 0;

        while (known[k] != NULL && strcmp(known[k], name) != 0) {
            k++;
        }
        if (known[k] != NULL) {
            continue;
        }
        err = io_path(path, dir, name, self->info);
        if (err == ERR_OK) {
            const struct fsck_finding finding = {.what = temporary ? "leftover" : "unknown",
                                                 .path = path,
                                                 .advice = temporary ? "it is written over"
                                                                     : "the node leaves it alone"};

            err = fsck_tell(self, &finding,
                            temporary ? "what a write that was cut off left"
                                      : "no file that a node makes");
        }
    }
    return err;
}

/* ---- lock and identity ---- */

static enum err take_lock(struct fsck *self, int *ret_fd)
{
    char path[IO_PATH_SIZE];
    enum err err = io_path(path, self->options->dir, "lock", self->info);
    int rv;

    if (err == ERR_OK) {
        err = io_open(self->io, path, O_RDONLY, ret_fd, self->info);
    }
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND ? ERR_OK : err; /* No node has ever run here. */
    }
    rv = self->io->lock(self->io, *ret_fd);
    if (rv < 0 && err_from_errno(-rv) == ERR_AGAIN) {
        return err_set(self->info, ERR_LOCKED,
                       "a node runs in '%s': stop it first (quorlog dump reads the files of a "
                       "running one, quorlog verify compares it with the others)",
                       self->options->dir);
    }
    return rv < 0 ? io_error(rv, "lock", path, self->info) : ERR_OK;
}

static enum err check_identity(struct fsck *self)
{
    char path[IO_PATH_SIZE];
    struct identity_record record;
    struct err_info info = {0};
    struct buf file;
    enum err err = io_path(path, self->options->dir, "identity", self->info);

    if (err != ERR_OK) {
        return err;
    }
    buf_init(&file, IDENTITY_FILE_SIZE_MAX + 1);
    err = io_read_file(self->io, path, IDENTITY_FILE_SIZE_MAX, &file, &info);
    self->summary.files += err == ERR_OK;
    err = err == ERR_OK ? identity_decode(path, file.data, file.size, &record, &info) : err;
    buf_fini(&file);
    if (err == ERR_OK) {
        self->summary.node_id = record.node_id;
        return ERR_OK;
    }
    if (err == ERR_NOT_FOUND) {
        const struct fsck_finding missing = {
            .level = FSCK_ACT,
            .what = "missing",
            .path = path,
            .advice = "a node that began the cluster writes it again from its configuration; one "
                      "that joined: restore the file from a copy, or replace the node"};

        return fsck_tell(self, &missing, "the node's identity is missing");
    }
    if (err == ERR_CORRUPT || err == ERR_VERSION || err == ERR_TOO_LARGE) {
        const struct fsck_finding damaged = {
            .level = FSCK_ACT,
            .what = "damaged",
            .path = path,
            .advice = err == ERR_VERSION ? "start the newer program again"
                                         : "restore it, or write it anew, as the text says"};

        return fsck_tell(self, &damaged, "%s", info.text);
    }
    return err_set(self->info, err, "%s", info.text);
}

static enum err check_disk(struct fsck *self, const char *group_dir)
{
    char path[IO_PATH_SIZE];
    struct err_info info = {0};
    struct buf file;
    enum err err = io_path(path, group_dir, "disk", self->info);

    if (err != ERR_OK) {
        return err;
    }
    buf_init(&file, IDENTITY_FILE_SIZE_MAX + 1);
    err = io_read_file(self->io, path, IDENTITY_FILE_SIZE_MAX, &file, &info);
    self->summary.files += err == ERR_OK;
    err = err == ERR_OK ? disk_decode(path, file.data, file.size, &self->disk_id, &info) : err;
    buf_fini(&file);
    if (err == ERR_OK) {
        return ERR_OK;
    }
    if (err == ERR_NOT_FOUND || err == ERR_CORRUPT || err == ERR_TOO_LARGE) {
        const struct fsck_finding finding = {
            .level = FSCK_ACT,
            .what = err == ERR_NOT_FOUND ? "missing" : "damaged",
            .path = path,
            .advice = "the cluster refuses the node: restore the file from a copy, or replace the "
                      "node: quorlog cluster replace"};

        return fsck_tell(self, &finding, "%s",
                         err == ERR_NOT_FOUND ? "the id of this disk is missing" : info.text);
    }
    return err_set(self->info, err, "%s", info.text);
}

/* What the cluster bound the node's id to. */
static enum err check_binding(struct fsck *self, const char *group_dir)
{
    char path[IO_PATH_SIZE];
    uint64_t bound = self->manifest.nodes == NULL || self->summary.node_id == 0
                         ? 0
                         : nodes_find(self->manifest.nodes, self->summary.node_id);
    const struct fsck_finding finding = {.level = FSCK_ACT,
                                         .what = "mismatch",
                                         .path = path,
                                         .advice = "the cluster refuses the node: restore the file "
                                                   "from a copy, or replace the node: quorlog "
                                                   "cluster replace"};
    enum err err = io_path(path, group_dir, "disk", self->info);

    if (err != ERR_OK || bound == 0 || self->disk_id == 0 || bound == self->disk_id) {
        return err;
    }
    return fsck_tell(self, &finding,
                     "the disk's id is %016" PRIx64 ", but the cluster knows node %" PRIu64
                     " with %016" PRIx64,
                     self->disk_id, self->summary.node_id, bound);
}

/* ---- the whole ---- */

static enum err check_journal_names(struct fsck *self, const char *group_dir)
{
    static const char *const none[] = {NULL};
    char dir[IO_PATH_SIZE];
    struct fsck_names names = {0};
    struct fsck_names others = {0};
    enum err err = io_path(dir, group_dir, "journal", self->info);

    err = err == ERR_OK ? fsck_list(self, dir, &names) : err;
    if (err == ERR_NOT_FOUND) {
        return ERR_OK; /* Told with the journal. */
    }
    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        uint64_t number;
        size_t size = strlen(names.list[i]);

        if (size < 16 || (!journal_segment_name_parse(names.list[i], &number) &&
                          !journal_spare_name_parse(names.list[i], &number))) {
            err = note_name(&others, names.list[i]) < 0
                      ? err_set(self->info, ERR_NOMEM, "out of memory")
                      : ERR_OK;
        }
    }
    err = err == ERR_OK ? check_names(self, dir, &others, none) : err;
    fsck_names_free(&others);
    fsck_names_free(&names);
    return err;
}

static enum err check_group(struct fsck *self, const char *group_dir)
{
    static const char *const known[] = {"ballot",  "snapshot", "disk", "ballast",
                                        "journal", "topics",   NULL};
    struct fsck_names names = {0};
    char topics[IO_PATH_SIZE];
    enum err err = fsck_list(self, group_dir, &names);

    err = err == ERR_OK ? check_names(self, group_dir, &names, known) : err;
    fsck_names_free(&names);
    err = err == ERR_OK ? check_disk(self, group_dir) : err;
    err = err == ERR_OK ? check_journal_names(self, group_dir) : err;
    err = err == ERR_OK ? fsck_raft(self, group_dir) : err;
    err = err == ERR_OK ? check_binding(self, group_dir) : err;
    err = err == ERR_OK ? io_path(topics, group_dir, "topics", self->info) : err;
    return err == ERR_OK ? fsck_topics(self, topics) : err;
}

static bool has_name(const struct fsck_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->list[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static enum err check_dir(struct fsck *self, const struct fsck_names *names)
{
    static const char *const known[] = {"lock", "identity", "group-1", LOOKUP_DIR_NAME, NULL};
    const char *dir = self->options->dir;
    char group_dir[IO_PATH_SIZE];
    enum err err;

    if (!has_name(names, "identity") && !has_name(names, "group-1")) {
        return err_set(self->info, ERR_NOT_FOUND, "'%s' is no data directory of a node", dir);
    }
    err = check_names(self, dir, names, known);
    err = err == ERR_OK ? check_identity(self) : err;
    err = err == ERR_OK && has_name(names, LOOKUP_DIR_NAME) ? fsck_indexes_begin(self) : err;
    err = err == ERR_OK ? io_path(group_dir, dir, "group-1", self->info) : err;
    if (err == ERR_OK && !has_name(names, "group-1")) {
        const struct fsck_finding finding = {
            .level = FSCK_ACT, .what = "missing", .path = group_dir, .advice = fsck_replace};

        return fsck_tell(self, &finding, "everything but the identity is missing");
    }
    return err == ERR_OK ? check_group(self, group_dir) : err;
}

enum err fsck_run(const struct fsck_options *options, struct fsck_summary *ret_summary,
                  struct err_info *info)
{
    struct fsck *self = calloc(1, sizeof *self);
    struct fsck_names names = {0};
    int lock_fd = -1;
    enum err err;

    ASSERT(options->io != NULL && options->dir != NULL && options->cb != NULL);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    self->options = options;
    self->io = options->io;
    self->info = info;
    self->journal.sealed = true;
    err = fsck_list(self, options->dir, &names);
    err = err == ERR_OK ? take_lock(self, &lock_fd) : err;
    err = err == ERR_OK ? check_dir(self, &names) : err;
    *ret_summary = self->summary;
    io_close(self->io, &lock_fd);
    fsck_names_free(&names);
    manifest_fini(&self->manifest);
    snapshot_fini(&self->snapshot);
    journal_recovery_fini(&self->journal);
    free(self);
    return err;
}
