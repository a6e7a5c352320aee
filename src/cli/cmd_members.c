/*
 * quorlog cluster add, remove, replace and transfer.
 *
 * Each sends its goal again and again until the leader says that it is reached, and tells on stderr
 * how far it is. Whoever dies on the way, the leader or this program, nothing is lost: the same
 * command goes on where it stopped.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "quorlog.pb-c.h"

enum { POLL_MS = 200, TELL_MS = 1000, WAIT_DEFAULT_S = 600, WAIT_MAX_S = 7 * 86400 };

static const struct option_spec options[] = {
    CALLER_OPTIONS,
    {"wait", 0, "SECONDS", false, "give up waiting after so long; default 600"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

/* What was told last, so that it is told once. */
struct progress {
    char stage[64];
    char text[512];
    uint64_t told_ms;
    bool terminal;
    bool line; /* the terminal's cursor is in a line that will be written again */
};

static void end_line(struct progress *self)
{
    if (self->line) {
        (void)fputs("\n", stderr); /* Who can't read stderr can't be told; also below. */
        self->line = false;
    }
}

/* A line for each stage, and now and then one for what changes within it; on a terminal the last
 * line is written over. */
static void tell(struct progress *self, const Quorlog__ClusterChangeReply *reply)
{
    uint64_t now_ms = clock_monotonic_ms(clock_real());
    bool stage = strcmp(self->stage, reply->stage) != 0;

    if (!stage && (strcmp(self->text, reply->text) == 0 ||
                   (!self->terminal && now_ms < self->told_ms + TELL_MS))) {
        return;
    }
    self->told_ms = now_ms;
    if (stage) {
        end_line(self);
    }
    (void)snprintf(self->stage, sizeof self->stage, "%s", reply->stage); /* Cut is fine. */
    (void)snprintf(self->text, sizeof self->text, "%s", reply->text);    /* As above. */
    if (self->terminal) {
        (void)fprintf(stderr, "\r\033[K%s: %s", self->stage, self->text);
        self->line = true;
    } else {
        (void)fprintf(stderr, "%s: %s\n", self->stage, self->text);
    }
}

