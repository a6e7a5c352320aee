#include "sim/mem_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/assert.h"

static void *must(void *memory)
{
    ASSERT(memory != NULL);
    return memory;
}

/* ---- nodes ---- */

static bool takes_space(const struct mem_node *node)
{
    return node->links > 0 || node->opens > 0;
}

struct mem_node *mem_tree_new_node(struct mem_tree *self, bool is_dir)
{
    struct mem_node *node = must(calloc(1, sizeof *node));

    node->is_dir = is_dir;
    node->refs = 1;
    node->lock_fd = -1;
    mem_file_init(&node->file);
    DL_APPEND2(self->all, node, prev, next);
    return node;
}

struct mem_node *mem_node_ref(struct mem_node *node)
{
    ASSERT(node->refs > 0 && node->refs < UINT32_MAX);
    node->refs++;
    return node;
}

static void set_dirty(struct mem_tree *self, struct mem_node *node, bool dirty)
{
    if (dirty && !node->listed) {
        DL_APPEND2(self->dirty, node, dirty_prev, dirty_next);
    } else if (!dirty && node->listed) {
        DL_DELETE2(self->dirty, node, dirty_prev, dirty_next);
    }
    node->listed = dirty; /* I1 */
}

void mem_tree_update(struct mem_tree *self, struct mem_node *node)
{
    set_dirty(self, node,
              node->is_dir ? node->dir.change_count > 0 : mem_file_is_dirty(&node->file));
}

static void drop_changes(struct mem_tree *self, struct mem_node *node)
{
    struct mem_change *changes = node->dir.changes;
    size_t count = node->dir.change_count;

    node->dir.changes = NULL;
    node->dir.change_count = 0;
    node->dir.change_capacity = 0;
    set_dirty(self, node, false);
    for (size_t i = 0; i < count; i++) {
        free(changes[i].name);
        mem_tree_unref(self, changes[i].before);
        mem_tree_unref(self, changes[i].after);
        mem_tree_unref(self, changes[i].other);
    }
    free(changes);
}

/* Frees what the node itself owns; the nodes that it refers to are not touched. */
static void free_node(struct mem_tree *self, struct mem_node *node)
{
    for (size_t i = 0; i < node->dir.count; i++) {
        free(node->dir.entries[i].name);
    }
    for (size_t i = 0; i < node->dir.change_count; i++) {
        free(node->dir.changes[i].name);
    }
    free(node->dir.entries);
    free(node->dir.changes);
    mem_file_fini(&node->file);
    set_dirty(self, node, false);
    DL_DELETE2(self->all, node, prev, next);
    free(node);
}

static void count_link(struct mem_tree *self, struct mem_node *node, int by)
{
    bool before = takes_space(node);

    ASSERT(by > 0 || node->links > 0);
    node->links = by > 0 ? node->links + 1 : node->links - 1;
    if (before && !takes_space(node)) {
        self->used -= node->charged;
    } else if (!before && takes_space(node)) {
        self->used += node->charged;
    }
}

void mem_tree_unref(struct mem_tree *self, struct mem_node *node)
{
    if (node == NULL) {
        return;
    }
    ASSERT(node->refs > 0);
    if (--node->refs > 0) {
        return;
    }
    ASSERT(node->links == 0 && node->opens == 0);
    node->refs = 1; /* Against cycles through this node while its children go. */
    drop_changes(self, node);
    for (size_t i = 0; i < node->dir.count; i++) {
        count_link(self, node->dir.entries[i].node, -1);
        mem_tree_unref(self, node->dir.entries[i].node);
    }
    free_node(self, node);
}

void mem_tree_opened(struct mem_tree *self, struct mem_node *node)
{
    if (!takes_space(node)) {
        self->used += node->charged; /* I3 */
    }
    node->opens++;
}

void mem_tree_closed(struct mem_tree *self, struct mem_node *node)
{
    ASSERT(node->opens > 0);
    node->opens--;
    if (!takes_space(node)) {
        self->used -= node->charged;
    }
}

void mem_tree_charge(struct mem_tree *self, struct mem_node *node, uint64_t charged)
{
    ASSERT(charged % MEM_BLOCK == 0);
    if (takes_space(node)) {
        self->used = self->used - node->charged + charged;
    }
    node->charged = charged;
}

void mem_tree_init(struct mem_tree *self)
{
    *self = (struct mem_tree){0};
    self->root = mem_tree_new_node(self, true);
}

void mem_tree_fini(struct mem_tree *self)
{
    while (self->all != NULL) {
        free_node(self, self->all);
    }
    *self = (struct mem_tree){0};
}

