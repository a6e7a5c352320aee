/*
 * Terms, votes, entries, states: S6, S7.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "sim/oracle_internal.h"
#include "sim/prng.h"

void sim_oracle_new_node(struct sim_oracle *self, unsigned slot)
{
    ASSERT(slot <= SIM_NODES_MAX);
    self->terms[slot] = 0;
    self->votes[slot] = (struct sim_vote){0};
}

void sim_oracle_leads(struct sim_oracle *self, unsigned node, uint64_t term)
{
    if (self->off) {
        return;
    }
    self->leaders = grown(self->leaders, &self->leader_capacity, term, sizeof *self->leaders);
    if (self->leaders[term] != 0 && self->leaders[term] != node) {
        sim_violation(self, "two leaders in term %llu: %u and %u", U(term), self->leaders[term],
                      node); /* S6 */
    }
    self->leaders[term] = node;
}

void sim_oracle_says(struct sim_oracle *self, unsigned node, const struct message *message)
{
    struct sim_vote *vote = &self->votes[node];
    uint64_t candidate = 0;

    if (self->off) {
        return;
    }
    if ((message->type == MESSAGE_VOTE && message->vote.pre_vote) ||
        (message->type == MESSAGE_VOTE_RESULT && message->vote_result.pre_vote)) {
        return; /* Not of a term that it is in. */
    }
    if (message->term < self->terms[node]) {
        sim_violation(self, "node %u is in term %llu after it was in %llu (message type %d)", node,
                      U(message->term), U(self->terms[node]), (int)message->type); /* S6 */
    }
    self->terms[node] = message->term;
    if (message->type == MESSAGE_VOTE) {
        candidate = message->from;
    } else if (message->type == MESSAGE_VOTE_RESULT && message->vote_result.granted) {
        candidate = message->to;
    }
    if (candidate == 0) {
        return;
    }
    if (vote->term == message->term && vote->candidate != candidate) {
        sim_violation(self, "node %u votes for %llu and for %llu in term %llu", node,
                      U(vote->candidate), U(candidate), U(message->term)); /* S6 */
    }
    *vote = (struct sim_vote){.term = message->term, .candidate = candidate};
}

static struct sim_applied *applied_at(struct sim_oracle *self, uint64_t index)
{
    self->applied = grown(self->applied, &self->applied_capacity, index, sizeof *self->applied);
    self->applied_last = index > self->applied_last ? index : self->applied_last;
    return &self->applied[index];
}

void sim_oracle_entry(struct sim_oracle *self, unsigned node, const struct entry *entry)
{
    struct sim_applied *known = applied_at(self, entry->index);
    /* The checksum covers index, term, type and payload. */
    uint64_t fingerprint = (uint64_t)entry->size << 32 | bytes_get_u32(entry->frame);

    if (self->off) {
        return;
    }
    if (known->term == 0) {
        known->term = entry->term;
        known->entry = fingerprint;
    } else if (known->term != entry->term || known->entry != fingerprint) {
        sim_violation(self, "node %u applies another entry %llu, of term %llu, not %llu", node,
                      U(entry->index), U(entry->term), U(known->term)); /* S7 */
    }
}

void sim_oracle_state(struct sim_oracle *self, unsigned node, uint64_t index, const struct fsm *fsm)
{
    struct sim_applied *known = applied_at(self, index);
    struct manifest manifest;
    struct slice bytes;
    uint64_t hash;

    if (self->off) {
        return;
    }
    if (fsm_manifest(fsm, &manifest) != ERR_OK || manifest_encode(&manifest, &bytes) != ERR_OK) {
        ASSERT(false);
    }
    manifest_fini(&manifest);
    hash = prng_mix((uint64_t)bytes.size << 32 | crc32c(bytes.data, bytes.size)) | 1;
    block_unref(bytes.block);
    if (known->manifest == 0) {
        known->manifest = hash;
    } else if (known->manifest != hash) {
        sim_violation(self, "the state of node %u at %llu is not that of others", node,
                      U(index)); /* S7 */
    }
}
