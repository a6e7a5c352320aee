/*
 * The C client of Quorlog.
 *
 * A client belongs to one uv loop and is called only from that loop's thread; answers come through
 * callbacks from the loop. It keeps one connection to one node of the cluster (any will do: nodes
 * pass on what only the leader can do), goes to the next address when that node fails, and repeats
 * what can be repeated until the request's deadline. When several addresses are given its consumers
 * have a connection of their own, to a follower where one answers: chance says to which, so that
 * the readers of a cluster spread over its nodes. A producer's retries carry the same producer
 * id and sequence, so a record is written once, however often it was sent.
 *
 * For programs without a loop, client_wait runs the client's own until a call is answered.
 *
 * Every callback is called exactly once, never from inside the call that it belongs to, also when
 * the client is closed (ERR_CANCELED).
 */
#ifndef QUORLOG_CLIENT_CLIENT_H
#define QUORLOG_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "record/filter.h"
#include "record/record.h"

struct client;

struct client_options {
    const char *servers;   /* in, copied: "host:port[,host:port…]"; tried in order */
    const char *name;      /* in, copied: for the server's log; NULL: "quorlog-client" */
    uint64_t timeout_ms;   /* of requests that do not say; 0: 30 000 */
    size_t frame_size_max; /* 0: 32 MiB */
    /* While no node was ever reached: after so long everything fails with ERR_CONNECT; 0: each
     * request at its own deadline. */
    uint64_t connect_timeout_ms;
    unsigned reader_first; /* consumers try the n-th server first: 1, 2, …; 0: any, by chance */
};

/* What an error tells of a cursor; revision 0: there is none. */
struct client_cursor {
    uint64_t offset;
    uint64_t revision;
    uint64_t owner;
    uint64_t token; /* of its last change, or of the one that was refused */
};

/* An answer's failure. Every failure is of one of three classes, which client_error_outcome tells:
 * nothing was written, all was written, or nobody knows. text is borrowed until the callback
 * returns. */
struct client_error {
    enum err err; /* ERR_OK: no failure */
    bool retryable;
    bool outcome_unknown;
    const char *text;
    uint64_t leader_id;
    uint64_t log_start;          /* with ERR_RANGE */
    uint64_t log_end;            /* with ERR_RANGE, ERR_EXPECT_FAILED */
    struct client_cursor cursor; /* with ERR_CURSOR_CONFLICT: what it is */
};
enum err_outcome client_error_outcome(const struct client_error *error);

/* loop: NULL for one of its own (then client_wait and client_run drive it). */
enum err client_new(const struct client_options *options, uv_loop_t *loop,
                    struct client **ret_client, struct err_info *info);

/* Cancels what is under way and gives everything back, producers and consumers included: they are
 * not to be used, or freed, after their last callback. With a loop of its own: blocks until all
 * callbacks have been called (so not from inside one). With the caller's: `closed` (may be NULL)
 * comes later, from the loop. */
void client_close(struct client *self, void (*closed)(void *arg), void *arg);

/* Runs the client's own loop until *done is true. */
void client_wait(struct client *self, const bool *done);
uv_loop_t *client_loop(struct client *self);

/* "host:port" of the node it talks to now, and of the one that its consumers read from; "" when
 * not connected. */
const char *client_server(const struct client *self);
const char *client_reading_server(const struct client *self);

/* Bytes of records, encoded, that one batch may hold for the connected node: bounds a record, too.
 * 0 when not connected. */
size_t client_batch_size_max(const struct client *self);

/* ---- topics and status: answers as protobuf messages of proto/quorlog.proto, packed ---- */

/* reply: the packed reply message (borrowed), NULL on failure. */
typedef void (*client_reply_cb)(void *arg, const struct client_error *error, const uint8_t *reply,
                                size_t reply_size);

enum err client_topic_create(struct client *self, const char *topic, client_reply_cb cb, void *arg);

/* A topic's settings; 0, false: the default. Fields as in TopicSettings. */
struct client_topic_settings {
    uint64_t retention_ms;
    uint64_t retention_bytes;
    uint64_t retention_records;
    bool compact;
    uint64_t tombstone_ms;
    uint32_t compression; /* enum codec (record/codec.h) */
    uint32_t indexes;     /* bits */
    uint64_t segment_bytes;
    uint64_t segment_ms;
    uint64_t flush_ms;
    bool preallocate;
};

