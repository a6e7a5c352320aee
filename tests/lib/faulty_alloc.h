/*
 * A heap that runs out of memory when it is told to.
 *
 * A program that links this with faulty_alloc_link_args (see meson.build) has its own calls of
 * malloc, calloc, realloc, reallocarray, aligned_alloc, posix_memalign, strdup and strndup pass
 * through here, those of all static libraries of ours included; protobuf-c, which allocates inside
 * its own library, is given an allocator that does; libcrypto, too, once faulty_alloc_begin was
 * called.
 *
 * Between begin and end what is allocated counts, may fail, and is remembered until it is freed:
 * what is left is a leak. One thread.
 */
#ifndef QUORLOG_TESTS_LIB_FAULTY_ALLOC_H
#define QUORLOG_TESTS_LIB_FAULTY_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void faulty_alloc_begin(void);

/* Allocations count from 1 again; the nth (0: none) returns NULL, sticky: and all behind it. */
void faulty_alloc_fail_at(unsigned nth, bool sticky);

/* Nothing counts or fails any more; what is freed is still noticed. */
void faulty_alloc_end(void);

/* Counted since fail_at, or begin, the failed ones included. */
unsigned faulty_alloc_calls(void);

/* Has one failed since begin? */
bool faulty_alloc_failed(void);
/* Where it was, as below. */
size_t faulty_alloc_failed_origin(void);

/* What a test does for itself in between neither counts nor fails. Nests. */
void faulty_alloc_pause(void);
void faulty_alloc_resume(void);

/* Blocks that were allocated since begin and are not free, and where the first of them came from:
 * an address for addr2line, relative to the program. */
size_t faulty_alloc_live(size_t *ret_origin);

/* The process died: frees them all. */
void faulty_alloc_drop(void);

#endif
