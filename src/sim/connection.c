/* Clients' connections to nodes, and what is common to all clients. */
#include <stdlib.h>

#include "base/assert.h"
#include "sim/cluster.h"

/* ---- connections ---- */

void sim_connection_open(struct sim_cluster *cluster, struct sim_client *client, unsigned node)
{
    struct sim_connection *self = &client->connection;

    *self = (struct sim_connection){
        .node = node,
        .incarnation = cluster->nodes[node].incarnation,
        .number = self->number + 1,
        .heard_ms = cluster->now_ms,
        .pause_until_ms = self->pause_until_ms,
    };
}

void sim_connection_renew(struct sim_cluster *cluster, struct sim_client *client)
{
    struct prng *prng = &cluster->prng;
    const struct sim_node *leader = sim_leader(cluster);
    unsigned node = (unsigned)prng_range(prng, 1, cluster->node_count);

    if (leader != NULL && prng_percent(prng, 30)) {
        node = leader->slot;
    }
    sim_connection_open(cluster, client, node);
    client->connection.pause_until_ms = cluster->now_ms + prng_range(prng, 1, 150);
}

struct sim_request *sim_connection_request(struct sim_cluster *cluster, struct sim_client *client,
                                           enum sim_ask ask)
{
    const struct sim_connection *connection = &client->connection;
    const struct sim_origin origin = {.number = client->number, .connection = connection->number};
    struct sim_request *request =
        sim_request_new(cluster, ask, &origin, connection->node, connection->incarnation);

    request->deadline_ms = cluster->now_ms + prng_range(&cluster->prng, 300, 1400);
    return request;
}

static bool breaks(struct sim_cluster *cluster, struct sim_connection *self)
{
    if (!cluster->healed && prng_permille(&cluster->prng, 5)) {
        self->broken = true;
    }
    return self->broken;
}

void sim_connection_send(struct sim_client *client, struct sim_request *request)
{
    struct sim_cluster *cluster = request->cluster;
    struct sim_connection *self = &client->connection;
    uint64_t at = cluster->now_ms + prng_range(&cluster->prng, 0, 4);

    if (breaks(cluster, self)) {
        sim_request_free(request);
        return;
    }
    self->last_ms = at < self->last_ms ? self->last_ms : at;
    events_push(&cluster->events, self->last_ms, EVENT_REQUEST, self->node,
                (uint64_t)(uintptr_t)request, NULL);
}

uint64_t sim_connection_back(struct sim_cluster *cluster, unsigned client, uint64_t number)
{
    struct sim_connection *self = &cluster->clients[client].connection;
    uint64_t at = cluster->now_ms + prng_range(&cluster->prng, 0, 4);

    if (self->number != number || breaks(cluster, self)) {
        return UINT64_MAX;
    }
    self->back_ms = at < self->back_ms ? self->back_ms : at;
    return self->back_ms;
}

/* ---- all clients ---- */

static void add(struct sim_cluster *cluster, enum sim_client_kind kind, unsigned count)
{
    struct prng *prng = &cluster->prng;

    for (unsigned i = 0; i < count; i++) {
        unsigned number = cluster->client_count++;
        struct sim_client *self = &cluster->clients[number];

        ASSERT(number < SIM_CLIENTS_MAX);
        *self = (struct sim_client){
            .number = number,
            .kind = kind,
            .recorded = sim_recorder_client(&cluster->recorder),
            .pace_ms = (unsigned)prng_range(prng, cluster->pace_ms / 10, cluster->pace_ms),
        };
        sim_connection_open(cluster, self, (unsigned)prng_range(prng, 1, cluster->node_count));
        if (kind == SIM_PRODUCER) {
            sim_producer_init(cluster, self);
        } else if (kind == SIM_SESSION) {
            sim_session_init(cluster, self);
        } else {
            sim_stream_init(cluster, self);
        }
        events_push(&cluster->events, 500, EVENT_CLIENT, 0, number, NULL);
    }
}

void sim_clients_init(struct sim_cluster *cluster)
{
    struct prng *prng = &cluster->prng;

    add(cluster, SIM_PRODUCER, (unsigned)prng_range(prng, 2, SIM_PRODUCERS_MAX));
    add(cluster, SIM_SESSION, (unsigned)prng_range(prng, 1, SIM_SESSIONS_MAX));
    add(cluster, SIM_STREAM, (unsigned)prng_range(prng, 1, SIM_STREAMS_MAX));
}

void sim_clients_fini(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->client_count; i++) {
        free(cluster->clients[i].producer.positions);
    }
}

void sim_client_act(struct sim_cluster *cluster, struct sim_client *self)
{
    if (self->kind == SIM_PRODUCER) {
        sim_producer_act(cluster, self);
    } else if (self->kind == SIM_SESSION) {
        sim_session_act(cluster, self);
    } else {
        sim_stream_act(cluster, self);
    }
}

void sim_client_take(struct sim_answer *answer)
{
    struct sim_cluster *cluster = answer->cluster;
    struct sim_client *self = &cluster->clients[answer->to.number];

    ASSERT(!answer->to.is_node);
    if (answer->to.connection != self->connection.number) {
        return;
    }
    self->connection.heard_ms = cluster->now_ms;
    if (self->kind == SIM_PRODUCER) {
        sim_producer_take(cluster, self, answer);
    } else if (self->kind == SIM_SESSION) {
        sim_session_take(cluster, self, answer);
    } else {
        sim_stream_take(cluster, self, answer);
    }
}

void sim_clients_abort(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->client_count; i++) {
        struct sim_client *self = &cluster->clients[i];

        if (self->kind == SIM_PRODUCER) {
            sim_producer_abort(cluster, self);
        } else if (self->kind == SIM_SESSION) {
            sim_session_abort(cluster, self);
        }
    }
    sim_session_close(cluster);
}

bool sim_clients_idle(const struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->client_count; i++) {
        const struct sim_client *self = &cluster->clients[i];

        if (self->kind == SIM_PRODUCER && !sim_producer_idle(self)) {
            return false;
        }
        if (self->kind == SIM_SESSION && self->session.busy) {
            return false;
        }
    }
    return true;
}
