#include "server/identity.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/digest.h"

static int compare_members(const void *a, const void *b)
{
    const struct member *left = a;
    const struct member *right = b;

    return left->id < right->id ? -1 : left->id > right->id;
}

enum err identity_cluster_id(const struct config *config, char ret_id[CLUSTER_ID_SIZE],
                             struct err_info *info)
{
    struct membership members;
    uint8_t digest[DIGEST_SIZE];
    struct buf text;
    enum err err = config_membership(config, &members, info);

    if (err != ERR_OK) {
        return err;
    }
    buf_init(&text, SIZE_MAX / 2);
    err = buf_printf(&text, "%s\n", config->cluster);
    /* A node alone may move to another port and stay the same cluster. */
    if (config->bootstrap[0] == '\0') {
        members.count = 0;
    }
    qsort(members.members, members.count, sizeof members.members[0], compare_members);
    for (unsigned i = 0; i < members.count && err == ERR_OK; i++) {
        err = buf_printf(&text, "%" PRIu64 "=%s\n", members.members[i].id,
                         members.members[i].address);
    }
    if (err == ERR_OK) {
        digest_bytes(text.data, text.size, digest);
        for (size_t i = 0; i < CLUSTER_ID_SIZE / 2; i++) {
            (void)snprintf(ret_id + 2 * i, 3, "%02x", digest[i]); /* Fits by its size. */
        }
    }
    buf_fini(&text);
    return err == ERR_OK ? ERR_OK : err_set(info, err, "no memory for the cluster's identity");
}

/* config->data, made when it is missing; its parent must be there. */
static enum err make_data_dir(struct io *io, const char *data, struct err_info *info)
{
    char parent[CONFIG_TEXT_SIZE];
    char name[CONFIG_TEXT_SIZE];
    char *slash;
    size_t size = strlen(data);

    while (size > 1 && data[size - 1] == '/') {
        size--;
    }
    if (size >= sizeof parent) {
        return err_set(info, ERR_INVALID, "data: the path is too long");
    }
    memcpy(parent, data, size);
    parent[size] = '\0';
    if (strcmp(parent, "/") == 0 || strcmp(parent, ".") == 0) {
        return ERR_OK;
    }
    slash = strrchr(parent, '/');
    if (slash == NULL) {
        return io_make_dir(io, ".", parent, info);
    }
    (void)snprintf(name, sizeof name, "%s", slash + 1); /* A part of parent: it fits. */
    slash[slash == parent ? 1 : 0] = '\0';
    return io_make_dir(io, parent, name, info);
}

