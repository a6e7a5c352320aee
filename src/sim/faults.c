#include "sim/faults.h"

#include <string.h>

#include "base/assert.h"

static const struct {
    const char *name;
    const char *group;
    const char *text;
} kinds[SIM_FAULT_COUNT] = {
#define KIND(constant, name, group, text) [SIM_FAULT_##constant] = {name, group, text},
    SIM_FAULT_MAP(KIND)
#undef KIND
};

const char *sim_fault_name(enum sim_fault fault)
{
    ASSERT(fault < SIM_FAULT_COUNT);
    return kinds[fault].name;
}

const char *sim_fault_group(enum sim_fault fault)
{
    ASSERT(fault < SIM_FAULT_COUNT);
    return kinds[fault].group;
}

const char *sim_fault_text(enum sim_fault fault)
{
    ASSERT(fault < SIM_FAULT_COUNT);
    return kinds[fault].text;
}

uint64_t sim_faults_sum(const struct sim_faults *self)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < SIM_FAULT_COUNT; i++) {
        sum += self->counts[i];
    }
    return sum;
}

static bool is_word(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

/* The kinds that a word stands for; 0: none, it is "none", or unknown. */
static uint64_t set_of(const char *text, size_t size)
{
    uint64_t set = 0;

    if (is_word(text, size, "all")) {
        return SIM_FAULTS_ALL;
    }
    for (size_t i = 0; i < SIM_FAULT_COUNT; i++) {
        if (is_word(text, size, kinds[i].name) || is_word(text, size, kinds[i].group)) {
            set |= UINT64_C(1) << i;
        }
    }
    return set;
}

enum err sim_faults_parse(const char *list, uint64_t *ret_set, struct err_info *info)
{
    uint64_t set = list[0] == '-' ? SIM_FAULTS_ALL : 0;
    const char *at = list;

    for (;;) {
        bool minus = *at == '-';
        size_t size = strcspn(at += minus, ",");
        uint64_t some = set_of(at, size);

        if (some == 0 && (minus || !is_word(at, size, "none"))) {
            return err_set(info, ERR_INVALID, "'%.*s' is no kind of fault", (int)(size % 100), at);
        }
        set = minus ? set & ~some : set | some;
        at += size;
        if (*at == '\0') {
            *ret_set = set;
            return ERR_OK;
        }
        at++;
    }
}
