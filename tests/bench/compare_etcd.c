/*
 * etcd: each record is a Put of a key of its own (STREAM/NUMBER), a gRPC call, so a POST and its
 * answer on a stream of HTTP/2, with prior knowledge, in the clear:
 *
 *      0               1            5              5+size
 *      +---------------+------------+- - - - - - - -+
 *      | compressed u8 | size  u32  |    message    |   big-endian; a body has one; not compressed
 *      +---------------+------------+- - - - - - - -+
 *
 * What came of it is in the trailer grpc-status: 0 is done. Calls go out over few connections by
 * turns; all that is to be sent is written at once, before the next wait.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "compare_etcd.pb-c.h"
#include "compare_load.h"

enum {
    PREFIX_SIZE = 5,
    KEY_SIZE = 128,
    REQUEST_EXTRA = PREFIX_SIZE + KEY_SIZE + 32, /* of a Put, beyond the value */
    ANSWER_SIZE = 512,                           /* of a Put: a header of some 30 bytes */
    READ_SIZE = 256 << 10,
    WRITE_SIZE = 256 << 10,
    FRAME_SIZE_MAX = 20 << 10, /* of what nghttp2 gives to be sent at once: 16 KiB and a head */
    CONNECTIONS_MAX = 256,
    HEADER_COUNT = 6,
    STATUS_UNKNOWN = -1,
};

struct etcd;

struct call {
    uint64_t number; /* of its record; 0: none is under way */
    int32_t stream_id;
    uint8_t *request;
    size_t request_size;
    size_t request_sent;
    uint8_t answer[ANSWER_SIZE];
    size_t answer_size;
    int status;                    /* of gRPC */
    char message[LOAD_ERROR_SIZE]; /* of gRPC, when the status is not 0 */
};

struct connection {
    struct etcd *etcd;
    int fd;
    nghttp2_session *session;
    uint8_t out[WRITE_SIZE]; /* [out_sent, out_size) is still to be written */
    size_t out_size;
    size_t out_sent;
};

struct etcd {
    const struct load_settings *settings;
    struct load *load;
    struct connection *connections;
    struct pollfd polls[CONNECTIONS_MAX];
    struct call *calls; /* one a slot; slot i goes over connection i % connections */
    nghttp2_nv headers[HEADER_COUNT];
    uint8_t in[READ_SIZE];
};

/* ---- a call ---- */

static const char *unpack_answer(const struct call *call)
{
    CompareEtcd__PutResponse *response = compare_etcd__put_response__unpack(
        NULL, call->answer_size - PREFIX_SIZE, call->answer + PREFIX_SIZE);
    const char *error = NULL;

    if (response == NULL || response->header == NULL || response->header->revision <= 0) {
        error = "an answer without a revision";
    }
    if (response != NULL) {
        compare_etcd__put_response__free_unpacked(response, NULL);
    }
    return error;
}

/* NULL: etcd has stored the record; else why it may not have. */
static const char *answer_error(const struct call *call, uint32_t http_error)
{
    uint32_t size;

    if (http_error != NGHTTP2_NO_ERROR) {
        return nghttp2_http2_strerror(http_error);
    }
    if (call->status != 0) {
        return call->message[0] != '\0' ? call->message : "no status of gRPC, or one without text";
    }
    if (call->answer_size < PREFIX_SIZE || call->answer[0] != 0) {
        return "an answer without a message";
    }
    memcpy(&size, call->answer + 1, sizeof size);
    if (ntohl(size) != call->answer_size - PREFIX_SIZE) {
        return "an answer of another size than it says";
    }
    return unpack_answer(call);
}

static ssize_t on_body_wanted(nghttp2_session *session, int32_t stream_id, uint8_t *data,
                              size_t size, uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct call *call = source->ptr;
    size_t left = call->request_size - call->request_sent;
    size_t count = left < size ? left : size;

    (void)session;
    (void)arg;
    ASSERT(stream_id == call->stream_id);
    memcpy(data, call->request + call->request_sent, count);
    call->request_sent += count;
    if (count == left) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)count;
}

static int on_body(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(session, stream_id);

    (void)flags;
    (void)arg;
    if (call == NULL) {
        return 0; /* It was given up. */
    }
    if (size > sizeof call->answer - call->answer_size) {
        return NGHTTP2_ERR_CALLBACK_FAILURE; /* No answer to a Put. */
    }
    memcpy(call->answer + call->answer_size, data, size);
    call->answer_size += size;
    return 0;
}

/* Of headers and of trailers. */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (call == NULL) {
        return 0;
    }
    if (name_size == 11 && memcmp(name, "grpc-status", 11) == 0) {
        call->status = value_size == 1 && value[0] == '0' ? 0 : STATUS_UNKNOWN;
    } else if (name_size == 12 && memcmp(name, "grpc-message", 12) == 0) {
        (void)snprintf(call->message, sizeof call->message, "%.*s", (int)value_size,
                       (const char *)value); /* May be cut. */
    }
    return 0;
}

