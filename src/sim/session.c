/*
 * Sessions: one operation after the other. Some carry their token from node to node, and so never
 * see less than they saw; the others are another session at every other node, as a program is that
 * does not care.
 *
 * A topic's name may stand for another topic by the time a change of a cursor arrives, or a topic
 * is deleted. Who is answered is told which one it was. Where nobody answers, it may have been any
 * of that name that was there at the time: it is recorded for each of them, when all is over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/cluster.h"

enum { PATIENCE_MS = 1600, CURSORS = 2 };

void sim_session_init(struct sim_cluster *cluster, struct sim_client *client)
{
    client->session = (struct sim_session){.carries = prng_percent(&cluster->prng, 50)};
}

static void another_node(struct sim_cluster *cluster, struct sim_client *client)
{
    sim_connection_renew(cluster, client);
    if (!client->session.carries) {
        client->recorded = sim_recorder_client(&cluster->recorder);
        client->sequence = 0;
    }
}

/* ---- asking ---- */

static struct sim_request *begin(struct sim_cluster *cluster, struct sim_client *client,
                                 enum sim_ask ask, enum history_kind kind)
{
    struct sim_session *self = &client->session;
    struct sim_request *request = sim_connection_request(cluster, client, ask);

    request->topic = self->topic = (unsigned)prng_range(&cluster->prng, 0, SIM_TOPIC_NAMES - 1);
    self->busy = true;
    self->deletes = false;
    self->silent = false;
    self->op = (struct history_op){
        .kind = kind,
        .client = client->recorded,
        .node = cluster->nodes[client->connection.node].id,
        .sequence = ++client->sequence,
        .invoke_us = sim_recorder_us(&cluster->recorder),
    };
    return request;
}

static void choose_mode(struct sim_cluster *cluster, struct sim_session *self,
                        struct sim_request *request)
{
    struct prng *prng = &cluster->prng;
    struct history_op *op = &self->op;

    switch (self->carries && prng_percent(prng, 60) ? 1 : prng_range(prng, 0, 3)) {
    case 0:
        op->mode = self->carries ? HISTORY_READ_TOKEN : HISTORY_READ_LOCAL;
        op->at_least = self->token;
        break;
    case 1:
        op->mode = HISTORY_READ_TOKEN;
        op->at_least =
            self->carries && prng_percent(prng, 50) ? self->token : cluster->latest_token;
        break;
    case 2:
        op->mode = HISTORY_READ_LINEARIZABLE;
        break;
    default:
        op->mode = HISTORY_READ_MAX_LAG;
        op->lag_us = prng_range(prng, 1, 500) * 1000;
        break;
    }
    /* A session never shows less than it did, however it asks. */
    if (self->carries && op->at_least < self->token) {
        op->at_least = self->token;
    }
    request->mode = op->mode;
    request->at_least = op->at_least;
    request->lag_us = op->lag_us;
    if (op->mode != HISTORY_READ_TOKEN) {
        op->at_least = 0;
    }
}

static void read_records(struct sim_cluster *cluster, struct sim_client *client)
{
    struct prng *prng = &cluster->prng;
    struct sim_request *request = begin(cluster, client, SIM_ASK_READ, HISTORY_READ);

    choose_mode(cluster, &client->session, request);
    request->records_max = (uint32_t)prng_range(prng, 1, prng_percent(prng, 90) ? 10 : 200);
    request->offset = prng_percent(prng, 70) ? UINT64_MAX : prng_range(prng, 0, 200);
    sim_connection_send(client, request);
}

static void get_cursor(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_session *self = &client->session;
    struct sim_request *request = begin(cluster, client, SIM_ASK_CURSOR, HISTORY_CURSOR);

    choose_mode(cluster, self, request);
    (void)snprintf(self->change.name, sizeof self->change.name, "c%u",
                   (unsigned)prng_range(&cluster->prng, 0, CURSORS - 1));
    self->op.verb = HISTORY_CURSOR_GET;
    request->cursor = self->change;
    sim_connection_send(client, request);
}

