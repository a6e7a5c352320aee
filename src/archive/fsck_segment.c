/* One store, batch by batch, against what was before it, the snapshot, the journal and its index.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/fsck_internal.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/index.h"
#include "raft_fsm/command.h"
#include "record/batch_records.h"

enum { BATCH_AT_CRC = 4 };

/* An index's file while its store is walked through. */
struct index_file {
    struct buf bytes;
    struct index_seal seal;
    size_t count;
    size_t next;  /* entry that the walk has not met yet */
    bool present; /* and verifies by itself */
    bool wrong;   /* an entry names no batch, or another one */
};

struct check {
    struct fsck *fsck;
    struct fsck_topic *topic;
    const struct fsck_segment *segment;
    struct store_walk walk;
    struct buf body;
    struct batch_records records;
    struct index_file index;
    /* The journal's entry that the batches come from. */
    const struct entry *entry;
    struct command_reader reader;
    uint32_t last_crc; /* of the last batch's header */
    uint64_t last_position;
    bool failed; /* something in the store does not verify: the index is not judged */
};

static const char *topic_name(const struct check *self)
{
    return self->topic->promised.name;
}

/* Above it, the node believes only what verifies, and replays the rest. */
static uint64_t promised_end(const struct check *self)
{
    return self->topic->promised.end;
}

/* ---- findings ---- */

/* [from, to) of the topic is not what it should be, from `position` of the store on. */
static enum err tell_wrong(struct check *self, const char *what, uint64_t position, uint64_t to,
                           const char *text)
{
    struct fsck *fsck = self->fsck;
    uint64_t from = self->topic->chain.offset;
    bool durable = from < promised_end(self);
    struct fsck_verdict verdict = durable ? fsck_lost(fsck) : fsck_replay(fsck);
    struct fsck_finding finding = {.level = verdict.level,
                                   .what = what,
                                   .path = self->walk.path,
                                   .has_position = true,
                                   .position = position,
                                   .topic = topic_name(self),
                                   .has_range = to > from,
                                   .from = from,
                                   .to = to,
                                   .advice = verdict.advice};

    self->failed = true;
    if (self->segment->filling) {
        finding.level = FSCK_NOTE;
        finding.advice = "it was being fetched: the node fetches it again";
    }
    return fsck_tell(fsck, &finding, "%s", text);
}

static enum err tell_torn(struct check *self, const char *text)
{
    bool torn = self->topic->chain.offset >= promised_end(self) || self->segment->filling;
    const struct fsck_finding finding = {
        .what = "torn",
        .path = self->walk.path,
        .has_position = true,
        .position = self->walk.next,
        .topic = topic_name(self),
        .advice = self->fsck->state_unknown ? fsck_replay(self->fsck).advice
                                            : "the node cuts it, and writes what was there again "
                                              "from its journal"};

    if (!torn) {
        return tell_wrong(self, "damaged", self->walk.next,
                          self->segment->next_base < promised_end(self) ? self->segment->next_base
                                                                        : promised_end(self),
                          text);
    }
    self->failed = true;
    return fsck_tell(self->fsck, &finding, "%s", text);
}

/* A file has the wrong contents, and only copies from elsewhere, or another program, explain it. */
static enum err tell_mismatch(struct check *self, const char *advice, const char *text)
{
    const struct fsck_finding finding = {.level = FSCK_ACT,
                                         .what = "mismatch",
                                         .path = self->walk.path,
                                         .has_position = true,
                                         .position = self->walk.position,
                                         .topic = topic_name(self),
                                         .has_range = true,
                                         .from = self->topic->chain.offset,
                                         .to = self->topic->chain.offset + 1,
                                         .advice = advice};

    return fsck_tell(self->fsck, &finding, "%s", text);
}

/* ---- a batch against the journal ---- */

