#include "client/client.h"

#include <check.h>
#include <string.h>

#include "client/fixture.h"
#include "lib/runner.h"
#include "quorlog.pb-c.h"

/* ---- servers and hello ---- */

START_TEST(server_list_that_makes_no_sense_is_refused)
{
    static const char *const lists[] = {"", ",", "a", "a:b:c", "127.0.0.1:99999"};
    struct client *client;
    struct err_info info;

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct client_options options = {.servers = lists[i]};

        ck_assert_int_eq(client_new(&options, &f.loop, &client, &info), ERR_INVALID);
        ck_assert_int_ne(info.text[0], '\0');
    }
}
END_TEST

START_TEST(frame_size_that_holds_no_answer_is_refused)
{
    struct client_options options = {.servers = "127.0.0.1:1", .frame_size_max = 1000};
    struct client *client;
    struct err_info info;

    ck_assert_int_eq(client_new(&options, NULL, &client, &info), ERR_INVALID);
}
END_TEST

START_TEST(answer_comes_from_the_first_server)
{
    struct answered answered = {0};

    fixture_connect(true, 0);
    ck_assert_str_eq(client_server(f.client), "");
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    ck_assert(!answered.done);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_uint_gt(answered.reply_size, 0);
    ck_assert_str_eq(client_server(f.client), fake_node_address(f.one));
}
END_TEST

START_TEST(refused_hello_leads_to_the_next_server)
{
    struct answered answered = {0};

    fake_node_settings(f.one)->hello_error = ERR_SHUTDOWN;
    fixture_connect(true, 0);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_str_eq(client_server(f.client), fake_node_address(f.two));
}
END_TEST

START_TEST(node_that_stands_still_leads_to_the_next_server)
{
    struct answered answered = {0};

    fake_node_settings(f.one)->still = true;
    fixture_connect(true, 0);
    fixture_hurry();
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_str_eq(client_server(f.client), fake_node_address(f.two));
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(HELLO)), 1);
}
END_TEST

START_TEST(nodes_that_are_slow_to_say_hello_get_more_time_in_each_round)
{
    struct answered answered = {0};

    fake_node_settings(f.one)->still = true;
    fake_node_settings(f.two)->still = true;
    fixture_connect(true, 0);
    fixture_hurry();
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_for(&f.loop, 1200); /* 100 ms each, then 200, and 400 */
    ck_assert(!answered.done);
    ck_assert_uint_ge(fake_node_seen(f.one, TYPE(HELLO)), 2);
    ck_assert_uint_le(fake_node_seen(f.one, TYPE(HELLO)), 3);
    fake_node_settings(f.one)->still = false;
    fake_node_settings(f.two)->still = false;
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
}
END_TEST

START_TEST(version_that_no_server_shares_is_told_at_once)
{
    struct answered answered = {0};

    fake_node_settings(f.one)->version = 2;
    fake_node_settings(f.two)->hello_error = ERR_VERSION;
    fixture_connect(true, 0);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_VERSION);
    ck_assert(!answered.outcome_unknown);
}
END_TEST

START_TEST(node_of_another_cluster_is_not_used)
{
    struct answered first = {0};
    struct answered second = {0};

    fake_node_settings(f.two)->cluster_id = "c2";
    fixture_connect(true, 300);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &first), ERR_OK);
    loop_run_until(&f.loop, &first.done);
    ck_assert_int_eq(first.err, ERR_OK);
    fake_node_settings(f.one)->hello_error = ERR_SHUTDOWN;
    fake_node_hang_up(f.one);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &second), ERR_OK);
    loop_run_until(&f.loop, &second.done);
    ck_assert_int_ne(second.err, ERR_OK);
    ck_assert_uint_eq(fake_node_seen(f.two, TYPE(TOPIC_LIST)), 0);
}
END_TEST

START_TEST(server_that_speaks_something_else_is_left)
{
    struct answered answered = {0};

    fake_node_settings(f.one)->speaks_no_frames = true;
    fixture_connect(true, 0);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_str_eq(client_server(f.client), fake_node_address(f.two));
}
END_TEST

