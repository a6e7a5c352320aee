#include "cli/resume.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/json.h"
#include "quorlog.pb-c.h"

enum { FILE_SIZE_MAX = 64 * 1024, FILE_VERSION = 1 };

/* ---- the file ---- */

static int split(struct resume *self, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    int dir_size = slash == NULL ? 1 : (int)(slash == path ? 1 : slash - path);

    if (name[0] == '\0' || strlen(path) + sizeof ".lock" >= IO_PATH_SIZE) {
        return usage("option '--resume': '%s' is no name for a file", path);
    }
    (void)snprintf(self->dir, sizeof self->dir, "%.*s", dir_size, slash == NULL ? "." : path);
    (void)snprintf(self->name, sizeof self->name, "%s", name); /* Both fit. */
    return EXIT_OK;
}

static int lock(struct resume *self, const char *path)
{
    struct io *io = io_real();
    char lock_path[IO_PATH_SIZE];
    struct err_info info;
    int rv;

    (void)snprintf(lock_path, sizeof lock_path, "%s.lock", path); /* Checked in split. */
    if (io_open(io, lock_path, O_RDWR | O_CREAT, &self->lock_fd, &info) != ERR_OK) {
        return fail("%s", info.text);
    }
    rv = io->lock(io, self->lock_fd);
    return rv == 0 ? EXIT_OK
                   : fail("'%s' is in use by another quorlog produce, or cannot be locked", path);
}

static int parse(struct resume *self, const char *path, const struct buf *data, const char *topic)
{
    json_error_t error;
    json_t *object =
        json_loadb((const char *)data->data, data->size, JSON_REJECT_DUPLICATES, &error);
    json_int_t version = 0;
    json_int_t producer = 0;
    json_int_t records = -1;
    json_int_t lines = -1;
    json_int_t position = -1;
    const char *of_topic = "";
    int clean = 0;
    int rv = -1;

    if (object != NULL) {
        rv = json_unpack(object, "{s:I,s:s,s:I,s:I,s:I,s:I,s:b!}", "version", &version, "topic",
                         &of_topic, "producer", &producer, "records", &records, "lines", &lines,
                         "position", &position, "clean", &clean);
    }
    if (rv != 0 || version != FILE_VERSION || producer <= 0 || records < 0 || lines < records ||
        position < 0) {
        json_decref(object);
        return fail("'%s' is no file of 'quorlog produce --resume'", path);
    }
    if (strcmp(of_topic, topic) != 0) {
        int code = fail("'%s' belongs to topic '%s', not '%s'", path, of_topic, topic);

        json_decref(object);
        return code;
    }
    self->producer_id = (uint64_t)producer;
    self->records = (uint64_t)records;
    self->lines = (uint64_t)lines;
    self->position = (uint64_t)position;
    self->clean = clean != 0;
    self->found = true;
    json_decref(object);
    return EXIT_OK;
}

int resume_open(struct resume *self, const char *path, const char *topic)
{
    struct err_info info;
    struct buf data;
    enum err err;
    int code;

    *self = (struct resume){.lock_fd = -1};
    code = split(self, path);
    if (code == EXIT_OK) {
        code = lock(self, path);
    }
    if (code != EXIT_OK) {
        return code;
    }
    buf_init(&data, FILE_SIZE_MAX);
    err = io_read_file(io_real(), path, FILE_SIZE_MAX, &data, &info);
    if (err == ERR_OK) {
        code = parse(self, path, &data, topic);
    } else if (err != ERR_NOT_FOUND) {
        code = fail("%s", info.text);
    }
    buf_fini(&data);
    return code;
}

void resume_close(struct resume *self)
{
    io_close(io_real(), &self->lock_fd);
    ASSERT(self->lock_fd < 0);
}

