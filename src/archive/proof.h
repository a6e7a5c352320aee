/*
 * A proof that a record stands at its place in a topic with a given head: what anyone needs to
 * compute the head's digest again (raft_fsm/digest.h), without the cluster and without the records
 * in between.
 *
 * A text of lines, each a JSON object, in this order:
 *
 *      {"quorlog_proof":1,"topic":T,"offset":N,"previous":HEX32,"batch":HEX}
 *      {"fields":HEX64,"body":HEX32}            for each batch behind it, in order
 *      {"head":{"offset":END,"digest":HEX32}}
 *      {"sha256":HEX32}                          of all bytes above, ends of lines included
 *
 *   batch: the whole batch that holds offset N, header and body, as it is stored. previous: the
 *   digest before it. fields: the bytes [8, 72) of a batch's header; body: the SHA-256 of its body.
 *   END is one past the head's last offset. HEX is in lower case. Bounded by PROOF_BATCH_SIZE_MAX a
 *   line; the whole is written and read as a stream.
 *
 * A compacted batch (log/batch.h) has no place in a proof: its digest is that of batches that are
 * gone, and does not follow from what it holds. What lies in one cannot be proven, and nothing from
 * below one to a head above it.
 *
 * What is proven is what the head's digest covers: everything but the topic's name, so compare the
 * digest with one that is known to be the topic's. The last line finds accidents, not forgers.
 */
#ifndef QUORLOG_ARCHIVE_PROOF_H
#define QUORLOG_ARCHIVE_PROOF_H

#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "raft_fsm/chain.h"

enum {
    PROOF_BATCH_SIZE_MAX = 64 << 20, /* bytes of the batch: larger than any setting allows */
    PROOF_TOPIC_SIZE = 201,          /* a topic's name with its zero */
};

struct proof_writer {
    FILE *file;         /* borrowed */
    struct chain chain; /* what is written so far */
    void *hash;         /* of the lines; owned */
    enum err err;       /* of the first write that failed */
};

/* Begins with the batch that holds `offset`, and the digest before it. Verifies it; ERR_CORRUPT,
 * ERR_RANGE when the batch does not hold the offset, ERR_INVALID for a compacted one,
 * ERR_TOO_LARGE, ERR_IO, ERR_NOMEM. */
struct proof_start {
    const char *topic;
    uint64_t offset;
    const uint8_t *previous; /* DIGEST_SIZE bytes */
    const uint8_t *batch;
    size_t size;
};
enum err proof_begin(struct proof_writer *self, FILE *file, const struct proof_start *start,
                     struct err_info *info);

/* The link of the next batch. ERR_INVALID: it is a compacted one, nothing was added. ERR_CORRUPT,
 * ERR_IO. */
enum err proof_add(struct proof_writer *self, const uint8_t link[CHAIN_LINK_SIZE],
                   struct err_info *info);

/* Writes the head, which is the last batch that was added, and flushes. ERR_IO. */
enum err proof_end(struct proof_writer *self, struct err_info *info);

/* Gives back memory, whether it was ended or not. */
void proof_writer_fini(struct proof_writer *self);

/* What a proof that holds proves. */
struct proof {
    char topic[PROOF_TOPIC_SIZE]; /* as it says: not covered by the digest */
    uint64_t offset;
    struct batch_header header; /* of the batch that holds the offset */
    struct buf body;            /* owned: of that batch */
    uint64_t links;             /* batches behind it */
    uint64_t head_offset;
    uint8_t head_digest[DIGEST_SIZE];
};

/* Reads a proof to the file's end and verifies all of it. ERR_CORRUPT with the line and what is
 * wrong, ERR_VERSION, ERR_IO, ERR_NOMEM. */
enum err proof_check(FILE *file, struct proof *ret_proof, struct err_info *info);
void proof_fini(struct proof *proof);

#endif
