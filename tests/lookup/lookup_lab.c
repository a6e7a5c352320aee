#include "lookup/lookup_lab.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "lib/tmpdir.h"
#include "record/batch_records.h"
#include "record/compact_log.h"
#include "record/record_set.h"

static int no_sync(struct io *io, int fd)
{
    (void)io;
    (void)fd;
    return 0;
}

static int no_sync_dir(struct io *io, const char *path)
{
    (void)io;
    (void)path;
    return 0;
}

/* The kernel, but syncs are not waited for: no test here pulls the plug. */
static struct io *quick_io(void)
{
    static struct io io;

    io = *io_real();
    io.fdatasync = no_sync;
    io.sync_dir = no_sync_dir;
    return &io;
}

static void on_line(void *arg, const char *line, size_t size)
{
    struct lab *self = arg;

    if (memmem(line, size, "event=index_damaged", 19) != NULL) {
        self->damage_told++;
        (void)snprintf(self->damage_text, sizeof self->damage_text, "%.*s", (int)size, line);
    }
}

void lab_init(struct lab *self, uint64_t seed)
{
    *self = (struct lab){.random = seed * 2 + 1, .segment_size = 4096};
    self->dir = tmpdir_new();
    ck_assert_int_eq(catalog_new(16, &self->catalog), ERR_OK);
    self->diag =
        (struct diag){.level = DIAG_INFO, .clock = clock_real(), .write = on_line, .arg = self};
    self->options = (struct lookup_options){.io = quick_io(),
                                            .diag = &self->diag,
                                            .catalog = self->catalog,
                                            .dir = self->dir,
                                            .node_id = 1,
                                            .interval_ms = 5};
}

void lab_fini(struct lab *self)
{
    lab_stop(self);
    catalog_free(self->catalog);
    tmpdir_remove(self->dir);
}

uint64_t lab_random(struct lab *self, uint64_t bound)
{
    self->random = self->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (self->random >> 33) % bound;
}

void lab_start(struct lab *self)
{
    struct err_info info = {0};

    ck_assert_ptr_null(self->lookup);
    ck_assert_msg(lookup_start(&self->options, &self->lookup, &info) == ERR_OK, "%s", info.text);
}

void lab_stop(struct lab *self)
{
    lookup_stop(self->lookup);
    self->lookup = NULL;
}

void lab_topic_init(struct lab *self, struct lab_topic *topic, uint64_t id, const char *name)
{
    char dir[512];
    struct log_options options = {.io = quick_io(),
                                  .dir = dir,
                                  .segment_size_max = self->segment_size,
                                  .index_interval = 256};
    struct log_report report;
    struct err_info info = {0};

    *topic = (struct lab_topic){.time_us = 1000000};
    topic->records = calloc(LAB_RECORDS_MAX, sizeof *topic->records);
    ck_assert_ptr_nonnull(topic->records);
    (void)snprintf(dir, sizeof dir, "%s/log-%" PRIu64, self->dir, id);
    ck_assert(mkdir(dir, 0750) == 0);
    ck_assert_msg(log_open(&options, &topic->log, &report, &info) == ERR_OK, "%s", info.text);
    ck_assert_int_eq(catalog_add(self->catalog, id, name, topic->log, 1, &topic->topic), ERR_OK);
}

void lab_topic_delete(struct lab *self, struct lab_topic *topic)
{
    catalog_remove(self->catalog, topic->topic);
    topic->topic = NULL;
}

void lab_topic_fini(struct lab_topic *topic)
{
    free(topic->records);
}

void lab_set_indexes(struct lab_topic *topic, uint32_t bits)
{
    struct topic_settings settings;

    topic_settings_get(topic->topic, &settings);
    settings.indexes = bits;
    topic_settings_set(topic->topic, &settings);
}

const char *lab_key(int32_t key)
{
    static char texts[4][32];
    static unsigned turn;
    char *text = texts[turn++ % 4];

    (void)snprintf(text, sizeof texts[0], "key-%d", key);
    return text;
}

