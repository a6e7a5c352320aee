/*
 * One dialled connection that is kept up.
 *
 * Happy path: dial() finds the addresses of the host (numeric ones at once, names in libuv's thread
 * pool), try_next() connects to one after the other, and the first that answers becomes a conn.
 * When that ends, `down` is called and the timer dials again.
 *
 * Failure modes: the name does not resolve, no address answers in time, the connection fails or the
 * owner ends it with link_reset(): one `down` with the reason for each, then a delay that doubles
 * from retry_min_ms to retry_max_ms. Half of the delay is random, so that all who lost the same
 * peer do not come back at once. A connection that held for retry_max_ms starts over with
 * retry_min_ms; one that was refused after the connect does not.
 *
 *              dial                     on_resolved
 *   +-> WAITING ------> RESOLVING ---------------------> CONNECTING ------> UP
 *   |    ^  ^  \            | give_up, link_move          ^   |      on_poll |
 *   |    |  |   +-----------+-----------------------------+   |              | end: failed,
 *   |    |  +---------------+ dial, host is numeric           |              | link_reset,
 * link_move |    +----------------------------------------------------+              v | give_up,
 * link_move                     ENDING
 *   +------------------------------------------------------------------------+  on_conn_closed:
 * down
 *
 *   any of these ----> CLOSING ----> CLOSED    link_close; release(), when nothing is pending
 *
 * Everything runs on the loop's thread. Events are called from the loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "transport/address.h"
#include "transport/socket.h"
#include "transport/transport.h"

enum {
    LINK_MAGIC = 0x6b6e4c51,
    CONNECT_MS = 2000,
    RETRY_MIN_MS = 50,
    RETRY_MAX_MS = 1000,
};

enum link_state {
    LINK_WAITING,
    LINK_RESOLVING,
    LINK_CONNECTING,
    LINK_UP,
    LINK_ENDING,
    LINK_CLOSING,
    LINK_CLOSED,
};

static const struct {
    const char *name; /* for debuggers */
    unsigned next;    /* bits of the states that may follow */
} states[] = {
    [LINK_WAITING] = {"waiting", 1U << LINK_RESOLVING | 1U << LINK_CONNECTING | 1U << LINK_CLOSING},
    [LINK_RESOLVING] = {"resolving",
                        1U << LINK_WAITING | 1U << LINK_CONNECTING | 1U << LINK_CLOSING},
    [LINK_CONNECTING] = {"connecting", 1U << LINK_WAITING | 1U << LINK_UP | 1U << LINK_CLOSING},
    [LINK_UP] = {"up", 1U << LINK_ENDING | 1U << LINK_CLOSING},
    [LINK_ENDING] = {"ending", 1U << LINK_WAITING | 1U << LINK_CLOSING},
    [LINK_CLOSING] = {"closing", 1U << LINK_CLOSED},
    [LINK_CLOSED] = {"closed", 0},
};

/* A socket that is being connected. Its handle outlives the attempt by a turn of the loop. */
struct dial {
    uv_poll_t poll;
    int fd; /* owned; -1 once it was closed or became a conn's */
    struct link *link;
};

struct link {
    uint32_t magic;
    enum link_state state;
    uv_loop_t *loop;
    struct link_events events;
    void *arg;
    struct link_options options; /* address points to the array below */
    char address[TRANSPORT_ADDRESS_SIZE];
    uv_timer_t timer;           /* Next dial while WAITING, connect_ms while CONNECTING. */
    uv_getaddrinfo_t resolving; /* In use while RESOLVING, and in CLOSING until it is back. */
    bool moved;                 /* The address changed while it was being resolved. */
    struct addrinfo *addresses; /* owned; of the present attempt */
    bool addresses_are_uv;      /* Which of the two functions frees them. */
    const struct addrinfo *next_address;
    struct dial *dial; /* The present one, while CONNECTING. */
    struct conn *conn; /* From UP until it is closed. */
    uint64_t up_ms;    /* When the present connection came up. */
    unsigned failures; /* In a row, for the delay. */
    unsigned pending;  /* What must be back before the link is freed: handles, request, conn. */
    struct err_info reason; /* Of the last failure. */
};

static void dial(struct link *self);
static void try_next(struct link *self);

static void move(struct link *self, enum link_state next)
{
    ASSERT(next < sizeof states / sizeof states[0]);
    ASSERT((states[self->state].next & 1U << next) != 0);
    self->state = next;
}

static struct link *recover(void *data)
{
    struct link *self = data;

    ASSERT(self != NULL);
    ASSERT(self->magic == LINK_MAGIC);
    return self;
}

