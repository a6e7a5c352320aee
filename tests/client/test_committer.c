/* A committer against the scripted cluster: what is done is committed, once, by one. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "client/cursor.h"
#include "client/fixture.h"
#include "lib/runner.h"

static struct {
    unsigned opens;
    bool opened;
    enum err open_err;
    bool exists;
    uint64_t offset;
    uint64_t token;
    unsigned ends;
    bool ended;
    enum err err;
    char text[512];
    uint64_t committed;
    bool free_when_opened;
} got;
static struct committer *committer;

static void free_committer(void)
{
    committer_free(committer);
    committer = NULL;
}

static void on_opened(void *arg, const struct client_error *error, bool exists, uint64_t offset,
                      uint64_t token)
{
    ck_assert_ptr_eq(arg, &got);
    got.opens++;
    got.opened = true;
    got.open_err = error->err;
    got.exists = exists;
    got.offset = offset;
    got.token = token;
    if (got.free_when_opened) {
        free_committer();
    }
}

static void on_ended(void *arg, const struct client_error *error, uint64_t committed)
{
    ck_assert_ptr_eq(arg, &got);
    ck_assert(got.opened);
    got.ends++;
    got.ended = true;
    got.err = error->err;
    got.committed = committed;
    (void)snprintf(got.text, sizeof got.text, "%s", error->text); /* Cut text will do. */
    free_committer();
}

static void setup(void)
{
    fixture_setup();
    memset(&got, 0, sizeof got);
    committer = NULL;
}

static void teardown(void)
{
    free_committer();
    fixture_teardown();
    ck_assert_uint_le(got.opens, 1);
    ck_assert_uint_le(got.ends, 1);
}

static void start(struct committer_options options)
{
    static const struct committer_events events = {.opened = on_opened, .ended = on_ended};

    options.topic = options.topic == NULL ? "t" : options.topic;
    options.name = "c";
    if (f.client == NULL) {
        fixture_connect(true, 1000);
    }
    ck_assert_int_eq(committer_new(f.client, &options, &events, &got, &committer), ERR_OK);
    ck_assert_uint_eq(got.opens, 0);
}

static void open_it(struct committer_options options)
{
    start(options);
    loop_run_until(&f.loop, &got.opened);
    ck_assert_int_eq(got.open_err, ERR_OK);
}

static void close_it(void)
{
    committer_close(committer);
    loop_run_until(&f.loop, &got.ended);
}

static void script(uint16_t type, enum fake_action action, enum err err, unsigned times)
{
    const struct fake_rule rule = {.type = type, .action = action, .err = err, .times = times};

    fake_node_script(f.one, &rule);
    fake_node_script(f.two, &rule);
}

/* Somebody else does. */
static void set_cursor(uint64_t offset)
{
    f.cluster.cursor.offset = offset;
    f.cluster.cursor.owner = 1;
    f.cluster.cursor.revision = 1000 + ++f.cluster.raft_index;
    strcpy(f.cluster.cursor.name, "c");
}

static bool is_committed(void *arg)
{
    return f.cluster.cursor.revision > 0 && f.cluster.cursor.offset == *(const uint64_t *)arg;
}

static void wait_committed(uint64_t offset)
{
    loop_run_until_true(&f.loop, is_committed, &offset);
}

/* ---- opening ---- */

START_TEST(a_cursor_that_is_not_there_is_made_by_the_first_advance)
{
    open_it((struct committer_options){.interval_ms = 60000});
    ck_assert(!got.exists);
    ck_assert_uint_eq(got.offset, 0);
    loop_run_for(&f.loop, 20);
    ck_assert_uint_eq(f.cluster.cursor.sets, 0);
    committer_advance(committer, 7); /* Nothing is done: it is where the reading begins. */
    wait_committed(7);
    ck_assert_str_eq(f.cluster.cursor.name, "c");
    ck_assert_uint_ne(f.cluster.cursor.owner, 0);
}
END_TEST

