#include "lookup/key_block.h"

#include <endian.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

enum { ENTRY_SIZE = 16, PLACE_SIZE = 24 };

_Static_assert(KEY_BLOCK_SIZE_MAX == KEY_BLOCK_HEADER_SIZE + KEY_BLOCK_ENTRIES * ENTRY_SIZE,
               "see the diagram");

/* Big-endian, as LMDB compares bytes; and its newest first. */
void key_block_key_encode(const struct key_entry *last, uint8_t to[KEY_BLOCK_KEY_SIZE])
{
    uint64_t hash = htobe64(last->hash);
    uint64_t offset = htobe64(~last->offset);

    memcpy(to, &hash, sizeof hash);
    memcpy(to + 8, &offset, sizeof offset);
}

static uint32_t block_crc(const struct part_seal *part, const uint8_t *key, const uint8_t *value,
                          size_t size)
{
    uint8_t place[PLACE_SIZE];
    uint32_t crc;

    bytes_put_u64(place, part->topic_id);
    bytes_put_u64(place + 8, part->base_offset);
    bytes_put_u64(place + 16, part->end_offset);
    crc = crc32c(place, sizeof place);
    crc = crc32c_extend(crc, key, KEY_BLOCK_KEY_SIZE);
    return crc32c_extend(crc, value + 4, size - 4);
}

size_t key_block_encode(const struct key_block *self, const struct part_seal *part, uint8_t *to)
{
    size_t size = KEY_BLOCK_HEADER_SIZE + self->count * ENTRY_SIZE;
    uint8_t key[KEY_BLOCK_KEY_SIZE];

    ASSERT(self->count <= KEY_BLOCK_ENTRIES);
    ASSERT(key_entry_compare(&self->before, &self->last) < 0);
    bytes_put_u32(to + 4, (uint32_t)self->count);
    bytes_put_u64(to + 8, self->before.hash);
    bytes_put_u64(to + 16, self->before.offset);
    for (size_t i = 0; i < self->count; i++) {
        uint8_t *entry = to + KEY_BLOCK_HEADER_SIZE + i * ENTRY_SIZE;

        bytes_put_u64(entry, self->entries[i].hash);
        bytes_put_u64(entry + 8, self->entries[i].offset);
    }
    key_block_key_encode(&self->last, key);
    bytes_put_u32(to, block_crc(part, key, to, size));
    return size;
}

/* Entries lie in order in (before, last]. */
static enum err check_order(const struct key_block *block, struct err_info *info)
{
    const struct key_entry *last = &block->before;

    for (size_t i = 0; i < block->count; i++) {
        if (key_entry_compare(last, &block->entries[i]) >= 0) {
            return err_set(info, ERR_CORRUPT, "a block's entries are out of order");
        }
        last = &block->entries[i];
    }
    if (key_entry_compare(last, &block->last) > 0) {
        return err_set(info, ERR_CORRUPT, "a block's entries pass its key");
    }
    return ERR_OK;
}

enum err key_block_decode(const void *key, size_t key_size, const void *value, size_t value_size,
                          const struct part_seal *part, struct key_block *ret_block,
                          struct err_info *info)
{
    uint8_t bytes[KEY_BLOCK_SIZE_MAX];
    uint8_t key_bytes[KEY_BLOCK_KEY_SIZE];
    size_t count;

    if (key_size != KEY_BLOCK_KEY_SIZE || value_size < KEY_BLOCK_HEADER_SIZE ||
        value_size > KEY_BLOCK_SIZE_MAX) {
        return err_set(info, ERR_CORRUPT, "a block has %zu and %zu bytes", key_size, value_size);
    }
    /* A copy: what is checked is what is used. */
    memcpy(bytes, value, value_size);
    memcpy(key_bytes, key, sizeof key_bytes);
    count = bytes_get_u32(bytes + 4);
    if (bytes_get_u32(bytes) != block_crc(part, key_bytes, bytes, value_size)) {
        return err_set(info, ERR_CORRUPT, "a block's checksum is wrong");
    }
    if (value_size != KEY_BLOCK_HEADER_SIZE + count * ENTRY_SIZE) {
        return err_set(info, ERR_CORRUPT, "a block of %zu bytes has %zu entries", value_size,
                       count);
    }
    ret_block->before.hash = bytes_get_u64(bytes + 8);
    ret_block->before.offset = bytes_get_u64(bytes + 16);
    memcpy(&ret_block->last.hash, key_bytes, 8);
    memcpy(&ret_block->last.offset, key_bytes + 8, 8);
    ret_block->last.hash = be64toh(ret_block->last.hash);
    ret_block->last.offset = ~be64toh(ret_block->last.offset);
    ret_block->count = count;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *entry = bytes + KEY_BLOCK_HEADER_SIZE + i * ENTRY_SIZE;

        ret_block->entries[i].hash = bytes_get_u64(entry);
        ret_block->entries[i].offset = bytes_get_u64(entry + 8);
    }
    return check_order(ret_block, info);
}
