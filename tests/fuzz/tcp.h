/*
 * Sockets on loopback that leave nothing behind: closing one here resets the connection, so that
 * no port is used up by thousands of them a second.
 */
#ifndef QUORLOG_TESTS_FUZZ_TCP_H
#define QUORLOG_TESTS_FUZZ_TCP_H

#include <stdint.h>

/* Listens on a port that the kernel chooses; not blocking. */
int tcp_listen(uint16_t *ret_port);
int tcp_connect(uint16_t port);
/* Accepts what is there; -1: nothing. */
int tcp_accept(int listening);

/* Both ends of a connection; the second one does not block. */
void tcp_pair(int ret_fds[2]);

#endif
