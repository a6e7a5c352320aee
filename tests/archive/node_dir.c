#include "archive/node_dir.h"

#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/identity_file.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/fsm.h"
#include "raft_fsm/history.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/manifest.h"
#include "raft_fsm/membership.h"
#include "raft_fsm/raft_disk.h"
#include "record/compact_log.h"
#include "record/record_set.h"

enum { TERM = 3 };

static const char cluster_id[] = "0123456789abcdef0123456789abcdef";

/* A node while it writes. */
struct writer {
    struct io *io;
    struct journal *journal;
    struct fsm *fsm;
    struct slice membership;
    uint64_t next_index;
    uint64_t seed;
    unsigned members;
};

static struct err_info failure;

static void must(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), failure.text);
}

/* ---- writing ---- */

static struct slice members_of(unsigned count)
{
    struct membership membership = {0};
    struct slice slice;

    for (unsigned i = 1; i <= count; i++) {
        char address[16];

        snprintf(address, sizeof address, "n%u:7437", i);
        must(membership_add(&membership, i, address, MEMBER_VOTER));
    }
    slice.size = membership_encoded_size(&membership);
    slice.block = block_new(slice.size);
    ck_assert_ptr_nonnull(slice.block);
    membership_encode(&membership, slice.block->data);
    slice.data = slice.block->data;
    return slice;
}

static void commit(struct writer *self, struct entry *entry)
{
    must(journal_append(self->journal, entry, 1, &failure));
    must(fsm_apply(self->fsm, entry, NULL, NULL, &failure));
    entry_unref(entry);
    self->next_index++;
}

static void commit_members(struct writer *self)
{
    struct block *block = entry_block_new((uint32_t)self->membership.size);
    struct entry entry;

    ck_assert_ptr_nonnull(block);
    memcpy(block->data + ENTRY_HEADER_SIZE, self->membership.data, self->membership.size);
    entry_seal(block, (uint32_t)self->membership.size, self->next_index, TERM, ENTRY_CHANGE,
               &entry);
    commit(self, &entry);
}

static void commit_packer(struct writer *self, struct packer *packer)
{
    struct entry entry = packer_entry(packer, self->next_index, TERM);

    commit(self, &entry);
}

static uint64_t make_topic(struct writer *self, const char *name)
{
    struct packer packer;
    uint64_t id = self->next_index * COMMAND_COUNT_MAX;

    packer_begin(&packer, (int64_t)self->next_index * 1000);
    packer_create(&packer, name);
    commit_packer(self, &packer);
    return id;
}

static void bind_node(struct writer *self)
{
    struct packer packer;

    packer_begin(&packer, (int64_t)self->next_index * 1000);
    packer.commands[packer.count++] =
        (struct command){.type = COMMAND_NODE_BIND, .node = {.id = 1, .disk_id = NODE_DIR_DISK}};
    commit_packer(self, &packer);
}

static struct slice make_batch(struct writer *self, uint64_t number)
{
    char value[200];
    struct record record = {.value = value, .key = "key", .key_size = 3};
    struct batch_header header = {.record_count = 2};
    struct block *block;
    struct buf body;

    buf_init(&body, 1 << 16);
    record.value_size = (size_t)snprintf(value, sizeof value, "%" PRIu64 "-%" PRIu64 "-%0150d",
                                         self->seed, number, 7);
    must(record_set_append(&body, &record));
    must(record_set_append(&body, &record));
    header.size = (uint32_t)(BATCH_HEADER_SIZE + body.size);
    header.body_crc32c = crc32c(body.data, body.size);
    block = block_new(header.size);
    ck_assert_ptr_nonnull(block);
    batch_header_encode(&header, block->data);
    bytes_put_u32(block->data + 4, 0); /* header_crc32c is stamped later */
    memcpy(block->data + BATCH_HEADER_SIZE, body.data, body.size);
    buf_fini(&body);
    return (struct slice){.block = block, .data = block->data, .size = block->size};
}

