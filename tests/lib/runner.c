#include "lib/runner.h"

#include <stdlib.h>

#include "base/assert.h"

/* Before any suite is made, which is when check looks. Four seconds, its own default, are nothing
 * on a machine that is busy with other things; a test that hangs still ends. */
__attribute__((constructor)) static void set_timeout(void)
{
    (void)setenv("CK_DEFAULT_TIMEOUT", "60", 0); /* Else it stays four. */
}

int runner_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int run;
    int failed;

    ASSERT(runner != NULL);
    srunner_run_all(runner, CK_ENV);
    run = srunner_ntests_run(runner);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    /* A filter (CK_RUN_CASE) may leave nothing to run; without one, nothing run is a mistake. */
    ASSERT(run > 0 || getenv("CK_RUN_CASE") != NULL || getenv("CK_RUN_SUITE") != NULL ||
           getenv("CK_INCLUDE_TAGS") != NULL || getenv("CK_EXCLUDE_TAGS") != NULL);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
