#include "raft_fsm/message.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "raft_fsm/membership.h"

enum {
    POSITION_TYPE = 0,
    POSITION_FLAGS = 1,
    POSITION_FROM = 8,
    POSITION_TO = 16,
    POSITION_TERM = 24,
    POSITION_FIELDS = 32,
    FIELD_COUNT = 4,
};

_Static_assert(POSITION_FIELDS + FIELD_COUNT * 8 == MESSAGE_HEADER_SIZE, "the diagram's sum");

enum {
    FLAG_STALE = 1,   /* APPEND_RESULT */
    FLAG_HOLES = 2,   /* APPEND_RESULT */
    FLAG_NO_ROOM = 4, /* APPEND_RESULT */
    FLAG_PRE = 1,     /* VOTE, VOTE_RESULT */
    FLAG_DISRUPT = 2, /* VOTE */
    FLAG_GRANTED = 2, /* VOTE_RESULT */
};

/* What a header of each type may hold. */
static const struct shape {
    uint8_t flags;  /* the ones that exist */
    uint8_t fields; /* how many of a to d are in use; the others are zero */
    bool body;      /* may have one */
    bool known;     /* there is such a type */
} shapes[] = {
    [MESSAGE_APPEND] = {.known = true, .fields = 4, .body = true},
    [MESSAGE_APPEND_RESULT] = {.known = true,
                               .flags = FLAG_STALE | FLAG_HOLES | FLAG_NO_ROOM,
                               .fields = 2},
    [MESSAGE_VOTE] = {.known = true, .flags = FLAG_PRE | FLAG_DISRUPT, .fields = 2},
    [MESSAGE_VOTE_RESULT] = {.known = true, .flags = FLAG_PRE | FLAG_GRANTED, .fields = 0},
    [MESSAGE_SNAPSHOT] = {.known = true, .fields = 4, .body = true},
    [MESSAGE_TIMEOUT_NOW] = {.known = true, .fields = 2},
    [MESSAGE_FETCH] = {.known = true, .fields = 4},
    [MESSAGE_FETCH_RESULT] = {.known = true, .fields = 4, .body = true},
    [MESSAGE_CONFIRM] = {.known = true, .fields = 1},
    [MESSAGE_CONFIRM_RESULT] = {.known = true, .fields = 1},
    [MESSAGE_CLEANED] = {.known = true, .fields = 2},
};

/* ---- ownership ---- */

static void slice_fini(struct slice *slice)
{
    block_unref(slice->block);
    *slice = (struct slice){.block = NULL};
}

static void slice_ref(const struct slice *slice)
{
    if (slice->block != NULL) {
        block_ref(slice->block);
    }
}

void message_fini(struct message *self)
{
    if (self->type == MESSAGE_APPEND) {
        for (unsigned i = 0; i < self->append.count; i++) {
            entry_unref(&self->append.entries[i]);
        }
        free(self->append.entries);
    } else if (self->type == MESSAGE_SNAPSHOT) {
        slice_fini(&self->snapshot.membership);
        slice_fini(&self->snapshot.manifest);
    } else if (self->type == MESSAGE_FETCH_RESULT) {
        slice_fini(&self->fetch_result.batches);
    }
    memset(self, 0, sizeof *self);
}

enum err message_copy(const struct message *self, struct message *ret_message)
{
    struct message copy = *self;

    if (self->type == MESSAGE_APPEND && self->append.count > 0) {
        size_t size = self->append.count * sizeof self->append.entries[0];

        copy.append.entries = malloc(size);
        if (copy.append.entries == NULL) {
            return ERR_NOMEM;
        }
        memcpy(copy.append.entries, self->append.entries, size);
        for (unsigned i = 0; i < copy.append.count; i++) {
            entry_ref(&copy.append.entries[i]);
        }
    } else if (self->type == MESSAGE_SNAPSHOT) {
        slice_ref(&self->snapshot.membership);
        slice_ref(&self->snapshot.manifest);
    } else if (self->type == MESSAGE_FETCH_RESULT) {
        slice_ref(&self->fetch_result.batches);
    }
    *ret_message = copy;
    return ERR_OK;
}

