/*
 * A real node of a cluster of three whose other members are never there: it serves reads of what it
 * has, a topic "t" with records and cursors, and nothing that it is asked for changes it. So what
 * it does with an input depends on that input only.
 */
#ifndef QUORLOG_TESTS_FUZZ_FUZZ_NODE_H
#define QUORLOG_TESTS_FUZZ_FUZZ_NODE_H

#include <stdint.h>

/* Starts the node, once; it ends with the process. Its port. */
uint16_t fuzz_node_port(void);

/* Accepts what is to be accepted. */
void fuzz_node_turn(void);

/* Connections that are open. */
unsigned fuzz_node_sockets(void);

#endif
