#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "history.h"
#include "lib/runner.h"
#include "merged.h"
#include "replica_lab.h"

/* What the filters saw. */
static struct {
    unsigned asked[LAB_NODES + 1]; /* FETCHes by whom they went to */
    unsigned under_way;            /* FETCHes without an answer */
    unsigned under_way_max;
    uint64_t lowest; /* offset asked for */
    size_t chunk_max;
    uint8_t digest[DIGEST_SIZE]; /* a forger's chain */
    unsigned forged;
} seen;

static void setup(void)
{
    memset(&seen, 0, sizeof seen);
    seen.lowest = UINT64_MAX;
    lab_init();
}

static bool watch(struct message *message)
{
    if (message->type == MESSAGE_FETCH) {
        seen.asked[message->to]++;
        seen.under_way++;
        seen.under_way_max =
            seen.under_way > seen.under_way_max ? seen.under_way : seen.under_way_max;
        seen.lowest = message->fetch.offset < seen.lowest ? message->fetch.offset : seen.lowest;
    } else if (message->type == MESSAGE_FETCH_RESULT) {
        seen.under_way--;
        if (message->fetch_result.batches.size > seen.chunk_max) {
            seen.chunk_max = message->fetch_result.batches.size;
        }
    }
    return true;
}

static bool no_fetches(struct message *message)
{
    return message->type != MESSAGE_FETCH;
}

static bool has_holes(void)
{
    return lab_status(3).holes > 0 && !lab_status(3).installing;
}

static bool is_complete(void)
{
    return lab_leader() != NULL && lab_status(3).holes == 0 && !lab_status(3).installing &&
           lab_status(3).applied_index == lab_status(lab_leader()->id).applied_index;
}

static bool has_some(void)
{
    return lab_status(3).filled > 10000;
}

/* Node 3 has holes that nobody fills yet. */
static void make_holes(void)
{
    lab.filter = no_fetches;
    lab_leave_behind();
    lab_run_until(has_holes);
}

START_TEST(a_replica_far_behind_applies_new_entries_above_its_hole_and_fills_it)
{
    struct replica_status status;
    struct topic *topic;
    struct batch_header header;
    uint64_t end;

    make_holes();
    lab_produce(3);
    lab_run(200);
    status = lab_status(3);
    ck_assert_uint_gt(status.missing, 50);
    ck_assert_uint_eq(status.filled, 0);
    ck_assert_uint_eq(status.applied_index, lab_status(1).applied_index);
    topic = catalog_find(replica_catalog(lab.nodes[3].replica), "t");
    end = log_end(topic->log);
    ck_assert_int_eq(log_read_header(topic->log, end - 1, &header, NULL), ERR_OK);
    ck_assert_int_eq(log_read_header(topic->log, 10, &header, NULL), ERR_HOLE);
    topic_unref(topic);
    lab.filter = watch;
    seen.under_way = 0;
    lab_run_until(is_complete);
    ck_assert(lab_said("event=hole_filled topic=t"));
    ck_assert_uint_gt(seen.asked[1] + seen.asked[2], 10);
    ck_assert_uint_eq(seen.under_way_max, 1);
    ck_assert_uint_le(seen.chunk_max, 4000);
    ck_assert_uint_gt(lab_status(3).filled, 60000);
    lab_assert_equal();
}
END_TEST

START_TEST(a_follower_is_asked_before_the_leader)
{
    make_holes();
    lab_run(4000); /* Those that were silent may be asked again. */
    lab.filter = watch;
    lab_run_until(is_complete);
    ck_assert_uint_eq(seen.asked[lab_leader()->id], 0);
    lab_assert_equal();
}
END_TEST

/* 0: they are silent, 1: they have not got it, 2: they have too much to do */
static int the_others_fault;

static bool only_the_leader_delivers(struct message *message)
{
    bool other = lab_leader() != NULL && message->from != lab_leader()->id;

    (void)watch(message);
    if (message->type != MESSAGE_FETCH_RESULT || !other) {
        return true;
    }
    block_unref(message->fetch_result.batches.block);
    message->fetch_result.batches = (struct slice){.block = NULL};
    message->fetch_result.err = the_others_fault == 1 ? ERR_HOLE : ERR_BUSY;
    return the_others_fault != 0;
}