START_TEST(deadline_without_any_server_names_them_all_and_the_reason)
{
    struct client_options options = {.servers = "127.0.0.1:1,127.0.0.1:2", .timeout_ms = 150};
    struct answered answered = {0};

    ck_assert_int_eq(client_new(&options, &f.loop, &f.client, NULL), ERR_OK);
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_CONNECT);
    ck_assert(!answered.outcome_unknown);
    ck_assert_msg(strstr(answered.text, "127.0.0.1:1,127.0.0.1:2") != NULL, "%s", answered.text);
    ck_assert_msg(strstr(answered.text, "refused") != NULL, "%s", answered.text);
}
END_TEST

START_TEST(client_that_never_reached_a_node_fails_long_before_the_deadline)
{
    struct client_options options = {
        .servers = "127.0.0.1:1", .timeout_ms = 3600000, .connect_timeout_ms = 150};
    struct answered first = {0};
    struct answered later = {0};

    ck_assert_int_eq(client_new(&options, &f.loop, &f.client, NULL), ERR_OK);
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &first), ERR_OK);
    loop_run_until(&f.loop, &first.done);
    ck_assert_int_eq(first.err, ERR_CONNECT);
    ck_assert(!first.outcome_unknown);
    ck_assert_msg(strstr(first.text, "127.0.0.1:1") != NULL, "%s", first.text);
    ck_assert_msg(strstr(first.text, "refused") != NULL, "%s", first.text);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &later), ERR_OK);
    loop_run_until(&f.loop, &later.done);
    ck_assert_int_eq(later.err, ERR_CONNECT);
}
END_TEST

START_TEST(node_once_reached_is_waited_for_until_the_deadline)
{
    struct client_options options = {
        .servers = fake_node_address(f.one), .timeout_ms = 10000, .connect_timeout_ms = 100};
    struct answered first = {0};
    struct answered later = {0};

    ck_assert_int_eq(client_new(&options, &f.loop, &f.client, NULL), ERR_OK);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &first), ERR_OK);
    loop_run_until(&f.loop, &first.done);
    ck_assert_int_eq(first.err, ERR_OK);
    ck_assert_uint_gt(client_batch_size_max(f.client), 0);
    fake_node_settings(f.one)->hello_error = ERR_SHUTDOWN;
    fake_node_hang_up(f.one);
    loop_run_for(&f.loop, 250); /* Longer than the time that there is for the first connection. */
    fake_node_settings(f.one)->hello_error = ERR_OK;
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &later), ERR_OK);
    loop_run_until(&f.loop, &later.done);
    ck_assert_int_eq(later.err, ERR_OK);
}
END_TEST

/* ---- requests ---- */

START_TEST(name_of_no_or_too_many_characters_is_invalid)
{
    struct answered answered = {0};
    char name[202];

    fixture_connect(false, 0);
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ck_assert_int_eq(client_topic_create(f.client, "", on_answered, &answered), ERR_INVALID);
    ck_assert_int_eq(client_topic_create(f.client, NULL, on_answered, &answered), ERR_INVALID);
    ck_assert_int_eq(client_topic_create(f.client, name, on_answered, &answered), ERR_INVALID);
    ck_assert_uint_eq(answered.count, 0);
}
END_TEST

START_TEST(answers_out_of_order_find_their_requests)
{
    struct answered create = {0};
    struct answered list = {0};

    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_CREATE), .action = FAKE_HOLD});
    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &create), ERR_OK);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &list), ERR_OK);
    loop_run_until(&f.loop, &list.done);
    ck_assert(!create.done);
    fake_node_release(f.one);
    loop_run_until(&f.loop, &create.done);
    ck_assert_int_eq(create.err, ERR_OK);
    ck_assert_uint_eq(create.count, 1);
    ck_assert_uint_eq(list.count, 1);
}
END_TEST

