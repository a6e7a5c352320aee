#include "server/work.h"

#include <utlist.h>

#include "base/assert.h"
#include "server/front.h"

static void begin(struct work *self);

static void on_run(uv_work_t *pool)
{
    struct work *self = pool->data;

    self->run(self);
}

static void on_done(uv_work_t *pool, int status)
{
    struct work *self = pool->data;
    struct front *front = self->front;
    struct works *works = &front->works;

    ASSERT(status == 0); /* Nothing here cancels what the pool has. */
    ASSERT(works->under_way > 0);
    front_step(front, FRONT_WORKS);
    works->under_way--;
    if (works->waiting != NULL) {
        struct work *next = works->waiting;

        DL_DELETE(works->waiting, next);
        next->queued = false;
        begin(next);
    }
    self->done(self);
    front_check_finished(front);
    front_step(front, FRONT_SOCKETS);
}

static void begin(struct work *self)
{
    int rv;

    self->pool.data = self;
    self->front->works.under_way++;
    rv = uv_queue_work(&self->front->loop, &self->pool, on_run, on_done);
    ASSERT(rv == 0); /* Fails only without a function to run. */
}

void work_start(struct work *self, struct front *front)
{
    ASSERT(self->run != NULL && self->done != NULL);
    ASSERT(!self->queued);
    self->front = front;
    if (front->works.under_way < front->node->config->reads_max) {
        begin(self);
    } else {
        self->queued = true;
        DL_APPEND(front->works.waiting, self);
    }
}

bool work_cancel(struct work *self)
{
    bool queued = self->queued;

    if (queued) {
        DL_DELETE(self->front->works.waiting, self);
        self->queued = false;
    }
    ASSERT(!self->queued);
    return queued;
}
