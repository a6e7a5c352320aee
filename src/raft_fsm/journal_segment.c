#include "raft_fsm/journal_segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"

#define BATCH_MAGIC UINT32_C(0x424a4c51) /* "QLJB" */
#define NUMBER_MAX UINT64_C(9999999999999999)

enum {
    SEGMENT_VERSION = 1,
    HEADER_VERSION = 4,
    HEADER_SEGMENT = 8,
    HEADER_NODE = 16,
    HEADER_SALT = 24,
    HEADER_CRC = 32,
    HEADER_END = 36,
    BATCH_CRC = 4,
    BATCH_SEGMENT = 8,
    BATCH_SEQUENCE = 16,
    BATCH_FIRST_INDEX = 24,
    BATCH_COUNT = 32,
    BATCH_SIZE = 36,
    BATCH_TYPE = 40,
    BATCH_PREV_TERM = 48,
    BATCH_BODY_CRC = 56,
    NUMBER_DIGITS = 16,
};

_Static_assert(JOURNAL_BATCH_HEADER_SIZE % 8 == 0, "frames start aligned");
_Static_assert(JOURNAL_BLOCK % JOURNAL_SECTOR == 0, "segments are whole sectors");

static uint32_t batch_crc(const uint8_t *batch, uint64_t salt)
{
    uint8_t bytes[8];

    bytes_put_u64(bytes, salt);
    return crc32c_extend(crc32c(bytes, sizeof bytes), batch + BATCH_SEGMENT,
                         JOURNAL_BATCH_HEADER_SIZE - BATCH_SEGMENT);
}

void journal_batch_encode(const struct journal_batch *self, uint64_t salt,
                          uint8_t to[JOURNAL_BATCH_HEADER_SIZE])
{
    ASSERT(self->type >= JOURNAL_BATCH_ENTRIES && self->type <= JOURNAL_BATCH_SEAL);
    ASSERT((self->type == JOURNAL_BATCH_ENTRIES) == (self->count > 0));
    memset(to, 0, JOURNAL_BATCH_HEADER_SIZE);
    bytes_put_u32(to, BATCH_MAGIC);
    bytes_put_u64(to + BATCH_SEGMENT, self->segment);
    bytes_put_u64(to + BATCH_SEQUENCE, self->sequence);
    bytes_put_u64(to + BATCH_FIRST_INDEX, self->first_index);
    bytes_put_u32(to + BATCH_COUNT, self->count);
    bytes_put_u32(to + BATCH_SIZE, self->size);
    to[BATCH_TYPE] = self->type;
    bytes_put_u64(to + BATCH_PREV_TERM, self->prev_term);
    bytes_put_u32(to + BATCH_BODY_CRC, self->body_crc);
    bytes_put_u32(to + BATCH_CRC, batch_crc(to, salt));
}

bool journal_batch_resembles(const uint8_t from[JOURNAL_BATCH_HEADER_SIZE], uint64_t segment)
{
    return bytes_get_u32(from) == BATCH_MAGIC && bytes_get_u64(from + BATCH_SEGMENT) == segment;
}

bool journal_batch_decode(const uint8_t from[JOURNAL_BATCH_HEADER_SIZE], uint64_t segment,
                          uint64_t salt, struct journal_batch *ret_batch)
{
    if (!journal_batch_resembles(from, segment) ||
        bytes_get_u32(from + BATCH_CRC) != batch_crc(from, salt)) {
        return false;
    }
    *ret_batch = (struct journal_batch){
        .segment = segment,
        .sequence = bytes_get_u64(from + BATCH_SEQUENCE),
        .first_index = bytes_get_u64(from + BATCH_FIRST_INDEX),
        .prev_term = bytes_get_u64(from + BATCH_PREV_TERM),
        .count = bytes_get_u32(from + BATCH_COUNT),
        .size = bytes_get_u32(from + BATCH_SIZE),
        .body_crc = bytes_get_u32(from + BATCH_BODY_CRC),
        .type = from[BATCH_TYPE],
    };
    return true;
}

