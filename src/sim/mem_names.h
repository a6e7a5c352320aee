/*
 * The system calls on names, as the kernel defines them, over a mem_tree. Each returns 0 or a
 * negative errno.
 */
#ifndef QUORLOG_SIM_MEM_NAMES_H
#define QUORLOG_SIM_MEM_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/mem_tree.h"

int mem_names_rename(struct mem_tree *tree, const char *old, const char *new);

/* rmdir (dir) or unlink. */
int mem_names_remove(struct mem_tree *tree, const char *path, bool dir);

int mem_names_make_dir(struct mem_tree *tree, const char *path);
int mem_names_sync_dir(struct mem_tree *tree, const char *path);

/* In order; see struct io. */
int mem_names_list(struct mem_tree *tree, const char *path,
                   int (*each)(void *arg, const char *name), void *arg);

/* All files with their whole paths, in order; each must not change the tree. */
void mem_names_files(struct mem_tree *tree,
                     void (*each)(void *arg, const char *path, uint64_t size), void *arg);

#endif
