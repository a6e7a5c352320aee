#include "fuzz/client_peer.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "quorlog.pb-c.h"

void peer_init(struct peer *self, struct fuzz_input *input, bool fixed, bool polite)
{
    *self = (struct peer){.input = input, .fixed = fixed, .polite = polite, .fd = -1};
    frame_parser_init(&self->parser, PEER_FRAME_SIZE_MAX);
}

void peer_fini(struct peer *self)
{
    frame_parser_fini(&self->parser);
    if (self->fd >= 0) {
        (void)close(self->fd); /* It is reset. */
    }
}

static void send_answer(struct peer *self, uint16_t type, uint64_t id,
                        const struct fuzz_input *header, const struct fuzz_input *body)
{
    uint8_t *bytes = fuzz_copy(body);
    uint8_t prefix[FRAME_PREFIX_SIZE];
    const struct frame_out frame = {
        .type = type, .request_id = id, .header = header->data, .header_size = header->size};
    struct iovec parts[] = {{prefix, sizeof prefix},
                            {(void *)(uintptr_t)header->data, header->size},
                            {bytes, body->size}};
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};

    if (self->fixed) {
        fix_batches(bytes, body->size, NULL);
    }
    frame_out_encode_prefix(&frame, body->size, prefix);
    (void)sendmsg(self->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); /* It may be gone. */
    free(bytes);
}

static void greet(struct peer *self, uint64_t id)
{
    Quorlog__HelloReply reply = QUORLOG__HELLO_REPLY__INIT;
    uint8_t packed[128];
    struct fuzz_input none = {.data = packed};
    struct fuzz_input header = {.data = packed};

    reply.protocol_version = 1;
    reply.node_id = 1;
    reply.frame_size_max = PEER_FRAME_SIZE_MAX;
    reply.batch_size_max = PEER_FRAME_SIZE_MAX;
    header.size = quorlog__hello_reply__pack(&reply, packed);
    send_answer(self, QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY, id, &header, &none);
}

static void answer(struct peer *self, const struct frame *frame)
{
    bool more = true;

    if (!self->greeted && self->polite) {
        greet(self, frame->request_id);
        more = false;
    }
    self->greeted = true;
    while (more && self->input->size > 0) {
        uint16_t type = fuzz_u16(self->input);
        struct fuzz_input header = fuzz_part(self->input);
        struct fuzz_input body = fuzz_part(self->input);

        more = (type & 0x8000) != 0;
        send_answer(self, type & 0x7fff, frame->request_id, &header, &body);
    }
    if (self->input->size == 0 && more) {
        (void)shutdown(self->fd, SHUT_WR); /* It may be gone. */
    }
}

bool peer_serve(struct peer *self)
{
    uint8_t buffer[4096];
    ssize_t n = self->fd < 0 ? -1 : recv(self->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    struct slice bytes = {.data = buffer, .size = n > 0 ? (size_t)n : 0};
    struct frame frame;

    while (bytes.size > 0 && frame_parser_parse(&self->parser, &bytes, &frame, NULL) == ERR_OK) {
        answer(self, &frame);
        block_unref(frame.block);
    }
    return n > 0;
}
