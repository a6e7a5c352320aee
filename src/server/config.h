/*
 * The configuration of a node: one table that gives the struct, the parsers, the printer, the help.
 *
 * A value comes from, in order of precedence, a flag, the environment (QUORLOG_<NAME>, in
 * capitals), a configuration file (`name = value` lines, `#` comments), or the default. The calls
 * below may be made in any order: a source never overrides a higher one. Names may be written with
 * '-' for '_'. In a file, `bootstrap` may stand on several lines, which are joined.
 *
 *      NUMBER  1024                    SIZE  65536, 64K, 16M, 1G   (bytes; powers of 1024)
 *      TIME    500, 500ms, 5s, 2m      TEXT  anything, a bounded length
 *      WORD    one of the words in the unit column
 */
#ifndef QUORLOG_SERVER_CONFIG_H
#define QUORLOG_SERVER_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "raft_fsm/membership.h"

enum {
    CONFIG_TEXT_SIZE = 4096, /* a TEXT or WORD value with its zero */
    CONFIG_FILE_SIZE_MAX = 1024 * 1024,
    CONFIG_LINE_SIZE_MAX = 190, /* bytes; what inih takes on one line */
};

/* X(name, type, default, min, max, unit, help): min and max are values, or lengths of a TEXT. */
#define CONFIG_MAP(X)                                                                              \
    X(id, NUMBER, "1", 1, INT64_MAX, "", "number of this node in its cluster")                     \
    X(listen, TEXT, "127.0.0.1:7437", 1, 261, "HOST:PORT",                                         \
      "address to listen on; port 0 lets the kernel choose")                                       \
    X(advertise, TEXT, "", 0, 261, "HOST:PORT",                                                    \
      "address under which others reach this node (default: that of bootstrap, or listen)")        \
    X(data, TEXT, "./quorlog-data", 1, 3000, "DIR", "directory of all data; made when missing")    \
    X(bootstrap, TEXT, "", 0, 4095, "ID=HOST:PORT,...",                                            \
      "first members of the cluster, the same list on each of them; empty: this node alone")       \
    X(join, TEXT, "", 0, 4095, "HOST:PORT,...",                                                    \
      "nodes of a running cluster that this new node is to join, instead of bootstrap")            \
    X(cluster, TEXT, "quorlog", 1, 64, "NAME", "name of the cluster, the same on all nodes")       \
    X(threads, NUMBER, "0", 0, 64, "", "threads that serve connections; 0: one a core, up to 4")   \
    X(connections_max, NUMBER, "1024", 1, 65536, "", "connections of clients at a time")           \
    X(connection_requests_max, NUMBER, "1024", 1, 65536, "",                                       \
      "requests of one connection under way; beyond it the node stops reading there")              \
    X(connection_requests_size, SIZE, "16M", 65536, INT64_C(1) << 30, "bytes",                     \
      "bytes of one connection's requests under way; beyond it the node stops reading there")      \
    X(connection_queue_size, SIZE, "4M", 65536, INT64_C(1) << 30, "bytes",                         \
      "bytes waiting to be sent on one connection; beyond it the node stops reading there")        \
    X(requests_size_max, SIZE, "256M", 1 << 20, INT64_C(1) << 40, "bytes",                         \
      "bytes of all requests under way; beyond it they are refused as BUSY")                       \
    X(reads_max, NUMBER, "16", 1, 1024, "", "reads of one thread that may be at the disk")         \
    X(hello_timeout_ms, TIME, "5s", 10, 3600000, "ms", "a connection must say hello in this time") \
    X(idle_timeout_ms, TIME, "0", 0, 86400000, "ms",                                               \
      "a connection on which nothing arrives for so long is ended; 0: never")                      \
    X(stall_timeout_ms, TIME, "1m", 1000, 86400000, "ms",                                          \
      "a client that takes nothing of what was sent to it for so long is given up")                \
    X(stall_warn_ms, TIME, "100", 0, 3600000, "ms",                                                \
      "a turn of a thread's loop that takes longer is told as loop_stalled; 0: none")              \
    X(frame_size_max, SIZE, "32M", 131072, INT64_C(1) << 30, "bytes", "largest frame taken")       \
    X(batch_size_max, SIZE, "1M", 1024, 16 << 20, "bytes",                                         \
      "largest batch of records taken; bounds a record too")                                       \
    X(heartbeat_ms, TIME, "50", 5, 10000, "ms", "the leader is heard from this often")             \
    X(election_ms, TIME, "300", 20, 60000, "ms",                                                   \
      "an election begins when no leader was heard for one to two times so long")                  \
    X(mailbox_size, SIZE, "64M", 1 << 20, INT64_C(1) << 36, "bytes",                               \
      "bytes that may wait for the raft thread")                                                   \
    X(inflight_size, SIZE, "16M", 1 << 20, INT64_C(1) << 36, "bytes",                              \
      "bytes proposed and not yet applied")                                                        \
    X(snapshot_size, SIZE, "64M", 1 << 16, INT64_C(1) << 40, "bytes",                              \
      "bytes of entries between snapshots")                                                        \
    X(trailing_size, SIZE, "32M", 0, INT64_C(1) << 40, "bytes",                                    \
      "bytes of entries kept behind a snapshot, for followers that are a little behind")           \
    X(journal_segment_size, SIZE, "64M", 1 << 20, INT64_C(1) << 31, "bytes",                       \
      "size of a journal file")                                                                    \
    X(read_yield_ms, TIME, "1", 0, 1000, "ms",                                                     \
      "who reads 128 KiB from the disk lets durable writes go first, for so long at most; 0: "     \
      "never")                                                                                     \
    X(scrub_rate, SIZE, "8M", 0, INT64_C(1) << 40, "bytes",                                        \
      "bytes a second that are read again to find damage; 0: none")                                \
    X(compact_rate, SIZE, "32M", 0, INT64_C(1) << 40, "bytes",                                     \
      "bytes a second that are read and written to compact topics; 0: none")                       \
    X(compact_memory, SIZE, "32M", 1 << 16, INT64_C(1) << 36, "bytes",                             \
      "bytes that the keys of a topic that is compacted may take meanwhile")                       \
    X(retention_interval_ms, TIME, "10s", 100, 3600000, "ms",                                      \
      "the leader looks this often what the topics' retention deletes")                            \
    X(segment_size, SIZE, "64M", 4096, INT64_C(1) << 31, "bytes", "size of a topic's files")       \
    X(file_cache_size, NUMBER, "1024", 8, 1 << 20, "",                                             \
      "files of topics that stay open for the next read; up to 8 times as many are open in use")   \
    X(disk_reserve, SIZE, "0", 0, INT64_C(1) << 50, "bytes",                                       \
      "with less free than that on the disk nothing is written; 0: a twentieth of the disk, up "   \
      "to 256M")                                                                                   \
    X(fill_rate, SIZE, "64M", 0, INT64_C(1) << 40, "bytes",                                        \
      "bytes a second fetched from other nodes to fill holes; 0: as fast as it goes")              \
    X(index_build_rate, SIZE, "64M", 0, INT64_C(1) << 40, "bytes",                                 \
      "bytes a second read to build and check indexes; 0: as fast as it goes")                     \
    X(index_check_ms, TIME, "1440m", 1000, INT64_C(31) * 86400000, "ms",                           \
      "each file of an index is read and checked so often")                                        \
    X(transfer_ms, TIME, "2s", 0, 60000, "ms",                                                     \
      "a stopping leader waits so long for another node to take over")                             \
    X(log_level, WORD, "info", 0, 0, "error|warn|info|debug", "what is told on standard error")    \
    X(direct_io, WORD, "auto", 0, 0, "auto|off",                                                   \
      "write the journal past the page cache where the file system can")

enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_FLAG };

enum config_number {
#define CONFIG_NUMBER_OF(name, type, value, min, max, unit, help) CONFIG_##name,
    CONFIG_MAP(CONFIG_NUMBER_OF)
#undef CONFIG_NUMBER_OF
        CONFIG_COUNT
};

#define CONFIG_FIELD_NUMBER(name) uint64_t name;
#define CONFIG_FIELD_SIZE(name) uint64_t name;
#define CONFIG_FIELD_TIME(name) uint64_t name;
#define CONFIG_FIELD_TEXT(name) char name[CONFIG_TEXT_SIZE];
#define CONFIG_FIELD_WORD(name) char name[CONFIG_TEXT_SIZE];

struct config {
#define CONFIG_FIELD(name, type, value, min, max, unit, help) CONFIG_FIELD_##type(name)
    CONFIG_MAP(CONFIG_FIELD)
#undef CONFIG_FIELD
    struct {
        enum config_source source;
        unsigned line; /* FILE */
    } origins[CONFIG_COUNT];
    char path[CONFIG_TEXT_SIZE]; /* of the file, for texts */
};

enum config_type { CONFIG_NUMBER, CONFIG_SIZE, CONFIG_TIME, CONFIG_TEXT, CONFIG_WORD };

/* A row of the table, for help and completion. */
struct config_key {
    const char *name;
    enum config_type type;
    const char *value; /* default, as text */
    uint64_t min;
    uint64_t max;
    const char *unit;
    const char *help;
    size_t offset; /* of the field in struct config */
};

/* CONFIG_COUNT rows in the order of the table. */
const struct config_key *config_keys(void);

/* All defaults. */
void config_init(struct config *self);

/* ERR_INVALID; the text names source, key, value and what is allowed. */
enum err config_set_flag(struct config *self, const char *name, const char *value,
                         struct err_info *info);

/* environment: as `environ`. Variables that begin with QUORLOG_ and name no key are let be. */
enum err config_read_environment(struct config *self, char *const *environment,
                                 struct err_info *info);

/* ERR_NOT_FOUND, ERR_IO, ERR_TOO_LARGE; ERR_INVALID names the line. One file a configuration. */
enum err config_read_file(struct config *self, const char *path, struct err_info *info);

/* All values together. ERR_INVALID. */
enum err config_validate(const struct config *self, struct err_info *info);

/* The value as it would be written, into buffer (CONFIG_TEXT_SIZE bytes); returns buffer. */
const char *config_value(const struct config *self, enum config_number number, char *buffer);

/* `name = value` lines with where each comes from (comments), or, as a sample, with the help and
 * every line commented out. ERR_NOMEM, ERR_TOO_LARGE. */
enum err config_print(const struct config *self, bool sample, struct buf *to);

/* The first members. Without `bootstrap`: this node alone, at its advertised address. */
enum err config_membership(const struct config *self, struct membership *ret_members,
                           struct err_info *info);

/* The address under which others reach this node; borrowed from self. */
void config_advertised(const struct config *self, char ret_address[MEMBER_ADDRESS_SIZE]);

#endif
