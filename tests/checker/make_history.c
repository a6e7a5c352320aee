/*
 * Writes a history that holds, of any length, to stdout: for measuring, and to look at one.
 */
#include <stdlib.h>

#include "generator.h"

int main(int argc, char **argv)
{
    struct generator_options options = {.keeps_all = true, .compacts = true};
    struct story story;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: %s SEED OPERATIONS\n", argv[0]);
        return 2;
    }
    options.seed = strtoull(argv[1], NULL, 10);
    options.op_count = (unsigned)strtoul(argv[2], NULL, 10);
    generate(&options, &story);
    history_begin(stdout, "tests/checker/make_history");
    for (size_t i = 0; i < story.count; i++) {
        history_write(stdout, &story.ops[i]);
    }
    story_fini(&story);
    return ferror(stdout) || fflush(stdout) != 0;
}