/* One thing less is pending, and not the last: the timer is, until CLOSING. */
static void count_back(struct link *self)
{
    ASSERT(self->state < LINK_CLOSING && self->pending > 1);
    self->pending--;
}

/* One thing less is pending, and it may be the last. */
static void release(struct link *self)
{
    ASSERT(self->pending > 0);
    self->pending--;
    if (self->pending > 0) {
        return;
    }
    move(self, LINK_CLOSED); /* The timer is closed in CLOSING only, so that is where we are. */
    self->events.closed(self, self->arg);
    self->magic = 0;
    free(self);
}

/* ---- waiting ---- */

static void on_timer(uv_timer_t *handle);

static void start_timer(struct link *self, uint64_t delay_ms)
{
    int rv;

    uv_update_time(self->loop);
    rv = uv_timer_start(&self->timer, on_timer, delay_ms, 0);
    ASSERT(rv == 0); /* The handle is not closing. */
}

static uint64_t retry_delay_ms(const struct link *self)
{
    uint64_t delay_ms = self->options.retry_min_ms;
    const struct clock *clock = clock_real();

    for (unsigned i = 1; i < self->failures && delay_ms < self->options.retry_max_ms; i++) {
        delay_ms *= 2;
    }
    if (delay_ms > self->options.retry_max_ms) {
        delay_ms = self->options.retry_max_ms;
    }
    return delay_ms - clock->random(clock) % (delay_ms / 2 + 1);
}

static void wait_to_dial(struct link *self, uint64_t delay_ms)
{
    move(self, LINK_WAITING);
    start_timer(self, delay_ms);
}

/* Down once more: tells the owner why, and dials again later. */
static void retry(struct link *self)
{
    struct err_info reason = self->reason; /* The owner may cause another one. */

    self->failures++;
    wait_to_dial(self, retry_delay_ms(self));
    self->events.down(self, self->arg, reason.code, reason.text);
}

/* ---- one attempt ---- */

static void free_addresses(struct link *self)
{
    if (self->addresses_are_uv) {
        uv_freeaddrinfo(self->addresses);
    } else if (self->addresses != NULL) {
        freeaddrinfo(self->addresses);
    }
    self->addresses = NULL;
    self->next_address = NULL;
    self->addresses_are_uv = false;
}

static void on_dial_closed(uv_handle_t *handle)
{
    struct dial *dial = handle->data;
    struct link *self = recover(dial->link);

    ASSERT(dial->fd == -1);
    free(dial);
    release(self);
}

/* The socket is closed, unless somebody took it before. */
static void drop_dial(struct link *self)
{
    struct dial *dial = self->dial;

    if (dial == NULL) {
        return;
    }
    self->dial = NULL;
    (void)uv_timer_stop(&self->timer); /* Cannot fail. */
    /* Before the socket: libuv takes its number out of the loop's set here, and once it is closed
     * that may be another thread's. */
    uv_close((uv_handle_t *)&dial->poll, on_dial_closed);
    if (dial->fd >= 0) {
        (void)close(dial->fd); /* Nothing was sent. */
    }
    dial->fd = -1;
}

/* The attempt failed for the reason in self->reason. */
static void give_up(struct link *self)
{
    ASSERT(self->dial == NULL);
    free_addresses(self);
    retry(self);
}

static void set_reason(struct link *self, const struct sockaddr *address, const char *text)
{
    char numeric[TRANSPORT_ADDRESS_SIZE];

    address_format(address, numeric);
    (void)err_set(&self->reason, ERR_CONNECT, "connect to '%s' (%s): %s", self->address, numeric,
                  text); /* Kept, not returned. */
}

static void open_conn(struct link *self, int fd);

static void finish_dial(struct link *self, int number)
{
    int fd = self->dial->fd;

    ASSERT(self->state == LINK_CONNECTING && fd >= 0);
    if (number == 0) {
        self->dial->fd = -1;
        drop_dial(self);
        open_conn(self, fd);
        return;
    }
    drop_dial(self);
    set_reason(self, self->next_address->ai_addr, uv_strerror(-number));
    self->next_address = self->next_address->ai_next;
    try_next(self);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct dial *dial = handle->data;
    struct link *self = recover(dial->link);

    (void)status; /* The socket says more. */
    (void)events; /* There is only one. */
    ASSERT(self->dial == dial);
    finish_dial(self, socket_connect_result(dial->fd));
}

