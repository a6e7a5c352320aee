/* Inputs to begin with for fuzz_cli.c, which says what they are made of. */
#include <string.h>

#include "fuzz/fuzz.h"

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    static const char *const seeds[][3] = {
        {"--key=v", "-Ha=b", "t"},
        {"-jk", "v", "--"},
        {"--size", "12K", "t"},
        {"%o %k %v %t %h%%\\n\\t\\\\"},
        {"%v", "\\n"},
        {"start"},
        {"end"},
        {"-12"},
        {"@2026-11-22T10:00:00.123456Z"},
        {"@1"},
        {"7"},
        {"host:7437"},
        {"[::1]:1"},
        {":0"},
        {"10.0.0.7:65535"},
        {"16M"},
        {"9223372036854775807"},
        {"1G"},
    };
    static const uint8_t kinds[] = {0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4};

    for (size_t i = 0; i < sizeof kinds; i++) {
        struct buf seed = {0};

        fuzz_put_u8(&seed, kinds[i]);
        for (size_t k = 0; k < 3 && seeds[i][k] != NULL; k++) {
            fuzz_put(&seed, seeds[i][k], strlen(seeds[i][k]) + 1);
        }
        fuzz_emit(emit, arg, &seed);
    }
}
