/* Inputs to begin with for fuzz_client.c, which says what they are made of. */
#include <string.h>

#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"
#include "record/record_set.h"

static void put_answer(struct buf *seed, uint16_t type, const ProtobufCMessage *message,
                       const void *body, size_t body_size)
{
    uint8_t packed[512];
    size_t size = protobuf_c_message_pack(message, packed);

    fuzz_put_u16(seed, type);
    fuzz_put_part(seed, packed, size);
    fuzz_put_part(seed, body, body_size);
}

/* A batch of two records. */
static size_t make_batch(uint8_t *to)
{
    const struct record record = {.value = "v", .value_size = 1};
    struct batch_header header = {.record_count = 2, .raft_index = 5};
    struct buf body;

    buf_init(&body, 100);
    (void)record_set_append(&body, &record); /* fits */
    (void)record_set_append(&body, &record);
    header.size = (uint32_t)(BATCH_HEADER_SIZE + body.size);
    batch_header_encode(&header, to);
    memcpy(to + BATCH_HEADER_SIZE, body.data, body.size);
    buf_fini(&body);
    fix_batches(to, header.size, NULL);
    return header.size;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (uint8_t what = 0; what < 128; what = (uint8_t)(what + (what < 8 ? 1 : 9))) {
        Quorlog__TopicListReply list = QUORLOG__TOPIC_LIST_REPLY__INIT;
        Quorlog__TopicDescribeReply describe = QUORLOG__TOPIC_DESCRIBE_REPLY__INIT;
        Quorlog__StatusReply status = QUORLOG__STATUS_REPLY__INIT;
        Quorlog__ClusterChangeReply change = QUORLOG__CLUSTER_CHANGE_REPLY__INIT;
        Quorlog__InitProducerReply init = QUORLOG__INIT_PRODUCER_REPLY__INIT;
        Quorlog__ProduceReply produce = QUORLOG__PRODUCE_REPLY__INIT;
        Quorlog__ConsumeReply consume = QUORLOG__CONSUME_REPLY__INIT;
        Quorlog__Error error = QUORLOG__ERROR__INIT;
        uint8_t batch[200];
        size_t batch_size = make_batch(batch);
        struct buf seed = {0};

        fuzz_put_u8(&seed, what);
        fuzz_put_u8(&seed, 3);
        error.code = ERR_NO_LEADER;
        if (what % 8 < 4) {
            const ProtobufCMessage *replies[] = {&list.base, &describe.base, &status.base,
                                                 &change.base};
            static const uint16_t types[] = {37, 39, 49, 81};

            put_answer(&seed, types[what % 8], replies[what % 8], "", 0);
        } else if (what % 8 < 6) {
            init.producer_id = 9;
            init.window = 64;
            produce.record_count = 2;
            if ((what & 16) == 0) {
                put_answer(&seed, 41, &init.base, "", 0);
            }
            put_answer(&seed, 17, &produce.base, "", 0);
        } else {
            consume.next_offset = 2;
            consume.log_end = 2;
            put_answer(&seed, 0x8000 | 19, &consume.base, batch, batch_size);
            put_answer(&seed, 23, &consume.base, "", 0);
        }
        put_answer(&seed, 3, &error.base, "", 0);
        fuzz_emit(emit, arg, &seed);
    }
}
