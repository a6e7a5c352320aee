#include "base/mailbox.h"

#include "base/assert.h"

static void lock(struct mailbox *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

static void unlock(struct mailbox *self)
{
    int rv = pthread_mutex_unlock(&self->lock);

    ASSERT(rv == 0);
}

void mailbox_init(struct mailbox *self, size_t size_max, void (*wake)(void *arg), void *arg)
{
    int rv;

    ASSERT(wake != NULL);
    *self = (struct mailbox){.size_max = size_max, .wake = wake, .arg = arg};
    self->tail = &self->head;
    rv = pthread_mutex_init(&self->lock, NULL);
    ASSERT(rv == 0);
}

void mailbox_fini(struct mailbox *self)
{
    int rv;

    ASSERT(self->closed && self->head == NULL);
    rv = pthread_mutex_destroy(&self->lock);
    ASSERT(rv == 0);
}

static enum err post(struct mailbox *self, struct mail *mail, size_t size, bool bounded)
{
    enum err err = ERR_OK;
    bool was_empty;

    lock(self);
    was_empty = self->head == NULL;
    if (self->closed) {
        err = ERR_SHUTDOWN;
    } else if (bounded && !was_empty &&
               (self->size >= self->size_max || size > self->size_max - self->size)) {
        err = ERR_BUSY;
    } else {
        *mail = (struct mail){.size = size};
        *self->tail = mail;
        self->tail = &mail->next;
        self->size += size;
    }
    unlock(self);
    if (err == ERR_OK && was_empty) {
        self->wake(self->arg);
    }
    return err;
}

enum err mailbox_post(struct mailbox *self, struct mail *mail, size_t size)
{
    return post(self, mail, size, true);
}

enum err mailbox_post_always(struct mailbox *self, struct mail *mail, size_t size)
{
    return post(self, mail, size, false);
}

struct mail *mailbox_take(struct mailbox *self)
{
    struct mail *head;

    lock(self);
    head = self->head;
    self->head = NULL;
    self->tail = &self->head;
    self->size = 0;
    unlock(self);
    return head;
}

void mailbox_close(struct mailbox *self)
{
    lock(self);
    self->closed = true;
    unlock(self);
}
