/*
 * The journal against disks that fail, machines that lose power and media that decay.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/journal_lab.h"
#include "sim/mem_io.h"

static struct mem_io disk;

static void setup(void)
{
    mem_io_init(&disk);
}

static void teardown(void)
{
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    mem_io_fini(&disk);
}

static void new_disk(void)
{
    mem_io_fini(&disk);
    mem_io_init(&disk);
}

/* ---- histories ---- */

enum step_type { STEP_APPEND, STEP_TRIM, STEP_RESET, STEP_SEAL, STEP_PREPARE };

struct step {
    enum step_type type;
    uint64_t index; /* APPEND: first; RESET: next */
    size_t count;
    uint64_t term;
    uint32_t size;
};

/* A history under way: what is acknowledged, and what was asked for since. */
struct history {
    uint64_t random;
    struct journal_options options;
    struct journal *journal;
    struct lab_model model;
    uint64_t term;
    struct step step; /* The last one, acknowledged or not. */
};

static uint32_t draw_size(uint64_t *random)
{
    switch (lab_below(random, 20)) {
    case 0:
        return (uint32_t)lab_below(random, 100 * 1024); /* May need a segment of its own. */
    case 1:
    case 2:
        return (uint32_t)lab_below(random, 9000); /* May need a write of its own. */
    default:
        return (uint32_t)lab_below(random, 900);
    }
}

static struct step draw_step(struct history *self)
{
    uint64_t *random = &self->random;
    uint64_t dice = lab_below(random, 100);
    struct step step = {.type = STEP_APPEND, .index = self->model.last + 1, .term = self->term};

    if (dice < 70) {
        step.count = 1 + lab_below(random, 8);
        step.size = draw_size(random);
        if (dice < 10 && self->model.last >= self->model.first) {
            step.index -= lab_below(random, self->model.last - self->model.first + 1);
            step.term = ++self->term;
        }
    } else if (dice < 82) {
        step.type = STEP_TRIM;
        step.index =
            self->model.first - 1 + lab_below(random, self->model.last + 2 - self->model.first);
    } else if (dice < 85) {
        step.type = STEP_RESET;
        step.index = 1 + lab_below(random, self->model.last + 10);
    } else {
        step.type = dice < 93 ? STEP_SEAL : STEP_PREPARE;
    }
    return step;
}

static enum err perform(struct journal *journal, const struct step *step)
{
    bool more;

    switch (step->type) {
    case STEP_APPEND:
        return lab_append(journal, step->index, step->count, step->term, step->size);
    case STEP_TRIM:
        return journal_trim(journal, step->index, NULL);
    case STEP_RESET:
        return journal_reset(journal, step->index, NULL);
    case STEP_SEAL:
        return journal_seal(journal, NULL);
    case STEP_PREPARE:
        return journal_prepare(journal, 16 * 1024, &more, NULL);
    }
    return ERR_INVALID;
}

static void acknowledge(struct lab_model *model, const struct step *step)
{
    switch (step->type) {
    case STEP_APPEND:
        lab_model_append(model, step->index, step->count, step->term);
        break;
    case STEP_TRIM:
        lab_model_trim(model, step->index);
        break;
    case STEP_RESET:
        lab_model_reset(model, step->index);
        break;
    case STEP_SEAL:
    case STEP_PREPARE:
        break;
    }
}

/* Room for a whole step more in the model, whose indexes are bounded. */
static bool model_has_room(const struct lab_model *model)
{
    return model->last + 32 < LAB_INDEX_MAX;
}

/* Takes steps until one fails or `steps` are taken. */
static enum err take_steps(struct history *self, unsigned steps)
{
    for (unsigned i = 0; i < steps && model_has_room(&self->model); i++) {
        enum err err;

        self->step = draw_step(self);
        err = perform(self->journal, &self->step);
        if (err != ERR_OK) {
            return err;
        }
        acknowledge(&self->model, &self->step);
    }
    self->step = (struct step){.type = STEP_SEAL};
    return ERR_OK;
}

/* What is on the disk is what was acknowledged, or that and a prefix of the last step, which is
 * acknowledged by being returned. */
