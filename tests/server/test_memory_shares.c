#include "server/memory_shares.h"

#include <string.h>

#include "lib/runner.h"

enum { MIB = 1024 * 1024 };

static struct config config;

static void set(const char *name, const char *value)
{
    struct err_info info = {0};
    enum err err = config_set_flag(&config, name, value, &info);

    ck_assert_msg(err == ERR_OK, "%s", info.text);
}

static void setup(void)
{
    config_init(&config);
}

/* All that can be had at once, without what is left for code and the like. */
static size_t sum(const struct memory_shares *shares)
{
    return shares->entries + shares->arriving + shares->leaving + shares->peer_queue +
           shares->keys + config.requests_size_max + config.compact_memory;
}

START_TEST(defaults_are_the_shares_of_the_default)
{
    struct config set_so;
    char default_value[CONFIG_TEXT_SIZE];
    char value[CONFIG_TEXT_SIZE];

    set("memory", "256M");
    memory_shares_settle(&config);
    set_so = config;
    config_init(&config);
    memory_shares_settle(&config);
    for (int i = 0; i < CONFIG_COUNT; i++) {
        ck_assert_str_eq(config_value(&config, (enum config_number)i, default_value),
                         config_value(&set_so, (enum config_number)i, value));
    }
}
END_TEST

START_TEST(shares_add_up_to_less_than_all_for_any_size)
{
    const char *sizes[] = {"64M", "65M", "96M", "100M", "256M", "1G", "1000G"};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct memory_shares shares;

        config_init(&config);
        set("memory", sizes[i]);
        memory_shares_settle(&config);
        memory_shares_of(&config, &shares);
        /* A message's overhead, and 1/16 for what has no share. */
        ck_assert_msg(sum(&shares) <= config.memory / 16 * 15 + MIB, "%s: %zu", sizes[i],
                      sum(&shares));
        ck_assert_uint_ge(shares.entries, config.memory / 16 * 7);
        ck_assert_uint_ge(shares.peer_queue, config.inflight_size);
        ck_assert_uint_gt(shares.arriving, config.batch_size_max);
        ck_assert_uint_gt(shares.entries, config.snapshot_size + config.trailing_size);
    }
}
END_TEST

START_TEST(what_is_set_for_itself_wins)
{
    struct memory_shares shares;

    set("memory", "64M");
    set("snapshot-size", "200M");
    set("inflight-size", "1M");
    memory_shares_settle(&config);
    memory_shares_of(&config, &shares);
    ck_assert_uint_eq(config.snapshot_size, 200 * MIB);
    ck_assert_uint_eq(config.inflight_size, MIB);
    ck_assert_uint_eq(config.trailing_size, 4 * MIB);
    ck_assert_uint_eq(config.requests_size_max, 8 * MIB);
    ck_assert_uint_eq(config.mailbox_size, 4 * MIB);
    ck_assert_uint_eq(config.compact_memory, 6 * MIB);
    ck_assert_uint_gt(shares.entries, 200 * MIB); /* Or no snapshot would ever be so late. */
}
END_TEST

START_TEST(what_others_see_does_not_follow)
{
    struct config defaults;

    config_init(&defaults);
    set("memory", "64M");
    memory_shares_settle(&config);
    ck_assert_uint_eq(config.frame_size_max, defaults.frame_size_max);
    ck_assert_uint_eq(config.batch_size_max, defaults.batch_size_max);
}
END_TEST

START_TEST(too_little_is_refused)
{
    struct err_info info = {0};

    ck_assert_int_eq(config_set_flag(&config, "memory", "63M", &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, "64M"));
}
END_TEST

START_TEST(where_a_share_comes_from_is_told)
{
    struct buf text;

    buf_init(&text, 1 << 20);
    set("memory", "128M");
    memory_shares_settle(&config);
    ck_assert_int_eq(config_print(&config, false, &text), ERR_OK);
    ck_assert_int_eq(buf_append(&text, "", 1), ERR_OK);
    ck_assert_ptr_nonnull(
        strstr((const char *)text.data, "# a share of memory\ninflight_size = 8M\n"));
    ck_assert_ptr_nonnull(strstr((const char *)text.data, "# option\nmemory = 128M\n"));
    buf_fini(&text);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/memory_shares");
    TCase *tcase = tcase_create("shares");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, defaults_are_the_shares_of_the_default);
    tcase_add_test(tcase, shares_add_up_to_less_than_all_for_any_size);
    tcase_add_test(tcase, what_is_set_for_itself_wins);
    tcase_add_test(tcase, what_others_see_does_not_follow);
    tcase_add_test(tcase, too_little_is_refused);
    tcase_add_test(tcase, where_a_share_comes_from_is_told);
    suite_add_tcase(s, tcase);
    return s;
}

int main(void)
{
    return runner_main(suite());
}
