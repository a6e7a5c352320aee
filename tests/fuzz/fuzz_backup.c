/*
 * A backup's directory with any index, manifest and stores in it: opened, read whole, and restored
 * from.
 *
 *      u8 1: checksums are made right, 2: the index's head is made, which is left out | part: the
 * index | part: the manifest | stores, up to 4: u8 1: of the second topic, u8 base offset, a part
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/restore.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"

#define CLUSTER "0123456789abcdef0123456789abcdef"

enum { STORES_MAX = 4, APPLIED = 70 };

static const char *const topic_dirs[] = {"a-4096", "b-8192"};

static void put_index(struct io *io, const struct fuzz_input *text,
                      const struct fuzz_input *manifest, const uint8_t *manifest_bytes, bool head)
{
    uint8_t digest[DIGEST_SIZE];
    char digits[DIGEST_TEXT_SIZE];
    struct buf index;

    buf_init(&index, 1 << 20);
    if (head) {
        digest_bytes(manifest_bytes, manifest->size, digest);
        digest_to_text(digest, digits);
        (void)buf_printf(&index,
                         "quorlog-backup 1\ncluster " CLUSTER "\nentry %d 4\nmanifest %zu %s\n",
                         APPLIED, manifest->size, digits); /* fits */
    }
    (void)buf_append(&index, text->data, text->size); /* fits */
    if (head) {
        digest_bytes(index.data, index.size, digest);
        digest_to_text(digest, digits);
        (void)buf_printf(&index, "sha256 %s\n", digits); /* fits */
    }
    fuzz_write_file(io, "/BACKUP", index.data, index.size);
    buf_fini(&index);
}

static void put_stores(struct io *io, struct fuzz_input *input, bool fixed)
{
    for (unsigned i = 0; i < STORES_MAX && input->size > 0; i++) {
        const char *dir = topic_dirs[fuzz_u8(input) & 1];
        uint8_t base = fuzz_u8(input);
        struct fuzz_input part = fuzz_part(input);
        uint8_t *bytes = fuzz_copy(&part);
        char path[100];

        (void)snprintf(path, sizeof path, "/topics/%s/%020d.store", dir, base); /* fits */
        if (fixed) {
            fix_store(bytes, part.size);
        }
        fuzz_write_file(io, path, bytes, part.size);
        free(bytes);
    }
}

static void use(const struct backup *backup)
{
    struct membership members = {0};
    const struct restore_options options = {
        .dir = "/restored", .node_id = 1, .membership = &members};
    struct slice manifest;
    enum err verified;
    enum err err = backup_manifest(backup, &manifest, NULL);

    if (err == ERR_OK) {
        block_unref(manifest.block);
    }
    verified = backup_verify(backup, NULL, NULL, NULL);
    (void)membership_add(&members, 1, "n1:1", MEMBER_VOTER); /* An empty one takes it. */
    err = io_make_dir(backup->io, "/", "restored", NULL);
    ASSERT(err == ERR_OK);
    err = restore_replica(backup, &options, NULL);
    ASSERT(IMPLIES(err == ERR_OK, verified == ERR_OK));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    struct fuzz_input text = fuzz_part(&input);
    struct fuzz_input manifest = fuzz_part(&input);
    uint8_t *manifest_bytes = fuzz_copy(&manifest);
    struct mem_io disk;
    struct io *io = fuzz_disk_init(&disk);
    struct backup backup;
    char name[100];
    enum err err = io_make_dir(io, "/", "topics", NULL);

    err = err == ERR_OK ? io_make_dir(io, "/topics", topic_dirs[0], NULL) : err;
    err = err == ERR_OK ? io_make_dir(io, "/topics", topic_dirs[1], NULL) : err;
    ASSERT(err == ERR_OK);
    if ((control & 1) != 0 && manifest.size >= 4) {
        bytes_put_u32(manifest_bytes + manifest.size - 4,
                      crc32c(manifest_bytes, manifest.size - 4));
    }
    (void)snprintf(name, sizeof name, "/manifest-%020d", APPLIED); /* fits */
    fuzz_write_file(io, name, manifest_bytes, manifest.size);
    put_index(io, &text, &manifest, manifest_bytes, (control & 2) != 0);
    put_stores(io, &input, (control & 1) != 0);
    err = backup_open(io, "/", &backup, NULL);
    if (err == ERR_OK) {
        use(&backup);
        backup_close(&backup);
    }
    fuzz_disk_fini(&disk);
    free(manifest_bytes);
    return 0;
}
