/*
 * What the client commands share: the --server option, a connected client, calls that wait, and how
 * failures are told.
 */
#ifndef QUORLOG_CLI_CALLER_H
#define QUORLOG_CLI_CALLER_H

#include "cli/options.h"
#include "client/client.h"

/* Rows for the option tables of commands that talk to a cluster. */
#define CALLER_OPTIONS                                                                             \
    {"server", 's', "HOST:PORT,…", false,                                                          \
     "nodes to try; default $QUORLOG_SERVER or 127.0.0.1:7437"},                                   \
    {                                                                                              \
        "timeout", 0, "MS", false,                                                                 \
            "wait so long for an answer; default 30000, and 3000 for the first connection"         \
    }

/* Makes a client from the options. On failure says why on stderr and returns the exit code. */
int caller_open(const struct invocation *invocation, struct client **ret_client);
void caller_close(struct client *client);

/* --timeout, or its default. EXIT_USAGE with a message when it is not a number. */
int caller_timeout(const struct invocation *invocation, uint64_t *ret_timeout_ms);

/* A call and its answer. reply: the packed message, owned (free). */
struct call {
    bool done;
    enum err err;
    char text[512];
    uint8_t *reply;
    size_t reply_size;
};

/* The callback of a call; arg is the struct call. */
void caller_on_reply(void *arg, const struct client_error *error, const uint8_t *reply,
                     size_t reply_size);

/* Waits for the answer. `started` is what the client_… function returned. On failure says so on
 * stderr and returns EXIT_FAILED; else EXIT_OK, and the caller frees call->reply. */
int caller_wait(struct client *client, enum err started, struct call *call);

/* Waits, for a second at most, until the connected node has applied this entry: a follower knows a
 * moment after the leader, and whoever asks it next finds what was done. */
void caller_wait_applied(struct client *client, uint64_t raft_index);

/* uv_poll_init for a descriptor that other programs share, a terminal's above all: it stays as it
 * is, blocking or not. Returns what uv_poll_init does: not 0 for files, which never wait. */
int poll_init_shared(uv_loop_t *loop, uv_poll_t *poll, int fd);

/* Writes what stdout holds; returns the exit code. A failure is told. */
int flush_output(void);

/* stdout failed so: tells it, returns EXIT_FAILED. The reader of a pipe that has enough ("| head")
 * is no failure: EXIT_OK. */
int output_failed(int number);

/* "quorlog: text" on stderr. Returns EXIT_FAILED. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a wrong command line. Returns EXIT_USAGE. */
int usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
