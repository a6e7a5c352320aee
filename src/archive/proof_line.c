#include "archive/proof_line.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/assert.h"

enum { LINE_SIZE_MAX = 2 * PROOF_BATCH_SIZE_MAX + 1024 };

void proof_lines_init(struct proof_lines *self, FILE *file)
{
    ASSERT(file != NULL);
    *self = (struct proof_lines){.file = file};
    buf_init(&self->line, LINE_SIZE_MAX);
}

void proof_lines_fini(struct proof_lines *self)
{
    buf_fini(&self->line);
    ASSERT(self->line.size == 0);
}

static enum err wrong(const struct proof_lines *self, enum err err, const char *what,
                      struct err_info *info)
{
    return err_set(info, err, "line %" PRIu64 " of the proof: %s", self->number, what);
}

enum err proof_next_line(struct proof_lines *self, struct err_info *info)
{
    char part[4096];

    buf_consume(&self->line, self->line.size);
    self->number++;
    while (self->line.size == 0 || self->line.data[self->line.size - 1] != '\n') {
        size_t size = 0;
        int c = 0;
        enum err err;

        while (size < sizeof part && c != '\n' && (c = getc(self->file)) != EOF) {
            part[size++] = (char)c;
        }
        if (size == 0 && ferror(self->file)) {
            return wrong(self, ERR_IO, "it cannot be read", info);
        }
        if (size == 0) {
            return self->line.size == 0 ? ERR_AGAIN
                                        : wrong(self, ERR_CORRUPT, "it has no end", info);
        }
        err = buf_append(&self->line, part, size);
        if (err == ERR_TOO_LARGE) {
            return wrong(self, ERR_CORRUPT, "it is too long", info);
        }
        if (err != ERR_OK) {
            return err_set(info, err, "out of memory");
        }
    }
    return ERR_OK;
}

/* The present line as an object with `count` members; NULL, and the reason, when it is not. */
static json_t *parse(const struct proof_lines *self, size_t count, struct err_info *info)
{
    json_t *object =
        json_loadb((const char *)self->line.data, self->line.size, JSON_REJECT_DUPLICATES, NULL);

    if (object == NULL || !json_is_object(object) ||
        (count > 0 && json_object_size(object) != count)) {
        (void)wrong(self, ERR_CORRUPT, "it is not what stands in a proof there", info);
        json_decref(object);
        return NULL;
    }
    return object;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The member's bytes, which are `size`. False for anything else. */
static bool get_hex(const json_t *object, const char *name, uint8_t *ret_bytes, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));

    if (text == NULL || strlen(text) != 2 * size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        int high = digit(text[2 * i]);
        int low = digit(text[2 * i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        ret_bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool get_number(const json_t *object, const char *name, uint64_t *ret_number)
{
    const json_t *number = json_object_get(object, name);

    if (!json_is_integer(number) || json_integer_value(number) < 0) {
        return false;
    }
    *ret_number = (uint64_t)json_integer_value(number);
    return true;
}

static enum err get_batch(const json_t *object, struct buf *ret_batch)
{
    const char *text = json_string_value(json_object_get(object, "batch"));
    size_t size = text == NULL ? 0 : strlen(text) / 2;
    enum err err;

    buf_init(ret_batch, PROOF_BATCH_SIZE_MAX);
    if (size == 0) {
        return ERR_CORRUPT;
    }
    err = buf_reserve(ret_batch, size);
    if (err == ERR_OK && !get_hex(object, "batch", ret_batch->data, size)) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        ret_batch->size = size;
    } else {
        buf_fini(ret_batch);
    }
    return err == ERR_TOO_LARGE ? ERR_CORRUPT : err;
}

enum err proof_parse_first(const struct proof_lines *self, struct proof_first *ret_first,
                           struct err_info *info)
{
    json_t *object = parse(self, 5, info);
    struct proof_first first = {.offset = 0};
    const char *topic;
    uint64_t version = 0;
    enum err err = ERR_CORRUPT;

    if (object == NULL) {
        return ERR_CORRUPT;
    }
    topic = json_string_value(json_object_get(object, "topic"));
    if (!get_number(object, "quorlog_proof", &version)) {
        (void)wrong(self, err, "this is no proof", info);
        goto out;
    }
    if (version != 1) {
        err = wrong(self, ERR_VERSION, "the proof's version is not 1", info);
        goto out;
    }
    if (topic != NULL && strlen(topic) < sizeof first.topic &&
        get_number(object, "offset", &first.offset) &&
        get_hex(object, "previous", first.previous, DIGEST_SIZE)) {
        err = get_batch(object, &first.batch);
    }
    if (err == ERR_OK) {
        memcpy(first.topic, topic, strlen(topic) + 1);
        *ret_first = first;
    } else {
        (void)wrong(self, err, "a member is missing, or is not what it should be", info);
    }
out:
    json_decref(object);
    return err;
}

enum err proof_parse_link(const struct proof_lines *self, uint8_t *ret_fields, uint8_t *ret_body,
                          struct err_info *info)
{
    json_t *object = parse(self, 2, info);
    bool good;

    if (object == NULL) {
        return ERR_CORRUPT;
    }
    good = get_hex(object, "fields", ret_fields, BATCH_DIGESTED_TO - BATCH_DIGESTED_FROM) &&
           get_hex(object, "body", ret_body, DIGEST_SIZE);
    json_decref(object);
    return good ? ERR_OK : wrong(self, ERR_CORRUPT, "it is no link of the chain", info);
}

enum err proof_parse_head(const struct proof_lines *self, bool *ret_head, uint64_t *ret_offset,
                          uint8_t ret_digest[DIGEST_SIZE], struct err_info *info)
{
    json_t *object = parse(self, 0, info);
    const json_t *head;
    bool good = true;

    if (object == NULL) {
        return ERR_CORRUPT;
    }
    head = json_object_get(object, "head");
    *ret_head = head != NULL;
    if (head != NULL) {
        good = json_object_size(object) == 1 && json_object_size(head) == 2 &&
               get_number(head, "offset", ret_offset) &&
               get_hex(head, "digest", ret_digest, DIGEST_SIZE);
    }
    json_decref(object);
    return good ? ERR_OK : wrong(self, ERR_CORRUPT, "it is no head", info);
}
