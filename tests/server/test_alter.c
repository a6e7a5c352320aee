/*
 * Settings of topics as a node serves them: given, altered, shown; what is wrong is said, and
 * changes nothing.
 */
#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "server/lab.h"
#include "server/settings.h"

#define TYPE(name) QUORLOG__FRAME_TYPE__FRAME_##name

static struct lab lab;
static struct wire wire;

static void setup(void)
{
    lab_init(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    wire = wire_client(&lab);
    wire_create(&wire, "t");
}

static void teardown(void)
{
    wire_close(&wire);
    lab_stop(&lab);
    lab_fini(&lab);
}

/* A request, and what it points to. */
struct alteration {
    Quorlog__TopicAlterRequest request;
    Quorlog__TopicSettings settings;
    uint32_t which[4];
    uint64_t on[20];
};

static void init(struct alteration *self, uint32_t which)
{
    quorlog__topic_alter_request__init(&self->request);
    quorlog__topic_settings__init(&self->settings);
    self->request.topic = (char *)"t";
    self->request.settings = &self->settings;
    self->request.which = self->which;
    self->which[0] = which;
    self->request.n_which = which != 0;
    self->request.on_node_id = self->on;
}

static void send_alter(const struct alteration *self)
{
    (void)wire_send(&wire, TYPE(TOPIC_ALTER), &self->request.base, NULL, 0);
}

static Quorlog__TopicAlterReply *altered(const struct alteration *self)
{
    Quorlog__TopicAlterReply *reply;
    struct answer answer;

    send_alter(self);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, TYPE(TOPIC_ALTER_REPLY));
    reply = quorlog__topic_alter_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    ck_assert_ptr_nonnull(reply->settings);
    answer_fini(&answer);
    return reply;
}

/* Refused, with a text that has this in it. */
static void refused(const struct alteration *self, enum err err, const char *text)
{
    Quorlog__Error *error;

    send_alter(self);
    error = wire_expect_error(&wire, err);
    ck_assert(!error->outcome_unknown);
    ck_assert_msg(strstr(error->text, text) != NULL, "'%s' is not in '%s'", text, error->text);
    ck_assert_ptr_nonnull(strstr(error->text, "alter topic 't'"));
    quorlog__error__free_unpacked(error, NULL);
}

static Quorlog__TopicDescribeReply *describe(const char *topic)
{
    Quorlog__TopicDescribeRequest request = QUORLOG__TOPIC_DESCRIBE_REQUEST__INIT;
    Quorlog__TopicDescribeReply *reply;
    struct answer answer;

    request.topic = (char *)(uintptr_t)topic;
    (void)wire_send(&wire, TYPE(TOPIC_DESCRIBE), &request.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, TYPE(TOPIC_DESCRIBE_REPLY));
    reply = quorlog__topic_describe_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    ck_assert_ptr_nonnull(reply->topic->settings);
    answer_fini(&answer);
    return reply;
}

START_TEST(what_is_named_is_altered_and_the_rest_stays)
{
    Quorlog__TopicDescribeReply *described;
    Quorlog__TopicAlterReply *reply;
    struct alteration alteration;
    uint64_t token;

    init(&alteration, 1);
    alteration.settings.retention_ms = 1000;
    alteration.which[1] = 6;
    alteration.settings.compression = 1;
    alteration.request.n_which = 2;
    reply = altered(&alteration);
    ck_assert_uint_eq(reply->settings->retention_ms, 1000);
    ck_assert_uint_eq(reply->settings->compression, 1);
    token = reply->raft_index;
    ck_assert_uint_gt(token, 0);
    ck_assert_uint_gt(reply->topic_id, 0);
    quorlog__topic_alter_reply__free_unpacked(reply, NULL);

    init(&alteration, 12);
    alteration.settings.preallocate = true;
    reply = altered(&alteration);
    ck_assert_uint_eq(reply->settings->retention_ms, 1000);
    ck_assert(reply->settings->preallocate);
    ck_assert_uint_gt(reply->raft_index, token);
    quorlog__topic_alter_reply__free_unpacked(reply, NULL);

    init(&alteration, 1); /* back to its default */
    reply = altered(&alteration);
    ck_assert_uint_eq(reply->settings->retention_ms, 0);
    quorlog__topic_alter_reply__free_unpacked(reply, NULL);

    described = describe("t");
    ck_assert_uint_eq(described->topic->settings->retention_ms, 0);
    ck_assert_uint_eq(described->topic->settings->compression, 1);
    ck_assert(described->topic->settings->preallocate);
    quorlog__topic_describe_reply__free_unpacked(described, NULL);
}
END_TEST

