#include "transport/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/runner.h"
#include "transport/support.h"

static int fds[2];

static void setup(void)
{
    connected_pair(fds);
}

static void teardown(void)
{
    ck_assert_int_eq(close(fds[0]) | close(fds[1]), 0);
}

START_TEST(options_are_set)
{
    static const struct {
        int level;
        int name;
        int value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},  {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 5}, {IPPROTO_TCP, TCP_KEEPINTVL, 2},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},  {IPPROTO_TCP, TCP_USER_TIMEOUT, 7000},
    };

    ck_assert_int_eq(socket_set_options(fds[0]), ERR_OK);
    ck_assert_int_eq(socket_set_stall(fds[0], 7000), ERR_OK);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        int value = -1;
        socklen_t size = sizeof value;

        ck_assert_int_eq(getsockopt(fds[0], options[i].level, options[i].name, &value, &size), 0);
        ck_assert_int_eq(value, options[i].value);
    }
}
END_TEST

START_TEST(what_is_not_tcp_is_refused)
{
    int pair[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert_int_eq(socket_set_options(pair[0]), ERR_IO);
    ck_assert_int_eq(socket_set_stall(pair[0], 1), ERR_IO);
    ck_assert_int_eq(close(pair[0]) | close(pair[1]), 0);
}
END_TEST

START_TEST(parts_are_written_in_order_and_read_back)
{
    char text[] = "ab";
    struct iovec parts[] = {{.iov_base = text + 1, .iov_len = 1}, {.iov_base = text, .iov_len = 1}};
    char data[8];

    ck_assert_int_eq(socket_write(fds[0], parts, 2), 2);
    ck_assert_int_eq(socket_read(fds[1], data, sizeof data), 2);
    ck_assert_mem_eq(data, "ba", 2);
}
END_TEST

START_TEST(writing_to_who_is_gone_is_an_error_and_no_signal)
{
    char text[] = "x";
    struct iovec part = {.iov_base = text, .iov_len = 1};

    ck_assert_int_eq(shutdown(fds[0], SHUT_WR), 0);
    ck_assert_int_eq(socket_write(fds[0], &part, 1), -1);
    ck_assert_int_eq(errno, EPIPE);
}
END_TEST

START_TEST(discarding_ends_with_the_other_side)
{
    char text[] = "x";
    struct iovec part = {.iov_base = text, .iov_len = 1};

    ck_assert_int_eq(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(socket_write(fds[0], &part, 1), 1);
    ck_assert(!socket_discard(fds[1]));
    ck_assert_int_eq(socket_read(fds[1], text, 1), -1);
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_int_eq(shutdown(fds[0], SHUT_WR), 0);
    ck_assert(socket_discard(fds[1]));
}
END_TEST

START_TEST(a_connect_that_found_nobody_or_itself_is_refused)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(socket_connect_result(fds[0]), 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    /* Linux does connect a socket to itself. */
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(socket_connect_result(fd), ECONNREFUSED);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_peer_is_named_while_it_is_connected)
{
    char text[TRANSPORT_ADDRESS_SIZE];
    int unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    socket_peer(fds[0], text);
    ck_assert_int_eq(strncmp(text, "127.0.0.1:", 10), 0);
    ck_assert_int_gt(atoi(text + 10), 0);
    socket_peer(unconnected, text);
    ck_assert_str_eq(text, "unknown");
    ck_assert_int_eq(close(unconnected), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport/socket");
    TCase *tcase = tcase_create("socket");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, options_are_set);
    tcase_add_test(tcase, what_is_not_tcp_is_refused);
    tcase_add_test(tcase, parts_are_written_in_order_and_read_back);
    tcase_add_test(tcase, writing_to_who_is_gone_is_an_error_and_no_signal);
    tcase_add_test(tcase, discarding_ends_with_the_other_side);
    tcase_add_test(tcase, a_connect_that_found_nobody_or_itself_is_refused);
    tcase_add_test(tcase, a_peer_is_named_while_it_is_connected);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
