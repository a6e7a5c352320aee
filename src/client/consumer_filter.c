/*
 * A filter, as a CONSUME tells it.
 */
#include <string.h>

#include "base/assert.h"
#include "client/consumer_internal.h"

static ProtobufCBinaryData bytes_of(const struct filter *filter, struct filter_text text)
{
    return (ProtobufCBinaryData){
        .data = (uint8_t *)(uintptr_t)filter_bytes(filter, text), /* Only read from. */
        .len = text.size,
    };
}

/* Names are texts in the message: they need a zero. */
static char *put_name(char **to, const struct filter *filter, struct filter_text text)
{
    char *name = *to;

    memcpy(name, filter_bytes(filter, text), text.size);
    name[text.size] = '\0';
    *to += text.size + 1;
    return name;
}

void filter_message_fill(struct filter_message *self, const struct filter *filter)
{
    Quorlog__RecordFilter *message = &self->message;
    char *names = self->names;

    quorlog__record_filter__init(message);
    message->headers = self->header_list;
    message->contains = self->contains;
    message->since_us = filter->since_us;
    message->until_us = filter->until_us;
    message->latest = filter->latest;
    for (size_t i = 0; i < filter->condition_count; i++) {
        const struct filter_condition *condition = &filter->conditions[i];
        Quorlog__HeaderCondition *header = &self->headers[message->n_headers];

        switch (condition->kind) {
        case FILTER_KEY:
            message->has_key = true;
            message->key = bytes_of(filter, condition->text);
            break;
        case FILTER_CONTAINS:
            self->contains[message->n_contains] = bytes_of(filter, condition->text);
            message->n_contains++;
            break;
        case FILTER_HEADER:
        case FILTER_HEADER_VALUE:
        default:
            quorlog__header_condition__init(header);
            header->name = put_name(&names, filter, condition->name);
            header->has_value = condition->kind == FILTER_HEADER_VALUE;
            header->value = bytes_of(filter, condition->text);
            self->header_list[message->n_headers] = header;
            message->n_headers++;
            break;
        }
    }
    ASSERT(names <= self->names + sizeof self->names);
    ASSERT(message->n_headers + message->n_contains <= FILTER_CONDITIONS_MAX);
}
