#include "server/memory_shares.h"

#include "base/assert.h"
#include "transport/transport.h"

enum {
    /* A message is an entry, or several, and what frames it. */
    MESSAGE_OVERHEAD = 1 << 20,
};

/* Settings that are shares, in 64ths of memory. */
static const struct {
    enum config_number number;
    unsigned share;
} shares[] = {
    {CONFIG_requests_size_max, 8}, {CONFIG_mailbox_size, 4},  {CONFIG_inflight_size, 4},
    {CONFIG_snapshot_size, 8},     {CONFIG_trailing_size, 4}, {CONFIG_compact_memory, 6},
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void memory_shares_settle(struct config *config)
{
    if (config->origins[CONFIG_memory].source == CONFIG_DEFAULT) {
        return; /* The defaults are its shares. */
    }
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        const struct config_key *key = &config_keys()[shares[i].number];
        uint64_t value = config->memory / 64 * shares[i].share;

        value = value < key->min ? key->min : value;
        value = value > key->max ? key->max : value;
        config_set_share(config, shares[i].number, value);
    }
}

void memory_shares_of(const struct config *config, struct memory_shares *ret_shares)
{
    size_t memory = config->memory;
    /* What is held for good reasons at once; all are at most 2^40. */
    size_t needed = config->trailing_size + config->snapshot_size + 2 * config->inflight_size;

    ASSERT(memory >= config_keys()[CONFIG_memory].min);
    *ret_shares = (struct memory_shares){
        .entries = larger(memory / 16 * 7, needed),
        /* The largest batch that may come is taken whatever the share. */
        .arriving = larger(memory / 16, config->batch_size_max + 2 * FRAME_HEADER_SIZE_MAX),
        .leaving = memory / 16,
        .peer_queue = larger(memory / 16, config->inflight_size) + MESSAGE_OVERHEAD,
        .keys = memory / 64 * 3,
    };
}
