#include "server/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "server/front.h"
#include "server/hello.h"
#include "server/join.h"

enum {
    FRONTS_DEFAULT_MAX = 4,
    SOCKETS_BEYOND_CLIENTS = 256, /* nodes, and connections that have not said hello */
    FRAME_OVERHEAD = 1 << 20,     /* of a message of one batch, and more entries' headers */
};

/* ---- events of the group, on its thread ---- */

/* One event a change. leader=0: none is known, an election is under way. */
static void tell_leader(struct node *self, const struct replica_status *status)
{
    if (status->leader_id == self->leader_id &&
        (status->leader_id == 0 || status->term == self->leader_term)) {
        return;
    }
    self->leader_id = status->leader_id;
    self->leader_term = status->term;
    diag_event(self->diag, DIAG_INFO, "server", "leader_changed",
               "term=%" PRIu64 " leader=%" PRIu64, status->term, status->leader_id);
}

static void on_published(void *arg, const struct replica_status *status)
{
    struct node *self = arg;

    tell_leader(self, status);
    if (atomic_load_explicit(&self->started_index, memory_order_relaxed) == 0) {
        atomic_store_explicit(&self->started_index, status->last_index, memory_order_relaxed);
    }

    for (unsigned i = 0; i < self->front_count; i++) {
        front_published(&self->fronts[i]);
    }
    if (node_lookup(self) != NULL) {
        lookup_wake(node_lookup(self));
    }
}

static void on_fatal(void *arg, enum err err, const char *text)
{
    struct node *self = arg;

    self->fatal(self->arg, err, text);
}

static void on_hello(void *arg, struct conn *conn, uint64_t to, uint64_t to_disk)
{
    struct node *self = arg;

    /* Without a hello the other side ends the connection, and the link tries again. */
    (void)hello_send(&self->identity, conn, HELLO_PEER, to, to_disk);
}

static enum err on_hello_reply(void *arg, const struct frame *frame, uint64_t to,
                               uint64_t *ret_disk, struct err_info *info)
{
    struct node *self = arg;
    enum err err = hello_check_reply(&self->identity, frame, to, ret_disk, info);

    if (err == ERR_WRONG_DISK || err == ERR_ID_USED) {
        /* A member told us: we are not who we say, or no member any more. Clients should not go on
         * reading here what no longer grows. */
        self->fatal(self->arg, err, info->text);
    }
    return err;
}

/* Anybody can say so, and a node that has applied entries does not believe it: it is told by those
 * whom it dials itself. But one that has joined dials nobody. */
void node_disk_refused(struct node *self, const struct err_info *info)
{
    ASSERT(info->code == ERR_WRONG_DISK);
    if (group_applied_index(self->group) <= 1) {
        self->fatal(self->arg, info->code, info->text);
    }
}

/* ---- the listener ---- */

static void on_accepted(void *arg, int fd)
{
    struct node *self = arg;
    uint64_t sockets_max = self->config->connections_max + SOCKETS_BEYOND_CLIENTS;

    ASSERT(self->front_count > 0);
    if (atomic_fetch_add(&self->sockets, 1) >= sockets_max) {
        atomic_fetch_sub(&self->sockets, 1);
        (void)close(fd); /* Nothing was said on it. */
        diag_event(self->diag, DIAG_WARN, "server", "connection_dropped", "reason=LIMIT");
        return;
    }
    front_accept(&self->fronts[self->front_next], fd);
    self->front_next = (self->front_next + 1) % self->front_count;
}

static void on_listener_failed(void *arg, enum err err, const char *text)
{
    struct node *self = arg;
    char quoted[300];

    diag_event(self->diag, DIAG_WARN, "server", "accept_failed", "reason=%s text=%s", err_name(err),
               diag_quote(quoted, sizeof quoted, text));
}

static void on_listener_closed(void *arg)
{
    struct node *self = arg;

    self->listener = NULL;
}

bool node_has_read_log(const struct node *self, uint64_t *ret_index)
{
    uint64_t started_index = atomic_load_explicit(&self->started_index, memory_order_relaxed);

    ASSERT(self->group != NULL);
    *ret_index = started_index;
    return group_applied_index(self->group) >= started_index;
}