int resume_save(const struct resume *self, const char *topic)
{
    json_t *object = json_pack(
        "{s:i,s:o,s:o,s:o,s:o,s:o,s:b}", "version", FILE_VERSION, "topic", json_text(topic),
        "producer", json_number(self->producer_id), "records", json_number(self->records), "lines",
        json_number(self->lines), "position", json_number(self->position), "clean", self->clean);
    char *text = json_dumps(object, JSON_INDENT(2));
    struct err_info info;
    enum err err;

    ASSERT(self->producer_id != 0);
    ASSERT(text != NULL); /* The object is ours. */
    err = io_replace_file(io_real(), self->dir, self->name, text, strlen(text), &info);
    free(text);
    json_decref(object);
    return err == ERR_OK ? EXIT_OK : fail("%s", info.text);
}

/* ---- the producer ---- */

/* EXIT_OK also for a failure; then *ret_reply is NULL, and call says why. */
static int claim(struct client *client, const char *topic, uint64_t producer_id, struct call *call,
                 Quorlog__InitProducerReply **ret_reply)
{
    const struct client_claim claim = {.producer_id = producer_id, .topic = topic};
    enum err err = client_claim_producer(client, &claim, caller_on_reply, call);

    *ret_reply = NULL;
    if (err != ERR_OK) {
        return caller_wait(client, err, call);
    }
    client_wait(client, &call->done);
    if (call->err == ERR_OK) {
        *ret_reply = quorlog__init_producer_reply__unpack(NULL, call->reply_size, call->reply);
        if (*ret_reply == NULL || (*ret_reply)->epoch > UINT16_MAX ||
            (*ret_reply)->producer_id == 0) {
            call->err = ERR_PROTOCOL;
            (void)snprintf(call->text, sizeof call->text, "the server's answer cannot be read");
        }
    }
    free(call->reply);
    call->reply = NULL;
    return EXIT_OK;
}

static int check_records(const struct resume *self, const Quorlog__InitProducerReply *reply,
                         const char *topic)
{
    if (reply->producer_id != self->producer_id) {
        return fail("the node does not know how to hand over a producer id: update it");
    }
    if (reply->records < self->records) {
        return fail("topic '%s' has %" PRIu64 " records of producer %" PRIu64 ", but %s says that "
                    "%" PRIu64 " are acknowledged: it is another topic of that name, or was "
                    "restored; remove the file to begin anew",
                    topic, reply->records, self->producer_id, self->name, self->records);
    }
    return EXIT_OK;
}

/* Why an old producer cannot be used, and whether a new one may take its place. */
static int refused(const struct resume *self, const struct call *call)
{
    bool gone = call->err == ERR_PRODUCER_UNKNOWN || call->err == ERR_EPOCHS_USED_UP;

    if (gone && self->clean) {
        return EXIT_OK;
    }
    return gone ? fail("%s: what the last run wrote behind line %" PRIu64 " cannot be told any "
                       "more; compare with the topic, then remove '%s' to begin anew",
                       call->text, self->lines, self->name)
                : fail("%s", call->text);
}

int resume_claim(struct resume *self, struct client *client, const char *topic,
                 struct producer_identity *ret_identity, uint64_t *ret_skip)
{
    Quorlog__InitProducerReply *reply = NULL;
    struct call call = {0};
    int code = EXIT_OK;

    if (self->found) {
        code = claim(client, topic, self->producer_id, &call, &reply);
        if (code == EXIT_OK) {
            code = call.err == ERR_OK ? check_records(self, reply, topic) : refused(self, &call);
        }
    }
    if (code == EXIT_OK && (!self->found || call.err != ERR_OK)) {
        call = (struct call){0};
        self->records = 0;
        code = claim(client, topic, 0, &call, &reply);
        if (code == EXIT_OK && call.err != ERR_OK) {
            code = fail("%s", call.text);
        }
    }
    if (code == EXIT_OK) {
        ASSERT(reply != NULL && reply->records >= self->records);
        self->producer_id = reply->producer_id;
        self->clean = false;
        *ret_identity = (struct producer_identity){.id = reply->producer_id,
                                                   .epoch = (uint16_t)reply->epoch,
                                                   .sequence = (uint32_t)reply->records};
        *ret_skip = reply->records - self->records;
        code = resume_save(self, topic);
    }
    if (reply != NULL) {
        quorlog__init_producer_reply__free_unpacked(reply, NULL);
    }
    return code;
}
