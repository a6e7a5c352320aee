/*
 * Headers of requests and replies: what the server looks at before a request's own checks. What is
 * taken as text is text, and what is unpacked is, packed, the same message.
 *
 *      u8 which message | the header
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/command.h"
#include "server/header.h"

static const ProtobufCMessageDescriptor *const messages[] = {
    &quorlog__hello__descriptor,
    &quorlog__hello_reply__descriptor,
    &quorlog__error__descriptor,
    &quorlog__produce_request__descriptor,
    &quorlog__produce_reply__descriptor,
    &quorlog__consume_request__descriptor,
    &quorlog__consume_reply__descriptor,
    &quorlog__consume_stream_request__descriptor,
    &quorlog__credit__descriptor,
    &quorlog__read_index_reply__descriptor,
    &quorlog__init_producer_request__descriptor,
    &quorlog__init_producer_reply__descriptor,
    &quorlog__topic_create_request__descriptor,
    &quorlog__topic_delete_request__descriptor,
    &quorlog__topic_list_request__descriptor,
    &quorlog__topic_list_reply__descriptor,
    &quorlog__topic_describe_request__descriptor,
    &quorlog__topic_describe_reply__descriptor,
    &quorlog__status_request__descriptor,
    &quorlog__status_reply__descriptor,
    &quorlog__cluster_change_request__descriptor,
    &quorlog__cluster_change_reply__descriptor,
    &quorlog__cursor_set_request__descriptor,
    &quorlog__cursor_get_request__descriptor,
    &quorlog__cursor_get_reply__descriptor,
    &quorlog__cursor_list_request__descriptor,
    &quorlog__cursor_list_reply__descriptor,
    &quorlog__cursor_delete_request__descriptor,
    &quorlog__digest_request__descriptor,
    &quorlog__digest_reply__descriptor,
    &quorlog__proof_request__descriptor,
    &quorlog__proof_reply__descriptor,
    &quorlog__topic_trim_request__descriptor,
    &quorlog__topic_trim_reply__descriptor,
    &quorlog__topic_alter_request__descriptor,
    &quorlog__topic_alter_reply__descriptor,
};

enum { MESSAGE_COUNT = sizeof messages / sizeof messages[0] };

/* Strings that the check let through are as long as they were on the wire, and names that are
 * allowed stay so. */
static void check_strings(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;

    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        const char *at = (const char *)message + field->offset;
        const char *text;

        if (field->type != PROTOBUF_C_TYPE_STRING || field->label == PROTOBUF_C_LABEL_REPEATED) {
            continue;
        }
        memcpy(&text, at, sizeof text);
        ASSERT(text != NULL);
        if (topic_name_check(text, strlen(text), NULL) == ERR_OK) {
            ASSERT(strlen(text) <= TOPIC_NAME_SIZE_MAX && strchr(text, '/') == NULL);
            ASSERT(strcmp(text, "..") != 0 && text[0] != '-');
        }
        if (cursor_name_check(text, strlen(text), NULL) == ERR_OK) {
            ASSERT(strlen(text) <= CURSOR_NAME_SIZE_MAX);
        }
    }
}

/* What is not known here is not passed on, nor does it come back from the library as it came. */
static bool has_unknown(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;

    if (message->n_unknown_fields > 0) {
        return true;
    }
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        const char *at = (const char *)message + field->offset;
        const ProtobufCMessage *const *inside = (const ProtobufCMessage *const *)(const void *)at;
        size_t count = 1;

        if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            memcpy(&count, (const char *)message + field->quantifier_offset, sizeof count);
            inside = *(const ProtobufCMessage *const *const *)(const void *)at;
        }
        for (size_t k = 0; k < count; k++) {
            if (inside[k] != NULL && has_unknown(inside[k])) {
                return true;
            }
        }
    }
    return false;
}

static uint8_t *pack(const ProtobufCMessage *message, size_t *ret_size)
{
    uint8_t *bytes;

    *ret_size = protobuf_c_message_get_packed_size(message);
    bytes = malloc(*ret_size);
    ASSERT(bytes != NULL);
    ASSERT(protobuf_c_message_pack(message, bytes) == *ret_size);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    const ProtobufCMessageDescriptor *descriptor = messages[fuzz_u8(&input) % MESSAGE_COUNT];
    uint8_t *header = fuzz_copy(&input);
    ProtobufCMessage *first;
    ProtobufCMessage *second;
    uint8_t *packed;
    uint8_t *again;
    size_t packed_size;
    size_t again_size;

    if (header_check(descriptor, header, input.size, NULL) != ERR_OK) {
        free(header);
        return 0;
    }
    first = protobuf_c_message_unpack(descriptor, NULL, input.size, header);
    free(header);
    if (first == NULL) {
        return 0;
    }
    check_strings(first);
    if (has_unknown(first)) {
        protobuf_c_message_free_unpacked(first, NULL);
        return 0;
    }
    packed = pack(first, &packed_size);
    ASSERT(header_check(descriptor, packed, packed_size, NULL) == ERR_OK);
    second = protobuf_c_message_unpack(descriptor, NULL, packed_size, packed);
    ASSERT(second != NULL);
    again = pack(second, &again_size);
    ASSERT(again_size == packed_size && memcmp(again, packed, packed_size) == 0);
    free(packed);
    free(again);
    protobuf_c_message_free_unpacked(first, NULL);
    protobuf_c_message_free_unpacked(second, NULL);
    return 0;
}

/* A message in which every field says something. */
void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (uint8_t which = 0; which < MESSAGE_COUNT; which++) {
        struct buf seed = {0};

        fuzz_put_u8(&seed, which);
        for (unsigned i = 0; i < messages[which]->n_fields; i++) {
            const ProtobufCFieldDescriptor *field = &messages[which]->fields[i];
            bool text =
                field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES;
            unsigned wire = text || field->type == PROTOBUF_C_TYPE_MESSAGE ? 2U : 0U;

            if (field->type == PROTOBUF_C_TYPE_FIXED64) {
                wire = 1;
            }
            if (field->id >= 16) {
                fuzz_put_u8(&seed, (uint8_t)((field->id << 3 | wire) | 0x80));
                fuzz_put_u8(&seed, (uint8_t)(field->id >> 4));
            } else {
                fuzz_put_u8(&seed, (uint8_t)(field->id << 3 | wire));
            }
            fuzz_put(&seed, text ? "\x02t1" : "\x00\x01\x02\x03\x04\x05\x06\x07",
                     text ? 3 : (wire == 1 ? 8 : 1));
        }
        fuzz_emit(emit, arg, &seed);
    }
}
