#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/runner.h"
#include "transport/support.h"

enum { FDS_MAX = 64 };

/* The near side: a link and what its owner is told. */
static uv_loop_t loop;
static struct link *near;
static unsigned ups;
static unsigned downs;
static unsigned frames;
static unsigned drains;
static unsigned near_closed;
static enum err down_err;
static char down_text[512];
static bool close_in_up;
static bool close_in_down;
static bool reset_in_up;

/* The far side: a listener that keeps what it accepts. */
static struct listener *far;
static int far_fds[FDS_MAX];
static unsigned accepted;
static unsigned far_closed;
static char far_address[64];

static void on_up(struct link *self, void *arg, struct conn *conn)
{
    ck_assert_ptr_eq(arg, &loop);
    ck_assert_ptr_eq(link_conn(self), conn);
    ups++;
    if (close_in_up) {
        link_close(self);
    }
    if (reset_in_up) {
        link_reset(self, ERR_WRONG_CLUSTER, "refused");
        link_reset(self, ERR_IO, "the first reason counts");
        ck_assert_ptr_null(link_conn(self));
    }
}

static void on_frame(struct link *self, void *arg, const struct frame *frame)
{
    ck_assert_ptr_eq(arg, &loop);
    ck_assert_ptr_nonnull(link_conn(self));
    ck_assert_uint_eq(frame->type, 7);
    frames++;
}

static void on_down(struct link *self, void *arg, enum err err, const char *text)
{
    ck_assert_ptr_eq(arg, &loop);
    ck_assert_ptr_null(link_conn(self));
    ck_assert_uint_eq(near_closed, 0);
    downs++;
    down_err = err;
    strncpy(down_text, text, sizeof down_text - 1);
    if (close_in_down) {
        link_close(self);
    }
}

static void on_drained(struct link *self, void *arg)
{
    ck_assert_ptr_eq(arg, &loop);
    ck_assert_ptr_nonnull(link_conn(self));
    drains++;
}

static void on_closed(struct link *self, void *arg)
{
    ck_assert_ptr_eq(arg, &loop);
    ck_assert_ptr_eq(self, near);
    ck_assert_uint_eq(near_closed, 0);
    near_closed++;
    near = NULL;
}

static const struct link_events link_events = {
    .up = on_up, .frame = on_frame, .down = on_down, .drained = on_drained, .closed = on_closed};

static void on_accepted(void *arg, int fd)
{
    (void)arg;
    ck_assert_uint_lt(accepted, FDS_MAX);
    far_fds[accepted++] = fd;
}

static void on_accept_failed(void *arg, enum err err, const char *text)
{
    (void)arg;
    ck_abort_msg("%s: %s", err_name(err), text);
}

static void on_far_closed(void *arg)
{
    (void)arg;
    far_closed++;
}

static const struct listener_events far_events = {
    .accepted = on_accepted, .failed = on_accept_failed, .closed = on_far_closed};

static void open_far(const char *address)
{
    struct err_info info = {0};

    ck_assert_msg(listener_open(&loop, address, &far_events, NULL, &far, &info) == ERR_OK, "%s",
                  info.text);
    (void)snprintf(far_address, sizeof far_address, "127.0.0.1:%u", listener_port(far));
}

static void close_far(void)
{
    far_closed = 0;
    listener_close(far);
    run_until(&loop, &far_closed, 1);
    far = NULL;
}

static void open_near(const char *address)
{
    struct link_options options = {
        .address = address,
        .limits = roomy_limits,
        .connect_ms = 5000,
        .retry_min_ms = 4,
        .retry_max_ms = 20,
    };

    ck_assert_int_eq(link_open(&loop, &options, &link_events, &loop, &near), ERR_OK);
}

static void close_near(void)
{
    link_close(near);
    ck_assert_uint_eq(near_closed, 0); /* Later, from the loop. */
    link_close(near);
    run_until(&loop, &near_closed, 1);
}

