/*
 * The memory of libraft, counted: what its driver asked for, it has to give back.
 */
#ifndef QUORLOG_TESTS_SIM_DRIVER_HEAP_H
#define QUORLOG_TESTS_SIM_DRIVER_HEAP_H

#include <stddef.h>

/* From here on libraft's allocations are counted; for good, in this process. */
void heap_count(void);

/* How many are not freed. */
size_t heap_used(void);

#endif
