#include "server/lab.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/tmpdir.h"
#include "log/batch.h"
#include "record.pb-c.h"

enum { WAIT_MS = 20000, FRAME_SIZE_MAX = 64 << 20 };

/* ---- nodes ---- */

void lab_init(struct lab *self)
{
    memset(self, 0, sizeof *self);
    config_init(&self->config);
    self->dir = tmpdir_new();
    ck_assert_int_lt(snprintf(self->config.data, sizeof self->config.data, "%s/data", self->dir),
                     (int)sizeof self->config.data);
    strcpy(self->config.listen, "127.0.0.1:0");
    self->config.threads = 2;
    self->config.journal_segment_size = 1 << 20;
    strcpy(self->config.log_level, "error");
}

static uint16_t free_port(int *ret_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *ret_fd = fd;
    return ntohs(address.sin_port);
}

void lab_init_cluster(struct lab *labs, unsigned count)
{
    char list[1024] = "";
    int fds[MEMBERSHIP_MAX];
    uint16_t ports[MEMBERSHIP_MAX];

    for (unsigned i = 0; i < count; i++) {
        size_t at = strlen(list);

        ports[i] = free_port(&fds[i]);
        ck_assert_int_lt(snprintf(list + at, sizeof list - at, "%s%u=127.0.0.1:%u",
                                  i == 0 ? "" : ",", i + 1, ports[i]),
                         (int)(sizeof list - at));
    }
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
        lab_init(&labs[i]);
        labs[i].config.id = i + 1;
        labs[i].config.threads = 1;
        labs[i].config.transfer_ms = 300;
        snprintf(labs[i].config.listen, sizeof labs[i].config.listen, "127.0.0.1:%u", ports[i]);
        strcpy(labs[i].config.bootstrap, list);
    }
}

void lab_fini(struct lab *self)
{
    tmpdir_remove(self->dir);
}

static void on_fatal(void *arg, enum err err, const char *text)
{
    (void)arg;
    fprintf(stderr, "fatal: %s: %s\n", err_name(err), text);
    abort();
}

static void on_stop(uv_async_t *async)
{
    uv_stop(async->loop);
}

static void run(void *arg)
{
    struct lab *self = arg;
    struct node_options options = {.config = &self->config,
                                   .loop = &self->loop,
                                   .diag = &self->diag,
                                   .io = io_real(),
                                   .fatal = on_fatal,
                                   .arg = self};

    self->err = config_validate(&self->config, &self->info);
    if (self->err == ERR_OK) {
        self->err = node_start(&options, &self->node, &self->info);
    }
    if (self->err == ERR_OK) {
        self->port = node_port(self->node);
    }
    uv_sem_post(&self->ready);
    if (self->err == ERR_OK) {
        uv_run(&self->loop, UV_RUN_DEFAULT);
        node_stop(self->node);
        self->node = NULL;
    }
    uv_close((uv_handle_t *)&self->stop, NULL);
    uv_run(&self->loop, UV_RUN_DEFAULT);
}

enum err lab_try_start(struct lab *self)
{
    enum diag_level level = DIAG_ERROR;

    ck_assert(diag_level_parse(self->config.log_level, &level));
    diag_init_stderr(&self->diag, level, self->config.id);
    ck_assert_int_eq(uv_loop_init(&self->loop), 0);
    ck_assert_int_eq(uv_async_init(&self->loop, &self->stop, on_stop), 0);
    ck_assert_int_eq(uv_sem_init(&self->ready, 0), 0);
    ck_assert_int_eq(uv_thread_create(&self->thread, run, self), 0);
    uv_sem_wait(&self->ready);
    uv_sem_destroy(&self->ready);
    if (self->err != ERR_OK) {
        uv_thread_join(&self->thread);
        ck_assert_int_eq(uv_loop_close(&self->loop), 0);
    }
    return self->err;
}

void lab_start(struct lab *self)
{
    enum err err = lab_try_start(self);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), self->info.text);
}

