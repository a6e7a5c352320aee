#include "archive/proof.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>

#include "archive/proof_line.h"
#include "base/assert.h"
#include "base/bytes.h"

/* Where they stand in a batch's header (log/batch.h), and so in `fields`, 8 bytes earlier. */
enum {
    FIELDS_SIZE = BATCH_DIGESTED_TO - BATCH_DIGESTED_FROM,
    AT_RECORD_COUNT = 12 - BATCH_DIGESTED_FROM,
    AT_BASE_OFFSET = 16 - BATCH_DIGESTED_FROM,
    AT_ATTRIBUTES = 58 - BATCH_DIGESTED_FROM,
};

/* ---- the sum of all lines ---- */

static EVP_MD_CTX *sum_new(void)
{
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    int rv;

    if (sum == NULL) {
        return NULL;
    }
    rv = EVP_DigestInit_ex(sum, EVP_sha256(), NULL);
    ASSERT(rv == 1);
    return sum;
}

static void sum_add(EVP_MD_CTX *sum, const void *data, size_t size)
{
    int rv = EVP_DigestUpdate(sum, data, size);

    ASSERT(rv == 1);
}

/* The last line, which has no other form. */
static void sum_line(EVP_MD_CTX *sum, char ret_line[PROOF_SUM_LINE_SIZE])
{
    uint8_t digest[DIGEST_SIZE];
    char text[DIGEST_TEXT_SIZE];
    unsigned size = 0;
    int rv = EVP_DigestFinal_ex(sum, digest, &size);

    ASSERT(rv == 1 && size == DIGEST_SIZE);
    digest_to_text(digest, text);
    (void)snprintf(ret_line, PROOF_SUM_LINE_SIZE, "{\"sha256\":\"%s\"}\n", text); /* fits */
}

/* ---- writing ---- */

static void put(struct proof_writer *self, const char *text)
{
    size_t size = strlen(text);

    if (self->err == ERR_OK && fwrite(text, 1, size, self->file) != size) {
        self->err = ERR_IO;
    }
    sum_add(self->hash, text, size);
}

static void put_hex(struct proof_writer *self, const uint8_t *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    char text[513];

    for (size_t done = 0; done < size;) {
        size_t part = size - done < 256 ? size - done : 256;

        for (size_t i = 0; i < part; i++) {
            text[2 * i] = digits[data[done + i] >> 4];
            text[2 * i + 1] = digits[data[done + i] & 15];
        }
        text[2 * part] = '\0';
        put(self, text);
        done += part;
    }
}

static enum err written(const struct proof_writer *self, struct err_info *info)
{
    return self->err == ERR_OK ? ERR_OK : err_set(info, self->err, "the proof cannot be written");
}

enum err proof_begin(struct proof_writer *self, FILE *file, const struct proof_start *start,
                     struct err_info *info)
{
    char text[PROOF_TOPIC_SIZE + 128];
    struct batch_header header;
    uint32_t size;
    enum err err;

    *self = (struct proof_writer){.file = file, .hash = sum_new()};
    if (self->hash == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    if (start->size > PROOF_BATCH_SIZE_MAX) {
        return err_set(info, ERR_TOO_LARGE, "a batch of %zu bytes is too large for a proof",
                       start->size);
    }
    if (start->size <= BATCH_HEADER_SIZE ||
        batch_header_decode(start->batch, PROOF_BATCH_SIZE_MAX, &header, NULL) != ERR_OK ||
        header.size != start->size) {
        return err_set(info, ERR_CORRUPT, "%zu bytes are not one batch", start->size);
    }
    if (start->offset < header.base_offset || start->offset >= batch_end_offset(&header)) {
        return err_set(info, ERR_RANGE,
                       "the batch at offset %" PRIu64 " does not hold offset %" PRIu64,
                       header.base_offset, start->offset);
    }
    if (batch_is_compacted(&header)) {
        return err_set(info, ERR_INVALID,
                       "the batches at offsets %" PRIu64 " to %" PRIu64
                       " were compacted: what their digests were made of is gone, and what is left "
                       "cannot be proven",
                       header.base_offset, batch_end_offset(&header) - 1);
    }
    chain_init(&self->chain, header.base_offset, start->previous);
    err = chain_batch(&self->chain, start->batch, start->size, &size, info);
    if (err != ERR_OK) {
        return err;
    }
    ASSERT(strlen(start->topic) < PROOF_TOPIC_SIZE && size == start->size);
    /* A topic's name has no character that JSON writes otherwise. */
    (void)snprintf(text, sizeof text, "{\"quorlog_proof\":1,\"topic\":\"%s\",\"offset\":%" PRIu64,
                   start->topic, start->offset); /* fits */
    put(self, text);
    put(self, ",\"previous\":\"");
    put_hex(self, start->previous, DIGEST_SIZE);
    put(self, "\",\"batch\":\"");
    put_hex(self, start->batch, start->size);
    put(self, "\"}\n");
    return written(self, info);
}

enum err proof_add(struct proof_writer *self, const uint8_t link[CHAIN_LINK_SIZE],
                   struct err_info *info)
{
    struct batch_header header;
    enum err err = batch_header_decode(link, CHAIN_BATCH_SIZE_MAX, &header, info);

