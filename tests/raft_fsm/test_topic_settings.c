#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/topic_settings.h"
#include "raft_fsm/topic_settings_message.h"

/* Nothing at its default: some of it does not go together. */
static struct topic_settings some_settings(void)
{
    return (struct topic_settings){
        .retention_ms = 1,
        .retention_bytes = 2,
        .retention_records = 3,
        .compact = true,
        .tombstone_ms = 4,
        .compression = 2,
        .indexes = TOPIC_INDEX_TIME | TOPIC_INDEX_BTREE,
        .node_index_count = 2,
        .node_indexes = {{.node_id = 1, .indexes = 0},
                         {.node_id = 7, .indexes = TOPIC_INDEX_BLOOM}},
        .segment_bytes = 5000,
        .segment_ms = 6000,
        .flush_ms = 700,
        .preallocate = true,
    };
}

static enum err check(const struct topic_settings *settings)
{
    struct err_info info = {0};
    enum err err = topic_settings_check(settings, &info);

    ck_assert(err == ERR_OK || (err == ERR_INVALID && info.text[0] != '\0'));
    return err;
}

/* `change` alone, on top of nothing. */
#define ck_settings(expected, ...)                                                                 \
    do {                                                                                           \
        struct topic_settings settings_ = {__VA_ARGS__};                                           \
        ck_assert_int_eq(check(&settings_), expected);                                             \
    } while (0)

START_TEST(what_is_in_its_bounds_is_allowed_and_nothing_else)
{
    struct topic_settings settings = some_settings();

    settings.compact = false;
    ck_assert_int_eq(check(&settings), ERR_OK);
    ck_settings(ERR_OK, 0);
    ck_settings(ERR_OK, .retention_ms = TOPIC_MS_MAX);
    ck_settings(ERR_INVALID, .retention_ms = TOPIC_MS_MAX + 1);
    ck_settings(ERR_INVALID, .retention_ms = UINT64_MAX); /* -1 */
    ck_settings(ERR_OK, .retention_bytes = INT64_MAX);
    ck_settings(ERR_INVALID, .retention_bytes = (uint64_t)INT64_MAX + 1);
    ck_settings(ERR_OK, .retention_records = INT64_MAX);
    ck_settings(ERR_INVALID, .retention_records = (uint64_t)INT64_MAX + 1);
    ck_settings(ERR_INVALID, .tombstone_ms = TOPIC_MS_MAX + 1);
    ck_settings(ERR_INVALID, .compression = 3);
    ck_settings(ERR_INVALID, .indexes = 8);
    ck_settings(ERR_OK, .segment_bytes = 4096);
    ck_settings(ERR_INVALID, .segment_bytes = 4095);
    ck_settings(ERR_OK, .segment_bytes = UINT64_C(2) << 30);
    ck_settings(ERR_INVALID, .segment_bytes = (UINT64_C(2) << 30) + 1);
    ck_settings(ERR_OK, .segment_ms = 1000);
    ck_settings(ERR_INVALID, .segment_ms = 999);
    ck_settings(ERR_OK, .flush_ms = 10);
    ck_settings(ERR_INVALID, .flush_ms = 9);
    ck_settings(ERR_INVALID, .flush_ms = TOPIC_MS_MAX + 1);
}
END_TEST

START_TEST(compaction_goes_without_any_bound_of_retention)
{
    ck_settings(ERR_OK, .compact = true, .tombstone_ms = TOPIC_MS_MAX);
    ck_settings(ERR_INVALID, .compact = true, .retention_ms = 1);
    ck_settings(ERR_INVALID, .compact = true, .retention_bytes = 1);
    ck_settings(ERR_INVALID, .compact = true, .retention_records = 1);
}
END_TEST

