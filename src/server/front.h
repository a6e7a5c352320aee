/*
 * A front thread: a loop with its share of the connections, of what they ask for, and of links to
 * other nodes. All that a front owns is touched by its own thread only; others reach it through
 * its mailboxes (letters, answers of the group) and front_published.
 *
 *      RUNNING --stop letter--> STOPPING --finish letter--> FINISHING --all closed--> thread ends
 *
 *      STOPPING   New requests are refused; reads and waits are over; what the group has, goes on,
 *                 and what was passed on to other nodes is waited for, up to transfer_ms.
 *      FINISHING  The group has stopped: all its answers are here. Connections close.
 */
#ifndef QUORLOG_SERVER_FRONT_H
#define QUORLOG_SERVER_FRONT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/mailbox.h"
#include "base/turns.h"
#include "server/change.h"
#include "server/cursor_view.h"
#include "server/deadline.h"
#include "server/elsewhere.h"
#include "server/node.h"
#include "server/read_index.h"
#include "server/reading.h"
#include "server/remote.h"
#include "server/status.h"
#include "server/work.h"
#include "transport/waker.h"

struct session;

enum front_state { FRONT_RUNNING, FRONT_STOPPING, FRONT_FINISHING, FRONT_FINISHED };

/* What a turn of the loop is told to have done (base/turns.h). */
enum front_step { FRONT_SOCKETS, FRONT_ANSWERS, FRONT_TIMERS, FRONT_WORKS, FRONT_STEPS };

enum letter_type { LETTER_SOCKET, LETTER_STOP, LETTER_FINISH };

struct letter {
    struct mail mail;
    enum letter_type type;
    int fd; /* SOCKET: passed on with the letter */
};

struct front {
    struct node *node; /* borrowed */
    enum front_state state;
    uv_thread_t thread;
    uv_loop_t loop;
    struct waker waker;
    uv_timer_t timer;
    uv_check_t check;     /* after the events of one wait */
    uv_prepare_t prepare; /* before the next wait: the turn's end */
    unsigned handles;     /* of the four above, how many are open */
    struct turns turns;   /* of the loop: written by its thread, read by any */
    struct mailbox letters;
    struct mailbox answers;          /* struct group_request, done */
    struct mailbox captures;         /* struct group_capture, done */
    struct mailbox indexes_answered; /* struct group_read, done */
    struct letter stop;
    struct letter finish;
    bool finish_asked;
    struct deadline drained; /* FINISHING begins then, whatever other nodes have not answered */
    atomic_bool waits;       /* somebody here wants to know what the group publishes */
    atomic_bool published;   /* it did, and nobody here has looked yet */
    struct session *sessions;
    struct deadlines deadlines;
    struct changes changes;
    struct readings readings;
    struct cursor_views cursor_views;
    struct read_indexes indexes;
    struct statuses statuses;
    struct elsewheres elsewheres;
    struct remotes remotes;
    struct works works;
};

/* Starts the thread. ERR_NOMEM, ERR_IO; nothing is left then. */
enum err front_start(struct front *self, struct node *node, struct err_info *info);

/* (main thread) Passes a connected socket on; it is closed when that fails. */
void front_accept(struct front *self, int fd);

/* (main thread) The two steps of the end; after the second the thread is gone. */
void front_stop(struct front *self);
void front_finish(struct front *self);

/* (raft thread) */
void front_published(struct front *self);
void front_answer(struct front *self, struct group_request *request);
void front_captured(struct front *self, struct group_capture *capture);
void front_index_answer(struct front *self, struct group_read *read);

/* (own thread) Milliseconds of the loop's clock. */
uint64_t front_now_ms(const struct front *self);

/* (own thread) Call after adding something that waits for what the group publishes, and before the
 * last look at it. */
void front_watch(struct front *self);

/* (own thread) Sets a deadline. ERR_NOMEM. */
enum err front_deadline(struct front *self, struct deadline *deadline, uint64_t at_ms);

/* (own thread) What is done from here on is this, until the next one; after it SOCKETS. */
void front_step(struct front *self, enum front_step step);

/* (own thread) Something ended that FINISHING waits for. */
void front_check_finished(struct front *self);

#endif
