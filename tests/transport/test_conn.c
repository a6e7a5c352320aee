#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/runner.h"
#include "transport/frame.h"
#include "transport/support.h"

/* Each test has a loop, a pair of sockets and two owners; near is opened on fds[0]. far is opened
 * on fds[1] by tests that want a conn there, the others use fds[1] as it is. */
static uv_loop_t loop;
static int fds[2];
static struct owner near;
static struct owner far;
static struct buf wire;

static void setup(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    connected_pair(fds);
    buf_init(&wire, 64 << 20);
    memset(&near, 0, sizeof near);
    memset(&far, 0, sizeof far);
}

static void teardown(void)
{
    if (near.conn != NULL || near.kept != NULL) {
        owner_close(&near, &loop);
    }
    if (far.conn != NULL || far.kept != NULL) {
        owner_close(&far, &loop);
    }
    if (fds[1] >= 0) {
        ck_assert_int_eq(close(fds[1]), 0);
    }
    buf_fini(&wire);
    loop_finish(&loop);
}

static void open_near(const struct conn_limits *limits)
{
    owner_open(&near, &loop, fds[0], limits);
    fds[0] = -1;
}

static void open_far(const struct conn_limits *limits)
{
    owner_open(&far, &loop, fds[1], limits);
    fds[1] = -1;
}

static enum err send_text(struct conn *conn, uint64_t request_id, const char *text)
{
    struct frame_out frame = {.type = 1,
                              .request_id = request_id,
                              .header = (const uint8_t *)text,
                              .header_size = strlen(text)};

    return conn_send(conn, &frame, false);
}

/* Sends a frame whose body is one uncopied slice of `size` bytes. */
static enum err send_block(struct conn *conn, uint64_t request_id, struct block *block, bool always)
{
    struct slice body = {.block = block, .data = block->data, .size = block->size};
    struct frame_out frame = {.request_id = request_id, .body = &body, .body_count = 1};

    return conn_send(conn, &frame, always);
}

static struct block *zeroed_block(size_t size)
{
    struct block *block = block_new(size);

    ck_assert_ptr_nonnull(block);
    memset(block->data, 0, size);
    return block;
}

