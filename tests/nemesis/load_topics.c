#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

enum { PASSING_MIN_MS = 3000, PASSING_MAX_MS = 9000, REST_MS = 1000 };

/* ---- those that there are ---- */

struct topic *topics_join(struct life *self, bool conditional)
{
    struct load *load = self->load;
    unsigned first = (unsigned)load_choose(load, load->topic_count);

    for (unsigned i = 0; i < load->topic_count; i++) {
        struct topic *topic = &load->topics[(first + i) % load->topic_count];

        if (topic->live && (topic->use == TOPIC_CONDITIONAL) == conditional) {
            topics_use(self, topic);
            return topic;
        }
    }
    return NULL;
}

void topics_use(struct life *self, struct topic *topic)
{
    ASSERT(self->topic == NULL && topic->live);
    self->topic = topic;
    topic->users++;
}

void topics_leave(struct life *self)
{
    ASSERT(self->topic != NULL && self->topic->users > 0);
    self->topic->users--;
    self->topic = NULL;
}

void topic_acknowledged(struct topic *self, uint64_t end, uint64_t token)
{
    self->end = end > self->end ? end : self->end;
    self->token = token > self->token ? token : self->token;
}

static void become_live(struct topic *self, uint64_t id)
{
    self->id = id;
    (void)snprintf(self->label, sizeof self->label, "%s#%" PRIu64, self->name, id); /* fits */
    self->live = true;
}

/* ---- those that stay ---- */

struct making {
    bool done;
    bool made;
    struct topic *topic;
    char text[512];
};

static void on_described(void *arg, const struct client_error *error, const uint8_t *reply,
                         size_t reply_size)
{
    struct making *self = arg;
    Quorlog__TopicDescribeReply *message = NULL;

    self->done = true;
    (void)snprintf(self->text, sizeof self->text, "%s", error->text); /* Cut is fine. */
    if (error->err == ERR_OK) {
        message = quorlog__topic_describe_reply__unpack(NULL, reply_size, reply);
    }
    if (message != NULL && message->topic != NULL) {
        become_live(self->topic, message->topic->id);
        self->topic->end = message->topic->end;
        self->made = true;
    }
    if (message != NULL) {
        quorlog__topic_describe_reply__free_unpacked(message, NULL);
    }
}

static void on_created(void *arg, const struct client_error *error, const uint8_t *reply,
                       size_t reply_size)
{
    struct making *self = arg;

    (void)reply; /* The describe that follows says it, too, whoever made it. */
    (void)reply_size;
    self->done = true;
    (void)snprintf(self->text, sizeof self->text, "%s", error->text); /* Cut is fine. */
}

/* A topic that keeps the latest record of each key, in small segments. */
static const struct client_topic_settings compacted = {
    .compact = true, .tombstone_ms = 5000, .segment_bytes = 128 << 10};
static const struct client_topic_settings plain;

/* From now on records may be missing. */
static void note_compacted(struct recorder *recorder, const struct topic *topic)
{
    const struct history_op op = {.kind = HISTORY_EVENT,
                                  .event = HISTORY_EVENT_COMPACTED,
                                  .invoke_us = recorder_now_us(),
                                  .return_us = recorder_now_us(),
                                  .topic = topic->label};

    recorder_note(recorder, &op, 0);
}

static bool make(struct client *client, struct topic *topic)
{
    const struct client_topic_settings *settings = topic->compacted ? &compacted : &plain;
    struct making making = {.topic = topic};

    for (int tries = 0; tries < 20 && !making.made; tries++) {
        making.done = false;
        if (client_topic_create_with(client, topic->name, settings, on_created, &making) ==
            ERR_OK) {
            client_wait(client, &making.done);
        }
        making.done = false;
        if (client_topic_describe(client, topic->name, on_described, &making) == ERR_OK) {
            client_wait(client, &making.done);
        }
    }
    if (!making.made) {
        (void)fprintf(stderr, "load: topic '%s': %s\n", topic->name, making.text);
    }
    return making.made;
}

bool topics_make(struct load *self)
{
    const struct client_options options = {
        .servers = self->options.servers, .name = "load", .timeout_ms = LOAD_REQUEST_MS};
    struct client *client;
    bool made = true;

    if (client_new(&options, NULL, &client, NULL) != ERR_OK) {
        (void)fprintf(stderr, "load: no client can be made of '%s'\n", options.servers);
        return false;
    }
    for (unsigned i = 0; made && i <= self->options.topics; i++) {
        struct topic *topic = &self->topics[self->topic_count++];

        *topic = (struct topic){.use = i == 0 ? TOPIC_CONDITIONAL : TOPIC_PLAIN};
        if (i == 0) {
            (void)snprintf(topic->name, sizeof topic->name, "conditional"); /* fits */
        } else {
            (void)snprintf(topic->name, sizeof topic->name, "topic-%u", i); /* fits */
        }
        topic->compacted = strcmp(topic->name, LOAD_COMPACTED_TOPIC) == 0;
        made = make(client, topic);
        if (made && topic->compacted) {
            note_compacted(self->recorder, topic); /* Nobody has read anything yet. */
        }
    }
    client_close(client, NULL, NULL);
    return made;
}

/* ---- those that come and go ---- */

enum phase { PHASE_REST, PHASE_MAKING, PHASE_LIVE, PHASE_EMPTYING, PHASE_DELETING };