START_TEST(one_that_is_there_is_taken_over)
{
    set_cursor(5);
    open_it((struct committer_options){0});
    ck_assert(got.exists);
    ck_assert_uint_eq(got.offset, 5);
    ck_assert_uint_eq(got.token, f.cluster.raft_index);
    ck_assert_uint_eq(f.cluster.cursor.offset, 5);
    ck_assert_uint_gt(f.cluster.cursor.owner, 1);
}
END_TEST

START_TEST(who_is_slower_takes_over_from_who_was_faster)
{
    set_cursor(5);
    script(TYPE(CURSOR_SET), FAKE_ANSWER, ERR_OK, 1);
    script(TYPE(CURSOR_SET), FAKE_HOLD, ERR_OK, 1);
    start((struct committer_options){0});
    while (fake_node_held(f.one) == 0) {
        loop_run_for(&f.loop, 1);
    }
    set_cursor(6);
    fake_node_release(f.one);
    loop_run_until(&f.loop, &got.opened);
    ck_assert_int_eq(got.open_err, ERR_OK);
    ck_assert_uint_eq(got.offset, 6);
    ck_assert_uint_gt(f.cluster.cursor.owner, 1);
}
END_TEST

START_TEST(a_topic_that_is_unknown_is_told_at_once)
{
    start((struct committer_options){.topic = "u"});
    loop_run_until(&f.loop, &got.opened);
    ck_assert_int_eq(got.open_err, ERR_TOPIC_UNKNOWN);
    loop_run_for(&f.loop, 10);
    ck_assert_uint_eq(got.ends, 0);
}
END_TEST

START_TEST(without_a_leader_the_deadline_decides)
{
    fake_node_settings(f.one)->leaderless = true;
    fake_node_settings(f.two)->leaderless = true;
    fixture_connect(true, 200);
    start((struct committer_options){0});
    loop_run_until(&f.loop, &got.opened);
    ck_assert_int_eq(got.open_err, ERR_NO_LEADER);
}
END_TEST

START_TEST(what_is_no_name_is_invalid)
{
    static const struct committer_events events = {.opened = on_opened, .ended = on_ended};
    struct committer_options options = {.topic = "t", .name = ""};

    fixture_connect(false, 1000);
    ck_assert_int_eq(committer_new(f.client, &options, &events, &got, &committer), ERR_INVALID);
    options = (struct committer_options){.topic = "", .name = "c"};
    ck_assert_int_eq(committer_new(f.client, &options, &events, &got, &committer), ERR_INVALID);
}
END_TEST

/* ---- committing ---- */

START_TEST(so_many_records_are_committed_together)
{
    set_cursor(0);
    open_it((struct committer_options){.records_max = 10, .interval_ms = 60000});
    for (uint64_t i = 1; i < 10; i++) {
        committer_advance(committer, i);
        loop_run_for(&f.loop, 1);
    }
    ck_assert_uint_eq(f.cluster.cursor.sets, 1); /* It was taken over. */
    committer_advance(committer, 10);
    wait_committed(10);
    ck_assert_uint_eq(f.cluster.cursor.sets, 2);
    committer_advance(committer, 10); /* nothing new */
    loop_run_for(&f.loop, 10);
    ck_assert_uint_eq(f.cluster.cursor.sets, 2);
}
END_TEST

START_TEST(a_single_record_is_committed_after_a_while)
{
    set_cursor(0);
    open_it((struct committer_options){.records_max = 1000, .interval_ms = 60});
    committer_advance(committer, 1);
    loop_run_for(&f.loop, 10);
    ck_assert_uint_eq(f.cluster.cursor.offset, 0);
    wait_committed(1);
    committer_advance(committer, 2);
    wait_committed(2);
    ck_assert_uint_eq(f.cluster.cursor.sets, 3);
}
END_TEST

START_TEST(closing_commits_the_rest)
{
    set_cursor(3);
    open_it((struct committer_options){.records_max = 1000, .interval_ms = 60000});
    committer_advance(committer, 8);
    close_it();
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(got.committed, 8);
    ck_assert_uint_eq(f.cluster.cursor.offset, 8);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(CURSOR_GET)), 1); /* until it is shown */
}
END_TEST

