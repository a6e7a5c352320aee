/*
 * JetStream: each record is published with a reply subject of its own, which the stream's leader
 * answers when it has stored it (a PubAck). One connection.
 *
 * libnats is driven by the loop, as an event loop's adapter drives it: with its own threads it
 * waits a millisecond for more to send, or makes a system call for each record. What it asks for
 * (polling for writing or not) comes from within its calls, so on this thread: it never connects
 * again by itself.
 */
#include <nats/nats.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "compare_load.h"

enum { INBOX_SIZE = 128, PENDING_MAX = 1 << 20 };

struct nats {
    const struct load_settings *settings;
    struct load *load;
    natsOptions *options;
    natsConnection *connection;
    natsSubscription *answers;
    char inbox[INBOX_SIZE]; /* replies go to INBOX.SLOT.NUMBER */
    int fd;                 /* -1: not connected */
    bool wants_to_write;
};

/* ---- what libnats asks of an event loop ---- */

static natsStatus on_attach(void **ret_user, void *loop, natsConnection *connection, natsSock fd)
{
    struct nats *self = loop;

    (void)connection;
    ASSERT(self->fd < 0); /* It connects once. */
    self->fd = fd;
    *ret_user = self;
    return NATS_OK;
}

static natsStatus on_read_wanted(void *user, bool wanted)
{
    struct nats *self = user;

    if (!wanted) {
        self->fd = -1;
    }
    return NATS_OK;
}

static natsStatus on_write_wanted(void *user, bool wanted)
{
    struct nats *self = user;

    self->wants_to_write = wanted;
    return NATS_OK;
}

static natsStatus on_detach(void *user)
{
    struct nats *self = user;

    self->fd = -1;
    return NATS_OK;
}

/* ---- connecting ---- */

static void end(void *arg)
{
    struct nats *self = arg;

    natsSubscription_Destroy(self->answers);
    natsConnection_Destroy(self->connection);
    natsOptions_Destroy(self->options);
    nats_Close();
    free(self);
}

static natsStatus set_options(struct nats *self, const char *url)
{
    natsStatus status = natsOptions_Create(&self->options);

    status = status != NATS_OK ? status : natsOptions_SetURL(self->options, url);
    status = status != NATS_OK ? status : natsOptions_SetAllowReconnect(self->options, false);
    status = status != NATS_OK ? status : natsOptions_SetSendAsap(self->options, true);
    /* What has no answer fails by its time: an early one would not tell for which record it is. */
    status = status != NATS_OK ? status : natsOptions_DisableNoResponders(self->options, true);
    status = status != NATS_OK ? status : natsOptions_SetMaxPendingMsgs(self->options, PENDING_MAX);
    return status != NATS_OK ? status
                             : natsOptions_SetEventLoop(self->options, self, on_attach,
                                                        on_read_wanted, on_write_wanted, on_detach);
}

static natsStatus subscribe(struct nats *self)
{
    char subject[INBOX_SIZE + 8];
    natsInbox *inbox = NULL;
    natsStatus status = natsInbox_Create(&inbox);

    if (status != NATS_OK) {
        return status;
    }
    ASSERT(strlen(inbox) < sizeof self->inbox);
    (void)snprintf(self->inbox, sizeof self->inbox, "%s", inbox);   /* fits */
    (void)snprintf(subject, sizeof subject, "%s.*.*", self->inbox); /* fits */
    natsInbox_Destroy(inbox);
    return natsConnection_SubscribeSync(&self->answers, self->connection, subject);
}

static void *begin(const struct load_settings *settings, struct load *load, char *ret_error,
                   size_t error_size)
{
    struct nats *self = calloc(1, sizeof *self);
    char url[256];
    natsStatus status;

    ASSERT(self != NULL);
    self->settings = settings;
    self->load = load;
    self->fd = -1;
    (void)snprintf(url, sizeof url, "nats://%s", settings->server); /* Cut: it cannot connect. */
    status = set_options(self, url);
    if (status == NATS_OK) {
        status = natsConnection_Connect(&self->connection, self->options);
    }
    if (status == NATS_OK) {
        status = subscribe(self);
    }
    if (status != NATS_OK) {
        (void)snprintf(ret_error, error_size, "%s: %s", url,
                       natsStatus_GetText(status)); /* May be cut. */
        end(self);
        return NULL;
    }
    return self;
}

