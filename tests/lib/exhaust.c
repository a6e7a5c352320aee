#include "lib/exhaust.h"

#include <check.h>
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "lib/exhaust_disk.h"
#include "lib/faulty_alloc.h"
#include "lib/runner.h"

enum kind { KIND_IO, KIND_MEMORY, KIND_CRASH, KIND_COUNT };

static const char *const kind_names[] = {"io", "memory", "crash"};

enum { SCENARIOS_MAX = 64, CALLS_MAX = 3000, NAME_SIZE = 64 };

/* One fault. */
struct
try {
    enum kind kind;
    unsigned number;  /* of the call; 0: none fails */
    unsigned variant; /* how, and what is lost then */
    unsigned second;  /* of the call of the recovery that is the last one; 0: no second crash */
    unsigned second_variant;
};

struct totals {
    uint64_t tries[KIND_COUNT];
    uint64_t stops; /* of tries[KIND_MEMORY]: the program stopped itself */
    uint64_t second;
};

/* What the children that check forks tell: they die with it otherwise. */
struct shared {
    struct totals totals;
    struct {
        struct try try;
        bool done;
        bool begun;
        char failed[256]; /* The call that failed last. */
        char phase[16];
    } tests[SCENARIOS_MAX * KIND_COUNT];
};

static struct {
    const struct exhaust_scenario *scenarios;
    size_t count;
    const struct exhaust_scenario *scenario; /* The one under way. */
    struct shared *shared;
    unsigned thorough; /* times */
    /* EXHAUST_ONLY */
    char only[NAME_SIZE];
    struct try only_try;
    int only_depth; /* fields that were given */
    /* The try that is under way. */
    struct exhaust_disk disk;
    struct try try;
    struct exhaust_disk_order order; /* of the run, once it started */
    jmp_buf stop;
    bool running;
    bool late; /* The scenario calls exhaust_start. */
    bool started;
    bool stopped;
    bool crashed;
    bool retried;
    bool healed;
    unsigned allocations; /* when it was */
    unsigned orphans;     /* mappings of a process that stopped */
    enum err err;
} now;

static unsigned test_number(const struct exhaust_scenario *scenario, enum kind kind)
{
    return (unsigned)(scenario - now.scenarios) * KIND_COUNT + (unsigned)kind;
}

/* ---- an assertion that fails for want of memory ends the process that is played here ---- */

_Noreturn void __real_assert_failed(const char *condition, const char *file, int line,
                                    const char *function);
_Noreturn void __wrap_assert_failed(const char *condition, const char *file, int line,
                                    const char *function);

_Noreturn void __wrap_assert_failed(const char *condition, const char *file, int line,
                                    const char *function)
{
    if (now.running && now.try.kind == KIND_MEMORY && faulty_alloc_failed()) {
        if (getenv("EXHAUST_VERBOSE") != NULL) {
            (void)fprintf(stderr, "stops: %s:%d %s: %s\n", file, line, function, condition);
        }
        now.stopped = true;
        longjmp(now.stop, 1);
    }
    __real_assert_failed(condition, file, line, function);
}

/* ---- what scenarios may ask ---- */

void exhaust_start(void)
{
    ASSERT(now.running && !now.started);
    now.started = true;
    exhaust_disk_begin(&now.disk, &now.order);
    faulty_alloc_fail_at(now.try.kind == KIND_MEMORY ? now.try.number : 0,
                         now.try.variant % 2 == 1);
}

bool exhaust_may_retry(enum err err)
{
    now.retried =
        err == ERR_NOMEM && now.try.kind == KIND_MEMORY && now.try.variant % 2 == 0 && now.running;
    return now.retried;
}

void exhaust_pause(void)
{
    faulty_alloc_pause();
}

void exhaust_resume(void)
{
    faulty_alloc_resume();
}

bool exhaust_succeeded(void)
{
    return !now.stopped && now.err == ERR_OK;
}

bool exhaust_crashed(void)
{
    return now.crashed;
}

