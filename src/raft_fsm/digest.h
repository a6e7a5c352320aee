/*
 * The digest chain of a topic: SHA-256 over everything that was ever appended to it, so that two
 * replicas with equal digests hold equal logs, and a record can be proven to be at its place.
 *
 *      digest(n) = SHA-256( digest(n-1) | bytes [8, 72) of batch n's header | SHA-256(body of n) )
 *      digest(-1) = 32 zero bytes
 *
 * The body's own hash is computed where the batch enters the cluster (a front thread) and travels
 * with the command, so that applying never reads the body.
 */
#ifndef QUORLOG_RAFT_FSM_DIGEST_H
#define QUORLOG_RAFT_FSM_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/batch.h"

enum { DIGEST_SIZE = BATCH_DIGEST_SIZE };

/* SHA-256 of data. Any thread. */
void digest_bytes(const void *data, size_t size, uint8_t ret_digest[DIGEST_SIZE]);

/* The next digest of the chain. header: all stamped fields set, digest not yet. previous and
 * ret_digest may be the same. */
void digest_chain(const uint8_t previous[DIGEST_SIZE], const struct batch_header *header,
                  const uint8_t body_digest[DIGEST_SIZE], uint8_t ret_digest[DIGEST_SIZE]);

/* 64 hexadecimal digits and a zero, and back: lower case, exactly; false for anything else. */
enum { DIGEST_TEXT_SIZE = 2 * DIGEST_SIZE + 1 };
void digest_to_text(const uint8_t digest[DIGEST_SIZE], char ret_text[DIGEST_TEXT_SIZE]);
bool digest_from_text(const char *text, uint8_t ret_digest[DIGEST_SIZE]);

#endif
