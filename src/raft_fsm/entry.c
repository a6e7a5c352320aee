#include "raft_fsm/entry.h"

#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"

enum {
    POSITION_CRC = 0,
    POSITION_SIZE = 4,
    POSITION_INDEX = 8,
    POSITION_TERM = 16,
    POSITION_TYPE = 24,
};

_Static_assert(ENTRY_HEADER_SIZE % 8 == 0, "payloads start aligned");
_Static_assert(ENTRY_PAYLOAD_SIZE_MAX < UINT32_MAX - ENTRY_HEADER_SIZE - 8, "frames fit 32 bits");

static bool type_known(uint8_t type)
{
    return type == ENTRY_COMMAND || type == ENTRY_BARRIER || type == ENTRY_CHANGE;
}

static bool all_zero(const uint8_t *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (from[i] != 0) {
            return false;
        }
    }
    return true;
}

struct block *entry_block_new(uint32_t size)
{
    struct block *block;
    size_t end = ENTRY_HEADER_SIZE + (size_t)size;

    ASSERT(size <= ENTRY_PAYLOAD_SIZE_MAX);
    block = block_new(entry_frame_size(size));
    if (block == NULL) {
        return NULL;
    }
    ASSERT(block->size >= end && block->size - end < 8);
    memset(block->data + end, 0, block->size - end);
    return block;
}

void entry_seal(struct block *block, uint32_t size, uint64_t index, uint64_t term,
                enum entry_type type, struct entry *ret_entry)
{
    uint8_t *frame = block->data;

    ASSERT(block->size == entry_frame_size(size));
    ASSERT(index > 0);
    ASSERT(type_known((uint8_t)type));
    memset(frame, 0, ENTRY_HEADER_SIZE);
    bytes_put_u32(frame + POSITION_SIZE, size);
    bytes_put_u64(frame + POSITION_INDEX, index);
    bytes_put_u64(frame + POSITION_TERM, term);
    frame[POSITION_TYPE] = (uint8_t)type;
    bytes_put_u32(frame + POSITION_CRC,
                  crc32c(frame + POSITION_SIZE, ENTRY_HEADER_SIZE - POSITION_SIZE + (size_t)size));
    *ret_entry = (struct entry){
        .block = block, .frame = frame, .index = index, .term = term, .type = type, .size = size};
}

enum err entry_parse(struct block *block, size_t position, size_t end, uint32_t size_max,
                     struct entry *ret_entry, struct err_info *info)
{
    const uint8_t *frame = block->data + position;
    uint32_t size;

    ASSERT(position <= end && end <= block->size);
    ASSERT(size_max <= ENTRY_PAYLOAD_SIZE_MAX);
    if (end - position < ENTRY_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "the header of an entry is cut off");
    }
    size = bytes_get_u32(frame + POSITION_SIZE);
    if (size > size_max) {
        return err_set(info, ERR_CORRUPT, "an entry of %u bytes, more than the %u allowed", size,
                       size_max);
    }
    if (end - position < entry_frame_size(size)) {
        return err_set(info, ERR_CORRUPT, "an entry of %u bytes is cut off", size);
    }
    if (crc32c(frame + POSITION_SIZE, ENTRY_HEADER_SIZE - POSITION_SIZE + (size_t)size) !=
        bytes_get_u32(frame + POSITION_CRC)) {
        return err_set(info, ERR_CORRUPT, "the checksum of an entry does not match");
    }
    if (!type_known(frame[POSITION_TYPE])) {
        return err_set(info, ERR_CORRUPT, "an entry of unknown type %u", frame[POSITION_TYPE]);
    }
    if (!all_zero(frame + POSITION_TYPE + 1, ENTRY_HEADER_SIZE - POSITION_TYPE - 1) ||
        !all_zero(frame + ENTRY_HEADER_SIZE + size,
                  entry_frame_size(size) - ENTRY_HEADER_SIZE - size)) {
        return err_set(info, ERR_CORRUPT, "reserved bytes of an entry are not zero");
    }
    *ret_entry = (struct entry){
        .block = block_ref(block),
        .frame = frame,
        .index = bytes_get_u64(frame + POSITION_INDEX),
        .term = bytes_get_u64(frame + POSITION_TERM),
        .type = (enum entry_type)frame[POSITION_TYPE],
        .size = size,
    };
    return ERR_OK;
}

struct entry_head entry_head_decode(const uint8_t from[ENTRY_HEADER_SIZE])
{
    return (struct entry_head){
        .size = bytes_get_u32(from + POSITION_SIZE),
        .index = bytes_get_u64(from + POSITION_INDEX),
        .term = bytes_get_u64(from + POSITION_TERM),
        .type = from[POSITION_TYPE],
    };
}