/* Makes the socket's buffers small, so that little data fills them. */
static void shrink_buffers(void)
{
    int size = 65536; /* Less, and loopback's large segments crawl. */

    ck_assert_int_eq(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    ck_assert_int_eq(setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
}

static size_t read_to_end(int fd)
{
    uint8_t data[65536];
    size_t total = 0;
    ssize_t n;

    while ((n = read(fd, data, sizeof data)) > 0) {
        total += (size_t)n;
    }
    return n < 0 ? SIZE_MAX : total;
}

/* ---- open ---- */

START_TEST(socket_options_are_set)
{
    int fd = fds[0];
    int value = 0;
    socklen_t size = sizeof value;

    open_near(&roomy_limits);
    ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    ck_assert_int_eq(value, 1);
    ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

START_TEST(the_peer_has_a_name_and_the_owner_its_argument)
{
    open_near(&roomy_limits);
    ck_assert_int_eq(strncmp(conn_peer(near.conn), "127.0.0.1:", 10), 0);
    ck_assert_ptr_eq(conn_arg(near.conn), &near);
    ck_assert_uint_eq(conn_queue_size(near.conn), 0);
}
END_TEST

START_TEST(what_is_no_socket_is_refused_and_closed)
{
    struct conn *conn = NULL;
    int pipes[2];

    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert_int_eq(conn_open(&loop, pipes[0], &roomy_limits, &owner_events, &near, &conn),
                     ERR_IO);
    ck_assert_ptr_null(conn);
    ck_assert_int_eq(close(pipes[0]), -1);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_int_eq(close(pipes[1]) | close(fds[0]), 0);
}
END_TEST

START_TEST(opening_and_closing_leaves_no_descriptor_behind)
{
    unsigned before;

    open_near(&roomy_limits);
    run_ready(&loop);
    before = count_descriptors();
    for (unsigned i = 0; i < 300; i++) {
        int pair[2];
        struct owner owners[2];

        connected_pair(pair);
        owner_open(&owners[0], &loop, pair[0], &roomy_limits);
        owner_open(&owners[1], &loop, pair[1], &roomy_limits);
        ck_assert_int_eq(send_text(owners[0].conn, 1, "x"), ERR_OK);
        if (i % 2 == 0) {
            run_until(&loop, &owners[1].frames, 1);
        }
        owner_close(&owners[i % 2], &loop);
        owner_close(&owners[1 - i % 2], &loop);
    }
    ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

/* ---- reading ---- */

START_TEST(many_small_frames_arrive_in_order)
{
    open_near(&roomy_limits);
    open_far(&roomy_limits);
    for (unsigned i = 1; i <= 10000; i++) {
        ck_assert_int_eq(send_text(near.conn, i, "a small header"), ERR_OK);
    }
    run_until(&loop, &far.frames, 10000);
    ck_assert(!far.out_of_order);
    ck_assert_uint_eq(conn_queue_size(near.conn), 0);
}
END_TEST

START_TEST(frames_in_one_segment_are_told_apart)
{
    open_near(&roomy_limits);
    append_frame(&wire, 1, 1, "one", "body", 4);
    append_frame(&wire, 1, 2, "two", "", 0);
    append_frame(&wire, 1, 3, "", "body", 4);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.frames, 3);
    ck_assert(!near.out_of_order);
    ck_assert_uint_eq(near.body_bytes, 8);
}
END_TEST

/* Whether the sockets' buffers can be made as large as the kernel itself makes them for those that
 * send much. */
static bool widen_buffers(int size)
{
    return setsockopt(fds[0], SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) == 0 &&
           setsockopt(fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) == 0;
}

START_TEST(what_the_kernel_holds_is_read_a_part_at_a_time)
{
    enum { FRAMES = 16, SIZE = 300000, PART = 1 << 20 };
    struct block *block = zeroed_block(SIZE);
    int held = 0;

    if (widen_buffers(16 << 20)) { /* Only root may. */
        for (unsigned i = 1; i <= FRAMES; i++) {
            append_frame(&wire, 1, i, "", block->data, SIZE);
        }
        write_all(fds[1], wire.data, wire.size);
        ck_assert_int_eq(ioctl(fds[0], FIONREAD, &held), 0);
        ck_assert_int_gt(held, 3 * PART);
        open_near(&roomy_limits);
        while (near.frames == 0) {
            (void)uv_run(&loop, UV_RUN_NOWAIT); /* One turn. */
            ck_assert_uint_lt(near.body_bytes, 2 * PART);
        }
        ck_assert_uint_gt(near.body_bytes, PART / 2);
        run_until(&loop, &near.frames, FRAMES);
        ck_assert(!near.out_of_order);
    }
    block_unref(block);
}
END_TEST

START_TEST(a_large_body_arrives_whole_and_leaves_uncopied)
{
    struct block *block = zeroed_block(20 << 20);

    for (size_t i = 0; i + 8 <= block->size; i += 8) {
        bytes_put_u64(block->data + i, i * 0x9e3779b97f4a7c15);
    }
    open_near(&roomy_limits);
    open_far(&roomy_limits);
    far.keep = true;
    ck_assert_int_eq(send_text(near.conn, 1, "before"), ERR_OK);
    ck_assert_int_eq(send_block(near.conn, 2, block, false), ERR_OK);
    ck_assert_uint_eq(block->refs, 2);
    run_until(&loop, &far.frames, 2);
    ck_assert_uint_eq(far.kept_frame.body_size, block->size);
    ck_assert_uint_eq((uintptr_t)far.kept_frame.body % 8, 0);
    ck_assert_int_eq(memcmp(far.kept_frame.body, block->data, block->size), 0);
    ck_assert_int_eq(send_text(near.conn, 3, "after"), ERR_OK);
    run_until(&loop, &far.frames, 3);
    ck_assert(!far.out_of_order);
    ck_assert_uint_eq(block->refs, 1);
    block_unref(block);
}
END_TEST

START_TEST(a_frame_that_is_kept_outlives_its_connection)
{
    open_near(&roomy_limits);
    near.keep = true;
    append_frame(&wire, 1, 1, "head", "body", 4);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.frames, 1);
    conn_close(near.conn, 0);
    run_until(&loop, &near.closed, 1);
    ck_assert_mem_eq(near.kept_frame.body, "body", 4);
    ck_assert_uint_eq(near.kept->refs, 1);
}
END_TEST

/* ---- failing ---- */

START_TEST(a_malformed_frame_fails_once_and_a_last_frame_can_be_sent)
{
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 4096};
    const char request[] = "GET / HTTP/1.1\r\nHost: n1\r\n\r\n";

    open_near(&limits);
    write_all(fds[1], request, strlen(request));
    write_all(fds[1], request, strlen(request));
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(near.text, "not an HTTP port"));
    ck_assert_int_eq(send_text(near.conn, 1, "go away"), ERR_OK);
    conn_close(near.conn, 5000);
    ck_assert_int_eq(send_text(near.conn, 2, "too late"), ERR_CLOSED);
    run_ready(&loop);
    ck_assert_uint_eq(near.closed, 0); /* It waits for us to have read it, */
    ck_assert_uint_eq(read_to_end(fds[1]), FRAME_PREFIX_SIZE + 7);
    ck_assert_int_eq(close(fds[1]), 0);
    fds[1] = -1;
    run_until(&loop, &near.closed, 1); /* and not for five seconds. */
    ck_assert_uint_eq(near.failed, 1);
    ck_assert_uint_eq(near.frames, 0);
}
END_TEST

