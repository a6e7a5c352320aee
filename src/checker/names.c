#include "checker/names.h"

#include <string.h>

void names_fini(struct names *self)
{
    for (size_t i = 0; i < self->items_count; i++) {
        free(self->items[i].text);
    }
    free(self->items);
    free(self->slots);
    *self = (struct names){0};
}

/* FNV-1a. Names come from a file: who makes them collide makes this slow and nothing else. */
static size_t hash(uint32_t scope, const char *text)
{
    uint64_t sum = 0xcbf29ce484222325U ^ scope;

    for (; *text != '\0'; text++) {
        sum = (sum ^ (unsigned char)*text) * 0x100000001b3U;
    }
    return (size_t)(sum ^ sum >> 32);
}

/* The slot that has the name, or the free one where it belongs. */
static uint32_t *find_slot(struct names *self, uint32_t scope, const char *text)
{
    size_t at = hash(scope, text);

    ASSERT(self->slot_count > self->items_count); /* There is a free one. */
    for (;; at++) {
        uint32_t *slot = &self->slots[at & (self->slot_count - 1)];

        if (*slot == 0 || (self->items[*slot - 1].scope == scope &&
                           strcmp(self->items[*slot - 1].text, text) == 0)) {
            return slot;
        }
    }
}

static enum err grow_slots(struct names *self)
{
    size_t count = self->slot_count == 0 ? 16 : 2 * self->slot_count;
    uint32_t *slots = calloc(count, sizeof *slots);

    if (slots == NULL) {
        return ERR_NOMEM;
    }
    free(self->slots);
    self->slots = slots;
    self->slot_count = count;
    for (size_t i = 0; i < self->items_count; i++) {
        *find_slot(self, self->items[i].scope, self->items[i].text) = (uint32_t)i + 1;
    }
    return ERR_OK;
}

enum err names_number(struct names *self, uint32_t scope, const char *text, uint32_t *ret_number)
{
    uint32_t *slot;
    char *copy;

    if (2 * (self->items_count + 1) > self->slot_count) {
        enum err err = grow_slots(self);

        if (err != ERR_OK) {
            return err;
        }
    }
    slot = find_slot(self, scope, text);
    if (*slot == 0) {
        ASSERT(self->items_count < UINT32_MAX); /* Each name stands in an operation. */
        copy = strdup(text);
        if (copy == NULL || ARRAY_RESERVE(self, items, 1) != ERR_OK) {
            free(copy);
            return ERR_NOMEM;
        }
        self->items[self->items_count++] = (struct name){.text = copy, .scope = scope};
        *slot = (uint32_t)self->items_count;
    }
    *ret_number = *slot - 1;
    return ERR_OK;
}
