/*
 * The contents of one file of a mem_io: what a process sees, and what a power loss would leave.
 *
 *      position   0        16 KiB    32 KiB          64 MiB
 *                 +---------+---------+- - - - - - - - -+     chunks of 32 sectors of 512 bytes;
 *      seen       |ab.dE....|  (none) |     (none)      |     a chunk that was never written has no
 *                 +---------+---------+- - - - - - - - -+     memory and reads as zeros
 *      old            C                                        kept only for sectors not yet synced
 *
 * A write saves the old contents of each clean sector that it touches and marks the sector dirty;
 * a sync forgets what was saved; a crash puts it back for the sectors that chance picks. So all
 * three cost in proportion to what is not synced, whatever the size of the file.
 *
 * Cutting a file short is one step of the file system's journal: a crash undoes all of it or
 * nothing. Where it is undone, what was written above the cut since then is gone as well.
 *
 * While a file is mapped it lives in one stretch of memory instead, the image that a power loss
 * would leave beside it, and the two are compared when it matters: stores cannot be observed.
 *
 * Invariants:
 *   I1  A sector that is neither dirty nor used holds zeros in both images.
 *   I2  Without a pending cut durable_size <= size; with one, cut_size <= size.
 *   I3  Bytes seen at or above size are zeros.
 *   I4  Chunks with dirty sectors are in the dirty list, each once.
 */
#ifndef QUORLOG_SIM_MEM_FILE_H
#define QUORLOG_SIM_MEM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEM_FILE_SECTOR = 512, MEM_FILE_CHUNK = 32 * MEM_FILE_SECTOR };
#define MEM_FILE_NOT_CUT UINT64_MAX

/* One bit a sector in the masks. */
struct mem_chunk {
    uint8_t *data;     /* owned; NULL: all zeros */
    uint8_t *old;      /* owned; durable contents of the sectors in dirty but not in old_zero */
    uint32_t used;     /* May hold something else than zeros. */
    uint32_t dirty;    /* Differs, or may differ, from what is durable. */
    uint32_t old_zero; /* Dirty, and durably zeros. */
    uint32_t lost;     /* Dirty, and a sync that failed has taken it for written. */
    bool listed;
};

/* The memory of a mapped file. It outlives the file's use of it for as long as somebody holds an
 * address in it: a simulated process that died may still store to what it had mapped. */
struct mem_region {
    uint8_t *seen;    /* owned; `capacity` bytes, accessible up to the page of the file's end */
    uint8_t *durable; /* owned; `capacity` bytes */
    size_t capacity;
};

struct mem_file {
    uint64_t size;
    uint64_t durable_size;
    uint64_t cut_size; /* The smallest size that it was cut to since the last sync. */
    struct mem_chunk *chunks;
    size_t chunk_count;
    uint32_t *dirty; /* Numbers of chunks. */
    size_t dirty_count;
    size_t dirty_capacity;
    struct mem_region *region; /* owned; NULL unless mapped */
};

void mem_file_init(struct mem_file *self);
void mem_file_fini(struct mem_file *self);

/* Copies what is seen at position; short only at the end of the file. */
size_t mem_file_read(const struct mem_file *self, void *data, size_t size, uint64_t position);

/* Writes; durable: as with RWF_DSYNC. False when a mapped file cannot grow that far. */
bool mem_file_write(struct mem_file *self, const void *data, size_t size, uint64_t position,
                    bool durable);

/* ftruncate. False as above. */
bool mem_file_resize(struct mem_file *self, uint64_t size);

/* fdatasync: what is seen is durable. */
void mem_file_sync(struct mem_file *self);

/* An fdatasync that failed: nothing is durable, and later syncs leave out what was dirty now, as
 * kernels do that mark pages clean when writing them back failed. */
void mem_file_sync_failed(struct mem_file *self);

/* Does a crash have anything to decide? Always so while mapped. */
bool mem_file_is_dirty(const struct mem_file *self);

/* Power loss. Chance decides; not while mapped. All that is left is durable. */
void mem_file_crash(struct mem_file *self, uint64_t (*random)(void *arg), void *arg);

/* Turns one bit, in what is seen and, where that is synced, in what is durable: the medium decays.
 * position < size. */
void mem_file_flip(struct mem_file *self, uint64_t position, unsigned bit);

/* Makes [0, size) of the file addressable, and returns the address; NULL when that is too large. */
void *mem_file_map(struct mem_file *self, size_t size);

/* Goes back to chunks and returns the region, now the caller's. The file is mapped. */
struct mem_region *mem_file_unmap(struct mem_file *self);
void mem_region_free(struct mem_region *self);

#endif