/* ---- entries ---- */

static int compare(const char *name, const char *other, size_t size)
{
    int order = strncmp(name, other, size);

    return order != 0 ? order : name[size] != '\0';
}

/* Where the name is, or has to be inserted. */
static size_t position_of(const struct mem_dir *dir, const char *name, size_t size, bool *ret_found)
{
    size_t from = 0;
    size_t to = dir->count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = compare(dir->entries[middle].name, name, size);

        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    *ret_found = false;
    return from;
}

struct mem_node *mem_dir_get(const struct mem_node *dir, const char *name, size_t size)
{
    bool found;
    size_t at;

    ASSERT(dir->is_dir);
    at = position_of(&dir->dir, name, size, &found);
    return found ? dir->dir.entries[at].node : NULL;
}

static void put_entry(struct mem_tree *self, struct mem_dir *dir, const char *name, size_t size,
                      struct mem_node *node)
{
    bool found;
    size_t at = position_of(dir, name, size, &found);
    struct mem_node *old = found ? dir->entries[at].node : NULL;

    if (node != NULL) {
        mem_node_ref(node);
    }
    if (old != NULL) {
        count_link(self, old, -1);
    }
    if (found && node != NULL) {
        dir->entries[at].node = node;
    } else if (found) {
        free(dir->entries[at].name);
        dir->count--;
        memmove(dir->entries + at, dir->entries + at + 1, (dir->count - at) * sizeof *dir->entries);
    } else if (node != NULL) {
        if (dir->count == dir->capacity) {
            dir->capacity = dir->capacity == 0 ? 8 : dir->capacity * 2;
            dir->entries = must(realloc(dir->entries, dir->capacity * sizeof *dir->entries));
        }
        memmove(dir->entries + at + 1, dir->entries + at, (dir->count - at) * sizeof *dir->entries);
        dir->entries[at] = (struct mem_entry){must(strndup(name, size)), node};
        dir->count++;
    }
    if (node != NULL) {
        count_link(self, node, 1);
    }
    mem_tree_unref(self, old);
}

uint64_t mem_tree_next_id(struct mem_tree *self)
{
    return ++self->last_id;
}

static struct mem_node *ref_or_null(struct mem_node *node)
{
    return node == NULL ? NULL : mem_node_ref(node);
}

void mem_tree_set(struct mem_tree *self, struct mem_node *node, const char *name, size_t size,
                  struct mem_node *target, uint64_t id, struct mem_node *other)
{
    struct mem_dir *dir = &node->dir;

    ASSERT(node->is_dir && size > 0 && size <= MEM_NAME_SIZE_MAX);
    ASSERT(other != node);
    if (dir->change_count == dir->change_capacity) {
        dir->change_capacity = dir->change_capacity == 0 ? 8 : dir->change_capacity * 2;
        dir->changes = must(realloc(dir->changes, dir->change_capacity * sizeof *dir->changes));
    }
    dir->changes[dir->change_count++] = (struct mem_change){
        .name = must(strndup(name, size)),
        .before = ref_or_null(mem_dir_get(node, name, size)),
        .after = ref_or_null(target),
        .other = ref_or_null(other),
        .id = id,
    };
    mem_tree_update(self, node);
    put_entry(self, dir, name, size, target);
}

/* The next component of *path into name and size; size 0 at the end. */
static int next_component(const char **path, const char **ret_name, size_t *ret_size)
{
    const char *at = *path;
    size_t size;

    do {
        at += strspn(at, "/");
        size = strcspn(at, "/");
        *ret_name = at;
        at += size;
    } while (size == 1 && (*ret_name)[0] == '.');
    *path = at;
    *ret_size = size;
    if (size > MEM_NAME_SIZE_MAX) {
        return -ENAMETOOLONG;
    }
    return size == 2 && strncmp(*ret_name, "..", 2) == 0 ? -EINVAL : 0;
}

int mem_tree_parent(struct mem_tree *self, const char *path, struct mem_node **ret_dir,
                    const char **ret_name, size_t *ret_size)
{
    struct mem_node *dir = self->root;
    const char *name;
    size_t size;
    int rv = next_component(&path, &name, &size);

    while (rv == 0 && size > 0) {
        const char *next;
        size_t next_size;

        rv = next_component(&path, &next, &next_size);
        if (rv < 0 || next_size == 0) {
            break;
        }
        dir = mem_dir_get(dir, name, size);
        if (dir == NULL) {
            return -ENOENT;
        }
        if (!dir->is_dir) {
            return -ENOTDIR;
        }
        name = next;
        size = next_size;
    }
    if (rv < 0) {
        return rv;
    }
    *ret_dir = dir;
    *ret_name = name;
    *ret_size = size;
    return 0;
}

