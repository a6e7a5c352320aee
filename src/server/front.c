/*
 * Happy path: letters bring sockets, sessions bring requests, the group's answers and what it
 * publishes move them on. The end comes in two steps (front.h); the thread ends when the last
 * handle of its loop is closed, which front_check_finished begins when nothing is left.
 */
#include "server/front.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/container.h"
#include "server/api.h"
#include "server/session.h"

/* ---- time ---- */

uint64_t front_now_ms(const struct front *self)
{
    return uv_now(&self->loop);
}

static void on_timer(uv_timer_t *timer);

static void arm_timer(struct front *self)
{
    uint64_t next_ms = deadlines_next_ms(&self->deadlines);
    uint64_t now_ms = front_now_ms(self);
    int rv;

    if (next_ms == UINT64_MAX || self->state == FRONT_FINISHED) {
        return;
    }
    rv = uv_timer_start(&self->timer, on_timer, next_ms > now_ms ? next_ms - now_ms : 0, 0);
    ASSERT(rv == 0); /* Fails only for a closing handle. */
}

static void on_timer(uv_timer_t *timer)
{
    struct front *self = timer->data;
    struct deadline *deadline;

    front_step(self, FRONT_TIMERS);
    while ((deadline = deadlines_pop(&self->deadlines, front_now_ms(self))) != NULL) {
        deadline->passed(deadline);
    }
    arm_timer(self);
    front_step(self, FRONT_SOCKETS);
}

enum err front_deadline(struct front *self, struct deadline *deadline, uint64_t at_ms)
{
    enum err err = deadlines_set(&self->deadlines, deadline, at_ms);

    /* A timer that runs for one that was canceled since comes early, and finds nothing. */
    if (err == ERR_OK && deadlines_next_ms(&self->deadlines) == at_ms) {
        arm_timer(self);
    }
    return err;
}

/* ---- turns ---- */

void front_step(struct front *self, enum front_step step)
{
    turns_begin(&self->turns);
    (void)turns_step(&self->turns, step); /* Steps do not nest here. */
}

static void on_check(uv_check_t *check)
{
    struct front *self = check->data;

    turns_begin(&self->turns); /* If none of what came first has. */
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct front *self = prepare->data;

    turns_end(&self->turns);
}

static void init_turns(struct front *self)
{
    static const char *const steps[FRONT_STEPS] = {
        [FRONT_SOCKETS] = "sockets",
        [FRONT_ANSWERS] = "answers",
        [FRONT_TIMERS] = "timers",
        [FRONT_WORKS] = "works",
    };

    turns_init(&self->turns,
               &(struct turns_options){.clock = self->node->clock,
                                       .diag = self->node->diag,
                                       .thread = "front",
                                       .steps = steps,
                                       .step_count = FRONT_STEPS,
                                       .stall_us = self->node->config->stall_warn_ms * 1000});
    (void)uv_check_init(&self->loop, &self->check); /* None of these can fail. */
    (void)uv_check_start(&self->check, on_check);
    (void)uv_prepare_init(&self->loop, &self->prepare);
    (void)uv_prepare_start(&self->prepare, on_prepare);
    self->check.data = self;
    self->prepare.data = self;
}

/* ---- what the group publishes ---- */

void front_watch(struct front *self)
{
    /* An exchange, not a store: what is read next must not be older than it. */
    (void)atomic_exchange(&self->waits, true);
}

void front_published(struct front *self)
{
    if (atomic_exchange(&self->waits, false)) {
        atomic_store(&self->published, true);
        waker_wake(&self->waker);
    }
}

static void look_at_group(struct front *self)
{
    if (!atomic_exchange(&self->published, false) || self->state != FRONT_RUNNING) {
        return;
    }
    if (changes_wait(&self->changes) || self->readings.waiting != NULL ||
        self->cursor_views.waiting != NULL || self->indexes.waits != NULL) {
        front_watch(self);
    }
    changes_published(self);
    read_indexes_published(self);
    readings_published(self);
    cursor_views_published(self);
}

void front_answer(struct front *self, struct group_request *request)
{
    enum err err = mailbox_post_always(&self->answers, &request->mail, 0);

    ASSERT(err == ERR_OK); /* Closed only after the group has stopped. */
}

void front_captured(struct front *self, struct group_capture *capture)
{
    enum err err = mailbox_post_always(&self->captures, &capture->mail, 0);
    ASSERT(err == ERR_OK); /* Closed only after the group has stopped. */
}

