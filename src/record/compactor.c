/*
 * A batch that came in is a piece: its records that stay, in a form that does not depend on what it
 * is merged with (each names its offset and its append time). A piece waits until the next one has
 * shown whether it is to be merged with it: several waiting ones are one piece.
 *
 *      bytes --sift--> piece --join--> waiting --put--> out
 *                        |  `-- too much for one batch: what waits is put, the piece waits
 *                        `-- big, and nothing was taken from it: what waits is put, and it, too
 *
 * Merging is to save space. It costs: records of all but the last batch name their append times,
 * records of a dense batch their offsets. Batches with more than a handful of small records are
 * smaller as they are, and stay apart.
 */
#include "record/compactor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "record/batch_records.h"
#include "record/codec.h"

enum {
    BATCH_SIZE_DEFAULT = 64 * 1024,
    BATCH_SIZE_MAX_DEFAULT = 16 * 1024 * 1024,
    COMPACTED_OVERHEAD = BATCH_HEADER_SIZE + BATCH_DIGEST_SIZE,
};

struct piece {
    struct buf records; /* a sparse RecordSet, every append time named */
    struct buf raw;     /* the one batch as it came in, while that is what would be put */
    bool untouched;     /* raw is to be put */
    uint64_t base_offset;
    uint8_t before[BATCH_DIGEST_SIZE]; /* digest of the batch before the first one */
    struct batch_header last;
    size_t last_times; /* bytes of append times that are the last one's: not named in the end */
    size_t size_alone; /* of the batch that comes of it by itself, not compressed */
    unsigned codec;
};

struct compactor {
    struct compactor_options options;
    uint64_t taken_to;                 /* one past the last offset that was taken */
    uint64_t put_to;                   /* … and put out */
    uint8_t digest[BATCH_DIGEST_SIZE]; /* of the last batch that was taken */
    struct batch_records walk;
    struct piece piece;   /* the batch that is looked at */
    struct piece waiting; /* what came before it */
    bool has_waiting;
    bool finished;
    struct buf set; /* what is written; used again */
    struct buf packed;
    struct compactor_counts counts;
};

static void piece_init(struct piece *self)
{
    buf_init(&self->records, SIZE_MAX / 8); /* Bounded by what a body can hold. */
    buf_init(&self->raw, UINT32_MAX);
}

static void piece_fini(struct piece *self)
{
    buf_fini(&self->records);
    buf_fini(&self->raw);
}

enum err compactor_new(const struct compactor_options *options, uint64_t offset,
                       const uint8_t *digest, struct compactor **ret_compactor)
{
    struct compactor *self;

    ASSERT(options->latest != NULL && options->codec <= BATCH_CODEC_MAX);
    ASSERT(options->tombstones_below <= options->clean_to);
    /* K2: what is not below clean_to supersedes nothing. */
    ASSERT(latest_end(options->latest) <= options->clean_to);
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->options = *options;
    if (self->options.batch_size == 0) {
        self->options.batch_size = BATCH_SIZE_DEFAULT;
    }
    if (self->options.batch_size_max == 0) {
        self->options.batch_size_max = BATCH_SIZE_MAX_DEFAULT;
    }
    ASSERT(self->options.batch_size_max > COMPACTED_OVERHEAD);
    self->taken_to = offset;
    self->put_to = offset;
    if (digest != NULL) {
        memcpy(self->digest, digest, sizeof self->digest);
    }
    batch_records_init(&self->walk);
    piece_init(&self->piece);
    piece_init(&self->waiting);
    buf_init(&self->set, SIZE_MAX / 8);
    buf_init(&self->packed, SIZE_MAX / 8);
    *ret_compactor = self;
    return ERR_OK;
}

void compactor_free(struct compactor *self)
{
    if (self == NULL) {
        return;
    }
    batch_records_fini(&self->walk);
    piece_fini(&self->piece);
    piece_fini(&self->waiting);
    buf_fini(&self->set);
    buf_fini(&self->packed);
    free(self);
}

/* The header of the batch that `size` bytes begin with, all of which are there. */
static enum err decode_first(const uint8_t *batches, size_t size, uint32_t batch_size_max,
                             struct batch_header *ret_header, struct err_info *info)
{
    enum err err;

