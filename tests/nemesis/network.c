#include "nemesis/network.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
/* clang finds falls through in uthash's own function. */
#define HASH_FUNCTION(key, size, result) ((result) = crc32c((key), (size)))
#include <uthash.h>
#include <utlist.h>

#include "base/assert.h"
#include "base/block.h"
#include "base/crc32c.h"
#include "nemesis/crossing.h"
#include "transport/transport.h"

struct lane_key {
    uint64_t from;
    uint64_t to;
};

struct lane_entry {
    struct lane_key key;
    struct lane lane;
    UT_hash_handle hh;
};

struct node {
    struct node *prev;
    struct node *next;
    struct network *network;
    uint64_t id;
    struct listener *listener; /* owned */
    struct sockaddr_in target;
};

struct network {
    uv_loop_t *loop;
    struct pipe_source shared;
    struct node *nodes;         /* owned */
    struct lane_entry *lanes;   /* owned */
    struct crossing *crossings; /* each frees itself */
};

struct network *network_new(uv_loop_t *loop, uint64_t seed)
{
    struct network *self = calloc(1, sizeof *self);

    if (self != NULL) {
        self->loop = loop;
        self->shared.loop = loop;
        self->shared.random = seed;
    }
    return self;
}

/* ---- lanes ---- */

/* Lanes stay for good: pipes borrow them. */
static struct lane *lane_of(struct network *self, uint64_t from, uint64_t to)
{
    struct lane_key key = {.from = from, .to = to};
    struct lane_entry *entry;

    HASH_FIND(hh, self->lanes, &key, sizeof key, entry);
    if (entry == NULL) {
        entry = calloc(1, sizeof *entry);
        if (entry == NULL) {
            return NULL;
        }
        entry->key = key;
        entry->lane.from = from;
        entry->lane.to = to;
        HASH_ADD(hh, self->lanes, key, sizeof entry->key, entry);
    }
    return &entry->lane;
}

static bool is(int64_t wanted, uint64_t id)
{
    return wanted == NETWORK_ANY ? id != NETWORK_CLIENTS : (uint64_t)wanted == id;
}

static enum err make_lanes(struct network *self, int64_t from, int64_t to)
{
    struct node *a;
    struct node *b;

    if (from != NETWORK_ANY && to != NETWORK_ANY) {
        return lane_of(self, (uint64_t)from, (uint64_t)to) != NULL ? ERR_OK : ERR_NOMEM;
    }
    DL_FOREACH(self->nodes, a)
    {
        DL_FOREACH(self->nodes, b)
        {
            uint64_t f = from == NETWORK_ANY ? a->id : (uint64_t)from;
            uint64_t t = to == NETWORK_ANY ? b->id : (uint64_t)to;

            if (f != t && lane_of(self, f, t) == NULL) {
                return ERR_NOMEM;
            }
        }
    }
    return ERR_OK;
}

/* Conditions changed: what passes, and what can never pass again, changes too. */
static void step_all(struct network *self)
{
    struct crossing *crossing;
    struct crossing *next;

    DL_FOREACH_SAFE(self->crossings, crossing, next)
    {
        crossing_step(crossing);
    }
}

enum err network_change(struct network *self, int64_t from, int64_t to,
                        void (*change)(struct lane_condition *condition, const void *arg),
                        const void *arg)
{
    struct lane_entry *entry;
    struct lane_entry *next;
    enum err err = make_lanes(self, from, to);

    if (err != ERR_OK) {
        return err;
    }
    HASH_ITER(hh, self->lanes, entry, next)
    {
        if (is(from, entry->key.from) && is(to, entry->key.to)) {
            change(&entry->lane.condition, arg);
            if (entry->lane.condition.rate == 0) {
                entry->lane.free_us = 0;
            }
        }
    }
    step_all(self);
    return ERR_OK;
}

void network_cut(struct network *self, int64_t one, int64_t other)
{
    struct crossing *crossing;
    struct crossing *next;

    DL_FOREACH_SAFE(self->crossings, crossing, next)
    {
        uint64_t from;
        uint64_t to = crossing_ends(crossing, &from);

        if ((is(one, from) && is(other, to)) || (is(one, to) && is(other, from))) {
            crossing_close(crossing, true);
        }
    }
}

/* ---- crossings ---- */

static void on_identified(struct crossing *crossing, void *arg, uint64_t from)
{
    struct node *node = arg;
    struct lane *forth = lane_of(node->network, from, node->id);
    struct lane *back = lane_of(node->network, node->id, from);

    if (forth == NULL || back == NULL) {
        crossing_close(crossing, true);
        return;
    }
    crossing_begin(crossing, forth, back);
}

