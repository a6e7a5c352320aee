/*
 * quorlog prove: makes and checks proofs that a record is at its place (archive/proof.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive/proof.h"
#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/json.h"
#include "cli/question.h"
#include "quorlog.pb-c.h"
#include "record/batch_records.h"

static const struct option_spec options[] = {
    CALLER_OPTIONS,
    {"at", 0, "OFFSET", false,
     "the head is the last batch that ends at or below; default: the log's end"},
    {"output", 'o', "FILE", false, "write the proof to FILE, whole or not at all"},
    {"check", 0, "FILE", false, "check a proof, without any node; - is standard input"},
    {"head", 0, "DIGEST", false, "with --check: the head's digest must be this one"},
    {"json", 0, NULL, false, "with --check: print an object"},
    {NULL, 0, NULL, false, NULL},
};

/* ---- making ---- */

struct prove {
    struct client *client;
    const char *topic;
    uint64_t offset;
    uint64_t at;   /* UINT64_MAX: the end */
    uint64_t head; /* one past the last offset of the head */
    uint8_t head_digest[DIGEST_SIZE];
    uint8_t previous[DIGEST_SIZE];
    struct proof_writer writer;
};

/* The header of the batch that holds offset. Returns the exit code. */
static int ask_header(struct prove *self, uint64_t offset, struct batch_header *ret_header)
{
    Quorlog__DigestRequest request = QUORLOG__DIGEST_REQUEST__INIT;
    Quorlog__DigestReply *reply;
    struct reply answer;
    int code;

    request.topic = (char *)self->topic; /* not written to */
    request.offset = offset;
    code = question_ask(self->client, QUORLOG__FRAME_TYPE__FRAME_DIGEST, &request.base,
                        &quorlog__digest_reply__descriptor, &answer);
    if (code != EXIT_OK) {
        return code;
    }
    reply = quorlog__digest_reply__unpack(NULL, answer.header_size, answer.header);
    ASSERT(reply != NULL); /* The client has looked at it. */
    if (reply->header.len == 0) {
        code = fail("topic '%s' has no records", self->topic);
    } else if (reply->header.len != BATCH_HEADER_SIZE ||
               batch_header_decode(reply->header.data, CHAIN_BATCH_SIZE_MAX, ret_header, NULL) !=
                   ERR_OK) {
        code = fail("the node's answer is no batch header");
    }
    quorlog__digest_reply__free_unpacked(reply, NULL);
    reply_fini(&answer);
    return code;
}

/* Where the proof begins and ends. */
static int place(struct prove *self, struct batch_header *ret_first)
{
    struct batch_header header = {0};
    int code = ask_header(self, self->offset, ret_first);

    if (code == EXIT_OK && ret_first->base_offset > 0) {
        code = ask_header(self, ret_first->base_offset - 1, &header);
        if (code != EXIT_OK) {
            return fail("without the batch before offset %llu there is nothing to chain it to",
                        (unsigned long long)ret_first->base_offset);
        }
        memcpy(self->previous, header.digest, DIGEST_SIZE);
    }
    if (code == EXIT_OK) {
        code = ask_header(self, self->at == UINT64_MAX ? self->at : self->at - 1, &header);
    }
    if (code == EXIT_OK && batch_end_offset(&header) > self->at) {
        code = header.base_offset > 0 ? ask_header(self, header.base_offset - 1, &header) : code;
    }
    if (code == EXIT_OK &&
        (batch_end_offset(&header) <= self->offset || batch_end_offset(&header) > self->at)) {
        code = fail("no batch ends behind offset %llu and at or below %llu",
                    (unsigned long long)self->offset, (unsigned long long)self->at);
    }
    if (code == EXIT_OK) {
        self->head = batch_end_offset(&header);
        memcpy(self->head_digest, header.digest, DIGEST_SIZE);
    }
    return code;
}

