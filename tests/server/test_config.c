#include "server/config.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "lib/tmpdir.h"

static struct config config;
static struct err_info info;
static const char *dir;
static char path[512];

static void setup(void)
{
    config_init(&config);
    dir = tmpdir_new();
    snprintf(path, sizeof path, "%s/q.conf", dir);
}

static void teardown(void)
{
    tmpdir_remove(dir);
}

static enum err read_text(const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    return config_read_file(&config, path, &info);
}

START_TEST(the_defaults_are_valid)
{
    ck_assert_int_eq(config_validate(&config, &info), ERR_OK);
    ck_assert_str_eq(config.listen, "127.0.0.1:7437");
    ck_assert_uint_eq(config.id, 1);
    ck_assert_uint_eq(config.heartbeat_ms, 50);
    ck_assert_uint_eq(config.hello_timeout_ms, 5000);
    ck_assert_uint_eq(config.batch_size_max, 1 << 20);
}
END_TEST

/* What a flag's text gives: a value, or, with error, the whole of its text. */
static const struct {
    const char *name;
    const char *text;
    uint64_t value;
    const char *error;
} flags[] = {
    {"heartbeat_ms", "70", 70, NULL},
    {"heartbeat-ms", "70ms", 70, NULL},
    {"election_ms", "5s", 5000, NULL},
    {"idle_timeout_ms", "2m", 120000, NULL},
    {"batch_size_max", "64K", 65536, NULL},
    {"batch-size-max", "16M", 16 << 20, NULL},
    {"frame_size_max", "1G", 1 << 30, NULL},
    {"threads", "0", 0, NULL},
    {"threads", "64", 64, NULL},
    {"threads", "65", 0, "option --threads 65: must be a number from 0 to 64"},
    {"threads", "-1", 0, "option --threads -1: must be a number from 0 to 64"},
    {"threads", "", 0, "option --threads : must be a number from 0 to 64"},
    {"threads", "4K", 0, "option --threads 4K: must be a number from 0 to 64"},
    {"threads", "99999999999999999999", 0,
     "option --threads 99999999999999999999: must be a number from 0 to 64"},
    {"heartbeat_ms", "1", 0, "option --heartbeat_ms 1: must be a time from 5ms to 10s"},
    {"heartbeat_ms", "5K", 0, "option --heartbeat_ms 5K: must be a time from 5ms to 10s"},
    {"batch_size_max", "17M", 0, "option --batch_size_max 17M: must be a size from 1K to 16M"},
    {"batch_size_max", "1s", 0, "option --batch_size_max 1s: must be a size from 1K to 16M"},
    {"frame_size_max", "18446744073709551615G", 0,
     "option --frame_size_max 18446744073709551615G: must be a size from 128K to 1G"},
    {"id", "0", 0, "option --id 0: must be a number from 1 to 9223372036854775807"},
    {"log_level", "loud", 0, "option --log_level loud: must be one of error|warn|info|debug"},
    {"log_level", "err", 0, "option --log_level err: must be one of error|warn|info|debug"},
    {"cluster", "", 0, "option --cluster : must be text of 1 to 64 bytes"},
    {"cluster", "a\nb", 0,
     "setting cluster: control characters, spaces at the ends and what begins a comment in a file "
     "cannot be part of it"},
    {"cluster", "a ", 0,
     "setting cluster: control characters, spaces at the ends and what begins a comment in a file "
     "cannot be part of it"},
    {"cluster", "a ;b", 0,
     "setting cluster: control characters, spaces at the ends and what begins a comment in a file "
     "cannot be part of it"},
    {"colour", "red", 0, "option --colour: there is no such setting"},
    {"id2", "1", 0, "option --id2: there is no such setting"},
};

