/*
 * quorlog dev: a whole cluster on the loopback interface, each node a process of its own.
 *
 * The parent starts the nodes, waits until they have a leader, tells what to try next, and then
 * does what a supervisor does: a node that ends is started again after two seconds. Ctrl-C or
 * SIGTERM ends all of them; should the parent die, the kernel does (PR_SET_PDEATHSIG).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "quorlog.pb-c.h"

enum { NODES_MAX = 7, RESTART_MS = 2000, ASK_MS = 100, STOP_MS = 10000 };

static const struct option_spec options[] = {
    {"nodes", 'n', "N", false, "1, or 3 to 7; default 3"},
    {"dir", 'd', "DIR", false, "data and logs of all nodes; default ./quorlog-dev"},
    {"port", 'p', "PORT", false, "of node 1; node i has PORT+i-1; default 7437"},
    {NULL, 0, NULL, false, NULL},
};

static const char details[] =
    "Stays in the foreground; Ctrl-C ends the cluster, its data stay. Kill a node as you like: it\n"
    "is started again after two seconds.\n";

struct dev;

struct node {
    struct dev *dev;
    unsigned id;
    pid_t pid;        /* 0: not running */
    uv_timer_t timer; /* until it is started again */
};

struct dev {
    unsigned count;
    unsigned port;
    char dir[PATH_MAX];
    char cluster[64];
    char bootstrap[NODES_MAX * 32];
    char program[PATH_MAX];
    uv_loop_t loop;
    struct node nodes[NODES_MAX];
    uv_signal_t child;
    uv_signal_t interrupt;
    uv_signal_t terminate;
    uv_timer_t ask;
    uv_timer_t give_up;
    struct client *client;
    bool asking;
    bool told;
    bool stopping;
    bool failed;
};

/* ---- nodes ---- */

static void exec_node(const struct node *node)
{
    const struct dev *dev = node->dev;
    char listen[32];
    char id[8];
    char data[PATH_MAX + 16];
    char log[PATH_MAX + 16];
    int fd;

    (void)snprintf(listen, sizeof listen, "127.0.0.1:%u", dev->port + node->id - 1); /* fits */
    (void)snprintf(id, sizeof id, "%u", node->id);                                   /* fits */
    (void)snprintf(data, sizeof data, "%s/node%u", dev->dir, node->id);              /* fits */
    (void)snprintf(log, sizeof log, "%s/node%u.log", dev->dir, node->id);            /* fits */
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0) {
        _exit(EXIT_FAILED);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* Never fails for a signal that exists. */
    (void)setpgid(0, 0);                    /* Ctrl-C is for the parent, which ends us in order. */
    (void)execl(dev->program, "quorlog", "serve", "--id", id, "--listen", listen, "--data", data,
                "--bootstrap", dev->bootstrap, "--cluster", dev->cluster, (char *)NULL);
    _exit(EXIT_FAILED);
}

static void start_node(struct node *node)
{
    sigset_t none;
    pid_t pid;

    ASSERT(node->pid == 0);
    pid = fork();
    if (pid == 0) {
        (void)sigemptyset(&none); /* Never fails. */
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        exec_node(node);
    }
    if (pid < 0) {
        (void)fail("node %u cannot be started: %s", node->id, strerror(errno));
        return;
    }
    node->pid = pid;
}

static void on_restart(uv_timer_t *timer)
{
    struct node *node = timer->data;

    if (node->dev->stopping) {
        return;
    }
    start_node(node);
    if (node->pid == 0) {
        (void)uv_timer_start(timer, on_restart, RESTART_MS, 0); /* Never fails so. */
        return;
    }
    printf("node %u started again, pid %d\n", node->id, (int)node->pid);
    (void)fflush(stdout); /* Decoration. */
}

static void close_all(struct dev *dev);

static unsigned running(const struct dev *dev)
{
    unsigned count = 0;

    for (unsigned i = 0; i < dev->count; i++) {
        count += dev->nodes[i].pid != 0 ? 1 : 0;
    }
    return count;
}

/* The last line of the node's log says why it ended. */
static void tell_why(const struct node *node)
{
    const struct dev *dev = node->dev;
    char path[PATH_MAX + 16];
    char tail[2048];
    char *line = tail;
    ssize_t size = -1;
    int fd;

    (void)snprintf(path, sizeof path, "%s/node%u.log", dev->dir, node->id); /* fits */
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        off_t end = lseek(fd, 0, SEEK_END);

        size = pread(fd, tail, sizeof tail - 1, end > 2047 ? end - 2047 : 0);
        (void)close(fd); /* Only read. */
    }
    tail[size > 0 ? size : 0] = '\0';
    while (size > 0 && tail[size - 1] == '\n') {
        tail[--size] = '\0';
    }
    line = strrchr(tail, '\n') != NULL ? strrchr(tail, '\n') + 1 : tail;
    line += strncmp(line, "quorlog: ", 9) == 0 ? 9 : 0;
    (void)fail("node %u could not start: %s (its log: %s)", node->id, line, path);
}

