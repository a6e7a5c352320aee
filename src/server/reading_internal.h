/*
 * What the two halves of a reading share: reading.c decides, reading_work.c fetches what it decided
 * on, from this node's disk or from another node.
 */
#ifndef QUORLOG_SERVER_READING_INTERNAL_H
#define QUORLOG_SERVER_READING_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quorlog.pb-c.h"
#include "raft_fsm/catalog.h"
#include "server/deadline.h"
#include "server/elsewhere.h"
#include "server/freshness.h"
#include "server/front.h"
#include "server/reading.h"
#include "server/seek.h"

enum reading_state {
    READING_DECIDING,
    READING_CONFIRMING,
    READING_APPLYING,
    READING_WAITING,
    READING_BLOCKED,
    READING_WORKING,
    READING_ELSEWHERE,
    READING_OVER,
};

/* Of the message of a filter, bytes: its texts, and for each condition tags and sizes. */
enum { READING_FILTER_SIZE_MAX = FILTER_TEXT_MAX + FILTER_CONDITIONS_MAX * 32 + 64 };

/* The records that are wanted, and the same as it was asked for, for another node. */
struct reading_filter {
    struct filter filter;
    size_t packed_size;
    uint8_t packed[];
};

struct reading {
    struct request request;
    struct front *front;
    enum reading_state state;
    bool stream;
    bool positioned;     /* next is set */
    bool announced;      /* a stream has told where it starts */
    bool expired;        /* the deadline passed */
    struct topic *topic; /* owned reference; NULL: not looked up yet */
    char name[TOPIC_NAME_SIZE_MAX + 1];
    uint64_t topic_id; /* that is wanted; 0: whichever has the name */
    Quorlog__Start start;
    uint64_t offset;
    int64_t time_us;
    uint64_t next;         /* offset of the record to be read next */
    uint64_t records_left; /* UINT64_MAX: no bound */
    uint32_t bytes_max;
    uint32_t wait_ms;
    uint32_t deadline_ms;
    uint64_t at_least;
    struct reading_filter *filter; /* owned; NULL: all records */
    struct freshness freshness;
    int64_t credit; /* bytes; streams */
    struct deadline deadline;
    uint64_t end_seen; /* WAITING: what was not enough */
    /* The next two belong to the worker while WORKING. */
    struct work work;
    struct seek seek;
    struct elsewhere elsewhere; /* other nodes are asked for what is not here */
    struct reading *all_prev;
    struct reading *all_next;
    struct reading *prev; /* in readings.waiting */
    struct reading *next_waiting;
};
/* ---- reading.c ---- */

/* Every other call than move may end the reading: it is not to be touched afterwards. */
void reading_move(struct reading *self, enum reading_state state);
/* What is to be done next, and does it; in state DECIDING. */
void reading_step(struct reading *self);
void reading_fail(struct reading *self, struct failure *failure);
void reading_fail_range(struct reading *self);
/* Nobody wants more of it. */
void reading_over(struct reading *self);
/* After the last record that was asked for. */
void reading_end_stream(struct reading *self);
/* counts: of a filtered read, else NULL. */
void reading_send_batches(struct reading *self, const struct slice *body, uint64_t next,
                          const struct seek_counts *counts);
/* Before the request ends: room that a read under way has reserved in its session. */
void reading_give_back_room(struct reading *self);
/* The last step of a reading that has ended and that nobody works on any more. */
void reading_release(struct reading *self);

/* ---- reading_filter.c ---- */

/* What the message asks for; to be freed. ERR_INVALID, ERR_TOO_LARGE with text, ERR_NOMEM. */
enum err reading_filter_new(const Quorlog__RecordFilter *message,
                            struct reading_filter **ret_filter, struct err_info *info);

/* ---- reading_work.c ---- */

/* What a read brings at most, unless a single batch is larger. */
size_t reading_size_max(const struct reading *self);
/* Reads from `next` on, or finds the time; then the reading goes on with the outcome. size_max
 * bytes are reserved in the session. */
void reading_start_work(struct reading *self, bool by_time, size_t size_max);

#endif
