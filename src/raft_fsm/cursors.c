#include "raft_fsm/cursors.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "raft_fsm/table.h"

enum { KEY_NAME = 8, KEY_SIZE_MAX = KEY_NAME + CURSOR_NAME_SIZE_MAX };

/* A cursor in the table. */
struct row {
    struct cursor_position at;
    uint64_t topic_id;
    char *metadata; /* owned; NULL: empty */
    bool hashed;
    UT_hash_handle hh;
    size_t key_size;
    char key[]; /* topic id u64 | name; and a zero that the size does not count */
};

struct cursors {
    pthread_mutex_t lock; /* Guards rows against the raft thread's changes. */
    struct row *rows;
};

static void lock(struct cursors *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

static void unlock(struct cursors *self)
{
    int rv = pthread_mutex_unlock(&self->lock);

    ASSERT(rv == 0);
}

enum err cursors_new(struct cursors **ret_cursors)
{
    struct cursors *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return ERR_NOMEM;
    }
    if (pthread_mutex_init(&self->lock, NULL) != 0) {
        free(self);
        return ERR_NOMEM;
    }
    *ret_cursors = self;
    return ERR_OK;
}

static void free_row(struct row *row)
{
    free(row->metadata);
    free(row);
}

void cursors_free(struct cursors *self)
{
    struct row *row;
    struct row *next;
    int rv;

    if (self == NULL) {
        return;
    }
    HASH_ITER(hh, self->rows, row, next)
    {
        HASH_DELETE(hh, self->rows, row);
        free_row(row);
    }
    rv = pthread_mutex_destroy(&self->lock);
    ASSERT(rv == 0);
    free(self);
}

/* ---- rows ---- */

static const char *name_of(const struct row *row)
{
    return row->key + KEY_NAME;
}

static size_t make_key(char key[KEY_SIZE_MAX], uint64_t topic_id, const char *name)
{
    size_t size = strlen(name);

    ASSERT(size > 0 && size <= CURSOR_NAME_SIZE_MAX);
    bytes_put_u64((uint8_t *)key, topic_id);
    memcpy(key + KEY_NAME, name, size);
    return KEY_NAME + size;
}

static struct row *find(const struct cursors *self, uint64_t topic_id, const char *name)
{
    char key[KEY_SIZE_MAX];
    size_t size = make_key(key, topic_id, name);
    struct row *row;

    HASH_FIND(hh, self->rows, key, size, row);
    ASSERT(IMPLIES(row != NULL, row->topic_id == topic_id && strcmp(name_of(row), name) == 0));
    return row;
}

/* Not in the table yet. */
static struct row *new_row(uint64_t topic_id, const char *name)
{
    char key[KEY_SIZE_MAX];
    size_t size = make_key(key, topic_id, name);
    struct row *row = calloc(1, sizeof *row + size + 1);

    if (row != NULL) {
        row->topic_id = topic_id;
        row->key_size = size;
        memcpy(row->key, key, size);
    }
    return row;
}

static enum err copy_metadata(const char *metadata, char **ret_copy)
{
    char *copy = metadata[0] == '\0' ? NULL : strdup(metadata);

    ASSERT(strlen(metadata) <= CURSOR_METADATA_SIZE_MAX);
    if (copy == NULL && metadata[0] != '\0') {
        return ERR_NOMEM;
    }
    *ret_copy = copy;
    return ERR_OK;
}

static void show(const struct row *row, struct cursor *ret_cursor)
{
    *ret_cursor = (struct cursor){.topic_id = row->topic_id, .at = row->at};
    memcpy(ret_cursor->name, name_of(row), row->key_size - KEY_NAME);
    if (row->metadata != NULL) {
        memcpy(ret_cursor->metadata, row->metadata, strlen(row->metadata));
    }
}

/* Takes metadata over on success. Complete before others can see it. */
static enum err add(struct cursors *self, uint64_t topic_id, const char *name,
                    const struct cursor_position *at, char *metadata)
{
    struct row *row = new_row(topic_id, name);

    if (row == NULL) {
        return ERR_NOMEM;
    }
    row->at = *at;
    row->metadata = metadata;
    row->hashed = true;
    lock(self);
    HASH_ADD_KEYPTR(hh, self->rows, row->key, row->key_size, row);
    unlock(self);
    if (!row->hashed) {
        row->metadata = NULL; /* It stays the caller's. */
        free_row(row);
        return ERR_NOMEM;
    }
    return ERR_OK;
}