START_TEST(good_frames_before_a_bad_one_are_delivered)
{
    open_near(&roomy_limits);
    append_frame(&wire, 1, 1, "good", "", 0);
    append_frame(&wire, 1, 2, "bad", "", 0);
    wire.data[wire.size - 1] ^= 1;
    append_frame(&wire, 1, 3, "never seen", "", 0);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_CHECKSUM);
    run_ready(&loop);
    ck_assert_uint_eq(near.frames, 1);
}
END_TEST

START_TEST(the_end_of_the_other_side_is_told_and_it_can_still_be_answered)
{
    open_near(&roomy_limits);
    append_frame(&wire, 1, 1, "last request", "", 0);
    write_all(fds[1], wire.data, wire.size);
    ck_assert_int_eq(shutdown(fds[1], SHUT_WR), 0);
    run_until(&loop, &near.failed, 1);
    ck_assert_uint_eq(near.frames, 1);
    ck_assert_int_eq(near.err, ERR_CLOSED);
    ck_assert_int_eq(send_text(near.conn, 1, "answer"), ERR_OK);
    conn_close(near.conn, 5000);
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(read_to_end(fds[1]), FRAME_PREFIX_SIZE + 6);
}
END_TEST

START_TEST(an_end_inside_a_frame_is_told_as_such)
{
    open_near(&roomy_limits);
    append_frame(&wire, 1, 1, "header", "body", 4);
    write_all(fds[1], wire.data, wire.size - 1);
    ck_assert_int_eq(close(fds[1]), 0);
    fds[1] = -1;
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_CLOSED);
    ck_assert_ptr_nonnull(strstr(near.text, "middle of a frame"));
    ck_assert_uint_eq(near.frames, 0);
}
END_TEST

static void reset_far(void)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    ck_assert_int_eq(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    ck_assert_int_eq(close(fds[1]), 0);
    fds[1] = -1;
}

