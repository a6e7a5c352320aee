/*
 * How fresh a read wants this replica to be, and whether it is.
 *
 *   linearizable   shows everything that was acknowledged before the request came
 *   max_lag        shows everything that was acknowledged max_lag before the request came, or
 *                  earlier; a stream keeps to it for as long as it lasts
 *
 * Both are a moment, need_ns: a read index of a question not older than that is needed
 * (read_index.h), and is then a token like any other, to be applied before the read goes on.
 */
#ifndef QUORLOG_SERVER_FRESHNESS_H
#define QUORLOG_SERVER_FRESHNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/read_index.h"
#include "server/session.h"

/* Embedded; all zero asks for nothing. */
struct freshness {
    uint64_t need_ns;    /* 0: nothing is needed now */
    uint64_t max_lag_ns; /* 0: no bound */
    uint64_t fresh_ns;   /* of the question whose index was taken last */
    struct index_wait wait;
};

/* For a request that came now; at most one of the two. */
void freshness_init(struct freshness *self, const struct front *front, bool linearizable,
                    uint32_t max_lag_ms);

/* For streams: whether what was found out is older than max_lag, so that it is needed anew. */
bool freshness_renew(struct freshness *self);

/* How long a stream that waits at the end may go on without looking; 0: for ever. */
uint64_t freshness_renew_ms(const struct freshness *self);

/* True when nothing is needed (any more); then *at_least is raised to the index to be applied. */
bool freshness_confirmed(struct freshness *self, const struct front *front, uint64_t *at_least);

/* Calls `known` when freshness_confirmed will be true, unless forgotten. */
void freshness_wait(struct freshness *self, struct front *front,
                    void (*known)(struct index_wait *wait));
void freshness_forget(struct freshness *self, struct front *front);

/* Why a read failed whose deadline passed before it was confirmed, or before at_least was
 * applied. */
void freshness_explain_unconfirmed(const struct freshness *self, const struct front *front,
                                   struct failure *ret_failure);
void freshness_explain_behind(const struct freshness *self, const struct front *front,
                              uint64_t at_least, struct failure *ret_failure);

#endif
