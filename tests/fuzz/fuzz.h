/*
 * What a fuzz target is made of: one function that takes any bytes and must not fail, and one that
 * makes inputs to begin with, by the real encoders.
 *
 * A target is linked twice: with libFuzzer (meson option `fuzz`, clang), and with replay.c, which
 * gives it the files of tests/fuzz/corpus/TARGET and tests/fuzz/regression/TARGET, in every build.
 *
 * Behind a checksum nothing is found by chance, so targets make checksums right (fix.h) before they
 * call the decoder, where a bit of the input says so. What is decoded is encoded again where there
 * is an encoder, and has to be what it was. A check that fails is an ASSERT.
 */
#ifndef QUORLOG_TESTS_FUZZ_FUZZ_H
#define QUORLOG_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "sim/mem_io.h"

/* libFuzzer's name for it; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Calls emit for every input to begin with. */
typedef void (*fuzz_emit_cb)(void *arg, const void *data, size_t size);
void fuzz_seeds(fuzz_emit_cb emit, void *arg);

/* ---- an input, taken apart from its front; what is not there is zeros ---- */

struct fuzz_input {
    const uint8_t *data;
    size_t size;
};

uint8_t fuzz_u8(struct fuzz_input *self);
uint16_t fuzz_u16(struct fuzz_input *self);
uint32_t fuzz_u32(struct fuzz_input *self);
uint64_t fuzz_u64(struct fuzz_input *self);

/* A part: its size, u16, and that many bytes, or as many as there are. */
struct fuzz_input fuzz_part(struct fuzz_input *self);

/* A copy in memory of exactly its size, so that a sanitizer sees each step beyond; free. Never
 * NULL. */
uint8_t *fuzz_copy(const struct fuzz_input *self);

/* As text that ends with a zero; free. */
char *fuzz_text(const struct fuzz_input *self);

/* ---- the same, made ---- */

void fuzz_put(struct buf *to, const void *data, size_t size);
void fuzz_put_u8(struct buf *to, uint8_t value);
void fuzz_put_u16(struct buf *to, uint16_t value);
void fuzz_put_u64(struct buf *to, uint64_t value);
void fuzz_put_part(struct buf *to, const void *data, size_t size);

/* Gives what is in the buffer, and empties it. */
void fuzz_emit(fuzz_emit_cb emit, void *arg, struct buf *from);

/* ---- files ---- */

/* A disk of its own; then files on it, in directories that are there. */
struct io *fuzz_disk_init(struct mem_io *disk);
/* Nothing is open any more, then it goes. */
void fuzz_disk_fini(struct mem_io *disk);
void fuzz_write_file(struct io *io, const char *path, const void *data, size_t size);
/* Appends the file's bytes. */
void fuzz_read_file(struct io *io, const char *path, struct buf *to);

#endif
