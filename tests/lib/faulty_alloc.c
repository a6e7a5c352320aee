#include "lib/faulty_alloc.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <protobuf-c/protobuf-c.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* Names that the linker makes of --wrap=malloc and so on: reserved, and not ours to choose. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **ret_memory, size_t alignment, size_t size);
void __real_free(void *memory);
ProtobufCMessage *__real_protobuf_c_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                                   ProtobufCAllocator *allocator, size_t size,
                                                   const uint8_t *data);
void __real_protobuf_c_message_free_unpacked(ProtobufCMessage *message,
                                             ProtobufCAllocator *allocator);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size_max);
void __wrap_free(void *memory);
ProtobufCMessage *__wrap_protobuf_c_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                                   ProtobufCAllocator *allocator, size_t size,
                                                   const uint8_t *data);
void __wrap_protobuf_c_message_free_unpacked(ProtobufCMessage *message,
                                             ProtobufCAllocator *allocator);
void __real__mark_point(const char *file, int line);
void __wrap__mark_point(const char *file, int line);
_Noreturn void __real__ck_assert_failed(const char *file, int line, const char *expression,
                                        const char *message, ...);
_Noreturn void __wrap__ck_assert_failed(const char *file, int line, const char *expression,
                                        const char *message, ...)
    __attribute__((format(printf, 4, 5)));
extern const char __executable_start[];

/* Open addressing: what is free has another generation than the present one, or no pointer. A
 * place once used in a generation stays a stop on the way to others. */
enum { SLOTS = 1 << 16 };

struct slot {
    void *memory; /* NULL: was freed */
    size_t origin;
    unsigned generation;
};

static struct {
    bool on;
    unsigned paused;
    unsigned calls;
    unsigned fail_at;
    bool sticky;
    bool failed;
    size_t failed_origin;
    unsigned generation;
    size_t used; /* places of this generation */
    size_t live;
    struct slot slots[SLOTS];
} heap = {.generation = 1}; /* The slots' is 0. */

static size_t place_of(const void *memory)
{
    uint64_t bits = (uint64_t)(uintptr_t)memory / 16 * UINT64_C(0x9e3779b97f4a7c15);

    return (size_t)(bits >> 40) % SLOTS;
}

static struct slot *find(const void *memory)
{
    size_t at = place_of(memory);

    while (heap.slots[at].generation == heap.generation) {
        if (heap.slots[at].memory == memory) {
            return &heap.slots[at];
        }
        at = (at + 1) % SLOTS;
    }
    return NULL;
}

/* For addr2line. */
static size_t origin_of(const void *caller)
{
    return (size_t)((const char *)caller - __executable_start);
}

static bool counts(void)
{
    return heap.on && heap.paused == 0;
}

/* Is the allocation that is asked for to fail? */
static bool fails(const void *caller)
{
    if (!counts()) {
        return false;
    }
    heap.calls++;
    if (heap.fail_at == 0 ||
        (heap.sticky ? heap.calls < heap.fail_at : heap.calls != heap.fail_at)) {
        return false;
    }
    if (!heap.failed) {
        heap.failed_origin = origin_of(caller);
    }
    heap.failed = true;
    return true;
}

static void *note(void *memory, const void *caller)
{
    size_t at = place_of(memory);

    if (memory == NULL || !counts()) {
        return memory;
    }
    ASSERT(heap.used < SLOTS / 2);
    while (heap.slots[at].generation == heap.generation) {
        at = (at + 1) % SLOTS;
    }
    heap.slots[at] = (struct slot){
        .memory = memory,
        .origin = origin_of(caller),
        .generation = heap.generation,
    };
    heap.used++;
    heap.live++;
    return memory;
}

static void forget(const void *memory)
{
    struct slot *slot = memory == NULL ? NULL : find(memory);

    if (slot != NULL) {
        slot->memory = NULL;
        heap.live--;
    }
}

void *__wrap_malloc(size_t size)
{
    return fails(__builtin_return_address(0))
               ? NULL
               : note(__real_malloc(size), __builtin_return_address(0));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails(__builtin_return_address(0))
               ? NULL
               : note(__real_calloc(count, size), __builtin_return_address(0));
}

static void *change(void *old, size_t size, const void *caller)
{
    void *new;

    if (fails(caller)) {
        return NULL;
    }
    forget(old);
    new = __real_realloc(old, size);
    ASSERT(new != NULL); /* Else `old` was forgotten too early. */
    return note(new, caller);
}

void *__wrap_realloc(void *old, size_t size)
{
    return change(old, size, __builtin_return_address(0));
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size) {
        errno = ENOMEM;
        return NULL;
    }
    return change(old, count * size, __builtin_return_address(0));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails(__builtin_return_address(0))
               ? NULL
               : note(__real_aligned_alloc(alignment, size), __builtin_return_address(0));
}

int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    int rv = fails(__builtin_return_address(0))
                 ? ENOMEM
                 : __real_posix_memalign(ret_memory, alignment, size);

    if (rv == 0) {
        (void)note(*ret_memory, __builtin_return_address(0)); /* The same pointer. */
    }
    return rv;
}

