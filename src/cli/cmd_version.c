/*
 * quorlog version.
 */
#include <stdio.h>
#include <uv.h>

#include "cli/commands.h"
#include "cli/json.h"

static const struct option_spec options[] = {
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static int run(const struct invocation *invocation)
{
    if (option_given(invocation, "json")) {
        json_print(json_pack("{s:s,s:i,s:s,s:s}", "version", QUORLOG_VERSION, "protocol", 1,
                             "libuv", uv_version_string(), "jansson", jansson_version_str()));
    } else {
        printf("quorlog %s (protocol 1, libuv %s)\n", QUORLOG_VERSION, uv_version_string());
    }
    return EXIT_OK;
}

const struct command_spec command_version = {
    .name = "version",
    .synopsis = "",
    .summary = "print the version",
    .details = NULL,
    .options = options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run,
};
