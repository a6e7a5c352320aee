#include "cli/compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/common_ends.h"
#include "quorlog.pb-c.h"

enum {
    PATIENCE = 10, /* times, and how long each, for a node that does not have the topic yet */
    PAUSE_MS = 300,
    CHUNK_SIZE = 4 << 20,
};

/* ---- questions ---- */

static void set_state(struct copy *copy, enum copy_state state, const char *text)
{
    ASSERT(copy != NULL);
    copy->state = state;
    copy->has_header = false;
    (void)snprintf(copy->text, sizeof copy->text, "%s", text); /* Cut is fine. */
}

static void take_failure(struct comparison *self, unsigned at, const struct ask *ask,
                         uint64_t offset)
{
    struct copy *copy = &self->copies[at];

    if (fleet_is_lost(self->fleet, at, ask)) {
        set_state(copy, COPY_LOST, ask->text);
    } else if (ask->err == ERR_TOPIC_UNKNOWN) {
        set_state(copy, COPY_MISSING, "the topic is not there");
    } else if (ask->err == ERR_RANGE) {
        set_state(copy, COPY_BEHIND, "it was trimmed meanwhile: compare again");
    } else if (ask->err == ERR_HOLE) {
        set_state(copy, COPY_INCOMPLETE, ask->text);
        copy->at = offset;
    } else {
        set_state(copy, COPY_DAMAGED, ask->text);
        copy->at = offset;
    }
}

static void take_reply(struct comparison *self, unsigned at, const Quorlog__DigestReply *reply,
                       uint64_t offset)
{
    struct copy *copy = &self->copies[at];
    struct err_info info;

    copy->topic_id = reply->topic_id;
    copy->start = reply->log_start;
    copy->end = reply->log_end;
    copy->applied = reply->applied;
    copy->has_header = false;
    if (reply->header.len == 0) {
        return;
    }
    if (reply->header.len != BATCH_HEADER_SIZE ||
        batch_header_decode(reply->header.data, UINT32_MAX, &copy->header, &info) != ERR_OK) {
        set_state(copy, COPY_DAMAGED, "the node's answer is no batch header");
        copy->at = offset;
        return;
    }
    copy->has_header = true;
}

static bool is_asked(const struct comparison *self, unsigned at)
{
    return !self->fleet->nodes[at].lost && self->copies[at].state == COPY_READ;
}

/* The batch that holds `offset`, on all nodes whose copies can be read. */
static void ask_headers(struct comparison *self, uint64_t offset)
{
    Quorlog__DigestRequest request = QUORLOG__DIGEST_REQUEST__INIT;
    const struct client_question question = {
        .type = QUORLOG__FRAME_TYPE__FRAME_DIGEST,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_DIGEST_REPLY,
        .request = &request.base,
        .reply = &quorlog__digest_reply__descriptor,
    };
    struct ask asks[FLEET_MAX] = {0};

    request.topic = (char *)self->topic; /* not written to */
    request.offset = offset;
    for (unsigned i = 0; i < self->fleet->count; i++) {
        if (is_asked(self, i)) {
            fleet_ask(self->fleet, i, &question, &asks[i]);
        }
    }
    fleet_wait(self->fleet);
    for (unsigned i = 0; i < self->fleet->count; i++) {
        Quorlog__DigestReply *reply = NULL;

        if (asks[i].fleet == NULL) {
            continue;
        }
        if (asks[i].err == ERR_OK) {
            reply = quorlog__digest_reply__unpack(NULL, asks[i].header_size, asks[i].header);
            ASSERT(reply != NULL); /* The client has looked at it. */
            take_reply(self, i, reply, offset);
            quorlog__digest_reply__free_unpacked(reply, NULL);
        } else {
            take_failure(self, i, &asks[i], offset);
        }
        ask_fini(&asks[i]);
    }
}

/* What a node has applied; 0 when it does not say. */
static uint64_t ask_applied(struct comparison *self, unsigned at)
{
    Quorlog__StatusRequest request = QUORLOG__STATUS_REQUEST__INIT;
    const struct client_question question = {
        .type = QUORLOG__FRAME_TYPE__FRAME_STATUS,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_STATUS_REPLY,
        .request = &request.base,
        .reply = &quorlog__status_reply__descriptor,
    };
    Quorlog__StatusReply *reply;
    uint64_t applied = 0;
    struct ask ask;

    request.local = true;
    fleet_ask(self->fleet, at, &question, &ask);
    fleet_wait(self->fleet);
    if (ask.err == ERR_OK) {
        reply = quorlog__status_reply__unpack(NULL, ask.header_size, ask.header);
        ASSERT(reply != NULL); /* As above. */
        applied = reply->n_nodes == 1 ? reply->nodes[0]->applied : 0;
        quorlog__status_reply__free_unpacked(reply, NULL);
    }
    ask_fini(&ask);
    return applied;
}