START_TEST(one_that_does_not_deliver_is_passed_over)
{
    the_others_fault = _i;
    make_holes();
    lab_run(4000); /* Those that were silent may be asked again. */
    lab.filter = only_the_leader_delivers;
    lab_run_until(is_complete);
    ck_assert_uint_gt(seen.asked[lab_leader()->id], 10);
    ck_assert_uint_gt(seen.asked[3 - lab_leader()->id], 0);
    lab_assert_equal();
}
END_TEST

/* Stamps batch `header` at `bytes` anew, over a body that was changed. */
static void stamp(uint8_t *bytes, struct batch_header *header)
{
    header->body_crc32c = crc32c(bytes + BATCH_HEADER_SIZE, header->size - BATCH_HEADER_SIZE);
    batch_header_encode(header, bytes);
}

/* Changes every batch of a chunk. With `chained`, so that each follows on the one before. */
static void forge(struct message *message, bool chained)
{
    struct slice *batches = &message->fetch_result.batches;
    struct block *block = block_new(batches->size);
    size_t at = 0;

    memcpy(block->data, batches->data, batches->size);
    while (at < batches->size) {
        uint8_t *bytes = block->data + at;
        uint8_t digest[DIGEST_SIZE];
        struct batch_header header;

        ck_assert_int_eq(batch_header_decode(bytes, (uint32_t)(batches->size - at), &header, NULL),
                         ERR_OK);
        bytes[BATCH_HEADER_SIZE + 9] ^= 1;
        header.body_crc32c = crc32c(bytes + BATCH_HEADER_SIZE, header.size - BATCH_HEADER_SIZE);
        if (chained) {
            digest_bytes(bytes + BATCH_HEADER_SIZE, header.size - BATCH_HEADER_SIZE, digest);
            digest_chain(seen.digest, &header, digest, header.digest);
            memcpy(seen.digest, header.digest, DIGEST_SIZE);
        }
        stamp(bytes, &header);
        at += header.size;
    }
    block_unref(batches->block);
    *batches = (struct slice){.block = block, .data = block->data, .size = block->size};
    seen.forged++;
}

static bool the_follower_lies(struct message *message)
{
    if (message->type == MESSAGE_FETCH_RESULT && message->fetch_result.err == ERR_OK &&
        lab_leader() != NULL && message->from != lab_leader()->id) {
        forge(message, false);
    }
    return watch(message);
}

START_TEST(a_chunk_that_does_not_follow_is_refused_and_asked_from_another)
{
    make_holes();
    lab_run(4000);
    lab.filter = the_follower_lies;
    lab_run_until(is_complete);
    ck_assert(lab_said("event=chunk_refused"));
    ck_assert(!lab_said("event=hole_refilled"));
    ck_assert_uint_gt(seen.forged, 0);
    lab_assert_equal();
}
END_TEST

/* One with another history: everything that it has is whole, and follows, from the hole's beginning
 * on. It speaks `forged_chunks` times and is silent then. */
static unsigned forged_chunks;

static bool the_follower_has_another_history(struct message *message)
{
    if (message->type != MESSAGE_FETCH_RESULT || message->fetch_result.err != ERR_OK ||
        lab_leader() == NULL || message->from == lab_leader()->id) {
        return watch(message);
    }
    if (seen.forged == 0 && message->fetch_result.offset > 0) {
        struct topic *topic = catalog_find(replica_catalog(lab.nodes[3].replica), "t");
        struct batch_header below;

        ck_assert_int_eq(
            log_read_header(topic->log, message->fetch_result.offset - 1, &below, NULL), ERR_OK);
        memcpy(seen.digest, below.digest, DIGEST_SIZE);
        topic_unref(topic);
    }
    if (seen.forged >= forged_chunks) {
        return false;
    }
    forge(message, true);
    return watch(message);
}

