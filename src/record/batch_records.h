/*
 * A walk over the records of a stamped batch, whatever its body's shape: decompressed where it is
 * compressed, each record with its offset and the time it was appended.
 *
 *      dense    base_offset, base_offset + 1, …: record_count of them, one by one
 *      sparse   each record names its offset, ascending, inside of [base_offset, base_offset +
 *               record_count); there may be none at all
 */
#ifndef QUORLOG_RECORD_BATCH_RECORDS_H
#define QUORLOG_RECORD_BATCH_RECORDS_H

#include "log/batch.h"
#include "record/record_set.h"

struct batch_records {
    struct record_reader reader;
    struct buf plain; /* the RecordSet of a compressed body */
    struct batch_header header;
    uint64_t next_offset; /* lowest that the next record may have */
};

void batch_records_init(struct batch_records *self);
void batch_records_fini(struct batch_records *self);

/* Begins a walk. body: header->size - BATCH_HEADER_SIZE bytes, verified by the caller, borrowed
 * until the walk ends. plain_size_max: bytes of a decompressed RecordSet; 0: CODEC_PLAIN_SIZE_MAX.
 * ERR_CORRUPT, ERR_TOO_LARGE, ERR_NOMEM. */
enum err batch_records_start(struct batch_records *self, const struct batch_header *header,
                             const uint8_t *body, size_t plain_size_max, struct err_info *info);

/* The next record; its pointers are borrowed until the next call. ERR_AGAIN after the last one,
 * ERR_CORRUPT (also when there are fewer or more than record_count of a dense batch), ERR_NOMEM. */
enum err batch_records_next(struct batch_records *self, struct record *ret_record);

#endif
