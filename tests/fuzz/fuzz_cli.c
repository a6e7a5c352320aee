/*
 * What people write on a command line: options, numbers, formats, places to start, addresses.
 *
 *      u8 what it is | the text; options: words, with zeros between them
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/format.h"
#include "cli/options.h"
#include "fuzz/fuzz.h"
#include "transport/transport.h"

enum { WORDS_MAX = 40, ADDRESS_MAX = 300 };

static const struct option_spec options[] = {
    {"key", 'k', "KEY", false, "a value"},
    {"header", 'H', "NAME=VALUE", true, "values"},
    {"size", 0, "BYTES", false, "a number"},
    {"json", 'j', NULL, false, "a flag"},
    {"batch_size", 0, "BYTES", false, "written with '_' in files"},
    {NULL, 0, NULL, false, NULL},
};

static const struct command_spec command = {.name = "try it",
                                            .synopsis = "TOPIC [FILE]",
                                            .options = options,
                                            .arguments_min = 1,
                                            .arguments_max = 2};

static void check_options(char *text, size_t size)
{
    static struct invocation parsed;
    char *words[WORDS_MAX + 1] = {0};
    uint64_t number;
    int count = 0;

    for (size_t at = 0; at < size && count < WORDS_MAX; at += strlen(text + at) + 1) {
        words[count++] = text + at;
    }
    if (options_parse(&command, count, words, &parsed, NULL) != ERR_OK) {
        return;
    }
    ASSERT(parsed.argument_count >= 1 && parsed.argument_count <= 2);
    ASSERT(option_count(&parsed, "key") <= 1);
    for (unsigned i = 0; i < option_count(&parsed, "header"); i++) {
        ASSERT(option_value_at(&parsed, "header", i) != NULL);
    }
    if (option_number(&parsed, "size", 5, 1, 1000, &number, NULL) == ERR_OK) {
        ASSERT(number >= 1 && number <= 1000);
    }
}

static void check_format(const char *text)
{
    static const struct record_header headers[] = {{.name = "n", .value = "\0x", .value_size = 2}};
    static const struct record record = {.value = "v\n",
                                         .value_size = 2,
                                         .key = "k",
                                         .key_size = 1,
                                         .headers = headers,
                                         .header_count = 1,
                                         .offset = UINT64_MAX,
                                         .append_time_us = INT64_MAX};
    static FILE *null;

    if (null == NULL) {
        null = fopen("/dev/null", "w");
        ASSERT(null != NULL);
    }
    if (format_check(text, NULL) == ERR_OK) {
        format_print(null, text, &record);
    }
}

static void check_start(const char *text)
{
    struct consumer_options start = {0};

    if (format_parse_start(text, &start, NULL) == ERR_OK) {
        ASSERT(start.offset <= INT64_MAX);
    }
}

static void check_address(const char *text)
{
    char host[256];
    char port[8];
    char again[ADDRESS_MAX];
    char host_again[256];
    char port_again[8];
    bool v6;
    enum err err;

    if (address_split(text, host, port, NULL) != ERR_OK) {
        return;
    }
    v6 = strchr(host, ':') != NULL;
    (void)snprintf(again, sizeof again, "%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "",
                   port); /* fits */
    err = address_split(again, host_again, port_again, NULL);
    ASSERT(err == ERR_OK && strcmp(host, host_again) == 0 && strcmp(port, port_again) == 0);
}

static void check_number(const char *text)
{
    uint64_t number = 1;

    if (parse_number(text, "number", 1, UINT64_MAX / 2, &number, NULL) == ERR_OK) {
        ASSERT(number >= 1 && number <= UINT64_MAX / 2);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t what = fuzz_u8(&input);
    char *text = fuzz_text(&input);

    switch (what % 5) {
    case 0:
        check_options(text, input.size);
        break;
    case 1:
        check_format(text);
        break;
    case 2:
        check_start(text);
        break;
    case 3:
        check_address(text);
        break;
    default:
        check_number(text);
        break;
    }
    free(text);
    return 0;
}
