/*
 * Serving what another replica lacks: reads a chunk of a topic's log in a job, and sends it.
 *
 * Bounded: FETCHES_MAX chunks are in memory at a time; whoever asks beyond that is told so at once
 * and asks somebody else, or again.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum { FETCHES_MAX = 4 };

struct fetch_job {
    struct job job;
    struct topic *topic; /* a reference; NULL: not known */
    struct message answer;
    uint64_t size_max;
};

static void run_fetch(struct replica_job *base)
{
    struct fetch_job *job = (struct fetch_job *)replica_job_of(base);
    struct message *answer = &job->answer;
    struct block *block;
    struct err_info info;
    enum err err = ERR_TOPIC_UNKNOWN;

    if (job->topic != NULL) {
        err = log_read(job->topic->log, answer->fetch_result.offset, answer->fetch_result.end,
                       job->size_max, &block, &answer->fetch_result.end, &info);
    }
    if (err == ERR_OK) {
        answer->fetch_result.batches =
            (struct slice){.block = block, .data = block->data, .size = block->size};
    }
    answer->fetch_result.err = err;
}

static void answer(struct replica *self, struct message *message)
{
    message->term = raft_driver_term(self->driver);
    self->host.send(self->host.arg, message);
}

static enum err finish_fetch(struct replica *self, struct job *base, struct err_info *info)
{
    struct fetch_job *job = (struct fetch_job *)base;

    (void)info; /* What went wrong is told to the one who asked. */
    ASSERT(self->fetches_served > 0);
    self->fetches_served--;
    if (base->err != ERR_CANCELED) {
        answer(self, &job->answer);
    }
    message_fini(&job->answer);
    topic_unref(job->topic);
    free(job);
    return ERR_OK;
}

enum err replica_receive_fetch(struct replica *self, const struct message *message,
                               struct err_info *info)
{
    struct message result = {
        .type = MESSAGE_FETCH_RESULT,
        .from = self->options.id,
        .to = message->from,
        .fetch_result =
            {
                .topic_id = message->fetch.topic_id,
                .offset = message->fetch.offset,
                .end = message->fetch.end,
                .err = ERR_BUSY,
            },
    };
    struct fetch_job *job = self->fetches_served < FETCHES_MAX ? calloc(1, sizeof *job) : NULL;

    (void)info; /* As above. */
    if (job == NULL) {
        answer(self, &result);
        return ERR_OK;
    }
    job->job.job.run = run_fetch;
    job->job.replica = self;
    job->job.finish = finish_fetch;
    job->topic = fsm_find_promised(self->fsm, message->fetch.topic_id);
    job->size_max =
        message->fetch.size_max < FETCH_CHUNK_SIZE ? message->fetch.size_max : FETCH_CHUNK_SIZE;
    job->answer = result;
    self->fetches_served++;
    self->host.job(self->host.arg, &job->job.job);
    return ERR_OK;
}
