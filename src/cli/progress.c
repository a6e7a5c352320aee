#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "cli/json.h"

#define NS_PER_MS UINT64_C(1000000)

enum { SHOW_MS = 200 };

void progress_begin(struct progress *self, const char *verb, uint64_t rate)
{
    ASSERT(verb != NULL);
    *self = (struct progress){
        .verb = verb, .rate = rate, .begun_ns = uv_hrtime(), .shown = isatty(STDERR_FILENO) == 1};
}

static void show(struct progress *self, const char *what, uint64_t done, uint64_t total,
                 uint64_t spent_ms)
{
    char size[24];
    char speed[24];
    char part[24] = "";

    if (total > 0) {
        (void)snprintf(part, sizeof part, "%.0f %%, ", (double)done / (double)total * 100);
    }
    (void)fprintf(stderr, "\r%s %.40s: %s%s, %s/s\033[K", self->verb, what, part,
                  human_size(size, self->bytes),
                  human_size(speed, self->bytes * 1000 / (spent_ms > 0 ? spent_ms : 1)));
    (void)fflush(stderr); /* Of no consequence, as above: it is for the eye. */
    self->dirty = true;
}

void progress_add(struct progress *self, const char *what, uint64_t bytes, uint64_t done,
                  uint64_t total)
{
    uint64_t spent_ms = (uv_hrtime() - self->begun_ns) / NS_PER_MS;
    uint64_t due_ms;

    ASSERT(self->begun_ns != 0);
    self->bytes += bytes;
    if (self->shown && uv_hrtime() - self->shown_ns > SHOW_MS * NS_PER_MS) {
        self->shown_ns = uv_hrtime();
        show(self, what, done, total, spent_ms);
    }
    due_ms = self->rate > 0 ? (uint64_t)((double)self->bytes / (double)self->rate * 1000) : 0;
    if (due_ms > spent_ms) {
        uv_sleep((unsigned)(due_ms - spent_ms));
    }
}

void progress_clear(struct progress *self)
{
    if (self->dirty) {
        (void)fputs("\r\033[K", stderr); /* As above. */
        self->dirty = false;
    }
}