/* ---- encoding ---- */

static uint8_t flag(bool set, int bit)
{
    return set ? (uint8_t)bit : 0;
}

/* The flags and fields of self's type. */
static uint8_t header_fields(const struct message *self, uint64_t fields[FIELD_COUNT])
{
    switch (self->type) {
    case MESSAGE_APPEND:
        fields[0] = self->append.prev_index;
        fields[1] = self->append.prev_term;
        fields[2] = self->append.commit;
        fields[3] = self->append.count;
        return 0;
    case MESSAGE_APPEND_RESULT:
        fields[0] = self->append_result.rejected;
        fields[1] = self->append_result.last_index;
        return flag(self->append_result.stale, FLAG_STALE) |
               flag(self->append_result.holes, FLAG_HOLES) |
               flag(self->append_result.no_room, FLAG_NO_ROOM);
    case MESSAGE_VOTE:
        fields[0] = self->vote.last_index;
        fields[1] = self->vote.last_term;
        return flag(self->vote.pre_vote, FLAG_PRE) | flag(self->vote.disrupt_leader, FLAG_DISRUPT);
    case MESSAGE_VOTE_RESULT:
        return flag(self->vote_result.pre_vote, FLAG_PRE) |
               flag(self->vote_result.granted, FLAG_GRANTED);
    case MESSAGE_SNAPSHOT:
        fields[0] = self->snapshot.index;
        fields[1] = self->snapshot.term;
        fields[2] = self->snapshot.membership_index;
        fields[3] = self->snapshot.membership.size;
        return 0;
    case MESSAGE_TIMEOUT_NOW:
        fields[0] = self->timeout_now.last_index;
        fields[1] = self->timeout_now.last_term;
        return 0;
    case MESSAGE_FETCH:
        fields[0] = self->fetch.topic_id;
        fields[1] = self->fetch.offset;
        fields[2] = self->fetch.end;
        fields[3] = self->fetch.size_max;
        return 0;
    case MESSAGE_FETCH_RESULT:
        fields[0] = self->fetch_result.topic_id;
        fields[1] = self->fetch_result.offset;
        fields[2] = self->fetch_result.end;
        fields[3] = (uint64_t)(int64_t)self->fetch_result.err;
        return 0;
    case MESSAGE_CONFIRM:
    case MESSAGE_CONFIRM_RESULT:
        fields[0] = self->confirm.round;
        return 0;
    case MESSAGE_CLEANED:
        fields[0] = self->cleaned.topic_id;
        fields[1] = self->cleaned.cleaned_to;
        return 0;
    }
    ASSERT(false); /* A message has a type. */
    return 0;
}

static enum err add_slice(struct slice slice, struct slice *slices, unsigned slices_max,
                          unsigned *count)
{
    struct slice *last = *count > 0 ? &slices[*count - 1] : NULL;

    if (slice.size == 0) {
        return ERR_OK;
    }
    if (last != NULL && last->block == slice.block && last->data + last->size == slice.data) {
        last->size += slice.size;
        return ERR_OK;
    }
    if (*count == slices_max) {
        return ERR_TOO_LARGE;
    }
    slices[(*count)++] = slice;
    return ERR_OK;
}

static enum err body_slices(const struct message *self, struct slice *slices, unsigned slices_max,
                            unsigned *count)
{
    enum err err = ERR_OK;

    if (self->type == MESSAGE_APPEND) {
        ASSERT(self->append.count <= MESSAGE_ENTRIES_MAX);
        for (unsigned i = 0; i < self->append.count && err == ERR_OK; i++) {
            const struct entry *entry = &self->append.entries[i];
            struct slice slice = {
                .block = entry->block, .data = entry->frame, .size = entry_frame_size(entry->size)};

            ASSERT(entry->index == self->append.prev_index + 1 + i);
            err = add_slice(slice, slices, slices_max, count);
        }
    } else if (self->type == MESSAGE_SNAPSHOT) {
        err = add_slice(self->snapshot.membership, slices, slices_max, count);
        if (err == ERR_OK) {
            err = add_slice(self->snapshot.manifest, slices, slices_max, count);
        }
    } else if (self->type == MESSAGE_FETCH_RESULT) {
        ASSERT(IMPLIES(self->fetch_result.err != ERR_OK, self->fetch_result.batches.size == 0));
        err = add_slice(self->fetch_result.batches, slices, slices_max, count);
    }
    return err;
}

