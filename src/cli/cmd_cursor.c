/*
 * quorlog cursor get, set, list, delete.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/json.h"
#include "client/cursor.h"
#include "quorlog.pb-c.h"

enum { NAME_SIZE_MAX = 200 };

static const struct option_spec get_options[] = {
    CALLER_OPTIONS,
    {"at-least", 0, "TOKEN", false, "see at least what the change with this token did"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static const struct option_spec list_options[] = {
    CALLER_OPTIONS,
    {"json", 0, NULL, false, "print an object for each cursor"},
    {NULL, 0, NULL, false, NULL},
};

#define EXPECT_OPTIONS                                                                             \
    {"expect-revision", 0, "R", false, "only if this is its revision; 0: only if there is none"},  \
    {                                                                                              \
        "expect-offset", 0, "N", false, "only if it is there, at this offset"                      \
    }

static const struct option_spec set_options[] = {
    CALLER_OPTIONS,
    EXPECT_OPTIONS,
    {"metadata", 'm', "TEXT", false, "keep this with it; at most 256 bytes"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static const struct option_spec delete_options[] = {
    CALLER_OPTIONS,
    EXPECT_OPTIONS,
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static int malformed(void)
{
    return fail("the server's answer cannot be read; are client and server of one version?");
}

static int check_names(const struct invocation *invocation)
{
    static const char *const what[] = {"topic", "cursor"};

    for (unsigned i = 0; i < 2 && i < invocation->argument_count; i++) {
        size_t size = strlen(invocation->arguments[i]);

        if (size == 0 || size > NAME_SIZE_MAX) {
            return usage("a %s's name has 1 to %d characters", what[i], NAME_SIZE_MAX);
        }
    }
    return EXIT_OK;
}

/* ---- what is shown ---- */

/* Records behind the end, as the answering node shows it; it may be behind the cursor itself. */
static uint64_t lag_of(const Quorlog__CursorInfo *cursor)
{
    return cursor->log_end > cursor->offset ? cursor->log_end - cursor->offset : 0;
}

/* "12 s", "3 min", "5 h", "9 d" since then, by this machine's clock. */
static const char *human_age(char buffer[24], int64_t time_us)
{
    const int64_t hour = 3600;
    const int64_t day = 24 * hour;
    int64_t seconds = (int64_t)time(NULL) - time_us / 1000000;

    if (seconds < 0) {
        seconds = 0; /* Clocks differ. */
    }
    if (seconds < 120) {
        (void)snprintf(buffer, 24, "%d s", (int)seconds); /* fits, as all of these */
    } else if (seconds < 2 * hour) {
        (void)snprintf(buffer, 24, "%d min", (int)(seconds / 60));
    } else if (seconds < 2 * day) {
        (void)snprintf(buffer, 24, "%d h", (int)(seconds / hour));
    } else {
        (void)snprintf(buffer, 24, "%lld d", (long long)(seconds / day));
    }
    return buffer;
}

static json_t *cursor_json(const Quorlog__CursorInfo *cursor)
{
    char time[40];
    char owner[24];

    (void)snprintf(owner, sizeof owner, "%016llx", (unsigned long long)cursor->owner); /* fits */
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:s,s:s,s:o}", "topic", json_text(cursor->topic),
                     "cursor", json_text(cursor->name), "offset", json_number(cursor->offset),
                     "end", json_number(cursor->log_end), "lag", json_number(lag_of(cursor)),
                     "revision", json_number(cursor->revision), "token",
                     json_number(cursor->raft_index), "owner", owner, "updated",
                     human_time(time, cursor->updated_time_us), "metadata",
                     json_text(cursor->metadata));
}