/* Which settings are meant, by the numbers of their fields. */
enum client_setting {
    CLIENT_SETTING_RETENTION_MS = 1,
    CLIENT_SETTING_RETENTION_BYTES = 2,
    CLIENT_SETTING_RETENTION_RECORDS = 3,
    CLIENT_SETTING_COMPACT = 4,
    CLIENT_SETTING_TOMBSTONE_MS = 5,
    CLIENT_SETTING_COMPRESSION = 6,
    CLIENT_SETTING_INDEXES = 7,
    CLIENT_SETTING_SEGMENT_BYTES = 9,
    CLIENT_SETTING_SEGMENT_MS = 10,
    CLIENT_SETTING_FLUSH_MS = 11,
    CLIENT_SETTING_PREALLOCATE = 12,
    CLIENT_SETTINGS_MAX = 12, /* how many there are at most */
};

struct client_alteration {
    const char *topic; /* in, copied, as all of it */
    struct client_topic_settings settings;
    enum client_setting which[CLIENT_SETTINGS_MAX];
    size_t which_count;
    /* With INDEXES: of these nodes instead of the topic. */
    const uint64_t *on_nodes;
    size_t on_count;
    bool on_default; /* They have the topic's set again; settings.indexes is 0. */
};

/* As client_topic_create; ERR_INVALID from the cluster where settings are not allowed. */
enum err client_topic_create_with(struct client *self, const char *topic,
                                  const struct client_topic_settings *settings, client_reply_cb cb,
                                  void *arg);

/* Repeated after an unknown outcome: settings are set, whoever else sets them meanwhile. */
enum err client_topic_alter(struct client *self, const struct client_alteration *alteration,
                            client_reply_cb cb, void *arg);

/* Drops the records below `before`, or those appended before time_us. Repeated after an unknown
 * outcome: nobody can trim back. */
struct client_trim {
    const char *topic; /* in, copied */
    uint64_t before;   /* the first offset that stays */
    bool by_time;
    int64_t time_us;
};
enum err client_topic_trim(struct client *self, const struct client_trim *trim, client_reply_cb cb,
                           void *arg);

enum err client_topic_delete(struct client *self, const char *topic, client_reply_cb cb, void *arg);
/* A part of the list, in order of name, behind `after` (NULL: from the beginning); the reply's
 * `more` says that there is a next part, behind the last name of this one. */
enum err client_topic_list(struct client *self, const char *after, client_reply_cb cb, void *arg);
enum err client_topic_describe(struct client *self, const char *topic, client_reply_cb cb,
                               void *arg);
enum err client_status(struct client *self, bool local, client_reply_cb cb, void *arg);

enum { CLIENT_ADDRESS_SIZE_MAX = 261 };

/* One step towards a goal for the cluster's members; sent again until the reply says `done`. Fields
 * as in ClusterChangeRequest. */
enum client_members_goal {
    CLIENT_MEMBERS_ADD,
    CLIENT_MEMBERS_REMOVE,
    CLIENT_MEMBERS_REPLACE,
    CLIENT_MEMBERS_TRANSFER,
};

struct client_members {
    enum client_members_goal goal;
    uint64_t node_id;
    uint64_t other_id;
    const char *address; /* in, copied; "" where there is none */
    bool under_way;
};

/* ERR_INVALID: the address is too long. */
enum err client_change_members(struct client *self, const struct client_members *members,
                               client_reply_cb cb, void *arg);

/* ---- any request that only reads, for tools ---- */

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

/* A frame's header, a packed message, and its body; borrowed until the callback returns. */
struct client_answer {
    const uint8_t *header;
    size_t header_size;
    const uint8_t *body;
    size_t body_size;
};

/* answer: NULL on failure. */
typedef void (*client_answer_cb)(void *arg, const struct client_error *error,
                                 const struct client_answer *answer);

struct client_question {
    uint16_t type;                                  /* of the frame */
    uint16_t reply_type;                            /* of the answer's */
    const struct ProtobufCMessage *request;         /* in, copied */
    const struct ProtobufCMessageDescriptor *reply; /* what the answer's header must be */
};

/* Asked again until it is answered, or its time is over. ERR_NOMEM, ERR_BUSY. */
enum err client_ask(struct client *self, const struct client_question *question,
                    client_answer_cb cb, void *arg);

