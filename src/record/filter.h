/*
 * Which records somebody wants: a few conditions, all of which must hold.
 *
 *      key        the record has a key, and it is these bytes
 *      header     one of its headers has this name, and, where one is given, this value
 *      contains   its value has these bytes somewhere
 *      since      it was appended at this time or later …
 *      until      … and before this one
 *      latest     of all that match only the last one is wanted: whoever knows of a later match may
 *                 leave out the earlier ones, and whoever asks takes the last that it is shown
 *
 * A plain value: it owns its texts inside of itself, so that it is copied by assignment. One
 * without any condition matches everything.
 *
 * Invariants:
 *   I1  condition_count <= FILTER_CONDITIONS_MAX, text_size <= FILTER_TEXT_MAX.
 *   I2  Each condition's texts lie in text[0, text_size).
 */
#ifndef QUORLOG_RECORD_FILTER_H
#define QUORLOG_RECORD_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "record/record.h"

enum {
    FILTER_CONDITIONS_MAX = 16, /* times not counted */
    FILTER_TEXT_MAX = 4096,     /* bytes of keys, names, values and searched texts together */
};

enum filter_kind { FILTER_KEY, FILTER_HEADER, FILTER_HEADER_VALUE, FILTER_CONTAINS };

/* Bytes of the filter's text. */
struct filter_text {
    uint16_t at;
    uint16_t size;
};

struct filter_condition {
    enum filter_kind kind;
    struct filter_text name; /* headers */
    struct filter_text text; /* key, value of a header, what is searched */
};

struct filter {
    size_t condition_count;
    struct filter_condition conditions[FILTER_CONDITIONS_MAX];
    int64_t since_us; /* microseconds since 1970; 0: no such bound */
    int64_t until_us; /* 0: no such bound */
    bool latest;
    size_t text_size;
    uint8_t text[FILTER_TEXT_MAX];
};

/* No condition. */
void filter_init(struct filter *self);

/* Each adds a condition; a key can be given once. ERR_INVALID, ERR_TOO_LARGE: too many, or too
 * long; nothing is changed then, and the text says what is allowed. */
enum err filter_add_key(struct filter *self, const void *key, size_t size, struct err_info *info);
enum err filter_add_header(struct filter *self, const char *name, struct err_info *info);
enum err filter_add_header_value(struct filter *self, const char *name, const void *value,
                                 size_t value_size, struct err_info *info);
enum err filter_add_contains(struct filter *self, const void *text, size_t size,
                             struct err_info *info);

/* A header as people write it: NAME=VALUE, or NAME alone for one with any value. */
enum err filter_parse_header(struct filter *self, const char *text, struct err_info *info);

/* ERR_INVALID for conditions that do not go together: times that leave nothing, latest without a
 * key. */
enum err filter_check(const struct filter *self, struct err_info *info);

/* Is anything asked for? */
bool filter_is_empty(const struct filter *self);

/* The key that is wanted, borrowed from the filter. False: any. */
bool filter_key(const struct filter *self, const uint8_t **ret_key, size_t *ret_size);

/* Bytes that a condition names. */
const uint8_t *filter_bytes(const struct filter *self, struct filter_text text);

/* record: with its append time. */
bool filter_matches(const struct filter *self, const struct record *record);

#endif