static void setup(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    near = NULL;
    ups = downs = frames = drains = near_closed = accepted = 0;
    close_in_up = close_in_down = reset_in_up = false;
    open_far("127.0.0.1:0");
}

static void teardown(void)
{
    if (near != NULL) {
        close_near();
    }
    if (far != NULL) {
        close_far();
    }
    for (unsigned i = 0; i < accepted; i++) {
        ck_assert_int_eq(close(far_fds[i]), 0);
    }
    loop_finish(&loop);
}

/* libuv's thread pool, which has one thread here (main), so that a name can be kept unresolved. */
static uv_sem_t gate;
static uv_work_t blocker;
static unsigned unblocked;

static void on_work(uv_work_t *work)
{
    (void)work;
    uv_sem_wait(&gate);
}

static void on_worked(uv_work_t *work, int status)
{
    (void)work;
    ck_assert_int_eq(status, 0);
    unblocked++;
}

static void block_resolver(void)
{
    unblocked = 0;
    ck_assert_int_eq(uv_sem_init(&gate, 0), 0);
    ck_assert_int_eq(uv_queue_work(&loop, &blocker, on_work, on_worked), 0);
}

static void unblock_resolver(void)
{
    uv_sem_post(&gate);
    run_until(&loop, &unblocked, 1);
    uv_sem_destroy(&gate);
}

START_TEST(it_comes_up_and_carries_frames_both_ways)
{
    struct frame_out out = {.type = 7, .header = (const uint8_t *)"hi", .header_size = 2};
    struct conn_limits limits = {.frame_size_max = 4096, .queue_size_max = 50};
    struct owner owner;

    open_near(far_address);
    ck_assert_ptr_null(link_conn(near));
    ck_assert_uint_eq(ups, 0); /* Never from inside link_open. */
    run_until(&loop, &ups, 1);
    run_until(&loop, &accepted, 1);
    accepted = 0;
    owner_open(&owner, &loop, far_fds[0], &limits);
    conn_established(link_conn(near), &limits);
    ck_assert_int_eq(conn_send(link_conn(near), &out, false), ERR_OK);
    ck_assert_int_eq(conn_send(owner.conn, &out, false), ERR_OK);
    run_until(&loop, &frames, 1);
    run_until(&loop, &owner.frames, 1);
    ck_assert_uint_eq(drains, 1); /* 26 of 50 is past half. */
    ck_assert_uint_eq(downs, 0);
    owner_close(&owner, &loop);
}
END_TEST

START_TEST(a_host_name_is_dialled)
{
    char address[64];

    (void)snprintf(address, sizeof address, "localhost:%u", listener_port(far));
    open_near(address);
    run_until(&loop, &ups, 1); /* Also where localhost is ::1 first: the next one is tried. */
    run_until(&loop, &accepted, 1);
    ck_assert_uint_eq(downs, 0);
}
END_TEST

START_TEST(all_addresses_are_tried_in_turn)
{
    char address[64];

    /* No host is loopback, of both families where the machine has them; far has IPv4 only. */
    (void)snprintf(address, sizeof address, ":%u", listener_port(far));
    open_near(address);
    run_until(&loop, &ups, 1);
    ck_assert_str_eq(conn_peer(link_conn(near)), far_address);
    run_until(&loop, &accepted, 1);
    ck_assert_uint_eq(downs, 0);
}
END_TEST

START_TEST(ipv6_is_dialled)
{
    char address[64];
    struct err_info info = {0};

    close_far();
    if (listener_open(&loop, "[::1]:0", &far_events, NULL, &far, &info) != ERR_OK) {
        far = NULL;
        return; /* This machine cannot show it. */
    }
    (void)snprintf(address, sizeof address, "[::1]:%u", listener_port(far));
    open_near(address);
    run_until(&loop, &ups, 1);
    ck_assert_int_eq(strcmp(conn_peer(link_conn(near)), address), 0);
    run_until(&loop, &accepted, 1);
}
END_TEST

