/*
 * A committer: a cursor that follows its consumer.
 *
 * Happy path: a compare that cannot hold tells, by way of the leader's log, what the cursor is
 * (LOOKING). It is set to where it stands, with our number as its owner (CLAIMING; again, where
 * another was faster): whoever had it before cannot change it any more. Then each commit expects
 * the revision of the one before.
 *
 * Failure modes: a try with an unknown outcome is repeated, and perhaps the first one had worked: a
 * conflict with a cursor that is ours, at the offset that was to be set, is a success. Failures
 * that may pass are tried again until committer_close, and after that until the request's deadline.
 * Any other conflict, and what cannot pass, ends it.
 *
 *      LOOKING ──exists──► CLAIMING ──ok──► IDLE ──by count, time, close──► COMMITTING ──┐
 *         │                                  ▲ ▲ └──nothing for long──► CHECKING ──┐     │
 *         └──────none────────────────────────┘ └────────────── as expected ─────────┴─────┘
 *         any ──failed for good; IDLE when closing, with nothing to commit, after a last look──►
 * ENDED
 *
 * Invariants:
 *   I1  A request is under way exactly in LOOKING, CLAIMING, COMMITTING and CHECKING.
 *   I2  revision is that of our last change, and 0 while there is no cursor.
 *   I3  committed <= done: nothing is committed that was not said to be done.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/assert.h"
#include "client/channel.h"
#include "client/cursor_request.h"
#include "quorlog.pb-c.h"

enum { RECORDS_DEFAULT = 1000, INTERVAL_DEFAULT_MS = 1000, CHECK_MS = 5000, METADATA_MAX = 256 };

#define NEVER_A_REVISION UINT64_MAX

enum committer_state {
    COMMITTER_LOOKING,
    COMMITTER_CLAIMING,
    COMMITTER_IDLE,
    COMMITTER_COMMITTING,
    COMMITTER_CHECKING,
    COMMITTER_ENDED,
};

struct committer {
    struct channel_user user;
    struct channel *channel; /* borrowed */
    enum committer_state state;
    char topic[CHANNEL_TOPIC_SIZE_MAX + 1];
    char name[CHANNEL_TOPIC_SIZE_MAX + 1];
    char metadata[METADATA_MAX + 1];
    uint64_t records_max;
    uint64_t interval_ns;
    struct committer_events events;
    void *arg;
    uint64_t owner; /* our number */

    struct client_request *request; /* I1 */
    uint64_t asked;                 /* the offset that it sets */
    uint64_t revision;              /* I2 */
    uint64_t token;                 /* of our last change, or of what found that there is none */
    uint64_t committed;
    uint64_t done;
    bool opened;
    bool advanced;     /* done was told */
    uint64_t dirty_ns; /* when the first record came that is not committed; 0: none */
    uint64_t retry_ns; /* not before */
    uint64_t check_ns; /* when to look at the cursor */
    unsigned failures;
    bool closing;
    bool settled; /* closing: the node has been asked for our last change */

    bool telling; /* inside an event */
    bool freed;   /* then */
};

static struct committer *of_user(struct channel_user *user)
{
    return (void *)((char *)user - offsetof(struct committer, user));
}

static void destroy(struct committer *self)
{
    client_request_free(self->request);
    free(self);
}

/* ---- the end ---- */

static void end(struct committer *self, const struct client_error *error)
{
    ASSERT(self->state != COMMITTER_ENDED && !self->telling);
    client_request_free(self->request);
    self->request = NULL;
    self->state = COMMITTER_ENDED;
    self->telling = true;
    if (self->opened) {
        self->events.ended(self->arg, error, self->committed);
    } else {
        self->events.opened(self->arg, error, false, 0, 0);
    }
    self->telling = false;
    if (self->freed) {
        destroy(self);
    }
}

static void fail(struct committer *self, enum err err)
{
    struct client_error error = {.err = err, .text = err_text(err)};

    end(self, &error);
}

