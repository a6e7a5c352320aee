#include "server/cursor_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/assert.h"
#include "base/container.h"
#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/front.h"

enum {
    DEADLINE_DEFAULT_MS = 30000,
    /* Cursors in one answer, so that they fit into a header of 64 KiB. */
    PAGE_MAX = 80,
    /* Three texts of 200, 200 and 256 bytes, eight numbers of up to 10. */
    INFO_SIZE_MAX =
        3 * 3 + TOPIC_NAME_SIZE_MAX + CURSOR_NAME_SIZE_MAX + CURSOR_METADATA_SIZE_MAX + 8 * 11 + 4,
};
_Static_assert(PAGE_MAX *INFO_SIZE_MAX < FRAME_HEADER_SIZE_MAX - 64, "a page fits into a header");

enum view_state { VIEW_NEW, VIEW_WAITING, VIEW_LOOKING };

/* A cursor, as an answer shows it. */
struct seen {
    struct cursor cursor;
    char topic[TOPIC_NAME_SIZE_MAX + 1];
    uint64_t log_start;
    uint64_t log_end;
};

struct cursor_view {
    struct request request;
    struct front *front;
    enum view_state state;
    struct catalog *catalog; /* borrowed: it lasts longer than the front's work */
    bool list;
    char topic[TOPIC_NAME_SIZE_MAX + 1]; /* list: "" for all */
    char name[CURSOR_NAME_SIZE_MAX + 1]; /* the cursor, or the one behind which the list begins */
    uint64_t after_topic_id;
    uint64_t at_least;
    struct deadline deadline;
    struct cursor_view *prev;
    struct cursor_view *next;
    struct work work;
    enum err err;
    bool more;
    size_t count;
    struct seen items[]; /* PAGE_MAX, or 1 */
};

/* ---- looking: on a thread of the pool ---- */

/* Adds it, unless its topic has just gone. */
static void look_at(struct cursor_view *self, const struct cursor *cursor)
{
    struct topic *topic = catalog_find_id(self->catalog, cursor->topic_id);
    struct seen *item = &self->items[self->count];

    if (topic == NULL) {
        return;
    }
    *item = (struct seen){
        .cursor = *cursor, .log_start = topic_start(topic), .log_end = log_end(topic->log)};
    memcpy(item->topic, topic->name, sizeof item->topic);
    self->count++;
    topic_unref(topic);
}

static enum err look_at_page(struct cursor_view *self, uint64_t topic_id)
{
    struct cursor *found = malloc(PAGE_MAX * sizeof *found);
    struct cursors_page page = {.topic_id = topic_id,
                                .after_topic_id = self->after_topic_id,
                                .after_name = self->name,
                                .size_max = PAGE_MAX,
                                .cursors = found};
    enum err err;

    if (found == NULL) {
        return ERR_NOMEM;
    }
    do {
        err = cursors_list(catalog_cursors(self->catalog), &page);
        for (size_t i = 0; err == ERR_OK && i < page.count; i++) {
            look_at(self, &found[i]);
        }
        if (err == ERR_OK && page.count > 0) {
            /* All may be of topics that have gone: then on behind them. */
            self->after_topic_id = found[page.count - 1].topic_id;
            memcpy(self->name, found[page.count - 1].name, sizeof self->name);
            page.after_topic_id = self->after_topic_id;
        }
    } while (err == ERR_OK && self->count == 0 && page.more);
    self->more = page.more;
    free(found);
    return err;
}

static enum err look_at_one(struct cursor_view *self, uint64_t topic_id)
{
    struct cursor cursor;

    if (cursors_find(catalog_cursors(self->catalog), topic_id, self->name, &cursor)) {
        look_at(self, &cursor);
    }
    return self->count == 1 ? ERR_OK : ERR_CURSOR_UNKNOWN;
}

static void on_work(struct work *work)
{
    struct cursor_view *self = CONTAINER_OF(work, struct cursor_view, work);
    uint64_t topic_id = 0;

    ASSERT(self->count == 0);
    ASSERT(self->list || self->topic[0] != '\0');
    if (self->topic[0] != '\0') {
        struct topic *topic = catalog_find(self->catalog, self->topic);

        if (topic == NULL) {
            self->err = ERR_TOPIC_UNKNOWN;
            return;
        }
        topic_id = topic->id;
        topic_unref(topic);
    }
    self->err = self->list ? look_at_page(self, topic_id) : look_at_one(self, topic_id);
}

