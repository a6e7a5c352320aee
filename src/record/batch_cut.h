/*
 * A part of a batch that was compacted, or filtered: what lies in [from, to) of it, as a batch.
 *
 *      [ --- a=2, c=1 -- b=7 --- ]       of another node, which merged batches that end at `to`
 *      10          |             20      here; its records with their offsets and times,
 *            [ c=1 -- b=7 ]              nothing else
 *            14          19
 *
 * Nodes compact at different times, so that a batch of one may begin below, or end above, what
 * another has use for. The places where it is cut must be ends of batches that it stands for, or a
 * reader's bounds.
 */
#ifndef QUORLOG_RECORD_BATCH_CUT_H
#define QUORLOG_RECORD_BATCH_CUT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "log/batch.h"

struct batch_cut {
    uint64_t from;         /* below, or in, the batch */
    uint64_t to;           /* above from */
    const uint8_t *before; /* BATCH_DIGEST_SIZE bytes: the digest before `from`: the result is a
                              compacted batch; NULL: a sparse one */
};

/*
 * Appends the part of the batch at `batch`, header and body, which was verified (batch_check_body),
 * in its own codec. Its stamps are the batch's. Where its end goes, too, its digest is zeros: it is
 * for a reader then, and of no log. Nothing is appended when there would be no byte in its body: a
 * sparse one without records is none. ERR_CORRUPT (its records), ERR_TOO_LARGE (out's bound),
 * ERR_NOMEM: nothing was appended.
 */
enum err batch_cut_append(const uint8_t *batch, uint32_t size, const struct batch_cut *cut,
                          struct buf *out, struct err_info *info);

#endif
