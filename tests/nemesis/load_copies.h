/*
 * The nodes asked one by one, each for itself: what topics it has, how far they go, and each answer
 * waited for. For load_dump.c.
 */
#ifndef QUORLOG_TESTS_NEMESIS_LOAD_COPIES_H
#define QUORLOG_TESTS_NEMESIS_LOAD_COPIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/client.h"
#include "quorlog.pb-c.h"

enum { COPIES_NODES_MAX = 32, COPIES_TOPICS_MAX = 1024 };

/* An answer that was waited for. */
struct answer {
    bool done;
    enum err err;
    char text[512];
    uint8_t *header; /* owned, as the next */
    size_t header_size;
    uint8_t *body;
    size_t body_size;
};
void answer_fini(struct answer *self);

/* Asks and waits. ret_answer: to be given back in any case. */
enum err copies_ask(struct client *client, const struct client_question *question,
                    struct answer *ret_answer);

struct copy_topic {
    char name[256];
    uint64_t id;
    uint64_t start;
    uint64_t end;
    uint8_t digest[32];
};

struct copy_node {
    const char *server; /* borrowed */
    struct client *client;
    uint32_t id; /* 0: not known yet */
    uint64_t holes;
    struct copy_topic *topics; /* owned: COPIES_TOPICS_MAX */
    size_t topic_count;
};

struct copies {
    struct copy_node nodes[COPIES_NODES_MAX];
    unsigned count;
};

/* A client for each server; timeout_ms: of a request. ERR_NOMEM, ERR_INVALID. */
enum err copies_open(struct copies *self, const char *const *servers, unsigned count,
                     uint64_t timeout_ms);
void copies_close(struct copies *self);

/* Asks again until all nodes answer, lack nothing and have equal topics. False: not by then; what
 * is not so is said on stderr. */
bool copies_wait(struct copies *self, uint64_t deadline_us);

#endif
