/*
 * The names of a mem_io: directories and what is in them, now and after a power loss.
 *
 *      entries   a b d                     what a process sees, sorted by name
 *      changes   +b  -c  d:old→new         since the directory was last synced, oldest first
 *
 * A crash keeps a prefix of each directory's changes and undoes the rest from the newest on, as a
 * file system with a journal does. The two halves of a rename share an id and stay or go together,
 * also between two directories.
 *
 * Invariants:
 *   I1  A node is in the tree's dirty list iff it has something that a crash has to decide.
 *   I2  refs counts the entries, changes, open files and mappings that hold the node; at zero it
 *       is freed. links counts the entries alone: at most one.
 *   I3  tree.used is the sum of charged over the files that have a link or are open.
 */
#ifndef QUORLOG_SIM_MEM_TREE_H
#define QUORLOG_SIM_MEM_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/mem_file.h"

enum { MEM_BLOCK = 4096, MEM_NAME_SIZE_MAX = 255 };

struct mem_entry {
    char *name; /* owned */
    struct mem_node *node;
};

struct mem_change {
    char *name;              /* owned */
    struct mem_node *before; /* NULL: the name was free */
    struct mem_node *after;  /* NULL: the name is free now */
    struct mem_node *other;  /* The directory of a rename's other half, when not this one. */
    uint64_t id;             /* The same in both halves of a rename, unique otherwise. */
};

struct mem_dir {
    struct mem_entry *entries;
    size_t count;
    size_t capacity;
    struct mem_change *changes;
    size_t change_count;
    size_t change_capacity;
    size_t kept; /* While a crash is decided: changes that survive it. */
};

struct mem_node {
    struct mem_node *prev; /* In tree.all. */
    struct mem_node *next;
    struct mem_node *dirty_prev; /* In tree.dirty. */
    struct mem_node *dirty_next;
    bool is_dir;
    bool listed; /* In tree.dirty. */
    unsigned refs;
    unsigned links;
    unsigned opens;
    int lock_fd;          /* The open file that holds the lock; -1: none. */
    uint64_t charged;     /* Bytes of space that the file takes, multiple of MEM_BLOCK. */
    struct mem_file file; /* One of the two, by is_dir. */
    struct mem_dir dir;
};

struct mem_tree {
    struct mem_node *root;
    struct mem_node *all;
    struct mem_node *dirty; /* In the order in which they became so. */
    uint64_t used;          /* Bytes. */
    uint64_t last_id;
};

void mem_tree_init(struct mem_tree *self);
void mem_tree_fini(struct mem_tree *self);

/* A file or directory without a name, with one reference, the caller's. */
struct mem_node *mem_tree_new_node(struct mem_tree *self, bool is_dir);
struct mem_node *mem_node_ref(struct mem_node *node);
void mem_tree_unref(struct mem_tree *self, struct mem_node *node);

/* Counts an open of a file in and out, on top of the reference. */
void mem_tree_opened(struct mem_tree *self, struct mem_node *node);
void mem_tree_closed(struct mem_tree *self, struct mem_node *node);

/* Changes the space that a file takes. */
void mem_tree_charge(struct mem_tree *self, struct mem_node *node, uint64_t charged);

/* Looks at what the node's contents need and moves it into or out of the dirty list: I1. */
void mem_tree_update(struct mem_tree *self, struct mem_node *node);

/* The directory that holds path's last component, and that component, which points into path and
 * is *ret_size bytes long; size 0: path is the root. 0, -ENOENT, -ENOTDIR, -ENAMETOOLONG, -EINVAL
 * for "..". */
int mem_tree_parent(struct mem_tree *self, const char *path, struct mem_node **ret_dir,
                    const char **ret_name, size_t *ret_size);

/* The node at path, borrowed. Errors as above. */
int mem_tree_find(struct mem_tree *self, const char *path, struct mem_node **ret_node);

/* The entry's node, NULL when there is none. */
struct mem_node *mem_dir_get(const struct mem_node *dir, const char *name, size_t size);

/* Makes name stand for node (NULL: for nothing) and notes the change under id; other: see struct
 * mem_change. */
void mem_tree_set(struct mem_tree *self, struct mem_node *dir, const char *name, size_t size,
                  struct mem_node *node, uint64_t id, struct mem_node *other);
uint64_t mem_tree_next_id(struct mem_tree *self);

/* All changes of the directory are durable, and with the halves of renames what their other
 * directories hold. */
void mem_tree_sync(struct mem_tree *self, struct mem_node *dir);

/* Power loss. No file is open or mapped. */
void mem_tree_crash(struct mem_tree *self, uint64_t (*random)(void *arg), void *arg);

#endif