/* The batch itself, and the proof's first line. */
static int begin(struct prove *self, FILE *file, const struct batch_header *first)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;
    struct reply answer;
    struct err_info info;
    struct proof_start start = {
        .topic = self->topic, .offset = self->offset, .previous = self->previous};
    int code;

    request.topic = (char *)self->topic; /* not written to */
    request.start = QUORLOG__START__START_OFFSET;
    request.offset = self->offset;
    request.bytes_max = 1; /* One batch always comes. */
    code = question_ask(self->client, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request.base,
                        &quorlog__consume_reply__descriptor, &answer);
    if (code != EXIT_OK) {
        return code;
    }
    if (answer.body_size < first->size) {
        code = fail("the node did not send the batch at offset %llu",
                    (unsigned long long)first->base_offset);
    } else {
        start.batch = answer.body;
        start.size = first->size;
        code = proof_begin(&self->writer, file, &start, &info) == ERR_OK ? EXIT_OK
                                                                         : fail("%s", info.text);
    }
    reply_fini(&answer);
    return code;
}

/* The links of a part of the batches behind it. */
static int add_links(struct prove *self)
{
    Quorlog__ProofRequest request = QUORLOG__PROOF_REQUEST__INIT;
    uint64_t before = self->writer.chain.offset;
    struct reply answer;
    struct err_info info;
    int code;

    request.topic = (char *)self->topic; /* not written to */
    request.offset = before;
    request.end = self->head;
    code = question_ask(self->client, QUORLOG__FRAME_TYPE__FRAME_PROOF, &request.base,
                        &quorlog__proof_reply__descriptor, &answer);
    for (size_t at = 0; code == EXIT_OK && at + CHAIN_LINK_SIZE <= answer.body_size;
         at += CHAIN_LINK_SIZE) {
        enum err err = proof_add(&self->writer, answer.body + at, &info);

        if (err == ERR_INVALID) {
            code = fail("%s; --at %llu takes the last head before them", info.text,
                        (unsigned long long)self->writer.chain.offset);
        } else if (err != ERR_OK) {
            code = fail("%s; 'quorlog verify --deep' tells more", info.text);
        }
    }
    if (code == EXIT_OK && self->writer.chain.offset == before) {
        code = fail("the node does not tell what follows offset %llu", (unsigned long long)before);
    }
    reply_fini(&answer);
    return code;
}

static int write_proof(struct prove *self, FILE *file)
{
    struct batch_header first = {0};
    struct err_info info;
    int code = place(self, &first);

    if (code == EXIT_OK) {
        code = begin(self, file, &first);
    }
    while (code == EXIT_OK && self->writer.chain.offset < self->head) {
        code = add_links(self);
    }
    if (code == EXIT_OK &&
        (self->writer.chain.offset != self->head ||
         memcmp(self->writer.chain.digest, self->head_digest, DIGEST_SIZE) != 0)) {
        code = fail("the batches do not lead to the head; 'quorlog verify --deep' tells more");
    }
    if (code == EXIT_OK && proof_end(&self->writer, &info) != ERR_OK) {
        code = fail("%s", info.text);
    }
    proof_writer_fini(&self->writer);
    return code;
}

/* Into PATH.tmp, which then takes PATH's place. */
static int write_file(struct prove *self, const char *path)
{
    char temporary[4096];
    FILE *file;
    int code;

    if ((size_t)snprintf(temporary, sizeof temporary, "%s.tmp", path) >= sizeof temporary) {
        return usage("the path is too long");
    }
    file = fopen(temporary, "wbe");
    if (file == NULL) {
        return fail("open '%s': %s", temporary, strerror(errno));
    }
    code = write_proof(self, file);
    if (fclose(file) != 0 && code == EXIT_OK) {
        code = fail("write '%s': %s", temporary, strerror(errno));
    }
    if (code == EXIT_OK && rename(temporary, path) != 0) {
        code = fail("rename to '%s': %s", path, strerror(errno));
    }
    if (code != EXIT_OK) {
        (void)unlink(temporary); /* What is left is no proof in any case. */
    }
    return code;
}

static int run_make(const struct invocation *invocation)
{
    struct prove self = {.topic = invocation->arguments[0], .at = UINT64_MAX};
    const char *path = option_value(invocation, "output");
    struct err_info info;
    int code;

    if (invocation->argument_count != 2) {
        return usage("'prove' needs a topic and an offset, or --check FILE");
    }
    if (parse_number(invocation->arguments[1], "the offset", 0, INT64_MAX, &self.offset, &info) !=
            ERR_OK ||
        option_number(invocation, "at", UINT64_MAX, 1, INT64_MAX, &self.at, &info) != ERR_OK) {
        return usage("%s", info.text);
    }
    code = caller_open(invocation, &self.client);
    if (code == EXIT_OK) {
        code = path != NULL ? write_file(&self, path) : write_proof(&self, stdout);
        caller_close(self.client);
    }
    return code;
}

