/*
 * quorlog consume: records of a topic on standard output.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/consume_cursor.h"
#include "cli/consume_filter.h"
#include "cli/format.h"

static const struct option_spec options[] = {
    CALLER_OPTIONS,
    {"offset", 'o', "start|end|N|-N|@TIME", false,
     "where to begin; default start, with --follow end; with --cursor only if there is none, "
     "default "
     "start"},
    {"count", 'n', "COUNT", false, "stop after so many records"},
    {"format", 'f', "FORMAT", false,
     "%o offset, %k key, %v value, %t time, %h headers; default '%v\\n'"},
    {"json", 0, NULL, false, "print an object for each record"},
    {"follow", 'F', NULL, false, "wait for more records at the end"},
    {"at-least", 0, "TOKEN", false, "see at least what the produce with this token wrote"},
    {"linearizable", 0, NULL, false, "see all that was acknowledged before, by whomever"},
    {"max-lag", 0, "MS", false, "see all that was acknowledged so long before"},
    CONSUME_FILTER_OPTIONS,
    CONSUME_CURSOR_OPTIONS,
    {NULL, 0, NULL, false, NULL},
};

static const char details[] =
    "Reads from whichever node answers; what it shows is committed, and never changes. With\n"
    "several servers that is a follower, where one is there, and another node when it is gone,\n"
    "behind or damaged; what was seen once is never taken back. Without --follow it stops at the\n"
    "end of the log as it is when the reading begins.\n"
    "\n"
    "A follower may be some milliseconds behind, or more when it is cut off. How fresh it has to\n"
    "be, on any node (one of the three; else the node shows what it has):\n"
    "  --at-least TOKEN  It has applied the entry of that produce: read your own writes.\n"
    "  --linearizable    The leader was asked after this command, and made sure with a majority\n"
    "                    that it still leads: all that was acknowledged before is shown. With\n"
    "                    --follow, that is where the reading begins.\n"
    "  --max-lag MS      As above, but the answer to a question of up to MS milliseconds before\n"
    "                    will do, by that node's clock: all that was acknowledged MS before this\n"
    "                    command is shown. With --follow the node has to keep to it. One that\n"
    "                    cannot is left for another; if all cannot until --timeout, it fails\n"
    "                    (LAGGING).\n"
    "\n"
    "--key, --header, --grep, --since and --until say which records are wanted: those that all of\n"
    "them fit. The node looks for them and sends no others; how many it looked at is told on\n"
    "stderr at the end. TIME is 2026-11-22T10:00:00Z, seconds since 1970, or so long ago: 10m.\n"
    "\n"
    "With --cursor it goes on where the cursor stands, takes it over from whoever had it (which\n"
    "then ends with an error), and moves it behind what was written to the output: now and then,\n"
    "and at the end, at SIGINT and SIGTERM too. At least once: after a crash what was printed and\n"
    "not yet committed is printed again. A cursor that is not there is made.\n"
    "\n"
    "With --share I/N this is one of N readers that split the topic: a record goes to the one\n"
    "that its key says, in order for each key, and records without a key in turn. Each must be\n"
    "given the same N. All is read, and the others' records are passed over here. --cursor then\n"
    "has a cursor for each share: CURSOR.I-of-N.\n"
    "\n"
    "examples:\n"
    "  quorlog consume events\n"
    "  quorlog consume events -o -10 --follow\n"
    "  quorlog consume events -o @2026-11-22T10:00:00Z -f '%o %t %v\\n'\n"
    "  quorlog consume events --key alice --latest\n"
    "  quorlog consume events --header kind=order --grep paid --since 2h\n"
    "  quorlog consume events -s 127.0.0.1:7438 --at-least 57 --json\n"
    "  quorlog consume events --cursor billing --share 1/3 --follow\n"
    "  quorlog consume events -s 127.0.0.1:7438 --linearizable\n";

struct consume {
    const char *topic;
    const char *format; /* NULL: JSON */
    bool plain;         /* values, a line each */
    struct consumer *consumer;
    struct consume_cursor cursor;
    struct consume_filter filter;
    bool placed; /* the consumer's position counts */
    bool done;
    bool output_failed;
    int code;
    uv_prepare_t flush;
    uv_poll_t reader; /* tells when the reader of a pipe is gone, even if nothing is written */
    bool watching;
    size_t lines_size;
    char lines[64 << 10]; /* plain: what was not given to stdio yet */
};