static void on_crossing_closed(struct crossing *crossing, void *arg)
{
    struct network *self = arg;

    DL_DELETE(self->crossings, crossing);
}

static void on_accepted(void *arg, int fd)
{
    static const struct crossing_events events = {on_identified, on_crossing_closed};
    struct node *node = arg;
    struct network *self = node->network;
    struct crossing *crossing = crossing_new(&self->shared, fd, &node->target, &events);

    if (crossing != NULL) {
        crossing->node = node;
        crossing->network = self;
        crossing->to = node->id;
        DL_APPEND(self->crossings, crossing);
        crossing_start(crossing);
    }
}

/* ---- nodes ---- */

static void on_listener_failed(void *arg, enum err err, const char *text)
{
    struct node *node = arg;

    (void)err;
    (void)fprintf(stderr, "proxy: node %" PRIu64 ": %s\n", node->id, text); /* It goes on. */
}

static void on_listener_closed(void *arg)
{
    free(arg);
}

static struct node *find_node(struct network *self, uint64_t id)
{
    struct node *node;

    DL_FOREACH(self->nodes, node)
    {
        if (node->id == id) {
            return node;
        }
    }
    return NULL;
}

static enum err parse_target(const char *text, struct sockaddr_in *ret_address,
                             struct err_info *info)
{
    char host[256];
    char port[8];
    enum err err = address_split(text, host, port, info);

    if (err != ERR_OK) {
        return err;
    }
    if (uv_ip4_addr(host, atoi(port), ret_address) != 0) {
        return err_set(info, ERR_INVALID, "'%s': an IPv4 address and a port are wanted", text);
    }
    return ERR_OK;
}

enum err network_add(struct network *self, uint64_t id, const char *listen, const char *target,
                     struct err_info *info)
{
    static const struct listener_events events = {on_accepted, on_listener_failed,
                                                  on_listener_closed};
    struct node *node;
    enum err err;

    if (find_node(self, id) != NULL) {
        return err_set(info, ERR_EXISTS, "node %" PRIu64 " has an address", id);
    }
    node = calloc(1, sizeof *node);
    if (node == NULL) {
        return err_set(info, ERR_NOMEM, "node %" PRIu64, id);
    }
    node->network = self;
    node->id = id;
    err = parse_target(target, &node->target, info);
    if (err == ERR_OK) {
        err = listener_open(self->loop, listen, &events, node, &node->listener, info);
    }
    if (err != ERR_OK) {
        free(node);
        return err;
    }
    DL_APPEND(self->nodes, node);
    return ERR_OK;
}

enum err network_move(struct network *self, uint64_t id, const char *target, struct err_info *info)
{
    struct node *node = find_node(self, id);

    if (node == NULL) {
        return err_set(info, ERR_NOT_FOUND, "there is no node %" PRIu64, id);
    }
    return parse_target(target, &node->target, info);
}

enum err network_remove(struct network *self, uint64_t id, struct err_info *info)
{
    struct node *node = find_node(self, id);
    struct crossing *crossing;
    struct crossing *next;

    if (node == NULL) {
        return err_set(info, ERR_NOT_FOUND, "there is no node %" PRIu64, id);
    }
    DL_FOREACH_SAFE(self->crossings, crossing, next)
    {
        if (crossing->node == node) {
            crossing_close(crossing, true);
        }
    }
    DL_DELETE(self->nodes, node);
    listener_close(node->listener);
    return ERR_OK;
}

void network_print(const struct network *self, FILE *file)
{
    const struct lane_entry *entry;
    const struct crossing *crossing;
    const char *comma = "";
    size_t count = 0;
    size_t queued = 0;

    DL_FOREACH(self->crossings, crossing)
    {
        count++;
        queued += crossing_queued(crossing);
    }
    (void)fprintf(file, "{\"connections\":%zu,\"queued\":%zu,\"lanes\":[", count, queued);
    for (entry = self->lanes; entry != NULL; entry = entry->hh.next) {
        (void)fprintf(file,
                      "%s{\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"passed\":%" PRIu64
                      ",\"dropped\":%" PRIu64 "}",
                      comma, entry->key.from, entry->key.to, entry->lane.passed,
                      entry->lane.dropped);
        comma = ",";
    }
    (void)fprintf(file, "]}\n"); /* Whoever reads finds out if it is not whole. */
}
