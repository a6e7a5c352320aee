/*
 * Error codes with stable numbers, and the text that explains one failure to a person.
 *
 * A code travels on the wire and is written in docs/protocol.md: numbers are only ever appended.
 * Functions return a code; those that a person's action leads to also take a last
 * `struct err_info *` (may be NULL) and fill it with what failed, where and why.
 */
#ifndef QUORLOG_BASE_ERR_H
#define QUORLOG_BASE_ERR_H

#include <stdbool.h>

/*
 * X(name, number, outcome, retryable, text)
 *
 * outcome says what a *produce* (or any other change) that is answered with this code has done:
 *   NOT_WRITTEN  certainly nothing,
 *   UNKNOWN      perhaps all of it, perhaps nothing: a retry with the same producer id and sequence
 * is safe, WRITTEN      all of it. retryable says whether the same request may succeed later,
 * unchanged.
 */
#define ERR_MAP(X)                                                                                 \
    X(OK, 0, WRITTEN, false, "success")                                                            \
    /* Memory could not be had; nothing was changed. */                                            \
    X(NOMEM, -1, NOT_WRITTEN, true, "out of memory")                                               \
    /* The caller's request makes no sense: a bad argument, name, flag, or combination. */         \
    X(INVALID, -2, NOT_WRITTEN, false, "invalid argument")                                         \
    /* A system call on a file failed. The object that owns the file has failed with it. */        \
    X(IO, -3, UNKNOWN, false, "input/output error")                                                \
    /* Bytes at rest do not verify: checksum, magic, order, or a missing file. */                  \
    X(CORRUPT, -4, NOT_WRITTEN, false, "stored data is damaged")                                   \
    /* The disk is full, or below the watermark at which the node refuses to write. */             \
    X(NOSPACE, -5, NOT_WRITTEN, true, "no space left on the device")                               \
    /* An offset below the log's start or above its end. */                                        \
    X(RANGE, -6, NOT_WRITTEN, false, "offset out of range")                                        \
    X(NOT_FOUND, -7, NOT_WRITTEN, false, "not found")                                              \
    X(EXISTS, -8, NOT_WRITTEN, false, "already exists")                                            \
    /* A bounded queue is full. */                                                                 \
    X(BUSY, -9, NOT_WRITTEN, true, "too busy, try again")                                          \
    /* The deadline passed after the request was proposed. */                                      \
    X(TIMEOUT, -10, UNKNOWN, true, "the deadline passed; the outcome is not known")                \
    /* The deadline passed before any leader was found. */                                         \
    X(NO_LEADER, -11, NOT_WRITTEN, true, "no leader")                                              \
    /* This node does not lead; the answer names the node that does, if known. */                  \
    X(NOT_LEADER, -12, NOT_WRITTEN, true, "not the leader")                                        \
    /* Leadership went while the request was under way. */                                         \
    X(LEADERSHIP_LOST, -13, UNKNOWN, true, "leadership was lost; the outcome is not known")        \
    X(TOO_LARGE, -14, NOT_WRITTEN, false, "too large")                                             \
    /* A format, protocol version or required feature that this program does not know. */          \
    X(VERSION, -15, NOT_WRITTEN, false, "unsupported version")                                     \
    /* The connection ended before the answer came. */                                             \
    X(CLOSED, -16, UNKNOWN, true, "the connection was closed")                                     \
    /* No connection could be made. */                                                             \
    X(CONNECT, -17, NOT_WRITTEN, true, "cannot connect")                                           \
    /* Another process holds the data directory. */                                                \
    X(LOCKED, -18, NOT_WRITTEN, false, "in use by another process")                                \
    /* Nodes or data of different clusters met. */                                                 \
    X(WRONG_CLUSTER, -19, NOT_WRITTEN, false, "belongs to another cluster")                        \
    X(TOPIC_UNKNOWN, -20, NOT_WRITTEN, false, "unknown topic")                                     \
    X(TOPIC_EXISTS, -21, NOT_WRITTEN, false, "the topic exists")                                   \
    /* A batch or frame came with a checksum that does not match its bytes. */                     \
    X(CHECKSUM, -22, NOT_WRITTEN, true, "checksum mismatch")                                       \
    /* The sequence skips numbers: earlier batches of this producer are missing. */                \
    X(SEQUENCE_GAP, -23, NOT_WRITTEN, true, "earlier batches of this producer are missing")        \
    /* A newer epoch of this producer id exists. */                                                \
    X(FENCED, -24, NOT_WRITTEN, false, "a newer instance of this producer took over")              \
    X(PRODUCER_UNKNOWN, -25, NOT_WRITTEN, false, "unknown producer id")                            \
    /* The sequence is known to be applied, but its offset is no longer remembered. */             \
    X(DUPLICATE_OLD, -26, WRITTEN, false, "already written; its offset is no longer known")        \
    /* The same sequence came before with other contents. */                                       \
    X(SEQUENCE_REUSED, -27, NOT_WRITTEN, false, "this sequence was used for other records")        \
    /* The node is stopping. */                                                                    \
    X(SHUTDOWN, -28, UNKNOWN, true, "the node is shutting down")                                   \
    /* An earlier failure put the object into its failed state; only reopening leaves it. */       \
    X(FAILED, -29, NOT_WRITTEN, false, "failed earlier; reopen it")                                \
    /* Internal: the current segment or buffer has no room; nothing was changed. */                \
    X(FULL, -30, NOT_WRITTEN, true, "full")                                                        \
    /* Internal: nothing there yet. */                                                             \
    X(AGAIN, -31, NOT_WRITTEN, true, "not yet")                                                    \
    X(CANCELED, -32, UNKNOWN, true, "canceled")                                                    \
    /* The peer spoke something else, or out of turn. */                                           \
    X(PROTOCOL, -33, NOT_WRITTEN, false, "protocol error")                                         \
    X(LIMIT, -34, NOT_WRITTEN, true, "a configured limit was reached")                             \
    X(UNSUPPORTED, -35, NOT_WRITTEN, false, "not supported")                                       \
    /* A committed entry contradicts what this node applied: safety is broken, stop the node. */   \
    X(DIVERGED, -36, UNKNOWN, false, "this replica differs from the cluster")                      \
    /* A range of a topic was lost here, or has not come yet; other nodes have it. */              \
    X(HOLE, -37, NOT_WRITTEN, true, "these records are not on this node's disk yet")               \
    /* A conditional append: the log's end was not the offset that was expected. */                \
    X(EXPECT_FAILED, -40, NOT_WRITTEN, false, "the log does not end at the expected offset")       \
    /* Committed and applied, but not every voter was known to have it on disk in time. */         \
    X(NOT_CONFIRMED, -41, WRITTEN, false, "written, but not confirmed by every voter")             \
    /* The epoch of this producer id cannot be raised any more. */                                 \
    X(EPOCHS_USED_UP, -42, NOT_WRITTEN, false, "this producer id has no epochs left")              \
    /* A read with a bound on the age of what it shows: this node could not keep it in time. */    \
    X(LAGGING, -44, NOT_WRITTEN, true, "this node is further behind than the read allows")         \
    /* A compare-and-set found another value; the answer tells which. */                           \
    X(CURSOR_CONFLICT, -47, NOT_WRITTEN, false, "the cursor is not what was expected")             \
    X(CURSOR_UNKNOWN, -48, NOT_WRITTEN, false, "unknown cursor")                                   \
    /* Who says to be this node shows another disk than the one that its id belongs to. */         \
    X(WRONG_DISK, -50, NOT_WRITTEN, false, "this node's id belongs to another disk")               \
    /* A new member's id was that of a member before, or a member was removed for good. */         \
    X(ID_USED, -51, NOT_WRITTEN, false, "this node's id was used before")                          \
    /* A change of the members that could leave the cluster without a majority. */                 \
    X(UNSAFE, -52, NOT_WRITTEN, false, "refused: it would endanger the cluster")                   \
    X(MEMBERS_CHANGING, -53, NOT_WRITTEN, false, "another change of the members is under way")

