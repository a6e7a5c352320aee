#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "history.h"
#include "lib/runner.h"

static const struct produced some_batch = {
    .producer_id = 7, .epoch = 1, .sequence = 100, .record_count = 3, .body_size = 61, .seed = 42};

static const struct cursor_change some_cursor = {.topic = "orders",
                                                 .name = "billing.1-of-2",
                                                 .expect = CURSOR_EXPECT_REVISION,
                                                 .expected = 4097,
                                                 .offset = 12,
                                                 .owner = 0xfedcba9876543210,
                                                 .metadata = "host a"};

/* One command of each type. */
static struct entry some_entry(void)
{
    struct packer packer;

    packer_begin(&packer, 1234567);
    packer_create(&packer, "orders");
    packer_produce(&packer, 4097, &some_batch);
    packer_init_producer(&packer);
    packer_delete(&packer, "a.b_c-D");
    packer_set_cursor(&packer, &some_cursor);
    packer_delete_cursor(&packer, &some_cursor);
    return packer_entry(&packer, 1, 1);
}

static enum err read_all(const uint8_t *payload, size_t size, unsigned *ret_count)
{
    struct command_reader reader;
    struct command_view command;
    struct err_info info;
    enum err err = command_reader_begin(&reader, payload, size, &info);

    *ret_count = 0;
    while (err == ERR_OK) {
        err = command_reader_next(&reader, &command, &info);
        *ret_count += err == ERR_OK ? 1 : 0;
    }
    return err;
}

START_TEST(expectations_and_claims_are_read_again)
{
    const struct producer_claim claims[] = {{.id = 9, .topic_id = 4096, .epoch = 3, .has_epoch = 1},
                                            {.id = 1}};
    struct produced expecting = some_batch;
    struct command_reader reader;
    struct command_view command;
    struct packer packer;
    struct entry entry;

    expecting.has_expect = true;
    expecting.expect_offset = UINT64_C(1) << 40;
    packer_begin(&packer, 1);
    packer_produce(&packer, 4097, &expecting);
    packer_raise(&packer, &claims[0]);
    packer_raise(&packer, &claims[1]);
    entry = packer_entry(&packer, 1, 1);
    ck_assert_uint_eq(entry_payload(&entry)[COMMAND_PAYLOAD_HEADER_SIZE + 4], 6);
    ck_assert_int_eq(command_reader_begin(&reader, entry_payload(&entry), entry.size, NULL),
                     ERR_OK);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_PRODUCE);
    ck_assert(command.produce.has_expect);
    ck_assert_uint_eq(command.produce.expect_offset, UINT64_C(1) << 40);
    ck_assert_uint_eq(command.produce.topic_id, 4097);
    ck_assert_uint_eq(command.produce.header.record_count, 3);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
        ck_assert_int_eq(command.type, COMMAND_RAISE_EPOCH);
        ck_assert_uint_eq(command.claim.id, claims[i].id);
        ck_assert_uint_eq(command.claim.topic_id, claims[i].topic_id);
        ck_assert_uint_eq(command.claim.epoch, claims[i].epoch);
        ck_assert_int_eq(command.claim.has_epoch, claims[i].has_epoch);
    }
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_AGAIN);
    entry_unref(&entry);
}
END_TEST

/* What older programs wrote, and go on writing, has no expectation. */
START_TEST(a_produce_without_expectation_has_the_bytes_that_it_always_had)
{
    struct entry entry = some_entry();
    struct command_reader reader;
    struct command_view command;

    ck_assert_int_eq(command_reader_begin(&reader, entry_payload(&entry), entry.size, NULL),
                     ERR_OK);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_uint_eq(entry_payload(&entry)[reader.position + 4], 1);
    ck_assert_uint_eq(bytes_get_u64(entry_payload(&entry) + reader.position + 8), 4097);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert(!command.produce.has_expect);
    entry_unref(&entry);
}
END_TEST

