/*
 * Every small fault of an operation, one at a time.
 *
 * A scenario is three functions: what is on the disk before, the operation, and how to see that
 * what it left is good. The driver runs it once undisturbed and counts; then
 *
 *   io      once for each call to the disk, which fails: EIO, ENOSPC, for good or once, with parts
 *           of writes written, with short reads and writes; a sync that fails has lost its data;
 *   memory  once for each allocation, which fails; or all from there on. Where the program stops
 *           itself (ASSERT) it does so, and its disk is looked at;
 *   crash   once for each place between two calls that change the disk: nothing happens after it,
 *           and of what was not synced everything stays, or nothing, or the names alone, or the
 *           data alone, or what chance picks, sector by sector, with writes torn and with names
 *           that were changed in a directory since its sync lasting in another order.
 *
 * After each of these the operation has returned an error that it may return or has done its work;
 * no memory, file or mapping is left over; and `recover` finds what the operation promised. A
 * recovery from a crash is itself crashed at each of its calls, where the scenario asks for that.
 *
 *      static const struct exhaust_scenario scenarios[] = {
 *          {"append", prepare, append, recover, 0},
 *      };
 *      int main(void) { return exhaust_main("log", scenarios, 1); }
 *
 * Environment: EXHAUST_THOROUGH=N, more seeds (N times as many). EXHAUST_ONLY=NAME[:KIND[:NUMBER[:
 * VARIANT[:SECOND]]]]: what a failure printed, again.
 */
#ifndef QUORLOG_TESTS_LIB_EXHAUST_H
#define QUORLOG_TESTS_LIB_EXHAUST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/io.h"

enum {
    /* Without memory it may stop the process: then what is on the disk must do. */
    EXHAUST_STOPS = 1,
    /* Recovering from each crash is crashed, too, everywhere. */
    EXHAUST_TWICE = 2,
    /* Its only promise is to be whole or not to be: no order of names without a sync. */
    EXHAUST_NAMES_IN_ORDER = 4,
};

struct exhaust_scenario {
    const char *name;
    /* Makes what the operation finds, on an empty disk; whatever it keeps to compare with is made
     * anew. May leave things unsynced. */
    void (*prepare)(struct io *io);
    /* Opens what it needs, does it, and closes everything, whatever happens. Returns the first
     * error. */
    enum err (*run)(struct io *io);
    /* Opens what is left, compares it with what `run` noted as done and as tried, closes it. May be
     * crashed itself and is then called again; an error that it returns is the disk's. */
    enum err (*recover)(struct io *io);
    unsigned flags;
};

/* In run: calls and allocations up to here are none that may fail. */
void exhaust_start(void);

/* In run: the memory was short, once, and is there again; an operation that promises to have
 * changed nothing has to work now. */
bool exhaust_may_retry(enum err err);

/* What a scenario allocates for itself neither fails nor counts. Nests. */
void exhaust_pause(void);
void exhaust_resume(void);

/* In run: nothing fails any more, so that one can look at what the failure left; false when there
 * is nobody left to look: a crash. Nothing counts from here on. */
bool exhaust_heal(void);

/* The machine has crashed: nothing works, and nothing that is seen means anything. */
bool exhaust_is_dead(void);

/* In recover: it will not be crashed, so the object may go on to work, and change things. */
bool exhaust_is_last(void);

/* In recover: whether run came to its end with OK. */
bool exhaust_succeeded(void);

/* In recover: a crash came before, with its losses; not only a failed call. */
bool exhaust_crashed(void);

/* Runs all of it as a suite of check; the exit code of the program. */
int exhaust_main(const char *name, const struct exhaust_scenario *scenarios, size_t count);

#endif