/* Nothing more can be printed, or nothing more is wanted. */
static void stop_output(struct consume *self)
{
    ASSERT(!self->output_failed);
    self->output_failed = true;
    self->done = true;
    self->code = output_failed(errno);
}

static void flush_lines(struct consume *self)
{
    (void)fwrite(self->lines, 1, self->lines_size, stdout); /* Checked by who prints, or flushes. */
    self->lines_size = 0;
}

/* A call of stdio a record would be most of what it costs to print it. */
static void put_line(struct consume *self, const void *data, size_t size)
{
    if (size >= sizeof self->lines - self->lines_size) {
        flush_lines(self);
    }
    if (size >= sizeof self->lines) {
        (void)fwrite(data, 1, size, stdout); /* as above */
    } else {
        memcpy(self->lines + self->lines_size, data, size);
        self->lines_size += size;
    }
    ASSERT(self->lines_size < sizeof self->lines);
    self->lines[self->lines_size++] = '\n';
}

static void print_record(void *arg, const struct record *record)
{
    struct consume *self = arg;

    if (self->plain) {
        put_line(self, record->value, record->value_size);
    } else if (self->format != NULL) {
        format_print(stdout, self->format, record);
    } else {
        format_print_json(self->topic, record);
    }
    if (ferror(stdout)) {
        stop_output(self);
    }
}

static void on_record(void *arg, const struct record *record)
{
    struct consume *self = arg;

    if (self->output_failed) {
        return;
    }
    if (!consume_filter_wants_latest(&self->filter)) {
        print_record(self, record);
    } else if (consume_filter_keep(&self->filter, record) != ERR_OK) {
        self->done = true;
        self->code = fail("%s", err_text(ERR_NOMEM));
    }
}

static void on_ended(void *arg, const struct client_error *error, uint64_t next_offset)
{
    struct consume *self = arg;

    (void)next_offset;
    self->done = true;
    if (error->err != ERR_OK && !self->output_failed) {
        self->code = fail("%s", error->text);
    } else if (!self->output_failed) {
        consume_filter_give(&self->filter, print_record, self);
    }
}

static void on_placed(void *arg, uint64_t offset)
{
    struct consume *self = arg;

    (void)offset; /* It is the consumer's position. */
    self->placed = true;
}

/* Shows what there is; then, and only then, it may be committed. */
static void show(struct consume *self)
{
    if (self->output_failed) {
        return;
    }
    flush_lines(self);
    if (fflush(stdout) != 0) {
        stop_output(self);
    } else if (self->placed) {
        consume_cursor_advance(&self->cursor, consumer_position(self->consumer));
    }
}

/* Before the loop waits. */
static void on_prepare(uv_prepare_t *prepare)
{
    show(prepare->data);
}

static void on_reader(uv_poll_t *poll, int status, int events)
{
    struct consume *self = poll->data;

    (void)events;             /* Only that it is gone was asked for. */
    (void)uv_poll_stop(poll); /* Never fails. */
    self->output_failed = self->output_failed || status < 0;
    self->done = self->done || status < 0;
}

static void watch_reader(struct consume *self, uv_loop_t *loop)
{
    struct stat st;

    if (fstat(STDOUT_FILENO, &st) != 0 || !S_ISFIFO(st.st_mode) ||
        poll_init_shared(loop, &self->reader, STDOUT_FILENO) != 0) {
        return; /* Writing tells. */
    }
    self->watching = true;
    self->reader.data = self;
    (void)uv_poll_start(&self->reader, UV_DISCONNECT, on_reader); /* As above. */
}