START_TEST(a_claim_that_makes_no_sense_is_corrupt)
{
    /* In the body: id, epoch without has_epoch, has_epoch, a reserved byte. */
    static const struct {
        unsigned position;
        uint8_t value;
    } wrong[] = {{0, 0}, {16, 1}, {18, 2}, {19, 1}, {23, 1}};

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct packer packer;
        struct entry entry;
        uint8_t *body;
        unsigned count;

        packer_begin(&packer, 1);
        packer_raise(&packer, &(struct producer_claim){.id = 5});
        entry = packer_entry(&packer, 1, 1);
        body = (uint8_t *)(uintptr_t)entry_payload(&entry) + COMMAND_PAYLOAD_HEADER_SIZE +
               COMMAND_HEADER_SIZE;
        ck_assert_int_eq(read_all(entry_payload(&entry), entry.size, &count), ERR_AGAIN);
        body[wrong[i].position] = wrong[i].value;
        ck_assert_int_eq(read_all(entry_payload(&entry), entry.size, &count), ERR_CORRUPT);
        entry_unref(&entry);
    }
}
END_TEST

START_TEST(what_is_encoded_is_read_again)
{
    struct entry entry = some_entry();
    struct slice batch = history_batch(&some_batch);
    struct command_reader reader;
    struct command_view command;

    ck_assert_int_eq(command_reader_begin(&reader, entry_payload(&entry), entry.size, NULL),
                     ERR_OK);
    ck_assert_int_eq(reader.time_us, 1234567);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_TOPIC_CREATE);
    ck_assert_str_eq(command.topic_name, "orders");
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_PRODUCE);
    ck_assert_uint_eq(command.produce.topic_id, 4097);
    ck_assert_uint_eq(command.produce.header.size, batch.size);
    ck_assert_uint_eq(command.produce.header.base_sequence, 100);
    ck_assert_uint_eq(command.produce.header.producer_id, 7);
    ck_assert_uint_eq(command.produce.header.record_count, 3);
    ck_assert_uint_eq(command.produce.body_size, 61);
    ck_assert_mem_eq(command.produce.body, batch.data + BATCH_HEADER_SIZE, 61);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_INIT_PRODUCER);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_TOPIC_DELETE);
    ck_assert_str_eq(command.topic_name, "a.b_c-D");
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_CURSOR_SET);
    ck_assert_mem_eq(command.cursor, &some_cursor, sizeof some_cursor);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_CURSOR_DELETE);
    ck_assert_str_eq(command.cursor->topic, "orders");
    ck_assert_str_eq(command.cursor->name, "billing.1-of-2");
    ck_assert_int_eq(command.cursor->expect, CURSOR_EXPECT_REVISION);
    ck_assert_uint_eq(command.cursor->expected, 4097);
    ck_assert_uint_eq(command.cursor->offset, 0); /* It has no more than that. */
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_AGAIN);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_AGAIN);
    block_unref(batch.block);
    entry_unref(&entry);
}
END_TEST

/* The layout that command.h draws, byte by byte. */
START_TEST(the_bytes_are_those_of_the_diagram)
{
    static const uint8_t expected[] = {
        1,  0, 0,   0,   0, 0, 0, 0, /* version */
        2,  1, 0,   0,   0, 0, 0, 0, /* time */
        4,  0, 0,   0,   2, 0, 0, 0, /* size, type, zeros */
        10, 2, 'x', 'y', 0, 0, 0, 0, /* name, padding */
    };
    struct packer packer;
    struct entry entry;

    packer_begin(&packer, 258);
    packer_create(&packer, "xy");
    entry = packer_entry(&packer, 1, 1);
    ck_assert_uint_eq(entry.size, sizeof expected);
    ck_assert_mem_eq(entry_payload(&entry), expected, sizeof expected);
    entry_unref(&entry);
}
END_TEST

/* In memory of exactly that size, so that a sanitizer sees every byte read past it. */
START_TEST(a_payload_that_is_cut_anywhere_is_corrupt_or_ends_between_commands)
{
    struct entry entry = some_entry();
    unsigned whole = 0;

    for (size_t size = 0; size <= entry.size; size++) {
        uint8_t *copy = malloc(size + (size == 0));
        unsigned count;
        enum err err;

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, entry_payload(&entry), size);
        err = read_all(copy, size, &count);
        ck_assert(err == ERR_CORRUPT || err == ERR_AGAIN);
        whole += err == ERR_AGAIN ? 1 : 0;
        free(copy);
    }
    ck_assert_uint_eq(whole, 7); /* after 0 … 6 commands */
    entry_unref(&entry);
}
END_TEST

