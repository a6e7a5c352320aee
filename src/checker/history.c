#include "checker/history.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* One table says what a line may hold: the writer, the reader and docs/history.md follow it. */
enum field_type {
    FIELD_U64,
    FIELD_U32,
    FIELD_BOOL,
    FIELD_NAME, /* a topic's or cursor's */
    FIELD_TEXT,
    FIELD_LIST, /* of numbers */
    FIELD_ENUM,
};

struct field {
    const char *key;
    enum field_type type;
    unsigned kinds;           /* bits of enum history_kind that have it */
    size_t place;             /* in struct history_op */
    size_t presence;          /* of the bool that says that it is there; 0: none. FIELD_LIST: of
                                 the count */
    const char *const *names; /* FIELD_ENUM, NULL at the end; the first one is not written */
};

static const char *const kind_names[] = {"produce", "read",  "delivery", "cursor",
                                         "dump",    "event", NULL};
static const char *const outcome_names[] = {"ok", "fail", "unknown", NULL};
static const char *const mode_names[] = {"local", "token", "linearizable", "max-lag", NULL};
static const char *const verb_names[] = {"get", "set", "delete", NULL};
static const char *const event_names[] = {"other",   "healed",    "settled", "deleted",
                                          "trimmed", "compacted", NULL};

enum {
    PRODUCE = 1U << HISTORY_PRODUCE,
    READ = 1U << HISTORY_READ,
    DELIVERY = 1U << HISTORY_DELIVERY,
    CURSOR = 1U << HISTORY_CURSOR,
    DUMP = 1U << HISTORY_DUMP,
    EVENT = 1U << HISTORY_EVENT,
    READING = READ | DELIVERY | DUMP,
    ALL = PRODUCE | READING | CURSOR | EVENT,
};

#define PLACE(member) offsetof(struct history_op, member)

static const struct field fields[] = {
    {"op", FIELD_ENUM, ALL, PLACE(kind), 0, kind_names},
    {"is", FIELD_ENUM, ALL, PLACE(outcome), 0, outcome_names},
    {"client", FIELD_U32, ALL, PLACE(client), 0, NULL},
    {"n", FIELD_U64, ALL, PLACE(sequence), 0, NULL},
    {"node", FIELD_U32, ALL, PLACE(node), 0, NULL},
    {"at", FIELD_U64, ALL, PLACE(invoke_us), 0, NULL},
    {"until", FIELD_U64, ALL, PLACE(return_us), 0, NULL},
    {"topic", FIELD_NAME, ALL, PLACE(topic), 0, NULL},
    {"error", FIELD_TEXT, ALL, PLACE(error), 0, NULL},
    {"offset", FIELD_U64, ALL, PLACE(offset), 0, NULL},
    {"values", FIELD_LIST, PRODUCE | READING, PLACE(values), PLACE(value_count), NULL},
    {"keys", FIELD_LIST, PRODUCE, PLACE(keys), PLACE(key_count), NULL},
    {"tombstones", FIELD_LIST, PRODUCE, PLACE(tombstones), PLACE(tombstone_count), NULL},
    {"offsets", FIELD_LIST, READING, PLACE(offsets), PLACE(offset_count), NULL},
    {"next", FIELD_U64, READING, PLACE(next), 0, NULL},
    {"token", FIELD_U64, PRODUCE | READING | CURSOR, PLACE(token), 0, NULL},
    {"producer", FIELD_U64, PRODUCE, PLACE(producer_id), 0, NULL},
    {"epoch", FIELD_U32, PRODUCE, PLACE(epoch), 0, NULL},
    {"sequence", FIELD_U32, PRODUCE, PLACE(producer_sequence), 0, NULL},
    {"duplicate", FIELD_BOOL, PRODUCE, PLACE(duplicate), 0, NULL},
    {"expect", FIELD_U64, PRODUCE, PLACE(expect_offset), PLACE(has_expect), NULL},
    {"mode", FIELD_ENUM, READING | CURSOR, PLACE(mode), 0, mode_names},
    {"at_least", FIELD_U64, READING | CURSOR, PLACE(at_least), 0, NULL},
    {"lag", FIELD_U64, READING, PLACE(lag_us), 0, NULL},
    {"start", FIELD_U64, READING, PLACE(log_start), 0, NULL},
    {"end", FIELD_U64, READING, PLACE(log_end), 0, NULL},
    {"stream", FIELD_U64, DELIVERY, PLACE(stream), 0, NULL},
    {"verb", FIELD_ENUM, CURSOR, PLACE(verb), 0, verb_names},
    {"cursor", FIELD_NAME, CURSOR, PLACE(cursor), 0, NULL},
    {"expect", FIELD_U64, CURSOR, PLACE(expect_revision), PLACE(has_expect_revision), NULL},
    {"revision", FIELD_U64, CURSOR, PLACE(revision), 0, NULL},
    {"position", FIELD_U64, CURSOR, PLACE(cursor_offset), 0, NULL},
    {"event", FIELD_ENUM, EVENT, PLACE(event), 0, event_names},
    {"text", FIELD_TEXT, EVENT, PLACE(text), 0, NULL},
};

