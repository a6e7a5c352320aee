#include "server/record_count.h"

#include <inttypes.h>
#include <stdbool.h>

#include "base/assert.h"

enum {
    RECORDS_TAG = 0x0a,
    LENGTH_SIZE_MAX = 5, /* bytes of a varint that holds 32 bits */
};

/* Moves *at past the varint. False: it is cut off, or longer than 32 bits need. */
static bool get_length(const uint8_t *body, size_t size, size_t *at, uint64_t *ret_length)
{
    uint64_t length = 0;

    ASSERT(*at <= size);
    for (unsigned i = 0; i < LENGTH_SIZE_MAX && *at < size; i++) {
        uint8_t byte = body[(*at)++];

        length |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            *ret_length = length;
            return true;
        }
    }
    return false;
}

enum err record_count(const uint8_t *body, size_t size, uint32_t *ret_count, struct err_info *info)
{
    uint32_t count = 0;
    size_t at = 0;

    ASSERT(size <= UINT32_MAX); /* So that the count cannot overflow: a record has two bytes. */
    while (at < size) {
        size_t begin = at;
        uint64_t length;

        if (body[at++] != RECORDS_TAG) {
            return err_set(
                info, ERR_INVALID,
                "the batch body has something else than a record at byte %zu: tag 0x%02x", begin,
                body[begin]);
        }
        if (!get_length(body, size, &at, &length)) {
            return err_set(info, ERR_INVALID,
                           "the batch body has a record without a valid length at byte %zu", begin);
        }
        if (length > size - at) {
            return err_set(info, ERR_INVALID,
                           "the batch body ends within the record at byte %zu: it claims %" PRIu64
                           " bytes, and %zu are left",
                           begin, length, size - at);
        }
        at += (size_t)length;
        count++;
    }
    ASSERT(at == size);
    *ret_count = count;
    return ERR_OK;
}

enum err record_count_check(const uint8_t *body, size_t size, uint32_t expected,
                            struct err_info *info)
{
    uint32_t count;
    enum err err = record_count(body, size, &count, info);

    if (err == ERR_OK && count != expected) {
        return err_set(info, ERR_INVALID,
                       "batch record_count says %" PRIu32 ", but the body has %" PRIu32 " record%s",
                       expected, count, count == 1 ? "" : "s");
    }
    ASSERT(err == ERR_OK || err == ERR_INVALID);
    return err;
}
