/*
 * What the files of fsck share.
 *
 *      fsck.c            the directory: lock, identity, what lies around
 *      fsck_raft.c       ballot, snapshot, journal, and whether they belong together
 *      fsck_topics.c     which topics should be there and which are
 *      fsck_topic.c      one topic: its files, in order, and where they end
 *      fsck_segment.c    one store, batch by batch, and its index
 *      fsck_indexes.c    the indexes of lookups, a topic's files and the directories
 */
#ifndef QUORLOG_ARCHIVE_FSCK_INTERNAL_H
#define QUORLOG_ARCHIVE_FSCK_INTERNAL_H

#include "archive/fsck.h"
#include "archive/store_walk.h"
#include "log/segment.h"
#include "lookup/part.h"
#include "raft_fsm/chain.h"
#include "raft_fsm/journal_recovery.h"
#include "raft_fsm/manifest.h"

struct fsck {
    const struct fsck_options *options;
    struct io *io;
    struct fsck_summary summary;
    struct err_info *info;
    uint64_t disk_id; /* 0: not known */
    /* What was found, as far as it can be believed. */
    struct snapshot snapshot; /* index 0: none */
    struct manifest manifest; /* of it; producers NULL: none */
    struct journal_recovery journal;
    bool journal_void;  /* its entries do not count */
    bool state_unknown; /* snapshot or journal are damaged: what topics should hold is not known */
    bool has_peers;     /* others have what is lost here */
    bool has_indexes;   /* there is a directory of them */
    char text[512];     /* of the finding that is made */
};

/* What is said in many places. */
extern const char fsck_replace[]; /* what to do when acknowledged entries may be lost */

/* Tells a finding. level and all that is set in *finding but text, which is printed. */
enum err fsck_tell(struct fsck *self, const struct fsck_finding *finding, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Bytes of a file were read. */
void fsck_progress(struct fsck *self, const char *path, uint64_t bytes);

/* The names in a directory, sorted. *ret_names: owned; free with fsck_names_free. ERR_NOT_FOUND;
 * ERR_IO, also when it is no directory. */
struct fsck_names {
    char **list;
    size_t count;
    size_t capacity;
};
enum err fsck_list(struct fsck *self, const char *path, struct fsck_names *ret_names);
void fsck_names_free(struct fsck_names *names);

/* group_dir's ballot, snapshot and journal. node_id is known, or is taken from the ballot. */
enum err fsck_raft(struct fsck *self, const char *group_dir);

/* group_dir's topics. */
enum err fsck_topics(struct fsck *self, const char *topics_dir);

/* A file of a topic's indexes. */
struct fsck_part {
    struct part_seal seal;
    bool sound; /* all of its bytes are right */
    bool met;   /* the log has a batch that ends where it does, with its digest */
};

struct fsck_parts {
    const char *topic; /* its name; borrowed */
    uint64_t topic_id;
    char dir[IO_PATH_SIZE];
    struct fsck_part *list; /* owned; sound ones, by end offset */
    size_t count;
    size_t next; /* the first that ends above what was met */
};

/* What one topic's files are compared with. */
struct fsck_topic {
    struct manifest_topic promised; /* end 0: made by an entry above the snapshot */
    const char *dir;
    struct fsck_parts *parts; /* borrowed: that the topic's batches are compared with */
    /* How far the walk is. */
    struct chain chain;
    bool begun; /* there was a segment */
    uint64_t last_raft_index;
    int64_t last_time_us;
    uint64_t rewritten_end; /* of the last segment that took the place of others; 0: of none */
    bool ended;             /* above what was promised the log ends here; what follows is removed */
};
enum err fsck_topic(struct fsck *self, struct fsck_topic *topic);

/* A segment of a topic, where topic->chain stands at its base offset. */
struct fsck_segment {
    uint64_t base_offset;
    uint64_t next_base; /* of the segment behind it; UINT64_MAX: it is the last one */
    bool filling;
    bool has_index;
};
enum err fsck_segment(struct fsck *self, struct fsck_topic *topic,
                      const struct fsck_segment *segment);

/* Level and advice for what is wrong in a topic, below what was promised and above. */
struct fsck_verdict {
    enum fsck_level level;
    const char *advice;
};
struct fsck_verdict fsck_lost(const struct fsck *self);   /* it was durable */
struct fsck_verdict fsck_replay(const struct fsck *self); /* the journal has it */

/* ---- indexes of lookups; their directory is there when fsck->has_indexes ---- */

/* Sets has_indexes, where something has the name of their directory. */
enum err fsck_indexes_begin(struct fsck *self);

/* The names in their directory, sorted; none when there is none. Free with fsck_names_free. */
enum err fsck_indexes_list(struct fsck *self, struct fsck_names *ret_names);

/* Tells of a name there that is no topic's of the node. named_rightly: it could be one's. */
enum err fsck_indexes_stray(struct fsck *self, const char *name, bool named_rightly);

/* Checks the files of one topic, in the directory of that name, each by itself. Borrows topic's
 * name; fsck_parts_free in any case. */
enum err fsck_parts_load(struct fsck *self, const struct manifest_topic *topic,
                         const char *dir_name, struct fsck_parts *ret_parts);
void fsck_parts_free(struct fsck_parts *parts);

/* The topic has this batch; in order. */
void fsck_parts_meet(struct fsck_parts *parts, const struct batch_header *header);

/* All batches were met: tells of files that are not of this log, or of what is not in it. */
enum err fsck_parts_tell(struct fsck *self, const struct fsck_topic *topic,
                         const struct fsck_parts *parts);

#endif