enum { LISTS_MAX = 3 }; /* that an operation of one kind can have */
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

/* All enums of an operation are read and written as one. */
_Static_assert(sizeof(enum history_kind) == sizeof(unsigned) &&
                   sizeof(enum history_event) == sizeof(unsigned),
               "enums are unsigned ints");

static const void *at(const struct history_op *op, size_t place)
{
    return (const char *)op + place;
}

static void *at_mutable(struct history_op *op, size_t place)
{
    return (char *)op + place;
}

/* ---- writing ---- */

/* Failures stay in ferror(file). */
static void write_text(FILE *file, const char *key, const char *text, size_t size_max)
{
    size_t size = strnlen(text, size_max);
    json_t *string = json_stringn(text, size);

    if (string == NULL) {
        /* Not UTF-8, perhaps since it was cut: what is no ASCII is not worth a lost line. */
        char *plain = strndup(text, size);

        ASSERT(plain != NULL);
        for (size_t i = 0; i < size; i++) {
            plain[i] = (unsigned char)plain[i] < 0x80 ? plain[i] : '?';
        }
        string = json_string(plain);
        free(plain);
    }
    ASSERT(string != NULL);
    (void)fprintf(file, ",\"%s\":", key);
    (void)json_dumpf(string, file, JSON_ENCODE_ANY);
    json_decref(string);
}

/* A number that readers of JSON commonly take no more is a string. */
static void write_number(FILE *file, uint64_t number)
{
    (void)fprintf(file, number <= INT64_MAX ? "%" PRIu64 : "\"%" PRIu64 "\"", number);
}

static void write_list(FILE *file, const char *key, const uint64_t *numbers, size_t count)
{
    ASSERT(count <= HISTORY_VALUES_MAX);
    ASSERT(IMPLIES(count > 0, numbers != NULL));
    if (count == 0) {
        return;
    }
    (void)fprintf(file, ",\"%s\":[", key);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            (void)fputc(',', file);
        }
        write_number(file, numbers[i]);
    }
    (void)fputc(']', file);
}

static void write_field(FILE *file, const struct field *field, const struct history_op *op)
{
    const void *place = at(op, field->place);
    uint64_t number;

    switch (field->type) {
    case FIELD_U64:
    case FIELD_U32:
        number = field->type == FIELD_U64 ? *(const uint64_t *)place : *(const uint32_t *)place;
        if (field->presence != 0 ? *(const bool *)at(op, field->presence) : number != 0) {
            (void)fprintf(file, ",\"%s\":", field->key);
            write_number(file, number);
        }
        break;
    case FIELD_BOOL:
        if (*(const bool *)place) {
            (void)fprintf(file, ",\"%s\":true", field->key);
        }
        break;
    case FIELD_NAME:
    case FIELD_TEXT:
        if (*(const char *const *)place != NULL) {
            write_text(file, field->key, *(const char *const *)place,
                       field->type == FIELD_NAME ? HISTORY_NAME_SIZE_MAX : HISTORY_TEXT_SIZE_MAX);
        }
        break;
    case FIELD_LIST:
        write_list(file, field->key, *(const uint64_t *const *)place,
                   *(const size_t *)at(op, field->presence));
        break;
    case FIELD_ENUM:
        if (*(const unsigned *)place != 0) {
            (void)fprintf(file, ",\"%s\":\"%s\"", field->key,
                          field->names[*(const unsigned *)place]);
        }
        break;
    }
}