START_TEST(nodes_with_indexes_of_their_own_are_in_order_and_few)
{
    struct topic_settings settings = {.node_index_count = TOPIC_INDEX_NODES_MAX};

    for (size_t i = 0; i < TOPIC_INDEX_NODES_MAX; i++) {
        settings.node_indexes[i].node_id = i + 1;
    }
    ck_assert_int_eq(check(&settings), ERR_OK);
    settings.node_indexes[15].node_id = UINT64_MAX;
    ck_assert_int_eq(check(&settings), ERR_OK);
    settings.node_indexes[15].indexes = 9;
    ck_assert_int_eq(check(&settings), ERR_INVALID);
    settings.node_indexes[15].indexes = 0;
    settings.node_indexes[15].node_id = 15; /* the one before */
    ck_assert_int_eq(check(&settings), ERR_INVALID);
    settings.node_indexes[15].node_id = 16;
    settings.node_indexes[0].node_id = 0;
    ck_assert_int_eq(check(&settings), ERR_INVALID);
    settings.node_index_count = TOPIC_INDEX_NODES_MAX + 1;
    ck_assert_int_eq(check(&settings), ERR_INVALID);
}
END_TEST

START_TEST(settings_are_equal_when_each_one_is)
{
    const struct topic_settings settings = some_settings();
    struct topic_settings other = settings;

#define CK_DIFFERS(field, value)                                                                   \
    do {                                                                                           \
        other = settings;                                                                          \
        other.field = value;                                                                       \
        ck_assert(!topic_settings_equal(&settings, &other));                                       \
    } while (0)

    ck_assert(topic_settings_equal(&settings, &other));
    CK_DIFFERS(retention_ms, 0);
    CK_DIFFERS(retention_bytes, 0);
    CK_DIFFERS(retention_records, 0);
    CK_DIFFERS(compact, false);
    CK_DIFFERS(tombstone_ms, 0);
    CK_DIFFERS(compression, 0);
    CK_DIFFERS(indexes, 0);
    CK_DIFFERS(node_index_count, 1);
    CK_DIFFERS(node_indexes[1].node_id, 8);
    CK_DIFFERS(node_indexes[1].indexes, 0);
    CK_DIFFERS(segment_bytes, 0);
    CK_DIFFERS(segment_ms, 0);
    CK_DIFFERS(flush_ms, 0);
    CK_DIFFERS(preallocate, false);
#undef CK_DIFFERS
}
END_TEST

START_TEST(a_nodes_own_set_stands_for_the_topics)
{
    const struct topic_settings settings = some_settings();

    ck_assert_uint_eq(topic_settings_indexes_of(&settings, 1), 0);
    ck_assert_uint_eq(topic_settings_indexes_of(&settings, 2),
                      TOPIC_INDEX_TIME | TOPIC_INDEX_BTREE);
    ck_assert_uint_eq(topic_settings_indexes_of(&settings, 7), TOPIC_INDEX_BLOOM);
}
END_TEST

static enum err change(struct topic_settings *settings, const struct topic_change *what)
{
    const struct topic_settings before = *settings;
    struct err_info info = {0};
    enum err err = topic_settings_change(settings, what, settings, &info);

    ck_assert(err == ERR_OK || (err == ERR_INVALID && info.text[0] != '\0'));
    ck_assert(err == ERR_OK || topic_settings_equal(&before, settings));
    ck_assert_int_eq(check(settings), ERR_OK);
    return err;
}

START_TEST(a_change_changes_what_it_names_and_nothing_else)
{
    const struct topic_settings all = some_settings();
    struct topic_settings settings = {0};

    for (uint32_t bit = 1; bit < TOPIC_SETTINGS_KNOWN; bit <<= 1) {
        struct topic_change what = {.which = bit, .to = all};
        struct topic_settings one = {0};

        what.to.node_index_count = 0;
        memset(what.to.node_indexes, 0, sizeof what.to.node_indexes);
        if (bit == TOPIC_SETTING_COMPACT) {
            what.to.retention_ms = what.to.retention_bytes = what.to.retention_records = 0;
            settings.retention_ms = settings.retention_bytes = settings.retention_records = 0;
        } else {
            what.to.compact = false;
        }
        ck_assert_int_eq(change(&one, &what), ERR_OK);
        ck_assert(!topic_settings_are_default(&one));
        ck_assert_int_eq(change(&settings, &what), ERR_OK);
        what.to = (struct topic_settings){0};
        ck_assert_int_eq(change(&one, &what), ERR_OK);
        ck_assert(topic_settings_are_default(&one));
    }
    settings.node_index_count = all.node_index_count;
    memcpy(settings.node_indexes, all.node_indexes, sizeof settings.node_indexes);
    settings.retention_ms = all.retention_ms;
    settings.retention_bytes = all.retention_bytes;
    settings.retention_records = all.retention_records;
    ck_assert(topic_settings_equal(&settings, &all)); /* Each bit is one setting. */
}
END_TEST

