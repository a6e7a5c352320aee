#include "cli/caller.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

enum { CONNECT_TIMEOUT_MS = 3000 };

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list args)
{
    (void)fflush(stdout); /* Keeps the order on a terminal; a failure shows at exit. */
    (void)fputs("quorlog: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputs("\n", stderr); /* Who can't read stderr can't be told. */
}

int fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    return EXIT_FAILED;
}

int usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    return EXIT_USAGE;
}

int caller_timeout(const struct invocation *invocation, uint64_t *ret_timeout_ms)
{
    struct err_info info;
    enum err err =
        option_number(invocation, "timeout", 30000, 1, UINT64_C(86400000), ret_timeout_ms, &info);

    return err == ERR_OK ? EXIT_OK : usage("%s", info.text);
}

int poll_init_shared(uv_loop_t *loop, uv_poll_t *poll, int fd)
{
    int flags = fcntl(fd, F_GETFL);
    int rv = uv_poll_init(loop, poll, fd);

    if (flags >= 0) {
        (void)fcntl(fd, F_SETFL, flags); /* Succeeds as the one before did. */
    }
    return rv;
}

int output_failed(int number)
{
    if (number == EPIPE) {
        clearerr(stdout);
        return EXIT_OK;
    }
    return number == 0 ? fail("standard output cannot be written")
                       : fail("standard output cannot be written: %s", strerror(number));
}

int flush_output(void)
{
    int rv;

    errno = 0; /* An earlier failure is known by the stream's flag only. */
    rv = fflush(stdout);
    return rv == 0 && !ferror(stdout) ? EXIT_OK : output_failed(errno);
}

int caller_open(const struct invocation *invocation, struct client **ret_client)
{
    const char *servers = option_value(invocation, "server");
    struct client_options options = {.name = "quorlog-cli"};
    struct err_info info;
    enum err err;
    int code;

    if (servers == NULL) {
        servers = getenv("QUORLOG_SERVER");
    }
    options.servers = servers != NULL && servers[0] != '\0' ? servers : "127.0.0.1:7437";
    code = caller_timeout(invocation, &options.timeout_ms);
    if (code != EXIT_OK) {
        return code;
    }
    /* Who says how long to wait is taken at his word. */
    options.connect_timeout_ms = option_given(invocation, "timeout") ? 0 : CONNECT_TIMEOUT_MS;
    err = client_new(&options, NULL, ret_client, &info);
    if (err == ERR_INVALID) {
        return usage("%s", info.text);
    }
    return err == ERR_OK ? EXIT_OK : fail("%s", info.text);
}

void caller_close(struct client *client)
{
    client_close(client, NULL, NULL);
}

void caller_on_reply(void *arg, const struct client_error *error, const uint8_t *reply,
                     size_t reply_size)
{
    struct call *call = arg;

    ASSERT(!call->done);
    call->done = true;
    call->err = error->err;
    if (error->err != ERR_OK) {
        (void)snprintf(call->text, sizeof call->text, "%s", error->text); /* Cut is fine. */
        return;
    }
    call->reply = malloc(reply_size > 0 ? reply_size : 1);
    if (call->reply == NULL) {
        call->err = ERR_NOMEM;
        (void)snprintf(call->text, sizeof call->text, "out of memory"); /* fits */
        return;
    }
    memcpy(call->reply, reply, reply_size);
    call->reply_size = reply_size;
}

int caller_wait(struct client *client, enum err started, struct call *call)
{
    if (started == ERR_INVALID) {
        return usage("a topic's name has 1 to 200 characters");
    }
    if (started != ERR_OK) {
        return fail("%s", err_text(started));
    }
    client_wait(client, &call->done);
    return call->err == ERR_OK ? EXIT_OK : fail("%s", call->text);
}

/* The entry that this node has applied; UINT64_MAX when it does not say. */
static uint64_t ask_applied(struct client *client)
{
    struct call call = {0};
    Quorlog__StatusReply *status = NULL;
    uint64_t applied = UINT64_MAX;

    if (client_status(client, true, caller_on_reply, &call) == ERR_OK) {
        client_wait(client, &call.done);
    }
    if (call.reply != NULL) {
        status = quorlog__status_reply__unpack(NULL, call.reply_size, call.reply);
    }
    if (status != NULL && status->n_nodes == 1) {
        applied = status->nodes[0]->applied;
    }
    if (status != NULL) {
        quorlog__status_reply__free_unpacked(status, NULL);
    }
    free(call.reply);
    return applied;
}

void caller_wait_applied(struct client *client, uint64_t raft_index)
{
    enum { TRIES_MAX = 100, PAUSE_MS = 10 };

    for (int i = 0; i < TRIES_MAX && ask_applied(client) < raft_index; i++) {
        uv_sleep(PAUSE_MS);
    }
}
