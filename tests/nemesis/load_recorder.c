#include "load_recorder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/histogram.h"

enum {
    PAUSE_MIN_US = 50000, /* without an acknowledgement: worth a word in the series */
    PAUSES_MAX = 32,
    ERRORS_MAX = 24,
};

struct error_count {
    char name[32];
    uint64_t count;
};

/* Of one kind of operations, since the last line. */
struct tally {
    uint64_t counts[HISTORY_UNKNOWN + 1];
    struct histogram latency_us;
};

struct recorder {
    FILE *history;
    FILE *series; /* NULL: none */
    bool failed;
    uint64_t line_us; /* of the last line of the series */
    struct tally produce;
    struct tally read;
    struct tally cursor;
    uint64_t records;
    uint64_t bytes;
    uint64_t delivered;
    struct error_count errors[ERRORS_MAX];
    size_t error_count;
    uint64_t acknowledged_us; /* the last time; 0: never */
    uint64_t pauses[PAUSES_MAX][2];
    size_t pause_count;
};

uint64_t recorder_now_us(void)
{
    return clock_real()->monotonic_ns(clock_real()) / 1000;
}

enum history_outcome recorder_outcome(const struct client_error *error)
{
    if (error->err == ERR_OK) {
        return HISTORY_OK;
    }
    switch (client_error_outcome(error)) {
    case ERR_OUTCOME_NOT_WRITTEN:
        return HISTORY_FAIL;
    case ERR_OUTCOME_WRITTEN:
        /* DUPLICATE_OLD: where is not known any more, so nothing can be held against it. */
        return error->err == ERR_DUPLICATE_OLD ? HISTORY_UNKNOWN : HISTORY_OK;
    case ERR_OUTCOME_UNKNOWN:
        break;
    }
    return HISTORY_UNKNOWN;
}

static FILE *open_file(const char *path, struct err_info *info)
{
    FILE *file = fopen(path, "we");

    if (file == NULL) {
        (void)err_set(info, ERR_IO, "open '%s': %s", path, strerror(errno)); /* Told by NULL. */
        return NULL;
    }
    (void)setvbuf(file, NULL, _IOFBF, 1 << 20); /* Without it, it is slower. */
    return file;
}

enum err recorder_open(const char *path, const char *series_path, struct recorder **ret_recorder,
                       struct err_info *info)
{
    struct recorder *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    self->history = open_file(path, info);
    if (self->history != NULL && series_path != NULL) {
        self->series = open_file(series_path, info);
    }
    if (self->history == NULL || (series_path != NULL && self->series == NULL)) {
        if (self->history != NULL) {
            (void)fclose(self->history); /* Nothing was written. */
        }
        free(self);
        return ERR_IO;
    }
    history_begin(self->history, "load");
    self->line_us = recorder_now_us();
    *ret_recorder = self;
    return ERR_OK;
}

enum err recorder_close(struct recorder *self)
{
    bool failed = self->failed || ferror(self->history) != 0;

    failed = fclose(self->history) != 0 || failed;
    if (self->series != NULL) {
        failed = ferror(self->series) != 0 || failed;
        failed = fclose(self->series) != 0 || failed;
    }
    free(self);
    return failed ? ERR_IO : ERR_OK;
}

static void count_error(struct recorder *self, const char *name)
{
    for (size_t i = 0; i < self->error_count; i++) {
        if (strcmp(self->errors[i].name, name) == 0) {
            self->errors[i].count++;
            return;
        }
    }
    if (self->error_count < ERRORS_MAX) {
        struct error_count *error = &self->errors[self->error_count++];

        (void)snprintf(error->name, sizeof error->name, "%s", name); /* Cut is fine. */
        error->count = 1;
    }
}

static void note_acknowledged(struct recorder *self, uint64_t now_us)
{
    uint64_t last_us = self->acknowledged_us;

    self->acknowledged_us = now_us;
    if (last_us != 0 && now_us - last_us > PAUSE_MIN_US && self->pause_count < PAUSES_MAX) {
        self->pauses[self->pause_count][0] = last_us;
        self->pauses[self->pause_count][1] = now_us;
        self->pause_count++;
    }
}

