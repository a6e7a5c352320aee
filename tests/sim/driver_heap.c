#include "sim/driver_heap.h"

#include <raft.h>
#include <stdlib.h>

static size_t used;

static void *noted(void *data)
{
    used += data != NULL ? 1 : 0;
    return data;
}

static void *heap_malloc(void *arg, size_t size)
{
    (void)arg;
    return noted(malloc(size));
}

static void *heap_calloc(void *arg, size_t count, size_t size)
{
    (void)arg;
    return noted(calloc(count, size));
}

static void heap_free(void *arg, void *data)
{
    (void)arg;
    used -= data != NULL ? 1 : 0;
    free(data);
}

static void *heap_realloc(void *arg, void *data, size_t size)
{
    (void)arg;
    return data == NULL ? noted(malloc(size)) : realloc(data, size);
}

static void *heap_aligned_alloc(void *arg, size_t alignment, size_t size)
{
    (void)arg;
    return noted(aligned_alloc(alignment, size));
}

static void heap_aligned_free(void *arg, size_t alignment, void *data)
{
    (void)alignment;
    heap_free(arg, data);
}

void heap_count(void)
{
    static struct raft_heap heap = {
        .malloc = heap_malloc,
        .free = heap_free,
        .calloc = heap_calloc,
        .realloc = heap_realloc,
        .aligned_alloc = heap_aligned_alloc,
        .aligned_free = heap_aligned_free,
    };

    raft_heap_set(&heap);
}

size_t heap_used(void)
{
    return used;
}
