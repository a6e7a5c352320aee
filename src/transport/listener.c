/*
 * Accepting connections on one address.
 *
 * Happy path: listener_open() binds a socket for each address that the host stands for, on_poll()
 * accepts what has come and hands each descriptor to the owner.
 *
 * Failure modes: accept() fails for want of descriptors or memory. The owner is told, and polling
 * stops for 100 ms, because a level-triggered socket would be ready again at once; those who wait
 * in the backlog are served then. (uv_tcp_t would accept and drop them, which is why the sockets
 * are polled here.) Errors that belong to one connection are skipped: accept(2), "Error handling".
 *
 *     OPEN <----> PAUSED        pause_accepting: accept failed; on_timer: 100 ms later
 *      |            |
 *      +-----+------+ listener_close
 *            v
 *         CLOSING ----> CLOSED  on_handle_closed, the last one: events.closed, then freed
 *
 * Everything runs on the loop's thread.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "transport/address.h"
#include "transport/transport.h"

enum {
    LISTENER_MAGIC = 0x6e734c51,
    SOCKETS_MAX = 8, /* Addresses of one host name; further ones are left out. */
    BACKLOG = 512,
    ACCEPTS_MAX = 64, /* Of one socket before others have their turn. */
    PAUSE_MS = 100,
    BINDS_MAX = 16, /* Attempts to find a port that is free on all addresses. */
};

enum listener_state { LISTENER_OPEN, LISTENER_PAUSED, LISTENER_CLOSING, LISTENER_CLOSED };

static const struct {
    const char *name; /* for debuggers */
    unsigned next;    /* bits of the states that may follow */
} states[] = {
    [LISTENER_OPEN] = {"open", 1U << LISTENER_PAUSED | 1U << LISTENER_CLOSING},
    [LISTENER_PAUSED] = {"paused", 1U << LISTENER_OPEN | 1U << LISTENER_CLOSING},
    [LISTENER_CLOSING] = {"closing", 1U << LISTENER_CLOSED},
    [LISTENER_CLOSED] = {"closed", 0},
};

struct listener {
    uint32_t magic;
    enum listener_state state;
    uint16_t port;
    bool announced;       /* listener_open succeeded: the owner waits for `closed`. */
    int fds[SOCKETS_MAX]; /* owned */
    uv_poll_t polls[SOCKETS_MAX];
    size_t count;      /* of fds */
    size_t poll_count; /* of polls that were initialised; count, but while opening */
    size_t handles;    /* Not closed yet: polls and timer. */
    uv_timer_t timer;  /* Ends a pause. */
    struct listener_events events;
    void *arg;
};

static void move(struct listener *self, enum listener_state next)
{
    ASSERT(next < sizeof states / sizeof states[0]);
    ASSERT((states[self->state].next & 1U << next) != 0);
    self->state = next;
}

static struct listener *recover(void *data)
{
    struct listener *self = data;

    ASSERT(self != NULL);
    ASSERT(self->magic == LISTENER_MAGIC);
    return self;
}

/* ---- sockets ---- */

static void close_sockets(struct listener *self)
{
    for (size_t i = 0; i < self->count; i++) {
        (void)close(self->fds[i]); /* A listening socket has nothing to lose. */
    }
    self->count = 0;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    socklen_t size = sizeof storage;
    int rv = getsockname(fd, (struct sockaddr *)&storage, &size);

    ASSERT(rv == 0); /* A bound socket has a name. */
    memcpy(&in4, &storage, sizeof in4);
    memcpy(&in6, &storage, sizeof in6);
    return ntohs(storage.ss_family == AF_INET6 ? in6.sin6_port : in4.sin_port);
}

/* Binds and listens; returns the descriptor, or a negative errno. */
static int listen_on(const struct sockaddr *address, socklen_t size)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    int v6_only = 1;
    int rv = -1;

    if (fd < 0) {
        return -errno;
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, address, sizeof in6);
        v6_only = !IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr); /* "[::]" and "" take IPv4 as well. */
        if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only) != 0) {
            goto err_after_socket;
        }
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, address, size) == 0 && listen(fd, BACKLOG) == 0) {
        return fd;
    }
err_after_socket:
    rv = -errno;
    (void)close(fd); /* The first error is the one to report. */
    return rv;
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;

    if (address->ss_family == AF_INET6) {
        memcpy(&in6, address, sizeof in6);
        in6.sin6_port = htons(port);
        memcpy(address, &in6, sizeof in6);
    } else {
        ASSERT(address->ss_family == AF_INET);
        memcpy(&in4, address, sizeof in4);
        in4.sin_port = htons(port);
        memcpy(address, &in4, sizeof in4);
    }
}

