/*
 * Names of the driver's rules, "R5,R8", as bits of raft_driver_options.rules_off.
 */
#ifndef QUORLOG_TESTS_SIM_DRIVER_RULES_H
#define QUORLOG_TESTS_SIM_DRIVER_RULES_H

#include <stdbool.h>
#include <stdlib.h>

static inline bool rules_parse(const char *text, unsigned *ret_rules)
{
    unsigned rules = 0;

    for (;;) {
        char *end;
        unsigned long number;

        if (*text != 'R') {
            return false;
        }
        number = strtoul(text + 1, &end, 10);
        if (end == text + 1 || number < 1 || number > 20) {
            return false;
        }
        rules |= 1u << number;
        if (*end == '\0') {
            *ret_rules = rules;
            return true;
        }
        if (*end != ',') {
            return false;
        }
        text = end + 1;
    }
}

#endif
