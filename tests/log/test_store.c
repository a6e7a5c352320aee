#include "log/store.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "log/log_fixture.h"

static const char *dir;
static char path[512];
static char temporary[520];
static uint8_t bytes[8192];

static void setup(void)
{
    dir = tmpdir_new();
    (void)snprintf(path, sizeof path, "%s/store", dir);
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", path);
}

static void teardown(void)
{
    tmpdir_remove(dir);
}

static struct store *create(bool is_temporary)
{
    struct store_options options = {
        .io = io_real(),
        .path = path,
        .base_offset = 7,
        .generation = 2,
        .rewrites = 40000,
        .temporary = is_temporary,
    };
    struct store *store;

    ck_assert_int_eq(store_create(&options, &store, NULL), ERR_OK);
    return store;
}

/* Appends a batch of body_size bytes 'x' at offset. */
static void append(struct store *store, uint64_t offset, uint32_t body_size)
{
    struct batch_header header = {
        .size = BATCH_HEADER_SIZE + body_size,
        .record_count = 1,
        .base_offset = offset,
    };
    struct iovec part = {.iov_base = bytes, .iov_len = header.size};

    memset(bytes + BATCH_HEADER_SIZE, 'x', body_size);
    header.body_crc32c = crc32c(bytes + BATCH_HEADER_SIZE, body_size);
    batch_header_encode(&header, bytes);
    ck_assert_int_eq(store_append(store, &part, 1, header.size, NULL), ERR_OK);
}

START_TEST(a_created_store_has_its_header_and_opens_again)
{
    struct store *store = create(false);
    struct store_options options = {.io = io_real(), .path = path};
    struct store *second;

    ck_assert_uint_eq(store_size(store), STORE_HEADER_SIZE);
    append(store, 7, 10);
    store_unref(store);
    ck_assert_int_eq(store_create(&options, &second, NULL), ERR_EXISTS);
    ck_assert_int_eq(store_open(io_real(), path, 7, &store, NULL), ERR_OK);
    ck_assert_uint_eq(store_size(store), STORE_HEADER_SIZE + BATCH_HEADER_SIZE + 10);
    ck_assert_uint_eq(store->generation, 2);
    ck_assert_uint_eq(store->rewrites, 40000);
    store_unref(store);
    ck_assert_int_eq(store_open(io_real(), path, 8, &store, NULL), ERR_CORRUPT);
}
END_TEST

START_TEST(a_header_that_does_not_verify_is_refused)
{
    struct err_info info = {0};
    struct store *store = create(false);
    size_t size;

    store_unref(store);
    size = file_read(path, bytes, sizeof bytes);
    ck_assert_uint_eq(size, STORE_HEADER_SIZE);
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 0x80;
        file_write(path, bytes, size);
        ck_assert_int_eq(store_open(io_real(), path, 7, &store, &info), ERR_CORRUPT);
        ck_assert_ptr_nonnull(strstr(info.text, path));
        bytes[at] ^= 0x80;
    }
    for (size_t cut = 0; cut < size; cut++) {
        file_write(path, bytes, cut);
        ck_assert_int_eq(store_open(io_real(), path, 7, &store, NULL), ERR_CORRUPT);
    }
    bytes_put_u32(bytes + 12, 1U << 15); /* a flag; rewrites stand behind */
    bytes_put_u32(bytes + 4, crc32c(bytes + 8, STORE_HEADER_SIZE - 8));
    file_write(path, bytes, size);
    ck_assert_int_eq(store_open(io_real(), path, 7, &store, NULL), ERR_VERSION);
}
END_TEST

START_TEST(a_temporary_store_appears_when_it_is_committed)
{
    struct store *store = create(true);

    ck_assert(file_exists(temporary));
    ck_assert(!file_exists(path));
    ck_assert_int_eq(store_commit(store, NULL), ERR_OK);
    ck_assert(!file_exists(temporary));
    ck_assert(file_exists(path));
    store_unref(store);
}
END_TEST

