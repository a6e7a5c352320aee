#include "server/recover.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "raft_fsm/digest.h"

/* A new cluster's id: nobody else's. */
static void new_cluster_id(const char *old, char ret_id[CLUSTER_ID_SIZE])
{
    const struct clock *clock = clock_real();
    uint8_t digest[DIGEST_SIZE];
    char text[128];
    int size = snprintf(text, sizeof text, "recovered %s %016" PRIx64 "%016" PRIx64, old,
                        clock->random(clock), clock->random(clock));

    ASSERT(size > 0 && (size_t)size < sizeof text);
    digest_bytes((const uint8_t *)text, (size_t)size, digest);
    for (size_t i = 0; i < CLUSTER_ID_SIZE / 2; i++) {
        (void)snprintf(ret_id + 2 * i, 3, "%02x", digest[i]); /* Fits by its size. */
    }
}

static enum err find_address(const struct recover_options *options,
                             const struct recovery_report *report,
                             char ret_address[MEMBER_ADDRESS_SIZE], struct err_info *info)
{
    const struct member *member = membership_find(&report->membership, options->config->id);
    const char *address = options->address != NULL ? options->address
                          : member != NULL         ? member->address
                                                   : NULL;

    if (address == NULL) {
        return err_set(info, ERR_NOT_FOUND,
                       "node %" PRIu64 " is no member by its own log: give its address "
                       "(--advertise HOST:PORT)",
                       options->config->id);
    }
    if (strlen(address) >= MEMBER_ADDRESS_SIZE) {
        return err_set(info, ERR_INVALID, "the address is too long");
    }
    memcpy(ret_address, address, strlen(address) + 1);
    return ERR_OK;
}

static enum err recover(struct io *io, const struct recover_options *options,
                        struct identity *identity, struct recover_result *result,
                        struct err_info *info)
{
    const struct config *config = options->config;
    char dir[IO_PATH_SIZE];
    char cluster_id[CLUSTER_ID_SIZE];
    enum err err = io_path(dir, config->data, "group-1", info);

    err = err != ERR_OK ? err : recovery_inspect(io, dir, config->id, &result->report, info);
    err = err != ERR_OK ? err : find_address(options, &result->report, result->address, info);
    memcpy(result->cluster_id, identity->cluster_id, sizeof result->cluster_id);
    if (err != ERR_OK || !options->force) {
        return err;
    }
    new_cluster_id(identity->cluster_id, cluster_id);
    err = identity_adopt(identity, config, IDENTITY_RECOVER, cluster_id, info);
    if (err == ERR_OK) {
        err = recovery_begin_anew(io, dir, config->id, result->address, &result->report, info);
    }
    memcpy(result->cluster_id, identity->cluster_id, sizeof result->cluster_id);
    return err;
}

enum err recover_node(struct io *io, const struct recover_options *options,
                      struct recover_result *ret_result, struct err_info *info)
{
    struct recover_result result = {.address = ""};
    struct identity identity;
    enum err err = identity_open_existing(&identity, io, options->config, info);

    if (err != ERR_OK) {
        return err;
    }
    err = recover(io, options, &identity, &result, info);
    identity_close(&identity);
    if (err == ERR_OK) {
        *ret_result = result;
    }
    return err;
}