static int on_stream_closed(nghttp2_session *session, int32_t stream_id, uint32_t http_error,
                            void *arg)
{
    struct etcd *self = ((struct connection *)arg)->etcd;
    struct call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    uint64_t number;

    if (call == NULL) {
        return 0;
    }
    ASSERT(call->number != 0 && call->stream_id == stream_id);
    number = call->number;
    call->number = 0;
    load_answered(self->load, (uint32_t)(call - self->calls), number,
                  answer_error(call, http_error));
    return 0;
}

/* ---- connecting ---- */

static void end(void *arg)
{
    struct etcd *self = arg;

    for (uint32_t i = 0; i < self->settings->connections; i++) {
        struct connection *connection = &self->connections[i];

        nghttp2_session_del(connection->session); /* May be NULL. */
        if (connection->etcd != NULL && connection->fd >= 0) {
            (void)close(connection->fd); /* Nothing that counts is on the way. */
        }
    }
    for (uint32_t i = 0; i < self->settings->inflight; i++) {
        free(self->calls[i].request);
    }
    free(self->connections);
    free(self->calls);
    free(self);
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)name,
        .value = (uint8_t *)(uintptr_t)value,
        .namelen = strlen(name),
        .valuelen = strlen(value),
        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,
    };
}

/* A socket, or -1. */
static int connect_to(const char *server)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const char *colon = strrchr(server, ':');
    struct addrinfo *addresses = NULL;
    char host[256];
    int one = 1;
    int fd = -1;

    errno = EINVAL;
    if (colon == NULL || (size_t)(colon - server) >= sizeof host) {
        return -1;
    }
    (void)snprintf(host, sizeof host, "%.*s", (int)(colon - server), server); /* fits */
    if (getaddrinfo(host, colon + 1, &hints, &addresses) != 0) {
        return -1;
    }
    fd = socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (connect(fd, addresses->ai_addr, addresses->ai_addrlen) != 0 ||
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
                    fcntl(fd, F_SETFL, O_NONBLOCK) != 0)) {
        (void)close(fd); /* It is of no use. */
        fd = -1;
    }
    freeaddrinfo(addresses);
    return fd;
}

static bool make_session(struct connection *connection)
{
    const nghttp2_settings_entry no_push = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    nghttp2_session_callbacks *callbacks = NULL;
    bool ok = nghttp2_session_callbacks_new(&callbacks) == 0;

    if (ok) {
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_body);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_closed);
        ok = nghttp2_session_client_new(&connection->session, callbacks, connection) == 0 &&
             nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, &no_push, 1) == 0;
        nghttp2_session_callbacks_del(callbacks);
    }
    return ok;
}

static void *begin(const struct load_settings *settings, struct load *load, char *ret_error,
                   size_t error_size)
{
    struct etcd *self = calloc(1, sizeof *self);
    nghttp2_nv headers[HEADER_COUNT] = {
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", "/etcdserverpb.KV/Put"),
        header(":authority", settings->server),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
    };

    ASSERT(self != NULL && settings->connections <= CONNECTIONS_MAX);
    self->settings = settings;
    self->load = load;
    memcpy(self->headers, headers, sizeof headers);
    self->connections = calloc(settings->connections, sizeof *self->connections);
    self->calls = calloc(settings->inflight, sizeof *self->calls);
    ASSERT(self->connections != NULL && self->calls != NULL);
    for (uint32_t i = 0; i < settings->inflight; i++) {
        self->calls[i].request = malloc(settings->size + REQUEST_EXTRA);
        ASSERT(self->calls[i].request != NULL);
    }
    for (uint32_t i = 0; i < settings->connections; i++) {
        struct connection *connection = &self->connections[i];

        connection->etcd = self;
        connection->fd = connect_to(settings->server);
        self->polls[i].fd = connection->fd;
        if (connection->fd < 0 || !make_session(connection)) {
            (void)snprintf(ret_error, error_size, "%s: %s", settings->server,
                           strerror(errno)); /* May be cut. */
            end(self);
            return NULL;
        }
    }
    return self;
}

/* ---- bytes ---- */

