#include "transport/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

enum { PORT_MAX = 65535, PORT_DIGITS_MAX = 5 };

/* Bytes that can be in a host name or IPv4 address; what they mean is the resolver's to say. */
static bool host_is_plain(const char *host, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)host[i] <= ' ' || host[i] == 0x7f || strchr("[]/@?#", host[i]) != NULL) {
            return false;
        }
    }
    return true;
}

static bool host_is_ipv6(const char *host)
{
    char copy[ADDRESS_HOST_SIZE];
    struct in6_addr ignored;
    char *scope;

    ASSERT(strlen(host) < sizeof copy);
    memcpy(copy, host, strlen(host) + 1);
    scope = strchr(copy, '%');
    if (scope != NULL) {
        *scope = '\0';
    }
    return inet_pton(AF_INET6, copy, &ignored) == 1;
}

static enum err check_port(const char *address, const char *port, struct err_info *info)
{
    size_t size = strlen(port);
    unsigned value = 0;

    if (size == 0 || size > PORT_DIGITS_MAX || strspn(port, "0123456789") != size) {
        return err_set(info, ERR_INVALID, "address '%s': the port is not a number of 0 to %d",
                       address, PORT_MAX);
    }
    for (size_t i = 0; i < size; i++) {
        value = value * 10 + (unsigned)(port[i] - '0');
    }
    if (value > PORT_MAX) {
        return err_set(info, ERR_INVALID, "address '%s': port %u is over %d", address, value,
                       PORT_MAX);
    }
    return ERR_OK;
}

enum err address_split(const char *address, char host[256], char port[8], struct err_info *info)
{
    const char *begin = address;
    const char *end;
    const char *colon;
    char copy[ADDRESS_HOST_SIZE];
    enum err err;

    ASSERT(address != NULL && host != NULL && port != NULL);
    if (*address == '[') {
        begin = address + 1;
        end = strchr(begin, ']');
        colon = end == NULL ? NULL : end + 1;
    } else {
        colon = strchr(address, ':');
        end = colon;
    }
    if (colon == NULL || *colon != ':') {
        return err_set(info, ERR_INVALID, "address '%s': expected HOST:PORT or [IPv6]:PORT",
                       address);
    }
    if (strchr(colon + 1, ':') != NULL) {
        return err_set(info, ERR_INVALID,
                       "address '%s': more than one colon; an IPv6 address goes in brackets",
                       address);
    }
    err = check_port(address, colon + 1, info);
    if (err != ERR_OK) {
        return err;
    }
    if ((size_t)(end - begin) >= sizeof copy) {
        return err_set(info, ERR_INVALID, "address: a host of %zu bytes is longer than %zu",
                       (size_t)(end - begin), sizeof copy - 1);
    }
    memcpy(copy, begin, (size_t)(end - begin));
    copy[end - begin] = '\0';
    if (*address == '[' ? !host_is_ipv6(copy) : !host_is_plain(copy, strlen(copy))) {
        return err_set(info, ERR_INVALID, "address '%s': '%s' is not %s", address, copy,
                       *address == '[' ? "an IPv6 address" : "a host");
    }
    memcpy(host, copy, strlen(copy) + 1);
    memcpy(port, colon + 1, strlen(colon + 1) + 1); /* At most five digits. */
    return ERR_OK;
}

static void format_ipv6(const struct sockaddr_in6 *address, char *ret_text)
{
    char host[INET6_ADDRSTRLEN];
    char interface[IF_NAMESIZE] = "";
    const char *text = inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof host);

    ASSERT(text != NULL); /* host is large enough for any. */
    if (IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr) &&
        if_indextoname(address->sin6_scope_id, interface) == NULL) {
        interface[0] = '\0';
    }
    (void)snprintf(ret_text, TRANSPORT_ADDRESS_SIZE, "[%s%s%s]:%u", host,
                   interface[0] == '\0' ? "" : "%", interface, ntohs(address->sin6_port));
}

void address_format(const struct sockaddr *address, char ret_text[TRANSPORT_ADDRESS_SIZE])
{
    char host[INET_ADDRSTRLEN];
    struct in_addr ipv4;
    struct sockaddr_in6 in6;
    struct sockaddr_in in4;
    uint16_t port;

    /* Copies: a sockaddr need not be aligned for its real type. */
    if (address->sa_family == AF_INET6) {
        memcpy(&in6, address, sizeof in6);
        if (!IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
            format_ipv6(&in6, ret_text);
            return;
        }
        memcpy(&ipv4, &in6.sin6_addr.s6_addr[12], sizeof ipv4);
        port = in6.sin6_port;
    } else if (address->sa_family == AF_INET) {
        memcpy(&in4, address, sizeof in4);
        ipv4 = in4.sin_addr;
        port = in4.sin_port;
    } else {
        (void)snprintf(ret_text, TRANSPORT_ADDRESS_SIZE, "unknown");
        return;
    }
    ASSERT(inet_ntop(AF_INET, &ipv4, host, sizeof host) != NULL);
    (void)snprintf(ret_text, TRANSPORT_ADDRESS_SIZE, "%s:%u", host, ntohs(port));
}

enum err address_numeric(const char *host, const char *port, int flags, struct addrinfo **ret_list)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = flags | AI_NUMERICHOST | AI_NUMERICSERV,
    };
    struct addrinfo *list = NULL;
    int rv = getaddrinfo(*host == '\0' ? NULL : host, port, &hints, &list);

    if (rv != 0) {
        return rv == EAI_MEMORY ? ERR_NOMEM : ERR_NOT_FOUND;
    }
    ASSERT(list != NULL);
    *ret_list = list;
    return ERR_OK;
}

enum err err_from_uv(int status)
{
    switch (status) {
    case UV_EOF:
    case UV_EPIPE:
    case UV_ECONNRESET:
    case UV_ECONNABORTED:
    case UV_ENOTCONN:
    case UV_ESHUTDOWN:
        return ERR_CLOSED;
    case UV_ECONNREFUSED:
    case UV_EHOSTUNREACH:
    case UV_ENETUNREACH:
    case UV_ENETDOWN:
    case UV_EADDRNOTAVAIL:
    case UV_EAI_ADDRFAMILY:
    case UV_EAI_AGAIN:
    case UV_EAI_FAIL:
    case UV_EAI_FAMILY:
    case UV_EAI_NODATA:
    case UV_EAI_NONAME:
        return ERR_CONNECT;
    case UV_ETIMEDOUT:
        return ERR_TIMEOUT;
    case UV_EADDRINUSE:
        return ERR_EXISTS;
    case UV_EMFILE:
    case UV_ENFILE:
        return ERR_LIMIT;
    case UV_ECANCELED:
    case UV_EAI_CANCELED:
        return ERR_CANCELED;
    case UV_ENOBUFS:
    case UV_EAI_MEMORY:
        return ERR_NOMEM;
    default:
        /* On Linux every other status is a negated errno, or one of a few that mean ERR_IO. */
        return err_from_errno(status <= 0 ? -status : status);
    }
}
