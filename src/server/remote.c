/*
 * Happy path: remote_send opens a link → `up`: hello → its reply: READY, waiting requests are
 * retried → requests and answers. Failure modes: the connection ends (requests are lost, the link
 * dials again), the node refuses the hello (told once a change of reason, dialled again).
 *
 *      DIALLING --up: hello sent--> GREETING --reply fits--> READY
 *          ^                           |                       |
 *          +-------- down -------------+---------- down -------+
 *      any --remotes_close, or down, and it is no member any more--> CLOSING
 */
#include "server/remote.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/assert.h"
#include "server/front.h"
#include "server/hello.h"

enum remote_state { REMOTE_DIALLING, REMOTE_GREETING, REMOTE_READY, REMOTE_CLOSING };

struct remote {
    struct front *front;
    uint64_t id;
    char address[MEMBER_ADDRESS_SIZE]; /* as it was when the link was opened */
    enum remote_state state;
    struct link *link;
    uint64_t request_id; /* of the last one that was sent */
    struct passed *passed;
    enum err told; /* the reason of `down` that was logged last */
    struct remote *prev;
    struct remote *next;
};

static void move(struct remote *self, enum remote_state state)
{
    static const unsigned allowed[] = {
        [REMOTE_DIALLING] = 1U << REMOTE_GREETING | 1U << REMOTE_DIALLING | 1U << REMOTE_CLOSING,
        [REMOTE_GREETING] = 1U << REMOTE_READY | 1U << REMOTE_DIALLING | 1U << REMOTE_CLOSING,
        [REMOTE_READY] = 1U << REMOTE_DIALLING | 1U << REMOTE_CLOSING,
        [REMOTE_CLOSING] = 0,
    };

    ASSERT((allowed[self->state] & 1U << state) != 0);
    self->state = state;
}

static void lose_all(struct remote *self, enum err err, const char *text)
{
    while (self->passed != NULL) {
        struct passed *passed = self->passed;

        DL_DELETE(self->passed, passed);
        passed->remote = NULL;
        passed->lost(passed, err, text);
    }
}

static void retry(struct front *front)
{
    changes_retry(front);
    elsewheres_retry(front);
    read_indexes_retry(front);
    statuses_retry(front);
}

/* ---- events of the link ---- */

static void on_up(struct link *link, void *arg, struct conn *conn)
{
    struct remote *self = arg;

    ASSERT(link == self->link);
    if (self->state == REMOTE_CLOSING) {
        return;
    }
    move(self, REMOTE_GREETING);
    if (hello_send(&self->front->node->identity, conn, HELLO_NODE, self->id, 0) != ERR_OK) {
        link_reset(link, ERR_NOMEM, "no memory for a hello");
    }
}

static void greeted(struct remote *self, const struct frame *frame)
{
    struct node *node = self->front->node;
    struct err_info info;
    uint64_t disk = 0;
    enum err err = hello_check_reply(&node->identity, frame, self->id, &disk, &info);

    err = err != ERR_OK ? err : group_check_node(node->group, self->id, disk, &info);

    if (err != ERR_OK) {
        link_reset(self->link, err, info.text);
        return;
    }
    move(self, REMOTE_READY);
    self->told = ERR_OK;
    retry(self->front);
}

static void on_frame(struct link *link, void *arg, const struct frame *frame)
{
    struct remote *self = arg;
    struct passed *passed;

    ASSERT(link == self->link);
    if (self->state == REMOTE_GREETING) {
        greeted(self, frame);
        return;
    }
    /* Answers come nearly in order: the search ends early. */
    DL_SEARCH_SCALAR(self->passed, passed, request_id, frame->request_id);
    if (passed != NULL && self->state == REMOTE_READY) {
        DL_DELETE(self->passed, passed);
        passed->remote = NULL;
        passed->answered(passed, frame);
    }
}

/* Still, and where it was; else it would be dialled for ever. */
static bool is_member(const struct remote *self)
{
    char address[MEMBER_ADDRESS_SIZE];

    return group_member_address(self->front->node->group, self->id, address) &&
           strcmp(address, self->address) == 0;
}