START_TEST(a_hole_that_does_not_meet_what_is_above_is_emptied_and_filled_from_another)
{
    forged_chunks = UINT32_MAX;
    make_holes();
    if (_i == 1) {
        lab_produce(1); /* A batch is above, else it is the topic's digest that tells. */
    }
    lab_run(4000);
    lab.filter = the_follower_has_another_history;
    lab_run_until(is_complete);
    ck_assert(lab_said("event=hole_refilled"));
    ck_assert_uint_gt(seen.forged, 10);
    lab_assert_equal();
}
END_TEST

START_TEST(what_nothing_follows_on_is_dropped_again)
{
    forged_chunks = 5;
    make_holes();
    lab_run(4000);
    lab.filter = the_follower_has_another_history;
    lab_run_until(is_complete); /* After the leader's chunks were refused a few times. */
    ck_assert(lab_said("event=chunk_refused"));
    ck_assert(lab_said("nobody has anything that follows"));
    ck_assert_uint_eq(seen.forged, 5);
    lab_assert_equal();
}
END_TEST

static uint64_t draw_bits(void *arg)
{
    return history_random(arg);
}

/* 0: it stops, 1: its machine loses power */
START_TEST(a_restart_goes_on_where_it_stopped)
{
    uint64_t missing;

    lab.fill_rate = 20000;
    make_holes();
    lab_stop(3);
    lab_start(3); /* With the rate. */
    lab_run_until(has_holes);
    missing = lab_status(3).missing;
    lab.filter = watch;
    lab_run_until(has_some);
    ck_assert_uint_lt(lab_status(3).missing, missing);
    missing = lab_status(3).missing;
    if (_i == 1) {
        mem_io_kill(&lab.nodes[3].disk);
    }
    lab_stop(3);
    if (_i == 1) {
        mem_io_crash(&lab.nodes[3].disk, draw_bits, &lab.random);
    }
    seen.lowest = UINT64_MAX;
    lab_start(3);
    if (_i == 0) {
        ck_assert_uint_eq(lab_status(3).missing, missing);
    }
    lab_run_until(is_complete);
    ck_assert(_i == 1 || seen.lowest > 2);
    lab_assert_equal();
}
END_TEST

START_TEST(the_rate_is_kept_and_the_time_left_is_told)
{
    enum { RATE = 20000 };
    struct replica_status status;
    uint64_t begin_ms;

    lab.fill_rate = RATE;
    lab_stop(3);
    lab_start(3);
    make_holes();
    lab_run(4000);
    lab.filter = NULL;
    begin_ms = lab.now_ms;
    lab_run(3000);
    status = lab_status(3);
    ck_assert_uint_gt(status.filled, RATE * 2);
    ck_assert_uint_lt(status.filled, (lab.now_ms - begin_ms + 1000) * RATE / 1000 + (1 << 20));
    while (lab_status(3).holes > 0 && lab_status(3).fill_left_s == 0) {
        lab_run(10);
    }
    status = lab_status(3);
    if (status.holes > 0) {
        ck_assert_uint_gt(status.fill_rate, 0);
        ck_assert_uint_lt(status.fill_left_s, 60);
    }
    lab_run_until(is_complete);
    ck_assert_uint_eq(lab_status(3).fill_left_s, 0);
}
END_TEST

/* ---- damage ---- */

static void remove_topics(struct mem_io *disk)
{
    char path[64];

    (void)snprintf(path, sizeof path, "t-%llu", (unsigned long long)lab.topic_id); /* fits */
    ck_assert_int_eq(io_remove_dir(&disk->io, "/topics", path, NULL), ERR_OK);
}

START_TEST(a_replica_whose_topics_are_gone_gets_them_back)
{
    lab_produce(30);
    lab_run(1000);
    lab_stop(3);
    remove_topics(&lab.nodes[3].disk);
    lab_start(3);
    ck_assert(lab_said("event=damage_found topic=t"));
    ck_assert_uint_gt(lab_status(3).holes, 0);
    lab_run_until(is_complete);
    lab_assert_equal();
}
END_TEST

/* ---- copies that were compacted at other times ---- */