START_TEST(a_change_that_contradicts_what_is_set_already_is_refused)
{
    struct topic_settings settings = {.retention_records = 9};
    struct topic_change what = {.which = TOPIC_SETTING_COMPACT, .to = {.compact = true}};
    struct err_info info = {0};

    ck_assert_int_eq(topic_settings_change(&settings, &what, &settings, &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, "retention-records at 0 only"));
    ck_assert(!settings.compact);
    what.which |= TOPIC_SETTING_RETENTION_RECORDS; /* Both at once: none contradicts. */
    ck_assert_int_eq(change(&settings, &what), ERR_OK);
    ck_assert(settings.compact && settings.retention_records == 0);
    what = (struct topic_change){.which = TOPIC_SETTING_RETENTION_MS, .to = {.retention_ms = 5}};
    ck_assert_int_eq(change(&settings, &what), ERR_INVALID);
    what.which |= TOPIC_SETTING_COMPACT;
    ck_assert_int_eq(change(&settings, &what), ERR_OK);
    ck_assert(!settings.compact && settings.retention_ms == 5);
}
END_TEST

START_TEST(a_node_gets_a_set_of_its_own_and_loses_it_again)
{
    struct topic_settings settings = {.indexes = TOPIC_INDEX_TIME};
    struct topic_change what = {.which = TOPIC_SETTING_INDEXES,
                                .to = {.indexes = TOPIC_INDEX_BLOOM},
                                .on_count = 2,
                                .on_nodes = {9, 3}};

    ck_assert_int_eq(change(&settings, &what), ERR_OK);
    ck_assert_uint_eq(settings.indexes, TOPIC_INDEX_TIME);
    ck_assert_uint_eq(settings.node_index_count, 2);
    ck_assert_uint_eq(settings.node_indexes[0].node_id, 3);
    ck_assert_uint_eq(settings.node_indexes[1].node_id, 9);
    what.to.indexes = 0; /* none: another thing than the topic's */
    what.on_count = 1;
    ck_assert_int_eq(change(&settings, &what), ERR_OK);
    ck_assert_uint_eq(topic_settings_indexes_of(&settings, 9), 0);
    ck_assert_uint_eq(topic_settings_indexes_of(&settings, 3), TOPIC_INDEX_BLOOM);
    what.on_default = true;
    what.on_nodes[0] = 3;
    ck_assert_int_eq(change(&settings, &what), ERR_OK);
    ck_assert_uint_eq(settings.node_index_count, 1);
    ck_assert_uint_eq(settings.node_indexes[0].node_id, 9);
    ck_assert_int_eq(change(&settings, &what), ERR_OK); /* again */
    ck_assert_uint_eq(topic_settings_indexes_of(&settings, 3), TOPIC_INDEX_TIME);
}
END_TEST

START_TEST(one_node_too_many_changes_nothing)
{
    struct topic_settings settings = {0};
    struct topic_change what = {.which = TOPIC_SETTING_INDEXES, .on_count = 1};

    for (uint64_t node = 1; node <= TOPIC_INDEX_NODES_MAX; node++) {
        what.on_nodes[0] = node * 2;
        ck_assert_int_eq(change(&settings, &what), ERR_OK);
    }
    ck_assert_int_eq(change(&settings, &what), ERR_OK); /* It is there. */
    what.on_nodes[0] = 5;
    ck_assert_int_eq(change(&settings, &what), ERR_INVALID);
}
END_TEST

