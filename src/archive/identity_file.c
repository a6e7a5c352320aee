#include "archive/identity_file.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"

enum {
    ORIGIN_COUNT = 3,
    CHECKSUM_LINE_SIZE = 20, /* "checksum = 89abcdef\n" */
    CHECKSUM_VERSION = 3,    /* the first one with a checksum */
    ORIGIN_VERSION = 2,
};

static const char *const origins[ORIGIN_COUNT] = {"bootstrap", "join", "recover"};

const char *identity_origin_name(enum identity_origin origin)
{
    ASSERT((unsigned)origin < ORIGIN_COUNT);
    return origins[origin];
}

static void put_checksum(const char *text, size_t size, char to[CHECKSUM_LINE_SIZE + 1])
{
    int put =
        snprintf(to, CHECKSUM_LINE_SIZE + 1, "checksum = %08" PRIx32 "\n", crc32c(text, size));

    ASSERT(put == CHECKSUM_LINE_SIZE);
}

size_t identity_encode(const struct identity_record *self, char to[IDENTITY_FILE_SIZE_MAX])
{
    char line[CHECKSUM_LINE_SIZE + 1];
    int size = snprintf(to, IDENTITY_FILE_SIZE_MAX,
                        "version = %d\ncluster = %s\ncluster_id = %s\nnode_id = %" PRIu64
                        "\norigin = %s\n",
                        IDENTITY_VERSION, self->cluster, self->cluster_id, self->node_id,
                        identity_origin_name(self->origin));

    ASSERT(self->node_id != 0 && strlen(self->cluster_id) == CLUSTER_ID_SIZE - 1);
    ASSERT(size > 0 && size < IDENTITY_FILE_SIZE_MAX - CHECKSUM_LINE_SIZE);
    put_checksum(to, (size_t)size, line);
    memcpy(to + size, line, sizeof line);
    return (size_t)size + CHECKSUM_LINE_SIZE;
}

static enum err damaged(const char *path, struct err_info *info)
{
    return err_set(info, ERR_CORRUPT,
                   "'%s' is damaged: restore it from a copy, or write it anew as another node's is "
                   "written, with this node's number, version = 2, and without the checksum; or "
                   "replace the node: quorlog cluster replace",
                   path);
}

static bool parse_origin(const char *text, enum identity_origin *ret_origin)
{
    for (unsigned i = 0; i < ORIGIN_COUNT; i++) {
        if (strcmp(text, origins[i]) == 0) {
            *ret_origin = (enum identity_origin)i;
            return true;
        }
    }
    return false;
}

/* Takes the lines before the checksum apart; false when they are not all, and nothing else. */
static bool parse_lines(const char *text, struct identity_record *record)
{
    char origin[16] = "";
    int more = 0;
    int end = 0;

    if (sscanf(text,
               "version = %u\ncluster = %64s\ncluster_id = %32[0-9a-f]\nnode_id = %" SCNu64 "\n%n",
               &record->version, record->cluster, record->cluster_id, &record->node_id,
               &end) != 4) {
        return false;
    }
    if (record->version >= ORIGIN_VERSION) {
        if (sscanf(text + end, "origin = %15[a-z]\n%n", origin, &more) != 1 ||
            !parse_origin(origin, &record->origin)) {
            return false;
        }
    }
    return text[end + more] == '\0' && record->version != 0 && record->node_id != 0 &&
           strlen(record->cluster_id) == CLUSTER_ID_SIZE - 1;
}

enum err identity_decode(const char *path, const void *bytes, size_t size,
                         struct identity_record *ret_record, struct err_info *info)
{
    char text[IDENTITY_FILE_SIZE_MAX + 1];
    char line[CHECKSUM_LINE_SIZE + 1];
    struct identity_record record = {.version = 0};
    bool has_checksum = false;
    unsigned version = 0;

    if (size > IDENTITY_FILE_SIZE_MAX) {
        return damaged(path, info);
    }
    if (size > 0) {
        memcpy(text, bytes, size);
    }
    text[size] = '\0';
    if (strlen(text) != size || sscanf(text, "version = %u\n", &version) != 1) {
        return damaged(path, info);
    }
    if (size > CHECKSUM_LINE_SIZE) {
        size -= CHECKSUM_LINE_SIZE;
        put_checksum(text, size, line);
        has_checksum = memcmp(text + size, line, CHECKSUM_LINE_SIZE) == 0;
        text[size] = has_checksum ? '\0' : text[size];
    }
    /* A checksum that holds makes sure of the version; one that does not, or is missing, may hide
     * behind any. */
    if (version > IDENTITY_VERSION && (has_checksum || strstr(text, "checksum") == NULL)) {
        return err_set(info, ERR_VERSION,
                       "'%s' has version %u; this program knows version %d and older ones", path,
                       version, IDENTITY_VERSION);
    }
    if (has_checksum != (version >= CHECKSUM_VERSION) || !parse_lines(text, &record)) {
        return damaged(path, info);
    }
    *ret_record = record;
    return ERR_OK;
}

void disk_encode(uint64_t id, char to[DISK_FILE_SIZE + 1])
{
    int size = snprintf(to, DISK_FILE_SIZE + 1, "disk = %016" PRIx64 "\n", id);

    ASSERT(id != 0);
    ASSERT(size == DISK_FILE_SIZE_OLD && size + CHECKSUM_LINE_SIZE == DISK_FILE_SIZE);
    put_checksum(to, DISK_FILE_SIZE_OLD, to + DISK_FILE_SIZE_OLD);
}

enum err disk_decode(const char *path, const void *bytes, size_t size, uint64_t *ret_id,
                     struct err_info *info)
{
    char text[DISK_FILE_SIZE + 1] = "";
    char again[DISK_FILE_SIZE + 1];
    uint64_t id = 0;

    if (size == DISK_FILE_SIZE || size == DISK_FILE_SIZE_OLD) {
        memcpy(text, bytes, size);
        (void)sscanf(text, "disk = %16" SCNx64, &id); /* What it reads is written again. */
    }
    if (id != 0) {
        disk_encode(id, again);
    }
    if (id == 0 || memcmp(text, again, size) != 0) {
        return err_set(info, ERR_CORRUPT,
                       "'%s' is damaged: this disk cannot be told from another. Replace the node: "
                       "quorlog cluster replace",
                       path);
    }
    *ret_id = id;
    return ERR_OK;
}
