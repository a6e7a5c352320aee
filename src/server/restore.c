#include "server/restore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/restore.h"
#include "base/assert.h"
#include "server/identity.h"

enum { CLUSTER_NAME_MAX = 64, SUFFIX_DIGITS = 8 };

static int count_name(void *arg, const char *name)
{
    size_t *count = arg;

    (void)name; /* Any is one too many. */
    (*count)++;
    return 0;
}

/* Nothing is at `dir`, or an empty directory. */
static enum err check_empty(struct io *io, const char *dir, struct err_info *info)
{
    size_t count = 0;
    int rv = io->list(io, dir, count_name, &count);

    if (rv == -ENOENT) {
        return ERR_OK;
    }
    if (rv < 0) {
        return io_error(rv, "list", dir, info);
    }
    return count == 0
               ? ERR_OK
               : err_set(info, ERR_EXISTS, "'%s' is not empty: restore into a new directory", dir);
}

/* The same for the place where it is made. */
static enum err check_place(struct io *io, const char *dir, struct err_info *info)
{
    enum err err = check_empty(io, dir, info);

    return err != ERR_EXISTS
               ? err
               : err_set(info, err,
                         "'%s' is left of a restore that was cut short, or is under way: remove it",
                         dir);
}

/* config with the name of the new cluster, and the place where it is made. */
static enum err make_config(const struct backup *backup, const struct config *from,
                            struct config *ret_config, struct err_info *info)
{
    uint8_t digest[DIGEST_SIZE];
    char text[DIGEST_TEXT_SIZE];
    size_t size = strlen(from->data);
    int length;

    while (size > 1 && from->data[size - 1] == '/') {
        size--;
    }
    *ret_config = *from;
    digest_bytes(backup->manifest.data, backup->manifest.size, digest);
    digest_to_text(digest, text);
    length = snprintf(ret_config->cluster, sizeof ret_config->cluster, "%s-%.*s", from->cluster,
                      SUFFIX_DIGITS, text);
    if (length < 0 || length > CLUSTER_NAME_MAX) {
        return err_set(info, ERR_INVALID, "cluster: a name of at most %d characters",
                       CLUSTER_NAME_MAX - SUFFIX_DIGITS - 1);
    }
    length = snprintf(ret_config->data, sizeof ret_config->data, "%.*s.restoring", (int)size,
                      from->data);
    if (length < 0 || (size_t)length >= sizeof ret_config->data) {
        return err_set(info, ERR_INVALID, "data: the path is too long");
    }
    return ERR_OK;
}

static enum err write_node(struct io *io, const struct backup *backup,
                           const struct restore_request *request, const struct config *config,
                           struct err_info *info)
{
    struct membership members;
    char dir[IO_PATH_SIZE];
    const struct restore_options options = {
        .dir = dir,
        .node_id = config->id,
        .membership = &members,
        .segment_size_max = config->segment_size,
        .progress = request->progress,
        .arg = request->arg,
    };
    enum err err = config_membership(config, &members, info);

    if (err == ERR_OK && membership_find(&members, config->id) == NULL) {
        err = err_set(info, ERR_INVALID, "bootstrap does not name node %llu",
                      (unsigned long long)config->id);
    }
    err = err == ERR_OK ? io_make_dir(io, config->data, "group-1", info) : err;
    err = err == ERR_OK ? io_path(dir, config->data, "group-1", info) : err;
    return err == ERR_OK ? restore_replica(backup, &options, info) : err;
}

/* The parent directory of a path. */
static void parent_of(const char *path, char ret_parent[IO_PATH_SIZE])
{
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 0 : (size_t)(slash - path);

    ASSERT(size < IO_PATH_SIZE);
    (void)snprintf(ret_parent, IO_PATH_SIZE, "%.*s", (int)size, path); /* fits */
    if (size == 0) {
        (void)snprintf(ret_parent, IO_PATH_SIZE, "%s", slash == NULL ? "." : "/"); /* fits */
    }
}

/* What was written takes its name. */
static enum err move(struct io *io, const char *from, const char *to, struct err_info *info)
{
    char parent[IO_PATH_SIZE];
    int rv = io->rename(io, from, to); /* Over an empty directory, too. */

    if (rv < 0) {
        return io_error(rv, "rename to", to, info);
    }
    parent_of(from, parent);
    return io_sync_dir(io, parent, info);
}

enum err server_restore(struct io *io, const struct restore_request *request,
                        struct restored *ret_restored, struct err_info *info)
{
    struct config *config = calloc(1, sizeof *config);
    struct identity identity;
    struct backup backup;
    enum err err;

    if (config == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    err = backup_open(io, request->backup, &backup, info);
    if (err != ERR_OK) {
        free(config);
        return err;
    }
    err = make_config(&backup, request->config, config, info);
    err = err == ERR_OK ? check_empty(io, request->config->data, info) : err;
    err = err == ERR_OK ? check_place(io, config->data, info) : err;
    if (err == ERR_OK) {
        err = identity_open(&identity, io, config, info);
    }
    if (err == ERR_OK) {
        err = write_node(io, &backup, request, config, info);
        err = err == ERR_OK ? move(io, config->data, request->config->data, info) : err;
        identity_close(&identity);
    }
    if (err == ERR_OK) {
        *ret_restored = (struct restored){.index = backup.index, .topics = backup.topic_count};
        memcpy(ret_restored->cluster, config->cluster, sizeof ret_restored->cluster);
        memcpy(ret_restored->cluster_id, identity.cluster_id, sizeof ret_restored->cluster_id);
    }
    backup_close(&backup);
    free(config);
    return err;
}
