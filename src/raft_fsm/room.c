#include "raft_fsm/room.h"

#include <fcntl.h>
#include <inttypes.h>

#include "base/assert.h"

#define RESERVE_MAX (UINT64_C(256) << 20)
#define BALLAST_MAX (UINT64_C(64) << 20)

static const char ballast_name[] = "ballast";

/* ---- the ballast ---- */

/* Its path; false when that is too long, and then there is none. */
static bool ballast_path(const struct room *self, char path[IO_PATH_SIZE])
{
    return io_path(path, self->dir, ballast_name, NULL) == ERR_OK;
}

static void tell_no_ballast(const struct room *self, const struct err_info *info)
{
    char quoted[300];

    diag_event(self->diag, DIAG_WARN, "raft_fsm", "no_ballast", "reason=%s text=%s",
               err_name(info->code), diag_quote(quoted, sizeof quoted, info->text));
}

static void make_ballast(struct room *self)
{
    char path[IO_PATH_SIZE];
    struct err_info info;
    int fd = -1;
    int rv;

    ASSERT(!self->has_ballast && self->ballast_size > 0);
    if (!ballast_path(self, path)) {
        return;
    }
    if (io_open(self->io, path, O_RDWR | O_CREAT, &fd, &info) != ERR_OK) {
        tell_no_ballast(self, &info);
        return;
    }
    rv = self->io->allocate(self->io, fd, 0, self->ballast_size);
    io_close(self->io, &fd);
    if (rv < 0) {
        (void)io_error(rv, "allocate", path, &info);
        tell_no_ballast(self, &info);
        (void)self->io->unlink(self->io, path); /* What there is of it only takes room. */
        self->ballast_size = 0;                 /* Not tried again. */
        return;
    }
    self->has_ballast = true; /* I2 */
}

static void drop_ballast(struct room *self)
{
    char path[IO_PATH_SIZE];

    ASSERT(self->has_ballast);
    if (ballast_path(self, path)) {
        (void)self->io->unlink(self->io, path); /* A failure shows at the next check. */
    }
    self->has_ballast = false;
    diag_event(self->diag, DIAG_WARN, "raft_fsm", "ballast_given_up", "bytes=%" PRIu64,
               self->ballast_size);
}

/* Whether an earlier process left it whole. */
static void find_ballast(struct room *self)
{
    char path[IO_PATH_SIZE];
    uint64_t size = 0;
    int fd = -1;

    if (!ballast_path(self, path) || io_open(self->io, path, O_RDONLY, &fd, NULL) != ERR_OK) {
        return; /* None. */
    }
    if (self->io->size(self->io, fd, &size) == 0 && size == self->ballast_size) {
        self->has_ballast = true;
    }
    io_close(self->io, &fd);
    if (!self->has_ballast) {
        (void)self->io->unlink(self->io, path); /* Of another size: made anew when there is room. */
    }
}

/* ---- the state ---- */

static enum room_state state_of(const struct room *self)
{
    uint64_t reserve = self->reserve;

    switch (self->state) {
    case ROOM_PLENTY:
        if (self->free >= reserve) {
            return ROOM_PLENTY;
        }
        break;
    case ROOM_SHORT:
    case ROOM_CRITICAL:
        if (self->free >= reserve + reserve / 4) {
            return ROOM_PLENTY;
        }
        break;
    }
    if (self->free < reserve / 2) {
        return ROOM_CRITICAL;
    }
    return self->state == ROOM_CRITICAL && self->free < reserve / 4 * 3 ? ROOM_CRITICAL
                                                                        : ROOM_SHORT;
}

static void tell(const struct room *self)
{
    switch (self->state) {
    case ROOM_PLENTY:
        diag_event(self->diag, DIAG_INFO, "raft_fsm", "disk_has_room",
                   "free=%" PRIu64 " reserve=%" PRIu64, self->free, self->reserve);
        break;
    case ROOM_SHORT:
        diag_event(self->diag, DIAG_WARN, "raft_fsm", "disk_short",
                   "free=%" PRIu64 " reserve=%" PRIu64, self->free, self->reserve);
        break;
    case ROOM_CRITICAL:
        diag_event(self->diag, DIAG_WARN, "raft_fsm", "disk_nearly_full",
                   "free=%" PRIu64 " reserve=%" PRIu64, self->free, self->reserve);
        break;
    }
}

bool room_check(struct room *self)
{
    enum room_state before = self->state;

    self->written = 0;
    if (self->reserve == 0 ||
        self->io->free_space(self->io, self->dir, &self->free, &self->total) < 0) {
        return false; /* Not to be told: as before. */
    }
    self->state = state_of(self); /* I1 */
    if (self->has_ballast && self->free < self->reserve / 4) {
        drop_ballast(self);
    } else if (!self->has_ballast && self->ballast_size > 0 && self->state == ROOM_PLENTY &&
               self->free >= self->reserve + self->reserve / 4 + self->ballast_size) {
        make_ballast(self);
    }
    if (self->state != before) {
        tell(self);
    }
    return self->state != before;
}

bool room_wrote(struct room *self, uint64_t size)
{
    if (self->reserve == 0) {
        return false;
    }
    self->written += size;
    return self->written >= self->reserve / 16;
}

/* 0 where nothing can be told. */
static uint64_t default_reserve(const struct room *self)
{
    uint64_t free_size;
    uint64_t total;

    if (self->io->free_space(self->io, self->dir, &free_size, &total) < 0) {
        return 0;
    }
    return total / 20 < RESERVE_MAX ? total / 20 : RESERVE_MAX;
}

void room_init(struct room *self)
{
    ASSERT(self->io != NULL && self->dir != NULL);
    ASSERT(self->state == ROOM_PLENTY && !self->has_ballast);
    if (self->reserve == UINT64_MAX) {
        self->reserve = default_reserve(self);
    }
    if (self->reserve == 0) {
        return;
    }
    self->ballast_size = self->reserve / 4 < BALLAST_MAX ? self->reserve / 4 : BALLAST_MAX;
    self->ballast_size -= self->ballast_size % 4096;
    if (self->ballast_size > 0) {
        find_ballast(self);
    }
    (void)room_check(self); /* It is asked for. */
}
