/*
 * Small files of a replica: the idioms of base/io.h, the ballot, the snapshot, the ballast.
 *
 * The promise: a file that is replaced is the old one or the new one; a ballot that was returned is
 * there, and none that nobody gave.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "lib/exhaust.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/manifest.h"
#include "raft_fsm/room.h"

static struct err_info info;

/* An error that a person gets says what failed. */
static enum err told(enum err err)
{
    ck_assert_msg(err == ERR_OK || info.text[0] != '\0', "%s without a text", err_name(err));
    info.text[0] = '\0';
    return err;
}

/* ---- a file that is replaced ---- */

static char old_text[6000];
static char new_text[9000];
static bool replaced; /* acknowledged */

static void prepare_nothing(struct io *io)
{
    (void)io;
    memset(old_text, 'o', sizeof old_text);
    memset(new_text, 'n', sizeof new_text);
    old_text[sizeof old_text - 1] = new_text[sizeof new_text - 1] = '\0';
    replaced = false;
    info.text[0] = '\0';
}

static void prepare_file(struct io *io)
{
    prepare_nothing(io);
    ck_assert_int_eq(io_replace_file(io, "/", "file", old_text, sizeof old_text, NULL), ERR_OK);
}

static enum err run_replace(struct io *io)
{
    enum err err = told(io_replace_file(io, "/", "file", new_text, sizeof new_text, &info));

    replaced = err == ERR_OK;
    return err;
}

static enum err read_file(struct io *io, struct buf *to)
{
    enum err err;

    buf_init(to, 20000);
    err = told(io_read_file(io, "/file", 20000, to, &info));
    if (err != ERR_OK) {
        buf_fini(to);
    }
    return err;
}

static enum err run_read(struct io *io)
{
    struct buf text;
    enum err err = read_file(io, &text);

    if (exhaust_may_retry(err)) {
        err = read_file(io, &text);
    }
    if (err == ERR_OK) {
        ck_assert_uint_eq(text.size, sizeof old_text);
        buf_fini(&text);
    }
    return err;
}

static bool holds(const struct buf *text, const char *wanted, size_t size)
{
    return text->size == size && memcmp(text->data, wanted, size) == 0;
}

static enum err recover_old_or_new(struct io *io)
{
    struct buf text;
    enum err err = read_file(io, &text);

    ck_assert(err == ERR_OK);
    ck_assert(holds(&text, new_text, sizeof new_text) ||
              (!replaced && holds(&text, old_text, sizeof old_text)));
    buf_fini(&text);
    return run_replace(io);
}

static enum err recover_none_or_new(struct io *io)
{
    struct buf text;
    enum err err = read_file(io, &text);

    ck_assert(err == ERR_OK || (err == ERR_NOT_FOUND && !replaced));
    if (err == ERR_OK) {
        ck_assert(holds(&text, new_text, sizeof new_text));
        buf_fini(&text);
    }
    return run_replace(io);
}

/* ---- directories ---- */

static bool made;

static enum err run_make_dir(struct io *io)
{
    enum err err = told(io_make_dir(io, "/", "dir", &info));

    made = err == ERR_OK;
    return err;
}

static bool is_there(struct io *io, const char *path)
{
    int fd = io->open(io, path, O_RDONLY | O_DIRECTORY, 0);

    if (fd >= 0) {
        (void)io->close(io, fd); /* Read only. */
    }
    ck_assert(fd >= 0 || fd == -ENOENT || exhaust_is_dead());
    return fd >= 0;
}

static enum err recover_made(struct io *io)
{
    ck_assert(exhaust_is_dead() || is_there(io, "/dir") || !made);
    return run_make_dir(io);
}

static void prepare_dir(struct io *io)
{
    prepare_nothing(io);
    made = true;
    ck_assert_int_eq(io_make_dir(io, "/", "dir", NULL), ERR_OK);
    for (char name[] = "a"; name[0] < 'e'; name[0]++) {
        ck_assert_int_eq(io_replace_file(io, "/dir", name, "text", 4, NULL), ERR_OK);
    }
}

static enum err run_remove_dir(struct io *io)
{
    enum err err = told(io_remove_dir(io, "/", "dir", &info));