static const struct entry *find_entry(const struct fsck *fsck, uint64_t raft_index)
{
    const struct journal_recovery *journal = &fsck->journal;

    if (fsck->journal_void || fsck->state_unknown || raft_index < journal->first_index ||
        raft_index - journal->first_index >= journal->entry_count) {
        return NULL;
    }
    return &journal->entries[raft_index - journal->first_index];
}

/* Whether the entry, from where it was read so far, has these records for this topic. ERR_NOMEM. */
static enum err find_command(struct check *self, const uint8_t body_digest[DIGEST_SIZE],
                             bool *ret_found)
{
    struct command_view command;
    enum err err;

    *ret_found = false;
    while ((err = command_reader_next(&self->reader, &command, NULL)) == ERR_OK) {
        if (command.type == COMMAND_PRODUCE &&
            command.produce.topic_id == self->topic->promised.id &&
            memcmp(command.produce.body_digest, body_digest, DIGEST_SIZE) == 0) {
            *ret_found = true;
            break;
        }
    }
    return err == ERR_NOMEM ? err_set(self->fsck->info, err, "out of memory") : ERR_OK;
}

/* What lies above the snapshot was written by the journal's entries. Of a compacted batch the last
 * entry is known, and what it wrote is there no more. */
static enum err check_entry(struct check *self, const struct batch_header *header,
                            const uint8_t body_digest[DIGEST_SIZE])
{
    const struct entry *entry = find_entry(self->fsck, header->raft_index);
    bool found = false;
    char text[128];
    enum err err;

    if (header->base_offset < promised_end(self) || entry == NULL) {
        return ERR_OK;
    }
    if (entry != self->entry) {
        self->entry = entry;
        if (entry->type != ENTRY_COMMAND ||
            command_reader_begin(&self->reader, entry_payload(entry), entry->size, NULL) !=
                ERR_OK) {
            self->reader = (struct command_reader){.size = 0};
        }
    }
    if ((header->attributes & BATCH_COMPACTED) != 0) {
        found = entry->type == ENTRY_COMMAND;
        err = ERR_OK;
    } else {
        err = find_command(self, body_digest, &found);
    }
    if (err != ERR_OK || (found && header->raft_term == entry->term)) {
        return err;
    }
    (void)snprintf(text, sizeof text,
                   "the batch at offset %" PRIu64 " is not what entry %" PRIu64
                   " of the journal wrote",
                   header->base_offset, header->raft_index); /* fits */
    return tell_mismatch(self, fsck_replace, text);
}

/* ---- a batch against the snapshot ---- */

static enum err check_promise(struct check *self, const struct batch_header *header)
{
    const struct manifest_topic *promised = &self->topic->promised;
    uint64_t applied = self->fsck->manifest.applied_index;
    bool above = header->base_offset >= promised->end;
    /* It was made later than the snapshot, of batches on both sides. */
    bool astride = (header->attributes & BATCH_COMPACTED) != 0 && !above &&
                   batch_end_offset(header) > promised->end;
    char text[160] = "";

    if (self->fsck->state_unknown || self->fsck->snapshot.index == 0) {
        return ERR_OK;
    }
    if ((above || astride) != (header->raft_index > applied)) {
        (void)snprintf(text, sizeof text,
                       "the batch at offset %" PRIu64 " is of entry %" PRIu64
                       "; the snapshot of entry %" PRIu64 " has the topic up to offset %" PRIu64,
                       header->base_offset, header->raft_index, applied, promised->end);
    } else if (!above && !astride && batch_end_offset(header) > promised->end) {
        (void)snprintf(text, sizeof text,
                       "the batch at offset %" PRIu64 " ends at %" PRIu64
                       ", and in the snapshot the topic ends at %" PRIu64,
                       header->base_offset, batch_end_offset(header), promised->end);
    } else if (!above && batch_end_offset(header) == promised->end &&
               memcmp(header->digest, promised->digest, DIGEST_SIZE) != 0) {
        (void)snprintf(text, sizeof text,
                       "the digest of the batch at offset %" PRIu64
                       " is not the one that the snapshot has for the topic's end",
                       header->base_offset);
    }
    return text[0] == '\0' ? ERR_OK : tell_mismatch(self, fsck_replace, text);
}

