#include "base/mailbox.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "lib/runner.h"

enum { POSTERS = 4, ITEMS = 5000 };

struct item {
    struct mail mail;
    int from;
    int number;
};

static struct mailbox box;
static atomic_uint wakes;

static void wake(void *arg)
{
    ck_assert_ptr_eq(arg, &box);
    atomic_fetch_add(&wakes, 1);
}

static void setup_sized(size_t size_max)
{
    atomic_store(&wakes, 0);
    mailbox_init(&box, size_max, wake, &box);
}

static void finish(void)
{
    mailbox_close(&box);
    (void)mailbox_take(&box); /* Nothing inside is on the heap. */
    mailbox_fini(&box);
}

START_TEST(items_come_out_in_the_order_of_posting)
{
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    struct mail *mail;
    int count = 0;

    setup_sized(100);
    ck_assert_ptr_null(mailbox_take(&box));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(mailbox_post(&box, &items[i].mail, 10), ERR_OK);
    }
    for (mail = mailbox_take(&box); mail != NULL; mail = mail->next) {
        ck_assert_ptr_eq(mail, &items[count].mail);
        ck_assert_uint_eq(mail->size, 10);
        count++;
    }
    ck_assert_int_eq(count, 3);
    ck_assert_ptr_null(mailbox_take(&box));
    finish();
}
END_TEST

START_TEST(only_the_first_item_wakes_the_owner)
{
    struct mail mails[3];

    setup_sized(100);
    ck_assert_int_eq(mailbox_post(&box, &mails[0], 1), ERR_OK);
    ck_assert_int_eq(mailbox_post_always(&box, &mails[1], 1), ERR_OK);
    ck_assert_uint_eq(atomic_load(&wakes), 1);
    ck_assert_ptr_nonnull(mailbox_take(&box));
    ck_assert_int_eq(mailbox_post_always(&box, &mails[2], 1), ERR_OK);
    ck_assert_uint_eq(atomic_load(&wakes), 2);
    finish();
}
END_TEST

START_TEST(a_full_mailbox_refuses_until_it_is_taken)
{
    struct mail mails[4];

    setup_sized(100);
    ck_assert_int_eq(mailbox_post(&box, &mails[0], 60), ERR_OK);
    ck_assert_int_eq(mailbox_post(&box, &mails[1], 41), ERR_BUSY);
    ck_assert_int_eq(mailbox_post(&box, &mails[1], SIZE_MAX), ERR_BUSY);
    ck_assert_int_eq(mailbox_post(&box, &mails[1], 40), ERR_OK);
    ck_assert_int_eq(mailbox_post(&box, &mails[2], 1), ERR_BUSY);
    ck_assert_int_eq(mailbox_post_always(&box, &mails[2], 50), ERR_OK);
    ck_assert_int_eq(mailbox_post(&box, &mails[3], 0), ERR_BUSY); /* 150 of 100 */
    ck_assert_ptr_eq(mailbox_take(&box), &mails[0]);
    ck_assert_ptr_eq(mails[0].next, &mails[1]);
    ck_assert_ptr_eq(mails[1].next, &mails[2]);
    ck_assert_ptr_null(mails[2].next);
    ck_assert_int_eq(mailbox_post(&box, &mails[3], 100), ERR_OK);
    finish();
}
END_TEST

START_TEST(an_empty_mailbox_takes_an_item_of_any_size)
{
    struct mail mails[2];

    setup_sized(10);
    ck_assert_int_eq(mailbox_post(&box, &mails[0], 1000), ERR_OK);
    ck_assert_int_eq(mailbox_post(&box, &mails[1], 1), ERR_BUSY);
    finish();
}
END_TEST

START_TEST(a_closed_mailbox_refuses_but_gives_what_is_inside)
{
    struct mail mails[2];

    setup_sized(100);
    ck_assert_int_eq(mailbox_post(&box, &mails[0], 1), ERR_OK);
    mailbox_close(&box);
    ck_assert_int_eq(mailbox_post(&box, &mails[1], 1), ERR_SHUTDOWN);
    ck_assert_int_eq(mailbox_post_always(&box, &mails[1], 1), ERR_SHUTDOWN);
    ck_assert_uint_eq(atomic_load(&wakes), 1);
    ck_assert_ptr_eq(mailbox_take(&box), &mails[0]);
    ck_assert_ptr_null(mails[0].next);
    mailbox_fini(&box);
}
END_TEST

static struct item all[POSTERS][ITEMS];

static void *post_all(void *arg)
{
    struct item *items = arg;

    for (int i = 0; i < ITEMS; i++) {
        while (mailbox_post(&box, &items[i].mail, 1) == ERR_BUSY) {
            (void)sched_yield(); /* It cannot fail on Linux. */
        }
    }
    return NULL;
}

START_TEST(nothing_is_lost_or_reordered_between_threads)
{
    pthread_t threads[POSTERS];
    int next[POSTERS] = {0};
    int taken = 0;
    unsigned turns = 0;
    bool in_order = true;
    int largest = 0;

    setup_sized(64);
    for (int t = 0; t < POSTERS; t++) {
        for (int i = 0; i < ITEMS; i++) {
            all[t][i] = (struct item){.from = t, .number = i};
        }
        ck_assert_int_eq(pthread_create(&threads[t], NULL, post_all, all[t]), 0);
    }
    while (taken < POSTERS * ITEMS) {
        struct mail *mail = mailbox_take(&box);
        int batch = 0;

        turns += mail != NULL;
        for (; mail != NULL; mail = mail->next) {
            struct item *item = (struct item *)mail;

            in_order = in_order && item->number == next[item->from];
            next[item->from]++;
            batch++;
        }
        largest = batch > largest ? batch : largest;
        taken += batch;
    }
    for (int t = 0; t < POSTERS; t++) {
        ck_assert_int_eq(pthread_join(threads[t], NULL), 0);
    }
    ck_assert(in_order);
    ck_assert_int_le(largest, 64);
    /* Each batch began with one post into an empty mailbox. */
    ck_assert_uint_eq(atomic_load(&wakes), turns);
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mailbox");
    TCase *tcase = tcase_create("mailbox");
    TCase *threads = tcase_create("threads");

    tcase_add_test(tcase, items_come_out_in_the_order_of_posting);
    tcase_add_test(tcase, only_the_first_item_wakes_the_owner);
    tcase_add_test(tcase, a_full_mailbox_refuses_until_it_is_taken);
    tcase_add_test(tcase, an_empty_mailbox_takes_an_item_of_any_size);
    tcase_add_test(tcase, a_closed_mailbox_refuses_but_gives_what_is_inside);
    tcase_add_test(threads, nothing_is_lost_or_reordered_between_threads);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, threads);
    return runner_main(suite);
}
