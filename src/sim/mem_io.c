#include "sim/mem_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/mem_names.h"

enum { SLOT_BITS = 16, SLOTS_MAX = 1 << SLOT_BITS, GENERATIONS = 1 << 14 };

struct mem_io_open_file {
    struct mem_node *node; /* owned reference; NULL: the slot is free */
    char *path;            /* owned */
    int flags;
    int generation; /* Part of the fd, so that a stale one is not taken for its successor. */
    int next_free;
};

static struct mem_io *from(struct io *io)
{
    _Static_assert(offsetof(struct mem_io, io) == 0, "the table is the first member");
    return (struct mem_io *)io;
}

static void *must(void *memory)
{
    ASSERT(memory != NULL);
    return memory;
}

static uint64_t round_up(uint64_t size, uint64_t unit)
{
    return (size + unit - 1) / unit * unit;
}

/* Asks the hook; returns a negative errno when the operation has to fail. */
static int ask(struct mem_io *self, struct mem_io_op *op)
{
    int number = self->hook == NULL ? 0 : self->hook(self->hook_arg, op);

    ASSERT(number >= 0);
    return -number;
}

static int ask_path(struct mem_io *self, enum mem_io_kind kind, const char *path)
{
    return ask(self, &(struct mem_io_op){.kind = kind, .path = path});
}

/* ---- open files ---- */

static struct mem_io_open_file *file_of(struct mem_io *self, int fd)
{
    size_t slot = (size_t)fd % SLOTS_MAX;
    struct mem_io_open_file *file;

    if (fd < 0 || slot >= self->file_count) {
        return NULL;
    }
    file = &self->files[slot];
    return file->node != NULL && file->generation == fd >> SLOT_BITS ? file : NULL;
}

static bool can_read(const struct mem_io_open_file *file)
{
    return (file->flags & O_ACCMODE) != O_WRONLY;
}

static bool can_write(const struct mem_io_open_file *file)
{
    return (file->flags & O_ACCMODE) != O_RDONLY;
}

/* The file behind fd, after the hook agreed. *ret_rv says why there is none. */
static struct mem_io_open_file *begin(struct mem_io *self, int fd, struct mem_io_op *op,
                                      int *ret_rv)
{
    struct mem_io_open_file *file = file_of(self, fd);

    op->path = file == NULL ? "" : file->path;
    *ret_rv = ask(self, op);
    if (*ret_rv == 0 && file == NULL) {
        *ret_rv = -EBADF;
    }
    return file;
}

static int add_file(struct mem_io *self, struct mem_node *node, const char *path, int flags)
{
    struct mem_io_open_file *file;
    int slot = self->free_slot;

    if (slot < 0) {
        if (self->file_count == SLOTS_MAX) {
            return -EMFILE;
        }
        slot = (int)self->file_count;
        self->files = must(realloc(self->files, (self->file_count + 1) * sizeof *self->files));
        self->file_count++;
        self->files[slot] = (struct mem_io_open_file){.next_free = -1};
    }
    file = &self->files[slot];
    self->free_slot = file->next_free;
    file->node = mem_node_ref(node);
    file->path = must(strdup(path));
    file->flags = flags;
    mem_tree_opened(&self->tree, node);
    self->open_count++;
    return file->generation << SLOT_BITS | slot;
}

static void remove_file(struct mem_io *self, struct mem_io_open_file *file)
{
    int slot = (int)(file - self->files);
    struct mem_node *node = file->node;

    ASSERT(node != NULL && self->open_count > 0);
    if (node->lock_fd == (file->generation << SLOT_BITS | slot)) {
        node->lock_fd = -1;
    }
    file->node = NULL;
    free(file->path);
    file->path = NULL;
    file->generation = (file->generation + 1) % GENERATIONS;
    file->next_free = self->free_slot;
    self->free_slot = slot;
    self->open_count--;
    mem_tree_closed(&self->tree, node);
    mem_tree_unref(&self->tree, node);
}

static void truncate_node(struct mem_io *self, struct mem_node *node, uint64_t size)
{
    uint64_t blocks = round_up(size, MEM_BLOCK);

    if (node->charged > blocks) {
        mem_tree_charge(&self->tree, node, blocks);
    }
    mem_tree_update(&self->tree, node);
}

