/*
 * quorlog serve and config show: a node from its configuration.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "server/server.h"

/* The configuration's keys are options, by the same table. */
#define KEY_OPTION(name, type, value, min, max, unit, help)                                        \
    {#name, 0, unit[0] != '\0' ? unit : "N", false, help},

static const struct option_spec serve_options[] = {
    {"config", 'c', "FILE", false, "read 'name = value' lines from FILE"},
    CONFIG_MAP(KEY_OPTION){NULL, 0, NULL, false, NULL},
};

static const struct option_spec show_options[] = {
    {"sample", 0, NULL, false, "print a commented file with all defaults"},
    {"config", 'c', "FILE", false, "read 'name = value' lines from FILE"},
    CONFIG_MAP(KEY_OPTION){NULL, 0, NULL, false, NULL},
};

static const char serve_details[] =
    "A value given as an option wins over the environment (QUORLOG_<NAME>), that over the file, "
    "that\n"
    "over the default. Without any option: one node on 127.0.0.1:7437, data in ./quorlog-data.\n"
    "SIGTERM or Ctrl-C stops it cleanly.\n"
    "\n"
    "examples:\n"
    "  quorlog serve\n"
    "  quorlog serve --id 1 --listen 0.0.0.0:7437 --advertise n1:7437 --data /var/lib/quorlog \\\n"
    "                --bootstrap 1=n1:7437,2=n2:7437,3=n3:7437\n"
    "  quorlog serve --id 4 --listen 0.0.0.0:7437 --advertise n4:7437 --data /var/lib/quorlog \\\n"
    "                --join n1:7437,n2:7437          (then: quorlog cluster add 4 n4:7437)\n";

/* All sources into config. On failure says why; returns the exit code. */
static int load(const struct invocation *invocation, struct config *config)
{
    const struct config_key *keys = config_keys();
    const char *file = option_value(invocation, "config");
    struct err_info info = {0};
    enum err err = ERR_OK;

    config_init(config);
    if (file != NULL) {
        err = config_read_file(config, file, &info);
    }
    if (err == ERR_OK) {
        err = config_read_environment(config, environ, &info);
    }
    for (size_t i = 0; i < CONFIG_COUNT && err == ERR_OK; i++) {
        if (option_given(invocation, keys[i].name)) {
            err = config_set_flag(config, keys[i].name, option_value(invocation, keys[i].name),
                                  &info);
        }
    }
    if (err == ERR_OK) {
        memory_shares_settle(config);
        err = config_validate(config, &info);
    }
    return err == ERR_OK ? EXIT_OK : usage("%s", info.text);
}

static int run_serve(const struct invocation *invocation)
{
    struct config *config = calloc(1, sizeof *config);
    struct err_info info = {0};
    int code;

    if (config == NULL) {
        return fail("out of memory");
    }
    code = load(invocation, config);
    if (code == EXIT_OK && server_run(config, &info) != ERR_OK) {
        code = fail("%s", info.text);
    }
    free(config);
    return code;
}

static int run_show(const struct invocation *invocation)
{
    struct config *config = calloc(1, sizeof *config);
    struct buf text;
    int code;

    if (config == NULL) {
        return fail("out of memory");
    }
    buf_init(&text, 1024 * 1024);
    code = load(invocation, config);
    if (code == EXIT_OK &&
        config_print(config, option_given(invocation, "sample"), &text) != ERR_OK) {
        code = fail("out of memory");
    }
    if (code == EXIT_OK) {
        (void)fwrite(text.data, 1, text.size, stdout); /* Checked when main flushes. */
    }
    buf_fini(&text);
    free(config);
    return code;
}

const struct command_spec command_serve = {
    .name = "serve",
    .synopsis = "",
    .summary = "run a node",
    .details = serve_details,
    .options = serve_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_serve,
};

const struct command_spec command_config_show = {
    .name = "config show",
    .synopsis = "",
    .summary = "print the configuration that 'serve' would use, and where it comes from",
    .details = NULL,
    .options = show_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_show,
};