START_TEST(a_reset_is_told_and_nothing_can_be_sent)
{
    open_near(&roomy_limits);
    reset_far();
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_CLOSED);
    ck_assert_int_eq(send_text(near.conn, 1, "nobody hears"), ERR_CLOSED);
    run_ready(&loop);
    ck_assert_uint_eq(near.failed, 1);
}
END_TEST

START_TEST(writing_to_a_reset_connection_fails_once_and_raises_no_signal)
{
    struct block *block = zeroed_block(1 << 20);

    open_near(&roomy_limits);
    conn_pause(near.conn); /* So that only writing notices. */
    reset_far();
    for (unsigned i = 0; i < 3; i++) {
        (void)send_block(near.conn, i, block, false);
        run_ready(&loop);
    }
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_CLOSED);
    ck_assert_int_eq(send_block(near.conn, 9, block, true), ERR_CLOSED);
    conn_close(near.conn, 1000);
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(block->refs, 1);
    block_unref(block);
}
END_TEST

START_TEST(closing_inside_any_callback_is_fine)
{
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 10};

    open_near(&roomy_limits);
    near.close_in_frame = true;
    append_frame(&wire, 1, 1, "one", "", 0);
    append_frame(&wire, 1, 2, "two", "", 0);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(near.frames, 1);
    ck_assert_uint_eq(near.failed, 0);

    connected_pair(fds);
    open_near(&limits);
    near.close_in_failed = true;
    ck_assert_int_eq(close(fds[1]), 0);
    fds[1] = -1;
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(near.failed, 1);

    connected_pair(fds);
    open_near(&limits);
    near.close_in_drained = true;
    ck_assert_int_eq(send_text(near.conn, 1, "x"), ERR_OK);
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(near.drained, 1);
}
END_TEST

/* ---- deadlines ---- */

struct dripper {
    uv_timer_t timer;
    unsigned closed;
    size_t sent;
};

static void on_drip(uv_timer_t *timer)
{
    struct dripper *self = timer->data;

    if (self->sent < wire.size && send(fds[1], wire.data + self->sent, 1, MSG_NOSIGNAL) == 1) {
        self->sent++;
    }
}

static void on_dripper_closed(uv_handle_t *handle)
{
    ((struct dripper *)handle->data)->closed = 1;
}

static void dripper_start(struct dripper *self)
{
    *self = (struct dripper){0};
    ck_assert_int_eq(uv_timer_init(&loop, &self->timer), 0);
    self->timer.data = self;
    ck_assert_int_eq(uv_timer_start(&self->timer, on_drip, 1, 1), 0);
}

static void dripper_stop(struct dripper *self)
{
    uv_close((uv_handle_t *)&self->timer, on_dripper_closed);
    run_until(&loop, &self->closed, 1);
}

START_TEST(who_drips_its_hello_is_cut_off_in_time)
{
    struct conn_limits limits = {
        .frame_size_max = 4096, .queue_size_max = 4096, .idle_ms = 5000, .hello_ms = 40};
    struct dripper dripper;
    uint64_t started_ns = uv_hrtime();

    append_frame(&wire, 1, 1, "hello", wire.data, 0);
    wire.data[0] = 255; /* Never complete. */
    open_near(&limits);
    dripper_start(&dripper);
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(near.text, "hello"));
    ck_assert_uint_ge((uv_hrtime() - started_ns) / 1000000, 39);
    ck_assert_uint_gt(dripper.sent, 0);
    dripper_stop(&dripper);
}
END_TEST

