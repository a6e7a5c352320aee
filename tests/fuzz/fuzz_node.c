#include "fuzz/fuzz_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "archive/backup.h"
#include "base/assert.h"
#include "fuzz/fix.h"
#include "lib/tmpdir.h"
#include "raft_fsm/fsm.h"
#include "record/record_set.h"
#include "server/node.h"
#include "server/restore.h"

enum { BATCHES = 6, APPLIED = 2 + BATCHES };

static struct {
    const char *dir;
    struct config config;
    uv_loop_t loop;
    struct diag diag;
    struct node *node;
    uint16_t port;
} self;

static void must(enum err err, const struct err_info *info)
{
    if (err != ERR_OK) {
        (void)fprintf(stderr, "the node cannot be made: %s\n", info->text);
        abort();
    }
}

/* ---- what it has ---- */

static void apply(struct fsm *fsm, uint64_t index, const struct command *command)
{
    size_t size = COMMAND_PAYLOAD_HEADER_SIZE + command_encoded_size(command);
    struct block *block = entry_block_new((uint32_t)size);
    struct entry entry;
    struct err_info info;
    size_t at;

    ASSERT(block != NULL);
    at = command_encode_header((int64_t)index * 1000000, block->data + ENTRY_HEADER_SIZE);
    (void)command_encode(command, block->data + ENTRY_HEADER_SIZE + at); /* size bytes */
    entry_seal(block, (uint32_t)size, index, 1, ENTRY_COMMAND, &entry);
    must(fsm_apply(fsm, &entry, NULL, NULL, &info), &info);
    entry_unref(&entry);
}

static struct command produce(uint64_t topic_id, unsigned record_count)
{
    const struct record record = {.value = "value", .value_size = 5, .key = "k", .key_size = 1};
    struct command command = {.type = COMMAND_PRODUCE, .produce = {.topic_id = topic_id}};
    struct batch_header header = {.record_count = record_count};
    struct buf body;

    buf_init(&body, 4096);
    for (unsigned i = 0; i < record_count; i++) {
        (void)record_set_append(&body, &record); /* fits */
    }
    header.size = (uint32_t)(BATCH_HEADER_SIZE + body.size);
    command.produce.batch.size = header.size;
    command.produce.batch.block = block_new(header.size);
    ASSERT(command.produce.batch.block != NULL);
    command.produce.batch.data = command.produce.batch.block->data;
    batch_header_encode(&header, command.produce.batch.block->data);
    memcpy(command.produce.batch.block->data + BATCH_HEADER_SIZE, body.data, body.size);
    fix_batches(command.produce.batch.block->data, header.size, NULL);
    memset(command.produce.batch.block->data + 4, 0, 4); /* Not stamped. */
    digest_bytes(body.data, body.size, command.produce.body_digest);
    buf_fini(&body);
    return command;
}

static struct fsm *make_state(const char *dir)
{
    const struct fsm_options options = {.io = io_real(), .dir = dir};
    const struct cursor_change cursor = {.topic = "t", .name = "c", .offset = 3, .metadata = "m"};
    const struct command create = {.type = COMMAND_TOPIC_CREATE, .topic_name = "t"};
    const struct command set = {.type = COMMAND_CURSOR_SET, .cursor = &cursor};
    struct err_info info;
    struct fsm *fsm;

    must(fsm_open(&options, NULL, &fsm, &info), &info);
    apply(fsm, 1, &create);
    for (unsigned i = 0; i < BATCHES; i++) {
        struct command command = produce(COMMAND_COUNT_MAX, i + 1);

        apply(fsm, 2 + i, &command);
        command_fini(&command);
    }
    apply(fsm, APPLIED, &set);
    return fsm;
}

static void back_up(struct fsm *fsm, const char *dir)
{
    struct backup_source source = {
        .cluster_id = "0123456789abcdef0123456789abcdef", .index = APPLIED, .term = 1};
    struct topic *topic = catalog_find(fsm_catalog(fsm), "t");
    struct backup_writer *writer;
    struct backup_totals totals;
    struct backup_want want;
    struct manifest manifest;
    struct slice bytes;
    struct block *batches;
    struct err_info info;
    uint64_t end;
    bool wanted;

    ASSERT(topic != NULL);
    must(fsm_manifest(fsm, &manifest), &info);
    must(manifest_encode(&manifest, &bytes), &info);
    manifest_fini(&manifest);
    source.manifest = bytes.data;
    source.manifest_size = bytes.size;
    must(backup_begin(io_real(), dir, &source, &writer, &info), &info);
    must(backup_next(writer, &wanted, &want, &info), &info);
    must(log_read(topic->log, 0, UINT64_MAX, 1 << 20, &batches, &end, &info), &info);
    must(backup_add(writer, batches->data, batches->size, &info), &info);
    must(backup_next(writer, &wanted, &want, &info), &info);
    ASSERT(!wanted);
    must(backup_end(writer, &totals, &info), &info);
    block_unref(batches);
    block_unref(bytes.block);
    topic_unref(topic);
}

/* ---- the node ---- */

static void set(const char *name, const char *value)
{
    struct err_info info;

    must(config_set_flag(&self.config, name, value, &info), &info);
}

static void on_fatal(void *arg, enum err err, const char *text)
{
    (void)arg;
    (void)fprintf(stderr, "the node failed: %s: %s\n", err_name(err), text);
    abort();
}

static void stop(void)
{
    int rv;

    node_stop(self.node);
    rv = uv_loop_close(&self.loop);
    ASSERT(rv == 0);
    tmpdir_remove(self.dir);
}

static void start(void)
{
    const struct node_options options = {.config = &self.config,
                                         .loop = &self.loop,
                                         .diag = &self.diag,
                                         .io = io_real(),
                                         .fatal = on_fatal};
    struct restore_request request = {.config = &self.config};
    struct restored restored;
    struct err_info info;
    struct fsm *fsm;
    char path[300];
    int rv = uv_loop_init(&self.loop);

    ASSERT(rv == 0);
    self.dir = tmpdir_new();
    must(io_make_dir(io_real(), self.dir, "state", &info), &info);
    (void)snprintf(path, sizeof path, "%s/state", self.dir); /* fits */
    fsm = make_state(path);
    (void)snprintf(path, sizeof path, "%s/backup", self.dir); /* fits */
    back_up(fsm, path);
    fsm_close(fsm);
    request.backup = path;
    config_init(&self.config);
    (void)snprintf(self.config.data, sizeof self.config.data, "%s/data", self.dir); /* fits */
    set("bootstrap", "1=127.0.0.1:1,2=127.0.0.1:2,3=127.0.0.1:3"); /* Nobody listens there. */
    set("listen", "127.0.0.1:0");
    set("threads", "1");
    set("journal_segment_size", "1M");
    set("log_level", "error");
    must(server_restore(io_real(), &request, &restored, &info), &info);
    set("cluster", restored.cluster);
    diag_init_stderr(&self.diag, DIAG_ERROR, 1);
    must(node_start(&options, &self.node, &info), &info);
    self.port = node_port(self.node);
    rv = atexit(stop);
    ASSERT(rv == 0);
}

uint16_t fuzz_node_port(void)
{
    if (self.node == NULL) {
        start();
    }
    return self.port;
}

void fuzz_node_turn(void)
{
    (void)uv_run(&self.loop, UV_RUN_NOWAIT); /* What comes later is for a later turn. */
}

unsigned fuzz_node_sockets(void)
{
    return atomic_load(&self.node->sockets);
}