    if (size < BATCH_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "%zu bytes are no batch", size);
    }
    err = batch_header_decode(batches, batch_size_max, ret_header, info);
    if (err == ERR_OK && ret_header->size > size) {
        return err_set(info, ERR_CORRUPT, "the batch at offset %" PRIu64 " is not whole",
                       ret_header->base_offset);
    }
    return err;
}

/* ---- one batch ---- */

static size_t append_time_size(int64_t append_time_us)
{
    size_t size = 2; /* the tag, and the last byte of the number */

    if (append_time_us == 0) {
        return 0;
    }
    for (uint64_t rest = (uint64_t)append_time_us; rest >= 0x80; rest >>= 7) {
        size++;
    }
    return size;
}

static bool is_dropped(struct compactor *self, const struct record *record)
{
    const struct compactor_options *options = &self->options;

    ASSERT(record->offset < options->clean_to);
    self->counts.records++;
    if (record->key == NULL) {
        self->counts.keyless++;
        return false;
    }
    if (latest_has_later(options->latest, record->key, record->key_size, record->offset)) {
        self->counts.superseded++;
        return true;
    }
    if (record->value_size == 0 && record->offset < options->tombstones_below) {
        self->counts.tombstones++;
        return true;
    }
    return false;
}

/* The records of a batch that stay. */
static enum err sift(struct compactor *self, const struct batch_header *header, const uint8_t *body,
                     struct err_info *info)
{
    struct piece *piece = &self->piece;
    struct batch_records *walk = &self->walk;
    struct record record;
    enum err err = batch_records_start(walk, header, body, 0, info);

    piece->records.size = 0;
    piece->last_times = 0;
    piece->untouched = true;
    if (err != ERR_OK) {
        return err;
    }
    while ((err = batch_records_next(walk, &record)) == ERR_OK) {
        if (is_dropped(self, &record)) {
            piece->untouched = false;
            continue;
        }
        err = record_set_append_raw(&piece->records, walk->reader.raw, walk->reader.raw_size,
                                    record.offset, record.append_time_us);
        if (err != ERR_OK) {
            return err;
        }
        if (record.append_time_us == header->append_time_us) {
            piece->last_times += append_time_size(record.append_time_us);
        }
    }
    if (err != ERR_AGAIN) {
        return err_set(info, err, "a record of the batch at offset %" PRIu64 ": %s",
                       header->base_offset, err_text(err));
    }
    ASSERT(piece->last_times <= piece->records.size);
    return ERR_OK;
}

/* Of the RecordSet that was walked over last. */
static size_t plain_size(const struct compactor *self, const struct batch_header *header)
{
    if ((header->attributes & BATCH_CODEC_MASK) != CODEC_NONE) {
        return self->walk.plain.size;
    }
    return header->size - BATCH_HEADER_SIZE -
           ((header->attributes & BATCH_COMPACTED) != 0 ? (size_t)BATCH_DIGEST_SIZE : 0);
}

static enum err make_piece(struct compactor *self, const struct batch_header *header,
                           const uint8_t *batch, struct err_info *info)
{
    struct piece *piece = &self->piece;
    enum err err = sift(self, header, batch + BATCH_HEADER_SIZE, info);

    if (err != ERR_OK) {
        return err;
    }
    piece->base_offset = header->base_offset;
    piece->last = *header;
    piece->codec = header->attributes & BATCH_CODEC_MASK;
    memcpy(piece->before, self->digest, sizeof piece->before);
    piece->raw.size = 0;
    if (!piece->untouched) {
        piece->size_alone = COMPACTED_OVERHEAD + piece->records.size - piece->last_times;
        return ERR_OK;
    }
    piece->size_alone = BATCH_HEADER_SIZE + plain_size(self, header);
    if ((header->attributes & BATCH_COMPACTED) != 0) {
        piece->size_alone += BATCH_DIGEST_SIZE;
    }
    return buf_append(&piece->raw, batch, header->size);
}

/* ---- putting out ---- */

