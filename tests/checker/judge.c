#include "judge.h"

#include "base/assert.h"

struct checker *judge(const struct story *story, const struct checker_options *options)
{
    struct checker *checker;
    enum err err = checker_new(options, &checker);

    for (size_t i = 0; i < story->count && err == ERR_OK; i++) {
        err = checker_add(checker, &story->ops[i]);
    }
    if (err == ERR_OK) {
        err = checker_finish(checker);
    }
    ASSERT(err == ERR_OK);
    return checker;
}

uint64_t judge_violated(const struct story *story, const struct checker_options *options)
{
    struct checker *checker = judge(story, options);
    uint64_t violated = 0;

    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        violated |= (uint64_t)(checker_verdict(checker, i).violation_count > 0) << i;
    }
    ASSERT((violated != 0) == (checker_violation_count(checker) > 0));
    checker_free(checker);
    return violated;
}

void judge_explain(const struct story *story)
{
    struct checker *checker = judge(story, NULL);

    history_begin(stderr, "a failing test");
    for (size_t i = 0; i < story->count; i++) {
        history_write(stderr, &story->ops[i]);
    }
    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        struct checker_verdict verdict = checker_verdict(checker, i);

        for (size_t k = 0; k < verdict.text_count; k++) {
            (void)fprintf(stderr, "%s: %s\n", checker_rule_name(i), verdict.texts[k]);
        }
    }
    checker_free(checker);
}