static void take_out(struct cursors *self, struct row *row)
{
    lock(self);
    HASH_DELETE(hh, self->rows, row);
    unlock(self);
    free_row(row);
}

/* ---- changes ---- */

static bool is_expected(const struct row *row, const struct cursor_change *change)
{
    switch (change->expect) {
    case CURSOR_EXPECT_ANY:
        return true;
    case CURSOR_EXPECT_REVISION:
        return change->expected == (row == NULL ? 0 : row->at.revision);
    case CURSOR_EXPECT_OFFSET:
        return row != NULL && row->at.offset == change->expected;
    }
    ASSERT(false); /* The reader gives no other. */
    return false;
}

static struct cursor_position position_of(const struct row *row)
{
    return row == NULL ? (struct cursor_position){0} : row->at;
}

/* What the decision is before anything is made. */
static enum err decide_set(const struct cursors *self, const struct row *row,
                           const struct cursor_stamp *stamp, const struct cursor_change *change)
{
    if (!is_expected(row, change)) {
        return ERR_CURSOR_CONFLICT;
    }
    if (change->offset > stamp->topic_end) {
        return ERR_RANGE; /* C2 */
    }
    if (row == NULL && HASH_COUNT(self->rows) >= CURSORS_MAX) {
        return ERR_LIMIT; /* C3 */
    }
    return ERR_OK;
}

enum err cursors_set(struct cursors *self, const struct cursor_stamp *stamp,
                     const struct cursor_change *change, struct cursor_position *ret_position)
{
    struct row *row = find(self, stamp->topic_id, change->name);
    const struct cursor_position at = {.offset = change->offset,
                                       .revision = stamp->revision,
                                       .owner = change->owner,
                                       .updated_time_us = stamp->time_us};
    char *metadata = NULL;
    char *before = NULL;
    enum err err = decide_set(self, row, stamp, change);

    ASSERT(stamp->revision > 0);
    ASSERT(IMPLIES(row != NULL, row->at.revision < stamp->revision)); /* C1 */
    *ret_position = position_of(row);
    if (err != ERR_OK) {
        return err;
    }
    err = copy_metadata(change->metadata, &metadata);
    if (err != ERR_OK) {
        return err;
    }
    if (row == NULL) {
        err = add(self, stamp->topic_id, change->name, &at, metadata);
        if (err != ERR_OK) {
            free(metadata);
            return err;
        }
    } else {
        lock(self);
        before = row->metadata;
        row->metadata = metadata;
        row->at = at;
        unlock(self);
        free(before);
    }
    *ret_position = at;
    return ERR_OK;
}

enum err cursors_delete(struct cursors *self, uint64_t topic_id, const struct cursor_change *change,
                        struct cursor_position *ret_position)
{
    struct row *row = find(self, topic_id, change->name);

    *ret_position = position_of(row);
    if (row == NULL) {
        return ERR_CURSOR_UNKNOWN;
    }
    if (!is_expected(row, change)) {
        return ERR_CURSOR_CONFLICT;
    }
    take_out(self, row);
    *ret_position = (struct cursor_position){0};
    return ERR_OK;
}

void cursors_forget_topic(struct cursors *self, uint64_t topic_id)
{
    struct row *row;
    struct row *next;

    HASH_ITER(hh, self->rows, row, next)
    {
        if (row->topic_id == topic_id) {
            take_out(self, row);
        }
    }
}

void cursors_exchange(struct cursors *self, struct cursors *other)
{
    struct row *rows = other->rows;

    ASSERT(self != other);
    other->rows = self->rows; /* Front threads do not know the other one. */
    lock(self);
    self->rows = rows;
    unlock(self);
}

size_t cursors_count(const struct cursors *self)
{
    return HASH_COUNT(self->rows);
}

/* ---- order ---- */

static int compare_place(uint64_t topic_id, const char *name, uint64_t other_id, const char *other)
{
    if (topic_id != other_id) {
        return topic_id < other_id ? -1 : 1;
    }
    return strcmp(name, other);
}

static int compare_rows(const void *a, const void *b)
{
    const struct row *const *left = a;
    const struct row *const *right = b;

    return compare_place((*left)->topic_id, name_of(*left), (*right)->topic_id, name_of(*right));
}

enum err cursors_visit(const struct cursors *self,
                       enum err (*visit)(void *arg, const struct cursor *cursor), void *arg)
{
    size_t count = HASH_COUNT(self->rows);
    const struct row **rows;
    const struct row *row;
    enum err err = ERR_OK;
    size_t i = 0;

