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
#include "cli/resume.h"

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
    {"compression", 0, "none|lz4|zstd", false,
     "of batches, on the wire and on disk; default: as the topic says"},
    {"create", 0, NULL, false, "create the topic if there is none"},
    {"acks", 0, "majority|all", false, "wait until it is on so many voters' disks; majority"},
    {"expect-offset", 0, "N", false, "write only if the topic ends at N; implies --atomic"},
    {"atomic", 0, NULL, false, "all lines in one batch: all of them are written, or none"},
    {"resume", 0, "FILE", false, "go on where the last run with this file stopped, each line once"},
    {"json", 0, NULL, false, "print an object for each record: topic, offset, term, token …"},
    {NULL, 0, NULL, false, NULL},
};

static const char details[] =
    "Each line is a record, without its newline. Prints one summary line when all records are\n"
    "acknowledged: durable on a majority of the nodes. Exits 1 if any was not, and says of how\n"
    "many lines it is certain that they were written, or not written, and of how many it is not.\n"
    "\n"
    "With --resume, FILE keeps the producer's id and how far the input is written; give the same\n"
    "input again, after a crash too, and it goes on with the first line that was not written.\n"
    "\n"
    "examples:\n"
    "  echo hello | quorlog produce events --create\n"
    "  quorlog produce log /var/log/dpkg.log\n"
    "  quorlog produce log /var/log/dpkg.log --resume dpkg.state\n"
    "  echo took over | quorlog produce leases --expect-offset 7\n"
    "  echo alice: | quorlog produce scores -K :    no value: in a compacted topic the key goes\n"
    "  printf 'alice:1\\nbob:2\\n' | quorlog produce scores -K : --json\n";

struct produce {
    const char *topic;
    bool json;
    const char *key;
    const char *separator;
    struct record_header headers[HEADERS_MAX];
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
    uint64_t lines;      /* taken, those that are skipped not included */
    char failure[640];

    enum client_compression compression;
    bool acks_all;
    bool atomic;
    bool has_expect;
    uint64_t expect_offset;

    const char *resume_path; /* NULL: not asked for */
    struct resume resume;
    struct producer_identity identity;
    uint64_t skip;     /* lines to come that are written already, or were used up before */
    uint64_t skipped;  /* of the former */
    uint64_t position; /* bytes of the input used up by whole lines */

    uint64_t acknowledged;
    uint64_t unconfirmed; /* written, but not on all voters' disks in time */
    uint64_t unknown;     /* written or not */
    unsigned replicas;    /* the least that an answer said */
    unsigned voters;
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

static void print_records(struct produce *self, const struct producer_report *report)
{
    for (uint32_t i = 0; i < report->count; i++) {
        json_print(json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "topic", json_text(self->topic), "offset",
                             json_number(report->offset + i), "term", json_number(report->term),
                             "token", json_number(report->raft_index), "replicas",
                             json_number(report->replicas), "voters", json_number(report->voters)));
    }
    if (fflush(stdout) != 0) { /* At once: who reads them waits for them. */
        set_failure(self, "standard output cannot be written");
    }
}

/* Records that were written, and where. */
static void note_written(struct produce *self, const struct producer_report *report)
{
    if (self->acknowledged + self->unconfirmed == 0) {
        self->first_offset = report->offset;
        self->replicas = report->replicas;
    }
    self->duplicates += report->duplicate ? report->count : 0;
    self->last_offset = report->offset + report->count - 1;
    self->last_term = report->term;
    self->last_token = report->raft_index;
    self->replicas = report->replicas < self->replicas ? report->replicas : self->replicas;
    self->voters = report->voters;
    if (self->json) {
        print_records(self, report);
    }
}

static void on_report(void *arg, const struct producer_report *report)
{
    struct produce *self = arg;
    enum err err = report->error->err;

    if (err == ERR_OK || err == ERR_NOT_CONFIRMED) {
        note_written(self, report);
    }
    if (err == ERR_OK) {
        self->acknowledged += report->count;
        return;
    }
    if (err != ERR_CANCELED) {
        set_failure(self, report->error->text);
    } /* Else: interrupted, or a failure that is told already. */
    switch (client_error_outcome(report->error)) {
    case ERR_OUTCOME_WRITTEN:
        self->unconfirmed += report->count;
        break;
    case ERR_OUTCOME_UNKNOWN:
        self->unknown += report->count;
        break;
    case ERR_OUTCOME_NOT_WRITTEN:
        break; /* As the lines that were never sent. */
    }
}