/* By what was heard of it last, or whatever it is. */
static void change_cursor(struct sim_cluster *cluster, struct sim_client *client)
{
    struct prng *prng = &cluster->prng;
    struct sim_session *self = &client->session;
    struct sim_request *request = begin(cluster, client, SIM_ASK_CHANGE, HISTORY_CURSOR);
    struct cursor_change *change = &self->change;
    bool deletes = prng_percent(prng, 10);

    *change = (struct cursor_change){.owner = deletes ? 0 : client->number};
    (void)snprintf(change->topic, sizeof change->topic, "topic-%u", self->topic);
    (void)snprintf(change->name, sizeof change->name, "c%u",
                   (unsigned)prng_range(prng, 0, CURSORS - 1));
    if (prng_percent(prng, 70)) {
        change->expect = CURSOR_EXPECT_REVISION;
        change->expected = self->revision;
        self->op.has_expect_revision = true;
        self->op.expect_revision = self->revision;
    }
    if (!deletes) {
        change->offset = prng_range(prng, 0, 20);
    }
    self->op.verb = deletes ? HISTORY_CURSOR_DELETE : HISTORY_CURSOR_SET;
    self->op.cursor_offset = change->offset;
    request->cursor = *change;
    if ((cluster->options.broken & SIM_BREAK_NO_COMPARE) != 0) {
        request->cursor.expect = CURSOR_EXPECT_ANY;
        request->cursor.expected = 0;
    }
    request->proposal.command.type = deletes ? COMMAND_CURSOR_DELETE : COMMAND_CURSOR_SET;
    request->proposal.command.cursor = &request->cursor;
    sim_connection_send(client, request);
}

static void delete_topic(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_request *request = begin(cluster, client, SIM_ASK_CHANGE, HISTORY_EVENT);
    struct command *command = &request->proposal.command;

    client->session.deletes = true;
    client->session.op.event = HISTORY_EVENT_DELETED;
    command->type = COMMAND_TOPIC_DELETE;
    (void)snprintf(command->topic_name, sizeof command->topic_name, "topic-%u", request->topic);
    sim_connection_send(client, request);
}

/* Compaction goes on, or stops. */
static void alter_compaction(struct sim_cluster *cluster, struct topic_change *change)
{
    change->which |= TOPIC_SETTING_COMPACT;
    change->to.compact = prng_percent(&cluster->prng, 70);
}

/* What decides about files and indexes alone, or shows in what is missing: there is no record of it
 * in a history. */
static void alter_topic(struct sim_cluster *cluster, struct sim_client *client)
{
    struct prng *prng = &cluster->prng;
    struct sim_request *request = begin(cluster, client, SIM_ASK_CHANGE, HISTORY_EVENT);
    struct command *command = &request->proposal.command;

    client->session.silent = true;
    request->settings = (struct topic_change){
        .which = TOPIC_SETTING_SEGMENT_BYTES,
        .to = {.segment_bytes = prng_percent(prng, 20) ? 0 : prng_range(prng, 4096, 65536)}};
    if (prng_percent(prng, 50)) {
        request->settings.which |=
            TOPIC_SETTING_SEGMENT_MS | TOPIC_SETTING_INDEXES | TOPIC_SETTING_FLUSH_MS;
        request->settings.to.segment_ms = prng_range(prng, 1, 5) * 1000;
        request->settings.to.flush_ms = prng_range(prng, 20, 500);
        request->settings.to.indexes = (uint32_t)prng_range(prng, 0, TOPIC_INDEXES_KNOWN);
        request->settings.on_count = (size_t)prng_range(prng, 0, 1);
        request->settings.on_nodes[0] = prng_range(prng, 1, 5);
    }
    if (cluster->compaction && request->topic == SIM_KEYED_TOPIC) {
        alter_compaction(cluster, &request->settings);
    }
    command->type = COMMAND_TOPIC_ALTER;
    command->change = &request->settings;
    (void)snprintf(command->topic_name, sizeof command->topic_name, "topic-%u", request->topic);
    sim_connection_send(client, request);
}

/* ---- the end of an operation ---- */

static void record(struct sim_cluster *cluster, struct sim_client *client, uint64_t topic_id)
{
    struct sim_session *self = &client->session;
    struct history_op *op = &self->op;
    char topic[SIM_TOPIC_SIZE_MAX];

    self->busy = false;
    if (self->silent) {
        return;
    }
    if (topic_id == 0) {
        return; /* Nobody knows of which topic it would have been. */
    }
    sim_topic_text(self->topic, topic_id, topic);
    op->topic = topic;
    op->cursor = op->kind == HISTORY_CURSOR ? self->change.name : NULL;
    sim_recorder_add(&cluster->recorder, op);
}

/* Of a change whose outcome nobody knows, until all topics are known. */
static void put_aside(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_session *self = &client->session;
    struct sim_pending *pending;

    self->busy = false;
    cluster->pending =
        reallocarray(cluster->pending, cluster->pending_count + 1, sizeof *cluster->pending);
    ASSERT(cluster->pending != NULL);
    pending = &cluster->pending[cluster->pending_count++];
    *pending = (struct sim_pending){.op = self->op, .topic = self->topic};
    memcpy(pending->cursor, self->change.name, sizeof pending->cursor);
}

