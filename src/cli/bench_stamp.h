/*
 * What a record of `bench end-to-end` carries, so that whoever reads it knows which one it is: the
 * first bytes of its value.
 *
 *      0          4          8               16               24
 *      +----------+----------+----------------+----------------+- - - -
 *      | run  u32 |writer u32|   place  u64   |  planned u64   | filler      LE
 *      +----------+----------+----------------+----------------+- - - -
 *
 *      run: chance, the same in all records of one run, so that what others wrote to the topic is
 *      told from it. writer, place: as in bench_pace.h. planned: nanoseconds of the writing
 *      machine's monotonic clock: only the process that wrote it can make use of it.
 */
#ifndef QUORLOG_CLI_BENCH_STAMP_H
#define QUORLOG_CLI_BENCH_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_STAMP_SIZE = 24 };

struct bench_stamp {
    uint32_t run;
    uint32_t writer;
    uint64_t place;
    uint64_t planned_ns;
};

void bench_stamp_encode(const struct bench_stamp *self, uint8_t to[BENCH_STAMP_SIZE]);

/* False: too short, or of another run. */
bool bench_stamp_decode(const void *value, size_t size, uint32_t run,
                        struct bench_stamp *ret_stamp);

#endif