START_TEST(an_established_connection_has_its_new_limits_and_no_hello_timer)
{
    struct conn_limits limits = {.frame_size_max = 64, .queue_size_max = 100, .hello_ms = 30};
    struct conn_limits later = {
        .frame_size_max = 4096, .queue_size_max = 4096, .idle_ms = 60, .hello_ms = 30};
    char body[1000] = {0};
    uint64_t started_ns;

    open_near(&limits);
    append_frame(&wire, 1, 1, "hello", "", 0);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.frames, 1);
    conn_established(near.conn, &later);
    started_ns = uv_hrtime();
    wire.size = 0;
    append_frame(&wire, 1, 2, "", body, sizeof body);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.frames, 2);
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(near.text, "nothing arrived"));
    ck_assert_uint_ge((uv_hrtime() - started_ns) / 1000000, 59);
}
END_TEST

START_TEST(a_connection_that_is_heard_is_not_idle)
{
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 4096, .idle_ms = 50};
    struct dripper dripper;

    for (unsigned i = 1; i <= 4; i++) {
        append_frame(&wire, 1, i, "headr", "", 0); /* 29 bytes, so 29 ms or more, each */
    }
    open_near(&limits);
    dripper_start(&dripper);
    run_until(&loop, &near.frames, 4);
    ck_assert_uint_eq(near.failed, 0);
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_TIMEOUT);
    dripper_stop(&dripper);
}
END_TEST

START_TEST(a_paused_connection_is_not_idle_until_it_is_resumed)
{
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 4096, .idle_ms = 10};
    struct owner timed;
    int pair[2];

    open_near(&limits);
    conn_pause(near.conn);
    connected_pair(pair);
    limits.idle_ms = 40;
    owner_open(&timed, &loop, pair[0], &limits);
    run_until(&loop, &timed.failed, 1);
    ck_assert_uint_eq(near.failed, 0);
    conn_resume(near.conn);
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_TIMEOUT);
    owner_close(&timed, &loop);
    ck_assert_int_eq(close(pair[1]), 0);
}
END_TEST

START_TEST(what_came_in_time_counts_even_if_the_loop_is_late)
{
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 4096, .idle_ms = 10};
    uint64_t started_ns = uv_hrtime();

    open_near(&limits);
    append_frame(&wire, 1, 1, "in time", "", 0);
    write_all(fds[1], wire.data, wire.size);
    while (uv_hrtime() - started_ns < 15 * 1000000) {
        /* The loop is held up. */
    }
    run_until(&loop, &near.failed, 1);
    ck_assert_uint_eq(near.frames, 1);
}
END_TEST

/* ---- backpressure ---- */

START_TEST(a_paused_reader_makes_the_sender_busy_and_then_drained)
{
    struct conn_limits limits = {.frame_size_max = 1 << 20, .queue_size_max = 256 << 10};
    struct block *block = zeroed_block(64 << 10);
    unsigned sent = 0;

    shrink_buffers();
    open_near(&limits);
    open_far(&limits);
    conn_pause(far.conn);
    while (send_block(near.conn, sent + 1, block, false) == ERR_OK) {
        sent++;
        run_ready(&loop);
        ck_assert_uint_le(conn_queue_size(near.conn), limits.queue_size_max);
        ck_assert_uint_lt(sent, 1000);
    }
    ck_assert_int_eq(send_block(near.conn, sent + 1, block, false), ERR_BUSY);
    ck_assert_uint_eq(near.drained + far.frames, 0);
    sent++;
    ck_assert_int_eq(send_block(near.conn, sent, block, true), ERR_OK); /* Past the bound. */
    ck_assert_uint_gt(conn_queue_size(near.conn), limits.queue_size_max);
    conn_resume(far.conn);
    run_until(&loop, &near.drained, 1);
    run_until(&loop, &far.frames, sent);
    ck_assert(!far.out_of_order);
    run_ready(&loop);
    ck_assert_uint_eq(near.drained, 1);
    ck_assert_int_eq(send_block(near.conn, sent + 1, block, false), ERR_OK);
    owner_close(&near, &loop);
    ck_assert_uint_eq(block->refs, 1);
    block_unref(block);
}
END_TEST