static char *copy(const char *text, size_t size, const void *caller)
{
    char *memory = fails(caller) ? NULL : note(__real_malloc(size + 1), caller);

    if (memory != NULL) {
        memcpy(memory, text, size);
        memory[size] = '\0';
    }
    return memory;
}

char *__wrap_strdup(const char *text)
{
    return copy(text, strlen(text), __builtin_return_address(0));
}

char *__wrap_strndup(const char *text, size_t size_max)
{
    return copy(text, strnlen(text, size_max), __builtin_return_address(0));
}

void __wrap_free(void *memory)
{
    forget(memory);
    __real_free(memory);
}

/* ---- libraries ---- */

static void *protobuf_alloc(void *arg, size_t size)
{
    (void)arg;
    return __wrap_malloc(size);
}

static void protobuf_free(void *arg, void *memory)
{
    (void)arg;
    __wrap_free(memory);
}

static ProtobufCAllocator protobuf_allocator = {.alloc = protobuf_alloc, .free = protobuf_free};

ProtobufCMessage *__wrap_protobuf_c_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                                   ProtobufCAllocator *allocator, size_t size,
                                                   const uint8_t *data)
{
    return __real_protobuf_c_message_unpack(
        descriptor, allocator == NULL ? &protobuf_allocator : allocator, size, data);
}

void __wrap_protobuf_c_message_free_unpacked(ProtobufCMessage *message,
                                             ProtobufCAllocator *allocator)
{
    __real_protobuf_c_message_free_unpacked(message,
                                            allocator == NULL ? &protobuf_allocator : allocator);
}

/* What it allocates fails, but is not remembered: it keeps some of it for as long as the process
 * lives. Where a leak sanitizer looks, it is told so. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static void *crypto_realloc(void *old, size_t size, const char *file, int line)
{
    void *memory;

    (void)file;
    (void)line;
    if (fails(__builtin_return_address(0))) {
        return NULL;
    }
    if (__lsan_disable != NULL) {
        __lsan_disable();
    }
    memory = __real_realloc(old, size);
    if (__lsan_enable != NULL) {
        __lsan_enable();
    }
    return memory;
}

static void *crypto_alloc(size_t size, const char *file, int line)
{
    return crypto_realloc(NULL, size, file, line);
}

static void crypto_free(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    __real_free(memory);
}

/* Before libcrypto allocates anything: it asks for that. */
__attribute__((constructor)) static void take_libcrypto(void)
{
    int rv = CRYPTO_set_mem_functions(crypto_alloc, crypto_realloc, crypto_free);

    ASSERT(rv == 1);
}

/* check tells its parent where it is, and allocates for that. */
void __wrap__mark_point(const char *file, int line)
{
    faulty_alloc_pause();
    __real__mark_point(file, line);
    faulty_alloc_resume();
}

void __wrap__ck_assert_failed(const char *file, int line, const char *expression,
                              const char *message, ...)
{
    char text[1024];
    va_list args;

    faulty_alloc_pause(); /* For good. */
    if (message == NULL) {
        __real__ck_assert_failed(file, line, expression, NULL);
    }
    va_start(args, message);
    (void)vsnprintf(text, sizeof text, message, args); /* Cut if need be. */
    va_end(args);
    __real__ck_assert_failed(file, line, expression, "%s", text);
}

/* ---- orders ---- */

void faulty_alloc_begin(void)
{
    ASSERT(!heap.on && heap.paused == 0 && heap.live == 0);
    heap.on = true;
    heap.generation++;
    heap.used = 0;
    heap.failed = false;
    faulty_alloc_fail_at(0, false);
}

void faulty_alloc_fail_at(unsigned nth, bool sticky)
{
    ASSERT(heap.on);
    heap.calls = 0;
    heap.fail_at = nth;
    heap.sticky = sticky;
}

void faulty_alloc_end(void)
{
    ASSERT(heap.on);
    heap.on = false;
    heap.paused = 0; /* Whoever paused may be gone. */
}

unsigned faulty_alloc_calls(void)
{
    return heap.calls;
}

bool faulty_alloc_failed(void)
{
    return heap.failed;
}

size_t faulty_alloc_failed_origin(void)
{
    return heap.failed ? heap.failed_origin : 0;
}

void faulty_alloc_pause(void)
{
    heap.paused++;
}

void faulty_alloc_resume(void)
{
    ASSERT(heap.paused > 0);
    heap.paused--;
}

size_t faulty_alloc_live(size_t *ret_origin)
{
    for (size_t i = 0; i < SLOTS && heap.live > 0; i++) {
        if (heap.slots[i].generation == heap.generation && heap.slots[i].memory != NULL) {
            *ret_origin = heap.slots[i].origin;
            break;
        }
    }
    return heap.live;
}

void faulty_alloc_drop(void)
{
    for (size_t i = 0; i < SLOTS && heap.live > 0; i++) {
        if (heap.slots[i].generation == heap.generation && heap.slots[i].memory != NULL) {
            __real_free(heap.slots[i].memory);
            heap.slots[i].memory = NULL;
            heap.live--;
        }
    }
    ASSERT(heap.live == 0);
}