START_TEST(no_flipped_bit_harms)
{
    struct entry entry = some_entry();
    uint8_t *copy = malloc(entry.size);

    ck_assert_ptr_nonnull(copy);
    for (size_t bit = 0; bit < (size_t)entry.size * 8; bit++) {
        unsigned count;
        enum err err;

        memcpy(copy, entry_payload(&entry), entry.size);
        copy[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        err = read_all(copy, entry.size, &count);
        ck_assert(err == ERR_CORRUPT || err == ERR_AGAIN || err == ERR_VERSION);
        ck_assert_uint_le(count, 6);
    }
    free(copy);
    entry_unref(&entry);
}
END_TEST

static enum err read_changed(size_t position, uint8_t value)
{
    struct entry entry = some_entry();
    uint8_t *copy = malloc(entry.size);
    unsigned count;
    enum err err;

    ck_assert_ptr_nonnull(copy);
    ck_assert_uint_lt(position, entry.size);
    memcpy(copy, entry_payload(&entry), entry.size);
    ck_assert_uint_ne(copy[position], value);
    copy[position] = value;
    err = read_all(copy, entry.size, &count);
    free(copy);
    entry_unref(&entry);
    return err;
}

START_TEST(what_no_encoder_makes_is_refused)
{
    const size_t first = 16;        /* TOPIC_CREATE "orders": 8 bytes of body, none of padding */
    const size_t produce = 16 + 16; /* PRODUCE */
    const size_t batch = produce + 8 + 40;

    ck_assert_int_eq(read_changed(0, 2), ERR_VERSION);
    ck_assert_int_eq(read_changed(3, 1), ERR_CORRUPT);         /* reserved */
    ck_assert_int_eq(read_changed(first + 4, 9), ERR_VERSION); /* type */
    ck_assert_int_eq(read_changed(first + 4, 4), ERR_CORRUPT); /* init-producer with a body */
    ck_assert_int_eq(read_changed(first + 5, 1), ERR_CORRUPT); /* reserved */
    ck_assert_int_eq(read_changed(first + 7, 1), ERR_CORRUPT);
    ck_assert_int_eq(read_changed(first + 3, 0xff), ERR_CORRUPT);     /* a huge size */
    ck_assert_int_eq(read_changed(first + 10, '/'), ERR_CORRUPT);     /* a name that is none */
    ck_assert_int_eq(read_changed(first + 12, '\0'), ERR_CORRUPT);    /* a zero in a name */
    ck_assert_int_eq(read_changed(first + 8, 0x1a), ERR_VERSION);     /* another field */
    ck_assert_int_eq(read_changed(batch, 0), ERR_CORRUPT);            /* batch magic */
    ck_assert_int_eq(read_changed(batch + 8, 1), ERR_CORRUPT);        /* batch size */
    ck_assert_int_eq(read_changed(batch + 16, 1), ERR_CORRUPT);       /* a stamp */
    ck_assert_int_eq(read_changed(batch + 104 + 61, 1), ERR_CORRUPT); /* padding */
}
END_TEST

/* A payload with one command of this type and body. */
static enum err read_one(enum command_type type, const void *body, size_t size)
{
    uint8_t payload[1024] = {0};
    unsigned count;

    ck_assert_uint_le(24 + size + 8, sizeof payload);
    (void)command_encode_header(0, payload);
    bytes_put_u32(payload + 16, (uint32_t)size);
    payload[20] = (uint8_t)type;
    memcpy(payload + 24, body, size);
    return read_all(payload, 24 + (size + 7) / 8 * 8, &count);
}

START_TEST(a_cursor_command_is_understood_whole_or_not_at_all)
{
    static const uint8_t good[] = {10, 1, 't', 18, 1, 'c', 24, 1, 40, 5};
    uint8_t long_metadata[6 + 3 + CURSOR_METADATA_SIZE_MAX + 1] = {10,  1,  't', 18, 1,
                                                                   'c', 58, 1,   2};

    ck_assert_int_eq(read_one(COMMAND_CURSOR_SET, good, sizeof good), ERR_AGAIN);
    ck_assert_int_eq(read_one(COMMAND_CURSOR_DELETE, good, 8), ERR_AGAIN);
    /* An offset, which a delete has not. */
    ck_assert_int_eq(read_one(COMMAND_CURSOR_DELETE, good, sizeof good), ERR_CORRUPT);
    /* An expectation and a field of a newer program. */
    ck_assert_int_eq(read_one(COMMAND_CURSOR_SET, "\012\001t\022\001c\030\003", 8), ERR_VERSION);
    ck_assert_int_eq(read_one(COMMAND_CURSOR_SET, "\012\001t\022\001c\170\001", 8), ERR_VERSION);
    /* No name, a name that is none, a field twice. */
    ck_assert_int_eq(read_one(COMMAND_CURSOR_SET, "\012\001t", 3), ERR_CORRUPT);
    ck_assert_int_eq(read_one(COMMAND_CURSOR_SET, "\012\001t\022\001/", 6), ERR_CORRUPT);
    ck_assert_int_eq(read_one(COMMAND_CURSOR_SET, "\012\001t\022\001c\022\001c", 9), ERR_CORRUPT);
    memset(long_metadata + 9, 'm', CURSOR_METADATA_SIZE_MAX + 1);
    long_metadata[7] = 0x80;
    ck_assert_int_eq(read_one(COMMAND_CURSOR_SET, long_metadata, sizeof long_metadata - 1),
                     ERR_AGAIN);
    long_metadata[7] = 0x81;
    ck_assert_int_eq(read_one(COMMAND_CURSOR_SET, long_metadata, sizeof long_metadata),
                     ERR_CORRUPT);
}
END_TEST

static const struct topic_change some_change = {
    .which = TOPIC_SETTING_RETENTION_MS | TOPIC_SETTING_INDEXES,
    .to = {.retention_ms = 300, .indexes = TOPIC_INDEX_BLOOM},
    .on_count = 2,
    .on_nodes = {3, 200}};

START_TEST(settings_and_changes_of_them_are_read_again)
{
    const struct topic_settings settings = {
        .compact = true, .node_index_count = 1, .node_indexes = {{.node_id = 2, .indexes = 4}}};
    struct command_reader reader;
    struct command_view command;
    struct packer packer;
    struct entry entry;

    packer_begin(&packer, 1);
    packer_create_with(&packer, "a", &settings);
    packer_alter(&packer, "b", &some_change);
    packer_create_with(&packer, "c", &(struct topic_settings){0});
    packer_create(&packer, "c");
    entry = packer_entry(&packer, 1, 1);
    ck_assert_int_eq(command_reader_begin(&reader, entry_payload(&entry), entry.size, NULL),
                     ERR_OK);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_TOPIC_CREATE);
    ck_assert_str_eq(command.topic_name, "a");
    ck_assert(topic_settings_equal(command.settings, &settings));
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_TOPIC_ALTER);
    ck_assert_str_eq(command.topic_name, "b");
    ck_assert_uint_eq(command.change->which, some_change.which);
    ck_assert(topic_settings_equal(&command.change->to, &some_change.to));
    ck_assert_uint_eq(command.change->on_count, 2);
    ck_assert_uint_eq(command.change->on_nodes[0], 3);
    ck_assert_uint_eq(command.change->on_nodes[1], 200);
    ck_assert(!command.change->on_default);
    for (unsigned i = 0; i < 2; i++) {
        size_t before = reader.position;

        ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
        ck_assert(topic_settings_equal(command.settings, &(struct topic_settings){0}));
        ck_assert_uint_eq(reader.position - before, 16); /* The defaults take no bytes. */
    }
    entry_unref(&entry);
}
END_TEST