/* ---- answers ---- */

static void fill(struct seen *item, Quorlog__CursorInfo *ret_info)
{
    quorlog__cursor_info__init(ret_info);
    ret_info->topic = item->topic;
    ret_info->topic_id = item->cursor.topic_id;
    ret_info->name = item->cursor.name;
    ret_info->offset = item->cursor.at.offset;
    ret_info->revision = item->cursor.at.revision;
    ret_info->owner = item->cursor.at.owner;
    ret_info->updated_time_us = item->cursor.at.updated_time_us;
    ret_info->metadata = item->cursor.metadata;
    ret_info->log_start = item->log_start;
    ret_info->log_end = item->log_end;
    ret_info->raft_index = item->cursor.at.revision / COMMAND_COUNT_MAX;
}

static void reply_get(struct cursor_view *self)
{
    Quorlog__CursorGetReply reply = QUORLOG__CURSOR_GET_REPLY__INIT;
    Quorlog__CursorInfo info;

    ASSERT(self->count == 1);
    fill(&self->items[0], &info);
    reply.cursor = &info;
    reply.node_id = self->front->node->identity.node_id;
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_CURSOR_GET_REPLY, &reply.base, NULL);
}

static void reply_list(struct cursor_view *self)
{
    Quorlog__CursorListReply reply = QUORLOG__CURSOR_LIST_REPLY__INIT;
    Quorlog__CursorInfo infos[PAGE_MAX];
    Quorlog__CursorInfo *pointers[PAGE_MAX];

    ASSERT(self->count <= PAGE_MAX);
    for (size_t i = 0; i < self->count; i++) {
        fill(&self->items[i], &infos[i]);
        pointers[i] = &infos[i];
    }
    reply.cursors = pointers;
    reply.n_cursors = self->count;
    reply.node_id = self->front->node->identity.node_id;
    reply.more = self->more;
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_CURSOR_LIST_REPLY, &reply.base, NULL);
}

static void fail(struct cursor_view *self, enum err err, const char *text)
{
    struct failure failure;

    if (self->list) {
        (void)failure_set(&failure, err, "list cursors: %s", text);
    } else {
        (void)failure_set(&failure, err, "cursor '%s' of '%s': %s", self->name, self->topic, text);
    }
    failure.unknown = false; /* Looking changes nothing. */
    request_fail(&self->request, &failure);
}

static void on_work_done(struct work *work)
{
    struct cursor_view *self = CONTAINER_OF(work, struct cursor_view, work);

    if (self->err != ERR_OK) {
        fail(self, self->err, err_text(self->err));
    } else if (self->request.session != NULL && self->list) {
        reply_list(self);
    } else if (self->request.session != NULL) {
        reply_get(self);
    }
    free(self);
}

/* ---- waiting ---- */

static bool is_applied(const struct cursor_view *self)
{
    return group_applied_index(self->front->node->group) >= self->at_least;
}

static void stop_waiting(struct cursor_view *self)
{
    ASSERT(self->state == VIEW_WAITING);
    deadlines_cancel(&self->front->deadlines, &self->deadline);
    DL_DELETE(self->front->cursor_views.waiting, self);
}

static void look(struct cursor_view *self)
{
    ASSERT(self->state != VIEW_LOOKING);
    self->state = VIEW_LOOKING;
    work_start(&self->work, self->front);
}

static void on_deadline(struct deadline *deadline)
{
    struct cursor_view *self = CONTAINER_OF(deadline, struct cursor_view, deadline);
    char text[160];

    stop_waiting(self);
    (void)snprintf(text, sizeof text, /* fits */
                   "node %" PRIu64 " had applied entry %" PRIu64 " only, not %" PRIu64
                   ", when the deadline passed: try another node",
                   self->front->node->identity.node_id,
                   group_applied_index(self->front->node->group), self->at_least);
    fail(self, ERR_TIMEOUT, text);
    free(self);
}