/* Writes what nghttp2 has, and what was left. False: the connection is lost. */
static bool write_all(struct connection *self)
{
    for (;;) {
        const uint8_t *data;
        ssize_t size = 0;

        while (sizeof self->out - self->out_size >= FRAME_SIZE_MAX &&
               (size = nghttp2_session_mem_send(self->session, &data)) > 0) {
            ASSERT((size_t)size <= FRAME_SIZE_MAX);
            memcpy(self->out + self->out_size, data, (size_t)size);
            self->out_size += (size_t)size;
        }
        if (size < 0 || self->out_size == self->out_sent) {
            return size >= 0;
        }
        size = send(self->fd, self->out + self->out_sent, self->out_size - self->out_sent,
                    MSG_NOSIGNAL);
        if (size < 0) {
            return errno == EAGAIN; /* The next poll says when. */
        }
        self->out_sent += (size_t)size;
        if (self->out_sent == self->out_size) {
            self->out_sent = 0;
            self->out_size = 0;
        }
    }
}

/* False: the connection is lost. */
static bool read_some(struct connection *self)
{
    uint8_t *in = self->etcd->in;
    ssize_t size = recv(self->fd, in, READ_SIZE, 0);

    if (size <= 0) {
        return size < 0 && errno == EAGAIN;
    }
    return nghttp2_session_mem_recv(self->session, in, (size_t)size) == size &&
           (nghttp2_session_want_read(self->session) != 0 ||
            nghttp2_session_want_write(self->session) != 0);
}

/* ---- records and their answers ---- */

static bool put(void *arg, uint32_t slot, uint64_t number, const uint8_t *value, char *ret_error,
                size_t error_size)
{
    struct etcd *self = arg;
    struct call *call = &self->calls[slot];
    struct connection *connection = &self->connections[slot % self->settings->connections];
    const nghttp2_data_provider body = {.source = {.ptr = call}, .read_callback = on_body_wanted};
    CompareEtcd__PutRequest request = COMPARE_ETCD__PUT_REQUEST__INIT;
    char key[KEY_SIZE];
    uint32_t size;

    ASSERT(call->number == 0);
    (void)snprintf(key, sizeof key, "%s/%012llx", self->settings->stream,
                   (unsigned long long)number); /* Cut: a long name is the caller's. */
    request.key = (ProtobufCBinaryData){.data = (uint8_t *)key, .len = strlen(key)};
    request.value =
        (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)value, .len = self->settings->size};
    size = (uint32_t)compare_etcd__put_request__pack(&request, call->request + PREFIX_SIZE);
    ASSERT(PREFIX_SIZE + size <= self->settings->size + REQUEST_EXTRA);
    call->request_size = PREFIX_SIZE + size;
    call->request_sent = 0;
    call->answer_size = 0;
    call->status = STATUS_UNKNOWN;
    call->message[0] = '\0';
    call->request[0] = 0;
    size = htonl(size);
    memcpy(call->request + 1, &size, sizeof size);
    call->stream_id =
        nghttp2_submit_request(connection->session, NULL, self->headers, HEADER_COUNT, &body, call);
    if (call->stream_id < 0) {
        (void)snprintf(ret_error, error_size, "%s",
                       nghttp2_strerror(call->stream_id)); /* May be cut. */
        return false;
    }
    call->number = number;
    return true;
}

static bool poll_answers(void *arg, uint32_t timeout_ms, char *ret_error, size_t error_size)
{
    struct etcd *self = arg;
    uint32_t count = self->settings->connections;
    bool ok = true;

    for (uint32_t i = 0; i < count; i++) {
        struct connection *connection = &self->connections[i];

        ok = ok && write_all(connection);
        self->polls[i].events =
            connection->out_size > connection->out_sent ? POLLIN | POLLOUT : POLLIN;
    }
    ok = ok && (poll(self->polls, count, (int)timeout_ms) >= 0 || errno == EINTR);
    for (uint32_t i = 0; ok && i < count; i++) {
        if ((self->polls[i].revents & ~POLLOUT) != 0) {
            ok = read_some(&self->connections[i]);
        }
    }
    if (!ok) {
        (void)snprintf(ret_error, error_size, "the connection to %s is lost",
                       self->settings->server); /* May be cut. */
    }
    return ok;
}

static void give_up(void *arg, uint32_t slot)
{
    struct etcd *self = arg;
    struct call *call = &self->calls[slot];
    nghttp2_session *session = self->connections[slot % self->settings->connections].session;

    ASSERT(call->number != 0);
    call->number = 0;
    /* Either fails when the stream is not open yet: then its answer, too, is known by its number.
     */
    (void)nghttp2_session_set_stream_user_data(session, call->stream_id, NULL);
    (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
}

static void describe(char *ret_text, size_t size)
{
    (void)snprintf(ret_text, size, "libnghttp2 %s",
                   nghttp2_version(0)->version_str); /* May be cut. */
}

int main(int argc, char **argv)
{
    static const struct load_backend backend = {
        .system = "etcd",
        .describe = describe,
        .open = begin,
        .send = put,
        .poll = poll_answers,
        .cancel = give_up,
        .close = end,
    };

    return load_main(argc, argv, &backend);
}