/* Byte by byte: what is written today must be read for ever. */
START_TEST(an_alter_has_the_bytes_that_it_always_had)
{
    static const uint8_t expected[] = {
        17, 0, 0,   0,   13, 0,  0, 0, /* size, type */
        10, 1, 'b', 16,  65,           /* name, which */
        26, 5, 8,   172, 2,  56, 4,    /* settings: 300 ms, bloom */
        34, 3, 3,   200, 1,            /* on nodes 3 and 200 */
        0,  0, 0,   0,   0,  0,  0,    /* padding */
    };
    struct packer packer;
    struct entry entry;

    packer_begin(&packer, 1);
    packer_alter(&packer, "b", &some_change);
    entry = packer_entry(&packer, 1, 1);
    ck_assert_uint_eq(entry.size, 16 + sizeof expected);
    ck_assert_mem_eq(entry_payload(&entry) + 16, expected, sizeof expected);
    entry_unref(&entry);
}
END_TEST

START_TEST(an_alter_is_understood_whole_or_not_at_all)
{
    static const uint8_t good[] = {10, 1, 't', 16, 1, 26, 2, 8, 9};
    uint8_t many[7 + TOPIC_INDEX_NODES_MAX + 1] = {10, 1, 't', 16, 64, 34, TOPIC_INDEX_NODES_MAX};

    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, good, sizeof good), ERR_AGAIN);
    /* A setting, a field, a field of the settings, an index, a codec of a newer program. */
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, "\012\001t\020\200\020", 6), ERR_VERSION);
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, "\012\001t\060\001", 5), ERR_VERSION);
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, "\012\001t\032\002\150\001", 7), ERR_VERSION);
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, "\012\001t\032\002\070\010", 7), ERR_VERSION);
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, "\012\001t\032\002\060\003", 7), ERR_VERSION);
    ck_assert_int_eq(read_one(COMMAND_TOPIC_CREATE, "\012\001t\022\002\070\010", 7), ERR_VERSION);
    /* No name, one that is none, a field twice. */
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, "\020\001", 2), ERR_CORRUPT);
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, "\012\001/\020\001", 5), ERR_CORRUPT);
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, "\012\001t\020\001\020\001", 7), ERR_CORRUPT);
    for (unsigned i = 0; i <= TOPIC_INDEX_NODES_MAX; i++) {
        many[7 + i] = (uint8_t)(1 + i);
    }
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, many, sizeof many - 1), ERR_AGAIN);
    many[6]++;
    ck_assert_int_eq(read_one(COMMAND_TOPIC_ALTER, many, sizeof many), ERR_CORRUPT);
}
END_TEST

