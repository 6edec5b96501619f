/* How many keys a transaction may change, by the size of the index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "warm_extent.h"

#include "lib/random.h"

#include <stdbool.h>
#include <stdlib.h>

#define KEYS_PER_PAGE 30

static void an_empty_index_allows_the_least(void **state)
{
    (void)state;
    assert_int_equal(warm_extent_keys_max(0, 0), WARM_WRITE_KEYS_MAX);
    assert_int_equal(warm_extent_keys_max(1, 1), WARM_WRITE_KEYS_MAX);
}

static void a_large_index_allows_about_the_least(void **state)
{
    (void)state;
    assert_int_equal(warm_extent_keys_max(1u << 20, KEYS_PER_PAGE << 20), WARM_WRITE_KEYS_MAX);
    assert_int_equal(warm_extent_keys_max(UINT32_MAX, UINT32_MAX), WARM_WRITE_KEYS_MAX);
}

static void a_small_index_allows_many(void **state)
{
    (void)state;
    assert_in_range(warm_extent_keys_max(1000, 1000 * KEYS_PER_PAGE), 16 * WARM_WRITE_KEYS_MAX,
                    WARM_WRITE_KEYS_MAX_SMALL_INDEX);
    assert_in_range(warm_extent_keys_max(1, 100), 16 * WARM_WRITE_KEYS_MAX,
                    WARM_WRITE_KEYS_MAX_SMALL_INDEX);
}

/* Pages that so many keys meet in truth. */
static size_t pages_met(size_t index_pages, size_t n, struct random *random)
{
    bool *met = calloc(index_pages, sizeof *met);
    size_t pages = 0;
    assert_non_null(met);
    for (size_t i = 0; i < n; i++) {
        size_t page = random_below(random, index_pages);
        pages += !met[page];
        met[page] = true;
    }
    free(met);
    return pages;
}

static void scattered_keys_meet_no_more_pages_than_are_allowed(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, random_seed());
    size_t before = WARM_WRITE_KEYS_MAX_SMALL_INDEX;
    for (size_t pages = 500; pages < 500000; pages += pages / 3) {
        size_t n = warm_extent_keys_max(pages, pages * KEYS_PER_PAGE);
        assert_in_range(n, WARM_WRITE_KEYS_MAX, before);
        before = n;
        /* And a fiftieth for chance. */
        assert_in_range(pages_met(pages, n, &random), 1,
                        WARM_WRITE_KEYS_MAX + WARM_WRITE_KEYS_MAX / 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_index_allows_the_least),
        cmocka_unit_test(a_large_index_allows_about_the_least),
        cmocka_unit_test(a_small_index_allows_many),
        cmocka_unit_test(scattered_keys_meet_no_more_pages_than_are_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