static void produce(struct writer *self, uint64_t topic_id, unsigned count)
{
    struct packer packer;

    packer_begin(&packer, (int64_t)self->next_index * 1000);
    for (unsigned i = 0; i < count; i++) {
        struct command *command = &packer.commands[packer.count++];

        *command = (struct command){.type = COMMAND_PRODUCE};
        command->produce.topic_id = topic_id;
        command->produce.batch = make_batch(self, self->next_index * 100 + i);
        digest_bytes(command->produce.batch.data + BATCH_HEADER_SIZE,
                     command->produce.batch.size - BATCH_HEADER_SIZE, command->produce.body_digest);
    }
    commit_packer(self, &packer);
}

static void take_snapshot(struct writer *self)
{
    struct snapshot snapshot = {.index = self->next_index - 1, .term = TERM, .membership_index = 1};
    struct manifest manifest;
    struct fsm_sync *sync = NULL;

    must(fsm_manifest(self->fsm, &manifest));
    must(manifest_encode(&manifest, &snapshot.manifest));
    manifest_fini(&manifest);
    must(fsm_sync_begin(self->fsm, &sync));
    ck_assert_ptr_nonnull(sync);
    must(fsm_sync_run(sync, &failure));
    must(fsm_sync_end(self->fsm, sync));
    snapshot.membership = self->membership;
    block_ref(snapshot.membership.block);
    must(snapshot_save(self->io, NODE_DIR_GROUP, &snapshot, &failure));
    snapshot_fini(&snapshot);
}

static void write_history(struct node_dir *dir, struct writer *self)
{
    uint64_t a;
    uint64_t b;
    uint64_t c;

    commit_members(self);
    a = make_topic(self, "a");
    b = make_topic(self, "b");
    bind_node(self);
    for (unsigned i = 0; i < 12; i++) {
        produce(self, a, 4);
        produce(self, b, 3);
    }
    dir->a_end = 12 * 4 * 2;
    dir->b_end = 12 * 3 * 2;
    take_snapshot(self);
    c = make_topic(self, "c");
    for (unsigned i = 0; i < 4; i++) {
        produce(self, a, 3);
        produce(self, b, 3);
        produce(self, c, 4);
    }
    dir->a_last = dir->a_end + 4 * 3 * 2;
    dir->b_last = dir->b_end + 4 * 3 * 2;
    snprintf(dir->a, sizeof dir->a, NODE_DIR_GROUP "/topics/a-%" PRIu64, a);
    snprintf(dir->b, sizeof dir->b, NODE_DIR_GROUP "/topics/b-%" PRIu64, b);
    snprintf(dir->c, sizeof dir->c, NODE_DIR_GROUP "/topics/c-%" PRIu64, c);
}

static struct journal_options journal_options_for(struct io *io)
{
    return (struct journal_options){.io = io,
                                    .dir = NODE_DIR_GROUP "/journal",
                                    .node_id = 1,
                                    .segment_size = NODE_DIR_JOURNAL_SIZE,
                                    .seed = 99};
}

static struct fsm_options fsm_options_for(struct io *io, bool holes_allowed)
{
    return (struct fsm_options){.io = io,
                                .dir = NODE_DIR_GROUP "/topics",
                                .segment_size_max = NODE_DIR_SEGMENT_SIZE,
                                .index_interval = 256,
                                .holes_allowed = holes_allowed};
}

static void write_small_files(struct node_dir *self)
{
    struct identity_record record = {.cluster = "quorlog", .node_id = 1, .origin = IDENTITY_JOIN};
    char identity[IDENTITY_FILE_SIZE_MAX];
    char disk[DISK_FILE_SIZE + 1];
    size_t size;

    memcpy(record.cluster_id, cluster_id, sizeof cluster_id);
    size = identity_encode(&record, identity);
    node_dir_write(self, NODE_DIR "/identity", identity, size);
    node_dir_write(self, NODE_DIR "/lock", "", 0);
    disk_encode(NODE_DIR_DISK, disk);
    node_dir_write(self, NODE_DIR_GROUP "/disk", disk, DISK_FILE_SIZE);
}