START_TEST(a_copy_has_the_first_bytes_and_leaves_the_original)
{
    struct store *store = create(false);
    struct store *copy;
    uint64_t cut;

    append(store, 7, 100);
    cut = store_size(store);
    append(store, 8, 100);
    ck_assert_int_eq(store_copy(store, store->path, cut, &copy, NULL), ERR_OK);
    ck_assert_uint_eq(store_size(copy), cut);
    ck_assert_uint_eq(copy->generation, 2);
    ck_assert_uint_eq(copy->rewrites, 40000);
    ck_assert_int_eq(store_commit(copy, NULL), ERR_OK);
    ck_assert_uint_eq(file_size(path), cut);
    ck_assert_int_eq(store_read(store, cut, bytes, 104, NULL), ERR_OK); /* still there to read */
    ck_assert_mem_eq(bytes, "QLB1", 4);
    store_unref(copy);
    store_unref(store);
}
END_TEST

START_TEST(a_truncated_store_goes_on_from_there)
{
    struct store *store = create(false);
    uint64_t cut;

    append(store, 7, 100);
    cut = store_size(store);
    append(store, 8, 100);
    ck_assert_int_eq(store_truncate(store, cut, NULL), ERR_OK);
    ck_assert_uint_eq(file_size(path), cut);
    append(store, 8, 5);
    ck_assert_uint_eq(file_size(path), cut + BATCH_HEADER_SIZE + 5);
    ck_assert_uint_eq(store_size(store), cut + BATCH_HEADER_SIZE + 5);
    store_unref(store);
}
END_TEST

START_TEST(a_window_walks_headers_and_bodies_of_any_size)
{
    static const size_t capacities[] = {BATCH_HEADER_SIZE, 105, 150, 1000, 8000};
    static const uint32_t sizes[] = {1, 10, 3000, 50, 104, 1, 500};
    static uint8_t data[8000];
    struct store *store = create(false);

    for (size_t i = 0; i < 7; i++) {
        append(store, 7 + i, sizes[i]);
    }
    for (size_t c = 0; c < 5; c++) {
        struct store_window window = {.store = store, .data = data, .capacity = capacities[c]};
        uint64_t position = STORE_HEADER_SIZE;

        for (size_t i = 0; i < 7; i++) {
            struct batch_header header;

            ck_assert_int_eq(store_window_header(&window, position, &header, NULL), ERR_OK);
            ck_assert_uint_eq(header.base_offset, 7 + i);
            ck_assert_int_eq(store_window_check_body(&window, position, &header, NULL), ERR_OK);
            header.body_crc32c ^= 1;
            ck_assert_int_eq(store_window_check_body(&window, position, &header, NULL),
                             ERR_CORRUPT);
            position += header.size;
        }
        ck_assert_uint_eq(position, store_size(store));
    }
    store_unref(store);
}
END_TEST

START_TEST(a_batch_that_leaves_the_file_names_file_and_position)
{
    struct store *store = create(false);
    struct store_window window = {.store = store, .data = bytes + 4096, .capacity = 4096};
    struct batch_header header;
    struct err_info info;

    append(store, 7, 100);
    ck_assert_int_eq(store_window_header(&window, 32 + 204, &header, &info), ERR_CORRUPT);
    ck_assert_int_eq(store_truncate(store, 32 + 203, NULL), ERR_OK);
    ck_assert_int_eq(store_window_header(&window, 32, &header, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, path));
    ck_assert_ptr_nonnull(strstr(info.text, "at position 32"));
    ck_assert_int_eq(store_truncate(store, 32 + 103, NULL), ERR_OK);
    ck_assert_int_eq(store_window_header(&window, 32, &header, &info), ERR_CORRUPT);
    ck_assert_int_eq(store_read(store, 100, bytes, 100, &info), ERR_CORRUPT);
    store_unref(store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/store");
    TCase *tcase = tcase_create("store");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_created_store_has_its_header_and_opens_again);
    tcase_add_test(tcase, a_header_that_does_not_verify_is_refused);
    tcase_add_test(tcase, a_temporary_store_appears_when_it_is_committed);
    tcase_add_test(tcase, a_copy_has_the_first_bytes_and_leaves_the_original);
    tcase_add_test(tcase, a_truncated_store_goes_on_from_there);
    tcase_add_test(tcase, a_window_walks_headers_and_bodies_of_any_size);
    tcase_add_test(tcase, a_batch_that_leaves_the_file_names_file_and_position);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