static enum err parse_freshness(const struct invocation *invocation,
                                struct consumer_options *consumer_options, struct err_info *info)
{
    int given = (option_given(invocation, "at-least") ? 1 : 0) +
                (option_given(invocation, "linearizable") ? 1 : 0) +
                (option_given(invocation, "max-lag") ? 1 : 0);
    enum err err;

    if (given > 1) {
        return err_set(info, ERR_INVALID,
                       "--at-least, --linearizable and --max-lag exclude each other");
    }
    consumer_options->linearizable = option_given(invocation, "linearizable");
    err =
        option_number(invocation, "max-lag", 0, 1, UINT32_MAX, &consumer_options->max_lag_ms, info);
    if (err == ERR_OK) {
        err = option_number(invocation, "at-least", 0, 0, INT64_MAX, &consumer_options->at_least,
                            info);
    }
    return err;
}

static int parse(const struct invocation *invocation, struct consume *self,
                 struct consumer_options *consumer_options)
{
    const char *offset = option_value(invocation, "offset");
    struct err_info info;
    enum err err;
    int code;

    self->topic = invocation->arguments[0];
    consumer_options->topic = self->topic;
    consumer_options->follow = option_given(invocation, "follow");
    if (offset == NULL) {
        offset = consumer_options->follow && !option_given(invocation, "cursor") ? "end" : "start";
    }
    err = format_parse_start(offset, consumer_options, &info);
    if (err == ERR_OK) {
        err = option_number(invocation, "count", 0, 1, INT64_MAX, &consumer_options->records_max,
                            &info);
    }
    if (err == ERR_OK) {
        err = parse_freshness(invocation, consumer_options, &info);
    }
    self->format = option_value(invocation, "format");
    if (err == ERR_OK && self->format != NULL) {
        err = format_check(self->format, &info);
    }
    if (err == ERR_OK && self->format != NULL && option_given(invocation, "json")) {
        err = err_set(&info, ERR_INVALID, "--format and --json exclude each other");
    }
    self->plain = self->format == NULL && !option_given(invocation, "json");
    if (err != ERR_OK) {
        return usage("%s", info.text);
    }
    code = consume_filter_parse(&self->filter, invocation, consumer_options);
    return code == EXIT_OK ? consume_cursor_parse(&self->cursor, invocation, consumer_options)
                           : code;
}

static int run(const struct invocation *invocation)
{
    static const struct consumer_events events = {
        .record = on_record, .ended = on_ended, .placed = on_placed};
    struct consumer_options consumer_options = {0};
    struct consume self = {0};
    struct client *client;
    enum err err;
    int code = parse(invocation, &self, &consumer_options);

    if (code != EXIT_OK) {
        return code;
    }
    code = caller_open(invocation, &client);
    if (code != EXIT_OK) {
        return code;
    }
    code = consume_cursor_open(&self.cursor, client, &self.done, &consumer_options);
    if (code != EXIT_OK) {
        caller_close(client);
        return code;
    }
    err = consumer_new(client, &consumer_options, &events, &self, &self.consumer);
    if (err != ERR_OK) {
        code = consume_cursor_close(&self.cursor, fail("%s", err_text(err)));
        caller_close(client);
        return code;
    }
    (void)uv_prepare_init(client_loop(client), &self.flush); /* Never fails. */
    self.flush.data = &self;
    (void)uv_prepare_start(&self.flush, on_prepare); /* Never fails with a callback. */
    watch_reader(&self, client_loop(client));
    client_wait(client, &self.done);
    show(&self);
    consume_filter_report(&self.filter, self.consumer);
    consumer_free(self.consumer);
    self.consumer = NULL;
    uv_close((uv_handle_t *)&self.flush, NULL);
    if (self.watching) {
        uv_close((uv_handle_t *)&self.reader, NULL);
    }
    code = consume_cursor_close(&self.cursor, self.code);
    caller_close(client);
    consume_filter_fini(&self.filter);
    return code;
}

const struct command_spec command_consume = {
    .name = "consume",
    .synopsis = "TOPIC",
    .summary = "print the records of a topic",
    .details = details,
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run,
};