START_TEST(retryable_error_is_tried_again)
{
    struct answered answered = {0};

    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_CREATE),
                                                .action = FAKE_ERROR,
                                                .err = ERR_NO_LEADER,
                                                .times = 3});
    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(TOPIC_CREATE)), 4);
}
END_TEST

START_TEST(definite_error_is_told_at_once)
{
    struct answered answered = {0};

    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_create(f.client, "t", on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_TOPIC_EXISTS);
    ck_assert(!answered.outcome_unknown);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(TOPIC_CREATE)), 1);
}
END_TEST

START_TEST(change_with_an_unknown_outcome_is_not_repeated)
{
    struct answered lost = {0};
    struct answered told = {0};

    fake_node_script(f.one,
                     &(struct fake_rule){.type = TYPE(TOPIC_CREATE), .action = FAKE_APPLY_DROP});
    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_CREATE),
                                                .action = FAKE_APPLY_ERROR,
                                                .err = ERR_LEADERSHIP_LOST});
    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &lost), ERR_OK);
    loop_run_until(&f.loop, &lost.done);
    ck_assert(lost.outcome_unknown);
    ck_assert_int_eq(client_topic_create(f.client, "y", on_answered, &told), ERR_OK);
    loop_run_until(&f.loop, &told.done);
    ck_assert_int_eq(told.err, ERR_LEADERSHIP_LOST);
    ck_assert(told.outcome_unknown);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(TOPIC_CREATE)), 2);
}
END_TEST

/* To set what is set already does no harm. */
START_TEST(alteration_with_an_unknown_outcome_is_repeated)
{
    const uint64_t on[] = {3, 2};
    const struct client_alteration alteration = {
        .topic = "t",
        .settings = {.retention_ms = 5, .indexes = 4},
        .which = {CLIENT_SETTING_RETENTION_MS, CLIENT_SETTING_INDEXES},
        .which_count = 2,
        .on_nodes = on,
        .on_count = 2};
    const struct fake_settings *asked = fake_node_alteration(f.one);
    struct answered answered = {0};
    Quorlog__TopicAlterRequest *request;

    fake_node_script(f.one,
                     &(struct fake_rule){.type = TYPE(TOPIC_ALTER), .action = FAKE_APPLY_DROP});
    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_alter(f.client, &alteration, on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(TOPIC_ALTER)), 2);
    request = quorlog__topic_alter_request__unpack(NULL, asked->size, asked->bytes);
    ck_assert_ptr_nonnull(request);
    ck_assert_str_eq(request->topic, "t");
    ck_assert_uint_eq(request->settings->retention_ms, 5);
    ck_assert_uint_eq(request->settings->indexes, 4);
    ck_assert_uint_eq(request->n_which, 2);
    ck_assert_uint_eq(request->which[0], 1);
    ck_assert_uint_eq(request->which[1], 7);
    ck_assert_uint_eq(request->n_on_node_id, 2);
    ck_assert_uint_eq(request->on_node_id[1], 2);
    ck_assert(!request->on_default && !request->forwarded);
    ck_assert_uint_gt(request->deadline_ms, 0);
    quorlog__topic_alter_request__free_unpacked(request, NULL);
}
END_TEST

START_TEST(topic_is_created_with_settings_or_without)
{
    const struct client_topic_settings settings = {.segment_bytes = 4096, .preallocate = true};
    const struct fake_settings *with = fake_node_created_with(f.one);
    struct answered first = {0};
    struct answered second = {0};

    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_create_with(f.client, "x", &settings, on_answered, &first),
                     ERR_OK);
    loop_run_until(&f.loop, &first.done);
    ck_assert_int_eq(first.err, ERR_OK);
    ck_assert_uint_eq(with->size, 5);
    ck_assert_mem_eq(with->bytes, "\x48\x80\x20\x60\x01", 5);
    ck_assert_int_eq(client_topic_create(f.client, "y", on_answered, &second), ERR_OK);
    loop_run_until(&f.loop, &second.done);
    ck_assert_uint_eq(with->size, 0);
}
END_TEST