static void check_contents(struct history *self, const struct journal_contents *contents)
{
    struct lab_model model = self->model;
    bool matches = lab_model_matches(&model, contents);

    if (!matches && self->step.type == STEP_APPEND) {
        for (size_t count = 1; count <= self->step.count && !matches; count++) {
            model = self->model;
            lab_model_append(&model, self->step.index, count, self->step.term);
            matches = lab_model_matches(&model, contents);
        }
    } else if (!matches) {
        acknowledge(&model, &self->step);
        matches = lab_model_matches(&model, contents);
    }
    ck_assert_msg(matches, "acknowledged [%llu, %llu], step %d at %llu; there is [%llu, %llu]",
                  (unsigned long long)self->model.first, (unsigned long long)self->model.last,
                  (int)self->step.type, (unsigned long long)self->step.index,
                  (unsigned long long)contents->first_index,
                  (unsigned long long)(contents->first_index + contents->count - 1));
    self->model = model;
}

static void reopen_and_check(struct history *self)
{
    struct journal_contents contents;

    self->options.io = &disk.io;
    self->journal = lab_open(&self->options, &contents);
    check_contents(self, &contents);
    self->step = (struct step){.type = STEP_SEAL};
    journal_contents_fini(&contents);
}

static void history_init(struct history *self, uint64_t seed)
{
    *self = (struct history){
        .random = seed, .options = lab_options(&disk.io, "/"), .term = 1, .step = {STEP_SEAL}};
    lab_model_init(&self->model);
    self->options.no_direct = seed % 4 == 3;
}

/* ---- a call fails ---- */

/* A fixed sequence that comes by every operation, with rotation, recycling and truncation. Returns
 * the first error. */
static enum err run_script(struct history *self, struct io *io)
{
    static const struct step steps[] = {
        {STEP_APPEND, 1, 3, 1, 100},    {STEP_PREPARE, 0, 0, 0, 0},
        {STEP_PREPARE, 0, 0, 0, 0},     {STEP_APPEND, 4, 20, 1, 3000},
        {STEP_SEAL, 0, 0, 0, 0},        {STEP_APPEND, 24, 20, 1, 3000},
        {STEP_APPEND, 30, 5, 2, 2000},  {STEP_TRIM, 25, 0, 0, 0},
        {STEP_APPEND, 35, 30, 2, 3000}, {STEP_TRIM, 50, 0, 0, 0},
        {STEP_APPEND, 65, 1, 2, 70000}, {STEP_PREPARE, 0, 0, 0, 0},
        {STEP_RESET, 100, 0, 0, 0},     {STEP_APPEND, 100, 10, 3, 3000},
        {STEP_SEAL, 0, 0, 0, 0},        {STEP_APPEND, 110, 2, 3, 10},
    };
    struct journal_contents contents;
    enum err err;

    self->options.io = io;
    err = journal_open(&self->options, &self->journal, &contents, NULL);
    if (err != ERR_OK) {
        return err;
    }
    check_contents(self, &contents);
    journal_contents_fini(&contents);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && err == ERR_OK; i++) {
        self->step = steps[i];
        err = perform(self->journal, &self->step);
        if (err == ERR_OK) {
            acknowledge(&self->model, &self->step);
        } else if (err != ERR_NOSPACE || self->step.type != STEP_PREPARE) {
            /* J4 */
            ck_assert_int_eq(lab_append(self->journal, self->model.last + 1, 1, 9, 1), ERR_FAILED);
        }
    }
    journal_close(self->journal);
    return err;
}

static unsigned calls_of_script(bool short_writes)
{
    struct faulty_io faulty;
    struct history history;

    new_disk();
    faulty_io_init(&faulty, &disk.io);
    faulty_io_short_writes(&faulty, short_writes);
    history_init(&history, 0);
    ck_assert_int_eq(run_script(&history, &faulty.io), ERR_OK);
    ck_assert_uint_ge(faulty_io_calls(&faulty), 80);
    return faulty_io_calls(&faulty);
}