/* It is another's now, or nobody's. */
static void fail_conflict(struct committer *self, const struct client_cursor *now)
{
    struct client_error error = {.err = ERR_CURSOR_CONFLICT, .cursor = *now};
    struct err_info info;

    if (now->revision == 0) {
        (void)err_set(&info, error.err, "cursor '%s' of '%s' was deleted by another", self->name,
                      self->topic); /* Told below. */
    } else {
        (void)err_set(&info, error.err,
                      "cursor '%s' of '%s' was taken over or set by another: it is at offset "
                      "%" PRIu64 " now; this consumer committed up to %" PRIu64 " and has read up "
                      "to %" PRIu64,
                      self->name, self->topic, now->offset, self->committed,
                      self->done); /* Told below. */
    }
    error.text = info.text;
    end(self, &error);
}

static void open_with(struct committer *self, bool exists)
{
    struct client_error none = {.err = ERR_OK, .text = err_text(ERR_OK)};

    ASSERT(!self->opened);
    self->state = COMMITTER_IDLE;
    self->opened = true;
    self->done = self->committed;
    self->telling = true;
    self->events.opened(self->arg, &none, exists, self->committed, self->token);
    self->telling = false;
    if (self->freed) {
        destroy(self);
        return;
    }
    channel_wake(self->channel, &self->user, 0);
}

/* ---- answers ---- */

static void ask(struct committer *self, enum committer_state state, uint64_t expected,
                uint64_t offset);

static void try_later(struct committer *self)
{
    ASSERT(self->opened);
    self->state = COMMITTER_IDLE;
    self->failures++;
    self->retry_ns = channel_retry_ns(channel_now_ns(), self->failures);
    channel_wake(self->channel, &self->user, self->retry_ns);
}

/* Our change has been made, by this try or an earlier one. */
static void changed(struct committer *self, uint64_t revision, uint64_t token)
{
    uint64_t now_ns = channel_now_ns();

    ASSERT(revision > self->revision);
    self->revision = revision;
    self->token = token;
    self->committed = self->asked;
    self->failures = 0;
    self->retry_ns = 0;
    self->check_ns = now_ns + channel_ms_to_ns(CHECK_MS);
    self->dirty_ns = self->done > self->committed ? now_ns : 0;
    if (self->state == COMMITTER_CLAIMING) {
        open_with(self, true);
        return;
    }
    self->state = COMMITTER_IDLE;
    channel_wake(self->channel, &self->user, 0);
}

static void on_conflict(struct committer *self, const struct client_cursor *now)
{
    if (self->state != COMMITTER_LOOKING && now->owner == self->owner &&
        now->offset == self->asked && now->revision > self->revision) {
        changed(self, now->revision, now->token);
    } else if (self->opened) {
        fail_conflict(self, now);
    } else if (now->revision == 0) {
        self->token = now->token; /* Whoever has applied so much shows the same topic. */
        open_with(self, false);
    } else {
        ask(self, COMMITTER_CLAIMING, now->revision, now->offset);
    }
}

static void on_set_reply(void *arg, const struct client_error *error, const uint8_t *reply,
                         size_t reply_size)
{
    struct committer *self = arg;
    Quorlog__CursorSetReply *message;
    uint64_t revision;
    uint64_t token;

    self->request = NULL;
    if (error->err == ERR_CURSOR_CONFLICT) {
        on_conflict(self, &error->cursor);
    } else if (error->err != ERR_OK) {
        bool passes = (error->retryable || error->outcome_unknown) && error->err != ERR_LIMIT &&
                      error->err != ERR_CANCELED;

        if (passes && self->opened && !self->closing) {
            try_later(self);
        } else {
            end(self, error);
        }
    } else {
        message = quorlog__cursor_set_reply__unpack(NULL, reply_size, reply);
        if (message == NULL) {
            fail(self, ERR_NOMEM); /* It was unpacked once. */
            return;
        }
        revision = message->revision;
        token = message->raft_index;
        quorlog__cursor_set_reply__free_unpacked(message, NULL);
        if (self->state == COMMITTER_LOOKING || revision <= self->revision) {
            fail(self, ERR_PROTOCOL); /* Revisions only grow, and none is NEVER_A_REVISION. */
        } else {
            changed(self, revision, token);
        }
    }
}

