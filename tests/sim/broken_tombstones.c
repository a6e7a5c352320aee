/*
 * A broken build: tombstones go at once, with what they delete: neither their age nor what members
 * told is asked for. Linked with --wrap=compactor_new.
 */
#include "record/compactor.h"

enum err __real_compactor_new(const struct compactor_options *options, uint64_t offset,
                              const uint8_t *digest, struct compactor **ret_compactor);
enum err __wrap_compactor_new(const struct compactor_options *options, uint64_t offset,
                              const uint8_t *digest, struct compactor **ret_compactor);

enum err __wrap_compactor_new(const struct compactor_options *options, uint64_t offset,
                              const uint8_t *digest, struct compactor **ret_compactor)
{
    struct compactor_options wrong = *options;

    wrong.tombstones_below = wrong.clean_to;
    return __real_compactor_new(&wrong, offset, digest, ret_compactor);
}
