/*
 * A Quorlog node: configuration in, a running server out. The module's public face.
 */
#ifndef QUORLOG_SERVER_SERVER_H
#define QUORLOG_SERVER_SERVER_H

#include "base/diag.h"
#include "base/err.h"
#include "server/config.h"
#include "server/memory_shares.h"
#include "server/recover.h"

/*
 * Runs a node until it is told to stop (SIGINT, SIGTERM: hands leadership over, answers what it
 * can, closes) or has to (a failed disk: crash-stop). Blocks. ERR_OK after a clean stop.
 * Before anything is opened the configuration is validated as a whole; then the data directory is
 * locked and its identity (cluster id, node id) compared.
 * Errors before it serves, with a text that says what to do: ERR_INVALID, ERR_LOCKED,
 * ERR_WRONG_CLUSTER, ERR_CORRUPT, ERR_EXISTS (address in use), ERR_IO, ERR_NOSPACE.
 */
enum err server_run(const struct config *config, struct err_info *info);

#endif