    if (exhaust_may_retry(err)) {
        err = told(io_remove_dir(io, "/", "dir", &info));
    }
    made = made && err != ERR_OK;
    return err;
}

static enum err recover_removed(struct io *io)
{
    ck_assert(exhaust_is_dead() || made || !is_there(io, "/dir"));
    return run_remove_dir(io);
}

/* ---- the ballot ---- */

static struct {
    uint64_t term, vote;             /* returned or acknowledged */
    uint64_t tried_term, tried_vote; /* was being written; equal to the others if nothing was */
} ballot;

static void prepare_no_ballot(struct io *io)
{
    prepare_nothing(io);
    memset(&ballot, 0, sizeof ballot);
}

static enum err vote(struct ballot *self, uint64_t term, uint64_t vote)
{
    enum err err;

    ballot.tried_term = term;
    ballot.tried_vote = vote;
    err = told(ballot_write(self, term, vote, &info));
    if (err == ERR_OK) {
        ballot.term = term;
        ballot.vote = vote;
    }
    return err;
}

static enum err open_ballot(struct io *io, struct ballot *self)
{
    enum err err = told(ballot_open(self, io, "/", 7, true, &info));

    if (err == ERR_OK) {
        ck_assert((self->term == ballot.term && self->vote == ballot.vote) ||
                  (self->term == ballot.tried_term && self->vote == ballot.tried_vote));
        ballot.term = ballot.tried_term = self->term;
        ballot.vote = ballot.tried_vote = self->vote;
    }
    return err;
}

static void prepare_ballot(struct io *io)
{
    struct ballot self;

    prepare_no_ballot(io);
    ck_assert_int_eq(open_ballot(io, &self), ERR_OK);
    ck_assert_int_eq(vote(&self, 3, 2), ERR_OK);
    ballot_close(&self);
}

/* One of its slots is damaged. */
static void prepare_half_a_ballot(struct io *io)
{
    struct iovec part = {.iov_base = "damage", .iov_len = 6};
    int fd;

    prepare_ballot(io);
    ck_assert_int_eq(io_open(io, "/ballot", O_RDWR, &fd, NULL), ERR_OK);
    ck_assert_int_eq(io_write(io, fd, "", &part, 1, 10, RWF_DSYNC, NULL), ERR_OK);
    io_close(io, &fd);
}

static enum err run_open_ballot(struct io *io)
{
    struct ballot self;
    enum err err = open_ballot(io, &self);

    if (err == ERR_OK) {
        ballot_close(&self);
    }
    return err;
}

static enum err run_vote(struct io *io)
{
    struct ballot self;
    enum err err = open_ballot(io, &self);

    err = err == ERR_OK ? vote(&self, 4, 0) : err;
    err = err == ERR_OK ? vote(&self, 4, 7) : err;
    err = err == ERR_OK ? vote(&self, 9, 1) : err;
    ballot_close(&self); /* Fine after a failed open. */
    return err;
}

static enum err recover_ballot(struct io *io)
{
    struct ballot self;
    enum err err = open_ballot(io, &self);

    if (err == ERR_OK && exhaust_is_last()) {
        ck_assert_int_eq(vote(&self, 10, 5), ERR_OK);
    }
    ballot_close(&self);
    return err;
}

/* ---- the snapshot ---- */

static uint64_t saved_index; /* acknowledged */

static enum err save(struct io *io, uint64_t index, size_t size)
{
    struct snapshot snapshot = {.index = index, .term = index / 2, .membership_index = 1};
    enum err err;

    exhaust_pause();
    snapshot.membership.block = block_new(100);
    snapshot.manifest.block = block_new(size);
    exhaust_resume();
    memset(snapshot.membership.block->data, (int)index, 100);
    memset(snapshot.manifest.block->data, (int)index, size);
    snapshot.membership.data = snapshot.membership.block->data;
    snapshot.membership.size = 100;
    snapshot.manifest.data = snapshot.manifest.block->data;
    snapshot.manifest.size = size;
    err = told(snapshot_save(io, "/", &snapshot, &info));
    saved_index = err == ERR_OK ? index : saved_index;
    snapshot_fini(&snapshot);
    return err;
}