START_TEST(question_is_asked_again_on_the_next_connection)
{
    struct answered answered = {0};

    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_LIST), .action = FAKE_DROP});
    fixture_connect(true, 0);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_uint_eq(fake_node_seen(f.two, TYPE(TOPIC_LIST)), 1);
}
END_TEST

START_TEST(answer_that_makes_no_sense_ends_the_connection_and_is_asked_again)
{
    static const enum fake_action actions[] = {FAKE_GARBAGE, FAKE_WRONG_TYPE, FAKE_WRONG_ID};
    struct answered answered = {0};

    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_LIST), .action = actions[_i]});
    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_uint_eq(fake_node_accepted(f.one), 2);
}
END_TEST

START_TEST(change_that_was_sent_and_not_answered_by_the_deadline_is_unknown)
{
    struct answered change = {0};
    struct answered question = {0};

    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_CREATE), .action = FAKE_HOLD});
    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_LIST), .action = FAKE_HOLD});
    fixture_connect(false, 100);
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &change), ERR_OK);
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &question), ERR_OK);
    loop_run_until(&f.loop, &change.done);
    loop_run_until(&f.loop, &question.done);
    ck_assert_int_eq(change.err, ERR_TIMEOUT);
    ck_assert(change.outcome_unknown);
    ck_assert_int_eq(question.err, ERR_TIMEOUT);
    ck_assert(!question.outcome_unknown);
    /* The answers that come too late are dropped, and the connection goes on. */
    fake_node_release(f.one);
    question.done = false;
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &question), ERR_OK);
    loop_run_until(&f.loop, &question.done);
    ck_assert_int_eq(question.err, ERR_OK);
    ck_assert_uint_eq(fake_node_accepted(f.one), 1);
    ck_assert_uint_eq(change.count, 1);
}
END_TEST

START_TEST(deadline_without_a_leader_says_so_and_nothing_was_done)
{
    struct answered answered = {0};

    fake_node_settings(f.one)->leaderless = true;
    fixture_connect(false, 100);
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_NO_LEADER);
    ck_assert(!answered.outcome_unknown);
}
END_TEST

/* What came to a question that wants the body, too. */
struct asked {
    bool done;
    enum err err;
    uint64_t next_offset;
    size_t body_size;
};

static void on_asked(void *arg, const struct client_error *error,
                     const struct client_answer *answer)
{
    struct asked *asked = arg;

    ck_assert(!asked->done);
    ck_assert((answer == NULL) == (error->err != ERR_OK));
    asked->done = true;
    asked->err = error->err;
    if (answer != NULL) {
        Quorlog__ConsumeReply *reply =
            quorlog__consume_reply__unpack(NULL, answer->header_size, answer->header);

        ck_assert_ptr_nonnull(reply);
        asked->next_offset = reply->next_offset;
        asked->body_size = answer->body_size;
        quorlog__consume_reply__free_unpacked(reply, NULL);
    }
}

START_TEST(any_question_is_asked_until_it_is_answered_with_header_and_body)
{
    const struct fake_rule rules[] = {
        {.type = TYPE(CONSUME), .action = FAKE_ERROR, .err = ERR_BUSY},
        {.type = TYPE(CONSUME), .action = FAKE_DROP},
        {.type = TYPE(CONSUME), .action = FAKE_GARBAGE},
    };
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;
    const struct client_question question = {.type = TYPE(CONSUME),
                                             .reply_type = TYPE(CONSUME_REPLY),
                                             .request = &request.base,
                                             .reply = &quorlog__consume_reply__descriptor};
    struct asked asked = {0};
    struct asked failed = {0};

    fake_topic_append(&f.cluster, f.topic, 3);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        fake_node_script(f.one, &rules[i]);
    }
    fixture_connect(false, 0);
    request.topic = f.topic->name;
    request.bytes_max = 4096;
    ck_assert_int_eq(client_ask(f.client, &question, on_asked, &asked), ERR_OK);
    ck_assert(!asked.done);
    loop_run_until(&f.loop, &asked.done);
    ck_assert_int_eq(asked.err, ERR_OK);
    ck_assert_uint_eq(asked.next_offset, 3);
    ck_assert_uint_gt(asked.body_size, 104);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(CONSUME)), 4);
    request.topic = (char *)(uintptr_t) "nowhere";
    ck_assert_int_eq(client_ask(f.client, &question, on_asked, &failed), ERR_OK);
    loop_run_until(&f.loop, &failed.done);
    ck_assert_int_eq(failed.err, ERR_TOPIC_UNKNOWN);
}
END_TEST