static void fail_each_call(int errno_value, bool sticky, bool short_writes, bool power_loss)
{
    unsigned calls = calls_of_script(short_writes);

    for (unsigned n = 1; n <= calls; n++) {
        struct faulty_io faulty;
        struct history history;
        uint64_t random = n;

        new_disk();
        faulty_io_init(&faulty, &disk.io);
        faulty_io_short_writes(&faulty, short_writes);
        faulty_io_fail_at(&faulty, n, errno_value, sticky);
        history_init(&history, 0);
        (void)run_script(&history, &faulty.io); /* What it did is in history. */
        ck_assert_uint_ge(faulty_io_calls(&faulty), n);
        if (power_loss) {
            mem_io_crash(&disk, lab_draw, &random);
        }
        reopen_and_check(&history);
        history.term = 10; /* Above those of the script. */
        ck_assert_int_eq(take_steps(&history, 5), ERR_OK);
        journal_close(history.journal);
        reopen_and_check(&history);
        journal_close(history.journal);
    }
}

START_TEST(one_failed_call_loses_nothing)
{
    fail_each_call(EIO, false, false, _i == 1);
}
END_TEST

START_TEST(full_disk_loses_nothing)
{
    fail_each_call(ENOSPC, true, false, _i == 1);
}
END_TEST

START_TEST(disk_that_is_gone_loses_nothing)
{
    fail_each_call(EIO, true, true, _i == 1);
}
END_TEST

START_TEST(short_writes_are_completed)
{
    struct faulty_io faulty;
    struct history history;

    faulty_io_init(&faulty, &disk.io);
    faulty_io_short_writes(&faulty, true);
    for (uint64_t seed = 0; seed < 4; seed++) {
        new_disk();
        history_init(&history, seed);
        ck_assert_int_eq(run_script(&history, &faulty.io), ERR_OK);
        reopen_and_check(&history);
        journal_close(history.journal);
    }
}
END_TEST

/* ---- a write reaches the page cache and no further ---- */

struct failing_write {
    unsigned left; /* Writes until then. */
};

static int fail_write(void *arg, struct mem_io_op *op)
{
    struct failing_write *self = arg;

    if (op->kind != MEM_IO_PWRITEV || self->left == 0 || --self->left > 0) {
        return 0;
    }
    op->partial = op->size;
    return EIO;
}

/* Where a file system has no O_DIRECT, a write that failed may be seen after a restart, and the
 * kernel takes it for written. What the journal gives must be durable nevertheless. */
START_TEST(what_is_found_after_a_failed_write_survives_power_loss)
{
    for (unsigned n = 1; n <= 40; n++) {
        struct failing_write failing = {.left = n};
        struct journal_contents first;
        struct journal_contents second;
        struct journal *journal;
        struct history history;
        uint64_t random = n;

        new_disk();
        history_init(&history, 0);
        history.options.no_direct = true;
        mem_io_set_hook(&disk, fail_write, &failing);
        (void)run_script(&history, &disk.io); /* What it did is not of interest. */
        mem_io_set_hook(&disk, NULL, NULL);
        journal = lab_open(&history.options, &first);
        lab_abandon(&disk, journal);
        mem_io_crash(&disk, lab_draw, &random);
        journal = lab_open(&history.options, &second);
        journal_close(journal);
        ck_assert_uint_eq(second.first_index, first.first_index);
        ck_assert_uint_eq(second.count, first.count);
        journal_contents_fini(&first);
        journal_contents_fini(&second);
    }
}
END_TEST

/* ---- power goes ---- */

struct outage {
    unsigned left; /* Calls until it comes; 0: it is there. */
    uint64_t random;
};

static int on_call(void *arg, struct mem_io_op *op)
{
    struct outage *outage = arg;

    if (outage->left > 1) {
        outage->left--;
        return 0;
    }
    if (outage->left == 1 && op->kind == MEM_IO_PWRITEV) {
        /* All, nothing or some of it got as far as the cache of the disk. */
        op->partial = lab_below(&outage->random, 3) * op->size / 2;
    }
    outage->left = 0;
    return EIO;
}

/* Opens and takes steps until the power goes; returns whether it went while opening. */
static void run_until_outage(struct history *self, struct outage *outage)
{
    struct journal_contents contents;
    enum err err;

    mem_io_set_hook(&disk, on_call, outage);
    self->options.io = &disk.io;
    err = journal_open(&self->options, &self->journal, &contents, NULL);
    ck_assert(err == ERR_OK || err == ERR_IO);
    if (err != ERR_OK) {
        return;
    }
    check_contents(self, &contents);
    journal_contents_fini(&contents);
    while (model_has_room(&self->model) && take_steps(self, 1) == ERR_OK) {
    }
    journal_close(self->journal);
}