void node_dir_make(struct node_dir *self, unsigned members, uint64_t seed)
{
    mem_io_init(&self->disk);
    node_dir_make_on(self, &self->disk.io, members, seed);
}

void node_dir_make_on(struct node_dir *self, struct io *io, unsigned members, uint64_t seed)
{
    struct writer writer = {.io = io, .next_index = 1, .seed = seed, .members = members};
    const struct journal_options journal_options = journal_options_for(io);
    const struct fsm_options fsm_options = fsm_options_for(io, members > 1);
    struct journal_contents contents;
    struct ballot ballot;

    self->io = io;
    must(io_make_dir(io, "/", "data", &failure));
    must(io_make_dir(io, NODE_DIR, "group-1", &failure));
    must(io_make_dir(io, NODE_DIR_GROUP, "journal", &failure));
    must(io_make_dir(io, NODE_DIR_GROUP, "topics", &failure));
    write_small_files(self);
    must(ballot_open(&ballot, io, NODE_DIR_GROUP, 1, true, &failure));
    must(ballot_write(&ballot, TERM, 1, &failure));
    ballot_close(&ballot);
    must(journal_open(&journal_options, &writer.journal, &contents, &failure));
    journal_contents_fini(&contents);
    must(fsm_open(&fsm_options, NULL, &writer.fsm, &failure));
    writer.membership = members_of(members);
    write_history(self, &writer);
    fsm_close(writer.fsm);
    journal_close(writer.journal);
    block_unref(writer.membership.block);
}

void node_dir_fini(struct node_dir *self)
{
    mem_io_fini(&self->disk);
}

uint64_t node_dir_compact(struct node_dir *self, uint64_t clean_to)
{
    const struct log_options options = {.io = self->io,
                                        .dir = self->a,
                                        .durable_end = self->a_last,
                                        .segment_size_max = NODE_DIR_SEGMENT_SIZE};
    const struct compact_log_options compact = {.clean_to = clean_to, .group_max = 2};
    struct log_report report;
    struct log *log;
    uint64_t cleaned_to;

    must(log_open(&options, &log, &report, &failure));
    cleaned_to = compact_log(log, &compact);
    log_close(log);
    return cleaned_to;
}

/* ---- starting ---- */

struct start {
    struct io *io;
    struct snapshot snapshot;
    struct journal *journal;
    struct journal_contents contents;
    struct ballot ballot;
    struct fsm *fsm;
};

static bool has_peers(const struct start *self)
{
    struct membership members;

    return self->snapshot.index != 0 &&
           membership_decode(self->snapshot.membership.data, self->snapshot.membership.size,
                             &members, NULL) == ERR_OK &&
           members.count > 1;
}

static enum err check_together(const struct start *self, bool *ret_void, struct err_info *info)
{
    const struct raft_driver_disk disk = {
        .term = self->ballot.term,
        .vote = self->ballot.vote,
        .snapshot = self->snapshot.index != 0 ? &self->snapshot : NULL,
        .first_index = self->contents.first_index,
        .entries = self->contents.entries,
        .count = self->contents.count,
    };
    enum err err = raft_disk_check(&disk, info);

    *ret_void = err == ERR_OK && raft_disk_journal_is_void(&disk);
    return err;
}

static enum err open_state(struct start *self, struct err_info *info)
{
    const struct fsm_options options = fsm_options_for(self->io, has_peers(self));
    struct manifest manifest = {0};
    enum err err = ERR_OK;

    if (self->snapshot.index != 0) {
        err = manifest_decode(self->snapshot.manifest.data, self->snapshot.manifest.size, &manifest,
                              info);
    }
    if (err == ERR_OK) {
        err = fsm_open(&options, self->snapshot.index != 0 ? &manifest : NULL, &self->fsm, info);
        manifest_fini(&manifest);
    }
    return err;
}

