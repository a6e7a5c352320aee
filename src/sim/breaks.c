#include "sim/breaks.h"

#include <stddef.h>
#include <string.h>

#include "base/assert.h"

static const struct {
    const char *name;
    const char *text;
} breaks[SIM_BREAK_COUNT] = {
#define BREAK(constant, name, text) [SIM_BREAK_NUMBER_##constant] = {name, text},
    SIM_BREAK_MAP(BREAK)
#undef BREAK
};

const char *sim_break_name(enum sim_break_number number)
{
    ASSERT(number < SIM_BREAK_COUNT);
    return breaks[number].name;
}

const char *sim_break_text(enum sim_break_number number)
{
    ASSERT(number < SIM_BREAK_COUNT);
    return breaks[number].text;
}

bool sim_break_parse(const char *name, unsigned *ret_bit)
{
    for (unsigned i = 0; i < SIM_BREAK_COUNT; i++) {
        if (strcmp(name, breaks[i].name) == 0) {
            *ret_bit = 1u << i;
            return true;
        }
    }
    return false;
}