uint64_t history_op_next(const struct history_op *op)
{
    if (op->next != 0) {
        return op->next;
    }
    return op->offset_count > 0 ? op->offsets[op->offset_count - 1] + 1
                                : op->offset + op->value_count;
}

void history_begin(FILE *file, const char *source)
{
    (void)fprintf(file, "{\"history\":%d", HISTORY_VERSION);
    if (source != NULL) {
        write_text(file, "source", source, HISTORY_TEXT_SIZE_MAX);
    }
    (void)fputs("}\n", file);
}

void history_write(FILE *file, const struct history_op *op)
{
    ASSERT(op->kind <= HISTORY_EVENT);
    ASSERT(op->outcome <= HISTORY_UNKNOWN);
    (void)fprintf(file, "{\"op\":\"%s\"", kind_names[op->kind]);
    for (size_t i = 1; i < FIELD_COUNT; i++) {
        if ((fields[i].kinds & 1U << op->kind) != 0) {
            write_field(file, &fields[i], op);
        }
    }
    (void)fputs("}\n", file);
}

/* ---- reading ---- */

struct history_reader {
    FILE *file;
    uint64_t line; /* that was read last, from 1 */
    char *buffer;  /* HISTORY_LINE_SIZE_MAX + 1 bytes, of which [begin, end) are still to be read */
    size_t begin;
    size_t end;
    json_t *object;  /* of the last line */
    uint64_t *lists; /* LISTS_MAX times HISTORY_VALUES_MAX, of the last line */
};

/* The next line without its end, in the buffer. ERR_NOT_FOUND: there is none. */
static enum err next_line(struct history_reader *self, const char **ret_line, size_t *ret_size,
                          struct err_info *info)
{
    size_t searched = 0;

    for (;;) {
        char *begin = self->buffer + self->begin;
        size_t size = self->end - self->begin;
        char *newline = memchr(begin + searched, '\n', size - searched);
        size_t got;

        if (newline != NULL) {
            *ret_line = begin;
            *ret_size = (size_t)(newline - begin);
            self->begin += *ret_size + 1;
            self->line++;
            return ERR_OK;
        }
        searched = size;
        memmove(self->buffer, begin, size);
        self->begin = 0;
        self->end = size;
        if (size > HISTORY_LINE_SIZE_MAX) {
            return err_set(info, ERR_INVALID, "line %" PRIu64 ": longer than %d bytes",
                           self->line + 1, HISTORY_LINE_SIZE_MAX);
        }
        got = fread(self->buffer + size, 1, HISTORY_LINE_SIZE_MAX + 1 - size, self->file);
        if (got == 0) {
            if (ferror(self->file)) {
                return err_set(info, ERR_IO, "read: %s", strerror(errno));
            }
            if (size == 0) {
                return ERR_NOT_FOUND;
            }
            self->buffer[size] = '\n'; /* The last line may lack its end. */
            got = 1;
        }
        self->end += got;
    }
}

/* Parses the next line into self->object. */
static enum err next_object(struct history_reader *self, struct err_info *info)
{
    json_error_t error;
    const char *line = NULL;
    size_t size = 0;
    enum err err = next_line(self, &line, &size, info);

    json_decref(self->object);
    self->object = NULL;
    if (err != ERR_OK) {
        return err;
    }
    self->object = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
    if (self->object == NULL) {
        return err_set(info, ERR_INVALID, "line %" PRIu64 ": no JSON: %s at byte %d", self->line,
                       error.text, error.position);
    }
    if (!json_is_object(self->object)) {
        return err_set(info, ERR_INVALID, "line %" PRIu64 ": not an object", self->line);
    }
    return ERR_OK;
}

