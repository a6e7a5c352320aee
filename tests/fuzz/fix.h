/*
 * Makes the checksums in fuzzed bytes right, so that what stands behind them is reached. Sizes in
 * the bytes are followed as far as they make sense; nothing else is changed.
 */
#ifndef QUORLOG_TESTS_FUZZ_FIX_H
#define QUORLOG_TESTS_FUZZ_FIX_H

#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/digest.h"

/* Frames of a connection, one after the other (transport/transport.h). */
void fix_frames(uint8_t *bytes, size_t size);

/* Batches, one after the other (log/batch.h): bodies, then headers. previous: the digest before
 * them, for digests that chain, and afterwards the last one; NULL: digests stay as they are. */
void fix_batches(uint8_t *bytes, size_t size, uint8_t *previous);

/* A store's file (log/store.h): its header and its batches. */
void fix_store(uint8_t *bytes, size_t size);

/* An index's file (log/index.h): its header, and a seal at the file's end. */
void fix_index(uint8_t *bytes, size_t size);

/* Entries, one after the other (raft_fsm/entry.h). */
void fix_entries(uint8_t *bytes, size_t size);

/* A segment of the journal (raft_fsm/journal.h): its header, and in each sector where a batch
 * begins the batch and its entries. */
void fix_journal(uint8_t *bytes, size_t size);

#endif
