/*
 * What transport asks of a TCP socket, and how; private to transport. No state, no loop.
 */
#ifndef QUORLOG_TRANSPORT_SOCKET_H
#define QUORLOG_TRANSPORT_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "transport/transport.h"

/* TCP_NODELAY; keepalive after 5 s, then every 2 s, three times. ERR_IO: not a TCP socket. */
enum err socket_set_options(int fd);

/* The connection fails when what was sent is not taken for that long (TCP_USER_TIMEOUT), be it that
 * the other side is gone or that it does not read. ERR_IO: not a TCP socket. */
enum err socket_set_stall(int fd, uint64_t stall_ms);

/* read(2) and writev(2) on a non-blocking socket, but never interrupted, and without SIGPIPE: errno
 * is EPIPE then, and only that. */
ssize_t socket_read(int fd, void *data, size_t size);
ssize_t socket_write(int fd, struct iovec *parts, size_t count);

/* Reads and forgets what has arrived, or a part of much. Returns whether nothing more can come. */
bool socket_discard(int fd);

/* How a non-blocking connect ended: 0 or an errno. */
int socket_connect_result(int fd);

/* The other end as address_format writes it; "unknown" when it is not connected any more. */
void socket_peer(int fd, char ret_text[TRANSPORT_ADDRESS_SIZE]);

#endif