/* Of a slot, whatever becomes of its lives. */
struct passing {
    enum phase phase;
    struct topic *topic;
    uint64_t until_us;
    uint64_t asked_us;
    unsigned number; /* of the name */
    bool used;       /* the name was, before */
    bool maybe_gone; /* a delete's outcome was not known */
};

static struct passing *passing_of(struct life *self)
{
    if (self->slot->kept == NULL) {
        struct passing *passing = calloc(1, sizeof *passing);
        struct load *load = self->load;

        ASSERT(passing != NULL && load->topic_count < LOAD_TOPICS_MAX);
        passing->topic = &load->topics[load->topic_count++];
        passing->topic->use = TOPIC_PASSING;
        self->slot->kept = passing;
    }
    return self->slot->kept;
}

static void rest(struct passing *self)
{
    self->phase = PHASE_REST;
    self->until_us = recorder_now_us() + REST_MS * 1000;
}

/* This name is not to be used any more: something may still come to it. */
static void leave_name(struct passing *self)
{
    self->number++;
    self->used = false;
    rest(self);
}

static void on_made(void *arg, const struct client_error *error, const uint8_t *reply,
                    size_t reply_size)
{
    struct life *life = arg;
    struct passing *self = life->slot->kept;
    Quorlog__TopicCreateReply *message = NULL;

    ASSERT(self->phase == PHASE_MAKING);
    life->under_way--;
    if (error->err == ERR_OK) {
        message = quorlog__topic_create_reply__unpack(NULL, reply_size, reply);
    }
    if (message == NULL) {
        leave_name(self);
        return;
    }
    become_live(self->topic, message->topic_id);
    self->topic->made_token = self->used ? message->raft_index : 0;
    self->topic->token = message->raft_index;
    quorlog__topic_create_reply__free_unpacked(message, NULL);
    self->used = true;
    self->maybe_gone = false;
    self->phase = PHASE_LIVE;
    self->until_us = recorder_now_us() +
                     (PASSING_MIN_MS + load_choose(life->load, PASSING_MAX_MS - PASSING_MIN_MS)) *
                         UINT64_C(1000);
}

static void on_deleted(void *arg, const struct client_error *error, const uint8_t *reply,
                       size_t reply_size)
{
    struct life *life = arg;
    struct passing *self = life->slot->kept;
    struct history_op op = life_op(life, HISTORY_EVENT);

    (void)reply; /* There is nothing in it that we need. */
    (void)reply_size;
    ASSERT(self->phase == PHASE_DELETING);
    life->under_way--;
    op.event = HISTORY_EVENT_DELETED;
    op.topic = self->topic->label;
    op.invoke_us = self->asked_us;
    op.return_us = recorder_now_us();
    op.outcome = recorder_outcome(error);
    if (error->err != ERR_OK) {
        op.error = err_name(error->err);
    }
    if (error->err == ERR_TOPIC_UNKNOWN && self->maybe_gone) {
        op.outcome = HISTORY_OK; /* An earlier one has done it. */
    }
    recorder_note(life->load->recorder, &op, 0);
    self->maybe_gone = self->maybe_gone || op.outcome == HISTORY_UNKNOWN;
    if (op.outcome != HISTORY_OK) {
        self->phase = PHASE_EMPTYING; /* Again. */
    } else if (self->topic->doubtful) {
        leave_name(self);
    } else {
        rest(self);
    }
}

static void begin_topic(struct life *life, struct passing *self)
{
    struct topic *topic = self->topic;

    ASSERT(!topic->live && topic->users == 0);
    *topic = (struct topic){.use = TOPIC_PASSING};
    (void)snprintf(topic->name, sizeof topic->name, "passing-%u-%u",
                   (unsigned)(life->slot - life->load->slots), self->number); /* fits */
    if (client_topic_create(life->client, topic->name, on_made, life) == ERR_OK) {
        life->under_way++;
        self->phase = PHASE_MAKING;
    }
}

static void topics_begin(struct life *life)
{
    (void)passing_of(life); /* Made. */
}

static void topics_step(struct life *life)
{
    struct passing *self = passing_of(life);
    uint64_t now_us = recorder_now_us();

    switch (self->phase) {
    case PHASE_REST:
        if (now_us >= self->until_us) {
            begin_topic(life, self);
        }
        break;
    case PHASE_LIVE:
        if (now_us >= self->until_us) {
            self->topic->live = false; /* Its users leave. */
            self->phase = PHASE_EMPTYING;
        }
        break;
    case PHASE_EMPTYING:
        if (self->topic->users == 0) {
            self->asked_us = now_us;
            if (client_topic_delete(life->client, self->topic->name, on_deleted, life) == ERR_OK) {
                life->under_way++;
                self->phase = PHASE_DELETING;
            }
        }
        break;
    case PHASE_MAKING:
    case PHASE_DELETING:
        break;
    }
}

static void topics_end(struct life *life)
{
    struct passing *self = passing_of(life);

    ASSERT(self->phase != PHASE_MAKING && self->phase != PHASE_DELETING);
}

static void topics_finish(struct load *load, struct slot *slot)
{
    (void)load; /* The topics are its. */
    free(slot->kept);
    slot->kept = NULL;
}

const struct life_kind life_topics = {
    .name = "load-topics",
    .size = sizeof(struct life),
    .begin = topics_begin,
    .step = topics_step,
    .end = topics_end,
    .finish = topics_finish,
};
