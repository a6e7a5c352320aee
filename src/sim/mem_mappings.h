/*
 * What is mapped of a mem_io's files, and by processes that have died since.
 *
 * A file that is mapped several times has one stretch of memory and one address. When its process
 * dies, the file goes on without the memory, which stays until it is unmapped or all is freed.
 */
#ifndef QUORLOG_SIM_MEM_MAPPINGS_H
#define QUORLOG_SIM_MEM_MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "sim/mem_tree.h"

struct mem_mapping;

struct mem_mappings {
    struct mem_mapping *list; /* owned */
    struct mem_tree *tree;    /* borrowed; outlives this */
};

void mem_mappings_init(struct mem_mappings *self, struct mem_tree *tree);

/* Unmaps and frees all. */
void mem_mappings_fini(struct mem_mappings *self);

/* Maps [0, size) of a file. 0, or -ENOMEM when that is more than a mapped file may have. */
int mem_mappings_add(struct mem_mappings *self, struct mem_node *node, size_t size,
                     void **ret_address);

/* Undoes one mem_mappings_add; false when nothing is mapped there. */
bool mem_mappings_remove(struct mem_mappings *self, const void *address);

/* The process dies: the memory is no longer the files'. */
void mem_mappings_orphan(struct mem_mappings *self);

/* How many were added and not removed. */
unsigned mem_mappings_count(const struct mem_mappings *self);

#endif
