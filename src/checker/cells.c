#include "checker/cells.h"

void cells_fini(struct cells *self)
{
    for (size_t i = 0; i < self->pages_count; i++) {
        free(self->pages[i]);
    }
    free(self->pages);
    free(self->slots);
    *self = (struct cells){0};
}

/* The slot that has the page, or the free one where it belongs. */
static uint32_t *find_slot(struct cells *self, uint64_t number)
{
    size_t at = (size_t)(number * 0x9e3779b97f4a7c15U >> 20);

    ASSERT(self->slot_count > self->pages_count); /* There is a free one. */
    for (;; at++) {
        uint32_t *slot = &self->slots[at & (self->slot_count - 1)];

        if (*slot == 0 || self->pages[*slot - 1]->number == number) {
            return slot;
        }
    }
}

static struct cells_page *find_page(struct cells *self, uint64_t offset)
{
    uint64_t number = offset / CELLS_PAGE_COUNT;

    if (self->last != NULL && self->last->number == number) {
        return self->last;
    }
    if (self->slot_count > 0) {
        const uint32_t *slot = find_slot(self, number);

        if (*slot != 0) {
            self->last = self->pages[*slot - 1];
            return self->last;
        }
    }
    return NULL;
}

struct cell cells_get(struct cells *self, uint64_t offset)
{
    const struct cells_page *page = find_page(self, offset);
    size_t at = offset % CELLS_PAGE_COUNT;

    return page == NULL ? (struct cell){0}
                        : (struct cell){.value = page->values[at],
                                        .line = page->lines[at],
                                        .flags = page->flags[at]};
}

static enum err grow_slots(struct cells *self)
{
    size_t count = self->slot_count == 0 ? 16 : 2 * self->slot_count;
    uint32_t *slots = calloc(count, sizeof *slots);

    if (slots == NULL) {
        return ERR_NOMEM;
    }
    free(self->slots);
    self->slots = slots;
    self->slot_count = count;
    for (size_t i = 0; i < self->pages_count; i++) {
        *find_slot(self, self->pages[i]->number) = (uint32_t)i + 1;
    }
    return ERR_OK;
}

static enum err add_page(struct cells *self, uint64_t offset)
{
    struct cells_page *page;

    if (2 * (self->pages_count + 1) > self->slot_count && grow_slots(self) != ERR_OK) {
        return ERR_NOMEM;
    }
    page = calloc(1, sizeof *page);
    if (page == NULL || ARRAY_RESERVE(self, pages, 1) != ERR_OK) {
        free(page);
        return ERR_NOMEM;
    }
    ASSERT(self->pages_count < UINT32_MAX); /* 5 TB before. */
    page->number = offset / CELLS_PAGE_COUNT;
    self->pages[self->pages_count++] = page;
    *find_slot(self, page->number) = (uint32_t)self->pages_count;
    self->last = page;
    return ERR_OK;
}

enum err cells_set(struct cells *self, uint64_t offset, struct cell cell)
{
    size_t at = offset % CELLS_PAGE_COUNT;

    ASSERT(cell.value != 0);
    if (find_page(self, offset) == NULL && add_page(self, offset) != ERR_OK) {
        return ERR_NOMEM;
    }
    ASSERT(self->last != NULL);
    self->last->values[at] = cell.value;
    self->last->lines[at] = cell.line;
    self->last->flags[at] = cell.flags;
    return ERR_OK;
}

void cells_flag(struct cells *self, uint64_t offset, enum cell_flag flag)
{
    struct cells_page *page = find_page(self, offset);

    if (page != NULL && page->values[offset % CELLS_PAGE_COUNT] != 0) {
        page->flags[offset % CELLS_PAGE_COUNT] |= (uint8_t)flag;
    }
}