static void on_down(struct link *link, void *arg, enum err err, const char *text)
{
    struct remote *self = arg;

    ASSERT(link == self->link);
    if (self->state == REMOTE_CLOSING) {
        return;
    }
    if (err != self->told) {
        char quoted[300];

        diag_event(self->front->node->diag, DIAG_INFO, "server", "node_link_down",
                   "to=%" PRIu64 " reason=%s text=%s", self->id, err_name(err),
                   diag_quote(quoted, sizeof quoted, text));
        self->told = err;
    }
    move(self, REMOTE_DIALLING);
    lose_all(self, ERR_CLOSED, text);
    if (!is_member(self)) {
        move(self, REMOTE_CLOSING);
        link_close(link);
    }
}

static void on_drained(struct link *link, void *arg)
{
    struct remote *self = arg;

    ASSERT(link == self->link);
    if (self->state == REMOTE_READY) {
        retry(self->front);
    }
}

static void on_closed(struct link *link, void *arg)
{
    struct remote *self = arg;
    struct front *front = self->front;

    ASSERT(link == self->link && self->state == REMOTE_CLOSING);
    ASSERT(self->passed == NULL);
    DL_DELETE(front->remotes.list, self);
    free(self);
    front_check_finished(front);
}

/* ---- what others call ---- */

static enum err open_remote(struct front *front, uint64_t id, struct remote **ret_remote)
{
    static const struct link_events events = {.up = on_up,
                                              .frame = on_frame,
                                              .down = on_down,
                                              .drained = on_drained,
                                              .closed = on_closed};
    const struct config *config = front->node->config;
    char address[MEMBER_ADDRESS_SIZE];
    const struct link_options options = {
        .address = address,
        .limits = {.frame_size_max = config->frame_size_max,
                   .queue_size_max = config->connection_queue_size * 4,
                   .turns = &front->turns},
    };
    struct remote *self;
    enum err err;

    if (id == front->node->identity.node_id ||
        !group_member_address(front->node->group, id, address)) {
        return ERR_NOT_FOUND;
    }
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->front = front;
    self->id = id;
    memcpy(self->address, address, sizeof self->address);
    err = link_open(&front->loop, &options, &events, self, &self->link);
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    DL_APPEND(front->remotes.list, self);
    *ret_remote = self;
    return ERR_OK;
}

enum err remote_send(struct front *front, uint64_t to, struct passed *passed,
                     struct frame_out *frame)
{
    struct remote *self;
    struct conn *conn;
    enum err err;

    ASSERT(passed->remote == NULL);
    ASSERT(passed->answered != NULL && passed->lost != NULL);
    DL_SEARCH_SCALAR(front->remotes.list, self, id, to);
    if (self == NULL) {
        err = open_remote(front, to, &self);
        if (err != ERR_OK) {
            return err;
        }
    }
    conn = link_conn(self->link);
    if (self->state != REMOTE_READY || conn == NULL) {
        return ERR_AGAIN; /* Not up yet, or failed: `down` is on its way. */
    }
    frame->request_id = self->request_id + 1;
    err = conn_send(conn, frame, false);
    if (err != ERR_OK) {
        return err == ERR_CLOSED ? ERR_AGAIN : err; /* `down` is on its way. */
    }
    self->request_id++;
    passed->request_id = self->request_id;
    passed->remote = self;
    DL_APPEND(self->passed, passed);
    return ERR_OK;
}

void remote_forget(struct passed *passed)
{
    if (passed->remote != NULL) {
        DL_DELETE(passed->remote->passed, passed);
        passed->remote = NULL;
    }
    ASSERT(passed->remote == NULL);
}

uint64_t remote_node(const struct passed *passed)
{
    ASSERT(passed->remote != NULL);
    return passed->remote->id;
}

void remotes_close(struct front *front)
{
    struct remote *self;
    struct remote *next;

    DL_FOREACH_SAFE(front->remotes.list, self, next)
    {
        if (self->state != REMOTE_CLOSING) {
            move(self, REMOTE_CLOSING);
            lose_all(self, ERR_SHUTDOWN, "this node is stopping");
            link_close(self->link);
        }
    }
}