static bool to_number(const json_t *json, uint64_t max, uint64_t *ret_number)
{
    uint64_t number;

    if (json_is_integer(json)) {
        if (json_integer_value(json) < 0) {
            return false;
        }
        number = (uint64_t)json_integer_value(json);
    } else if (json_is_string(json)) {
        const char *text = json_string_value(json);
        char *end;

        if (text[0] < '0' || text[0] > '9') {
            return false;
        }
        errno = 0;
        number = strtoull(text, &end, 10);
        if (errno != 0 || *end != '\0') {
            return false;
        }
    } else {
        return false;
    }
    if (number > max) {
        return false;
    }
    *ret_number = number;
    return true;
}

static enum err bad_field(const struct history_reader *self, const char *key, const char *what,
                          struct err_info *info)
{
    return err_set(info, ERR_INVALID, "line %" PRIu64 ": \"%.40s\" %s", self->line, key, what);
}

/* Where the list of this field goes: each that a kind of operation has has its own place. */
static uint64_t *list_place(const struct history_reader *self, const struct field *field,
                            enum history_kind kind)
{
    size_t before = 0;

    for (const struct field *other = fields; other < field; other++) {
        before += other->type == FIELD_LIST && (other->kinds & 1U << kind) != 0;
    }
    ASSERT(before < LISTS_MAX);
    return self->lists + before * HISTORY_VALUES_MAX;
}

static enum err read_list(struct history_reader *self, const struct field *field,
                          const json_t *json, struct history_op *op, struct err_info *info)
{
    uint64_t *numbers = list_place(self, field, op->kind);
    size_t count = json_array_size(json); /* 0 for what is no array */

    if (!json_is_array(json)) {
        return bad_field(self, field->key, "is not a list of numbers", info);
    }
    if (count > HISTORY_VALUES_MAX) {
        return bad_field(self, field->key, "has too many numbers", info);
    }
    for (size_t i = 0; i < count; i++) {
        if (!to_number(json_array_get(json, i), UINT64_MAX, &numbers[i])) {
            return bad_field(self, field->key, "has what is no number from 0 to 2^64 - 1", info);
        }
    }
    *(const uint64_t **)at_mutable(op, field->place) = numbers;
    *(size_t *)at_mutable(op, field->presence) = count;
    return ERR_OK;
}

static bool to_enum(const json_t *json, const char *const *names, unsigned *ret_number)
{
    const char *text = json_string_value(json); /* NULL for what is no string */

    for (unsigned i = 0; text != NULL && names[i] != NULL; i++) {
        if (strcmp(names[i], text) == 0) {
            *ret_number = i;
            return true;
        }
    }
    return false;
}

static enum err read_field(struct history_reader *self, const struct field *field,
                           const json_t *json, struct history_op *op, struct err_info *info)
{
    void *place = at_mutable(op, field->place);
    uint64_t number = 0;

    switch (field->type) {
    case FIELD_U64:
    case FIELD_U32:
        if (!to_number(json, field->type == FIELD_U64 ? UINT64_MAX : UINT32_MAX, &number)) {
            return bad_field(self, field->key,
                             field->type == FIELD_U64 ? "is no number from 0 to 2^64 - 1"
                                                      : "is no number from 0 to 2^32 - 1",
                             info);
        }
        if (field->type == FIELD_U64) {
            *(uint64_t *)place = number;
        } else {
            *(uint32_t *)place = (uint32_t)number;
        }
        break;
    case FIELD_BOOL:
        if (!json_is_boolean(json)) {
            return bad_field(self, field->key, "is neither true nor false", info);
        }
        *(bool *)place = json_is_true(json);
        break;
    case FIELD_NAME:
    case FIELD_TEXT:
        if (!json_is_string(json)) {
            return bad_field(self, field->key, "is not a text", info);
        }
        if (field->type == FIELD_NAME &&
            (json_string_length(json) == 0 || json_string_length(json) > HISTORY_NAME_SIZE_MAX)) {
            return bad_field(self, field->key, "is no name of 1 to 255 bytes", info);
        }
        *(const char **)place = json_string_value(json);
        break;
    case FIELD_LIST:
        return read_list(self, field, json, op, info);
    case FIELD_ENUM:
        if (!to_enum(json, field->names, place)) {
            return bad_field(self, field->key, "has a value that is not known", info);
        }
        break;
    }
    if (field->presence != 0) {
        *(bool *)at_mutable(op, field->presence) = true;
    }
    return ERR_OK;
}

