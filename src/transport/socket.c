#include "transport/socket.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "transport/address.h"

enum {
    KEEPALIVE_IDLE_S = 5,
    KEEPALIVE_INTERVAL_S = 2,
    KEEPALIVE_COUNT = 3,
    DISCARDS_MAX = 16, /* Reads before others have their turn. */
};

enum err socket_set_options(int fd)
{
    static const struct {
        int level;
        int name;
        int value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT},
    };

    ASSERT(fd >= 0);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                       sizeof options[i].value) != 0) {
            return ERR_IO;
        }
    }
    return ERR_OK;
}

enum err socket_set_stall(int fd, uint64_t stall_ms)
{
    int value = stall_ms < INT_MAX ? (int)stall_ms : INT_MAX;

    ASSERT(fd >= 0 && stall_ms > 0);
    return setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof value) == 0 ? ERR_OK
                                                                                    : ERR_IO;
}

ssize_t socket_read(int fd, void *data, size_t size)
{
    ssize_t n;

    ASSERT(data != NULL && size > 0);
    do {
        n = read(fd, data, size);
    } while (n < 0 && errno == EINTR);
    return n;
}

ssize_t socket_write(int fd, struct iovec *parts, size_t count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t n;

    ASSERT(parts != NULL && count > 0);
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n;
}

bool socket_discard(int fd)
{
    uint8_t ignored[4096];
    ssize_t n = 1;

    for (unsigned i = 0; i < DISCARDS_MAX && n > 0; i++) {
        n = socket_read(fd, ignored, sizeof ignored);
    }
    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* A port that the kernel gives out and nobody listens on can be connected to itself: both ends of
 * the connection are then this socket. */
static bool is_connected_to_itself(int fd)
{
    struct sockaddr_storage here = {0};
    struct sockaddr_storage there = {0};
    socklen_t here_size = sizeof here;
    socklen_t there_size = sizeof there;

    return getsockname(fd, (struct sockaddr *)&here, &here_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_size) == 0 &&
           here_size == there_size && memcmp(&here, &there, here_size) == 0;
}

int socket_connect_result(int fd)
{
    int number = 0;
    socklen_t size = sizeof number;

    ASSERT(fd >= 0);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0) {
        return errno;
    }
    return number == 0 && is_connected_to_itself(fd) ? ECONNREFUSED : number;
}

void socket_peer(int fd, char ret_text[TRANSPORT_ADDRESS_SIZE])
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;

    ASSERT(fd >= 0);
    if (getpeername(fd, (struct sockaddr *)&address, &size) != 0) {
        address.ss_family = AF_UNSPEC; /* Reset already: its first event will say so. */
    }
    address_format((const struct sockaddr *)&address, ret_text);
}
