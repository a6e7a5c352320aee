#include "cli/bench_stamp.h"

#include "base/bytes.h"

_Static_assert(BENCH_STAMP_SIZE == 2 * sizeof(uint32_t) + 2 * sizeof(uint64_t),
               "the diagram in bench_stamp.h");

void bench_stamp_encode(const struct bench_stamp *self, uint8_t to[BENCH_STAMP_SIZE])
{
    bytes_put_u32(to, self->run);
    bytes_put_u32(to + 4, self->writer);
    bytes_put_u64(to + 8, self->place);
    bytes_put_u64(to + 16, self->planned_ns);
}

bool bench_stamp_decode(const void *value, size_t size, uint32_t run, struct bench_stamp *ret_stamp)
{
    const uint8_t *from = value;

    if (size < BENCH_STAMP_SIZE || bytes_get_u32(from) != run) {
        return false;
    }
    *ret_stamp = (struct bench_stamp){
        .run = run,
        .writer = bytes_get_u32(from + 4),
        .place = bytes_get_u64(from + 8),
        .planned_ns = bytes_get_u64(from + 16),
    };
    return true;
}
