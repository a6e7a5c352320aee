/*
 * Socket addresses as text and back; private to transport. The public half is in transport.h.
 */
#ifndef QUORLOG_TRANSPORT_ADDRESS_H
#define QUORLOG_TRANSPORT_ADDRESS_H

#include <netdb.h>
#include <sys/socket.h>

#include "base/err.h"
#include "transport/transport.h"

enum { ADDRESS_HOST_SIZE = 256, ADDRESS_PORT_SIZE = 8 };

/* "10.0.0.7:41234" or "[::1]:41234"; an IPv4 address that came through an IPv6 socket is written
 * as IPv4. "unknown" for other families. */
void address_format(const struct sockaddr *address, char ret_text[TRANSPORT_ADDRESS_SIZE]);

/* The addresses of a numeric host without asking a resolver, which may block. ERR_NOT_FOUND when
 * host is a name. An empty host is loopback, or all addresses with AI_PASSIVE in flags. The list is
 * the caller's: freeaddrinfo. */
enum err address_numeric(const char *host, const char *port, int flags, struct addrinfo **ret_list);

#endif
