/*
 * quorlog: the server and its tools, one program.
 *
 * Finds the subcommand, handles --help and --completion-helper, parses its options, runs it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"

const struct command_spec *const commands[] = {
    &command_serve,
    &command_dev,
    &command_produce,
    &command_consume,
    &command_topic_create,
    &command_topic_list,
    &command_topic_describe,
    &command_topic_alter,
    &command_topic_trim,
    &command_topic_delete,
    &command_cursor_get,
    &command_cursor_set,
    &command_cursor_list,
    &command_cursor_delete,
    &command_cluster_status,
    &command_cluster_health,
    &command_cluster_add,
    &command_cluster_remove,
    &command_cluster_replace,
    &command_cluster_transfer,
    &command_recover,
    &command_verify,
    &command_prove,
    &command_check,
    &command_dump,
    &command_fsck,
    &command_sim,
    &command_backup,
    &command_restore,
    &command_bench_produce,
    &command_bench_end_to_end,
    &command_bench_consume,
    &command_config_show,
    &command_version,
    NULL,
};

static const char overview[] =
    "quorlog - a replicated log that you can prove, read anywhere, and break yourself\n"
    "\n"
    "usage: quorlog COMMAND [OPTION…] [ARGUMENT…]\n"
    "\n"
    "commands:\n";

static const char first_steps[] =
    "\n"
    "first steps:\n"
    "  quorlog dev                           a cluster of three nodes on this machine\n"
    "  quorlog topic create events           (in another terminal)\n"
    "  echo hello | quorlog produce events\n"
    "  quorlog consume events -o start --follow\n"
    "\n"
    "'quorlog COMMAND --help' says more. Exit codes: 0 ok, 1 failed, 2 usage, 10 unhealthy.\n";

static void print_overview(FILE *to)
{
    (void)fputs(overview, to); /* Checked, for stdout, at the end; also below. */
    for (size_t i = 0; commands[i] != NULL; i++) {
        (void)fprintf(to, "  %-18s %s\n", commands[i]->name, commands[i]->summary);
    }
    (void)fputs(first_steps, to);
}

/* The command whose name is the first one or two words; *ret_words says how many. */
static const struct command_spec *find_command(int argc, char **argv, int *ret_words)
{
    char two[64];

    for (size_t i = 0; commands[i] != NULL; i++) {
        const char *name = commands[i]->name;

        if (argc >= 1 && strcmp(name, argv[0]) == 0) {
            *ret_words = 1;
            return commands[i];
        }
        if (argc >= 2) {
            (void)snprintf(two, sizeof two, "%s %s", argv[0], argv[1]); /* Cut: matches nothing. */
            if (strcmp(name, two) == 0) {
                *ret_words = 2;
                return commands[i];
            }
        }
    }
    return NULL;
}

/* Prints the commands that begin with this word ("topic"); false when there is none. */
static bool print_family(FILE *to, const char *word)
{
    size_t size = strlen(word);
    bool found = false;

    for (size_t i = 0; commands[i] != NULL; i++) {
        if (strncmp(commands[i]->name, word, size) == 0 && commands[i]->name[size] == ' ') {
            (void)fprintf(to, "  quorlog %-18s %s\n", commands[i]->name, commands[i]->summary);
            found = true;
        }
    }
    return found;
}

static bool has_word(int argc, char **argv, const char *word)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], word) == 0) {
            return true;
        }
    }
    return false;
}

static void complete_commands(void)
{
    for (size_t i = 0; commands[i] != NULL; i++) {
        printf("%s\n", commands[i]->name);
    }
}

/* No command of that name; perhaps the first word of some. */
static int run_unknown(int argc, char **argv)
{
    bool help = has_word(argc, argv, "--help") || has_word(argc, argv, "-h");

    if (print_family(help ? stdout : stderr, argv[0])) {
        return help        ? EXIT_OK
               : argc == 1 ? usage("which '%s' command?", argv[0])
                           : usage("unknown command '%s %s'", argv[0], argv[1]);
    }
    return usage("unknown command '%s'; 'quorlog --help' lists them", argv[0]);
}

/* "quorlog help topic create". */
static int run_help(int argc, char **argv)
{
    int words;
    const struct command_spec *command = find_command(argc, argv, &words);

    if (command != NULL) {
        options_help(command);
        return EXIT_OK;
    }
    return print_family(stdout, argv[0])
               ? EXIT_OK
               : usage("unknown command '%s'; 'quorlog --help' lists them", argv[0]);
}

static int run(int argc, char **argv)
{
    static struct invocation invocation; /* Large, and there is one. */
    const struct command_spec *command;
    struct err_info info;
    int words;

    if (argc == 0) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    if (argc > 1 && strcmp(argv[0], "help") == 0) {
        return run_help(argc - 1, argv + 1);
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 ||
        strcmp(argv[0], "help") == 0) {
        print_overview(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[0], "--version") == 0) {
        argv[0] += 2; /* The command of that name. */
    }
    if (strcmp(argv[0], "--completion-helper") == 0) {
        complete_commands();
        return EXIT_OK;
    }
    command = find_command(argc, argv, &words);
    if (command == NULL) {
        return run_unknown(argc, argv);
    }
    if (has_word(argc - words, argv + words, "--help") ||
        has_word(argc - words, argv + words, "-h")) {
        options_help(command);
        return EXIT_OK;
    }
    if (has_word(argc - words, argv + words, "--completion-helper")) {
        options_complete(command);
        return EXIT_OK;
    }
    if (options_parse(command, argc - words, argv + words, &invocation, &info) != ERR_OK) {
        return usage("%s", info.text);
    }
    return command->run(&invocation);
}

/* A standard stream that the caller has closed must not be the number of some file or socket of
 * ours. What stands there instead fails when it is used, with "Bad file descriptor". */
static void keep_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            /* The lowest free number is this one. No /dev/null: then it stays as it was. */
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

int main(int argc, char **argv)
{
    int code;

    keep_standard_streams();
    (void)signal(SIGPIPE, SIG_IGN); /* Cannot fail; a closed pipe is told by write. */
    code = run(argc - 1, argv + 1);
    return code == EXIT_OK ? flush_output() : code;
}