START_TEST(each_failed_attempt_is_told_with_its_reason)
{
    char address[64];

    strcpy(address, far_address);
    close_far();
    open_near(address);
    run_until(&loop, &downs, 3);
    ck_assert_int_eq(down_err, ERR_CONNECT);
    ck_assert_ptr_nonnull(strstr(down_text, address));
    ck_assert_ptr_nonnull(strstr(down_text, "refused"));
    ck_assert_uint_eq(ups, 0);
}
END_TEST

START_TEST(a_name_that_does_not_resolve_is_told)
{
    open_near("no-such-host.invalid:1");
    run_until(&loop, &downs, 1);
    ck_assert_int_eq(down_err, ERR_CONNECT);
    ck_assert_ptr_nonnull(strstr(down_text, "no-such-host.invalid"));
}
END_TEST

START_TEST(it_comes_up_again_when_the_listener_is_back)
{
    char address[64];

    strcpy(address, far_address);
    open_near(address);
    run_until(&loop, &ups, 1);
    run_until(&loop, &accepted, 1);
    close_far();
    ck_assert_int_eq(close(far_fds[--accepted]), 0);
    run_until(&loop, &downs, 1);
    ck_assert_int_eq(down_err, ERR_CLOSED);
    run_until(&loop, &downs, 3);
    ck_assert_int_eq(down_err, ERR_CONNECT);
    open_far(address);
    run_until(&loop, &ups, 2);
    ck_assert_ptr_nonnull(link_conn(near));
    run_until(&loop, &accepted, 1);
}
END_TEST

/* A listening socket whose backlog is full: further connects are never answered. */
static int open_deaf(char address[64], int *ret_filler)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET};
    socklen_t size = sizeof in4;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&in4, size), 0);
    ck_assert_int_eq(listen(fd, 0), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in4, &size), 0);
    *ret_filler = connect_to_port("127.0.0.1", ntohs(in4.sin_port));
    ck_assert_int_ge(*ret_filler, 0);
    (void)snprintf(address, 64, "127.0.0.1:%u", ntohs(in4.sin_port));
    return fd;
}

START_TEST(a_connect_that_is_not_answered_times_out)
{
    struct link_options options = {
        .limits = roomy_limits, .connect_ms = 30, .retry_min_ms = 1, .retry_max_ms = 1};
    char address[64];
    int filler;
    int deaf = open_deaf(address, &filler);
    uint64_t started_ns = uv_hrtime();
    unsigned before = count_descriptors();

    options.address = address;
    ck_assert_int_eq(link_open(&loop, &options, &link_events, &loop, &near), ERR_OK);
    memset(address, 'x', sizeof address); /* It was copied. */
    run_until(&loop, &downs, 2);
    ck_assert_int_eq(down_err, ERR_CONNECT);
    ck_assert_ptr_nonnull(strstr(down_text, "timed out"));
    ck_assert_uint_ge((uv_hrtime() - started_ns) / 1000000, 58);
    close_near();
    ck_assert_uint_eq(count_descriptors(), before);
    ck_assert_int_eq(close(deaf) | close(filler), 0);
}
END_TEST

START_TEST(a_pending_connect_can_be_closed_or_moved_without_a_word)
{
    char address[64];
    int filler;
    int deaf = open_deaf(address, &filler);

    open_near(address);
    run_ready(&loop);
    ck_assert_int_eq(link_move(near, far_address), ERR_OK);
    run_until(&loop, &ups, 1);
    ck_assert_int_eq(link_move(near, address), ERR_OK);
    run_until(&loop, &downs, 1);
    close_near();
    ck_assert_uint_eq(downs, 1);

    near_closed = 0;
    open_near(address);
    run_ready(&loop);
    close_near();
    ck_assert_uint_eq(downs, 1);
    ck_assert_int_eq(close(deaf) | close(filler), 0);
}
END_TEST

