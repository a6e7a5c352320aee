#include "raft_fsm/unpack.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/assert.h"

/* The system's allocator, but it remembers. */
static void *allocate(void *failed, size_t size)
{
    void *memory = malloc(size);

    if (memory == NULL) {
        *(bool *)failed = true;
    }
    return memory;
}

static void release(void *failed, void *memory)
{
    (void)failed;
    free(memory);
}

enum err unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size,
                ProtobufCMessage **ret_message)
{
    bool failed = false;
    ProtobufCAllocator allocator = {.alloc = allocate, .free = release, .allocator_data = &failed};
    ProtobufCMessage *message;

    ASSERT(descriptor != NULL && ret_message != NULL);
    message = protobuf_c_message_unpack(descriptor, &allocator, size, bytes);
    if (message == NULL) {
        return failed ? ERR_NOMEM : ERR_CORRUPT;
    }
    ASSERT(!failed); /* It takes no message for whole of which a part could not be had. */
    *ret_message = message;
    return ERR_OK;
}