/* ---- the order and the chain ---- */

/* Takes the next batch into the chain. A compacted one stands for several: its own digest cannot be
 * made again, but it says which one was before them (log/batch.h). */
static enum err follow(struct chain *chain, const struct batch_header *header, const uint8_t *body,
                       const uint8_t body_digest[DIGEST_SIZE], struct err_info *info)
{
    size_t size = header->size - BATCH_HEADER_SIZE;

    if ((header->attributes & BATCH_COMPACTED) == 0) {
        return chain_header(chain, header, body_digest, info);
    }
    if (header->base_offset != chain->offset) {
        return err_set(info, ERR_CORRUPT,
                       "a batch begins at offset %" PRIu64 " where one at %" PRIu64 " belongs",
                       header->base_offset, chain->offset);
    }
    if (size < DIGEST_SIZE || (chain->known && memcmp(body, chain->digest, DIGEST_SIZE) != 0)) {
        return err_set(info, ERR_CORRUPT,
                       "the compacted batch at offset %" PRIu64
                       " does not follow on the digest of the batch before",
                       header->base_offset);
    }
    memcpy(chain->digest, header->digest, DIGEST_SIZE);
    chain->known = true;
    chain->offset = batch_end_offset(header);
    return ERR_OK;
}

static enum err check_stamps(const struct fsck_topic *topic, const struct batch_header *header,
                             struct err_info *info)
{
    if (header->raft_index < topic->last_raft_index) {
        return err_set(info, ERR_CORRUPT,
                       "the batch at offset %" PRIu64 " has raft index %" PRIu64
                       ", below the one before, %" PRIu64,
                       header->base_offset, header->raft_index, topic->last_raft_index);
    }
    if (header->append_time_us < topic->last_time_us) {
        return err_set(info, ERR_CORRUPT,
                       "the batch at offset %" PRIu64 " is older than the one before",
                       header->base_offset);
    }
    return ERR_OK;
}

/* Where records name their offsets, they have to be the batch's: who reads them relies on it. */
static enum err check_records(struct check *self, const struct batch_header *header,
                              uint64_t *ret_count, struct err_info *info)
{
    struct record record;
    enum err err;

    *ret_count = header->record_count;
    if ((header->attributes & BATCH_SPARSE) == 0) {
        return ERR_OK;
    }
    *ret_count = 0;
    err = batch_records_start(&self->records, header, self->body.data, 0, info);
    while (err == ERR_OK && (err = batch_records_next(&self->records, &record)) == ERR_OK) {
        ++*ret_count;
    }
    if (err == ERR_CORRUPT || err == ERR_TOO_LARGE) {
        return err_set(info, ERR_CORRUPT,
                       "the batch at offset %" PRIu64 " holds records that make no sense",
                       header->base_offset);
    }
    return err == ERR_AGAIN ? ERR_OK : err;
}

/* ---- the index ---- */

static enum err tell_index(struct check *self, bool missing, bool believed, const char *text)
{
    char path[IO_PATH_SIZE];
    bool durable = self->segment->next_base <= promised_end(self);
    const struct fsck_finding finding = {
        .level = believed  ? FSCK_ACT
                 : durable ? FSCK_REPAIRED
                           : FSCK_NOTE,
        .what = missing ? "missing" : "stale",
        .path = path,
        .topic = topic_name(self),
        .advice = believed ? "remove the file: the node makes it again from the store"
                           : "the node makes it again from the store"};
    enum err err = segment_path(path, self->topic->dir, self->segment->base_offset, SEGMENT_INDEX,
                                self->fsck->info);

    return err == ERR_OK ? fsck_tell(self->fsck, &finding, "%s", text) : err;
}

