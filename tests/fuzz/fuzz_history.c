/*
 * A recorded history: what can be read of it is written and read again as the same, and the checker
 * decides it, whatever it tells.
 *
 *      the file
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "checker/checker.h"
#include "checker/history.h"
#include "fuzz/fuzz.h"

enum { OPERATIONS_MAX = 200 };

/* A file without a disk under it, and its path. */
static int new_file(char ret_path[64])
{
    int fd = memfd_create("history", MFD_CLOEXEC);

    ASSERT(fd >= 0);
    (void)snprintf(ret_path, 64, "/proc/self/fd/%d", fd); /* fits */
    return fd;
}

/* Reads up to OPERATIONS_MAX operations; writes them to `to`, and gives them to the checker, where
 * there are such. Returns how many. */
static unsigned read_all(const char *path, FILE *to, struct checker *checker)
{
    struct history_reader *reader;
    struct history_op op;
    unsigned count = 0;
    unsigned wrong = 0;
    enum err err = history_reader_open(path, &reader, NULL);

    if (err != ERR_OK) {
        ASSERT(err == ERR_INVALID || err == ERR_VERSION);
        return 0;
    }
    while (count + wrong < OPERATIONS_MAX &&
           (err = history_reader_next(reader, &op, NULL)) != ERR_NOT_FOUND) {
        ASSERT(err == ERR_OK || err == ERR_INVALID);
        wrong += err == ERR_OK ? 0 : 1;
        if (err != ERR_OK) {
            continue;
        }
        ASSERT(op.value_count <= HISTORY_VALUES_MAX);
        count++;
        if (to != NULL) {
            history_write(to, &op);
        }
        if (checker != NULL) {
            err = checker_add(checker, &op);
            ASSERT(err == ERR_OK);
        }
    }
    history_reader_close(reader);
    return count;
}

/* What was read and written is read as as many, and written as the same bytes. */
static void check_again(const char *written, size_t size, unsigned count)
{
    char path[64];
    int fd = new_file(path);
    char *again;
    size_t again_size;
    FILE *to = open_memstream(&again, &again_size);
    ssize_t n = write(fd, written, size);

    ASSERT(to != NULL && n == (ssize_t)size);
    history_begin(to, "fuzz");
    ASSERT(read_all(path, to, NULL) == count);
    (void)fclose(to); /* It is memory. */
    ASSERT(again_size == size && memcmp(again, written, size) == 0);
    free(again);
    (void)close(fd); /* As above. */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checker *checker;
    char path[64];
    int fd = new_file(path);
    char *written;
    size_t written_size;
    FILE *to = open_memstream(&written, &written_size);
    ssize_t n = write(fd, data, size);
    unsigned count;
    enum err err = checker_new(NULL, &checker);

    ASSERT(to != NULL && n == (ssize_t)size && err == ERR_OK);
    history_begin(to, "fuzz");
    count = read_all(path, to, checker);
    (void)fclose(to); /* It is memory. */
    if (count > 0) {
        check_again(written, written_size, count);
        err = checker_finish(checker);
        ASSERT(err == ERR_OK);
    }
    checker_free(checker);
    free(written);
    (void)close(fd); /* As above. */
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (unsigned variant = 0; variant < 6; variant++) {
        static const uint64_t values[] = {1, 2, 3};
        struct history_op op = {.client = 1, .node = 2, .topic = "t", .values = values};
        char *text;
        size_t size;
        FILE *to = open_memstream(&text, &size);

        ASSERT(to != NULL);
        history_begin(to, "seed");
        for (unsigned i = 0; i < 6; i++) {
            op.kind = (enum history_kind)((variant + i) % (HISTORY_EVENT + 1));
            op.outcome = i == 3 ? HISTORY_UNKNOWN : HISTORY_OK;
            op.sequence = i + 1;
            op.invoke_us = 100 * (uint64_t)i;
            op.return_us = i == 3 ? 0 : op.invoke_us + 50;
            op.value_count = op.kind == HISTORY_CURSOR || op.kind == HISTORY_EVENT ? 0 : 3;
            op.log_end = 3;
            op.token = i + 1;
            op.producer_id = variant % 2;
            op.mode = (enum history_read_mode)(variant % 4);
            op.stream = 1;
            op.cursor = "c";
            op.verb = (enum history_cursor_verb)(variant % 3);
            op.revision = 7 + i;
            op.event = (enum history_event)(variant % 5);
            op.text = "something";
            history_write(to, &op);
        }
        (void)fclose(to); /* It is memory. */
        emit(arg, text, size);
        free(text);
    }
}
