/*
 * How many records the body of a produced batch holds, without decoding one.
 *
 * A body is a protobuf RecordSet (proto/record.proto), and each of its records stands in it as
 *
 *      +------+---------------------+- - - - - - - - -+
 *      | 0x0a | length: varint, 1–5 | a Record        |   field 1, length-delimited
 *      +------+---------------------+- - - - - - - - -+
 *
 *      and nothing else may stand there: readers number records by their place, so what one program
 *      skips as unknown and another does not would give records two offsets.
 */
#ifndef QUORLOG_SERVER_RECORD_COUNT_H
#define QUORLOG_SERVER_RECORD_COUNT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Counts the records; what is in them is not looked at. ERR_INVALID with the position for bytes
 * that are not records one after another. */
enum err record_count(const uint8_t *body, size_t size, uint32_t *ret_count, struct err_info *info);

/* ERR_INVALID unless there are as many as `expected`, which is what the batch says. */
enum err record_count_check(const uint8_t *body, size_t size, uint32_t expected,
                            struct err_info *info);

#endif
