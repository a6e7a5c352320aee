#include "sim/mem_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"

/* Is dir the node or somewhere below it? */
static bool is_within(const struct mem_node *dir, const struct mem_node *node)
{
    if (dir == node) {
        return true;
    }
    for (size_t i = 0; node->is_dir && i < node->dir.count; i++) {
        if (node->dir.entries[i].node->is_dir && is_within(dir, node->dir.entries[i].node)) {
            return true;
        }
    }
    return false;
}

static int check_rename(const struct mem_node *node, const struct mem_node *target,
                        const struct mem_node *to_dir)
{
    if (node == NULL) {
        return -ENOENT;
    }
    if (node->is_dir && is_within(to_dir, node)) {
        return -EINVAL;
    }
    if (target == NULL || target == node) {
        return 0;
    }
    if (node->is_dir && !target->is_dir) {
        return -ENOTDIR;
    }
    if (!node->is_dir && target->is_dir) {
        return -EISDIR;
    }
    return target->is_dir && target->dir.count > 0 ? -ENOTEMPTY : 0;
}

int mem_names_rename(struct mem_tree *tree, const char *old, const char *new)
{
    struct mem_node *dirs[2];
    struct mem_node *node;
    struct mem_node *target;
    const char *names[2];
    size_t sizes[2];
    uint64_t id;
    int rv = 0;

    for (int i = 0; i < 2 && rv == 0; i++) {
        rv = mem_tree_parent(tree, i == 0 ? old : new, &dirs[i], &names[i], &sizes[i]);
        if (rv == 0 && sizes[i] == 0) {
            rv = -EBUSY; /* the root */
        }
    }
    if (rv < 0) {
        return rv;
    }
    node = mem_dir_get(dirs[0], names[0], sizes[0]);
    target = mem_dir_get(dirs[1], names[1], sizes[1]);
    rv = check_rename(node, target, dirs[1]);
    if (rv < 0 || node == target) {
        return rv;
    }
    id = mem_tree_next_id(tree);
    mem_node_ref(node); /* It is nowhere for a moment. */
    mem_tree_set(tree, dirs[0], names[0], sizes[0], NULL, id, dirs[0] == dirs[1] ? NULL : dirs[1]);
    mem_tree_set(tree, dirs[1], names[1], sizes[1], node, id, dirs[0] == dirs[1] ? NULL : dirs[0]);
    mem_tree_unref(tree, node);
    return 0;
}

int mem_names_remove(struct mem_tree *tree, const char *path, bool dir)
{
    struct mem_node *parent;
    struct mem_node *node;
    const char *name;
    size_t size;
    int rv = mem_tree_parent(tree, path, &parent, &name, &size);

    if (rv < 0) {
        return rv;
    }
    node = size == 0 ? tree->root : mem_dir_get(parent, name, size);
    if (node == NULL) {
        return -ENOENT;
    }
    if (node->is_dir != dir) {
        return dir ? -ENOTDIR : -EISDIR;
    }
    if (size == 0) {
        return -EBUSY;
    }
    if (node->dir.count > 0) {
        return -ENOTEMPTY;
    }
    mem_tree_set(tree, parent, name, size, NULL, mem_tree_next_id(tree), NULL);
    return 0;
}

int mem_names_make_dir(struct mem_tree *tree, const char *path)
{
    struct mem_node *parent;
    struct mem_node *node;
    const char *name;
    size_t size;
    int rv = mem_tree_parent(tree, path, &parent, &name, &size);

    if (rv < 0) {
        return rv;
    }
    if (size == 0 || mem_dir_get(parent, name, size) != NULL) {
        return -EEXIST;
    }
    node = mem_tree_new_node(tree, true);
    mem_tree_set(tree, parent, name, size, node, mem_tree_next_id(tree), NULL);
    mem_tree_unref(tree, node);
    return 0;
}

int mem_names_sync_dir(struct mem_tree *tree, const char *path)
{
    struct mem_node *node;
    int rv = mem_tree_find(tree, path, &node);

    if (rv < 0) {
        return rv;
    }
    if (!node->is_dir) {
        return -ENOTDIR;
    }
    mem_tree_sync(tree, node);
    return 0;
}

int mem_names_list(struct mem_tree *tree, const char *path,
                   int (*each)(void *arg, const char *name), void *arg)
{
    struct mem_node *node;
    char **names;
    size_t count;
    int rv = mem_tree_find(tree, path, &node);

    if (rv < 0) {
        return rv;
    }
    if (!node->is_dir) {
        return -ENOTDIR;
    }
    /* Copied: `each` may remove what it is shown. */
    count = node->dir.count;
    names = calloc(count + 1, sizeof *names);
    ASSERT(names != NULL);
    for (size_t i = 0; i < count; i++) {
        names[i] = strdup(node->dir.entries[i].name);
        ASSERT(names[i] != NULL);
    }
    for (size_t i = 0; i < count && rv == 0; i++) {
        rv = each(arg, names[i]);
    }
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
    return rv;
}

struct walk {
    void (*each)(void *arg, const char *path, uint64_t size);
    void *arg;
    struct buf path;
};

static void walk(struct walk *self, const struct mem_dir *dir)
{
    size_t size = self->path.size;

    for (size_t i = 0; i < dir->count; i++) {
        const struct mem_node *node = dir->entries[i].node;

        ASSERT(buf_printf(&self->path, "/%s", dir->entries[i].name) == ERR_OK);
        if (node->is_dir) {
            walk(self, &node->dir);
        } else {
            ASSERT(buf_append(&self->path, "", 1) == ERR_OK);
            self->each(self->arg, (const char *)self->path.data, node->file.size);
        }
        self->path.size = size;
    }
}

void mem_names_files(struct mem_tree *tree,
                     void (*each)(void *arg, const char *path, uint64_t size), void *arg)
{
    struct walk state = {.each = each, .arg = arg};

    buf_init(&state.path, SIZE_MAX / 2);
    walk(&state, &tree->root->dir);
    buf_fini(&state.path);
}