static enum err take_lock(struct identity *self, const char *data, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err = io_path(path, data, "lock", info);
    int rv;

    if (err == ERR_OK) {
        err = io_open(self->io, path, O_RDWR | O_CREAT, &self->lock_fd, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    rv = self->io->lock(self->io, self->lock_fd);
    if (err_from_errno(-rv) == ERR_AGAIN) {
        return err_set(info, ERR_LOCKED,
                       "the data directory '%s' is in use by another process; stop that one first, "
                       "or give this node a directory of its own",
                       data);
    }
    return rv < 0 ? io_error(rv, "lock", path, info) : ERR_OK;
}

static enum err compare(const struct identity *self, const struct config *config,
                        const struct identity_record *record, struct err_info *info)
{
    if (record->node_id != self->node_id) {
        return err_set(info, ERR_WRONG_CLUSTER,
                       "the data directory '%s' belongs to node %" PRIu64
                       ", but this node is configured as node %" PRIu64,
                       config->data, record->node_id, self->node_id);
    }
    if (record->origin == IDENTITY_BOOTSTRAP && strcmp(record->cluster_id, self->cluster_id) != 0 &&
        config->join[0] == '\0') {
        return err_set(info, ERR_WRONG_CLUSTER,
                       "the data directory '%s' belongs to cluster '%s' (%s), but this node is "
                       "configured for cluster '%s' (%s): name or first members differ",
                       config->data, record->cluster, record->cluster_id, config->cluster,
                       self->cluster_id);
    }
    return ERR_OK;
}

static enum err write_new(const struct identity *self, const struct config *config,
                          struct err_info *info)
{
    char text[IDENTITY_FILE_SIZE_MAX];
    struct identity_record record = {.node_id = self->node_id, .origin = self->origin};
    size_t size;

    memcpy(record.cluster, self->cluster, sizeof record.cluster);
    memcpy(record.cluster_id, self->cluster_id, sizeof record.cluster_id);
    size = identity_encode(&record, text);
    return io_replace_file(self->io, config->data, "identity", text, size, info);
}

/* What an older program, or a person, wrote gets its checksum. A full disk must not keep the node
 * from starting: the next start tries again. */
static enum err renew(const struct identity *self, const struct config *config,
                      const struct identity_record *record, struct err_info *info)
{
    struct identity as_written = *self;
    enum err err;

    if (record->version >= IDENTITY_VERSION) {
        return ERR_OK;
    }
    memcpy(as_written.cluster, record->cluster, sizeof as_written.cluster);
    err = write_new(&as_written, config, info);
    return err == ERR_NOSPACE ? ERR_OK : err;
}

static enum err check_file(struct identity *self, const struct config *config,
                           struct err_info *info)
{
    char path[IO_PATH_SIZE];
    struct identity_record record;
    struct buf data;
    enum err err = io_path(path, config->data, "identity", info);

    if (err != ERR_OK) {
        return err;
    }
    buf_init(&data, IDENTITY_FILE_SIZE_MAX + 1);
    err = io_read_file(self->io, path, IDENTITY_FILE_SIZE_MAX, &data, info);
    if (err == ERR_NOT_FOUND && config->join[0] != '\0') {
        self->origin = IDENTITY_JOIN; /* The id is not known yet: identity_adopt writes it. */
        self->cluster_id[0] = '\0';
        err = ERR_OK;
    } else if (err == ERR_NOT_FOUND) {
        err = write_new(self, config, info);
    } else if (err == ERR_OK) {
        err = identity_decode(path, data.data, data.size, &record, info);
        err = err != ERR_OK ? err : compare(self, config, &record, info);
        if (err == ERR_OK) {
            self->origin = record.origin;
            memcpy(self->cluster_id, record.cluster_id, sizeof self->cluster_id);
            err = renew(self, config, &record, info);
        }
    }
    buf_fini(&data);
    return err;
}

enum err identity_open(struct identity *self, struct io *io, const struct config *config,
                       struct err_info *info)
{
    enum err err;

    *self = (struct identity){.io = io, .node_id = config->id, .lock_fd = -1};
    ASSERT(self->node_id > 0);
    (void)snprintf(self->cluster, sizeof self->cluster, "%.64s", config->cluster); /* It fits. */
    err = identity_cluster_id(config, self->cluster_id, info);
    err = err != ERR_OK ? err : make_data_dir(io, config->data, info);
    err = err != ERR_OK ? err : take_lock(self, config->data, info);
    err = err != ERR_OK ? err : check_file(self, config, info);
    if (err != ERR_OK) {
        identity_close(self);
    }
    return err;
}

enum err identity_open_existing(struct identity *self, struct io *io, const struct config *config,
                                struct err_info *info)
{
    char path[IO_PATH_SIZE];
    struct identity_record record;
    struct buf data;
    enum err err = io_path(path, config->data, "identity", info);

    *self = (struct identity){.io = io, .node_id = config->id, .lock_fd = -1};
    if (err != ERR_OK) {
        return err;
    }
    buf_init(&data, IDENTITY_FILE_SIZE_MAX + 1);
    err = io_read_file(io, path, IDENTITY_FILE_SIZE_MAX, &data, info);
    if (err == ERR_NOT_FOUND) {
        (void)err_set(info, err, "'%s' is no data directory of a node", config->data);
    }
    err = err != ERR_OK ? err : identity_decode(path, data.data, data.size, &record, info);
    buf_fini(&data);
    if (err == ERR_OK && record.node_id != self->node_id) {
        err = err_set(info, ERR_WRONG_CLUSTER,
                      "the data directory '%s' belongs to node %" PRIu64 ", not %" PRIu64,
                      config->data, record.node_id, self->node_id);
    }
    err = err != ERR_OK ? err : take_lock(self, config->data, info);
    if (err != ERR_OK) {
        identity_close(self);
        return err;
    }
    self->origin = record.origin;
    memcpy(self->cluster, record.cluster, sizeof self->cluster);
    memcpy(self->cluster_id, record.cluster_id, sizeof self->cluster_id);
    return ERR_OK;
}

void identity_close(struct identity *self)
{
    ASSERT(self->io != NULL);
    io_close(self->io, &self->lock_fd);
    ASSERT(self->lock_fd == -1);
}

enum err identity_adopt(struct identity *self, const struct config *config,
                        enum identity_origin origin, const char *cluster_id, struct err_info *info)
{
    size_t size = strspn(cluster_id, "0123456789abcdef");

    ASSERT(origin != IDENTITY_BOOTSTRAP);
    ASSERT(self->lock_fd >= 0);
    if (size != CLUSTER_ID_SIZE - 1 || cluster_id[size] != '\0') {
        return err_set(info, ERR_PROTOCOL, "'%.64s' is no cluster's id", cluster_id);
    }
    self->origin = origin;
    memcpy(self->cluster_id, cluster_id, sizeof self->cluster_id);
    return write_new(self, config, info);
}

static enum err write_disk(const struct identity *self, const char *group_dir,
                           struct err_info *info)
{
    char text[DISK_FILE_SIZE + 1];

    disk_encode(self->disk_id, text);
    return io_replace_file(self->io, group_dir, "disk", text, DISK_FILE_SIZE, info);
}

enum err identity_open_disk(struct identity *self, const char *group_dir, uint64_t fresh,
                            struct err_info *info)
{
    char path[IO_PATH_SIZE];
    struct buf data;
    enum err err = io_path(path, group_dir, "disk", info);

    ASSERT(fresh != 0);
    if (err != ERR_OK) {
        return err;
    }
    buf_init(&data, IDENTITY_FILE_SIZE_MAX + 1);
    err = io_read_file(self->io, path, IDENTITY_FILE_SIZE_MAX, &data, info);
    if (err == ERR_NOT_FOUND) {
        self->disk_id = fresh;
        err = write_disk(self, group_dir, info);
    } else if (err == ERR_OK) {
        err = disk_decode(path, data.data, data.size, &self->disk_id, info);
        if (err == ERR_OK && data.size == DISK_FILE_SIZE_OLD) {
            err = write_disk(self, group_dir, info); /* As renew(): also on a full disk. */
            err = err == ERR_NOSPACE ? ERR_OK : err;
        }
    }
    buf_fini(&data);
    return err;
}
