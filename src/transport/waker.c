#include "transport/waker.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "transport/transport.h"

enum err waker_init(struct waker *self)
{
    *self = (struct waker){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    return self->fd < 0 ? err_from_errno(errno) : ERR_OK;
}

void waker_fini(struct waker *self)
{
    ASSERT(self->woken == NULL);
    if (self->fd >= 0) {
        (void)close(self->fd); /* Holds nothing. */
        self->fd = -1;
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct waker *self = poll->data;
    uint64_t count;
    ssize_t n;

    ASSERT(status == 0); /* An eventfd has no errors. */
    ASSERT((events & UV_READABLE) != 0);
    n = read(self->fd, &count, sizeof count);
    ASSERT(n == (ssize_t)sizeof count); /* Nobody else reads it. */
    /* Not before the read, or a wake in between were lost; and an exchange, not a store: what was
     * done before a wake that wrote nothing is seen by woken. (I1) */
    (void)atomic_exchange(&self->raised, false);
    self->woken(self->arg);
}

enum err waker_start(struct waker *self, uv_loop_t *loop, void (*woken)(void *arg), void *arg)
{
    int rv;

    ASSERT(self->fd >= 0 && self->woken == NULL);
    rv = uv_poll_init(loop, &self->poll, self->fd);
    if (rv != 0) {
        return err_from_uv(rv);
    }
    self->poll.data = self;
    self->woken = woken;
    self->arg = arg;
    rv = uv_poll_start(&self->poll, UV_READABLE, on_readable);
    ASSERT(rv == 0); /* Fails only for a closing handle. */
    return ERR_OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct waker *self = handle->data;

    self->woken = NULL;
    self->stopped(self->arg);
}

void waker_stop(struct waker *self, void (*stopped)(void *arg))
{
    ASSERT(self->woken != NULL && self->stopped == NULL);
    self->stopped = stopped;
    uv_close((uv_handle_t *)&self->poll, on_closed);
}

void waker_wake(struct waker *self)
{
    static const uint64_t one = 1;
    ssize_t n;

    if (atomic_exchange(&self->raised, true)) {
        return; /* It is told already. */
    }
    n = write(self->fd, &one, sizeof one);
    ASSERT(n == (ssize_t)sizeof one); /* Written once per read, so there is room. */
}