START_TEST(drained_is_not_told_to_who_never_came_past_half)
{
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 100};

    open_near(&limits);
    open_far(&limits);
    ck_assert_int_eq(send_text(near.conn, 1, "0123456789"), ERR_OK); /* 34 of 100 */
    run_until(&loop, &far.frames, 1);
    run_ready(&loop);
    ck_assert_uint_eq(near.drained, 0);
    ck_assert_int_eq(send_text(near.conn, 2, "0123456789"), ERR_OK);
    ck_assert_int_eq(send_text(near.conn, 3, "0123456789"), ERR_OK); /* 68 */
    ck_assert_int_eq(send_text(near.conn, 4, "0123456789"), ERR_BUSY);
    run_until(&loop, &near.drained, 1);
    run_until(&loop, &far.frames, 3);
    ck_assert_uint_eq(near.drained, 1);
}
END_TEST

START_TEST(drained_follows_busy_below_half_too)
{
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 100};
    char text[81] = {0};

    memset(text, 'x', sizeof text - 1);
    open_near(&limits);
    ck_assert_int_eq(send_text(near.conn, 1, "0123456789"), ERR_OK); /* 34 of 100 */
    ck_assert_int_eq(send_text(near.conn, 2, text), ERR_BUSY);
    run_until(&loop, &near.drained, 1);
    ck_assert_int_eq(send_text(near.conn, 2, text), ERR_OK);
}
END_TEST

START_TEST(an_empty_queue_takes_a_frame_of_any_size)
{
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 30};

    open_near(&limits);
    open_far(&limits);
    ck_assert_int_eq(send_text(near.conn, 1, "longer than thirty bytes in all"), ERR_OK);
    ck_assert_int_eq(send_text(near.conn, 2, ""), ERR_BUSY);
    run_until(&loop, &near.drained, 1);
    run_until(&loop, &far.frames, 1);
}
END_TEST

START_TEST(pauses_are_counted_and_hold_back_what_was_already_read)
{
    open_near(&roomy_limits);
    near.pause_at = 2;
    for (unsigned i = 1; i <= 5; i++) {
        append_frame(&wire, 1, i, "header", "", 0);
    }
    write_all(fds[1], wire.data, wire.size - 3);
    run_until(&loop, &near.frames, 2);
    conn_pause(near.conn);
    run_ready(&loop);
    conn_resume(near.conn);
    run_ready(&loop);
    ck_assert_uint_eq(near.frames, 2);
    conn_resume(near.conn);
    ck_assert_uint_eq(near.frames, 2); /* Later, from the loop. */
    run_until(&loop, &near.frames, 4);
    write_all(fds[1], wire.data + wire.size - 3, 3);
    run_until(&loop, &near.frames, 5);
    ck_assert(!near.out_of_order);
}
END_TEST

START_TEST(a_paused_connection_can_be_closed)
{
    open_near(&roomy_limits);
    near.pause_at = 1;
    append_frame(&wire, 1, 1, "one", "", 0);
    append_frame(&wire, 1, 2, "two", "", 0);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.frames, 1);
    conn_close(near.conn, 0);
    conn_resume(near.conn);
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(near.frames, 1);
}
END_TEST

/* ---- close ---- */

START_TEST(closing_with_linger_writes_all_that_is_queued)
{
    struct block *block = zeroed_block(4 << 20);

    shrink_buffers();
    open_near(&roomy_limits);
    open_far(&roomy_limits);
    far.close_in_failed = true;
    ck_assert_int_eq(send_block(near.conn, 1, block, false), ERR_OK);
    ck_assert_int_eq(send_text(near.conn, 2, "last"), ERR_OK);
    conn_close(near.conn, 9000);
    run_until(&loop, &near.closed, 1);
    run_until(&loop, &far.closed, 1);
    ck_assert_uint_eq(far.frames, 2);
    ck_assert_int_eq(far.err, ERR_CLOSED);
    ck_assert_uint_eq(near.failed, 0);
    ck_assert_uint_eq(near.drained, 0);
    ck_assert_uint_eq(block->refs, 1);
    block_unref(block);
}
END_TEST

