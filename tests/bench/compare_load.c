/*
 * Single-threaded: everything, the backend's callbacks included, runs within load_run().
 */
#include "compare_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/histogram.h"

enum {
    POLL_MS = 10,
    SWEEP_MS = 100,
    VALUES_SPAN = 1 << 20, /* values begin at different places of so many bytes */
    VALUE_STEP = 7919,     /* a prime */
};

struct slot {
    uint64_t number; /* of the record under way; 0: none */
    uint64_t sent_ns;
};

struct load {
    const struct load_settings *settings;
    const struct load_backend *backend;
    void *connection;
    struct slot *slots;
    uint32_t *idle; /* a stack of slots without a record */
    uint32_t idle_count;
    uint64_t last_number;
    uint8_t *values;
    bool counting;
    uint64_t next_ns; /* of a load with an interval; after an error, of any */
    uint64_t swept_ns;
    struct histogram latency;
    struct load_result *result;
};

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

static void fail(struct load *self, const char *error)
{
    self->result->errors += self->counting;
    (void)snprintf(self->result->last_error, sizeof self->result->last_error, "%s",
                   error); /* May be cut. */
}

static void make_idle(struct load *self, uint32_t slot)
{
    ASSERT(self->slots[slot].number != 0);
    ASSERT(self->idle_count < self->settings->inflight); /* I1 */
    self->slots[slot].number = 0;
    self->idle[self->idle_count++] = slot;
}

void load_answered(struct load *self, uint32_t slot, uint64_t number, const char *error)
{
    uint64_t now = now_ns();
    uint64_t sent;

    if (slot >= self->settings->inflight || number == 0 || self->slots[slot].number != number) {
        return; /* I2: it was given up. */
    }
    sent = self->slots[slot].sent_ns;
    make_idle(self, slot);
    if (error != NULL) {
        fail(self, error);
        self->next_ns = now + POLL_MS * 1000000ULL;
        return;
    }
    self->result->records += self->counting;
    if (self->counting) {
        histogram_add(&self->latency, now - sent);
    }
    if (self->settings->stamps) {
        (void)printf("%llu %llu\n", (unsigned long long)sent,
                     (unsigned long long)now); /* Nobody reads it: SIGPIPE. */
    }
}

/* False when it could not be sent. */
static bool send_one(struct load *self)
{
    char error[LOAD_ERROR_SIZE] = "";
    uint32_t slot;
    const uint8_t *value;

    ASSERT(self->idle_count > 0);
    slot = self->idle[--self->idle_count];
    ASSERT(self->slots[slot].number == 0);
    value = self->values + self->last_number * VALUE_STEP % VALUES_SPAN;
    self->slots[slot] = (struct slot){.number = ++self->last_number, .sent_ns = now_ns()};
    if (!self->backend->send(self->connection, slot, self->last_number, value, error,
                             sizeof error)) {
        make_idle(self, slot);
        fail(self, error);
        self->next_ns = now_ns() + POLL_MS * 1000000ULL;
        return false;
    }
    return true;
}

static void send_what_is_due(struct load *self)
{
    uint64_t interval_ns = self->settings->interval_ms * 1000000ULL;
    uint64_t now = now_ns();
    uint32_t under_way;

    while (self->idle_count > 0 && now >= self->next_ns) {
        if (interval_ns > 0) {
            self->next_ns = now + interval_ns;
        }
        if (!send_one(self)) {
            break;
        }
    }
    under_way = self->settings->inflight - self->idle_count;
    if (under_way > self->result->inflight_most) {
        self->result->inflight_most = under_way;
    }
}

/* Gives up what had no answer for too long. */
static void sweep(struct load *self)
{
    uint64_t now = now_ns();
    uint64_t timeout_ns = self->settings->timeout_ms * 1000000ULL;

    if (now - self->swept_ns < SWEEP_MS * 1000000ULL) {
        return;
    }
    self->swept_ns = now;
    for (uint32_t i = 0; i < self->settings->inflight; i++) {
        if (self->slots[i].number != 0 && now - self->slots[i].sent_ns >= timeout_ns) {
            self->backend->cancel(self->connection, i);
            make_idle(self, i);
            fail(self, "no answer in time");
        }
    }
}

static uint32_t wait_ms(const struct load *self)
{
    uint64_t now = now_ns();
    uint64_t wait = self->next_ns > now ? (self->next_ns - now + 999999) / 1000000 : 0;

    return self->idle_count > 0 && wait < POLL_MS ? (uint32_t)wait : POLL_MS;
}

static bool run_until(struct load *self, uint64_t until_ns)
{
    while (now_ns() < until_ns) {
        send_what_is_due(self);
        if (!self->backend->poll(self->connection, wait_ms(self), self->result->last_error,
                                 sizeof self->result->last_error)) {
            return false;
        }
        sweep(self);
        if (self->settings->stamps) {
            (void)fflush(stdout); /* As above. */
        }
    }
    return true;
}

static bool run_connected(struct load *self)
{
    struct load_result *result = self->result;
    uint64_t begin = now_ns();
    bool ok = run_until(self, begin + (uint64_t)(self->settings->warmup_s * 1e9));

    begin = now_ns();
    self->counting = true;
    ok = ok && run_until(self, begin + (uint64_t)(self->settings->seconds * 1e9));
    result->seconds = (double)(now_ns() - begin) / 1e9;
    self->counting = false;
    result->p50_ms = (double)histogram_quantile(&self->latency, 0.5) / 1e6;
    result->p99_ms = (double)histogram_quantile(&self->latency, 0.99) / 1e6;
    result->max_ms = (double)self->latency.max / 1e6;
    return ok;
}

/* What compresses badly, and is the same each time. */
static void fill_values(uint8_t *values, size_t size)
{
    uint64_t state = 88172645463325252U;

    for (size_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[i] = (uint8_t)(state >> 32);
    }
}

bool load_run(const struct load_settings *settings, const struct load_backend *backend,
              struct load_result *ret_result)
{
    struct load *self = calloc(1, sizeof *self);
    bool ok = false;

    ASSERT(settings->inflight >= 1 && settings->inflight <= LOAD_INFLIGHT_MAX);
    ASSERT(settings->size >= 1 && settings->size <= LOAD_SIZE_MAX);
    ASSERT(self != NULL);
    *ret_result = (struct load_result){0};
    self->settings = settings;
    self->backend = backend;
    self->result = ret_result;
    self->slots = calloc(settings->inflight, sizeof *self->slots);
    self->idle = calloc(settings->inflight, sizeof *self->idle);
    self->values = malloc(VALUES_SPAN + settings->size);
    ASSERT(self->slots != NULL && self->idle != NULL && self->values != NULL);
    fill_values(self->values, VALUES_SPAN + settings->size);
    for (uint32_t i = 0; i < settings->inflight; i++) {
        self->idle[self->idle_count++] = settings->inflight - 1 - i;
    }
    self->connection = backend->open(settings, self, ret_result->last_error, LOAD_ERROR_SIZE);
    if (self->connection != NULL) {
        ok = run_connected(self);
        backend->close(self->connection);
    }
    free(self->values);
    free(self->idle);
    free(self->slots);
    free(self);
    return ok;
}
