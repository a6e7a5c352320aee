#include "cli/bench_topics.h"

#include <stdio.h>

#include "base/assert.h"
#include "cli/bench_load.h"
#include "cli/caller.h"
#include "quorlog.pb-c.h"

enum { CALLS_MAX = 64 }; /* under way */

struct creating {
    struct client *client;
    const char *topic;
    uint64_t topics;
    uint64_t started;
    uint64_t answered;
    uint64_t token;
    enum err err; /* the first that counts */
    char text[512];
    bool done;
};

static void start_some(struct creating *self);

static void note_failure(struct creating *self, enum err err, const char *text)
{
    if (self->err == ERR_OK) {
        self->err = err;
        (void)snprintf(self->text, sizeof self->text, "%s", text); /* Cut is fine. */
    }
}

static void on_created(void *arg, const struct client_error *error, const uint8_t *reply,
                       size_t reply_size)
{
    struct creating *self = arg;
    Quorlog__TopicCreateReply *message;

    self->answered++;
    if (error->err == ERR_OK) {
        message = quorlog__topic_create_reply__unpack(NULL, reply_size, reply);
        if (message != NULL) {
            self->token = message->raft_index > self->token ? message->raft_index : self->token;
            quorlog__topic_create_reply__free_unpacked(message, NULL);
        }
    } else if (error->err != ERR_TOPIC_EXISTS) {
        note_failure(self, error->err, error->text);
    }
    start_some(self);
}

static void start_some(struct creating *self)
{
    while (self->err == ERR_OK && self->started < self->topics &&
           self->started - self->answered < CALLS_MAX) {
        char name[LOAD_TOPIC_SIZE_MAX];
        enum err err;

        load_topic_name(self->topic, self->topics, self->started, name);
        err = client_topic_create(self->client, name, on_created, self);
        if (err != ERR_OK) {
            note_failure(self, err, err_text(err));
            break;
        }
        self->started++;
    }
    self->done =
        self->answered == self->started && (self->err != ERR_OK || self->started == self->topics);
}

int bench_topics_create(struct client *client, const char *topic, uint64_t topics,
                        uint64_t *ret_token)
{
    struct creating creating = {.client = client, .topic = topic, .topics = topics};

    ASSERT(topics > 0);
    start_some(&creating);
    client_wait(client, &creating.done);
    if (creating.err != ERR_OK) {
        return fail("%s", creating.text);
    }
    ASSERT(creating.answered == topics);
    *ret_token = creating.token;
    return EXIT_OK;
}
