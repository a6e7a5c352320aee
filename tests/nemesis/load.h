/*
 * A load of many clients, each with its own idea of what to do, for the checker.
 *
 *      load.c            options, the loop, beginning and end
 *      load_life.c       lives: one program's run after the other, each with a connection of its
 * own load_topics.c     topics: made, chosen, deleted load_claims.c     producer ids that outlive a
 * program; what a raised epoch decides load_producer.c   who writes load_reader.c     who asks for
 * records load_stream.c     who follows load_cursor.c     who keeps cursors load_dump.c       what
 * every node holds, when all is over load_record.c     a record's bytes load_recorder.c   the
 * history, the series
 *
 * A slot is a place for one client after the other of a kind; a life is one of them: it has a
 * number of its own in the history, connects to a node by chance, lives for some seconds, and is
 * closed at its end, sometimes in the middle of what it does. One thread, one loop; every few
 * milliseconds each life has its step.
 *
 *   L1  An operation is written down once, when it is over: answered, given up by the client, or
 *       canceled by the life's end.
 *   L2  A life's memory goes when its client is closed: no callback comes after that.
 */
#ifndef QUORLOG_TESTS_NEMESIS_LOAD_H
#define QUORLOG_TESTS_NEMESIS_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "client/client.h"
#include "load_recorder.h"

/* That keeps the latest record of each key. */
#define LOAD_COMPACTED_TOPIC "topic-1"

enum {
    LOAD_SERVERS_MAX = 32,
    LOAD_TOPICS_MAX = 64,
    LOAD_SLOTS_MAX = 512,
    LOAD_NAME_SIZE = 64,
    LOAD_LABEL_SIZE = 96,
    LOAD_REQUEST_MS = 10000,
};

struct load;
struct life;
struct slot;

struct load_options {
    const char *servers;
    const char *out;
    const char *series; /* NULL: none */
    uint64_t seconds;
    unsigned clients;
    unsigned topics;
    uint64_t seed;
    uint64_t rate; /* records a second, of all; 0: as many as are taken */
    uint32_t record_size_min;
    uint32_t record_size_max;
    bool dump;
    bool dump_only;
    uint64_t timeout_s; /* of the dump */
};

enum topic_use {
    TOPIC_PLAIN,
    TOPIC_CONDITIONAL, /* conditional producers only */
    TOPIC_PASSING,     /* made and deleted */
};

struct topic {
    bool live; /* may be used */
    bool compacted;
    enum topic_use use;
    char name[LOAD_NAME_SIZE];
    uint64_t id;
    char label[LOAD_LABEL_SIZE]; /* "name#id" */
    uint64_t made_token;         /* of a name that was used before; else 0 */
    uint64_t end;                /* behind the last acknowledged record */
    uint64_t token;              /* of the newest acknowledgement */
    unsigned users;              /* lives that have chosen it */
    bool doubtful;               /* an operation on it may still come to be */
};

/* What a life does. */
struct life_kind {
    const char *name;
    size_t size;
    void (*begin)(struct life *self);
    void (*step)(struct life *self); /* not when leaving */
    void (*end)(struct life *self);  /* gives back what begin and step have taken */
    void (*finish)(struct load *load, struct slot *slot); /* gives `kept` back; may be NULL */
};

struct slot {
    const struct life_kind *kind;
    unsigned variant; /* of kinds that have some */
    struct life *life;
    void *kept; /* what outlives lives; owned by the kind */
};

struct life {
    struct load *load;
    struct slot *slot;
    struct client *client;
    uint32_t number;
    uint64_t sequence;
    uint64_t end_us;
    unsigned under_way;  /* operations */
    struct topic *topic; /* NULL: none */
    bool leaving;        /* begins nothing */
    bool abrupt;         /* closes after this step, in the middle of what it does */
    bool closing;
};

struct load {
    struct load_options options;
    uv_loop_t loop;
    uv_timer_t ticker;
    uv_signal_t signals[2];
    struct recorder *recorder;
    uint64_t random;
    char *server_list;
    const char *servers[LOAD_SERVERS_MAX];
    uint32_t nodes[LOAD_SERVERS_MAX]; /* the ids; 0: not known yet */
    unsigned server_count;
    struct topic topics[LOAD_TOPICS_MAX];
    unsigned topic_count;
    struct slot slots[LOAD_SLOTS_MAX];
    unsigned slot_count;
    unsigned producer_count; /* slots that share the rate */
    unsigned closing;        /* clients that are not closed yet */
    uint32_t last_number;
    uint64_t last_value;
    uint64_t end_us; /* when to stop */
    bool stopping;
    bool hurried;
    bool failed; /* the exit code says so */
};

/* ---- load_life.c ---- */

/* 0 … bound - 1. */
uint64_t load_choose(struct load *self, uint64_t bound);
bool load_chance(struct load *self, unsigned percent);

/* "host:port" of a server that is in the list: its node's id; 0: not known. */
uint32_t load_node(const struct load *self, const char *server);

/* Asks the servers whose nodes are not known. */
void load_learn_nodes(struct load *self);

void life_start(struct load *load, struct slot *slot);
/* What is under way is canceled. */
void life_close(struct life *self);
/* One step of each. */
void lives_step(struct load *load);

/* An operation of this life: the fields that all have. */
struct history_op life_op(struct life *self, enum history_kind kind);
uint32_t life_node(const struct life *self);

/* ---- load_topics.c ---- */

/* Makes those that stay. False: told on stderr. */
bool topics_make(struct load *self);
/* One that is live and for this use, by chance; NULL: none. Its users count self then. */
struct topic *topics_join(struct life *self, bool conditional);
void topics_use(struct life *self, struct topic *topic);
void topics_leave(struct life *self);
void topic_acknowledged(struct topic *self, uint64_t end, uint64_t token);

/* ---- kinds ---- */

extern const struct life_kind life_topics;
extern const struct life_kind life_producer;
extern const struct life_kind life_conditional;
extern const struct life_kind life_reader;
extern const struct life_kind life_stream;
extern const struct life_kind life_cursor;

enum producer_variant { PRODUCER_CLAIMED, PRODUCER_PLAIN, PRODUCER_NO_ID, PRODUCER_VARIANTS };
enum reader_variant {
    READER_SESSION,
    READER_LOCAL,
    READER_TOKEN,
    READER_LINEARIZABLE,
    READER_MAX_LAG,
    READER_VARIANTS
};

/* ---- load_dump.c ---- */

/* 0: all copies are read and written down. */
int load_dump(struct load *self);

#endif
