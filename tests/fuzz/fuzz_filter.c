/*
 * A filter as a CONSUME brings it, and as a person writes it, put to a record: it is taken or
 * refused, never more than its bounds, and a client's message of it means the same.
 *
 *      part: RecordFilter | part: text of a header | part: RecordSet
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "client/consumer_internal.h"
#include "fuzz/fuzz.h"
#include "record/record_set.h"
#include "server/reading_internal.h"

static void check_bounds(const struct filter *filter)
{
    size_t sum = 0;

    ASSERT(filter->condition_count <= FILTER_CONDITIONS_MAX);
    ASSERT(filter->text_size <= FILTER_TEXT_MAX);
    for (size_t i = 0; i < filter->condition_count; i++) {
        sum += (size_t)filter->conditions[i].name.size + filter->conditions[i].text.size;
    }
    ASSERT(sum == filter->text_size);
}

static struct reading_filter *take(const uint8_t *bytes, size_t size)
{
    Quorlog__RecordFilter *message = quorlog__record_filter__unpack(NULL, size, bytes);
    struct reading_filter *self = NULL;
    struct err_info info = {0};
    enum err err;

    if (message == NULL) {
        return NULL;
    }
    err = reading_filter_new(message, &self, &info);
    quorlog__record_filter__free_unpacked(message, NULL);
    ASSERT(err == ERR_OK || err == ERR_INVALID || err == ERR_TOO_LARGE);
    ASSERT((err == ERR_OK) == (self != NULL));
    ASSERT(IMPLIES(err != ERR_OK, info.text[0] != '\0'));
    return self;
}

static bool same_answers(const struct filter *a, const struct filter *b,
                         const struct fuzz_input *set)
{
    struct record_reader reader;
    struct record record;
    bool same = true;

    record_reader_init(&reader);
    record_reader_start(&reader, set->data, set->size);
    while (record_reader_next(&reader, &record) == ERR_OK) {
        same = same && filter_matches(a, &record) == filter_matches(b, &record);
    }
    record_reader_fini(&reader);
    return same;
}

/* By the client's message and back. */
static void check_again(const struct filter *filter, const struct fuzz_input *set)
{
    struct filter_message message;
    struct reading_filter *again;
    uint8_t *packed;
    size_t size;

    filter_message_fill(&message, filter);
    size = quorlog__record_filter__get_packed_size(&message.message);
    packed = malloc(size + 1);
    ASSERT(packed != NULL);
    (void)quorlog__record_filter__pack(&message.message, packed);
    again = take(packed, size);
    free(packed);
    ASSERT(again != NULL && again->filter.condition_count == filter->condition_count);
    ASSERT(again->filter.text_size == filter->text_size);
    ASSERT(filter_is_empty(&again->filter) == filter_is_empty(filter));
    ASSERT(same_answers(filter, &again->filter, set));
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    struct fuzz_input message = fuzz_part(&input);
    struct fuzz_input header = fuzz_part(&input);
    struct fuzz_input set = fuzz_part(&input);
    struct reading_filter *taken = take(message.data, message.size);
    char *text = fuzz_text(&header);
    uint8_t *body = fuzz_copy(&set);
    struct filter filter;

    set.data = body;
    filter_init(&filter);
    if (taken != NULL) {
        check_bounds(&taken->filter);
        check_again(&taken->filter, &set);
        filter = taken->filter;
    }
    if (filter_parse_header(&filter, text, NULL) == ERR_OK) {
        check_bounds(&filter);
        check_again(&filter, &set);
    }
    free(taken);
    free(text);
    free(body);
    return 0;
}

static void put_seed(fuzz_emit_cb emit, void *arg, const struct filter *filter, const char *header)
{
    const struct record_header headers[] = {{.name = "kind", .value = "a", .value_size = 1}};
    const struct record records[] = {
        {.value = "some text", .value_size = 9, .key = "k", .key_size = 1},
        {.value = "other", .value_size = 5, .headers = headers, .header_count = 1},
    };
    struct filter_message message;
    uint8_t packed[512];
    struct buf set;
    struct buf seed;

    filter_message_fill(&message, filter);
    ASSERT(quorlog__record_filter__get_packed_size(&message.message) <= sizeof packed);
    buf_init(&set, 1024);
    buf_init(&seed, 4096);
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        if (record_set_append(&set, &records[i]) != ERR_OK) {
            ASSERT(!"it fits");
        }
    }
    fuzz_put_part(&seed, packed, quorlog__record_filter__pack(&message.message, packed));
    fuzz_put_part(&seed, header, strlen(header));
    fuzz_put_part(&seed, set.data, set.size);
    fuzz_emit(emit, arg, &seed);
    buf_fini(&set);
    buf_fini(&seed);
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    struct filter filter;

    filter_init(&filter);
    put_seed(emit, arg, &filter, "kind=a");
    (void)filter_add_key(&filter, "k", 1, NULL); /* Fits. */
    filter.latest = true;
    put_seed(emit, arg, &filter, "kind");
    (void)filter_add_header(&filter, "kind", NULL);
    (void)filter_add_header_value(&filter, "kind", "a", 1, NULL);
    (void)filter_add_contains(&filter, "text", 4, NULL);
    filter.since_us = 1;
    filter.until_us = 1000;
    put_seed(emit, arg, &filter, "=");
}