static enum err read_many(unsigned commands, unsigned *ret_count)
{
    struct command command = {.type = COMMAND_INIT_PRODUCER};
    size_t size = COMMAND_PAYLOAD_HEADER_SIZE + commands * command_encoded_size(&command);
    uint8_t *payload = malloc(size);
    uint8_t *to = payload;
    enum err err;

    ck_assert_ptr_nonnull(payload);
    to += command_encode_header(0, to);
    for (unsigned i = 0; i < commands; i++) {
        to += command_encode(&command, to);
    }
    err = read_all(payload, size, ret_count);
    free(payload);
    return err;
}

START_TEST(a_binding_names_a_node_and_its_disk)
{
    struct command command = {.type = COMMAND_NODE_BIND, .node = {.id = 7, .disk_id = 70}};
    uint8_t payload[COMMAND_PAYLOAD_HEADER_SIZE + COMMAND_HEADER_SIZE + 16];
    struct command_reader reader;
    struct command_view view;
    uint8_t *to = payload + command_encode_header(0, payload);

    ck_assert_uint_eq(command_encoded_size(&command), COMMAND_HEADER_SIZE + 16);
    (void)command_encode(&command, to);
    ck_assert_int_eq(command_reader_begin(&reader, payload, sizeof payload, NULL), ERR_OK);
    ck_assert_int_eq(command_reader_next(&reader, &view, NULL), ERR_OK);
    ck_assert_int_eq(view.type, COMMAND_NODE_BIND);
    ck_assert_uint_eq(view.node.id, 7);
    ck_assert_uint_eq(view.node.disk_id, 70);
    command.node.disk_id = 0;
    (void)command_encode(&command, to);
    ck_assert_int_eq(command_reader_begin(&reader, payload, sizeof payload, NULL), ERR_OK);
    ck_assert_int_eq(command_reader_next(&reader, &view, NULL), ERR_CORRUPT);
}
END_TEST