struct lookup *node_lookup(struct node *self)
{
    return atomic_load_explicit(&self->lookup, memory_order_acquire);
}

uint16_t node_port(const struct node *self)
{
    ASSERT(self->listener != NULL);
    return listener_port(self->listener);
}

/* ---- start ---- */

static enum err open_listener(struct node *self, struct err_info *info)
{
    static const struct listener_events events = {
        .accepted = on_accepted, .failed = on_listener_failed, .closed = on_listener_closed};
    uv_loop_t *loop = self->loop;
    char host[256];
    char port[8];
    enum err err = listener_open(loop, self->config->listen, &events, self, &self->listener, info);

    if (err != ERR_OK) {
        return err_prefix(info, err, "listen");
    }
    config_advertised(self->config, self->address);
    err = address_split(self->address, host, port, info);
    if (err == ERR_OK && strcmp(port, "0") == 0) {
        (void)snprintf(self->address, sizeof self->address, "%s%.240s%s:%u",
                       strchr(host, ':') != NULL ? "[" : "", host,
                       strchr(host, ':') != NULL ? "]" : "", listener_port(self->listener));
    }
    memcpy(self->identity.address, self->address, sizeof self->identity.address);
    return err;
}

/* The disk's id, and the cluster's where it is not known yet. */
static enum err identify(struct node *self, struct err_info *info)
{
    char dir[IO_PATH_SIZE];
    char cluster_id[CLUSTER_ID_SIZE];
    enum err err = io_make_dir(self->io, self->config->data, "group-1", info);

    err = err != ERR_OK ? err : io_path(dir, self->config->data, "group-1", info);
    err = err != ERR_OK ? err
                        : identity_open_disk(&self->identity, dir,
                                             self->clock->random(self->clock) | 1, info);
    if (err != ERR_OK || self->identity.cluster_id[0] != '\0') {
        return err;
    }
    err = join_learn(self->loop, self->config, &self->identity, cluster_id, info);
    return err != ERR_OK
               ? err
               : identity_adopt(&self->identity, self->config, IDENTITY_JOIN, cluster_id, info);
}

static enum err start_group(struct node *self, struct err_info *info)
{
    const struct config *config = self->config;
    const struct group_events events = {.arg = self,
                                        .published = on_published,
                                        .fatal = on_fatal,
                                        .hello = on_hello,
                                        .hello_reply = on_hello_reply};
    struct membership bootstrap;
    char dir[IO_PATH_SIZE];
    struct group_options options = {
        .replica = {.id = config->id,
                    .disk_id = self->identity.disk_id,
                    .address = self->address,
                    .dir = dir,
                    .bootstrap = self->identity.origin == IDENTITY_BOOTSTRAP ? &bootstrap : NULL,
                    .heartbeat_ms = (unsigned)config->heartbeat_ms,
                    .election_ms = (unsigned)config->election_ms,
                    .snapshot_size = config->snapshot_size,
                    .scrub_rate = config->scrub_rate,
                    .compact_rate = config->compact_rate,
                    .compact_memory = config->compact_memory,
                    .retention_interval_ms = (unsigned)config->retention_interval_ms,
                    .trailing_size = config->trailing_size,
                    .inflight_size_max = config->inflight_size,
                    .journal_segment_size = config->journal_segment_size,
                    .segment_size_max = config->segment_size,
                    .files = self->files,
                    .fill_rate = config->fill_rate,
                    .disk_reserve =
                        config->disk_reserve != 0 ? config->disk_reserve : REPLICA_RESERVE_DEFAULT,
                    .no_direct = strcmp(config->direct_io, "off") == 0},
        .cluster_id = self->identity.cluster_id,
        .diag = self->diag,
        .io = self->io,
        .mailbox_size_max = config->mailbox_size,
        .frame_size_max = config->frame_size_max + FRAME_OVERHEAD,
        .stall_us = config->stall_warn_ms * 1000,
    };
    enum err err = config_membership(config, &bootstrap, info);

    if (err == ERR_OK && config->bootstrap[0] == '\0') {
        (void)snprintf(bootstrap.members[0].address, MEMBER_ADDRESS_SIZE, "%s", self->address);
    }
    err = err != ERR_OK ? err : io_path(dir, config->data, "group-1", info);
    return err != ERR_OK ? err : group_start(&options, &events, &self->group, info);
}