static int check_open(const struct mem_node *node, int flags)
{
    if (node->is_dir) {
        return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0 ? -EISDIR : 0;
    }
    return (flags & O_DIRECTORY) != 0 ? -ENOTDIR : 0;
}

static int mem_open(struct io *io, const char *path, int flags, mode_t mode)
{
    const int known = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_DIRECT | O_SYNC | O_DSYNC |
                      O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW;
    struct mem_io *self = from(io);
    int rv = ask(self, &(struct mem_io_op){.kind = MEM_IO_OPEN, .path = path, .flags = flags});
    struct mem_node *dir;
    struct mem_node *node;
    const char *name;
    size_t size;

    (void)mode; /* No permissions. */
    ASSERT((flags & ~known) == 0 && (flags & O_ACCMODE) != O_ACCMODE);
    if (rv == 0) {
        rv = mem_tree_parent(&self->tree, path, &dir, &name, &size);
    }
    if (rv < 0) {
        return rv;
    }
    node = size == 0 ? dir : mem_dir_get(dir, name, size);
    if (node == NULL && (flags & O_CREAT) == 0) {
        return -ENOENT;
    }
    if (node == NULL) {
        node = mem_tree_new_node(&self->tree, false);
        mem_tree_set(&self->tree, dir, name, size, node, mem_tree_next_id(&self->tree), NULL);
        rv = add_file(self, node, path, flags);
        mem_tree_unref(&self->tree, node);
        return rv;
    }
    if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) {
        return -EEXIST;
    }
    rv = check_open(node, flags);
    if (rv < 0) {
        return rv;
    }
    rv = add_file(self, node, path, flags);
    if (rv >= 0 && (flags & O_TRUNC) != 0) {
        ASSERT((flags & O_ACCMODE) != O_RDONLY); /* Not specified by POSIX. */
        ASSERT(mem_file_resize(&node->file, 0));
        truncate_node(self, node, 0);
    }
    return rv;
}

static int mem_close(struct io *io, int fd)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_CLOSE};
    struct mem_io_open_file *file;
    int rv;

    file = begin(self, fd, &op, &rv);
    if (file != NULL) {
        remove_file(self, file);
    }
    return rv;
}

/* ---- contents ---- */

static bool is_aligned(uint64_t number)
{
    return number % MEM_FILE_SECTOR == 0;
}

static ssize_t mem_pread(struct io *io, int fd, void *data, size_t size, uint64_t position)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_PREAD, .position = position, .size = size};
    struct mem_io_open_file *file;
    int rv;

    file = begin(self, fd, &op, &rv);
    if (rv < 0) {
        return rv;
    }
    if (file->node->is_dir) {
        return -EISDIR;
    }
    if (!can_read(file)) {
        return -EBADF;
    }
    if (position > INT64_MAX || size > SSIZE_MAX) {
        return -EINVAL;
    }
    if ((file->flags & O_DIRECT) != 0 &&
        !(is_aligned(position) && is_aligned(size) && is_aligned((uintptr_t)data))) {
        return -EINVAL;
    }
    return (ssize_t)mem_file_read(&file->node->file, data, size, position);
}

/* Checks as the kernel does, and adds up the sizes. */
static int check_write(const struct mem_io_open_file *file, const struct iovec *parts, int count,
                       uint64_t position, uint64_t *ret_total)
{
    bool aligned = is_aligned(position);
    uint64_t total = 0;

    if (!can_write(file)) {
        return -EBADF;
    }
    if (count < 0 || count > IOV_MAX) {
        return -EINVAL;
    }
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > SSIZE_MAX - total) {
            return -EINVAL;
        }
        total += parts[i].iov_len;
        aligned =
            aligned && is_aligned(parts[i].iov_len) && is_aligned((uintptr_t)parts[i].iov_base);
    }
    if (position > (uint64_t)INT64_MAX - total) {
        return -EINVAL;
    }
    if ((file->flags & O_DIRECT) != 0 && !aligned) {
        return -EINVAL;
    }
    *ret_total = total;
    return 0;
}