enum err message_encode(const struct message *self, uint8_t ret_header[MESSAGE_HEADER_SIZE],
                        struct slice *ret_slices, unsigned slices_max, unsigned *ret_count)
{
    uint64_t fields[FIELD_COUNT] = {0};
    unsigned count = 0;
    enum err err;

    ASSERT(self->from > 0 && self->to > 0);
    err = body_slices(self, ret_slices, slices_max, &count);
    if (err != ERR_OK) {
        return err;
    }
    memset(ret_header, 0, MESSAGE_HEADER_SIZE);
    ret_header[POSITION_TYPE] = (uint8_t)self->type;
    ret_header[POSITION_FLAGS] = header_fields(self, fields);
    bytes_put_u64(ret_header + POSITION_FROM, self->from);
    bytes_put_u64(ret_header + POSITION_TO, self->to);
    bytes_put_u64(ret_header + POSITION_TERM, self->term);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        bytes_put_u64(ret_header + POSITION_FIELDS + i * 8, fields[i]);
    }
    *ret_count = count;
    return ERR_OK;
}

/* ---- decoding ---- */

struct input {
    uint8_t flags;
    uint64_t fields[FIELD_COUNT];
    struct block *block;
    const uint8_t *body;
    size_t body_size;
    size_t position; /* in block: of the next entry */
};

/* Type, flags, reserved bytes and unused fields. */
static enum err decode_header(const uint8_t *header, size_t size, struct input *input,
                              struct message *message, struct err_info *info)
{
    const struct shape *shape;
    uint8_t type;

    if (size != MESSAGE_HEADER_SIZE) {
        return err_set(info, ERR_PROTOCOL, "a message header of %zu bytes", size);
    }
    type = header[POSITION_TYPE];
    if (type < MESSAGE_APPEND || type > MESSAGE_CLEANED || !shapes[type].known) {
        return err_set(info, ERR_PROTOCOL, "a message of unknown type %u", type);
    }
    shape = &shapes[type];
    input->flags = header[POSITION_FLAGS];
    if ((input->flags & ~shape->flags) != 0) {
        return err_set(info, ERR_PROTOCOL, "a message with unknown flags 0x%02x", input->flags);
    }
    for (size_t i = POSITION_FLAGS + 1; i < POSITION_FROM; i++) {
        if (header[i] != 0) {
            return err_set(info, ERR_PROTOCOL, "reserved bytes of a message are not zero");
        }
    }
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        input->fields[i] = bytes_get_u64(header + POSITION_FIELDS + i * 8);
        if (i >= shape->fields && input->fields[i] != 0) {
            return err_set(info, ERR_PROTOCOL, "unused fields of a message are not zero");
        }
    }
    if (!shape->body && input->body_size > 0) {
        return err_set(info, ERR_PROTOCOL, "a message of type %u with a body", type);
    }
    message->type = (enum message_type)type;
    message->from = bytes_get_u64(header + POSITION_FROM);
    message->to = bytes_get_u64(header + POSITION_TO);
    message->term = bytes_get_u64(header + POSITION_TERM);
    if (message->from == 0 || message->to == 0) {
        return err_set(info, ERR_PROTOCOL, "a message from or to no one");
    }
    return ERR_OK;
}

/* The entry at input->position, to follow `index - 1` of term `term_min`. */
static enum err decode_entry(struct input *input, uint64_t index, uint64_t term_min,
                             uint64_t term_max, struct entry *ret_entry, struct err_info *info)
{
    size_t end = (size_t)(input->body - input->block->data) + input->body_size;
    struct membership membership;
    struct entry entry;
    enum err err;

    err = entry_parse(input->block, input->position, end, ENTRY_PAYLOAD_SIZE_MAX, &entry, info);
    if (err != ERR_OK) {
        return err;
    }
    if (entry.index != index || entry.term < term_min || entry.term > term_max) {
        err = err_set(info, ERR_CORRUPT, "entry %llu of term %llu does not belong at %llu",
                      (unsigned long long)entry.index, (unsigned long long)entry.term,
                      (unsigned long long)index);
    } else if (entry.type == ENTRY_CHANGE) {
        err = membership_decode(entry_payload(&entry), entry.size, &membership, info);
    }
    if (err != ERR_OK) {
        entry_unref(&entry);
        return err;
    }
    input->position += entry_frame_size(entry.size);
    *ret_entry = entry;
    return ERR_OK;
}