static void print_cursor(const Quorlog__CursorInfo *cursor)
{
    char time[40];
    char age[24];

    printf("cursor    %s of %s\noffset    %llu, %llu before the end\nrevision  %llu\n",
           cursor->name, cursor->topic, (unsigned long long)cursor->offset,
           (unsigned long long)lag_of(cursor), (unsigned long long)cursor->revision);
    printf("updated   %s, %s ago\n", human_time(time, cursor->updated_time_us),
           human_age(age, cursor->updated_time_us));
    if (cursor->metadata[0] != '\0') {
        printf("metadata  %s\n", cursor->metadata);
    }
}

/* ---- get ---- */

/* Asks for the cursor; the answer is the caller's to free, unless the code is not EXIT_OK. */
static int ask_cursor(struct client *client, const struct invocation *invocation, uint64_t at_least,
                      Quorlog__CursorGetReply **ret_reply)
{
    const char *topic = invocation->arguments[0];
    const char *name = invocation->arguments[1];
    struct call call = {0};
    enum err err = client_cursor_get(client, topic, name, at_least, caller_on_reply, &call);
    int code = caller_wait(client, err, &call);

    if (code != EXIT_OK) {
        return code;
    }
    *ret_reply = quorlog__cursor_get_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    if (*ret_reply == NULL || (*ret_reply)->cursor == NULL) {
        quorlog__cursor_get_reply__free_unpacked(*ret_reply, NULL);
        return malformed();
    }
    return EXIT_OK;
}

static int run_get(const struct invocation *invocation)
{
    Quorlog__CursorGetReply *reply = NULL;
    struct client *client;
    struct err_info info;
    uint64_t at_least;
    int code = check_names(invocation);

    if (code == EXIT_OK &&
        option_number(invocation, "at-least", 0, 0, INT64_MAX, &at_least, &info) != ERR_OK) {
        code = usage("%s", info.text);
    }
    if (code == EXIT_OK) {
        code = caller_open(invocation, &client);
    }
    if (code != EXIT_OK) {
        return code;
    }
    code = ask_cursor(client, invocation, at_least, &reply);
    caller_close(client);
    if (code != EXIT_OK) {
        return code;
    }
    if (option_given(invocation, "json")) {
        json_print(cursor_json(reply->cursor));
    } else {
        print_cursor(reply->cursor);
    }
    quorlog__cursor_get_reply__free_unpacked(reply, NULL);
    return EXIT_OK;
}

/* ---- set ---- */

static int parse_change(const struct invocation *invocation, struct client_cursor_change *change)
{
    bool by_revision = option_given(invocation, "expect-revision");
    struct err_info info;
    int code = check_names(invocation);
    enum err err;

    if (code != EXIT_OK) {
        return code;
    }
    change->topic = invocation->arguments[0];
    change->name = invocation->arguments[1];
    if (by_revision && option_given(invocation, "expect-offset")) {
        return usage("--expect-revision and --expect-offset exclude each other");
    }
    if (by_revision || option_given(invocation, "expect-offset")) {
        change->expect = by_revision ? CLIENT_CURSOR_REVISION : CLIENT_CURSOR_OFFSET;
        err = option_number(invocation, by_revision ? "expect-revision" : "expect-offset", 0, 0,
                            INT64_MAX, &change->expected, &info);
        return err == ERR_OK ? EXIT_OK : usage("%s", info.text);
    }
    return EXIT_OK;
}

/* Where a reading would begin. */
struct place {
    bool done;
    enum err err;
    char text[512];
    uint64_t offset;
};

static void on_placed(void *arg, uint64_t offset)
{
    struct place *place = arg;

    place->done = true;
    place->offset = offset;
}

static void on_record(void *arg, const struct record *record)
{
    (void)arg; /* Only the place was asked for. */
    (void)record;
}

static void on_ended(void *arg, const struct client_error *error, uint64_t next_offset)
{
    struct place *place = arg;

    (void)next_offset;
    if (!place->done) {
        place->done = true;
        place->err = error->err;
        (void)snprintf(place->text, sizeof place->text, "%s", error->text); /* Cut is fine. */
    }
}