START_TEST(who_takes_over_from_one_that_closes_does_not_disturb_it)
{
    set_cursor(3);
    open_it((struct committer_options){.interval_ms = 60000});
    committer_advance(committer, 8);
    script(TYPE(CURSOR_GET), FAKE_HOLD, ERR_OK, 1);
    committer_close(committer);
    while (fake_node_held(f.one) == 0) {
        loop_run_for(&f.loop, 1);
    }
    set_cursor(8);
    fake_node_release(f.one);
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(got.committed, 8);
}
END_TEST

START_TEST(closing_with_nothing_to_commit_changes_nothing)
{
    open_it((struct committer_options){0});
    close_it();
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(f.cluster.cursor.sets, 0);
}
END_TEST

/* ---- failures ---- */

/* The first _i of making, taking over, committing are applied, and their answers lost. */
START_TEST(a_change_that_was_made_is_known_again)
{
    static const enum fake_action actions[] = {FAKE_APPLY_DROP, FAKE_APPLY_ERROR};

    if (_i < 2) {
        set_cursor(0);
    }
    if (_i % 2 == 0) {
        script(TYPE(CURSOR_SET), FAKE_ANSWER, ERR_OK, 1);
        script(TYPE(CURSOR_SET), actions[_i / 2], ERR_TIMEOUT, 1);
    }
    open_it((struct committer_options){.records_max = 1});
    if (_i % 2 == 1) {
        script(TYPE(CURSOR_SET), actions[_i / 2], ERR_LEADERSHIP_LOST, 1);
    }
    committer_advance(committer, 1);
    wait_committed(1);
    loop_run_for(&f.loop, 5);
    committer_advance(committer, 2);
    wait_committed(2);
    close_it();
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(got.committed, 2);
}
END_TEST

START_TEST(what_may_pass_is_borne)
{
    set_cursor(0);
    fixture_connect(true, 100);
    open_it((struct committer_options){.records_max = 1});
    fake_node_settings(f.one)->leaderless = true;
    fake_node_settings(f.two)->leaderless = true;
    committer_advance(committer, 1);
    loop_run_for(&f.loop, 300); /* Longer than a request may last. */
    ck_assert(!got.ended);
    fake_node_settings(f.one)->leaderless = false;
    fake_node_settings(f.two)->leaderless = false;
    wait_committed(1);
}
END_TEST

START_TEST(but_not_by_who_closes)
{
    set_cursor(0);
    fixture_connect(true, 100);
    open_it((struct committer_options){.interval_ms = 60000});
    committer_advance(committer, 1);
    fake_node_settings(f.one)->leaderless = true;
    fake_node_settings(f.two)->leaderless = true;
    close_it();
    ck_assert_int_eq(got.err, ERR_NO_LEADER);
    ck_assert_uint_eq(got.committed, 0);
}
END_TEST

START_TEST(another_who_has_taken_over_is_told)
{
    set_cursor(0);
    open_it((struct committer_options){.records_max = 1});
    set_cursor(0); /* The same place, but another's. */
    committer_advance(committer, 4);
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_CURSOR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(got.text, "taken over"));
    ck_assert_uint_eq(got.committed, 0);
    ck_assert_uint_eq(f.cluster.cursor.offset, 0);
    ck_assert_uint_eq(f.cluster.cursor.owner, 1);
}
END_TEST

START_TEST(a_cursor_that_was_deleted_is_told)
{
    set_cursor(0);
    open_it((struct committer_options){.records_max = 1});
    f.cluster.cursor = (struct fake_cursor){0};
    committer_advance(committer, 1);
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_CURSOR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(got.text, "deleted"));
}
END_TEST

