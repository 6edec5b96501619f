/* The list of eviction policies, by name and by number. Pure; any thread. */
#include "types.h"

#include <string.h>

static const struct policy_type *const types[] = {
    &policy_lru, &policy_clock,  &policy_slru,  &policy_twoq,
    &policy_arc, &policy_s3fifo, &policy_sieve, &policy_wtinylfu,
};

const struct policy_type *policy_at(size_t i)
{
    return i < sizeof(types) / sizeof(types[0]) ? types[i] : NULL;
}

const struct policy_type *policy_find(const char *name)
{
    const struct policy_type *type = NULL;

    for (size_t i = 0; (type = policy_at(i)) != NULL; i++) {
        if (strcmp(type->name, name) == 0)
            return type;
    }
    return NULL;
}
