#include "cli/consume_cursor.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "client/share.h"

enum { NAME_SIZE_MAX = 200 };

static const int signal_numbers[] = {SIGINT, SIGTERM};

/* ---- options ---- */

static enum err parse_share(const char *text, struct consumer_options *options,
                            struct err_info *info)
{
    char *end;
    unsigned long share = strtoul(text, &end, 10);
    unsigned long count = *end == '/' && end[1] != '\0' ? strtoul(end + 1, &end, 10) : 0;

    if (*text < '0' || *text > '9' || *end != '\0' || share == 0 || share > count ||
        count > SHARE_COUNT_MAX) {
        return err_set(info, ERR_INVALID,
                       "'%s' is no share: I/N, with I from 1 to N and N up to %d", text,
                       SHARE_COUNT_MAX);
    }
    options->share = (unsigned)share;
    options->share_count = (unsigned)count;
    return ERR_OK;
}

/* Each share has a cursor of its own. */
static enum err make_name(struct consume_cursor *self, const char *name,
                          const struct consumer_options *options, struct err_info *info)
{
    int size = options->share_count == 0 ? snprintf(self->name, sizeof self->name, "%s", name)
                                         : snprintf(self->name, sizeof self->name, "%s.%u-of-%u",
                                                    name, options->share, options->share_count);

    if (name[0] == '\0' || size > NAME_SIZE_MAX) {
        return err_set(info, ERR_INVALID, "a cursor's name has 1 to %d characters%s", NAME_SIZE_MAX,
                       options->share_count == 0 ? "" : ", its share included");
    }
    return ERR_OK;
}

int consume_cursor_parse(struct consume_cursor *self, const struct invocation *invocation,
                         struct consumer_options *consumer_options)
{
    const char *name = option_value(invocation, "cursor");
    const char *share = option_value(invocation, "share");
    struct err_info info;
    enum err err = ERR_OK;

    if (name == NULL && (option_given(invocation, "commit-records") ||
                         option_given(invocation, "commit-interval"))) {
        return usage("--commit-records and --commit-interval belong to --cursor");
    }
    self->topic = consumer_options->topic;
    if (share != NULL) {
        err = parse_share(share, consumer_options, &info);
    }
    if (err == ERR_OK && name != NULL) {
        err = make_name(self, name, consumer_options, &info);
    }
    if (err == ERR_OK) {
        err =
            option_number(invocation, "commit-records", 0, 1, INT64_MAX, &self->records_max, &info);
    }
    if (err == ERR_OK) {
        err =
            option_number(invocation, "commit-interval", 0, 1, 86400000, &self->interval_ms, &info);
    }
    return err == ERR_OK ? EXIT_OK : usage("%s", info.text);
}

/* ---- events ---- */

static void tell(struct consume_cursor *self, const struct client_error *error)
{
    if (error->err == ERR_OK) {
        return;
    }
    self->code = error->err == ERR_CURSOR_CONFLICT
                     ? fail("%s", error->text)
                     : fail("cursor '%s': %s", self->name, error->text);
}

static void on_opened(void *arg, const struct client_error *error, bool exists, uint64_t offset,
                      uint64_t token)
{
    struct consume_cursor *self = arg;

    self->waited_for = true;
    self->exists = exists;
    self->offset = offset;
    self->token = token;
    tell(self, error);
}

static void on_ended(void *arg, const struct client_error *error, uint64_t committed)
{
    struct consume_cursor *self = arg;

    (void)committed; /* A conflict's text has it. */
    self->waited_for = true;
    tell(self, error);
    committer_free(self->committer);
    self->committer = NULL;
    *self->stop = true;
}

/* The first one ends the reading in order; the second one ends the process. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct consume_cursor *self = handle->data;

    (void)number;
    *self->stop = true;
    for (size_t i = 0; i < 2; i++) {
        (void)uv_signal_stop(&self->signals[i]); /* Never fails. */
    }
}

static void watch_signals(struct consume_cursor *self)
{
    self->watching = true;
    for (size_t i = 0; i < 2; i++) {
        (void)uv_signal_init(client_loop(self->client), &self->signals[i]); /* Never fails. */
        self->signals[i].data = self;
        /* If it fails, the signal ends the process: nothing is lost but the last commit. */
        (void)uv_signal_start(&self->signals[i], on_signal, signal_numbers[i]);
    }
}

/* ---- what consume does with it ---- */

int consume_cursor_open(struct consume_cursor *self, struct client *client, bool *stop,
                        struct consumer_options *consumer_options)
{
    static const struct committer_events events = {.opened = on_opened, .ended = on_ended};
    const struct committer_options options = {.topic = self->topic,
                                              .name = self->name,
                                              .records_max = self->records_max,
                                              .interval_ms = self->interval_ms};
    enum err err;

    if (self->name[0] == '\0') {
        return EXIT_OK;
    }
    self->client = client;
    self->stop = stop;
    err = committer_new(client, &options, &events, self, &self->committer);
    if (err != ERR_OK) {
        return err == ERR_INVALID ? usage("a topic's name has 1 to 200 characters")
                                  : fail("%s", err_text(err));
    }
    client_wait(client, &self->waited_for);
    if (self->code != EXIT_OK) {
        committer_free(self->committer);
        self->committer = NULL;
        return self->code;
    }
    if (self->exists) {
        consumer_options->start = CONSUMER_OFFSET;
        consumer_options->offset = self->offset;
    }
    /* A node that is behind may not have that offset yet, or another topic of that name. */
    if (self->token > consumer_options->at_least) {
        consumer_options->at_least = self->token;
    }
    watch_signals(self);
    return EXIT_OK;
}

void consume_cursor_advance(struct consume_cursor *self, uint64_t offset)
{
    if (self->committer != NULL) {
        committer_advance(self->committer, offset);
    }
}

int consume_cursor_close(struct consume_cursor *self, int code)
{
    if (self->committer != NULL) {
        self->waited_for = false;
        committer_close(self->committer);
        client_wait(self->client, &self->waited_for);
    }
    ASSERT(self->committer == NULL);
    for (size_t i = 0; self->watching && i < 2; i++) {
        uv_close((uv_handle_t *)&self->signals[i], NULL);
    }
    return self->code != EXIT_OK ? self->code : code;
}
