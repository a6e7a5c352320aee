#include "sim/faults.h"

#include <string.h>

#include "lib/runner.h"
#include "sim/breaks.h"
#include "sim/net.h"

static uint64_t bit(enum sim_fault fault)
{
    return UINT64_C(1) << fault;
}

static uint64_t parsed(const char *list)
{
    uint64_t set = 0;

    ck_assert_int_eq(sim_faults_parse(list, &set, NULL), ERR_OK);
    return set;
}

START_TEST(a_list_names_kinds_and_groups)
{
    ck_assert_uint_eq(parsed("all"), SIM_FAULTS_ALL);
    ck_assert_uint_eq(parsed("none"), 0);
    ck_assert_uint_eq(parsed("kill"), bit(SIM_FAULT_KILL));
    ck_assert_uint_eq(parsed("kill,flip-topic"), bit(SIM_FAULT_KILL) | bit(SIM_FAULT_FLIP_TOPIC));
    ck_assert_uint_eq(parsed("clock"), bit(SIM_FAULT_CLOCK_JUMP) | bit(SIM_FAULT_CLOCK_FREEZE) |
                                           bit(SIM_FAULT_CLOCK_DRIFT));
    ck_assert_uint_eq(parsed("clock,-clock-drift"),
                      bit(SIM_FAULT_CLOCK_JUMP) | bit(SIM_FAULT_CLOCK_FREEZE));
}
END_TEST

START_TEST(a_list_that_begins_with_minus_is_of_all_others)
{
    ck_assert_uint_eq(parsed("-kill"), SIM_FAULTS_ALL & ~bit(SIM_FAULT_KILL));
    ck_assert_uint_eq(parsed("-all,wipe"), bit(SIM_FAULT_WIPE));
}
END_TEST

START_TEST(what_is_no_kind_is_refused)
{
    static const char *const lists[] = {"", "kil", "kill,", ",kill", "killed", "-", "-none", "k"};
    struct err_info info;
    uint64_t set = 17;

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        ck_assert_int_eq(sim_faults_parse(lists[i], &set, &info), ERR_INVALID);
        ck_assert_uint_eq(set, 17);
    }
    (void)sim_faults_parse("kill,kil", &set, &info);
    ck_assert_ptr_nonnull(strstr(info.text, "'kil'"));
}
END_TEST

START_TEST(every_kind_and_every_broken_build_is_found_by_its_name)
{
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        ck_assert_uint_eq(parsed(sim_fault_name(i)), bit(i));
        ck_assert_uint_ne(parsed(sim_fault_group(i)) & bit(i), 0);
        ck_assert_uint_gt(strlen(sim_fault_text(i)), 0);
    }
    for (unsigned i = 0; i < SIM_BREAK_COUNT; i++) {
        unsigned broken;

        ck_assert(sim_break_parse(sim_break_name(i), &broken));
        ck_assert_uint_eq(broken, 1u << i);
        ck_assert_uint_gt(strlen(sim_break_text(i)), 0);
    }
}
END_TEST

/* How many nodes this one hears and is heard by, itself included. */
static unsigned seen_by(const struct net *net, unsigned node, unsigned nodes)
{
    unsigned count = 0;

    for (unsigned i = 1; i <= nodes; i++) {
        count += !net_blocked(net, 0, node, i) && !net_blocked(net, 0, i, node);
    }
    return count;
}

static void make(struct net *net, struct prng *prng, unsigned nodes, enum sim_fault shape)
{
    net_init(net, prng, true, false);
    net_cut(net, prng, nodes, shape);
}

START_TEST(in_a_ring_each_sees_a_majority_and_nobody_all)
{
    struct prng prng;
    struct net net;

    prng_init(&prng, 1);
    for (unsigned nodes = 4; nodes <= 7; nodes++) {
        make(&net, &prng, nodes, SIM_FAULT_RING);
        for (unsigned i = 1; i <= nodes; i++) {
            ck_assert_uint_gt(seen_by(&net, i, nodes), nodes / 2);
            ck_assert_uint_lt(seen_by(&net, i, nodes), nodes);
        }
    }
}
END_TEST

START_TEST(over_a_bridge_one_sees_all_and_the_others_do_not)
{
    struct prng prng;
    struct net net;

    prng_init(&prng, 1);
    for (unsigned nodes = 3; nodes <= 7; nodes++) {
        unsigned all = 0;

        make(&net, &prng, nodes, SIM_FAULT_BRIDGE);
        for (unsigned i = 1; i <= nodes; i++) {
            all += seen_by(&net, i, nodes) == nodes;
            ck_assert_uint_gt(seen_by(&net, i, nodes), 1);
        }
        ck_assert_uint_eq(all, 1);
    }
}
END_TEST

START_TEST(a_flapping_link_comes_and_goes_until_all_is_joined)
{
    struct prng prng;
    struct net net;
    unsigned gone = 0;

    prng_init(&prng, 1);
    make(&net, &prng, 3, SIM_FAULT_FLAP);
    for (uint64_t now_ms = 0; now_ms < 10000; now_ms++) {
        bool any = false;

        for (unsigned from = 1; from <= 3; from++) {
            for (unsigned to = 1; to <= 3; to++) {
                any = any || net_blocked(&net, now_ms, from, to);
            }
        }
        gone += any;
    }
    ck_assert_uint_gt(gone, 4000);
    ck_assert_uint_lt(gone, 6000);
    net_join(&net);
    ck_assert_uint_eq(seen_by(&net, 1, 3), 3);
}
END_TEST

START_TEST(what_the_network_does_is_counted)
{
    struct sim_faults faults = {{0}};
    struct prng prng;
    struct net net;

    prng_init(&prng, 1);
    net_init(&net, &prng, true, false);
    net.faults = &faults;
    net_cut(&net, &prng, 5, SIM_FAULT_ISOLATE);
    net_join(&net);
    net.loss = 100;
    ck_assert_uint_eq(net_send(&net, &prng, 0, 1, 2, (uint64_t[2]){0}), 0);
    ck_assert_uint_eq(faults.counts[SIM_FAULT_ISOLATE], 1);
    ck_assert_uint_eq(faults.counts[SIM_FAULT_LOSS], 1);
    ck_assert_uint_eq(sim_faults_sum(&faults), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim_faults");
    TCase *names = tcase_create("names");
    TCase *shapes = tcase_create("shapes");

    tcase_add_test(names, a_list_names_kinds_and_groups);
    tcase_add_test(names, a_list_that_begins_with_minus_is_of_all_others);
    tcase_add_test(names, what_is_no_kind_is_refused);
    tcase_add_test(names, every_kind_and_every_broken_build_is_found_by_its_name);
    suite_add_tcase(suite, names);
    tcase_add_test(shapes, in_a_ring_each_sees_a_majority_and_nobody_all);
    tcase_add_test(shapes, over_a_bridge_one_sees_all_and_the_others_do_not);
    tcase_add_test(shapes, a_flapping_link_comes_and_goes_until_all_is_joined);
    tcase_add_test(shapes, what_the_network_does_is_counted);
    suite_add_tcase(suite, shapes);
    return runner_main(suite);
}
