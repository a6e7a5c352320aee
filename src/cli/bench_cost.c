#include "cli/bench_cost.h"

#include <stdio.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

static void take_status(struct cost *self, const Quorlog__StatusReply *status)
{
    self->leader_id = status->leader_id;
    for (size_t i = 0; i < status->n_nodes && i < COST_NODES_MAX; i++) {
        const Quorlog__NodeStatus *from = status->nodes[i];
        struct cost_node *node = &self->nodes[self->count++];

        *node = (struct cost_node){
            .id = from->id,
            .cpu_us = from->cpu_us,
            .memory = from->memory,
            .journal_writes = from->journal_writes,
        };
        (void)snprintf(node->address, sizeof node->address, "%s", from->address); /* As below. */
        (void)snprintf(node->state, sizeof node->state, "%s", from->state);       /* Cut is fine. */
    }
}

static void on_status(void *arg, const struct client_error *error, const uint8_t *reply,
                      size_t reply_size)
{
    struct cost *self = arg;
    Quorlog__StatusReply *status = NULL;

    ASSERT(!self->done);
    self->done = true;
    self->err = error->err;
    self->acknowledged = *self->counter;
    if (error->err != ERR_OK) {
        (void)snprintf(self->text, sizeof self->text, "%s", error->text); /* Cut is fine. */
        return;
    }
    status = quorlog__status_reply__unpack(NULL, reply_size, reply);
    if (status == NULL) {
        self->err = ERR_PROTOCOL;
        (void)snprintf(self->text, sizeof self->text,
                       "the server's answer cannot be read"); /* fits */
        return;
    }
    take_status(self, status);
    quorlog__status_reply__free_unpacked(status, NULL);
}

void cost_ask(struct cost *self, struct client *client, const uint64_t *counter)
{
    enum err err;

    *self = (struct cost){.counter = counter};
    err = client_status(client, false, on_status, self);
    if (err != ERR_OK) {
        self->done = true;
        self->err = err;
        (void)snprintf(self->text, sizeof self->text, "%s", err_text(err)); /* fits */
    }
}

bool cost_is_known(const struct cost *before, const struct cost *after)
{
    return before->done && after->done && before->err == ERR_OK && after->err == ERR_OK &&
           after->acknowledged > before->acknowledged;
}

static const struct cost_node *find_node(const struct cost *self, uint64_t id)
{
    for (size_t i = 0; i < self->count; i++) {
        if (self->nodes[i].id == id) {
            return &self->nodes[i];
        }
    }
    return NULL;
}

double cost_cpu_per_million(const struct cost *before, const struct cost *after, size_t at)
{
    const struct cost_node *to = &after->nodes[at];
    const struct cost_node *from;

    ASSERT(at < after->count);
    if (!cost_is_known(before, after)) {
        return 0;
    }
    from = find_node(before, to->id);
    if (from == NULL || to->cpu_us <= from->cpu_us) {
        return 0; /* It was not there, or has been started again. */
    }
    return (double)(to->cpu_us - from->cpu_us) /
           (double)(after->acknowledged - before->acknowledged);
}

double cost_records_per_write(const struct cost *before, const struct cost *after)
{
    const struct cost_node *from = find_node(before, before->leader_id);
    const struct cost_node *to = find_node(after, after->leader_id);

    if (!cost_is_known(before, after) || before->leader_id != after->leader_id || from == NULL ||
        to == NULL || to->journal_writes <= from->journal_writes) {
        return 0;
    }
    return (double)(after->acknowledged - before->acknowledged) /
           (double)(to->journal_writes - from->journal_writes);
}
