#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/backup_internal.h"
#include "base/assert.h"

enum { TOPICS_MAX = 1 << 20, FILES_MAX = 1 << 26 };

enum err backup_index_encode(const struct backup *self, struct buf *to)
{
    uint8_t digest[DIGEST_SIZE];
    char text[DIGEST_TEXT_SIZE];
    enum err err;

    ASSERT(to->size == 0 && self->index > 0);
    digest_bytes(self->manifest.data, self->manifest.size, digest);
    digest_to_text(digest, text);
    err = buf_printf(
        to, "quorlog-backup 1\ncluster %s\nentry %" PRIu64 " %" PRIu64 "\nmanifest %zu %s\n",
        self->cluster_id, self->index, self->term, self->manifest.size, text);
    for (size_t i = 0; i < self->topic_count && err == ERR_OK; i++) {
        const struct backup_topic *topic = &self->topics[i];

        err = buf_printf(to, "topic %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", topic->id,
                         topic->start, topic->end, topic->name);
        for (size_t file = 0; file < topic->file_count && err == ERR_OK; file++) {
            err = buf_printf(to, "file %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                             topic->id, topic->files[file].base, topic->files[file].end,
                             topic->files[file].size);
        }
    }
    if (err == ERR_OK) {
        digest_bytes(to->data, to->size, digest);
        digest_to_text(digest, text);
        err = buf_printf(to, "sha256 %s\n", text);
    }
    return err;
}

enum err backup_push_file(struct backup_topic *topic, const struct backup_file *file)
{
    struct backup_file *files;

    if (topic->file_count == FILES_MAX) {
        return ERR_NOMEM;
    }
    files = realloc(topic->files, (topic->file_count + 1) * sizeof *files);
    if (files == NULL) {
        return ERR_NOMEM;
    }
    topic->files = files;
    topic->files[topic->file_count++] = *file;
    return ERR_OK;
}

/* ---- reading ---- */

struct parser {
    struct backup *backup;
    char *at;      /* the next line */
    unsigned line; /* its number, from 1 */
    size_t manifest_size;
    uint8_t manifest_digest[DIGEST_SIZE];
};

static enum err wrong(const struct parser *self, const char *what, struct err_info *info)
{
    return err_set(info, ERR_CORRUPT, "'%s/" BACKUP_INDEX_NAME "', line %u: %s", self->backup->dir,
                   self->line, what);
}

/* The next line, its end cut off; NULL at the end. */
static char *next_line(struct parser *self)
{
    char *line = self->at;
    char *end = strchr(line, '\n');

    if (end == NULL) {
        return NULL;
    }
    *end = '\0';
    self->at = end + 1;
    self->line++;
    return line;
}

static enum err parse_topic(struct parser *self, const char *line, struct err_info *info)
{
    struct backup *backup = self->backup;
    struct backup_topic topic = {0};
    struct backup_topic *topics;
    int end = 0;

    if (sscanf(line, "topic %" SCNu64 " %" SCNu64 " %" SCNu64 " %200s%n", &topic.id, &topic.start,
               &topic.end, topic.name, &end) != 4 ||
        line[end] != '\0' || topic_name_check(topic.name, strlen(topic.name), NULL) != ERR_OK ||
        topic.start > topic.end || backup->topic_count == TOPICS_MAX ||
        (backup->topic_count > 0 && topic.id <= backup->topics[backup->topic_count - 1].id)) {
        return wrong(self, "not a topic", info);
    }
    topics = realloc(backup->topics, (backup->topic_count + 1) * sizeof *topics);
    if (topics == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    backup->topics = topics;
    backup->topics[backup->topic_count++] = topic;
    return ERR_OK;
}

static enum err parse_file(struct parser *self, const char *line, struct err_info *info)
{
    struct backup *backup = self->backup;
    struct backup_topic *topic =
        backup->topic_count > 0 ? &backup->topics[backup->topic_count - 1] : NULL;
    struct backup_file file;
    uint64_t id;
    int end = 0;

    if (sscanf(line, "file %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 "%n", &id, &file.base,
               &file.end, &file.size, &end) != 4 ||
        line[end] != '\0' || topic == NULL || id != topic->id || file.base >= file.end ||
        file.size <= STORE_HEADER_SIZE || file.end > topic->end ||
        (topic->file_count > 0 && file.base != topic->files[topic->file_count - 1].end)) {
        return wrong(self, "not a file of this topic that follows on the one before", info);
    }
    return backup_push_file(topic, &file) == ERR_OK ? ERR_OK
                                                    : err_set(info, ERR_NOMEM, "out of memory");
}

static enum err parse_head(struct parser *self, struct err_info *info)
{
    struct backup *backup = self->backup;
    const char *line = next_line(self);
    char text[DIGEST_TEXT_SIZE];
    unsigned version = 0;
    int end = 0;

