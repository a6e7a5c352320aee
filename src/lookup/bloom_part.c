#include "lookup/bloom_part.h"

#include <bloom.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

enum {
    FILTER_ENTRIES = 3400,
    HASH_SIZE = 8,
    PROBE_KEYS = 64,
};

/* The library neither saves its filters nor loads them, so their bits are copied out and in: `bf`
 * and `bytes` are all that a filter is beside what bloom_init derives from its two numbers. */
static enum err new_filter(struct bloom *ret_filter)
{
    if (bloom_init(ret_filter, FILTER_ENTRIES, 0.01) != 0) {
        return ERR_NOMEM;
    }
    ASSERT(ret_filter->bytes > 0 && ret_filter->bytes <= BLOOM_PAGE_SIZE - BLOOM_PAGE_HEADER_SIZE);
    return ERR_OK;
}

static void add_hash(struct bloom *filter, uint64_t hash)
{
    uint8_t bytes[HASH_SIZE];
    int rv;

    bytes_put_u64(bytes, hash);
    rv = bloom_add(filter, bytes, HASH_SIZE);
    ASSERT(rv >= 0);
}

enum err bloom_part_probe(uint32_t *ret_probe)
{
    struct bloom filter;
    enum err err = new_filter(&filter);

    if (err == ERR_OK) {
        for (uint64_t i = 0; i < PROBE_KEYS; i++) {
            add_hash(&filter, i * UINT64_C(0x9e3779b97f4a7c15));
        }
        *ret_probe = crc32c(filter.bf, (size_t)filter.bytes);
        bloom_free(&filter);
    }
    return err;
}

/* The hash's upper bits, multiplied: as good as a division, and other bits than the filter's. */
static uint64_t page_of(uint64_t hash, uint64_t page_count)
{
    return ((hash >> 32) * page_count) >> 32;
}

static uint32_t page_crc(const struct part_seal *seal, uint64_t number, const uint8_t *page)
{
    uint8_t place[16];

    bytes_put_u64(place, seal->base_offset);
    bytes_put_u64(place + 8, number);
    return crc32c_extend(crc32c(place, sizeof place), page + 4, BLOOM_PAGE_SIZE - 4);
}

static int compare_hashes(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;

    return *left < *right ? -1 : *left > *right;
}

static size_t drop_repeated(uint64_t *hashes, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || hashes[kept - 1] != hashes[i]) {
            hashes[kept++] = hashes[i];
        }
    }
    return kept;
}

/* hashes: sorted, so each page's follow on each other. */
static enum err fill_pages(const struct part_seal *seal, const uint64_t *hashes, size_t count,
                           uint8_t *body, uint64_t page_count)
{
    size_t i = 0;

    for (uint64_t number = 0; number < page_count; number++) {
        uint8_t *page = body + number * BLOOM_PAGE_SIZE;
        struct bloom filter;

        if (new_filter(&filter) != ERR_OK) {
            return ERR_NOMEM;
        }
        for (; i < count && page_of(hashes[i], page_count) == number; i++) {
            add_hash(&filter, hashes[i]);
        }
        memcpy(page + BLOOM_PAGE_HEADER_SIZE, filter.bf, (size_t)filter.bytes);
        bloom_free(&filter);
        bytes_put_u32(page, page_crc(seal, number, page));
    }
    ASSERT(i == count);
    return ERR_OK;
}

enum err bloom_part_write(struct io *io, const char *dir, uint64_t *hashes, size_t count,
                          struct part_seal *seal, struct err_info *info)
{
    uint64_t page_count;
    uint8_t *body;
    enum err err;

    ASSERT(count <= BLOOM_KEYS_MAX);
    ASSERT(seal->kind == PART_BLOOM);
    if (count > 1) {
        qsort(hashes, count, sizeof *hashes, compare_hashes);
    }
    count = drop_repeated(hashes, count);
    page_count = count / BLOOM_PAGE_KEYS + 1;
    body = calloc(page_count, BLOOM_PAGE_SIZE);
    err = body == NULL ? ERR_NOMEM : fill_pages(seal, hashes, count, body, page_count);
    err = err != ERR_OK ? err : bloom_part_probe(&seal->probe);
    if (err != ERR_OK) {
        free(body);
        return err_set(info, err, "no memory for a Bloom filter");
    }
    seal->count = count;
    seal->body_size = page_count * BLOOM_PAGE_SIZE;
    err = part_write(io, dir, seal, body, info);
    free(body);
    return err;
}

