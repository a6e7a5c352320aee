/*
 * What the writing and the reading of a key index's file share: the checksums behind LMDB's bytes
 * (key_run.h has the diagram), and LMDB's errors.
 */
#ifndef QUORLOG_LOOKUP_KEY_FILE_H
#define QUORLOG_LOOKUP_KEY_FILE_H

#include "lookup/key_run.h"

enum { KEY_CHUNK_SIZE = 64 * 1024 };

struct key_checksums {
    uint8_t *data; /* owned: 4 bytes a chunk */
    size_t size;
};

/* Of the first `size` bytes of the file. ERR_IO, ERR_NOMEM, ERR_CORRUPT (shorter). */
enum err key_checksums_make(struct io *io, int fd, const char *path, uint64_t size,
                            struct key_checksums *ret_sums, struct err_info *info);

/* What LMDB returned, not MDB_SUCCESS, as a code with the text "VERB 'PATH': REASON". */
enum err key_file_error(int code, const char *verb, const char *path, struct err_info *info);

#endif