/* Without an answer, or with one that says nothing certain. */
static void end_unknown(struct sim_cluster *cluster, struct sim_client *client, enum err err)
{
    struct sim_session *self = &client->session;
    bool changes =
        self->deletes || (self->op.kind == HISTORY_CURSOR && self->op.verb != HISTORY_CURSOR_GET);

    self->op.return_us = sim_recorder_us(&cluster->recorder);
    self->op.error = err_name(err);
    self->op.outcome = changes ? HISTORY_UNKNOWN : HISTORY_FAIL;
    if (changes) {
        put_aside(cluster, client);
    } else {
        record(cluster, client, 0);
    }
}

void sim_session_abort(struct sim_cluster *cluster, struct sim_client *client)
{
    if (client->session.busy) {
        end_unknown(cluster, client, ERR_CANCELED);
    }
}

void sim_session_close(struct sim_cluster *cluster)
{
    for (size_t i = 0; i < cluster->pending_count; i++) {
        struct sim_pending *pending = &cluster->pending[i];
        struct history_op *op = &pending->op;

        op->cursor = op->kind == HISTORY_CURSOR ? pending->cursor : NULL;
        for (size_t k = 0; k < cluster->oracle.topic_count; k++) {
            const struct sim_topic *topic = &cluster->oracle.topics[k];
            char text[SIM_TOPIC_SIZE_MAX];

            if (topic->name == pending->topic &&
                (topic->deleted_us == 0 || topic->deleted_us >= op->invoke_us)) {
                sim_topic_text(topic->name, topic->id, text);
                op->topic = text;
                sim_recorder_add(&cluster->recorder, op);
            }
        }
    }
    free(cluster->pending);
    cluster->pending = NULL;
    cluster->pending_count = 0;
}

void sim_session_act(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_session *self = &client->session;
    struct sim_connection *connection = &client->connection;
    struct prng *prng = &cluster->prng;
    uint64_t what;

    if (self->busy) {
        if (cluster->now_ms >= connection->heard_ms + PATIENCE_MS) {
            end_unknown(cluster, client, ERR_TIMEOUT);
            another_node(cluster, client);
        }
        return;
    }
    connection->heard_ms = cluster->now_ms;
    if (cluster->closing || cluster->now_ms < connection->pause_until_ms) {
        return;
    }
    if (prng_percent(prng, 5)) {
        another_node(cluster, client);
        return;
    }
    what = prng_range(prng, 0, 999);
    if (what < cluster->delete_permille) {
        delete_topic(cluster, client);
    } else if (what < 650) {
        read_records(cluster, client);
    } else if (what < 800) {
        get_cursor(cluster, client);
    } else if (what < 985) {
        change_cursor(cluster, client);
    } else {
        alter_topic(cluster, client);
    }
}

/* ---- answers ---- */

static void take_read(struct sim_cluster *cluster, struct sim_client *client,
                      const struct sim_answer *answer)
{
    struct sim_session *self = &client->session;
    struct history_op *op = &self->op;

    sim_shown_tell(&answer->shown, op);
    op->log_start = answer->shown.log_start;
    op->log_end = answer->shown.log_end;
    op->token = answer->shown.applied;
    self->token = op->token > self->token ? op->token : self->token;
    cluster->stats->reads++;
}

static void take_cursor(struct sim_client *client, const struct sim_answer *answer)
{
    struct sim_session *self = &client->session;
    struct history_op *op = &self->op;
    const struct cursor_position *at = &answer->result.cursor;
    bool conflict = answer->result.err == ERR_CURSOR_CONFLICT;

    if (answer->ask == SIM_ASK_CURSOR) {
        op->token = answer->shown.applied;
        op->cursor_offset = at->offset;
    } else if (!conflict) {
        op->token = answer->result.raft_index;
    }
    op->offset = at->offset;
    op->revision = at->revision;
    op->outcome = conflict ? HISTORY_FAIL : HISTORY_OK;
    self->token = op->token > self->token ? op->token : self->token;
    self->revision = at->revision;
}

void sim_session_take(struct sim_cluster *cluster, struct sim_client *client,
                      const struct sim_answer *answer)
{
    struct sim_session *self = &client->session;
    enum err err = answer->result.err;
    uint64_t topic_id =
        answer->ask == SIM_ASK_CHANGE ? answer->result.topic_id : answer->shown.topic_id;

    ASSERT(self->busy);
    if (err_outcome(err) == ERR_OUTCOME_UNKNOWN) {
        end_unknown(cluster, client, err);
        another_node(cluster, client);
        return;
    }
    self->op.return_us = sim_recorder_us(&cluster->recorder);
    if (err != ERR_OK && err != ERR_CURSOR_CONFLICT) {
        self->op.outcome = HISTORY_FAIL;
        self->op.error = err_name(err);
        record(cluster, client, self->deletes ? 0 : topic_id);
        return;
    }
    if (self->op.kind == HISTORY_READ) {
        take_read(cluster, client, answer);
    } else if (self->op.kind == HISTORY_CURSOR) {
        take_cursor(client, answer);
    }
    record(cluster, client, topic_id);
}
