#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/runner.h"
#include "transport/support.h"

enum { FDS_MAX = 256 };

/* An owner that keeps what it is given. */
static uv_loop_t loop;
static struct listener *listener;
static int accepted_fds[FDS_MAX];
static unsigned accepted;
static unsigned failed;
static unsigned closed;
static enum err failed_err;
static bool close_in_accepted;

static void on_accepted(void *arg, int fd)
{
    ck_assert_ptr_eq(arg, &loop);
    ck_assert_uint_lt(accepted, FDS_MAX);
    accepted_fds[accepted++] = fd;
    if (close_in_accepted) {
        listener_close(listener);
    }
}

static void on_failed(void *arg, enum err err, const char *text)
{
    ck_assert_ptr_eq(arg, &loop);
    ck_assert_uint_gt(strlen(text), 0);
    failed++;
    failed_err = err;
}

static void on_closed(void *arg)
{
    ck_assert_ptr_eq(arg, &loop);
    ck_assert_uint_eq(closed, 0);
    closed++;
}

static const struct listener_events events = {
    .accepted = on_accepted, .failed = on_failed, .closed = on_closed};

static void setup(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    listener = NULL;
    accepted = 0;
    failed = 0;
    closed = 0;
    close_in_accepted = false;
}

static void close_listener(void)
{
    listener_close(listener);
    ck_assert_uint_eq(closed, 0); /* Later, from the loop. */
    listener_close(listener);
    run_until(&loop, &closed, 1);
    listener = NULL;
}

static void teardown(void)
{
    if (listener != NULL) {
        close_listener();
    }
    for (unsigned i = 0; i < accepted; i++) {
        ck_assert_int_eq(close(accepted_fds[i]), 0);
    }
    loop_finish(&loop);
}

static enum err open_listener(const char *address, struct err_info *info)
{
    return listener_open(&loop, address, &events, &loop, &listener, info);
}

static void expect_open(const char *address)
{
    struct err_info info = {0};

    ck_assert_msg(open_listener(address, &info) == ERR_OK, "%s", info.text);
    ck_assert_uint_ne(listener_port(listener), 0);
}

static void expect_reachable(const char *host)
{
    unsigned before = accepted;
    int fd = connect_to_port(host, listener_port(listener));

    ck_assert_msg(fd >= 0, "%s", host);
    run_until(&loop, &accepted, before + 1);
    ck_assert_int_eq(close(fd), 0);
}

static bool has_ipv6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;

    if (fd >= 0) {
        ck_assert_int_eq(close(fd), 0);
    }
    return has;
}

START_TEST(ipv4_is_listened_on)
{
    expect_open("127.0.0.1:0");
    expect_reachable("127.0.0.1");
}
END_TEST

START_TEST(ipv6_is_listened_on)
{
    if (!has_ipv6()) {
        return; /* This machine cannot show it. */
    }
    expect_open("[::1]:0");
    expect_reachable("::1");
    ck_assert_int_eq(connect_to_port("127.0.0.1", listener_port(listener)), -1);
}
END_TEST

START_TEST(an_address_without_host_takes_both_families)
{
    expect_open(":0");
    expect_reachable("127.0.0.1");
    if (has_ipv6()) {
        expect_reachable("::1");
    }
}
END_TEST

START_TEST(a_host_name_is_resolved)
{
    expect_open("localhost:0");
    expect_reachable("127.0.0.1");
}
END_TEST

START_TEST(addresses_that_make_no_sense_are_refused_with_a_reason)
{
    static const char *const addresses[] = {"localhost", "127.0.0.1:70000",
                                            "no-such-host.invalid:0"};

    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct err_info info = {0};

        ck_assert_int_eq(open_listener(addresses[i], &info), ERR_INVALID);
        ck_assert_ptr_nonnull(strstr(info.text, addresses[i]));
        ck_assert_ptr_null(listener);
    }
}
END_TEST

START_TEST(an_address_in_use_or_of_another_machine_is_refused)
{
    struct listener *first;
    struct err_info info = {0};
    char address[64];

    expect_open("127.0.0.1:0");
    first = listener;
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", listener_port(first));
    ck_assert_int_eq(open_listener(address, &info), ERR_EXISTS);
    ck_assert_ptr_nonnull(strstr(info.text, address));
    ck_assert_ptr_eq(listener, first);
    ck_assert_int_eq(open_listener("192.0.2.1:0", &info), ERR_IO); /* RFC 5737 */
}
END_TEST

START_TEST(a_port_can_be_listened_on_again_at_once)
{
    char address[64];

    expect_open("127.0.0.1:0");
    expect_reachable("127.0.0.1");
    ck_assert_int_eq(close(accepted_fds[--accepted]), 0); /* We end first: TIME_WAIT is here. */
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", listener_port(listener));
    close_listener();
    closed = 0;
    expect_open(address);
    expect_reachable("127.0.0.1");
}
END_TEST