/* Of [position, position + size), how many bytes fit on the disk; takes the space for them. */
static uint64_t take_space(struct mem_io *self, struct mem_node *node, uint64_t position,
                           uint64_t size)
{
    uint64_t used = self->tree.used;
    uint64_t free_size = self->limit > used ? self->limit - used : 0;
    uint64_t end = round_up(position + size, MEM_BLOCK);
    uint64_t reach = node->charged;

    if (end <= reach) {
        return size;
    }
    if (end - reach > free_size) {
        end = reach + free_size / MEM_BLOCK * MEM_BLOCK;
        if (end <= position) {
            return 0;
        }
        size = end - position < size ? end - position : size;
    }
    mem_tree_charge(&self->tree, node, end);
    return size;
}

static ssize_t write_parts(struct mem_io *self, struct mem_node *node, const struct iovec *parts,
                           uint64_t size, uint64_t position, bool durable)
{
    uint64_t done = 0;

    for (size_t i = 0; done < size; i++) {
        uint64_t piece = parts[i].iov_len < size - done ? parts[i].iov_len : size - done;

        if (!mem_file_write(&node->file, parts[i].iov_base, piece, position + done, durable)) {
            break;
        }
        done += piece;
    }
    mem_tree_update(&self->tree, node);
    return done < size && done == 0 ? -EFBIG : (ssize_t)done;
}

static ssize_t mem_pwritev(struct io *io, int fd, const struct iovec *parts, int count,
                           uint64_t position, int rwf_flags)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_PWRITEV, .position = position};
    struct mem_io_open_file *file = file_of(self, fd);
    uint64_t fitting;
    bool durable;
    int rv;

    ASSERT((rwf_flags & ~RWF_DSYNC) == 0);
    if (file != NULL) {
        rv = check_write(file, parts, count, position, &op.size);
        if (rv < 0) {
            return rv;
        }
    }
    file = begin(self, fd, &op, &rv);
    if (file == NULL) {
        return rv;
    }
    ASSERT(op.partial <= op.size);
    fitting = take_space(self, file->node, position, rv < 0 ? op.partial : op.size);
    durable = (rwf_flags & RWF_DSYNC) != 0 || (file->flags & O_DSYNC) != 0;
    if (rv < 0) {
        (void)write_parts(self, file->node, parts, fitting, position, false); /* It failed. */
        if (durable && fitting > 0) {
            mem_file_sync_failed(&file->node->file); /* It came as far as the sync. */
        }
        return rv;
    }
    if (fitting == 0 && op.size > 0) {
        return -ENOSPC;
    }
    return write_parts(self, file->node, parts, fitting, position, durable);
}

static int mem_fdatasync(struct io *io, int fd)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_FDATASYNC};
    struct mem_io_open_file *file;
    int rv;

    file = begin(self, fd, &op, &rv);
    if (file == NULL) {
        return rv;
    }
    if (file->node->is_dir) {
        if (rv == 0) {
            mem_tree_sync(&self->tree, file->node);
        }
        return rv;
    }
    if (rv < 0) {
        mem_file_sync_failed(&file->node->file);
        return rv;
    }
    mem_file_sync(&file->node->file);
    mem_tree_update(&self->tree, file->node);
    return 0;
}

static int mem_write_back(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_WRITE_BACK, .position = position, .size = size};
    int rv;

    (void)begin(self, fd, &op, &rv); /* It promises nothing, so there is nothing to do. */
    return rv;
}

static int mem_truncate(struct io *io, int fd, uint64_t size)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_TRUNCATE, .size = size};
    struct mem_io_open_file *file;
    int rv;

    file = begin(self, fd, &op, &rv);
    if (rv < 0) {
        return rv;
    }
    if (!can_write(file) || size > INT64_MAX) {
        return -EINVAL;
    }
    if (!mem_file_resize(&file->node->file, size)) {
        return -EFBIG;
    }
    truncate_node(self, file->node, size);
    return 0;
}