/* ---- nodes that are no good ---- */

START_TEST(node_without_a_leader_is_left_for_one_that_has_one)
{
    struct answered answered = {0};

    fake_node_settings(f.one)->leaderless = true;
    fixture_connect(true, 0);
    fixture_hurry();
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_str_eq(client_server(f.client), fake_node_address(f.two));
}
END_TEST

START_TEST(silent_node_is_left)
{
    struct answered answered = {0};

    fake_node_settings(f.one)->mute = true;
    fixture_connect(true, 0);
    fixture_hurry();
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(PING)), 1);
    ck_assert_str_eq(client_server(f.client), fake_node_address(f.two));
}
END_TEST

START_TEST(slow_node_that_answers_pings_is_kept)
{
    struct answered answered = {0};

    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_LIST), .action = FAKE_HOLD});
    fixture_connect(true, 0);
    fixture_hurry();
    ck_assert_int_eq(client_topic_list(f.client, NULL, on_answered, &answered), ERR_OK);
    loop_run_for(&f.loop, 350);
    ck_assert(!answered.done);
    ck_assert_uint_ge(fake_node_seen(f.one, TYPE(PING)), 2);
    fake_node_release(f.one);
    loop_run_until(&f.loop, &answered.done);
    ck_assert_int_eq(answered.err, ERR_OK);
    ck_assert_uint_eq(fake_node_accepted(f.one), 1);
}
END_TEST

/* ---- close ---- */

START_TEST(closing_cancels_what_is_pending)
{
    struct answered sent = {0};
    struct answered unsent = {0};

    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(TOPIC_CREATE), .action = FAKE_HOLD});
    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_create(f.client, "x", on_answered, &sent), ERR_OK);
    while (fake_node_held(f.one) == 0) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(client_topic_create(f.client, "y", on_answered, &unsent), ERR_OK);
    fixture_close();
    ck_assert_int_eq(sent.err, ERR_CANCELED);
    ck_assert(sent.outcome_unknown);
    ck_assert_uint_eq(sent.count, 1);
    ck_assert_int_eq(unsent.err, ERR_CANCELED);
    ck_assert(!unsent.outcome_unknown);
}
END_TEST

START_TEST(closing_before_the_connection_is_there)
{
    fixture_connect(true, 0);
    fixture_close();
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(HELLO)), 0);
}
END_TEST

static void close_from_inside(void *arg, const struct client_error *error, const uint8_t *reply,
                              size_t reply_size)
{
    struct answered *answered = arg;

    on_answered(arg, error, reply, reply_size);
    if (answered->count == 1) {
        client_close(f.client, NULL, NULL);
    }
}

START_TEST(closing_from_inside_an_answer)
{
    struct answered answered = {0};

    fixture_connect(false, 0);
    ck_assert_int_eq(client_topic_list(f.client, NULL, close_from_inside, &answered), ERR_OK);
    ck_assert_int_eq(client_topic_list(f.client, NULL, close_from_inside, &answered), ERR_OK);
    loop_run_until(&f.loop, &answered.done);
    f.client = NULL;
    loop_run_for(&f.loop, 20);
    ck_assert_uint_eq(answered.count, 2);
    ck_assert_int_eq(answered.err, ERR_CANCELED);
}
END_TEST

