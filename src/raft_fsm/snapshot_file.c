/* The file that holds a node's newest snapshot; its format is in raft_fsm/manifest.h. */
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft_fsm/manifest.h"
#include "raft_fsm/unpack.h"
#include "replicated.pb-c.h"

enum {
    SNAPSHOT_VERSION = 1,
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_CRC = 8,
    AT_SIZE = 12,
    HEADER_SIZE = 16,
    /* A manifest, and room for the members. */
    FILE_SIZE_MAX = MANIFEST_SIZE_MAX + 16 * 1024 * 1024,
};

static const char file_name[] = "snapshot";

void snapshot_fini(struct snapshot *self)
{
    block_unref(self->membership.block);
    block_unref(self->manifest.block);
    *self = (struct snapshot){0};
}

void snapshot_ref(const struct snapshot *self, struct snapshot *ret_snapshot)
{
    ASSERT(self != ret_snapshot);
    if (self->membership.block != NULL) {
        (void)block_ref(self->membership.block); /* The same pointer. */
    }
    if (self->manifest.block != NULL) {
        (void)block_ref(self->manifest.block);
    }
    *ret_snapshot = *self;
}

static ProtobufCBinaryData binary(const struct slice *slice)
{
    return (ProtobufCBinaryData){.len = slice->size,
                                 .data = (uint8_t *)(uintptr_t)slice->data}; /* not written to */
}

enum err snapshot_save(struct io *io, const char *dir, const struct snapshot *snapshot,
                       struct err_info *info)
{
    Replicated__SnapshotFile message = REPLICATED__SNAPSHOT_FILE__INIT;
    struct block *block;
    size_t packed;
    size_t size;
    enum err err;

    ASSERT(snapshot->index > 0 && snapshot->membership_index <= snapshot->index);
    message.index = snapshot->index;
    message.term = snapshot->term;
    message.membership_index = snapshot->membership_index;
    message.membership = binary(&snapshot->membership);
    message.manifest = binary(&snapshot->manifest);
    size = replicated__snapshot_file__get_packed_size(&message);
    if (size > FILE_SIZE_MAX - HEADER_SIZE) {
        return err_set(info, ERR_TOO_LARGE, "a snapshot of %zu bytes is over the limit of %d", size,
                       FILE_SIZE_MAX - HEADER_SIZE);
    }
    block = block_new(HEADER_SIZE + size);
    if (block == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a snapshot of %zu bytes", size);
    }
    packed = replicated__snapshot_file__pack(&message, block->data + HEADER_SIZE);
    ASSERT(packed == size);
    bytes_put_u32(block->data + AT_MAGIC, SNAPSHOT_MAGIC);
    bytes_put_u32(block->data + AT_VERSION, SNAPSHOT_VERSION);
    bytes_put_u32(block->data + AT_CRC, crc32c(block->data + HEADER_SIZE, size));
    bytes_put_u32(block->data + AT_SIZE, (uint32_t)size);
    err = io_replace_file(io, dir, file_name, block->data, block->size, info);
    block_unref(block);
    return err;
}

static enum err to_slice(const ProtobufCBinaryData *from, struct slice *ret_slice)
{
    struct block *block = block_new(from->len);

    if (block == NULL) {
        return ERR_NOMEM;
    }
    if (from->len > 0) {
        memcpy(block->data, from->data, from->len);
    }
    *ret_slice = (struct slice){.block = block, .data = block->data, .size = block->size};
    return ERR_OK;
}

static enum err from_message(const Replicated__SnapshotFile *message, const char *path,
                             struct snapshot *ret_snapshot, struct err_info *info)
{
    struct snapshot snapshot = {.index = message->index,
                                .term = message->term,
                                .membership_index = message->membership_index};
    enum err err;

    if (message->base.n_unknown_fields > 0) {
        return err_set(info, ERR_VERSION, "'%s' was written by a newer program", path);
    }
    if (snapshot.index == 0 || snapshot.membership_index > snapshot.index) {
        return err_set(info, ERR_CORRUPT, "'%s' has impossible indexes", path);
    }
    err = to_slice(&message->membership, &snapshot.membership);
    if (err == ERR_OK) {
        err = to_slice(&message->manifest, &snapshot.manifest);
    }
    if (err != ERR_OK) {
        snapshot_fini(&snapshot);
        return err_set(info, err, "no memory for '%s'", path);
    }
    *ret_snapshot = snapshot;
    return ERR_OK;
}

/* The checksum does not cover the version. No later version may verify as this one does: so what
 * does, has just another number in its place. */
static enum err check_version(const struct buf *file, const char *path, struct err_info *info)
{
    size_t size = file->size - HEADER_SIZE;

    if (bytes_get_u32(file->data + AT_SIZE) == size &&
        bytes_get_u32(file->data + AT_CRC) == crc32c(file->data + HEADER_SIZE, size)) {
        return err_set(info, ERR_CORRUPT, "'%s' at %d: the version is damaged", path, AT_VERSION);
    }
    return err_set(info, ERR_VERSION, "'%s' has version %u; this program knows version %d", path,
                   bytes_get_u32(file->data + AT_VERSION), SNAPSHOT_VERSION);
}

static enum err parse(const struct buf *file, const char *path, struct snapshot *ret_snapshot,
                      struct err_info *info)
{
    ProtobufCMessage *message;
    enum err err;
    size_t size;

    if (file->size < HEADER_SIZE || bytes_get_u32(file->data + AT_MAGIC) != SNAPSHOT_MAGIC) {
        return err_set(info, ERR_CORRUPT, "'%s' is no snapshot", path);
    }
    size = file->size - HEADER_SIZE;
    if (bytes_get_u32(file->data + AT_VERSION) != SNAPSHOT_VERSION) {
        return check_version(file, path, info);
    }
    if (bytes_get_u32(file->data + AT_SIZE) != size) {
        return err_set(info, ERR_CORRUPT, "'%s' holds %zu bytes and should hold %u", path, size,
                       bytes_get_u32(file->data + AT_SIZE));
    }
    if (crc32c(file->data + HEADER_SIZE, size) != bytes_get_u32(file->data + AT_CRC)) {
        return err_set(info, ERR_CORRUPT, "'%s' does not match its checksum", path);
    }
    err = unpack(&replicated__snapshot_file__descriptor, file->data + HEADER_SIZE, size, &message);
    if (err != ERR_OK) {
        return err_set(info, err, err == ERR_NOMEM ? "no memory for '%s'" : "'%s' does not decode",
                       path);
    }
    err = from_message((Replicated__SnapshotFile *)message, path, ret_snapshot, info);
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

enum err snapshot_load(struct io *io, const char *dir, struct snapshot *ret_snapshot,
                       struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err = io_path(path, dir, file_name, info);

    return err == ERR_OK ? snapshot_read(io, path, ret_snapshot, info) : err;
}

enum err snapshot_read(struct io *io, const char *path, struct snapshot *ret_snapshot,
                       struct err_info *info)
{
    struct buf file;
    enum err err;

    buf_init(&file, FILE_SIZE_MAX);
    err = io_read_file(io, path, FILE_SIZE_MAX, &file, info);
    if (err == ERR_OK) {
        err = parse(&file, path, ret_snapshot, info);
    } else if (err == ERR_TOO_LARGE) {
        err = err_set(info, ERR_CORRUPT, "'%s' is larger than a snapshot can be", path);
    }
    buf_fini(&file);
    return err;
}
