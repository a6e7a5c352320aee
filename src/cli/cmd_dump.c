/*
 * quorlog dump: what the files of a node or a backup hold, for a person and as JSON.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "archive/dump.h"
#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"

enum { SHOWN_MAX = 64 /* bytes of a key or value on a line for a person */ };

static const struct option_spec options[] = {
    {"from", 0, "OFFSET", false,
     "leave out what ends below this offset (in a journal: this index)"},
    {"limit", 0, "COUNT", false, "tell so many things at most; default: all"},
    {"records", 0, NULL, false, "each record of a batch, each entry of a journal's batch"},
    {"json", 0, NULL, false, "print an object a line"},
    {NULL, 0, NULL, false, NULL},
};

/* ---- for programs ---- */

static json_t *headers_json(const struct dump_field *field)
{
    const struct record_header *headers = field->data;
    json_t *list = json_array();

    for (size_t i = 0; i < field->size; i++) {
        (void)json_array_append_new(
            list, json_pack("{s:o,s:o}", "name", json_text(headers[i].name), "value",
                            json_bytes(headers[i].value, headers[i].value_size)));
    }
    return list;
}

static json_t *field_json(const struct dump_field *field)
{
    char time[40];

    switch (field->type) {
    case DUMP_NUMBER:
        return json_number(field->number);
    case DUMP_TIME:
        return json_text(human_time(time, field->time_us));
    case DUMP_BOOL:
        return json_boolean(field->number != 0);
    case DUMP_TEXT:
        return json_text(field->data);
    case DUMP_BYTES:
        return field->data == NULL ? json_null() : json_bytes(field->data, field->size);
    case DUMP_HEADERS:
        return headers_json(field);
    }
    return json_null();
}

static enum err print_json(void *arg, const struct dump_item *item)
{
    json_t *object = json_object();

    (void)arg;
    /* Out of memory: json_print aborts. */
    (void)json_object_set_new(object, "kind", json_text(item->kind));
    for (size_t i = 0; i < item->count; i++) {
        (void)json_object_set_new(object, item->fields[i].name, field_json(&item->fields[i]));
    }
    json_print(object);
    return ferror(stdout) != 0 ? ERR_IO : ERR_OK;
}

/* ---- for people ---- */

/* Printable ASCII as it is, the rest as \xHH; what is long is cut. */
static void print_bytes(const uint8_t *bytes, size_t size)
{
    size_t shown = size < SHOWN_MAX ? size : SHOWN_MAX;

    putchar('"');
    for (size_t i = 0; i < shown; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\') {
            printf("\\%c", bytes[i]);
        } else if (bytes[i] >= ' ' && bytes[i] < 0x7f) {
            putchar(bytes[i]);
        } else {
            printf("\\x%02x", bytes[i]);
        }
    }
    putchar('"');
    if (shown < size) {
        printf("+%zu", size - shown);
    }
}

static void print_headers(const struct dump_field *field)
{
    const struct record_header *headers = field->data;

    putchar('[');
    for (size_t i = 0; i < field->size; i++) {
        if (i > 0) {
            putchar(' ');
        }
        print_bytes((const uint8_t *)headers[i].name, strlen(headers[i].name));
        putchar('=');
        print_bytes(headers[i].value, headers[i].value_size);
    }
    putchar(']');
}

static bool is_word(const char *text)
{
    return text[0] != '\0' && strpbrk(text, " \"\\") == NULL;
}

static void print_field(const struct dump_field *field)
{
    char time[40];

    printf(" %s=", field->name);
    switch (field->type) {
    case DUMP_NUMBER:
        printf("%" PRIu64, field->number);
        break;
    case DUMP_TIME:
        (void)fputs(human_time(time, field->time_us), stdout); /* Checked at the end. */
        break;
    case DUMP_BOOL:
        (void)fputs(field->number != 0 ? "yes" : "no", stdout);
        break;
    case DUMP_TEXT:
        printf(is_word(field->data) ? "%s" : "\"%s\"", (const char *)field->data);
        break;
    case DUMP_BYTES:
        if (field->data == NULL) {
            putchar('-');
        } else {
            print_bytes(field->data, field->size);
        }
        break;
    case DUMP_HEADERS:
        print_headers(field);
        break;
    }
}

static enum err print_text(void *arg, const struct dump_item *item)
{
    bool *begun = arg;

    if (strcmp(item->kind, "file") == 0) {
        if (*begun) {
            putchar('\n');
        }
        *begun = true;
    }
    (void)fputs(item->kind, stdout);
    for (size_t i = 0; i < item->count; i++) {
        print_field(&item->fields[i]);
    }
    putchar('\n');
    return ferror(stdout) != 0 ? ERR_IO : ERR_OK;
}

static int run_dump(const struct invocation *invocation)
{
    bool begun = false;
    struct dump_options dump = {
        .io = io_real(),
        .records = option_given(invocation, "records"),
        .cb = option_given(invocation, "json") ? print_json : print_text,
        .arg = &begun,
    };
    struct err_info info = {0};
    int code = EXIT_OK;

    if (option_number(invocation, "from", 0, 0, UINT64_MAX, &dump.from, &info) != ERR_OK ||
        option_number(invocation, "limit", 0, 1, UINT64_MAX, &dump.limit, &info) != ERR_OK) {
        return usage("%s", info.text);
    }
    for (unsigned i = 0; i < invocation->argument_count; i++) {
        struct dump_result result = {0};

        if (dump_path(&dump, invocation->arguments[i], &result, &info) != ERR_OK) {
            if (ferror(stdout) != 0) {
                return flush_output();
            }
            code = fail("%s", info.text);
        } else if (result.damaged > 0) {
            code = fail("'%s': %" PRIu64 " places are damaged", invocation->arguments[i],
                        result.damaged);
        } else if (result.unknown > 0 && result.files == 1) {
            code = fail("'%s' is no file that quorlog writes", invocation->arguments[i]);
        }
    }
    return code;
}

const struct command_spec command_dump = {
    .name = "dump",
    .synopsis = "PATH…",
    .summary = "print what files of a node or a backup hold",
    .details =
        "A file is known by its first bytes: stores and indexes of topics, snapshot, ballot,\n"
        "journal, identity, a backup's index; indexes of times and keys, which are sealed at the\n"
        "end, by their names and by that. A directory gives all that is in it. Nothing is\n"
        "changed, and the node may be running: what it is just writing is told as torn. Damage\n"
        "is told with its position, and exit code 1. quorlog(1) has the names of all fields.\n"
        "\n"
        "examples:\n"
        "  quorlog dump quorlog-data/group-1/ballot\n"
        "  quorlog dump --records --from 1000 --limit 10 quorlog-data/group-1/topics/events-8193\n"
        "  quorlog dump --json quorlog-data | jq -c 'select(.kind == \"batch\")'\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = ARGUMENTS_MAX,
    .run = run_dump,
};
