/*
 * The subcommands: one file each, one table of options each. main.c finds them here.
 */
#ifndef QUORLOG_CLI_COMMANDS_H
#define QUORLOG_CLI_COMMANDS_H

#include "cli/options.h"

extern const struct command_spec command_serve;
extern const struct command_spec command_dev;
extern const struct command_spec command_produce;
extern const struct command_spec command_consume;
extern const struct command_spec command_topic_create;
extern const struct command_spec command_topic_alter;
extern const struct command_spec command_topic_list;
extern const struct command_spec command_topic_describe;
extern const struct command_spec command_topic_trim;
extern const struct command_spec command_topic_delete;
extern const struct command_spec command_cursor_get;
extern const struct command_spec command_cursor_set;
extern const struct command_spec command_cursor_list;
extern const struct command_spec command_cursor_delete;
extern const struct command_spec command_verify;
extern const struct command_spec command_prove;
extern const struct command_spec command_check;
extern const struct command_spec command_dump;
extern const struct command_spec command_fsck;
extern const struct command_spec command_sim;
extern const struct command_spec command_backup;
extern const struct command_spec command_restore;
extern const struct command_spec command_cluster_status;
extern const struct command_spec command_cluster_health;
extern const struct command_spec command_cluster_add;
extern const struct command_spec command_cluster_remove;
extern const struct command_spec command_cluster_replace;
extern const struct command_spec command_cluster_transfer;
extern const struct command_spec command_recover;
extern const struct command_spec command_bench_produce;
extern const struct command_spec command_bench_end_to_end;
extern const struct command_spec command_bench_consume;
extern const struct command_spec command_config_show;
extern const struct command_spec command_version;

/* All of them in the order of help, NULL at the end. */
extern const struct command_spec *const commands[];

#endif
