/*
 * A node's configuration from a file, the environment and flags; what it prints is a file that says
 * the same. With it the identity of a data directory, and the list of first members.
 *
 *      part: the file | part: one variable | part: name of a flag | part: its value | part:
 * DATA/identity | part: DATA/group-1/disk
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "server/config.h"
#include "server/identity.h"

/* A file that io_real can read, without a disk under it. */
static const char *file_with(const void *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    ssize_t written;
    int rv;

    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
        ASSERT(fd >= 0);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* fits */
    }
    rv = ftruncate(fd, 0);
    written = pwrite(fd, data, size, 0);
    ASSERT(rv == 0 && written == (ssize_t)size);
    return path;
}

/* Printed and read, it is the same, value by value. */
static void check_printed(const struct config *config)
{
    struct config *again = malloc(sizeof *again);
    struct buf text;
    char value[CONFIG_TEXT_SIZE];
    char other[CONFIG_TEXT_SIZE];
    enum err err;

    ASSERT(again != NULL);
    buf_init(&text, CONFIG_FILE_SIZE_MAX);
    err = config_print(config, false, &text);
    ASSERT(err == ERR_OK);
    config_init(again);
    err = config_read_file(again, file_with(text.data, text.size), NULL);
    for (enum config_number i = 0; i < CONFIG_COUNT && err == ERR_OK; i++) {
        ASSERT(strcmp(config_value(config, i, value), config_value(again, i, other)) == 0);
    }
    buf_fini(&text);
    free(again);
}

static void check_identity(const struct config *config, const struct fuzz_input *identity_file,
                           const struct fuzz_input *disk_file)
{
    struct mem_io disk;
    struct io *io = fuzz_disk_init(&disk);
    struct config *here = malloc(sizeof *here);
    struct identity identity;
    enum err err;

    ASSERT(here != NULL);
    *here = *config;
    strcpy(here->data, "/data");
    err = io_make_dir(io, "/", "data", NULL);
    ASSERT(err == ERR_OK);
    err = io_make_dir(io, "/data", "group-1", NULL);
    ASSERT(err == ERR_OK);
    if (identity_file->size > 0) {
        fuzz_write_file(io, "/data/identity", identity_file->data, identity_file->size);
    }
    if (disk_file->size > 0) {
        fuzz_write_file(io, "/data/group-1/disk", disk_file->data, disk_file->size);
    }
    err = identity_open(&identity, io, here, NULL);
    if (err == ERR_OK) {
        ASSERT(identity.node_id == config->id);
        ASSERT(strlen(identity.cluster_id) == CLUSTER_ID_SIZE - 1 || config->join[0] != '\0');
        if (identity_open_disk(&identity, "/data/group-1", 9, NULL) == ERR_OK) {
            ASSERT(identity.disk_id != 0);
        }
        identity_close(&identity);
    }
    if (identity_open_existing(&identity, io, here, NULL) == ERR_OK) {
        identity_close(&identity);
    }
    free(here);
    fuzz_disk_fini(&disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    struct config *config = malloc(sizeof *config);
    struct membership members;
    struct fuzz_input parts[6];
    char *texts[4];
    char *environment[2] = {0};
    char address[MEMBER_ADDRESS_SIZE];
    bool good;

    ASSERT(config != NULL);
    for (size_t i = 0; i < 6; i++) {
        parts[i] = fuzz_part(&input);
    }
    for (size_t i = 0; i < 4; i++) {
        texts[i] = fuzz_text(&parts[i]);
    }
    environment[0] = texts[1];
    config_init(config);
    good = config_read_environment(config, environment, NULL) == ERR_OK;
    good =
        config_read_file(config, file_with(parts[0].data, parts[0].size), NULL) == ERR_OK && good;
    good = config_set_flag(config, texts[2], texts[3], NULL) == ERR_OK && good;
    config_advertised(config, address);
    if (config_membership(config, &members, NULL) == ERR_OK) {
        ASSERT(members.count > 0 && members.count <= MEMBERSHIP_MAX);
    }
    if (config_validate(config, NULL) == ERR_OK && good) {
        check_printed(config);
        check_identity(config, &parts[4], &parts[5]);
    }
    for (size_t i = 0; i < 4; i++) {
        free(texts[i]);
    }
    free(config);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    static const char *const seeds[][6] = {
        {"id = 2 # ours\nlisten = [::1]:7\n\nbootstrap = 1=a:1,2=b:2,\nbootstrap = 3=c:3\n",
         "QUORLOG_THREADS=3", "frame-size-max", "16M",
         "version = 1\ncluster = quorlog\ncluster_id = 0123456789abcdef0123456789abcdef\n"
         "node_id = 2\n",
         "disk = 0123456789abcdef\n"},
        {"direct_io = off\n", "QUORLOG_ELECTION_MS=1s", "log_level", "debug", "", ""},
        {"[section]\nid=1\n", "PATH=/", "join", "a:1,b:2",
         "version = 2\ncluster = quorlog\ncluster_id = 0123456789abcdef0123456789abcdef\n"
         "node_id = 1\norigin = join\n",
         ""},
        {"", "", "threads", "0", "", ""},
    };

    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        struct buf seed = {0};

        for (size_t k = 0; k < 6; k++) {
            fuzz_put_part(&seed, seeds[i][k], strlen(seeds[i][k]));
        }
        fuzz_emit(emit, arg, &seed);
    }
}