/* Several outages in the life of one disk; some of them only kill the process. */
static void live_through_outages(uint64_t seed)
{
    struct history history;
    struct outage outage = {.random = ~seed};

    new_disk();
    history_init(&history, seed);
    for (unsigned round = 0; round < 6; round++) {
        outage.left = 1 + (unsigned)lab_below(&outage.random, round == 0 ? 60 : 150);
        run_until_outage(&history, &outage);
        mem_io_set_hook(&disk, NULL, NULL);
        if (lab_below(&outage.random, 4) == 0) {
            mem_io_kill(&disk);
        } else {
            mem_io_crash(&disk, lab_draw, &outage.random);
        }
        if (lab_below(&outage.random, 2) == 0) {
            reopen_and_check(&history);
            /* What was returned must survive from now on, whatever it was before (R3). */
            mem_io_crash(&disk, lab_draw, &outage.random);
            lab_abandon(&disk, history.journal);
        }
    }
    reopen_and_check(&history);
    journal_close(history.journal);
}

START_TEST(power_loss_at_any_moment_loses_nothing_acknowledged)
{
    for (uint64_t seed = 0; seed < 25; seed++) {
        live_through_outages((uint64_t)_i * 1000 + seed);
    }
}
END_TEST

/* The bytes of a journal's segments that are in use, and what is right behind them. */
struct used {
    unsigned count;
    struct {
        char path[64];
        uint64_t size;
    } files[8];
};

static void note_file(void *arg, const char *path, uint64_t size)
{
    struct used *used = arg;

    if (strstr(path, ".journal") != NULL) {
        ck_assert_uint_lt(used->count, 8);
        (void)snprintf(used->files[used->count].path, sizeof used->files[0].path, "%s", path);
        used->files[used->count].size = size < 8192 ? size : 8192;
        used->count++;
    }
}

/* Fails at the first call of a kind. */
static int fail_kind(void *arg, struct mem_io_op *op)
{
    const enum mem_io_kind *kind = arg;

    return op->kind == *kind ? EIO : 0;
}

/* Four full segments, and a process that dies in the middle of the given step. */
static void die_in_step(struct history *self, struct step step, enum mem_io_kind kind)
{
    history_init(self, 0);
    reopen_and_check(self);
    self->step = (struct step){STEP_APPEND, 1, 80, 1, 3000};
    ck_assert_int_eq(perform(self->journal, &self->step), ERR_OK);
    acknowledge(&self->model, &self->step);
    self->step = step;
    mem_io_set_hook(&disk, fail_kind, &kind);
    ck_assert_int_eq(perform(self->journal, &self->step), ERR_IO);
    mem_io_kill(&disk);
    lab_abandon(&disk, self->journal);
}

START_TEST(spare_whose_old_name_may_come_back_is_not_overwritten)
{
    enum mem_io_kind rename = MEM_IO_RENAME;
    struct history history;
    uint64_t random = (uint64_t)_i;

    /* The segment is renamed, but not durably. */
    die_in_step(&history, (struct step){.type = STEP_TRIM, .index = 60}, MEM_IO_SYNC_DIR);
    reopen_and_check(&history);
    history.step = (struct step){STEP_APPEND, 81, 1, 1, 10};
    mem_io_set_hook(&disk, fail_kind, &rename); /* It has the header of its next life by now. */
    ck_assert_int_eq(perform(history.journal, &history.step), ERR_IO);
    mem_io_crash(&disk, lab_draw, &random);
    lab_abandon(&disk, history.journal);
    reopen_and_check(&history);
    journal_close(history.journal);
}
END_TEST

START_TEST(reset_that_freed_nothing_lets_a_later_trim_free_it)
{
    struct used used = {.count = 0};
    struct history history;

    die_in_step(&history, (struct step){.type = STEP_RESET, .index = 5}, MEM_IO_RENAME);
    reopen_and_check(&history);
    ck_assert_uint_eq(history.model.first, 5);
    history.step = (struct step){STEP_APPEND, 5, 2, 2, 10};
    ck_assert_int_eq(perform(history.journal, &history.step), ERR_OK);
    acknowledge(&history.model, &history.step);
    ck_assert_int_eq(journal_trim(history.journal, 4, NULL), ERR_OK);
    mem_io_files(&disk, note_file, &used);
    ck_assert_uint_eq(used.count, 1);
    journal_close(history.journal);
    reopen_and_check(&history);
    journal_close(history.journal);
}
END_TEST