/* What the cursor is, as a node shows it that has our last change. */
static void on_check_reply(void *arg, const struct client_error *error, const uint8_t *reply,
                           size_t reply_size)
{
    struct committer *self = arg;
    Quorlog__CursorGetReply *message = NULL;
    struct client_cursor now = {0};

    self->request = NULL;
    self->check_ns = channel_now_ns() + channel_ms_to_ns(CHECK_MS);
    if (error->err == ERR_OK) {
        message = quorlog__cursor_get_reply__unpack(NULL, reply_size, reply);
    }
    if (message != NULL && message->cursor != NULL) {
        now = (struct client_cursor){.offset = message->cursor->offset,
                                     .revision = message->cursor->revision};
    }
    if (message != NULL) {
        quorlog__cursor_get_reply__free_unpacked(message, NULL);
    }
    if (!self->closing && (now.revision > self->revision || error->err == ERR_CURSOR_UNKNOWN)) {
        fail_conflict(self, &now);
        return;
    }
    /* What else there may be is the next commit's affair; who closes only waited. */
    self->state = COMMITTER_IDLE;
    channel_wake(self->channel, &self->user, 0);
}

/* ---- asking ---- */

/* Sets the cursor if it is what is expected. */
static void ask(struct committer *self, enum committer_state state, uint64_t expected,
                uint64_t offset)
{
    const struct client_cursor_change change = {.topic = self->topic,
                                                .name = self->name,
                                                .expect = CLIENT_CURSOR_REVISION,
                                                .expected = expected,
                                                .offset = offset,
                                                .owner = self->owner,
                                                .metadata = self->metadata};
    enum err err;

    ASSERT(self->request == NULL); /* I1 */
    self->state = state;
    self->asked = offset;
    /* on_conflict can tell our own change from another's. */
    err = cursor_request_set(self->channel, &change, true, on_set_reply, self, &self->request);
    if (err != ERR_OK) {
        fail(self, err);
    }
}

static void check(struct committer *self, uint64_t now_ns)
{
    enum err err;

    ASSERT(self->request == NULL && self->revision > 0);
    self->check_ns = now_ns + channel_ms_to_ns(CHECK_MS);
    err = cursor_request_get(self->channel, self->topic, self->name, self->token, on_check_reply,
                             self, &self->request);
    if (err == ERR_OK) {
        self->state = COMMITTER_CHECKING;
    }
}

/* Whether there is anything to commit; a cursor that is not there yet is. */
static bool is_dirty(const struct committer *self)
{
    return self->advanced && (self->revision == 0 || self->done > self->committed);
}

static uint64_t commit_time(const struct committer *self)
{
    uint64_t at = self->dirty_ns + self->interval_ns;

    if (self->closing || self->revision == 0 || self->done - self->committed >= self->records_max) {
        at = 0;
    }
    return at > self->retry_ns ? at : self->retry_ns;
}

static void step(struct channel_user *user)
{
    struct client_error none = {.err = ERR_OK, .text = err_text(ERR_OK)};
    struct committer *self = of_user(user);
    uint64_t now_ns = channel_now_ns();

    if (self->state != COMMITTER_IDLE) {
        return;
    }
    if (is_dirty(self)) {
        if (now_ns >= commit_time(self)) {
            ask(self, COMMITTER_COMMITTING, self->revision, self->done);
        } else {
            channel_wake(self->channel, user, commit_time(self));
        }
    } else if (self->closing) {
        /* Whoever asks this node next shall find what was committed. */
        if (self->revision > 0 && !self->settled) {
            self->settled = true;
            check(self, now_ns);
        }
        if (self->state == COMMITTER_IDLE) {
            end(self, &none);
        }
    } else if (self->revision > 0) {
        if (now_ns >= self->check_ns) {
            check(self, now_ns);
        } else {
            channel_wake(self->channel, user, self->check_ns);
        }
    }
}

