/*
 * Setting and deleting cursors: changes (change.h) without a body. Looking at them is in
 * cursor_view.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/change.h"
#include "server/front.h"

_Static_assert((int)CURSOR_EXPECT_ANY == (int)QUORLOG__CURSOR_EXPECT__CURSOR_EXPECT_ANY &&
                   (int)CURSOR_EXPECT_REVISION ==
                       (int)QUORLOG__CURSOR_EXPECT__CURSOR_EXPECT_REVISION &&
                   (int)CURSOR_EXPECT_OFFSET == (int)QUORLOG__CURSOR_EXPECT__CURSOR_EXPECT_OFFSET,
               "one set of numbers");

/* ---- what set and delete share ---- */

static enum err command(struct change *self, enum command_type type, struct command *ret_command)
{
    ASSERT(self->cursor != NULL);
    *ret_command = (struct command){.type = type};
    ret_command->cursor = self->cursor; /* Lives as long as the change. */
    return ERR_OK;
}

/* Tells what the cursor is instead of what was expected. */
static void refuse(const struct change *self, const struct fsm_result *result,
                   struct failure *failure)
{
    const struct cursor_position *at = &result->cursor;

    if (result->err == ERR_RANGE) {
        (void)failure_set(failure, ERR_RANGE,
                          "cursor '%s': offset %" PRIu64 " lies beyond the topic's end",
                          self->cursor->name, self->cursor->offset);
    } else if (result->err != ERR_CURSOR_CONFLICT) {
        (void)failure_set(failure, result->err, "cursor '%s': %s", self->cursor->name,
                          err_text(result->err));
    } else if (at->revision == 0) {
        (void)failure_set(failure, ERR_CURSOR_CONFLICT, "cursor '%s' does not exist",
                          self->cursor->name);
    } else {
        (void)failure_set(failure, ERR_CURSOR_CONFLICT,
                          "cursor '%s' is at offset %" PRIu64 ", revision %" PRIu64
                          ", which is not what was expected",
                          self->cursor->name, at->offset, at->revision);
    }
    failure->cursor = result->err == ERR_CURSOR_CONFLICT ? at : NULL;
    failure->raft_index = result->raft_index;
}

/* False when the request was answered: it cannot be carried out. */
static bool check(struct session *session, const struct frame *frame, const char *topic,
                  const char *name, int expect)
{
    struct failure failure;

    if (!api_check_topic(session, frame, "change a cursor of", topic) ||
        !api_check_cursor(session, frame, name)) {
        return false;
    }
    if (expect == CURSOR_EXPECT_ANY || expect == CURSOR_EXPECT_REVISION ||
        expect == CURSOR_EXPECT_OFFSET) {
        return true;
    }
    (void)failure_set(&failure, ERR_INVALID, "cursor '%s': unknown kind of expectation: %d", name,
                      expect);
    api_refuse(session, frame, &failure);
    return false;
}

/* A change with room for what it is to do; NULL: it was answered. */
static struct change *new_change(struct session *session, const struct frame *frame,
                                 const struct change_kind *kind, const char *topic,
                                 const char *name)
{
    struct cursor_change *cursor = calloc(1, sizeof *cursor);
    struct change *change;
    struct failure failure;
    enum err err = cursor == NULL ? ERR_NOMEM : change_new(session, frame, kind, &change);

    if (err != ERR_OK) {
        free(cursor);
        (void)failure_set(&failure, err, "%s '%s': %s", kind->verb, topic, err_text(err));
        api_refuse(session, frame, &failure);
        return NULL;
    }
    change->cursor = cursor;
    (void)snprintf(change->topic, sizeof change->topic, "%s", topic); /* Checked, as the next. */
    (void)snprintf(cursor->topic, sizeof cursor->topic, "%s", topic);
    (void)snprintf(cursor->name, sizeof cursor->name, "%s", name);
    return change;
}

static char *unchanged(const char *text)
{
    return (char *)(uintptr_t)text; /* Not written to. */
}

/* ---- set ---- */

static enum err set_command(struct change *self, struct command *ret_command)
{
    return command(self, COMMAND_CURSOR_SET, ret_command);
}

