/*
 * What goes wrong in a simulated cluster, by kinds: a bit, a name and a counter each.
 *
 * A user chooses kinds by name, or by the name of their group: "kill,power,network". With a "-" in
 * front a kind is left out; a list that begins so is of all the others: "-clock,-wipe".
 */
#ifndef QUORLOG_SIM_FAULTS_H
#define QUORLOG_SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* KIND(constant, name, group, text). Counted is what happened, not what was planned. */
#define SIM_FAULT_MAP(KIND)                                                                        \
    KIND(KILL, "kill", "process", "a process is killed, at any moment or within a call")           \
    KIND(PAUSE, "pause", "process", "a process stands still and goes on as if nothing had been")   \
    KIND(POWER, "power", "process", "a machine loses power: what was not synced is lost, or torn") \
    KIND(BLACKOUT, "blackout", "process", "all machines lose power at once")                       \
    KIND(LOSS, "loss", "network", "messages are lost")                                             \
    KIND(DELAY, "delay", "network", "messages are late, by up to some seconds")                    \
    KIND(DUPLICATE, "duplicate", "network", "messages come twice")                                 \
    KIND(REORDER, "reorder", "network", "messages overtake each other")                            \
    KIND(STALE, "stale", "network", "messages arrive from, or for, a process that has ended")      \
    KIND(ISOLATE, "isolate", "network", "a node is cut off from all others")                       \
    KIND(SPLIT, "split", "network", "the nodes are cut in two")                                    \
    KIND(CUT, "cut", "network", "two nodes do not hear each other")                                \
    KIND(ONE_WAY, "one-way", "network", "messages of one direction do not arrive")                 \
    KIND(RING, "ring", "network", "each node sees a majority, and no two the same one")            \
    KIND(BRIDGE, "bridge", "network", "two halves see each other only through one node")           \
    KIND(FLAP, "flap", "network", "links break and come back many times a second")                 \
    KIND(FAIL, "fail", "disk", "a system call fails")                                              \
    KIND(OPEN_FAIL, "open-fail", "disk", "a system call fails, or the process dies, at start")     \
    KIND(FULL, "full", "disk", "the disk fills, and has room again later")                         \
    KIND(STALL, "stall", "disk", "the disk is slow, or stands still for seconds")                  \
    KIND(LOSE, "lose", "damage", "files of topics vanish")                                         \
    KIND(FLIP_TOPIC, "flip-topic", "damage", "a bit of a topic's records is turned")               \
    KIND(FLIP_INDEX, "flip-index", "damage", "a bit of a topic's index is turned")                 \
    KIND(FLIP_JOURNAL, "flip-journal", "damage", "a bit of the journal is turned")                 \
    KIND(FLIP_SNAPSHOT, "flip-snapshot", "damage", "a bit of the snapshot is turned")              \
    KIND(FLIP_BALLOT, "flip-ballot", "damage", "a bit of the ballot is turned")                    \
    KIND(DESTROY, "destroy", "damage", "a disk is lost for good, and its node is replaced")        \
    KIND(LIE, "lie", "damage", "a node gives others batches with other contents")                  \
    KIND(CLOCK_JUMP, "clock-jump", "clock", "a wall clock jumps, by up to two hours either way")   \
    KIND(CLOCK_FREEZE, "clock-freeze", "clock", "a wall clock stands still")                       \
    KIND(CLOCK_DRIFT, "clock-drift", "clock", "a wall clock runs up to ten times as fast or slow") \
    KIND(RESIGN, "resign", "members", "a leader gives leadership away")                            \
    KIND(TRANSFER, "transfer", "members", "an operator has another node lead")                     \
    KIND(ADD, "add", "members", "a node is added")                                                 \
    KIND(REMOVE, "remove", "members", "a node is removed")                                         \
    KIND(REPLACE, "replace", "members", "a node is replaced by a new one")                         \
    KIND(WIPE, "wipe", "members", "a node comes back under its id with an emptied disk")

enum sim_fault {
#define KIND(constant, name, group, text) SIM_FAULT_##constant,
    SIM_FAULT_MAP(KIND)
#undef KIND
        SIM_FAULT_COUNT
};

_Static_assert(SIM_FAULT_COUNT <= 64, "a set is 64 bits");
#define SIM_FAULTS_ALL ((UINT64_C(1) << SIM_FAULT_COUNT) - 1)

/* How often each happened; of nothing but uint64_t. */
struct sim_faults {
    uint64_t counts[SIM_FAULT_COUNT];
};

const char *sim_fault_name(enum sim_fault fault);
const char *sim_fault_group(enum sim_fault fault);
const char *sim_fault_text(enum sim_fault fault);

/* All that happened. */
uint64_t sim_faults_sum(const struct sim_faults *self);

/* A list of names, "all" or "none" as a set of 1 << enum sim_fault. ERR_INVALID with text. */
enum err sim_faults_parse(const char *list, uint64_t *ret_set, struct err_info *info);

#endif
