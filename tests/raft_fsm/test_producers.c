#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "lib/runner.h"
#include "raft_fsm/producers.h"

static struct producers *producers;

static void setup(void)
{
    ck_assert_int_eq(producers_new(&producers), ERR_OK);
}

static void teardown(void)
{
    producers_check(producers);
    producers_free(producers);
}

static uint64_t init(int64_t now_us)
{
    uint64_t id;
    uint16_t epoch;

    ck_assert_int_eq(producers_init(producers, now_us, &id, &epoch), ERR_OK);
    ck_assert_uint_eq(epoch, 0);
    return id;
}

static struct batch_header batch(uint64_t id, uint32_t sequence, uint32_t count, uint32_t crc)
{
    return (struct batch_header){
        .producer_id = id, .base_sequence = sequence, .record_count = count, .body_crc32c = crc};
}

static enum err decide(uint64_t topic, struct batch_header header)
{
    struct window_batch before;

    return producers_decide(producers, topic, 1, &header, &before);
}

/* Decided to be next, and noted at `offset`. */
static void write_batch(uint64_t topic, struct batch_header header, uint64_t offset, int64_t now_us)
{
    ck_assert_int_eq(decide(topic, header), ERR_OK);
    header.base_offset = offset;
    header.raft_index = offset + 10;
    header.raft_term = 3;
    header.append_time_us = now_us;
    ck_assert_int_eq(producers_note(producers, topic, now_us, &header), ERR_OK);
}

/* ---- what is decided ---- */

START_TEST(ids_count_up)
{
    ck_assert_uint_eq(init(1), 1);
    ck_assert_uint_eq(init(1), 2);
    ck_assert_uint_eq(init(2), 3);
    ck_assert_uint_eq(producers_next_id(producers), 4);
}
END_TEST

START_TEST(a_first_batch_has_sequence_0)
{
    uint64_t id = init(1);

    ck_assert_int_eq(decide(7, batch(id, 1, 1, 0)), ERR_SEQUENCE_GAP);
    ck_assert_int_eq(decide(7, batch(id, 0xffffffff, 1, 0)), ERR_SEQUENCE_GAP);
    ck_assert_int_eq(decide(7, batch(id + 1, 0, 1, 0)), ERR_PRODUCER_UNKNOWN);
    ck_assert_int_eq(decide(7, batch(id, 0, 1, 0)), ERR_OK);
}
END_TEST

START_TEST(each_topic_has_its_own_sequence)
{
    uint64_t id = init(1);

    write_batch(7, batch(id, 0, 5, 1), 0, 1);
    write_batch(8, batch(id, 0, 2, 1), 0, 1);
    ck_assert_int_eq(decide(7, batch(id, 5, 1, 0)), ERR_OK);
    ck_assert_int_eq(decide(8, batch(id, 5, 1, 0)), ERR_SEQUENCE_GAP);
    producers_forget_topic(producers, 7);
    ck_assert_int_eq(decide(7, batch(id, 5, 1, 0)), ERR_SEQUENCE_GAP);
    ck_assert_int_eq(decide(7, batch(id, 0, 1, 0)), ERR_OK);
    ck_assert_int_eq(decide(8, batch(id, 2, 1, 0)), ERR_OK);
}
END_TEST

START_TEST(a_batch_that_was_written_is_found_again)
{
    uint64_t id = init(1);
    struct batch_header again = batch(id, 3, 2, 222);
    struct window_batch before;

    write_batch(7, batch(id, 0, 3, 111), 40, 5);
    write_batch(7, again, 60, 6);
    write_batch(7, batch(id, 5, 1, 333), 70, 7);
    ck_assert_int_eq(producers_decide(producers, 7, 8, &again, &before), ERR_EXISTS);
    ck_assert_uint_eq(before.base_offset, 60);
    ck_assert_uint_eq(before.record_count, 2);
    ck_assert_uint_eq(before.raft_index, 70);
    ck_assert_uint_eq(before.raft_term, 3);
    ck_assert_int_eq(before.append_time_us, 6);
}
END_TEST

