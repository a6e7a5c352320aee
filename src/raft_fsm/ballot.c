#include "raft_fsm/ballot.h"

#include <fcntl.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

enum {
    BALLOT_VERSION = 1,
    SLOT_SIZE = BALLOT_SLOT_SIZE,
    SLOT_COUNT = BALLOT_SLOTS,
    FILE_SIZE = SLOT_SIZE * SLOT_COUNT,
    POSITION_VERSION = 4,
    POSITION_SEQUENCE = 8,
    POSITION_TERM = 16,
    POSITION_VOTE = 24,
    POSITION_NODE = 32,
    POSITION_CRC = 40,
    POSITION_END = 44,
};

static const char file_name[] = "ballot";

static void slot_encode(const struct ballot *self, uint8_t to[SLOT_SIZE])
{
    memset(to, 0, SLOT_SIZE);
    bytes_put_u32(to, BALLOT_MAGIC);
    bytes_put_u32(to + POSITION_VERSION, BALLOT_VERSION);
    bytes_put_u64(to + POSITION_SEQUENCE, self->sequence);
    bytes_put_u64(to + POSITION_TERM, self->term);
    bytes_put_u64(to + POSITION_VOTE, self->vote);
    bytes_put_u64(to + POSITION_NODE, self->node_id);
    bytes_put_u32(to + POSITION_CRC, crc32c(to, POSITION_CRC));
}

static struct ballot_slot slot_decode(const uint8_t from[SLOT_SIZE])
{
    struct ballot_slot slot = {
        .valid = bytes_get_u32(from) == BALLOT_MAGIC &&
                 bytes_get_u32(from + POSITION_CRC) == crc32c(from, POSITION_CRC),
        .version = bytes_get_u32(from + POSITION_VERSION),
        .sequence = bytes_get_u64(from + POSITION_SEQUENCE),
        .term = bytes_get_u64(from + POSITION_TERM),
        .vote = bytes_get_u64(from + POSITION_VOTE),
        .node_id = bytes_get_u64(from + POSITION_NODE),
    };

    for (size_t i = POSITION_END; i < SLOT_SIZE; i++) {
        slot.valid = slot.valid && from[i] == 0;
    }
    return slot;
}

static bool slots_equal(const struct ballot_slot *a, const struct ballot_slot *b)
{
    return a->sequence == b->sequence && a->term == b->term && a->vote == b->vote;
}

/* A ballot's file, where it is and whose it must be (0: anybody's). */
struct place {
    const char *path;
    uint64_t node_id;
};

static enum err check_slot(const struct place *place, const struct ballot_slot *slot,
                           struct err_info *info)
{
    if (slot->valid && slot->version != BALLOT_VERSION) {
        return err_set(info, ERR_VERSION, "'%s' has the unknown version %u", place->path,
                       slot->version);
    }
    if (slot->valid && place->node_id != 0 && slot->node_id != place->node_id) {
        return err_set(info, ERR_CORRUPT, "'%s' belongs to node %llu, not to node %llu",
                       place->path, (unsigned long long)slot->node_id,
                       (unsigned long long)place->node_id);
    }
    return ERR_OK;
}

/* The slot that counts. */
static enum err choose_slot(const struct place *place, struct ballot_contents *contents,
                            struct err_info *info)
{
    const struct ballot_slot *slots = contents->slots;

    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        enum err err = check_slot(place, &slots[i], info);

        if (err != ERR_OK) {
            return err;
        }
    }
    if (!slots[0].valid && !slots[1].valid) {
        return err_set(info, ERR_CORRUPT, "'%s' at 0 and at %d: neither slot is valid", place->path,
                       SLOT_SIZE);
    }
    /* B1: when both are whole they agree, or the second has not got the last write yet. */
    if (slots[0].valid && slots[1].valid && !slots_equal(&slots[0], &slots[1]) &&
        (slots[0].sequence != slots[1].sequence + 1 || slots[0].term < slots[1].term)) {
        return err_set(info, ERR_CORRUPT, "'%s': the two slots contradict each other", place->path);
    }
    contents->chosen = slots[0].valid ? 0 : 1;
    return ERR_OK;
}

static enum err read_slots(struct io *io, int fd, const struct place *place,
                           struct ballot_contents *contents, struct err_info *info)
{
    uint8_t bytes[FILE_SIZE];
    uint64_t file_size;
    size_t size;
    enum err err;
    int rv = io->size(io, fd, &file_size);

