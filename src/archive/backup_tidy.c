#include "archive/backup_tidy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/backup_internal.h"
#include "base/assert.h"

/* All names in a directory. */
struct names {
    char **items; /* owned, each too */
    size_t count;
};

static int take_name(void *arg, const char *name)
{
    struct names *names = arg;
    char **items = realloc(names->items, (names->count + 1) * sizeof *items);

    if (items == NULL) {
        return -ENOMEM;
    }
    names->items = items;
    names->items[names->count] = strdup(name);
    if (names->items[names->count] == NULL) {
        return -ENOMEM;
    }
    names->count++;
    return 0;
}

static void names_fini(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i]);
    }
    free(names->items);
    *names = (struct names){0};
}

static enum err list(struct io *io, const char *dir, struct names *ret_names, struct err_info *info)
{
    int rv;

    *ret_names = (struct names){0};
    rv = io->list(io, dir, take_name, ret_names);
    if (rv == 0 || rv == -ENOENT) {
        return ERR_OK;
    }
    names_fini(ret_names);
    return io_error(rv, "list", dir, info);
}

/* "00000000000000001835.store" */
static bool parse_base(const char *name, uint64_t *ret_base)
{
    int end = 0;

    return strlen(name) == 26 && sscanf(name, "%20" SCNu64 ".store%n", ret_base, &end) == 1 &&
           end == 26;
}

static int compare_bases(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;

    return (*left > *right) - (*left < *right);
}

enum err backup_list_bases(struct io *io, const char *dir, struct backup_bases *ret_bases,
                           struct err_info *info)
{
    struct backup_bases bases = {0};
    struct names names;
    enum err err = list(io, dir, &names, info);

    if (err != ERR_OK) {
        return err;
    }
    bases.items = calloc(names.count + 1, sizeof *bases.items); /* never of size 0 */
    if (bases.items == NULL) {
        names_fini(&names);
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < names.count; i++) {
        bases.count += parse_base(names.items[i], &bases.items[bases.count]) ? 1 : 0;
    }
    names_fini(&names);
    qsort(bases.items, bases.count, sizeof *bases.items, compare_bases);
    *ret_bases = bases;
    return ERR_OK;
}

/* ---- removing ---- */

static enum err remove_file(struct io *io, const char *dir, const char *name, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err = io_path(path, dir, name, info);
    int rv = err == ERR_OK ? io->unlink(io, path) : 0;

    return rv < 0 && rv != -ENOENT ? io_error(rv, "remove", path, info) : err;
}

static bool has_file(const struct backup_topic *topic, uint64_t base)
{
    size_t low = 0;
    size_t high = topic->file_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (topic->files[middle].base < base) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < topic->file_count && topic->files[low].base == base;
}

static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name);

    return size >= strlen(end) && strcmp(name + size - strlen(end), end) == 0;
}

static enum err tidy_topic(const struct backup *self, const struct backup_topic *topic,
                           struct err_info *info)
{
    char dir[IO_PATH_SIZE];
    struct names names = {0};
    enum err err = backup_topic_path(self->dir, topic, dir, info);

    err = err == ERR_OK ? list(self->io, dir, &names, info) : err;
    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        uint64_t base;
        bool strange = parse_base(names.items[i], &base) ? !has_file(topic, base)
                                                         : ends_with(names.items[i], ".store.tmp");

        err = strange ? remove_file(self->io, dir, names.items[i], info) : err;
    }
    names_fini(&names);
    return err;
}

/* The topic whose directory this is; NULL: none of the backup's. *ret_ours: it has the form. */
static const struct backup_topic *find_dir(const struct backup *self, const char *name,
                                           bool *ret_ours)
{
    const char *dash = strrchr(name, '-');
    char wanted[BACKUP_DIR_NAME_SIZE];
    uint64_t id = 0;
    int end = 0;

    *ret_ours =
        dash != NULL && sscanf(dash + 1, "%" SCNu64 "%n", &id, &end) == 1 && dash[1 + end] == '\0';
    for (size_t low = 0, high = self->topic_count; *ret_ours && low < high;) {
        size_t middle = low + (high - low) / 2;

        if (self->topics[middle].id == id) {
            backup_dir_name(&self->topics[middle], wanted);
            return strcmp(wanted, name) == 0 ? &self->topics[middle] : NULL;
        }
        if (self->topics[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static enum err tidy_topics(const struct backup *self, struct err_info *info)
{
    char topics[IO_PATH_SIZE];
    struct names names = {0};
    enum err err = io_path(topics, self->dir, "topics", info);

    err = err == ERR_OK ? list(self->io, topics, &names, info) : err;
    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        bool ours;
        const struct backup_topic *topic = find_dir(self, names.items[i], &ours);

        if (topic != NULL && topic->file_count > 0) {
            err = tidy_topic(self, topic, info);
        } else if (ours) {
            err = io_remove_dir(self->io, topics, names.items[i], info);
        }
    }
    names_fini(&names);
    return err;
}

enum err backup_tidy(const struct backup *self, struct err_info *info)
{
    char kept[BACKUP_FILE_NAME_SIZE];
    struct names names = {0};
    enum err err = tidy_topics(self, info);

    ASSERT(self->index > 0);
    backup_manifest_name(self->index, kept);
    err = err == ERR_OK ? list(self->io, self->dir, &names, info) : err;
    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        const char *name = names.items[i];

        if (strncmp(name, BACKUP_MANIFEST_PREFIX, strlen(BACKUP_MANIFEST_PREFIX)) == 0 &&
            strcmp(name, kept) != 0) {
            err = remove_file(self->io, self->dir, name, info);
        }
    }
    names_fini(&names);
    return err;
}