bool exhaust_heal(void)
{
    ASSERT(now.running);
    if (now.try.kind == KIND_CRASH && now.disk.failed[0] != '\0') {
        return false;
    }
    if (!now.healed) {
        now.healed = true;
        now.allocations = faulty_alloc_calls();
        exhaust_disk_end(&now.disk);
        faulty_alloc_fail_at(0, false);
    }
    return true;
}

bool exhaust_is_dead(void)
{
    return now.disk.order.dead && now.disk.failed[0] != '\0';
}

bool exhaust_is_last(void)
{
    return !now.running && now.disk.order.fail_at == 0;
}

/* ---- the plan: what a variant means ---- */

struct variant {
    int errno_value;
    bool sticky;
    bool short_transfer;
    enum exhaust_loss loss;
};

static const struct variant io_variants[] = {
    {EIO, false, false, LOSE_NOTHING},
    {EIO, false, true, LOSE_SOME},
    {ENOSPC, true, false, LOSE_NOTHING},
    {ENOSPC, false, true, LOSE_ALL},
};

static const struct variant memory_variants[] = {
    {0, false, false, LOSE_NOTHING},
    {0, true, false, LOSE_ALL},
};

/* The first ones are each of its kind; then chance has its say, as often as is wanted. */
static const struct variant crash_variants[] = {
    {EIO, true, false, LOSE_NOTHING}, {EIO, true, false, LOSE_ALL},  {EIO, true, false, LOSE_DATA},
    {EIO, true, false, LOSE_NAMES},   {EIO, true, false, LOSE_SOME}, {EIO, true, false, LOSE_ORDER},
    {EIO, true, false, LOSE_SOME},
};

enum { CRASH_FIXED = 4, SECOND_VARIANTS = 3 };

#define LENGTH(array) ((unsigned)(sizeof(array) / sizeof(array)[0]))

static unsigned variant_count(enum kind kind)
{
    switch (kind) {
    case KIND_IO:
        return LENGTH(io_variants);
    case KIND_MEMORY:
        return LENGTH(memory_variants);
    case KIND_CRASH:
        return CRASH_FIXED + (LENGTH(crash_variants) - CRASH_FIXED) * now.thorough;
    case KIND_COUNT:
        break;
    }
    ASSERT(false);
    return 0;
}

static const struct variant *variant_of(enum kind kind, unsigned variant)
{
    ASSERT(variant < variant_count(kind));
    switch (kind) {
    case KIND_IO:
        return &io_variants[variant];
    case KIND_MEMORY:
        return &memory_variants[variant];
    case KIND_CRASH:
        if (variant >= CRASH_FIXED) {
            variant =
                CRASH_FIXED + (variant - CRASH_FIXED) % (LENGTH(crash_variants) - CRASH_FIXED);
        }
        return &crash_variants[variant];
    case KIND_COUNT:
        break;
    }
    ASSERT(false);
    return NULL;
}

/* Different in each try, and the same in each run. */
static uint64_t seed_of(const struct try *try)
{
    uint64_t state = (uint64_t)try->kind << 60 ^ (uint64_t)try->number << 40 ^
                     (uint64_t)try->variant << 24 ^ (uint64_t)try->second << 8 ^
                     try->second_variant;

    return exhaust_random(&state);
}

static struct exhaust_disk_order order_of(const struct try *try)
{
    const struct variant *variant = variant_of(try->kind, try->variant);

    if (try->kind == KIND_MEMORY) {
        return (struct exhaust_disk_order){0};
    }
    return (struct exhaust_disk_order){
        .fail_at = try->number,
        .changes_only = try->kind == KIND_CRASH,
        .errno_value = variant->errno_value,
        .dead = try->kind == KIND_CRASH,
        .sticky = variant->sticky,
        .short_transfer = variant->short_transfer,
        .random = seed_of(try),
    };
}

/* ---- one try ---- */

