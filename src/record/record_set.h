/*
 * The body of a batch, a protobuf RecordSet (proto/record.proto), written and read without building
 * objects: a producer appends record after record, a consumer walks over the bytes.
 *
 *      RecordSet   { tag 0x0a | varint size | Record } …
 *      Record      1 value | 2 offset | 5 key | 6 has_key | 7 headers … | 8 timestamp_us |
 *                  9 append_time_us
 *      Header      1 name | 2 value
 *
 * in this order, each left out when empty, 0 or false, so that the bytes are those of protobuf's
 * encoders. 2 and 9 are for sparse batches (log/batch.h) alone.
 *
 * Reading believes no length before it is checked and accepts what any protobuf encoder may write:
 * fields in any order, repeated (the last one counts), unknown ones (skipped).
 */
#ifndef QUORLOG_RECORD_RECORD_SET_H
#define QUORLOG_RECORD_RECORD_SET_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "record/record.h"

/* Appends one record, without its offset and append time: the log gives them. ERR_TOO_LARGE (it
 * does not fit into the buffer's bound), ERR_NOMEM, and ERR_INVALID for a header without a name;
 * nothing is changed then. */
enum err record_set_append(struct buf *to, const struct record *record);

/* The same for a sparse batch: with its offset, and with its append time if that is not the
 * batch's.
 */
enum err record_set_append_sparse(struct buf *to, const struct record *record,
                                  int64_t batch_append_time_us);

/* The same of a record's own bytes (record_reader's raw ones), whatever else is in there, unknown
 * fields included: its offset and append time are replaced (the time: 0 for the batch's).
 * ERR_CORRUPT, ERR_TOO_LARGE, ERR_NOMEM; nothing is changed then. */
enum err record_set_append_raw(struct buf *to, const uint8_t *raw, size_t raw_size, uint64_t offset,
                               int64_t append_time_us);

/* A walk over the records of a body. Owns a scratch area that is used again for each record. */
struct record_reader {
    const uint8_t *at; /* borrowed until the walk's end */
    const uint8_t *end;
    const uint8_t *raw; /* the Record message that was read last; borrowed as `at` is */
    size_t raw_size;
    struct record_header *headers; /* owned */
    size_t headers_capacity;
    struct buf names; /* the headers' names, each with its zero */
};

void record_reader_init(struct record_reader *self);
void record_reader_fini(struct record_reader *self);

/* Begins a walk. body is borrowed until it ends. */
void record_reader_start(struct record_reader *self, const uint8_t *body, size_t size);

/* The next record; its pointers are borrowed until the next call. offset and append_time_us are
 * what stands in the bytes, which means nothing unless the batch is sparse: batch_records.h tells
 * the right ones. ERR_AGAIN after the last one, ERR_CORRUPT, ERR_NOMEM. */
enum err record_reader_next(struct record_reader *self, struct record *ret_record);

#endif
