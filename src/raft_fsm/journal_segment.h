/*
 * The bytes of a journal's segments (the diagrams are in raft_fsm/journal.h) and their names.
 */
#ifndef QUORLOG_RAFT_FSM_JOURNAL_SEGMENT_H
#define QUORLOG_RAFT_FSM_JOURNAL_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define JOURNAL_MAGIC UINT32_C(0x534a4c51) /* "QLJS" */

enum {
    JOURNAL_SECTOR = 512, /* batches start at multiples of it */
    JOURNAL_BLOCK = 4096, /* alignment of memory and of segment sizes */
    JOURNAL_HEADER_SIZE = JOURNAL_SECTOR,
    JOURNAL_BATCH_HEADER_SIZE = 64,
    JOURNAL_NAME_SIZE = 32,
};

enum journal_batch_type {
    JOURNAL_BATCH_ENTRIES = 1,
    JOURNAL_BATCH_RESET = 2,
    JOURNAL_BATCH_SEAL = 3,
};

struct journal_batch {
    uint64_t segment; /* sequence of the segment that it stands in */
    uint64_t sequence;
    uint64_t first_index; /* RESET, SEAL: where the log continues */
    uint64_t prev_term;   /* of the entry before first_index; 0 when that is not known */
    uint32_t count;       /* entries */
    uint32_t size;        /* bytes of their frames */
    uint32_t body_crc;
    uint8_t type; /* enum journal_batch_type; decoding lets others through */
};

/* Bytes that a batch of `size` bytes of frames takes: header, frames, zeros. */
static inline size_t journal_batch_extent(uint32_t size)
{
    return bytes_round_up(JOURNAL_BATCH_HEADER_SIZE + (size_t)size, JOURNAL_SECTOR);
}

/* salt: of the segment. */
void journal_batch_encode(const struct journal_batch *self, uint64_t salt,
                          uint8_t to[JOURNAL_BATCH_HEADER_SIZE]);

/* False unless magic and checksum match and the batch was written for this segment. */
bool journal_batch_decode(const uint8_t from[JOURNAL_BATCH_HEADER_SIZE], uint64_t segment,
                          uint64_t salt, struct journal_batch *ret_batch);

/* Do these bytes, valid or not, look like the beginning of this batch? */
bool journal_batch_resembles(const uint8_t from[JOURNAL_BATCH_HEADER_SIZE], uint64_t segment);

/* The head of a segment's file. */
struct journal_header {
    uint64_t segment;
    uint64_t node_id;
    uint64_t salt;
};

void journal_header_encode(const struct journal_header *self, uint8_t to[JOURNAL_HEADER_SIZE]);

/* ERR_CORRUPT, ERR_VERSION. */
enum err journal_header_decode(const uint8_t from[JOURNAL_HEADER_SIZE], const char *path,
                               struct journal_header *ret_header, struct err_info *info);

/* expected: all but the salt; path: for the text. ERR_CORRUPT, ERR_VERSION, ERR_WRONG_CLUSTER. */
enum err journal_header_check(const uint8_t from[JOURNAL_HEADER_SIZE], const char *path,
                              const struct journal_header *expected, uint64_t *ret_salt,
                              struct err_info *info);

/* "0000000000000001.journal" and, for a file that is ready to become one, "….spare". */
void journal_segment_name(char ret_name[JOURNAL_NAME_SIZE], uint64_t segment);
void journal_spare_name(char ret_name[JOURNAL_NAME_SIZE], uint64_t number);
bool journal_segment_name_parse(const char *name, uint64_t *ret_segment);
bool journal_spare_name_parse(const char *name, uint64_t *ret_number);

#endif