START_TEST(a_flag_is_parsed_or_refused_with_what_is_allowed)
{
    const struct config_key *keys = config_keys();
    enum err err = config_set_flag(&config, flags[_i].name, flags[_i].text, &info);

    if (flags[_i].error != NULL) {
        struct config before;

        config_init(&before);
        ck_assert_int_eq(err, ERR_INVALID);
        ck_assert_str_eq(info.text, flags[_i].error);
        ck_assert_mem_eq(&before, &config, sizeof config);
        return;
    }
    ck_assert_msg(err == ERR_OK, "%s", info.text);
    for (int i = 0; i < CONFIG_COUNT; i++) {
        char name[64];

        snprintf(name, sizeof name, "%s", flags[_i].name);
        for (char *at = name; *at != '\0'; at++) {
            *at = *at == '-' ? '_' : *at;
        }
        if (strcmp(keys[i].name, name) == 0) {
            ck_assert_uint_eq(*(uint64_t *)(void *)((char *)&config + keys[i].offset),
                              flags[_i].value);
            return;
        }
    }
    ck_abort();
}
END_TEST

START_TEST(a_higher_source_wins_in_any_order)
{
    char *environment[] = {(char *)(uintptr_t) "PATH=/bin",
                           (char *)(uintptr_t) "QUORLOG_HEARTBEAT_MS=60",
                           (char *)(uintptr_t) "QUORLOG_ELECTION_MS=600",
                           (char *)(uintptr_t) "QUORLOG_SERVER=elsewhere:1", NULL};

    ck_assert_int_eq(config_set_flag(&config, "election_ms", "700", &info), ERR_OK);
    ck_assert_int_eq(config_read_environment(&config, environment, &info), ERR_OK);
    ck_assert_int_eq(read_text("heartbeat_ms = 40\nelection_ms = 400\nthreads = 3\n"), ERR_OK);
    ck_assert_uint_eq(config.heartbeat_ms, 60);
    ck_assert_uint_eq(config.election_ms, 700);
    ck_assert_uint_eq(config.threads, 3);
    config_init(&config);
    ck_assert_int_eq(read_text("heartbeat_ms = 40\nelection_ms = 400\n"), ERR_OK);
    ck_assert_int_eq(config_read_environment(&config, environment, &info), ERR_OK);
    ck_assert_int_eq(config_set_flag(&config, "election_ms", "700", &info), ERR_OK);
    ck_assert_uint_eq(config.heartbeat_ms, 60);
    ck_assert_uint_eq(config.election_ms, 700);
}
END_TEST

START_TEST(a_wrong_variable_is_named)
{
    char *environment[] = {(char *)(uintptr_t) "QUORLOG_HEARTBEAT_MS=x", NULL};

    ck_assert_int_eq(config_read_environment(&config, environment, &info), ERR_INVALID);
    ck_assert_str_eq(info.text,
                     "environment: QUORLOG_HEARTBEAT_MS=x: must be a time from 5ms to 10s");
}
END_TEST

/* error: what follows "file 'PATH', line ". */
static const struct {
    const char *text;
    const char *error;
} files[] = {
    {"", NULL},
    {"# a comment\n\nheartbeat_ms = 60\n", NULL},
    {"heartbeat-ms: 60", NULL},
    {"bootstrap = 1=a:1,2=b:2\nbootstrap = 3=c:3\n", NULL},
    {"\nheartbeat_ms = 0\n", "2: heartbeat_ms = 0: must be a time from 5ms to 10s"},
    {"colour = red\n", "1: colour: there is no such setting"},
    {"id = 1\nid = 2\n", "2: id was given on line 1 before"},
    {"id = 1\nid = 1\n", "2: id was given on line 1 before"},
    {"[section]\nid = 1\n", "2: there are no sections here"},
    {"id = 1\nnonsense\n", "2: not of the form `name = value`"},
    {"id = 1\ncluster = "
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaa\n",
     "2: longer than 190 bytes"},
};

