/*
 * A reading: one CONSUME or CONSUME_STREAM request, from its frame to its end.
 *
 *                    linearizable, max_lag: no read index yet
 *          DECIDING ------------------------------> CONFIRMING --known, deadline--> DECIDING
 *             |      at_least, or that index, is not applied yet
 *             +------------------------------------> APPLYING --applied, deadline--> DECIDING
 *             |      nothing there yet
 *             +------------------------------------> WAITING --records, deadline--> DECIDING
 *             |      no credit, or too much waits to be sent
 *             +------------------------------------> BLOCKED --credit, drained--> DECIDING
 *             |      records to read, a time to find
 *             +------------------------------------> WORKING --done--> DECIDING
 *             |      what was to be read is missing or damaged here
 *             +------------------------------------> ELSEWHERE --another node's answer--> DECIDING
 *             |      answered, failed, canceled
 *             +------------------------------------> OVER
 *
 * Reads run in the pool of threads (work.h); their bytes go from there to the socket uncopied. A
 * stream has at most one under way.
 */
#ifndef QUORLOG_SERVER_READING_H
#define QUORLOG_SERVER_READING_H

#include <stdbool.h>
#include <stdint.h>

struct frame;
struct front;
struct reading;
struct reading_filter;
struct request;
struct session;
struct Quorlog__ConsumeRequest;

struct readings {
    struct reading *all;
    struct reading *waiting; /* APPLYING and WAITING: looked at when the group publishes */
};

/* A reading of what was checked: the topic's name and the kind of start. filter: NULL for all
 * records; becomes the reading's, unless there is none. One of the next two begins
 * it; from then on it frees itself. NULL: memory is short. */
struct reading *reading_new(struct session *session, const struct frame *frame,
                            const struct Quorlog__ConsumeRequest *request,
                            struct reading_filter *filter);
void reading_start(struct reading *self);
/* credit: bytes that may be sent before more comes. */
void reading_start_stream(struct reading *self, uint64_t credit);

/* Of a stream. */
struct reading *reading_of(struct request *request);
void reading_add_credit(struct reading *self, uint64_t more);
void reading_cancel_stream(struct reading *self);

/* The group published: readings that wait for it go on. */
void readings_published(struct front *front);

/* The node stops: all are answered with ERR_SHUTDOWN. What is at the disk ends by itself. */
void readings_stop(struct front *front);

#endif
