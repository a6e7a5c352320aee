#include "sim/events.h"

#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/message.h"

void events_init(struct events *self)
{
    *self = (struct events){0};
}

void events_fini(struct events *self)
{
    for (size_t i = 0; i < self->count; i++) {
        if (self->heap[i].message != NULL) {
            message_fini(self->heap[i].message);
            free(self->heap[i].message);
        }
    }
    free(self->heap);
    *self = (struct events){0};
}

static bool before(const struct event *a, const struct event *b)
{
    return a->time_ms < b->time_ms || (a->time_ms == b->time_ms && a->sequence < b->sequence);
}

void events_push(struct events *self, uint64_t time_ms, enum event_type type, unsigned node,
                 uint64_t generation, struct message *message)
{
    struct event event = {.time_ms = time_ms,
                          .sequence = self->sequence++,
                          .type = type,
                          .node = node,
                          .generation = generation,
                          .message = message};
    size_t at = self->count;

    ASSERT((message != NULL) == (type == EVENT_MESSAGE));
    if (self->count == self->capacity) {
        self->capacity = self->capacity == 0 ? 256 : self->capacity * 2;
        self->heap = realloc(self->heap, self->capacity * sizeof *self->heap);
        ASSERT(self->heap != NULL);
    }
    self->count++;
    while (at > 0 && before(&event, &self->heap[(at - 1) / 2])) {
        self->heap[at] = self->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    self->heap[at] = event;
}

bool events_pop(struct events *self, struct event *ret_event)
{
    struct event last;
    size_t at = 0;

    if (self->count == 0) {
        return false;
    }
    *ret_event = self->heap[0];
    last = self->heap[--self->count];
    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= self->count) {
            break;
        }
        if (child + 1 < self->count && before(&self->heap[child + 1], &self->heap[child])) {
            child++;
        }
        if (!before(&self->heap[child], &last)) {
            break;
        }
        self->heap[at] = self->heap[child];
        at = child;
    }
    self->heap[at] = last;
    return true;
}
