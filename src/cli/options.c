#include "cli/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* Configuration keys are written with '_' in files and with '-' as options; both are taken. */
static bool same_name(const char *a, const char *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((a[i] == '_' ? '-' : a[i]) != (b[i] == '_' ? '-' : b[i])) {
            return false;
        }
    }
    return a[size] == '\0';
}

static int find_name(const struct command_spec *command, const char *name, size_t size)
{
    for (int i = 0; command->options[i].name != NULL; i++) {
        ASSERT(i < OPTIONS_MAX);
        if (strlen(command->options[i].name) == size &&
            same_name(command->options[i].name, name, size)) {
            return i;
        }
    }
    return -1;
}

static int find_letter(const struct command_spec *command, char letter)
{
    for (int i = 0; command->options[i].name != NULL; i++) {
        if (command->options[i].letter == letter) {
            return i;
        }
    }
    return -1;
}

static enum err unknown(const struct command_spec *command, const char *word, struct err_info *info)
{
    return err_set(info, ERR_INVALID, "unknown option '%s'; 'quorlog %s --help' lists them", word,
                   command->name);
}

static enum err add_value(struct invocation *self, int at, const char *value, struct err_info *info)
{
    const struct option_spec *option = &self->command->options[at];

    if (self->counts[at] > 0 && !option->repeats) {
        return err_set(info, ERR_INVALID, "option '--%s' is given twice", option->name);
    }
    if (self->counts[at] == OPTION_REPEATS_MAX) {
        return err_set(info, ERR_INVALID, "option '--%s' is given more than %d times", option->name,
                       OPTION_REPEATS_MAX);
    }
    self->values[at][self->counts[at]++] = value;
    return ERR_OK;
}

/* "--name", "--name=value"; *i moves past a value of its own. */
static enum err parse_long(struct invocation *self, int argc, char **argv, int *i,
                           struct err_info *info)
{
    const char *word = argv[*i];
    const char *equals = strchr(word, '=');
    size_t size = equals != NULL ? (size_t)(equals - word) - 2 : strlen(word) - 2;
    int at = find_name(self->command, word + 2, size);
    const struct option_spec *option;

    if (at < 0) {
        return unknown(self->command, word, info);
    }
    option = &self->command->options[at];
    if (option->argument == NULL) {
        return equals == NULL
                   ? add_value(self, at, "", info)
                   : err_set(info, ERR_INVALID, "option '--%s' takes no value", option->name);
    }
    if (equals != NULL) {
        return add_value(self, at, equals + 1, info);
    }
    if (*i + 1 == argc) {
        return err_set(info, ERR_INVALID, "option '--%s' wants a value: %s", option->name,
                       option->argument);
    }
    *i += 1;
    return add_value(self, at, argv[*i], info);
}

/* "-f", "-n value", "-nvalue", "-fn value". */
static enum err parse_short(struct invocation *self, int argc, char **argv, int *i,
                            struct err_info *info)
{
    const char *word = argv[*i];