/* Returns 0 when the dial is under way, or an errno. */
static int start_dial(struct link *self, const struct addrinfo *address)
{
    struct dial *dial = calloc(1, sizeof *dial);
    int number;
    int rv;

    if (dial == NULL) {
        return ENOMEM;
    }
    *dial = (struct dial){.link = self, .fd = -1};
    dial->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd < 0) {
        number = errno;
        goto err_after_new;
    }
    rv = connect(dial->fd, address->ai_addr, address->ai_addrlen);
    if (rv != 0 && errno != EINPROGRESS) {
        number = errno;
        goto err_after_socket;
    }
    rv = uv_poll_init(self->loop, &dial->poll, dial->fd);
    if (rv != 0) {
        number = -rv;
        goto err_after_socket;
    }
    dial->poll.data = dial;
    self->dial = dial;
    self->pending++;
    rv = uv_poll_start(&dial->poll, UV_WRITABLE, on_poll);
    ASSERT(rv == 0); /* The handle is new. */
    start_timer(self, self->options.connect_ms);
    return 0;

err_after_socket:
    (void)close(dial->fd); /* Nothing was sent. */
err_after_new:
    free(dial);
    return number;
}

static void try_next(struct link *self)
{
    ASSERT(self->state == LINK_CONNECTING && self->dial == NULL);
    while (self->next_address != NULL) {
        int number = start_dial(self, self->next_address);

        if (number == 0) {
            return;
        }
        set_reason(self, self->next_address->ai_addr, uv_strerror(-number));
        self->next_address = self->next_address->ai_next;
    }
    give_up(self);
}

static void connect_to(struct link *self, struct addrinfo *addresses, bool are_uv)
{
    ASSERT(self->addresses == NULL && addresses != NULL);
    self->addresses = addresses;
    self->addresses_are_uv = are_uv;
    self->next_address = addresses;
    move(self, LINK_CONNECTING);
    try_next(self);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
    struct link *self = recover(request->data);

    ASSERT(self->state == LINK_RESOLVING || self->state == LINK_CLOSING);
    if (self->state == LINK_CLOSING) {
        uv_freeaddrinfo(addresses);
        release(self);
        return;
    }
    count_back(self);
    if (self->moved) {
        uv_freeaddrinfo(addresses);
        wait_to_dial(self, 0);
    } else if (status < 0) {
        (void)err_set(&self->reason, ERR_CONNECT, "resolve '%s': %s", self->address,
                      uv_strerror(status)); /* Kept, not returned. */
        give_up(self);
    } else {
        connect_to(self, addresses, true);
    }
}

static void dial(struct link *self)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV,
    };
    char host[ADDRESS_HOST_SIZE];
    char port[ADDRESS_PORT_SIZE];
    struct addrinfo *addresses;
    enum err err = address_split(self->address, host, port, NULL);
    int rv;

    ASSERT(err == ERR_OK); /* link_open and link_move checked it. */
    /* Not even a thread of the pool is needed then, and those may be busy with disks. */
    if (address_numeric(host, port, 0, &addresses) == ERR_OK) {
        connect_to(self, addresses, false);
        return;
    }
    move(self, LINK_RESOLVING);
    self->moved = false;
    self->resolving.data = self;
    rv = uv_getaddrinfo(self->loop, &self->resolving, on_resolved, host, port, &hints);
    if (rv != 0) {
        (void)err_set(&self->reason, ERR_CONNECT, "resolve '%s': %s", self->address,
                      uv_strerror(rv)); /* Kept, not returned. */
        give_up(self);
        return;
    }
    self->pending++;
}

static void on_timer(uv_timer_t *handle)
{
    struct link *self = recover(handle->data);

    ASSERT(self->state == LINK_WAITING || self->state == LINK_CONNECTING);
    if (self->state == LINK_WAITING) {
        dial(self);
    } else {
        finish_dial(self, ETIMEDOUT);
    }
}

/* ---- the connection ---- */

/* The connection is over for this reason; `down` follows when it is closed. */
static void end(struct link *self, enum err err, const char *text)
{
    ASSERT(self->state == LINK_UP);
    (void)err_set(&self->reason, err, "%s", text); /* Kept, not returned. */
    if (uv_now(self->loop) - self->up_ms >= self->options.retry_max_ms) {
        self->failures = 0;
    }
    move(self, LINK_ENDING);
    conn_close(self->conn, 0);
}

static void on_conn_frame(struct conn *conn, void *arg, const struct frame *frame)
{
    struct link *self = recover(arg);

    ASSERT(self->state == LINK_UP && self->conn == conn);
    self->events.frame(self, self->arg, frame);
}

static void on_conn_failed(struct conn *conn, void *arg, enum err err, const char *text)
{
    struct link *self = recover(arg);

    ASSERT(self->conn == conn);
    end(self, err, text);
}

static void on_conn_drained(struct conn *conn, void *arg)
{
    struct link *self = recover(arg);

    ASSERT(self->state == LINK_UP && self->conn == conn);
    if (self->events.drained != NULL) {
        self->events.drained(self, self->arg);
    }
}

