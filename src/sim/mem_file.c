#include "sim/mem_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"

enum { SECTORS = MEM_FILE_CHUNK / MEM_FILE_SECTOR, PAGE = 4096 };

/* Address space, not memory: a mapped file may grow up to it without moving. */
static const size_t region_capacity = (size_t)64 << 20;

_Static_assert(SECTORS == 32, "a mask has one bit for each sector of a chunk");
_Static_assert(PAGE % MEM_FILE_SECTOR == 0 && MEM_FILE_CHUNK % PAGE == 0, "they nest");

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t round_up(uint64_t size, uint64_t unit)
{
    return (size + unit - 1) / unit * unit;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* The bits of the sectors that [from, to) of a chunk touches. */
static uint32_t sectors_of(size_t from, size_t to)
{
    size_t first = from / MEM_FILE_SECTOR;
    size_t end = (to + MEM_FILE_SECTOR - 1) / MEM_FILE_SECTOR;

    ASSERT(to <= MEM_FILE_CHUNK);
    if (first >= end) {
        return 0;
    }
    return (uint32_t)((UINT64_C(1) << end) - (UINT64_C(1) << first));
}

static size_t first_of(uint32_t mask)
{
    ASSERT(mask != 0);
    return (size_t)__builtin_ctz(mask);
}

static void *must(void *memory)
{
    ASSERT(memory != NULL);
    return memory;
}

/* ---- chunks ---- */

static struct mem_chunk *chunk_at(struct mem_file *self, size_t index)
{
    if (index >= self->chunk_count) {
        size_t count = self->chunk_count * 2 > index + 1 ? self->chunk_count * 2 : index + 1;

        self->chunks = must(realloc(self->chunks, count * sizeof *self->chunks));
        memset(self->chunks + self->chunk_count, 0,
               (count - self->chunk_count) * sizeof *self->chunks);
        self->chunk_count = count;
    }
    return &self->chunks[index];
}

/* Forgets what was saved for the sectors in mask: they are clean now. */
static void chunk_clean(struct mem_chunk *chunk, uint32_t mask)
{
    chunk->dirty &= ~mask;
    chunk->old_zero &= ~mask;
    chunk->lost &= ~mask;
    if ((chunk->dirty & ~chunk->old_zero) == 0) {
        free(chunk->old);
        chunk->old = NULL;
    }
}

static void list_dirty(struct mem_file *self, size_t index)
{
    struct mem_chunk *chunk = &self->chunks[index];

    if (chunk->listed) {
        return;
    }
    if (self->dirty_count == self->dirty_capacity) {
        self->dirty_capacity = self->dirty_capacity == 0 ? 8 : self->dirty_capacity * 2;
        self->dirty = must(realloc(self->dirty, self->dirty_capacity * sizeof *self->dirty));
    }
    ASSERT(index <= UINT32_MAX);
    self->dirty[self->dirty_count++] = (uint32_t)index; /* I4 */
    chunk->listed = true;
}

/* Saves the durable contents of the sectors in mask that are still clean, and marks all dirty. */
static void chunk_dirty(struct mem_file *self, size_t index, uint32_t mask)
{
    struct mem_chunk *chunk = &self->chunks[index];
    uint32_t fresh = mask & ~chunk->dirty;
    uint32_t save = fresh & chunk->used;

    chunk->old_zero |= fresh & ~chunk->used; /* I1 */
    if (save != 0 && chunk->old == NULL) {
        chunk->old = must(malloc(MEM_FILE_CHUNK));
    }
    for (; save != 0; save &= save - 1) {
        size_t at = first_of(save) * MEM_FILE_SECTOR;

        memcpy(chunk->old + at, chunk->data + at, MEM_FILE_SECTOR);
    }
    chunk->dirty |= mask;
    if (chunk->dirty != 0) {
        list_dirty(self, index);
    }
}

/* Puts back what is durable in the sectors of mask. */
static void chunk_revert(struct mem_chunk *chunk, uint32_t mask)
{
    ASSERT((mask & ~chunk->dirty) == 0);
    for (; mask != 0; mask &= mask - 1) {
        uint32_t bit = mask & -mask;
        size_t at = first_of(mask) * MEM_FILE_SECTOR;

        if ((chunk->old_zero & bit) == 0) {
            if (chunk->data == NULL) {
                chunk->data = must(calloc(1, MEM_FILE_CHUNK));
            }
            memcpy(chunk->data + at, chunk->old + at, MEM_FILE_SECTOR);
            chunk->used |= bit;
        } else {
            if (chunk->data != NULL) {
                memset(chunk->data + at, 0, MEM_FILE_SECTOR);
            }
            chunk->used &= ~bit;
        }
    }
}

/* Zeros the sectors of mask, whose old contents are saved where they are durable. */
static void chunk_cut(struct mem_file *self, size_t index, uint32_t mask)
{
    struct mem_chunk *chunk = &self->chunks[index];
    uint32_t gone = mask & chunk->used;

    if (gone == 0) {
        return;
    }
    if (chunk->dirty == 0 && gone == chunk->used && mask == UINT32_MAX) {
        /* The whole of it: hand the memory over instead of copying. */
        chunk->old = chunk->data;
        chunk->data = NULL;
        chunk->used = 0;
        chunk->dirty = gone;
        list_dirty(self, index);
        return;
    }
    chunk_dirty(self, index, gone);
    chunk->used &= ~gone;
    if (chunk->used == 0) {
        free(chunk->data);
        chunk->data = NULL;
        return;
    }
    for (; gone != 0; gone &= gone - 1) {
        memset(chunk->data + first_of(gone) * MEM_FILE_SECTOR, 0, MEM_FILE_SECTOR);
    }
}

static void write_piece(struct mem_file *self, uint64_t position, const uint8_t *data, size_t size,
                        bool durable)
{
    size_t index = (size_t)(position / MEM_FILE_CHUNK);
    size_t at = (size_t)(position % MEM_FILE_CHUNK);
    uint32_t mask = sectors_of(at, at + size);
    struct mem_chunk *chunk = chunk_at(self, index);

    if (chunk->data == NULL && chunk->dirty == 0 && is_zero(data, size)) {
        return; /* Zeroing ahead costs no memory. */
    }
    if (chunk->data == NULL) {
        chunk->data = must(calloc(1, MEM_FILE_CHUNK));
    }
    if (!durable) {
        chunk_dirty(self, index, mask);
    }
    memcpy(chunk->data + at, data, size);
    chunk->used |= mask;
    chunk->lost &= ~mask;
    if (durable) {
        chunk_clean(chunk, mask);
    }
}

/* The sectors of a chunk that lie wholly at or above a size. */
static uint32_t sectors_above(size_t index, uint64_t size)
{
    uint64_t start = (uint64_t)index * MEM_FILE_CHUNK;
    uint64_t from = size < start ? 0 : round_up(size - start, MEM_FILE_SECTOR);

    return from >= MEM_FILE_CHUNK ? 0 : sectors_of((size_t)from, MEM_FILE_CHUNK);
}

/* The cut is in the file system's journal now: what was above it is durably zeros. */
static void commit_cut(struct mem_file *self)
{
    uint64_t cut_size = self->cut_size;

    if (cut_size == MEM_FILE_NOT_CUT) {
        return;
    }
    if (self->region != NULL && cut_size < self->durable_size) {
        memset(self->region->durable + cut_size, 0, (size_t)(self->durable_size - cut_size));
    }
    for (size_t i = 0; i < self->dirty_count; i++) {
        struct mem_chunk *chunk = &self->chunks[self->dirty[i]];

        uint32_t above = sectors_above(self->dirty[i], cut_size) & chunk->dirty;

        chunk->old_zero |= above;
        chunk_clean(chunk, above & ~chunk->used);
    }
    if (cut_size % MEM_FILE_SECTOR != 0 && cut_size / MEM_FILE_CHUNK < self->chunk_count) {
        struct mem_chunk *chunk = &self->chunks[cut_size / MEM_FILE_CHUNK];
        size_t at = (size_t)(cut_size % MEM_FILE_CHUNK);
        uint32_t bit = sectors_of(at, at + 1);

        if ((chunk->dirty & ~chunk->old_zero & bit) != 0) {
            memset(chunk->old + at, 0, MEM_FILE_SECTOR - at % MEM_FILE_SECTOR);
        }
    }
    self->durable_size = lesser(self->durable_size, cut_size);
    self->cut_size = MEM_FILE_NOT_CUT;
}

/* ---- mapped files ---- */

/* Lets the pages up to the file's end be touched, and no others: as in the kernel, but SIGSEGV
 * stands for its SIGBUS. */
static void region_protect(struct mem_region *region, uint64_t before, uint64_t after)
{
    size_t from = (size_t)round_up(before, PAGE);
    size_t to = (size_t)round_up(after, PAGE);

    if (to > from) {
        ASSERT(mprotect(region->seen + from, to - from, PROT_READ | PROT_WRITE) == 0);
    } else if (to < from) {
        ASSERT(madvise(region->seen + to, from - to, MADV_DONTNEED) == 0); /* zeros again */
        ASSERT(mprotect(region->seen + to, from - to, PROT_NONE) == 0);
    }
}

static struct mem_region *region_new(size_t capacity)
{
    struct mem_region *self = must(calloc(1, sizeof *self));

    ASSERT(capacity % PAGE == 0);
    self->capacity = capacity;
    self->seen =
        mmap(NULL, capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(self->seen != MAP_FAILED);
    self->durable = mmap(NULL, capacity, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(self->durable != MAP_FAILED);
    return self;
}

void mem_region_free(struct mem_region *self)
{
    if (self == NULL) {
        return;
    }
    ASSERT(munmap(self->seen, self->capacity) == 0);
    ASSERT(munmap(self->durable, self->capacity) == 0);
    free(self);
}

static void drop_chunks(struct mem_file *self)
{
    for (size_t i = 0; i < self->chunk_count; i++) {
        free(self->chunks[i].data);
        free(self->chunks[i].old);
    }
    free(self->chunks);
    free(self->dirty);
    self->chunks = NULL;
    self->chunk_count = 0;
    self->dirty = NULL;
    self->dirty_count = 0;
    self->dirty_capacity = 0;
}

void *mem_file_map(struct mem_file *self, size_t size)
{
    uint64_t needed = self->size > size ? self->size : size;
    uint64_t extent = self->size > self->durable_size ? self->size : self->durable_size;
    struct mem_region *region = self->region;

    if (region != NULL) {
        return needed <= region->capacity ? region->seen : NULL;
    }
    if (needed > region_capacity || extent > region_capacity) {
        return NULL;
    }
    region = region_new(region_capacity);
    region_protect(region, 0, self->size);
    for (size_t i = 0; i < self->chunk_count && (uint64_t)i * MEM_FILE_CHUNK < extent; i++) {
        struct mem_chunk *chunk = &self->chunks[i];
        size_t at = i * MEM_FILE_CHUNK;

        if (chunk->data != NULL && at < self->size) {
            size_t piece = (size_t)lesser(self->size - at, MEM_FILE_CHUNK);

            memcpy(region->seen + at, chunk->data, piece);
            memcpy(region->durable + at, chunk->data, piece);
        }
        for (uint32_t mask = chunk->dirty; mask != 0; mask &= mask - 1) {
            size_t sector = first_of(mask) * MEM_FILE_SECTOR;
            bool zero = (chunk->old_zero & (mask & -mask)) != 0;

            if (zero) {
                memset(region->durable + at + sector, 0, MEM_FILE_SECTOR);
            } else {
                memcpy(region->durable + at + sector, chunk->old + sector, MEM_FILE_SECTOR);
            }
        }
    }
    drop_chunks(self);
    self->region = region;
    return region->seen;
}

/* Takes one sector of a region into a chunk. Either image may lack memory: zeros. */
static void take_sector(struct mem_file *self, uint64_t position, const uint8_t *seen,
                        const uint8_t *durable)
{
    if (!is_zero(durable, MEM_FILE_SECTOR)) {
        write_piece(self, position, durable, MEM_FILE_SECTOR, true);
    }
    if (memcmp(seen, durable, MEM_FILE_SECTOR) != 0) {
        write_piece(self, position, seen, MEM_FILE_SECTOR, false);
    }
}

struct mem_region *mem_file_unmap(struct mem_file *self)
{
    static const uint8_t zeros[MEM_FILE_SECTOR];
    struct mem_region *region = self->region;
    uint64_t extent = self->size > self->durable_size ? self->size : self->durable_size;
    uint64_t reach = round_up(self->size, PAGE);

    ASSERT(region != NULL && self->chunks == NULL);
    /* What was stored between the end and the end of its page is not part of the file: I3. */
    memset(region->seen + self->size, 0, (size_t)(reach - self->size));
    for (uint64_t at = 0; at < extent; at += PAGE) {
        const uint8_t *durable = region->durable + at;

        if (at < reach && memcmp(region->seen + at, durable, PAGE) == 0 && is_zero(durable, PAGE)) {
            continue;
        }
        for (size_t i = 0; i < PAGE; i += MEM_FILE_SECTOR) {
            take_sector(self, at + i, at < reach ? region->seen + at + i : zeros, durable + i);
        }
    }
    self->region = NULL;
    return region;
}

/* The file grows; what was stored behind its end before is not part of it: I3. */
static void region_grow(struct mem_file *self, uint64_t size)
{
    uint64_t end = round_up(self->size, PAGE);

    ASSERT(size > self->size && size <= self->region->capacity);
    memset(self->region->seen + self->size, 0, (size_t)(end - self->size));
    region_protect(self->region, self->size, size);
}

static void region_shrink(struct mem_file *self, uint64_t size)
{
    uint64_t end = lesser(self->size, round_up(size, PAGE));

    ASSERT(size < self->size);
    region_protect(self->region, self->size, size);
    if (end > size) {
        memset(self->region->seen + size, 0, (size_t)(end - size));
    }
}

static void region_sync(struct mem_file *self)
{
    struct mem_region *region = self->region;

    memset(region->seen + self->size, 0, (size_t)(round_up(self->size, PAGE) - self->size));
    for (uint64_t at = 0; at < round_up(self->size, PAGE); at += PAGE) {
        if (memcmp(region->durable + at, region->seen + at, PAGE) != 0) {
            memcpy(region->durable + at, region->seen + at, PAGE);
        }
    }
    if (self->durable_size > self->size) {
        size_t from = (size_t)round_up(self->size, PAGE);

        memset(region->durable + from, 0, (size_t)round_up(self->durable_size, PAGE) - from);
    }
}

/* ---- the file ---- */

void mem_file_init(struct mem_file *self)
{
    *self = (struct mem_file){.cut_size = MEM_FILE_NOT_CUT};
}

void mem_file_fini(struct mem_file *self)
{
    drop_chunks(self);
    mem_region_free(self->region);
    mem_file_init(self);
}

size_t mem_file_read(const struct mem_file *self, void *data, size_t size, uint64_t position)
{
    size_t done = 0;

    if (position >= self->size) {
        return 0;
    }
    size = (size_t)lesser(size, self->size - position);
    if (self->region != NULL) {
        memcpy(data, self->region->seen + position, size);
        return size;
    }
    while (done < size) {
        size_t index = (size_t)((position + done) / MEM_FILE_CHUNK);
        size_t at = (size_t)((position + done) % MEM_FILE_CHUNK);
        size_t piece = (size_t)lesser(MEM_FILE_CHUNK - at, size - done);
        const uint8_t *from = index < self->chunk_count ? self->chunks[index].data : NULL;

        if (from == NULL) {
            memset((uint8_t *)data + done, 0, piece);
        } else {
            memcpy((uint8_t *)data + done, from + at, piece);
        }
        done += piece;
    }
    return size;
}

/* Copies whole sectors from what is seen to what is durable: a device writes no less. */
static void region_settle(struct mem_region *region, uint64_t from, uint64_t to)
{
    from -= from % MEM_FILE_SECTOR;
    to = round_up(to, MEM_FILE_SECTOR);
    memcpy(region->durable + from, region->seen + from, (size_t)(to - from));
}

bool mem_file_write(struct mem_file *self, const void *data, size_t size, uint64_t position,
                    bool durable)
{
    uint64_t end = position + size;

    ASSERT(end >= position);
    if (self->region != NULL && end > self->region->capacity) {
        return false;
    }
    if (size == 0) {
        return true;
    }
    if (durable) {
        commit_cut(self);
    }
    if (self->region != NULL) {
        if (end > self->size) {
            region_grow(self, end);
        }
        memcpy(self->region->seen + position, data, size);
        if (durable) {
            region_settle(self->region, position, end);
        }
    } else {
        for (size_t done = 0; done < size;) {
            size_t at = (size_t)((position + done) % MEM_FILE_CHUNK);
            size_t piece = (size_t)lesser(MEM_FILE_CHUNK - at, size - done);

            write_piece(self, position + done, (const uint8_t *)data + done, piece, durable);
            done += piece;
        }
    }
    self->size = self->size > end ? self->size : end;
    if (durable && self->durable_size < end) {
        self->durable_size = end;
    }
    return true;
}

static void cut_chunks(struct mem_file *self, uint64_t size)
{
    size_t first = (size_t)(size / MEM_FILE_CHUNK);
    size_t at = (size_t)(size % MEM_FILE_CHUNK);

    if (first >= self->chunk_count) {
        return;
    }
    if (at % MEM_FILE_SECTOR != 0 && self->chunks[first].data != NULL) {
        size_t end = (size_t)round_up(at, MEM_FILE_SECTOR);

        if (!is_zero(self->chunks[first].data + at, end - at)) {
            chunk_dirty(self, first, sectors_of(at, end));
            memset(self->chunks[first].data + at, 0, end - at); /* I3 */
        }
    }
    chunk_cut(self, first, sectors_of((size_t)round_up(at, MEM_FILE_SECTOR), MEM_FILE_CHUNK));
    for (size_t i = first + 1; i < self->chunk_count; i++) {
        chunk_cut(self, i, UINT32_MAX);
    }
}

bool mem_file_resize(struct mem_file *self, uint64_t size)
{
    if (self->region != NULL && size > self->region->capacity) {
        return false;
    }
    if (size < self->size) {
        if (self->region != NULL) {
            region_shrink(self, size);
        } else {
            cut_chunks(self, size);
        }
        self->cut_size = lesser(self->cut_size, size);
    } else if (size > self->size && self->region != NULL) {
        region_grow(self, size);
    }
    self->size = size;
    return true;
}

void mem_file_sync(struct mem_file *self)
{
    size_t kept = 0;

    if (self->region != NULL) {
        region_sync(self);
        self->cut_size = MEM_FILE_NOT_CUT;
        self->durable_size = self->size;
        return;
    }
    commit_cut(self);
    for (size_t i = 0; i < self->dirty_count; i++) {
        struct mem_chunk *chunk = &self->chunks[self->dirty[i]];

        chunk_clean(chunk, ~chunk->lost);
        chunk->listed = chunk->dirty != 0;
        if (chunk->listed) {
            self->dirty[kept++] = self->dirty[i];
        }
    }
    self->dirty_count = kept;
    self->durable_size = self->size;
}

void mem_file_sync_failed(struct mem_file *self)
{
    for (size_t i = 0; i < self->dirty_count; i++) {
        struct mem_chunk *chunk = &self->chunks[self->dirty[i]];

        chunk->lost = chunk->dirty;
    }
}

bool mem_file_is_dirty(const struct mem_file *self)
{
    return self->region != NULL || self->dirty_count > 0 || self->size != self->durable_size ||
           self->cut_size != MEM_FILE_NOT_CUT;
}

enum luck { LUCK_ALL, LUCK_NONE, LUCK_HALF, LUCK_MOST, LUCK_COUNT };

/* Which of 32 sectors survive. */
static uint32_t survivors(enum luck luck, uint64_t (*random)(void *arg), void *arg)
{
    uint64_t bits;

    if (luck == LUCK_ALL || luck == LUCK_NONE) {
        return luck == LUCK_ALL ? UINT32_MAX : 0;
    }
    bits = random(arg);
    return (uint32_t)bits | (luck == LUCK_MOST ? (uint32_t)(bits >> 32) : 0);
}

/* The size after a crash: the durable one, the one seen, or one between. */
static uint64_t crash_size(const struct mem_file *self, uint64_t (*random)(void *arg), void *arg)
{
    uint64_t range = self->size - self->durable_size;
    uint64_t bits;

    ASSERT(self->durable_size <= self->size); /* I2 */
    if (range == 0) {
        return self->size;
    }
    bits = random(arg);
    switch (bits % 3) {
    case 0:
        return self->durable_size;
    case 1:
        return self->size;
    default:
        return self->durable_size + (bits >> 2) % (range + 1);
    }
}

void mem_file_crash(struct mem_file *self, uint64_t (*random)(void *arg), void *arg)
{
    bool cut_undone = self->cut_size != MEM_FILE_NOT_CUT && random(arg) % 2 == 0;
    /* The sector in which the cut runs was changed by it, too. */
    uint64_t undo_from = self->cut_size - self->cut_size % MEM_FILE_SECTOR;
    enum luck luck;
    uint64_t size;

    ASSERT(self->region == NULL);
    if (!cut_undone) {
        commit_cut(self);
    }
    luck = self->dirty_count == 0 ? LUCK_NONE : (enum luck)(random(arg) % LUCK_COUNT);
    for (size_t i = 0; i < self->dirty_count; i++) {
        struct mem_chunk *chunk = &self->chunks[self->dirty[i]];
        uint32_t keep = survivors(luck, random, arg);

        if (cut_undone) {
            keep &= ~sectors_above(self->dirty[i], undo_from);
        }
        chunk_revert(chunk, chunk->dirty & ~keep);
        chunk_clean(chunk, UINT32_MAX);
        chunk->listed = false;
    }
    self->dirty_count = 0;
    size = cut_undone ? self->durable_size : crash_size(self, random, arg);
    self->size = size > self->size ? size : self->size;
    if (size < self->size) {
        cut_chunks(self, size);
    }
    self->size = size;
    self->cut_size = MEM_FILE_NOT_CUT;
    mem_file_sync(self); /* What the cut above made dirty is how it is. */
}

void mem_file_flip(struct mem_file *self, uint64_t position, unsigned bit)
{
    uint8_t mask = (uint8_t)(1U << bit);

    ASSERT(bit < 8 && position < self->size);
    if (self->region != NULL) {
        bool synced = self->region->seen[position] == self->region->durable[position];

        self->region->seen[position] ^= mask;
        if (synced) {
            self->region->durable[position] ^= mask;
        }
    } else {
        size_t at = (size_t)(position % MEM_FILE_CHUNK);
        struct mem_chunk *chunk = chunk_at(self, (size_t)(position / MEM_FILE_CHUNK));

        if (chunk->data == NULL) {
            chunk->data = must(calloc(1, MEM_FILE_CHUNK));
        }
        chunk->data[at] ^= mask;
        chunk->used |= sectors_of(at, at + 1);
    }
}
