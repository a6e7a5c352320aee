#include "raft_fsm/retention.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"

bool retention_is_set(const struct topic *topic)
{
    const struct topic_settings *settings = &topic->settings;

    return settings->retention_ms > 0 || settings->retention_bytes > 0 ||
           settings->retention_records > 0;
}

bool retention_wants_age(const struct topic *topic)
{
    const struct topic_settings *settings = &topic->settings;

    return topic->end > topic->log_start &&
           (settings->retention_ms > 0 ||
            (settings->compact && topic->clean.tombstones_below < topic->end));
}

/* The batch that holds trim->start, and the one before it, of a log that starts further down. */
static enum err find_batches(const struct topic *topic, struct topic_trim *trim,
                             struct err_info *info)
{
    struct batch_header header;
    enum err err = ERR_OK;

    if (trim->start < log_end(topic->log)) {
        err = log_read_header(topic->log, trim->start, &header, info);
        trim->batch_start = err == ERR_OK ? header.base_offset : trim->start;
        if (trim->batch_start < log_start(topic->log)) {
            trim->batch_start = log_start(topic->log); /* F4 */
        }
    }
    if (err == ERR_OK && trim->batch_start > log_start(topic->log)) {
        err = log_read_header(topic->log, trim->batch_start - 1, &header, info);
        if (err == ERR_OK) {
            memcpy(trim->digest, header.digest, DIGEST_SIZE);
        }
    }
    return err == ERR_RANGE ? ERR_OK : err; /* Trimmed meanwhile: the state machine says so. */
}

enum err retention_trim_to(const struct topic *topic, uint64_t start, struct topic_trim *ret_trim,
                           struct err_info *info)
{
    struct topic_trim trim = {.topic_id = topic->id, .start = start, .batch_start = start};
    uint64_t end = log_end(topic->log);
    enum err err = ERR_OK;

    if (start > end) {
        return err_set(info, ERR_RANGE, "offset %" PRIu64 " is beyond the end, %" PRIu64, start,
                       end);
    }
    if (start > topic_start(topic)) {
        err = find_batches(topic, &trim, info);
    }
    if (err == ERR_OK) {
        *ret_trim = trim;
    }
    return err;
}

/* Where a bound says that the log should start, and the bound. */
struct verdict {
    uint64_t start;
    enum retention_bound bound;
};

static void raise_verdict(struct verdict *verdict, uint64_t start, enum retention_bound bound)
{
    if (start > verdict->start) {
        *verdict = (struct verdict){.start = start, .bound = bound};
    }
}

static uint64_t age_bound_us(const struct topic *topic)
{
    uint64_t ms = topic->settings.retention_ms;

    return ms > UINT64_MAX / 1000 ? UINT64_MAX : ms * 1000;
}

static enum err judge_size(const struct topic *topic, struct verdict *verdict,
                           struct err_info *info)
{
    uint64_t size_max = topic->settings.retention_bytes;
    uint64_t start;
    enum err err;

    if (size_max == 0 || log_size(topic->log) <= size_max) {
        return ERR_OK; /* Headers and what is below the start included. */
    }
    err = log_find_size(topic->log, size_max, &start, info);
    if (err == ERR_OK) {
        raise_verdict(verdict, start, RETENTION_BYTES);
    }
    return err;
}

/* first: the first batch, which is not empty. */
static enum err judge_age(const struct topic *topic, const struct ages *ages,
                          const struct batch_header *first, struct verdict *verdict,
                          struct err_info *info)
{
    uint64_t index;
    uint64_t start;
    enum err err;

    if (topic->settings.retention_ms == 0) {
        return ERR_OK;
    }
    index = ages_older_than(ages, age_bound_us(topic));
    if (index == 0 || first->raft_index > index) {
        return ERR_OK; /* Mostly: one look. */
    }
    err = log_find_raft_index(topic->log, index, &start, info);
    if (err == ERR_OK) {
        raise_verdict(verdict, start, RETENTION_AGE);
    }
    return err;
}

static enum err judge(const struct topic *topic, const struct ages *ages,
                      const struct batch_header *first, struct verdict *verdict,
                      struct err_info *info)
{
    uint64_t records = topic->settings.retention_records;
    enum err err;

    if (records > 0 && topic->end - topic->log_start > records) {
        raise_verdict(verdict, topic->end - records, RETENTION_RECORDS);
    }
    err = judge_size(topic, verdict, info);
    return err == ERR_OK ? judge_age(topic, ages, first, verdict, info) : err;
}

/* Nothing goes now: the first batch goes next, when it is old enough, … */
static void foretell_age(const struct topic *topic, const struct ages *ages,
                         const struct batch_header *first, struct topic_forecast *next)
{
    uint64_t age_us = ages_of(ages, first->raft_index);
    uint64_t bound_us = age_bound_us(topic);

    next->bound = RETENTION_AGE;
    next->to = batch_end_offset(first) < topic->end ? batch_end_offset(first) : topic->end;
    next->in_ms = bound_us > age_us ? (bound_us - age_us) / 1000 : 0;
}

/* … or when so much more is written. */
static void foretell_amount(const struct topic *topic, const struct batch_header *first,
                            struct topic_forecast *next)
{
    const struct topic_settings *settings = &topic->settings;
    uint64_t held = topic->end - topic->log_start;
    uint64_t size = log_size(topic->log);

    if (settings->retention_records > 0) {
        next->bound = RETENTION_RECORDS;
        next->to = next->from + 1;
        next->room =
            settings->retention_records > held ? settings->retention_records - held + 1 : 1;
    } else if (settings->retention_bytes > 0) {
        next->bound = RETENTION_BYTES;
        next->to = batch_end_offset(first) < topic->end ? batch_end_offset(first) : topic->end;
        next->room = settings->retention_bytes > size ? settings->retention_bytes - size + 1 : 1;
    }
}

enum err retention_decide(const struct topic *topic, const struct ages *ages,
                          struct topic_trim *ret_trim, struct topic_forecast *ret_next,
                          struct err_info *info)
{
    struct verdict verdict = {.start = topic->log_start};
    struct topic_forecast next = {.from = topic->log_start};
    struct batch_header first;
    enum err err;

    *ret_next = (struct topic_forecast){.bound = RETENTION_NONE};
    if (!retention_is_set(topic) || topic->log_start == topic->end ||
        log_end(topic->log) != topic->end) { /* It is being replayed. */
        return ERR_NOT_FOUND;
    }
    err = log_read_header(topic->log, topic->log_start, &first, info);
    if (err == ERR_OK) {
        err = judge(topic, ages, &first, &verdict, info);
    }
    if (err == ERR_OK && verdict.bound == RETENTION_NONE) {
        if (topic->settings.retention_ms > 0) {
            foretell_age(topic, ages, &first, &next);
        } else {
            foretell_amount(topic, &first, &next);
        }
        *ret_next = next;
        return ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        ASSERT(verdict.start > topic->log_start && verdict.start <= topic->end);
        next.bound = verdict.bound;
        next.to = verdict.start;
        *ret_next = next;
        err = retention_trim_to(topic, verdict.start, ret_trim, info);
    }
    return err;
}