void recorder_note(struct recorder *self, const struct history_op *op, uint64_t size)
{
    struct tally *tally = op->kind == HISTORY_PRODUCE  ? &self->produce
                          : op->kind == HISTORY_READ   ? &self->read
                          : op->kind == HISTORY_CURSOR ? &self->cursor
                                                       : NULL;

    ASSERT(op->kind == HISTORY_DUMP || op->invoke_us <= op->return_us);
    history_write(self->history, op);
    if (op->kind == HISTORY_DELIVERY) {
        self->delivered += op->value_count;
    }
    if (op->error != NULL) {
        count_error(self, op->error);
    }
    if (tally == NULL) {
        return;
    }
    tally->counts[op->outcome]++;
    if (op->outcome == HISTORY_OK) {
        histogram_add(&tally->latency_us, op->return_us - op->invoke_us);
    }
    if (op->kind == HISTORY_PRODUCE && op->outcome == HISTORY_OK) {
        self->records += op->value_count;
        self->bytes += size;
        note_acknowledged(self, op->return_us);
    }
}

void recorder_event(struct recorder *self, enum history_event event, const char *text)
{
    const struct history_op op = {
        .kind = HISTORY_EVENT, .event = event, .invoke_us = recorder_now_us(), .text = text};

    history_write(self->history, &op);
}

static void write_tally(struct recorder *self, const char *name, struct tally *tally)
{
    const struct histogram *latency = &tally->latency_us;

    (void)fprintf(
        self->series,
        ",\"%s_ok\":%" PRIu64 ",\"%s_fail\":%" PRIu64 ",\"%s_unknown\":%" PRIu64
        ",\"%s_p50_ms\":%.3f,\"%s_p99_ms\":%.3f,\"%s_max_ms\":%.3f",
        name, tally->counts[HISTORY_OK], name, tally->counts[HISTORY_FAIL], name,
        tally->counts[HISTORY_UNKNOWN], name, (double)histogram_quantile(latency, 0.5) / 1e3, name,
        (double)histogram_quantile(latency, 0.99) / 1e3, name, (double)latency->max / 1e3);
    memset(tally, 0, sizeof *tally);
}

void recorder_second(struct recorder *self)
{
    uint64_t now_us = recorder_now_us();

    if (self->series == NULL || now_us == self->line_us) {
        return;
    }
    (void)fprintf(self->series,
                  "{\"t\":%.3f,\"seconds\":%.3f,\"records\":%" PRIu64 ",\"bytes\":%" PRIu64
                  ",\"delivered\":%" PRIu64,
                  (double)now_us / 1e6, (double)(now_us - self->line_us) / 1e6, self->records,
                  self->bytes, self->delivered);
    write_tally(self, "produce", &self->produce);
    write_tally(self, "read", &self->read);
    write_tally(self, "cursor", &self->cursor);
    (void)fputs(",\"errors\":{", self->series);
    for (size_t i = 0; i < self->error_count; i++) {
        (void)fprintf(self->series, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", self->errors[i].name,
                      self->errors[i].count);
    }
    (void)fputs("},\"pauses\":[", self->series);
    for (size_t i = 0; i < self->pause_count; i++) {
        (void)fprintf(self->series, "%s[%.3f,%.3f]", i > 0 ? "," : "",
                      (double)self->pauses[i][0] / 1e6, (double)self->pauses[i][1] / 1e6);
    }
    (void)fputs("]}\n", self->series);
    /* Whoever looks on sees it, and a kill of this program loses no more. */
    self->failed = fflush(self->series) != 0 || fflush(self->history) != 0 || self->failed;
    self->line_us = now_us;
    self->records = self->bytes = self->delivered = 0;
    self->error_count = self->pause_count = 0;
}
