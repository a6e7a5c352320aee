#include "cli/bench_values.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"

enum {
    WORDS_SIZE = 4 << 20, /* more than what a codec looks back on */
    VALUE_STEP = 7919,    /* a prime: values do not begin where others did */
};

/* Bytes that do not compress; a call for each eight, as it is a system call. */
static void fill_random(struct bench_values *self)
{
    for (uint64_t i = 0; i < self->size; i += sizeof(uint64_t)) {
        uint64_t some = clock_real()->random(clock_real());
        uint64_t left = self->size - i;

        memcpy(self->bytes + i, &some, left < sizeof some ? left : sizeof some);
    }
}

/* Words of a language of 4096 of them, as what is logged is. */
static void fill_words(struct bench_values *self, uint64_t size)
{
    uint64_t state = clock_real()->random(clock_real());

    for (uint64_t i = 0; i < size; i++) {
        uint64_t word = state >> 52;

        state = i % 8 == 7 ? state * UINT64_C(6364136223846793005) + 1 : state;
        self->bytes[i] =
            i % 8 == 7 ? ' ' : (uint8_t)('a' + (word * UINT64_C(0x9e3779b1) >> i % 8 * 4) % 26);
    }
}

void bench_values_init(struct bench_values *self, uint64_t size, bool words)
{
    uint64_t all = size + (words ? WORDS_SIZE : 0);

    ASSERT(size > 0);
    *self = (struct bench_values){.size = size, .places = words ? WORDS_SIZE : 1};
    self->bytes = malloc(all);
    self->room = malloc(size);
    ASSERT(self->bytes != NULL && self->room != NULL);
    if (words) {
        fill_words(self, all);
    } else {
        fill_random(self);
    }
}

void bench_values_fini(struct bench_values *self)
{
    free(self->bytes);
    free(self->room);
    *self = (struct bench_values){0};
}

const uint8_t *bench_values_get(const struct bench_values *self, uint64_t number)
{
    return self->bytes + number * VALUE_STEP % self->places;
}

const uint8_t *bench_values_with(struct bench_values *self, uint64_t number, const void *front,
                                 size_t front_size)
{
    ASSERT(front_size <= self->size);
    memcpy(self->room, front, front_size);
    memcpy(self->room + front_size, bench_values_get(self, number) + front_size,
           self->size - front_size);
    return self->room;
}