/* ---- who has the topic ---- */

static unsigned count_state(const struct comparison *self, enum copy_state state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < self->fleet->count; i++) {
        count += self->copies[i].state == state ? 1 : 0;
    }
    return count;
}

/* Those of another topic of this name are set aside; false when all have the same one. */
static bool set_others_aside(struct comparison *self)
{
    uint64_t newest = 0;
    bool found = false;

    for (unsigned i = 0; i < self->fleet->count; i++) {
        const struct copy *copy = &self->copies[i];

        newest = copy->state == COPY_READ && copy->topic_id > newest ? copy->topic_id : newest;
    }
    for (unsigned i = 0; i < self->fleet->count; i++) {
        struct copy *copy = &self->copies[i];

        if (copy->state == COPY_READ && copy->topic_id != newest) {
            set_state(copy, COPY_OTHER, "an older topic of this name is there");
            found = true;
        }
    }
    return found;
}

/* One that has applied less than a node that has the topic is only late. */
static void judge_absent(struct comparison *self, uint64_t applied)
{
    for (unsigned i = 0; i < self->fleet->count; i++) {
        struct copy *copy = &self->copies[i];

        if ((copy->state == COPY_MISSING || copy->state == COPY_OTHER) &&
            ask_applied(self, i) < applied) {
            set_state(copy, COPY_BEHIND, "it has not applied the topic's creation yet");
        }
    }
}

/* Looks at the last batches, and waits a little for nodes that do not have the topic yet. */
static void look(struct comparison *self)
{
    uint64_t applied = 0;

    for (unsigned i = 0; i < PATIENCE; i++) {
        bool other;

        for (unsigned node = 0; node < self->fleet->count; node++) {
            struct copy *copy = &self->copies[node];

            *copy = (struct copy){.state = COPY_READ};
            if (self->fleet->nodes[node].lost) {
                set_state(copy, COPY_LOST, self->fleet->nodes[node].why);
            }
        }
        ask_headers(self, UINT64_MAX);
        other = set_others_aside(self);
        for (unsigned node = 0; node < self->fleet->count && i == 0; node++) {
            const struct copy *copy = &self->copies[node];

            applied = copy->applied > applied ? copy->applied : applied;
        }
        if (count_state(self, COPY_READ) + count_state(self, COPY_DAMAGED) == 0 ||
            (!other && count_state(self, COPY_MISSING) == 0)) {
            break;
        }
        if (i + 1 < PATIENCE) {
            uv_sleep(PAUSE_MS);
        }
    }
    self->unknown = count_state(self, COPY_MISSING) > 0 && count_state(self, COPY_READ) == 0 &&
                    count_state(self, COPY_DAMAGED) == 0;
    if (!self->unknown) {
        judge_absent(self, applied);
    }
}

/* ---- the first difference ---- */

/* Puts copies that agree into groups, numbered by their first members. */
static void make_groups(struct comparison *self)
{
    self->group_count = 0;
    for (unsigned i = 0; i < self->fleet->count; i++) {
        struct copy *copy = &self->copies[i];
        unsigned before = 0;

        if (!copy->has_header) {
            continue;
        }
        while (before < i && !(self->copies[before].has_header &&
                               common_ends_agree(&self->copies[before].header, &copy->header))) {
            before++;
        }
        copy->group = before < i ? self->copies[before].group : self->group_count++;
    }
}

/* What common_ends asks for. */
struct asked {
    struct comparison *comparison;
    struct end_header headers[FLEET_MAX];
};

static void on_ask(void *arg, uint64_t offset)
{
    struct asked *asked = arg;

    ask_headers(asked->comparison, offset);
    for (unsigned i = 0; i < asked->comparison->fleet->count; i++) {
        const struct copy *copy = &asked->comparison->copies[i];

        asked->headers[i] = (struct end_header){.known = copy->has_header, .header = copy->header};
    }
}

static void compare(struct comparison *self)
{
    struct asked asked = {.comparison = self};
    struct common_ends_result result;
    const struct common_ends ends = {
        .copies = asked.headers,
        .count = self->fleet->count,
        .ask = on_ask,
        .arg = &asked,
        .low = self->low,
        .high = self->common,
    };

    common_ends_compare(&ends, &result);
    make_groups(self);
    self->agreed = result.end;
    self->different = result.different;
    self->offset = result.offset;
    memcpy(self->digest, result.digest, sizeof self->digest);
}

static void set_bounds(struct comparison *self)
{
    self->low = 0;
    self->common = UINT64_MAX;
    for (unsigned i = 0; i < self->fleet->count; i++) {
        const struct copy *copy = &self->copies[i];

        if (copy->state == COPY_READ) {
            self->low = copy->start > self->low ? copy->start : self->low;
            self->common = copy->end < self->common ? copy->end : self->common;
        }
    }
    if (self->common == UINT64_MAX || self->common < self->low) {
        self->common = self->low;
    }
}

