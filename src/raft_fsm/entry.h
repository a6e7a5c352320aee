/*
 * An entry of the raft log, and the one form in which it exists everywhere.
 *
 * The frame below is what the leader makes once, what the journal writes, what travels to the
 * followers and what they write in turn: one checksum for the whole cluster, no copy in between.
 *
 *      0          4          8            16           24     25        32           32+size
 *      +----------+----------+------------+------------+------+---------+------------+- - - -+
 *      | crc32c   | size u32 | index u64  | term u64   | type | 0 (7 B) | payload    | zeros |
 *      | u32      |          |            |            | u8   |         | size bytes | to 8  |
 *      +----------+----------+------------+------------+------+---------+------------+- - - -+
 *      crc32c covers [4, 32 + size). All little-endian; frames are multiples of 8 bytes long.
 *      Valid iff size <= the limit, type is known, the reserved bytes and the padding are zero,
 *      and crc32c matches.
 */
#ifndef QUORLOG_RAFT_FSM_ENTRY_H
#define QUORLOG_RAFT_FSM_ENTRY_H

#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/bytes.h"
#include "base/err.h"

enum {
    ENTRY_HEADER_SIZE = 32,
    /* Largest payload: the largest batch (16 MiB) and room for what wraps it. */
    ENTRY_PAYLOAD_SIZE_MAX = 17 * 1024 * 1024,
};

enum entry_type {
    ENTRY_COMMAND = 1, /* payload: commands for the state machine (raft_fsm/command.h) */
    ENTRY_BARRIER = 2, /* payload: none that matters */
    ENTRY_CHANGE = 3,  /* payload: the cluster's members (raft_fsm/membership.h) */
};

/* A view of a frame. Copying the struct does not take a reference; entry_ref and entry_unref do. */
struct entry {
    struct block *block;  /* one reference, owned by whoever owns the entry */
    const uint8_t *frame; /* in block; ENTRY_HEADER_SIZE + payload + padding bytes */
    uint64_t index;
    uint64_t term;
    enum entry_type type;
    uint32_t size; /* bytes of payload */
};

static inline const uint8_t *entry_payload(const struct entry *self)
{
    return self->frame + ENTRY_HEADER_SIZE;
}

/* Bytes of the whole frame of a payload of `size` bytes. */
static inline size_t entry_frame_size(uint32_t size)
{
    return ENTRY_HEADER_SIZE + bytes_round_up(size, 8);
}

/*
 * Room for an entry whose payload the caller is going to write at block->data +
 * ENTRY_HEADER_SIZE: a block of entry_frame_size(size) bytes, padding zeroed. NULL when memory is
 * short.
 */
struct block *entry_block_new(uint32_t size);

/* Finishes a frame in a block from entry_block_new whose payload of `size` bytes is written: fills
 * the header and the checksum. Takes over the caller's reference to block. */
void entry_seal(struct block *block, uint32_t size, uint64_t index, uint64_t term,
                enum entry_type type, struct entry *ret_entry);

/*
 * Reads the frame at `position` of block and verifies it. Takes a reference to block. size_max:
 * largest payload allowed. ERR_CORRUPT (text says why) for a frame that is not valid or runs past
 * `end`.
 */
enum err entry_parse(struct block *block, size_t position, size_t end, uint32_t size_max,
                     struct entry *ret_entry, struct err_info *info);

/* The fields of a frame's header, unverified: for who walks over frames that a checksum around them
 * covers, without their payloads. The type may be any. */
struct entry_head {
    uint32_t size; /* bytes of payload */
    uint64_t index;
    uint64_t term;
    uint8_t type;
};
struct entry_head entry_head_decode(const uint8_t from[ENTRY_HEADER_SIZE]);

static inline void entry_ref(const struct entry *self)
{
    block_ref(self->block);
}

static inline void entry_unref(struct entry *self)
{
    block_unref(self->block);
    self->block = NULL;
}

#endif