/* ---- bits flip ---- */

/* Segments that were recycled and cut, trims, truncations, and a seal at the end. */
static void make_small_journal(struct history *self)
{
    history_init(self, 0);
    reopen_and_check(self);
    self->step = (struct step){STEP_APPEND, 1, 40, 1, 3000};
    ck_assert_int_eq(perform(self->journal, &self->step), ERR_OK);
    acknowledge(&self->model, &self->step);
    self->step = (struct step){STEP_TRIM, 30, 0, 0, 0};
    ck_assert_int_eq(perform(self->journal, &self->step), ERR_OK);
    acknowledge(&self->model, &self->step);
    self->step = (struct step){STEP_RESET, 5, 0, 0, 0};
    ck_assert_int_eq(perform(self->journal, &self->step), ERR_OK);
    acknowledge(&self->model, &self->step);
    journal_close(self->journal);
    self->step = (struct step){STEP_SEAL};
    reopen_and_check(self);
    for (uint64_t i = 0; i < 6; i++) {
        self->step = (struct step){STEP_APPEND, 5 + i * 2, 3, 2 + i, 30 * (uint32_t)i};
        ck_assert_int_eq(perform(self->journal, &self->step), ERR_OK);
        acknowledge(&self->model, &self->step);
    }
    self->step = (struct step){STEP_SEAL};
}

/* All acknowledged entries are there, or the error says where the damage is. Returns whether they
 * are there. */
static bool open_damaged(const struct history *history, const char *path)
{
    struct err_info info = {.text = ""};
    struct journal_contents contents;
    struct journal *journal;
    enum err err = journal_open(&history->options, &journal, &contents, &info);

    if (err != ERR_OK) {
        ck_assert_int_eq(err, ERR_CORRUPT);
        ck_assert_msg(strstr(info.text, path) != NULL && strstr(info.text, " at ") != NULL,
                      "'%s' does not name %s", info.text, path);
        return false;
    }
    ck_assert(lab_model_matches(&history->model, &contents));
    journal_contents_fini(&contents);
    journal_close(journal);
    return true;
}

/* From now on, opening and closing change nothing. */
static void make_closed_journal(struct history *self)
{
    new_disk();
    make_small_journal(self);
    journal_close(self->journal);
    reopen_and_check(self);
    journal_close(self->journal);
}

START_TEST(flipped_bit_in_a_closed_journal_is_found_or_harmless)
{
    struct used used = {.count = 0};
    struct history history;
    unsigned found = 0;

    make_closed_journal(&history);
    mem_io_files(&disk, note_file, &used);
    ck_assert_uint_ge(used.count, 2);
    for (unsigned i = 0; i < used.count; i++) {
        for (uint64_t position = 0; position < used.files[i].size; position++) {
            unsigned bit = (unsigned)(position * 5 % 8);

            ck_assert_int_eq(mem_io_flip(&disk, used.files[i].path, position, bit), 0);
            found += open_damaged(&history, used.files[i].path) ? 0 : 1;
            if (mem_io_flip(&disk, used.files[i].path, position, bit) != 0) {
                make_closed_journal(&history); /* A damaged seal was cut. */
            }
        }
    }
    ck_assert_uint_ge(found, 1024 + 7 * 64);
    ck_assert(open_damaged(&history, "?"));
}
END_TEST

/* Behind the seal the file goes on, with zeros or with what it held before. */
START_TEST(flipped_bit_in_a_sealed_journal_is_found_or_harmless)
{
    for (uint64_t position = 0; position < 6144; position += 7) {
        struct used used = {.count = 0};
        struct history history;
        const char *path;

        new_disk();
        make_small_journal(&history);
        ck_assert_int_eq(journal_seal(history.journal, NULL), ERR_OK);
        mem_io_kill(&disk);
        lab_abandon(&disk, history.journal);
        mem_io_files(&disk, note_file, &used);
        path = used.files[used.count - 1].path;
        ck_assert_int_eq(mem_io_flip(&disk, path, position, (unsigned)(position % 8)), 0);
        (void)open_damaged(&history, path); /* Either is right. */
    }
}
END_TEST