/* Where it is, for the message if it goes no further. */
static void tell(const char *phase)
{
    unsigned at = test_number(now.scenario, now.try.kind);

    now.shared->tests[at].try = now.try;
    (void)snprintf(now.shared->tests[at].phase, sizeof now.shared->tests[at].phase, "%s", phase);
    if (now.try.kind == KIND_MEMORY) {
        (void)snprintf(now.shared->tests[at].failed, sizeof now.shared->tests[at].failed,
                       "an allocation at 0x%zx", faulty_alloc_failed_origin());
    } else {
        (void)snprintf(now.shared->tests[at].failed, sizeof now.shared->tests[at].failed, "%.255s",
                       now.disk.failed);
    }
}

/* All that was opened and allocated is closed and free. */
static void check_leaks(const char *phase)
{
    size_t origin = 0;
    size_t live = faulty_alloc_live(&origin);

    tell(phase);
    ck_assert_msg(live == 0, "%zu blocks of memory are left over, one from 0x%zx", live, origin);
    ck_assert_msg(mem_io_open_count(&now.disk.under) == 0, "%u files are left open",
                  mem_io_open_count(&now.disk.under));
    ck_assert_msg(mem_io_mapped_count(&now.disk.under) == now.orphans, "%u mappings are left over",
                  mem_io_mapped_count(&now.disk.under));
}

static void run(void)
{
    const struct try *try = &now.try;

    now.order = order_of(try);
    now.started = false;
    now.stopped = false;
    now.retried = false;
    now.healed = false;
    now.running = true;
    exhaust_disk_begin(&now.disk, now.late ? &(struct exhaust_disk_order){0} : &now.order);
    faulty_alloc_begin();
    if (!now.late && try->kind == KIND_MEMORY) {
        faulty_alloc_fail_at(try->number, try->variant % 2 == 1);
    }
    tell("run");
    if (setjmp(now.stop) == 0) {
        now.err = now.scenario->run(&now.disk.io);
    }
    now.running = false;
    exhaust_disk_end(&now.disk);
    faulty_alloc_end();
    tell("run");
}

static void check_run(void)
{
    const struct try *try = &now.try;

    if (now.stopped) {
        ck_assert_msg((now.scenario->flags & EXHAUST_STOPS) != 0,
                      "without memory it stops, and should not");
        faulty_alloc_drop();
        now.orphans = mem_io_mapped_count(&now.disk.under);
        return;
    }
    check_leaks("run");
    if (try->number == 0) {
        ck_assert_msg(now.err == ERR_OK, "fails by itself: %s", err_name(now.err));
    } else if (try->kind == KIND_MEMORY) {
        ck_assert_msg(now.err == ERR_OK || (now.err == ERR_NOMEM && !now.retried),
                      "without memory the error is %s%s", err_name(now.err),
                      now.retried ? ", also when there is some again" : "");
    } else {
        ck_assert_msg(now.err == ERR_OK || now.err == ERR_IO || now.err == ERR_NOSPACE,
                      "of a disk that fails the error is %s", err_name(now.err));
    }
}

/* Recovers, crashing at the change `at` of the disk (0: never). Returns how many there were. */
static unsigned recover(unsigned at, uint64_t random)
{
    const struct exhaust_disk_order order = {
        .fail_at = at, .changes_only = true, .errno_value = EIO, .dead = true, .random = random};
    unsigned calls;
    enum err err;

    exhaust_disk_begin(&now.disk, &order);
    faulty_alloc_begin();
    tell(at == 0 ? "recovery" : "crashed rec.");
    err = now.scenario->recover(&now.disk.io);
    calls = now.disk.calls;
    exhaust_disk_end(&now.disk);
    faulty_alloc_end();
    check_leaks(at == 0 ? "recovery" : "crashed rec.");
    if (at == 0 || calls < at) {
        ck_assert_msg(err == ERR_OK, "it does not recover: %s", err_name(err));
    } else {
        ck_assert_msg(err == ERR_OK || err == ERR_IO,
                      "of a disk that fails in recovery the error is %s", err_name(err));
    }
    return calls;
}

