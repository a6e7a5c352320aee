/*
 * A broken build: damage that is found is told, and left where it is. Linked with
 * --wrap=fsm_punch_begin.
 */
#include "raft_fsm/fsm.h"

enum err __wrap_fsm_punch_begin(struct fsm *self, struct topic *topic, uint64_t from, uint64_t to,
                                struct log_punch **ret_punch, struct err_info *info);

enum err __wrap_fsm_punch_begin(struct fsm *self, struct topic *topic, uint64_t from, uint64_t to,
                                struct log_punch **ret_punch, struct err_info *info)
{
    (void)self;
    (void)topic;
    (void)from;
    (void)to;
    (void)ret_punch;
    return err_set(info, ERR_NOMEM, "nothing is done about damage");
}