/* Verifies the file by itself. */
static enum err decode_index(struct check *self, struct err_info *info)
{
    struct index_file *index = &self->index;
    struct index_header header;
    struct index_entry before = {0};
    const uint8_t *entries = index->bytes.data + INDEX_HEADER_SIZE;
    enum err err;

    if (index->bytes.size < INDEX_HEADER_SIZE + INDEX_SEAL_SIZE) {
        return err_set(info, ERR_CORRUPT, "the file is too short for an index");
    }
    err = index_header_decode(index->bytes.data, &header, info);
    if (err != ERR_OK) {
        return err;
    }
    if (header.base_offset != self->segment->base_offset ||
        header.generation != self->walk.header.generation ||
        header.rewrites != self->walk.header.rewrites) {
        return err_set(info, ERR_CORRUPT, "the index was made for another store");
    }
    index->count = (index->bytes.size - INDEX_HEADER_SIZE - INDEX_SEAL_SIZE) / INDEX_ENTRY_SIZE;
    if (index->bytes.size !=
        INDEX_HEADER_SIZE + index->count * INDEX_ENTRY_SIZE + INDEX_SEAL_SIZE) {
        return err_set(info, ERR_CORRUPT, "the seal does not verify");
    }
    for (size_t i = 0; i < index->count; i++) {
        struct index_entry entry = index_entry_decode(entries + i * INDEX_ENTRY_SIZE);

        if (i == 0 ? entry.offset != header.base_offset
                   : entry.offset <= before.offset || entry.position <= before.position) {
            return err_set(info, ERR_CORRUPT, "entry %zu is out of order", i);
        }
        before = entry;
    }
    return index_seal_decode(entries + index->count * INDEX_ENTRY_SIZE, index->count,
                             crc32c(entries, index->count * INDEX_ENTRY_SIZE), &index->seal, info);
}

static enum err load_index(struct check *self)
{
    char path[IO_PATH_SIZE];
    /* No batch is smaller, so there cannot be more entries; whatever is larger is no index. */
    size_t size_max = (size_t)(self->walk.size / BATCH_HEADER_SIZE + 8) * INDEX_ENTRY_SIZE +
                      INDEX_HEADER_SIZE + INDEX_SEAL_SIZE;
    struct err_info info = {0};
    enum err err;

    if (!self->segment->has_index) {
        return ERR_OK;
    }
    err = segment_path(path, self->topic->dir, self->segment->base_offset, SEGMENT_INDEX,
                       self->fsck->info);
    if (err != ERR_OK) {
        return err;
    }
    buf_init(&self->index.bytes, size_max + 1);
    err = io_read_file(self->fsck->io, path, size_max, &self->index.bytes, &info);
    if (err == ERR_OK) {
        self->fsck->summary.files++;
        fsck_progress(self->fsck, path, self->index.bytes.size);
        err = decode_index(self, &info);
    }
    if (err == ERR_OK) {
        self->index.present = true;
        return ERR_OK;
    }
    if (err != ERR_CORRUPT && err != ERR_VERSION && err != ERR_TOO_LARGE) {
        return err_set(self->fsck->info, err, "%s", info.text);
    }
    return tell_index(self, false, false,
                      err == ERR_TOO_LARGE ? "the file is too large for an index" : info.text);
}

static void meet_entries(struct check *self, const struct batch_header *header)
{
    struct index_file *index = &self->index;

    while (index->present && index->next < index->count) {
        struct index_entry entry = index_entry_decode(index->bytes.data + INDEX_HEADER_SIZE +
                                                      index->next * INDEX_ENTRY_SIZE);

        if (entry.position > self->walk.position) {
            break;
        }
        index->wrong = index->wrong || entry.position != self->walk.position ||
                       entry.offset != header->base_offset;
        index->next++;
    }
}