/* A node that ended. */
static void on_exit_of(struct node *node, int status)
{
    struct dev *dev = node->dev;

    node->pid = 0;
    if (dev->stopping) {
        return;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) != EXIT_OK && !dev->told) {
        tell_why(node); /* It could not even start. */
        dev->failed = true;
        (void)raise(SIGTERM); /* To ourselves: never fails. */
        return;
    }
    if (WIFSIGNALED(status)) {
        printf("node %u was killed by signal %d; it starts again in %d s\n", node->id,
               WTERMSIG(status), RESTART_MS / 1000);
    } else {
        printf("node %u ended with code %d; it starts again in %d s\n", node->id,
               WEXITSTATUS(status), RESTART_MS / 1000);
    }
    (void)fflush(stdout);                                          /* Decoration. */
    (void)uv_timer_start(&node->timer, on_restart, RESTART_MS, 0); /* Never fails so. */
}

static void on_child(uv_signal_t *handle, int number)
{
    struct dev *dev = handle->data;

    (void)number;
    for (unsigned i = 0; i < dev->count; i++) {
        int status;

        if (dev->nodes[i].pid != 0 && waitpid(dev->nodes[i].pid, &status, WNOHANG) > 0) {
            on_exit_of(&dev->nodes[i], status);
        }
    }
    if (dev->stopping && running(dev) == 0) {
        close_all(dev);
    }
}

/* ---- until there is a leader ---- */

static void tell(struct dev *dev, const Quorlog__StatusReply *status)
{
    printf("%u node%s, cluster '%s', leader: node %llu, durability: fsync on a majority\n",
           dev->count, dev->count == 1 ? "" : "s", dev->cluster,
           (unsigned long long)status->leader_id);
    for (unsigned i = 0; i < dev->count; i++) {
        printf("  node %u  127.0.0.1:%u  pid %-7d  %s/node%u\n", i + 1, dev->port + i,
               (int)dev->nodes[i].pid, dev->dir, i + 1);
    }
    printf("\ntry, in another terminal:\n");
    if (dev->port != 7437) {
        printf("  export QUORLOG_SERVER=127.0.0.1:%u\n", dev->port);
    }
    printf("  quorlog topic create events\n"
           "  echo hello | quorlog produce events\n"
           "  quorlog consume events -o start --follow -s 127.0.0.1:%u\n"
           "  quorlog cluster status\n",
           dev->port + dev->count - 1);
    if (dev->count > 1) {
        printf("  kill -9 %d     # the leader; everything goes on\n",
               (int)dev->nodes[status->leader_id - 1].pid);
    }
    printf("Ctrl-C ends the cluster.\n");
    (void)fflush(stdout); /* Decoration. */
    dev->told = true;
    (void)uv_timer_stop(&dev->ask); /* Never fails. */
}

static void on_status(void *arg, const struct client_error *error, const uint8_t *reply,
                      size_t reply_size)
{
    struct dev *dev = arg;
    Quorlog__StatusReply *status = NULL;
    bool all = true;

    dev->asking = false;
    if (error->err == ERR_OK) {
        status = quorlog__status_reply__unpack(NULL, reply_size, reply);
    }
    if (status == NULL) {
        return;
    }
    for (size_t i = 0; i < status->n_nodes; i++) {
        all = all && strcmp(status->nodes[i]->state, "unreachable") != 0;
    }
    if (all && status->leader_id >= 1 && status->leader_id <= dev->count && !dev->told &&
        !dev->stopping) {
        tell(dev, status);
    }
    quorlog__status_reply__free_unpacked(status, NULL);
}

static void on_ask(uv_timer_t *timer)
{
    struct dev *dev = timer->data;

    if (!dev->asking && client_status(dev->client, false, on_status, dev) == ERR_OK) {
        dev->asking = true;
    }
}

/* ---- the end ---- */

