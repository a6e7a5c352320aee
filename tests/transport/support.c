#include "transport/support.h"

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/frame.h"

enum { DEADLINE_MS = 10000 };

static void on_deadline(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static void on_timer_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

void run_until(uv_loop_t *loop, const unsigned *flag, unsigned count)
{
    bool over = false;
    bool closed = false;
    uv_timer_t timer;

    ck_assert_int_eq(uv_timer_init(loop, &timer), 0);
    timer.data = &over;
    uv_update_time(loop);
    ck_assert_int_eq(uv_timer_start(&timer, on_deadline, DEADLINE_MS, 0), 0);
    while (*flag < count) {
        (void)uv_run(loop, UV_RUN_ONCE);
        ck_assert_msg(!over, "waited too long: %u of %u", *flag, count);
    }
    timer.data = &closed;
    uv_close((uv_handle_t *)&timer, on_timer_closed);
    while (!closed) {
        (void)uv_run(loop, UV_RUN_NOWAIT);
    }
}

void run_ready(uv_loop_t *loop)
{
    for (unsigned i = 0; i < 8; i++) {
        (void)uv_run(loop, UV_RUN_NOWAIT);
    }
}

void loop_finish(uv_loop_t *loop)
{
    run_ready(loop);
    ck_assert_int_eq(uv_loop_close(loop), 0);
}

void connected_pair(int ret_fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(listening, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(listening, 1), 0);
    ck_assert_int_eq(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    ret_fds[0] = connect_to_port("127.0.0.1", ntohs(address.sin_port));
    ck_assert_int_ge(ret_fds[0], 0);
    ret_fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(ret_fds[1], 0);
    ck_assert_int_eq(close(listening), 0);
}

int connect_to_port(const char *host, uint16_t port)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is_in4 = inet_pton(AF_INET, host, &in4.sin_addr) == 1;
    int fd = socket(is_in4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rv;

    if (fd < 0) {
        return -1;
    }
    if (is_in4) {
        rv = connect(fd, (struct sockaddr *)&in4, sizeof in4);
    } else {
        ck_assert_int_eq(inet_pton(AF_INET6, host, &in6.sin6_addr), 1);
        rv = connect(fd, (struct sockaddr *)&in6, sizeof in6);
    }
    if (rv != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    ck_assert_int_eq(closedir(dir), 0);
    return count;
}

void append_frame(struct buf *buf, uint16_t type, uint64_t request_id, const char *header,
                  const void *body, size_t body_size)
{
    struct frame_out frame = {
        .type = type,
        .request_id = request_id,
        .header = (const uint8_t *)header,
        .header_size = strlen(header),
    };
    uint8_t prefix[FRAME_PREFIX_SIZE];

    frame_out_encode_prefix(&frame, body_size, prefix);
    ck_assert_int_eq(buf_append(buf, prefix, sizeof prefix), ERR_OK);
    ck_assert_int_eq(buf_append(buf, header, strlen(header)), ERR_OK);
    if (body_size > 0) {
        ck_assert_int_eq(buf_append(buf, body, body_size), ERR_OK);
    }
}

void write_all(int fd, const void *data, size_t size)
{
    const uint8_t *next = data;

    while (size > 0) {
        ssize_t n = send(fd, next, size, MSG_NOSIGNAL);

        ck_assert_int_gt(n, 0);
        next += n;
        size -= (size_t)n;
    }
}

static void on_frame(struct conn *conn, void *arg, const struct frame *frame)
{
    struct owner *self = arg;

    ck_assert_uint_eq(self->failed + self->closed, 0);
    ck_assert_ptr_eq(conn_arg(conn), self);
    self->frames++;
    self->out_of_order |= frame->request_id != self->last_request_id + 1;
    self->last_request_id = frame->request_id;
    self->body_bytes += frame->body_size;
    if (self->keep) {
        block_unref(self->kept);
        self->kept = block_ref(frame->block);
        self->kept_frame = *frame;
    }
    if (self->frames == self->pause_at) {
        conn_pause(conn);
    }
    if (self->close_in_frame) {
        conn_close(conn, 0);
        conn_close(conn, 1000);
    }
    if (self->release_in_frame) {
        self->release_err = conn_release(conn, &self->released_fd);
    }
}

static void on_failed(struct conn *conn, void *arg, enum err err, const char *text)
{
    struct owner *self = arg;

    ck_assert_uint_eq(self->failed + self->closed, 0);
    self->failed++;
    self->err = err;
    strncpy(self->text, text, sizeof self->text - 1);
    if (self->close_in_failed) {
        conn_close(conn, 0);
    }
}

static void on_drained(struct conn *conn, void *arg)
{
    struct owner *self = arg;

    ck_assert_uint_eq(conn_queue_size(conn), 0);
    ck_assert_uint_eq(self->closed, 0);
    self->drained++;
    if (self->close_in_drained) {
        conn_close(conn, 0);
    }
}

static void on_closed(struct conn *conn, void *arg)
{
    struct owner *self = arg;

    ck_assert_uint_eq(self->closed, 0);
    ck_assert_ptr_eq(self->conn, conn);
    self->closed++;
    self->conn = NULL;
}

const struct conn_events owner_events = {
    .frame = on_frame,
    .failed = on_failed,
    .drained = on_drained,
    .closed = on_closed,
};

const struct conn_limits roomy_limits = {
    .frame_size_max = 64 << 20,
    .queue_size_max = 64 << 20,
};

void owner_open(struct owner *self, uv_loop_t *loop, int fd, const struct conn_limits *limits)
{
    *self = (struct owner){0};
    ck_assert_int_eq(conn_open(loop, fd, limits, &owner_events, self, &self->conn), ERR_OK);
}

void owner_close(struct owner *self, uv_loop_t *loop)
{
    if (self->conn != NULL) {
        conn_close(self->conn, 0);
        run_until(loop, &self->closed, 1);
    }
    ck_assert_uint_eq(self->closed, 1);
    block_unref(self->kept);
    self->kept = NULL;
}