static void set_reply(struct change *self, const struct fsm_result *result)
{
    Quorlog__CursorSetReply reply = QUORLOG__CURSOR_SET_REPLY__INIT;

    ASSERT(result->err == ERR_OK && result->cursor.revision > 0);
    reply.revision = result->cursor.revision;
    reply.raft_index = result->raft_index;
    reply.topic_id = result->topic_id;
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

static size_t set_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    Quorlog__CursorSetRequest request = QUORLOG__CURSOR_SET_REQUEST__INIT;
    const struct cursor_change *cursor = self->cursor;

    request.topic = unchanged(cursor->topic);
    request.name = unchanged(cursor->name);
    request.expect = (Quorlog__CursorExpect)cursor->expect;
    request.expected = cursor->expected;
    request.offset = cursor->offset;
    request.owner = cursor->owner;
    request.metadata = unchanged(cursor->metadata);
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    ASSERT(quorlog__cursor_set_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__cursor_set_request__pack(&request, to);
}

static const struct change_kind set_kind = {
    .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_SET_REPLY,
    .verb = "set a cursor of",
    .command = set_command,
    .reply = set_reply,
    .refuse = refuse,
    .pack = set_pack,
};

static bool check_metadata(struct session *session, const struct frame *frame, const char *metadata)
{
    struct failure failure;

    if (strlen(metadata) <= CURSOR_METADATA_SIZE_MAX) {
        return true;
    }
    (void)failure_set(&failure, ERR_INVALID, "a cursor's metadata has %zu bytes, more than %d",
                      strlen(metadata), CURSOR_METADATA_SIZE_MAX);
    api_refuse(session, frame, &failure);
    return false;
}

static void start_set(struct session *session, const struct frame *frame,
                      const Quorlog__CursorSetRequest *request)
{
    struct change *change = new_change(session, frame, &set_kind, request->topic, request->name);
    struct cursor_change *cursor;

    if (change == NULL) {
        return;
    }
    cursor = change->cursor;
    cursor->expect = (enum cursor_expect)request->expect;
    cursor->expected = request->expected;
    cursor->offset = request->offset;
    cursor->owner = request->owner;
    memcpy(cursor->metadata, request->metadata, strlen(request->metadata)); /* Checked. */
    change->forwarded = request->forwarded;
    change_start(change, request->deadline_ms);
}

void api_cursor_set(struct session *session, const struct frame *frame)
{
    Quorlog__CursorSetRequest *request =
        quorlog__cursor_set_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "CURSOR_SET");
        return;
    }
    if (check(session, frame, request->topic, request->name, (int)request->expect) &&
        check_metadata(session, frame, request->metadata)) {
        start_set(session, frame, request);
    }
    quorlog__cursor_set_request__free_unpacked(request, NULL);
}

/* ---- delete ---- */

static enum err delete_command(struct change *self, struct command *ret_command)
{
    return command(self, COMMAND_CURSOR_DELETE, ret_command);
}

static void delete_reply(struct change *self, const struct fsm_result *result)
{
    Quorlog__CursorDeleteReply reply = QUORLOG__CURSOR_DELETE_REPLY__INIT;

    ASSERT(result->err == ERR_OK);
    reply.raft_index = result->raft_index;
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

static size_t delete_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    Quorlog__CursorDeleteRequest request = QUORLOG__CURSOR_DELETE_REQUEST__INIT;
    const struct cursor_change *cursor = self->cursor;

    request.topic = unchanged(cursor->topic);
    request.name = unchanged(cursor->name);
    request.expect = (Quorlog__CursorExpect)cursor->expect;
    request.expected = cursor->expected;
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    ASSERT(quorlog__cursor_delete_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__cursor_delete_request__pack(&request, to);
}

static const struct change_kind delete_kind = {
    .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_DELETE_REPLY,
    .verb = "delete a cursor of",
    .command = delete_command,
    .reply = delete_reply,
    .refuse = refuse,
    .pack = delete_pack,
};

static void start_delete(struct session *session, const struct frame *frame,
                         const Quorlog__CursorDeleteRequest *request)
{
    struct change *change = new_change(session, frame, &delete_kind, request->topic, request->name);

    if (change == NULL) {
        return;
    }
    change->cursor->expect = (enum cursor_expect)request->expect;
    change->cursor->expected = request->expected;
    change->forwarded = request->forwarded;
    change_start(change, request->deadline_ms);
}

void api_cursor_delete(struct session *session, const struct frame *frame)
{
    Quorlog__CursorDeleteRequest *request =
        quorlog__cursor_delete_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "CURSOR_DELETE");
        return;
    }
    if (check(session, frame, request->topic, request->name, (int)request->expect)) {
        start_delete(session, frame, request);
    }
    quorlog__cursor_delete_request__free_unpacked(request, NULL);
}
