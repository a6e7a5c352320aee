/*
 * etcd: each record is a Put of a key of its own (STREAM/NUMBER), a gRPC call, so a POST and its answer on a stream of
 * HTTP/2:
 *
 *      0               1            5              5+size
 *      +---------------+------------+- - - - - - - -+
 *      | compressed u8 | size  u32  |    message    |   big-endian; a body has one; not compressed
 *      +---------------+------------+- - - - - - - -+
 *
 * What came of it is in the trailer grpc-status: 0 is done. Each slot has a transfer of libcurl's of its own, all of
 * them share the few connections.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "compare_etcd.pb-c.h"
#include "compare_load.h"

enum {
    PREFIX_SIZE = 5,
    KEY_SIZE = 128,
    ANSWER_SIZE = 512, /* of a Put: a header of some 30 bytes */
    STATUS_UNKNOWN = -1,
};

struct etcd;

struct call {
    struct etcd *etcd;
    CURL *transfer;
    uint64_t number; /* of its record; 0: none is under way */
    uint8_t *request;
    uint8_t answer[ANSWER_SIZE];
    size_t answer_size;
    int status;                   /* of gRPC */
    char message[LOAD_ERROR_SIZE]; /* of gRPC, when the status is not 0 */
};

struct etcd {
    const struct load_settings *settings;
    struct load *load;
    CURLM *transfers;
    struct curl_slist *headers;
    struct call *calls; /* one a slot */
};

/* ---- a call ---- */

static size_t on_body(char *data, size_t unit, size_t count, void *arg)
{
    struct call *call = arg;
    size_t size = unit * count;

    if (size > sizeof call->answer - call->answer_size) {
        return 0; /* No answer to a Put: the transfer fails. */
    }
    memcpy(call->answer + call->answer_size, data, size);
    call->answer_size += size;
    return size;
}

/* Of headers and of trailers, a line each. */
static size_t on_header(char *data, size_t unit, size_t count, void *arg)
{
    static const char status[] = "grpc-status:";
    static const char message[] = "grpc-message:";
    struct call *call = arg;
    size_t size = unit * count;
    char line[LOAD_ERROR_SIZE];
    int length = (int)(size < sizeof line ? size : sizeof line - 1);

    (void)snprintf(line, sizeof line, "%.*s", length, data); /* May be cut. */
    line[strcspn(line, "\r\n")] = '\0';
    if (strncasecmp(line, status, sizeof status - 1) == 0) {
        call->status = atoi(line + sizeof status - 1);
    } else if (strncasecmp(line, message, sizeof message - 1) == 0) {
        (void)snprintf(call->message, sizeof call->message, "%s",
                       line + sizeof message - 1); /* As long. */
    }
    return size;
}

/* NULL: etcd has stored the record; else why it may not have. */
static const char *answer_error(struct call *call, CURLcode code)
{
    CompareEtcd__PutResponse *response;
    const char *error = NULL;
    uint32_t size;

    if (code != CURLE_OK) {
        return curl_easy_strerror(code);
    }
    if (call->status != 0) {
        return call->message[0] != '\0' ? call->message : "no status of gRPC";
    }
    if (call->answer_size < PREFIX_SIZE || call->answer[0] != 0) {
        return "an answer without a message";
    }
    memcpy(&size, call->answer + 1, sizeof size);
    if (ntohl(size) != call->answer_size - PREFIX_SIZE) {
        return "an answer of another size than it says";
    }
    response = compare_etcd__put_response__unpack(NULL, call->answer_size - PREFIX_SIZE,
                                                  call->answer + PREFIX_SIZE);
    if (response == NULL || response->header == NULL || response->header->revision <= 0) {
        error = "an answer without a revision";
    }
    if (response != NULL) {
        compare_etcd__put_response__free_unpacked(response, NULL);
    }
    return error;
}

static bool make_transfer(struct etcd *self, struct call *call, const char *url)
{
    CURL *transfer = curl_easy_init();

    call->etcd = self;
    call->transfer = transfer;
    call->request = malloc(PREFIX_SIZE + KEY_SIZE + self->settings->size + 32);
    return transfer != NULL && call->request != NULL &&
           curl_easy_setopt(transfer, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_HTTP_VERSION,
                            (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_PIPEWAIT, 1L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_HTTPHEADER, self->headers) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_POST, 1L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_WRITEDATA, call) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_HEADERDATA, call) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_PRIVATE, call) == CURLE_OK;
}

/* ---- connecting ---- */

static void end(void *arg)
{
    struct etcd *self = arg;

    for (uint32_t i = 0; self->calls != NULL && i < self->settings->inflight; i++) {
        struct call *call = &self->calls[i];

        if (call->number != 0) {
            (void)curl_multi_remove_handle(self->transfers, call->transfer); /* It is there. */
        }
        curl_easy_cleanup(call->transfer);
        free(call->request);
    }
    free(self->calls);
    if (self->transfers != NULL) {
        (void)curl_multi_cleanup(self->transfers); /* Nothing is left in it. */
    }
    curl_slist_free_all(self->headers);
    curl_global_cleanup();
    free(self);
}

