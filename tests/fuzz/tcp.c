#include "fuzz/tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/assert.h"

static void set_reset(int fd)
{
    const struct linger at_once = {.l_onoff = 1};
    const int one = 1;
    int rv = setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);

    rv = rv != 0 ? rv : setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ASSERT(rv == 0);
}

int tcp_listen(uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rv = bind(fd, (struct sockaddr *)&address, size);

    rv = rv != 0 ? rv : listen(fd, 16);
    rv = rv != 0 ? rv : getsockname(fd, (struct sockaddr *)&address, &size);
    ASSERT(rv == 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

int tcp_connect(uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rv = connect(fd, (const struct sockaddr *)&address, sizeof address);

    ASSERT(rv == 0);
    set_reset(fd);
    return fd;
}

int tcp_accept(int listening)
{
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        set_reset(fd);
    }
    return fd;
}

void tcp_pair(int ret_fds[2])
{
    static int listening = -1;
    static uint16_t port;

    if (listening < 0) {
        listening = tcp_listen(&port);
    }
    ret_fds[0] = tcp_connect(port);
    ret_fds[1] = tcp_accept(listening);
    ASSERT(ret_fds[1] >= 0);
}