static enum err put_raw(struct compactor *self, const struct batch_header *header,
                        const uint8_t *batch, struct buf *out)
{
    enum err err = buf_append(out, batch, header->size);

    if (err != ERR_OK) {
        return err;
    }
    ASSERT(self->put_to == header->base_offset); /* K1 */
    self->put_to = batch_end_offset(header);
    self->counts.batches_out++;
    self->counts.bytes_out += header->size;
    return ERR_OK;
}

/* The records as they are written, in self->set. */
static enum err write_set(struct compactor *self, const struct piece *piece)
{
    struct record_reader reader;
    struct record record;
    enum err err;

    self->set.size = 0;
    if (piece->records.size == 0) {
        return ERR_OK;
    }
    record_reader_init(&reader);
    record_reader_start(&reader, piece->records.data, piece->records.size);
    while ((err = record_reader_next(&reader, &record)) == ERR_OK) {
        bool of_batch = record.append_time_us == piece->last.append_time_us;

        err = record_set_append_raw(&self->set, reader.raw, reader.raw_size, record.offset,
                                    of_batch ? 0 : record.append_time_us);
        if (err != ERR_OK) {
            break;
        }
    }
    record_reader_fini(&reader);
    ASSERT(err != ERR_CORRUPT); /* We wrote them. */
    return err == ERR_AGAIN ? ERR_OK : err;
}

/* self->set or, where that is less, self->packed; an empty one is never compressed. */
static enum err compress_set(struct compactor *self, unsigned codec, const struct buf **ret_body,
                             unsigned *ret_codec, struct err_info *info)
{
    enum err err;

    *ret_body = &self->set;
    *ret_codec = CODEC_NONE;
    if (codec == CODEC_NONE || self->set.size == 0 || self->set.size > CODEC_PLAIN_SIZE_MAX) {
        return ERR_OK;
    }
    self->packed.size = 0;
    err = codec_compress((enum codec)codec, self->set.data, self->set.size, &self->packed, info);
    if (err == ERR_OK && self->packed.size < self->set.size) {
        *ret_body = &self->packed;
        *ret_codec = codec;
    }
    return err;
}

static enum err put_compacted(struct compactor *self, const struct piece *piece, struct buf *out,
                              struct err_info *info)
{
    unsigned codec = self->options.codec != CODEC_NONE ? self->options.codec : piece->codec;
    struct batch_header header = piece->last;
    const struct buf *body;
    uint8_t *to;
    enum err err = write_set(self, piece);

