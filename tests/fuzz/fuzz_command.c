/*
 * The commands of an entry. What is read can be written again, and that is read as the same.
 *
 *      the payload
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "raft_fsm/command.h"
#include "raft_fsm/history.h"

static struct command to_command(const struct command_view *view)
{
    struct command command = {.type = view->type};

    switch (view->type) {
    case COMMAND_PRODUCE:
        command.produce.topic_id = view->produce.topic_id;
        memcpy(command.produce.body_digest, view->produce.body_digest, DIGEST_SIZE);
        command.produce.batch.data = view->produce.body - BATCH_HEADER_SIZE;
        command.produce.batch.size = BATCH_HEADER_SIZE + view->produce.body_size;
        command.produce.has_expect = view->produce.has_expect;
        command.produce.expect_offset = view->produce.expect_offset;
        break;
    case COMMAND_TOPIC_CREATE:
    case COMMAND_TOPIC_DELETE:
    case COMMAND_TOPIC_ALTER:
        memcpy(command.topic_name, view->topic_name, sizeof command.topic_name);
        ASSERT(topic_name_check(command.topic_name, strlen(command.topic_name), NULL) == ERR_OK);
        command.settings = view->settings;
        command.change = view->change;
        break;
    case COMMAND_RAISE_EPOCH:
        command.claim = view->claim;
        break;
    case COMMAND_TOPIC_TRIM:
        command.trim = view->trim;
        break;
    case COMMAND_AGE:
        command.elapsed_us = view->elapsed_us;
        break;
    case COMMAND_COMPACT:
        command.compact = view->compact;
        break;
    case COMMAND_NODE_BIND:
        command.node = view->node;
        break;
    case COMMAND_CURSOR_SET:
    case COMMAND_CURSOR_DELETE:
        command.cursor = view->cursor;
        ASSERT(strlen(view->cursor->metadata) <= CURSOR_METADATA_SIZE_MAX);
        break;
    case COMMAND_INIT_PRODUCER:
        break;
    }
    return command;
}

/* Reads all commands and writes them again, as far as they are good. */
static enum err rewrite(const uint8_t *payload, size_t size, struct buf *to)
{
    struct command_reader reader;
    struct command_view view;
    enum err err = command_reader_begin(&reader, payload, size, NULL);

    if (err != ERR_OK) {
        return err;
    }
    buf_init(to, 1 << 22);
    err = buf_reserve(to, COMMAND_PAYLOAD_HEADER_SIZE);
    ASSERT(err == ERR_OK);
    to->size = command_encode_header(reader.time_us, to->data);
    while ((err = command_reader_next(&reader, &view, NULL)) == ERR_OK) {
        struct command command = to_command(&view);
        size_t command_size = command_encoded_size(&command);
        enum err reserved = buf_reserve(to, command_size);
        size_t written;

        ASSERT(reserved == ERR_OK && reader.count <= COMMAND_COUNT_MAX);
        written = command_encode(&command, to->data + to->size);
        ASSERT(written == command_size);
        to->size += written;
    }
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t *payload = fuzz_copy(&input);
    struct buf again = {0};
    struct buf twice = {0};
    enum err err = rewrite(payload, size, &again);

    ASSERT(err == ERR_AGAIN || err == ERR_CORRUPT || err == ERR_VERSION);
    if (err == ERR_AGAIN) {
        err = rewrite(again.data, again.size, &twice);
        ASSERT(err == ERR_AGAIN && again.size == twice.size);
        ASSERT(memcmp(again.data, twice.data, again.size) == 0);
    }
    buf_fini(&again);
    buf_fini(&twice);
    free(payload);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    struct history history;
    struct buf all = {0};

    history_init(&history, 7, 60);
    for (size_t i = 0; i < history.count; i++) {
        const struct entry *entry = &history.entries[i];

        if (entry->type == ENTRY_COMMAND && entry->size < 2000) {
            emit(arg, entry_payload(entry), entry->size);
            if (all.size == 0 || all.size < 1500) {
                fuzz_put(&all,
                         entry_payload(entry) + (all.size == 0 ? 0 : COMMAND_PAYLOAD_HEADER_SIZE),
                         entry->size - (all.size == 0 ? 0 : COMMAND_PAYLOAD_HEADER_SIZE));
            }
        }
    }
    history_fini(&history);
    fuzz_emit(emit, arg, &all);
}