/* Whether the seal speaks of this store as it is now: only then the node believes the index. */
static bool seal_matches(const struct check *self)
{
    const struct index_seal *seal = &self->index.seal;

    if (seal->store_size != self->walk.size || seal->end_offset != self->topic->chain.offset) {
        return false;
    }
    if (self->last_position == 0) {
        return seal->last_position == 0;
    }
    return seal->last_position == self->last_position && seal->last_header_crc == self->last_crc &&
           seal->last_raft_index == self->topic->last_raft_index &&
           seal->last_append_time_us == self->topic->last_time_us;
}

static enum err check_index(struct check *self)
{
    bool sealed = self->segment->next_base != UINT64_MAX && !self->segment->filling;

    if (self->failed) {
        return ERR_OK;
    }
    if (sealed && !self->segment->has_index) {
        return tell_index(self, true, false, "the index of the segment is missing");
    }
    if (!self->index.present) {
        return ERR_OK;
    }
    if (!seal_matches(self)) {
        return tell_index(self, false, false, "the index is not of the store as it is now");
    }
    if (self->index.wrong || self->index.next != self->index.count) {
        return tell_index(self, false, sealed, "the index names places where no such batch begins");
    }
    return ERR_OK;
}

/* ---- the store ---- */

static void take(struct check *self, const struct batch_header *header)
{
    self->topic->last_raft_index = header->raft_index;
    self->topic->last_time_us = header->append_time_us;
    self->last_crc = bytes_get_u32(self->walk.bytes + BATCH_AT_CRC);
    self->last_position = self->walk.position;
    self->fsck->summary.batches++;
    fsck_parts_meet(self->topic->parts, header);
}

/* Goes on behind a batch that is not what it should be: its header verified, so the next one's
 * place is known. */
static void pass(struct check *self, const struct batch_header *header)
{
    chain_init(&self->topic->chain, batch_end_offset(header), header->digest);
    take(self, header);
}

/* *ret_go_on: false when what follows in the file cannot be made out, or does not count. */
static enum err check_batch(struct check *self, const struct batch_header *header, bool *ret_go_on)
{
    struct fsck_topic *topic = self->topic;
    uint8_t body_digest[DIGEST_SIZE];
    struct err_info info = {0};
    uint64_t count = header->record_count;
    enum err found;
    enum err err;

    *ret_go_on = true;
    if (header->base_offset != topic->chain.offset) {
        *ret_go_on = false;
        (void)err_set(&info, ERR_CORRUPT,
                      "a batch begins at offset %" PRIu64 " where one at %" PRIu64 " belongs",
                      header->base_offset, topic->chain.offset);
        return tell_wrong(self, "mismatch", self->walk.position, self->segment->next_base,
                          info.text);
    }
    found = store_walk_body(&self->walk, header, &self->body, &info);
    if (found == ERR_OK) {
        found = check_records(self, header, &count, &info);
    }
    if (found != ERR_OK && found != ERR_CORRUPT) {
        return err_set(self->fsck->info, found, "%s",
                       info.text[0] != '\0' ? info.text : err_text(found));
    }
    self->fsck->summary.records += count;
    if (found == ERR_OK) {
        found = check_stamps(topic, header, &info);
    }
    if (found == ERR_OK) {
        struct chain after = topic->chain;

        digest_bytes(self->body.data, self->body.size, body_digest);
        found = follow(&after, header, self->body.data, body_digest, &info);
        err = found == ERR_OK ? check_promise(self, header) : ERR_OK;
        err = err == ERR_OK && found == ERR_OK ? check_entry(self, header, body_digest) : err;
        if (err != ERR_OK) {
            return err;
        }
        topic->chain = after;
    }
    if (found == ERR_OK) {
        take(self, header);
        return ERR_OK;
    }
    err = tell_wrong(self, "damaged", self->walk.position, batch_end_offset(header), info.text);
    *ret_go_on = topic->chain.offset < promised_end(self) && !self->segment->filling;
    pass(self, header);
    return err;
}

