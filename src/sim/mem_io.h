/*
 * A whole file system in memory behind a struct io: deterministic, and it loses power on command.
 *
 *      struct mem_io disk;                             one machine's disk
 *      mem_io_init(&disk);
 *      … the code under test works with &disk.io …
 *      mem_io_crash(&disk, draw, &generator);          power loss: open again and see what is left
 *
 * It keeps the promises of the kernel and of a good disk and not one more:
 *   - contents are durable after fdatasync, or a write with RWF_DSYNC or to an O_DSYNC file, that
 *     returned without error; until then each sector of 512 bytes is on its own;
 *   - names are durable after sync_dir; until then a crash keeps a prefix of each directory's
 *     changes. A file that was synced is lost when its name was not;
 *   - a sync that failed has lost what was dirty: syncing again does not help;
 *   - O_DIRECT wants position, sizes and addresses in multiples of 512, else -EINVAL;
 *   - a full disk takes what fits (a short write), and then says -ENOSPC.
 *
 * Paths start at the root, "/" in front or not; there are no links, no ".." and no permissions.
 * list gives names in order. One thread at a time. Memory: what was ever written and is not zeros;
 * a preallocated file costs next to nothing. A mapped file may have up to 64 MiB.
 */
#ifndef QUORLOG_SIM_MEM_IO_H
#define QUORLOG_SIM_MEM_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "sim/mem_mappings.h"
#include "sim/mem_tree.h"

enum mem_io_kind {
    MEM_IO_OPEN,
    MEM_IO_CLOSE,
    MEM_IO_PREAD,
    MEM_IO_PWRITEV,
    MEM_IO_FDATASYNC,
    MEM_IO_WRITE_BACK,
    MEM_IO_TRUNCATE,
    MEM_IO_ALLOCATE,
    MEM_IO_RESERVE,
    MEM_IO_ADVISE,
    MEM_IO_SIZE,
    MEM_IO_MAP,
    MEM_IO_UNMAP,
    MEM_IO_RENAME,
    MEM_IO_UNLINK,
    MEM_IO_MKDIR,
    MEM_IO_RMDIR,
    MEM_IO_SYNC_DIR,
    MEM_IO_LIST,
    MEM_IO_LOCK,
    MEM_IO_FREE_SPACE,
};

/* What is about to happen. */
struct mem_io_op {
    enum mem_io_kind kind;
    const char *path;  /* As the caller gave it, or the file was opened by; "" for unmap. */
    uint64_t position; /* pread, pwritev, write_back, allocate, reserve */
    uint64_t size;     /* Also truncate and map. */
    int flags;         /* open */
    uint64_t partial;  /* Out, pwritev: when it fails, write so many bytes before; initially 0. */
};

/* 0: go on; an errno (positive): fail so. Close and unmap release their object nevertheless. It
 * must not call the mem_io that asks. */
typedef int (*mem_io_hook_cb)(void *arg, struct mem_io_op *op);

struct mem_io_open_file;

struct mem_io {
    struct io io; /* What the code under test gets: &disk.io. */
    struct mem_tree tree;
    struct mem_io_open_file *files; /* owned; by slot, the low half of an fd */
    size_t file_count;
    int free_slot; /* Head of the list of free slots; -1: none. */
    unsigned open_count;
    struct mem_mappings mappings;
    uint64_t limit; /* Bytes that files may take in all. */
    mem_io_hook_cb hook;
    void *hook_arg;
};

/* An empty root directory on a disk of 1 TiB. */
void mem_io_init(struct mem_io *self);

/* Frees everything, mapped memory too. */
void mem_io_fini(struct mem_io *self);

/* Asks hook before each operation from now on; NULL: nobody. */
void mem_io_set_hook(struct mem_io *self, mem_io_hook_cb hook, void *arg);

/* The process dies: its fds and locks are gone (-EBADF), and so are its mappings: their memory
 * stays valid until unmap or fini, but is no longer the file's. What it wrote is seen by the next
 * process. While the dead process's objects are closed, let the hook refuse everything: a path
 * means the same to them as to the living. */
void mem_io_kill(struct mem_io *self);

/* The machine loses power: as mem_io_kill, and what was not synced survives as `random` decides,
 * which gives 64 random bits. Afterwards all is durable. */
void mem_io_crash(struct mem_io *self, uint64_t (*random)(void *arg), void *arg);

/* The medium decays: turns bit (0–7) of the byte at position. -ENOENT, -EISDIR, -EINVAL past the
 * end. */
int mem_io_flip(struct mem_io *self, const char *path, uint64_t position, unsigned bit);

/* From now on there is room for `bytes` more. UINT64_MAX: no limit. */
void mem_io_set_free(struct mem_io *self, uint64_t bytes);

/* Calls each for all files, in order of path ("/a/b"); it may do anything but change the tree. */
void mem_io_files(struct mem_io *self, void (*each)(void *arg, const char *path, uint64_t size),
                  void *arg);

/* How many files are open and mapped: a test looks for leaks. */
unsigned mem_io_open_count(const struct mem_io *self);
unsigned mem_io_mapped_count(const struct mem_io *self);

/* Would a crash have anything to decide? False also says: all is durable. */
bool mem_io_is_dirty(const struct mem_io *self);

#endif
