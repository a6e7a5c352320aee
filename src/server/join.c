/*
 * One link an address, all at once. The first hello reply decides, or the first refusal of this
 * node; a link that fails dials again until the time is over.
 */
#include "server/join.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "server/hello.h"
#include "transport/transport.h"

enum { JOIN_MS = 20000, ADDRESSES_MAX = 16 };

struct joining {
    const struct identity *identity;
    struct link *links[ADDRESSES_MAX];
    unsigned count;
    unsigned open; /* handles: links, and the timer */
    uv_timer_t timer;
    bool decided;
    enum err err;
    char cluster_id[CLUSTER_ID_SIZE];
    struct err_info info; /* of a refusal, or the last reason why nobody answered */
};

static void on_timer_closed(uv_handle_t *handle)
{
    struct joining *self = handle->data;

    ASSERT(self->open > 0);
    self->open--;
}

static void decide(struct joining *self, enum err err)
{
    if (self->decided) {
        return;
    }
    self->decided = true;
    self->err = err;
    for (unsigned i = 0; i < self->count; i++) {
        link_close(self->links[i]);
    }
    uv_close((uv_handle_t *)&self->timer, on_timer_closed);
}

static void on_timer(uv_timer_t *timer)
{
    decide(timer->data, ERR_CONNECT);
}

static void on_up(struct link *link, void *arg, struct conn *conn)
{
    struct joining *self = arg;

    (void)link;
    if (hello_send_joining(self->identity, conn) != ERR_OK) {
        (void)err_set(&self->info, ERR_NOMEM, "no memory for a hello");
    }
}

static void on_frame(struct link *link, void *arg, const struct frame *frame)
{
    struct joining *self = arg;
    enum err err = hello_take_cluster(frame, self->cluster_id, &self->info);

    if (err == ERR_OK || err == ERR_WRONG_DISK || err == ERR_ID_USED) {
        decide(self, err);
    } else {
        link_reset(link, err, self->info.text);
    }
}

static void on_down(struct link *link, void *arg, enum err err, const char *text)
{
    struct joining *self = arg;

    (void)link; /* It dials again by itself. */
    if (!self->decided && err != ERR_CANCELED) {
        (void)err_set(&self->info, ERR_CONNECT, "%s", text);
    }
}

static void on_closed(struct link *link, void *arg)
{
    struct joining *self = arg;

    (void)link;
    ASSERT(self->open > 0);
    self->open--;
}

static enum err open_links(struct joining *self, uv_loop_t *loop, const char *addresses,
                           struct err_info *info)
{
    static const struct link_events events = {
        .up = on_up, .frame = on_frame, .down = on_down, .closed = on_closed};

    while (*addresses != '\0' && self->count < ADDRESSES_MAX) {
        char address[TRANSPORT_ADDRESS_SIZE];
        size_t size = strcspn(addresses, ",");
        const struct link_options options = {
            .address = address,
            .limits = {.frame_size_max = HELLO_FRAME_SIZE_MAX, .queue_size_max = 65536},
        };
        enum err err;

        (void)snprintf(address, sizeof address, "%.*s", (int)size, addresses); /* Refused if cut. */
        err = link_open(loop, &options, &events, self, &self->links[self->count]);
        if (err != ERR_OK) {
            return err_set(info, err, "join: '%.200s' is not of the form HOST:PORT", address);
        }
        self->count++;
        self->open++;
        addresses += size + (addresses[size] == ',' ? 1 : 0);
    }
    return ERR_OK;
}

enum err join_learn(uv_loop_t *loop, const struct config *config, const struct identity *identity,
                    char ret_cluster_id[CLUSTER_ID_SIZE], struct err_info *info)
{
    struct joining self = {.identity = identity, .info = {.text = "nobody is there"}};
    enum err err;
    int rv;

    ASSERT(config->join[0] != '\0' && identity->disk_id != 0);
    rv = uv_timer_init(loop, &self.timer);
    ASSERT(rv == 0);
    self.timer.data = &self;
    self.open = 1;
    rv = uv_timer_start(&self.timer, on_timer, JOIN_MS, 0);
    ASSERT(rv == 0);
    err = open_links(&self, loop, config->join, info);
    if (err != ERR_OK) {
        decide(&self, err);
    }
    while (self.open > 0) {
        (void)uv_run(loop, UV_RUN_ONCE); /* Whether more is to come is seen in open. */
    }
    if (err != ERR_OK) {
        return err;
    }
    if (self.err == ERR_CONNECT) {
        return err_set(info, ERR_CONNECT,
                       "no node of the cluster answered at '%.200s' (%.200s); the node can join "
                       "when one does",
                       config->join, self.info.text);
    }
    if (self.err != ERR_OK) {
        return err_set(info, self.err, "join: %s", self.info.text);
    }
    memcpy(ret_cluster_id, self.cluster_id, CLUSTER_ID_SIZE);
    return ERR_OK;
}
