#include "record/latest.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

enum {
    SLOTS_FIRST = 256,
    /* So much of the slots is used at most: probes stay short. */
    LOAD_NUMERATOR = 4,
    LOAD_DENOMINATOR = 5,
};

/* All zero: free. */
struct slot {
    uint64_t key[2];
    uint64_t noted; /* offset + 1; 0: room was made, nothing was noted yet */
};

struct latest {
    struct slot *slots; /* owned; NULL: none yet */
    size_t slot_count;
    size_t slot_count_max;
    size_t used;  /* slots … */
    size_t noted; /* … and those of them with an offset */
    uint64_t end; /* one past the highest offset that was noted */
    EVP_MD_CTX *context;
};

_Static_assert(sizeof(struct slot) == 24, "what memory is counted in");

/* Looking it up costs more than hashing a key: once for the process, never freed. */
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;

static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

enum err latest_new(size_t memory_max, struct latest **ret_latest)
{
    struct latest *self;
    int rv;

    ASSERT(memory_max >= LATEST_MEMORY_MIN);
    rv = pthread_once(&sha256_once, fetch_sha256);
    ASSERT(rv == 0);
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->context = EVP_MD_CTX_new();
    if (self->context == NULL || sha256 == NULL) {
        latest_free(self);
        return ERR_NOMEM;
    }
    /* While it grows there are two tables, the old one half as large as the new one at most. */
    self->slot_count_max = memory_max / 3 * 2 / sizeof *self->slots;
    if (self->slot_count_max > UINT32_MAX) {
        self->slot_count_max = UINT32_MAX;
    }
    ASSERT(self->slot_count_max > SLOTS_FIRST);
    *ret_latest = self;
    return ERR_OK;
}

void latest_free(struct latest *self)
{
    if (self == NULL) {
        return;
    }
    EVP_MD_CTX_free(self->context);
    free(self->slots);
    free(self);
}

void latest_clear(struct latest *self)
{
    free(self->slots);
    self->slots = NULL;
    self->slot_count = 0;
    self->used = 0;
    self->noted = 0;
    self->end = 0;
}

/* What comes out otherwise would make two keys one, and lose a record: no error is let through. */
static void hash_key(const struct latest *self, const void *key, size_t size, uint64_t ret_key[2])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    int rv;

    ASSERT(key != NULL || size == 0);
    rv = EVP_DigestInit_ex2(self->context, sha256, NULL);
    ASSERT(rv == 1);
    rv = EVP_DigestUpdate(self->context, key, size);
    ASSERT(rv == 1);
    rv = EVP_DigestFinal_ex(self->context, digest, NULL);
    ASSERT(rv == 1);
    ret_key[0] = bytes_get_u64(digest);
    ret_key[1] = bytes_get_u64(digest + 8);
    if (ret_key[0] == 0 && ret_key[1] == 0) {
        ret_key[1] = 1; /* That would be a free one. */
    }
}

static bool slot_is_free(const struct slot *slot)
{
    return slot->key[0] == 0 && slot->key[1] == 0;
}

/* The slot of the key, or the free one where it would be. */
static struct slot *find_slot(struct slot *slots, size_t slot_count, const uint64_t key[2])
{
    size_t at = (size_t)(((key[0] >> 32) * slot_count) >> 32);

    ASSERT(slot_count <= UINT32_MAX && at < slot_count);
    while (!slot_is_free(&slots[at]) &&
           (slots[at].key[0] != key[0] || slots[at].key[1] != key[1])) {
        at = at + 1 == slot_count ? 0 : at + 1;
    }
    return &slots[at];
}

static size_t load_max(size_t slot_count)
{
    return slot_count / LOAD_DENOMINATOR * LOAD_NUMERATOR;
}

static enum err grow(struct latest *self)
{
    size_t count = self->slot_count == 0 ? SLOTS_FIRST : 2 * self->slot_count;
    struct slot *slots;

    if (self->slot_count == self->slot_count_max) {
        return ERR_LIMIT;
    }
    if (count > self->slot_count_max) {
        count = self->slot_count_max;
    }
    slots = calloc(count, sizeof *slots);
    if (slots == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < self->slot_count; i++) {
        if (!slot_is_free(&self->slots[i])) {
            *find_slot(slots, count, self->slots[i].key) = self->slots[i];
        }
    }
    free(self->slots);
    self->slots = slots;
    self->slot_count = count;
    ASSERT(self->used < load_max(count));
    return ERR_OK;
}

static enum err make_slot(struct latest *self, const void *key, size_t key_size,
                          struct slot **ret_slot)
{
    uint64_t hash[2];
    struct slot *slot;
    enum err err;

    hash_key(self, key, key_size, hash);
    if (self->slot_count > 0) {
        slot = find_slot(self->slots, self->slot_count, hash);
        if (!slot_is_free(slot)) {
            *ret_slot = slot;
            return ERR_OK;
        }
    }
    if (self->used >= load_max(self->slot_count)) {
        err = grow(self);
        if (err != ERR_OK) {
            return err;
        }
    }
    slot = find_slot(self->slots, self->slot_count, hash);
    ASSERT(slot_is_free(slot));
    *slot = (struct slot){.key = {hash[0], hash[1]}};
    self->used++;
    *ret_slot = slot;
    return ERR_OK;
}

bool latest_has_room(const struct latest *self, size_t count)
{
    ASSERT(self->used <= load_max(self->slot_count_max));
    return count <= load_max(self->slot_count_max) - self->used;
}

enum err latest_reserve(struct latest *self, const void *key, size_t key_size)
{
    struct slot *slot;

    return make_slot(self, key, key_size, &slot);
}

enum err latest_note(struct latest *self, const void *key, size_t key_size, uint64_t offset)
{
    struct slot *slot;
    enum err err;

    ASSERT(offset < UINT64_MAX);
    ASSERT(self->end == 0 || offset >= self->end - 1);
    err = make_slot(self, key, key_size, &slot);
    if (err != ERR_OK) {
        return err;
    }
    self->noted += slot->noted == 0;
    slot->noted = offset + 1;
    self->end = offset + 1;
    ASSERT(self->noted <= self->used);
    return ERR_OK;
}

bool latest_has_later(const struct latest *self, const void *key, size_t key_size, uint64_t offset)
{
    const struct slot *slot;
    uint64_t hash[2];

    ASSERT(offset < UINT64_MAX);
    if (self->slot_count == 0) {
        return false;
    }
    hash_key(self, key, key_size, hash);
    slot = find_slot(self->slots, self->slot_count, hash);
    return slot->noted > offset + 1; /* Also of a free one, and one without an offset. */
}

size_t latest_count(const struct latest *self)
{
    return self->noted;
}

uint64_t latest_end(const struct latest *self)
{
    return self->end;
}
