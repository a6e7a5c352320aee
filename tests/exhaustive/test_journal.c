/*
 * The journal: opening, appending into and over the end of a segment, truncating, trimming,
 * resetting, sealing, preparing and recycling segments, tasks that become one write.
 *
 * The promise: what was acknowledged is there, entry by entry with its term; behind it, at most a
 * prefix of what was being appended; after a failed write nothing is accepted any more.
 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/exhaust.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/journal_lab.h"

enum step_type { END, APPEND, TRIM, RESET, SEAL, PREPARE, PERFORM };

struct step {
    enum step_type type;
    uint64_t index; /* APPEND, PERFORM: first; RESET: next */
    size_t count;
    uint64_t term;
    uint32_t size;
};

static struct journal_options options;
static struct journal *journal;
static struct lab_model model; /* acknowledged */
static struct step step;       /* the last one that was tried; END: acknowledged */

/* Three tasks at once: two that become one write, and a truncating one. */
static enum err perform_tasks(const struct step *self)
{
    struct journal_task *tasks[3];
    enum err err;

    exhaust_pause();
    tasks[0] = lab_append_task(self->index, 2, self->term, self->size);
    tasks[1] = lab_append_task(self->index + 2, 3, self->term, self->size);
    tasks[2] =
        lab_append_task(self->index + 4, (unsigned)self->count - 4, self->term + 1, self->size);
    tasks[0]->next = tasks[1];
    tasks[1]->next = tasks[2];
    exhaust_resume();
    err = journal_perform(journal, tasks[0], NULL);
    for (int i = 0; i < 3; i++) {
        if (tasks[i]->err == ERR_OK) {
            lab_model_append(&model, tasks[i]->entries[0].index, tasks[i]->count,
                             tasks[i]->entries[0].term);
        }
        ck_assert(tasks[i]->err != ERR_OK || i == 0 || tasks[i - 1]->err == ERR_OK);
    }
    exhaust_pause();
    for (int i = 0; i < 3; i++) {
        journal_task_free(tasks[i]);
    }
    exhaust_resume();
    return err;
}

static enum err append(const struct step *self)
{
    struct journal_task *task;
    enum err err;

    exhaust_pause();
    task = lab_append_task(self->index, (unsigned)self->count, self->term, self->size);
    exhaust_resume();
    err = journal_append(journal, task->entries, self->count, NULL);
    exhaust_pause();
    journal_task_free(task);
    exhaust_resume();
    return err;
}

static enum err take(const struct step *self)
{
    bool more = true;
    enum err err = ERR_OK;

    step = *self;
    switch (step.type) {
    case END:
        break;
    case APPEND:
        err = append(self);
        break;
    case TRIM:
        err = journal_trim(journal, step.index, NULL);
        break;
    case RESET:
        err = journal_reset(journal, step.index, NULL);
        break;
    case SEAL:
        err = journal_seal(journal, NULL);
        break;
    case PREPARE:
        while (err == ERR_OK && more) {
            err = journal_prepare(journal, 32 * 1024, &more, NULL);
        }
        break;
    case PERFORM:
        err = perform_tasks(self);
        break;
    }
    return err;
}

static void acknowledge(void)
{
    if (step.type == APPEND) {
        lab_model_append(&model, step.index, step.count, step.term);
    } else if (step.type == TRIM) {
        lab_model_trim(&model, step.index);
    } else if (step.type == RESET) {
        lab_model_reset(&model, step.index);
    }
    step.type = END;
}

static enum err take_all(const struct step *steps)
{
    enum err err = ERR_OK;

    for (; steps->type != END && err == ERR_OK; steps++) {
        err = take(steps);
        if (err == ERR_OK) {
            acknowledge();
        }
    }
    return err;
}

/* What is there is what was acknowledged, or that and a prefix of what was tried. From now on it is
 * acknowledged. */