START_TEST(all_who_wait_in_the_backlog_are_accepted)
{
    int fds[200];

    expect_open("127.0.0.1:0");
    for (size_t i = 0; i < 200; i++) {
        fds[i] = connect_to_port("127.0.0.1", listener_port(listener));
        ck_assert_int_ge(fds[i], 0);
    }
    run_until(&loop, &accepted, 200);
    for (size_t i = 0; i < 200; i++) {
        ck_assert_int_eq(close(fds[i]), 0);
    }
}
END_TEST

START_TEST(an_accepted_connection_can_be_used_on_another_loop)
{
    uv_loop_t other;
    struct owner near;
    struct owner far;
    struct frame_out frame = {.request_id = 1};
    int fd;

    ck_assert_int_eq(uv_loop_init(&other), 0);
    expect_open("127.0.0.1:0");
    fd = connect_to_port("127.0.0.1", listener_port(listener));
    run_until(&loop, &accepted, 1);
    accepted = 0;
    owner_open(&near, &other, accepted_fds[0], &roomy_limits);
    owner_open(&far, &loop, fd, &roomy_limits);
    ck_assert_int_eq(conn_send(far.conn, &frame, false), ERR_OK);
    run_ready(&loop);
    run_until(&other, &near.frames, 1);
    owner_close(&far, &loop);
    owner_close(&near, &other);
    loop_finish(&other);
}
END_TEST

START_TEST(closing_inside_accepted_is_fine)
{
    int fds[2];

    expect_open("127.0.0.1:0");
    close_in_accepted = true;
    fds[0] = connect_to_port("127.0.0.1", listener_port(listener));
    fds[1] = connect_to_port("127.0.0.1", listener_port(listener));
    run_until(&loop, &closed, 1);
    listener = NULL;
    ck_assert_uint_eq(accepted, 1);
    ck_assert_int_eq(close(fds[0]) | close(fds[1]), 0);
}
END_TEST

START_TEST(without_descriptors_it_pauses_and_then_goes_on)
{
    struct rlimit before;
    struct rlimit none;
    uint64_t started_ns;
    int fd;

    expect_open("127.0.0.1:0");
    fd = connect_to_port("127.0.0.1", listener_port(listener));
    run_ready(&loop); /* So that the loop has its own descriptors. */
    ck_assert_uint_eq(accepted, 1);
    ck_assert_int_eq(close(accepted_fds[--accepted]) | close(fd), 0);
    fd = connect_to_port("127.0.0.1", listener_port(listener));
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)fd + 1; /* fd took the lowest free number. */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    started_ns = uv_hrtime();
    run_until(&loop, &failed, 1);
    ck_assert_int_eq(failed_err, ERR_LIMIT);
    run_until(&loop, &failed, 2);
    ck_assert_uint_ge((uv_hrtime() - started_ns) / 1000000, 99); /* No busy loop. */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    run_until(&loop, &accepted, 1); /* It was not dropped meanwhile. */
    ck_assert_uint_eq(failed, 2);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_paused_listener_can_be_closed)
{
    struct rlimit before;
    struct rlimit none;
    int fd;

    expect_open("127.0.0.1:0");
    run_ready(&loop);
    fd = connect_to_port("127.0.0.1", listener_port(listener));
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)fd + 1;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    run_until(&loop, &failed, 1);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    close_listener();
    ck_assert_uint_eq(accepted, 0);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(opening_and_closing_leaves_no_descriptor_behind)
{
    unsigned before;

    expect_open("localhost:0");
    close_listener();
    closed = 0;
    before = count_descriptors();
    for (unsigned i = 0; i < 50; i++) {
        struct listener *kept;

        expect_open("localhost:0");
        kept = listener;
        ck_assert_int_eq(open_listener("192.0.2.1:0", NULL), ERR_IO);
        ck_assert_ptr_eq(listener, kept);
        close_listener();
        closed = 0;
    }
    ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport/listener");
    TCase *tcase = tcase_create("open");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, ipv4_is_listened_on);
    tcase_add_test(tcase, ipv6_is_listened_on);
    tcase_add_test(tcase, an_address_without_host_takes_both_families);
    tcase_add_test(tcase, a_host_name_is_resolved);
    tcase_add_test(tcase, addresses_that_make_no_sense_are_refused_with_a_reason);
    tcase_add_test(tcase, an_address_in_use_or_of_another_machine_is_refused);
    tcase_add_test(tcase, a_port_can_be_listened_on_again_at_once);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("accept");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, all_who_wait_in_the_backlog_are_accepted);
    tcase_add_test(tcase, an_accepted_connection_can_be_used_on_another_loop);
    tcase_add_test(tcase, closing_inside_accepted_is_fine);
    tcase_add_test(tcase, without_descriptors_it_pauses_and_then_goes_on);
    tcase_add_test(tcase, a_paused_listener_can_be_closed);
    tcase_add_test(tcase, opening_and_closing_leaves_no_descriptor_behind);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