void front_index_answer(struct front *self, struct group_read *read)
{
    enum err err = mailbox_post_always(&self->indexes_answered, &read->mail, 0);

    ASSERT(err == ERR_OK); /* As above. */
}

/* ---- the end ---- */

static void on_stopped(void *arg)
{
    struct front *self = arg;

    ASSERT(self->handles > 0);
    self->handles--;
}

static void on_handle_closed(uv_handle_t *handle)
{
    on_stopped(handle->data);
}

static void close_handles(struct front *self)
{
    waker_stop(&self->waker, on_stopped);
    uv_close((uv_handle_t *)&self->timer, on_handle_closed);
    uv_close((uv_handle_t *)&self->check, on_handle_closed);
    uv_close((uv_handle_t *)&self->prepare, on_handle_closed);
}

void front_check_finished(struct front *self)
{
    if (self->state == FRONT_STOPPING && self->finish_asked) {
        waker_wake(&self->waker); /* That may have been the last answer. */
        return;
    }
    if (self->state != FRONT_FINISHING || self->sessions != NULL || self->remotes.list != NULL ||
        self->readings.all != NULL || self->indexes.state != INDEX_IDLE ||
        self->statuses.list != NULL || self->changes.count > 0 || self->works.under_way > 0) {
        return;
    }
    self->state = FRONT_FINISHED;
    close_handles(self);
}

static void stop(struct front *self)
{
    ASSERT(self->state == FRONT_RUNNING);
    self->state = FRONT_STOPPING;
    changes_stop(self);
    readings_stop(self);
    read_indexes_stop(self);
    statuses_stop(self);
}

static void on_drained(struct deadline *deadline)
{
    struct front *self = CONTAINER_OF(deadline, struct front, drained);

    ASSERT(self->finish_asked);
    waker_wake(&self->waker);
}

/* Once it was asked for, and the answers of other nodes are here, or their time is over. */
static void try_finish(struct front *self)
{
    struct session *session = self->sessions;

    if (self->state != FRONT_STOPPING || !self->finish_asked ||
        (self->changes.sent != NULL && self->drained.place != 0)) {
        return;
    }
    deadlines_cancel(&self->deadlines, &self->drained);
    self->state = FRONT_FINISHING;
    while (session != NULL) {
        struct session *next = session_next(session);

        session_stop(session); /* It is freed later, from the loop. */
        session = next;
    }
    remotes_close(self);
    front_check_finished(self);
}

/* ---- letters ---- */

static void take_socket(struct front *self, struct letter *letter)
{
    if (self->state == FRONT_RUNNING) {
        session_open(self, letter->fd);
    } else {
        (void)close(letter->fd); /* Nothing was said on it. */
        atomic_fetch_sub(&self->node->sockets, 1);
    }
    free(letter);
}

static void read_letter(struct front *self, struct letter *letter)
{
    switch (letter->type) {
    case LETTER_SOCKET:
        take_socket(self, letter);
        break;
    case LETTER_STOP:
        stop(self);
        break;
    case LETTER_FINISH:
        self->finish_asked = true;
        self->drained.passed = on_drained;
        /* Without memory for it nothing is waited for. */
        (void)front_deadline(self, &self->drained,
                             front_now_ms(self) + self->node->config->transfer_ms);
        break;
    }
}

static void on_woken(void *arg)
{
    struct front *self = arg;
    /* Letters are taken first and read last: whatever the group answered before a letter was
     * posted is dealt with before it. */
    struct mail *letters = mailbox_take(&self->letters);
    struct mail *answers = mailbox_take(&self->answers);
    struct mail *captures = mailbox_take(&self->captures);
    struct mail *indexes = mailbox_take(&self->indexes_answered);

    front_step(self, FRONT_ANSWERS);
    while (answers != NULL) {
        struct mail *next = answers->next;

        change_answered(CONTAINER_OF(answers, struct group_request, mail));
        answers = next;
    }
    while (captures != NULL) {
        struct mail *next = captures->next;

        manifest_captured(CONTAINER_OF(captures, struct group_capture, mail));
        captures = next;
    }
    while (indexes != NULL) {
        struct mail *next = indexes->next;

        read_indexes_answered(self, CONTAINER_OF(indexes, struct group_read, mail));
        indexes = next;
    }
    changes_retry(self); /* An answer is room for what was held back. */
    look_at_group(self);
    while (letters != NULL) {
        struct mail *next = letters->next;

        read_letter(self, CONTAINER_OF(letters, struct letter, mail));
        letters = next;
    }
    try_finish(self);
    front_step(self, FRONT_SOCKETS);
}