static void close_all(struct dev *dev)
{
    for (unsigned i = 0; i < dev->count; i++) {
        uv_close((uv_handle_t *)&dev->nodes[i].timer, NULL);
    }
    uv_close((uv_handle_t *)&dev->child, NULL);
    uv_close((uv_handle_t *)&dev->interrupt, NULL);
    uv_close((uv_handle_t *)&dev->terminate, NULL);
    uv_close((uv_handle_t *)&dev->ask, NULL);
    uv_close((uv_handle_t *)&dev->give_up, NULL);
}

static void on_give_up(uv_timer_t *timer)
{
    struct dev *dev = timer->data;

    for (unsigned i = 0; i < dev->count; i++) {
        if (dev->nodes[i].pid != 0) {
            (void)kill(dev->nodes[i].pid, SIGKILL); /* Our child: still there or just gone. */
        }
    }
}

static void on_stop(uv_signal_t *handle, int number)
{
    struct dev *dev = handle->data;

    (void)number;
    if (dev->stopping) {
        on_give_up(&dev->give_up);
        return;
    }
    dev->stopping = true;
    client_close(dev->client, NULL, NULL);
    (void)uv_timer_stop(&dev->ask); /* Never fails. */
    for (unsigned i = 0; i < dev->count; i++) {
        if (dev->nodes[i].pid != 0) {
            (void)kill(dev->nodes[i].pid, SIGTERM); /* As above. */
        }
    }
    (void)uv_timer_start(&dev->give_up, on_give_up, STOP_MS, 0);
    if (running(dev) == 0) {
        close_all(dev);
    }
}

/* ---- the beginning ---- */

/* The cluster's name, chosen once and kept with the data: two dev clusters never mix. Its members
 * are kept, too: nodes that were another cluster's would not start. */
static enum err parse_cluster(struct dev *dev, const char *path, const char *text,
                              struct err_info *info)
{
    unsigned port;
    unsigned count;

    if (sscanf(text, "cluster = %63s\nport = %u\nnodes = %u\n", dev->cluster, &port, &count) != 3) {
        return err_set(info, ERR_CORRUPT, "'%s' is damaged; give another --dir", path);
    }
    if (port != dev->port || count != dev->count) {
        return err_set(info, ERR_WRONG_CLUSTER,
                       "the directory '%s' holds a cluster of %u node%s from port %u on: give "
                       "--nodes %u --port %u, or another --dir",
                       dev->dir, count, count == 1 ? "" : "s", port, count, port);
    }
    return ERR_OK;
}

static enum err name_cluster(struct dev *dev, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    char written[128];
    struct buf text;
    enum err err = io_path(path, dev->dir, "cluster", info);
    int size;

    if (err != ERR_OK) {
        return err;
    }
    buf_init(&text, sizeof written);
    err = io_read_file(io_real(), path, sizeof written - 1, &text, info);
    if (err == ERR_OK) {
        err = buf_append(&text, "", 1);
        ASSERT(err == ERR_OK); /* It has room for the zero. */
        err = parse_cluster(dev, path, (const char *)text.data, info);
    } else if (err == ERR_NOT_FOUND) {
        (void)snprintf(dev->cluster, sizeof dev->cluster, "dev-%08x", /* fits */
                       (unsigned)clock_real()->random(clock_real()));
        size = snprintf(written, sizeof written, "cluster = %s\nport = %u\nnodes = %u\n",
                        dev->cluster, dev->port, dev->count);
        ASSERT(size > 0 && (size_t)size < sizeof written);
        err = io_replace_file(io_real(), dev->dir, "cluster", written, (size_t)size, info);
    }
    buf_fini(&text);
    return err;
}

/* Nothing listens on the nodes' ports. The nodes would say so too, each in its own log. */
static enum err check_ports(const struct dev *dev, struct err_info *info)
{
    enum err err = ERR_OK;

    for (unsigned i = 0; i < dev->count && err == ERR_OK; i++) {
        const struct sockaddr_in address = {.sin_family = AF_INET,
                                            .sin_port = htons((uint16_t)(dev->port + i)),
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int one = 1;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0) {
            return err_set(info, err_from_errno(errno), "socket: %s", strerror(errno));
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); /* As the nodes do. */
        if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
            err = err_set(info, ERR_EXISTS,
                          "127.0.0.1:%u: %s; end what listens there, or give another --port",
                          dev->port + i, strerror(errno));
        }
        (void)close(fd); /* It was never connected. */
    }
    return err;
}

