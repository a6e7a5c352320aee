/*
 * A proof as `prove --check` reads it.
 *
 *      u8 1: the last line is the right one, which is left out | the lines
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/chained.h"
#include "archive/proof.h"
#include "base/assert.h"
#include "fuzz/fuzz.h"

enum { SUM_LINE_SIZE = 80 };

/* What holds of a proof that holds. */
static void check_proof(const struct proof *proof)
{
    ASSERT(strlen(proof->topic) < PROOF_TOPIC_SIZE);
    ASSERT(proof->offset >= proof->header.base_offset);
    ASSERT(proof->offset < batch_end_offset(&proof->header));
    ASSERT(proof->head_offset >= batch_end_offset(&proof->header));
    ASSERT(proof->body.size == proof->header.size - BATCH_HEADER_SIZE);
    ASSERT(batch_check_body(&proof->header, proof->body.data, NULL) == ERR_OK);
    ASSERT(proof->links > 0 || memcmp(proof->head_digest, proof->header.digest, DIGEST_SIZE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    bool fixed = (fuzz_u8(&input) & 1) != 0;
    char *text = malloc(input.size + SUM_LINE_SIZE + 1);
    struct proof proof;
    FILE *file;
    enum err err;

    ASSERT(text != NULL);
    if (input.size > 0) {
        memcpy(text, input.data, input.size);
    }
    if (fixed) {
        uint8_t digest[DIGEST_SIZE];
        char digits[DIGEST_TEXT_SIZE];

        digest_bytes(text, input.size, digest);
        digest_to_text(digest, digits);
        input.size +=
            (size_t)snprintf(text + input.size, SUM_LINE_SIZE + 1, "{\"sha256\":\"%s\"}\n", digits);
    }
    if (input.size > 0) {
        file = fmemopen(text, input.size, "r");
        ASSERT(file != NULL);
        err = proof_check(file, &proof, NULL);
        if (err == ERR_OK) {
            check_proof(&proof);
            proof_fini(&proof);
        } else {
            ASSERT(err == ERR_CORRUPT || err == ERR_VERSION);
        }
        (void)fclose(file); /* It was only read. */
    }
    free(text);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (size_t links = 0; links < 4; links++) {
        static const uint8_t zeros[DIGEST_SIZE];
        struct chained topic;
        struct proof_writer writer;
        struct proof_start start = {.topic = "t.1", .previous = zeros};
        uint8_t link[CHAIN_LINK_SIZE];
        struct buf seed = {0};
        char *text;
        size_t size;
        FILE *file = open_memstream(&text, &size);
        enum err err;

        ASSERT(file != NULL);
        chained_init(&topic, 4096, "t");
        for (uint32_t i = 0; i <= links; i++) {
            chained_add(&topic, i + 1, 10);
        }
        start.batch = topic.bytes;
        start.size = topic.headers[0].size;
        err = proof_begin(&writer, file, &start, NULL);
        ASSERT(err == ERR_OK);
        for (size_t i = 1; i <= links; i++) {
            chained_link(&topic, i, link);
            err = proof_add(&writer, link, NULL);
            ASSERT(err == ERR_OK);
        }
        err = proof_end(&writer, NULL);
        ASSERT(err == ERR_OK);
        proof_writer_fini(&writer);
        (void)fclose(file); /* It is memory. */
        fuzz_put_u8(&seed, 1);
        fuzz_put(&seed, text, size - (SUM_LINE_SIZE - 2));
        fuzz_emit(emit, arg, &seed);
        free(text);
        chained_fini(&topic);
    }
}
