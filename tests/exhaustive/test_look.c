/*
 * Looking through a node's directory: fsck and dump.
 *
 * The promise: a call that fails, or memory that is short, is an error and is told as one; nothing
 * that is whole is ever said to be damaged or missing for it, and nothing is left over.
 */
#include <check.h>
#include <string.h>

#include "archive/dump.h"
#include "archive/fsck.h"
#include "archive/index_files.h"
#include "archive/node_dir.h"
#include "lib/exhaust.h"

static struct node_dir dir;
static struct err_info info;

/* Without keys: LMDB has its own way to files, which does not lead to this disk. */
static const enum part_kind kinds[] = {PART_TIME, PART_BLOOM};

static void prepare(struct io *io)
{
    info.text[0] = '\0';
    node_dir_make_on(&dir, io, 3, 1);
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char path[IO_PATH_SIZE];
        struct part_seal seal = index_files_seal(&dir, dir.a, kinds[i], 0, 0);

        index_files_add(&dir, dir.a, &seal, path);
    }
}

static enum err find_nothing(void *arg, const struct fsck_finding *finding)
{
    (void)arg;
    ck_abort_msg("%s '%s': %s", finding->what, finding->path, finding->text);
    return ERR_OK;
}

static enum err check(struct io *io)
{
    const struct fsck_options options = {.io = io, .dir = NODE_DIR, .cb = find_nothing};
    struct fsck_summary summary;
    enum err err = fsck_run(&options, &summary, &info);

    ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "%s without a text", err_name(err));
    ck_assert(err != ERR_OK || summary.topics == 3);
    ck_assert(err != ERR_OK || summary.index_files == sizeof kinds / sizeof kinds[0]);
    return err;
}

static enum err count_item(void *arg, const struct dump_item *item)
{
    unsigned *count = arg;

    ck_assert_str_ne(item->kind, "damage");
    *count += strcmp(item->kind, "record") == 0;
    return ERR_OK;
}

static enum err dump(struct io *io)
{
    unsigned count = 0;
    const struct dump_options options = {
        .io = io, .records = true, .cb = count_item, .arg = &count};
    struct dump_result result;
    enum err err = dump_path(&options, NODE_DIR, &result, &info);

    ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "%s without a text", err_name(err));
    ck_assert(err != ERR_OK || count == dir.a_last + dir.b_last + 4 * 4 * 2);
    return err;
}

static enum err run_fsck(struct io *io)
{
    enum err err = check(io);

    return exhaust_may_retry(err) ? check(io) : err;
}

static enum err run_dump(struct io *io)
{
    enum err err = dump(io);

    return exhaust_may_retry(err) ? dump(io) : err;
}

static enum err find_anything(void *arg, const struct fsck_finding *finding)
{
    (void)arg;
    ck_assert_uint_gt(strlen(finding->text), 0);
    return ERR_OK;
}

/* A crash takes what was never synced; it can be looked through all the same. */
static enum err recover(struct io *io)
{
    const struct fsck_options options = {.io = io, .dir = NODE_DIR, .cb = find_anything};
    struct fsck_summary summary;

    return exhaust_crashed() ? fsck_run(&options, &summary, &info) : check(io);
}

static const struct exhaust_scenario scenarios[] = {
    {"fsck", prepare, run_fsck, recover, EXHAUST_STOPS}, /* A digest needs memory. */
    {"dump", prepare, run_dump, recover, 0},
};

int main(void)
{
    return exhaust_main("look", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
