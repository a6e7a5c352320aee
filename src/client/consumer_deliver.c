/*
 * From what nodes sent to records: each batch is verified before anything of it is delivered.
 */
#include "client/consumer_internal.h"
#include "client/share.h"

#include <stdlib.h>

#include <utlist.h>

#include "base/assert.h"

/* Records are delivered for so long before others on the loop have their turn. */
enum { TURN_MS = 10 };

void consumer_drop_chunk(struct consumer *self, struct chunk *chunk)
{
    ASSERT(self->queued >= chunk->size);
    self->queued -= chunk->size;
    DL_DELETE(self->chunks, chunk);
    block_unref(chunk->block);
    free(chunk);
}

/* What came from the node does not verify: nothing after it can be delivered. Another may have it
 * whole. */
static void refuse_damaged(struct consumer *self, struct err_info *info)
{
    (void)err_prefix(info, info->code, "topic '%s', offset %llu, from %s", self->topic,
                     (unsigned long long)self->next,
                     channel_server(self->channel)); /* Told below. */
    while (self->chunks != NULL) {
        consumer_drop_chunk(self, self->chunks);
    }
    self->in_batch = false;
    self->ask = self->next; /* I2 */
    consumer_refuse_node(self, &(struct client_error){.err = info->code,
                                                      .retryable = err_retryable(info->code),
                                                      .text = info->text});
}

bool consumer_is_complete(const struct consumer *self)
{
    if (self->options.records_max != 0 && self->count >= self->options.records_max) {
        return true;
    }
    return !self->options.follow && self->end_known && self->placed && self->next >= self->end;
}

/* The next batch of the first chunk is whole, and follows. */
static enum err check_batch(const struct consumer *self, struct batch_header *header,
                            struct err_info *info)
{
    const struct chunk *chunk = self->chunks;
    enum err err;

    ASSERT(!self->in_batch && chunk->left > 0);
    if (chunk->left <= BATCH_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "%zu bytes are no batch", chunk->left);
    }
    err = batch_header_decode(
        chunk->at, chunk->left > UINT32_MAX ? UINT32_MAX : (uint32_t)chunk->left, header, info);
    if (err == ERR_OK) {
        err = batch_check_body(header, chunk->at + BATCH_HEADER_SIZE, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (header->base_offset > self->next && self->filter == NULL) {
        return err_set(info, ERR_CORRUPT, "the next batch begins at %llu: records are missing",
                       (unsigned long long)header->base_offset);
    }
    return ERR_OK;
}

/* All of the open batch at once. */
static void give_batch(struct consumer *self, const uint8_t *body)
{
    const struct batch_header *header = &self->header;
    uint64_t end = batch_end_offset(header);

    if (end <= self->next) {
        return; /* Before what was asked for. */
    }
    self->count += end - (header->base_offset > self->next ? header->base_offset : self->next);
    self->next = end;
    self->refusals = 0;
    self->delivering = true;
    self->events.batch(self->arg, header, body);
    self->delivering = false;
}

/* Opens the next batch of the first chunk, or gives it away whole. */
static enum err open_batch(struct consumer *self, struct err_info *info)
{
    struct chunk *chunk = self->chunks;
    struct batch_header *header = &self->header;
    const uint8_t *body = chunk->at + BATCH_HEADER_SIZE;
    enum err err = check_batch(self, header, info);

    if (err == ERR_OK && self->events.batch == NULL) {
        err = batch_records_start(&self->records, header, body, self->options.plain_size_max, info);
        self->in_batch = err == ERR_OK;
    }
    if (err != ERR_OK) {
        return err;
    }
    self->token = header->raft_index > self->token ? header->raft_index : self->token;
    chunk->at += header->size;
    chunk->left -= header->size;
    if (self->events.batch != NULL) {
        give_batch(self, body);
    }
    return ERR_OK;
}

/* The chunk is used up. */
static enum err close_chunk(struct consumer *self, struct err_info *info)
{
    struct chunk *chunk = self->chunks;

    ASSERT(!self->in_batch && chunk->left == 0);
    if (self->filter != NULL && self->next < chunk->next_offset) {
        self->next = chunk->next_offset; /* What came behind the last match does not. */
        self->refusals = 0;
    }
    if (self->next != chunk->next_offset) {
        return err_set(info, ERR_CORRUPT, "the node's batches end at %llu, not at %llu as it says",
                       (unsigned long long)self->next, (unsigned long long)chunk->next_offset);
    }
    consumer_drop_chunk(self, chunk);
    return ERR_OK;
}

/* One record of the open batch, or its end. */
static enum err deliver_one(struct consumer *self, struct err_info *info)
{
    struct record record;
    enum err err = batch_records_next(&self->records, &record);
    uint64_t end = batch_end_offset(&self->header);

    if (err == ERR_AGAIN) {
        /* Of a sparse batch the last records may be missing. */
        self->next = end > self->next ? end : self->next;
        self->in_batch = false;
        return ERR_OK;
    }
    if (err == ERR_NOMEM) {
        return err_set(info, err, "%s", err_text(err));
    }
    if (err != ERR_OK) {
        return err_set(info, ERR_CORRUPT, "the batch does not hold the %u records that it should",
                       self->header.record_count);
    }
    if (record.offset < self->next) {
        return ERR_OK; /* Before what was asked for. */
    }
    ASSERT(record.offset < end); /* I1 */
    self->next = record.offset + 1;
    self->refusals = 0;
    /* A node of an earlier release sends all. */
    if (self->filter != NULL && !filter_matches(self->filter, &record)) {
        return ERR_OK;
    }
    if (self->options.share_count > 0 &&
        share_of(&record, self->options.share_count) != self->options.share) {
        return ERR_OK;
    }
    self->count++;
    self->delivering = true;
    self->events.record(self->arg, &record);
    self->delivering = false;
    return ERR_OK;
}

/* Delivers until paused, freed, complete, out of records or out of time. */
void consumer_deliver(struct consumer *self, uint64_t now_ns)
{
    struct err_info info;
    unsigned done = 0;
    enum err err;

    while (!self->paused && !self->freed && self->chunks != NULL && !consumer_is_complete(self)) {
        done++;
        if (done % 256 == 0 && channel_now_ns() - now_ns > TURN_MS * NS_PER_MS) {
            channel_wake(self->channel, &self->user, 0);
            return;
        }
        if (self->in_batch) {
            err = deliver_one(self, &info);
        } else if (self->chunks->left > 0) {
            err = open_batch(self, &info);
        } else {
            err = close_chunk(self, &info);
        }
        if (err != ERR_OK) {
            refuse_damaged(self, &info);
        }
    }
}