    if (line == NULL || sscanf(line, "quorlog-backup %u%n", &version, &end) != 1 ||
        line[end] != '\0') {
        return wrong(self, "this is no backup's index", info);
    }
    if (version != 1) {
        return err_set(info, ERR_VERSION, "'%s' is a backup of version %u; this program knows 1",
                       backup->dir, version);
    }
    line = next_line(self);
    if (line == NULL || sscanf(line, "cluster %32[0-9a-f]%n", backup->cluster_id, &end) != 1 ||
        line[end] != '\0' || strlen(backup->cluster_id) != BACKUP_CLUSTER_ID_SIZE - 1) {
        return wrong(self, "not a cluster's id", info);
    }
    line = next_line(self);
    if (line == NULL ||
        sscanf(line, "entry %" SCNu64 " %" SCNu64 "%n", &backup->index, &backup->term, &end) != 2 ||
        line[end] != '\0' || backup->index == 0 || backup->term == 0) {
        return wrong(self, "not an entry", info);
    }
    line = next_line(self);
    if (line == NULL ||
        sscanf(line, "manifest %zu %64[0-9a-f]%n", &self->manifest_size, text, &end) != 2 ||
        line[end] != '\0' || self->manifest_size > MANIFEST_SIZE_MAX ||
        !digest_from_text(text, self->manifest_digest)) {
        return wrong(self, "not a manifest", info);
    }
    return ERR_OK;
}

/* B1 */
static enum err check_topics(const struct parser *self, struct err_info *info)
{
    for (size_t i = 0; i < self->backup->topic_count; i++) {
        const struct backup_topic *topic = &self->backup->topics[i];
        bool whole = topic->file_count == 0
                         ? topic->start == topic->end
                         : topic->files[0].base <= topic->start &&
                               topic->files[topic->file_count - 1].end == topic->end;

        if (!whole) {
            return err_set(info, ERR_CORRUPT,
                           "'%s/" BACKUP_INDEX_NAME "': the files of topic '%s' do not hold it all",
                           self->backup->dir, topic->name);
        }
    }
    return ERR_OK;
}

/* The sum is that of all lines above the last one, which is cut off. */
static enum err check_sum(struct parser *self, char *text, struct err_info *info)
{
    static const char word[] = "sha256 ";
    uint8_t digest[DIGEST_SIZE];
    char wanted[sizeof word + DIGEST_TEXT_SIZE];
    char sum[DIGEST_TEXT_SIZE];
    size_t size = strlen(text);
    size_t last = sizeof word - 1 + DIGEST_TEXT_SIZE; /* with its end of line */

    if (size <= last) {
        return wrong(self, "it is too short", info);
    }
    digest_bytes(text, size - last, digest);
    digest_to_text(digest, sum);
    (void)snprintf(wanted, sizeof wanted, "%s%s\n", word, sum); /* fits */
    if (strcmp(text + size - last, wanted) != 0) {
        return err_set(info, ERR_CORRUPT, "'%s/" BACKUP_INDEX_NAME "' does not match its sum",
                       self->backup->dir);
    }
    text[size - last] = '\0';
    return ERR_OK;
}

enum err backup_index_parse(struct backup *self, char *text, size_t *ret_manifest_size,
                            uint8_t ret_manifest_digest[DIGEST_SIZE], struct err_info *info)
{
    struct parser parser = {.backup = self, .at = text};
    enum err err = check_sum(&parser, text, info);
    const char *line;

    ASSERT(self->topics == NULL);
    err = err == ERR_OK ? parse_head(&parser, info) : err;
    while (err == ERR_OK && (line = next_line(&parser)) != NULL) {
        err = strncmp(line, "topic ", 6) == 0 ? parse_topic(&parser, line, info)
                                              : parse_file(&parser, line, info);
    }
    err = err == ERR_OK ? check_topics(&parser, info) : err;
    if (err == ERR_OK) {
        *ret_manifest_size = parser.manifest_size;
        memcpy(ret_manifest_digest, parser.manifest_digest, DIGEST_SIZE);
    }
    return err;
}
