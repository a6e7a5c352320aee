#include "server/header.h"

#include <stdbool.h>

#include "base/assert.h"

enum {
    VARINT_SIZE_MAX = 10, /* bytes */
    DEPTH_MAX = 4,        /* of messages in messages; no header of ours comes near */
};

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool skip(struct cursor *cursor, uint64_t size)
{
    if (size > cursor->left) {
        return false;
    }
    cursor->at += size;
    cursor->left -= (size_t)size;
    return true;
}

static bool get_varint(struct cursor *cursor, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < VARINT_SIZE_MAX && cursor->left > 0; i++) {
        uint8_t byte = *cursor->at;

        (void)skip(cursor, 1); /* It is there. */
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* Moves past one character: RFC 3629, 3, and not U+0000. */
static bool skip_character(struct cursor *cursor)
{
    static const uint32_t least[] = {1, 0x80, 0x800, 0x10000}; /* by bytes that follow */
    uint8_t first = *cursor->at;
    unsigned follow = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    uint32_t character = follow == 0 ? first : first & (0x3fU >> follow);

    ASSERT(cursor->left > 0);
    if ((first >= 0x80 && first < 0xc0) || first >= 0xf8 || cursor->left < follow + 1) {
        return false;
    }
    for (unsigned i = 1; i <= follow; i++) {
        if ((cursor->at[i] & 0xc0) != 0x80) {
            return false;
        }
        character = character << 6 | (cursor->at[i] & 0x3f);
    }
    return character >= least[follow] && character <= 0x10ffff &&
           (character < 0xd800 || character > 0xdfff) && skip(cursor, follow + 1);
}

static bool is_text(struct cursor cursor)
{
    while (cursor.left > 0) {
        if (!skip_character(&cursor)) {
            return false;
        }
    }
    return true;
}

static enum err check(const ProtobufCMessageDescriptor *descriptor, struct cursor cursor,
                      unsigned depth, struct err_info *info);

/* The contents of a length-delimited field. */
static enum err check_bytes(const ProtobufCFieldDescriptor *field, struct cursor contents,
                            unsigned depth, struct err_info *info)
{
    if (field == NULL) {
        return ERR_OK; /* A newer program's field. */
    }
    if (field->type == PROTOBUF_C_TYPE_STRING && !is_text(contents)) {
        return err_set(info, ERR_INVALID, "field '%s' is not UTF-8 text without zeros",
                       field->name);
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return check(field->descriptor, contents, depth + 1, info);
    }
    return ERR_OK;
}

static enum err check(const ProtobufCMessageDescriptor *descriptor, struct cursor cursor,
                      unsigned depth, struct err_info *info)
{
    ASSERT(depth <= DEPTH_MAX); /* Descriptors are ours; none refers to itself. */
    while (cursor.left > 0) {
        struct cursor contents;
        uint64_t tag;
        uint64_t size = 0;
        bool whole = get_varint(&cursor, &tag) && tag <= UINT32_MAX;
        enum err err = ERR_OK;

        switch (whole ? (int)(tag & 7) : -1) {
        case WIRE_VARINT:
            whole = get_varint(&cursor, &size);
            break;
        case WIRE_FIXED64:
            whole = skip(&cursor, 8);
            break;
        case WIRE_FIXED32:
            whole = skip(&cursor, 4);
            break;
        case WIRE_BYTES:
            whole = get_varint(&cursor, &size);
            contents = (struct cursor){.at = cursor.at, .left = (size_t)size};
            whole = whole && skip(&cursor, size);
            if (whole) {
                err = check_bytes(
                    protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> 3)),
                    contents, depth, info);
            }
            break;
        default:
            whole = false;
        }
        if (!whole) {
            return err_set(info, ERR_INVALID, "cannot be decoded");
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

enum err header_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *header,
                      size_t size, struct err_info *info)
{
    ASSERT(descriptor->magic == PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC);
    return check(descriptor, (struct cursor){.at = header, .left = size}, 0, info);
}