START_TEST(other_contents_for_a_sequence_are_a_reuse)
{
    uint64_t id = init(1);

    write_batch(7, batch(id, 0, 3, 111), 0, 1);
    write_batch(7, batch(id, 3, 3, 222), 3, 1);
    ck_assert_int_eq(decide(7, batch(id, 3, 3, 999)), ERR_SEQUENCE_REUSED);
    ck_assert_int_eq(decide(7, batch(id, 3, 2, 222)), ERR_SEQUENCE_REUSED);
    ck_assert_int_eq(decide(7, batch(id, 4, 3, 222)), ERR_SEQUENCE_REUSED);
    ck_assert_int_eq(decide(7, batch(id, 0, 6, 111)), ERR_SEQUENCE_REUSED);
    ck_assert_int_eq(decide(7, batch(id, 7, 1, 1)), ERR_SEQUENCE_GAP);
}
END_TEST

START_TEST(what_was_never_written_is_not_called_old)
{
    uint64_t id = init(1);

    write_batch(7, batch(id, 0, 10, 1), 0, 1);
    ck_assert_int_eq(decide(7, batch(id, 0xffffffff, 1, 1)), ERR_SEQUENCE_GAP);
    ck_assert_int_eq(decide(7, batch(id, 0xfffffff0, 1, 1)), ERR_SEQUENCE_GAP);
}
END_TEST

START_TEST(the_window_forgets_the_oldest)
{
    uint64_t id = init(1);

    for (uint32_t i = 0; i < PRODUCERS_WINDOW; i++) {
        write_batch(7, batch(id, i, 1, i), i, 1);
    }
    ck_assert_int_eq(decide(7, batch(id, 0, 1, 0)), ERR_EXISTS);
    write_batch(7, batch(id, PRODUCERS_WINDOW, 1, 0), PRODUCERS_WINDOW, 1);
    ck_assert_int_eq(decide(7, batch(id, 0, 1, 0)), ERR_DUPLICATE_OLD);
    ck_assert_int_eq(decide(7, batch(id, 1, 1, 1)), ERR_EXISTS);
    ck_assert_int_eq(decide(7, batch(id, 0xffffffff, 1, 0)), ERR_SEQUENCE_GAP);
}
END_TEST

START_TEST(sequences_wrap_at_2_to_the_32)
{
    uint64_t id = init(1);
    struct batch_header wraps;

    write_batch(7, batch(id, 0, 0xfffffffe, 1), 0, 1);
    wraps = batch(id, 0xfffffffe, 5, 2);
    write_batch(7, wraps, 0xfffffffe, 1);
    ck_assert_int_eq(decide(7, batch(id, 3, 1, 1)), ERR_OK);
    ck_assert_int_eq(decide(7, batch(id, 4, 1, 1)), ERR_SEQUENCE_GAP);
    ck_assert_int_eq(decide(7, batch(id, 0, 1, 1)), ERR_SEQUENCE_REUSED);
    ck_assert_int_eq(decide(7, wraps), ERR_EXISTS);
    write_batch(7, batch(id, 3, 1, 3), UINT64_C(0x100000003), 1);
    ck_assert_int_eq(decide(7, wraps), ERR_EXISTS);
}
END_TEST

START_TEST(epochs_fence)
{
    const struct producer_view view = {.id = 5, .epoch = 3, .used_time_us = 1};
    struct batch_header header = batch(5, 0, 1, 1);

    producers_set_next_id(producers, 9);
    ck_assert_int_eq(producers_restore_producer(producers, &view), ERR_OK);
    header.producer_epoch = 2;
    ck_assert_int_eq(decide(7, header), ERR_FENCED);
    header.producer_epoch = 4;
    ck_assert_int_eq(decide(7, header), ERR_PRODUCER_UNKNOWN);
    header.producer_epoch = 3;
    ck_assert_int_eq(decide(7, header), ERR_OK);
}
END_TEST

