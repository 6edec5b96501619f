/* See warm_extent.h. */
#include "warm_extent.h"

#include <math.h>

#define STEP 1.25

/* n keys drawn at random meet this many of the pages. Those that are new make the index grow as the
 * ones before did. */
static double pages_changed(double index_pages, double keys, double n)
{
    return index_pages * -expm1(-n / index_pages) + n * index_pages / keys;
}

size_t warm_extent_keys_max(uint64_t index_pages, uint64_t keys)
{
    double n = WARM_WRITE_KEYS_MAX;

    if (index_pages == 0 || keys == 0)
        return WARM_WRITE_KEYS_MAX;
    while (n * STEP <= WARM_WRITE_KEYS_MAX_SMALL_INDEX &&
           pages_changed((double)index_pages, (double)keys, n * STEP) <= WARM_WRITE_KEYS_MAX)
        n *= STEP;
    return (size_t)n;
}
