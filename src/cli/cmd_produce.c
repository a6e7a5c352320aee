/*
 * quorlog produce: lines of a file or of standard input become records.
 *
 * The loop reads only while the producer has room, so memory is bounded whatever the input's size;
 * a pipe that falls silent has what it gave sent at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buf.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"

enum {
    HEADERS_MAX = OPTION_REPEATS_MAX,
    READ_SIZE = 64 * 1024,
    LINE_SIZE_MAX = 16 * 1024 * 1024,
    BATCH_SIZE_MAX = 16 * 1024 * 1024
};

static const struct option_spec options[] = {
    CALLER_OPTIONS,
    {"key", 'k', "KEY", false, "key of all records"},
    {"key-separator", 'K', "SEP", false, "the key is what stands before SEP in each line"},
    {"header", 'H', "NAME=VALUE", true, "a header of all records; may be repeated"},
    {"create", 0, NULL, false, "create the topic if there is none"},
    {"json", 0, NULL, false, "print an object for each record: topic, offset, term, token"},
    {NULL, 0, NULL, false, NULL},
};

static const char details[] =
    "Each line is a record, without its newline. Prints one summary line when all records are\n"
    "acknowledged: durable on a majority of the nodes. Exits 1 if any was not.\n"
    "\n"
    "examples:\n"
    "  echo hello | quorlog produce events --create\n"
    "  quorlog produce log /var/log/dpkg.log\n"
    "  printf 'alice:1\\nbob:2\\n' | quorlog produce scores -K : --json\n";

struct produce {
    const char *topic;
    bool json;
    const char *key;
    const char *separator;
    struct client_header headers[HEADERS_MAX];
    char *header_names[HEADERS_MAX];
    size_t header_count;

    struct client *client;
    struct producer *producer;
    size_t batch_size_max;
    const char *input; /* its name for a person */
    int fd;
    bool always_readable; /* a regular file */
    bool readable;
    bool eof;
    uv_poll_t poll;
    bool polling;
    uv_signal_t interrupt;
    bool watching;
    unsigned interrupts; /* the first: read no more; the second: wait no more */
    struct buf line;     /* what came after the last newline */
    uint64_t lines;
    char failure[640];

    uint64_t acknowledged;
    uint64_t duplicates;
    uint64_t first_offset;
    uint64_t last_offset;
    uint64_t last_term;
    uint64_t last_token;
};

static void set_failure(struct produce *self, const char *text)
{
    if (self->failure[0] == '\0') {
        (void)snprintf(self->failure, sizeof self->failure, "%s", text); /* Cut is fine. */
    }
}

static void on_report(void *arg, const struct producer_report *report)
{
    struct produce *self = arg;

    if (report->error->err != ERR_OK) {
        set_failure(self, report->error->text);
        return;
    }
    if (self->acknowledged == 0) {
        self->first_offset = report->offset;
    }
    self->acknowledged += report->count;
    self->duplicates += report->duplicate ? report->count : 0;
    self->last_offset = report->offset + report->count - 1;
    self->last_term = report->term;
    self->last_token = report->raft_index;
    if (!self->json) {
        return;
    }
    for (uint32_t i = 0; i < report->count; i++) {
        json_print(json_pack("{s:o,s:o,s:o,s:o}", "topic", json_text(self->topic), "offset",
                             json_number(report->offset + i), "term", json_number(report->term),
                             "token", json_number(report->raft_index)));
    }
    if (fflush(stdout) != 0) { /* At once: who reads them waits for them. */
        set_failure(self, "standard output cannot be written");
    }
}

static void on_interrupt(uv_signal_t *signal, int number)
{
    struct produce *self = signal->data;

    (void)number; /* SIGINT */
    self->interrupts++;
}

/* Runs the loop until the producer has room or has failed. */
static enum err send_record(struct produce *self, const struct client_record *record)
{
    for (;;) {
        enum err err = producer_send(self->producer, record);

        if (err != ERR_BUSY || self->failure[0] != '\0') {
            return err;
        }
        if (self->interrupts > 0) {
            return ERR_CANCELED;
        }
        (void)uv_run(client_loop(self->client), UV_RUN_ONCE); /* Its result: still alive. */
    }
}

static void send_line(struct produce *self, const uint8_t *line, size_t size)
{
    struct client_record record = {
        .value = line,
        .value_size = size,
        .key = self->key,
        .key_size = self->key != NULL ? strlen(self->key) : 0,
        .headers = self->headers,
        .header_count = self->header_count,
    };
    const uint8_t *at = NULL;
    char text[192];
    enum err err;

    self->lines++;
    if (self->separator != NULL) {
        at = memmem(line, size, self->separator, strlen(self->separator));
    }
    if (at != NULL) {
        record.key = line;
        record.key_size = (size_t)(at - line);
        record.value = at + strlen(self->separator);
        record.value_size = size - record.key_size - strlen(self->separator);
    }
    err = send_record(self, &record);
    if (err == ERR_TOO_LARGE) {
        (void)snprintf(text, sizeof text, /* fits */
                       "line %llu: %zu bytes are too many; a batch of records has at most %zu "
                       "(batch_size_max of the nodes)",
                       (unsigned long long)self->lines, size, self->batch_size_max);
        set_failure(self, text);
    } else if (err == ERR_CANCELED) {
        self->lines--; /* Never taken. */
    } else if (err != ERR_OK) {
        (void)snprintf(text, sizeof text, "line %llu: %s", (unsigned long long)self->lines,
                       err_text(err)); /* fits */
        set_failure(self, text);
    }
}

