#include "record/filter.h"

#include <string.h>

#include "base/assert.h"

_Static_assert((int)FILTER_TEXT_MAX <= UINT16_MAX, "places and sizes fit");

void filter_init(struct filter *self)
{
    memset(self, 0, sizeof *self);
}

/* ---- building ---- */

static bool has_kind(const struct filter *self, enum filter_kind kind)
{
    for (size_t i = 0; i < self->condition_count; i++) {
        if (self->conditions[i].kind == kind) {
            return true;
        }
    }
    return false;
}

static struct filter_text put_text(struct filter *self, const void *text, size_t size)
{
    struct filter_text place = {.at = (uint16_t)self->text_size, .size = (uint16_t)size};

    ASSERT(size <= FILTER_TEXT_MAX - self->text_size); /* I1 */
    if (size > 0) {
        memcpy(self->text + self->text_size, text, size);
    }
    self->text_size += size;
    return place;
}

/* name: NULL where there is none. */
static enum err add(struct filter *self, enum filter_kind kind, const char *name, const void *text,
                    size_t size, struct err_info *info)
{
    size_t name_size = name == NULL ? 0 : strlen(name);
    size_t left = FILTER_TEXT_MAX - self->text_size;
    struct filter_condition *condition;

    ASSERT(self->condition_count <= FILTER_CONDITIONS_MAX && self->text_size <= FILTER_TEXT_MAX);
    if (self->condition_count == FILTER_CONDITIONS_MAX) {
        return err_set(info, ERR_TOO_LARGE, "a filter has at most %d conditions",
                       (int)FILTER_CONDITIONS_MAX);
    }
    if (name_size > left || size > left - name_size) {
        return err_set(info, ERR_TOO_LARGE,
                       "the texts of a filter have at most %d bytes together, and these are more",
                       (int)FILTER_TEXT_MAX);
    }
    condition = &self->conditions[self->condition_count];
    condition->kind = kind;
    condition->name = put_text(self, name, name_size);
    condition->text = put_text(self, text, size);
    self->condition_count++;
    return ERR_OK;
}

enum err filter_add_key(struct filter *self, const void *key, size_t size, struct err_info *info)
{
    if (has_kind(self, FILTER_KEY)) {
        return err_set(info, ERR_INVALID, "a filter has one key: a record has no more");
    }
    return add(self, FILTER_KEY, NULL, key, size, info);
}

static enum err check_name(const char *name, struct err_info *info)
{
    if (name[0] == '\0') {
        return err_set(info, ERR_INVALID, "a header filter has a name of at least one character");
    }
    return ERR_OK;
}

enum err filter_add_header(struct filter *self, const char *name, struct err_info *info)
{
    enum err err = check_name(name, info);

    return err == ERR_OK ? add(self, FILTER_HEADER, name, NULL, 0, info) : err;
}

enum err filter_add_header_value(struct filter *self, const char *name, const void *value,
                                 size_t value_size, struct err_info *info)
{
    enum err err = check_name(name, info);

    return err == ERR_OK ? add(self, FILTER_HEADER_VALUE, name, value, value_size, info) : err;
}

enum err filter_add_contains(struct filter *self, const void *text, size_t size,
                             struct err_info *info)
{
    if (size == 0) {
        return err_set(info, ERR_INVALID, "a text to search for has at least one byte");
    }
    return add(self, FILTER_CONTAINS, NULL, text, size, info);
}

enum err filter_parse_header(struct filter *self, const char *text, struct err_info *info)
{
    const char *equals = strchr(text, '=');
    char name[FILTER_TEXT_MAX + 1];
    size_t name_size;

    if (text[0] == '\0' || equals == text) {
        return err_set(info, ERR_INVALID, "a header filter is NAME=VALUE or NAME; got '%.80s'",
                       text);
    }
    if (equals == NULL) {
        return filter_add_header(self, text, info);
    }
    name_size = (size_t)(equals - text);
    if (name_size > FILTER_TEXT_MAX) {
        return err_set(info, ERR_TOO_LARGE, "a header filter's name has at most %d bytes",
                       (int)FILTER_TEXT_MAX);
    }
    memcpy(name, text, name_size);
    name[name_size] = '\0';
    return filter_add_header_value(self, name, equals + 1, strlen(equals + 1), info);
}

enum err filter_check(const struct filter *self, struct err_info *info)
{
    if (self->since_us != 0 && self->until_us != 0 && self->since_us >= self->until_us) {
        return err_set(info, ERR_INVALID, "a filter's since must be before its until");
    }
    if (self->latest && !has_kind(self, FILTER_KEY)) {
        return err_set(info, ERR_INVALID, "the latest record is that of a key: give one");
    }
    return ERR_OK;
}

/* ---- asking ---- */

bool filter_is_empty(const struct filter *self)
{
    return self->condition_count == 0 && self->since_us == 0 && self->until_us == 0 &&
           !self->latest;
}

const uint8_t *filter_bytes(const struct filter *self, struct filter_text text)
{
    ASSERT((size_t)text.at + text.size <= self->text_size); /* I2 */
    return self->text + text.at;
}

bool filter_key(const struct filter *self, const uint8_t **ret_key, size_t *ret_size)
{
    for (size_t i = 0; i < self->condition_count; i++) {
        if (self->conditions[i].kind == FILTER_KEY) {
            *ret_key = filter_bytes(self, self->conditions[i].text);
            *ret_size = self->conditions[i].text.size;
            return true;
        }
    }
    return false;
}

static bool is_text(const struct filter *self, struct filter_text text, const void *data,
                    size_t size)
{
    return size == text.size && (size == 0 || memcmp(filter_bytes(self, text), data, size) == 0);
}

static bool has_header(const struct filter *self, const struct filter_condition *condition,
                       const struct record *record)
{
    for (size_t i = 0; i < record->header_count; i++) {
        const struct record_header *header = &record->headers[i];

        if (is_text(self, condition->name, header->name, strlen(header->name)) &&
            (condition->kind == FILTER_HEADER ||
             is_text(self, condition->text, header->value, header->value_size))) {
            return true;
        }
    }
    return false;
}

static bool holds(const struct filter *self, const struct filter_condition *condition,
                  const struct record *record)
{
    switch (condition->kind) {
    case FILTER_KEY:
        return record->key != NULL && is_text(self, condition->text, record->key, record->key_size);
    case FILTER_HEADER:
    case FILTER_HEADER_VALUE:
        return has_header(self, condition, record);
    case FILTER_CONTAINS:
        return record->value_size >= condition->text.size &&
               memmem(record->value, record->value_size, filter_bytes(self, condition->text),
                      condition->text.size) != NULL;
    default:
        ASSERT(!"a kind that is not known");
        return false;
    }
}

bool filter_matches(const struct filter *self, const struct record *record)
{
    ASSERT(self->condition_count <= FILTER_CONDITIONS_MAX); /* I1 */
    if (self->since_us != 0 && record->append_time_us < self->since_us) {
        return false;
    }
    if (self->until_us != 0 && record->append_time_us >= self->until_us) {
        return false;
    }
    for (size_t i = 0; i < self->condition_count; i++) {
        if (!holds(self, &self->conditions[i], record)) {
            return false;
        }
    }
    return true;
}
