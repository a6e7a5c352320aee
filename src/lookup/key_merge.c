#include "lookup/key_merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct input {
    struct part *part; /* owned reference; acquired while walk is not NULL */
    struct key_walk *walk;
    struct key_entry head;
    bool ended;
};

struct key_merge {
    struct io *io;
    struct run_cache *runs;
    char *dir; /* owned */
    struct input inputs[KEY_MERGE_WIDTH];
    struct part *parts[KEY_MERGE_WIDTH]; /* the same, borrowed from inputs */
    struct key_writer *writer;           /* owned; NULL: done */
    struct part_seal seal;
};

bool key_merge_find(const struct part_list *parts, size_t *ret_at)
{
    size_t run = 0;

    for (size_t i = 0; i < parts->count; i++) {
        const struct part *part = parts->items[i];
        const struct part *before = i > 0 ? parts->items[i - 1] : NULL;

        if (!part->verified || atomic_load(&part->gone)) {
            run = 0;
            continue;
        }
        run = run > 0 && before->seal.end_offset == part->seal.base_offset &&
                      before->seal.level == part->seal.level
                  ? run + 1
                  : 1;
        if (run == KEY_MERGE_WIDTH) {
            *ret_at = i + 1 - KEY_MERGE_WIDTH;
            return true;
        }
    }
    return false;
}

static enum err advance(struct input *input, struct err_info *info)
{
    enum err err = key_walk_next(input->walk, &input->head, info);

    input->ended = err == ERR_AGAIN;
    return input->ended ? ERR_OK : err;
}

static enum err open_input(struct key_merge *self, struct input *input, struct part *part,
                           struct err_info *info)
{
    struct key_run *run;
    enum err err = run_cache_acquire(self->runs, self->dir, part, &run, info);

    if (err != ERR_OK) {
        return err;
    }
    input->part = part_ref(part);
    err = key_walk_new(run, &input->walk, info);
    if (err != ERR_OK) {
        run_cache_release(self->runs, part);
        part_unref(input->part);
        *input = (struct input){0};
        return err;
    }
    return advance(input, info);
}

enum err key_merge_new(struct io *io, struct run_cache *runs, const char *dir,
                       struct part *const *parts, struct key_merge **ret_merge,
                       struct part **ret_damaged, struct err_info *info)
{
    struct key_merge *self = calloc(1, sizeof *self);
    const struct part_seal *last = &parts[KEY_MERGE_WIDTH - 1]->seal;
    uint64_t log_kib = 0;
    uint64_t count = 0;
    bool known = true;
    enum err err = ERR_OK;

    *ret_damaged = NULL;
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "no memory to merge key indexes");
    }
    self->io = io;
    self->runs = runs;
    self->dir = strdup(dir);
    err = self->dir == NULL ? err_set(info, ERR_NOMEM, "no memory to merge key indexes") : ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < KEY_MERGE_WIDTH; i++) {
        self->parts[i] = parts[i];
        count += parts[i]->seal.count;
        log_kib += parts[i]->seal.log_kib;
        known = known && parts[i]->seal.log_kib > 0;
        err = open_input(self, &self->inputs[i], parts[i], info);
        *ret_damaged = err == ERR_OK ? NULL : parts[i];
    }
    if (err == ERR_OK) {
        self->seal = parts[0]->seal;
        self->seal.end_offset = last->end_offset;
        self->seal.last_time_us = last->last_time_us;
        self->seal.level += 1;
        self->seal.log_kib = !known ? 0 : log_kib < UINT32_MAX ? (uint32_t)log_kib : UINT32_MAX;
        memcpy(self->seal.digest, last->digest, sizeof self->seal.digest);
        err = key_writer_open(io, dir, &self->seal, count, &self->writer, info);
    }
    if (err != ERR_OK) {
        key_merge_free(self);
        return err;
    }
    *ret_merge = self;
    return ERR_OK;
}

static struct input *lowest(struct key_merge *self)
{
    struct input *best = NULL;

    for (size_t i = 0; i < KEY_MERGE_WIDTH; i++) {
        struct input *input = &self->inputs[i];

        if (!input->ended && (best == NULL || key_entry_compare(&input->head, &best->head) < 0)) {
            best = input;
        }
    }
    return best;
}

enum err key_merge_step(struct key_merge *self, uint64_t start, bool *ret_done,
                        struct part **ret_damaged, struct err_info *info)
{
    struct key_writer *writer = self->writer;
    struct input *input = NULL;
    enum err err = ERR_OK;

    ASSERT(writer != NULL);
    *ret_done = false;
    *ret_damaged = NULL;
    for (unsigned i = 0; i < KEY_MERGE_STEP; i++) {
        input = lowest(self);
        if (input == NULL) {
            break;
        }
        if (input->head.offset >= start) {
            err = key_writer_add(writer, &input->head, info);
        }
        if (err != ERR_OK) {
            return err;
        }
        err = advance(input, info);
        if (err != ERR_OK) {
            *ret_damaged = input->part;
            return err;
        }
    }
    if (input == NULL) {
        self->writer = NULL; /* Gone, whatever is returned. */
        err = key_writer_finish(writer, &self->seal, info);
        *ret_done = err == ERR_OK;
    }
    return err;
}

const struct part_seal *key_merge_seal(const struct key_merge *self)
{
    ASSERT(self->writer == NULL);
    return &self->seal;
}

struct part *const *key_merge_parts(const struct key_merge *self)
{
    return self->parts;
}

void key_merge_free(struct key_merge *self)
{
    if (self == NULL) {
        return;
    }
    for (size_t i = 0; i < KEY_MERGE_WIDTH; i++) {
        if (self->inputs[i].part != NULL) {
            key_walk_free(self->inputs[i].walk);
            run_cache_release(self->runs, self->inputs[i].part);
            part_unref(self->inputs[i].part);
        }
    }
    key_writer_abort(self->writer);
    free(self->dir);
    free(self);
}