    ASSERT(self->hash != NULL);
    if (err == ERR_OK && batch_is_compacted(&header)) {
        return err_set(
            info, ERR_INVALID,
            "batches from offset %" PRIu64
            " on were compacted: no digest behind them follows from what is left of them",
            header.base_offset);
    }
    err = err == ERR_OK ? chain_link(&self->chain, link, info) : err;
    if (err != ERR_OK) {
        return err;
    }
    put(self, "{\"fields\":\"");
    put_hex(self, link + BATCH_DIGESTED_FROM, FIELDS_SIZE);
    put(self, "\",\"body\":\"");
    put_hex(self, link + BATCH_HEADER_SIZE, DIGEST_SIZE);
    put(self, "\"}\n");
    return written(self, info);
}

enum err proof_end(struct proof_writer *self, struct err_info *info)
{
    char line[PROOF_SUM_LINE_SIZE];
    char text[96];

    ASSERT(self->chain.known && self->chain.offset > 0);
    (void)snprintf(text, sizeof text, "{\"head\":{\"offset\":%" PRIu64 ",\"digest\":\"",
                   self->chain.offset); /* fits */
    put(self, text);
    put_hex(self, self->chain.digest, DIGEST_SIZE);
    put(self, "\"}}\n");
    sum_line(self->hash, line);
    if (self->err == ERR_OK && (fputs(line, self->file) < 0 || fflush(self->file) != 0)) {
        self->err = ERR_IO;
    }
    return written(self, info);
}

void proof_writer_fini(struct proof_writer *self)
{
    EVP_MD_CTX_free(self->hash);
    self->hash = NULL;
}

/* ---- checking ---- */

struct checker {
    struct proof *proof;
    struct proof_lines lines;
    EVP_MD_CTX *sum;
    uint8_t digest[DIGEST_SIZE]; /* computed so far */
    uint64_t next;               /* offset of the next batch */
};

static enum err wrong(const struct checker *self, struct err_info *info, const char *what)
{
    return err_set(info, ERR_CORRUPT, "line %" PRIu64 " of the proof: %s", self->lines.number,
                   what);
}

static enum err check_first(struct checker *self, struct err_info *info)
{
    struct proof *proof = self->proof;
    struct proof_first first;
    struct chain chain;
    uint32_t size;
    enum err err = proof_parse_first(&self->lines, &first, info);