/* ---- records and their answers ---- */

static bool publish(void *arg, uint32_t slot, uint64_t number, const uint8_t *value,
                    char *ret_error, size_t error_size)
{
    struct nats *self = arg;
    char reply[INBOX_SIZE + 48];
    natsStatus status;

    (void)snprintf(reply, sizeof reply, "%s.%u.%llu", self->inbox, slot,
                   (unsigned long long)number); /* fits */
    status = natsConnection_PublishRequest(self->connection, self->settings->stream, reply, value,
                                           (int)self->settings->size);
    if (status != NATS_OK) {
        (void)snprintf(ret_error, error_size, "%s", natsStatus_GetText(status)); /* May be cut. */
    }
    return status == NATS_OK;
}

/* A PubAck has the record's sequence, an error none. */
static bool is_acknowledged(const natsMsg *message)
{
    const char *data = natsMsg_GetData(message);
    size_t size = (size_t)natsMsg_GetDataLength(message);

    return memmem(data, size, "\"seq\":", 6) != NULL && memmem(data, size, "\"error\":", 8) == NULL;
}

static void take_answer(struct nats *self, const natsMsg *message)
{
    const char *subject = natsMsg_GetSubject(message);
    size_t prefix = strlen(self->inbox);
    unsigned long long number;
    unsigned slot;

    ASSERT(strncmp(subject, self->inbox, prefix) == 0);
    if (sscanf(subject + prefix, ".%u.%llu", &slot, &number) != 2) {
        return; /* None of ours. */
    }
    load_answered(self->load, slot, number,
                  is_acknowledged(message) ? NULL : natsMsg_GetData(message));
}

static bool poll_answers(void *arg, uint32_t timeout_ms, char *ret_error, size_t error_size)
{
    struct nats *self = arg;
    struct pollfd poll_fd = {.fd = self->fd, .events = POLLIN};
    natsMsg *message = NULL;
    natsStatus status;

    if (self->wants_to_write) {
        natsConnection_ProcessWriteEvent(self->connection);
    }
    if (self->wants_to_write) {
        poll_fd.events |= POLLOUT; /* The socket's buffer is full. */
    }
    if (self->fd >= 0 && poll(&poll_fd, 1, (int)timeout_ms) > 0 &&
        (poll_fd.revents & ~POLLOUT) != 0) {
        natsConnection_ProcessReadEvent(self->connection);
    }
    while ((status = natsSubscription_NextMsg(&message, self->answers, 0)) == NATS_OK) {
        take_answer(self, message);
        natsMsg_Destroy(message);
    }
    if (self->fd < 0 || status != NATS_TIMEOUT) {
        (void)snprintf(ret_error, error_size, "the connection to %s: %s", self->settings->server,
                       natsStatus_GetText(status == NATS_TIMEOUT ? NATS_CONNECTION_CLOSED
                                                                 : status)); /* May be cut. */
        return false;
    }
    return true;
}

static void give_up(void *arg, uint32_t slot)
{
    struct nats *self = arg;

    /* An answer to what is given up is known by its number. */
    ASSERT(slot < self->settings->inflight);
}

static void describe(char *ret_text, size_t size)
{
    (void)snprintf(ret_text, size, "libnats %s", nats_GetVersion()); /* May be cut. */
}

int main(int argc, char **argv)
{
    static const struct load_backend backend = {
        .system = "jetstream",
        .describe = describe,
        .open = begin,
        .send = publish,
        .poll = poll_answers,
        .cancel = give_up,
        .close = end,
    };

    return load_main(argc, argv, &backend);
}