/* Whether an earlier address of the list is the same: hosts files say things twice. */
static bool seen_before(const struct addrinfo *list, const struct addrinfo *item)
{
    for (; list != item; list = list->ai_next) {
        if (list->ai_addrlen == item->ai_addrlen &&
            memcmp(list->ai_addr, item->ai_addr, item->ai_addrlen) == 0) {
            return true;
        }
    }
    return false;
}

/* One socket for each address, all with the same port. A family that this machine has not is left
 * out as long as one is there. Returns 0 or a negative errno; failed_at says where. */
static int bind_all(struct listener *self, const struct addrinfo *list,
                    char failed_at[TRANSPORT_ADDRESS_SIZE])
{
    int result = -EADDRNOTAVAIL;

    ASSERT(self->count == 0);
    self->port = 0;
    for (const struct addrinfo *item = list; item != NULL && self->count < SOCKETS_MAX;
         item = item->ai_next) {
        struct sockaddr_storage address = {0};
        int fd;

        if (seen_before(list, item)) {
            continue;
        }
        ASSERT(item->ai_addrlen <= sizeof address);
        memcpy(&address, item->ai_addr, item->ai_addrlen);
        if (self->count > 0) {
            set_port(&address, self->port);
        }
        fd = listen_on((const struct sockaddr *)&address, item->ai_addrlen);
        if (fd >= 0) {
            self->fds[self->count++] = fd;
            self->port = bound_port(fd);
            continue;
        }
        result = fd;
        address_format((const struct sockaddr *)&address, failed_at);
        if (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL) {
            close_sockets(self);
            return result;
        }
    }
    return self->count > 0 ? 0 : result;
}

static enum err resolve(const char *address, const char *host, const char *port,
                        struct addrinfo **ret_list, struct err_info *info)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    int rv;

    if (*host == '\0') {
        /* glibc lists 0.0.0.0 first, which would keep :: from being bound: "::" takes both. */
        return address_numeric("::", port, AI_PASSIVE, ret_list);
    }
    rv = getaddrinfo(host, port, &hints, ret_list);
    if (rv != 0) {
        return err_set(info, rv == EAI_MEMORY ? ERR_NOMEM : ERR_INVALID,
                       "listen on '%s': cannot resolve '%s': %s", address, host, gai_strerror(rv));
    }
    return ERR_OK;
}

static enum err open_sockets(struct listener *self, const char *address, struct err_info *info)
{
    char host[ADDRESS_HOST_SIZE];
    char port[ADDRESS_PORT_SIZE];
    char failed_at[TRANSPORT_ADDRESS_SIZE] = "";
    struct addrinfo *list = NULL;
    enum err err = address_split(address, host, port, info);
    int rv = -EADDRINUSE;