/* ---- what callers use ---- */

static void cancel(struct channel_user *user)
{
    struct client_error error = {.err = ERR_CANCELED, .text = "the client was closed"};
    struct committer *self = of_user(user);

    if (self->state != COMMITTER_ENDED) {
        channel_remove(self->channel, user);
        self->freed = true; /* end frees it, after its last event. */
        end(self, &error);
    } else {
        committer_free(self);
    }
}

static enum err start(struct committer *self)
{
    enum err err = channel_add(self->channel, &self->user);
    const struct client_cursor_change look = {.topic = self->topic,
                                              .name = self->name,
                                              .expect = CLIENT_CURSOR_REVISION,
                                              .expected = NEVER_A_REVISION};

    if (err != ERR_OK) {
        return err;
    }
    err = cursor_request_set(self->channel, &look, true, on_set_reply, self, &self->request);
    if (err != ERR_OK) {
        channel_remove(self->channel, &self->user);
    }
    return err;
}

enum err committer_new(struct client *client, const struct committer_options *options,
                       const struct committer_events *events, void *arg,
                       struct committer **ret_committer)
{
    struct committer *self;
    const char *metadata = options->metadata == NULL ? "" : options->metadata;
    enum err err;

    ASSERT(events->opened != NULL && events->ended != NULL);
    if (client_request_check_topic(options->topic) != ERR_OK ||
        client_request_check_topic(options->name) != ERR_OK || strlen(metadata) > METADATA_MAX) {
        return ERR_INVALID;
    }
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->channel = client_channel(client);
    memcpy(self->topic, options->topic, strlen(options->topic) + 1);
    memcpy(self->name, options->name, strlen(options->name) + 1);
    memcpy(self->metadata, metadata, strlen(metadata) + 1);
    self->records_max = options->records_max == 0 ? RECORDS_DEFAULT : options->records_max;
    self->interval_ns =
        channel_ms_to_ns(options->interval_ms == 0 ? INTERVAL_DEFAULT_MS : options->interval_ms);
    self->events = *events;
    self->arg = arg;
    self->user.step = step;
    self->user.cancel = cancel;
    /* A number that no other committer has: it tells our changes from theirs. */
    if (uv_random(NULL, NULL, &self->owner, sizeof self->owner, 0, NULL) != 0 || self->owner == 0) {
        self->owner = channel_now_ns() ^ (uint64_t)(uintptr_t)self;
    }
    err = start(self);
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    *ret_committer = self;
    return ERR_OK;
}

void committer_advance(struct committer *self, uint64_t offset)
{
    ASSERT(self->opened && offset >= self->done);
    if (self->state == COMMITTER_ENDED || (self->advanced && offset == self->done)) {
        return;
    }
    self->advanced = true;
    self->done = offset;
    if (self->dirty_ns == 0 && is_dirty(self)) {
        self->dirty_ns = channel_now_ns();
    }
    channel_wake(self->channel, &self->user, commit_time(self));
}

void committer_close(struct committer *self)
{
    ASSERT(self->opened);
    self->closing = true;
    self->retry_ns = 0;
    if (self->state == COMMITTER_CHECKING) {
        client_request_free(self->request);
        self->request = NULL;
        self->state = COMMITTER_IDLE;
    }
    channel_wake(self->channel, &self->user, 0);
}

void committer_free(struct committer *self)
{
    if (self == NULL || self->freed) {
        return;
    }
    self->freed = true;
    channel_remove(self->channel, &self->user);
    if (!self->telling) {
        destroy(self);
    }
}