static const struct field *find_field(const char *key, enum history_kind kind)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if ((fields[i].kinds & 1U << kind) != 0 && strcmp(fields[i].key, key) == 0) {
            return &fields[i];
        }
    }
    return NULL;
}

static enum err check_op(const struct history_reader *self, const struct history_op *op,
                         struct err_info *info)
{
    bool needs_topic = op->kind != HISTORY_EVENT || op->event == HISTORY_EVENT_DELETED ||
                       op->event == HISTORY_EVENT_TRIMMED || op->event == HISTORY_EVENT_COMPACTED;

    if (needs_topic && op->topic == NULL) {
        return bad_field(self, "topic", "is missing", info);
    }
    if (op->kind == HISTORY_CURSOR && op->cursor == NULL) {
        return bad_field(self, "cursor", "is missing", info);
    }
    if (op->kind == HISTORY_PRODUCE && op->value_count == 0) {
        return bad_field(self, "values", "is missing", info);
    }
    if (op->key_count != 0 && op->key_count != op->value_count) {
        return bad_field(self, "keys", "has not as many numbers as there are values", info);
    }
    if (op->offset_count != 0 && op->offset_count != op->value_count) {
        return bad_field(self, "offsets", "has not as many numbers as there are values", info);
    }
    return ERR_OK;
}

enum err history_reader_next(struct history_reader *self, struct history_op *ret_op,
                             struct err_info *info)
{
    struct history_op op = {0};
    const char *key;
    json_t *value;
    enum err err = next_object(self, info);

    if (err != ERR_OK) {
        return err;
    }
    value = json_object_get(self->object, "op");
    if (!to_enum(value, kind_names, (unsigned *)&op.kind)) {
        return bad_field(self, "op", value == NULL ? "is missing" : "is not known", info);
    }
    json_object_foreach(self->object, key, value)
    {
        const struct field *field = find_field(key, op.kind);

        if (field == NULL) {
            return bad_field(self, key, "is nothing that such an operation has", info);
        }
        err = read_field(self, field, value, &op, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    err = check_op(self, &op, info);
    if (err == ERR_OK) {
        *ret_op = op;
    }
    return err;
}

static enum err read_first_line(struct history_reader *self, struct err_info *info)
{
    enum err err = next_object(self, info);
    const json_t *version;

    if (err == ERR_NOT_FOUND) {
        return err_set(info, ERR_INVALID, "line 1: there is none");
    }
    if (err != ERR_OK) {
        return err;
    }
    version = json_object_get(self->object, "history");
    if (!json_is_integer(version)) {
        return bad_field(self, "history", "is missing: this is no history", info);
    }
    if (json_integer_value(version) != HISTORY_VERSION) {
        (void)bad_field(self, "history", "is a version that this program does not know", info);
        return info != NULL ? (info->code = ERR_VERSION) : ERR_VERSION;
    }
    return ERR_OK;
}

enum err history_reader_open(const char *path, struct history_reader **ret_reader,
                             struct err_info *info)
{
    struct history_reader *self = calloc(1, sizeof *self);
    enum err err;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    self->buffer = malloc(HISTORY_LINE_SIZE_MAX + 1);
    self->lists = malloc(LISTS_MAX * HISTORY_VALUES_MAX * sizeof *self->lists);
    if (self->buffer == NULL || self->lists == NULL) {
        history_reader_close(self);
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    self->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (self->file == NULL) {
        err = err_set(info, err_from_errno(errno), "open: %s", strerror(errno));
        history_reader_close(self);
        return err;
    }
    err = read_first_line(self, info);
    if (err != ERR_OK) {
        history_reader_close(self);
        return err;
    }
    *ret_reader = self;
    return ERR_OK;
}

void history_reader_close(struct history_reader *self)
{
    if (self == NULL) {
        return;
    }
    if (self->file != NULL && self->file != stdin) {
        (void)fclose(self->file); /* It was only read. */
    }
    json_decref(self->object); /* NULL is fine. */
    free(self->lists);
    free(self->buffer);
    free(self);
}
