/*
 * What the raft thread does in a turn of its loop, as its turns are told (base/turns.h).
 */
#ifndef QUORLOG_RAFT_FSM_STEPS_H
#define QUORLOG_RAFT_FSM_STEPS_H

/* X(name, text) */
#define STEP_MAP(X)                                                                                \
    X(PEERS, "peers")       /* sockets: messages of peers are read, handled, and written */        \
    X(DURABLE, "durable")   /* the journal has written: what follows from it */                    \
    X(TIMERS, "timers")     /* heartbeats, elections, upkeep, statfs */                            \
    X(REQUESTS, "requests") /* reads, proposals, what is packed into entries and proposed */       \
    X(JOURNAL, "journal")   /* a small write to the journal, tried here */                         \
    X(JOBS, "jobs")         /* the end of what ran on another thread */                            \
    X(APPLY, "apply")       /* an entry: topics' files are written, results told */                \
    X(SNAPSHOT, "snapshot") /* the state is copied and encoded */                                  \
    X(COMPACT, "compact")   /* entries behind a snapshot are let go, files of deleted topics */    \
    X(PUBLISH, "publish")   /* others are told what changed */

enum step {
#define STEP_OF(name, text) STEP_##name,
    STEP_MAP(STEP_OF)
#undef STEP_OF
        STEP_COUNT
};

#endif
