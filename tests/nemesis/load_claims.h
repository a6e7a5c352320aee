/*
 * Producer ids that outlive a program. Each life claims its slot's id anew, which raises the epoch
 * and tells how many records the id ever wrote to its topic: so what was unknown before is known
 * then: an operation whose sequence is not below that number is nowhere and never will be, it has
 * failed. Until then it is held here.
 */
#ifndef QUORLOG_TESTS_NEMESIS_LOAD_CLAIMS_H
#define QUORLOG_TESTS_NEMESIS_LOAD_CLAIMS_H

#include "load.h"

enum claim_state { CLAIM_NONE, CLAIM_ASKED, CLAIM_HAD, CLAIM_REFUSED };

struct claim {
    struct life *life;
    enum claim_state state;
    struct producer_identity identity;
};

/* Joins the topic of the slot's id, or one by chance for a new id. False: there is none. */
bool claim_begin(struct claim *self, struct life *life, bool conditional);

/* Asks, if that was not done. */
void claim_ask(struct claim *self);

/* An operation of the slot's id has an outcome that is not known; size: of its records. */
void claims_hold(struct life *life, const struct history_op *op);

/* The slot's end: what is still held is written down as unknown. */
void claims_finish(struct load *load, struct slot *slot);

#endif
