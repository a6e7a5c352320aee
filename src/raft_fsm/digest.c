#include "raft_fsm/digest.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "base/assert.h"

_Static_assert(DIGEST_SIZE == 32, "SHA-256");
_Static_assert(BATCH_DIGESTED_FROM < BATCH_DIGESTED_TO, "a range");
_Static_assert(BATCH_DIGESTED_TO <= BATCH_HEADER_SIZE, "within the header");

/*
 * Looking an algorithm up costs several times what hashing a header does, so it is done once for
 * the process. A constant of the program in all but its type; never freed.
 */
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;

static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

struct part {
    const void *data;
    size_t size;
};

/*
 * A failure here is a libcrypto without SHA-256, or that a few hundred bytes could not be had; what
 * comes out otherwise would be a wrong digest in a log, so the process stops.
 */
static void hash_parts(const struct part *parts, unsigned count, uint8_t ret_digest[DIGEST_SIZE])
{
    unsigned size = 0;
    EVP_MD_CTX *context;
    int rv;

    rv = pthread_once(&sha256_once, fetch_sha256);
    ASSERT(rv == 0);
    ASSERT(sha256 != NULL);
    context = EVP_MD_CTX_new();
    ASSERT(context != NULL);
    rv = EVP_DigestInit_ex2(context, sha256, NULL);
    ASSERT(rv == 1);
    for (unsigned i = 0; i < count; i++) {
        rv = EVP_DigestUpdate(context, parts[i].data, parts[i].size);
        ASSERT(rv == 1);
    }
    rv = EVP_DigestFinal_ex(context, ret_digest, &size);
    ASSERT(rv == 1);
    ASSERT(size == DIGEST_SIZE);
    EVP_MD_CTX_free(context);
}

void digest_bytes(const void *data, size_t size, uint8_t ret_digest[DIGEST_SIZE])
{
    const struct part part = {.data = data, .size = size};

    ASSERT(data != NULL || size == 0);
    hash_parts(&part, 1, ret_digest);
}

void digest_chain(const uint8_t previous[DIGEST_SIZE], const struct batch_header *header,
                  const uint8_t body_digest[DIGEST_SIZE], uint8_t ret_digest[DIGEST_SIZE])
{
    uint8_t bytes[BATCH_HEADER_SIZE];
    const struct part parts[] = {
        {previous, DIGEST_SIZE},
        {bytes + BATCH_DIGESTED_FROM, BATCH_DIGESTED_TO - BATCH_DIGESTED_FROM},
        {body_digest, DIGEST_SIZE},
    };

    batch_header_encode(header, bytes);
    hash_parts(parts, sizeof parts / sizeof parts[0], ret_digest);
}

void digest_to_text(const uint8_t digest[DIGEST_SIZE], char ret_text[DIGEST_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    ASSERT(digest != NULL);
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        ret_text[2 * i] = digits[digest[i] >> 4];
        ret_text[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_text[DIGEST_TEXT_SIZE - 1] = '\0';
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool digest_from_text(const char *text, uint8_t ret_digest[DIGEST_SIZE])
{
    uint8_t digest[DIGEST_SIZE];

    if (strlen(text) != DIGEST_TEXT_SIZE - 1) {
        return false;
    }
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        int high = digit(text[2 * i]);
        int low = digit(text[2 * i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        digest[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(ret_digest, digest, DIGEST_SIZE);
    return true;
}
