/*
 * The sweeps against the definition, in both directions, over small histories that hold and that
 * don't. More of them with QUORLOG_CHECKER_SEEDS.
 */
#include "brute.h"

#include <stdlib.h>
#include <string.h>

#include "judge.h"
#include "lib/runner.h"

enum { SEEDS_DEFAULT = 6000, OPS_MAX = 9, NODES = 2, LOG_MAX = 32 };

static const struct checker_options lenient = {.unknown_max_percent = 100};

static uint64_t seed_count(void)
{
    const char *text = getenv("QUORLOG_CHECKER_SEEDS");

    return text == NULL ? SEEDS_DEFAULT : strtoull(text, NULL, 10);
}

/* ---- small histories ---- */

struct lab {
    struct random random;
    struct story *story;
    uint64_t log[LOG_MAX];
    uint64_t lengths[LOG_MAX]; /* that the log has had */
    size_t length_count;
    size_t end;
    uint64_t token;
    bool looked;
    uint32_t sequence;
    uint32_t epoch;
    uint64_t next_value;
};

static void produce(struct lab *self, struct history_op *op)
{
    uint64_t values[2];
    bool happens;

    op->kind = HISTORY_PRODUCE;
    op->outcome = random_chance(&self->random, 60)   ? HISTORY_OK
                  : random_chance(&self->random, 80) ? HISTORY_UNKNOWN
                                                     : HISTORY_FAIL;
    op->values = values;
    op->value_count = 1 + random_below(&self->random, 2);
    for (size_t i = 0; i < op->value_count; i++) {
        values[i] = ++self->next_value;
    }
    happens = op->outcome == HISTORY_OK ||
              (op->outcome == HISTORY_UNKNOWN && random_chance(&self->random, 60));
    if (random_chance(&self->random, 40)) {
        self->epoch += random_chance(&self->random, 30);
        op->producer_id = 5;
        op->epoch = self->epoch;
        op->producer_sequence = self->sequence;
        self->sequence += happens ? (uint32_t)op->value_count : 0;
    }
    if (random_chance(&self->random, 25)) {
        op->has_expect = true;
        op->expect_offset = self->end;
    }
    if (happens) {
        /* Those that nobody looked between may have come in one entry. */
        self->token += self->looked || random_chance(&self->random, 70);
        self->looked = false;
        op->offset = op->outcome == HISTORY_OK ? self->end : 0;
        op->token = op->outcome == HISTORY_OK ? self->token : 0;
        memcpy(self->log + self->end, values, op->value_count * sizeof values[0]);
        self->end += op->value_count;
        self->lengths[self->length_count++] = self->end;
    }
    (void)story_add(self->story, op);
}

static void read_log(struct lab *self, struct history_op *op)
{
    self->looked = true;
    op->kind = HISTORY_READ;
    op->mode = (enum history_read_mode)random_below(&self->random, 4);
    op->log_end = self->end;
    if (op->mode == HISTORY_READ_LOCAL) {
        op->log_end = self->lengths[random_below(&self->random, self->length_count)];
    }
    op->at_least = op->mode == HISTORY_READ_TOKEN && self->token > 0
                       ? random_below(&self->random, self->token + 1)
                       : 0;
    op->lag_us = op->mode == HISTORY_READ_MAX_LAG ? random_below(&self->random, 8) : 0;
    op->offset = random_below(&self->random, op->log_end + 1);
    op->value_count = random_below(&self->random, op->log_end - op->offset + 1);
    op->value_count = op->value_count < 3 ? op->value_count : 3;
    op->values = self->log + op->offset;
    (void)story_add(self->story, op);
}

