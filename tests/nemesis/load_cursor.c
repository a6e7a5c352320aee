/*
 * Keepers of cursors: several know the same few cursors of a topic, read them, set and delete them,
 * often only if they are what they were when they were seen last.
 */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/container.h"
#include "client/cursor.h"
#include "load.h"
#include "quorlog.pb-c.h"

enum { CURSOR_COUNT = 3, PAUSE_MAX_MS = 80 };

struct keeper {
    struct life life;
    uint64_t next_us;
    unsigned cursor;                  /* that is asked about now */
    uint64_t revisions[CURSOR_COUNT]; /* as seen last; 0: none */
    uint64_t tokens[CURSOR_COUNT];    /* of the last change that this one has made */
    char name[16];
    struct history_op op;
};

static struct keeper *keeper_of(struct life *life)
{
    return CONTAINER_OF(life, struct keeper, life);
}

static void end_op(struct keeper *self, const struct client_error *error)
{
    struct history_op *op = &self->op;

    self->life.under_way--;
    op->return_us = recorder_now_us();
    op->outcome = recorder_outcome(error);
    if (error->err != ERR_OK) {
        op->error = err_name(error->err);
    }
    if (error->err == ERR_CURSOR_CONFLICT) {
        op->revision = error->cursor.revision;
        op->offset = error->cursor.offset;
        self->revisions[self->cursor] = op->revision;
    }
    if (op->outcome == HISTORY_UNKNOWN && op->verb != HISTORY_CURSOR_GET) {
        self->life.topic->doubtful = true;
    }
    recorder_note(self->life.load->recorder, op, 0);
}

static void on_got(void *arg, const struct client_error *error, const uint8_t *reply,
                   size_t reply_size)
{
    static const struct client_error none = {.err = ERR_OK, .text = ""};
    struct keeper *self = arg;
    Quorlog__CursorGetReply *message = NULL;

    if (error->err == ERR_OK) {
        message = quorlog__cursor_get_reply__unpack(NULL, reply_size, reply);
        ASSERT(message != NULL && message->cursor != NULL);
        self->op.revision = message->cursor->revision;
        self->op.cursor_offset = message->cursor->offset;
        self->op.token = message->cursor->raft_index;
        self->op.node = (uint32_t)message->node_id;
    } else if (error->err == ERR_CURSOR_UNKNOWN) {
        error = &none; /* That there is none is an answer. */
    }
    self->revisions[self->cursor] = self->op.revision;
    end_op(self, error);
    if (message != NULL) {
        quorlog__cursor_get_reply__free_unpacked(message, NULL);
    }
}

static void on_set(void *arg, const struct client_error *error, const uint8_t *reply,
                   size_t reply_size)
{
    struct keeper *self = arg;
    Quorlog__CursorSetReply *message = NULL;

    if (error->err == ERR_OK) {
        message = quorlog__cursor_set_reply__unpack(NULL, reply_size, reply);
        ASSERT(message != NULL); /* The client has looked. */
        self->op.revision = message->revision;
        self->op.token = message->raft_index;
        self->revisions[self->cursor] = message->revision;
        self->tokens[self->cursor] = message->raft_index;
        quorlog__cursor_set_reply__free_unpacked(message, NULL);
    }
    end_op(self, error);
}

static void on_deleted(void *arg, const struct client_error *error, const uint8_t *reply,
                       size_t reply_size)
{
    struct keeper *self = arg;
    Quorlog__CursorDeleteReply *message = NULL;

    if (error->err == ERR_OK) {
        message = quorlog__cursor_delete_reply__unpack(NULL, reply_size, reply);
        ASSERT(message != NULL); /* The client has looked. */
        self->op.token = message->raft_index;
        self->revisions[self->cursor] = 0;
        self->tokens[self->cursor] = message->raft_index;
        quorlog__cursor_delete_reply__free_unpacked(message, NULL);
    }
    end_op(self, error);
}

static enum err get(struct keeper *self)
{
    struct history_op *op = &self->op;
    const struct topic *topic = self->life.topic;

    op->at_least = load_chance(self->life.load, 60) ? self->tokens[self->cursor] : 0;
    op->at_least = op->at_least < topic->made_token ? topic->made_token : op->at_least;
    op->mode = op->at_least > 0 ? HISTORY_READ_TOKEN : HISTORY_READ_LOCAL;
    return client_cursor_get(self->life.client, topic->name, self->name, op->at_least, on_got,
                             self);
}

static enum err change(struct keeper *self)
{
    struct history_op *op = &self->op;
    struct load *load = self->life.load;
    struct client_cursor_change change = {.topic = self->life.topic->name, .name = self->name};

    if (load_chance(load, 60)) {
        op->has_expect_revision = true;
        op->expect_revision = self->revisions[self->cursor];
        change.expect = CLIENT_CURSOR_REVISION;
        change.expected = op->expect_revision;
    }
    if (load_chance(load, 15)) {
        op->verb = HISTORY_CURSOR_DELETE;
        return client_cursor_delete(self->life.client, &change, on_deleted, self);
    }
    op->verb = HISTORY_CURSOR_SET;
    op->cursor_offset = load_choose(load, self->life.topic->end + 1);
    change.offset = op->cursor_offset;
    change.owner = self->life.number;
    return client_cursor_set(self->life.client, &change, on_set, self);
}

static void cursor_begin(struct life *life)
{
    life->leaving = topics_join(life, false) == NULL;
}

static void cursor_step(struct life *life)
{
    struct keeper *self = keeper_of(life);
    uint64_t now_us = recorder_now_us();
    enum err err;

    if (life->under_way > 0 || now_us < self->next_us) {
        return;
    }
    self->next_us = now_us + load_choose(life->load, PAUSE_MAX_MS) * 1000;
    self->cursor = (unsigned)load_choose(life->load, CURSOR_COUNT);
    (void)snprintf(self->name, sizeof self->name, "cursor-%u", self->cursor); /* fits */
    self->op = life_op(life, HISTORY_CURSOR);
    self->op.cursor = self->name;
    self->op.invoke_us = now_us;
    err = load_chance(life->load, 50) ? get(self) : change(self);
    if (err == ERR_OK) {
        life->under_way++;
    }
}

static void cursor_end(struct life *life)
{
    ASSERT(life->under_way == 0); /* Nothing is kept. */
}

const struct life_kind life_cursor = {
    .name = "load-cursor",
    .size = sizeof(struct keeper),
    .begin = cursor_begin,
    .step = cursor_step,
    .end = cursor_end,
};
