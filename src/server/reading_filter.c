/*
 * A filter as a CONSUME brings it.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "server/reading_internal.h"

static enum err add_conditions(struct filter *self, const Quorlog__RecordFilter *message,
                               struct err_info *info)
{
    enum err err = ERR_OK;

    if (message->has_key || message->key.len > 0) {
        err = filter_add_key(self, message->key.data, message->key.len, info);
    }
    for (size_t i = 0; err == ERR_OK && i < message->n_headers; i++) {
        const Quorlog__HeaderCondition *header = message->headers[i];

        err = header->has_value || header->value.len > 0
                  ? filter_add_header_value(self, header->name, header->value.data,
                                            header->value.len, info)
                  : filter_add_header(self, header->name, info);
    }
    for (size_t i = 0; err == ERR_OK && i < message->n_contains; i++) {
        err = filter_add_contains(self, message->contains[i].data, message->contains[i].len, info);
    }
    self->since_us = message->since_us;
    self->until_us = message->until_us;
    self->latest = message->latest;
    return err == ERR_OK ? filter_check(self, info) : err;
}

enum err reading_filter_new(const Quorlog__RecordFilter *message,
                            struct reading_filter **ret_filter, struct err_info *info)
{
    size_t size = quorlog__record_filter__get_packed_size(message);
    struct reading_filter *self;
    enum err err;

    /* What is not known here takes room in it, too, for as long as the reading lasts. */
    if (size > READING_FILTER_SIZE_MAX) {
        return err_set(info, ERR_TOO_LARGE, "a filter of %zu bytes; it has at most %d", size,
                       (int)READING_FILTER_SIZE_MAX);
    }
    self = malloc(sizeof *self + size);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    filter_init(&self->filter);
    err = add_conditions(&self->filter, message, info);
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    self->packed_size = quorlog__record_filter__pack(message, self->packed);
    ASSERT(self->packed_size == size);
    *ret_filter = self;
    return ERR_OK;
}
