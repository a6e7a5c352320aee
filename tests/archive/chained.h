/*
 * Topics for tests of the archive: batches that chain, as a node has them, and the manifest that
 * goes with them.
 */
#ifndef QUORLOG_TESTS_ARCHIVE_CHAINED_H
#define QUORLOG_TESTS_ARCHIVE_CHAINED_H

#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "raft_fsm/chain.h"

enum { CHAINED_MAX = 256, CHAINED_SIZE_MAX = 1 << 20 };

struct chained {
    uint64_t id;
    const char *name;
    uint8_t *bytes; /* owned: the batches, one after the other */
    size_t size;
    size_t positions[CHAINED_MAX + 1]; /* of each batch in bytes, and the end */
    struct batch_header headers[CHAINED_MAX];
    size_t count;
    uint64_t start; /* offset, of a batch: what lies below was trimmed */
    uint8_t start_digest[DIGEST_SIZE];
    uint64_t end; /* offset */
    uint8_t digest[DIGEST_SIZE];
};

void chained_init(struct chained *self, uint64_t id, const char *name);
void chained_fini(struct chained *self);

/* One more batch: record_count records that are no records, in body_size bytes that follow from the
 * offset. */
void chained_add(struct chained *self, uint32_t record_count, uint32_t body_size);

/* Makes one compacted batch of `count` batches from number `first` on (raft_fsm/merged.h). */
void chained_merge(struct chained *self, size_t first, size_t count);

/* The link of batch `at`. */
void chained_link(const struct chained *self, size_t at, uint8_t ret_link[CHAIN_LINK_SIZE]);

/* A manifest of these topics, in order of id, as they are now, at an entry. To be unreferenced. */
struct slice chained_manifest(const struct chained *topics, size_t count, uint64_t index);

#endif