static int prepare(struct dev *dev, const struct invocation *invocation)
{
    const char *dir = option_value(invocation, "dir");
    struct err_info info;
    uint64_t nodes;
    uint64_t port;
    ssize_t size;

    if (option_number(invocation, "nodes", 3, 1, NODES_MAX, &nodes, &info) != ERR_OK ||
        option_number(invocation, "port", 7437, 1, 65535 - NODES_MAX, &port, &info) != ERR_OK) {
        return usage("%s", info.text);
    }
    if (nodes == 2) {
        return usage("two nodes survive nothing that one does not; give --nodes 1 or 3");
    }
    dev->count = (unsigned)nodes;
    dev->port = (unsigned)port;
    dir = dir != NULL ? dir : "quorlog-dev";
    if (mkdir(dir, 0750) < 0 && errno != EEXIST) {
        return fail("make directory '%s': %s; only its last part is made", dir, strerror(errno));
    }
    if (realpath(dir, dev->dir) == NULL) {
        return fail("directory '%s': %s", dir, strerror(errno));
    }
    size = readlink("/proc/self/exe", dev->program, sizeof dev->program - 1);
    if (size < 0) {
        return fail("/proc/self/exe: %s", strerror(errno));
    }
    dev->program[size] = '\0';
    if (check_ports(dev, &info) != ERR_OK || name_cluster(dev, &info) != ERR_OK) {
        return fail("%s", info.text);
    }
    for (unsigned i = 0; i < dev->count; i++) {
        size_t used = strlen(dev->bootstrap);

        (void)snprintf(dev->bootstrap + used, sizeof dev->bootstrap - used, "%s%u=127.0.0.1:%u",
                       i > 0 ? "," : "", i + 1, dev->port + i); /* fits */
    }
    return EXIT_OK;
}

static int open_client(struct dev *dev)
{
    char servers[NODES_MAX * 24] = "";
    struct client_options client_options = {
        .servers = servers, .name = "quorlog-dev", .timeout_ms = 2000};
    struct err_info info;

    for (unsigned i = 0; i < dev->count; i++) {
        size_t used = strlen(servers);

        (void)snprintf(servers + used, sizeof servers - used, "%s127.0.0.1:%u", i > 0 ? "," : "",
                       dev->port + i); /* fits */
    }
    return client_new(&client_options, &dev->loop, &dev->client, &info) == ERR_OK
               ? EXIT_OK
               : fail("%s", info.text);
}

static int start(struct dev *dev)
{
    uv_loop_t *loop = &dev->loop;
    int rv = uv_loop_init(loop);

    rv = rv == 0 ? uv_signal_init(loop, &dev->child) : rv;
    rv = rv == 0 ? uv_signal_init(loop, &dev->interrupt) : rv;
    rv = rv == 0 ? uv_signal_init(loop, &dev->terminate) : rv;
    rv = rv == 0 ? uv_timer_init(loop, &dev->ask) : rv;
    rv = rv == 0 ? uv_timer_init(loop, &dev->give_up) : rv;
    dev->child.data = dev->interrupt.data = dev->terminate.data = dev;
    dev->ask.data = dev->give_up.data = dev;
    rv = rv == 0 ? uv_signal_start(&dev->child, on_child, SIGCHLD) : rv;
    rv = rv == 0 ? uv_signal_start(&dev->interrupt, on_stop, SIGINT) : rv;
    rv = rv == 0 ? uv_signal_start(&dev->terminate, on_stop, SIGTERM) : rv;
    if (rv != 0) {
        return fail("the event loop cannot be made: %s", uv_strerror(rv));
    }
    for (unsigned i = 0; i < dev->count; i++) {
        struct node *node = &dev->nodes[i];

        *node = (struct node){.dev = dev, .id = i + 1};
        (void)uv_timer_init(loop, &node->timer); /* Never fails. */
        node->timer.data = node;
        start_node(node);
    }
    (void)uv_timer_start(&dev->ask, on_ask, ASK_MS, ASK_MS); /* Never fails so. */
    return open_client(dev);
}

static int run(const struct invocation *invocation)
{
    struct dev *dev = calloc(1, sizeof *dev);
    int code;

    ASSERT(dev != NULL);
    code = prepare(dev, invocation);
    if (code == EXIT_OK) {
        code = start(dev);
    }
    if (code == EXIT_OK) {
        (void)uv_run(&dev->loop, UV_RUN_DEFAULT); /* Until all is closed. */
        (void)uv_loop_close(&dev->loop);          /* Nothing is open. */
        code = dev->failed ? EXIT_FAILED : EXIT_OK;
    }
    free(dev);
    return code;
}

const struct command_spec command_dev = {
    .name = "dev",
    .synopsis = "",
    .summary = "run a whole cluster on this machine, to try things",
    .details = details,
    .options = options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run,
};