static enum err start(struct start *self, struct err_info *info)
{
    const struct journal_options options = journal_options_for(self->io);
    bool journal_void = false;
    enum err err = snapshot_load(self->io, NODE_DIR_GROUP, &self->snapshot, info);

    err = err == ERR_NOT_FOUND ? ERR_OK : err;
    err = err == ERR_OK ? journal_open(&options, &self->journal, &self->contents, info) : err;
    err =
        err == ERR_OK ? ballot_open(&self->ballot, self->io, NODE_DIR_GROUP, 1, false, info) : err;
    err = err == ERR_OK ? check_together(self, &journal_void, info) : err;
    err = err == ERR_OK ? open_state(self, info) : err;
    for (size_t i = 0; i < self->contents.count && err == ERR_OK && !journal_void; i++) {
        if (self->contents.entries[i].index > self->snapshot.index) {
            err = fsm_apply(self->fsm, &self->contents.entries[i], NULL, NULL, info);
        }
    }
    return err;
}

enum err node_dir_start(struct node_dir *self, uint64_t *ret_missing, struct err_info *info)
{
    struct start node = {.io = self->io, .ballot = {.io = self->io, .fd = -1}};
    struct identity_record record;
    struct fsm_holes holes = {0};
    uint64_t size;
    uint8_t *identity = node_dir_read(self, NODE_DIR "/identity", &size);
    enum err err = identity_decode(NODE_DIR "/identity", identity, size, &record, info);

    free(identity);
    err = err == ERR_OK ? start(&node, info) : err;
    if (node.fsm != NULL) {
        fsm_holes(node.fsm, &holes);
        fsm_close(node.fsm);
    }
    if (node.journal != NULL) {
        journal_close(node.journal);
        journal_contents_fini(&node.contents);
    }
    ballot_close(&node.ballot);
    snapshot_fini(&node.snapshot);
    *ret_missing = holes.missing;
    return err;
}

/* ---- files ---- */

uint8_t *node_dir_read(struct node_dir *self, const char *path, uint64_t *ret_size)
{
    struct buf file;

    buf_init(&file, 1 << 24);
    must(io_read_file(self->io, path, 1 << 23, &file, &failure));
    must(buf_append(&file, "", 1)); /* Never NULL. */
    *ret_size = file.size - 1;
    return file.data;
}

void node_dir_write(struct node_dir *self, const char *path, const void *data, uint64_t size)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    int fd = -1;

    must(io_open(self->io, path, O_RDWR | O_CREAT | O_TRUNC, &fd, &failure));
    if (size > 0) {
        must(io_write(self->io, fd, path, &part, 1, 0, 0, &failure));
    }
    io_close(self->io, &fd);
}

void node_dir_remove(struct node_dir *self, const char *path)
{
    ck_assert_int_eq(self->io->unlink(self->io, path), 0);
}

void node_dir_flip(struct node_dir *self, const char *path, uint64_t position, unsigned bit)
{
    ck_assert_int_eq(mem_io_flip(&self->disk, path, position, bit), 0);
}

struct search {
    const char *begin;
    const char *end;
    unsigned left;
    bool found;
    char *path;
    uint64_t *size;
};

static void look(void *arg, const char *path, uint64_t size)
{
    struct search *search = arg;
    size_t length = strlen(path);
    size_t tail = strlen(search->end);

    if (search->found || strncmp(path, search->begin, strlen(search->begin)) != 0 ||
        length < tail || strcmp(path + length - tail, search->end) != 0) {
        return;
    }
    if (search->left > 0) {
        search->left--;
        return;
    }
    search->found = true;
    snprintf(search->path, IO_PATH_SIZE, "%s", path);
    *search->size = size;
}

bool node_dir_find(struct node_dir *self, const char *begin, const char *end, unsigned nth,
                   char ret_path[IO_PATH_SIZE], uint64_t *ret_size)
{
    struct search search = {
        .begin = begin, .end = end, .left = nth, .path = ret_path, .size = ret_size};

    mem_io_files(&self->disk, look, &search);
    return search.found;
}
