/*
 * Manifests and the snapshot file.
 *
 * A raft snapshot holds no records: its manifest names the topics with their start, end and digest,
 * the producer table, the cursors and the applied index (proto/replicated.proto, message Manifest),
 * followed by the CRC-32C of those bytes, u32. The node's newest snapshot is the file `snapshot`:
 *
 *      0          4          8          12         16
 *      +----------+----------+----------+----------+- - - - - - - - - - - -+
 *      | magic    | version  | crc32c   | size u32 | SnapshotFile, size B  |
 *      | "QLSF"   | u32 (1)  | [16, end)|          | (protobuf)            |
 *      +----------+----------+----------+----------+- - - - - - - - - - - -+
 *      replaced as a whole (temporary file, sync, rename, sync of the directory). A later version
 * has to cover the version with its checksum, or move it: a file that verifies as this one does,
 * with another version, is damaged.
 */
#ifndef QUORLOG_RAFT_FSM_MANIFEST_H
#define QUORLOG_RAFT_FSM_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/err.h"
#include "base/io.h"
#include "raft_fsm/ages.h"
#include "raft_fsm/catalog.h"
#include "raft_fsm/command.h"
#include "raft_fsm/cursors.h"
#include "raft_fsm/message.h"
#include "raft_fsm/nodes.h"
#include "raft_fsm/producers.h"
#include "raft_fsm/topic_settings.h"

#define SNAPSHOT_MAGIC UINT32_C(0x46534c51) /* "QLSF" */

enum { MANIFEST_SIZE_MAX = 256 * 1024 * 1024 };

struct manifest_topic {
    uint64_t id;
    char name[TOPIC_NAME_SIZE_MAX + 1];
    uint64_t start;     /* the first offset of a batch */
    uint64_t log_start; /* the first record that is shown, in that batch; not below start */
    uint64_t end;
    uint8_t digest[DIGEST_SIZE];       /* of the last batch below end; zeros while end is 0 */
    uint8_t start_digest[DIGEST_SIZE]; /* … below start; zeros while that is 0 */
    int64_t created_time_us;
    struct topic_settings settings;
    struct topic_clean clean; /* clean_to <= end */
};

struct manifest {
    uint64_t applied_index;
    int64_t time_us;
    struct manifest_topic *topics; /* owned; by id */
    size_t topic_count;
    struct producers *producers; /* owned */
    struct cursors *cursors;     /* owned */
    struct nodes *nodes;         /* owned; NULL: none */
    struct ages ages;            /* owned */
};

/* Frees what the manifest owns and leaves it empty; fine on an empty one. */
void manifest_fini(struct manifest *self);

/* A second one that owns all it has. ERR_NOMEM. */
enum err manifest_copy(const struct manifest *self, struct manifest *ret_manifest);

/* The topic of this id; NULL when there is none. Borrowed. */
const struct manifest_topic *manifest_find(const struct manifest *self, uint64_t id);

/* Equal manifests give equal bytes. *ret_bytes owns a reference. ERR_NOMEM, ERR_TOO_LARGE. */
enum err manifest_encode(const struct manifest *self, struct slice *ret_bytes);

/* ERR_CORRUPT; ERR_VERSION for fields that only a newer program writes: a replica that left them
 * out would differ; ERR_NOMEM. */
enum err manifest_decode(const uint8_t *bytes, size_t size, struct manifest *ret_manifest,
                         struct err_info *info);

/* Durable when it returns OK; after an error or a crash the old snapshot or the new one is there.
 * ERR_TOO_LARGE, ERR_NOMEM, ERR_IO, ERR_NOSPACE. */
enum err snapshot_save(struct io *io, const char *dir, const struct snapshot *snapshot,
                       struct err_info *info);
/* ERR_NOT_FOUND, ERR_CORRUPT, ERR_VERSION, ERR_IO, ERR_NOMEM. *ret_snapshot owns references. The
 * manifest and the membership in it are bytes still. */
enum err snapshot_load(struct io *io, const char *dir, struct snapshot *ret_snapshot,
                       struct err_info *info);
/* The same of the file at `path`. */
enum err snapshot_read(struct io *io, const char *path, struct snapshot *ret_snapshot,
                       struct err_info *info);
void snapshot_fini(struct snapshot *self);
/* A second one with references of its own. */
void snapshot_ref(const struct snapshot *self, struct snapshot *ret_snapshot);

#endif
