/* Which topics should be there, which are, and what else lies among them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/fsck_internal.h"
#include "base/assert.h"
#include "raft_fsm/command.h"

enum { DIR_NAME_SIZE = TOPIC_NAME_SIZE_MAX + 32 };

static void put_dir_name(char buffer[DIR_NAME_SIZE], const char *name, uint64_t id)
{
    int size = snprintf(buffer, DIR_NAME_SIZE, "%s-%" PRIu64, name, id);

    ASSERT(size > 0 && size < DIR_NAME_SIZE);
}

/* Takes "NAME-ID" apart; false when it is none. */
static bool parse_dir_name(const char *dir_name, struct manifest_topic *ret_topic)
{
    const char *dash = strrchr(dir_name, '-');
    char again[DIR_NAME_SIZE];
    struct manifest_topic topic = {0};

    if (dash == NULL || dash - dir_name > TOPIC_NAME_SIZE_MAX ||
        sscanf(dash + 1, "%20" SCNu64, &topic.id) != 1) {
        return false;
    }
    memcpy(topic.name, dir_name, (size_t)(dash - dir_name));
    if (topic_name_check(topic.name, strlen(topic.name), NULL) != ERR_OK) {
        return false;
    }
    put_dir_name(again, topic.name, topic.id);
    *ret_topic = topic;
    return strcmp(again, dir_name) == 0;
}

