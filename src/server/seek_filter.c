/*
 * A step of a filtered read: batches are decoded, and what matches is put into sparse ones.
 *
 * A step is bounded, so that a filter over a huge topic holds up no thread: it ends after STEP_SIZE
 * bytes or STEP_MS, when the answer is full, or has as many records as are wanted; and it leaves
 * where it has come to, which may be all that it brings.
 *
 * What stands at `offset` fails a step only when the step begins there: what came before it is
 * brought first.
 */
#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "record/batch_records.h"
#include "server/seek.h"

enum {
    STEP_SIZE = 4 << 20,
    STEP_MS = 50,
    PIECE_SIZE = 256 << 10,      /* read at once */
    ANSWER_SIZE_MAX = 128 << 20, /* more than any one record that a batch may hold */
    RECORD_OVERHEAD = 64,        /* tags, sizes, offset and time of one */
    NS_PER_MS = 1000 * 1000,
};

struct step {
    struct seek *seek;
    uint64_t offset;  /* all before it is done */
    uint64_t log_end; /* when the step began */
    uint64_t deadline_ns;
    struct batch_records records;
    struct buf answer;
    bool full; /* the next match has no room */
    struct seek_answer looked_up;
};

/* ---- batches ---- */

static size_t record_size_max(const struct record *record)
{
    size_t size = RECORD_OVERHEAD + record->value_size + record->key_size;

    for (size_t i = 0; i < record->header_count; i++) {
        size += RECORD_OVERHEAD + strlen(record->headers[i].name) + record->headers[i].value_size;
    }
    return size;
}

/* The matching records from the step's offset on; *ret_end: behind the last one that was looked at,
 * or the batch's end. */
static enum err append_matches(struct step *self, const struct batch_header *header,
                               uint64_t *ret_end, struct err_info *info)
{
    struct seek *seek = self->seek;
    struct record record;
    enum err err;

    *ret_end = batch_end_offset(header);
    while ((err = batch_records_next(&self->records, &record)) == ERR_OK) {
        if (record.offset < self->offset) {
            continue;
        }
        if (filter_matches(seek->filter, &record)) {
            self->full = seek->counts.matches > 0 &&
                         self->answer.size + record_size_max(&record) > seek->size_max;
            if (self->full) {
                *ret_end = record.offset;
                return ERR_OK;
            }
            err = record_set_append_sparse(&self->answer, &record, header->append_time_us);
            if (err != ERR_OK) {
                return err_set(info, err, "%s", err_text(err));
            }
            seek->counts.matches++;
        }
        seek->counts.records++;
    }
    if (err == ERR_CORRUPT) {
        seek->undecodable = true;
        return err_set(info, err,
                       "the batch at offset %" PRIu64 " is whole, but does not hold the %" PRIu32
                       " records that its producer said; its records end before %" PRIu64,
                       header->base_offset, header->record_count, batch_end_offset(header));
    }
    return err == ERR_AGAIN ? ERR_OK : err_set(info, err, "%s", err_text(err));
}

/* The header of what was put behind `at`: the stamps are the batch's, the span is what was looked
 * at. */
static void finish_batch(struct step *self, size_t at, const struct batch_header *header,
                         uint64_t end)
{
    struct batch_header sparse = *header;
    const uint8_t *body = self->answer.data + at + BATCH_HEADER_SIZE;

    ASSERT(end > self->offset && end <= batch_end_offset(header));
    sparse.size = (uint32_t)(self->answer.size - at);
    sparse.attributes = BATCH_SPARSE;
    sparse.base_offset = self->offset;
    sparse.record_count = (uint32_t)(end - self->offset);
    sparse.body_crc32c = crc32c(body, sparse.size - BATCH_HEADER_SIZE);
    memset(sparse.digest, 0, sizeof sparse.digest);
    batch_header_encode(&sparse, self->answer.data + at);
}