START_TEST(a_change_that_makes_no_sense_is_refused)
{
    const struct topic_change no_sense[] = {
        {.which = 0},
        {.which = TOPIC_SETTINGS_KNOWN + 1},
        {.which = TOPIC_SETTING_RETENTION_MS, .to = {.retention_ms = TOPIC_MS_MAX + 1}},
        {.which = TOPIC_SETTING_INDEXES, .to = {.indexes = 8}},
        {.which = TOPIC_SETTING_INDEXES, .to = {.node_index_count = 1, .node_indexes = {{1, 0}}}},
        {.which = TOPIC_SETTING_COMPACT, .on_count = 1, .on_nodes = {1}},
        {.which = TOPIC_SETTING_INDEXES, .on_default = true},
        {.which = TOPIC_SETTING_INDEXES, .on_count = 1, .on_nodes = {0}},
        {.which = TOPIC_SETTING_INDEXES, .on_count = 3, .on_nodes = {4, 5, 4}},
        {.which = TOPIC_SETTING_INDEXES, .on_count = TOPIC_INDEX_NODES_MAX + 1},
        {.which = TOPIC_SETTING_INDEXES,
         .to = {.indexes = TOPIC_INDEX_TIME},
         .on_count = 1,
         .on_nodes = {4},
         .on_default = true},
    };
    struct topic_settings settings = some_settings();

    settings.compact = false;
    for (size_t i = 0; i < sizeof no_sense / sizeof no_sense[0]; i++) {
        ck_assert_int_eq(change(&settings, &no_sense[i]), ERR_INVALID);
    }
}
END_TEST

START_TEST(what_is_put_in_a_message_is_taken_from_it)
{
    const struct topic_settings settings = some_settings();
    struct topic_settings_message message;
    struct topic_settings taken;

    topic_settings_put(&settings, &message);
    ck_assert_int_eq(topic_settings_take(&message.message, "this", &taken, NULL), ERR_OK);
    ck_assert(topic_settings_equal(&settings, &taken));
    ck_assert_int_eq(topic_settings_take(NULL, "this", &taken, NULL), ERR_OK);
    ck_assert(topic_settings_are_default(&taken));
}
END_TEST

START_TEST(what_a_newer_program_sets_is_not_passed_over)
{
    struct topic_settings settings = some_settings();
    struct topic_settings_message message;
    struct err_info info = {0};
    struct topic_settings taken;

    topic_settings_put(&settings, &message);
    message.message.indexes = 16;
    ck_assert_int_eq(topic_settings_take(&message.message, "this", &taken, &info), ERR_VERSION);
    ck_assert_ptr_nonnull(strstr(info.text, "this has settings"));
    topic_settings_put(&settings, &message);
    message.message.compression = 3;
    ck_assert_int_eq(topic_settings_take(&message.message, "this", &taken, NULL), ERR_VERSION);
    topic_settings_put(&settings, &message);
    message.nodes[1].indexes = 9;
    ck_assert_int_eq(topic_settings_take(&message.message, "this", &taken, NULL), ERR_VERSION);
    topic_settings_put(&settings, &message);
    message.message.base.n_unknown_fields = 1;
    ck_assert_int_eq(topic_settings_take(&message.message, "this", &taken, NULL), ERR_VERSION);
    topic_settings_put(&settings, &message);
    message.nodes[0].base.n_unknown_fields = 1;
    ck_assert_int_eq(topic_settings_take(&message.message, "this", &taken, NULL), ERR_VERSION);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/topic_settings");
    TCase *settings = tcase_create("topic_settings_check");
    TCase *changes = tcase_create("topic_settings_change");
    TCase *messages = tcase_create("topic_settings_take");

    tcase_add_test(settings, what_is_in_its_bounds_is_allowed_and_nothing_else);
    tcase_add_test(settings, compaction_goes_without_any_bound_of_retention);
    tcase_add_test(settings, nodes_with_indexes_of_their_own_are_in_order_and_few);
    tcase_add_test(settings, settings_are_equal_when_each_one_is);
    tcase_add_test(settings, a_nodes_own_set_stands_for_the_topics);
    suite_add_tcase(suite, settings);
    tcase_add_test(changes, a_change_changes_what_it_names_and_nothing_else);
    tcase_add_test(changes, a_change_that_contradicts_what_is_set_already_is_refused);
    tcase_add_test(changes, a_node_gets_a_set_of_its_own_and_loses_it_again);
    tcase_add_test(changes, one_node_too_many_changes_nothing);
    tcase_add_test(changes, a_change_that_makes_no_sense_is_refused);
    suite_add_tcase(suite, changes);
    tcase_add_test(messages, what_is_put_in_a_message_is_taken_from_it);
    tcase_add_test(messages, what_a_newer_program_sets_is_not_passed_over);
    suite_add_tcase(suite, messages);
    return runner_main(suite);
}