/* Cuts what was read into lines. */
static void take(struct produce *self, const uint8_t *data, size_t size)
{
    while (size > 0 && self->failure[0] == '\0' && self->interrupts == 0) {
        const uint8_t *newline = memchr(data, '\n', size);
        size_t part = newline != NULL ? (size_t)(newline - data) : size;

        if (newline != NULL && self->line.size == 0) {
            send_line(self, data, part);
        } else if (buf_append(&self->line, data, part) != ERR_OK) {
            set_failure(self, "the line after these is longer than 16 MiB");
        } else if (newline != NULL) {
            send_line(self, self->line.data, self->line.size);
            self->line.size = 0;
        }
        part += newline != NULL ? 1 : 0;
        data += part;
        size -= part;
    }
}

static void read_some(struct produce *self)
{
    uint8_t data[READ_SIZE];
    char text[320];
    ssize_t size = read(self->fd, data, sizeof data);

    self->readable = self->always_readable;
    if (size > 0) {
        take(self, data, (size_t)size);
    } else if (size == 0) {
        self->eof = true;
        if (self->line.size > 0) {
            send_line(self, self->line.data, self->line.size);
        }
    } else if (errno != EINTR && errno != EAGAIN) {
        (void)snprintf(text, sizeof text, "read '%.200s': %s", self->input,
                       strerror(errno)); /* fits */
        set_failure(self, text);
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct produce *self = poll->data;

    (void)status; /* An error shows at the read. */
    (void)events;
    self->readable = true;
    (void)uv_poll_stop(poll); /* Until it was read; never fails. */
}

/* Waits for input. */
static void wait_readable(struct produce *self)
{
    if (uv_poll_start(&self->poll, UV_READABLE, on_readable) != 0) {
        set_failure(self, "standard input cannot be waited for");
        return;
    }
    while (!self->readable && self->failure[0] == '\0' && self->interrupts == 0) {
        (void)uv_run(client_loop(self->client), UV_RUN_ONCE); /* Its result: still alive. */
    }
}

static void pump(struct produce *self)
{
    uv_loop_t *loop = client_loop(self->client);

    while (!self->eof && self->failure[0] == '\0' && self->interrupts == 0) {
        if (self->readable) {
            read_some(self);
            (void)uv_run(loop, UV_RUN_NOWAIT); /* Its result: still alive. */
            continue;
        }
        producer_flush(self->producer);
        wait_readable(self);
    }
    producer_flush(self->producer);
    while (producer_pending(self->producer) > 0 && self->interrupts < 2) {
        (void)uv_run(loop, UV_RUN_ONCE); /* As above. */
    }
}

static int open_input(struct produce *self, const char *path)
{
    struct stat st;

    self->fd =
        path == NULL || strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    self->input = self->fd == STDIN_FILENO ? "standard input" : path;
    if (self->fd < 0 || fstat(self->fd, &st) < 0) {
        return fail("open '%s': %s", path, strerror(errno));
    }
    if (S_ISDIR(st.st_mode)) {
        return fail("'%s' is a directory", path);
    }
    self->always_readable = S_ISREG(st.st_mode);
    if (!self->always_readable &&
        poll_init_shared(client_loop(self->client), &self->poll, self->fd) != 0) {
        self->always_readable = true; /* /dev/null and the like: a read never waits. */
    } else if (!self->always_readable) {
        self->poll.data = self;
        self->polling = true;
    }
    self->readable = self->always_readable;
    return EXIT_OK;
}

static int parse_headers(struct produce *self, const struct invocation *invocation)
{
    for (unsigned i = 0; i < option_count(invocation, "header"); i++) {
        const char *text = option_value_at(invocation, "header", i);
        const char *equals = strchr(text, '=');

        if (equals == NULL || equals == text) {
            return usage("option '--header': '%s' is not NAME=VALUE", text);
        }
        self->header_names[i] = strndup(text, (size_t)(equals - text));
        self->headers[i] = (struct client_header){
            .name = self->header_names[i],
            .value = equals + 1,
            .value_size = strlen(equals + 1),
        };
        self->header_count++;
    }
    return EXIT_OK;
}

static int create_topic(struct produce *self)
{
    struct call call = {0};
    enum err err = client_topic_create(self->client, self->topic, caller_on_reply, &call);

    if (err == ERR_OK) {
        client_wait(self->client, &call.done);
        free(call.reply);
        err = call.err;
    } else {
        (void)snprintf(call.text, sizeof call.text, "%s", err_text(err)); /* fits */
    }
    return err == ERR_OK || err == ERR_TOPIC_EXISTS ? EXIT_OK : fail("%s", call.text);
}

/* Meets a node, to know how large a batch may be: no line that the cluster could take is refused
 * here, and none is read when there is no cluster. */
static int ask_limits(struct produce *self)
{
    struct call call = {0};
    int code =
        caller_wait(self->client, client_status(self->client, true, caller_on_reply, &call), &call);

    free(call.reply);
    self->batch_size_max = client_batch_size_max(self->client);
    if (code == EXIT_OK && self->batch_size_max == 0) {
        return fail("the connection has ended; try again");
    }
    if (self->batch_size_max > BATCH_SIZE_MAX) {
        self->batch_size_max = BATCH_SIZE_MAX;
    }
    return code;
}

/* Ctrl-C ends the input; what was taken is still waited for, then all is told. */
static void watch_interrupt(struct produce *self)
{
    struct sigaction action;

    if (sigaction(SIGINT, NULL, &action) != 0 || action.sa_handler == SIG_IGN) {
        return; /* In the background of a shell without job control: it stays ignored. */
    }
    if (uv_signal_init(client_loop(self->client), &self->interrupt) != 0) {
        return; /* No descriptors left: Ctrl-C then ends us untold. */
    }
    self->interrupt.data = self;
    self->watching = true;
    (void)uv_signal_start(&self->interrupt, on_interrupt, SIGINT); /* As above. */
}

static int report(const struct produce *self)
{
    if (self->acknowledged > 0 && !self->json) {
        printf("%s: %llu record%s at %llu…%llu, term %llu, token %llu\n", self->topic,
               (unsigned long long)self->acknowledged, self->acknowledged == 1 ? "" : "s",
               (unsigned long long)self->first_offset, (unsigned long long)self->last_offset,
               (unsigned long long)self->last_term, (unsigned long long)self->last_token);
    } else if (!self->json && self->failure[0] == '\0') {
        printf("%s: 0 records\n", self->topic);
    }
    if (self->failure[0] == '\0' && self->interrupts > 0) {
        return fail("interrupted (%llu of %llu lines that were read are acknowledged)",
                    (unsigned long long)self->acknowledged, (unsigned long long)self->lines);
    }
    return self->failure[0] == '\0'
               ? EXIT_OK
               : fail("%s (%llu of %llu lines are acknowledged)", self->failure,
                      (unsigned long long)self->acknowledged, (unsigned long long)self->lines);
}

static int produce_all(struct produce *self, const struct invocation *invocation,
                       uint64_t timeout_ms)
{
    struct producer_options producer_options = {.topic = self->topic, .timeout_ms = timeout_ms};
    int code = open_input(self, invocation->argument_count > 1 ? invocation->arguments[1] : NULL);
    enum err err;

    if (code == EXIT_OK) {
        code = ask_limits(self);
    }
    if (code == EXIT_OK && option_given(invocation, "create")) {
        code = create_topic(self);
    }
    if (code != EXIT_OK) {
        return code;
    }
    producer_options.batch_size_max = self->batch_size_max;
    err = producer_new(self->client, &producer_options, on_report, self, &self->producer);
    if (err == ERR_INVALID) {
        return usage("a topic's name has 1 to 200 characters");
    }
    if (err != ERR_OK) {
        return fail("%s", err_text(err));
    }
    watch_interrupt(self);
    pump(self);
    producer_free(self->producer);
    return report(self);
}

static int run(const struct invocation *invocation)
{
    struct produce self = {
        .topic = invocation->arguments[0],
        .json = option_given(invocation, "json"),
        .key = option_value(invocation, "key"),
        .separator = option_value(invocation, "key-separator"),
        .fd = -1,
    };
    uint64_t timeout_ms;
    int code = caller_timeout(invocation, &timeout_ms);

    if (code == EXIT_OK && self.separator != NULL && self.separator[0] == '\0') {
        code = usage("option '--key-separator' wants at least one character");
    }
    if (code == EXIT_OK) {
        code = parse_headers(&self, invocation);
    }
    if (code != EXIT_OK) {
        goto out;
    }
    code = caller_open(invocation, &self.client);
    if (code != EXIT_OK) {
        goto out;
    }
    buf_init(&self.line, LINE_SIZE_MAX);
    code = produce_all(&self, invocation, timeout_ms);
    if (self.watching) {
        uv_close((uv_handle_t *)&self.interrupt, NULL);
    }
    if (self.polling) {
        uv_close((uv_handle_t *)&self.poll, NULL);
    }
    caller_close(self.client);
    if (self.fd > STDIN_FILENO) {
        (void)close(self.fd); /* Only read. */
    }
    buf_fini(&self.line);
out:
    for (size_t i = 0; i < self.header_count; i++) {
        free(self.header_names[i]);
    }
    return code;
}

const struct command_spec command_produce = {
    .name = "produce",
    .synopsis = "TOPIC [FILE]",
    .summary = "write the lines of FILE or standard input as records",
    .details = details,
    .options = options,
    .arguments_min = 1,
    .arguments_max = 2,
    .run = run,
};
