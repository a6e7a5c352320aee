/*
 * What a deliberately broken build does wrong. Each must be found by some seed, or the simulator
 * would not find the same mistake made by accident.
 */
#ifndef QUORLOG_SIM_BREAKS_H
#define QUORLOG_SIM_BREAKS_H

#include <stdbool.h>

/* BREAK(constant, name, text) */
#define SIM_BREAK_MAP(BREAK)                                                                       \
    BREAK(ACK_EARLY, "ack-early", "the journal says \"durable\" before it writes")                 \
    BREAK(NO_DEDUP, "no-dedup", "producers try again without their id and sequence")               \
    BREAK(NO_SYNC, "no-sync", "nothing is ever synced")                                            \
    BREAK(BALLOT, "ballot", "votes are not written")                                               \
    BREAK(FILL, "fill", "what is put into holes is never synced")                                  \
    BREAK(TOPIC_SYNC, "topic-sync", "topics are not synced before a snapshot")                     \
    BREAK(SNAPSHOT_SYNC, "snapshot-sync", "the journal is cut before the snapshot is durable")     \
    BREAK(APPLY_EARLY, "apply-early", "entries are applied before they are committed")             \
    BREAK(FORGET_PRODUCERS, "forget-producers", "producers are not in snapshots")                  \
    BREAK(AMNESIA, "amnesia", "a node with an emptied disk is let in under its old id")            \
    BREAK(NO_SCRUB, "no-scrub", "nobody looks for damage")                                         \
    BREAK(ACK_UNCOMMITTED, "ack-uncommitted", "leaders answer before a majority has it")           \
    BREAK(CERTAIN, "certain", "\"not written\" is answered when nobody knows")                     \
    BREAK(FORWARD_NEW, "forward-new", "a forwarded request is tried again as a new one")           \
    BREAK(NO_FENCING, "no-fencing", "a newer instance of a producer does not fence the older")     \
    BREAK(NO_EXPECT, "no-expect", "conditional appends are made unconditionally")                  \
    BREAK(NO_COMPARE, "no-compare", "cursors are set whatever they are")                           \
    BREAK(STALE_READ, "stale-read", "linearizable reads are answered as local ones")               \
    BREAK(NO_ROUND, "no-round", "leaders give read indexes without asking a majority")             \
    BREAK(NO_TOKEN, "no-token", "reads do not wait for their token")                               \
    BREAK(NO_LAG, "no-lag", "reads do not keep to their bound on age")                             \
    BREAK(WALL_AGE, "retention-by-wall-clock", "records are as old as wall clocks say")            \
    BREAK(COMPACT_SYNC, "compact-sync", "what compaction writes is never synced")

enum sim_break_number {
#define BREAK(constant, name, text) SIM_BREAK_NUMBER_##constant,
    SIM_BREAK_MAP(BREAK)
#undef BREAK
        SIM_BREAK_COUNT
};

/* As bits. */
enum sim_break {
#define BREAK(constant, name, text) SIM_BREAK_##constant = 1 << SIM_BREAK_NUMBER_##constant,
    SIM_BREAK_MAP(BREAK)
#undef BREAK
};

const char *sim_break_name(enum sim_break_number number);
const char *sim_break_text(enum sim_break_number number);

/* The bit of a name; false: there is none. */
bool sim_break_parse(const char *name, unsigned *ret_bit);

#endif