START_TEST(an_entry_has_a_bounded_number_of_commands)
{
    unsigned count;

    ck_assert_int_eq(read_many(COMMAND_COUNT_MAX, &count), ERR_AGAIN);
    ck_assert_uint_eq(count, COMMAND_COUNT_MAX);
    ck_assert_int_eq(read_many(COMMAND_COUNT_MAX + 1, &count), ERR_CORRUPT);
    ck_assert_uint_eq(count, COMMAND_COUNT_MAX);
}
END_TEST

START_TEST(names)
{
    static const char *const good[] = {"a", "A.b_c-9", ".a", "...", "_", "9", "a-"};
    static const char *const bad[] = {"", ".", "..", "-a", "a b", "a/b", "\xc3\xa4", "a\n", "a:"};
    char name[TOPIC_NAME_SIZE_MAX + 2];
    struct err_info info;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_int_eq(topic_name_check(good[i], strlen(good[i]), &info), ERR_OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        info.text[0] = '\0';
        ck_assert_int_eq(topic_name_check(bad[i], strlen(bad[i]), &info), ERR_INVALID);
        ck_assert_str_ne(info.text, "");
    }
    memset(name, 'x', sizeof name);
    ck_assert_int_eq(topic_name_check(name, TOPIC_NAME_SIZE_MAX, NULL), ERR_OK);
    ck_assert_int_eq(topic_name_check(name, TOPIC_NAME_SIZE_MAX + 1, NULL), ERR_INVALID);
    ck_assert_int_eq(topic_name_check("a\0b", 3, NULL), ERR_INVALID);
    ck_assert_int_eq(cursor_name_check(name, CURSOR_NAME_SIZE_MAX, NULL), ERR_OK);
    ck_assert_int_eq(cursor_name_check("-a", 2, &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, "cursor"));
}
END_TEST

START_TEST(trims_and_ages_are_read_again_and_have_one_size)
{
    const struct topic_trim trim = {
        .topic_id = 4097, .start = 77, .batch_start = 70, .digest = {1, 2, 3}};
    const uint8_t zeros[64] = {0};
    struct command_reader reader;
    struct command_view command;
    struct packer packer;
    struct entry entry;

    packer_begin(&packer, 1);
    packer_trim(&packer, &trim);
    packer_age(&packer, UINT64_C(1) << 40);
    entry = packer_entry(&packer, 1, 1);
    ck_assert_uint_eq(entry.size, 16 + 8 + 56 + 8 + 8);
    ck_assert_uint_eq(entry_payload(&entry)[20], 14);
    ck_assert_uint_eq(bytes_get_u64(entry_payload(&entry) + 24), 4097);
    ck_assert_uint_eq(bytes_get_u64(entry_payload(&entry) + 32), 77);
    ck_assert_uint_eq(bytes_get_u64(entry_payload(&entry) + 40), 70);
    ck_assert_uint_eq(entry_payload(&entry)[84], 15);
    ck_assert_int_eq(command_reader_begin(&reader, entry_payload(&entry), entry.size, NULL),
                     ERR_OK);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_TOPIC_TRIM);
    ck_assert_uint_eq(command.trim.topic_id, 4097);
    ck_assert_uint_eq(command.trim.start, 77);
    ck_assert_uint_eq(command.trim.batch_start, 70);
    ck_assert_mem_eq(command.trim.digest, trim.digest, DIGEST_SIZE);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_AGE);
    ck_assert_uint_eq(command.elapsed_us, UINT64_C(1) << 40);
    entry_unref(&entry);
    for (size_t size = 0; size <= sizeof zeros; size++) {
        ck_assert_int_eq(read_one(COMMAND_TOPIC_TRIM, zeros, size),
                         size == 56 ? ERR_AGAIN : ERR_CORRUPT);
        ck_assert_int_eq(read_one(COMMAND_AGE, zeros, size), size == 8 ? ERR_AGAIN : ERR_CORRUPT);
    }
}
END_TEST

