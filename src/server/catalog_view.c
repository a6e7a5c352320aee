/*
 * Looking at topics: TOPIC_LIST and TOPIC_DESCRIBE. The digest of a topic's last batch is read from
 * its log, so a thread of the pool does it all.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/container.h"
#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/front.h"
#include "server/settings.h"

/* Topics in one answer: at most 300 bytes each, in a header of 64 KiB. */
enum { PAGE_MAX = 200, INFO_SIZE_MAX = 300 };
_Static_assert(PAGE_MAX *INFO_SIZE_MAX < FRAME_HEADER_SIZE_MAX, "a page fits into a header");

/* A topic, as an answer shows it. */
struct view_topic {
    char name[TOPIC_NAME_SIZE_MAX + 1];
    uint8_t digest[DIGEST_SIZE];
    bool has_digest;
    uint64_t id;
    uint64_t start;
    uint64_t end;
    uint64_t size;
    unsigned segments;
    struct topic_forecast next;
    struct topic_compaction compaction;
    uint64_t cleaned_to;
    int64_t created_time_us;
    struct topic_settings settings;
};

/* What a description has beside it. */
struct view_indexes {
    struct lookup_status items[LOOKUP_INDEXES_MAX];
    size_t count;
};

struct view {
    struct request request;
    struct front *front;
    struct catalog *catalog; /* borrowed: it lasts longer than the front's work */
    bool list;
    char name[TOPIC_NAME_SIZE_MAX + 1]; /* the topic, or the one behind which the list begins */
    struct work work;
    enum err err;
    bool more;
    struct view_indexes indexes;
    size_t count;
    struct view_topic topics[]; /* PAGE_MAX, or 1 */
};

static void look_at(struct topic *topic, struct view_topic *ret_view)
{
    struct batch_header header;

    *ret_view = (struct view_topic){
        .id = topic->id,
        .start = topic_start(topic),
        .end = log_end(topic->log),
        .size = log_size(topic->log),
        .segments = log_segment_count(topic->log),
        .created_time_us = topic->created_time_us,
    };
    topic_forecast_get(topic, &ret_view->next);
    topic_compaction_get(topic, &ret_view->compaction);
    ret_view->cleaned_to = atomic_load(&topic->cleaned_to);
    if (ret_view->next.to <= ret_view->start) { /* It has happened since. */
        ret_view->next.bound = RETENTION_NONE;
    }
    (void)snprintf(ret_view->name, sizeof ret_view->name, "%s", topic->name); /* Same size. */
    topic_settings_get(topic, &ret_view->settings);
    /* Without a digest where it cannot be read: the rest is worth telling. */
    if (ret_view->end > ret_view->start &&
        log_read_header(topic->log, ret_view->end - 1, &header, NULL) == ERR_OK) {
        memcpy(ret_view->digest, header.digest, DIGEST_SIZE);
        ret_view->has_digest = true;
    }
}

static enum err look_at_all(struct view *self)
{
    struct topic **topics = NULL;
    size_t count = 0;
    enum err err = catalog_list(self->catalog, &topics, &count);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(topics[i]->name, self->name) > 0) {
            if (self->count < PAGE_MAX) {
                look_at(topics[i], &self->topics[self->count++]);
            } else {
                self->more = true;
            }
        }
        topic_unref(topics[i]);
    }
    free(topics);
    return ERR_OK;
}

static void on_work(struct work *work)
{
    struct view *self = CONTAINER_OF(work, struct view, work);
    struct topic *topic;

    ASSERT(self->count == 0);
    if (self->list) {
        self->err = look_at_all(self);
        return;
    }
    topic = catalog_find(self->catalog, self->name);
    self->err = topic == NULL ? ERR_TOPIC_UNKNOWN : ERR_OK;
    if (topic != NULL) {
        look_at(topic, &self->topics[self->count++]);
        self->indexes.count =
            lookup_status(node_lookup(self->front->node), topic, self->indexes.items);
        topic_unref(topic);
    }
}

