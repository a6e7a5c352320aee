#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/room.h"
#include "sim/mem_io.h"

enum { RESERVE = 1 << 20 };

static struct mem_io disk;
static struct room room;

static void setup(void)
{
    mem_io_init(&disk);
    ck_assert_int_eq(disk.io.mkdir(&disk.io, "data", 0750), 0);
}

static void teardown(void)
{
    mem_io_fini(&disk);
}

static void open_room(uint64_t reserve)
{
    room = (struct room){.io = &disk.io, .dir = "data", .reserve = reserve};
    room_init(&room);
}

static uint64_t ballast(void)
{
    uint64_t size = 0;
    int fd = disk.io.open(&disk.io, "data/ballast", 0, 0);

    if (fd < 0) {
        return 0;
    }
    ck_assert_int_eq(disk.io.size(&disk.io, fd, &size), 0);
    ck_assert_int_eq(disk.io.close(&disk.io, fd), 0);
    return size;
}

static enum room_state state_at(uint64_t free_size)
{
    mem_io_set_free(&disk, free_size);
    (void)room_check(&room);
    return room.state;
}

START_TEST(without_a_reserve_nobody_looks)
{
    open_room(0);
    ck_assert_int_eq(state_at(0), ROOM_PLENTY);
    ck_assert_uint_eq(ballast(), 0);
    ck_assert(!room_wrote(&room, UINT64_MAX / 2));
}
END_TEST

START_TEST(the_marks_have_hysteresis)
{
    open_room(RESERVE);
    ck_assert_int_eq(state_at(RESERVE), ROOM_PLENTY);
    ck_assert_int_eq(state_at(RESERVE - 1), ROOM_SHORT);
    ck_assert_int_eq(state_at(RESERVE + RESERVE / 4 - 1), ROOM_SHORT);
    ck_assert_int_eq(state_at(RESERVE / 2), ROOM_SHORT);
    ck_assert_int_eq(state_at(RESERVE / 2 - 1), ROOM_CRITICAL);
    ck_assert_int_eq(state_at(RESERVE / 4 * 3 - 1), ROOM_CRITICAL);
    ck_assert_int_eq(state_at(RESERVE / 4 * 3), ROOM_SHORT);
    ck_assert_int_eq(state_at(RESERVE + RESERVE / 4), ROOM_PLENTY);
    ck_assert_int_eq(state_at(1), ROOM_CRITICAL);
    ck_assert_int_eq(state_at(RESERVE * 2), ROOM_PLENTY);
}
END_TEST

START_TEST(a_check_tells_whether_the_state_changed)
{
    open_room(RESERVE);
    mem_io_set_free(&disk, 1);
    ck_assert(room_check(&room));
    ck_assert(!room_check(&room));
    mem_io_set_free(&disk, RESERVE * 2);
    ck_assert(room_check(&room));
}
END_TEST

START_TEST(the_ballast_is_made_given_up_and_made_again)
{
    open_room(RESERVE);
    ck_assert_uint_eq(ballast(), RESERVE / 4);
    ck_assert_int_eq(state_at(RESERVE / 4), ROOM_CRITICAL);
    ck_assert_uint_eq(ballast(), RESERVE / 4);
    ck_assert_int_eq(state_at(RESERVE / 4 - 1), ROOM_CRITICAL);
    ck_assert_uint_eq(ballast(), 0);
    (void)room_check(&room);
    ck_assert_uint_eq(room.free, RESERVE / 4 - 1 + RESERVE / 4); /* Its room is there now. */
    ck_assert_int_eq(state_at(RESERVE + RESERVE / 2 - 1), ROOM_PLENTY);
    ck_assert_uint_eq(ballast(), 0); /* Made now, it would take the room that there is. */
    ck_assert_int_eq(state_at(RESERVE + RESERVE / 2), ROOM_PLENTY);
    ck_assert_uint_eq(ballast(), RESERVE / 4);
    ck_assert_int_eq(state_at(RESERVE + RESERVE / 4), ROOM_PLENTY);
}
END_TEST

START_TEST(a_ballast_that_is_there_is_kept_and_given_up_at_a_start_without_room)
{
    open_room(RESERVE);
    open_room(RESERVE);
    ck_assert(room.has_ballast);
    mem_io_set_free(&disk, 10);
    open_room(RESERVE);
    ck_assert_int_eq(room.state, ROOM_CRITICAL);
    ck_assert_uint_eq(ballast(), 0);
    mem_io_set_free(&disk, RESERVE * 4);
    open_room(RESERVE);
    open_room(RESERVE * 2); /* another size */
    ck_assert_uint_eq(ballast(), RESERVE / 2);
}
END_TEST

START_TEST(the_default_is_a_part_of_the_disk)
{
    mem_io_set_free(&disk, UINT64_C(1) << 30);
    open_room(UINT64_MAX);
    ck_assert_uint_eq(room.reserve, room.total / 20);
    mem_io_set_free(&disk, UINT64_C(1) << 40);
    open_room(UINT64_MAX);
    ck_assert_uint_eq(room.reserve, UINT64_C(256) << 20);
}
END_TEST

START_TEST(much_that_is_written_asks_for_a_check)
{
    open_room(RESERVE);
    ck_assert(!room_wrote(&room, RESERVE / 16 - 1));
    ck_assert(room_wrote(&room, 1));
    (void)room_check(&room);
    ck_assert(!room_wrote(&room, 1));
}
END_TEST

static int refuse_allocation(void *arg, struct mem_io_op *op)
{
    (void)arg;
    return op->kind == MEM_IO_ALLOCATE || op->kind == MEM_IO_FREE_SPACE ? 95 /* EOPNOTSUPP */ : 0;
}

START_TEST(a_disk_that_cannot_be_asked_is_as_it_was)
{
    open_room(RESERVE);
    ck_assert_int_eq(state_at(RESERVE - 1), ROOM_SHORT);
    mem_io_set_free(&disk, RESERVE * 9);
    mem_io_set_hook(&disk, refuse_allocation, NULL);
    ck_assert(!room_check(&room));
    ck_assert_int_eq(room.state, ROOM_SHORT);
    mem_io_set_hook(&disk, NULL, NULL);
    ck_assert(room_check(&room));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/room");
    TCase *tcase = tcase_create("room_check");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, without_a_reserve_nobody_looks);
    tcase_add_test(tcase, the_marks_have_hysteresis);
    tcase_add_test(tcase, a_check_tells_whether_the_state_changed);
    tcase_add_test(tcase, the_ballast_is_made_given_up_and_made_again);
    tcase_add_test(tcase, a_ballast_that_is_there_is_kept_and_given_up_at_a_start_without_room);
    tcase_add_test(tcase, the_default_is_a_part_of_the_disk);
    tcase_add_test(tcase, much_that_is_written_asks_for_a_check);
    tcase_add_test(tcase, a_disk_that_cannot_be_asked_is_as_it_was);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