/* Holds: everything happens in turn, each thing within its span. */
static void make_small(uint64_t seed, bool dumps, struct story *ret_story)
{
    struct lab lab = {.random = {seed}, .story = ret_story, .length_count = 1, .token = 1};
    size_t count = 2 + random_below(&lab.random, OPS_MAX - 1);
    uint64_t at_us = 10;

    *ret_story = (struct story){0};
    for (size_t i = 0; i < count; i++) {
        uint64_t before_us = random_below(&lab.random, 8);
        struct history_op op = {.client = 10 + (uint32_t)i, .topic = "t"};

        at_us += random_below(&lab.random, 6);
        op.invoke_us = at_us - before_us;
        op.return_us = at_us + random_below(&lab.random, 8);
        if (random_chance(&lab.random, 60)) {
            produce(&lab, &op);
        } else {
            read_log(&lab, &op);
        }
    }
    for (uint32_t node = 1; dumps && node <= NODES; node++) {
        struct history_op op = {.kind = HISTORY_DUMP, .topic = "t", .node = node};

        op.invoke_us = 1000;
        op.log_end = lab.end;
        op.values = lab.log;
        op.value_count = lab.end;
        (void)story_add(ret_story, &op);
    }
}

static void move_time(struct history_op *op, struct random *random)
{
    uint64_t by_us = 1 + random_below(random, 12);

    if (op->kind == HISTORY_DUMP) {
        return;
    }
    if (random_chance(random, 50)) {
        op->invoke_us += by_us;
        op->return_us += by_us;
    } else if (op->invoke_us > by_us) {
        op->invoke_us -= by_us;
        op->return_us -= by_us;
    }
}

static void bump(uint64_t *number, struct random *random)
{
    *number += random_chance(random, 50) || *number == 0 ? 1 : (uint64_t)-1;
}

static void change_values(struct story *story, struct history_op *op, struct random *random)
{
    uint64_t *values = story_values(op);
    uint64_t first;

    if (op->value_count < 1 || op->kind == HISTORY_PRODUCE) {
        return;
    }
    if (op->value_count > 1 && random_chance(random, 50)) {
        first = values[0];
        values[0] = values[1];
        values[1] = first;
    } else {
        values[random_below(random, op->value_count)] = 1 + random_below(random, 12);
    }
    /* Half of the time all copies are changed alike. */
    for (size_t i = 0; op->kind == HISTORY_DUMP && i < story->count && random_chance(random, 70);
         i++) {
        if (story->ops[i].kind == HISTORY_DUMP && &story->ops[i] != op) {
            story_set_values(&story->ops[i], op->values, op->value_count);
            story->ops[i].log_end = op->log_end;
        }
    }
}

static void shorten(struct story *story, struct random *random)
{
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_DUMP && op->value_count > 0 && random_chance(random, 80)) {
            op->value_count--;
            op->log_end--;
        }
    }
}

/* Something else, which may or may not be as true. */
static void spoil(struct story *story, struct random *random)
{
    struct history_op *op = &story->ops[random_below(random, story->count)];

    switch (random_below(random, 9)) {
    case 0:
    case 1:
        move_time(op, random);
        break;
    case 2:
        bump(&op->offset, random);
        break;
    case 3:
        bump(&op->log_end, random);
        break;
    case 4:
        bump(op->kind == HISTORY_PRODUCE ? &op->token : &op->at_least, random);
        break;
    case 5:
        change_values(story, op, random);
        break;
    case 6:
        op->outcome = op->kind == HISTORY_PRODUCE ? (enum history_outcome)random_below(random, 3)
                                                  : op->outcome;
        break;
    case 7:
        op->producer_sequence += random_chance(random, 50);
        op->epoch += random_chance(random, 50);
        op->expect_offset += random_chance(random, 50);
        break;
    default:
        shorten(story, random);
        break;
    }
}

/* What the definition has nothing to do with: an answer without a token, a read whose `at_least`
 * says nothing, a dump with the mode of a read. */
static void make_plain(struct story *story)
{
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_PRODUCE && op->token == 0) {
            op->token = 1;
        }
    }
}