/* Prepares, runs, loses. Returns the calls that counted. */
static unsigned disturb(const struct try *try)
{
    unsigned calls;

    now.try = *try;
    now.crashed = false;
    now.orphans = 0;
    exhaust_disk_init(&now.disk);
    tell("preparation");
    now.scenario->prepare(&now.disk.under.io);
    ck_assert_uint_eq(mem_io_open_count(&now.disk.under), 0);
    run();
    calls = try->kind != KIND_MEMORY ? now.disk.calls
            : now.healed             ? now.allocations
                                     : faulty_alloc_calls();
    check_run();
    now.crashed = try->kind == KIND_CRASH ||
                  variant_of(try->kind, try->variant)->loss != LOSE_NOTHING || now.stopped;
    exhaust_disk_crash(&now.disk, variant_of(try->kind, try->variant)->loss, seed_of(try));
    return calls;
}

static unsigned try_once(const struct try *try)
{
    unsigned calls = disturb(try);
    bool failed = try->number != 0 &&
                  (try->kind == KIND_CRASH ||
                   (try->kind == KIND_MEMORY ? faulty_alloc_failed() : calls >= try->number));

    now.shared->totals.tries[try->kind] += failed ? 1 : 0;
    now.shared->totals.stops += now.stopped ? 1 : 0;
    (void)recover(0, 0); /* It has to work. */
    exhaust_disk_fini(&now.disk);
    return calls;
}

static const enum exhaust_loss second_losses[SECOND_VARIANTS] = {LOSE_ALL, LOSE_SOME, LOSE_ORDER};

/* The crash, then another one at each change that recovery makes. */
static void try_twice(struct try try)
{
    unsigned calls;

    for (try.second = now.only_depth > 4 ? now.only_try.second : 1;; try.second++) {
        for (try.second_variant = 0; try.second_variant < SECOND_VARIANTS; try.second_variant++) {
            uint64_t seed = seed_of(&try);

            (void)disturb(&try); /* Counted before. */
            calls = recover(try.second, seed);
            if (calls < try.second) {
                exhaust_disk_fini(&now.disk);
                return;
            }
            exhaust_disk_crash(&now.disk, second_losses[try.second_variant], seed);
            (void)recover(0, 0);
            exhaust_disk_fini(&now.disk);
            now.shared->totals.second++;
        }
        if (now.only_depth > 4) {
            return;
        }
    }
}

/* ---- all of them ---- */

static bool is_wanted(unsigned number, unsigned variant)
{
    return (now.only_depth < 3 || number == now.only_try.number) &&
           (now.only_depth < 4 || variant == now.only_try.variant);
}

static void try_number(enum kind kind, unsigned number)
{
    const unsigned flags = now.scenario->flags;

    for (unsigned variant = 0; variant < variant_count(kind); variant++) {
        struct try try = {.kind = kind, .number = number, .variant = variant};

        if (!is_wanted(number, variant) || ((flags & EXHAUST_NAMES_IN_ORDER) != 0 &&
                                            variant_of(kind, variant)->loss == LOSE_ORDER)) {
            continue;
        }
        if (kind == KIND_CRASH && (flags & EXHAUST_TWICE) != 0 && (variant == 1 || variant == 4)) {
            try_twice(try);
        }
        (void)try_once(&try); /* The number is known. */
    }
}

static void try_all(enum kind kind)
{
    /* A crash behind the last call, too. */
    unsigned calls;

    now.late = false;
    (void)try_once(&(struct try){.kind = kind}); /* To see whether it calls exhaust_start. */
    now.late = now.started;
    calls = try_once(&(struct try){.kind = kind});
    ck_assert_uint_lt(calls, CALLS_MAX);
    if (kind == KIND_CRASH) {
        calls++;
    }
    for (unsigned number = 1; number <= calls; number++) {
        try_number(kind, number);
    }
    /* Short transfers make more calls. */
    for (unsigned number = calls + 1; kind == KIND_IO && number < CALLS_MAX; number++) {
        struct try try = {.kind = kind, .number = number, .variant = 3};

        if (try_once(&try) < number) {
            break;
        }
    }
}

