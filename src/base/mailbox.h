/*
 * A mailbox: the one way in which two threads pass work to each other.
 *
 * Many threads post, one thread (the owner) takes all that is there at once, in the order in which
 * it was posted. Posting into an empty mailbox calls `wake` (transport's waker_wake, say) so that
 * the owner comes; a full one refuses, so a fast sender feels a slow owner.
 */
#ifndef QUORLOG_BASE_MAILBOX_H
#define QUORLOG_BASE_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Embedded as a member in what is posted; the mailbox uses it while the item is inside. */
struct mail {
    struct mail *next;
    size_t size; /* Bytes that the item counts for. */
};

struct mailbox {
    pthread_mutex_t lock; /* Guards all below. */
    struct mail *head;
    struct mail **tail;
    size_t size;     /* Sum of the sizes of the items inside. */
    size_t size_max; /* Bytes. */
    bool closed;
    void (*wake)(void *arg); /* Called by the poster, outside the lock; any thread. */
    void *arg;
};

/* size_max: bytes that may wait; SIZE_MAX for no bound (only where the senders are bounded). */
void mailbox_init(struct mailbox *self, size_t size_max, void (*wake)(void *arg), void *arg);

/* Only after mailbox_close, when no thread can post any more, and when it is empty. */
void mailbox_fini(struct mailbox *self);

/* Any thread. The item belongs to the mailbox until taken. ERR_BUSY when `size` more bytes would
 * pass the bound (an empty mailbox takes an item of any size), ERR_SHUTDOWN when closed; the item
 * stays the caller's then. */
enum err mailbox_post(struct mailbox *self, struct mail *mail, size_t size);

/* As mailbox_post, past the bound too: for answers, whose number is bounded by the requests. */
enum err mailbox_post_always(struct mailbox *self, struct mail *mail, size_t size);

/* The owner only. All items in order of posting, linked by next, NULL-terminated; now the
 * caller's. NULL when empty. */
struct mail *mailbox_take(struct mailbox *self);

/* Any thread. Posts fail from now on; what is inside can still be taken. */
void mailbox_close(struct mailbox *self);

#endif