void lab_append(struct lab *self, struct lab_topic *topic, unsigned count, unsigned keys)
{
    struct buf body;
    struct batch_header header;

    buf_init(&body, 1 << 20);
    topic->time_us += (int64_t)lab_random(self, 3) * 500;
    for (unsigned i = 0; i < count; i++) {
        int32_t key = lab_random(self, 10) == 0 ? LAB_NO_KEY : (int32_t)lab_random(self, keys);
        const char *text = lab_key(key);
        struct record record = {.value = "a value", .value_size = 7};

        if (key != LAB_NO_KEY) {
            record.key = text;
            record.key_size = strlen(text);
        }
        ck_assert_uint_lt(topic->end + i, LAB_RECORDS_MAX);
        topic->records[topic->end + i] = (struct lab_record){.key = key, .time_us = topic->time_us};
        ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    }
    topic->raft_index += 1;
    header = (struct batch_header){.size = (uint32_t)(BATCH_HEADER_SIZE + body.size),
                                   .record_count = count,
                                   .base_offset = topic->end,
                                   .raft_index = topic->raft_index,
                                   .raft_term = 1,
                                   .append_time_us = topic->time_us,
                                   .body_crc32c = crc32c(body.data, body.size)};
    /* Any digest that no other batch has. */
    memcpy(header.digest, &topic->topic->id, 8);
    memcpy(header.digest + 8, &topic->end, 8);
    ck_assert_int_eq(log_append(topic->log, &header, body.data, NULL), ERR_OK);
    topic->end += count;
    buf_fini(&body);
}

/* Which records the log still has, at the times and with the keys that they had. */
static void mark_gone(struct lab_topic *topic)
{
    uint64_t offset = log_start(topic->log);
    struct batch_records records;
    struct batch_header header;
    struct record record;

    batch_records_init(&records);
    for (uint64_t i = offset; i < topic->end; i++) {
        topic->records[i].gone = true;
    }
    while (offset < topic->end) {
        struct block *block;
        uint64_t end;

        ck_assert_int_eq(log_read(topic->log, offset, UINT64_MAX, 1 << 20, &block, &end, NULL),
                         ERR_OK);
        for (size_t at = 0; at < block->size; at += header.size) {
            ck_assert_int_eq(batch_header_decode(block->data + at, UINT32_MAX, &header, NULL),
                             ERR_OK);
            ck_assert_int_eq(batch_records_start(&records, &header,
                                                 block->data + at + BATCH_HEADER_SIZE, 0, NULL),
                             ERR_OK);
            while (batch_records_next(&records, &record) == ERR_OK) {
                struct lab_record *of = &topic->records[record.offset];

                of->gone = false;
                ck_assert_int_eq(record.append_time_us, of->time_us);
                ck_assert_int_eq(record.key == NULL, of->key == LAB_NO_KEY);
            }
        }
        block_unref(block);
        offset = end;
    }
    batch_records_fini(&records);
}

void lab_compact(struct lab_topic *topic, uint64_t clean_to, unsigned group_max)
{
    const struct compact_log_options options = {.clean_to = clean_to, .group_max = group_max};
    uint64_t cleaned_to = compact_log(topic->log, &options);

    mark_gone(topic);
    atomic_store(&topic->topic->cleaned_to, cleaned_to);
}

static void pause_ms(long ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&time, NULL); /* a little less is fine */
}

void lab_wait_ready(struct lab *self, struct lab_topic *topic)
{
    for (unsigned i = 0; i < 6000; i++) {
        struct lookup_status status[LOOKUP_INDEXES_MAX];
        size_t count = lookup_status(self->lookup, topic->topic, status);
        bool ready = true;

        for (size_t k = 0; k < count; k++) {
            ready = ready && status[k].state == LOOKUP_READY && status[k].left == 0;
        }
        if (ready) {
            return;
        }
        lookup_wake(self->lookup);
        pause_ms(5);
    }
    ck_abort_msg("the indexes do not become ready");
}

bool lab_matches(const struct lab_record *record, int32_t key, const struct lookup_query *query)
{
    return !record->gone && (key == LAB_NO_KEY || record->key == key) &&
           (query->since_us == 0 || record->time_us >= query->since_us) &&
           (query->until_us == 0 || record->time_us < query->until_us);
}

struct walk {
    struct lab_topic *topic;
    int32_t key;
    const struct lookup_query *query;
    uint8_t *seen; /* an offset at which it was looked */
    struct lab_cost cost;
};