/* ---- producer ---- */

struct producer;

/* A producer's place in a topic: who it is, and the number of its next record there. */
struct producer_identity {
    uint64_t id; /* 0: none */
    uint16_t epoch;
    uint32_t sequence;
};

/* A new id, or the epoch of an old one raised: whoever has the old epoch is fenced (ERR_FENCED),
 * what it had under way is decided for good, and the reply (InitProducerReply) tells how many
 * records the id ever wrote to the topic: its next sequence. has_epoch: only if `epoch` is still
 * the newest (ERR_FENCED otherwise); such a claim is not repeated after an unknown outcome. */
struct client_claim {
    uint64_t producer_id; /* 0: a new one; the rest is not used then */
    const char *topic;    /* in, copied */
    uint16_t epoch;
    bool has_epoch;
};
enum err client_claim_producer(struct client *self, const struct client_claim *claim,
                               client_reply_cb cb, void *arg);

enum client_compression {
    /* As the topic's settings say. A producer is told with its id, before its first batch (with an
     * identity of its own, or without idempotence, by the answer to it), and by each answer. */
    CLIENT_COMPRESSION_DEFAULT,
    CLIENT_COMPRESSION_NONE,
    CLIENT_COMPRESSION_LZ4,
    CLIENT_COMPRESSION_ZSTD,
};

/* "none", "lz4", "zstd"; false: none of them. */
bool client_compression_parse(const char *name, enum client_compression *ret_compression);

struct producer_options {
    const char *topic;          /* in, copied */
    size_t batch_size_max;      /* bytes of a batch's body; 0: 256 KiB */
    unsigned batch_records_max; /* 0: 10 000 */
    uint64_t linger_ms;         /* wait so long for more records before a batch is sent when others
                                   are under way already; 0: send as soon as possible */
    unsigned inflight_max;      /* batches not yet answered, 1 … 64; 0: 16 */
    size_t buffer_size_max;     /* bytes accepted and not yet answered; 0: 32 MiB */
    uint64_t timeout_ms;        /* for each batch, retries included; 0: 30 000. The last word of a
                                   node that has it is waited for up to a second longer */
    bool no_idempotence;        /* no producer id: a retry may write twice, so there is none after
                                   an unknown outcome */
    bool acks_all;              /* answered when all voters have it on disk: ERR_NOT_CONFIRMED when
                                   not in time */
    bool has_expect;            /* the first record is to stand at expect_offset, the next ones
                                   behind it: ERR_EXPECT_FAILED where the log does not end so. Not
                                   with no_idempotence */
    uint64_t expect_offset;
    bool atomic; /* all records until producer_flush in one batch, all or nothing: ERR_TOO_LARGE
                    from producer_send when they do not fit; batch_records_max is not used */
    struct producer_identity identity; /* id != 0: as claimed; else it gets one of its own */
    /* Of each batch as a whole; one that does not shrink is sent as it is. batch_size_max bounds
     * what it holds, not what is sent. */
    enum client_compression compression;
};

/* Records [first, first + count) of the producer's calls are written at offset … (in order), or
 * failed together. first counts the records given to producer_send: 0, 1, 2 … */
struct producer_report {
    uint64_t first;
    uint32_t count;
    uint64_t offset;
    uint64_t term;
    uint64_t raft_index; /* the token */
    bool duplicate;      /* an earlier try had been written */
    unsigned replicas;   /* voters that had it on disk when it was answered … */
    unsigned voters;     /* … of so many */
    uint64_t latency_ns; /* from the batch's first send to the answer */
    size_t plain_size;   /* bytes of the records, encoded … */
    size_t sent_size;    /* … and as they were sent */
    const struct client_error *error;
};
typedef void (*producer_report_cb)(void *arg, const struct producer_report *report);

/* Reports come in order of `first`. With an error of the class "written" offset, term and token are
 * set, too (but for ERR_DUPLICATE_OLD).
 *
 * Some failures end an idempotent producer: all later batches fail too, and it takes no more. They
 * are an unknown outcome (order would break), ERR_FENCED, ERR_EXPECT_FAILED, and ERR_SEQUENCE_GAP
 * and ERR_SEQUENCE_REUSED: the cluster misses, or has, what it should not, so records were lost or
 * somebody else uses the id; a new id would hide that, so none is taken. A producer with an
 * identity that was given to it is ended by any failure. */
