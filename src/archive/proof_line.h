/*
 * The lines of a proof (archive/proof.h), read one at a time. Nothing is believed but what has
 * exactly the members that it should have.
 */
#ifndef QUORLOG_ARCHIVE_PROOF_LINE_H
#define QUORLOG_ARCHIVE_PROOF_LINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "archive/proof.h"

/* {"sha256":"…"} with its end of line and a zero. */
enum { PROOF_SUM_LINE_SIZE = 80 };

struct proof_lines {
    FILE *file;      /* borrowed */
    struct buf line; /* the line with its end */
    uint64_t number; /* of the line, from 1 */
};

void proof_lines_init(struct proof_lines *self, FILE *file);
void proof_lines_fini(struct proof_lines *self);

/* The next line. ERR_AGAIN at the file's end, ERR_CORRUPT for a line without an end or one that is
 * too long, ERR_IO, ERR_NOMEM. */
enum err proof_next_line(struct proof_lines *self, struct err_info *info);

struct proof_first {
    char topic[PROOF_TOPIC_SIZE];
    uint64_t offset;
    uint8_t previous[DIGEST_SIZE];
    struct buf batch; /* owned */
};

/* The present line as what it should be. ERR_CORRUPT, ERR_VERSION, ERR_NOMEM. */
enum err proof_parse_first(const struct proof_lines *self, struct proof_first *ret_first,
                           struct err_info *info);
enum err proof_parse_link(const struct proof_lines *self, uint8_t *ret_fields /* 64 bytes */,
                          uint8_t *ret_body /* DIGEST_SIZE bytes */, struct err_info *info);
/* *ret_head: whether it is the head; the others are written only then. */
enum err proof_parse_head(const struct proof_lines *self, bool *ret_head, uint64_t *ret_offset,
                          uint8_t ret_digest[DIGEST_SIZE], struct err_info *info);

#endif