static void check_contents(const struct journal_contents *contents)
{
    const struct lab_model acknowledged = model;
    bool matches = lab_model_matches(&model, contents);

    for (size_t count = 1; !matches && step.type == APPEND && count <= step.count; count++) {
        model = acknowledged;
        lab_model_append(&model, step.index, count, step.term);
        matches = lab_model_matches(&model, contents);
    }
    /* As two tasks, which one write may have brought, and a third one. */
    for (size_t count = 1; !matches && step.type == PERFORM && count <= step.count + 1; count++) {
        model = acknowledged;
        lab_model_append(&model, step.index, count < 5 ? count : 5, step.term);
        if (count > 5) {
            lab_model_append(&model, step.index + 4, count - 5, step.term + 1);
        }
        matches = lab_model_matches(&model, contents);
    }
    if (!matches && step.type != APPEND && step.type != PERFORM) {
        model = acknowledged;
        acknowledge();
        matches = lab_model_matches(&model, contents);
    }
    ck_assert_msg(matches, "acknowledged [%llu, %llu], step %d at %llu; there is [%llu, %llu]",
                  (unsigned long long)acknowledged.first, (unsigned long long)acknowledged.last,
                  (int)step.type, (unsigned long long)step.index,
                  (unsigned long long)contents->first_index,
                  (unsigned long long)(contents->first_index + contents->count - 1));
    step.type = END;
}

static enum err open_journal(struct io *io)
{
    struct journal_contents contents;
    struct err_info info = {.text = ""};
    enum err err;

    options = lab_options(io, "/");
    err = journal_open(&options, &journal, &contents, &info);
    if (err == ERR_OK) {
        check_contents(&contents);
        journal_contents_fini(&contents);
    } else {
        ck_assert_msg(info.text[0] != '\0', "an error of journal_open says what failed");
    }
    return err;
}

static void close_journal(void)
{
    journal_close(journal);
    journal = NULL;
}

/* ---- what there is before ---- */

static void prepare_nothing(struct io *io)
{
    (void)io; /* Its root is the directory. */
    lab_model_init(&model);
    step.type = END;
    journal = NULL;
}

static void prepare_with(struct io *io, const struct step *steps)
{
    prepare_nothing(io);
    ck_assert_int_eq(open_journal(io), ERR_OK);
    ck_assert_int_eq(take_all(steps), ERR_OK);
    close_journal();
}

/* A segment that is nearly full. */
static void prepare_one(struct io *io)
{
    static const struct step steps[] = {{APPEND, 1, 3, 1, 100}, {APPEND, 4, 15, 1, 3000}, {END}};

    prepare_with(io, steps);
}

/* Several segments and a spare one, and entries that were truncated. */
static void prepare_many(struct io *io)
{
    static const struct step steps[] = {
        {APPEND, 1, 30, 1, 3000}, {PREPARE}, {APPEND, 25, 30, 2, 3000}, {SEAL}, {PREPARE}, {END}};

    prepare_with(io, steps);
}

/* The last write was torn: its last sector never came. */
static void prepare_torn(struct io *io)
{
    static const struct step steps[] = {{APPEND, 1, 3, 1, 100}, {APPEND, 4, 1, 1, 3000}, {END}};
    static uint8_t zeros[512] __attribute__((aligned(512)));
    struct iovec part = {.iov_base = zeros, .iov_len = sizeof zeros};
    int fd;

    prepare_with(io, steps);
    ck_assert_int_eq(io_open(io, "/0000000000000001.journal", O_RDWR, &fd, NULL), ERR_OK);
    /* Header, a batch of 3 in 1024 bytes or less, then that of 3000 in 3584, and the seal. */
    for (uint64_t at = 512 + 1024 + 2560; at < 512 + 1024 + 3584 + 1024; at += 512) {
        ck_assert_int_eq(io_write(io, fd, "", &part, 1, at, 0, NULL), ERR_OK);
    }
    ck_assert_int_eq(io_sync(io, fd, "", NULL), ERR_OK);
    io_close(io, &fd);
    step = (struct step){APPEND, 4, 1, 1, 3000};
    lab_model_init(&model);
    lab_model_append(&model, 1, 3, 1);
}

/* ---- operations ---- */

/* Nothing goes on after a failure, or everything does. */
static void check_failed_state(enum err err)
{
    struct step more = {APPEND, model.last + 1, 1, 90, 10};
    enum err again;

    if (step.type == PREPARE || step.type == END) {
        again = take(&more);
        ck_assert(again == ERR_FAILED || err == ERR_NOSPACE || err == ERR_NOMEM);
        if (again == ERR_OK) {
            acknowledge();
        }
        return;
    }
    again = append(&more); /* `step` stays what may have been done. */
    ck_assert_msg(again == ERR_FAILED, "after %s: %s", err_name(err), err_name(again));
}

