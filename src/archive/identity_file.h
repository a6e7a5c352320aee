/*
 * The two small files that say whose a data directory is: DATA/identity and DATA/group-1/disk.
 *
 * DATA/identity is text, so that a person can read it:
 *
 *      version = 3
 *      cluster = quorlog
 *      cluster_id = 0123456789abcdef0123456789abcdef
 *      node_id = 1
 *      origin = join
 *      checksum = 89abcdef
 *
 * checksum is the CRC32C of all bytes before that line, in hexadecimal digits. It came with version
 * 3, and is the last line of all versions from there on. Version 2 has none; version 1 has no
 * origin either, which is bootstrap then. Both are still read: they are what a person can write who
 * mends the file.
 *
 * DATA/group-1/disk says which disk this is, the one that the node's id is bound to
 * (raft_fsm/nodes.h): a number from 1 to 2^64 - 1, random, made with the directory.
 *
 *      disk = 0123456789abcdef
 *      checksum = 89abcdef
 *
 * The checksum is made as that of the identity. The first nodes wrote none: such a file is read,
 * too.
 */
#ifndef QUORLOG_ARCHIVE_IDENTITY_FILE_H
#define QUORLOG_ARCHIVE_IDENTITY_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    CLUSTER_ID_SIZE = 33, /* 32 hexadecimal digits and a zero */
    CLUSTER_NAME_SIZE = 65,
    IDENTITY_VERSION = 3,
    IDENTITY_FILE_SIZE_MAX = 4096,
    DISK_FILE_SIZE = 44,
    DISK_FILE_SIZE_OLD = 24, /* without a checksum */
};

enum identity_origin {
    IDENTITY_BOOTSTRAP, /* the configuration's first members */
    IDENTITY_JOIN,      /* a running cluster, whose id the node learned there */
    IDENTITY_RECOVER,   /* begun anew from this directory after its majority was lost */
};

/* What the file says. */
struct identity_record {
    unsigned version; /* encoding ignores it: it writes the newest */
    char cluster[CLUSTER_NAME_SIZE];
    char cluster_id[CLUSTER_ID_SIZE];
    uint64_t node_id;
    enum identity_origin origin;
};

/* "bootstrap", "join", "recover". */
const char *identity_origin_name(enum identity_origin origin);

/* Writes the file's bytes; returns how many. cluster and cluster_id are of their form (ASSERT). */
size_t identity_encode(const struct identity_record *self, char to[IDENTITY_FILE_SIZE_MAX]);

/* path: for the text. ERR_CORRUPT, saying what to do; ERR_VERSION for a newer one. */
enum err identity_decode(const char *path, const void *bytes, size_t size,
                         struct identity_record *ret_record, struct err_info *info);

/* The same of group-1/disk. id is not 0. A file of DISK_FILE_SIZE_OLD is not known to be whole. */
void disk_encode(uint64_t id, char to[DISK_FILE_SIZE + 1]);
enum err disk_decode(const char *path, const void *bytes, size_t size, uint64_t *ret_id,
                     struct err_info *info);

#endif