START_TEST(nodes_get_a_set_of_indexes_of_their_own)
{
    Quorlog__TopicAlterReply *reply;
    struct alteration alteration;

    init(&alteration, 7);
    alteration.settings.indexes = 4;
    alteration.on[0] = 3;
    alteration.on[1] = 2;
    alteration.request.n_on_node_id = 2;
    reply = altered(&alteration);
    ck_assert_uint_eq(reply->settings->indexes, 0);
    ck_assert_uint_eq(reply->settings->n_node_indexes, 2);
    ck_assert_uint_eq(reply->settings->node_indexes[0]->node_id, 2);
    ck_assert_uint_eq(reply->settings->node_indexes[0]->indexes, 4);
    ck_assert_uint_eq(reply->settings->node_indexes[1]->node_id, 3);
    quorlog__topic_alter_reply__free_unpacked(reply, NULL);
    alteration.settings.indexes = 0;
    alteration.request.on_default = true;
    alteration.request.n_on_node_id = 1;
    reply = altered(&alteration);
    ck_assert_uint_eq(reply->settings->n_node_indexes, 1);
    ck_assert_uint_eq(reply->settings->node_indexes[0]->node_id, 2);
    quorlog__topic_alter_reply__free_unpacked(reply, NULL);
}
END_TEST

START_TEST(what_is_not_allowed_is_refused_and_told)
{
    struct alteration alteration;
    Quorlog__TopicDescribeReply *described;

    init(&alteration, 0);
    refused(&alteration, ERR_INVALID, "no setting");
    init(&alteration, 1);
    alteration.settings.retention_ms = UINT64_MAX; /* -1 */
    refused(&alteration, ERR_INVALID, "retention-ms may be from 1 to");
    init(&alteration, 7);
    alteration.settings.indexes = 8;
    refused(&alteration, ERR_INVALID, "time, key=btree or bloom");
    init(&alteration, 6);
    alteration.settings.compression = 3;
    refused(&alteration, ERR_INVALID, "none, lz4 or zstd");
    init(&alteration, 9);
    alteration.settings.segment_bytes = 100;
    refused(&alteration, ERR_INVALID, "segment-bytes may be from 4096 to");
    init(&alteration, 4);
    alteration.which[alteration.request.n_which++] = 1;
    alteration.settings.compact = true;
    alteration.settings.retention_ms = 5;
    refused(&alteration, ERR_INVALID, "retention-records at 0 only");
    init(&alteration, 8);
    refused(&alteration, ERR_UNSUPPORTED, "setting 8");
    init(&alteration, 99);
    refused(&alteration, ERR_UNSUPPORTED, "setting 99");
    init(&alteration, 1);
    alteration.settings.flush_ms = 100;
    refused(&alteration, ERR_INVALID, "does not name");
    init(&alteration, 7);
    alteration.on[0] = alteration.on[1] = 5;
    alteration.request.n_on_node_id = 2;
    refused(&alteration, ERR_INVALID, "node 5 is named twice");
    alteration.request.n_on_node_id = 17;
    refused(&alteration, ERR_INVALID, "at most 16 nodes");
    init(&alteration, 1);
    alteration.on[0] = 5;
    alteration.request.n_on_node_id = 1;
    refused(&alteration, ERR_INVALID, "for their indexes only");
    described = describe("t");
    ck_assert_uint_eq(protobuf_c_message_get_packed_size(&described->topic->settings->base), 0);
    quorlog__topic_describe_reply__free_unpacked(described, NULL);
}
END_TEST

/* Each alone is allowed: nobody knows but who applies it. */
START_TEST(one_node_too_many_is_refused_by_the_state_machine)
{
    struct alteration alteration;

    init(&alteration, 7);
    alteration.request.n_on_node_id = 16;
    for (uint64_t i = 0; i < 16; i++) {
        alteration.on[i] = i + 1;
    }
    quorlog__topic_alter_reply__free_unpacked(altered(&alteration), NULL);
    alteration.on[0] = 99;
    alteration.request.n_on_node_id = 1;
    refused(&alteration, ERR_INVALID, "at most 16 nodes");
}
END_TEST

/* What the topic has already decides, too. */
START_TEST(compaction_on_top_of_retention_is_refused_and_told)
{
    struct alteration alteration;

    init(&alteration, 3);
    alteration.settings.retention_records = 7;
    quorlog__topic_alter_reply__free_unpacked(altered(&alteration), NULL);
    init(&alteration, 4);
    alteration.settings.compact = true;
    refused(&alteration, ERR_INVALID, "retention-records at 0 only");
}
END_TEST

START_TEST(a_topic_that_is_not_there_is_unknown)
{
    struct alteration alteration;

    init(&alteration, 12);
    alteration.settings.preallocate = true;
    alteration.request.topic = (char *)"u";
    send_alter(&alteration);
    wire_error(&wire, ERR_TOPIC_UNKNOWN);
    alteration.request.topic = (char *)"../u";
    send_alter(&alteration);
    wire_error(&wire, ERR_INVALID);
}
END_TEST