void lab_stop(struct lab *self)
{
    uv_async_send(&self->stop);
    uv_thread_join(&self->thread);
    ck_assert_int_eq(uv_loop_close(&self->loop), 0);
}

unsigned lab_leader(struct lab *labs, unsigned count)
{
    for (unsigned waited_ms = 0; waited_ms < WAIT_MS; waited_ms += 5) {
        uint64_t leader = 0;
        bool same = true;

        for (unsigned i = 0; i < count; i++) {
            uint64_t id = labs[i].node == NULL ? 0 : group_leader_id(labs[i].node->group);

            if (labs[i].node != NULL) {
                same = same && id != 0 && (leader == 0 || leader == id);
                leader = id;
            }
        }
        for (unsigned i = 0; i < count && same; i++) {
            if (labs[i].node != NULL && labs[i].config.id == leader) {
                return i;
            }
        }
        usleep(5000);
    }
    ck_abort_msg("no node leads");
    return 0;
}

/* ---- the client ---- */

bool wire_try_open(const struct lab *lab, struct wire *ret_wire)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(lab->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct wire self = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

    ck_assert_int_ge(self.fd, 0);
    if (connect(self.fd, (struct sockaddr *)&address, sizeof address) != 0) {
        wire_close(&self);
        return false;
    }
    *ret_wire = self;
    return true;
}

struct wire wire_open(const struct lab *lab)
{
    struct wire self = {.fd = -1};

    ck_assert(wire_try_open(lab, &self));
    return self;
}

void wire_close(struct wire *self)
{
    close(self->fd);
    self->fd = -1;
}

/* What the other side no longer takes is lost; what it says comes with wire_receive. */
void wire_bytes(struct wire *self, const void *data, size_t size)
{
    const uint8_t *at = data;

    while (size > 0) {
        ssize_t n = send(self->fd, at, size, MSG_NOSIGNAL);

        if (n < 0) {
            ck_assert(errno == EPIPE || errno == ECONNRESET);
            return;
        }
        at += n;
        size -= (size_t)n;
    }
}

void wire_send_as(struct wire *self, uint64_t request_id, uint16_t type,
                  const ProtobufCMessage *message, const void *body, size_t body_size)
{
    size_t header_size = message == NULL ? 0 : protobuf_c_message_get_packed_size(message);
    size_t size = 24 + header_size + body_size;
    uint8_t *frame = calloc(1, size);

    ck_assert_ptr_nonnull(frame);
    bytes_put_u32(frame, (uint32_t)(size - 4));
    bytes_put_u16(frame + 8, type);
    bytes_put_u32(frame + 12, (uint32_t)header_size);
    bytes_put_u64(frame + 16, request_id);
    if (message != NULL) {
        protobuf_c_message_pack(message, frame + 24);
    }
    if (body_size > 0) {
        memcpy(frame + 24 + header_size, body, body_size);
    }
    bytes_put_u32(frame + 4, crc32c(frame + 8, 16 + header_size));
    wire_bytes(self, frame, size);
    free(frame);
}

uint64_t wire_send(struct wire *self, uint16_t type, const ProtobufCMessage *message,
                   const void *body, size_t body_size)
{
    self->request_id++;
    wire_send_as(self, self->request_id, type, message, body, body_size);
    return self->request_id;
}

bool wire_readable(const struct wire *self, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = self->fd, .events = POLLIN};

    return poll(&poll_fd, 1, timeout_ms) == 1;
}

static bool read_all(struct wire *self, uint8_t *to, size_t size)
{
    while (size > 0) {
        ssize_t n;

        ck_assert_msg(wire_readable(self, WAIT_MS), "nothing comes");
        n = recv(self->fd, to, size, 0);
        if (n <= 0) {
            return false;
        }
        to += n;
        size -= (size_t)n;
    }
    return true;
}