/* A number is taken as it is; for all else a consumer finds the place. */
static int find_place(struct client *client, struct consumer_options *options, uint64_t *ret_offset)
{
    static const struct consumer_events events = {
        .record = on_record, .ended = on_ended, .placed = on_placed};
    struct place place = {0};
    struct consumer *consumer;
    enum err err;

    if (options->start == CONSUMER_OFFSET) {
        *ret_offset = options->offset;
        return EXIT_OK;
    }
    options->credit_size = 1;
    err = consumer_new(client, options, &events, &place, &consumer);
    if (err != ERR_OK) {
        return fail("%s", err_text(err));
    }
    client_wait(client, &place.done);
    consumer_free(consumer);
    *ret_offset = place.offset;
    return place.err == ERR_OK ? EXIT_OK : fail("%s", place.text);
}

/* Sets it, and waits until the node that is asked has it too; the answer is what it shows then. */
static int set_and_look(struct client *client, const struct invocation *invocation,
                        const struct client_cursor_change *change,
                        Quorlog__CursorGetReply **ret_reply)
{
    struct call call = {0};
    Quorlog__CursorSetReply *reply;
    uint64_t token;
    int code =
        caller_wait(client, client_cursor_set(client, change, caller_on_reply, &call), &call);

    if (code != EXIT_OK) {
        return code;
    }
    reply = quorlog__cursor_set_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    if (reply == NULL) {
        return malformed();
    }
    token = reply->raft_index;
    quorlog__cursor_set_reply__free_unpacked(reply, NULL);
    return ask_cursor(client, invocation, token, ret_reply);
}

static int run_set(const struct invocation *invocation)
{
    struct client_cursor_change change = {.metadata = option_value(invocation, "metadata")};
    struct consumer_options place = {.topic = invocation->arguments[0]};
    Quorlog__CursorGetReply *reply = NULL;
    struct client *client;
    struct err_info info;
    int code = parse_change(invocation, &change);

    if (code == EXIT_OK && format_parse_start(invocation->arguments[2], &place, &info) != ERR_OK) {
        code = usage("%s", info.text);
    }
    if (code == EXIT_OK) {
        code = caller_open(invocation, &client);
    }
    if (code != EXIT_OK) {
        return code;
    }
    code = find_place(client, &place, &change.offset);
    if (code == EXIT_OK) {
        code = set_and_look(client, invocation, &change, &reply);
    }
    caller_close(client);
    if (code != EXIT_OK) {
        return code;
    }
    if (option_given(invocation, "json")) {
        json_print(cursor_json(reply->cursor));
    } else {
        printf("set %s of %s to %llu\n", change.name, change.topic,
               (unsigned long long)change.offset);
    }
    quorlog__cursor_get_reply__free_unpacked(reply, NULL);
    return EXIT_OK;
}

/* ---- delete ---- */

static int run_delete(const struct invocation *invocation)
{
    struct client_cursor_change change = {0};
    struct client *client;
    struct call call = {0};
    int code = parse_change(invocation, &change);

    if (code == EXIT_OK) {
        code = caller_open(invocation, &client);
    }
    if (code != EXIT_OK) {
        return code;
    }
    code =
        caller_wait(client, client_cursor_delete(client, &change, caller_on_reply, &call), &call);
    caller_close(client);
    free(call.reply);
    if (code == EXIT_OK && option_given(invocation, "json")) {
        json_print(json_pack("{s:o,s:o}", "topic", json_text(change.topic), "cursor",
                             json_text(change.name)));
    } else if (code == EXIT_OK) {
        printf("deleted %s of %s\n", change.name, change.topic);
    }
    return code;
}

/* ---- list ---- */

/* Where the list goes on. */
struct place_in_list {
    bool begun;
    bool more;
    uint64_t topic_id;
    char name[NAME_SIZE_MAX + 1];
};

