/*
 * The far side of a client's connection: a node that answers anything. Each frame of the client
 * gets the next answer of the input, under its own id.
 *
 *      answers: u16 type (high bit: a frame of its own accord follows), part: header, part: body
 */
#ifndef QUORLOG_TESTS_FUZZ_CLIENT_PEER_H
#define QUORLOG_TESTS_FUZZ_CLIENT_PEER_H

#include "fuzz/fuzz.h"
#include "transport/frame.h"

enum { PEER_FRAME_SIZE_MAX = 1 << 20 };

struct peer {
    struct fuzz_input *input; /* borrowed */
    bool fixed;               /* checksums in bodies are made right */
    bool polite;              /* the hello is answered well */
    int fd;                   /* -1: not accepted yet */
    struct frame_parser parser;
    bool greeted;
};

void peer_init(struct peer *self, struct fuzz_input *input, bool fixed, bool polite);
void peer_fini(struct peer *self);

/* Takes what the client has sent, and answers. False: it sent nothing. */
bool peer_serve(struct peer *self);

#endif
