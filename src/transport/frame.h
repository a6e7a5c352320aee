/*
 * Frames and bytes: an incremental parser, and the encoder of the prefix. No I/O.
 *
 * transport.h owns the wire format. In memory a frame that arrived is one block:
 *
 *      0        pad            pad+header_size                  block->size
 *      +--------+----------------+--------------------------------+
 *      | unused | header         | body                           |
 *      +--------+----------------+--------------------------------+
 *      pad is what puts body on an 8-byte boundary (0 to 7 bytes).
 *
 * Invariants
 * I1  No memory is taken for a frame before its sizes were found to be within size_max.
 * I2  prefix holds the first min(position, 24) bytes of the frame; block is NULL iff position < 24,
 *     or the frame waits for memory, at 24.
 * I3  Between calls, position >= 24 + header_size implies that the checksum matched.
 * I4  position < frame_size while block is not NULL: a whole frame leaves the parser at once.
 * I5  A frame of more than FRAME_UNCOUNTED_MAX that is waited for is taken from the budget, whole,
 *     before its block is: so each of those that wait for their rest can have it.
 */
#ifndef QUORLOG_TRANSPORT_FRAME_H
#define QUORLOG_TRANSPORT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/budget.h"
#include "base/err.h"
#include "transport/transport.h"

/* Frames up to so much need no budget: what asks for little is served whoever sends much. As many
 * as there are connections. */
enum { FRAME_UNCOUNTED_MAX = 4096 };

struct frame_parser {
    size_t size_max;       /* Bytes of a frame, prefix included; checked when a frame begins. */
    size_t position;       /* Bytes of the present frame that are there. */
    size_t frame_size;     /* Bytes of the present frame; known once block is not NULL. */
    size_t header_size;    /* Likewise. */
    struct block *block;   /* owned */
    bool verified;         /* The checksum of the present frame matched. */
    bool failed;           /* An error was returned; nothing after it can be a frame. */
    struct budget *budget; /* borrowed; memory of frames that come in pieces; may be NULL */
    size_t taken;          /* Bytes of the present frame that were taken from it. */
    uint8_t prefix[FRAME_PREFIX_SIZE];
};

/* size_max: at least FRAME_PREFIX_SIZE. */
void frame_parser_init(struct frame_parser *self, size_t size_max);
void frame_parser_fini(struct frame_parser *self);

/* Holds from the next frame on. */
void frame_parser_set_size_max(struct frame_parser *self, size_t size_max);

/* Likewise. */
void frame_parser_set_budget(struct frame_parser *self, struct budget *budget);

/*
 * Takes bytes from the front of `bytes` (whose block member is ignored) up to the end of a frame.
 * ERR_OK: *ret_frame is a frame and its block's reference the caller's; there may be bytes left.
 * ERR_AGAIN: all bytes are used up, and more are needed. ERR_BUSY: the budget has nothing left for
 * this frame; call again with the bytes that are left, later. ERR_NOMEM. A malformed frame is
 * ERR_PROTOCOL, ERR_TOO_LARGE or ERR_CHECKSUM with text; the parser is of no use afterwards.
 */
enum err frame_parser_parse(struct frame_parser *self, struct slice *bytes, struct frame *ret_frame,
                            struct err_info *info);

/* Where the next bytes of the present frame belong, for reading straight into its block. Returns
 * how many fit there; 0 while the prefix is not complete. */
size_t frame_parser_room(struct frame_parser *self, uint8_t **ret_data);

/* `size` bytes were put there, 0 < size <= what frame_parser_room returned. Call frame_parser_parse
 * next, with empty bytes, before anything else. */
void frame_parser_filled(struct frame_parser *self, size_t size);

/* Asserts I1 to I4. */
void frame_parser_check(const struct frame_parser *self);

/* Bytes of all body slices together. */
size_t frame_out_body_size(const struct frame_out *frame);

/* The prefix of a frame whose slices hold body_size bytes. The caller keeps to the format's bounds:
 * header_size <= FRAME_HEADER_SIZE_MAX, and the whole frame fits the u32 `size`. */
void frame_out_encode_prefix(const struct frame_out *frame, size_t body_size,
                             uint8_t ret_prefix[FRAME_PREFIX_SIZE]);

#endif
