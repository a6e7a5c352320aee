#include "server/hello.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "server/header.h"

#ifndef QUORLOG_VERSION
#error "QUORLOG_VERSION comes from the build"
#endif

/* What all hellos of this node say. */
static enum err send_hello(const struct identity *identity, struct conn *conn,
                           Quorlog__Hello *hello)
{
    uint8_t header[1024];
    char client[] = "quorlog " QUORLOG_VERSION;
    struct frame_out frame = {.type = QUORLOG__FRAME_TYPE__FRAME_HELLO, .header = header};

    hello->protocol_version = PROTOCOL_VERSION;
    hello->node_id = identity->node_id;
    hello->disk_id = identity->disk_id;
    hello->client = client;
    ASSERT(quorlog__hello__get_packed_size(hello) <= sizeof header);
    frame.header_size = quorlog__hello__pack(hello, header);
    return conn_send(conn, &frame, true);
}

enum err hello_send_joining(const struct identity *identity, struct conn *conn)
{
    Quorlog__Hello hello = QUORLOG__HELLO__INIT;

    ASSERT(identity->disk_id != 0);
    return send_hello(identity, conn, &hello);
}

enum err hello_send(const struct identity *identity, struct conn *conn, enum hello_kind kind,
                    uint64_t to, uint64_t to_disk)
{
    char cluster_id[CLUSTER_ID_SIZE];
    char address[MEMBER_ADDRESS_SIZE];
    Quorlog__Hello hello = QUORLOG__HELLO__INIT;

    ASSERT(kind == HELLO_NODE || kind == HELLO_PEER);
    memcpy(cluster_id, identity->cluster_id, sizeof cluster_id);
    memcpy(address, identity->address, sizeof address);
    hello.kind = (Quorlog__ConnectionKind)kind;
    hello.cluster_id = cluster_id;
    hello.to_node_id = to;
    if (kind == HELLO_PEER) {
        hello.to_disk_id = to_disk;
        hello.address = address;
    }
    return send_hello(identity, conn, &hello);
}

static enum err check_fields(const struct identity *identity, const Quorlog__Hello *hello,
                             struct err_info *info)
{
    bool client = hello->kind == QUORLOG__CONNECTION_KIND__CONNECTION_CLIENT;

    if (hello->protocol_version != PROTOCOL_VERSION) {
        return err_set(info, ERR_VERSION,
                       "protocol version %u is not spoken here, but version %d: use a client or "
                       "node that fits",
                       hello->protocol_version, PROTOCOL_VERSION);
    }
    if (hello->kind != QUORLOG__CONNECTION_KIND__CONNECTION_CLIENT &&
        hello->kind != QUORLOG__CONNECTION_KIND__CONNECTION_NODE &&
        hello->kind != QUORLOG__CONNECTION_KIND__CONNECTION_PEER) {
        return err_set(info, ERR_PROTOCOL, "unknown kind of connection: %d", (int)hello->kind);
    }
    if (strlen(hello->cluster_id) >= CLUSTER_ID_SIZE) {
        return err_set(info, ERR_WRONG_CLUSTER,
                       "this is node %" PRIu64 " of cluster %s, not of one with an id of %zu bytes",
                       identity->node_id, identity->cluster_id, strlen(hello->cluster_id));
    }
    if ((!client || hello->cluster_id[0] != '\0') &&
        strcmp(hello->cluster_id, identity->cluster_id) != 0) {
        return err_set(info, ERR_WRONG_CLUSTER,
                       "this is node %" PRIu64 " of cluster %s, not of '%s'", identity->node_id,
                       identity->cluster_id, hello->cluster_id);
    }
    if (!client && hello->to_node_id != identity->node_id) {
        return err_set(info, ERR_INVALID,
                       "this is node %" PRIu64 ", not %" PRIu64
                       ": the address of one of the two is wrong",
                       identity->node_id, (uint64_t)hello->to_node_id);
    }
    if (!client && (hello->node_id == 0 || hello->node_id == identity->node_id)) {
        return err_set(info, ERR_INVALID, "a node with the number %" PRIu64 " cannot connect here",
                       (uint64_t)hello->node_id);
    }
    if (!client && hello->disk_id == 0) {
        return err_set(info, ERR_PROTOCOL, "node %" PRIu64 " does not show the id of its disk",
                       (uint64_t)hello->node_id);
    }
    if (!client && hello->to_disk_id != 0 && identity->disk_id != 0 &&
        hello->to_disk_id != identity->disk_id) {
        return err_set(info, ERR_WRONG_DISK,
                       "the cluster knows node %" PRIu64 " by another disk than this one",
                       identity->node_id);
    }
    if (strlen(hello->address) >= MEMBER_ADDRESS_SIZE) {
        return err_set(info, ERR_INVALID, "an address of %zu bytes", strlen(hello->address));
    }
    return ERR_OK;
}