static void wake(void *arg)
{
    struct front *self = arg;

    waker_wake(&self->waker);
}

void front_accept(struct front *self, int fd)
{
    struct letter *letter = malloc(sizeof *letter);
    enum err err = ERR_NOMEM;

    if (letter != NULL) {
        *letter = (struct letter){.type = LETTER_SOCKET, .fd = fd};
        err = mailbox_post(&self->letters, &letter->mail, sizeof *letter);
    }
    if (err != ERR_OK) {
        free(letter);
        (void)close(fd); /* Nothing was said on it. */
        atomic_fetch_sub(&self->node->sockets, 1);
        diag_event(self->node->diag, DIAG_WARN, "server", "connection_dropped", "reason=%s",
                   err_name(err));
    }
}

void front_stop(struct front *self)
{
    enum err err;

    self->stop.type = LETTER_STOP;
    err = mailbox_post_always(&self->letters, &self->stop.mail, 0);
    ASSERT(err == ERR_OK);
}

void front_finish(struct front *self)
{
    enum err err;
    int rv;

    self->finish.type = LETTER_FINISH;
    err = mailbox_post_always(&self->letters, &self->finish.mail, 0);
    ASSERT(err == ERR_OK);
    rv = uv_thread_join(&self->thread);
    ASSERT(rv == 0);
    mailbox_close(&self->letters);
    mailbox_close(&self->answers);
    mailbox_close(&self->captures);
    mailbox_close(&self->indexes_answered);
    mailbox_fini(&self->letters);
    mailbox_fini(&self->answers);
    mailbox_fini(&self->captures);
    mailbox_fini(&self->indexes_answered);
    deadlines_fini(&self->deadlines);
    waker_fini(&self->waker);
    rv = uv_loop_close(&self->loop);
    ASSERT(rv == 0); /* All handles are closed. */
}

/* ---- the beginning ---- */

static void run(void *arg)
{
    struct front *self = arg;
    int rv = uv_run(&self->loop, UV_RUN_DEFAULT);

    ASSERT(rv == 0 && self->handles == 0);
    ASSERT(self->state == FRONT_FINISHED);
}

enum err front_start(struct front *self, struct node *node, struct err_info *info)
{
    enum { LETTERS_SIZE_MAX = 65536 };
    enum err err;
    int rv;

    ASSERT(self->node == NULL);
    rv = uv_loop_init(&self->loop);
    if (rv != 0) {
        return err_set(info, err_from_uv(rv), "start a thread for connections: %s",
                       uv_strerror(rv));
    }
    err = waker_init(&self->waker);
    if (err == ERR_OK) {
        err = waker_start(&self->waker, &self->loop, on_woken, self);
    }
    if (err != ERR_OK) {
        goto err_after_waker;
    }
    (void)uv_timer_init(&self->loop, &self->timer); /* Cannot fail. */
    self->node = node;
    self->handles = 4;
    self->timer.data = self;
    init_turns(self);
    mailbox_init(&self->letters, LETTERS_SIZE_MAX, wake, self);
    mailbox_init(&self->answers, SIZE_MAX, wake, self);
    mailbox_init(&self->captures, SIZE_MAX, wake, self);
    mailbox_init(&self->indexes_answered, SIZE_MAX, wake, self);
    changes_init(self);
    read_indexes_init(self);
    rv = uv_thread_create(&self->thread, run, self);
    if (rv == 0) {
        return ERR_OK;
    }
    self->state = FRONT_FINISHED;
    close_handles(self);
    (void)uv_run(&self->loop, UV_RUN_DEFAULT); /* Until they are closed. */
    mailbox_close(&self->letters);
    mailbox_close(&self->answers);
    mailbox_close(&self->captures);
    mailbox_close(&self->indexes_answered);
    mailbox_fini(&self->letters);
    mailbox_fini(&self->answers);
    mailbox_fini(&self->captures);
    mailbox_fini(&self->indexes_answered);
    self->node = NULL;
    err = err_from_uv(rv);
err_after_waker:
    waker_fini(&self->waker);
    (void)uv_loop_close(&self->loop); /* Nothing is open in it. */
    return err_set(info, err, "start a thread for connections: %s", err_text(err));
}
