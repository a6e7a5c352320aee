#include "sim/oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "sim/oracle_internal.h"

void sim_violation(const struct sim_oracle *self, const char *format, ...)
{
    va_list args;
    bool found;

    (void)fflush(stdout);
    (void)fprintf(stderr, "VIOLATION seed %llu at %llu ms: ", U(self->seed), U(*self->now_ms));
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    found = self->violated != NULL && self->violated(self->arg);
    (void)fflush(stderr);
    _exit(self->off && !found ? SIM_EXIT_OTHER : SIM_EXIT);
}

void sim_oracle_init(struct sim_oracle *self, uint64_t seed, const uint64_t *now_ms)
{
    *self = (struct sim_oracle){.seed = seed, .now_ms = now_ms};
}

void sim_oracle_fini(struct sim_oracle *self)
{
    for (size_t i = 0; i < self->content_count; i++) {
        block_unref(self->contents[i]->batch.block);
        free(self->contents[i]);
    }
    for (size_t i = 0; i < self->topic_count; i++) {
        free(self->topics[i].batches);
        free(self->topics[i].sequences);
        free(self->topics[i].records);
    }
    free(self->contents);
    free(self->fresh);
    free(self->topics);
    free(self->applied);
    free(self->leaders);
    free(self->producer_ids);
    free(self->revisions);
    free(self->claims);
}

/* ---- answers ---- */

void sim_oracle_check_answer(const struct sim_oracle *self, const struct sim_content *content)
{
    const struct fsm_result *answer = &content->answer;

    if (answer->base_offset != content->base_offset || answer->raft_index != content->raft_index ||
        answer->record_count != content->record_count || answer->topic_id != content->topic_id) {
        sim_violation(self,
                      "content %llu was answered: topic %llu offset %llu index %llu, and stands "
                      "in topic %llu at offset %llu index %llu",
                      U(content->number), U(answer->topic_id), U(answer->base_offset),
                      U(answer->raft_index), U(content->topic_id), U(content->base_offset),
                      U(content->raft_index));
    }
}

void sim_oracle_not_written(struct sim_oracle *self, struct sim_content *content)
{
    if (self->off) {
        return;
    }
    ASSERT(content->possible > 0);
    content->possible--;
    if (content->possible == 0 && content->seen) {
        sim_violation(self, "content %llu was never written, they say, but stands at %llu",
                      U(content->number), U(content->base_offset)); /* S4 */
    }
}

static bool may_be_fenced(const struct sim_oracle *self, const struct sim_content *content)
{
    return content->producer_id < self->claim_capacity &&
           content->epoch < self->claims[content->producer_id];
}

void sim_oracle_claim(struct sim_oracle *self, uint64_t producer_id)
{
    self->claims = grown(self->claims, &self->claim_capacity, producer_id, sizeof *self->claims);
    self->claims[producer_id]++;
}

void sim_oracle_fenced(struct sim_oracle *self, struct sim_content *content)
{
    if (self->off) {
        return;
    }
    if (content->seen) {
        sim_violation(self, "content %llu is not among the producer's records, but stands at %llu",
                      U(content->number), U(content->base_offset)); /* S10 */
    }
    content->fenced = true;
}