START_TEST(a_raised_epoch_fences_and_keeps_the_window)
{
    uint64_t id = init(1);
    struct producer_claim claim = {.id = id};
    struct batch_header header = batch(id, 0, 3, 111);
    uint16_t epoch = 0;

    write_batch(7, header, 40, 5);
    ck_assert_int_eq(producers_raise(producers, 6, &claim, &epoch), ERR_OK);
    ck_assert_uint_eq(epoch, 1);
    ck_assert_uint_eq(producers_records(producers, id, 7), 3);
    ck_assert_uint_eq(producers_records(producers, id, 8), 0);
    ck_assert_int_eq(decide(7, header), ERR_FENCED); /* also a retry of what was written */
    ck_assert_int_eq(decide(7, batch(id, 3, 1, 1)), ERR_FENCED);
    header.producer_epoch = 1;
    ck_assert_int_eq(decide(7, header), ERR_EXISTS);
    header = batch(id, 3, 1, 1);
    header.producer_epoch = 1;
    ck_assert_int_eq(decide(7, header), ERR_OK);
    header.base_sequence = 0;
    ck_assert_int_eq(decide(8, header), ERR_OK);
}
END_TEST

START_TEST(a_claim_of_an_epoch_holds_only_for_the_newest)
{
    uint64_t id = init(1);
    struct producer_claim claim = {.id = id, .has_epoch = true};
    uint16_t epoch = 77;

    ck_assert_int_eq(producers_raise(producers, 1, &claim, &epoch), ERR_OK);
    ck_assert_int_eq(producers_raise(producers, 1, &claim, &epoch), ERR_FENCED);
    claim.epoch = 2;
    ck_assert_int_eq(producers_raise(producers, 1, &claim, &epoch), ERR_PRODUCER_UNKNOWN);
    claim.id = id + 1;
    ck_assert_int_eq(producers_raise(producers, 1, &claim, &epoch), ERR_PRODUCER_UNKNOWN);
    ck_assert_uint_eq(epoch, 1);
    claim = (struct producer_claim){.id = id, .has_epoch = true, .epoch = 1};
    ck_assert_int_eq(producers_raise(producers, 1, &claim, &epoch), ERR_OK);
    ck_assert_uint_eq(epoch, 2);
}
END_TEST

START_TEST(epochs_do_not_wrap)
{
    const struct producer_view view = {.id = 5, .epoch = UINT16_MAX - 1, .used_time_us = 1};
    const struct producer_claim claim = {.id = 5};
    uint16_t epoch = 0;

    producers_set_next_id(producers, 9);
    ck_assert_int_eq(producers_restore_producer(producers, &view), ERR_OK);
    ck_assert_int_eq(producers_raise(producers, 1, &claim, &epoch), ERR_OK);
    ck_assert_uint_eq(epoch, UINT16_MAX);
    ck_assert_int_eq(producers_raise(producers, 1, &claim, &epoch), ERR_EPOCHS_USED_UP);
}
END_TEST

START_TEST(a_claim_counts_as_use)
{
    const int64_t start = PRODUCERS_IDLE_US;
    const struct producer_claim claim = {.id = 1};
    uint64_t id = 0;
    uint16_t epoch = 0;

    for (unsigned i = 0; i < PRODUCERS_MAX; i++) {
        (void)init(start);
    }
    ck_assert_int_eq(producers_raise(producers, start + 10, &claim, &epoch), ERR_OK);
    ck_assert_int_eq(producers_init(producers, start + PRODUCERS_IDLE_US, &id, &epoch), ERR_OK);
    ck_assert_uint_eq(producers_count(producers).producers, 2);
    ck_assert_int_eq(decide(7, batch(1, 0, 1, 1)), ERR_FENCED); /* It is still known. */
}
END_TEST

/* ---- limits ---- */