bool wire_receive(struct wire *self, struct answer *ret_answer)
{
    uint8_t prefix[24];
    uint32_t size;
    uint8_t *frame;

    if (!read_all(self, prefix, sizeof prefix)) {
        return false;
    }
    size = bytes_get_u32(prefix);
    ck_assert_uint_ge(size, 20);
    ck_assert_uint_le(size, FRAME_SIZE_MAX);
    frame = malloc(size + 4);
    ck_assert_ptr_nonnull(frame);
    memcpy(frame, prefix, sizeof prefix);
    if (!read_all(self, frame + 24, size - 20)) {
        free(frame);
        return false;
    }
    *ret_answer = (struct answer){.type = bytes_get_u16(frame + 8),
                                  .request_id = bytes_get_u64(frame + 16),
                                  .frame = frame,
                                  .header = frame + 24,
                                  .header_size = bytes_get_u32(frame + 12)};
    ck_assert_uint_le(ret_answer->header_size, size - 20);
    ret_answer->body = ret_answer->header + ret_answer->header_size;
    ret_answer->body_size = size - 20 - ret_answer->header_size;
    ck_assert_uint_eq(bytes_get_u32(frame + 4), crc32c(frame + 8, 16 + ret_answer->header_size));
    return true;
}

void answer_fini(struct answer *self)
{
    free(self->frame);
}

struct wire wire_client(const struct lab *lab)
{
    struct wire self = wire_open(lab);
    Quorlog__Hello hello = QUORLOG__HELLO__INIT;
    struct answer answer;

    hello.protocol_version = 1;
    wire_send(&self, QUORLOG__FRAME_TYPE__FRAME_HELLO, &hello.base, NULL, 0);
    ck_assert(wire_receive(&self, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY);
    answer_fini(&answer);
    return self;
}

Quorlog__Error *wire_expect_error(struct wire *self, enum err err)
{
    struct answer answer;
    Quorlog__Error *error;

    ck_assert_msg(wire_receive(self, &answer), "the connection ended; expected %s", err_name(err));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_ERROR);
    error = quorlog__error__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(error);
    ck_assert_msg(error->code == err, "expected %s, not %s: %s", err_name(err), error->name,
                  error->text);
    ck_assert_str_eq(error->name, err_name(err));
    ck_assert_int_gt((int)strlen(error->text), 0);
    answer_fini(&answer);
    return error;
}

void wire_error(struct wire *self, enum err err)
{
    quorlog__error__free_unpacked(wire_expect_error(self, err), NULL);
}

void wire_expect_end(struct wire *self)
{
    struct answer answer;

    ck_assert(!wire_receive(self, &answer));
}

/* Expects a frame of this type next. */
static struct answer expect(struct wire *self, uint16_t type)
{
    struct answer answer;

    ck_assert(wire_receive(self, &answer));
    if (answer.type == QUORLOG__FRAME_TYPE__FRAME_ERROR) {
        Quorlog__Error *error = quorlog__error__unpack(NULL, answer.header_size, answer.header);

        ck_abort_msg("%s: %s", error->name, error->text);
    }
    ck_assert_uint_eq(answer.type, type);
    return answer;
}

void wire_create(struct wire *self, const char *topic)
{
    Quorlog__TopicCreateRequest request = QUORLOG__TOPIC_CREATE_REQUEST__INIT;
    struct answer answer;

    request.topic = (char *)(uintptr_t)topic;
    wire_send(self, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE, &request.base, NULL, 0);
    answer = expect(self, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE_REPLY);
    ck_assert_uint_eq(answer.request_id, self->request_id);
    answer_fini(&answer);
}

static size_t finish_batch(uint8_t *to, size_t body_size, unsigned count, uint64_t producer_id,
                           uint32_t sequence)
{
    struct batch_header header = {.size = (uint32_t)(BATCH_HEADER_SIZE + body_size),
                                  .record_count = count,
                                  .producer_id = producer_id,
                                  .base_sequence = sequence,
                                  .body_crc32c = crc32c(to + BATCH_HEADER_SIZE, body_size)};

    batch_header_encode(&header, to);
    memset(to + 4, 0, 4); /* Stamped fields are zero when a producer sends it. */
    return header.size;
}