START_TEST(damage_to_the_last_batch_without_a_seal_is_taken_for_a_torn_write)
{
    struct history history;
    struct journal_contents contents;

    make_small_journal(&history);
    mem_io_kill(&disk);
    lab_abandon(&disk, history.journal);
    /* Segment 3: header, five batches of a sector each, the sixth. */
    ck_assert_int_eq(mem_io_flip(&disk, "/0000000000000003.journal", 512 * 7 + 100, 0), 0);
    history.journal = lab_open(&history.options, &contents);
    ck_assert(contents.torn);
    ck_assert_str_eq(contents.torn_path, "0000000000000003.journal");
    ck_assert_uint_eq(contents.torn_position % 512, 0);
    ck_assert_uint_eq(journal_last_index(history.journal), 15);
    journal_contents_fini(&contents);
    journal_close(history.journal);
}
END_TEST

/* Where nothing but the gap in the sequences shows it: the log would be dense without the batch. */
START_TEST(damaged_last_batch_of_a_full_segment_is_corrupt)
{
    struct history history;
    struct journal_contents contents;
    struct err_info info;

    history_init(&history, 0);
    reopen_and_check(&history);
    ck_assert_int_eq(lab_append(history.journal, 1, 10, 1, 10), ERR_OK);
    ck_assert_int_eq(lab_append(history.journal, 8, 1, 1, 5000), ERR_OK); /* Truncates. */
    ck_assert_int_eq(lab_append(history.journal, 9, 1, 1, 60000), ERR_OK);
    journal_close(history.journal);
    ck_assert_int_eq(mem_io_flip(&disk, "/0000000000000001.journal", 512 * 3 + 20, 0), 0);
    ck_assert_int_eq(journal_open(&history.options, &history.journal, &contents, &info),
                     ERR_CORRUPT);
    ck_assert_msg(strstr(info.text, "1.journal' at 1536: ") != NULL, "%s", info.text);
    ck_assert_msg(strstr(info.text, "2.journal'") != NULL, "%s", info.text);
}
END_TEST

START_TEST(shortened_file_is_corrupt)
{
    struct history history;
    struct journal_contents contents;
    struct err_info info;
    int fd;

    make_small_journal(&history);
    journal_close(history.journal);
    ck_assert_int_eq(io_open(&disk.io, "/0000000000000003.journal", O_RDWR, &fd, NULL), ERR_OK);
    ck_assert_int_eq(disk.io.truncate(&disk.io, fd, 512 * 2 + 100), 0);
    io_close(&disk.io, &fd);
    ck_assert_int_eq(journal_open(&history.options, &history.journal, &contents, &info),
                     ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "3.journal' at "));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/journal_faults");
    TCase *tc = tcase_create("failed calls");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, one_failed_call_loses_nothing, 0, 2);
    tcase_add_loop_test(tc, full_disk_loses_nothing, 0, 2);
    tcase_add_loop_test(tc, disk_that_is_gone_loses_nothing, 0, 2);
    tcase_add_test(tc, short_writes_are_completed);
    tcase_add_test(tc, what_is_found_after_a_failed_write_survives_power_loss);
    suite_add_tcase(suite, tc);
    tc = tcase_create("power loss");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, power_loss_at_any_moment_loses_nothing_acknowledged, 0, 4);
    tcase_add_loop_test(tc, spare_whose_old_name_may_come_back_is_not_overwritten, 0, 16);
    tcase_add_test(tc, reset_that_freed_nothing_lets_a_later_trim_free_it);
    suite_add_tcase(suite, tc);
    tc = tcase_create("bit flips");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, flipped_bit_in_a_closed_journal_is_found_or_harmless);
    tcase_add_test(tc, flipped_bit_in_a_sealed_journal_is_found_or_harmless);
    tcase_add_test(tc, damage_to_the_last_batch_without_a_seal_is_taken_for_a_torn_write);
    tcase_add_test(tc, damaged_last_batch_of_a_full_segment_is_corrupt);
    tcase_add_test(tc, shortened_file_is_corrupt);
    suite_add_tcase(suite, tc);
    return runner_main(suite);
}
