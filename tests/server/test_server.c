/*
 * server_run, as a process runs it: started, asked, and ended by a signal.
 */
#include "server/server.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/runner.h"
#include "server/lab.h"

static struct lab lab; /* Only its configuration, directory and port are used. */
static char log_path[512];
static pid_t pid;

static void read_log(char *text, size_t size)
{
    FILE *file = fopen(log_path, "r");

    ck_assert_ptr_nonnull(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    ck_assert_int_eq(fclose(file), 0);
}

/* Runs the server in a process of its own, and waits until it tells its port. */
static void start(void)
{
    static const char mark[] = "event=node_started";
    char text[8192] = "";

    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct err_info info;

        if (freopen(log_path, "w", stderr) == NULL) {
            _exit(99);
        }
        _exit(server_run(&lab.config, &info) == ERR_OK ? 0 : 98);
    }
    for (int i = 0; i < 10000; i++) {
        const char *at;

        usleep(1000);
        if (access(log_path, R_OK) == 0) {
            read_log(text, sizeof text);
        }
        at = strstr(text, mark);
        at = at == NULL ? NULL : strstr(at, " port=");
        if (at != NULL && strchr(at, '\n') != NULL) {
            lab.port = (uint16_t)atoi(at + 6);
            return;
        }
    }
    ck_abort_msg("not started: %s", text);
}

static void setup(void)
{
    lab_init(&lab);
    strcpy(lab.config.log_level, "info");
    snprintf(log_path, sizeof log_path, "%s/log", lab.dir);
    start();
}

static void teardown(void)
{
    lab_fini(&lab);
}

static void end(int signal_number)
{
    char text[8192];
    int status;

    ck_assert_int_eq(kill(pid, signal_number), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    read_log(text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "event=node_stopped"));
}

static const int signals[] = {SIGTERM, SIGINT};

START_TEST(a_signal_ends_it_cleanly_and_the_records_stay)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ProduceReply *reply;

    wire_create(&wire, "t");
    reply = wire_produce(&wire, "t", 2);
    quorlog__produce_reply__free_unpacked(reply, NULL);
    end(signals[_i]);
    wire_expect_end(&wire);
    wire_close(&wire);
    ck_assert_int_eq(unlink(log_path), 0);
    start();
    wire = wire_client(&lab);
    reply = wire_produce(&wire, "t", 1);
    ck_assert_uint_eq(reply->offset, 2);
    quorlog__produce_reply__free_unpacked(reply, NULL);
    wire_close(&wire);
    end(signals[_i]);
}
END_TEST

START_TEST(a_kill_loses_nothing_that_was_acknowledged)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ProduceReply *reply;
    int status;

    wire_create(&wire, "t");
    for (unsigned i = 0; i < 20; i++) {
        reply = wire_produce(&wire, "t", 1);
        ck_assert_uint_eq(reply->offset, i);
        quorlog__produce_reply__free_unpacked(reply, NULL);
    }
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    wire_expect_end(&wire);
    wire_close(&wire);
    ck_assert_int_eq(unlink(log_path), 0);
    start();
    wire = wire_client(&lab);
    reply = wire_produce(&wire, "t", 1);
    ck_assert_uint_eq(reply->offset, 20);
    quorlog__produce_reply__free_unpacked(reply, NULL);
    wire_close(&wire);
    end(SIGTERM);
}
END_TEST

START_TEST(a_second_server_is_refused_by_directory_and_by_address)
{
    struct config second = lab.config;
    struct err_info info;

    ck_assert_int_eq(server_run(&second, &info), ERR_LOCKED);
    ck_assert_ptr_nonnull(strstr(info.text, second.data));
    snprintf(second.data, sizeof second.data, "%s/other", lab.dir);
    snprintf(second.listen, sizeof second.listen, "127.0.0.1:%u", lab.port);
    ck_assert_int_eq(server_run(&second, &info), ERR_EXISTS);
    ck_assert_ptr_nonnull(strstr(info.text, second.listen));
    second.election_ms = 1;
    ck_assert_int_eq(server_run(&second, &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, "election_ms"));
    end(SIGTERM);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/server");
    TCase *tcase = tcase_create("server_run");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, a_signal_ends_it_cleanly_and_the_records_stay, 0, 2);
    tcase_add_test(tcase, a_kill_loses_nothing_that_was_acknowledged);
    tcase_add_test(tcase, a_second_server_is_refused_by_directory_and_by_address);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