/* How many files this process may open. */
static uint64_t files_max(void)
{
    struct rlimit limit;
    int rv = getrlimit(RLIMIT_NOFILE, &limit);

    ASSERT(rv == 0); /* The resource exists, the pointer is good. */
    return limit.rlim_cur;
}

/* Before anything was published it is not known what the journal holds. */
static bool is_settled(void *arg)
{
    struct node *self = arg;
    uint64_t index;

    return atomic_load_explicit(&self->started_index, memory_order_relaxed) != 0 &&
           node_has_read_log(self, &index);
}

static enum err start_lookup(struct node *self, struct err_info *info)
{
    struct lookup_options options = {
        .io = self->io,
        .diag = self->diag,
        .catalog = group_catalog(self->group),
        .dir = self->config->data,
        .node_id = self->config->id,
        .settled = is_settled,
        .arg = self,
        .build_rate = self->config->index_build_rate,
        .check_ms = self->config->index_check_ms,
    };
    struct lookup *lookup;
    enum err err = lookup_start(&options, &lookup, info);

    if (err == ERR_OK) {
        atomic_store_explicit(&self->lookup, lookup, memory_order_release);
    }
    return err;
}

static unsigned default_fronts(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return cores < 1 ? 1 : (cores > FRONTS_DEFAULT_MAX ? FRONTS_DEFAULT_MAX : (unsigned)cores);
}

static enum err start_fronts(struct node *self, struct err_info *info)
{
    enum err err = ERR_OK;

    self->requests_size_max = self->config->requests_size_max / self->front_count;
    for (unsigned i = 0; i < self->front_count && err == ERR_OK; i++) {
        err = front_start(&self->fronts[i], self, info);
        self->started_count += err == ERR_OK ? 1 : 0;
    }
    return err;
}

static void stop_listener(struct node *self)
{
    if (self->listener == NULL) {
        return;
    }
    listener_close(self->listener);
    while (self->listener != NULL) {
        (void)uv_run(self->loop, UV_RUN_ONCE); /* Whether more is to come is not of interest. */
    }
}

enum err node_start(const struct node_options *options, struct node **ret_node,
                    struct err_info *info)
{
    struct node *self = calloc(1, sizeof *self);
    enum err err;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a node");
    }
    ASSERT(options->fatal != NULL);
    self->config = options->config;
    self->loop = options->loop;
    self->diag = options->diag;
    self->io = options->io;
    self->fatal = options->fatal;
    self->arg = options->arg;
    self->clock = clock_real();
    self->started_ms = clock_monotonic_ms(self->clock);
    err = identity_open(&self->identity, self->io, self->config, info);
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    self->files = file_cache_new_for(files_max(), self->config->file_cache_size);
    self->front_count =
        self->config->threads == 0 ? default_fronts() : (unsigned)self->config->threads;
    self->fronts = calloc(self->front_count, sizeof *self->fronts);
    err = self->fronts == NULL || self->files == NULL
              ? err_set(info, ERR_NOMEM, "no memory for a node")
              : ERR_OK;
    err = err != ERR_OK ? err : identify(self, info);
    err = err != ERR_OK ? err : open_listener(self, info);
    err = err != ERR_OK ? err : start_group(self, info);
    err = err != ERR_OK ? err : start_lookup(self, info);
    err = err != ERR_OK ? err : start_fronts(self, info);
    if (err != ERR_OK) {
        node_stop(self);
        return err;
    }
    *ret_node = self;
    return ERR_OK;
}

void node_stop(struct node *self)
{
    stop_listener(self);
    for (unsigned i = 0; i < self->started_count; i++) {
        front_stop(&self->fronts[i]);
    }
    if (self->group != NULL) {
        group_stop(self->group, self->config->transfer_ms);
    }
    for (unsigned i = 0; i < self->started_count; i++) {
        front_finish(&self->fronts[i]);
    }
    ASSERT(atomic_load(&self->sockets) == 0);
    lookup_stop(node_lookup(self));
    if (self->group != NULL) {
        group_free(self->group);
    }
    identity_close(&self->identity);
    file_cache_unref(self->files);
    free(self->fronts);
    free(self);
}
