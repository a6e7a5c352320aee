#include "server/restore.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "archive/backup.h"
#include "archive/chained.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "server/identity.h"

static const char *tmp;
static char from[256];
static struct config config;
static struct restored restored;

static void set(const char *name, const char *value)
{
    struct err_info info = {0};

    ck_assert_msg(config_set_flag(&config, name, value, &info) == ERR_OK, "%s", info.text);
}

static void make_backup(void)
{
    struct chained topic;
    struct slice manifest;
    struct backup_source source = {
        .cluster_id = "0123456789abcdef0123456789abcdef", .index = 70, .term = 4};
    struct backup_totals totals;
    struct backup_writer *writer;
    struct backup_want want;
    bool wanted;

    chained_init(&topic, 4096, "a");
    chained_add(&topic, 3, 300);
    manifest = chained_manifest(&topic, 1, 70);
    source.manifest = manifest.data;
    source.manifest_size = manifest.size;
    ck_assert_int_eq(backup_begin(io_real(), from, &source, &writer, NULL), ERR_OK);
    ck_assert_int_eq(backup_next(writer, &wanted, &want, NULL), ERR_OK);
    ck_assert_int_eq(backup_add(writer, topic.bytes, topic.size, NULL), ERR_OK);
    ck_assert_int_eq(backup_next(writer, &wanted, &want, NULL), ERR_OK);
    ck_assert_int_eq(backup_end(writer, &totals, NULL), ERR_OK);
    block_unref(manifest.block);
    chained_fini(&topic);
}

static void setup(void)
{
    char data[300];

    tmp = tmpdir_new();
    (void)snprintf(from, sizeof from, "%s/backup", tmp); /* fits */
    (void)snprintf(data, sizeof data, "%s/data", tmp);   /* fits */
    config_init(&config);
    set("data", data);
    set("id", "2");
    set("cluster", "new");
    set("bootstrap", "1=n1:1,2=n2:1,3=n3:1");
    make_backup();
}

static void teardown(void)
{
    tmpdir_remove(tmp);
}

static enum err restore(struct err_info *info)
{
    const struct restore_request request = {.backup = from, .config = &config};

    return server_restore(io_real(), &request, &restored, info);
}

START_TEST(the_directory_is_a_nodes_of_a_cluster_with_a_name_of_its_own)
{
    struct identity identity;

    ck_assert_int_eq(restore(NULL), ERR_OK);
    ck_assert_uint_eq(restored.index, 70);
    ck_assert_uint_eq(restored.topics, 1);
    ck_assert_uint_eq(strlen(restored.cluster), strlen("new-12345678"));
    ck_assert_int_eq(strncmp(restored.cluster, "new-", 4), 0);
    /* Under the name that was asked for it is another cluster's. */
    ck_assert_int_eq(identity_open(&identity, io_real(), &config, NULL), ERR_WRONG_CLUSTER);
    set("cluster", restored.cluster);
    ck_assert_int_eq(identity_open(&identity, io_real(), &config, NULL), ERR_OK);
    ck_assert_str_eq(identity.cluster_id, restored.cluster_id);
    identity_close(&identity);
}
END_TEST

START_TEST(a_directory_that_is_not_empty_is_left_alone)
{
    struct err_info info = {0};
    char path[400];

    ck_assert_int_eq(io_make_dir(io_real(), tmp, "data", NULL), ERR_OK);
    ck_assert_int_eq(restore(&info), ERR_OK); /* It was empty. */
    ck_assert_int_eq(restore(&info), ERR_EXISTS);
    ck_assert_ptr_nonnull(strstr(info.text, "not empty"));
    (void)snprintf(path, sizeof path, "%s/other", tmp); /* fits */
    set("data", path);
    ck_assert_int_eq(io_make_dir(io_real(), tmp, "other.restoring", NULL), ERR_OK);
    (void)snprintf(path, sizeof path, "%s/other.restoring", tmp); /* fits */
    ck_assert_int_eq(io_make_dir(io_real(), path, "group-1", NULL), ERR_OK);
    ck_assert_int_eq(restore(&info), ERR_EXISTS);
    ck_assert_ptr_nonnull(strstr(info.text, "cut short"));
}
END_TEST

START_TEST(a_node_that_is_no_first_member_or_no_backup_makes_nothing)
{
    struct err_info info = {0};
    struct stat st;
    char path[400];

    (void)snprintf(from, sizeof from, "%s/nowhere", tmp); /* fits */
    ck_assert_int_eq(restore(&info), ERR_NOT_FOUND);
    (void)snprintf(from, sizeof from, "%s/backup", tmp); /* fits */
    set("id", "7");
    ck_assert_int_ne(restore(&info), ERR_OK);
    (void)snprintf(path, sizeof path, "%s/data", tmp); /* fits */
    ck_assert_int_ne(stat(path, &st), 0);
}
END_TEST

START_TEST(a_name_that_leaves_no_room_is_refused)
{
    char name[65];

    memset(name, 'n', sizeof name);
    name[64] = '\0';
    set("cluster", name);
    ck_assert_int_eq(restore(NULL), ERR_INVALID);
    name[55] = '\0';
    set("cluster", name);
    ck_assert_int_eq(restore(NULL), ERR_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("restore");
    TCase *tcase = tcase_create("restore");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_directory_is_a_nodes_of_a_cluster_with_a_name_of_its_own);
    tcase_add_test(tcase, a_directory_that_is_not_empty_is_left_alone);
    tcase_add_test(tcase, a_node_that_is_no_first_member_or_no_backup_makes_nothing);
    tcase_add_test(tcase, a_name_that_leaves_no_room_is_refused);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
