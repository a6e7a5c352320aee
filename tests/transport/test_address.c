#include "transport/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/runner.h"
#include "transport/support.h"

static void expect_split(const char *address, const char *expected_host, const char *expected_port)
{
    char host[256];
    char port[8];

    ck_assert_msg(address_split(address, host, port, NULL) == ERR_OK, "%s", address);
    ck_assert_str_eq(host, expected_host);
    ck_assert_str_eq(port, expected_port);
}

START_TEST(host_and_port_are_split)
{
    expect_split("localhost:7437", "localhost", "7437");
    expect_split("10.0.0.7:0", "10.0.0.7", "0");
    expect_split("n-1.example.org:65535", "n-1.example.org", "65535");
    expect_split(":7437", "", "7437");
}
END_TEST

START_TEST(ipv6_comes_in_brackets)
{
    expect_split("[::1]:7437", "::1", "7437");
    expect_split("[fe80::1%eth0]:7437", "fe80::1%eth0", "7437");
    expect_split("[::ffff:10.0.0.7]:1", "::ffff:10.0.0.7", "1");
}
END_TEST

START_TEST(what_is_no_address_is_refused_with_a_reason_and_sets_nothing)
{
    static const char *const addresses[] = {
        "",           "localhost",  "localhost:",  "localhost:x", "localhost:70000",
        "h:65536",    "h:-1",       "h:+1",        "h: 1",        "h:1 ",
        "h:123456",   "::1:7437",   "[::1]",       "[::1]7437",   "[::1:7437",
        "[]:1",       "[n1]:1",     "[1.2.3.4]:1", "a b:1",       "http://n1:80",
        "user@n1:80", "n1:80/path", "n1\n:80",     "[::1]:1:2",   "h:99999999999999999999",
    };

    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        char host[256] = "unchanged";
        char port[8] = "same";
        struct err_info info = {0};

        ck_assert_msg(address_split(addresses[i], host, port, &info) == ERR_INVALID, "'%s'",
                      addresses[i]);
        ck_assert_str_eq(host, "unchanged");
        ck_assert_str_eq(port, "same");
        ck_assert_int_eq(info.code, ERR_INVALID);
        ck_assert_uint_gt(strlen(info.text), 0);
    }
}
END_TEST

START_TEST(a_host_of_255_bytes_fits_and_one_of_256_does_not)
{
    char address[300];
    char host[256];
    char port[8];

    memset(address, 'h', sizeof address);
    strcpy(address + 255, ":80");
    ck_assert_int_eq(address_split(address, host, port, NULL), ERR_OK);
    ck_assert_uint_eq(strlen(host), 255);
    strcpy(address + 255, "h:80");
    ck_assert_int_eq(address_split(address, host, port, NULL), ERR_INVALID);
}
END_TEST

START_TEST(addresses_are_written_as_they_are_read)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(41234)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(41234)};
    struct sockaddr other = {.sa_family = AF_UNIX};
    char text[TRANSPORT_ADDRESS_SIZE];

    ck_assert_int_eq(inet_pton(AF_INET, "10.0.0.7", &in4.sin_addr), 1);
    address_format((struct sockaddr *)&in4, text);
    ck_assert_str_eq(text, "10.0.0.7:41234");
    ck_assert_int_eq(inet_pton(AF_INET6, "::1", &in6.sin6_addr), 1);
    address_format((struct sockaddr *)&in6, text);
    ck_assert_str_eq(text, "[::1]:41234");
    ck_assert_int_eq(inet_pton(AF_INET6, "::ffff:10.0.0.7", &in6.sin6_addr), 1);
    address_format((struct sockaddr *)&in6, text);
    ck_assert_str_eq(text, "10.0.0.7:41234");
    address_format(&other, text);
    ck_assert_str_eq(text, "unknown");
}
END_TEST

START_TEST(numeric_hosts_need_no_resolver)
{
    struct addrinfo *list;

    ck_assert_int_eq(address_numeric("127.0.0.1", "1", 0, &list), ERR_OK);
    ck_assert_int_eq(list->ai_family, AF_INET);
    freeaddrinfo(list);
    ck_assert_int_eq(address_numeric("::1", "1", 0, &list), ERR_OK);
    ck_assert_int_eq(list->ai_family, AF_INET6);
    freeaddrinfo(list);
    ck_assert_int_eq(address_numeric("localhost", "1", 0, &list), ERR_NOT_FOUND);
}
END_TEST

START_TEST(codes_of_libuv_become_ours)
{
    static const struct {
        int status;
        enum err err;
    } cases[] = {
        {0, ERR_OK},
        {UV_EOF, ERR_CLOSED},
        {UV_ECONNRESET, ERR_CLOSED},
        {UV_EPIPE, ERR_CLOSED},
        {UV_ECONNREFUSED, ERR_CONNECT},
        {UV_EHOSTUNREACH, ERR_CONNECT},
        {UV_EAI_NONAME, ERR_CONNECT},
        {UV_ETIMEDOUT, ERR_TIMEOUT},
        {UV_EADDRINUSE, ERR_EXISTS},
        {UV_EMFILE, ERR_LIMIT},
        {UV_ENOMEM, ERR_NOMEM},
        {UV_EAI_MEMORY, ERR_NOMEM},
        {UV_ECANCELED, ERR_CANCELED},
        {UV_EINVAL, ERR_INVALID},
        {UV_EAGAIN, ERR_AGAIN},
        {UV_EIO, ERR_IO},
        {UV_UNKNOWN, ERR_IO},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_msg(err_from_uv(cases[i].status) == cases[i].err, "%d", cases[i].status);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport/address");
    TCase *tcase = tcase_create("split");

    tcase_add_test(tcase, host_and_port_are_split);
    tcase_add_test(tcase, ipv6_comes_in_brackets);
    tcase_add_test(tcase, what_is_no_address_is_refused_with_a_reason_and_sets_nothing);
    tcase_add_test(tcase, a_host_of_255_bytes_fits_and_one_of_256_does_not);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("format");
    tcase_add_test(tcase, addresses_are_written_as_they_are_read);
    tcase_add_test(tcase, numeric_hosts_need_no_resolver);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("err_from_uv");
    tcase_add_test(tcase, codes_of_libuv_become_ours);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
