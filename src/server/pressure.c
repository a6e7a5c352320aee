#include "server/pressure.h"

#include <inttypes.h>

#include "base/budget.h"
#include "base/container.h"
#include "base/diag.h"
#include "server/front.h"
#include "server/session.h"

enum {
    RETRY_MS = 10,
    WATCH_MS = 1000,
    STALL_MS = 5000, /* that one may take nothing of its answers while others wait for room */
};

/* Without memory for a deadline the next answer that is sent is the next chance. */
static void set(struct front *front, struct deadline *deadline, uint64_t in_ms)
{
    if (deadline->place == 0) {
        (void)front_deadline(front, deadline, front_now_ms(front) + in_ms);
    }
}

static void on_retry(struct deadline *deadline)
{
    struct front *front = CONTAINER_OF(deadline, struct front, pressure.starved);
    struct session *session = front->sessions;

    while (session != NULL) {
        struct session *next = session_next(session);

        session_feed(session);
        session = next;
    }
}

static void give_up(struct front *front, struct session *session)
{
    diag_event(front->node->diag, DIAG_WARN, "server", "connection_dropped",
               "reason=BUSY from=%s unread_bytes=%zu", session_peer(session),
               session_unread_size(session));
    session_close(session, 0);
}

static void on_watch(struct deadline *deadline)
{
    struct front *front = CONTAINER_OF(deadline, struct front, pressure.watch);
    bool scarce = budget_scarce(&front->node->leaving);
    struct session *session = front->sessions;
    bool unread = false;

    while (session != NULL) {
        struct session *next = session_next(session);

        if (scarce && session_stalled_ms(session) >= STALL_MS && !session_of_node(session)) {
            give_up(front, session);
        } else {
            unread = unread || session_unread_size(session) > 0;
        }
        session = next;
    }
    if (unread) {
        set(front, deadline, WATCH_MS);
    }
}

void pressure_init(struct front *front)
{
    front->pressure.starved.passed = on_retry;
    front->pressure.watch.passed = on_watch;
}

void pressure_fini(struct front *front)
{
    deadlines_cancel(&front->deadlines, &front->pressure.starved);
    deadlines_cancel(&front->deadlines, &front->pressure.watch);
}

void pressure_starved(struct front *front)
{
    set(front, &front->pressure.starved, RETRY_MS);
}

void pressure_watch(struct front *front)
{
    set(front, &front->pressure.watch, WATCH_MS);
}

void pressure_eased(struct front *front)
{
    struct session *session = front->sessions;

    while (session != NULL) {
        struct session *next = session_next(session);

        session_read_on(session);
        session = next;
    }
}
