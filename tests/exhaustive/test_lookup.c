/*
 * Files of indexes that go through the table of calls: times and Bloom filters; written, read,
 * removed. (LMDB does its own calls: tests/lookup/test_lookup.c kills a process that builds.)
 *
 * The promise: a file of that name is whole, and says what was written; what was acknowledged is
 * there; a failure is an error with a text, and never another answer.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "lib/exhaust.h"
#include "lookup/bloom_part.h"
#include "lookup/time_part.h"

enum { KEYS = 200, BATCHES = 50 };

static struct err_info info;
static struct part_seal time_seal;
static struct part_seal bloom_seal;
static bool written; /* acknowledged */

static enum err told(enum err err)
{
    ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "%s without a text", err_name(err));
    info.text[0] = '\0';
    return err;
}

static void prepare_nothing(struct io *io)
{
    (void)io;
    written = false;
    info.text[0] = '\0';
    time_seal = (struct part_seal){
        .kind = PART_TIME, .topic_id = 1, .base_offset = 10, .end_offset = 10 + BATCHES};
    bloom_seal = (struct part_seal){
        .kind = PART_BLOOM, .topic_id = 1, .base_offset = 10, .end_offset = 10 + KEYS};
    if (bloom_part_probe(&bloom_seal.probe) != ERR_OK) {
        ck_abort_msg("no memory");
    }
}

/* ---- times ---- */

static enum err write_times(struct io *io)
{
    struct part_seal seal = time_seal;
    struct time_table table;
    enum err err = ERR_OK;

    time_table_init(&table);
    for (unsigned i = 0; err == ERR_OK && i < BATCHES; i++) {
        err = time_table_add(&table, 10 + (uint64_t)i, &(struct time_span){1000 + i, 1000 + i},
                             TIME_INTERVAL);
    }
    err = err == ERR_OK ? told(time_part_write(io, "/", &table, &seal, &info)) : err;
    time_table_fini(&table);
    return err;
}

static enum err run_write_times(struct io *io)
{
    enum err err = write_times(io);

    if (exhaust_may_retry(err)) {
        err = write_times(io);
    }
    written = err == ERR_OK;
    return err;
}

static enum err read_times(struct io *io)
{
    struct time_entry *entries;
    size_t count;
    enum err err = time_part_read(io, "/", &time_seal, &entries, &count, &info);

    if (err == ERR_OK) {
        ck_assert_uint_eq(count, BATCHES);
        for (unsigned i = 0; i < BATCHES; i++) {
            ck_assert_uint_eq(entries[i].offset, 10 + (uint64_t)i);
            ck_assert_int_eq(entries[i].time_us, 1000 + i);
        }
        free(entries);
    }
    return told(err);
}

static enum err recover_times(struct io *io)
{
    enum err err = read_times(io);

    ck_assert(err == ERR_OK || (err == ERR_NOT_FOUND && !written));
    return run_write_times(io);
}

static void prepare_times(struct io *io)
{
    prepare_nothing(io);
    ck_assert_int_eq(run_write_times(io), ERR_OK);
}

static enum err run_read_times(struct io *io)
{
    enum err err = read_times(io);

    return exhaust_may_retry(err) ? read_times(io) : err;
}

static bool removed;

static enum err run_remove_times(struct io *io)
{
    enum err err = told(part_remove(io, "/", &time_seal, &info));

    removed = err == ERR_OK;
    return err;
}

/* Not synced: what comes back is as it was. */
static enum err recover_removed(struct io *io)
{
    enum err err = read_times(io);

    ck_assert(err == ERR_OK || err == ERR_NOT_FOUND);
    ck_assert(err == ERR_NOT_FOUND || !removed || exhaust_crashed());
    return run_remove_times(io);
}

/* ---- keys ---- */

static uint64_t hash_of(uint64_t i)
{
    return (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static enum err write_keys(struct io *io)
{
    struct part_seal seal = bloom_seal;
    uint64_t hashes[KEYS];

    for (uint64_t i = 0; i < KEYS; i++) {
        hashes[i] = hash_of(i);
    }
    return told(bloom_part_write(io, "/", hashes, KEYS, &seal, &info));
}

static enum err run_write_keys(struct io *io)
{
    enum err err = write_keys(io);

    if (exhaust_may_retry(err)) {
        err = write_keys(io);
    }
    written = err == ERR_OK;
    return err;
}

static enum err ask_keys(struct io *io)
{
    enum err err = told(bloom_part_verify(io, "/", &bloom_seal, &info));

    for (uint64_t i = 0; err == ERR_OK && i < KEYS; i += 50) {
        bool may;

        err = told(bloom_part_may_hold(io, "/", &bloom_seal, hash_of(i), &may, &info));
        ck_assert(err != ERR_OK || may);
    }
    return err;
}

static enum err recover_keys(struct io *io)
{
    enum err err = ask_keys(io);

    ck_assert(err == ERR_OK || (err == ERR_NOT_FOUND && !written));
    return run_write_keys(io);
}

static void prepare_keys(struct io *io)
{
    prepare_nothing(io);
    ck_assert_int_eq(run_write_keys(io), ERR_OK);
}

static enum err run_ask_keys(struct io *io)
{
    enum err err = ask_keys(io);

    return exhaust_may_retry(err) ? ask_keys(io) : err;
}

static const struct exhaust_scenario scenarios[] = {
    {"write_times", prepare_nothing, run_write_times, recover_times, EXHAUST_TWICE},
    {"write_times_again", prepare_times, run_write_times, recover_times, EXHAUST_TWICE},
    {"read_times", prepare_times, run_read_times, recover_times, 0},
    {"remove_times", prepare_times, run_remove_times, recover_removed, 0},
    {"write_bloom", prepare_nothing, run_write_keys, recover_keys, EXHAUST_TWICE},
    {"ask_bloom", prepare_keys, run_ask_keys, recover_keys, 0},
};

int main(void)
{
    return exhaust_main("lookup", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