static void on_conn_closed(struct conn *conn, void *arg)
{
    struct link *self = recover(arg);

    ASSERT(self->state == LINK_ENDING || self->state == LINK_CLOSING);
    ASSERT(self->conn == conn);
    self->conn = NULL;
    if (self->state == LINK_ENDING) {
        count_back(self);
        if (self->moved) {
            self->failures = 0;
        }
        retry(self);
    } else {
        self->events.down(self, self->arg, self->reason.code, self->reason.text);
        release(self);
    }
}

static void open_conn(struct link *self, int fd)
{
    static const struct conn_events events = {
        .frame = on_conn_frame,
        .failed = on_conn_failed,
        .drained = on_conn_drained,
        .closed = on_conn_closed,
    };
    enum err err = conn_open(self->loop, fd, &self->options.limits, &events, self, &self->conn);

    if (err != ERR_OK) {
        set_reason(self, self->next_address->ai_addr, err_text(err));
        give_up(self);
        return;
    }
    free_addresses(self);
    self->pending++;
    self->moved = false;
    self->up_ms = uv_now(self->loop);
    move(self, LINK_UP);
    self->events.up(self, self->arg, self->conn);
}

/* ---- what owners call ---- */

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value == 0 ? otherwise : value;
}

static enum err set_address(struct link *self, const char *address)
{
    char host[ADDRESS_HOST_SIZE];
    char port[ADDRESS_PORT_SIZE];
    enum err err = address_split(address, host, port, NULL);

    if (err != ERR_OK) {
        return err;
    }
    ASSERT(strlen(address) < sizeof self->address);
    memcpy(self->address, address, strlen(address) + 1);
    return ERR_OK;
}

enum err link_open(uv_loop_t *loop, const struct link_options *options,
                   const struct link_events *events, void *arg, struct link **ret_link)
{
    struct link *self = calloc(1, sizeof *self);
    enum err err;
    int rv;

    ASSERT(events->up != NULL && events->frame != NULL);
    ASSERT(events->down != NULL && events->closed != NULL);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    err = set_address(self, options->address);
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    self->magic = LINK_MAGIC;
    self->loop = loop;
    self->events = *events;
    self->arg = arg;
    self->options = *options;
    self->options.address = self->address;
    self->options.connect_ms = or_default(options->connect_ms, CONNECT_MS);
    self->options.retry_min_ms = or_default(options->retry_min_ms, RETRY_MIN_MS);
    self->options.retry_max_ms = or_default(options->retry_max_ms, RETRY_MAX_MS);
    rv = uv_timer_init(loop, &self->timer);
    ASSERT(rv == 0); /* Cannot fail. */
    self->timer.data = self;
    self->pending = 1;
    self->state = LINK_WAITING;
    start_timer(self, 0);
    *ret_link = self;
    return ERR_OK;
}

struct conn *link_conn(struct link *self)
{
    ASSERT(self->magic == LINK_MAGIC);
    return self->state == LINK_UP ? self->conn : NULL;
}

void link_reset(struct link *self, enum err err, const char *text)
{
    ASSERT(self->magic == LINK_MAGIC);
    ASSERT(err != ERR_OK && text != NULL);
    if (self->state == LINK_UP) {
        end(self, err, text);
    }
}

enum err link_move(struct link *self, const char *address)
{
    enum err err;

    ASSERT(self->magic == LINK_MAGIC);
    if (strcmp(self->address, address) == 0) {
        return ERR_OK;
    }
    err = set_address(self, address);
    if (err != ERR_OK) {
        return err;
    }
    self->moved = true; /* Those who are under way to the old address see it. */
    self->failures = 0;
    if (self->state == LINK_UP) {
        end(self, ERR_CLOSED, "the address of the other side changed");
    } else if (self->state == LINK_CONNECTING) {
        drop_dial(self);
        free_addresses(self);
        wait_to_dial(self, 0);
    } else if (self->state == LINK_WAITING) {
        start_timer(self, 0);
    }
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *handle)
{
    release(recover(handle->data));
}

void link_close(struct link *self)
{
    ASSERT(self->magic == LINK_MAGIC);
    if (self->state == LINK_CLOSING) {
        return;
    }
    if (self->state == LINK_RESOLVING) {
        (void)uv_cancel((uv_req_t *)&self->resolving); /* If it is too late, it ends by itself. */
    }
    if (self->state == LINK_UP) {
        (void)err_set(&self->reason, ERR_CANCELED, "the link was closed"); /* Kept. */
        conn_close(self->conn, 0);
    }
    drop_dial(self);
    free_addresses(self);
    move(self, LINK_CLOSING);
    uv_close((uv_handle_t *)&self->timer, on_timer_closed);
}