    if (err != ERR_OK) {
        return err;
    }
    if (first.batch.size < BATCH_HEADER_SIZE) {
        err = wrong(self, info, "the batch is too short");
        goto out;
    }
    err = batch_header_decode(first.batch.data, PROOF_BATCH_SIZE_MAX, &proof->header, info);
    if (err != ERR_OK) {
        goto out;
    }
    if (batch_is_compacted(&proof->header)) {
        err = wrong(self, info, "the batch was compacted: its digest says nothing of its records");
        goto out;
    }
    chain_init(&chain, proof->header.base_offset, first.previous);
    /* Nothing but zeros stands before the first batch. */
    if (memcmp(chain.digest, first.previous, DIGEST_SIZE) != 0) {
        err = wrong(self, info, "there is a digest before offset 0");
        goto out;
    }
    err = chain_batch(&chain, first.batch.data, first.batch.size, &size, info);
    if (err == ERR_OK && (size != first.batch.size || first.offset < proof->header.base_offset ||
                          first.offset >= chain.offset)) {
        err = wrong(self, info, "the batch does not hold the offset");
    }
    if (err == ERR_OK) {
        memcpy(proof->topic, first.topic, sizeof proof->topic);
        proof->offset = first.offset;
        memcpy(self->digest, chain.digest, DIGEST_SIZE);
        self->next = chain.offset;
        err = buf_append(&proof->body, first.batch.data + BATCH_HEADER_SIZE,
                         size - BATCH_HEADER_SIZE);
    }
out:
    buf_fini(&first.batch);
    return err;
}

static enum err check_link(struct checker *self, struct err_info *info)
{
    uint8_t bytes[DIGEST_SIZE + FIELDS_SIZE + DIGEST_SIZE];
    uint8_t *fields = bytes + DIGEST_SIZE;
    uint64_t base;
    uint32_t count;
    enum err err = proof_parse_link(&self->lines, fields, fields + FIELDS_SIZE, info);

    if (err != ERR_OK) {
        return err;
    }
    base = bytes_get_u64(fields + AT_BASE_OFFSET);
    count = bytes_get_u32(fields + AT_RECORD_COUNT);
    if (base != self->next || count == 0 || base > UINT64_MAX - count) {
        return wrong(self, info, "the batch does not follow on the one before");
    }
    if ((bytes_get_u16(fields + AT_ATTRIBUTES) & BATCH_COMPACTED) != 0) {
        return wrong(self, info, "a compacted batch, whose digest follows from nothing");
    }
    memcpy(bytes, self->digest, DIGEST_SIZE);
    digest_bytes(bytes, sizeof bytes, self->digest);
    self->next = base + count;
    self->proof->links++;
    return ERR_OK;
}

static enum err check_end(struct checker *self, struct err_info *info)
{
    char line[PROOF_SUM_LINE_SIZE];
    enum err err = proof_next_line(&self->lines, info);

    if (err != ERR_OK) {
        return err;
    }
    sum_line(self->sum, line);
    if (self->lines.line.size != strlen(line) ||
        memcmp(self->lines.line.data, line, strlen(line)) != 0) {
        return wrong(self, info, "the proof was changed: its sum does not match");
    }
    err = proof_next_line(&self->lines, info);
    return err == ERR_AGAIN
               ? ERR_OK
               : (err == ERR_OK ? wrong(self, info, "something follows the end") : err);
}

static enum err check_lines(struct checker *self, struct err_info *info)
{
    bool first = true;
    bool head = false;
    enum err err = ERR_OK;

    while (err == ERR_OK && !head) {
        err = proof_next_line(&self->lines, info);
        if (err != ERR_OK) {
            break;
        }
        sum_add(self->sum, self->lines.line.data, self->lines.line.size);
        if (first) {
            err = check_first(self, info);
            first = false;
            continue;
        }
        err = proof_parse_head(&self->lines, &head, &self->proof->head_offset,
                               self->proof->head_digest, info);
        if (err == ERR_OK && !head) {
            err = check_link(self, info);
        }
    }
    if (err == ERR_OK && (self->proof->head_offset != self->next ||
                          memcmp(self->proof->head_digest, self->digest, DIGEST_SIZE) != 0)) {
        err = wrong(self, info, "the head's digest does not follow from the batches");
    }
    err = err == ERR_OK ? check_end(self, info) : err;
    /* A file that ends too early. */
    return err == ERR_AGAIN ? wrong(self, info, "the proof ends before its end") : err;
}

enum err proof_check(FILE *file, struct proof *ret_proof, struct err_info *info)
{
    struct checker checker = {.proof = ret_proof, .sum = sum_new()};
    enum err err;

    ASSERT(file != NULL);
    *ret_proof = (struct proof){0};
    buf_init(&ret_proof->body, PROOF_BATCH_SIZE_MAX);
    if (checker.sum == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    proof_lines_init(&checker.lines, file);
    err = check_lines(&checker, info);
    proof_lines_fini(&checker.lines);
    EVP_MD_CTX_free(checker.sum);
    if (err != ERR_OK) {
        proof_fini(ret_proof);
    }
    return err;
}

void proof_fini(struct proof *proof)
{
    buf_fini(&proof->body);
    *proof = (struct proof){0};
}