static void fill(struct view_topic *view, Quorlog__TopicInfo *ret_info)
{
    quorlog__topic_info__init(ret_info);
    ret_info->name = view->name;
    ret_info->id = view->id;
    ret_info->start = view->start;
    ret_info->end = view->end;
    ret_info->size = view->size;
    ret_info->segments = view->segments;
    ret_info->created_time_us = view->created_time_us;
    ret_info->digest.data = view->digest;
    ret_info->digest.len = view->has_digest ? DIGEST_SIZE : 0;
}

static void reply_list(struct view *self)
{
    Quorlog__TopicListReply reply = QUORLOG__TOPIC_LIST_REPLY__INIT;
    Quorlog__TopicInfo infos[PAGE_MAX];
    Quorlog__TopicInfo *pointers[PAGE_MAX];

    ASSERT(self->count <= PAGE_MAX);
    for (size_t i = 0; i < self->count; i++) {
        fill(&self->topics[i], &infos[i]);
        pointers[i] = &infos[i];
    }
    reply.topics = pointers;
    reply.n_topics = self->count;
    reply.node_id = self->front->node->identity.node_id;
    reply.more = self->more;
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST_REPLY, &reply.base, NULL);
}

_Static_assert((int)RETENTION_AGE == (int)QUORLOG__RETENTION_BOUND__RETENTION_BOUND_AGE &&
                   (int)RETENTION_BYTES == (int)QUORLOG__RETENTION_BOUND__RETENTION_BOUND_BYTES &&
                   (int)RETENTION_RECORDS == (int)QUORLOG__RETENTION_BOUND__RETENTION_BOUND_RECORDS,
               "one set of numbers");

static void fill_next(const struct topic_forecast *from, Quorlog__RetentionForecast *ret_next)
{
    quorlog__retention_forecast__init(ret_next);
    ret_next->bound = (Quorlog__RetentionBound)from->bound;
    ret_next->from = from->from;
    ret_next->to = from->to;
    ret_next->in_ms = from->in_ms;
    ret_next->room = from->room;
}

_Static_assert(
    (int)COMPACTION_CLEANING == (int)QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_CLEANING &&
        (int)COMPACTION_DIRTY == (int)QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_DIRTY &&
        (int)COMPACTION_SEALED == (int)QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_SEALED &&
        (int)COMPACTION_TOMBSTONES == (int)QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_TOMBSTONES,
    "one set of numbers");

/* False: it is not compacted, and was not. */
static bool fill_compaction(const struct view_topic *view, Quorlog__CompactionState *ret_state)
{
    const struct topic_compaction *from = &view->compaction;

    quorlog__compaction_state__init(ret_state);
    /* The copy may have been cleaned since the rest was looked at. */
    ret_state->clean_to =
        from->clean.clean_to > view->cleaned_to ? from->clean.clean_to : view->cleaned_to;
    ret_state->tombstones_below = from->clean.tombstones_below;
    ret_state->cleaned_to = view->cleaned_to;
    ret_state->dirty_records = from->dirty_records;
    ret_state->dirty_bytes = from->dirty_bytes;
    ret_state->next = (Quorlog__CompactionNext)from->next;
    ret_state->to = from->to;
    ret_state->in_ms = from->in_ms;
    if (from->next == COMPACTION_DIRTY && from->to <= ret_state->clean_to) {
        uint64_t cleaned = ret_state->clean_to - from->clean.clean_to;

        ret_state->dirty_records -= cleaned < from->dirty_records ? cleaned : from->dirty_records;
        ret_state->next = (Quorlog__CompactionNext)COMPACTION_NOTHING; /* That is done. */
    }
    return view->settings.compact || ret_state->clean_to > 0;
}

static void fill_index(struct lookup_status *status, Quorlog__IndexStatus *ret_index)
{
    quorlog__index_status__init(ret_index);
    ret_index->index = (char *)lookup_index_name(status->index);
    ret_index->state = (char *)lookup_state_name(status->state);
    ret_index->indexed_to = status->indexed_to;
    ret_index->left = status->left;
    ret_index->left_ms = status->left_ms;
    ret_index->size = status->size;
    ret_index->files = status->files;
    ret_index->reason = status->reason;
}

