#include "client/fixture.h"

#include <check.h>
#include <stdio.h>

#include "client/channel.h"

struct fixture f;

void fixture_setup(void)
{
    f = (struct fixture){0};
    ck_assert_int_eq(uv_loop_init(&f.loop), 0);
    fake_cluster_init(&f.cluster, &f.loop);
    f.one = fake_node_new(&f.cluster);
    f.two = fake_node_new(&f.cluster);
    f.topic = fake_cluster_add_topic(&f.cluster, "t");
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

void fixture_close(void)
{
    client_close(f.client, on_closed, &f.closed);
    loop_run_until(&f.loop, &f.closed);
    f.client = NULL;
}

void fixture_teardown(void)
{
    if (f.client != NULL) {
        fixture_close();
    }
    fake_cluster_fini(&f.cluster);
    ck_assert_int_eq(uv_loop_close(&f.loop), 0); /* No handle is left. */
}

void fixture_connect(bool both, uint64_t timeout_ms)
{
    struct client_options options = {.timeout_ms = timeout_ms, .reader_first = 1};
    struct err_info info;
    char servers[100];

    (void)snprintf(servers, sizeof servers, "%s%s%s", fake_node_address(f.one), both ? "," : "",
                   both ? fake_node_address(f.two) : ""); /* It fits. */
    options.servers = servers;
    ck_assert_int_eq(client_new(&options, &f.loop, &f.client, &info), ERR_OK);
}

void fixture_hurry(void)
{
    static const struct channel_times times = {
        .watch_ms = 10,
        .silent_ms = 100,
        .leaderless_ms = 100,
        .stalled_ms = 300,
        .try_ms = 100,
        .answer_ms = 100,
        .hello_ms = 100,
    };

    channel_set_times(client_channel(f.client), &times);
    channel_set_times(client_reading_channel(f.client), &times);
}

void on_answered(void *arg, const struct client_error *error, const uint8_t *reply,
                 size_t reply_size)
{
    struct answered *self = arg;

    self->done = true;
    self->count++;
    self->err = error->err;
    self->retryable = error->retryable;
    self->outcome_unknown = error->outcome_unknown;
    ck_assert_ptr_nonnull(error->text);
    (void)snprintf(self->text, sizeof self->text, "%s", error->text); /* Cut text will do. */
    ck_assert(error->err == ERR_OK || reply == NULL);
    self->reply_size = reply_size;
}
