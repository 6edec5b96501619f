/* Ghost lists: which keys are remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/ghost.h"

/* Well mixed, as a hash of keys is. */
static uint64_t hash_of(uint64_t number)
{
    number = (number + 1) * 0x9e3779b97f4a7c15u;
    return number ^ (number >> 29);
}

static void the_oldest_keys_fall_out(void **state)
{
    struct ghost *ghost = ghost_new(1000);

    (void)state;
    assert_non_null(ghost);
    for (uint64_t i = 0; i < 5000; i++)
        ghost_add(ghost, hash_of(i), 1);
    assert_int_equal(ghost_size(ghost), 1000);
    for (uint64_t i = 0; i < 5000; i++)
        assert_int_equal(ghost_remove(ghost, hash_of(i)), i >= 4000);
    assert_int_equal(ghost_size(ghost), 0);
    ghost_free(ghost);
}

static void sizes_count(void **state)
{
    struct ghost *ghost = ghost_new(100);

    (void)state;
    assert_non_null(ghost);
    ghost_add(ghost, hash_of(1), 60);
    ghost_add(ghost, hash_of(2), 40);
    ghost_add(ghost, hash_of(3), 1);
    assert_int_equal(ghost_size(ghost), 41);
    assert_false(ghost_remove(ghost, hash_of(1)));
    ghost_add(ghost, hash_of(4), 101);
    assert_false(ghost_remove(ghost, hash_of(4)));
    assert_true(ghost_remove(ghost, hash_of(2)));
    ghost_free(ghost);
}

static void a_key_added_again_keeps_its_place(void **state)
{
    struct ghost *ghost = ghost_new(2);

    (void)state;
    assert_non_null(ghost);
    ghost_add(ghost, hash_of(1), 1);
    ghost_add(ghost, hash_of(2), 1);
    ghost_add(ghost, hash_of(1), 1);
    ghost_add(ghost, hash_of(3), 1);
    assert_false(ghost_remove(ghost, hash_of(1)));
    assert_true(ghost_remove(ghost, hash_of(2)));
    ghost_free(ghost);
}

static void a_smaller_capacity_forgets_at_once(void **state)
{
    struct ghost *ghost = ghost_new(10);

    (void)state;
    assert_non_null(ghost);
    for (uint64_t i = 0; i < 10; i++)
        ghost_add(ghost, hash_of(i), 1);
    ghost_resize(ghost, 3);
    assert_int_equal(ghost_size(ghost), 3);
    ghost_drop_oldest(ghost);
    assert_false(ghost_remove(ghost, hash_of(7)));
    assert_true(ghost_remove(ghost, hash_of(8)));
    ghost_drop_oldest(ghost);
    ghost_drop_oldest(ghost);
    assert_int_equal(ghost_size(ghost), 0);
    ghost_free(ghost);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_keys_fall_out),
        cmocka_unit_test(sizes_count),
        cmocka_unit_test(a_key_added_again_keeps_its_place),
        cmocka_unit_test(a_smaller_capacity_forgets_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
