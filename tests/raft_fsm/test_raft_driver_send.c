/* What a leader sends: split by size, without noise, with the snapshot where entries are gone. */
#include "driver_lab.h"
#include "lib/runner.h"

static struct lab lab;

static void teardown(void)
{
    lab_fini(&lab);
}

static void lead(size_t message_size_max, unsigned inflight_max, unsigned trailing_min)
{
    struct membership members = lab_members(3, 0);
    struct entry change = lab_change(1, 1, &members);
    struct raft_driver_disk disk = {.term = 1, .first_index = 1, .entries = &change, .count = 1};
    bool reset;

    lab_init(&lab, 1);
    lab.options.message_size_max = message_size_max;
    lab.options.inflight_max = inflight_max;
    lab.options.trailing_min = trailing_min;
    lab.options.trailing_size = 1;
    lab.options.news_ms = 5;
    ck_assert_int_eq(lab_start(&lab, &disk, &reset), ERR_OK);
    entry_unref(&change);
    lab_lead(&lab, 3);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 2), ERR_OK);
    lab_forget(&lab);
}

START_TEST(entries_are_split_by_bytes_into_messages_that_follow_one_another)
{
    uint64_t first;
    uint64_t next = 2;
    uint64_t term = 2;

    lead(2 * entry_frame_size(100), 0, 0);
    ck_assert_int_eq(lab_propose(&lab, 5, 100, &first), ERR_OK);
    for (unsigned i = 0; i < lab.sent_count; i++) {
        const struct message *message = &lab.sent[i];

        if (message->to != 2) {
            continue;
        }
        ck_assert_uint_eq(message->append.prev_index, next);
        ck_assert_uint_eq(message->append.prev_term, term);
        ck_assert_uint_le(message->append.count, 2);
        for (unsigned k = 0; k < message->append.count; k++) {
            ck_assert_uint_eq(message->append.entries[k].index, ++next);
        }
    }
    ck_assert_uint_eq(next, 7);
}
END_TEST

START_TEST(an_entry_larger_than_a_message_goes_alone)
{
    uint64_t first;
    unsigned messages = 0;

    lead(64, 0, 0);
    ck_assert_int_eq(lab_propose(&lab, 3, 1000, &first), ERR_OK);
    for (unsigned i = 0; i < lab.sent_count; i++) {
        if (lab.sent[i].to == 2) {
            ck_assert_uint_eq(lab.sent[i].append.count, 1);
            messages++;
        }
    }
    ck_assert_uint_eq(messages, 3);
}
END_TEST

START_TEST(a_full_window_makes_no_noise)
{
    uint64_t first;

    lead(0, 4, 0);
    lab.now_ms += 10;
    ck_assert_int_eq(lab_propose(&lab, 4, 8, &first), ERR_OK);
    lab_forget(&lab);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
    }
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND), 0);
    /* Later, one is due. */
    lab.now_ms += LAB_HEARTBEAT_MS / 2;
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
    ck_assert_uint_ge(lab_count(&lab, MESSAGE_APPEND), 1);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND)->append.count, 0);
}
END_TEST

START_TEST(what_is_sent_keeps_its_bytes_when_the_log_has_forgotten_them)
{
    uint64_t first;
    const struct entry *sent;

    lead(0, 0, 0);
    ck_assert_int_eq(lab_propose(&lab, 1, 16, &first), ERR_OK);
    sent = &lab_last(&lab, MESSAGE_APPEND)->append.entries[0];
    ck_assert_ptr_eq(sent->frame, raft_driver_entry(lab.driver, first)->frame); /* Not copied. */
    raft_driver_free(lab.driver);
    lab.driver = NULL;
    ck_assert_uint_eq(sent->index, first);
    ck_assert_uint_eq(entry_payload(sent)[15], 0);
}
END_TEST

/* The follower that has the entry is told, soon and once; the one that has not is not. */
START_TEST(a_new_commit_index_is_told_soon_when_no_entries_carry_it)
{
    uint64_t first;
    uint64_t committed_ms;
    const struct message *message;

    lead(0, 0, 0);
    lab_tick(&lab); /* Heartbeats: what was committed before is known. */
    lab_forget(&lab);
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
    lab_answer_appends(&lab);
    lab_forget(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, first), ERR_OK);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), first);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND), 0);
    committed_ms = lab.now_ms;
    lab_tick(&lab);
    ck_assert_uint_gt(lab.now_ms, committed_ms);
    ck_assert_uint_le(lab.now_ms, committed_ms + LAB_HEARTBEAT_MS / 10);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND), 1);
    message = lab_last(&lab, MESSAGE_APPEND);
    ck_assert_uint_eq(message->to, 2);
    ck_assert_uint_eq(message->append.prev_index, first);
    ck_assert_uint_eq(message->append.prev_term, lab.term);
    ck_assert_uint_eq(message->append.commit, first);
    ck_assert_uint_eq(message->append.count, 0);
    lab_forget(&lab);
    lab.now_ms += 2;
    ck_assert_int_eq(raft_driver_tick(lab.driver, lab.now_ms), ERR_OK);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND), 0);
}
END_TEST

START_TEST(a_new_commit_index_is_not_told_apart_when_entries_carry_it)
{
    uint64_t first;

    lead(0, 0, 0);
    lab_tick(&lab);
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, first), ERR_OK);
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND)->append.commit, first - 1);
    lab_answer_appends(&lab);
    lab_forget(&lab);
    lab_tick(&lab);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND), 0);
}
END_TEST

START_TEST(a_follower_behind_the_log_is_sent_the_newest_snapshot)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot;
    const struct message *message;
    uint64_t first;

    lead(0, 0, 1);
    ck_assert_int_eq(lab_propose(&lab, 10, 8, &first), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 12), ERR_OK);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 12);
    snapshot = lab_snapshot(12, lab.term, 1, &members);
    ck_assert_int_eq(raft_driver_compact(lab.driver, lab.now_ms, &snapshot), ERR_OK);
    lab_snapshot_fini(&snapshot);
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 12);
    /* 3 has nothing: its rejection makes the leader go back, behind what it holds. */
    ck_assert_int_eq(lab_receive_result(&lab, 3, lab.term, 1, 0), ERR_OK);
    message = lab_last(&lab, MESSAGE_SNAPSHOT);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(message->to, 3);
    ck_assert_uint_eq(message->snapshot.index, 12);
    ck_assert_uint_eq(message->snapshot.membership_index, 1);
    ck_assert_uint_eq(message->snapshot.manifest.data[7], 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_driver_send");
    TCase *tcase = tcase_create("send");

    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, entries_are_split_by_bytes_into_messages_that_follow_one_another);
    tcase_add_test(tcase, an_entry_larger_than_a_message_goes_alone);
    tcase_add_test(tcase, a_full_window_makes_no_noise);
    tcase_add_test(tcase, what_is_sent_keeps_its_bytes_when_the_log_has_forgotten_them);
    tcase_add_test(tcase, a_new_commit_index_is_told_soon_when_no_entries_carry_it);
    tcase_add_test(tcase, a_new_commit_index_is_not_told_apart_when_entries_carry_it);
    tcase_add_test(tcase, a_follower_behind_the_log_is_sent_the_newest_snapshot);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
