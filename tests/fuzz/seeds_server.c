/* Inputs to begin with for fuzz_server.c, which says what they are made of. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "log/batch.h"

static void put_request(struct buf *seed, uint16_t type, const char *header, size_t size,
                        const void *body, size_t body_size)
{
    fuzz_put_u16(seed, type);
    fuzz_put_u8(seed, (uint8_t)type);
    fuzz_put_part(seed, header, size);
    fuzz_put_part(seed, body, body_size);
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    static const uint8_t types[] = {16, 18,  20, 21, 22, 5,   32, 34, 36, 38, 40,
                                    48, 56,  64, 66, 68, 70,  80, 82, 84, 86, 96,
                                    98, 100, 1,  4,  2,  255, 17, 42, 44};
    uint8_t batch[BATCH_HEADER_SIZE + 6] = {'Q', 'L', 'B', '1'};

    batch[8] = sizeof batch;
    batch[12] = 2;
    memcpy(batch + BATCH_HEADER_SIZE, "\x0a\x00\x0a\x02\x28\x01", 6); /* Two records. */
    for (uint8_t i = 0; i < sizeof types; i++) {
        struct buf seed = {0};

        fuzz_put_u8(&seed, 3);
        put_request(&seed, types[i], "\x0a\x01t", 3, batch, types[i] == 16 ? sizeof batch : 0);
        put_request(&seed, types[i],
                    "\x0a\x01t\x12\x01"
                    "c\x18\x02",
                    8, "", 0);
        put_request(&seed, types[i], "\x08\x01\x10\x02", 4, "", 0);
        /* Settings: an alteration of topic "t", of its indexes on node 3. */
        put_request(&seed, types[i], "\x0a\x01t\x22\x02\x38\x03\x2a\x01\x07\x32\x01\x03", 13, "",
                    0);
        put_request(&seed, 20, "\x0a\x05\x0a\x01t\x10\x01\x10\x64", 9, "", 0);
        put_request(&seed, 21, "\x08\x64", 2, "", 0);
        fuzz_emit(emit, arg, &seed);
    }
}