static enum err decode_entries(struct input *input, unsigned count, struct message *message,
                               struct err_info *info)
{
    size_t start = (size_t)(input->body - input->block->data);
    uint64_t term = message->append.prev_term;
    struct entry *entries;

    entries = malloc(count * sizeof *entries);
    if (entries == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for %u entries", count);
    }
    message->append.entries = entries;
    input->position = start;
    for (unsigned i = 0; i < count; i++) {
        enum err err = decode_entry(input, message->append.prev_index + 1 + i, term, message->term,
                                    &entries[i], info);

        if (err != ERR_OK) {
            return err;
        }
        term = entries[i].term;
        message->append.count = i + 1; /* What message_fini has to release. */
    }
    if (input->position != start + input->body_size) {
        return err_set(info, ERR_PROTOCOL, "bytes behind the entries of a message");
    }
    return ERR_OK;
}

static enum err decode_append(struct input *input, struct message *message, struct err_info *info)
{
    uint64_t count = input->fields[3];

    message->append.prev_index = input->fields[0];
    message->append.prev_term = input->fields[1];
    message->append.commit = input->fields[2];
    if (count > MESSAGE_ENTRIES_MAX || count > input->body_size / ENTRY_HEADER_SIZE) {
        return err_set(info, ERR_PROTOCOL, "%llu entries in a message of %zu bytes",
                       (unsigned long long)count, input->body_size);
    }
    if (message->append.prev_index > UINT64_MAX - 1 - MESSAGE_ENTRIES_MAX ||
        message->append.prev_term > message->term ||
        (message->append.prev_index == 0 && message->append.prev_term != 0)) {
        return err_set(info, ERR_PROTOCOL, "entries after %llu of term %llu in term %llu",
                       (unsigned long long)message->append.prev_index,
                       (unsigned long long)message->append.prev_term,
                       (unsigned long long)message->term);
    }
    if (count == 0) {
        return input->body_size == 0
                   ? ERR_OK
                   : err_set(info, ERR_PROTOCOL, "bytes behind the entries of a message");
    }
    return decode_entries(input, (unsigned)count, message, info);
}

static struct slice body_slice(const struct input *input, size_t from, size_t size)
{
    if (size == 0) {
        return (struct slice){.block = NULL};
    }
    return (struct slice){
        .block = block_ref(input->block), .data = input->body + from, .size = size};
}

static enum err decode_snapshot(const struct input *input, struct message *message,
                                struct err_info *info)
{
    struct membership membership;
    size_t size;
    enum err err;

    if (input->fields[3] > input->body_size) {
        return err_set(info, ERR_PROTOCOL, "the membership of a snapshot is cut off");
    }
    size = (size_t)input->fields[3];
    if (input->fields[0] == 0 || input->fields[2] > input->fields[0] ||
        input->fields[1] > message->term) {
        return err_set(info, ERR_PROTOCOL, "a snapshot at %llu of term %llu, membership of %llu",
                       (unsigned long long)input->fields[0], (unsigned long long)input->fields[1],
                       (unsigned long long)input->fields[2]);
    }
    err = membership_decode(input->body, size, &membership, info);
    if (err != ERR_OK) {
        return err;
    }
    message->snapshot = (struct snapshot){
        .index = input->fields[0],
        .term = input->fields[1],
        .membership_index = input->fields[2],
        .membership = body_slice(input, 0, size),
        .manifest = body_slice(input, size, input->body_size - size),
    };
    return ERR_OK;
}

static enum err decode_fetch_result(const struct input *input, struct message *message,
                                    struct err_info *info)
{
    int64_t number = (int64_t)input->fields[3];
    enum err code;