START_TEST(a_topic_is_created_with_settings)
{
    Quorlog__TopicCreateRequest create = QUORLOG__TOPIC_CREATE_REQUEST__INIT;
    Quorlog__TopicSettings settings = QUORLOG__TOPIC_SETTINGS__INIT;
    Quorlog__NodeIndexes node = QUORLOG__NODE_INDEXES__INIT;
    Quorlog__NodeIndexes *nodes[] = {&node};
    Quorlog__TopicDescribeReply *described;
    Quorlog__Error *error;
    struct answer answer;

    create.topic = (char *)"u";
    create.settings = &settings;
    settings.segment_bytes = 1;
    (void)wire_send(&wire, TYPE(TOPIC_CREATE), &create.base, NULL, 0);
    error = wire_expect_error(&wire, ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error->text, "create topic 'u': segment-bytes may be from"));
    quorlog__error__free_unpacked(error, NULL);
    settings.segment_bytes = 8192;
    settings.indexes = 3;
    settings.node_indexes = nodes;
    settings.n_node_indexes = 1;
    node.node_id = 9;
    (void)wire_send(&wire, TYPE(TOPIC_CREATE), &create.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, TYPE(TOPIC_CREATE_REPLY));
    answer_fini(&answer);
    described = describe("u");
    ck_assert_uint_eq(described->topic->settings->segment_bytes, 8192);
    ck_assert_uint_eq(described->topic->settings->indexes, 3);
    ck_assert_uint_eq(described->topic->settings->n_node_indexes, 1);
    ck_assert_uint_eq(described->topic->settings->node_indexes[0]->node_id, 9);
    quorlog__topic_describe_reply__free_unpacked(described, NULL);
}
END_TEST

START_TEST(settings_outlive_a_restart)
{
    Quorlog__TopicDescribeReply *described;
    struct alteration alteration;

    init(&alteration, 9);
    alteration.settings.segment_bytes = 5000;
    quorlog__topic_alter_reply__free_unpacked(altered(&alteration), NULL);
    wire_close(&wire);
    lab_stop(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    wire = wire_client(&lab);
    quorlog__topic_alter_reply__free_unpacked(altered(&alteration), NULL); /* All is applied. */
    described = describe("t");
    ck_assert_uint_eq(described->topic->settings->segment_bytes, 5000);
    quorlog__topic_describe_reply__free_unpacked(described, NULL);
}
END_TEST

/* A newer client's field, number 60, in the settings: it must not be passed over. */
START_TEST(a_setting_of_a_newer_client_is_refused)
{
    static const uint8_t header[] = {10, 1, 't', 34, 3, 0xe0, 3, 1, 42, 1, 1};
    Quorlog__TopicAlterRequest *request =
        quorlog__topic_alter_request__unpack(NULL, sizeof header, header);
    struct topic_change change;
    struct err_info info = {.text = ""};

    ck_assert_ptr_nonnull(request);
    ck_assert_int_eq(settings_take_change(request, &change, &info), ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(info.text, "does not know"));
    quorlog__topic_alter_request__free_unpacked(request, NULL);
}
END_TEST

START_TEST(each_change_is_passed_on_as_it_came)
{
    uint32_t which[SETTINGS_WHICH_MAX];

    for (uint32_t bit = 1; bit <= TOPIC_SETTINGS_KNOWN; bit <<= 1) {
        const struct topic_change change = {.which = bit};
        Quorlog__TopicAlterRequest request = QUORLOG__TOPIC_ALTER_REQUEST__INIT;
        struct topic_change taken;

        request.which = which;
        request.n_which = settings_put_which(&change, which);
        ck_assert_uint_eq(request.n_which, 1);
        ck_assert_int_eq(settings_take_change(&request, &taken, NULL), ERR_OK);
        ck_assert_uint_eq(taken.which, bit);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server/alter");
    TCase *node = tcase_create("topic_alter");
    TCase *messages = tcase_create("settings_take");

    tcase_add_checked_fixture(node, setup, teardown);
    tcase_add_test(node, what_is_named_is_altered_and_the_rest_stays);
    tcase_add_test(node, nodes_get_a_set_of_indexes_of_their_own);
    tcase_add_test(node, what_is_not_allowed_is_refused_and_told);
    tcase_add_test(node, one_node_too_many_is_refused_by_the_state_machine);
    tcase_add_test(node, compaction_on_top_of_retention_is_refused_and_told);
    tcase_add_test(node, a_topic_that_is_not_there_is_unknown);
    tcase_add_test(node, a_topic_is_created_with_settings);
    tcase_add_test(node, settings_outlive_a_restart);
    suite_add_tcase(suite, node);
    tcase_add_test(messages, a_setting_of_a_newer_client_is_refused);
    tcase_add_test(messages, each_change_is_passed_on_as_it_came);
    suite_add_tcase(suite, messages);
    return runner_main(suite);
}
