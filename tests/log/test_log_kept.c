#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "log_fixture.h"

