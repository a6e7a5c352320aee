/*
 * An inquiry: one STATUS request. The own view is at hand; unless it is all that was asked for, the
 * other members are asked for theirs, side by side, and get 500 ms.
 */
#ifndef QUORLOG_SERVER_STATUS_H
#define QUORLOG_SERVER_STATUS_H

#include "base/err.h"
#include "raft_fsm/membership_plan.h"

struct frame;
struct front;
struct inquiry;
struct session;

struct statuses {
    struct inquiry *list;
};

/* A survey: the same, for one who decides by what the members answer. Called once: with the session
 * and a frame that has the request's type and id (both borrowed until return), and what the other
 * members told; session is NULL when nobody waits for an answer any more. */
typedef void (*status_survey_cb)(void *arg, struct session *session, const struct frame *frame,
                                 const struct member_fact *facts, unsigned count);

/* ERR_NOMEM: the callback does not come. It may come before this returns. */
enum err status_survey(struct session *session, const struct frame *frame, status_survey_cb cb,
                       void *arg);

/* A link came up, or has room: asks whom could not be asked before. */
void statuses_retry(struct front *front);

/* The node stops: answered with what is there. */
void statuses_stop(struct front *front);

#endif