START_TEST(idle_producers_make_room)
{
    const int64_t start = PRODUCERS_IDLE_US;
    uint64_t id = 0;
    uint16_t epoch = 0;

    for (unsigned i = 0; i < PRODUCERS_MAX; i++) {
        (void)init(start + (i < 3 ? 0 : 100)); /* known: i + 1 */
    }
    write_batch(7, batch(2, 0, 1, 1), 0, start + 150);
    ck_assert_int_eq(producers_init(producers, start + PRODUCERS_IDLE_US - 1, &id, &epoch),
                     ERR_LIMIT);
    ck_assert_int_eq(producers_init(producers, start + PRODUCERS_IDLE_US, &id, &epoch), ERR_OK);
    ck_assert_uint_eq(id, PRODUCERS_MAX + 1);
    ck_assert_uint_eq(producers_count(producers).producers, PRODUCERS_MAX - 1);
    ck_assert_int_eq(decide(7, batch(1, 0, 1, 1)), ERR_PRODUCER_UNKNOWN);
    ck_assert_int_eq(decide(7, batch(2, 0, 1, 1)), ERR_EXISTS);
    ck_assert_int_eq(decide(7, batch(3, 0, 1, 1)), ERR_PRODUCER_UNKNOWN);
    ck_assert_int_eq(decide(7, batch(4, 0, 1, 1)), ERR_OK);
}
END_TEST

/* A snapshot has them by id; who is idle does not depend on that. */
START_TEST(idle_producers_make_room_after_a_restore)
{
    struct producer_view view = {0};
    uint64_t id;
    uint16_t epoch;

    producers_set_next_id(producers, PRODUCERS_MAX + 1);
    for (view.id = 1; view.id <= PRODUCERS_MAX; view.id++) {
        view.used_time_us = PRODUCERS_IDLE_US + (view.id == 2 || view.id == 500 ? 0 : 100);
        ck_assert_int_eq(producers_restore_producer(producers, &view), ERR_OK);
    }
    ck_assert_int_eq(producers_init(producers, PRODUCERS_IDLE_US * 2, &id, &epoch), ERR_OK);
    ck_assert_uint_eq(producers_count(producers).producers, PRODUCERS_MAX - 1);
    ck_assert_int_eq(decide(7, batch(2, 0, 1, 1)), ERR_PRODUCER_UNKNOWN);
    ck_assert_int_eq(decide(7, batch(500, 0, 1, 1)), ERR_PRODUCER_UNKNOWN);
    ck_assert_int_eq(decide(7, batch(1, 0, 1, 1)), ERR_OK);
}
END_TEST

START_TEST(all_windows_together_are_bounded)
{
    const uint64_t full = PRODUCERS_BATCHES_MAX / PRODUCERS_WINDOW;
    struct window_batch batches[PRODUCERS_WINDOW] = {0};
    const struct producer_view first = {.id = 1, .used_time_us = PRODUCERS_IDLE_US};
    const struct producer_view second = {.id = 2, .used_time_us = PRODUCERS_IDLE_US + 10};
    struct batch_header next = batch(2, PRODUCERS_WINDOW, 1, 9);
    struct batch_header fresh = batch(2, 0, 1, 9);
    struct window_batch before;
    int64_t now_us = PRODUCERS_IDLE_US + 20;

    for (uint32_t i = 0; i < PRODUCERS_WINDOW; i++) {
        batches[i] = (struct window_batch){.base_sequence = i, .record_count = 1, .base_offset = i};
    }
    producers_set_next_id(producers, 3);
    ck_assert_int_eq(producers_restore_producer(producers, &first), ERR_OK);
    ck_assert_int_eq(producers_restore_producer(producers, &second), ERR_OK);
    for (uint64_t topic = 0; topic < full - 1; topic++) {
        ck_assert_int_eq(producers_restore_window(producers, 1, topic, PRODUCERS_WINDOW, batches,
                                                  PRODUCERS_WINDOW),
                         ERR_OK);
    }
    ck_assert_int_eq(
        producers_restore_window(producers, 2, 0, PRODUCERS_WINDOW, batches, PRODUCERS_WINDOW),
        ERR_OK);
    ck_assert_uint_eq(producers_count(producers).batches, PRODUCERS_BATCHES_MAX);
    ck_assert_int_eq(producers_restore_window(producers, 2, 1, 1, batches, 1), ERR_CORRUPT);
    ck_assert_int_eq(producers_decide(producers, 1, now_us, &fresh, &before), ERR_LIMIT);
    ck_assert_int_eq(producers_decide(producers, 0, now_us, &next, &before), ERR_OK);
    next.base_offset = 1000;
    ck_assert_int_eq(producers_note(producers, 0, now_us, &next), ERR_OK);
    ck_assert_uint_eq(producers_count(producers).batches, PRODUCERS_BATCHES_MAX);
    now_us = PRODUCERS_IDLE_US * 2; /* the first has been idle for long enough */
    ck_assert_int_eq(producers_decide(producers, 1, now_us, &fresh, &before), ERR_OK);
    ck_assert_uint_eq(producers_count(producers).batches, PRODUCERS_WINDOW);
    ck_assert_int_eq(producers_note(producers, 1, now_us, &fresh), ERR_OK);
}
END_TEST