START_TEST(each_fault_of_a_kind_is_survived)
{
    unsigned test = (unsigned)_i;
    enum kind kind = (enum kind)(test % KIND_COUNT);

    now.scenario = &now.scenarios[test / KIND_COUNT];
    now.shared->tests[test].begun = true;
    try_all(kind);
    now.shared->tests[test].done = true;
}
END_TEST

/* ---- the program ---- */

static void read_environment(void)
{
    const char *thorough = getenv("EXHAUST_THOROUGH");
    const char *only = getenv("EXHAUST_ONLY");
    char kind[NAME_SIZE] = "";

    now.thorough = thorough == NULL ? 1 : (unsigned)strtoul(thorough, NULL, 10);
    now.thorough = now.thorough < 1 ? 1 : now.thorough;
    if (only == NULL) {
        return;
    }
    now.only_depth = sscanf(only, "%63[^:]:%63[^:]:%u:%u:%u", now.only, kind, &now.only_try.number,
                            &now.only_try.variant, &now.only_try.second);
    ASSERT(now.only_depth >= 1);
    now.only_try.kind = KIND_COUNT;
    for (int i = 0; i < KIND_COUNT; i++) {
        now.only_try.kind = strcmp(kind, kind_names[i]) == 0 ? (enum kind)i : now.only_try.kind;
    }
    ASSERT(now.only_depth < 2 || now.only_try.kind != KIND_COUNT);
}

static bool is_test_wanted(unsigned test)
{
    return now.only_depth < 1 ||
           (strcmp(now.scenarios[test / KIND_COUNT].name, now.only) == 0 &&
            (now.only_depth < 2 || now.only_try.kind == (enum kind)(test % KIND_COUNT)));
}

static void print_failures(void)
{
    for (unsigned test = 0; test < now.count * KIND_COUNT; test++) {
        const struct try *try = &now.shared->tests[test].try;

        if (!now.shared->tests[test].begun || now.shared->tests[test].done) {
            continue;
        }
        printf(
            "FAILED in %s, after %s:\n    EXHAUST_ONLY=%s:%s:%u:%u", now.shared->tests[test].phase,
            now.shared->tests[test].failed[0] == '\0' ? "no call" : now.shared->tests[test].failed,
            now.scenarios[test / KIND_COUNT].name, kind_names[try->kind], try->number,
            try->variant);
        if (try->second > 0) {
            printf(":%u", try->second);
        }
        printf("\n");
    }
}

int exhaust_main(const char *name, const struct exhaust_scenario *scenarios, size_t count)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create("exhaustive");
    const struct totals *totals;
    int rv;

    ASSERT(count > 0 && count <= SCENARIOS_MAX);
    now.scenarios = scenarios;
    now.count = count;
    now.shared =
        mmap(NULL, sizeof *now.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(now.shared != MAP_FAILED);
    read_environment();
    tcase_set_timeout(tcase, 600);
    for (unsigned test = 0; test < count * KIND_COUNT; test++) {
        if (is_test_wanted(test)) {
            tcase_add_loop_test(tcase, each_fault_of_a_kind_is_survived, (int)test, (int)test + 1);
        }
    }
    suite_add_tcase(suite, tcase);
    rv = runner_main(suite);
    print_failures();
    totals = &now.shared->totals;
    fflush(stdout);
    printf(
        "%s: %zu operations: %llu failed calls, %llu failed allocations (%llu of them stopped the "
        "program), %llu crashes, %llu crashes in recovery from one\n",
        name, count, (unsigned long long)totals->tries[KIND_IO],
        (unsigned long long)totals->tries[KIND_MEMORY], (unsigned long long)totals->stops,
        (unsigned long long)totals->tries[KIND_CRASH], (unsigned long long)totals->second);
    return rv;
}