enum err hello_check(const struct identity *identity, const struct frame *frame,
                     struct hello *ret_hello, struct err_info *info)
{
    Quorlog__Hello *hello;
    enum err err;

    if (frame->type != QUORLOG__FRAME_TYPE__FRAME_HELLO) {
        return err_set(info, ERR_PROTOCOL,
                       "the first frame of a connection must be HELLO, this was of type %u",
                       frame->type);
    }
    err = header_check(&quorlog__hello__descriptor, frame->header, frame->header_size, info);
    if (err != ERR_OK) {
        (void)err_prefix(info, err, "the header of the HELLO frame");
        return ERR_PROTOCOL;
    }
    hello = quorlog__hello__unpack(NULL, frame->header_size, frame->header);
    if (hello == NULL) {
        return err_set(info, ERR_PROTOCOL, "the header of the HELLO frame cannot be decoded");
    }
    err = check_fields(identity, hello, info);
    if (err == ERR_OK) {
        ret_hello->kind = (enum hello_kind)hello->kind;
        ret_hello->node_id = hello->node_id;
        ret_hello->disk_id = hello->disk_id;
        (void)snprintf(ret_hello->address, sizeof ret_hello->address, "%s", hello->address);
        (void)snprintf(ret_hello->client, sizeof ret_hello->client, "%s", hello->client);
    }
    quorlog__hello__free_unpacked(hello, NULL);
    return err;
}

/* The node told why it refuses. */
static enum err refused(const struct frame *frame, uint64_t to, struct err_info *info)
{
    Quorlog__Error *error = quorlog__error__unpack(NULL, frame->header_size, frame->header);
    enum err err = ERR_PROTOCOL;

    if (error == NULL) {
        return err_set(info, ERR_PROTOCOL, "node %" PRIu64 " sent an error that cannot be decoded",
                       to);
    }
    if (!err_from_number(error->code, &err) || err == ERR_OK) {
        err = ERR_PROTOCOL;
    }
    (void)err_set(info, err, "node %" PRIu64 " refused: %.480s",
                  to != 0 ? to : (uint64_t)error->node_id, error->text);
    quorlog__error__free_unpacked(error, NULL);
    return err;
}

enum err hello_take_cluster(const struct frame *frame, char ret_cluster_id[CLUSTER_ID_SIZE],
                            struct err_info *info)
{
    Quorlog__HelloReply *reply;
    enum err err = ERR_OK;

    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_ERROR) {
        return refused(frame, 0, info);
    }
    reply = frame->type == QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY
                ? quorlog__hello_reply__unpack(NULL, frame->header_size, frame->header)
                : NULL;
    if (reply == NULL) {
        return err_set(info, ERR_PROTOCOL, "no answer to the hello");
    }
    if (strlen(reply->cluster_id) != CLUSTER_ID_SIZE - 1) {
        /* It joins itself, or is no node of a cluster. */
        err = err_set(info, ERR_PROTOCOL, "the node that answered knows no cluster");
    } else {
        memcpy(ret_cluster_id, reply->cluster_id, CLUSTER_ID_SIZE);
    }
    quorlog__hello_reply__free_unpacked(reply, NULL);
    return err;
}

enum err hello_check_reply(const struct identity *identity, const struct frame *frame, uint64_t to,
                           uint64_t *ret_disk, struct err_info *info)
{
    Quorlog__HelloReply *reply;
    enum err err = ERR_OK;

    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_ERROR) {
        return refused(frame, to, info);
    }
    reply = frame->type == QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY
                ? quorlog__hello_reply__unpack(NULL, frame->header_size, frame->header)
                : NULL;
    if (reply == NULL) {
        return err_set(info, ERR_PROTOCOL, "node %" PRIu64 " did not answer the hello", to);
    }
    if (reply->protocol_version != PROTOCOL_VERSION) {
        err = err_set(info, ERR_VERSION, "node %" PRIu64 " speaks protocol version %u", to,
                      reply->protocol_version);
    } else if (strcmp(reply->cluster_id, identity->cluster_id) != 0 || reply->node_id != to) {
        err = err_set(info, ERR_WRONG_CLUSTER,
                      "expected node %" PRIu64 " of cluster %s, found node %" PRIu64
                      " of cluster %.64s",
                      to, identity->cluster_id, (uint64_t)reply->node_id, reply->cluster_id);
    } else if (reply->disk_id == 0) {
        err = err_set(info, ERR_PROTOCOL, "node %" PRIu64 " does not show the id of its disk", to);
    } else {
        *ret_disk = reply->disk_id;
    }
    quorlog__hello_reply__free_unpacked(reply, NULL);
    return err;
}
