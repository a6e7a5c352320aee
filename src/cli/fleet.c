#include "cli/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "quorlog.pb-c.h"

enum { CONNECT_MS = 3000, FRAME_SIZE_MAX = 300 << 20 };

/* ---- asking ---- */

static uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);

    if (copy != NULL && size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

static void on_answer(void *arg, const struct client_error *error,
                      const struct client_answer *answer)
{
    struct ask *ask = arg;

    ASSERT(!ask->done && ask->fleet->unanswered > 0);
    ask->done = true;
    ask->fleet->unanswered--;
    ask->err = error->err;
    (void)snprintf(ask->text, sizeof ask->text, "%s", error->text); /* Cut is fine. */
    ask->log_start = error->log_start;
    ask->log_end = error->log_end;
    if (answer == NULL) {
        return;
    }
    ask->header = copy_of(answer->header, answer->header_size);
    ask->body = copy_of(answer->body, answer->body_size);
    if (ask->header == NULL || ask->body == NULL) {
        ask->err = ERR_NOMEM;
        (void)snprintf(ask->text, sizeof ask->text, "out of memory"); /* fits */
        return;
    }
    ask->header_size = answer->header_size;
    ask->body_size = answer->body_size;
}

void fleet_ask(struct fleet *self, unsigned at, const struct client_question *question,
               struct ask *ret_ask)
{
    enum err err;

    ASSERT(at < self->count && self->nodes[at].client != NULL);
    *ret_ask = (struct ask){.fleet = self};
    err = client_ask(self->nodes[at].client, question, on_answer, ret_ask);
    if (err == ERR_OK) {
        self->unanswered++;
    } else {
        ret_ask->done = true;
        ret_ask->err = err;
        (void)snprintf(ret_ask->text, sizeof ret_ask->text, "%s", err_text(err)); /* fits */
    }
}

void fleet_wait(struct fleet *self)
{
    while (self->unanswered > 0) {
        int alive = uv_run(&self->loop, UV_RUN_ONCE);

        ASSERT(alive != 0); /* The clients' handles live. */
    }
}

bool fleet_is_lost(struct fleet *self, unsigned at, const struct ask *ask)
{
    struct fleet_node *node = &self->nodes[at];

    ASSERT(ask->done);
    switch ((int)ask->err) {
    case ERR_OK:
    case ERR_TOPIC_UNKNOWN:
    case ERR_RANGE:
    case ERR_CORRUPT:
    case ERR_IO:
    case ERR_HOLE:
    case ERR_INVALID:
        return false;
    default:
        node->lost = true;
        (void)snprintf(node->why, sizeof node->why, "%s", ask->text); /* Same size. */
        return true;
    }
}

void ask_fini(struct ask *ask)
{
    ASSERT(ask->done || ask->fleet == NULL);
    free(ask->header);
    free(ask->body);
    *ask = (struct ask){0};
}

/* ---- open and close ---- */

static int open_client(struct fleet *self, struct fleet_node *node,
                       const struct invocation *invocation)
{
    struct client_options options = {
        .servers = node->address,
        .name = "quorlog-cli",
        .frame_size_max = FRAME_SIZE_MAX,
        .connect_timeout_ms = CONNECT_MS,
    };
    struct err_info info;
    int code = caller_timeout(invocation, &options.timeout_ms);

    if (code == EXIT_OK && client_new(&options, &self->loop, &node->client, &info) != ERR_OK) {
        code = fail("node %llu: %s", (unsigned long long)node->id, info.text);
    }
    return code;
}

static int ask_status(const struct invocation *invocation, Quorlog__StatusReply **ret_reply)
{
    struct client *client;
    struct call call = {0};
    int code = caller_open(invocation, &client);

    if (code != EXIT_OK) {
        return code;
    }
    code = caller_wait(client, client_status(client, false, caller_on_reply, &call), &call);
    caller_close(client);
    if (code != EXIT_OK) {
        return code;
    }
    *ret_reply = quorlog__status_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    return *ret_reply != NULL ? EXIT_OK : fail("the server's answer cannot be read");
}

int fleet_open(const struct invocation *invocation, struct fleet *ret_fleet)
{
    struct fleet *self = ret_fleet;
    Quorlog__StatusReply *status;
    int code = ask_status(invocation, &status);
    int rv;

    if (code != EXIT_OK) {
        return code;
    }
    *self = (struct fleet){.leader_id = status->leader_id};
    rv = uv_loop_init(&self->loop);
    ASSERT(rv == 0); /* Memory for a few pointers. */
    for (size_t i = 0; i < status->n_nodes && code == EXIT_OK; i++) {
        const Quorlog__NodeStatus *from = status->nodes[i];
        struct fleet_node *node = &self->nodes[self->count];

        if (strcmp(from->role, "spare") == 0 || self->count == FLEET_MAX) {
            continue; /* It holds nothing. */
        }
        node->id = from->id;
        node->holes = from->holes;
        node->applied = from->applied;
        (void)snprintf(node->address, sizeof node->address, "%s", from->address); /* Both cut: */
        (void)snprintf(node->state, sizeof node->state, "%s", from->state); /* not ours then. */
        code = open_client(self, node, invocation);
        self->count += code == EXIT_OK ? 1 : 0;
    }
    quorlog__status_reply__free_unpacked(status, NULL);
    if (code != EXIT_OK) {
        fleet_close(self);
    }
    return code;
}

void fleet_close(struct fleet *self)
{
    int rv;

    for (unsigned i = 0; i < self->count; i++) {
        client_close(self->nodes[i].client, NULL, NULL);
    }
    (void)uv_run(&self->loop, UV_RUN_DEFAULT); /* Until the clients are gone. */
    ASSERT(self->unanswered == 0);
    rv = uv_loop_close(&self->loop);
    ASSERT(rv == 0);
}
