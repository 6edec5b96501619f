/* LRU: who leaves, and in which order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tiers/policy.h"

#define N 5

struct fixture {
    const struct policy_type *type;
    struct policy *policy;
    struct policy_node nodes[N];
};

static int set_up(void **state)
{
    static struct fixture fixture;

    fixture = (struct fixture){.type = policy_find("lru")};
    if (fixture.type == NULL)
        return -1;
    fixture.policy = fixture.type->create(1000);
    if (fixture.policy == NULL)
        return -1;
    for (size_t i = 0; i < N; i++) {
        fixture.nodes[i] = (struct policy_node){.key_hash = i, .size = 10};
        fixture.type->insert(fixture.policy, &fixture.nodes[i]);
    }
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->type->destroy(f->policy);
    return 0;
}

static void assert_evicts(struct fixture *f, size_t number)
{
    struct policy_node *victim = f->type->victim(f->policy);

    assert_ptr_equal(victim, &f->nodes[number]);
    f->type->remove(f->policy, victim, true);
    assert_int_equal(victim->list, 0);
}

static void entries_leave_in_order_of_arrival(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < N; i++)
        assert_evicts(f, i);
    assert_null(f->type->victim(f->policy));
}

static void an_entry_that_was_hit_leaves_last(void **state)
{
    struct fixture *f = *state;

    f->type->hit(f->policy, &f->nodes[0]);
    f->type->hit(f->policy, &f->nodes[2]);
    f->type->hit(f->policy, &f->nodes[2]);
    assert_evicts(f, 1);
    assert_evicts(f, 3);
    assert_evicts(f, 4);
    assert_evicts(f, 0);
    assert_evicts(f, 2);
}

static void naming_a_victim_changes_nothing(void **state)
{
    struct fixture *f = *state;

    assert_ptr_equal(f->type->victim(f->policy), &f->nodes[0]);
    assert_ptr_equal(f->type->victim(f->policy), &f->nodes[0]);
}

static void a_removed_entry_is_never_named_and_may_come_back(void **state)
{
    struct fixture *f = *state;

    f->type->remove(f->policy, &f->nodes[0], false);
    f->type->remove(f->policy, &f->nodes[4], false);
    f->type->insert(f->policy, &f->nodes[0]);
    assert_evicts(f, 1);
    assert_evicts(f, 2);
    assert_evicts(f, 3);
    assert_evicts(f, 0);
    assert_null(f->type->victim(f->policy));
}

static void policies_are_found_by_name_and_listed(void **state)
{
    size_t n = 0;

    (void)state;
    for (const struct policy_type *type = NULL; (type = policy_at(n)) != NULL; n++)
        assert_ptr_equal(policy_find(type->name), type);
    assert_true(n >= 1);
    assert_null(policy_find("no such policy"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_leave_in_order_of_arrival, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_entry_that_was_hit_leaves_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(naming_a_victim_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_removed_entry_is_never_named_and_may_come_back, set_up,
                                        tear_down),
        cmocka_unit_test(policies_are_found_by_name_and_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
