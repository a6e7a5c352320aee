#include "raft_fsm/command.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "raft_fsm/command_topic.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/unpack.h"
#include "replicated.pb-c.h"

enum { PAYLOAD_VERSION = 1 };

/* Where the fields stand; the diagram is in the header. */
enum {
    AT_VERSION = 0,
    AT_TIME = 8,
    AT_SIZE = 0,
    AT_TYPE = 4,
    AT_TOPIC_ID = 0,
    AT_BODY_DIGEST = 8,
    AT_NODE_ID = 0,
    AT_DISK_ID = 8,
    NODE_BIND_SIZE = 16,
    AT_TRIM_START = 8,
    AT_TRIM_BATCH_START = 16,
    AT_TRIM_DIGEST = 24,
    TRIM_SIZE = AT_TRIM_DIGEST + DIGEST_SIZE,
    AGE_SIZE = 8,
    AT_CLEAN_TO = 8,
    AT_TOMBSTONES_BELOW = 16,
    COMPACT_SIZE = 24,
    AT_CLAIM_ID = 0,
    AT_CLAIM_TOPIC_ID = 8,
    AT_CLAIM_EPOCH = 16,
    AT_CLAIM_HAS_EPOCH = 18,
    CLAIM_SIZE = 24,
};

enum {
    TYPE_PRODUCE_EXPECT = 6,
    EXPECT_SIZE = 8, /* in front of what a PRODUCE has */
};

_Static_assert(COMMAND_PAYLOAD_HEADER_SIZE % 8 == 0, "commands start aligned");
_Static_assert(COMMAND_HEADER_SIZE % 8 == 0, "bodies start aligned");
_Static_assert(COMMAND_PAYLOAD_HEADER_SIZE + COMMAND_HEADER_SIZE + EXPECT_SIZE +
                       COMMAND_PRODUCE_HEADER_SIZE + COMMAND_BATCH_SIZE_MAX <=
                   ENTRY_PAYLOAD_SIZE_MAX,
               "the largest batch fits an entry");

_Static_assert((int)CURSOR_EXPECT_ANY == (int)REPLICATED__CURSOR_EXPECT__CURSOR_EXPECT_ANY &&
                   (int)CURSOR_EXPECT_REVISION ==
                       (int)REPLICATED__CURSOR_EXPECT__CURSOR_EXPECT_REVISION &&
                   (int)CURSOR_EXPECT_OFFSET ==
                       (int)REPLICATED__CURSOR_EXPECT__CURSOR_EXPECT_OFFSET,
               "one set of numbers");