static struct topic *topic_of(unsigned id)
{
    struct topic *topic = catalog_find(replica_catalog(lab.nodes[id].replica), "t");

    ck_assert_ptr_nonnull(topic);
    return topic;
}

/* The digests chain from the beginning to the end that all have. */
static void assert_history(unsigned id)
{
    struct topic *topic = topic_of(id);
    struct chain chain = {.known = true};
    uint64_t offset = 0;

    ck_assert(!log_has_holes(topic->log));
    while (offset < log_end(topic->log)) {
        struct block *block;

        ck_assert_int_eq(log_read(topic->log, offset, UINT64_MAX, 1 << 20, &block, &offset, NULL),
                         ERR_OK);
        ck_assert_int_eq(chain_follow(&chain, block->data, block->size, NULL), ERR_OK);
        block_unref(block);
    }
    ck_assert_uint_eq(chain.offset, topic->end);
    ck_assert_mem_eq(chain.digest, topic->digest, DIGEST_SIZE);
    topic_unref(topic);
}

/* Batches of `size` records each, from `first` on, on one node. */
static void merge_on(unsigned id, uint64_t first, uint64_t size)
{
    struct topic *topic = topic_of(id);
    struct merged_range ranges[64];
    size_t count = 0;

    while (count < 64 && first + size <= log_end(topic->log)) {
        ranges[count++] = (struct merged_range){.from = first, .to = first + size};
        first += size;
    }
    merged_log(topic->log, ranges, count);
    topic_unref(topic);
}

static void punch_on_3(uint64_t offset)
{
    struct topic *topic = topic_of(3);

    ck_assert_int_eq(fsm_punch(replica_fsm(lab.nodes[3].replica), topic, offset, offset + 1, NULL),
                     ERR_OK);
    topic_unref(topic);
}

/* Of the others' merged batches none begins or ends where the hole does. What had to make room
 * comes from this node's own disk again: only a few batches are asked for. */
START_TEST(a_hole_is_filled_with_batches_that_others_merged_across_its_edges)
{
    lab_produce(60);
    lab_run(1000);
    merge_on(1, 6, 14);
    merge_on(2, 6, 14);
    lab.filter = watch;
    punch_on_3(_i == 0 ? 24 : 50);
    ck_assert_uint_gt(lab_status(3).holes, 0);
    lab_run_until(is_complete);
    ck_assert(lab_said("event=hole_widened topic=t"));
    ck_assert(!lab_said("event=chunk_refused"));
    ck_assert(!lab_said("event=hole_refilled"));
    assert_history(3);
    ck_assert_uint_le(seen.asked[1] + seen.asked[2], 8);
    lab_stop(3);
    lab_start(3);
    lab_run(1000);
    assert_history(3);
}
END_TEST

/* One of the others has what fits: it is asked before anything has to go. */
START_TEST(one_that_did_not_merge_is_asked_first)
{
    lab_produce(60);
    lab_run(1000);
    merge_on(1, 6, 14);
    punch_on_3(24);
    lab_run_until(is_complete);
    ck_assert(!lab_said("event=hole_widened"));
    assert_history(3);
}
END_TEST

/* Each of the others has merged what the other has not. */
START_TEST(copies_that_differ_everywhere_fill_a_hole_together)
{
    lab_produce(80);
    lab_run(1000);
    merge_on(1, 2 + 2 * (uint64_t)_i, 18);
    merge_on(2, 8, 10 + 4 * (uint64_t)_i);
    merge_on(3, 0, 12);
    punch_on_3(30);
    punch_on_3(100);
    lab_run_until(is_complete);
    assert_history(3);
    ck_assert(!lab_said("event=hole_refilled"));
    lab_stop(3);
    lab_start(3);
    lab_run(1000);
    assert_history(3);
}
END_TEST

static bool another_leads_without_3(void)
{
    return lab_leader() != NULL && lab_leader()->id != 3;
}

/* Node 3 learns nothing new, but may ask. */
static bool only_fetches(struct message *message)
{
    (void)watch(message);
    return message->type == MESSAGE_FETCH || message->type == MESSAGE_FETCH_RESULT ||
           (message->to != 3 && message->from != 3);
}

