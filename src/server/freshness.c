#include "server/freshness.h"

#include <inttypes.h>

#include "base/assert.h"
#include "server/front.h"

#define NS_PER_MS UINT64_C(1000000)

void freshness_init(struct freshness *self, const struct front *front, bool linearizable,
                    uint32_t max_lag_ms)
{
    uint64_t now_ns = read_index_now_ns();

    ASSERT(self->need_ns == 0 && self->max_lag_ns == 0);
    ASSERT(!linearizable || max_lag_ms == 0);
    if (linearizable) {
        self->need_ns = read_index_since_now(front);
    } else if (max_lag_ms > 0) {
        self->max_lag_ns = max_lag_ms * NS_PER_MS;
        self->need_ns = now_ns > self->max_lag_ns ? now_ns - self->max_lag_ns : 1;
    }
}

bool freshness_renew(struct freshness *self)
{
    uint64_t now_ns;

    if (self->max_lag_ns == 0 || self->need_ns != 0) {
        return false;
    }
    now_ns = read_index_now_ns();
    if (now_ns - self->fresh_ns < self->max_lag_ns) {
        return false;
    }
    self->need_ns = now_ns > self->max_lag_ns ? now_ns - self->max_lag_ns + 1 : 1;
    ASSERT(self->need_ns > self->fresh_ns);
    return true;
}

uint64_t freshness_renew_ms(const struct freshness *self)
{
    return self->max_lag_ns / NS_PER_MS;
}

bool freshness_confirmed(struct freshness *self, const struct front *front, uint64_t *at_least)
{
    uint64_t index;

    if (self->need_ns == 0) {
        return true;
    }
    if (!read_index_known(front, self->need_ns, &index, &self->fresh_ns)) {
        return false;
    }
    ASSERT(self->fresh_ns >= self->need_ns);
    *at_least = index > *at_least ? index : *at_least;
    self->need_ns = 0;
    return true;
}

void freshness_wait(struct freshness *self, struct front *front,
                    void (*known)(struct index_wait *wait))
{
    ASSERT(self->need_ns > 0);
    self->wait = (struct index_wait){.since_ns = self->need_ns, .known = known};
    read_index_wait(front, &self->wait);
}

void freshness_forget(struct freshness *self, struct front *front)
{
    read_index_forget(front, &self->wait);
}

void freshness_explain_unconfirmed(const struct freshness *self, const struct front *front,
                                   struct failure *ret_failure)
{
    ASSERT(self->need_ns > 0);
    (void)failure_set(ret_failure, self->max_lag_ns > 0 ? ERR_LAGGING : ERR_NO_LEADER,
                      "no leader told node %" PRIu64
                      " in time what has been acknowledged: try again, or another node",
                      front->node->identity.node_id);
}

void freshness_explain_behind(const struct freshness *self, const struct front *front,
                              uint64_t at_least, struct failure *ret_failure)
{
    struct node *node = front->node;

    ASSERT(at_least > 0);
    (void)failure_set(ret_failure, self->max_lag_ns > 0 ? ERR_LAGGING : ERR_TIMEOUT,
                      "node %" PRIu64 " had applied entry %" PRIu64 " only, not %" PRIu64
                      ", when the deadline passed: try another node",
                      node->identity.node_id, group_applied_index(node->group), at_least);
}