START_TEST(own_loop_waits_and_closes)
{
    struct client_options options = {.servers = "127.0.0.1:1", .timeout_ms = 50};
    struct answered answered = {0};
    struct answered canceled = {0};
    struct client *client;

    ck_assert_int_eq(client_new(&options, NULL, &client, NULL), ERR_OK);
    ck_assert_int_eq(client_topic_list(client, NULL, on_answered, &answered), ERR_OK);
    client_wait(client, &answered.done);
    ck_assert_int_eq(answered.err, ERR_CONNECT);
    ck_assert_int_eq(client_topic_list(client, NULL, on_answered, &canceled), ERR_OK);
    client_close(client, NULL, NULL);
    ck_assert_int_eq(canceled.err, ERR_CANCELED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client");
    TCase *servers = tcase_create("servers");
    TCase *requests = tcase_create("requests");
    TCase *nodes = tcase_create("nodes");
    TCase *close = tcase_create("close");

    tcase_add_checked_fixture(servers, fixture_setup, fixture_teardown);
    tcase_add_test(servers, server_list_that_makes_no_sense_is_refused);
    tcase_add_test(servers, frame_size_that_holds_no_answer_is_refused);
    tcase_add_test(servers, answer_comes_from_the_first_server);
    tcase_add_test(servers, refused_hello_leads_to_the_next_server);
    tcase_add_test(servers, node_that_stands_still_leads_to_the_next_server);
    tcase_add_test(servers, nodes_that_are_slow_to_say_hello_get_more_time_in_each_round);
    tcase_add_test(servers, version_that_no_server_shares_is_told_at_once);
    tcase_add_test(servers, node_of_another_cluster_is_not_used);
    tcase_add_test(servers, server_that_speaks_something_else_is_left);
    tcase_add_test(servers, deadline_without_any_server_names_them_all_and_the_reason);
    tcase_add_test(servers, client_that_never_reached_a_node_fails_long_before_the_deadline);
    tcase_add_test(servers, node_once_reached_is_waited_for_until_the_deadline);
    suite_add_tcase(suite, servers);
    tcase_add_checked_fixture(requests, fixture_setup, fixture_teardown);
    tcase_add_test(requests, name_of_no_or_too_many_characters_is_invalid);
    tcase_add_test(requests, answers_out_of_order_find_their_requests);
    tcase_add_test(requests, retryable_error_is_tried_again);
    tcase_add_test(requests, definite_error_is_told_at_once);
    tcase_add_test(requests, change_with_an_unknown_outcome_is_not_repeated);
    tcase_add_test(requests, alteration_with_an_unknown_outcome_is_repeated);
    tcase_add_test(requests, topic_is_created_with_settings_or_without);
    tcase_add_test(requests, question_is_asked_again_on_the_next_connection);
    tcase_add_loop_test(requests, answer_that_makes_no_sense_ends_the_connection_and_is_asked_again,
                        0, 3);
    tcase_add_test(requests, change_that_was_sent_and_not_answered_by_the_deadline_is_unknown);
    tcase_add_test(requests, deadline_without_a_leader_says_so_and_nothing_was_done);
    tcase_add_test(requests, any_question_is_asked_until_it_is_answered_with_header_and_body);
    suite_add_tcase(suite, requests);
    tcase_add_checked_fixture(nodes, fixture_setup, fixture_teardown);
    tcase_add_test(nodes, node_without_a_leader_is_left_for_one_that_has_one);
    tcase_add_test(nodes, silent_node_is_left);
    tcase_add_test(nodes, slow_node_that_answers_pings_is_kept);
    suite_add_tcase(suite, nodes);
    tcase_add_checked_fixture(close, fixture_setup, fixture_teardown);
    tcase_add_test(close, closing_cancels_what_is_pending);
    tcase_add_test(close, closing_before_the_connection_is_there);
    tcase_add_test(close, closing_from_inside_an_answer);
    tcase_add_test(close, own_loop_waits_and_closes);
    suite_add_tcase(suite, close);
    return runner_main(suite);
}