static void reply_describe(struct view *self)
{
    Quorlog__IndexStatus indexes[LOOKUP_INDEXES_MAX];
    Quorlog__IndexStatus *pointers[LOOKUP_INDEXES_MAX];
    Quorlog__TopicDescribeReply reply = QUORLOG__TOPIC_DESCRIBE_REPLY__INIT;
    Quorlog__CompactionState compaction;
    Quorlog__RetentionForecast next;
    struct settings_message settings;
    Quorlog__TopicInfo info;

    ASSERT(self->count == 1);
    fill(&self->topics[0], &info);
    if (self->topics[0].next.bound != RETENTION_NONE) {
        fill_next(&self->topics[0].next, &next);
        reply.next = &next;
    }
    if (fill_compaction(&self->topics[0], &compaction)) {
        reply.compaction = &compaction;
    }
    settings_put(&self->topics[0].settings, &settings);
    info.settings = &settings.message;
    reply.topic = &info;
    reply.node_id = self->front->node->identity.node_id;
    for (size_t i = 0; i < self->indexes.count; i++) {
        fill_index(&self->indexes.items[i], &indexes[i]);
        pointers[i] = &indexes[i];
    }
    reply.indexes = pointers;
    reply.n_indexes = self->indexes.count;
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_TOPIC_DESCRIBE_REPLY, &reply.base,
                  NULL);
}

static void on_work_done(struct work *work)
{
    struct view *self = CONTAINER_OF(work, struct view, work);
    struct failure failure;
    uint64_t index;

    if (self->err == ERR_TOPIC_UNKNOWN && !node_has_read_log(self->front->node, &index)) {
        (void)failure_set(&failure, ERR_AGAIN,
                          "describe topic '%s': node %" PRIu64
                          " has not read all of its log yet since it was started",
                          self->name, self->front->node->identity.node_id);
        request_fail(&self->request, &failure);
    } else if (self->err != ERR_OK) {
        (void)failure_set(&failure, self->err, "%s%s%s: %s",
                          self->list ? "list topics" : "describe topic '",
                          self->list ? "" : self->name, self->list ? "" : "'", err_text(self->err));
        failure.unknown = false;
        request_fail(&self->request, &failure);
    } else if (self->request.session != NULL) {
        if (self->list) {
            reply_list(self);
        } else {
            reply_describe(self);
        }
    }
    free(self);
}

static void on_cancel(struct request *request, enum err err)
{
    struct view *self = CONTAINER_OF(request, struct view, request);

    if (err == ERR_SHUTDOWN) {
        request_fail_plain(request, err, "look at topics");
    }
    request_end(request);
    if (work_cancel(&self->work)) {
        free(self);
    }
}

static void begin(struct session *session, const struct frame *frame, bool list, const char *name)
{
    struct front *front = session_front(session);
    size_t count = list ? PAGE_MAX : 1;
    size_t size = sizeof(struct view) + count * sizeof(struct view_topic);
    struct view *self = calloc(1, size);
    struct failure failure;

    if (self == NULL) {
        (void)failure_set(&failure, ERR_NOMEM, "look at topics: %s", err_text(ERR_NOMEM));
        api_refuse(session, frame, &failure);
        return;
    }
    self->front = front;
    self->catalog = group_catalog(front->node->group);
    self->list = list;
    (void)snprintf(self->name, sizeof self->name, "%s", name); /* A longer one is none. */
    self->request.cancel = on_cancel;
    self->work.run = on_work;
    self->work.done = on_work_done;
    request_begin(&self->request, session, frame, size);
    work_start(&self->work, front);
}

void api_topic_list(struct session *session, const struct frame *frame)
{
    Quorlog__TopicListRequest *request =
        quorlog__topic_list_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "TOPIC_LIST");
        return;
    }
    begin(session, frame, true, request->after);
    quorlog__topic_list_request__free_unpacked(request, NULL);
}

void api_topic_describe(struct session *session, const struct frame *frame)
{
    Quorlog__TopicDescribeRequest *request =
        quorlog__topic_describe_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "TOPIC_DESCRIBE");
        return;
    }
    if (api_check_topic(session, frame, "describe", request->topic)) {
        begin(session, frame, false, request->topic);
    }
    quorlog__topic_describe_request__free_unpacked(request, NULL);
}