static enum err filter_batch(struct step *self, const struct batch_header *header,
                             const uint8_t *body, struct err_info *info)
{
    static const uint8_t room[BATCH_HEADER_SIZE];
    size_t at = self->answer.size;
    uint64_t matches = self->seek->counts.matches;
    uint64_t end;
    enum err err;

    self->offset = self->offset < header->base_offset ? header->base_offset : self->offset;
    err = batch_records_start(&self->records, header, body, 0, info);
    if (err != ERR_OK) {
        self->seek->undecodable = err == ERR_CORRUPT || err == ERR_TOO_LARGE;
        return err;
    }
    err = buf_append(&self->answer, room, sizeof room);
    if (err != ERR_OK) {
        return err_set(info, err, "%s", err_text(err));
    }
    err = append_matches(self, header, &end, info);
    if (err != ERR_OK || self->seek->counts.matches == matches) {
        self->answer.size = at;
    }
    if (err != ERR_OK) {
        self->seek->counts.matches = matches;
        return err;
    }
    if (self->seek->counts.matches > matches) {
        finish_batch(self, at, header, end);
    }
    self->offset = end;
    return ERR_OK;
}

static bool is_over(const struct step *self)
{
    const struct seek *seek = self->seek;

    return self->full || self->offset >= self->log_end || self->answer.size >= seek->size_max ||
           seek->counts.matches >= seek->matches_max || seek->counts.bytes >= STEP_SIZE ||
           clock_real()->monotonic_ns(clock_real()) >= self->deadline_ns;
}

/* All that follows was appended too late to match. */
static bool is_behind(const struct step *self, const struct batch_header *header)
{
    int64_t until_us = self->seek->filter->until_us;

    return until_us != 0 && header->append_time_us >= until_us;
}

static enum err filter_block(struct step *self, const struct block *block, struct err_info *info)
{
    size_t at = 0;

    while (at < block->size && !is_over(self)) {
        const uint8_t *batch = block->data + at;
        struct batch_header header;
        enum err err = batch_header_decode(batch, (uint32_t)(block->size - at), &header, info);
        bool behind;

        ASSERT(err == ERR_OK && header.size <= block->size - at); /* log_read has verified it. */
        behind = is_behind(self, &header);
        /* Of a sparse one the earlier records may have been appended before. */
        if (!behind || (header.attributes & BATCH_SPARSE) != 0) {
            err = filter_batch(self, &header, batch + BATCH_HEADER_SIZE, info);
            if (err != ERR_OK) {
                return err;
            }
            self->seek->counts.bytes += header.size;
        }
        if (behind && !self->full) {
            self->offset = self->log_end;
        }
        at += header.size;
    }
    return ERR_OK;
}

static enum err run(struct step *self, struct err_info *info)
{
    struct seek *seek = self->seek;

    while (!is_over(self)) {
        struct seek_range range;
        struct block *block;
        uint64_t end;
        enum err err =
            seek_next_range(seek, &self->looked_up, self->offset, self->log_end, &range, info);

        if (err != ERR_OK) {
            return err;
        }
        seek->counts.segments_skipped += range.segments_skipped;
        self->offset = range.from;
        if (range.from == range.to) {
            continue; /* The end, or where to ask again. */
        }
        err = log_read(seek->log, self->offset, range.to, PIECE_SIZE, &block, &end, info);
        if (err == ERR_OK) {
            err = filter_block(self, block, info);
            block_unref(block);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err give_answer(struct step *self, struct err_info *info)
{
    struct seek *seek = self->seek;

    if (self->answer.size > 0) {
        seek->block = block_new(self->answer.size);
        if (seek->block == NULL) {
            return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
        }
        memcpy(seek->block->data, self->answer.data, self->answer.size);
    }
    seek->end = self->offset;
    return ERR_OK;
}

void seek_filter(struct seek *self)
{
    struct step step = {
        .seek = self,
        .offset = self->offset,
        .log_end = log_end(self->log),
        .deadline_ns = clock_real()->monotonic_ns(clock_real()) + STEP_MS * NS_PER_MS,
    };

    ASSERT(self->filter != NULL && self->matches_max > 0 && self->size_max > 0);
    memset(&self->counts, 0, sizeof self->counts);
    self->undecodable = false;
    if (self->offset >= step.log_end) {
        self->err = ERR_AGAIN; /* It was cut meanwhile, or there is nothing yet. */
        return;
    }
    batch_records_init(&step.records);
    buf_init(&step.answer, ANSWER_SIZE_MAX);
    self->err = run(&step, &self->info);
    if (self->err == ERR_OK || step.offset > self->offset) {
        self->undecodable = false;
        self->err = give_answer(&step, &self->info);
    }
    ASSERT(self->err != ERR_OK || self->end > self->offset);
    batch_records_fini(&step.records);
    buf_fini(&step.answer);
}