/* ---- visiting and restoring ---- */

struct dump {
    uint64_t bytes[60000];
    size_t size;
    uint64_t producer_id;
};

static void put(struct dump *dump, uint64_t value)
{
    ck_assert_uint_lt(dump->size, sizeof dump->bytes / sizeof dump->bytes[0]);
    dump->bytes[dump->size++] = value;
}

static enum err dump_producer(void *arg, const struct producer_view *producer)
{
    struct dump *dump = arg;

    ck_assert_uint_gt(producer->id, dump->producer_id);
    dump->producer_id = producer->id;
    put(dump, producer->id);
    put(dump, producer->epoch);
    put(dump, (uint64_t)producer->used_time_us);
    return ERR_OK;
}

static enum err dump_window(void *arg, uint64_t topic_id, uint64_t records,
                            const struct window_batch *batches, unsigned count)
{
    struct dump *dump = arg;

    put(dump, topic_id);
    put(dump, records);
    for (unsigned i = 0; i < count; i++) {
        put(dump, batches[i].base_sequence);
        put(dump, batches[i].record_count);
        put(dump, batches[i].base_offset);
        put(dump, batches[i].body_crc32c);
        put(dump, batches[i].raft_index);
        put(dump, batches[i].raft_term);
        put(dump, (uint64_t)batches[i].append_time_us);
    }
    return ERR_OK;
}

static void take_dump(const struct producers *from, struct dump *ret_dump)
{
    const struct producers_visitor visitor = {
        .arg = ret_dump, .producer = dump_producer, .window = dump_window};

    *ret_dump = (struct dump){0};
    put(ret_dump, producers_next_id(from));
    ck_assert_int_eq(producers_visit(from, &visitor), ERR_OK);
}

START_TEST(impossible_things_are_not_restored)
{
    struct producer_view view = {.id = 3};
    struct window_batch batches[2] = {
        {.base_sequence = 5, .record_count = 2, .base_offset = 10, .raft_index = 4},
        {.base_sequence = 7, .record_count = 1, .base_offset = 12, .raft_index = 4},
    };
    struct window_batch wrong[2];

    producers_set_next_id(producers, 3);
    ck_assert_int_eq(producers_restore_producer(producers, &view), ERR_CORRUPT); /* not given out */
    view.id = 0;
    ck_assert_int_eq(producers_restore_producer(producers, &view), ERR_CORRUPT);
    view.id = 2;
    ck_assert_int_eq(producers_restore_producer(producers, &view), ERR_OK);
    ck_assert_int_eq(producers_restore_producer(producers, &view), ERR_CORRUPT); /* twice */
    ck_assert_int_eq(producers_restore_window(producers, 1, 7, 8, batches, 2), ERR_CORRUPT);
    ck_assert_int_eq(producers_restore_window(producers, 2, 7, 8, batches, 0), ERR_CORRUPT);
    ck_assert_int_eq(producers_restore_window(producers, 2, 7, 9, batches, 2), ERR_CORRUPT);
    ck_assert_int_eq(producers_restore_window(producers, 2, 7, 1, batches, 2), ERR_CORRUPT);
    for (unsigned i = 0; i < 4; i++) {
        memcpy(wrong, batches, sizeof wrong);
        wrong[1].base_sequence += i == 0;
        wrong[0].record_count = i == 1 ? 0 : wrong[0].record_count;
        wrong[1].base_offset -= i == 2;
        wrong[1].raft_index -= i == 3;
        ck_assert_int_eq(producers_restore_window(producers, 2, 7, 8, wrong, 2), ERR_CORRUPT);
    }
    ck_assert_int_eq(producers_restore_window(producers, 2, 7, 8, batches, 2), ERR_OK);
    ck_assert_int_eq(producers_restore_window(producers, 2, 7, 8, batches, 2), ERR_CORRUPT);
}
END_TEST