static enum err run_steps(struct io *io, const struct step *steps)
{
    enum err err = open_journal(io);

    ck_assert_int_eq(err, ERR_OK);
    exhaust_start();
    err = take_all(steps);
    if (err != ERR_OK && exhaust_heal()) {
        check_failed_state(err);
    }
    close_journal();
    return err;
}

#define RUN(name, ...)                                                                             \
    static enum err run_##name(struct io *io)                                                      \
    {                                                                                              \
        static const struct step steps[] = {__VA_ARGS__, {END}};                                   \
                                                                                                   \
        return run_steps(io, steps);                                                               \
    }

RUN(append, {APPEND, 19, 1, 1, 100})
RUN(append_over_the_end, {APPEND, 19, 12, 1, 3000}, {APPEND, 31, 1, 2, 10})
RUN(append_what_needs_a_segment_of_its_own, {APPEND, 19, 1, 1, 90000}, {APPEND, 20, 1, 1, 10})
RUN(truncate, {APPEND, 10, 2, 2, 500}, {APPEND, 12, 1, 2, 500})
RUN(trim_and_recycle, {TRIM, 40, 0, 0, 0}, {APPEND, 55, 40, 2, 3000})
RUN(trim_everything, {TRIM, 54, 0, 0, 0}, {APPEND, 55, 1, 2, 10})
RUN(reset, {RESET, 100, 0, 0, 0}, {APPEND, 100, 5, 3, 3000})
RUN(reset_below, {RESET, 7, 0, 0, 0}, {APPEND, 7, 30, 3, 3000}, {TRIM, 20, 0, 0, 0})
RUN(seal, {APPEND, 19, 1, 1, 10}, {SEAL, 0, 0, 0, 0}, {SEAL, 0, 0, 0, 0})
RUN(prepare, {PREPARE, 0, 0, 0, 0}, {APPEND, 19, 12, 1, 3000}, {PREPARE, 0, 0, 0, 0})
RUN(perform, {PERFORM, 19, 9, 1, 2000}, {APPEND, 28, 1, 3, 10})

static enum err run_open(struct io *io)
{
    enum err err = open_journal(io);

    if (exhaust_may_retry(err)) {
        err = open_journal(io);
    }
    close_journal();
    return err;
}

static enum err run_open_and_append(struct io *io)
{
    static const struct step steps[] = {{APPEND, 1, 3, 1, 100}, {APPEND, 4, 1, 1, 100}, {END}};
    enum err err = open_journal(io);

    err = err == ERR_OK ? take_all(steps) : err;
    close_journal();
    return err;
}

static enum err recover(struct io *io)
{
    enum err err = open_journal(io);

    if (err == ERR_OK && exhaust_is_last()) {
        const struct step more[] = {
            {APPEND, model.last + 1, 20, 100, 3000}, {TRIM, model.last, 0, 0, 0}, {END}};

        ck_assert_int_eq(take_all(more), ERR_OK);
        close_journal();
        err = open_journal(io);
    }
    close_journal();
    return err;
}

static const struct exhaust_scenario scenarios[] = {
    {"open_a_new_one", prepare_nothing, run_open, recover, EXHAUST_TWICE},
    {"open_and_append", prepare_nothing, run_open_and_append, recover, EXHAUST_TWICE},
    {"open", prepare_many, run_open, recover, EXHAUST_TWICE},
    {"open_what_is_torn", prepare_torn, run_open, recover, EXHAUST_TWICE},
    {"append", prepare_one, run_append, recover, EXHAUST_TWICE},
    {"append_over_the_end", prepare_one, run_append_over_the_end, recover, EXHAUST_TWICE},
    {"append_what_needs_a_segment_of_its_own", prepare_one,
     run_append_what_needs_a_segment_of_its_own, recover, 0},
    {"truncate", prepare_one, run_truncate, recover, EXHAUST_TWICE},
    {"trim_and_recycle", prepare_many, run_trim_and_recycle, recover, 0},
    {"trim_everything", prepare_many, run_trim_everything, recover, 0},
    {"reset", prepare_many, run_reset, recover, 0},
    {"reset_below", prepare_many, run_reset_below, recover, 0},
    {"seal", prepare_one, run_seal, recover, 0},
    {"prepare", prepare_one, run_prepare, recover, 0},
    {"perform", prepare_one, run_perform, recover, 0},
};

int main(void)
{
    return exhaust_main("journal", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
