/*
 * What channel.c and channel_conn.c share: the object, its states, and the few functions that one
 * part has for the other. For nobody else.
 */
#ifndef QUORLOG_CLIENT_CHANNEL_INTERNAL_H
#define QUORLOG_CLIENT_CHANNEL_INTERNAL_H

#include "client/channel.h"

#define NS_PER_MS UINT64_C(1000000)

enum {
    CHANNEL_HEADER_SIZE_MAX = 1024, /* of what is sent here: a topic and some numbers */
    CHANNEL_SERVERS_MAX = 64,
    CHANNEL_ID_SLOTS = 1024, /* of the table by id; a power of two */
};

enum channel_state { CHANNEL_DOWN, CHANNEL_HELLO, CHANNEL_READY, CHANNEL_ENDING, CHANNEL_CLOSING };

struct channel {
    enum channel_state state;
    uv_loop_t *loop;
    char *list;                         /* owned: the servers, cut into pieces */
    char *servers[CHANNEL_SERVERS_MAX]; /* borrowed from list */
    unsigned server_count;
    unsigned server; /* index of the present one */
    bool prefers_followers;
    bool met_leader;        /* since the last READY: the next one is taken */
    char servers_text[256]; /* as given, for messages */
    char name[201];
    uint64_t timeout_ns;
    struct conn_limits limits;
    struct channel_times times;

    struct link *link;           /* NULL until there is a user */
    uint64_t connect_timeout_ns; /* 0: none */
    uv_timer_t timer;
    uint64_t timer_ns;           /* when it fires; CHANNEL_NEVER: stopped */
    struct channel_user *users;  /* utlist */
    struct channel_user *cursor; /* the next one in on_timer's walk */
    unsigned user_count;
    struct channel_user watch; /* the channel's own: silence, and the move to the next server */
    uint64_t move_ns;          /* when to go to the server `server`; CHANNEL_NEVER */

    struct call *calls; /* utlist, in order of sending */
    struct call
        *slots[CHANNEL_ID_SLOTS]; /* by id % CHANNEL_ID_SLOTS: the newest call there, a hint */
    uint64_t next_id;

    char cluster_id[128]; /* of the first node that was met; "": none yet */
    size_t batch_size_max;
    size_t peer_frame_size_max;
    uint64_t heard_ns;        /* the last frame, or the first call after a quiet time */
    bool pinged;              /* since heard_ns */
    uint64_t leaderless_ns;   /* the first NO_LEADER since a leader last answered; 0: none */
    uint64_t leader_heard_ns; /* the last answer that took a leader */
    struct err_info reason;   /* of the last failure of a connection */
    unsigned failures;        /* connections that did not hold, in a row */
    uint64_t ready_ns;        /* when the present or last one became READY */
    uint64_t hello_by_ns;     /* HELLO: then another server is tried; CHANNEL_NEVER: none is */
    unsigned refusals;        /* of these, in a row: refused for good */
    bool refused;             /* by all in turn */
    uint64_t connect_by_ns;   /* a node has to be reached till then; CHANNEL_NEVER: one was */
    bool unreached;           /* it was not */
    struct err_info unreached_reason;

    unsigned handles; /* that must be closed before this is freed */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* The only way to change state. */
void channel_move(struct channel *self, enum channel_state next);

/* ---- channel.c ---- */

/* All users have their turn soon. */
void channel_wake_all(struct channel *self);

/* NULL: answered, forgotten or never made. */
struct call *channel_find_call(const struct channel *self, uint64_t id);

/* Tells all calls that no answer will come. */
void channel_lose_calls(struct channel *self, enum err err, const char *text);

/* Packs the header (NULL: none) and sends. Errors of conn_send; ERR_CONNECT without connection. */
enum err channel_send_frame(struct channel *self, const struct frame_out *frame,
                            const ProtobufCMessage *header);

/* As channel_retry_ns, with other bounds. */
uint64_t channel_backoff_ns(uint64_t now_ns, unsigned failures, uint64_t min_ms, uint64_t max_ms);

/* ---- channel_conn.c ---- */

/* Begins to dial. on_closed: the link's. */
enum err channel_open_link(struct channel *self, void (*on_closed)(struct link *link, void *arg));

/* The step of the channel's own user: watches over the connection, moves to the next server. */
void channel_watch(struct channel_user *user);

#endif