static enum err open_filter(struct io *io, const char *dir, const struct part_seal *named,
                            int *ret_fd, struct part_seal *ret_seal, struct err_info *info)
{
    char name[PART_NAME_SIZE];
    struct part_seal seal;
    int fd;
    enum err err = part_open(io, dir, named, &fd, &seal, info);

    if (err != ERR_OK) {
        return err;
    }
    ASSERT(named->kind == PART_BLOOM);
    part_name(name, named);
    if (seal.body_size == 0 || seal.body_size % BLOOM_PAGE_SIZE != 0) {
        err = err_set(info, ERR_CORRUPT, "'%s': %" PRIu64 " bytes are no pages", name,
                      seal.body_size);
    } else if (seal.probe != named->probe) {
        err = err_set(info, ERR_VERSION, "'%s' was made by another version of libbloom", name);
    }
    if (err != ERR_OK) {
        io_close(io, &fd);
        return err;
    }
    *ret_fd = fd;
    *ret_seal = seal;
    return ERR_OK;
}

enum err bloom_part_read_page(struct io *io, int fd, const struct part_seal *seal, uint64_t number,
                              uint8_t ret_page[BLOOM_PAGE_SIZE], struct err_info *info)
{
    char name[PART_NAME_SIZE];
    enum err err;

    ASSERT(seal->kind == PART_BLOOM && number < seal->body_size / BLOOM_PAGE_SIZE);
    part_name(name, seal);
    err = part_read(io, fd, name, ret_page, BLOOM_PAGE_SIZE, number * BLOOM_PAGE_SIZE, info);
    if (err == ERR_OK && bytes_get_u32(ret_page) != page_crc(seal, number, ret_page)) {
        return err_set(info, ERR_CORRUPT,
                       "'%s': the checksum of the page at position %" PRIu64 " is wrong", name,
                       number * BLOOM_PAGE_SIZE);
    }
    return err;
}

enum err bloom_part_may_hold(struct io *io, const char *dir, const struct part_seal *named,
                             uint64_t hash, bool *ret_may, struct err_info *info)
{
    uint8_t page[BLOOM_PAGE_SIZE];
    uint8_t bytes[HASH_SIZE];
    struct bloom filter;
    struct part_seal seal;
    int rv;
    int fd;
    enum err err = open_filter(io, dir, named, &fd, &seal, info);

    if (err != ERR_OK) {
        return err;
    }
    err = bloom_part_read_page(io, fd, &seal, page_of(hash, seal.body_size / BLOOM_PAGE_SIZE), page,
                               info);
    io_close(io, &fd);
    if (err != ERR_OK) {
        return err;
    }
    if (new_filter(&filter) != ERR_OK) {
        return err_set(info, ERR_NOMEM, "no memory for a Bloom filter");
    }
    memcpy(filter.bf, page + BLOOM_PAGE_HEADER_SIZE, (size_t)filter.bytes);
    bytes_put_u64(bytes, hash);
    rv = bloom_check(&filter, bytes, HASH_SIZE);
    ASSERT(rv == 0 || rv == 1);
    bloom_free(&filter);
    *ret_may = rv == 1;
    return ERR_OK;
}

enum err bloom_part_verify(struct io *io, const char *dir, const struct part_seal *named,
                           struct err_info *info)
{
    uint8_t page[BLOOM_PAGE_SIZE];
    struct part_seal seal;
    int fd;
    enum err err = open_filter(io, dir, named, &fd, &seal, info);

    if (err != ERR_OK) {
        return err;
    }
    for (uint64_t i = 0; err == ERR_OK && i < seal.body_size / BLOOM_PAGE_SIZE; i++) {
        err = bloom_part_read_page(io, fd, &seal, i, page, info);
    }
    io_close(io, &fd);
    return err;
}