static void on_interrupt(uv_signal_t *signal, int number)
{
    struct produce *self = signal->data;

    (void)number; /* SIGINT */
    self->interrupts++;
}

/* Runs the loop until the producer has room or has failed. */
static enum err send_record(struct produce *self, const struct record *record)
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
    struct record record = {
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

    if (self->skip > 0) {
        self->skip--;
        return;
    }
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
    if (err == ERR_TOO_LARGE && self->atomic && self->lines > 1) {
        (void)snprintf(text, sizeof text, /* fits */
                       "the first %llu lines do not fit into one batch of %zu bytes "
                       "(batch_size_max of the nodes); nothing was written",
                       (unsigned long long)self->lines, self->batch_size_max);
        set_failure(self, text);
    } else if (err == ERR_TOO_LARGE) {
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

        if (newline != NULL) {
            self->position += self->line.size + part + 1;
        }
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
            self->position += self->line.size;
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

/* Nothing is under way: the file may say how far the input is written. */
static void save_progress(struct produce *self, bool clean)
{
    ASSERT(producer_pending(self->producer) == 0 && self->skip == 0);
    self->resume.records += self->skipped + self->acknowledged + self->unconfirmed;
    self->resume.lines += self->skipped + self->acknowledged + self->unconfirmed;
    self->resume.position = self->position;
    self->resume.clean = clean;
    if (resume_save(&self->resume, self->topic) != EXIT_OK) {
        set_failure(self, "the file of --resume cannot be written");
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
        if (!self->atomic) {
            producer_flush(self->producer);
        }
        wait_readable(self);
    }
    if (self->atomic && (self->failure[0] != '\0' || self->interrupts > 0)) {
        return; /* All or nothing. */
    }
    producer_flush(self->producer);
    while (producer_pending(self->producer) > 0 && self->interrupts < 2) {
        (void)uv_run(loop, UV_RUN_ONCE); /* As above. */
    }
    if (self->resume_path != NULL && self->skip == 0 && producer_pending(self->producer) == 0 &&
        self->lines == self->acknowledged + self->unconfirmed) {
        save_progress(self, true);
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
        self->headers[i] = (struct record_header){
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

/* What became of the lines, in the three classes that there are. */
static const char *outcome(const struct produce *self, char *buffer, size_t size)
{
    uint64_t known = self->acknowledged + self->unconfirmed + self->unknown;
    uint64_t not_written = self->lines > known ? self->lines - known : 0;
    int length = snprintf(buffer, size, "%llu of %llu lines are acknowledged",
                          (unsigned long long)self->acknowledged, (unsigned long long)self->lines);

    if (self->unconfirmed > 0) {
        length +=
            snprintf(buffer + length, size - (size_t)length, /* All fit. */
                     ", %llu are written but not confirmed", (unsigned long long)self->unconfirmed);
    }
    if (self->unknown > 0) {
        length += snprintf(buffer + length, size - (size_t)length,
                           ", %llu may or may not be written", (unsigned long long)self->unknown);
    }
    if (not_written > 0) {
        length += snprintf(buffer + length, size - (size_t)length, ", %llu are not written",
                           (unsigned long long)not_written);
    }
    ASSERT((size_t)length < size);
    return buffer;
}

static int report(const struct produce *self)
{
    uint64_t written = self->acknowledged + self->unconfirmed;
    char text[256];

    if (written > 0 && !self->json) {
        printf("%s: %llu record%s at %llu…%llu, term %llu, token %llu, on %u of %u disks\n",
               self->topic, (unsigned long long)written, written == 1 ? "" : "s",
               (unsigned long long)self->first_offset, (unsigned long long)self->last_offset,
               (unsigned long long)self->last_term, (unsigned long long)self->last_token,
               self->replicas, self->voters);
    } else if (!self->json && self->failure[0] == '\0') {
        printf("%s: 0 records\n", self->topic);
    }
    if (self->failure[0] == '\0' && self->interrupts > 0) {
        return fail("interrupted (%s)", outcome(self, text, sizeof text));
    }
    return self->failure[0] == '\0'
               ? EXIT_OK
               : fail("%s (%s)", self->failure, outcome(self, text, sizeof text));
}

/* Goes on behind what the input has given already. */
static int skip_input(struct produce *self)
{
    struct stat st;

    self->skipped = self->skip;
    if (!S_ISREG(fstat(self->fd, &st) == 0 ? st.st_mode : 0)) {
        self->skip += self->resume.lines; /* It is given again from its beginning. */
        return EXIT_OK;
    }
    if ((uint64_t)st.st_size < self->resume.position) {
        return fail("'%s' has %llu bytes, but %llu of it are written already: it is not the input "
                    "that '%s' belongs to",
                    self->input, (unsigned long long)st.st_size,
                    (unsigned long long)self->resume.position, self->resume_path);
    }
    if (lseek(self->fd, (off_t)self->resume.position, SEEK_SET) < 0) {
        return fail("seek in '%s': %s", self->input, strerror(errno));
    }
    self->position = self->resume.position;
    return EXIT_OK;
}

static int resume(struct produce *self)
{
    int code = resume_open(&self->resume, self->resume_path, self->topic);

    if (code == EXIT_OK) {
        code = resume_claim(&self->resume, self->client, self->topic, &self->identity, &self->skip);
    }
    return code == EXIT_OK ? skip_input(self) : code;
}

static int produce_all(struct produce *self, const struct invocation *invocation,
                       uint64_t timeout_ms)
{
    struct producer_options producer_options = {.topic = self->topic,
                                                .timeout_ms = timeout_ms,
                                                .compression = self->compression,
                                                .acks_all = self->acks_all,
                                                .atomic = self->atomic,
                                                .has_expect = self->has_expect,
                                                .expect_offset = self->expect_offset};
    int code = open_input(self, invocation->argument_count > 1 ? invocation->arguments[1] : NULL);
    enum err err;

    if (code == EXIT_OK) {
        code = ask_limits(self);
    }
    if (code == EXIT_OK && option_given(invocation, "create")) {
        code = create_topic(self);
    }
    if (code == EXIT_OK && self->resume_path != NULL) {
        code = resume(self);
    }
    if (code != EXIT_OK) {
        return code;
    }
    producer_options.batch_size_max = self->batch_size_max;
    producer_options.identity = self->identity;
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
    if (self->failure[0] == '\0' && self->skip > 0 && self->interrupts == 0) {
        set_failure(self, "the input has fewer lines than are written of it: it is not the one "
                          "that the file of --resume belongs to");
    }
    return report(self);
}

static int parse_promises(struct produce *self, const struct invocation *invocation)
{
    const char *acks = option_value(invocation, "acks");
    const char *compression = option_value(invocation, "compression");
    struct err_info info;
    enum err err =
        option_number(invocation, "expect-offset", 0, 0, INT64_MAX, &self->expect_offset, &info);

    if (err != ERR_OK) {
        return usage("%s", info.text);
    }
    if (acks != NULL && strcmp(acks, "all") != 0 && strcmp(acks, "majority") != 0) {
        return usage("option '--acks': '%s' is neither 'majority' nor 'all'", acks);
    }
    if (compression != NULL && !client_compression_parse(compression, &self->compression)) {
        return usage("option '--compression': '%s' is none of none, lz4 and zstd", compression);
    }
    self->acks_all = acks != NULL && strcmp(acks, "all") == 0;
    self->has_expect = option_given(invocation, "expect-offset");
    self->atomic = self->has_expect || option_given(invocation, "atomic");
    self->resume_path = option_value(invocation, "resume");
    if (self->resume_path != NULL && self->atomic) {
        return usage("options '--resume' and '--atomic' or '--expect-offset' do not go together");
    }
    return EXIT_OK;
}

static int run(const struct invocation *invocation)
{
    struct produce self = {
        .topic = invocation->arguments[0],
        .json = option_given(invocation, "json"),
        .key = option_value(invocation, "key"),
        .separator = option_value(invocation, "key-separator"),
        .fd = -1,
        .resume = {.lock_fd = -1},
    };
    uint64_t timeout_ms;
    int code = caller_timeout(invocation, &timeout_ms);

    if (code == EXIT_OK && self.separator != NULL && self.separator[0] == '\0') {
        code = usage("option '--key-separator' wants at least one character");
    }
    if (code == EXIT_OK) {
        code = parse_promises(&self, invocation);
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
    resume_close(&self.resume);
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
