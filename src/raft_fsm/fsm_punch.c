/* Damage becomes a hole, in steps beside the thread that applies. */
#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

/* What a call of the log returned. */
static enum err outcome(struct fsm *self, const struct topic *topic, enum err err,
                        struct err_info *info)
{
    if (err == ERR_OK) {
        return ERR_OK;
    }
    (void)err_prefix(info, err, "topic '%s'", topic->name);
    return log_healthy(topic->log) ? err : fsm_fail(self, err);
}

enum err fsm_punch_begin(struct fsm *self, struct topic *topic, uint64_t from, uint64_t to,
                         struct log_punch **ret_punch, struct err_info *info)
{
    ASSERT(from < to && to <= log_end(topic->log));
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    return outcome(self, topic, log_punch_begin(topic->log, from, to, ret_punch, info), info);
}

enum err fsm_punch_end(struct fsm *self, struct topic *topic, struct log_punch *punch,
                       struct err_info *info)
{
    enum err err = log_punch_end(topic->log, punch, info);

    if (err == ERR_OK) {
        topic->filled_from = topic->filled_to = 0;
        fsm_holes_changed(self, topic);
    }
    return outcome(self, topic, err, info);
}
