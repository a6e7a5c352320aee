/*
 * quorlog verify: compares the copies of topics on all nodes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/compare.h"
#include "cli/json.h"
#include "quorlog.pb-c.h"

static const struct option_spec options[] = {
    CALLER_OPTIONS,
    {"deep", 0, NULL, false, "every node reads all of its data and verifies checksums and digests"},
    {"rate", 0, "SIZE", false,
     "with --deep: bytes a second each node reads; default 64M, 0: no bound"},
    {"json", 0, NULL, false, "print an object for each topic"},
    {NULL, 0, NULL, false, NULL},
};

struct verify {
    struct fleet fleet;
    bool json;
    bool deep;
    struct progress progress;
    unsigned bad;      /* topics */
    unsigned compared; /* topics */
};

static const char *state_word(enum copy_state state)
{
    static const char *const words[] = {
        [COPY_READ] = "read",       [COPY_BEHIND] = "behind", [COPY_INCOMPLETE] = "incomplete",
        [COPY_MISSING] = "missing", [COPY_OTHER] = "other",   [COPY_DAMAGED] = "damaged",
        [COPY_LOST] = "unreachable"};

    ASSERT((size_t)state < sizeof words / sizeof words[0]);
    return words[state];
}

static const char *hex(char text[2 * BATCH_DIGEST_SIZE + 1], const uint8_t *digest)
{
    for (size_t i = 0; i < BATCH_DIGEST_SIZE; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", digest[i]); /* fits */
    }
    return text;
}

/* ---- what differs ---- */

/* The names of the fields in which the headers of a difference differ, "a, b, c". */
static void name_fields(const struct comparison *comparison, char text[256])
{
    const struct batch_header *first = NULL;
    bool differs[9] = {false};
    static const char *const names[] = {"base offset", "record count", "size",
                                        "raft index",  "raft term",    "append time",
                                        "producer",    "body",         "digest"};
    size_t used = 0;

    for (unsigned i = 0; i < comparison->fleet->count; i++) {
        const struct batch_header *h = &comparison->copies[i].header;

        if (!comparison->copies[i].has_header) {
            continue;
        }
        first = first == NULL ? h : first;
        differs[0] |= h->base_offset != first->base_offset;
        differs[1] |= h->record_count != first->record_count;
        differs[2] |= h->size != first->size;
        differs[3] |= h->raft_index != first->raft_index;
        differs[4] |= h->raft_term != first->raft_term;
        differs[5] |= h->append_time_us != first->append_time_us;
        differs[6] |= h->producer_id != first->producer_id ||
                      h->producer_epoch != first->producer_epoch ||
                      h->base_sequence != first->base_sequence;
        differs[7] |= h->body_crc32c != first->body_crc32c;
        differs[8] |= memcmp(h->digest, first->digest, sizeof h->digest) != 0;
    }
    text[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (differs[i]) {
            used +=
                (size_t)snprintf(text + used, 256 - used, "%s%s", used > 0 ? ", " : "", names[i]);
        }
    }
    ASSERT(used < 256);
}

/* ---- for people ---- */

static void print_group(const struct comparison *comparison, unsigned group)
{
    const struct batch_header *header = NULL;
    char digest[2 * BATCH_DIGEST_SIZE + 1];
    unsigned count = 0;

    for (unsigned i = 0; i < comparison->fleet->count; i++) {
        const struct copy *copy = &comparison->copies[i];

        if (copy->has_header && copy->group == group) {
            printf("%s%llu", count++ == 0 ? "  node " : ", ",
                   (unsigned long long)comparison->fleet->nodes[i].id);
            header = &copy->header;
        }
    }
    ASSERT(header != NULL);
    printf(": offsets %llu to %llu, %u bytes, raft index %llu, term %llu, body %08x, digest %s\n",
           (unsigned long long)header->base_offset,
           (unsigned long long)batch_end_offset(header) - 1, header->size,
           (unsigned long long)header->raft_index, (unsigned long long)header->raft_term,
           header->body_crc32c, hex(digest, header->digest));
}

static void print_copies(const struct comparison *comparison)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < comparison->fleet->count; i++) {
        const struct copy *copy = &comparison->copies[i];

        end = copy->state == COPY_READ && copy->end > end ? copy->end : end;
    }
    for (unsigned i = 0; i < comparison->fleet->count; i++) {
        const struct copy *copy = &comparison->copies[i];
        unsigned long long id = comparison->fleet->nodes[i].id;

        if (copy->state == COPY_READ && copy->end < end) {
            printf("  node %llu is %llu records behind\n", id,
                   (unsigned long long)(end - copy->end));
        } else if (copy->state == COPY_DAMAGED || copy->state == COPY_INCOMPLETE) {
            printf("  node %llu: %s at offset %llu: %s\n", id, state_word(copy->state),
                   (unsigned long long)copy->at, copy->text);
        } else if (copy->state != COPY_READ && copy->state != COPY_LOST) {
            printf("  node %llu: %s: %s\n", id, state_word(copy->state), copy->text);
        }
    }
}

