/*
 * The first frame of a connection, both ways: what a node says when it dials another, what it takes
 * as an answer, and what it takes from others.
 */
#ifndef QUORLOG_SERVER_HELLO_H
#define QUORLOG_SERVER_HELLO_H

#include <stdint.h>

#include "base/err.h"
#include "server/identity.h"
#include "transport/transport.h"

enum {
    PROTOCOL_VERSION = 1,
    HELLO_FRAME_SIZE_MAX = 4096, /* bytes: limit of frames until the hello was taken */
};

/* As in proto/quorlog.proto. */
enum hello_kind { HELLO_CLIENT = 0, HELLO_NODE = 1, HELLO_PEER = 2 };

/* What a hello said, checked. */
struct hello {
    enum hello_kind kind;
    uint64_t node_id;                  /* CLIENT: 0, or the node that wants to join */
    uint64_t disk_id;                  /* 0: it showed none */
    char address[MEMBER_ADDRESS_SIZE]; /* PEER: where it is reached; "": not told */
    char client[64];
};

/* Says hello as this node to node `to`, which the cluster knows by disk to_disk (0: by none). */
enum err hello_send(const struct identity *identity, struct conn *conn, enum hello_kind kind,
                    uint64_t to, uint64_t to_disk);

/* Says hello as a node that wants to join, and takes the cluster's id from the reply: ERR_OK, the
 * error that the other told, or ERR_PROTOCOL. */
enum err hello_send_joining(const struct identity *identity, struct conn *conn);
enum err hello_take_cluster(const struct frame *frame, char ret_cluster_id[CLUSTER_ID_SIZE],
                            struct err_info *info);

/* Checks what came first on a connection. ERR_PROTOCOL (no hello, not decodable), ERR_VERSION,
 * ERR_WRONG_CLUSTER, ERR_INVALID (meant for another node), ERR_WRONG_DISK (the one who says hello
 * knows this node by another disk: a matter of this node, not of the other), all with text. */
enum err hello_check(const struct identity *identity, const struct frame *frame,
                     struct hello *ret_hello, struct err_info *info);

/* Checks the answer to ours: OK when node `to` took it; the error that it told, or ERR_PROTOCOL. */
enum err hello_check_reply(const struct identity *identity, const struct frame *frame, uint64_t to,
                           uint64_t *ret_disk, struct err_info *info);

#endif
