#include "sim/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "raft_fsm/manifest.h"

/* Opening what is there changes nothing; and readers do it at any time. */
static bool changes(const struct mem_io_op *op)
{
    enum mem_io_kind kind = op->kind;

    return (kind == MEM_IO_OPEN && (op->flags & (O_CREAT | O_TRUNC)) != 0) ||
           kind == MEM_IO_PWRITEV || kind == MEM_IO_FDATASYNC || kind == MEM_IO_TRUNCATE ||
           kind == MEM_IO_ALLOCATE || kind == MEM_IO_RENAME || kind == MEM_IO_UNLINK ||
           kind == MEM_IO_MKDIR || kind == MEM_IO_RMDIR || kind == MEM_IO_SYNC_DIR;
}

static int before_call(void *arg, struct mem_io_op *op)
{
    struct sim_disk *self = arg;

    if (self->dead) {
        return EIO;
    }
    if (self->plan == SIM_DISK_FINE || !changes(op)) {
        return 0;
    }
    if (self->countdown > 0) {
        self->countdown--;
        return 0;
    }
    if (op->kind == MEM_IO_PWRITEV && prng_percent(self->prng, 70)) {
        op->partial = prng_range(self->prng, 0, op->size / 512) * 512;
        op->partial = op->partial > op->size ? op->size : op->partial;
    }
    self->dead = self->plan == SIM_DISK_DIE;
    self->plan = SIM_DISK_FINE;
    self->struck = true;
    return op->kind == MEM_IO_PWRITEV && prng_percent(self->prng, 30) ? ENOSPC : EIO;
}

static struct sim_disk *from(struct io *io)
{
    _Static_assert(offsetof(struct sim_disk, mem.io) == 0, "the table comes first");
    return (struct sim_disk *)io;
}

/* A process that dies has not had a sync fail: what it wrote stays as dirty as it was. */
static int sync_or_die(struct io *io, int fd)
{
    struct sim_disk *self = from(io);

    if (self->plan == SIM_DISK_DIE && self->countdown == 0) {
        self->plan = SIM_DISK_FINE;
        self->dead = self->struck = true;
    }
    return self->dead ? -EIO : self->table.fdatasync(io, fd);
}

/* ---- broken builds ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text);

    return size >= strlen(end) && strcmp(text + size - strlen(end), end) == 0;
}

/* Whether what is written to this file is never synced. */
static bool is_unsynced(const struct sim_disk *self, const char *path)
{
    return ((self->broken & SIM_BREAK_FILL) != 0 && ends_with(path, ".fill")) ||
           ((self->broken & SIM_BREAK_COMPACT_SYNC) != 0 && ends_with(path, ".compact")) ||
           ((self->broken & SIM_BREAK_TOPIC_SYNC) != 0 && strstr(path, "/topics/") != NULL) ||
           ((self->broken & SIM_BREAK_SNAPSHOT_SYNC) != 0 && strstr(path, "/snapshot") != NULL);
}

/* The low half of an fd tells files that are open at a time apart. */
static int *unsynced(struct sim_disk *self, int fd)
{
    unsigned slot = (unsigned)fd & 0xffff;

    ASSERT(slot < SIM_DISK_OPEN_MAX);
    return &self->unsynced[slot];
}

static int open_watched(struct io *io, const char *path, int flags, mode_t mode)
{
    struct sim_disk *self = from(io);
    const char *name = strrchr(path, '/');
    int fd;

    if ((self->broken & SIM_BREAK_NO_SYNC) != 0) {
        flags &= ~(O_SYNC | O_DSYNC);
    }
    fd = self->table.open(io, path, flags, mode);
    if (fd >= 0 && name != NULL && strcmp(name, "/ballot") == 0) {
        self->ballot_fd = fd;
    }
    if (fd >= 0) {
        *unsynced(self, fd) = is_unsynced(self, path) ? fd : -1;
    }
    return fd;
}

static ssize_t write_or_not(struct io *io, int fd, const struct iovec *parts, int count,
                            uint64_t position, int rwf_flags)
{
    struct sim_disk *self = from(io);
    ssize_t size = 0;

    if ((self->broken & SIM_BREAK_BALLOT) != 0 && fd == self->ballot_fd && !self->dead) {
        for (int i = 0; i < count; i++) {
            size += (ssize_t)parts[i].iov_len;
        }
        return size;
    }
    if ((self->broken & SIM_BREAK_NO_SYNC) != 0) {
        rwf_flags = 0;
    }
    return self->table.pwritev(io, fd, parts, count, position, rwf_flags);
}

static int do_not_sync(struct io *io, int fd)
{
    (void)io;
    (void)fd;
    return 0; /* That is what is broken. */
}