void compare_topic(struct fleet *fleet, const char *topic, struct comparison *ret_comparison)
{
    struct comparison *self = ret_comparison;

    ASSERT(fleet->count <= FLEET_MAX);
    *self = (struct comparison){.fleet = fleet, .topic = topic};
    look(self);
    if (self->unknown) {
        return;
    }
    set_bounds(self);
    compare(self);
}

bool compare_is_bad(const struct comparison *self)
{
    return self->different || count_state(self, COPY_MISSING) > 0 ||
           count_state(self, COPY_OTHER) > 0 || count_state(self, COPY_DAMAGED) > 0;
}

/* ---- reading everything ---- */

struct deep {
    uint64_t next[FLEET_MAX];
    Quorlog__DigestRequest requests[FLEET_MAX];
    struct client_question questions[FLEET_MAX];
    struct ask asks[FLEET_MAX];
};

static bool is_due(const struct comparison *self, const struct deep *deep, unsigned at)
{
    return is_asked(self, at) && deep->next[at] < self->common;
}

static void take_checked(struct comparison *self, unsigned at, struct deep *deep,
                         uint64_t *ret_bytes)
{
    struct copy *copy = &self->copies[at];
    struct ask *ask = &deep->asks[at];
    Quorlog__DigestReply *reply;

    if (ask->err == ERR_RANGE && ask->log_start > deep->next[at]) {
        deep->next[at] = ask->log_start; /* It was trimmed meanwhile: on with what is left. */
        return;
    }
    if (ask->err != ERR_OK) {
        take_failure(self, at, ask, deep->next[at]);
        return;
    }
    reply = quorlog__digest_reply__unpack(NULL, ask->header_size, ask->header);
    ASSERT(reply != NULL); /* The client has looked at it. */
    if (reply->damage != ERR_OK) {
        set_state(copy, reply->damage == ERR_HOLE ? COPY_INCOMPLETE : COPY_DAMAGED,
                  reply->damage_text);
        copy->at = reply->next_offset;
    } else if (reply->next_offset <= deep->next[at]) {
        set_state(copy, COPY_DAMAGED, "the node's answer makes no sense");
        copy->at = deep->next[at];
    }
    deep->next[at] = reply->next_offset;
    *ret_bytes = *ret_bytes > reply->bytes ? *ret_bytes : reply->bytes;
    quorlog__digest_reply__free_unpacked(reply, NULL);
}

/* One chunk of every node that is not through; false when all are. */
static bool check_chunks(struct comparison *self, struct deep *deep, struct progress *progress)
{
    uint64_t least = UINT64_MAX;
    uint64_t bytes = 0;
    bool any = false;

    for (unsigned i = 0; i < self->fleet->count; i++) {
        if (is_due(self, deep, i)) {
            deep->requests[i].offset = deep->next[i];
            least = deep->next[i] < least ? deep->next[i] : least;
            fleet_ask(self->fleet, i, &deep->questions[i], &deep->asks[i]);
            any = true;
        }
    }
    fleet_wait(self->fleet);
    for (unsigned i = 0; i < self->fleet->count; i++) {
        if (deep->asks[i].fleet != NULL) {
            take_checked(self, i, deep, &bytes);
            ask_fini(&deep->asks[i]);
        }
    }
    if (any) {
        progress_add(progress, self->topic, bytes, least - self->low, self->common - self->low);
    }
    return any;
}

void compare_deep(struct comparison *self, struct progress *progress)
{
    struct deep *deep = calloc(1, sizeof *deep);
    uint64_t size = progress->rate > 0 && progress->rate < CHUNK_SIZE ? progress->rate : CHUNK_SIZE;

    ASSERT(deep != NULL); /* Some kilobytes. */
    for (unsigned i = 0; i < self->fleet->count; i++) {
        deep->next[i] = self->copies[i].start;
        quorlog__digest_request__init(&deep->requests[i]);
        deep->requests[i].topic = (char *)self->topic; /* not written to */
        deep->requests[i].check = true;
        deep->requests[i].end = self->common;
        deep->requests[i].bytes_max = (uint32_t)size;
        deep->questions[i] = (struct client_question){
            .type = QUORLOG__FRAME_TYPE__FRAME_DIGEST,
            .reply_type = QUORLOG__FRAME_TYPE__FRAME_DIGEST_REPLY,
            .request = &deep->requests[i].base,
            .reply = &quorlog__digest_reply__descriptor,
        };
    }
    while (check_chunks(self, deep, progress)) {
        /* One after the other, all nodes side by side. */
    }
    free(deep);
}
