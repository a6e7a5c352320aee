#include "raft_fsm/journal_lab.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t lab_draw(void *arg)
{
    uint64_t *state = arg;
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t lab_below(uint64_t *state, uint64_t bound)
{
    return lab_draw(state) % bound;
}

static uint8_t payload_byte(uint64_t index, uint64_t term, uint32_t size, uint32_t i)
{
    return (uint8_t)(index * 31 + term * 17 + size * 7 + i * (index | 1));
}

struct entry lab_entry(uint64_t index, uint64_t term, uint32_t size)
{
    struct block *block = entry_block_new(size);
    struct entry entry;

    ck_assert_ptr_nonnull(block);
    for (uint32_t i = 0; i < size; i++) {
        block->data[ENTRY_HEADER_SIZE + i] = payload_byte(index, term, size, i);
    }
    entry_seal(block, size, index, term, ENTRY_COMMAND, &entry);
    return entry;
}

static bool entry_is_ours(const struct entry *entry)
{
    for (uint32_t i = 0; i < entry->size; i++) {
        if (entry_payload(entry)[i] != payload_byte(entry->index, entry->term, entry->size, i)) {
            return false;
        }
    }
    return true;
}

struct journal_task *lab_append_task(uint64_t first, unsigned count, uint64_t term, uint32_t size)
{
    struct journal_task *task = journal_task_new(JOURNAL_APPEND, count);

    ck_assert_ptr_nonnull(task);
    for (unsigned i = 0; i < count; i++) {
        task->entries[i] = lab_entry(first + i, term, size);
    }
    return task;
}

enum err lab_append(struct journal *journal, uint64_t first, size_t count, uint64_t term,
                    uint32_t size)
{
    struct journal_task *task = lab_append_task(first, (unsigned)count, term, size);
    enum err err = journal_append(journal, task->entries, count, NULL);

    journal_task_free(task);
    return err;
}

struct journal_options lab_options(struct io *io, const char *dir)
{
    return (struct journal_options){.io = io,
                                    .dir = dir,
                                    .node_id = LAB_NODE,
                                    .segment_size = LAB_SEGMENT_SIZE,
                                    .write_size_max = 8 * 1024,
                                    .seed = 42};
}

struct journal *lab_open(const struct journal_options *options, struct journal_contents *contents)
{
    struct err_info info = {.text = ""};
    struct journal *journal = NULL;
    enum err err = journal_open(options, &journal, contents, &info);

    ck_assert_msg(err == ERR_OK, "open: %s: %s", err_name(err), info.text);
    return journal;
}

void lab_model_init(struct lab_model *self)
{
    *self = (struct lab_model){.first = 1};
}

void lab_model_append(struct lab_model *self, uint64_t first, size_t count, uint64_t term)
{
    ck_assert_uint_lt(first + count, LAB_INDEX_MAX);
    for (size_t i = 0; i < count; i++) {
        self->terms[first + i] = term;
    }
    self->last = first + count - 1;
}

void lab_model_trim(struct lab_model *self, uint64_t index)
{
    if (index >= self->first) {
        self->first = index + 1;
    }
}

void lab_model_reset(struct lab_model *self, uint64_t next_index)
{
    self->first = next_index;
    self->last = next_index - 1;
}

bool lab_model_matches(const struct lab_model *self, const struct journal_contents *contents)
{
    if (contents->first_index > self->first ||
        contents->first_index + contents->count != self->last + 1) {
        return false;
    }
    for (size_t i = 0; i < contents->count; i++) {
        const struct entry *entry = &contents->entries[i];

        if (entry->index != contents->first_index + i || !entry_is_ours(entry)) {
            return false;
        }
        if (entry->index >= self->first && entry->term != self->terms[entry->index]) {
            return false;
        }
    }
    return true;
}

void lab_assert_holds(const struct journal_options *options, const struct lab_model *model)
{
    struct journal_contents contents;
    struct journal *journal = lab_open(options, &contents);

    ck_assert_msg(lab_model_matches(model, &contents),
                  "expected [%llu, %llu], there is [%llu, %llu]", (unsigned long long)model->first,
                  (unsigned long long)model->last, (unsigned long long)contents.first_index,
                  (unsigned long long)(contents.first_index + contents.count - 1));
    journal_contents_fini(&contents);
    journal_close(journal);
}

static int refuse_all(void *arg, struct mem_io_op *op)
{
    (void)arg; /* There is nothing to ask: */
    (void)op;  /* whatever it is, it fails. */
    return EIO;
}

void lab_abandon(struct mem_io *disk, struct journal *journal)
{
    mem_io_set_hook(disk, refuse_all, NULL);
    journal_close(journal);
    mem_io_set_hook(disk, NULL, NULL);
}