START_TEST(closing_gives_up_when_the_linger_time_is_over)
{
    struct block *block = zeroed_block(4 << 20);

    shrink_buffers();
    open_near(&roomy_limits);
    ck_assert_int_eq(send_block(near.conn, 1, block, false), ERR_OK);
    conn_close(near.conn, 20); /* Nobody reads. */
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(near.failed, 0);
    ck_assert_uint_eq(block->refs, 1);
    block_unref(block);
}
END_TEST

START_TEST(a_last_frame_survives_bytes_that_were_never_read)
{
    uint8_t noise[200000] = {0};

    open_near(&roomy_limits);
    conn_pause(near.conn);
    ck_assert_int_eq(fds[0], -1);
    write_all(fds[1], noise, sizeof noise);
    ck_assert_int_eq(send_text(near.conn, 1, "reason"), ERR_OK);
    conn_close(near.conn, 5000);
    run_ready(&loop);
    ck_assert_int_eq(shutdown(fds[1], SHUT_WR), 0);
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(read_to_end(fds[1]), FRAME_PREFIX_SIZE + 6); /* and no ECONNRESET */
}
END_TEST

START_TEST(closing_without_linger_still_writes_what_the_kernel_takes)
{
    open_near(&roomy_limits);
    ck_assert_int_eq(send_text(near.conn, 1, "bye"), ERR_OK);
    conn_close(near.conn, 0);
    ck_assert_uint_eq(near.closed, 0); /* Later, from the loop. */
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(read_to_end(fds[1]), FRAME_PREFIX_SIZE + 3);
}
END_TEST

/* ---- release ---- */

START_TEST(a_released_socket_lives_on_in_another_connection)
{
    unsigned before = count_descriptors();
    int fd;

    open_near(&roomy_limits);
    near.release_in_frame = true;
    append_frame(&wire, 1, 1, "hello", NULL, 0);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.closed, 1);
    ck_assert_uint_eq(near.failed, 0);
    ck_assert_int_eq(near.release_err, ERR_OK);
    fd = near.released_fd;
    ck_assert_uint_ge(count_descriptors(), before); /* The loop may have opened its own. */
    owner_open(&near, &loop, fd, &roomy_limits);
    write_all(fds[1], wire.data, wire.size);
    run_until(&loop, &near.frames, 1);
    ck_assert_int_eq(send_text(near.conn, 1, "back"), ERR_OK);
    run_ready(&loop);
    ck_assert_int_eq(recv(fds[1], wire.data, FRAME_PREFIX_SIZE + 4, MSG_DONTWAIT),
                     FRAME_PREFIX_SIZE + 4);
}
END_TEST

/* Of a second frame all but the last _i bytes came with the first. */
START_TEST(what_arrived_behind_the_frame_forbids_a_release)
{
    size_t later = (size_t)_i;

    open_near(&roomy_limits);
    near.release_in_frame = true;
    append_frame(&wire, 1, 1, "hello", NULL, 0);
    append_frame(&wire, 1, 2, "too early", NULL, 0);
    write_all(fds[1], wire.data, wire.size - later);
    run_until(&loop, &near.frames, 1);
    ck_assert_int_eq(near.release_err, ERR_PROTOCOL);
    near.release_in_frame = false;
    write_all(fds[1], wire.data + wire.size - later, later);
    run_until(&loop, &near.frames, 2); /* It goes on as if nothing had been asked. */
    ck_assert_uint_eq(near.failed, 0);
}
END_TEST