/* The others are ahead and have merged across this one's end: it catches up first, and asks
 * meanwhile now and then only. */
START_TEST(what_others_merged_across_the_end_here_waits_until_it_is_there)
{
    struct topic *topic;
    uint64_t end;

    lab_produce(60);
    lab_run(1000);
    topic = topic_of(3);
    end = log_end(topic->log);
    topic_unref(topic);
    lab.nodes[3].cut = true;
    lab_run_until(another_leads_without_3);
    lab_produce(10);
    lab_run(500);
    merge_on(1, end - 6, 12);
    merge_on(2, end - 6, 12);
    punch_on_3(end - 4);
    lab.filter = only_fetches;
    lab.nodes[3].cut = false;
    lab_run(5000);
    ck_assert_uint_gt(lab_status(3).holes, 0);
    ck_assert_uint_gt(seen.asked[1] + seen.asked[2], 0);
    ck_assert_uint_lt(seen.asked[1] + seen.asked[2], 30);
    lab.filter = NULL;
    lab_run_until(is_complete);
    assert_history(3);
}
END_TEST

/* ---- leading ---- */

static bool node_3_leads(void)
{
    return lab_leader() != NULL && lab_leader()->id == 3;
}

static bool another_leads(void)
{
    return lab_leader() != NULL && lab_leader()->id != 3;
}

START_TEST(a_leader_with_holes_gives_leadership_away)
{
    make_holes();
    lab_run(500);
    ck_assert_int_eq(raft_driver_transfer(replica_driver(lab_leader()->replica), lab.now_ms, 3),
                     ERR_OK);
    lab_run_until(node_3_leads); /* It votes and may lead as others may. */
    lab_run_until(another_leads);
    ck_assert(lab_said("event=resigned_with_holes"));
    lab.filter = NULL;
    lab_run_until(is_complete);
    lab_assert_equal();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/replica_fill");
    TCase *filling = tcase_create("filling");
    TCase *others = tcase_create("damage and leading");
    TCase *compacted = tcase_create("copies that were compacted at other times");

    tcase_set_timeout(filling, 60);
    tcase_add_checked_fixture(filling, setup, lab_fini);
    tcase_add_test(filling, a_replica_far_behind_applies_new_entries_above_its_hole_and_fills_it);
    tcase_add_test(filling, a_follower_is_asked_before_the_leader);
    tcase_add_loop_test(filling, one_that_does_not_deliver_is_passed_over, 0, 3);
    tcase_add_test(filling, a_chunk_that_does_not_follow_is_refused_and_asked_from_another);
    tcase_add_loop_test(
        filling, a_hole_that_does_not_meet_what_is_above_is_emptied_and_filled_from_another, 0, 2);
    tcase_add_test(filling, what_nothing_follows_on_is_dropped_again);
    tcase_add_loop_test(filling, a_restart_goes_on_where_it_stopped, 0, 2);
    tcase_add_test(filling, the_rate_is_kept_and_the_time_left_is_told);
    suite_add_tcase(suite, filling);
    tcase_set_timeout(others, 60);
    tcase_add_checked_fixture(others, setup, lab_fini);
    tcase_add_test(others, a_replica_whose_topics_are_gone_gets_them_back);
    tcase_add_test(others, a_leader_with_holes_gives_leadership_away);
    suite_add_tcase(suite, others);
    tcase_set_timeout(compacted, 60);
    tcase_add_checked_fixture(compacted, setup, lab_fini);
    tcase_add_loop_test(compacted,
                        a_hole_is_filled_with_batches_that_others_merged_across_its_edges, 0, 2);
    tcase_add_test(compacted, one_that_did_not_merge_is_asked_first);
    tcase_add_loop_test(compacted, copies_that_differ_everywhere_fill_a_hole_together, 0, 6);
    tcase_add_test(compacted, what_others_merged_across_the_end_here_waits_until_it_is_there);
    suite_add_tcase(suite, compacted);
    return runner_main(suite);
}