static void on_pause_over(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static void on_pause_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

static void pause_for(struct client *client, uint64_t ms)
{
    bool over = false;
    bool closed = false;
    uv_timer_t timer;
    int rv = uv_timer_init(client_loop(client), &timer);

    ASSERT(rv == 0);
    timer.data = &over;
    rv = uv_timer_start(&timer, on_pause_over, ms, 0);
    ASSERT(rv == 0);
    client_wait(client, &over);
    timer.data = &closed;
    uv_close((uv_handle_t *)&timer, on_pause_closed);
    client_wait(client, &closed);
}

static int print_done(const struct invocation *invocation, const Quorlog__ClusterChangeReply *reply)
{
    if (option_given(invocation, "json")) {
        json_print(json_pack("{s:b,s:o,s:o,s:o,s:o}", "done", reply->done, "stage",
                             json_text(reply->stage), "text", json_text(reply->text), "leader",
                             json_number(reply->leader_id), "term", json_number(reply->term)));
    } else {
        printf("%s\n", reply->text);
    }
    return EXIT_OK;
}

/* One step. EXIT_OK: *ret_reply is the caller's. */
static int step(struct client *client, const struct client_members *members,
                struct progress *progress, Quorlog__ClusterChangeReply **ret_reply)
{
    struct call call = {0};
    enum err err = client_change_members(client, members, caller_on_reply, &call);

    if (err == ERR_INVALID) {
        end_line(progress);
        return usage("an address has at most %d characters", (int)CLIENT_ADDRESS_SIZE_MAX);
    }
    if (err != ERR_OK) {
        end_line(progress);
        return fail("%s", err_text(err));
    }
    client_wait(client, &call.done);
    if (call.err != ERR_OK) {
        end_line(progress);
        return fail("%s", call.text);
    }
    *ret_reply = quorlog__cluster_change_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    if (*ret_reply == NULL) {
        end_line(progress);
        return fail("the server's answer cannot be read; are client and server of one version?");
    }
    return EXIT_OK;
}

static int drive(const struct invocation *invocation, struct client *client,
                 struct client_members *members, uint64_t wait_s)
{
    struct progress progress = {.terminal = isatty(STDERR_FILENO) == 1};
    uint64_t end_ms = clock_monotonic_ms(clock_real()) + wait_s * 1000;

    for (;;) {
        Quorlog__ClusterChangeReply *reply = NULL;
        int code = step(client, members, &progress, &reply);
        char text[512] = "";
        bool done;

        if (code != EXIT_OK) {
            return code;
        }
        done = reply->done;
        if (done) {
            end_line(&progress);
            code = print_done(invocation, reply);
        } else {
            tell(&progress, reply);
            if (members->goal == CLIENT_MEMBERS_TRANSFER && members->other_id == 0) {
                members->other_id = reply->leader_id; /* Whoever else leads will do. */
            }
            members->under_way = members->under_way || strcmp(reply->stage, "removing") == 0;
            (void)snprintf(text, sizeof text, "%s", reply->text); /* Cut is fine. */
        }
        quorlog__cluster_change_reply__free_unpacked(reply, NULL);
        if (done) {
            return code;
        }
        if (clock_monotonic_ms(clock_real()) >= end_ms) {
            end_line(&progress);
            return fail("not done within %llu s: %s. The same command goes on where this one "
                        "stopped",
                        (unsigned long long)wait_s, text);
        }
        pause_for(client, POLL_MS);
    }
}

static int run(const struct invocation *invocation, struct client_members *members)
{
    struct client *client;
    struct err_info info;
    uint64_t wait_s;
    int code;

    if (option_number(invocation, "wait", WAIT_DEFAULT_S, 0, WAIT_MAX_S, &wait_s, &info) !=
        ERR_OK) {
        return usage("%s", info.text);
    }
    code = caller_open(invocation, &client);
    if (code == EXIT_OK) {
        code = drive(invocation, client, members, wait_s);
        caller_close(client);
    }
    return code;
}

static int node_argument(const struct invocation *invocation, unsigned at, uint64_t *ret_id)
{
    struct err_info info;
    enum err err =
        parse_number(invocation->arguments[at], "a node's number", 1, INT64_MAX, ret_id, &info);

    return err == ERR_OK ? EXIT_OK : usage("%s", info.text);
}

static int run_add(const struct invocation *invocation)
{
    struct client_members members = {.goal = CLIENT_MEMBERS_ADD,
                                     .address = invocation->arguments[1]};
    int code = node_argument(invocation, 0, &members.node_id);

    return code == EXIT_OK ? run(invocation, &members) : code;
}

static int run_remove(const struct invocation *invocation)
{
    struct client_members members = {.goal = CLIENT_MEMBERS_REMOVE, .address = ""};
    int code = node_argument(invocation, 0, &members.node_id);

    return code == EXIT_OK ? run(invocation, &members) : code;
}

static int run_replace(const struct invocation *invocation)
{
    struct client_members members = {.goal = CLIENT_MEMBERS_REPLACE,
                                     .address = invocation->arguments[2]};
    int code = node_argument(invocation, 0, &members.other_id);

    code = code == EXIT_OK ? node_argument(invocation, 1, &members.node_id) : code;
    return code == EXIT_OK ? run(invocation, &members) : code;
}

static int run_transfer(const struct invocation *invocation)
{
    struct client_members members = {.goal = CLIENT_MEMBERS_TRANSFER, .address = ""};
    int code =
        invocation->argument_count > 0 ? node_argument(invocation, 0, &members.node_id) : EXIT_OK;

    return code == EXIT_OK ? run(invocation, &members) : code;
}

static const char again[] =
    "Progress is told on standard error. Each step leaves a cluster that works; if the leader or\n"
    "this command dies half way, the same command goes on where it stopped. A step that would\n"
    "endanger the cluster is refused, with the reason.\n";

const struct command_spec command_cluster_add = {
    .name = "cluster add",
    .synopsis = "ID HOST:PORT",
    .summary = "add a node: it catches up first, then it votes",
    .details = "Start the node with an empty directory, 'quorlog serve --id ID --join …', and an "
               "ID that was\n"
               "never used in this cluster. Progress is told on standard error; the same command "
               "goes on\n"
               "where an earlier one stopped.\n"
               "\n"
               "example:\n"
               "  quorlog serve --id 4 --listen n4:7437 --data /var/lib/quorlog --join n1:7437\n"
               "  quorlog cluster add 4 n4:7437 -s n1:7437\n",
    .options = options,
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_add,
};

const struct command_spec command_cluster_remove = {
    .name = "cluster remove",
    .synopsis = "ID",
    .summary = "remove a node; one that leads hands over first",
    .details = again,
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_remove,
};

const struct command_spec command_cluster_replace = {
    .name = "cluster replace",
    .synopsis = "OLD-ID NEW-ID HOST:PORT",
    .summary = "add a node, then remove another one, dead or alive",
    .details = again,
    .options = options,
    .arguments_min = 3,
    .arguments_max = 3,
    .run = run_replace,
};

const struct command_spec command_cluster_transfer = {
    .name = "cluster transfer",
    .synopsis = "[ID]",
    .summary = "make another node lead, and wait until it does",
    .details = NULL,
    .options = options,
    .arguments_min = 0,
    .arguments_max = 1,
    .run = run_transfer,
};