START_TEST(what_is_not_written_yet_forbids_a_release)
{
    int fd = -1;

    open_near(&roomy_limits);
    ck_assert_int_eq(send_text(near.conn, 1, "x"), ERR_OK);
    ck_assert_int_eq(conn_release(near.conn, &fd), ERR_PROTOCOL);
    run_ready(&loop);
    ck_assert_int_eq(conn_release(near.conn, &fd), ERR_OK);
    run_until(&loop, &near.closed, 1);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_connection_that_ends_is_not_released)
{
    int fd = -1;

    open_near(&roomy_limits);
    ck_assert_int_eq(shutdown(fds[1], SHUT_WR), 0);
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(conn_release(near.conn, &fd), ERR_CLOSED);
    conn_close(near.conn, 0);
    ck_assert_int_eq(conn_release(near.conn, &fd), ERR_CLOSED);
    ck_assert_int_eq(fd, -1);
}
END_TEST

static Suite *conn_suite(void)
{
    Suite *suite = suite_create("transport/conn");
    TCase *tcase = tcase_create("open");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, socket_options_are_set);
    tcase_add_test(tcase, the_peer_has_a_name_and_the_owner_its_argument);
    tcase_add_test(tcase, what_is_no_socket_is_refused_and_closed);
    tcase_add_test(tcase, opening_and_closing_leaves_no_descriptor_behind);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("read");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, many_small_frames_arrive_in_order);
    tcase_add_test(tcase, frames_in_one_segment_are_told_apart);
    tcase_add_test(tcase, what_the_kernel_holds_is_read_a_part_at_a_time);
    tcase_add_test(tcase, a_large_body_arrives_whole_and_leaves_uncopied);
    tcase_add_test(tcase, a_frame_that_is_kept_outlives_its_connection);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("fail");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_malformed_frame_fails_once_and_a_last_frame_can_be_sent);
    tcase_add_test(tcase, good_frames_before_a_bad_one_are_delivered);
    tcase_add_test(tcase, the_end_of_the_other_side_is_told_and_it_can_still_be_answered);
    tcase_add_test(tcase, an_end_inside_a_frame_is_told_as_such);
    tcase_add_test(tcase, a_reset_is_told_and_nothing_can_be_sent);
    tcase_add_test(tcase, writing_to_a_reset_connection_fails_once_and_raises_no_signal);
    tcase_add_test(tcase, closing_inside_any_callback_is_fine);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("deadlines");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, who_drips_its_hello_is_cut_off_in_time);
    tcase_add_test(tcase, an_established_connection_has_its_new_limits_and_no_hello_timer);
    tcase_add_test(tcase, a_connection_that_is_heard_is_not_idle);
    tcase_add_test(tcase, a_paused_connection_is_not_idle_until_it_is_resumed);
    tcase_add_test(tcase, what_came_in_time_counts_even_if_the_loop_is_late);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("backpressure");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_paused_reader_makes_the_sender_busy_and_then_drained);
    tcase_add_test(tcase, drained_is_not_told_to_who_never_came_past_half);
    tcase_add_test(tcase, drained_follows_busy_below_half_too);
    tcase_add_test(tcase, an_empty_queue_takes_a_frame_of_any_size);
    tcase_add_test(tcase, pauses_are_counted_and_hold_back_what_was_already_read);
    tcase_add_test(tcase, a_paused_connection_can_be_closed);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("close");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, closing_with_linger_writes_all_that_is_queued);
    tcase_add_test(tcase, closing_gives_up_when_the_linger_time_is_over);
    tcase_add_test(tcase, a_last_frame_survives_bytes_that_were_never_read);
    tcase_add_test(tcase, closing_without_linger_still_writes_what_the_kernel_takes);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("release");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_released_socket_lives_on_in_another_connection);
    tcase_add_loop_test(tcase, what_arrived_behind_the_frame_forbids_a_release, 1, 12);
    tcase_add_test(tcase, what_is_not_written_yet_forbids_a_release);
    tcase_add_test(tcase, a_connection_that_ends_is_not_released);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(conn_suite());
}
