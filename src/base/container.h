/*
 * From a member back to the struct that embeds it: how callbacks find their owner.
 */
#ifndef QUORLOG_BASE_CONTAINER_H
#define QUORLOG_BASE_CONTAINER_H

#include <stddef.h>

/* pointer points to the member of a `type`; never NULL. */
#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