static void prepare_snapshot(struct io *io)
{
    prepare_nothing(io);
    saved_index = 0;
    ck_assert_int_eq(save(io, 5, 3000), ERR_OK);
}

static enum err run_save(struct io *io)
{
    enum err err = save(io, 9, 5000);

    return exhaust_may_retry(err) ? save(io, 9, 5000) : err;
}

static enum err load(struct io *io, uint64_t *ret_index)
{
    struct snapshot snapshot;
    enum err err = told(snapshot_load(io, "/", &snapshot, &info));

    if (err == ERR_OK) {
        ck_assert_uint_eq(snapshot.manifest.size, snapshot.index == 5 ? 3000 : 5000);
        ck_assert_int_eq(snapshot.manifest.data[2999], (int)snapshot.index);
        *ret_index = snapshot.index;
        snapshot_fini(&snapshot);
    }
    return err;
}

static enum err run_load(struct io *io)
{
    uint64_t index;
    enum err err = load(io, &index);

    return exhaust_may_retry(err) ? load(io, &index) : err;
}

static enum err recover_snapshot(struct io *io)
{
    uint64_t index;
    enum err err = load(io, &index);

    ck_assert_int_eq(err, ERR_OK);
    ck_assert(index == saved_index || (index == 9 && saved_index == 5));
    return save(io, 9, 5000);
}

/* ---- the ballast ---- */

static void prepare_short_ballast(struct io *io)
{
    prepare_nothing(io);
    ck_assert_int_eq(io_replace_file(io, "/", "ballast", old_text, sizeof old_text, NULL), ERR_OK);
}

/* There is plenty of room; what fails leaves it without a ballast, and with nothing else. */
static enum err run_room(struct io *io)
{
    struct room room = {.io = io, .dir = "/", .reserve = 400 * 1024};
    uint64_t size = 0;
    int fd;

    room_init(&room);
    ck_assert_int_eq(room.state, ROOM_PLENTY);
    if (room.has_ballast && (exhaust_is_last() || exhaust_heal())) { /* I2 */
        ck_assert_int_eq(io_open(io, "/ballast", O_RDONLY, &fd, NULL), ERR_OK);
        ck_assert_int_eq(io->size(io, fd, &size), 0);
        io_close(io, &fd);
        ck_assert_uint_eq(size, room.ballast_size);
    }
    return ERR_OK;
}

static enum err recover_room(struct io *io)
{
    struct room room = {.io = io, .dir = "/", .reserve = 400 * 1024};

    room_init(&room);
    ck_assert(room.has_ballast || !exhaust_is_last());
    return exhaust_is_last() ? run_room(io) : ERR_OK;
}

static const struct exhaust_scenario scenarios[] = {
    {"replace_file", prepare_file, run_replace, recover_old_or_new, EXHAUST_TWICE},
    {"replace_no_file", prepare_nothing, run_replace, recover_none_or_new, EXHAUST_TWICE},
    {"read_file", prepare_file, run_read, recover_old_or_new, 0},
    {"make_dir", prepare_nothing, run_make_dir, recover_made, EXHAUST_TWICE},
    {"remove_dir", prepare_dir, run_remove_dir, recover_removed, EXHAUST_TWICE},
    {"ballot_open_new", prepare_no_ballot, run_open_ballot, recover_ballot, EXHAUST_TWICE},
    {"ballot_open", prepare_ballot, run_open_ballot, recover_ballot, EXHAUST_TWICE},
    {"ballot_open_half", prepare_half_a_ballot, run_open_ballot, recover_ballot, EXHAUST_TWICE},
    {"ballot_write", prepare_ballot, run_vote, recover_ballot, EXHAUST_TWICE},
    {"ballot_create_and_write", prepare_no_ballot, run_vote, recover_ballot, EXHAUST_TWICE},
    {"snapshot_save", prepare_snapshot, run_save, recover_snapshot, EXHAUST_TWICE},
    {"snapshot_load", prepare_snapshot, run_load, recover_snapshot, 0},
    {"ballast", prepare_nothing, run_room, recover_room, EXHAUST_TWICE},
    {"ballast_of_another_size", prepare_short_ballast, run_room, recover_room, EXHAUST_TWICE},
};

int main(void)
{
    return exhaust_main("files", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
