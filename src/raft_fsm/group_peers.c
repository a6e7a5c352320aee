/*
 * Links to peers.
 *
 *      DIALLING ── up: hello sent ──► GREETING ── hello reply fits ──► READY
 *          ▲                              │ does not fit: link_reset     │
 *          └──────────── down ────────────┴──────────────────────────────┘
 *
 * All on the raft thread's loop.
 */
#include "raft_fsm/group_peers.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

enum peer_state { PEER_DIALLING, PEER_GREETING, PEER_READY };

struct peer {
    struct group_peers *peers;
    uint64_t id;
    char address[MEMBER_ADDRESS_SIZE];
    struct link *link; /* NULL: the slot is free */
    enum peer_state state;
    bool closing;
    bool told; /* its being unreachable was logged */
};

struct group_peers {
    struct group_peers_options options;
    /* Twice the members: those gone are still closing while new ones dial. */
    struct peer peers[2 * MEMBERSHIP_MAX];
    unsigned open;
    void (*closed)(void *arg);
    void *closed_arg;
    struct slice slices[FRAME_BODY_SLICES_MAX]; /* of the message that is being sent */
};

enum err group_peers_new(const struct group_peers_options *options, struct group_peers **ret_peers)
{
    struct group_peers *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->options = *options;
    *ret_peers = self;
    return ERR_OK;
}

void group_peers_free(struct group_peers *self)
{
    if (self != NULL) {
        ASSERT(self->open == 0);
        free(self);
    }
}

static void on_up(struct link *link, void *arg, struct conn *conn)
{
    struct peer *peer = arg;

    ASSERT(peer->link == link && peer->state == PEER_DIALLING);
    peer->state = PEER_GREETING;
    peer->peers->options.events->hello(peer->peers->options.events->arg, conn, peer->id, 0);
}

static void on_frame(struct link *link, void *arg, const struct frame *frame)
{
    struct peer *peer = arg;
    const struct group_events *events = peer->peers->options.events;
    struct err_info info = {0};
    uint64_t disk;
    enum err err;

    if (peer->state != PEER_GREETING) {
        return; /* Nothing but the hello's reply is said in this direction. */
    }
    err = events->hello_reply(events->arg, frame, peer->id, &disk, &info);
    if (err != ERR_OK) {
        link_reset(link, err, info.text);
        return;
    }
    peer->state = PEER_READY;
    peer->told = false;
    diag_event(peer->peers->options.diag, DIAG_INFO, "raft_fsm", "peer_connected",
               "peer=%llu address=%s", (unsigned long long)peer->id, peer->address);
}

static void on_down(struct link *link, void *arg, enum err err, const char *text)
{
    struct peer *peer = arg;
    char quoted[256];

    (void)link; /* It dials again by itself. */
    if (peer->state == PEER_READY || !peer->told) {
        peer->told = true;
        diag_event(peer->peers->options.diag, peer->closing ? DIAG_DEBUG : DIAG_WARN, "raft_fsm",
                   "peer_unreachable", "peer=%llu address=%s code=%s why=%s",
                   (unsigned long long)peer->id, peer->address, err_name(err),
                   diag_quote(quoted, sizeof quoted, text));
    }
    peer->state = PEER_DIALLING;
}

static void on_closed(struct link *link, void *arg)
{
    struct peer *peer = arg;
    struct group_peers *self = peer->peers;

    ASSERT(peer->link == link && self->open > 0);
    *peer = (struct peer){0};
    self->open--;
    if (self->open == 0 && self->closed != NULL) {
        self->closed(self->closed_arg);
    }
}

static struct peer *find(struct group_peers *self, uint64_t id)
{
    for (size_t i = 0; i < sizeof self->peers / sizeof self->peers[0]; i++) {
        if (self->peers[i].link != NULL && !self->peers[i].closing && self->peers[i].id == id) {
            return &self->peers[i];
        }
    }
    return NULL;
}

static void open_peer(struct group_peers *self, const struct member *member)
{
    static const struct link_events events = {
        .up = on_up, .frame = on_frame, .down = on_down, .closed = on_closed};
    struct link_options options = {
        .address = member->address,
        .limits =
            {
                .frame_size_max = self->options.frame_size_max,
                .queue_size_max = self->options.queue_size_max,
                .turns = self->options.turns,
            },
    };
    struct peer *peer = NULL;

    for (size_t i = 0; i < sizeof self->peers / sizeof self->peers[0] && peer == NULL; i++) {
        peer = self->peers[i].link == NULL ? &self->peers[i] : NULL;
    }
    if (peer == NULL) {
        return; /* Old links are still closing: the next update opens it. */
    }
    *peer = (struct peer){.peers = self, .id = member->id};
    memcpy(peer->address, member->address, sizeof peer->address);
    if (link_open(self->options.loop, &options, &events, peer, &peer->link) != ERR_OK) {
        *peer = (struct peer){0}; /* Memory is short: as above. */
        return;
    }
    self->open++;
}

void group_peers_update(struct group_peers *self, const struct membership *membership)
{
    for (size_t i = 0; i < sizeof self->peers / sizeof self->peers[0]; i++) {
        struct peer *peer = &self->peers[i];

        if (peer->link != NULL && !peer->closing && membership_find(membership, peer->id) == NULL) {
            peer->closing = true;
            link_close(peer->link);
        }
    }
    for (unsigned i = 0; i < membership->count; i++) {
        const struct member *member = &membership->members[i];
        struct peer *peer = find(self, member->id);

        if (member->id == self->options.self_id) {
            continue;
        }
        if (peer == NULL) {
            open_peer(self, member);
        } else if (strcmp(peer->address, member->address) != 0 &&
                   link_move(peer->link, member->address) == ERR_OK) {
            memcpy(peer->address, member->address, sizeof peer->address);
        }
    }
}

void group_peers_send(struct group_peers *self, const struct message *message)
{
    struct peer *peer = find(self, message->to);
    uint8_t header[MESSAGE_HEADER_SIZE];
    struct frame_out frame = {
        .type = QUORLOG__FRAME_TYPE__FRAME_RAFT,
        .header = header,
        .header_size = sizeof header,
        .body = self->slices,
    };
    unsigned count;

    if (peer == NULL || peer->state != PEER_READY || link_conn(peer->link) == NULL) {
        return;
    }
    if (message_encode(message, header, self->slices, FRAME_BODY_SLICES_MAX, &count) != ERR_OK) {
        return;
    }
    frame.body_count = count;
    (void)conn_send(link_conn(peer->link), &frame, false); /* A full queue: see the header. */
}

void group_peers_close(struct group_peers *self, void (*closed)(void *arg), void *arg)
{
    self->closed = closed;
    self->closed_arg = arg;
    for (size_t i = 0; i < sizeof self->peers / sizeof self->peers[0]; i++) {
        if (self->peers[i].link != NULL) {
            self->peers[i].closing = true;
            link_close(self->peers[i].link);
        }
    }
    if (self->open == 0) {
        closed(arg);
    }
}