static void look_at(struct walk *walk, uint64_t offset)
{
    ck_assert_uint_eq(walk->seen[offset], 0);
    walk->seen[offset] = 1;
    walk->cost.scanned += 1;
    walk->cost.found += lab_matches(&walk->topic->records[offset], walk->key, walk->query);
}

static void follow(struct walk *walk, const struct lookup_answer *answer)
{
    uint64_t last = 0;

    if (!answer->exact) {
        for (uint64_t offset = answer->from; offset < answer->to; offset++) {
            look_at(walk, offset);
        }
        return;
    }
    for (size_t i = 0; i < answer->count; i++) {
        uint64_t offset = answer->offsets[i];

        ck_assert_uint_ge(offset, answer->from);
        ck_assert_uint_lt(offset, answer->to);
        ck_assert(i == 0 || (walk->query->newest_first ? offset < last : offset > last));
        last = offset;
        look_at(walk, offset);
    }
}

void lab_check(struct lab *self, struct lab_topic *topic, int32_t key, struct lookup_query *query,
               uint64_t from, uint64_t to, struct lab_cost *ret_cost)
{
    struct walk walk = {.topic = topic, .key = key, .query = query};
    uint64_t low = from;
    uint64_t high = to;

    walk.seen = calloc(to + 1, 1);
    ck_assert_ptr_nonnull(walk.seen);
    query->key = key == LAB_NO_KEY ? NULL : lab_key(key);
    query->key_size = key == LAB_NO_KEY ? 0 : strlen(query->key);
    while (low < high) {
        struct lookup_answer answer;

        lookup_next(self->lookup, topic->topic, query, low, high, &answer);
        ck_assert_uint_ge(answer.from, low);
        ck_assert_uint_le(answer.to, high);
        ck_assert_uint_le(answer.from, answer.to);
        follow(&walk, &answer);
        walk.cost.questions += 1;
        if (query->newest_first) {
            ck_assert_uint_lt(answer.from, high);
            high = answer.from;
        } else {
            ck_assert_uint_gt(answer.to, low);
            low = answer.to;
        }
    }
    for (uint64_t offset = from; offset < to; offset++) {
        ck_assert_msg(walk.seen[offset] || !lab_matches(&topic->records[offset], key, query),
                      "offset %" PRIu64 " was passed over", offset);
    }
    free(walk.seen);
    if (ret_cost != NULL) {
        *ret_cost = walk.cost;
    }
}

char **lab_files(struct lab *self, const struct lab_topic *topic, const char *suffix)
{
    char dir[512];
    char **files = calloc(4096, sizeof(char *));
    size_t count = 0;
    struct dirent *entry;
    DIR *opened;

    ck_assert_ptr_nonnull(files);
    (void)snprintf(dir, sizeof dir, "%s/indexes/%s-%" PRIu64, self->dir, topic->topic->name,
                   topic->topic->id);
    opened = opendir(dir);
    while (opened != NULL && (entry = readdir(opened)) != NULL) {
        size_t length = strlen(entry->d_name);
        size_t ending = strlen(suffix);

        if (entry->d_name[0] != '.' && length >= ending &&
            strcmp(entry->d_name + length - ending, suffix) == 0) {
            ck_assert_uint_lt(count, 4095);
            ck_assert_int_gt(asprintf(&files[count++], "%s/%s", dir, entry->d_name), 0);
        }
    }
    if (opened != NULL) {
        (void)closedir(opened);
    }
    return files;
}

void lab_files_free(char **files)
{
    for (size_t i = 0; files[i] != NULL; i++) {
        free(files[i]);
    }
    free(files);
}

uint64_t lab_file_size(const char *path)
{
    struct stat status;

    ck_assert(stat(path, &status) == 0);
    return (uint64_t)status.st_size;
}

void lab_flip_bit(const char *path, uint64_t bit)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_ge(fd, 0);
    ck_assert(pread(fd, &byte, 1, (off_t)(bit / 8)) == 1);
    byte = (uint8_t)(byte ^ (1u << (bit % 8)));
    ck_assert(pwrite(fd, &byte, 1, (off_t)(bit / 8)) == 1);
    ck_assert(close(fd) == 0);
}