/* ---- against a model ---- */

enum { MODEL_PRODUCERS = 5, MODEL_TOPICS = 3, MODEL_BATCHES = 400 };

/* All that was ever written, searched in the plainest way. */
struct model_log {
    struct window_batch batches[MODEL_BATCHES];
    unsigned count;
    uint64_t next; /* not wrapped */
};

static struct model_log model[MODEL_PRODUCERS][MODEL_TOPICS];

static enum err model_decide(const struct model_log *log, const struct batch_header *header,
                             uint64_t *ret_offset)
{
    unsigned first = log->count > PRODUCERS_WINDOW ? log->count - PRODUCERS_WINDOW : 0;
    uint64_t start = log->next;
    uint64_t sequence;

    if (header->base_sequence == (uint32_t)log->next) {
        return ERR_OK;
    }
    /* The newest number before next that looks like this one. */
    sequence = (log->next & ~UINT64_C(0xffffffff)) | header->base_sequence;
    if (sequence > log->next) {
        if (sequence < UINT64_C(0x100000000)) {
            return ERR_SEQUENCE_GAP; /* It would lie before the first record. */
        }
        sequence -= UINT64_C(0x100000000);
    }
    if (log->next - sequence >= UINT64_C(0x80000000)) {
        return ERR_SEQUENCE_GAP;
    }
    for (unsigned i = log->count; i > first; i--) {
        const struct window_batch *batch = &log->batches[i - 1];

        start -= batch->record_count;
        if (sequence == start && batch->record_count == header->record_count &&
            batch->body_crc32c == header->body_crc32c) {
            *ret_offset = batch->base_offset;
            return ERR_EXISTS;
        }
        if (sequence >= start) {
            return ERR_SEQUENCE_REUSED;
        }
    }
    return ERR_DUPLICATE_OLD;
}

static struct batch_header random_batch(const struct model_log *log, uint64_t id, uint64_t *random)
{
    struct batch_header header =
        batch(id, (uint32_t)log->next, 1 + history_below(random, 5), history_below(random, 3));
    unsigned choice = history_below(random, 10);

    /* Now and then so many that sequences wrap soon. */
    if (log->count < 3 && history_below(random, 2) == 0) {
        header.record_count = 0x70000000 + history_below(random, 1000);
    }
    if (choice == 0) {
        header.base_sequence += 1 + history_below(random, 50);
    } else if (choice == 1) {
        header.base_sequence -= 1 + history_below(random, 300);
    } else if (choice < 5 && log->count > 0) {
        unsigned back = 1 + history_below(random, log->count < 80 ? log->count : 80);
        const struct window_batch *old = &log->batches[log->count - back];

        header.base_sequence = old->base_sequence;
        header.record_count = old->record_count;
        header.body_crc32c = old->body_crc32c;
    } else if (choice == 5) {
        header.base_sequence = (uint32_t)history_random(random);
    }
    return header;
}

static void model_note(struct model_log *log, const struct batch_header *header)
{
    log->batches[log->count++] = (struct window_batch){.base_sequence = header->base_sequence,
                                                       .record_count = header->record_count,
                                                       .base_offset = header->base_offset,
                                                       .body_crc32c = header->body_crc32c};
    log->next += header->record_count;
}

/* Goes on with a copy, which must be equal in all it shows. */
static void replace_by_copy(void)
{
    static struct dump before;
    static struct dump after;
    struct producers *copy;

    ck_assert_int_eq(producers_copy(producers, &copy), ERR_OK);
    take_dump(producers, &before);
    take_dump(copy, &after);
    ck_assert_uint_eq(before.size, after.size);
    ck_assert_mem_eq(before.bytes, after.bytes, before.size * sizeof before.bytes[0]);
    producers_free(producers);
    producers = copy;
}

