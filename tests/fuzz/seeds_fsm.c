/* Inputs to begin with for fuzz_fsm.c, which says what they are made of. */
#include "fuzz/fuzz.h"
#include "raft_fsm/history.h"

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (uint64_t variant = 0; variant < 8; variant++) {
        struct buf seed = {0};
        struct history history;

        history_init(&history, variant + 1, 24);
        for (size_t i = 0; i < history.count; i++) {
            if (history.entries[i].type == ENTRY_COMMAND && history.entries[i].size < 700) {
                fuzz_put_part(&seed, entry_payload(&history.entries[i]), history.entries[i].size);
            }
        }
        history_fini(&history);
        fuzz_emit(emit, arg, &seed);
    }
}