static bool has_name(const struct fsck_names *names, const char *name)
{
    size_t low = 0;
    size_t high = names->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(names->list[middle], name);

        if (order == 0) {
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

/* Whether the journal's entry of that index has the command that made the topic. ERR_NOMEM. */
static enum err find_creation(const struct fsck *self, const struct manifest_topic *topic,
                              bool *ret_made)
{
    uint64_t index = topic->id / COMMAND_COUNT_MAX;
    const struct journal_recovery *journal = &self->journal;
    struct command_reader reader;
    struct command_view command;
    const struct entry *entry;
    enum err err;

    *ret_made = false;
    if (self->journal_void || index < journal->first_index ||
        index - journal->first_index >= journal->entry_count) {
        return ERR_OK;
    }
    entry = &journal->entries[index - journal->first_index];
    if (entry->type != ENTRY_COMMAND) {
        return ERR_OK;
    }
    err = command_reader_begin(&reader, entry_payload(entry), entry->size, NULL);
    while (err == ERR_OK) {
        err = command_reader_next(&reader, &command, NULL);
        if (err == ERR_OK && reader.count - 1 == topic->id % COMMAND_COUNT_MAX) {
            *ret_made = command.type == COMMAND_TOPIC_CREATE &&
                        strcmp(command.topic_name, topic->name) == 0;
            break;
        }
    }
    return err == ERR_NOMEM ? err_set(self->info, err, "out of memory") : ERR_OK;
}

/* Whether the snapshot has the topic, or the journal makes it, as far as that is known. */
static enum err find_topic(const struct fsck *self, const struct manifest_topic *topic,
                           bool *ret_made)
{
    *ret_made = true;
    return self->state_unknown ? ERR_OK : find_creation(self, topic, ret_made);
}

/* The topic's indexes, and its log; has_dir: the log is there. */
static enum err check_topic(struct fsck *self, struct fsck_topic *topic, bool has_dir)
{
    struct fsck_parts *parts = calloc(1, sizeof *parts);
    char name[DIR_NAME_SIZE];
    enum err err;

    if (parts == NULL) {
        return err_set(self->info, ERR_NOMEM, "out of memory");
    }
    put_dir_name(name, topic->promised.name, topic->promised.id);
    topic->parts = parts;
    err = fsck_parts_load(self, &topic->promised, name, parts);
    if (err == ERR_OK && has_dir) {
        err = fsck_topic(self, topic);
    }
    err = err == ERR_OK ? fsck_parts_tell(self, topic, parts) : err;
    fsck_parts_free(parts);
    free(parts);
    topic->parts = NULL;
    return err;
}

static enum err check_promised(struct fsck *self, const char *topics_dir,
                               const struct fsck_names *names,
                               const struct manifest_topic *promised)
{
    char name[DIR_NAME_SIZE];
    char path[IO_PATH_SIZE];
    struct fsck_topic topic = {.promised = *promised, .dir = path};
    bool has_dir;
    enum err err;

    put_dir_name(name, promised->name, promised->id);
    has_dir = has_name(names, name);
    err = io_path(path, topics_dir, name, self->info);
    if (err != ERR_OK) {
        return err;
    }
    self->summary.topics++;
    if (!has_dir) {
        struct fsck_verdict verdict = fsck_lost(self);
        const struct fsck_finding finding = {.level = verdict.level,
                                             .what = "missing",
                                             .path = path,
                                             .topic = promised->name,
                                             .has_range = true,
                                             .from = promised->start,
                                             .to = promised->end,
                                             .advice = verdict.advice};

        err = fsck_tell(self, &finding, "the topic's directory is missing");
    }
    return err == ERR_OK ? check_topic(self, &topic, has_dir) : err;
}

static enum err check_other(struct fsck *self, const char *topics_dir, const char *name)
{
    char path[IO_PATH_SIZE];
    struct fsck_topic topic = {.dir = path};
    bool made;
    enum err err = io_path(path, topics_dir, name, self->info);

    if (err != ERR_OK) {
        return err;
    }
    if (!parse_dir_name(name, &topic.promised)) {
        const struct fsck_finding finding = {
            .what = "unknown", .path = path, .advice = "the node leaves it alone"};

        return fsck_tell(self, &finding, "no file that a node makes");
    }
    err = find_topic(self, &topic.promised, &made);
    if (err != ERR_OK) {
        return err;
    }
    if (!made) {
        const struct fsck_finding finding = {
            .what = "leftover", .path = path, .advice = "the node removes it"};

        return fsck_tell(self, &finding,
                         "no topic that the snapshot has or the journal makes: it was deleted");
    }
    self->summary.topics++;
    return check_topic(self, &topic, true);
}

/* Whether check_promised has looked at it. */
static bool is_promised(const struct fsck *self, const char *name)
{
    struct manifest_topic topic;
    const struct manifest_topic *promised;

    if (!parse_dir_name(name, &topic)) {
        return false;
    }
    promised = manifest_find(&self->manifest, topic.id);
    return promised != NULL && strcmp(promised->name, topic.name) == 0;
}

/* A directory of indexes: of a topic that was looked at, or of one whose log is not here yet, or of
 * none. */
static enum err check_index_dir(struct fsck *self, const struct fsck_names *topics,
                                const char *name)
{
    struct fsck_topic topic = {.dir = ""};
    bool made;
    enum err err;

    if (!parse_dir_name(name, &topic.promised)) {
        return fsck_indexes_stray(self, name, false);
    }
    if (is_promised(self, name)) {
        return ERR_OK;
    }
    err = find_topic(self, &topic.promised, &made);
    if (err != ERR_OK || (made && has_name(topics, name))) {
        return err;
    }
    return made ? check_topic(self, &topic, false) : fsck_indexes_stray(self, name, true);
}

static enum err check_index_dirs(struct fsck *self, const struct fsck_names *topics)
{
    struct fsck_names names;
    enum err err = fsck_indexes_list(self, &names);

    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        err = check_index_dir(self, topics, names.list[i]);
    }
    fsck_names_free(&names);
    return err;
}

enum err fsck_topics(struct fsck *self, const char *topics_dir)
{
    struct fsck_names names = {0};
    enum err err = fsck_list(self, topics_dir, &names);

    err = err == ERR_NOT_FOUND ? ERR_OK : err; /* Then no topic's directory is there. */
    for (size_t i = 0; i < self->manifest.topic_count && err == ERR_OK; i++) {
        err = check_promised(self, topics_dir, &names, &self->manifest.topics[i]);
    }
    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        if (!is_promised(self, names.list[i])) {
            err = check_other(self, topics_dir, names.list[i]);
        }
    }
    err = err == ERR_OK ? check_index_dirs(self, &names) : err;
    fsck_names_free(&names);
    return err;
}