enum err producer_new(struct client *client, const struct producer_options *options,
                      producer_report_cb cb, void *arg, struct producer **ret_producer);

/* Takes a copy of the record. ERR_BUSY when buffer_size_max is reached: run the loop, try again
 * after the next report. ERR_TOO_LARGE for a record that no batch can hold. */
enum err producer_send(struct producer *self, const struct record *record);

/* Sends what waits without lingering. */
void producer_flush(struct producer *self);

/* Records accepted and not yet reported. */
uint64_t producer_pending(const struct producer *self);

/* Tries of batches that failed so and were, or will be, followed by another one. ERR_OK: with codes
 * that this program does not know. */
uint64_t producer_retries(const struct producer *self, enum err err);

/* Unreported records are reported with ERR_CANCELED (outcome unknown where sent). Frees. */
void producer_free(struct producer *self);

/* ---- consumer ---- */

enum consumer_start {
    CONSUMER_OFFSET, /* at `offset` */
    CONSUMER_EARLIEST,
    CONSUMER_LATEST,
    CONSUMER_TAIL, /* `offset` records before the end */
    CONSUMER_TIME, /* the first batch appended at or after time_us */
};

struct consumer;

struct consumer_options {
    const char *topic; /* in, copied */
    enum consumer_start start;
    uint64_t offset;
    int64_t time_us;
    uint64_t records_max; /* stop after so many; 0: no bound */
    bool follow;          /* go on at the end, wait for more; else stop there */
    uint64_t at_least;    /* token: the first answer shows at least this */
    bool linearizable;    /* the first answer shows all that was acknowledged before the question */
    uint64_t max_lag_ms;  /* … all that was so long before; following: and so on; 0: no bound */
    size_t credit_size;   /* bytes under way at a time; 0: 8 MiB */
    /* Shared reading: the records of share `share` (1 … share_count) only, see share.h; all others
     * are passed over, and do not count for records_max. share_count 0: all records. */
    unsigned share;
    unsigned share_count;
    /* Only records that match (record/filter.h); the node looks for them, and sends no others.
     * NULL: all. In, copied. With `latest`, the last record that is given is the one. */
    const struct filter *filter;
    size_t plain_size_max; /* bytes of a batch's records, decompressed; 0: 64 MiB */
};

struct batch_header;

struct consumer_events {
    /* One record; pointers are borrowed until return. NULL: whole batches are wanted. */
    void (*record)(void *arg, const struct record *record);
    /* Instead of records: a batch (log/batch.h), verified, as it is stored; body: header->size -
     * BATCH_HEADER_SIZE bytes, borrowed until return. The first may begin before the place asked
     * for, and the last hold more than records_max. Not with a share or a filter: ERR_INVALID. */
    void (*batch)(void *arg, const struct batch_header *header, const uint8_t *body);
    /* Over, once: ERR_OK at the end (not following, or records_max reached), or the failure. */
    void (*ended)(void *arg, const struct client_error *error, uint64_t next_offset);
    /* Where the reading begins, once, before all records. May be NULL. */
    void (*placed)(void *arg, uint64_t offset);
};

/* Reads from the connected node, and goes on with another, at the next offset, when that one is
 * gone, behind, cut off, or has not got the records whole. Records come once each, in order,
 * without a gap; what was seen once stays: another node answers only when it shows as much.
 * ERR_INVALID also for a linearizable read with max_lag_ms, and a filter that makes no sense
 * (filter_check). */
enum err consumer_new(struct client *client, const struct consumer_options *options,
                      const struct consumer_events *events, void *arg,
                      struct consumer **ret_consumer);

/* The offset behind the last record that was given or passed over; 0 before `placed`. */
uint64_t consumer_position(const struct consumer *self);

/* What nodes have done so far to find records that match the filter. */
struct consumer_scan {
    uint64_t records; /* looked at */
    uint64_t bytes;   /* of the batches that they are in */
    uint64_t segments_skipped;
};
void consumer_scanned(const struct consumer *self, struct consumer_scan *ret_scan);

/* Stop and go on getting records: backpressure. */
void consumer_pause(struct consumer *self);
void consumer_resume(struct consumer *self);

/* No further events. Frees; legal from inside an event. */
void consumer_free(struct consumer *self);

#endif
