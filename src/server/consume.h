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
#ifndef QUORLOG_SERVER_CONSUME_H
#define QUORLOG_SERVER_CONSUME_H

#include <stdbool.h>
#include <stdint.h>

struct front;
struct reading;

struct readings {
    struct reading *all;
    struct reading *waiting; /* APPLYING and WAITING: looked at when the group publishes */
};

/* The group published: readings that wait for it go on. */
void readings_published(struct front *front);

/* The node stops: all are answered with ERR_SHUTDOWN. What is at the disk ends by itself. */
void readings_stop(struct front *front);

#endif