static bool make_headers(struct etcd *self)
{
    static const char *const lines[] = {"content-type: application/grpc", "te: trailers"};

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct curl_slist *longer = curl_slist_append(self->headers, lines[i]);

        if (longer == NULL) {
            return false;
        }
        self->headers = longer;
    }
    return true;
}

static bool make_transfers(struct etcd *self, const char *url)
{
    const struct load_settings *settings = self->settings;
    long connections = (long)settings->connections;

    self->transfers = curl_multi_init();
    self->calls = calloc(settings->inflight, sizeof *self->calls);
    if (self->transfers == NULL || self->calls == NULL || !make_headers(self) ||
        curl_multi_setopt(self->transfers, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections) !=
            CURLM_OK ||
        curl_multi_setopt(self->transfers, CURLMOPT_MAX_CONCURRENT_STREAMS,
                          (long)LOAD_INFLIGHT_MAX) != CURLM_OK) {
        return false;
    }
    for (uint32_t i = 0; i < settings->inflight; i++) {
        if (!make_transfer(self, &self->calls[i], url)) {
            return false;
        }
    }
    return true;
}

/* The connections are made with the first calls. */
static void *begin(const struct load_settings *settings, struct load *load, char *ret_error,
                   size_t error_size)
{
    struct etcd *self = calloc(1, sizeof *self);
    char url[256];

    ASSERT(self != NULL);
    ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    self->settings = settings;
    self->load = load;
    (void)snprintf(url, sizeof url, "http://%s/etcdserverpb.KV/Put",
                   settings->server); /* Cut: it cannot connect. */
    if (!make_transfers(self, url)) {
        (void)snprintf(ret_error, error_size, "libcurl: out of memory, or without HTTP/2");
        end(self);
        return NULL;
    }
    return self;
}

/* ---- records and their answers ---- */

static bool put(void *arg, uint32_t slot, uint64_t number, const uint8_t *value, char *ret_error,
                size_t error_size)
{
    struct etcd *self = arg;
    struct call *call = &self->calls[slot];
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
    ASSERT(size <= KEY_SIZE + self->settings->size + 32);
    call->request[0] = 0;
    call->number = number;
    call->answer_size = 0;
    call->status = STATUS_UNKNOWN;
    call->message[0] = '\0';
    if (curl_easy_setopt(call->transfer, CURLOPT_POSTFIELDS, call->request) != CURLE_OK ||
        curl_easy_setopt(call->transfer, CURLOPT_POSTFIELDSIZE, (long)(PREFIX_SIZE + size)) !=
            CURLE_OK ||
        curl_multi_add_handle(self->transfers, call->transfer) != CURLM_OK) {
        call->number = 0;
        (void)snprintf(ret_error, error_size, "libcurl: the call cannot begin");
        return false;
    }
    size = htonl(size);
    memcpy(call->request + 1, &size, sizeof size);
    return true;
}

static void take_answers(struct etcd *self)
{
    CURLMsg *done;
    int left;

    while ((done = curl_multi_info_read(self->transfers, &left)) != NULL) {
        struct call *call = NULL;
        CURLcode code = done->data.result;
        uint64_t number;

        ASSERT(done->msg == CURLMSG_DONE);
        ASSERT(curl_easy_getinfo(done->easy_handle, CURLINFO_PRIVATE, &call) == CURLE_OK);
        (void)curl_multi_remove_handle(self->transfers, call->transfer); /* It is there. */
        number = call->number;
        call->number = 0;
        load_answered(self->load, (uint32_t)(call - self->calls), number,
                      answer_error(call, code));
    }
}

static bool poll_answers(void *arg, uint32_t timeout_ms, char *ret_error, size_t error_size)
{
    struct etcd *self = arg;
    int running;
    CURLMcode code = curl_multi_perform(self->transfers, &running);

    if (code == CURLM_OK) {
        code = curl_multi_poll(self->transfers, NULL, 0, (int)timeout_ms, NULL);
    }
    if (code == CURLM_OK) {
        code = curl_multi_perform(self->transfers, &running);
    }
    take_answers(self);
    if (code != CURLM_OK) {
        (void)snprintf(ret_error, error_size, "libcurl: %s",
                       curl_multi_strerror(code)); /* May be cut. */
    }
    return code == CURLM_OK;
}

static void give_up(void *arg, uint32_t slot)
{
    struct etcd *self = arg;
    struct call *call = &self->calls[slot];

    ASSERT(call->number != 0);
    (void)curl_multi_remove_handle(self->transfers, call->transfer); /* It is there. */
    call->number = 0;
}

static void describe(char *ret_text, size_t size)
{
    const curl_version_info_data *version = curl_version_info(CURLVERSION_NOW);

    (void)snprintf(ret_text, size, "libcurl %s, nghttp2 %s", version->version,
                   version->nghttp2_version != NULL ? version->nghttp2_version : "none");
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
