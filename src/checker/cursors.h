/*
 * One cursor's operations, sorted for what its rules ask (cursors.c says which they are).
 */
#ifndef QUORLOG_CHECKER_CURSORS_H
#define QUORLOG_CHECKER_CURSORS_H

#include "checker/checker_internal.h"

/* One cursor's operations, sorted for what is asked of them. */
struct cursor_view {
    struct checker *checker;
    const struct topic *topic;
    const char *name;
    const struct cursor_op **known; /* acknowledged changes with a token, by token */
    size_t known_count;
    const struct cursor_op **sets; /* acknowledged SETs, by revision */
    size_t set_count;
    const struct cursor_op **changes; /* acknowledged changes that expect a revision, by it */
    size_t change_count;
    const struct cursor_op **shown; /* who was shown a revision, or expected it, by it */
    size_t shown_count;
    const struct cursor_op **unknown; /* UNKNOWN SETs, by offset, then by when they began */
    size_t unknown_count;
    uint64_t *delete_us;        /* of known[i] and later: when the first DELETE began; NEVER */
    uint64_t unknown_delete_us; /* when the first UNKNOWN DELETE began; NEVER */
};

static inline bool is_change(const struct cursor_op *op)
{
    return op->outcome == HISTORY_OK && op->verb != HISTORY_CURSOR_GET;
}

static inline bool is_set(const struct cursor_op *op)
{
    return op->outcome == HISTORY_OK && op->verb == HISTORY_CURSOR_SET;
}

/* It tells what the cursor was. */
static inline bool is_observation(const struct cursor_op *op)
{
    return op->outcome == HISTORY_FAIL ||
           (op->outcome == HISTORY_OK && op->verb == HISTORY_CURSOR_GET);
}

/* The revision that an operation proves to be there: that it was shown, or had expected rightly. */
static inline uint64_t seen_revision(const struct cursor_op *op)
{
    if (is_observation(op)) {
        return op->revision;
    }
    return is_change(op) && op->expect != NOWHERE ? op->expect : 0;
}

#define COMPARE(a, b)                                                                              \
    do {                                                                                           \
        if ((a) != (b)) {                                                                          \
            return (a) < (b) ? -1 : 1;                                                             \
        }                                                                                          \
    } while (0)

static inline const struct cursor_op *operation(const void *pointer)
{
    return *(const struct cursor_op *const *)pointer;
}

/* Rules B to E of cursors.c. `ops`: all of the cursor's, in any order. ERR_NOMEM. */
enum err cursor_rules_decide(struct cursor_view *self, const struct cursor_op *ops, size_t count);

#endif