void sim_oracle_answer(struct sim_oracle *self, struct sim_content *content, unsigned node,
                       const struct fsm_result *result)
{
    if (self->off) {
        self->answered += result->err == ERR_OK && !content->answered;
        content->answered = content->answered || result->err == ERR_OK;
        return;
    }
    switch (err_outcome(result->err)) {
    case ERR_OUTCOME_NOT_WRITTEN:
        if (result->err == ERR_SEQUENCE_REUSED || result->err == ERR_PRODUCER_UNKNOWN ||
            (result->err == ERR_FENCED && !may_be_fenced(self, content))) {
            sim_violation(self, "node %u answers %s to content %llu", node, err_name(result->err),
                          U(content->number));
        }
        sim_oracle_not_written(self, content);
        break;
    case ERR_OUTCOME_WRITTEN:
        if (result->err != ERR_OK && result->err != ERR_NOT_CONFIRMED) {
            if (!content->seen) {
                sim_violation(self, "node %u answers %s to content %llu, which is in no log", node,
                              err_name(result->err), U(content->number));
            }
            break;
        }
        if (content->answered && (content->answer.base_offset != result->base_offset ||
                                  content->answer.raft_index != result->raft_index ||
                                  content->answer.topic_id != result->topic_id)) {
            sim_violation(self, "content %llu is answered with offset %llu, then %llu",
                          U(content->number), U(content->answer.base_offset),
                          U(result->base_offset)); /* S3 */
        }
        if (!content->seen && !content->answered) {
            self->fresh =
                grown(self->fresh, &self->fresh_capacity, self->fresh_count, sizeof *self->fresh);
            self->fresh[self->fresh_count++] = (struct sim_fresh){.content = content, .node = node};
        }
        self->answered += content->answered ? 0 : 1;
        content->answered = true;
        content->answer = *result;
        if (content->seen) {
            sim_oracle_check_answer(self, content);
        }
        break;
    case ERR_OUTCOME_UNKNOWN:
        break;
    }
}

void sim_oracle_check_seen(const struct sim_oracle *self, const struct sim_content *content,
                           unsigned node, struct catalog *catalog)
{
    struct topic *topic = catalog_find_id(catalog, content->topic_id);

    for (size_t i = 0; i < self->topic_count; i++) {
        if (self->topics[i].id == content->topic_id && self->topics[i].blind) {
            topic_unref(topic);
            return;
        }
    }
    if (topic != NULL) {
        sim_violation(self, "node %u: content %llu was answered with OK and is in no log", node,
                      U(content->number));
    }
}

void sim_oracle_answered(struct sim_oracle *self, unsigned node, struct catalog *catalog)
{
    size_t kept = 0;

    if (self->off) {
        return;
    }
    for (size_t i = 0; i < self->fresh_count; i++) {
        if (self->fresh[i].node != node) {
            self->fresh[kept++] = self->fresh[i];
        } else if (catalog != NULL && !self->fresh[i].content->seen) {
            sim_oracle_check_seen(self, self->fresh[i].content, node, catalog);
        }
    }
    self->fresh_count = kept;
}

void sim_oracle_producer(struct sim_oracle *self, uint64_t producer_id)
{
    if (self->off) {
        return;
    }
    for (size_t i = 0; i < self->producer_count; i++) {
        if (self->producer_ids[i] == producer_id) {
            sim_violation(self, "producer id %llu is given out twice", U(producer_id)); /* S8 */
        }
    }
    self->producer_ids =
        reallocarray(self->producer_ids, self->producer_count + 1, sizeof *self->producer_ids);
    ASSERT(self->producer_ids != NULL);
    self->producer_ids[self->producer_count++] = producer_id;
}

void sim_oracle_cursor(struct sim_oracle *self, const struct cursor_change *change)
{
    if (self->off) {
        return;
    }
    if (change->expect != CURSOR_EXPECT_REVISION || change->expected == 0) {
        return;
    }
    for (size_t i = 0; i < self->revision_count; i++) {
        if (self->revisions[i] == change->expected) {
            sim_violation(self, "revision %llu of a cursor was good for two changes",
                          U(change->expected)); /* S9 */
        }
    }
    self->revisions = reallocarray(self->revisions, self->revision_count + 1, sizeof(uint64_t));
    ASSERT(self->revisions != NULL);
    self->revisions[self->revision_count++] = change->expected;
}

void sim_oracle_deleted(struct sim_oracle *self, uint64_t topic_id, uint64_t now_us)
{
    for (size_t i = 0; i < self->topic_count; i++) {
        struct sim_topic *topic = &self->topics[i];

        if (topic->id == topic_id && topic->deleted_us == 0) {
            topic->deleted_us = now_us;
        }
    }
}