static void print_text(const struct comparison *comparison)
{
    char fields[256];
    char digest[2 * BATCH_DIGEST_SIZE + 1];
    unsigned count = 0;

    for (unsigned i = 0; i < comparison->fleet->count; i++) {
        count += comparison->copies[i].state == COPY_READ ? 1 : 0;
    }
    if (comparison->different) {
        name_fields(comparison, fields);
        printf("%s: different from offset %llu on; what differs: %s\n", comparison->topic,
               (unsigned long long)comparison->offset, fields);
        for (unsigned group = 0; group < comparison->group_count; group++) {
            print_group(comparison, group);
        }
    } else if (comparison->low == comparison->agreed) {
        printf("%s: nothing to compare on %u node%s\n", comparison->topic, count,
               count == 1 ? "" : "s");
    } else {
        printf("%s: equal on %u node%s, offsets %llu to %llu, digest %s\n", comparison->topic,
               count, count == 1 ? "" : "s", (unsigned long long)comparison->low,
               (unsigned long long)comparison->agreed - 1, hex(digest, comparison->digest));
    }
    print_copies(comparison);
}

/* ---- for programs ---- */

static json_t *copy_json(const struct comparison *comparison, unsigned at)
{
    const struct copy *copy = &comparison->copies[at];
    char digest[2 * BATCH_DIGEST_SIZE + 1];
    json_t *object = json_pack("{s:o,s:s}", "id", json_number(comparison->fleet->nodes[at].id),
                               "state", state_word(copy->state));

    if (copy->state == COPY_READ) {
        (void)json_object_set_new(object, "start", json_number(copy->start)); /* No memory: */
        (void)json_object_set_new(object, "end", json_number(copy->end)); /* json_print aborts. */
    } else {
        (void)json_object_set_new(object, "text", json_text(copy->text));
    }
    if (copy->state == COPY_DAMAGED || copy->state == COPY_INCOMPLETE) {
        (void)json_object_set_new(object, "offset", json_number(copy->at));
    }
    if (comparison->different && copy->has_header) {
        json_t *batch = json_pack(
            "{s:o,s:o,s:o,s:o,s:o,s:o,s:s}", "offset", json_number(copy->header.base_offset), "end",
            json_number(batch_end_offset(&copy->header)), "size", json_number(copy->header.size),
            "raft_index", json_number(copy->header.raft_index), "term",
            json_number(copy->header.raft_term), "body_crc32c",
            json_number(copy->header.body_crc32c), "digest", hex(digest, copy->header.digest));

        (void)json_object_set_new(object, "group", json_number(copy->group));
        (void)json_object_set_new(object, "batch", batch);
    }
    return object;
}

static void print_json(const struct comparison *comparison)
{
    json_t *nodes = json_array();
    json_t *object;
    char text[256];

    for (unsigned i = 0; i < comparison->fleet->count; i++) {
        (void)json_array_append_new(nodes, copy_json(comparison, i)); /* As above. */
    }
    object = json_pack("{s:o,s:b,s:o,s:o,s:o}", "topic", json_text(comparison->topic), "equal",
                       !compare_is_bad(comparison), "start", json_number(comparison->low), "end",
                       json_number(comparison->different ? comparison->common : comparison->agreed),
                       "nodes", nodes);
    if (comparison->different) {
        name_fields(comparison, text);
        (void)json_object_set_new(object, "offset", json_number(comparison->offset));
        (void)json_object_set_new(object, "differs", json_string(text));
    } else if (comparison->low < comparison->agreed) {
        (void)json_object_set_new(object, "digest", json_string(hex(text, comparison->digest)));
    }
    json_print(object);
}

/* ---- topics ---- */

static void verify_topic(struct verify *self, const char *topic, bool *ret_known)
{
    struct comparison *comparison = calloc(1, sizeof *comparison);

    ASSERT(comparison != NULL); /* Some kilobytes. */
    compare_topic(&self->fleet, topic, comparison);
    *ret_known = !comparison->unknown;
    if (!comparison->unknown) {
        if (self->deep && comparison->low < comparison->common) {
            compare_deep(comparison, &self->progress);
            progress_clear(&self->progress);
        }
        self->compared++;
        self->bad += compare_is_bad(comparison) ? 1 : 0;
        if (self->json) {
            print_json(comparison);
        } else {
            print_text(comparison);
        }
    }
    free(comparison);
}