    *contents = (struct ballot_contents){.chosen = 0};
    if (rv < 0) {
        return io_error(rv, "stat", place->path, info);
    }
    err = io_read(io, fd, place->path, bytes, sizeof bytes, 0, &size, info);
    if (err != ERR_OK) {
        return err;
    }
    if (file_size != FILE_SIZE || size != FILE_SIZE) {
        return err_set(info, ERR_CORRUPT, "'%s' has %llu bytes, not %d", place->path,
                       (unsigned long long)file_size, FILE_SIZE);
    }
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        contents->slots[i] = slot_decode(bytes + (size_t)i * SLOT_SIZE);
    }
    return choose_slot(place, contents, info);
}

enum err ballot_read(struct io *io, const char *path, uint64_t node_id,
                     struct ballot_contents *ret_contents, struct err_info *info)
{
    const struct place place = {.path = path, .node_id = node_id};
    int fd = -1;
    enum err err = io_open(io, path, O_RDONLY, &fd, info);

    if (err == ERR_OK) {
        err = read_slots(io, fd, &place, ret_contents, info);
        io_close(io, &fd);
    }
    return err;
}

static enum err write_slot(struct ballot *self, unsigned slot, struct err_info *info)
{
    uint8_t bytes[SLOT_SIZE];
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};

    ASSERT(slot < SLOT_COUNT);
    slot_encode(self, bytes);
    return io_write(self->io, self->fd, self->path, &part, 1, (uint64_t)slot * SLOT_SIZE, RWF_DSYNC,
                    info);
}

static enum err load(struct ballot *self, struct err_info *info)
{
    const struct place place = {.path = self->path, .node_id = self->node_id};
    struct ballot_contents contents;
    const struct ballot_slot *chosen;
    enum err err = read_slots(self->io, self->fd, &place, &contents, info);

    if (err != ERR_OK) {
        return err;
    }
    chosen = &contents.slots[contents.chosen];
    self->sequence = chosen->sequence;
    self->term = chosen->term;
    self->vote = chosen->vote;
    /* Both, and the chosen one too: a process that died in its write may have left it in the
     * page cache only, and this ballot is acted on from now on (B2). In the order of every write:
     * the second slot must not get ahead of a first one that is not on the disk yet (B1). */
    err = write_slot(self, 0, info);
    return err == ERR_OK ? write_slot(self, 1, info) : err;
}

static enum err create_file(const struct ballot *self, const char *dir, struct err_info *info)
{
    uint8_t bytes[FILE_SIZE];

    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        slot_encode(self, bytes + (size_t)i * SLOT_SIZE);
    }
    return io_replace_file(self->io, dir, file_name, bytes, sizeof bytes, info);
}

enum err ballot_open(struct ballot *self, struct io *io, const char *dir, uint64_t node_id,
                     bool create, struct err_info *info)
{
    enum err err;

    ASSERT(node_id > 0);
    *self = (struct ballot){.io = io, .fd = -1, .node_id = node_id};
    err = io_path(self->path, dir, file_name, info);
    if (err != ERR_OK) {
        return err;
    }
    err = io_open(io, self->path, O_RDWR, &self->fd, info);
    if (err == ERR_NOT_FOUND && create) {
        err = create_file(self, dir, info);
        if (err == ERR_OK) {
            err = io_open(io, self->path, O_RDWR, &self->fd, info);
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    err = load(self, info);
    if (err != ERR_OK) {
        ballot_close(self);
    }
    return err;
}

void ballot_close(struct ballot *self)
{
    io_close(self->io, &self->fd);
}

enum err ballot_write(struct ballot *self, uint64_t term, uint64_t vote, struct err_info *info)
{
    enum err err;

    ASSERT(self->fd >= 0);
    ASSERT(term >= self->term);
    ASSERT(IMPLIES(term == self->term, self->vote == 0 || vote == self->vote));
    if (term == self->term && vote == self->vote) {
        return ERR_OK;
    }
    self->sequence++;
    self->term = term;
    self->vote = vote;
    err = write_slot(self, 0, info);
    if (err == ERR_OK) {
        err = write_slot(self, 1, info);
    }
    if (err != ERR_OK) {
        ballot_close(self); /* So that a second use is caught by the assertion above. */
    }
    return err;
}