    for (const char *letter = word + 1; *letter != '\0'; letter++) {
        int at = find_letter(self->command, *letter);
        const struct option_spec *option;
        enum err err;

        if (at < 0) {
            return unknown(self->command, word, info);
        }
        option = &self->command->options[at];
        if (option->argument != NULL && letter[1] != '\0') {
            return add_value(self, at, letter + 1, info);
        }
        if (option->argument != NULL && *i + 1 == argc) {
            return err_set(info, ERR_INVALID, "option '-%c' wants a value: %s", *letter,
                           option->argument);
        }
        if (option->argument != NULL) {
            *i += 1;
            return add_value(self, at, argv[*i], info);
        }
        err = add_value(self, at, "", info);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

enum err options_parse(const struct command_spec *command, int argc, char **argv,
                       struct invocation *ret_invocation, struct err_info *info)
{
    bool over = false;
    enum err err = ERR_OK;

    *ret_invocation = (struct invocation){.command = command};
    for (int i = 0; i < argc && err == ERR_OK; i++) {
        const char *word = argv[i];

        if (!over && strcmp(word, "--") == 0) {
            over = true;
        } else if (!over && strncmp(word, "--", 2) == 0) {
            err = parse_long(ret_invocation, argc, argv, &i, info);
        } else if (!over && word[0] == '-' && word[1] != '\0') {
            err = parse_short(ret_invocation, argc, argv, &i, info);
        } else if (ret_invocation->argument_count == command->arguments_max) {
            err = err_set(info, ERR_INVALID, "too many arguments at '%s'; usage: quorlog %s%s%s",
                          word, command->name, command->synopsis[0] != '\0' ? " " : "",
                          command->synopsis);
        } else {
            ret_invocation->arguments[ret_invocation->argument_count++] = word;
        }
    }
    if (err == ERR_OK && ret_invocation->argument_count < command->arguments_min) {
        err = err_set(info, ERR_INVALID, "an argument is missing; usage: quorlog %s%s%s",
                      command->name, command->synopsis[0] != '\0' ? " " : "", command->synopsis);
    }
    return err;
}

static int place(const struct invocation *self, const char *name)
{
    int at = find_name(self->command, name, strlen(name));

    ASSERT(at >= 0); /* Ours: a command asks for what its table has. */
    return at;
}

const char *option_value(const struct invocation *self, const char *name)
{
    int at = place(self, name);

    return self->counts[at] > 0 ? self->values[at][self->counts[at] - 1] : NULL;
}

bool option_given(const struct invocation *self, const char *name)
{
    return self->counts[place(self, name)] > 0;
}

unsigned option_count(const struct invocation *self, const char *name)
{
    return self->counts[place(self, name)];
}

const char *option_value_at(const struct invocation *self, const char *name, unsigned at)
{
    int option = place(self, name);

    ASSERT(at < self->counts[option]);
    return self->values[option][at];
}

static unsigned suffix_shift(char suffix)
{
    switch (suffix) {
    case 'k':
    case 'K':
        return 10;
    case 'm':
    case 'M':
        return 20;
    case 'g':
    case 'G':
        return 30;
    case 't':
    case 'T':
        return 40;
    default:
        return 0;
    }
}

enum err parse_number(const char *text, const char *what, uint64_t min, uint64_t max,
                      uint64_t *ret_number, struct err_info *info)
{
    unsigned long long number;
    unsigned shift;
    char *end;

    errno = 0;
    number = strtoull(text, &end, 10);
    shift = suffix_shift(*end);
    end += shift > 0 ? 1 : 0;
    end += shift > 0 && strncmp(end, "iB", 2) == 0 ? 2 : 0;
    if (text[0] < '0' || text[0] > '9' || *end != '\0') {
        return err_set(info, ERR_INVALID, "%s: '%s' is not a whole number", what, text);
    }
    if (errno == ERANGE || number > UINT64_MAX >> shift || number << shift < min ||
        number << shift > max) {
        return err_set(info, ERR_INVALID, "%s: '%s' is not in the range %llu to %llu", what, text,
                       (unsigned long long)min, (unsigned long long)max);
    }
    *ret_number = number << shift;
    return ERR_OK;
}

enum err parse_duration(const char *text, const char *what, uint64_t min, uint64_t max,
                        uint64_t *ret_ms, struct err_info *info)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    unsigned long long number;
    uint64_t unit_ms = 0;
    char *end;

    errno = 0;
    number = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        unit_ms = strcmp(end, units[i].name) == 0 ? units[i].ms : unit_ms;
    }
    if (text[0] < '0' || text[0] > '9' || unit_ms == 0) {
        return err_set(info, ERR_INVALID,
                       "%s: '%s' is not a time: write milliseconds, or 10s, 5m, 12h, 7d", what,
                       text);
    }
    if (errno == ERANGE || number > UINT64_MAX / unit_ms || number * unit_ms < min ||
        number * unit_ms > max) {
        return err_set(info, ERR_INVALID, "%s: '%s' is not in the range %llu to %llu ms", what,
                       text, (unsigned long long)min, (unsigned long long)max);
    }
    *ret_ms = number * unit_ms;
    return ERR_OK;
}

enum err option_number(const struct invocation *self, const char *name, uint64_t absent,
                       uint64_t min, uint64_t max, uint64_t *ret_number, struct err_info *info)
{
    const char *value = option_value(self, name);
    char what[64];

    if (value == NULL) {
        *ret_number = absent;
        return ERR_OK;
    }
    (void)snprintf(what, sizeof what, "option '--%s'", name); /* Cut text is still text. */
    return parse_number(value, what, min, max, ret_number, info);
}

enum { HELP_COLUMN = 32 };

/* Of UTF-8 text: "…" is one. */
static int columns(const char *text)
{
    int count = 0;

    for (; *text != '\0'; text++) {
        count += ((unsigned char)*text & 0xc0) != 0x80 ? 1 : 0;
    }
    return count;
}

static void print_option(const struct option_spec *option)
{
    char left[64];
    char letter[4] = "  ";
    int width;

    if (option->letter != '\0') {
        (void)snprintf(letter, sizeof letter, "-%c", option->letter); /* fits */
    }
    (void)snprintf(left, sizeof left, "  %s%s --%s%s%s", letter, option->letter != '\0' ? "," : " ",
                   option->name, option->argument != NULL ? " " : "",
                   option->argument != NULL ? option->argument : ""); /* Cut text is still text. */
    for (char *at = left; *at != '\0' && at < left + 8 + strlen(option->name); at++) {
        *at = *at == '_' ? '-' : *at;
    }
    width = columns(left);
    if (width > HELP_COLUMN) {
        printf("%s\n%-*s %s\n", left, HELP_COLUMN, "", option->help);
    } else {
        printf("%s%-*s %s\n", left, HELP_COLUMN - width, "", option->help);
    }
}

void options_help(const struct command_spec *command)
{
    printf("quorlog %s - %s\n\nusage: quorlog %s %s%s\n", command->name, command->summary,
           command->name, command->options[0].name != NULL ? "[OPTION…] " : "", command->synopsis);
    if (command->options[0].name != NULL) {
        printf("\noptions:\n");
    }
    for (int i = 0; command->options[i].name != NULL; i++) {
        print_option(&command->options[i]);
    }
    if (command->details != NULL) {
        printf("\n%s", command->details);
    }
}

void options_complete(const struct command_spec *command)
{
    for (int i = 0; command->options[i].name != NULL; i++) {
        char name[64];

        (void)snprintf(name, sizeof name, "%s", command->options[i].name); /* fits */
        for (char *at = name; *at != '\0'; at++) {
            *at = *at == '_' ? '-' : *at;
        }
        printf("--%s%s\n", name, command->options[i].argument != NULL ? "=" : "");
    }
    printf("--help\n");
}
