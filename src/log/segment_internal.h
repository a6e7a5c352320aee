/*
 * What the files of a segment share.
 *
 *      segment.c         names, making, opening, recovering, sealing, cutting
 *      segment_index.c   the index of a sealed one, opened when it is needed
 *      segment_read.c    look-ups
 */
#ifndef QUORLOG_LOG_SEGMENT_INTERNAL_H
#define QUORLOG_LOG_SEGMENT_INTERNAL_H

#include "log/segment.h"

enum {
    /* What one read brings in where everything is gone through. */
    SEGMENT_SCAN_SIZE = 256 * 1024,
    /* Of header_crc32c in a batch. */
    BATCH_AT_CRC = 4,
};

/* Of the store's index. */
struct index_header segment_index_header(const struct store *store);

/* ERR_NOMEM, with the store's name. */
enum err segment_no_memory(const struct store *store, struct err_info *info);

/* Does the seal speak of this store as it is now? ERR_CORRUPT otherwise; ERR_IO. */
enum err segment_check_seal(struct store *store, const struct index_seal *seal,
                            struct err_info *info);

/* The index of a sealed segment, new and whole, becomes what readers pin: kept open as long as
 * there is room for it, or for good where there is no cache. Taken over. */
void segment_give_index(struct segment *self, struct index *index);

/* What the cache calls to close one. */
void segment_close_index(void *context, int fd, void *object);

/* The index, pinned; the store is. ERR_NOMEM, ERR_LIMIT, ERR_IO. */
enum err segment_pin_index(const struct segment *self, const struct index **ret_index,
                           struct err_info *info);
void segment_unpin_index(const struct segment *self);

#endif