static bool all_zero(const uint8_t *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (from[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool name_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static enum err check_name(const char *what, const char *name, size_t size, struct err_info *info)
{
    if (size == 0) {
        return err_set(info, ERR_INVALID, "%s's name is empty", what);
    }
    if (size > TOPIC_NAME_SIZE_MAX) {
        return err_set(info, ERR_INVALID, "%s's name has %zu characters, more than %d", what, size,
                       TOPIC_NAME_SIZE_MAX);
    }
    for (size_t i = 0; i < size; i++) {
        if (!name_char(name[i])) {
            return err_set(info, ERR_INVALID,
                           "%s's name has letters, digits, '.', '_' and '-' only; "
                           "character %zu is another",
                           what, i + 1);
        }
    }
    if (name[0] == '-') {
        return err_set(info, ERR_INVALID, "%s's name does not start with '-'", what);
    }
    if (name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.'))) {
        return err_set(info, ERR_INVALID, "%s's name is not '.' or '..'", what);
    }
    return ERR_OK;
}

enum err topic_name_check(const char *name, size_t size, struct err_info *info)
{
    return check_name("a topic", name, size, info);
}

enum err cursor_name_check(const char *name, size_t size, struct err_info *info)
{
    _Static_assert(CURSOR_NAME_SIZE_MAX == TOPIC_NAME_SIZE_MAX, "one rule for both");
    return check_name("a cursor", name, size, info);
}

void command_fini(struct command *self)
{
    if (self->type == COMMAND_PRODUCE) {
        block_unref(self->produce.batch.block);
        self->produce.batch = (struct slice){0};
    }
}

/* ---- writing ---- */

static char *unchanged(const char *from)
{
    return (char *)(uintptr_t)from; /* Not written to. */
}

/* The message borrows from the change. */
static Replicated__CursorChange cursor_message(const struct command *command)
{
    const struct cursor_change *change = command->cursor;
    Replicated__CursorChange message = REPLICATED__CURSOR_CHANGE__INIT;

    ASSERT(command->type == COMMAND_CURSOR_SET || command->type == COMMAND_CURSOR_DELETE);
    ASSERT(change->topic[0] != '\0' && change->name[0] != '\0');
    message.topic = unchanged(change->topic);
    message.name = unchanged(change->name);
    message.expect = (Replicated__CursorExpect)change->expect;
    message.expected = change->expected;
    if (command->type == COMMAND_CURSOR_SET) {
        message.offset = change->offset;
        message.owner = change->owner;
        message.metadata = unchanged(change->metadata);
    }
    return message;
}

static size_t body_size(const struct command *self)
{
    Replicated__CursorChange cursor;

    switch (self->type) {
    case COMMAND_PRODUCE:
        return (self->produce.has_expect ? (size_t)EXPECT_SIZE : 0) + COMMAND_PRODUCE_HEADER_SIZE +
               self->produce.batch.size;
    case COMMAND_TOPIC_CREATE:
    case COMMAND_TOPIC_DELETE:
    case COMMAND_TOPIC_ALTER:
        return command_topic_size(self);
    case COMMAND_INIT_PRODUCER:
        return 0;
    case COMMAND_NODE_BIND:
        return NODE_BIND_SIZE;
    case COMMAND_CURSOR_SET:
    case COMMAND_CURSOR_DELETE:
        cursor = cursor_message(self);
        return replicated__cursor_change__get_packed_size(&cursor);
    case COMMAND_RAISE_EPOCH:
        return CLAIM_SIZE;
    case COMMAND_TOPIC_TRIM:
        return TRIM_SIZE;
    case COMMAND_AGE:
        return AGE_SIZE;
    case COMMAND_COMPACT:
        return COMPACT_SIZE;
    }
    ASSERT(false); /* There is no other type. */
    return 0;
}

static void put_claim(const struct producer_claim *claim, uint8_t *to)
{
    ASSERT(claim->id != 0);
    ASSERT(IMPLIES(!claim->has_epoch, claim->epoch == 0));
    memset(to, 0, CLAIM_SIZE);
    bytes_put_u64(to + AT_CLAIM_ID, claim->id);
    bytes_put_u64(to + AT_CLAIM_TOPIC_ID, claim->topic_id);
    bytes_put_u16(to + AT_CLAIM_EPOCH, claim->epoch);
    to[AT_CLAIM_HAS_EPOCH] = claim->has_epoch ? 1 : 0;
}

static void put_compact(const struct topic_compact *compact, uint8_t *to)
{
    ASSERT(compact->topic_id != 0);
    ASSERT(compact->tombstones_below <= compact->clean_to);
    bytes_put_u64(to + AT_TOPIC_ID, compact->topic_id);
    bytes_put_u64(to + AT_CLEAN_TO, compact->clean_to);
    bytes_put_u64(to + AT_TOMBSTONES_BELOW, compact->tombstones_below);
}

static void put_body(const struct command *self, uint8_t *to)
{
    Replicated__CursorChange cursor;

    switch (self->type) {
    case COMMAND_PRODUCE:
        if (self->produce.has_expect) {
            bytes_put_u64(to, self->produce.expect_offset);
            to += EXPECT_SIZE;
        }
        bytes_put_u64(to + AT_TOPIC_ID, self->produce.topic_id);
        memcpy(to + AT_BODY_DIGEST, self->produce.body_digest, DIGEST_SIZE);
        memcpy(to + COMMAND_PRODUCE_HEADER_SIZE, self->produce.batch.data,
               self->produce.batch.size);
        break;
    case COMMAND_TOPIC_CREATE:
    case COMMAND_TOPIC_DELETE:
    case COMMAND_TOPIC_ALTER:
        command_topic_put(self, to);
        break;
    case COMMAND_INIT_PRODUCER:
        break;
    case COMMAND_NODE_BIND:
        bytes_put_u64(to + AT_NODE_ID, self->node.id);
        bytes_put_u64(to + AT_DISK_ID, self->node.disk_id);
        break;
    case COMMAND_CURSOR_SET:
    case COMMAND_CURSOR_DELETE:
        cursor = cursor_message(self);
        (void)replicated__cursor_change__pack(&cursor, to); /* body_size bytes */
        break;
    case COMMAND_RAISE_EPOCH:
        put_claim(&self->claim, to);
        break;
    case COMMAND_TOPIC_TRIM:
        bytes_put_u64(to + AT_TOPIC_ID, self->trim.topic_id);
        bytes_put_u64(to + AT_TRIM_START, self->trim.start);
        bytes_put_u64(to + AT_TRIM_BATCH_START, self->trim.batch_start);
        memcpy(to + AT_TRIM_DIGEST, self->trim.digest, DIGEST_SIZE);
        break;
    case COMMAND_AGE:
        bytes_put_u64(to, self->elapsed_us);
        break;
    case COMMAND_COMPACT:
        put_compact(&self->compact, to);
        break;
    }
}

size_t command_encoded_size(const struct command *self)
{
    return COMMAND_HEADER_SIZE + bytes_round_up(body_size(self), 8);
}

size_t command_encode_header(int64_t time_us, uint8_t *to)
{
    memset(to, 0, COMMAND_PAYLOAD_HEADER_SIZE);
    to[AT_VERSION] = PAYLOAD_VERSION;
    bytes_put_u64(to + AT_TIME, (uint64_t)time_us);
    return COMMAND_PAYLOAD_HEADER_SIZE;
}

size_t command_encode(const struct command *self, uint8_t *to)
{
    size_t size = body_size(self);
    size_t end = COMMAND_HEADER_SIZE + bytes_round_up(size, 8);

    ASSERT(size <= ENTRY_PAYLOAD_SIZE_MAX);
    ASSERT(IMPLIES(self->type == COMMAND_PRODUCE,
                   self->produce.batch.size > BATCH_HEADER_SIZE &&
                       self->produce.batch.size <= COMMAND_BATCH_SIZE_MAX));
    memset(to, 0, COMMAND_HEADER_SIZE);
    bytes_put_u32(to + AT_SIZE, (uint32_t)size);
    to[AT_TYPE] = self->type == COMMAND_PRODUCE && self->produce.has_expect
                      ? (uint8_t)TYPE_PRODUCE_EXPECT
                      : (uint8_t)self->type;
    put_body(self, to + COMMAND_HEADER_SIZE);
    memset(to + COMMAND_HEADER_SIZE + size, 0, end - COMMAND_HEADER_SIZE - size);
    return end;
}

/* ---- reading ---- */

enum err command_reader_begin(struct command_reader *self, const uint8_t *payload, size_t size,
                              struct err_info *info)
{
    ASSERT(payload != NULL || size == 0);
    if (size < COMMAND_PAYLOAD_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "an entry's payload of %zu bytes has no header", size);
    }
    if (payload[AT_VERSION] != PAYLOAD_VERSION) {
        return err_set(info, ERR_VERSION,
                       "an entry's payload has version %u; this program knows version %d",
                       payload[AT_VERSION], PAYLOAD_VERSION);
    }
    if (!all_zero(payload + AT_VERSION + 1, AT_TIME - AT_VERSION - 1)) {
        return err_set(info, ERR_CORRUPT, "reserved bytes of an entry's payload are not zero");
    }
    *self = (struct command_reader){
        .data = payload,
        .size = size,
        .position = COMMAND_PAYLOAD_HEADER_SIZE,
        .time_us = (int64_t)bytes_get_u64(payload + AT_TIME),
    };
    return ERR_OK;
}

static enum err read_produce(const uint8_t *body, size_t size, struct command_view *ret_command,
                             struct err_info *info)
{
    const uint8_t *batch = body + COMMAND_PRODUCE_HEADER_SIZE;
    enum err err;

    if (size < COMMAND_PRODUCE_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "a produce command of %zu bytes is cut off", size);
    }
    size -= COMMAND_PRODUCE_HEADER_SIZE;
    err = batch_header_decode_produced(batch, size, COMMAND_BATCH_SIZE_MAX,
                                       &ret_command->produce.header, info);
    if (err != ERR_OK) {
        /* Whatever is wrong with it, the edge should have refused it. */
        (void)err_prefix(info, err, "a produce command");
        if (info != NULL) {
            info->code = ERR_CORRUPT;
        }
        return ERR_CORRUPT;
    }
    ASSERT(ret_command->produce.header.size == size);
    ret_command->produce.topic_id = bytes_get_u64(body + AT_TOPIC_ID);
    ret_command->produce.body_digest = body + AT_BODY_DIGEST;
    ret_command->produce.body = batch + BATCH_HEADER_SIZE;
    ret_command->produce.body_size = size - BATCH_HEADER_SIZE;
    return ERR_OK;
}

static enum err read_produce_expect(const uint8_t *body, size_t size,
                                    struct command_view *ret_command, struct err_info *info)
{
    if (size < EXPECT_SIZE) {
        return err_set(info, ERR_CORRUPT, "a produce command of %zu bytes is cut off", size);
    }
    ret_command->produce.has_expect = true;
    ret_command->produce.expect_offset = bytes_get_u64(body);
    return read_produce(body + EXPECT_SIZE, size - EXPECT_SIZE, ret_command, info);
}

static enum err read_claim(const uint8_t *body, size_t size, struct producer_claim *ret_claim,
                           struct err_info *info)
{
    if (size != CLAIM_SIZE || body[AT_CLAIM_HAS_EPOCH] > 1 ||
        !all_zero(body + AT_CLAIM_HAS_EPOCH + 1, CLAIM_SIZE - AT_CLAIM_HAS_EPOCH - 1)) {
        return err_set(info, ERR_CORRUPT, "a raise-epoch command of %zu bytes makes no sense",
                       size);
    }
    *ret_claim = (struct producer_claim){
        .id = bytes_get_u64(body + AT_CLAIM_ID),
        .topic_id = bytes_get_u64(body + AT_CLAIM_TOPIC_ID),
        .epoch = bytes_get_u16(body + AT_CLAIM_EPOCH),
        .has_epoch = body[AT_CLAIM_HAS_EPOCH] == 1,
    };
    if (ret_claim->id == 0 || (!ret_claim->has_epoch && ret_claim->epoch != 0)) {
        return err_set(info, ERR_CORRUPT, "a raise-epoch command makes no sense");
    }
    return ERR_OK;
}

static enum err read_node(const uint8_t *body, size_t size, struct command_view *ret_command,
                          struct err_info *info)
{
    if (size != NODE_BIND_SIZE) {
        return err_set(info, ERR_CORRUPT, "a node-bind command has a body of %zu bytes", size);
    }
    ret_command->node = (struct node_disk){.id = bytes_get_u64(body + AT_NODE_ID),
                                           .disk_id = bytes_get_u64(body + AT_DISK_ID)};
    if (ret_command->node.id == 0 || ret_command->node.disk_id == 0) {
        return err_set(info, ERR_CORRUPT, "a node-bind command names no node or no disk");
    }
    return ERR_OK;
}

static enum err read_trim(const uint8_t *body, size_t size, struct topic_trim *ret_trim,
                          struct err_info *info)
{
    if (size != TRIM_SIZE) {
        return err_set(info, ERR_CORRUPT, "a trim command has a body of %zu bytes", size);
    }
    *ret_trim = (struct topic_trim){.topic_id = bytes_get_u64(body + AT_TOPIC_ID),
                                    .start = bytes_get_u64(body + AT_TRIM_START),
                                    .batch_start = bytes_get_u64(body + AT_TRIM_BATCH_START)};
    memcpy(ret_trim->digest, body + AT_TRIM_DIGEST, DIGEST_SIZE);
    return ERR_OK;
}

static enum err read_age(const uint8_t *body, size_t size, uint64_t *ret_elapsed_us,
                         struct err_info *info)
{
    if (size != AGE_SIZE) {
        return err_set(info, ERR_CORRUPT, "an age command has a body of %zu bytes", size);
    }
    *ret_elapsed_us = bytes_get_u64(body);
    return ERR_OK;
}

static enum err read_compact(const uint8_t *body, size_t size, struct topic_compact *ret_compact,
                             struct err_info *info)
{
    if (size != COMPACT_SIZE) {
        return err_set(info, ERR_CORRUPT, "a compact command has a body of %zu bytes", size);
    }
    *ret_compact = (struct topic_compact){
        .topic_id = bytes_get_u64(body + AT_TOPIC_ID),
        .clean_to = bytes_get_u64(body + AT_CLEAN_TO),
        .tombstones_below = bytes_get_u64(body + AT_TOMBSTONES_BELOW),
    };
    if (ret_compact->topic_id == 0 || ret_compact->tombstones_below > ret_compact->clean_to) {
        return err_set(info, ERR_CORRUPT, "a compact command makes no sense");
    }
    return ERR_OK;
}

static enum err check_cursor(enum command_type type, const Replicated__CursorChange *message,
                             size_t size, struct err_info *info)
{
    if (message->base.n_unknown_fields > 0) {
        return err_set(info, ERR_VERSION, "a cursor command has fields that are not known");
    }
    if (message->expect != REPLICATED__CURSOR_EXPECT__CURSOR_EXPECT_ANY &&
        message->expect != REPLICATED__CURSOR_EXPECT__CURSOR_EXPECT_REVISION &&
        message->expect != REPLICATED__CURSOR_EXPECT__CURSOR_EXPECT_OFFSET) {
        return err_set(info, ERR_VERSION, "a cursor command expects what is not known: %d",
                       (int)message->expect);
    }
    if (replicated__cursor_change__get_packed_size(message) != size ||
        strlen(message->metadata) > CURSOR_METADATA_SIZE_MAX ||
        (type == COMMAND_CURSOR_DELETE &&
         (message->offset != 0 || message->owner != 0 || message->metadata[0] != '\0'))) {
        return err_set(info, ERR_CORRUPT, "a cursor command that no node makes");
    }
    if (topic_name_check(message->topic, strlen(message->topic), NULL) != ERR_OK ||
        cursor_name_check(message->name, strlen(message->name), NULL) != ERR_OK) {
        return err_set(info, ERR_CORRUPT,
                       "a cursor command has a name that no topic or cursor may have");
    }
    return ERR_OK;
}

static enum err read_cursor(enum command_type type, const uint8_t *body, size_t size,
                            struct cursor_change *ret_change, struct err_info *info)
{
    /* Longer than any, so that what follows allocates little. */
    const size_t size_max = 4096;
    Replicated__CursorChange *message;
    ProtobufCMessage *unpacked;
    enum err err;

    ASSERT(type == COMMAND_CURSOR_SET || type == COMMAND_CURSOR_DELETE);
    err = size <= size_max ? unpack(&replicated__cursor_change__descriptor, body, size, &unpacked)
                           : ERR_CORRUPT;
    if (err != ERR_OK) {
        return err_set(info, err, "a cursor command of %zu bytes does not decode", size);
    }
    message = (Replicated__CursorChange *)unpacked;
    err = check_cursor(type, message, size, info);
    if (err == ERR_OK) {
        *ret_change = (struct cursor_change){.expect = (enum cursor_expect)message->expect,
                                             .expected = message->expected,
                                             .offset = message->offset,
                                             .owner = message->owner};
        /* The sizes are checked. */
        memcpy(ret_change->topic, message->topic, strlen(message->topic));
        memcpy(ret_change->name, message->name, strlen(message->name));
        memcpy(ret_change->metadata, message->metadata, strlen(message->metadata));
    }
    protobuf_c_message_free_unpacked(unpacked, NULL);
    return err;
}

static enum err read_body(struct command_reader *self, const uint8_t *body, size_t size,
                          struct command_view *ret_command, struct err_info *info)
{
    uint8_t type = (uint8_t)ret_command->type;

    switch (type) {
    case COMMAND_PRODUCE:
        return read_produce(body, size, ret_command, info);
    case COMMAND_TOPIC_CREATE:
    case COMMAND_TOPIC_DELETE:
    case COMMAND_TOPIC_ALTER:
        return command_topic_read(body, size, ret_command, &self->change, info);
    case COMMAND_INIT_PRODUCER:
        if (size != 0) {
            return err_set(info, ERR_CORRUPT, "an init-producer command has a body of %zu bytes",
                           size);
        }
        return ERR_OK;
    case COMMAND_NODE_BIND:
        return read_node(body, size, ret_command, info);
    case COMMAND_CURSOR_SET:
    case COMMAND_CURSOR_DELETE:
        ret_command->cursor = &self->cursor;
        return read_cursor(ret_command->type, body, size, &self->cursor, info);
    case COMMAND_RAISE_EPOCH:
        return read_claim(body, size, &ret_command->claim, info);
    case COMMAND_TOPIC_TRIM:
        return read_trim(body, size, &ret_command->trim, info);
    case COMMAND_AGE:
        return read_age(body, size, &ret_command->elapsed_us, info);
    case COMMAND_COMPACT:
        return read_compact(body, size, &ret_command->compact, info);
    case TYPE_PRODUCE_EXPECT:
        ret_command->type = COMMAND_PRODUCE;
        return read_produce_expect(body, size, ret_command, info);
    default:
        return err_set(info, ERR_VERSION, "a command of type %u is not known", type);
    }
}

enum err command_reader_next(struct command_reader *self, struct command_view *ret_command,
                             struct err_info *info)
{
    const uint8_t *at = self->data + self->position;
    size_t left = self->size - self->position;
    struct command_view command = {0};
    size_t size;
    size_t end;
    enum err err;

    ASSERT(self->position >= COMMAND_PAYLOAD_HEADER_SIZE && self->position <= self->size);
    if (left == 0) {
        return ERR_AGAIN;
    }
    if (self->count == COMMAND_COUNT_MAX) {
        return err_set(info, ERR_CORRUPT, "an entry with more than %d commands", COMMAND_COUNT_MAX);
    }
    if (left < COMMAND_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "the header of a command is cut off");
    }
    size = bytes_get_u32(at + AT_SIZE);
    if (size > left - COMMAND_HEADER_SIZE || bytes_round_up(size, 8) > left - COMMAND_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "a command of %zu bytes is cut off", size);
    }
    end = COMMAND_HEADER_SIZE + bytes_round_up(size, 8);
    if (!all_zero(at + AT_TYPE + 1, COMMAND_HEADER_SIZE - AT_TYPE - 1) ||
        !all_zero(at + COMMAND_HEADER_SIZE + size, end - COMMAND_HEADER_SIZE - size)) {
        return err_set(info, ERR_CORRUPT, "reserved bytes of a command are not zero");
    }
    command.type = (enum command_type)at[AT_TYPE];
    err = read_body(self, at + COMMAND_HEADER_SIZE, size, &command, info);
    if (err != ERR_OK) {
        return err;
    }
    self->position += end;
    self->count++;
    *ret_command = command;
    return ERR_OK;
}

bool command_next_binding(const uint8_t *payload, size_t size, size_t *position,
                          struct node_disk *ret_node)
{
    size_t at = *position == 0 ? (size_t)COMMAND_PAYLOAD_HEADER_SIZE : *position;

    if (size < COMMAND_PAYLOAD_HEADER_SIZE || payload[AT_VERSION] != PAYLOAD_VERSION) {
        return false;
    }
    while (at <= size && size - at >= COMMAND_HEADER_SIZE) {
        const uint8_t *body = payload + at + COMMAND_HEADER_SIZE;
        uint64_t body_size = bytes_get_u32(payload + at + AT_SIZE);
        uint8_t type = payload[at + AT_TYPE];

        if (bytes_round_up(body_size, 8) > size - at - COMMAND_HEADER_SIZE) {
            return false;
        }
        at += COMMAND_HEADER_SIZE + bytes_round_up(body_size, 8);
        if (type == COMMAND_NODE_BIND && body_size == NODE_BIND_SIZE) {
            *ret_node =
                (struct node_disk){.id = bytes_get_u64(body), .disk_id = bytes_get_u64(body + 8)};
            *position = at;
            return true;
        }
    }
    return false;
}
