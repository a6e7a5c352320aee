/* Inputs to begin with for fuzz_conn.c, which says what they are made of. */
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "transport/transport.h"

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (uint8_t i = 0; i < 8; i++) {
        struct buf seed = {0};

        fuzz_put_u8(&seed, 1);
        fuzz_put_u8(&seed, (uint8_t)(i * 30));
        for (unsigned k = 0; k < 3; k++) {
            uint8_t frame[FRAME_PREFIX_SIZE + 40] = {
                [0] = FRAME_PREFIX_SIZE - 4 + 40, [8] = (uint8_t)(i + k), [10] = 1, [12] = 7};

            fix_frames(frame, sizeof frame);
            fuzz_put(&seed, frame, sizeof frame);
        }
        fuzz_emit(emit, arg, &seed);
    }
}
