#include "server/server.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/disk_yield.h"
#include "server/node.h"

/* Threads that may wait for the disk at a time; uv's own default is 4. */
#define POOL_SIZE_DEFAULT "16"

struct server {
    uv_loop_t loop;
    uv_signal_t signals[2];
    struct diag diag;
    bool stopping;
};

static void on_signal(uv_signal_t *signal, int number)
{
    struct server *self = signal->data;

    diag_event(&self->diag, DIAG_INFO, "server", "node_stopping", "signal=%d", number);
    self->stopping = true;
    uv_stop(&self->loop);
}

/* On the raft thread. What is on the disk is all that may be believed now: no clean-up. */
static void on_fatal(void *arg, enum err err, const char *text)
{
    struct server *self = arg;
    char quoted[600];
    const char *next = err == ERR_NOSPACE    ? "free space on the disk, then start the node again"
                       : err == ERR_DIVERGED ? "do not start this node again; keep its data and "
                                               "replace it by a new one"
                       : err == ERR_WRONG_DISK
                           ? "this id belongs to another disk: empty the directory, start the node "
                             "under an id that was never used with --join, and run quorlog cluster "
                             "replace"
                       : err == ERR_ID_USED ? "do not start it again; its data is no longer needed"
                       : err == ERR_CORRUPT
                           ? "check the disk; if the node does not start, replace it by a new one"
                           : "check the disk and the kernel's log, then start the node again";
    char advice[200];

    diag_event(&self->diag, DIAG_ERROR, "server", "node_failed", "reason=%s text=%s next=%s",
               err_name(err), diag_quote(quoted, sizeof quoted, text),
               diag_quote(advice, sizeof advice, next));
    _exit(1);
}

static enum err init_loop(struct server *self, struct err_info *info)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    int rv = uv_loop_init(&self->loop);

    for (size_t i = 0; i < 2 && rv == 0; i++) {
        rv = uv_signal_init(&self->loop, &self->signals[i]);
        self->signals[i].data = self;
        rv = rv != 0 ? rv : uv_signal_start(&self->signals[i], on_signal, numbers[i]);
    }
    return rv == 0 ? ERR_OK : err_set(info, ERR_IO, "start the loop: %s", uv_strerror(rv));
}

static void fini_loop(struct server *self)
{
    int rv;

    for (size_t i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&self->signals[i], NULL);
    }
    (void)uv_run(&self->loop, UV_RUN_DEFAULT); /* Until both are closed. */
    rv = uv_loop_close(&self->loop);
    ASSERT(rv == 0);
}

/* Topics keep files open: as many as the system lets us have. Returns how many that are. */
static uint64_t raise_files(void)
{
    struct rlimit limit;
    int rv = getrlimit(RLIMIT_NOFILE, &limit);

    ASSERT(rv == 0); /* The resource exists, the pointer is good. */
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};

        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised; /* Else the lower one holds; node_started tells it. */
        }
    }
    return limit.rlim_cur;
}

static void tell_started(const struct server *self, const struct config *config,
                         const struct node *node, uint64_t files_max)
{
    char data[300];

    diag_event(&self->diag, DIAG_INFO, "server", "node_started",
               "version=%s listen=%s port=%u advertise=%s cluster=%s cluster_id=%s data=%s "
               "direct_io=%s threads=%u files_max=%" PRIu64,
               QUORLOG_VERSION, config->listen, node_port(node), node->address, config->cluster,
               node->identity.cluster_id, diag_quote(data, sizeof data, config->data),
               config->direct_io, node->front_count, files_max);
}

static enum err serve(struct server *self, const struct config *config, struct io *io,
                      struct err_info *info)
{
    const struct node_options options = {.config = config,
                                         .loop = &self->loop,
                                         .diag = &self->diag,
                                         .io = io,
                                         .fatal = on_fatal,
                                         .arg = self};
    uint64_t files_max = raise_files();
    struct node *node;
    enum err err = node_start(&options, &node, info);

    if (err != ERR_OK) {
        return err;
    }
    tell_started(self, config, node, files_max);
    while (!self->stopping) {
        (void)uv_run(&self->loop, UV_RUN_DEFAULT); /* Ends with uv_stop only. */
    }
    node_stop(node);
    diag_event(&self->diag, DIAG_INFO, "server", "node_stopped", "");
    return ERR_OK;
}

enum err server_run(const struct config *config, struct err_info *info)
{
    struct server *self;
    struct disk_yield *yield;
    enum diag_level level = DIAG_INFO;
    enum err err = config_validate(config, info);
    bool known;

    if (err != ERR_OK) {
        return err;
    }
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a server");
    }
    known = diag_level_parse(config->log_level, &level);
    ASSERT(known); /* The table allows no other words. */
    diag_init_stderr(&self->diag, level, config->id);
    (void)setenv("UV_THREADPOOL_SIZE", POOL_SIZE_DEFAULT, 0); /* Or it stays at 4. */
    (void)signal(SIGPIPE, SIG_IGN);                           /* Cannot fail. */
    err = disk_yield_new(clock_real(), (uint32_t)config->read_yield_ms * 1000, &yield);
    if (err != ERR_OK) {
        free(self);
        return err_set(info, err, "no memory for a server");
    }
    err = init_loop(self, info);
    if (err == ERR_OK) {
        err = serve(self, config, disk_yield_io(yield), info);
        fini_loop(self);
    }
    disk_yield_free(yield);
    free(self);
    return err;
}