static void explain(const struct story *story, bool holds)
{
    (void)fprintf(stderr, "by definition it %s\n", holds ? "holds" : "doesn't hold");
    judge_explain(story);
}

START_TEST(the_sweeps_agree_with_the_definition)
{
    unsigned counts[2] = {0, 0};

    for (uint64_t seed = 1; seed <= seed_count(); seed++) {
        struct random random = {seed + 77};
        struct story story;
        bool holds;
        bool found;

        make_small(seed, true, &story);
        ck_assert(brute_decide(&story));
        for (uint64_t i = random_below(&random, 4); i > 0; i--) {
            spoil(&story, &random);
        }
        make_plain(&story);
        holds = brute_decide(&story);
        found = judge_violated(&story, &lenient) != 0;
        counts[holds]++;
        if (holds == found) {
            explain(&story, holds);
        }
        ck_assert_msg(holds != found, "seed %llu", (unsigned long long)seed);
        story_fini(&story);
    }
    /* Else one direction would hardly be tested. */
    ck_assert_uint_ge(counts[0], seed_count() / 5);
    ck_assert_uint_ge(counts[1], seed_count() / 5);
}
END_TEST

/* Without a dump (of a topic that is gone) F is what was seen. The checker then finds less than
 * there is to find, but nothing that isn't wrong. */
START_TEST(without_dumps_what_is_found_is_wrong_by_definition)
{
    unsigned found_count = 0;

    for (uint64_t seed = 1; seed <= seed_count(); seed++) {
        struct random random = {seed + 78};
        struct history_op deleted = {.kind = HISTORY_EVENT,
                                     .event = HISTORY_EVENT_DELETED,
                                     .outcome = HISTORY_UNKNOWN,
                                     .topic = "t"};
        struct story story;
        bool holds;
        bool found;

        make_small(seed, false, &story);
        for (uint64_t i = random_below(&random, 4); i > 0; i--) {
            spoil(&story, &random);
        }
        make_plain(&story);
        (void)story_add(&story, &deleted);
        holds = brute_decide(&story);
        found = judge_violated(&story, &lenient) != 0;
        if (holds && found) {
            explain(&story, holds);
        }
        ck_assert_msg(!(holds && found), "seed %llu", (unsigned long long)seed);
        found_count += found;
        story_fini(&story);
    }
    ck_assert_uint_ge(found_count, seed_count() / 10);
}
END_TEST

/* Why less is found: nobody wrote what should stand before, but nobody looked either. */
START_TEST(without_a_dump_a_gap_that_nobody_saw_is_not_found)
{
    const uint64_t value = 1;
    struct history_op produced = {.kind = HISTORY_PRODUCE,
                                  .client = 1,
                                  .topic = "t",
                                  .invoke_us = 1,
                                  .return_us = 2,
                                  .offset = 7,
                                  .values = &value,
                                  .value_count = 1,
                                  .token = 1};
    struct history_op deleted = {.kind = HISTORY_EVENT, .event = HISTORY_EVENT_DELETED};
    struct history_op dumped = {.kind = HISTORY_DUMP, .topic = "t", .node = 1, .log_end = 8};
    struct story story = {0};

    deleted.topic = "t";
    (void)story_add(&story, &produced);
    (void)story_add(&story, &deleted);
    ck_assert(!brute_decide(&story));
    ck_assert_uint_eq(judge_violated(&story, NULL), 0);
    story_remove(&story, 1);
    (void)story_add(&story, &dumped);
    ck_assert_uint_ne(judge_violated(&story, NULL), 0);
    story_fini(&story);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/brute");
    TCase *tcase = tcase_create("the definition");

    tcase_set_timeout(tcase, 600);
    tcase_add_test(tcase, the_sweeps_agree_with_the_definition);
    tcase_add_test(tcase, without_dumps_what_is_found_is_wrong_by_definition);
    tcase_add_test(tcase, without_a_dump_a_gap_that_nobody_saw_is_not_found);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
