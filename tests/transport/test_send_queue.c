#include "transport/send_queue.h"

#include <string.h>

#include "lib/runner.h"
#include "transport/support.h"

static struct send_queue queue;

static void setup(void)
{
    send_queue_init(&queue);
}

static void teardown(void)
{
    send_queue_fini(&queue);
}

static struct block *block_of(const char *text)
{
    struct block *block = block_new(strlen(text));

    ck_assert_ptr_nonnull(block);
    memcpy(block->data, text, block->size);
    return block;
}

/* A frame with header "head" and a body "copied" + "shared" + "", where shared is in block. */
static void push(struct block *block)
{
    struct slice body[] = {
        {.data = (const uint8_t *)"copied", .size = 6},
        {.block = block, .data = block->data, .size = block->size},
        {.data = NULL, .size = 0},
    };
    struct frame_out frame = {.type = 1,
                              .header = (const uint8_t *)"head",
                              .header_size = 4,
                              .body = body,
                              .body_count = 3};

    ck_assert_int_eq(send_queue_push(&queue, &frame), ERR_OK);
    send_queue_check(&queue);
}

/* Drains the queue `step` bytes at a time through at most count_max parts. */
static void drain(struct buf *out, size_t step, size_t count_max)
{
    while (queue.size > 0) {
        struct iovec parts[8];
        size_t size;
        size_t count = send_queue_parts(&queue, parts, count_max, &size);
        size_t left = step < size ? step : size;

        ck_assert_uint_ge(count, 1);
        ck_assert_uint_le(count, count_max);
        send_queue_check(&queue);
        for (size_t i = 0, rest = left; i < count && rest > 0; i++) {
            size_t n = parts[i].iov_len < rest ? parts[i].iov_len : rest;

            ck_assert_int_eq(buf_append(out, parts[i].iov_base, n), ERR_OK);
            rest -= n;
        }
        send_queue_consume(&queue, left);
        send_queue_check(&queue);
    }
}

START_TEST(slices_with_a_block_are_referenced_and_released_when_written)
{
    struct block *block = block_of("shared");
    struct iovec parts[8];
    size_t size;

    push(block);
    ck_assert_uint_eq(block->refs, 2);
    ck_assert_uint_eq(send_queue_parts(&queue, parts, 8, &size), 2);
    ck_assert_uint_eq(parts[0].iov_len, FRAME_PREFIX_SIZE + 4 + 6);
    ck_assert_ptr_eq(parts[1].iov_base, block->data);
    ck_assert_uint_eq(size, FRAME_PREFIX_SIZE + 4 + 6 + 6);
    ck_assert_uint_eq(size, queue.size);
    send_queue_consume(&queue, size - 1);
    ck_assert_uint_eq(block->refs, 2);
    send_queue_consume(&queue, 1);
    ck_assert_uint_eq(block->refs, 1);
    block_unref(block);
}
END_TEST

START_TEST(slices_without_a_block_are_copied)
{
    char text[] = "before";
    struct slice body = {.data = (const uint8_t *)text, .size = 6};
    struct frame_out frame = {.body = &body, .body_count = 1};
    struct buf out;

    buf_init(&out, 4096);
    ck_assert_int_eq(send_queue_push(&queue, &frame), ERR_OK);
    memcpy(text, "after!", 6);
    drain(&out, 1000, 8);
    ck_assert_mem_eq(out.data + FRAME_PREFIX_SIZE, "before", 6);
    buf_fini(&out);
}
END_TEST

START_TEST(any_way_to_consume_gives_the_same_bytes)
{
    struct block *block = block_of("shared");
    struct buf expected;
    struct buf out;

    buf_init(&expected, 4096);
    buf_init(&out, 4096);
    for (unsigned i = 0; i < 3; i++) {
        append_frame(&expected, 1, 0, "head", "copiedshared", 12);
    }
    for (size_t step = 1; step < expected.size + 1; step++) {
        for (size_t count_max = 1; count_max < 4; count_max++) {
            out.size = 0;
            push(block);
            push(block);
            push(block);
            drain(&out, step, count_max);
            ck_assert_uint_eq(out.size, expected.size);
            ck_assert_mem_eq(out.data, expected.data, out.size);
            ck_assert_uint_eq(block->refs, 1);
        }
    }
    buf_fini(&out);
    buf_fini(&expected);
    block_unref(block);
}
END_TEST

START_TEST(fini_releases_what_was_not_written)
{
    struct block *block = block_of("shared");

    push(block);
    push(block);
    send_queue_consume(&queue, 10);
    send_queue_fini(&queue);
    ck_assert_uint_eq(block->refs, 1);
    ck_assert_uint_eq(queue.size, 0);
    block_unref(block);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport/send_queue");
    TCase *tcase = tcase_create("push and consume");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, slices_with_a_block_are_referenced_and_released_when_written);
    tcase_add_test(tcase, slices_without_a_block_are_copied);
    tcase_add_test(tcase, any_way_to_consume_gives_the_same_bytes);
    tcase_add_test(tcase, fini_releases_what_was_not_written);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