static int sync_all_but_some(struct io *io, int fd)
{
    struct sim_disk *self = from(io);

    return fd >= 0 && *unsynced(self, fd) == fd ? 0 : sync_or_die(io, fd);
}

static int rename_watched(struct io *io, const char *old, const char *new)
{
    struct sim_disk *self = from(io);
    int rv = self->table.rename(io, old, new);

    self->renamed = rv == 0 && ends_with(new, "/snapshot");
    return rv;
}

/* The snapshot's name, too, is not made durable. */
static int sync_dir_but_once(struct io *io, const char *path)
{
    struct sim_disk *self = from(io);
    bool skipped = self->renamed && strcmp(path, "/") == 0;

    self->renamed = false;
    return skipped ? 0 : self->table.sync_dir(io, path);
}

static int close_watched(struct io *io, int fd)
{
    struct sim_disk *self = from(io);

    if (fd == self->ballot_fd) {
        self->ballot_fd = -1;
    }
    if (fd >= 0) {
        *unsynced(self, fd) = -1;
    }
    return self->table.close(io, fd);
}

void sim_disk_init(struct sim_disk *self, struct prng *prng, unsigned broken)
{
    *self = (struct sim_disk){.prng = prng, .broken = broken, .ballot_fd = -1};
    mem_io_init(&self->mem);
    mem_io_set_hook(&self->mem, before_call, self);
    self->table = self->mem.io;
    self->size = self->mem.limit;
    self->mem.io.fdatasync = sync_or_die;
    if ((broken & (SIM_BREAK_FILL | SIM_BREAK_COMPACT_SYNC | SIM_BREAK_TOPIC_SYNC |
                   SIM_BREAK_SNAPSHOT_SYNC)) != 0) {
        self->mem.io.open = open_watched;
        self->mem.io.close = close_watched;
        self->mem.io.fdatasync = sync_all_but_some;
    }
    if ((broken & SIM_BREAK_SNAPSHOT_SYNC) != 0) {
        self->mem.io.rename = rename_watched;
        self->mem.io.sync_dir = sync_dir_but_once;
    }
    if ((broken & (SIM_BREAK_BALLOT | SIM_BREAK_NO_SYNC)) != 0) {
        self->mem.io.open = open_watched;
        self->mem.io.close = close_watched;
        self->mem.io.pwritev = write_or_not;
    }
    if ((broken & SIM_BREAK_NO_SYNC) != 0) {
        self->mem.io.fdatasync = do_not_sync;
    }
}

void sim_disk_fini(struct sim_disk *self)
{
    mem_io_fini(&self->mem);
}

void sim_disk_plan(struct sim_disk *self, enum sim_disk_plan plan, unsigned calls)
{
    ASSERT(!self->dead);
    self->plan = plan;
    self->countdown = calls;
}

void sim_disk_fill(struct sim_disk *self, uint64_t free_size)
{
    self->full = free_size != UINT64_MAX;
    self->was_full = self->was_full || self->full;
    if (self->full) {
        mem_io_set_free(&self->mem, free_size);
    } else {
        self->mem.limit = self->size;
    }
}

void sim_disk_forget_producers(struct sim_disk *self)
{
    struct io *io = &self->mem.io;
    struct snapshot snapshot;
    struct manifest manifest;
    struct slice bytes;
    enum err err;

    if (snapshot_load(io, "/", &snapshot, NULL) != ERR_OK) {
        return; /* There is none. */
    }
    err = manifest_decode(snapshot.manifest.data, snapshot.manifest.size, &manifest, NULL);
    ASSERT(err == ERR_OK);
    producers_free(manifest.producers);
    err = producers_new(&manifest.producers);
    ASSERT(err == ERR_OK);
    err = manifest_encode(&manifest, &bytes);
    ASSERT(err == ERR_OK);
    manifest_fini(&manifest);
    block_unref(snapshot.manifest.block);
    snapshot.manifest = bytes;
    err = snapshot_save(io, "/", &snapshot, NULL);
    ASSERT(err == ERR_OK);
    snapshot_fini(&snapshot);
}

static uint64_t draw(void *arg)
{
    return prng_next(arg);
}

void sim_disk_restart(struct sim_disk *self, bool power_loss)
{
    self->dead = true; /* Whatever still closes a file of the dead process closes none of ours. */
    if (power_loss) {
        mem_io_crash(&self->mem, draw, self->prng);
    } else {
        mem_io_kill(&self->mem);
    }
    self->dead = false;
    self->struck = false;
    self->was_full = self->full;
    self->plan = SIM_DISK_FINE;
    self->ballot_fd = -1;
    memset(self->unsynced, 0, sizeof self->unsynced);
}