START_TEST(every_decision_is_that_of_a_naive_model)
{
    uint64_t random = 900 + (uint64_t)_i;
    unsigned seen[64] = {0};

    memset(model, 0, sizeof model);
    for (unsigned i = 0; i < MODEL_PRODUCERS; i++) {
        (void)init(0); /* i + 1 */
    }
    for (unsigned step = 0; step < 6000; step++) {
        unsigned producer = history_below(&random, MODEL_PRODUCERS);
        unsigned topic = history_below(&random, MODEL_TOPICS);
        struct model_log *log = &model[producer][topic];
        struct batch_header header = random_batch(log, producer + 1, &random);
        struct window_batch before = {0};
        uint64_t offset = 0;
        enum err expected = model_decide(log, &header, &offset);
        enum err err = producers_decide(producers, topic, (int64_t)step, &header, &before);

        ck_assert_msg(err == expected, "step %u: %s, not %s", step, err_name(err),
                      err_name(expected));
        ck_assert_uint_eq(before.base_offset, offset);
        seen[-err]++;
        if (err == ERR_OK && log->count < MODEL_BATCHES) {
            header.base_offset = (uint64_t)step << 34;
            header.raft_index = step;
            header.append_time_us = step;
            ck_assert_int_eq(producers_note(producers, topic, (int64_t)step, &header), ERR_OK);
            model_note(log, &header);
        }
        if (history_below(&random, 500) == 0) {
            producers_check(producers);
            replace_by_copy();
        }
        if (history_below(&random, 1500) == 0) {
            producers_forget_topic(producers, topic);
            for (unsigned i = 0; i < MODEL_PRODUCERS; i++) {
                model[i][topic] = (struct model_log){0};
            }
        }
    }
    ck_assert_uint_gt(seen[-ERR_EXISTS], 100);
    ck_assert_uint_gt(seen[-ERR_SEQUENCE_GAP], 100);
    ck_assert_uint_gt(seen[-ERR_SEQUENCE_REUSED], 20);
    ck_assert_uint_gt(seen[-ERR_DUPLICATE_OLD], 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/producers");
    TCase *decisions = tcase_create("producers_decide");
    TCase *limits = tcase_create("limits");
    TCase *visits = tcase_create("producers_visit");

    tcase_add_checked_fixture(decisions, setup, teardown);
    tcase_add_test(decisions, ids_count_up);
    tcase_add_test(decisions, a_first_batch_has_sequence_0);
    tcase_add_test(decisions, each_topic_has_its_own_sequence);
    tcase_add_test(decisions, a_batch_that_was_written_is_found_again);
    tcase_add_test(decisions, other_contents_for_a_sequence_are_a_reuse);
    tcase_add_test(decisions, what_was_never_written_is_not_called_old);
    tcase_add_test(decisions, the_window_forgets_the_oldest);
    tcase_add_test(decisions, sequences_wrap_at_2_to_the_32);
    tcase_add_test(decisions, epochs_fence);
    tcase_add_test(decisions, a_raised_epoch_fences_and_keeps_the_window);
    tcase_add_test(decisions, a_claim_of_an_epoch_holds_only_for_the_newest);
    tcase_add_test(decisions, epochs_do_not_wrap);
    tcase_add_test(limits, a_claim_counts_as_use);
    tcase_add_loop_test(decisions, every_decision_is_that_of_a_naive_model, 0, 8);
    suite_add_tcase(suite, decisions);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, idle_producers_make_room);
    tcase_add_test(limits, idle_producers_make_room_after_a_restore);
    tcase_add_test(limits, all_windows_together_are_bounded);
    suite_add_tcase(suite, limits);
    tcase_add_checked_fixture(visits, setup, teardown);
    tcase_add_test(visits, impossible_things_are_not_restored);
    suite_add_tcase(suite, visits);
    return runner_main(suite);
}
