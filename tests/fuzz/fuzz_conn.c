/*
 * A connection reads a stream from a socket: its state machine, with an owner that pauses, answers,
 * changes limits, gives the socket away and closes, as the frames tell.
 *
 *      u8 1: checksums are made right | u8 size of the pieces, less one | the stream
 *
 * What an owner does with a frame of type t: t % 8: 0 nothing, 1 pause until all was sent, 2 answer
 * with what came, 3 established with a lower limit, 4 close at once, 5 close with time to linger,
 * 6 release the socket, 7 keep the block a while.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "fuzz/tcp.h"
#include "transport/transport.h"

enum { FRAME_SIZE_LIMIT = 1 << 16, TURNS_MAX = 1000 };

struct owner {
    struct conn *conn; /* NULL: closed */
    bool paused;
    struct block *kept;
    unsigned failures;
};

static const struct conn_limits limits = {.frame_size_max = FRAME_SIZE_LIMIT,
                                          .queue_size_max = 4096,
                                          .hello_ms = 10000,
                                          .stall_ms = 10000};

static void on_frame(struct conn *conn, void *arg, const struct frame *frame)
{
    const struct slice body = {
        .block = frame->block, .data = frame->body, .size = frame->body_size};
    const struct frame_out answer = {.type = frame->type,
                                     .header = frame->header,
                                     .header_size = frame->header_size,
                                     .body = &body,
                                     .body_count = 1};
    struct conn_limits lower = limits;
    struct owner *owner = arg;
    int fd;

    ASSERT(frame->header_size + frame->body_size < FRAME_SIZE_LIMIT && owner->failures == 0);
    switch (frame->type % 8) {
    case 1:
        owner->paused = true;
        conn_pause(conn);
        break;
    case 2:
        (void)conn_send(conn, &answer, (frame->flags & 1) != 0); /* Full or gone are fine. */
        break;
    case 3:
        lower.frame_size_max = 1024;
        conn_established(conn, &lower);
        break;
    case 4:
    case 5:
        conn_close(conn, frame->type % 8 == 4 ? 0 : 10);
        break;
    case 6:
        if (conn_release(conn, &fd) == ERR_OK) {
            (void)close(fd); /* Only the release was of interest. */
        }
        break;
    case 7:
        block_unref(owner->kept);
        owner->kept = block_ref(frame->block);
        break;
    default:
        break;
    }
}

static void on_failed(struct conn *conn, void *arg, enum err err, const char *text)
{
    struct owner *owner = arg;

    ASSERT(err != ERR_OK && text != NULL && ++owner->failures == 1);
    conn_close(conn, 0);
}

static void on_closed(struct conn *conn, void *arg)
{
    struct owner *owner = arg;

    ASSERT(owner->conn == conn);
    owner->conn = NULL;
}

static void feed(uv_loop_t *loop, struct owner *owner, int fd, const uint8_t *stream, size_t size,
                 size_t piece)
{
    for (size_t at = 0; at < size && owner->conn != NULL; at += piece) {
        size_t n = size - at < piece ? size - at : piece;

        if (send(fd, stream + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            break; /* It was closed, or is full because nobody reads. */
        }
        (void)uv_run(loop, UV_RUN_NOWAIT); /* What is left is run below. */
    }
    if (owner->conn != NULL && owner->paused) {
        conn_resume(owner->conn);
    }
    (void)shutdown(fd, SHUT_WR); /* Fails when the other side was quicker. */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct conn_events events = {
        .frame = on_frame, .failed = on_failed, .closed = on_closed};
    struct fuzz_input input = {.data = data, .size = size};
    bool fixed = (fuzz_u8(&input) & 1) != 0;
    size_t piece = ((size_t)fuzz_u8(&input) + 1) * 16;
    uint8_t *stream = fuzz_copy(&input);
    struct owner owner = {0};
    uv_loop_t loop;
    int fds[2];
    int rv = uv_loop_init(&loop);
    enum err err;

    ASSERT(rv == 0);
    tcp_pair(fds);
    if (fixed) {
        fix_frames(stream, input.size);
    }
    err = conn_open(&loop, fds[1], &limits, &events, &owner, &owner.conn);
    ASSERT(err == ERR_OK);
    feed(&loop, &owner, fds[0], stream, input.size, piece);
    for (unsigned i = 0; i < 4; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT); /* As above. */
    }
    (void)close(fds[0]); /* Whatever was not read is not wanted. */
    if (owner.conn != NULL) {
        conn_close(owner.conn, 0);
    }
    for (unsigned i = 0; owner.conn != NULL; i++) {
        ASSERT(i < TURNS_MAX);
        (void)uv_run(&loop, UV_RUN_ONCE); /* Until it is closed. */
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT); /* Nothing is left. */
    rv = uv_loop_close(&loop);
    ASSERT(rv == 0);
    block_unref(owner.kept);
    free(stream);
    return 0;
}
