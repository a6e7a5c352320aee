#include "sim/mem_mappings.h"

#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

#include "base/assert.h"

struct mem_mapping {
    struct mem_mapping *prev;
    struct mem_mapping *next;
    struct mem_node *node;     /* owned reference; NULL: the process that mapped it has died */
    struct mem_region *region; /* owned once node is NULL, else the file's */
    void *address;
    unsigned count; /* Adds not yet removed. */
};

static struct mem_mapping *find(const struct mem_mappings *self, const void *address)
{
    struct mem_mapping *mapping;

    DL_SEARCH_SCALAR(self->list, mapping, address, address);
    return mapping;
}

void mem_mappings_init(struct mem_mappings *self, struct mem_tree *tree)
{
    *self = (struct mem_mappings){.tree = tree};
}

int mem_mappings_add(struct mem_mappings *self, struct mem_node *node, size_t size,
                     void **ret_address)
{
    struct mem_mapping *mapping;
    void *address;

    ASSERT(!node->is_dir && size > 0);
    address = mem_file_map(&node->file, size);
    if (address == NULL) {
        return -ENOMEM;
    }
    mapping = find(self, address);
    if (mapping == NULL) {
        mapping = calloc(1, sizeof *mapping);
        ASSERT(mapping != NULL);
        mapping->node = mem_node_ref(node);
        mapping->region = node->file.region;
        mapping->address = address;
        mem_tree_opened(self->tree, node);
        DL_APPEND(self->list, mapping);
    }
    ASSERT(mapping->node == node);
    mapping->count++;
    mem_tree_update(self->tree, node);
    *ret_address = address;
    return 0;
}

static void orphan(struct mem_mappings *self, struct mem_mapping *mapping)
{
    struct mem_node *node = mapping->node;

    ASSERT(node != NULL && mapping->region == node->file.region);
    mapping->node = NULL;
    mapping->region = mem_file_unmap(&node->file);
    mem_tree_update(self->tree, node);
    mem_tree_closed(self->tree, node);
    mem_tree_unref(self->tree, node);
}

static void free_mapping(struct mem_mappings *self, struct mem_mapping *mapping)
{
    if (mapping->node != NULL) {
        orphan(self, mapping);
    }
    DL_DELETE(self->list, mapping);
    mem_region_free(mapping->region);
    free(mapping);
}

bool mem_mappings_remove(struct mem_mappings *self, const void *address)
{
    struct mem_mapping *mapping = find(self, address);

    if (mapping == NULL) {
        return false;
    }
    ASSERT(mapping->count > 0);
    if (--mapping->count == 0) {
        free_mapping(self, mapping);
    }
    return true;
}

void mem_mappings_orphan(struct mem_mappings *self)
{
    struct mem_mapping *mapping;

    DL_FOREACH(self->list, mapping)
    {
        if (mapping->node != NULL) {
            orphan(self, mapping);
        }
    }
}

void mem_mappings_fini(struct mem_mappings *self)
{
    while (self->list != NULL) {
        free_mapping(self, self->list);
    }
}

unsigned mem_mappings_count(const struct mem_mappings *self)
{
    const struct mem_mapping *mapping;
    unsigned count = 0;

    DL_FOREACH(self->list, mapping)
    {
        count += mapping->count;
    }
    return count;
}