/* The part of the topics of node `at` behind `after` that are new to the list. */
static bool list_part(struct verify *self, unsigned at, char after[256], json_t *names)
{
    Quorlog__TopicListRequest request = QUORLOG__TOPIC_LIST_REQUEST__INIT;
    const struct client_question question = {
        .type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST_REPLY,
        .request = &request.base,
        .reply = &quorlog__topic_list_reply__descriptor,
    };
    Quorlog__TopicListReply *reply;
    struct ask ask;
    bool more = false;

    request.after = after;
    fleet_ask(&self->fleet, at, &question, &ask);
    fleet_wait(&self->fleet);
    if (!fleet_is_lost(&self->fleet, at, &ask) && ask.err == ERR_OK) {
        reply = quorlog__topic_list_reply__unpack(NULL, ask.header_size, ask.header);
        ASSERT(reply != NULL); /* The client has looked at it. */
        for (size_t i = 0; i < reply->n_topics; i++) {
            (void)snprintf(after, 256, "%s", reply->topics[i]->name); /* A name is shorter. */
            (void)json_object_set_new(names, after, json_true()); /* Missing then: not compared. */
        }
        more = reply->more && reply->n_topics > 0;
        quorlog__topic_list_reply__free_unpacked(reply, NULL);
    }
    ask_fini(&ask);
    return more;
}

static void verify_all(struct verify *self)
{
    json_t *names = json_object(); /* as a set */
    const char *name;
    json_t *value;
    bool known;

    ASSERT(names != NULL);
    for (unsigned i = 0; i < self->fleet.count; i++) {
        char after[256] = "";

        while (list_part(self, i, after, names)) {
            /* Until the list's end. */
        }
    }
    json_object_foreach(names, name, value)
    {
        /* One that is known nowhere was deleted meanwhile. */
        verify_topic(self, name, &known);
    }
    json_decref(names);
}

static bool tell_lost(const struct verify *self)
{
    bool lost = false;

    for (unsigned i = 0; i < self->fleet.count; i++) {
        const struct fleet_node *node = &self->fleet.nodes[i];

        if (node->lost) {
            lost = true;
            (void)fail("node %llu (%s) could not be asked: %s", (unsigned long long)node->id,
                       node->address, node->why); /* The exit code is another. */
        }
    }
    return lost;
}

static int run_verify(const struct invocation *invocation)
{
    struct verify *self = calloc(1, sizeof *self);
    struct err_info info;
    uint64_t rate;
    int code;
    bool known = true;

    ASSERT(self != NULL); /* Some kilobytes. */
    self->json = option_given(invocation, "json");
    self->deep = option_given(invocation, "deep");
    if (option_number(invocation, "rate", 64 << 20, 0, UINT64_C(1) << 40, &rate, &info) != ERR_OK) {
        code = usage("%s", info.text);
        goto out;
    }
    code = fleet_open(invocation, &self->fleet);
    if (code != EXIT_OK) {
        goto out;
    }
    progress_begin(&self->progress, "verify", rate);
    if (invocation->argument_count > 0) {
        for (unsigned i = 0; i < invocation->argument_count; i++) {
            verify_topic(self, invocation->arguments[i], &known);
            if (!known) {
                code = fail("there is no topic '%s'", invocation->arguments[i]);
            }
        }
    } else {
        verify_all(self);
    }
    if (tell_lost(self) && code == EXIT_OK) {
        code = EXIT_UNHEALTHY;
    }
    fleet_close(&self->fleet);
    code = self->bad > 0 ? EXIT_FAILED : code;
out:
    free(self);
    return code;
}

const struct command_spec command_verify = {
    .name = "verify",
    .synopsis = "[TOPIC…]",
    .summary = "compare the copies of topics on all nodes, name the first difference",
    .details =
        "Without a topic: all of them. Digests chain the batches of a topic, so equal digests\n"
        "mean equal copies up to there. Each node is asked at its own address. A copy that is\n"
        "behind, or fetches a range that it lacks, is told, and is no difference; nor is one that\n"
        "was compacted at another time than others: it had the same records. --deep finds what the\n"
        "digests in the headers cannot: bytes that the disk no longer gives back. Exits 0 when all\n"
        "are equal, 1 when not, 10 when a node could not be asked.\n",
    .options = options,
    .arguments_min = 0,
    .arguments_max = ARGUMENTS_MAX,
    .run = run_verify,
};