    if (err == ERR_OK) {
        err = compress_set(self, codec, &body, &codec, info);
    }
    if (err == ERR_OK && COMPACTED_OVERHEAD + body->size > self->options.batch_size_max) {
        err = compress_set(self, CODEC_ZSTD, &body, &codec, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (COMPACTED_OVERHEAD + body->size > self->options.batch_size_max) {
        return err_set(info, ERR_TOO_LARGE,
                       "what is left of the batch at offset %" PRIu64
                       " takes %zu bytes; up to %" PRIu32 " are allowed",
                       piece->base_offset, COMPACTED_OVERHEAD + body->size,
                       self->options.batch_size_max);
    }
    header.size = (uint32_t)(COMPACTED_OVERHEAD + body->size);
    header.record_count = (uint32_t)(batch_end_offset(&piece->last) - piece->base_offset);
    header.base_offset = piece->base_offset;
    header.producer_id = 0;
    header.producer_epoch = 0;
    header.base_sequence = 0;
    header.attributes = (uint16_t)(BATCH_SPARSE | BATCH_COMPACTED | codec);
    err = buf_reserve(out, header.size);
    if (err != ERR_OK) {
        return err;
    }
    to = out->data + out->size;
    memcpy(to + BATCH_HEADER_SIZE, piece->before, BATCH_DIGEST_SIZE);
    if (body->size > 0) {
        memcpy(to + COMPACTED_OVERHEAD, body->data, body->size);
    }
    header.body_crc32c = crc32c(to + BATCH_HEADER_SIZE, header.size - BATCH_HEADER_SIZE);
    batch_header_encode(&header, to);
    out->size += header.size;
    ASSERT(self->put_to == header.base_offset); /* K1 */
    self->put_to = batch_end_offset(&header);
    self->counts.batches_out++;
    self->counts.bytes_out += header.size;
    return ERR_OK;
}

static enum err put_waiting(struct compactor *self, struct buf *out, struct err_info *info)
{
    struct piece *waiting = &self->waiting;

    if (!self->has_waiting) {
        return ERR_OK;
    }
    self->has_waiting = false;
    if (waiting->untouched) {
        ASSERT(waiting->raw.size == waiting->last.size);
        return put_raw(self, &waiting->last, waiting->raw.data, out);
    }
    return put_compacted(self, waiting, out, info);
}

/* ---- merging ---- */

/* Bytes of append times that need no name when the piece has joined what waits. */
static size_t joined_last_times(const struct compactor *self)
{
    const struct piece *waiting = &self->waiting;
    const struct piece *piece = &self->piece;
    bool same = waiting->last.append_time_us == piece->last.append_time_us;

    return piece->last_times + (same ? waiting->last_times : 0);
}

static bool can_join(const struct compactor *self)
{
    const struct piece *waiting = &self->waiting;
    const struct piece *piece = &self->piece;
    size_t size = waiting->records.size + piece->records.size;
    uint64_t span = batch_end_offset(&piece->last) - waiting->base_offset;

    if (!self->has_waiting || size > self->options.batch_size || span > UINT32_MAX ||
        COMPACTED_OVERHEAD + size > self->options.batch_size_max) {
        return false;
    }
    return COMPACTED_OVERHEAD + size - joined_last_times(self) <=
           waiting->size_alone + piece->size_alone;
}

static enum err join(struct compactor *self)
{
    struct piece *waiting = &self->waiting;
    const struct piece *piece = &self->piece;
    size_t last_times = joined_last_times(self);
    enum err err = ERR_OK;

    ASSERT(batch_end_offset(&waiting->last) == piece->base_offset);
    if (piece->records.size > 0) {
        err = buf_append(&waiting->records, piece->records.data, piece->records.size);
    }
    if (err != ERR_OK) {
        return err;
    }
    waiting->untouched = false;
    waiting->raw.size = 0;
    waiting->last = piece->last;
    waiting->last_times = last_times;
    waiting->size_alone = COMPACTED_OVERHEAD + waiting->records.size - last_times;
    if (piece->codec != CODEC_NONE) {
        waiting->codec = piece->codec;
    }
    return ERR_OK;
}

/* The piece waits from now on. */
static void swap(struct compactor *self)
{
    struct piece piece = self->piece;

    ASSERT(!self->has_waiting);
    self->piece = self->waiting;
    self->waiting = piece;
    self->has_waiting = true;
}

/* ---- taking ---- */

static enum err check_follows(const struct compactor *self, const struct batch_header *header,
                              const uint8_t *batch, struct err_info *info)
{
    if (header->base_offset != self->taken_to) {
        return err_set(info, ERR_CORRUPT,
                       "a batch at offset %" PRIu64 " does not follow: offset %" PRIu64
                       " would be next",
                       header->base_offset, self->taken_to);
    }
    if ((header->attributes & BATCH_COMPACTED) != 0 &&
        memcmp(batch + BATCH_HEADER_SIZE, self->digest, sizeof self->digest) != 0) {
        return err_set(info, ERR_CORRUPT,
                       "the compacted batch at offset %" PRIu64
                       " follows on another one than the one before it",
                       header->base_offset);
    }
    return ERR_OK;
}

static enum err take_one(struct compactor *self, const struct batch_header *header,
                         const uint8_t *batch, struct buf *out, struct err_info *info)
{
    bool is_verbatim = batch_end_offset(header) > self->options.clean_to;
    enum err err;

    if (!is_verbatim) {
        err = make_piece(self, header, batch, info);
        if (err != ERR_OK) {
            return err;
        }
        is_verbatim =
            self->piece.untouched && plain_size(self, header) >= self->options.batch_size / 4;
        if (!is_verbatim && can_join(self)) {
            return join(self);
        }
    }
    err = put_waiting(self, out, info);
    if (err != ERR_OK) {
        return err;
    }
    if (is_verbatim) {
        return put_raw(self, header, batch, out);
    }
    swap(self);
    return ERR_OK;
}

enum err compactor_take(struct compactor *self, const uint8_t *batches, size_t size,
                        struct buf *out, struct err_info *info)
{
    struct batch_header header;
    enum err err;

    ASSERT(!self->finished);
    ASSERT(batches != NULL || size == 0);
    for (size_t at = 0; at < size; at += header.size) {
        err = decode_first(batches + at, size - at, self->options.batch_size_max, &header, info);
        if (err == ERR_OK) {
            err = check_follows(self, &header, batches + at, info);
        }
        if (err == ERR_OK) {
            err = take_one(self, &header, batches + at, out, info);
        }
        if (err != ERR_OK) {
            return err;
        }
        self->taken_to = batch_end_offset(&header);
        memcpy(self->digest, header.digest, sizeof self->digest);
        self->counts.batches_in++;
        self->counts.bytes_in += header.size;
    }
    return ERR_OK;
}

enum err compactor_finish(struct compactor *self, struct buf *out, struct err_info *info)
{
    enum err err;

    ASSERT(!self->finished);
    self->finished = true;
    err = put_waiting(self, out, info);
    ASSERT(IMPLIES(err == ERR_OK, self->put_to == self->taken_to)); /* K1 */
    return err;
}

uint64_t compactor_offset(const struct compactor *self)
{
    return self->put_to;
}

void compactor_counts(const struct compactor *self, struct compactor_counts *ret_counts)
{
    *ret_counts = self->counts;
}

/* ---- noting ---- */

typedef enum err (*note_cb)(struct latest *latest, const struct record *record);

static enum err reserve_key(struct latest *latest, const struct record *record)
{
    return latest_reserve(latest, record->key, record->key_size);
}

static enum err note_key(struct latest *latest, const struct record *record)
{
    return latest_note(latest, record->key, record->key_size, record->offset);
}

static enum err for_each_key(struct batch_records *walk, const struct batch_header *header,
                             const uint8_t *body, struct latest *latest, note_cb cb,
                             struct err_info *info)
{
    struct record record;
    enum err err = batch_records_start(walk, header, body, 0, info);

    if (err != ERR_OK) {
        return err;
    }
    while ((err = batch_records_next(walk, &record)) == ERR_OK) {
        if (record.key != NULL && (err = cb(latest, &record)) != ERR_OK) {
            return err_set(info, err, "the keys of the batch at offset %" PRIu64 ": %s",
                           header->base_offset, err_text(err));
        }
    }
    if (err != ERR_AGAIN) {
        return err_set(info, err, "a record of the batch at offset %" PRIu64 ": %s",
                       header->base_offset, err_text(err));
    }
    return ERR_OK;
}

/* All keys of a batch or none: where they might not fit, room is made for each before the first is
 * noted. Making room leaves what was noted as it is. */
static enum err note_one(struct batch_records *walk, const struct batch_header *header,
                         const uint8_t *body, struct latest *latest, struct err_info *info)
{
    if (!latest_has_room(latest, header->record_count)) {
        enum err err = for_each_key(walk, header, body, latest, reserve_key, info);

        if (err != ERR_OK) {
            return err;
        }
    }
    return for_each_key(walk, header, body, latest, note_key, info);
}

enum err compactor_note(struct latest *latest, uint64_t clean_to, const uint8_t *batches,
                        size_t size, uint64_t *ret_end, struct err_info *info)
{
    struct batch_header header;
    struct batch_records walk;
    enum err err = ERR_OK;

    ASSERT(latest != NULL && size > 0);
    batch_records_init(&walk);
    *ret_end = 0;
    for (size_t at = 0; err == ERR_OK && at < size; at += header.size) {
        err = decode_first(batches + at, size - at, UINT32_MAX, &header, info);
        if (err != ERR_OK) {
            break;
        }
        if (at == 0) {
            *ret_end = header.base_offset < clean_to ? header.base_offset : clean_to;
        } else if (header.base_offset < *ret_end) {
            err = err_set(info, ERR_CORRUPT, "the batch at offset %" PRIu64 " does not follow",
                          header.base_offset);
            break;
        }
        if (batch_end_offset(&header) > clean_to) {
            break;
        }
        err = note_one(&walk, &header, batches + at + BATCH_HEADER_SIZE, latest, info);
        if (err == ERR_OK) {
            *ret_end = batch_end_offset(&header);
        }
    }
    batch_records_fini(&walk);
    return err;
}
