#include "load_copies.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "load_recorder.h"

enum { LOOK_MS = 200 };

/* ---- answers ---- */

void answer_fini(struct answer *self)
{
    free(self->header);
    free(self->body);
    self->header = self->body = NULL;
}

static uint8_t *copy_bytes(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size + 1);

    ASSERT(copy != NULL);
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    return copy;
}

static void take(struct answer *self, const struct client_error *error)
{
    ASSERT(!self->done);
    self->done = true;
    self->err = error->err;
    (void)snprintf(self->text, sizeof self->text, "%s", error->text); /* Cut is fine. */
}

static void on_answer(void *arg, const struct client_error *error,
                      const struct client_answer *answer)
{
    struct answer *self = arg;

    take(self, error);
    if (answer != NULL) {
        self->header = copy_bytes(answer->header, answer->header_size);
        self->header_size = answer->header_size;
        self->body = copy_bytes(answer->body, answer->body_size);
        self->body_size = answer->body_size;
    }
}

static void on_reply(void *arg, const struct client_error *error, const uint8_t *reply,
                     size_t reply_size)
{
    struct answer *self = arg;

    take(self, error);
    if (reply != NULL) {
        self->header = copy_bytes(reply, reply_size);
        self->header_size = reply_size;
    }
}

enum err copies_ask(struct client *client, const struct client_question *question,
                    struct answer *ret_answer)
{
    enum err err;

    *ret_answer = (struct answer){0};
    err = client_ask(client, question, on_answer, ret_answer);
    if (err != ERR_OK) {
        (void)snprintf(ret_answer->text, sizeof ret_answer->text, "%s", err_text(err));
        return err;
    }
    client_wait(client, &ret_answer->done);
    return ret_answer->err;
}

/* ---- nodes ---- */

enum err copies_open(struct copies *self, const char *const *servers, unsigned count,
                     uint64_t timeout_ms)
{
    ASSERT(count <= COPIES_NODES_MAX);
    *self = (struct copies){0};
    for (unsigned i = 0; i < count; i++) {
        const struct client_options options = {
            .servers = servers[i], .name = "load-dump", .timeout_ms = timeout_ms};
        struct copy_node *node = &self->nodes[i];
        enum err err = client_new(&options, NULL, &node->client, NULL);

        if (err != ERR_OK) {
            copies_close(self);
            return err;
        }
        node->server = servers[i];
        node->topics = calloc(COPIES_TOPICS_MAX, sizeof *node->topics);
        ASSERT(node->topics != NULL);
        self->count++;
    }
    return ERR_OK;
}

void copies_close(struct copies *self)
{
    for (unsigned i = 0; i < self->count; i++) {
        client_close(self->nodes[i].client, NULL, NULL);
        free(self->nodes[i].topics);
    }
    self->count = 0;
}

/* What the node says of itself. False: nothing. */
static bool ask_status(struct copy_node *self, char *text, size_t text_size)
{
    struct answer answer = {0};
    Quorlog__StatusReply *status = NULL;

    if (client_status(self->client, true, on_reply, &answer) == ERR_OK) {
        client_wait(self->client, &answer.done);
    }
    if (answer.err == ERR_OK && answer.header != NULL) {
        status = quorlog__status_reply__unpack(NULL, answer.header_size, answer.header);
    }
    if (status == NULL) {
        (void)snprintf(text, text_size, "%s: %s", self->server, answer.text);
        answer_fini(&answer);
        return false;
    }
    self->id = (uint32_t)status->node_id;
    self->holes = 0;
    for (size_t i = 0; i < status->n_nodes; i++) {
        if (status->nodes[i]->id == status->node_id) {
            self->holes = status->nodes[i]->holes;
        }
    }
    quorlog__status_reply__free_unpacked(status, NULL);
    answer_fini(&answer);
    return true;
}

static bool add_topics(struct copy_node *self, const Quorlog__TopicListReply *list)
{
    for (size_t i = 0; i < list->n_topics; i++) {
        const Quorlog__TopicInfo *info = list->topics[i];
        struct copy_topic *topic = &self->topics[self->topic_count];

        if (self->topic_count == COPIES_TOPICS_MAX) {
            return false;
        }
        *topic = (struct copy_topic){.id = info->id, .start = info->start, .end = info->end};
        (void)snprintf(topic->name, sizeof topic->name, "%s", info->name); /* fits */
        if (info->digest.len == sizeof topic->digest) { /* Of a topic without records: none. */
            memcpy(topic->digest, info->digest.data, sizeof topic->digest);
        }
        self->topic_count++;
    }
    return true;
}

static bool ask_topics(struct copy_node *self, char *text, size_t text_size)
{
    bool more = true;

    self->topic_count = 0;
    while (more) {
        const char *after = self->topic_count > 0 ? self->topics[self->topic_count - 1].name : NULL;
        struct answer answer = {0};
        Quorlog__TopicListReply *list = NULL;

        if (client_topic_list(self->client, after, on_reply, &answer) == ERR_OK) {
            client_wait(self->client, &answer.done);
        }
        if (answer.err == ERR_OK && answer.header != NULL) {
            list = quorlog__topic_list_reply__unpack(NULL, answer.header_size, answer.header);
        }
        answer_fini(&answer);
        if (list == NULL || !add_topics(self, list)) {
            (void)snprintf(text, text_size, "%s: topics: %s", self->server, answer.text);
            return false;
        }
        more = list->more;
        quorlog__topic_list_reply__free_unpacked(list, NULL);
    }
    return true;
}

static bool is_equal(const struct copy_node *a, const struct copy_node *b, char *text,
                     size_t text_size)
{
    if (a->topic_count != b->topic_count) {
        (void)snprintf(text, text_size, "node %u has %zu topics, node %u %zu", a->id,
                       a->topic_count, b->id, b->topic_count);
        return false;
    }
    for (size_t i = 0; i < a->topic_count; i++) {
        const struct copy_topic *x = &a->topics[i];
        const struct copy_topic *y = &b->topics[i];

        if (strcmp(x->name, y->name) != 0 || x->id != y->id || x->start != y->start ||
            x->end != y->end || memcmp(x->digest, y->digest, sizeof x->digest) != 0) {
            (void)snprintf(text, text_size,
                           "topic '%s': node %u has [%" PRIu64 ", %" PRIu64
                           "), node %u has [%" PRIu64 ", %" PRIu64 ") of '%s', or other records",
                           x->name, a->id, x->start, x->end, b->id, y->start, y->end, y->name);
            return false;
        }
    }
    return true;
}

static bool look(struct copies *self, char *text, size_t text_size)
{
    for (unsigned i = 0; i < self->count; i++) {
        struct copy_node *node = &self->nodes[i];

        if (!ask_status(node, text, text_size) || !ask_topics(node, text, text_size)) {
            return false;
        }
        if (node->holes > 0) {
            (void)snprintf(text, text_size, "node %u lacks %" PRIu64 " ranges", node->id,
                           node->holes);
            return false;
        }
    }
    for (unsigned i = 1; i < self->count; i++) {
        if (!is_equal(&self->nodes[0], &self->nodes[i], text, text_size)) {
            return false;
        }
    }
    return true;
}

bool copies_wait(struct copies *self, uint64_t deadline_us)
{
    char text[1024] = "";

    while (!look(self, text, sizeof text)) {
        if (recorder_now_us() > deadline_us) {
            (void)fprintf(stderr, "load: the copies are not equal: %s\n", text);
            return false;
        }
        (void)usleep(LOOK_MS * 1000); /* Sooner is fine. */
    }
    return true;
}
