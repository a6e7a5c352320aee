/*
 * The time index of a range of a log: for some of its batches, when they were appended.
 *
 *      body, count times, 16 bytes:
 *       0                                   8                                  16
 *       +-----------------------------------+-----------------------------------+
 *       | offset: a batch's first           | append_time_us                    |
 *       +-----------------------------------+-----------------------------------+
 *
 *   Little-endian. The seal (part.h) has the body's checksum, its count of entries, and the times
 *   of the first and the last batch.
 *
 * Invariants:
 *   I1  Offsets go up and times do not go down from entry to entry; the first entry is of the first
 *       batch; all lie in [base_offset, end_offset) and [first_time_us, last_time_us]. No record
 *       before an entry's offset is later than its time, and none from there on is earlier: of a
 *       compacted batch, the time is that of its first record.
 *   I2  At most TIME_ENTRIES_MAX entries: where there would be more, every other one is dropped and
 *       the next ones are kept at twice the distance.
 *
 * While it grows it is memory (time_table); finished, it is a file that is read as a whole, and
 * checked each time: at most 64 KiB.
 */
#ifndef QUORLOG_LOOKUP_TIME_PART_H
#define QUORLOG_LOOKUP_TIME_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lookup/part.h"

enum {
    TIME_ENTRY_SIZE = 16,
    TIME_ENTRIES_MAX = 4096,
    TIME_INTERVAL = 16 * 1024, /* bytes of batches an entry, to begin with */
};

struct time_entry {
    uint64_t offset;
    int64_t time_us;
};

struct time_table {
    struct time_entry *entries; /* owned */
    size_t count;
    size_t capacity;
    uint64_t interval; /* bytes */
    uint64_t behind;   /* bytes of batches since the last entry */
    int64_t last_time_us;
};

/* Empty; no memory yet. */
void time_table_init(struct time_table *self);
void time_table_fini(struct time_table *self);
void time_table_clear(struct time_table *self);

/* When the records of a batch were appended: all at the same time, but for those of a compacted
 * one. */
struct time_span {
    int64_t first_us;
    int64_t last_us;
};

/* The next batch, of `size` bytes. Times that go down are taken as the last one. ERR_NOMEM: nothing
 * was changed. */
enum err time_table_add(struct time_table *self, uint64_t offset, const struct time_span *times,
                        uint64_t size);

/* Offsets between which the first record at or after a time lies: all below *ret_from are before
 * it, and all at or above *ret_to are not. False: all entries are before it; *ret_from is the last.
 */
bool time_entries_find(const struct time_entry *entries, size_t count, int64_t time_us,
                       uint64_t *ret_from, uint64_t *ret_to);

/* Writes a table that is not empty as the part of seal's topic and offsets. *seal: what is missing
 * is filled in. ERR_NOMEM, ERR_IO, ERR_NOSPACE. */
enum err time_part_write(struct io *io, const char *dir, const struct time_table *table,
                         struct part_seal *seal, struct err_info *info);

/* Reads and checks all of it. *ret_entries: seal->count of them, the caller's to free().
 * ERR_CORRUPT with file and position, ERR_NOT_FOUND, ERR_VERSION, ERR_NOMEM, ERR_IO. */
enum err time_part_read(struct io *io, const char *dir, const struct part_seal *named,
                        struct time_entry **ret_entries, size_t *ret_count, struct err_info *info);

#endif
