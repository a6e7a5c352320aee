/*
 * A log with holes against the whole truth: every batch that the topic ever had, and which of them
 * this log should hold.
 */
#ifndef QUORLOG_TESTS_LOG_HOLE_LAB_H
#define QUORLOG_TESTS_LOG_HOLE_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/log_fixture.h"

struct hole_lab {
    struct fixture f;                  /* f.expected is the truth */
    uint8_t *raw[FIXTURE_BATCHES_MAX]; /* owned; the batch's bytes */
    bool present[FIXTURE_BATCHES_MAX]; /* this log should hold it */
    bool attempt[FIXTURE_BATCHES_MAX]; /* a step that failed may have put it there */
    uint64_t start;                    /* what the log should show as its start */
    uint64_t end;                      /* … and as its end */
};

void hole_lab_init(struct hole_lab *self);
void hole_lab_fini(struct hole_lab *self);

/* Opens with holes allowed; fails the test unless that works. Nothing is compared. */
void hole_lab_open(struct hole_lab *self);

/* The topic gets `count` more batches, which this log has not. */
void hole_lab_produce(struct hole_lab *self, unsigned count);

/* Number of the batch that holds offset. */
size_t hole_lab_find(const struct hole_lab *self, uint64_t offset);

/* The bytes of the batches [from, to) in a row; static. */
const uint8_t *hole_lab_bytes(const struct hole_lab *self, size_t from, size_t to,
                              size_t *ret_size);

/* Steps; the model changes as they should. */
enum err hole_lab_append(struct hole_lab *self, unsigned count); /* produces them, too */
enum err hole_lab_skip(struct hole_lab *self, unsigned count);   /* produces them, too */
/* Up to `count` batches into the hole that begins at offset. */
enum err hole_lab_fill(struct hole_lab *self, uint64_t offset, unsigned count);
/* Fills everything. */
enum err hole_lab_fill_all(struct hole_lab *self);
enum err hole_lab_punch(struct hole_lab *self, uint64_t from, uint64_t to);

/* The log is what the model says: bounds, holes, each batch. */
void hole_lab_verify(struct hole_lab *self);
/* All that the log shows is true; takes over what it has as the model. */
void hole_lab_adopt(struct hole_lab *self);

/* Turns a bit of the file that holds this batch, in its body. */
void hole_lab_damage(struct hole_lab *self, size_t batch);

#endif