    if (number < INT_MIN || number > INT_MAX || !err_from_number((int)number, &code)) {
        return err_set(info, ERR_PROTOCOL, "an unknown error code %lld", (long long)number);
    }
    if (code != ERR_OK && input->body_size > 0) {
        return err_set(info, ERR_PROTOCOL, "an error with a body");
    }
    if (code == ERR_OK && input->fields[2] < input->fields[1]) {
        return err_set(info, ERR_PROTOCOL, "offsets from %llu to %llu",
                       (unsigned long long)input->fields[1], (unsigned long long)input->fields[2]);
    }
    message->fetch_result.topic_id = input->fields[0];
    message->fetch_result.offset = input->fields[1];
    message->fetch_result.end = input->fields[2];
    message->fetch_result.err = code;
    message->fetch_result.batches = body_slice(input, 0, input->body_size);
    return ERR_OK;
}

static enum err decode_rest(struct input *input, struct message *message, struct err_info *info)
{
    switch (message->type) {
    case MESSAGE_APPEND:
        return decode_append(input, message, info);
    case MESSAGE_APPEND_RESULT:
        message->append_result.rejected = input->fields[0];
        message->append_result.last_index = input->fields[1];
        message->append_result.stale = (input->flags & FLAG_STALE) != 0;
        message->append_result.holes = (input->flags & FLAG_HOLES) != 0;
        message->append_result.no_room = (input->flags & FLAG_NO_ROOM) != 0;
        return ERR_OK;
    case MESSAGE_VOTE:
        message->vote.last_index = input->fields[0];
        message->vote.last_term = input->fields[1];
        message->vote.pre_vote = (input->flags & FLAG_PRE) != 0;
        message->vote.disrupt_leader = (input->flags & FLAG_DISRUPT) != 0;
        return ERR_OK;
    case MESSAGE_VOTE_RESULT:
        message->vote_result.pre_vote = (input->flags & FLAG_PRE) != 0;
        message->vote_result.granted = (input->flags & FLAG_GRANTED) != 0;
        return ERR_OK;
    case MESSAGE_SNAPSHOT:
        return decode_snapshot(input, message, info);
    case MESSAGE_TIMEOUT_NOW:
        message->timeout_now.last_index = input->fields[0];
        message->timeout_now.last_term = input->fields[1];
        return ERR_OK;
    case MESSAGE_FETCH:
        message->fetch.topic_id = input->fields[0];
        message->fetch.offset = input->fields[1];
        message->fetch.end = input->fields[2];
        message->fetch.size_max = input->fields[3];
        return ERR_OK;
    case MESSAGE_FETCH_RESULT:
        return decode_fetch_result(input, message, info);
    case MESSAGE_CONFIRM:
    case MESSAGE_CONFIRM_RESULT:
        message->confirm.round = input->fields[0];
        return input->fields[0] > 0 ? ERR_OK
                                    : err_set(info, ERR_PROTOCOL, "a confirmation of no round");
    case MESSAGE_CLEANED:
        message->cleaned.topic_id = input->fields[0];
        message->cleaned.cleaned_to = input->fields[1];
        return input->fields[0] > 0 ? ERR_OK : err_set(info, ERR_PROTOCOL, "a report of no topic");
    }
    ASSERT(false); /* decode_header lets only known types through. */
    return ERR_PROTOCOL;
}

enum err message_decode(const uint8_t *header, size_t header_size, struct block *block,
                        const uint8_t *body, size_t body_size, struct message *ret_message,
                        struct err_info *info)
{
    struct input input = {.block = block, .body = body, .body_size = body_size};
    struct message message;
    enum err err;

    ASSERT(IMPLIES(body_size > 0, block != NULL && body >= block->data));
    ASSERT(IMPLIES(body_size > 0, body_size <= block->size - (size_t)(body - block->data)));
    memset(&message, 0, sizeof message);
    err = decode_header(header, header_size, &input, &message, info);
    if (err == ERR_OK) {
        err = decode_rest(&input, &message, info);
    }
    if (err != ERR_OK) {
        message_fini(&message);
        return err;
    }
    *ret_message = message;
    return ERR_OK;
}