enum err {
#define ERR_ENUM(name, number, outcome, retryable, text) ERR_##name = (number),
    ERR_MAP(ERR_ENUM)
#undef ERR_ENUM
};

enum err_outcome { ERR_OUTCOME_NOT_WRITTEN, ERR_OUTCOME_UNKNOWN, ERR_OUTCOME_WRITTEN };

/* What failed, in words for a person. 512 bytes hold a path and a reason; longer text is cut. */
struct err_info {
    enum err code;
    char text[512];
};

/* The code's fixed text; "unknown error" for a number that is not in the map. Never NULL. */
const char *err_text(enum err err);

/* The code's name as in the map, for logs and JSON: "NO_LEADER". Never NULL. */
const char *err_name(enum err err);

/* A code from the wire. Returns false, and sets nothing, when this program does not know it. */
bool err_from_number(int number, enum err *ret_err);

enum err_outcome err_outcome(enum err err);
bool err_retryable(enum err err);

/* Fills info (may be NULL) and returns err, so that a caller writes `return err_set(…)`. */
enum err err_set(struct err_info *info, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the text that info (may be NULL) holds, and returns err, which is info's
 * code from now on. Where nobody has said what failed, as when memory is short, err's own text is
 * put there. */
enum err err_prefix(struct err_info *info, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The one place where an errno (positive) becomes a code. ENOSPC, EDQUOT → NOSPACE; ENOENT →
 * NOT_FOUND; EEXIST → EXISTS; ENOMEM → NOMEM; EWOULDBLOCK → AGAIN; EINVAL → INVALID; all else
 * → IO. */
enum err err_from_errno(int number);

#endif