/* Space for [position, position + size), all or nothing; and the size, where it may grow. */
static int make_space(struct io *io, int fd, struct mem_io_op *op)
{
    struct mem_io *self = from(io);
    uint64_t end = op->position + op->size;
    struct mem_io_open_file *file;
    uint64_t charged;
    int rv;

    file = begin(self, fd, op, &rv);
    if (rv < 0) {
        return rv;
    }
    if (!can_write(file)) {
        return -EBADF;
    }
    if (op->size == 0 || op->position > INT64_MAX || op->size > INT64_MAX - op->position) {
        return -EINVAL;
    }
    charged = file->node->charged;
    rv = take_space(self, file->node, op->position, op->size) < op->size ? -ENOSPC : 0;
    if (rv == 0 && op->kind == MEM_IO_ALLOCATE && end > file->node->file.size &&
        !mem_file_resize(&file->node->file, end)) {
        rv = -EFBIG;
    }
    if (rv < 0) {
        mem_tree_charge(&self->tree, file->node, charged);
        return rv;
    }
    mem_tree_update(&self->tree, file->node);
    return 0;
}

static int mem_allocate(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct mem_io_op op = {.kind = MEM_IO_ALLOCATE, .position = position, .size = size};

    return make_space(io, fd, &op);
}

static int mem_reserve(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct mem_io_op op = {.kind = MEM_IO_RESERVE, .position = position, .size = size};

    return make_space(io, fd, &op);
}

static int mem_advise(struct io *io, int fd)
{
    struct mem_io_op op = {.kind = MEM_IO_ADVISE};
    int rv;

    (void)begin(from(io), fd, &op, &rv); /* It promises nothing, either. */
    return rv;
}

static int mem_size(struct io *io, int fd, uint64_t *ret_size)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_SIZE};
    struct mem_io_open_file *file;
    int rv;

    file = begin(self, fd, &op, &rv);
    if (rv < 0) {
        return rv;
    }
    *ret_size = file->node->file.size;
    return 0;
}

static int mem_map(struct io *io, int fd, size_t size, bool writable, void **ret_address)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_MAP, .size = size};
    struct mem_io_open_file *file;
    int rv;

    file = begin(self, fd, &op, &rv);
    if (rv < 0) {
        return rv;
    }
    if (size == 0) {
        return -EINVAL;
    }
    if (!can_read(file) || (writable && !can_write(file))) {
        return -EACCES;
    }
    if (file->node->is_dir) {
        return -ENODEV;
    }
    return mem_mappings_add(&self->mappings, file->node, size, ret_address);
}

static int mem_unmap(struct io *io, void *address, size_t size)
{
    struct mem_io *self = from(io);
    int rv = ask(self, &(struct mem_io_op){.kind = MEM_IO_UNMAP, .path = "", .size = size});
    bool found = size > 0 && mem_mappings_remove(&self->mappings, address);

    return rv < 0 || found ? rv : -EINVAL;
}

/* ---- names ---- */

static int mem_rename(struct io *io, const char *old, const char *new)
{
    struct mem_io *self = from(io);
    int rv = ask_path(self, MEM_IO_RENAME, old);

    return rv < 0 ? rv : mem_names_rename(&self->tree, old, new);
}

static int mem_unlink(struct io *io, const char *path)
{
    struct mem_io *self = from(io);
    int rv = ask_path(self, MEM_IO_UNLINK, path);

    return rv < 0 ? rv : mem_names_remove(&self->tree, path, false);
}

static int mem_rmdir(struct io *io, const char *path)
{
    struct mem_io *self = from(io);
    int rv = ask_path(self, MEM_IO_RMDIR, path);

    return rv < 0 ? rv : mem_names_remove(&self->tree, path, true);
}

static int mem_mkdir(struct io *io, const char *path, mode_t mode)
{
    struct mem_io *self = from(io);
    int rv = ask_path(self, MEM_IO_MKDIR, path);

    (void)mode; /* No permissions. */
    return rv < 0 ? rv : mem_names_make_dir(&self->tree, path);
}

static int mem_sync_dir(struct io *io, const char *path)
{
    struct mem_io *self = from(io);
    int rv = ask_path(self, MEM_IO_SYNC_DIR, path);

    return rv < 0 ? rv : mem_names_sync_dir(&self->tree, path);
}

static int mem_list(struct io *io, const char *path, int (*each)(void *arg, const char *name),
                    void *arg)
{
    struct mem_io *self = from(io);
    int rv = ask_path(self, MEM_IO_LIST, path);

    return rv < 0 ? rv : mem_names_list(&self->tree, path, each, arg);
}

