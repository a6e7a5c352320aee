#include "base/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

enum { LINE_SIZE_MAX = 1024 };

static const char *const level_names[] = {"ERROR", "WARN", "INFO", "DEBUG"};

static void write_stderr(void *arg, const char *line, size_t size)
{
    ssize_t written = write(STDERR_FILENO, line, size);

    (void)arg;     /* Nothing to know. */
    (void)written; /* A log that cannot be written has nowhere to complain. */
}

void diag_init_stderr(struct diag *self, enum diag_level level, uint64_t node_id)
{
    *self = (struct diag){
        .level = level, .node_id = node_id, .clock = clock_real(), .write = write_stderr};
}

/* Appends to line, never past its end; returns the new size. */
__attribute__((format(printf, 3, 0))) static size_t add(char *line, size_t size, const char *format,
                                                        va_list args)
{
    int more = vsnprintf(line + size, LINE_SIZE_MAX - size, format, args);

    ASSERT(more >= 0);
    size += (size_t)more;
    return size < LINE_SIZE_MAX ? size : LINE_SIZE_MAX - 1;
}

__attribute__((format(printf, 3, 4))) static size_t addf(char *line, size_t size,
                                                         const char *format, ...)
{
    va_list args;

    va_start(args, format);
    size = add(line, size, format, args);
    va_end(args);
    return size;
}

static size_t add_time(char *line, const struct clock *clock)
{
    int64_t now_us = clock->wall_us(clock);
    /* Rounded down, also before 1970: a wall clock may be anywhere. */
    int64_t part_us = (now_us % 1000000 + 1000000) % 1000000;
    time_t now_s = (time_t)((now_us - part_us) / 1000000);
    struct tm utc;
    size_t size;

    (void)gmtime_r(&now_s, &utc); /* Fails only beyond the year 2^31. */
    size = strftime(line, LINE_SIZE_MAX, "%Y-%m-%dT%H:%M:%S", &utc);
    return addf(line, size, ".%06dZ ", (int)part_us);
}

void diag_event(const struct diag *self, enum diag_level level, const char *module,
                const char *event, const char *format, ...)
{
    char line[LINE_SIZE_MAX];
    va_list args;
    size_t size;

    if (self == NULL || level > self->level) {
        return;
    }
    size = add_time(line, self->clock);
    size = addf(line, size, "%s ", level_names[level]);
    if (self->node_id != 0) {
        size = addf(line, size, "node=%llu ", (unsigned long long)self->node_id);
    }
    size = addf(line, size, "mod=%s event=%s", module, event);
    if (format[0] != '\0') {
        size = addf(line, size, " ");
        va_start(args, format);
        size = add(line, size, format, args);
        va_end(args);
    }
    line[size] = '\n';
    self->write(self->arg, line, size + 1);
}

const char *diag_quote(char *buffer, size_t size, const char *text)
{
    size_t at = 0;

    ASSERT(size >= 3);
    buffer[at++] = '"';
    /* Six bytes of room: the longest escape, the closing quote and the zero. */
    for (; *text != '\0' && at + 6 < size; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\') {
            buffer[at++] = '\\';
            buffer[at++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            at += (size_t)snprintf(buffer + at, size - at, "\\x%02x", c);
        } else {
            buffer[at++] = (char)c;
        }
    }
    buffer[at++] = '"';
    buffer[at] = '\0';
    return buffer;
}

bool diag_level_parse(const char *text, enum diag_level *ret_level)
{
    static const char *const words[] = {"error", "warn", "info", "debug"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret_level = (enum diag_level)i;
            return true;
        }
    }
    return false;
}
