/*
 * The network between the nodes of a cluster, as the link proxy makes it: every node has an address
 * here, what connects to it is passed on to where the node really listens, and between each two
 * nodes each direction has a condition of its own.
 *
 * Who dialled is learned from the first frame, HELLO. The bytes of a connection that node A dialled
 * to node B go both ways: what A sends is in lane A → B, what B answers in lane B → A. So a
 * condition of lane A → B holds for everything that A tells B, whoever dialled. Whoever says no
 * HELLO, or is no node, is client 0.
 *
 * Happy path: on_accepted; on_hello_read until a frame is whole; identify makes the two pipes; the
 * first byte that is due makes on_wanted dial; on_connected; both pipes work; their ends are passed
 * on; crossing_close.
 *
 * Failure modes: no frame in HELLO_MS, or what came cannot be taken: reset. The node cannot be
 * reached: that end comes back through the lane from the node, as its kernel's reset would.
 *
 *      HELLO ---------> IDLE -------> CONNECTING ------> OPEN
 *        |   identify    |   dial         |  on_connected  |
 *        +---------------+----------------+----------------+----> CLOSING   crossing_close; freed
 * in on_handle_closed
 */
#ifndef QUORLOG_TESTS_NEMESIS_NETWORK_H
#define QUORLOG_TESTS_NEMESIS_NETWORK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <uv.h>

#include "base/err.h"
#include "nemesis/pipe.h"

enum { NETWORK_ANY = -1, NETWORK_CLIENTS = 0 };

struct network;

/* All randomness comes from seed. NULL: no memory. */
struct network *network_new(uv_loop_t *loop, uint64_t seed);

/* Node `id` is reached at `listen` from now on, and is really at `target` ("IP:port" both).
 * ERR_EXISTS (the id, the address), ERR_INVALID, ERR_IO, ERR_NOMEM. */
enum err network_add(struct network *self, uint64_t id, const char *listen, const char *target,
                     struct err_info *info);

/* It is really at `target` from now on; connections that there are stay. ERR_NOT_FOUND,
 * ERR_INVALID. */
enum err network_move(struct network *self, uint64_t id, const char *target, struct err_info *info);

/* Its connections are reset, its address is free. ERR_NOT_FOUND. */
enum err network_remove(struct network *self, uint64_t id, struct err_info *info);

/* Changes the condition of a lane; NETWORK_ANY stands for all nodes. `change` gets each condition
 * in turn. ERR_NOMEM. */
enum err network_change(struct network *self, int64_t from, int64_t to,
                        void (*change)(struct lane_condition *condition, const void *arg),
                        const void *arg);

/* Resets all connections between the two, whoever dialled; of what was to be sent nothing comes. */
void network_cut(struct network *self, int64_t one, int64_t other);

/* One line of JSON: connections, and for each lane its bytes. */
void network_print(const struct network *self, FILE *file);

#endif
