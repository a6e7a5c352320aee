#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void assert_failed(const char *condition, const char *file, int line,
                             const char *function)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, condition);
    (void)fflush(stderr); /* We abort next; there is nobody to tell. */
    abort();
}