START_TEST(a_reset_gives_the_owners_reason_and_dials_again)
{
    reset_in_up = true;
    open_near(far_address);
    run_until(&loop, &downs, 1);
    ck_assert_int_eq(down_err, ERR_WRONG_CLUSTER);
    ck_assert_str_eq(down_text, "refused");
    reset_in_up = false;
    run_until(&loop, &ups, 2);
    ck_assert_uint_eq(downs, 1);
    link_reset(near, ERR_IO, "again");
    ck_assert_uint_eq(downs, 1); /* Later, from the loop. */
    run_until(&loop, &downs, 2);
    link_reset(near, ERR_IO, "nothing to end now");
    run_until(&loop, &ups, 3);
    ck_assert_uint_eq(downs, 2);
}
END_TEST

START_TEST(a_peer_that_always_refuses_is_asked_ever_more_rarely)
{
    struct link_options options = {
        .address = far_address, .limits = roomy_limits, .retry_min_ms = 2, .retry_max_ms = 10000};
    uint64_t started_ns = uv_hrtime();

    reset_in_up = true;
    ck_assert_int_eq(link_open(&loop, &options, &link_events, &loop, &near), ERR_OK);
    run_until(&loop, &downs, 8);
    /* At least half of each: 1 + 2 + 4 + 8 + 16 + 32 + 64; timers count whole milliseconds. */
    ck_assert_uint_ge((uv_hrtime() - started_ns) / 1000000, 120);
}
END_TEST

START_TEST(a_moved_link_goes_down_and_comes_up_at_the_new_address)
{
    struct listener *second = NULL;
    struct listener *first = far;
    char address[64];

    open_near(far_address);
    run_until(&loop, &ups, 1);
    ck_assert_int_eq(link_move(near, far_address), ERR_OK); /* The same: nothing to do. */
    ck_assert_ptr_nonnull(link_conn(near));
    ck_assert_int_eq(link_move(near, "no address"), ERR_INVALID);
    ck_assert_ptr_nonnull(link_conn(near));
    open_far("127.0.0.1:0");
    second = far;
    strcpy(address, far_address);
    ck_assert_int_eq(link_move(near, address), ERR_OK);
    ck_assert_ptr_null(link_conn(near));
    run_until(&loop, &ups, 2);
    ck_assert_uint_eq(downs, 1);
    ck_assert_int_eq(down_err, ERR_CLOSED);
    ck_assert_str_eq(conn_peer(link_conn(near)), address);
    run_until(&loop, &accepted, 2);
    far = first;
    close_far();
    far = second;
}
END_TEST

START_TEST(a_link_that_waits_moves_at_once)
{
    struct link_options options = {
        .limits = roomy_limits, .retry_min_ms = 100000, .retry_max_ms = 100000};
    char address[64];
    int filler;
    int deaf = open_deaf(address, &filler);

    ck_assert_int_eq(close(deaf) | close(filler), 0); /* Now it refuses. */
    options.address = address;
    ck_assert_int_eq(link_open(&loop, &options, &link_events, &loop, &near), ERR_OK);
    run_until(&loop, &downs, 1);
    ck_assert_int_eq(link_move(near, far_address), ERR_OK);
    run_until(&loop, &ups, 1);
    run_until(&loop, &accepted, 1);
}
END_TEST

START_TEST(a_link_that_resolves_moves_when_the_resolver_is_back)
{
    block_resolver();
    open_near("localhost:1");
    run_ready(&loop);
    ck_assert_int_eq(link_move(near, far_address), ERR_OK);
    run_ready(&loop);
    ck_assert_uint_eq(ups, 0);
    unblock_resolver();
    run_until(&loop, &ups, 1);
    ck_assert_uint_eq(downs, 0); /* The old address is not even tried. */
    run_until(&loop, &accepted, 1);
}
END_TEST

START_TEST(closing_while_up_is_one_down_and_one_closed)
{
    open_near(far_address);
    run_until(&loop, &ups, 1);
    close_near();
    ck_assert_uint_eq(downs, 1);
    ck_assert_int_eq(down_err, ERR_CANCELED);
}
END_TEST