static int mem_lock(struct io *io, int fd)
{
    struct mem_io *self = from(io);
    struct mem_io_op op = {.kind = MEM_IO_LOCK};
    struct mem_io_open_file *file;
    int rv;

    file = begin(self, fd, &op, &rv);
    if (rv < 0) {
        return rv;
    }
    if (file->node->lock_fd >= 0 && file->node->lock_fd != fd) {
        return -EWOULDBLOCK;
    }
    file->node->lock_fd = fd;
    return 0;
}

static int mem_free_space(struct io *io, const char *path, uint64_t *ret_size, uint64_t *ret_total)
{
    struct mem_io *self = from(io);
    int rv = ask_path(self, MEM_IO_FREE_SPACE, path);
    struct mem_node *node;

    if (rv == 0) {
        rv = mem_tree_find(&self->tree, path, &node);
    }
    if (rv < 0) {
        return rv;
    }
    *ret_size = self->limit > self->tree.used ? self->limit - self->tree.used : 0;
    *ret_total = self->limit;
    return 0;
}

/* ---- the disk ---- */

void mem_io_init(struct mem_io *self)
{
    *self = (struct mem_io){
        .io =
            {
                .open = mem_open,
                .close = mem_close,
                .pread = mem_pread,
                .pread_forward = mem_pread,
                .pwritev = mem_pwritev,
                .fdatasync = mem_fdatasync,
                .write_back = mem_write_back,
                .truncate = mem_truncate,
                .allocate = mem_allocate,
                .reserve = mem_reserve,
                .advise_random = mem_advise,
                .size = mem_size,
                .map = mem_map,
                .unmap = mem_unmap,
                .rename = mem_rename,
                .unlink = mem_unlink,
                .mkdir = mem_mkdir,
                .rmdir = mem_rmdir,
                .sync_dir = mem_sync_dir,
                .list = mem_list,
                .lock = mem_lock,
                .free_space = mem_free_space,
            },
        .free_slot = -1,
        .limit = UINT64_C(1) << 40,
    };
    mem_tree_init(&self->tree);
    mem_mappings_init(&self->mappings, &self->tree);
}

void mem_io_fini(struct mem_io *self)
{
    mem_io_kill(self);
    mem_mappings_fini(&self->mappings);
    free(self->files);
    mem_tree_fini(&self->tree);
    *self = (struct mem_io){.free_slot = -1};
}

void mem_io_set_hook(struct mem_io *self, mem_io_hook_cb hook, void *arg)
{
    self->hook = hook;
    self->hook_arg = arg;
}

void mem_io_kill(struct mem_io *self)
{
    for (size_t i = 0; i < self->file_count; i++) {
        if (self->files[i].node != NULL) {
            remove_file(self, &self->files[i]);
        }
    }
    mem_mappings_orphan(&self->mappings);
    ASSERT(self->open_count == 0);
}

void mem_io_crash(struct mem_io *self, uint64_t (*random)(void *arg), void *arg)
{
    mem_io_kill(self);
    mem_tree_crash(&self->tree, random, arg);
    ASSERT(!mem_io_is_dirty(self));
}

int mem_io_flip(struct mem_io *self, const char *path, uint64_t position, unsigned bit)
{
    struct mem_node *node;
    int rv = mem_tree_find(&self->tree, path, &node);

    if (rv < 0) {
        return rv;
    }
    if (node->is_dir) {
        return -EISDIR;
    }
    if (position >= node->file.size || bit > 7) {
        return -EINVAL;
    }
    mem_file_flip(&node->file, position, bit);
    return 0;
}

void mem_io_set_free(struct mem_io *self, uint64_t bytes)
{
    self->limit = bytes > UINT64_MAX - self->tree.used ? UINT64_MAX : self->tree.used + bytes;
}

void mem_io_files(struct mem_io *self, void (*each)(void *arg, const char *path, uint64_t size),
                  void *arg)
{
    mem_names_files(&self->tree, each, arg);
}

unsigned mem_io_open_count(const struct mem_io *self)
{
    return self->open_count;
}

unsigned mem_io_mapped_count(const struct mem_io *self)
{
    return mem_mappings_count(&self->mappings);
}

bool mem_io_is_dirty(const struct mem_io *self)
{
    return self->tree.dirty != NULL;
}