size_t make_batch(uint8_t *to, size_t size_max, unsigned count, uint64_t producer_id,
                  uint32_t sequence)
{
    Record__RecordSet set = RECORD__RECORD_SET__INIT;
    Record__Record records[64];
    Record__Record *pointers[64];
    char values[64][16];

    ck_assert_uint_le(count, 64);
    for (unsigned i = 0; i < count; i++) {
        record__record__init(&records[i]);
        records[i].value.len = (size_t)snprintf(values[i], sizeof values[i], "r%u", i);
        records[i].value.data = (uint8_t *)values[i];
        pointers[i] = &records[i];
    }
    set.records = pointers;
    set.n_records = count;
    ck_assert_uint_le(BATCH_HEADER_SIZE + record__record_set__get_packed_size(&set), size_max);
    return finish_batch(to, record__record_set__pack(&set, to + BATCH_HEADER_SIZE), count,
                        producer_id, sequence);
}

size_t make_large_batch(uint8_t *to, size_t size_max, size_t value_size)
{
    Record__RecordSet set = RECORD__RECORD_SET__INIT;
    Record__Record record = RECORD__RECORD__INIT;
    Record__Record *pointer = &record;
    size_t size;

    record.value.data = calloc(1, value_size);
    ck_assert_ptr_nonnull(record.value.data);
    record.value.len = value_size;
    set.records = &pointer;
    set.n_records = 1;
    ck_assert_uint_le(BATCH_HEADER_SIZE + record__record_set__get_packed_size(&set), size_max);
    size = record__record_set__pack(&set, to + BATCH_HEADER_SIZE);
    free(record.value.data);
    return finish_batch(to, size, 1, 0, 0);
}

uint64_t wire_produce_start(struct wire *self, const char *topic, const void *batch, size_t size,
                            uint32_t deadline_ms)
{
    Quorlog__ProduceRequest request = QUORLOG__PRODUCE_REQUEST__INIT;

    request.topic = (char *)(uintptr_t)topic;
    request.deadline_ms = deadline_ms;
    return wire_send(self, QUORLOG__FRAME_TYPE__FRAME_PRODUCE, &request.base, batch, size);
}

Quorlog__ProduceReply *wire_produce(struct wire *self, const char *topic, unsigned count)
{
    uint8_t batch[4096];
    size_t size = make_batch(batch, sizeof batch, count, 0, 0);
    Quorlog__ProduceReply *reply;
    struct answer answer;

    wire_produce_start(self, topic, batch, size, 0);
    answer = expect(self, QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY);
    ck_assert_uint_eq(answer.request_id, self->request_id);
    reply = quorlog__produce_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    answer_fini(&answer);
    return reply;
}

Quorlog__ConsumeReply *wire_consumed(struct wire *self, size_t *ret_body_size)
{
    struct answer answer = expect(self, QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY);
    Quorlog__ConsumeReply *reply =
        quorlog__consume_reply__unpack(NULL, answer.header_size, answer.header);
    uint64_t next = 0;
    size_t at = 0;

    ck_assert_ptr_nonnull(reply);
    while (at < answer.body_size) {
        struct batch_header header;
        struct err_info info;

        ck_assert_uint_ge(answer.body_size - at, BATCH_HEADER_SIZE);
        ck_assert_msg(batch_header_decode(answer.body + at, 16 << 20, &header, &info) == ERR_OK,
                      "%s", info.text);
        ck_assert_uint_le(header.size, answer.body_size - at);
        ck_assert_int_eq(batch_check_body(&header, answer.body + at + BATCH_HEADER_SIZE, &info),
                         ERR_OK);
        ck_assert(at == 0 ? header.base_offset <= reply->offset : header.base_offset == next);
        next = batch_end_offset(&header);
        at += header.size;
    }
    ck_assert(at == 0 || next == reply->next_offset);
    if (ret_body_size != NULL) {
        *ret_body_size = answer.body_size;
    }
    answer_fini(&answer);
    return reply;
}