void journal_header_encode(const struct journal_header *self, uint8_t to[JOURNAL_HEADER_SIZE])
{
    ASSERT(self->segment > 0 && self->node_id > 0);
    memset(to, 0, JOURNAL_HEADER_SIZE);
    bytes_put_u32(to, JOURNAL_MAGIC);
    bytes_put_u32(to + HEADER_VERSION, SEGMENT_VERSION);
    bytes_put_u64(to + HEADER_SEGMENT, self->segment);
    bytes_put_u64(to + HEADER_NODE, self->node_id);
    bytes_put_u64(to + HEADER_SALT, self->salt);
    bytes_put_u32(to + HEADER_CRC, crc32c(to, HEADER_CRC));
}

enum err journal_header_decode(const uint8_t from[JOURNAL_HEADER_SIZE], const char *path,
                               struct journal_header *ret_header, struct err_info *info)
{
    bool zeros = true;

    for (size_t i = HEADER_END; i < JOURNAL_HEADER_SIZE; i++) {
        zeros = zeros && from[i] == 0;
    }
    if (bytes_get_u32(from) != JOURNAL_MAGIC ||
        bytes_get_u32(from + HEADER_CRC) != crc32c(from, HEADER_CRC) || !zeros) {
        return err_set(info, ERR_CORRUPT, "'%s' at 0: the header does not verify", path);
    }
    if (bytes_get_u32(from + HEADER_VERSION) != SEGMENT_VERSION) {
        return err_set(info, ERR_VERSION, "'%s' has the unknown version %u", path,
                       bytes_get_u32(from + HEADER_VERSION));
    }
    *ret_header = (struct journal_header){
        .segment = bytes_get_u64(from + HEADER_SEGMENT),
        .node_id = bytes_get_u64(from + HEADER_NODE),
        .salt = bytes_get_u64(from + HEADER_SALT),
    };
    return ERR_OK;
}

enum err journal_header_check(const uint8_t from[JOURNAL_HEADER_SIZE], const char *path,
                              const struct journal_header *expected, uint64_t *ret_salt,
                              struct err_info *info)
{
    struct journal_header header;
    enum err err = journal_header_decode(from, path, &header, info);

    if (err != ERR_OK) {
        return err;
    }
    if (header.node_id != expected->node_id) {
        return err_set(info, ERR_WRONG_CLUSTER, "'%s' belongs to node %" PRIu64 ", not to %" PRIu64,
                       path, header.node_id, expected->node_id);
    }
    if (header.segment != expected->segment) {
        return err_set(info, ERR_CORRUPT, "'%s' at 8: this is segment %" PRIu64, path,
                       header.segment);
    }
    *ret_salt = header.salt;
    return ERR_OK;
}

static void name_format(char ret_name[JOURNAL_NAME_SIZE], uint64_t number, const char *suffix)
{
    ASSERT(number <= NUMBER_MAX);
    (void)snprintf(ret_name, JOURNAL_NAME_SIZE, "%016" PRIu64 "%s", number, suffix); /* fits */
}

static bool name_parse(const char *name, const char *suffix, uint64_t *ret_number)
{
    uint64_t number = 0;

    for (size_t i = 0; i < NUMBER_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
        number = number * 10 + (uint64_t)(name[i] - '0');
    }
    if (number == 0 || strcmp(name + NUMBER_DIGITS, suffix) != 0) {
        return false;
    }
    *ret_number = number;
    return true;
}

void journal_segment_name(char ret_name[JOURNAL_NAME_SIZE], uint64_t segment)
{
    name_format(ret_name, segment, ".journal");
}

void journal_spare_name(char ret_name[JOURNAL_NAME_SIZE], uint64_t number)
{
    name_format(ret_name, number, ".spare");
}

bool journal_segment_name_parse(const char *name, uint64_t *ret_segment)
{
    return name_parse(name, ".journal", ret_segment);
}

bool journal_spare_name_parse(const char *name, uint64_t *ret_number)
{
    return name_parse(name, ".spare", ret_number);
}