/* ---- checking ---- */

static void print_one(const struct proof *proof, bool json, const struct record *record)
{
    if (json) {
        format_print_json(proof->topic, record);
    } else {
        format_print(stdout,
                     record->key != NULL ? "offset  %o\ntime    %t\nkey     %k\nvalue   %v\n"
                                         : "offset  %o\ntime    %t\nvalue   %v\n",
                     record);
    }
}

/* The record of the proof, out of its batch. */
static int print_record(const struct proof *proof, bool json)
{
    struct batch_records records;
    struct record record;
    bool found = false;
    enum err err;

    batch_records_init(&records);
    err = batch_records_start(&records, &proof->header, proof->body.data, 0, NULL);
    while (err == ERR_OK && (err = batch_records_next(&records, &record)) == ERR_OK) {
        if (record.offset == proof->offset) {
            print_one(proof, json, &record);
            found = true;
        }
    }
    batch_records_fini(&records);
    if (err != ERR_AGAIN) {
        return fail("the proof holds, but its batch does not hold the records that it should");
    }
    if (!found) {
        return fail("the proof holds, but record %llu is not in its batch any more: compaction has "
                    "dropped it",
                    (unsigned long long)proof->offset);
    }
    return EXIT_OK;
}

static int print_proof(const struct proof *proof, bool json)
{
    char digest[DIGEST_TEXT_SIZE];
    int code;

    digest_to_text(proof->head_digest, digest);
    if (!json) {
        printf("topic   %s (by its own word: compare the digest)\n", proof->topic);
    }
    code = print_record(proof, json);
    if (json) {
        json_print(json_pack("{s:b,s:{s:o,s:s}}", "holds", 1, "head", "offset",
                             json_number(proof->head_offset), "digest", digest));
    } else {
        printf("head    %llu %s\nThe proof holds.\n", (unsigned long long)proof->head_offset,
               digest);
    }
    return code;
}

static int run_check(const struct invocation *invocation)
{
    const char *path = option_value(invocation, "check");
    const char *head = option_value(invocation, "head");
    uint8_t wanted[DIGEST_SIZE];
    struct err_info info;
    struct proof proof;
    FILE *file;
    enum err err;
    int code;

    if (invocation->argument_count > 0 || option_given(invocation, "output")) {
        return usage("--check FILE takes no other argument");
    }
    if (head != NULL && !digest_from_text(head, wanted)) {
        return usage("--head: a digest has 64 characters of 0-9 a-f");
    }
    file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (file == NULL) {
        return fail("open '%s': %s", path, strerror(errno));
    }
    err = proof_check(file, &proof, &info);
    if (file != stdin) {
        (void)fclose(file); /* It was only read. */
    }
    if (err != ERR_OK) {
        return fail("'%s' proves nothing: %s", path, info.text);
    }
    if (head != NULL && memcmp(wanted, proof.head_digest, DIGEST_SIZE) != 0) {
        code = fail("'%s' is a proof for another head", path);
    } else {
        code = print_proof(&proof, option_given(invocation, "json"));
    }
    proof_fini(&proof);
    return code;
}

static int run_prove(const struct invocation *invocation)
{
    if (option_given(invocation, "check")) {
        return run_check(invocation);
    }
    if (option_given(invocation, "head") || option_given(invocation, "json")) {
        return usage("--head and --json belong to --check");
    }
    return run_make(invocation);
}

const struct command_spec command_prove = {
    .name = "prove",
    .synopsis = "TOPIC OFFSET | --check FILE",
    .summary = "print a proof that a record is at its place, or check one",
    .details =
        "The proof holds the record's batch, and for each later batch up to the head what its\n"
        "digest is made of: whoever trusts the head's digest needs nothing else, and no node.\n"
        "'quorlog topic describe' shows the digest of the newest head. Where a topic was "
        "compacted\n"
        "there is no proof, nor from below to a head above: --at takes an earlier head. The "
        "format\n"
        "is in docs/protocol.md.\n"
        "\n"
        "examples:\n"
        "  quorlog prove events 42 -o events-42.proof\n"
        "  quorlog prove --check events-42.proof --head 39b1d20be4fd…\n",
    .options = options,
    .arguments_min = 0,
    .arguments_max = 2,
    .run = run_prove,
};