START_TEST(what_may_be_compacted_is_read_again_and_makes_sense)
{
    const struct topic_compact compact = {.topic_id = 4097, .clean_to = 99, .tombstones_below = 98};
    uint8_t body[64] = {0};
    struct command_reader reader;
    struct command_view command;
    struct packer packer;
    struct entry entry;

    packer_begin(&packer, 1);
    packer_compact(&packer, &compact);
    entry = packer_entry(&packer, 1, 1);
    ck_assert_uint_eq(entry.size, 16 + 8 + 24);
    ck_assert_uint_eq(entry_payload(&entry)[20], 16);
    ck_assert_uint_eq(bytes_get_u64(entry_payload(&entry) + 24), 4097);
    ck_assert_uint_eq(bytes_get_u64(entry_payload(&entry) + 32), 99);
    ck_assert_uint_eq(bytes_get_u64(entry_payload(&entry) + 40), 98);
    ck_assert_int_eq(command_reader_begin(&reader, entry_payload(&entry), entry.size, NULL),
                     ERR_OK);
    ck_assert_int_eq(command_reader_next(&reader, &command, NULL), ERR_OK);
    ck_assert_int_eq(command.type, COMMAND_COMPACT);
    ck_assert_uint_eq(command.compact.topic_id, 4097);
    ck_assert_uint_eq(command.compact.clean_to, 99);
    ck_assert_uint_eq(command.compact.tombstones_below, 98);
    entry_unref(&entry);
    ck_assert_int_eq(read_one(COMMAND_COMPACT, body, 24), ERR_CORRUPT); /* of no topic */
    body[0] = 1;
    for (size_t size = 0; size <= sizeof body; size++) {
        ck_assert_int_eq(read_one(COMMAND_COMPACT, body, size),
                         size == 24 ? ERR_AGAIN : ERR_CORRUPT);
    }
    body[8] = 5;
    body[16] = 5;
    ck_assert_int_eq(read_one(COMMAND_COMPACT, body, 24), ERR_AGAIN);
    body[16] = 6; /* tombstones above what may be cleaned at all */
    ck_assert_int_eq(read_one(COMMAND_COMPACT, body, 24), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/command");
    TCase *codec = tcase_create("command_reader");
    TCase *name = tcase_create("topic_name_check");

    tcase_add_test(codec, what_is_encoded_is_read_again);
    tcase_add_test(codec, expectations_and_claims_are_read_again);
    tcase_add_test(codec, a_produce_without_expectation_has_the_bytes_that_it_always_had);
    tcase_add_test(codec, a_claim_that_makes_no_sense_is_corrupt);
    tcase_add_test(codec, the_bytes_are_those_of_the_diagram);
    tcase_add_test(codec, a_payload_that_is_cut_anywhere_is_corrupt_or_ends_between_commands);
    tcase_add_test(codec, no_flipped_bit_harms);
    tcase_add_test(codec, what_no_encoder_makes_is_refused);
    tcase_add_test(codec, a_cursor_command_is_understood_whole_or_not_at_all);
    tcase_add_test(codec, settings_and_changes_of_them_are_read_again);
    tcase_add_test(codec, an_alter_has_the_bytes_that_it_always_had);
    tcase_add_test(codec, an_alter_is_understood_whole_or_not_at_all);
    tcase_add_test(codec, an_entry_has_a_bounded_number_of_commands);
    tcase_add_test(codec, trims_and_ages_are_read_again_and_have_one_size);
    tcase_add_test(codec, what_may_be_compacted_is_read_again_and_makes_sense);
    tcase_add_test(codec, a_binding_names_a_node_and_its_disk);
    suite_add_tcase(suite, codec);
    tcase_add_test(name, names);
    suite_add_tcase(suite, name);
    return runner_main(suite);
}