    if (err == ERR_OK) {
        err = resolve(address, host, port, &list, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    /* The kernel's choice for the first address may be taken on the next: ask it again. */
    for (unsigned i = 0; rv == -EADDRINUSE && i < (atoi(port) == 0 ? BINDS_MAX : 1); i++) {
        rv = bind_all(self, list, failed_at);
    }
    freeaddrinfo(list);
    if ((rv == -EAFNOSUPPORT || rv == -EADDRNOTAVAIL) && *host == '\0') {
        err = address_numeric("0.0.0.0", port, AI_PASSIVE, &list);
        ASSERT(err == ERR_OK || err == ERR_NOMEM);
        if (err != ERR_OK) {
            return err;
        }
        rv = bind_all(self, list, failed_at);
        freeaddrinfo(list);
    }
    if (rv != 0) {
        return err_set(info, rv == -EADDRINUSE ? ERR_EXISTS : ERR_IO, "listen on '%s' (%s): %s",
                       address, failed_at, uv_strerror(rv));
    }
    ASSERT(self->count > 0 && self->port != 0);
    return ERR_OK;
}

/* ---- the loop ---- */

static void on_poll(uv_poll_t *handle, int status, int events);

static void start_polling(struct listener *self)
{
    for (size_t i = 0; i < self->poll_count; i++) {
        int rv = uv_poll_start(&self->polls[i], UV_READABLE, on_poll);

        ASSERT(rv == 0); /* Fails only for a closing handle. */
    }
}

static void stop_polling(struct listener *self)
{
    for (size_t i = 0; i < self->poll_count; i++) {
        (void)uv_poll_stop(&self->polls[i]); /* Cannot fail. */
    }
}

static void on_timer(uv_timer_t *handle)
{
    struct listener *self = recover(handle->data);

    ASSERT(self->state == LISTENER_PAUSED);
    move(self, LISTENER_OPEN);
    start_polling(self);
}

static void pause_accepting(struct listener *self, int number)
{
    int rv;

    ASSERT(number > 0);
    move(self, LISTENER_PAUSED);
    stop_polling(self);
    rv = uv_timer_start(&self->timer, on_timer, PAUSE_MS, 0);
    ASSERT(rv == 0); /* The handle is not closing. */
    self->events.failed(self->arg, err_from_uv(-number), uv_strerror(-number));
}

/* Whether the error is of one connection that is gone, and the next may be fine. */
static bool belongs_to_connection(int number)
{
    static const int numbers[] = {EINTR,       ECONNABORTED, EPROTO, ENETDOWN,
                                  ENOPROTOOPT, EHOSTDOWN,    ENONET, EHOSTUNREACH,
                                  EOPNOTSUPP,  ENETUNREACH,  EPERM};

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (number == numbers[i]) {
            return true;
        }
    }
    return false;
}

static void accept_some(struct listener *self, int listening)
{
    for (unsigned i = 0; i < ACCEPTS_MAX && self->state == LISTENER_OPEN; i++) {
        int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            self->events.accepted(self->arg, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (!belongs_to_connection(errno)) {
            pause_accepting(self, errno);
        }
    }
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct listener *self = recover(handle->data);

    ASSERT(self->state == LISTENER_OPEN);
    ASSERT(status < 0 || events == UV_READABLE);
    if (status < 0) {
        pause_accepting(self,
                        EIO); /* libuv stopped polling this socket; the pause starts it again. */
        return;
    }
    accept_some(self, self->fds[handle - self->polls]);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct listener *self = recover(handle->data);

    ASSERT(self->state == LISTENER_CLOSING && self->handles > 0);
    self->handles--;
    if (self->handles > 0) {
        return;
    }
    move(self, LISTENER_CLOSED);
    if (self->announced) {
        self->events.closed(self->arg);
    }
    self->magic = 0;
    free(self);
}

void listener_close(struct listener *self)
{
    ASSERT(self->magic == LISTENER_MAGIC);
    if (self->state == LISTENER_CLOSING) {
        return;
    }
    move(self, LISTENER_CLOSING);
    stop_polling(self);
    for (size_t i = 0; i < self->poll_count; i++) {
        uv_close((uv_handle_t *)&self->polls[i], on_handle_closed);
    }
    uv_close((uv_handle_t *)&self->timer, on_handle_closed);
    close_sockets(self);
}

/* After an error the listener is closing and frees itself without a word. */
static enum err start(struct listener *self, uv_loop_t *loop, struct err_info *info)
{
    int rv = uv_timer_init(loop, &self->timer);

    ASSERT(rv == 0); /* Cannot fail. */
    self->timer.data = self;
    self->handles = 1;
    for (; self->poll_count < self->count; self->poll_count++, self->handles++) {
        uv_poll_t *handle = &self->polls[self->poll_count];

        rv = uv_poll_init(loop, handle, self->fds[self->poll_count]);
        if (rv != 0) {
            listener_close(self);
            return err_set(info, ERR_IO, "poll a listening socket: %s", uv_strerror(rv));
        }
        handle->data = self;
    }
    start_polling(self);
    return ERR_OK;
}

enum err listener_open(uv_loop_t *loop, const char *address, const struct listener_events *events,
                       void *arg, struct listener **ret_listener, struct err_info *info)
{
    struct listener *self = calloc(1, sizeof *self);
    enum err err;

    ASSERT(events->accepted != NULL && events->failed != NULL && events->closed != NULL);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "listen on '%s': no memory", address);
    }
    self->magic = LISTENER_MAGIC;
    self->events = *events;
    self->arg = arg;
    err = open_sockets(self, address, info);
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    err = start(self, loop, info);
    if (err != ERR_OK) {
        return err;
    }
    self->announced = true;
    *ret_listener = self;
    return ERR_OK;
}

uint16_t listener_port(const struct listener *self)
{
    ASSERT(self->magic == LISTENER_MAGIC);
    ASSERT(self->port != 0);
    return self->port;
}
