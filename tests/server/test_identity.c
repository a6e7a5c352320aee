#include "server/identity.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/runner.h"
#include "lib/tmpdir.h"

static struct config config;
static struct err_info info;
static const char *dir;

static void setup(void)
{
    dir = tmpdir_new();
    config_init(&config);
    snprintf(config.data, sizeof config.data, "%s/data", dir);
}

static void teardown(void)
{
    tmpdir_remove(dir);
}

static enum err open_and_close(void)
{
    struct identity identity;
    enum err err = identity_open(&identity, io_real(), &config, &info);

    if (err == ERR_OK) {
        ck_assert_uint_eq(strlen(identity.cluster_id), 32);
        ck_assert_uint_eq(identity.node_id, config.id);
        identity_close(&identity);
    }
    ck_assert_int_eq(identity.lock_fd, -1);
    return err;
}

static void write_file(const char *text)
{
    char path[CONFIG_TEXT_SIZE + 16];
    FILE *file;

    snprintf(path, sizeof path, "%s/identity", config.data);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(the_first_start_writes_what_the_next_one_reads)
{
    ck_assert_int_eq(open_and_close(), ERR_OK);
    ck_assert_int_eq(open_and_close(), ERR_OK);
    strcat(config.data, "//");
    ck_assert_int_eq(open_and_close(), ERR_OK);
    /* A node alone may move to another port. */
    strcpy(config.listen, "127.0.0.1:9");
    ck_assert_int_eq(open_and_close(), ERR_OK);
}
END_TEST

START_TEST(the_cluster_id_is_the_same_on_all_nodes_and_differs_between_clusters)
{
    char first[CLUSTER_ID_SIZE];
    char second[CLUSTER_ID_SIZE];

    strcpy(config.bootstrap, "1=a:1,2=b:2");
    ck_assert_int_eq(identity_cluster_id(&config, first, &info), ERR_OK);
    /* SHA-256 of "quorlog\n1=a:1\n2=b:2\n", its first half. */
    ck_assert_str_eq(first, "54f4cc3efb91d687af77b3d5666a0c20");
    strcpy(config.bootstrap, "2=b:2,1=a:1");
    config.id = 2;
    ck_assert_int_eq(identity_cluster_id(&config, second, &info), ERR_OK);
    ck_assert_str_eq(first, second);
    strcpy(config.cluster, "other");
    ck_assert_int_eq(identity_cluster_id(&config, second, &info), ERR_OK);
    ck_assert_str_ne(first, second);
    strcpy(config.cluster, "quorlog");
    strcpy(config.bootstrap, "1=a:1,2=b:3");
    ck_assert_int_eq(identity_cluster_id(&config, second, &info), ERR_OK);
    ck_assert_str_ne(first, second);
}
END_TEST

START_TEST(a_directory_of_another_node_is_refused_and_both_are_named)
{
    ck_assert_int_eq(open_and_close(), ERR_OK);
    config.id = 23;
    ck_assert_int_eq(open_and_close(), ERR_WRONG_CLUSTER);
    ck_assert_ptr_nonnull(strstr(info.text, "node 1,"));
    ck_assert_ptr_nonnull(strstr(info.text, "node 23"));
    ck_assert_ptr_nonnull(strstr(info.text, config.data));
}
END_TEST

START_TEST(a_directory_of_another_cluster_is_refused_and_both_are_named)
{
    ck_assert_int_eq(open_and_close(), ERR_OK);
    strcpy(config.cluster, "other");
    ck_assert_int_eq(open_and_close(), ERR_WRONG_CLUSTER);
    ck_assert_ptr_nonnull(strstr(info.text, "'quorlog'"));
    ck_assert_ptr_nonnull(strstr(info.text, "'other'"));
}
END_TEST

START_TEST(a_directory_in_use_is_locked)
{
    struct identity identity;

    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_int_eq(open_and_close(), ERR_LOCKED);
    ck_assert_ptr_nonnull(strstr(info.text, config.data));
    identity_close(&identity);
    ck_assert_int_eq(open_and_close(), ERR_OK);
}
END_TEST

static const struct {
    const char *text;
    enum err err;
} damaged[] = {
    {"", ERR_CORRUPT},
    {"version = 1\n", ERR_CORRUPT},
    {"version = 4\nanything", ERR_VERSION},
    {"version = 3\ncluster = quorlog\ncluster_id = 00000000000000000000000000000000\nnode_id = 1\n"
     "origin = join\n",
     ERR_CORRUPT},
    {"version = 4\nanything\nchecksum = 00000000\n", ERR_CORRUPT},
    {"version = 0\ncluster = quorlog\ncluster_id = 00000000000000000000000000000000\nnode_id = 1\n",
     ERR_CORRUPT},
    {"version = 1\ncluster = quorlog\ncluster_id = 0000\nnode_id = 1\n", ERR_CORRUPT},
    {"version = 1\ncluster = quorlog\ncluster_id = 00000000000000000000000000000000\nnode_id = 1\n"
     "more",
     ERR_CORRUPT},
    {"version = 1\ncluster = quorlog\ncluster_id = 00000000000000000000000000000000\nnode_id = 0\n",
     ERR_CORRUPT},
    {"version = 1\ncluster = quorlog\ncluster_id = 00000000000000000000000000000000\nnode_id = 1\n",
     ERR_WRONG_CLUSTER},
};

START_TEST(a_damaged_file_is_refused)
{
    ck_assert_int_eq(open_and_close(), ERR_OK);
    write_file(damaged[_i].text);
    ck_assert_int_eq(open_and_close(), damaged[_i].err);
    ck_assert_ptr_nonnull(strstr(info.text, config.data));
}
END_TEST

static size_t read_identity(char text[IDENTITY_FILE_SIZE_MAX + 1])
{
    char path[CONFIG_TEXT_SIZE + 16];
    FILE *file;
    size_t size;

    snprintf(path, sizeof path, "%s/identity", config.data);
    file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    size = fread(text, 1, IDENTITY_FILE_SIZE_MAX, file);
    ck_assert_int_eq(fclose(file), 0);
    text[size] = '\0';
    return size;
}

static void write_bytes(const char *text, size_t size)
{
    char path[CONFIG_TEXT_SIZE + 16];
    FILE *file;

    snprintf(path, sizeof path, "%s/identity", config.data);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(every_bit_that_flips_in_a_joined_nodes_identity_is_found)
{
    char text[IDENTITY_FILE_SIZE_MAX + 1];
    struct identity identity;
    size_t size;

    strcpy(config.join, "n1:7437");
    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_int_eq(identity_adopt(&identity, &config, IDENTITY_JOIN,
                                    "0123456789abcdef0123456789abcdef", &info),
                     ERR_OK);
    identity_close(&identity);
    size = read_identity(text);
    for (size_t bit = 0; bit < size * 8; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        write_bytes(text, size);
        info.text[0] = '\0';
        ck_assert_msg(open_and_close() == ERR_CORRUPT, "bit %zu of byte %zu: %s", bit % 8, bit / 8,
                      info.text);
        ck_assert_ptr_nonnull(strstr(info.text, "/data/identity' is damaged: restore it"));
        ck_assert_ptr_nonnull(strstr(info.text, "replace the node"));
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
    }
    write_bytes(text, size);
    ck_assert_int_eq(open_and_close(), ERR_OK);
}
END_TEST

START_TEST(an_identity_of_an_older_program_is_read_and_gets_its_checksum)
{
    static const struct {
        int version;
        const char *origin;
    } olders[] = {{1, ""}, {2, "origin = join\n"}, {2, "origin = bootstrap\n"}};
    char id[CLUSTER_ID_SIZE];
    char text[IDENTITY_FILE_SIZE_MAX + 1];
    char again[IDENTITY_FILE_SIZE_MAX + 1];
    struct identity identity;

    ck_assert_int_eq(open_and_close(), ERR_OK);
    ck_assert_int_eq(identity_cluster_id(&config, id, &info), ERR_OK);
    snprintf(text, sizeof text, "version = %d\ncluster = quorlog\ncluster_id = %s\nnode_id = 1\n%s",
             olders[_i].version, id, olders[_i].origin);
    write_file(text);
    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_int_eq(identity.origin, _i == 1 ? IDENTITY_JOIN : IDENTITY_BOOTSTRAP);
    ck_assert_str_eq(identity.cluster_id, id);
    identity_close(&identity);
    (void)read_identity(text);
    ck_assert_ptr_nonnull(strstr(text, "version = 3\n"));
    ck_assert_ptr_nonnull(strstr(text, "checksum = "));
    ck_assert_ptr_nonnull(strstr(text, _i == 1 ? "origin = join\n" : "origin = bootstrap\n"));
    ck_assert_int_eq(open_and_close(), ERR_OK);
    (void)read_identity(again);
    ck_assert_str_eq(text, again);
}
END_TEST

START_TEST(a_parent_that_is_missing_is_told)
{
    snprintf(config.data, sizeof config.data, "%s/no/data", dir);
    ck_assert_int_ne(open_and_close(), ERR_OK);
    ck_assert_ptr_nonnull(strstr(info.text, "no"));
}
END_TEST

/* ---- joining, disks, recovery ---- */

static const char id_of_cluster[] = "0123456789abcdef0123456789abcdef";

START_TEST(who_joins_learns_the_cluster_and_keeps_it)
{
    struct identity identity;

    strcpy(config.join, "n1:7437");
    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_int_eq(identity.origin, IDENTITY_JOIN);
    ck_assert_str_eq(identity.cluster_id, "");
    ck_assert_int_eq(identity_adopt(&identity, &config, IDENTITY_JOIN, "?", &info), ERR_PROTOCOL);
    ck_assert_int_eq(identity_adopt(&identity, &config, IDENTITY_JOIN, id_of_cluster, &info),
                     ERR_OK);
    identity_close(&identity);
    /* Also when it is started without join, or with another one. */
    config.join[0] = '\0';
    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_int_eq(identity.origin, IDENTITY_JOIN);
    ck_assert_str_eq(identity.cluster_id, id_of_cluster);
    identity_close(&identity);
}
END_TEST

static void write_disk(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_disk_keeps_its_id)
{
    struct identity identity;
    char path[CONFIG_TEXT_SIZE + 16];

    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_int_eq(identity_open_disk(&identity, config.data, 0xabc, &info), ERR_OK);
    ck_assert_uint_eq(identity.disk_id, 0xabc);
    ck_assert_int_eq(identity_open_disk(&identity, config.data, 0xdef, &info), ERR_OK);
    ck_assert_uint_eq(identity.disk_id, 0xabc);
    snprintf(path, sizeof path, "%s/disk", config.data);
    write_disk(path, "disk = 0000000000000abg\n");
    ck_assert_int_eq(identity_open_disk(&identity, config.data, 0xdef, &info), ERR_CORRUPT);
    identity_close(&identity);
}
END_TEST

START_TEST(a_flipped_bit_of_the_disks_file_is_damage)
{
    struct identity identity;
    char path[CONFIG_TEXT_SIZE + 16];
    char bytes[DISK_FILE_SIZE + 1] = "";

    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_int_eq(identity_open_disk(&identity, config.data, 0xabc, &info), ERR_OK);
    snprintf(path, sizeof path, "%s/disk", config.data);
    disk_encode(0xabc, bytes);
    for (unsigned bit = 0; bit < DISK_FILE_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        if (bytes[bit / 8] != '\0') { /* write_disk() writes text. */
            write_disk(path, bytes);
            ck_assert_int_eq(identity_open_disk(&identity, config.data, 0xdef, &info), ERR_CORRUPT);
        }
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    identity_close(&identity);
}
END_TEST

START_TEST(a_disks_file_without_a_checksum_is_read_and_gets_one)
{
    struct identity identity;
    struct stat found;
    char path[CONFIG_TEXT_SIZE + 16];

    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    snprintf(path, sizeof path, "%s/disk", config.data);
    write_disk(path, "disk = 0000000000000abc\n");
    ck_assert_int_eq(identity_open_disk(&identity, config.data, 0xdef, &info), ERR_OK);
    ck_assert_uint_eq(identity.disk_id, 0xabc);
    ck_assert_int_eq(stat(path, &found), 0);
    ck_assert_int_eq(found.st_size, DISK_FILE_SIZE);
    ck_assert_int_eq(identity_open_disk(&identity, config.data, 0xdef, &info), ERR_OK);
    ck_assert_uint_eq(identity.disk_id, 0xabc);
    identity_close(&identity);
}
END_TEST

START_TEST(an_existing_directory_is_opened_whatever_its_cluster)
{
    struct identity identity;

    ck_assert_int_eq(identity_open_existing(&identity, io_real(), &config, &info), ERR_NOT_FOUND);
    ck_assert_int_eq(open_and_close(), ERR_OK);
    strcpy(config.cluster, "other");
    ck_assert_int_eq(identity_open_existing(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_str_eq(identity.cluster, "quorlog");
    ck_assert_int_eq(identity_adopt(&identity, &config, IDENTITY_RECOVER, id_of_cluster, &info),
                     ERR_OK);
    identity_close(&identity);
    config.id = 2;
    ck_assert_int_eq(identity_open_existing(&identity, io_real(), &config, &info),
                     ERR_WRONG_CLUSTER);
    config.id = 1;
    strcpy(config.cluster, "quorlog");
    ck_assert_int_eq(identity_open(&identity, io_real(), &config, &info), ERR_OK);
    ck_assert_int_eq(identity.origin, IDENTITY_RECOVER);
    ck_assert_str_eq(identity.cluster_id, id_of_cluster);
    identity_close(&identity);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/identity");
    TCase *tcase = tcase_create("identity");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_first_start_writes_what_the_next_one_reads);
    tcase_add_test(tcase, the_cluster_id_is_the_same_on_all_nodes_and_differs_between_clusters);
    tcase_add_test(tcase, a_directory_of_another_node_is_refused_and_both_are_named);
    tcase_add_test(tcase, a_directory_of_another_cluster_is_refused_and_both_are_named);
    tcase_add_test(tcase, a_directory_in_use_is_locked);
    tcase_add_loop_test(tcase, a_damaged_file_is_refused, 0, sizeof damaged / sizeof damaged[0]);
    tcase_add_test(tcase, every_bit_that_flips_in_a_joined_nodes_identity_is_found);
    tcase_add_loop_test(tcase, an_identity_of_an_older_program_is_read_and_gets_its_checksum, 0, 3);
    tcase_add_test(tcase, a_parent_that_is_missing_is_told);
    tcase_add_test(tcase, who_joins_learns_the_cluster_and_keeps_it);
    tcase_add_test(tcase, a_disk_keeps_its_id);
    tcase_add_test(tcase, a_flipped_bit_of_the_disks_file_is_damage);
    tcase_add_test(tcase, a_disks_file_without_a_checksum_is_read_and_gets_one);
    tcase_add_test(tcase, an_existing_directory_is_opened_whatever_its_cluster);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