START_TEST(a_file_is_read_or_refused_with_the_line)
{
    char expected[1024];
    enum err err = read_text(files[_i].text);

    if (files[_i].error == NULL) {
        ck_assert_msg(err == ERR_OK, "%s", info.text);
        return;
    }
    snprintf(expected, sizeof expected, "file '%s', line %s", path, files[_i].error);
    ck_assert_int_eq(err, ERR_INVALID);
    ck_assert_str_eq(info.text, expected);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_said_to_be_missing)
{
    ck_assert_int_eq(config_read_file(&config, path, &info), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(info.text, path));
}
END_TEST

START_TEST(a_bootstrap_list_may_stand_on_several_lines)
{
    struct membership members;

    ck_assert_int_eq(read_text("bootstrap = 2=b:2,\nbootstrap = 1=a:1\n  3=c:3\n"), ERR_OK);
    ck_assert_int_eq(config_membership(&config, &members, &info), ERR_OK);
    ck_assert_uint_eq(members.count, 3);
    ck_assert_str_eq(membership_find(&members, 3)->address, "c:3");
    ck_assert_str_eq(membership_find(&members, 1)->address, "a:1");
}
END_TEST

/* Flags that make no sense together. */
static const struct {
    const char *flags[6];
    const char *error; /* a part of the text; NULL: valid */
} whole[] = {
    {{"listen", "0.0.0.0:7437"}, "set advertise"},
    {{"listen", ":7437"}, "set advertise"},
    {{"listen", "0.0.0.0:7437", "advertise", "n1:7437"}, NULL},
    {{"listen", "nonsense"}, "listen: "},
    {{"advertise", ":7437"}, "advertise: ':7437' lacks a host or a port"},
    {{"advertise", "n1:0"}, "lacks a host or a port"},
    {{"bootstrap", "1=n1:1,2=n2:2", "listen", ":7437"}, NULL},
    {{"bootstrap", "2=n2:2,3=n3:3"}, "this node's id, 1, is not in the list '2=n2:2,3=n3:3'"},
    {{"bootstrap", "1=n1:1,1=n2:2"}, "node 1 at 'n2:2': its number or address is there twice"},
    {{"bootstrap", "1=n1:1,2=n1:1"}, "node 2 at 'n1:1': its number or address is there twice"},
    {{"bootstrap", "1=n1:1,n2:2"}, "'n2:2' is not of the form ID=HOST:PORT"},
    {{"bootstrap", "1=n1:1,,2=n2:2"}, "'' is not of the form ID=HOST:PORT"},
    {{"bootstrap", "1=n1"}, "bootstrap: node 1: "},
    {{"bootstrap", "0=n1:1"}, "bootstrap: node 0 at 'n1:1'"},
    {{"bootstrap", "1=n1:1", "advertise", "n1:2"}, "differs from this node's address"},
    {{"bootstrap", "1=n1:1", "advertise", "n1:1"}, NULL},
    {{"heartbeat_ms", "200", "election_ms", "300"}, "must be at least twice heartbeat_ms"},
    {{"batch_size_max", "1M", "frame_size_max", "1M"}, "must exceed batch_size_max"},
    {{"cluster", "a b"}, "cluster: 'a b'"},
};

START_TEST(values_are_validated_together)
{
    enum err err;

    for (int i = 0; i < 6 && whole[_i].flags[i] != NULL; i += 2) {
        ck_assert_int_eq(
            config_set_flag(&config, whole[_i].flags[i], whole[_i].flags[i + 1], &info), ERR_OK);
    }
    err = config_validate(&config, &info);
    if (whole[_i].error == NULL) {
        ck_assert_msg(err == ERR_OK, "%s", info.text);
    } else {
        ck_assert_int_eq(err, ERR_INVALID);
        ck_assert_msg(strstr(info.text, whole[_i].error) != NULL, "'%s'", info.text);
    }
}
END_TEST