START_TEST(a_cursor_that_another_has_made_meanwhile_is_not_ours)
{
    open_it((struct committer_options){0});
    set_cursor(9);
    committer_advance(committer, 0);
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_CURSOR_CONFLICT);
    ck_assert_uint_eq(f.cluster.cursor.offset, 9);
}
END_TEST

/* ---- the end ---- */

START_TEST(it_may_be_freed_when_it_is_opened)
{
    got.free_when_opened = true;
    if (_i == 0) {
        set_cursor(2);
    }
    start((struct committer_options){0});
    loop_run_until(&f.loop, &got.opened);
    loop_run_for(&f.loop, 10);
    ck_assert_uint_eq(got.ends, 0);
}
END_TEST

START_TEST(it_may_be_freed_at_any_time)
{
    set_cursor(2);
    start((struct committer_options){.records_max = 1});
    if (_i > 0) {
        loop_run_until(&f.loop, &got.opened);
        committer_advance(committer, 3);
    }
    if (_i > 1) {
        script(TYPE(CURSOR_SET), FAKE_HOLD, ERR_OK, 1);
        while (fake_node_held(f.one) == 0) {
            loop_run_for(&f.loop, 1);
        }
    }
    free_committer();
    loop_run_for(&f.loop, 10);
    ck_assert_uint_eq(got.ends, 0);
}
END_TEST

START_TEST(a_client_that_closes_ends_it)
{
    set_cursor(2);
    if (_i > 0) {
        open_it((struct committer_options){0});
    } else {
        start((struct committer_options){0});
    }
    committer = NULL; /* After its last event it is not ours. */
    fixture_close();
    ck_assert_uint_eq(got.opens, 1);
    ck_assert_int_eq(_i == 0 ? got.open_err : got.err, ERR_CANCELED);
    ck_assert_uint_eq(got.ends, _i == 0 ? 0 : 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("client/committer");
    TCase *opening = tcase_create("opening");
    TCase *committing = tcase_create("committing");
    TCase *failures = tcase_create("failures");
    TCase *ends = tcase_create("the end");

    tcase_add_checked_fixture(opening, setup, teardown);
    tcase_add_test(opening, a_cursor_that_is_not_there_is_made_by_the_first_advance);
    tcase_add_test(opening, one_that_is_there_is_taken_over);
    tcase_add_test(opening, who_is_slower_takes_over_from_who_was_faster);
    tcase_add_test(opening, a_topic_that_is_unknown_is_told_at_once);
    tcase_add_test(opening, without_a_leader_the_deadline_decides);
    tcase_add_test(opening, what_is_no_name_is_invalid);
    suite_add_tcase(suite, opening);
    tcase_add_checked_fixture(committing, setup, teardown);
    tcase_add_test(committing, so_many_records_are_committed_together);
    tcase_add_test(committing, a_single_record_is_committed_after_a_while);
    tcase_add_test(committing, closing_commits_the_rest);
    tcase_add_test(committing, who_takes_over_from_one_that_closes_does_not_disturb_it);
    tcase_add_test(committing, closing_with_nothing_to_commit_changes_nothing);
    suite_add_tcase(suite, committing);
    tcase_add_checked_fixture(failures, setup, teardown);
    tcase_add_loop_test(failures, a_change_that_was_made_is_known_again, 0, 4);
    tcase_add_test(failures, what_may_pass_is_borne);
    tcase_add_test(failures, but_not_by_who_closes);
    tcase_add_test(failures, another_who_has_taken_over_is_told);
    tcase_add_test(failures, a_cursor_that_was_deleted_is_told);
    tcase_add_test(failures, a_cursor_that_another_has_made_meanwhile_is_not_ours);
    suite_add_tcase(suite, failures);
    tcase_add_checked_fixture(ends, setup, teardown);
    tcase_add_loop_test(ends, it_may_be_freed_when_it_is_opened, 0, 2);
    tcase_add_loop_test(ends, it_may_be_freed_at_any_time, 0, 3);
    tcase_add_loop_test(ends, a_client_that_closes_ends_it, 0, 2);
    suite_add_tcase(suite, ends);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
