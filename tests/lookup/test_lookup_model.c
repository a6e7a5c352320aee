/*
 * Random topics, indexes, questions; builds under way, trims, compaction, deleted files, flipped
 * bits, restarts: whatever happens, no record that matches is passed over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/runner.h"
#include "lookup/lookup_lab.h"

enum { SEEDS = 12, STEPS = 60, TOPICS = 2 };

struct model {
    struct lab lab;
    struct lab_topic topics[TOPICS];
};

static void ask(struct model *self, struct lab_topic *topic)
{
    struct lab *lab = &self->lab;
    uint64_t start = log_start(topic->log);
    uint64_t from;
    uint64_t to;
    struct lookup_query query = {.newest_first = lab_random(lab, 2) == 0};
    int32_t key = lab_random(lab, 4) == 0 ? LAB_NO_KEY : (int32_t)lab_random(lab, 60);

    if (start == topic->end) {
        return;
    }
    from = start + lab_random(lab, topic->end - start);
    to = from + 1 + lab_random(lab, topic->end - from);
    if (lab_random(lab, 3) == 0) {
        from = start;
        to = topic->end;
    }
    if (lab_random(lab, 2) == 0) {
        query.since_us =
            topic->records[lab_random(lab, topic->end)].time_us + (int64_t)lab_random(lab, 3) - 1;
    }
    if (lab_random(lab, 2) == 0) {
        query.until_us =
            topic->records[lab_random(lab, topic->end)].time_us + (int64_t)lab_random(lab, 3) - 1;
    }
    lab_check(lab, topic, key, &query, from, to, NULL);
}

static void harm(struct model *self, struct lab_topic *topic, bool remove)
{
    char **files = lab_files(&self->lab, topic, "");
    size_t count = 0;

    while (files[count] != NULL) {
        count++;
    }
    if (count > 0) {
        const char *path = files[lab_random(&self->lab, count)];
        size_t length = strlen(path);

        if (remove) {
            (void)unlink(path); /* or it went meanwhile */
        } else if (self->lab.lookup == NULL && strcmp(path + length - 4, ".tmp") != 0) {
            lab_flip_bit(path, lab_random(&self->lab, lab_file_size(path) * 8));
        }
    }
    lab_files_free(files);
}

static void trim(struct model *self, struct lab_topic *topic)
{
    uint64_t start = log_start(topic->log);

    ck_assert_int_eq(log_truncate_front(topic->log,
                                        start + lab_random(&self->lab, topic->end - start + 1) / 2,
                                        NULL),
                     ERR_OK);
}

static void compact(struct model *self, struct lab_topic *topic)
{
    struct lab *lab = &self->lab;
    uint64_t start = log_start(topic->log);

    if (start < topic->end) {
        lab_compact(topic, start + lab_random(lab, topic->end - start + 1),
                    (unsigned)lab_random(lab, 5));
    }
}

static void step(struct model *self)
{
    struct lab *lab = &self->lab;
    struct lab_topic *topic = &self->topics[lab_random(lab, TOPICS)];

    switch (lab_random(lab, 13)) {
    case 0:
    case 1:
    case 2:
        for (uint64_t i = lab_random(lab, 60); i > 0; i--) {
            lab_append(lab, topic, 1 + (unsigned)lab_random(lab, 8), 50);
        }
        lookup_wake(lab->lookup);
        break;
    case 3:
        lab_set_indexes(topic, (uint32_t)lab_random(lab, TOPIC_INDEXES_KNOWN + 1));
        lookup_wake(lab->lookup);
        break;
    case 4:
        lab_wait_ready(lab, topic);
        break;
    case 5:
        trim(self, topic);
        break;
    case 6:
        harm(self, topic, true);
        break;
    case 7:
        lab_stop(lab);
        for (uint64_t i = lab_random(lab, 4); i > 0; i--) {
            harm(self, topic, lab_random(lab, 4) == 0);
        }
        lab_start(lab);
        break;
    case 8:
        compact(self, topic);
        break;
    default:
        ask(self, topic);
        break;
    }
}

START_TEST(no_record_is_passed_over)
{
    struct model *self = calloc(1, sizeof *self);

    ck_assert_ptr_nonnull(self);
    lab_init(&self->lab, (uint64_t)_i + 1);
    self->lab.options.table_max = 64;
    self->lab.options.check_ms = 50;
    for (unsigned i = 0; i < TOPICS; i++) {
        lab_topic_init(&self->lab, &self->topics[i], i + 1, i == 0 ? "one" : "two");
        lab_set_indexes(&self->topics[i], TOPIC_INDEXES_KNOWN);
    }
    lab_start(&self->lab);
    for (unsigned i = 0; i < STEPS; i++) {
        step(self);
        ask(self, &self->topics[i % TOPICS]);
    }
    for (unsigned i = 0; i < TOPICS; i++) {
        lab_set_indexes(&self->topics[i], TOPIC_INDEXES_KNOWN);
        lookup_wake(self->lab.lookup);
        lab_wait_ready(&self->lab, &self->topics[i]);
        for (unsigned k = 0; k < 20; k++) {
            ask(self, &self->topics[i]);
        }
    }
    lab_fini(&self->lab);
    for (unsigned i = 0; i < TOPICS; i++) {
        lab_topic_fini(&self->topics[i]);
    }
    free(self);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lookup_model");
    TCase *tcase = tcase_create("random");

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, no_record_is_passed_over, 0, SEEDS);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
