#include "fuzz/fix.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/index.h"
#include "log/store.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/journal_segment.h"
#include "transport/transport.h"

void fix_frames(uint8_t *bytes, size_t size)
{
    while (size >= FRAME_PREFIX_SIZE) {
        size_t frame_size = 4 + (size_t)bytes_get_u32(bytes);
        size_t header_size = bytes_get_u32(bytes + 12);

        if (header_size > size - FRAME_PREFIX_SIZE) {
            return;
        }
        bytes_put_u32(bytes + 4, crc32c(bytes + 8, FRAME_PREFIX_SIZE - 8 + header_size));
        if (frame_size < FRAME_PREFIX_SIZE || frame_size > size) {
            return;
        }
        bytes += frame_size;
        size -= frame_size;
    }
}

void fix_batches(uint8_t *bytes, size_t size, uint8_t *previous)
{
    while (size >= BATCH_HEADER_SIZE) {
        size_t batch_size = bytes_get_u32(bytes + 8);
        size_t body_size = batch_size - BATCH_HEADER_SIZE;
        uint8_t *digest = bytes + BATCH_DIGESTED_TO;
        bool whole = batch_size > BATCH_HEADER_SIZE && batch_size <= size;

        if (whole) {
            bytes_put_u32(bytes + 64, crc32c(bytes + BATCH_HEADER_SIZE, body_size));
        }
        if (whole && previous != NULL) {
            struct batch_header header;
            uint8_t body_digest[DIGEST_SIZE];

            bytes_put_u32(bytes + 4, crc32c(bytes + 8, BATCH_HEADER_SIZE - 8));
            if (batch_header_decode(bytes, UINT32_MAX, &header, NULL) == ERR_OK &&
                batch_is_compacted(&header)) {
                memcpy(bytes + BATCH_HEADER_SIZE, previous, DIGEST_SIZE);
                memcpy(previous, digest, DIGEST_SIZE);
                bytes_put_u32(bytes + 64, crc32c(bytes + BATCH_HEADER_SIZE, body_size));
            } else if (batch_header_decode(bytes, UINT32_MAX, &header, NULL) == ERR_OK) {
                digest_bytes(bytes + BATCH_HEADER_SIZE, body_size, body_digest);
                digest_chain(previous, &header, body_digest, digest);
                memcpy(previous, digest, DIGEST_SIZE);
            }
        }
        bytes_put_u32(bytes + 4, crc32c(bytes + 8, BATCH_HEADER_SIZE - 8));
        if (!whole) {
            return;
        }
        bytes += batch_size;
        size -= batch_size;
    }
}

void fix_store(uint8_t *bytes, size_t size)
{
    if (size >= STORE_HEADER_SIZE) {
        bytes_put_u32(bytes + 4, crc32c(bytes + 8, STORE_HEADER_SIZE - 8));
        fix_batches(bytes + STORE_HEADER_SIZE, size - STORE_HEADER_SIZE, NULL);
    }
}

void fix_index(uint8_t *bytes, size_t size)
{
    uint8_t *seal = bytes + size - INDEX_SEAL_SIZE;
    uint32_t crc;

    if (size >= INDEX_HEADER_SIZE) {
        bytes_put_u32(bytes + 4, crc32c(bytes + 8, INDEX_HEADER_SIZE - 8));
    }
    if (size >= INDEX_HEADER_SIZE + INDEX_SEAL_SIZE) {
        crc = crc32c(bytes + INDEX_HEADER_SIZE, size - INDEX_HEADER_SIZE - INDEX_SEAL_SIZE);
        bytes_put_u32(seal + 4, crc32c_extend(crc, seal + 8, INDEX_SEAL_SIZE - 8));
    }
}

void fix_entries(uint8_t *bytes, size_t size)
{
    while (size >= ENTRY_HEADER_SIZE) {
        size_t payload_size = bytes_get_u32(bytes + 4);
        size_t frame_size = bytes_round_up(ENTRY_HEADER_SIZE + payload_size, 8);

        if (frame_size > size) {
            return;
        }
        bytes_put_u32(bytes, crc32c(bytes + 4, ENTRY_HEADER_SIZE - 4 + payload_size));
        bytes += frame_size;
        size -= frame_size;
    }
}

void fix_journal(uint8_t *bytes, size_t size)
{
    uint8_t salt[8];

    if (size < JOURNAL_HEADER_SIZE) {
        return;
    }
    bytes_put_u32(bytes + 32, crc32c(bytes, 32));
    memcpy(salt, bytes + 24, sizeof salt);
    for (size_t at = JOURNAL_SECTOR; at + JOURNAL_BATCH_HEADER_SIZE <= size; at += JOURNAL_SECTOR) {
        uint8_t *batch = bytes + at;
        size_t body_size = bytes_get_u32(batch + 36);

        if (!journal_batch_resembles(batch, bytes_get_u64(bytes + 8))) {
            continue;
        }
        if (body_size <= size - at - JOURNAL_BATCH_HEADER_SIZE) {
            fix_entries(batch + JOURNAL_BATCH_HEADER_SIZE, body_size);
            bytes_put_u32(batch + 56, crc32c(batch + JOURNAL_BATCH_HEADER_SIZE, body_size));
        }
        bytes_put_u32(batch + 4, crc32c_extend(crc32c(salt, sizeof salt), batch + 8,
                                               JOURNAL_BATCH_HEADER_SIZE - 8));
    }
}
