/*
 * A broken build: compaction numbers what is left anew, now and then. Linked with
 * --wrap=record_set_append_raw.
 */
#include "record/record_set.h"

enum err __real_record_set_append_raw(struct buf *to, const uint8_t *raw, size_t raw_size,
                                      uint64_t offset, int64_t append_time_us);
enum err __wrap_record_set_append_raw(struct buf *to, const uint8_t *raw, size_t raw_size,
                                      uint64_t offset, int64_t append_time_us);

enum err __wrap_record_set_append_raw(struct buf *to, const uint8_t *raw, size_t raw_size,
                                      uint64_t offset, int64_t append_time_us)
{
    static uint64_t last = UINT64_MAX - 1;

    if (offset > last + 1 && offset < last + 8) {
        offset = last + 1;
    }
    last = offset;
    return __real_record_set_append_raw(to, raw, raw_size, offset, append_time_us);
}
