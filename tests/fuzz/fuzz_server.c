/*
 * A node is sent anything by a client: every request's decoder and checks, and what answers them.
 * The node stays up, answers a ping behind it all unless it has ended the connection, and when the
 * connection is gone nothing of it is left.
 *
 *      u8 1: the hello is right, 2: bodies' checksums are made right, 4: raw bytes follow | frames,
 *      up to 24: u16 type, u8 request id, part: header, part: body
 */
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "fuzz/fuzz_node.h"
#include "fuzz/tcp.h"
#include "quorlog.pb-c.h"
#include "transport/frame.h"

enum { FRAMES_MAX = 24, WAIT_MS = 20000, PING_ID = 0x70696e67 };

/* False when the connection has ended. */
static bool send_bytes(int fd, const void *data, size_t size)
{
    return size == 0 || send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static bool send_frame(int fd, uint16_t type, uint64_t id, const void *header, size_t header_size,
                       const void *body, size_t body_size)
{
    uint8_t prefix[FRAME_PREFIX_SIZE];
    const struct frame_out frame = {
        .type = type, .request_id = id, .header = header, .header_size = header_size};

    frame_out_encode_prefix(&frame, body_size, prefix);
    return send_bytes(fd, prefix, sizeof prefix) && send_bytes(fd, header, header_size) &&
           send_bytes(fd, body, body_size);
}

static bool send_hello(int fd)
{
    static const uint8_t hello[] = {0x08, 1}; /* protocol_version 1 */

    return send_frame(fd, QUORLOG__FRAME_TYPE__FRAME_HELLO, 1, hello, sizeof hello, NULL, 0);
}

static bool send_input(int fd, struct fuzz_input *input, uint8_t control)
{
    bool open = true;

    if ((control & 4) != 0) {
        uint8_t *bytes = fuzz_copy(input);

        fix_frames(bytes, input->size);
        open = send_bytes(fd, bytes, input->size);
        free(bytes);
        return open && shutdown(fd, SHUT_WR) == 0;
    }
    for (unsigned i = 0; i < FRAMES_MAX && input->size > 0 && open; i++) {
        uint16_t type = fuzz_u16(input);
        uint8_t id = fuzz_u8(input);
        struct fuzz_input header = fuzz_part(input);
        struct fuzz_input body = fuzz_part(input);
        uint8_t *bytes = fuzz_copy(&body);

        if ((control & 2) != 0 && body.size >= 8) {
            fix_batches(bytes, body.size, NULL);
            memset(bytes + 4, 0, 4); /* As a producer sends it. */
        }
        open = send_frame(fd, type, id, header.data, header.size, bytes, body.size);
        free(bytes);
    }
    return open && send_frame(fd, QUORLOG__FRAME_TYPE__FRAME_PING, PING_ID, NULL, 0, NULL, 0);
}

/* Reads answers up to that of the ping, or to the connection's end; each is a frame. */
static void read_answers(int fd)
{
    struct frame_parser parser;
    struct frame frame;
    uint8_t buffer[8192];
    bool open = true;

    frame_parser_init(&parser, 64 << 20);
    while (open) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        struct slice bytes = {.data = buffer};
        ssize_t n;
        int ready = poll(&poll_fd, 1, 0);

        for (int waited = 0; ready == 0; waited++) {
            ASSERT(waited < WAIT_MS);
            fuzz_node_turn();
            ready = poll(&poll_fd, 1, 1);
        }
        n = recv(fd, buffer, sizeof buffer, 0);
        open = n > 0;
        bytes.size = n > 0 ? (size_t)n : 0;
        while (bytes.size > 0) {
            enum err err = frame_parser_parse(&parser, &bytes, &frame, NULL);

            ASSERT(err == ERR_OK || err == ERR_AGAIN);
            if (err == ERR_OK) {
                open = open && (frame.type != QUORLOG__FRAME_TYPE__FRAME_PING_REPLY ||
                                frame.request_id != PING_ID);
                block_unref(frame.block);
            }
        }
    }
    frame_parser_fini(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    int fd = tcp_connect(fuzz_node_port());

    fuzz_node_turn();
    if ((control & 1) == 0 || send_hello(fd)) {
        (void)send_input(fd, &input, control); /* False: the node has had enough. */
    }
    read_answers(fd);
    (void)close(fd); /* It is reset. */
    for (unsigned i = 0; fuzz_node_sockets() > 0; i++) {
        ASSERT(i < WAIT_MS * 100U);
        fuzz_node_turn();
        (void)sched_yield();
        if (i > 1000) {
            (void)usleep(10); /* Another thread is to go on. */
        }
    }
    return 0;
}
