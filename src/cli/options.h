/*
 * Options of subcommands: one table gives the parser, --help and the shells' completion.
 *
 * Accepted: --name value, --name=value, --flag, -n value, -nvalue, -f; "--" ends the options;
 * options and arguments may be mixed. What is wrong is said with the nearest right thing, on
 * stderr, and is exit code 2.
 */
#ifndef QUORLOG_CLI_OPTIONS_H
#define QUORLOG_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Exit codes of the program; docs/operations.md. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNHEALTHY = 10 };

enum { OPTIONS_MAX = 48, ARGUMENTS_MAX = 16, OPTION_REPEATS_MAX = 32 };

struct option_spec {
    const char *name;     /* without dashes; NULL ends a table */
    char letter;          /* 0: none */
    const char *argument; /* what --help calls its value; NULL: a flag */
    bool repeats;         /* may be given more than once */
    const char *help;
};

struct invocation;

struct command_spec {
    const char *name;     /* "topic create" */
    const char *synopsis; /* what follows the name: "TOPIC [FILE]" */
    const char *summary;  /* one line */
    const char *details; /* --help prints it below the options: paragraphs, examples; may be NULL */
    const struct option_spec *options;
    unsigned arguments_min;
    unsigned arguments_max;
    int (*run)(const struct invocation *invocation); /* returns the exit code */
};

/* A parsed command line. All strings are borrowed from argv. */
struct invocation {
    const struct command_spec *command;
    const char *values[OPTIONS_MAX][OPTION_REPEATS_MAX]; /* by place in the table; flags: "" */
    unsigned counts[OPTIONS_MAX];
    const char *arguments[ARGUMENTS_MAX];
    unsigned argument_count;
};

/* Parses what follows the command's words. ERR_INVALID with a text for a person. --help and
 * --completion-helper are handled by the caller before. */
enum err options_parse(const struct command_spec *command, int argc, char **argv,
                       struct invocation *ret_invocation, struct err_info *info);

/* The option's last value; NULL when not given. name must be in the table. */
const char *option_value(const struct invocation *self, const char *name);
bool option_given(const struct invocation *self, const char *name);
unsigned option_count(const struct invocation *self, const char *name);
const char *option_value_at(const struct invocation *self, const char *name, unsigned at);

/* The option's value as a number in [min, max]; `absent` when not given. Suffixes K, M, G, T (KiB
 * …) count by 1024. ERR_INVALID with text. */
enum err option_number(const struct invocation *self, const char *name, uint64_t absent,
                       uint64_t min, uint64_t max, uint64_t *ret_number, struct err_info *info);

/* A whole number in text: [min, max], with suffix as above. `what` is how the text calls it. */
enum err parse_number(const char *text, const char *what, uint64_t min, uint64_t max,
                      uint64_t *ret_number, struct err_info *info);

/* A time in text, in [min, max] ms: a number of milliseconds, or of what stands behind it: ms, s,
 * m, h, d. */
enum err parse_duration(const char *text, const char *what, uint64_t min, uint64_t max,
                        uint64_t *ret_ms, struct err_info *info);

/* Prints the help of a command to stdout. */
void options_help(const struct command_spec *command);

/* Prints its options, a line each, for completion scripts. */
void options_complete(const struct command_spec *command);

#endif
