#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "load_record.h"
#include "quorlog.pb-c.h"

enum { LIFE_MIN_MS = 2000, LIFE_MAX_MS = 15000, ABRUPT_PERCENT = 30, SERVERS_TEXT_SIZE = 4096 };

uint64_t load_choose(struct load *self, uint64_t bound)
{
    ASSERT(bound > 0);
    return load_next_number(&self->random) % bound;
}

bool load_chance(struct load *self, unsigned percent)
{
    return load_choose(self, 100) < percent;
}

/* ---- nodes ---- */

uint32_t load_node(const struct load *self, const char *server)
{
    for (unsigned i = 0; i < self->server_count; i++) {
        if (strcmp(self->servers[i], server) == 0) {
            return self->nodes[i];
        }
    }
    return 0;
}

struct lookup {
    struct load *load;
    unsigned server;
    struct client *client;
};

static void on_looked_up(void *arg)
{
    struct lookup *self = arg;

    self->load->closing--;
    free(self);
}

static void on_status(void *arg, const struct client_error *error, const uint8_t *reply,
                      size_t reply_size)
{
    struct lookup *self = arg;
    Quorlog__StatusReply *status;

    if (error->err == ERR_CANCELED) {
        return;
    }
    if (error->err == ERR_OK) {
        status = quorlog__status_reply__unpack(NULL, reply_size, reply);
        if (status != NULL) {
            self->load->nodes[self->server] = (uint32_t)status->node_id;
            quorlog__status_reply__free_unpacked(status, NULL);
        }
    }
    client_close(self->client, on_looked_up, self);
}

void load_learn_nodes(struct load *self)
{
    for (unsigned i = 0; i < self->server_count; i++) {
        const struct client_options options = {
            .servers = self->servers[i], .name = "load-lookup", .timeout_ms = 1000};
        struct lookup *lookup;

        if (self->nodes[i] != 0) {
            continue;
        }
        lookup = calloc(1, sizeof *lookup);
        ASSERT(lookup != NULL);
        lookup->load = self;
        lookup->server = i;
        if (client_new(&options, &self->loop, &lookup->client, NULL) != ERR_OK) {
            free(lookup);
            continue;
        }
        self->closing++;
        if (client_status(lookup->client, true, on_status, lookup) != ERR_OK) {
            client_close(lookup->client, on_looked_up, lookup);
        }
    }
}

/* ---- lives ---- */

struct history_op life_op(struct life *self, enum history_kind kind)
{
    struct history_op op = {.kind = kind,
                            .client = self->number,
                            .sequence = ++self->sequence,
                            .node = life_node(self)};

    if (self->topic != NULL) {
        op.topic = self->topic->label;
    }
    return op;
}

uint32_t life_node(const struct life *self)
{
    return self->closing ? 0 : load_node(self->load, client_server(self->client));
}

/* All servers, beginning with one by chance. */
static void list_servers(struct load *load, char text[SERVERS_TEXT_SIZE])
{
    unsigned first = (unsigned)load_choose(load, load->server_count);
    size_t used = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < load->server_count; i++) {
        const char *server = load->servers[(first + i) % load->server_count];
        int size =
            snprintf(text + used, SERVERS_TEXT_SIZE - used, "%s%s", i > 0 ? "," : "", server);

        ASSERT(size > 0 && used + (size_t)size < SERVERS_TEXT_SIZE);
        used += (size_t)size;
    }
}

void life_start(struct load *load, struct slot *slot)
{
    char servers[SERVERS_TEXT_SIZE];
    const struct client_options options = {
        .servers = servers, .name = slot->kind->name, .timeout_ms = LOAD_REQUEST_MS};
    struct life *self = calloc(1, slot->kind->size);

    ASSERT(slot->life == NULL && self != NULL);
    list_servers(load, servers);
    self->load = load;
    self->slot = slot;
    self->number = ++load->last_number;
    self->end_us = recorder_now_us() +
                   (LIFE_MIN_MS + load_choose(load, LIFE_MAX_MS - LIFE_MIN_MS)) * UINT64_C(1000);
    if (client_new(&options, &load->loop, &self->client, NULL) != ERR_OK) {
        free(self); /* Memory is short: the next step tries again. */
        return;
    }
    load->closing++;
    slot->life = self;
    slot->kind->begin(self);
}

static void on_closed(void *arg)
{
    struct life *self = arg;
    struct load *load = self->load;

    ASSERT(self->closing && self->under_way == 0); /* L1 */
    self->slot->kind->end(self);
    if (self->topic != NULL) {
        topics_leave(self);
    }
    self->slot->life = NULL;
    load->closing--;
    free(self); /* L2 */
}

void life_close(struct life *self)
{
    if (!self->closing) {
        client_close(self->client, on_closed, self);
        self->closing = true;
        self->leaving = true;
    }
}

static void life_step(struct life *self, uint64_t now_us)
{
    struct load *load = self->load;

    if (self->closing) {
        return;
    }
    if (self->abrupt) {
        life_close(self);
        return;
    }
    if (self->topic != NULL && !self->topic->live) {
        self->leaving = true;
    }
    if (!self->leaving && (load->stopping || now_us >= self->end_us)) {
        self->abrupt = !load->stopping && load_chance(load, ABRUPT_PERCENT);
        self->leaving = !self->abrupt;
    }
    if (!self->leaving) {
        self->slot->kind->step(self);
    } else if (self->under_way == 0 || load->hurried) {
        life_close(self);
    }
}

void lives_step(struct load *load)
{
    uint64_t now_us = recorder_now_us();

    for (unsigned i = 0; i < load->slot_count; i++) {
        if (load->slots[i].life != NULL) {
            life_step(load->slots[i].life, now_us);
        } else if (!load->stopping) {
            life_start(load, &load->slots[i]);
        }
    }
}