START_TEST(the_advertised_address_is_that_of_bootstrap_or_listen)
{
    char address[MEMBER_ADDRESS_SIZE];

    config_advertised(&config, address);
    ck_assert_str_eq(address, "127.0.0.1:7437");
    ck_assert_int_eq(config_set_flag(&config, "bootstrap", "2=b:2,1=a:1", NULL), ERR_OK);
    config_advertised(&config, address);
    ck_assert_str_eq(address, "a:1");
}
END_TEST

START_TEST(what_is_printed_reads_back_the_same)
{
    struct config again;
    struct buf text;

    ck_assert_int_eq(config_set_flag(&config, "bootstrap",
                                     "2=a-host-with-a-rather-long-name.of-a-cluster.example:7437,"
                                     "1=b-host-with-a-rather-long-name.of-a-cluster.example:7437,"
                                     "3=c-host-with-a-rather-long-name.of-a-cluster.example:7437",
                                     NULL),
                     ERR_OK);
    ck_assert_int_eq(config_set_flag(&config, "election_ms", "1500", NULL), ERR_OK);
    ck_assert_int_eq(config_set_flag(&config, "batch_size_max", "2M", NULL), ERR_OK);
    buf_init(&text, 1 << 20);
    ck_assert_int_eq(config_print(&config, false, &text), ERR_OK);
    ck_assert_int_eq(buf_append(&text, "", 1), ERR_OK);
    ck_assert_ptr_nonnull(strstr((char *)text.data, "# option\nbatch_size_max = 2M\n"));
    ck_assert_ptr_nonnull(strstr((char *)text.data, "# default\nid = 1\n"));
    again = config;
    config_init(&config);
    /* Empty values cannot be written in a file: they are the defaults there. */
    ck_assert_int_eq(read_text((char *)text.data), ERR_OK);
    for (int i = 0; i < CONFIG_COUNT; i++) {
        char a[CONFIG_TEXT_SIZE];
        char b[CONFIG_TEXT_SIZE];

        ck_assert_str_eq(config_value(&config, (enum config_number)i, a),
                         config_value(&again, (enum config_number)i, b));
    }
    buf_fini(&text);
}
END_TEST

START_TEST(the_sample_is_a_valid_file_that_changes_nothing)
{
    struct config before = config;
    struct buf text;

    buf_init(&text, 1 << 20);
    ck_assert_int_eq(config_print(&config, true, &text), ERR_OK);
    ck_assert_int_eq(buf_append(&text, "", 1), ERR_OK);
    ck_assert_ptr_nonnull(strstr((char *)text.data, "#heartbeat_ms = 50ms\n"));
    ck_assert_int_eq(read_text((char *)text.data), ERR_OK);
    memset(config.path, 0, sizeof config.path);
    ck_assert_mem_eq(&before, &config, sizeof config);
    buf_fini(&text);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/config");
    TCase *tcase = tcase_create("config");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_defaults_are_valid);
    tcase_add_loop_test(tcase, a_flag_is_parsed_or_refused_with_what_is_allowed, 0,
                        sizeof flags / sizeof flags[0]);
    tcase_add_test(tcase, a_higher_source_wins_in_any_order);
    tcase_add_test(tcase, a_wrong_variable_is_named);
    tcase_add_loop_test(tcase, a_file_is_read_or_refused_with_the_line, 0,
                        sizeof files / sizeof files[0]);
    tcase_add_test(tcase, a_file_that_is_not_there_is_said_to_be_missing);
    tcase_add_test(tcase, a_bootstrap_list_may_stand_on_several_lines);
    tcase_add_loop_test(tcase, values_are_validated_together, 0, sizeof whole / sizeof whole[0]);
    tcase_add_test(tcase, the_advertised_address_is_that_of_bootstrap_or_listen);
    tcase_add_test(tcase, what_is_printed_reads_back_the_same);
    tcase_add_test(tcase, the_sample_is_a_valid_file_that_changes_nothing);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