    if (count == 0) {
        return ERR_OK;
    }
    rows = malloc(count * sizeof *rows);
    if (rows == NULL) {
        return ERR_NOMEM;
    }
    for (row = self->rows; row != NULL; row = row->hh.next) {
        ASSERT(i < count);
        rows[i++] = row;
    }
    ASSERT(i == count);
    qsort(rows, count, sizeof *rows, compare_rows);
    for (i = 0; i < count && err == ERR_OK; i++) {
        struct cursor cursor;

        show(rows[i], &cursor);
        err = visit(arg, &cursor);
    }
    free(rows);
    return err;
}

enum err cursors_restore(struct cursors *self, const struct cursor *cursor)
{
    char *metadata;
    enum err err;

    if (cursor_name_check(cursor->name, strlen(cursor->name), NULL) != ERR_OK ||
        cursor->at.revision == 0 || HASH_COUNT(self->rows) >= CURSORS_MAX ||
        find(self, cursor->topic_id, cursor->name) != NULL) {
        return ERR_CORRUPT;
    }
    err = copy_metadata(cursor->metadata, &metadata);
    if (err != ERR_OK) {
        return err;
    }
    err = add(self, cursor->topic_id, cursor->name, &cursor->at, metadata);
    if (err != ERR_OK) {
        free(metadata);
    }
    return err;
}

static enum err copy_one(void *arg, const struct cursor *cursor)
{
    return cursors_restore(arg, cursor);
}

enum err cursors_copy(const struct cursors *self, struct cursors **ret_copy)
{
    struct cursors *copy;
    enum err err = cursors_new(&copy);

    if (err != ERR_OK) {
        return err;
    }
    err = cursors_visit(self, copy_one, copy);
    ASSERT(err != ERR_CORRUPT); /* What is visited can be restored. */
    if (err != ERR_OK) {
        cursors_free(copy);
        return err;
    }
    *ret_copy = copy;
    return ERR_OK;
}

void cursors_check(const struct cursors *self)
{
    size_t count = 0;

    for (const struct row *row = self->rows; row != NULL; row = row->hh.next) {
        ASSERT(row->at.revision > 0); /* C1 */
        ASSERT(find(self, row->topic_id, name_of(row)) == row);
        count++;
    }
    ASSERT(count == HASH_COUNT(self->rows) && count <= CURSORS_MAX); /* C3 */
}

/* ---- any thread ---- */

bool cursors_find(struct cursors *self, uint64_t topic_id, const char *name,
                  struct cursor *ret_cursor)
{
    const struct row *row;

    lock(self);
    row = find(self, topic_id, name);
    if (row != NULL) {
        show(row, ret_cursor);
    }
    unlock(self);
    return row != NULL;
}

/* The rows that are first in order, gathered one by one; `more` when some did not fit. */
struct first {
    const struct row **rows;
    size_t count;
    size_t size_max;
    bool more;
};

static void gather(struct first *first, const struct row *row)
{
    size_t at = first->count;

    if (first->count == first->size_max) {
        first->more = true;
        if (compare_rows(&row, &first->rows[first->count - 1]) > 0) {
            return;
        }
        at--; /* The last one makes room. */
    } else {
        first->count++;
    }
    while (at > 0 && compare_rows(&row, &first->rows[at - 1]) < 0) {
        first->rows[at] = first->rows[at - 1];
        at--;
    }
    first->rows[at] = row;
}

enum err cursors_list(struct cursors *self, struct cursors_page *page)
{
    struct first first = {.size_max = page->size_max};

    ASSERT(page->size_max > 0 && page->after_name != NULL);
    first.rows = malloc(page->size_max * sizeof *first.rows);
    if (first.rows == NULL) {
        return ERR_NOMEM;
    }
    lock(self);
    for (const struct row *row = self->rows; row != NULL; row = row->hh.next) {
        if ((page->topic_id == 0 || row->topic_id == page->topic_id) &&
            compare_place(row->topic_id, name_of(row), page->after_topic_id, page->after_name) >
                0) {
            gather(&first, row);
        }
    }
    for (size_t i = 0; i < first.count; i++) {
        show(first.rows[i], &page->cursors[i]);
    }
    unlock(self);
    page->count = first.count;
    page->more = first.more;
    free(first.rows);
    return ERR_OK;
}