static void begin(struct cursor_view *self, uint32_t deadline_ms)
{
    struct front *front = self->front;
    uint64_t wait_ms = deadline_ms == 0 ? DEADLINE_DEFAULT_MS : deadline_ms;

    if (is_applied(self)) {
        look(self);
        return;
    }
    if (front_deadline(front, &self->deadline, front_now_ms(front) + wait_ms) != ERR_OK) {
        fail(self, ERR_NOMEM, err_text(ERR_NOMEM));
        free(self);
        return;
    }
    self->state = VIEW_WAITING;
    DL_APPEND(front->cursor_views.waiting, self);
    front_watch(front);
    if (is_applied(self)) { /* It happened between the look and the list. */
        stop_waiting(self);
        look(self);
    }
}

void cursor_views_published(struct front *front)
{
    struct cursor_view *self;
    struct cursor_view *next;

    DL_FOREACH_SAFE(front->cursor_views.waiting, self, next)
    {
        if (is_applied(self)) {
            stop_waiting(self);
            look(self);
        }
    }
}

static void on_cancel(struct request *request, enum err err)
{
    struct cursor_view *self = CONTAINER_OF(request, struct cursor_view, request);

    if (err == ERR_SHUTDOWN) {
        request_fail_plain(request, err, "look at cursors");
    }
    request_end(request);
    if (self->state == VIEW_WAITING) {
        stop_waiting(self);
        free(self);
    } else if (work_cancel(&self->work)) {
        free(self);
    }
}

/* ---- frames ---- */

/* NULL: it was answered. */
static struct cursor_view *new_view(struct session *session, const struct frame *frame, bool list)
{
    struct front *front = session_front(session);
    size_t size = sizeof(struct cursor_view) + (list ? PAGE_MAX : 1) * sizeof(struct seen);
    struct cursor_view *self = calloc(1, size);
    struct failure failure;

    if (self == NULL) {
        (void)failure_set(&failure, ERR_NOMEM, "look at cursors: %s", err_text(ERR_NOMEM));
        api_refuse(session, frame, &failure);
        return NULL;
    }
    self->front = front;
    self->catalog = group_catalog(front->node->group);
    self->list = list;
    self->deadline.passed = on_deadline;
    self->request.cancel = on_cancel;
    self->work.run = on_work;
    self->work.done = on_work_done;
    request_begin(&self->request, session, frame, size);
    return self;
}

static void get(struct session *session, const struct frame *frame,
                const Quorlog__CursorGetRequest *request)
{
    struct cursor_view *self;

    if (!api_check_topic(session, frame, "look at a cursor of", request->topic) ||
        !api_check_cursor(session, frame, request->name)) {
        return;
    }
    self = new_view(session, frame, false);
    if (self != NULL) {
        (void)snprintf(self->topic, sizeof self->topic, "%s", request->topic); /* Checked. */
        (void)snprintf(self->name, sizeof self->name, "%s", request->name);    /* Checked. */
        self->at_least = request->at_least;
        begin(self, request->deadline_ms);
    }
}

void api_cursor_get(struct session *session, const struct frame *frame)
{
    Quorlog__CursorGetRequest *request =
        quorlog__cursor_get_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "CURSOR_GET");
        return;
    }
    get(session, frame, request);
    quorlog__cursor_get_request__free_unpacked(request, NULL);
}

static void list(struct session *session, const struct frame *frame,
                 const Quorlog__CursorListRequest *request)
{
    struct cursor_view *self;

    if (request->topic[0] != '\0' &&
        !api_check_topic(session, frame, "list the cursors of", request->topic)) {
        return;
    }
    self = new_view(session, frame, true);
    if (self != NULL) {
        (void)snprintf(self->topic, sizeof self->topic, "%s", request->topic); /* Checked. */
        /* One that is too long is cut: no cursor lies between the two. */
        (void)snprintf(self->name, sizeof self->name, "%s", request->after_name);
        self->after_topic_id = request->after_topic_id;
        self->at_least = request->at_least;
        begin(self, request->deadline_ms);
    }
}

void api_cursor_list(struct session *session, const struct frame *frame)
{
    Quorlog__CursorListRequest *request =
        quorlog__cursor_list_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "CURSOR_LIST");
        return;
    }
    list(session, frame, request);
    quorlog__cursor_list_request__free_unpacked(request, NULL);
}