static void print_cursors(const Quorlog__CursorListReply *reply, bool json, bool first)
{
    char age[24];

    if (first && !json) {
        printf("%-24s %-24s %14s %14s %12s %8s\n", "TOPIC", "CURSOR", "OFFSET", "END", "LAG",
               "UPDATED");
    }
    for (size_t i = 0; i < reply->n_cursors; i++) {
        const Quorlog__CursorInfo *cursor = reply->cursors[i];

        if (json) {
            json_print(cursor_json(cursor));
        } else {
            printf("%-24s %-24s %14llu %14llu %12llu %8s\n", cursor->topic, cursor->name,
                   (unsigned long long)cursor->offset, (unsigned long long)cursor->log_end,
                   (unsigned long long)lag_of(cursor), human_age(age, cursor->updated_time_us));
        }
    }
}

static int list_part(struct client *client, const char *topic, bool json,
                     struct place_in_list *place)
{
    struct call call = {0};
    Quorlog__CursorListReply *reply;
    enum err err =
        client_cursor_list(client, topic, place->topic_id, place->name, caller_on_reply, &call);
    int code = caller_wait(client, err, &call);

    if (code != EXIT_OK) {
        return code;
    }
    reply = quorlog__cursor_list_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    if (reply == NULL) {
        return malformed();
    }
    print_cursors(reply, json, !place->begun);
    place->begun = true;
    place->more = reply->more && reply->n_cursors > 0;
    if (place->more) {
        const Quorlog__CursorInfo *last = reply->cursors[reply->n_cursors - 1];

        place->topic_id = last->topic_id;
        (void)snprintf(place->name, sizeof place->name, "%s",
                       last->name); /* No longer than that. */
    }
    quorlog__cursor_list_reply__free_unpacked(reply, NULL);
    return EXIT_OK;
}

static int run_list(const struct invocation *invocation)
{
    const char *topic = invocation->argument_count > 0 ? invocation->arguments[0] : NULL;
    bool json = option_given(invocation, "json");
    struct place_in_list place = {0};
    struct client *client;
    int code = check_names(invocation);

    if (code == EXIT_OK) {
        code = caller_open(invocation, &client);
    }
    if (code != EXIT_OK) {
        return code;
    }
    do {
        code = list_part(client, topic, json, &place);
    } while (code == EXIT_OK && place.more);
    caller_close(client);
    return code;
}

const struct command_spec command_cursor_get = {
    .name = "cursor get",
    .synopsis = "TOPIC CURSOR",
    .summary = "show where a cursor stands",
    .details =
        "As the node that answers has it: --at-least, or the leader's address, for certain.\n",
    .options = get_options,
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_get,
};

const struct command_spec command_cursor_set = {
    .name = "cursor set",
    .synopsis = "TOPIC CURSOR start|end|N|@TIME",
    .summary = "make a cursor, or move it",
    .details =
        "A cursor is a named position in a topic: the offset of the record to be read next. It is\n"
        "kept by the cluster, as durable as records, and goes with its topic. Its revision\n"
        "changes each time it is set: a consumer that is using it ends with an error. -N, for N\n"
        "records before the end, goes behind '--'. A name has 1 to 200 characters of A-Z a-z 0-9\n"
        ". _ -\n"
        "\n"
        "examples:\n"
        "  quorlog cursor set events billing start\n"
        "  quorlog cursor set events billing 57 --expect-revision 0\n",
    .options = set_options,
    .arguments_min = 3,
    .arguments_max = 3,
    .run = run_set,
};

const struct command_spec command_cursor_list = {
    .name = "cursor list",
    .synopsis = "[TOPIC]",
    .summary = "list cursors: where they stand, how far behind, how old",
    .details = "The lag is the number of records between the cursor and the topic's end.\n",
    .options = list_options,
    .arguments_min = 0,
    .arguments_max = 1,
    .run = run_list,
};

const struct command_spec command_cursor_delete = {
    .name = "cursor delete",
    .synopsis = "TOPIC CURSOR",
    .summary = "delete a cursor",
    .details = NULL,
    .options = delete_options,
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_delete,
};
