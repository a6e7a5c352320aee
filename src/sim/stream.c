/*
 * Streams: each follows a topic from some place on; when its connection ends it goes on at another
 * node, where it stopped. What it hands out is recorded as a subscription each.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "sim/cluster.h"

enum { PATIENCE_MS = 3000 };

void sim_stream_init(struct sim_cluster *cluster, struct sim_client *client)
{
    client->session = (struct sim_session){
        .topic = (unsigned)prng_range(&cluster->prng, 0, SIM_TOPIC_NAMES - 1),
        .next = 0,
    };
}

static void leave(struct sim_cluster *cluster, struct sim_client *client)
{
    client->session.subscribed = false;
    sim_connection_renew(cluster, client);
}

/* Another topic, or another one of this name. */
static void turn_to(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_session *self = &client->session;

    self->topic = (unsigned)prng_range(&cluster->prng, 0, SIM_TOPIC_NAMES - 1);
    self->topic_id = 0;
    self->next = prng_percent(&cluster->prng, 50) ? 0 : UINT64_MAX;
}

void sim_stream_act(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_session *self = &client->session;
    struct sim_connection *connection = &client->connection;
    struct sim_request *request;

    if (self->subscribed && cluster->now_ms >= connection->heard_ms + PATIENCE_MS) {
        if (prng_percent(&cluster->prng, 30)) {
            turn_to(cluster, client);
        }
        leave(cluster, client);
    }
    if (self->subscribed || cluster->closing || cluster->now_ms < connection->pause_until_ms) {
        return;
    }
    client->recorded = sim_recorder_client(&cluster->recorder);
    client->sequence = 0;
    self->op = (struct history_op){
        .kind = HISTORY_DELIVERY,
        .client = client->recorded,
        .node = cluster->nodes[connection->node].id,
        .invoke_us = sim_recorder_us(&cluster->recorder),
        .stream = client->recorded,
        .mode = HISTORY_READ_LOCAL,
    };
    request = sim_connection_request(cluster, client, SIM_ASK_FOLLOW);
    request->topic = self->topic;
    request->topic_id = self->topic_id;
    request->offset = self->next;
    request->records_max = self->next == UINT64_MAX ? 3 : 0;
    self->subscribed = true;
    sim_connection_send(client, request);
}

void sim_stream_take(struct sim_cluster *cluster, struct sim_client *client,
                     const struct sim_answer *answer)
{
    struct sim_session *self = &client->session;
    const struct sim_shown *shown = &answer->shown;
    struct history_op *op = &self->op;
    char topic[SIM_TOPIC_SIZE_MAX];

    if (answer->result.err != ERR_OK) {
        if (answer->result.err == ERR_TOPIC_UNKNOWN) {
            turn_to(cluster, client);
        } else if (answer->result.err == ERR_RANGE) {
            self->next = 0; /* It goes on with what is left. */
        }
        leave(cluster, client);
        return;
    }
    ASSERT(self->topic_id == 0 || self->topic_id == shown->topic_id);
    self->topic_id = shown->topic_id;
    self->next = shown->next;
    sim_topic_text(self->topic, shown->topic_id, topic);
    op->topic = topic;
    op->sequence = ++client->sequence;
    op->return_us = sim_recorder_us(&cluster->recorder);
    sim_shown_tell(shown, op);
    op->log_start = shown->log_start;
    op->log_end = shown->log_end;
    op->token = shown->applied;
    sim_recorder_add(&cluster->recorder, op);
    cluster->stats->delivered += shown->count;
}