START_TEST(closing_at_any_moment_is_fine)
{
    close_in_up = true;
    open_near(far_address);
    run_until(&loop, &near_closed, 1);
    ck_assert_uint_eq(ups, 1);
    ck_assert_uint_eq(downs, 1);
    close_in_up = false;

    near_closed = 0;
    block_resolver();
    open_near("localhost:1");
    run_ready(&loop);
    close_near(); /* The request is taken back: nobody waits for the resolver. */
    unblock_resolver();
    ck_assert_uint_eq(downs, 1);

    near_closed = 0;
    open_near(far_address); /* Not even started. */
    close_near();
    ck_assert_uint_eq(downs, 1);

    near_closed = 0;
    close_in_down = true;
    reset_in_up = true;
    open_near(far_address);
    run_until(&loop, &near_closed, 1);
    ck_assert_uint_eq(downs, 2);
    close_in_down = false;
    reset_in_up = false;

    near_closed = 0;
    open_near(far_address);
    run_until(&loop, &ups, 3);
    link_reset(near, ERR_IO, "ending");
    close_near();
    ck_assert_uint_eq(downs, 3);
    ck_assert_int_eq(down_err, ERR_IO);
}
END_TEST

START_TEST(a_bad_address_is_refused_at_once)
{
    struct link_options options = {.address = "n1", .limits = roomy_limits};

    ck_assert_int_eq(link_open(&loop, &options, &link_events, &loop, &near), ERR_INVALID);
    ck_assert_ptr_null(near);
}
END_TEST

START_TEST(reconnecting_leaves_no_descriptor_behind)
{
    unsigned before;

    open_near(far_address);
    run_until(&loop, &accepted, 1);
    ck_assert_int_eq(close(far_fds[--accepted]), 0);
    run_until(&loop, &downs, 1);
    run_until(&loop, &accepted, 1);
    run_until(&loop, &ups, 2);
    before = count_descriptors();
    for (unsigned i = 0; i < 30; i++) {
        accepted = 0;
        link_reset(near, ERR_IO, "again");
        ck_assert_int_eq(close(far_fds[0]), 0);
        run_until(&loop, &ups, 3 + i);
        run_until(&loop, &accepted, 1);
    }
    ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport/link");
    TCase *tcase = tcase_create("dial");

    if (setenv("UV_THREADPOOL_SIZE", "1", 1) != 0) {
        return EXIT_FAILURE;
    }
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, it_comes_up_and_carries_frames_both_ways);
    tcase_add_test(tcase, a_host_name_is_dialled);
    tcase_add_test(tcase, all_addresses_are_tried_in_turn);
    tcase_add_test(tcase, ipv6_is_dialled);
    tcase_add_test(tcase, each_failed_attempt_is_told_with_its_reason);
    tcase_add_test(tcase, a_name_that_does_not_resolve_is_told);
    tcase_add_test(tcase, it_comes_up_again_when_the_listener_is_back);
    tcase_add_test(tcase, a_connect_that_is_not_answered_times_out);
    tcase_add_test(tcase, a_bad_address_is_refused_at_once);
    tcase_add_test(tcase, reconnecting_leaves_no_descriptor_behind);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("reset, move, close");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_pending_connect_can_be_closed_or_moved_without_a_word);
    tcase_add_test(tcase, a_reset_gives_the_owners_reason_and_dials_again);
    tcase_add_test(tcase, a_peer_that_always_refuses_is_asked_ever_more_rarely);
    tcase_add_test(tcase, a_moved_link_goes_down_and_comes_up_at_the_new_address);
    tcase_add_test(tcase, a_link_that_waits_moves_at_once);
    tcase_add_test(tcase, a_link_that_resolves_moves_when_the_resolver_is_back);
    tcase_add_test(tcase, closing_while_up_is_one_down_and_one_closed);
    tcase_add_test(tcase, closing_at_any_moment_is_fine);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