/* Where the walk cannot go on below what was promised, the topic goes on with the next segment. */
static void give_up(struct check *self)
{
    uint64_t next = self->segment->next_base;
    uint64_t end = promised_end(self);

    if (self->topic->chain.offset >= end && !self->segment->filling) {
        self->topic->ended = !self->fsck->state_unknown;
        return;
    }
    if (self->segment->filling) {
        return; /* A hole goes on behind what was fetched. */
    }
    if (next == UINT64_MAX || next > end) {
        next = end > self->topic->chain.offset ? end : self->topic->chain.offset;
    }
    chain_init(&self->topic->chain, next, NULL);
}

static enum err walk_store(struct check *self)
{
    struct err_info info = {0};
    bool go_on = true;
    enum err found = ERR_OK;

    while (go_on) {
        struct batch_header header;
        enum err err;

        found = store_walk_next(&self->walk, &header, &info);
        if (found != ERR_OK) {
            break;
        }
        meet_entries(self, &header);
        err = check_batch(self, &header, &go_on);
        if (err != ERR_OK) {
            return err;
        }
        fsck_progress(self->fsck, self->walk.path, header.size);
    }
    if (found == ERR_AGAIN && !self->walk.torn) {
        return ERR_OK;
    }
    if (found == ERR_AGAIN || found == ERR_CORRUPT) {
        uint64_t next = self->segment->next_base;
        uint64_t end = promised_end(self);
        enum err err = found == ERR_AGAIN ? tell_torn(self, info.text)
                                          : tell_wrong(self, "damaged", self->walk.next,
                                                       next < end ? next : end, info.text);

        give_up(self);
        return err;
    }
    if (found == ERR_OK) {
        give_up(self); /* It could not go on. */
        return ERR_OK;
    }
    return err_set(self->fsck->info, found, "%s", info.text);
}

static enum err check_store(struct check *self, enum err found, const struct err_info *info)
{
    uint64_t next = self->segment->next_base;
    uint64_t end = promised_end(self);
    enum err err;

    self->fsck->summary.files++;
    if (found == ERR_OK && self->walk.header.base_offset != self->segment->base_offset) {
        struct err_info other = {0};

        (void)err_set(&other, ERR_CORRUPT, "the store's first offset is %" PRIu64,
                      self->walk.header.base_offset);
        err = tell_wrong(self, "mismatch", 0, next < end ? next : end, other.text);
        give_up(self);
        return err;
    }
    if (found != ERR_OK) {
        err = tell_wrong(self, "damaged", 0, next < end ? next : end, info->text);
        give_up(self);
        return err;
    }
    err = load_index(self);
    err = err == ERR_OK ? walk_store(self) : err;
    return err == ERR_OK ? check_index(self) : err;
}

enum err fsck_segment(struct fsck *self, struct fsck_topic *topic,
                      const struct fsck_segment *segment)
{
    struct check check = {.fsck = self, .topic = topic, .segment = segment};
    struct err_info info = {0};
    char path[IO_PATH_SIZE];
    enum err found;
    enum err err = segment_path(path, topic->dir, segment->base_offset,
                                segment->filling ? SEGMENT_FILLING : SEGMENT_STORE, self->info);

    ASSERT(topic->begun && topic->chain.offset == segment->base_offset);
    if (err != ERR_OK) {
        return err;
    }
    buf_init(&check.body, STORE_BATCH_SIZE_MAX);
    batch_records_init(&check.records);
    found = store_walk_open(&check.walk, self->io, path, &info);
    if (found == ERR_OK || found == ERR_CORRUPT || found == ERR_VERSION) {
        err = check_store(&check, found, &info);
    } else {
        err = err_set(self->info, found, "%s", info.text);
    }
    store_walk_close(&check.walk);
    batch_records_fini(&check.records);
    buf_fini(&check.body);
    buf_fini(&check.index.bytes);
    return err;
}