int mem_tree_find(struct mem_tree *self, const char *path, struct mem_node **ret_node)
{
    struct mem_node *node;
    const char *name;
    size_t size;
    int rv = mem_tree_parent(self, path, &node, &name, &size);

    if (rv < 0) {
        return rv;
    }
    node = size == 0 ? self->root : mem_dir_get(node, name, size);
    if (node == NULL) {
        return -ENOENT;
    }
    *ret_node = node;
    return 0;
}

/* ---- what lasts ---- */

void mem_tree_sync(struct mem_tree *self, struct mem_node *node)
{
    struct mem_change *changes = node->dir.changes;
    size_t count = node->dir.change_count;

    ASSERT(node->is_dir);
    /* Detached first: the other halves' directories lead back here. */
    node->dir.changes = NULL;
    node->dir.change_count = 0;
    node->dir.change_capacity = 0;
    set_dirty(self, node, false);
    for (size_t i = 0; i < count; i++) {
        if (changes[i].other != NULL) {
            mem_tree_sync(self, changes[i].other);
        }
        free(changes[i].name);
        mem_tree_unref(self, changes[i].before);
        mem_tree_unref(self, changes[i].after);
        mem_tree_unref(self, changes[i].other);
    }
    free(changes);
}

/* All, none, or any prefix. */
static size_t draw_kept(size_t count, uint64_t bits)
{
    switch (bits % 4) {
    case 0:
        return count;
    case 1:
        return 0;
    default:
        return (size_t)((bits >> 2) % (count + 1));
    }
}

/* Is the other half of this change in the part of its directory that survives? */
static bool other_half_kept(const struct mem_change *change)
{
    const struct mem_dir *dir = &change->other->dir;

    for (size_t i = 0; i < dir->kept; i++) {
        if (dir->changes[i].id == change->id) {
            return true;
        }
    }
    return false;
}

/* Shortens the prefix where it would tear a rename; true when it did. */
static bool mend(struct mem_dir *dir)
{
    size_t kept = dir->kept;

    for (size_t i = 0; i < kept; i++) {
        if (dir->changes[i].other != NULL && !other_half_kept(&dir->changes[i])) {
            kept = i;
        }
    }
    if (kept > 0 && kept < dir->change_count &&
        dir->changes[kept - 1].id == dir->changes[kept].id) {
        kept--;
    }
    if (kept == dir->kept) {
        return false;
    }
    dir->kept = kept;
    return true;
}

static void crash_file(struct mem_tree *self, struct mem_node *node, uint64_t (*random)(void *arg),
                       void *arg)
{
    uint64_t size = node->file.size;
    uint64_t blocks;

    mem_file_crash(&node->file, random, arg);
    blocks = (node->file.size + MEM_BLOCK - 1) / MEM_BLOCK * MEM_BLOCK;
    if (node->file.size > size || node->charged > blocks) {
        mem_tree_charge(self, node, blocks);
    }
    mem_tree_update(self, node);
    ASSERT(!node->listed);
}

void mem_tree_crash(struct mem_tree *self, uint64_t (*random)(void *arg), void *arg)
{
    struct mem_node *node;
    bool mended = true;

    DL_FOREACH2(self->dirty, node, dirty_next)
    {
        if (node->is_dir) {
            node->dir.kept = draw_kept(node->dir.change_count, random(arg));
        }
    }
    while (mended) {
        mended = false;
        DL_FOREACH2(self->dirty, node, dirty_next)
        {
            mended = (node->is_dir && mend(&node->dir)) || mended;
        }
    }
    /* On the way a node may have two entries for a moment; in the end it has one again. */
    DL_FOREACH2(self->dirty, node, dirty_next)
    {
        for (size_t i = node->is_dir ? node->dir.change_count : 0; i > node->dir.kept; i--) {
            struct mem_change *change = &node->dir.changes[i - 1];

            put_entry(self, &node->dir, change->name, strlen(change->name), change->before);
        }
    }
    for (;;) {
        for (node = self->dirty; node != NULL && !node->is_dir; node = node->dirty_next) {
        }
        if (node == NULL) {
            break;
        }
        drop_changes(self, node);
    }
    while (self->dirty != NULL) {
        node = self->dirty;
        crash_file(self, node, random, arg);
    }
}
