/* The order of waiting reads: ascending within a sweep, nobody overtaken by a later sweep,
 * neighbours together. */
#include "unit/tiers/cold_fixture.h"

#include "cold_read_queue.h"

#define CAPACITY 64
#define BLOCK    COLD_BLOCK_BYTES

struct queue_fixture {
    struct cold_read_queue queue;
    struct cold_file files[4];
    struct cold_request requests[CAPACITY];
    size_t n;
    uint64_t random;
};

static int set_up(void **state)
{
    struct queue_fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(cold_read_queue_open(&f->queue, CAPACITY), 0);
    f->random = seed_take();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct queue_fixture *f = *state;
    cold_read_queue_close(&f->queue);
    free(f);
    return 0;
}

static struct cold_request *add(struct queue_fixture *f, uint64_t segment, uint64_t offset)
{
    assert_true(f->n < CAPACITY && segment < 4);
    struct cold_request *request = &f->requests[f->n++];
    *request = (struct cold_request){.file = &f->files[segment],
                                     .location = {segment, offset + 8, 100},
                                     .offset = offset,
                                     .length = BLOCK};
    cold_read_queue_add(&f->queue, request);
    return request;
}

static void requests_come_in_the_order_of_their_places(void **state)
{
    struct queue_fixture *f = *state;
    for (size_t i = 0; i < CAPACITY; i++)
        add(f, random_next(&f->random) % 4, random_next(&f->random) % 1000 * BLOCK);
    const struct cold_location *before = NULL;
    for (size_t i = 0; i < CAPACITY; i++) {
        assert_int_equal(cold_read_queue_count(&f->queue), CAPACITY - i);
        struct cold_request *request = cold_read_queue_take(&f->queue, 0);
        assert_non_null(request);
        assert_null(request->next);
        const struct cold_location *now = &request->location;
        if (before != NULL)
            assert_true(before->segment < now->segment ||
                        (before->segment == now->segment && before->offset <= now->offset));
        before = now;
    }
    assert_null(cold_read_queue_take(&f->queue, 0));
}

static void what_comes_in_during_a_sweep_waits_for_the_next(void **state)
{
    struct queue_fixture *f = *state;
    struct cold_request *far = add(f, 3, 900 * BLOCK);
    struct cold_request *near = add(f, 1, BLOCK);
    assert_ptr_equal(cold_read_queue_take(&f->queue, 0), near);
    /* Whatever lies before `far` comes too late to push it back. */
    struct cold_request *later = add(f, 2, BLOCK);
    assert_ptr_equal(cold_read_queue_take(&f->queue, 0), far);
    assert_ptr_equal(cold_read_queue_take(&f->queue, 0), later);
}

static void neighbours_are_taken_together(void **state)
{
    struct queue_fixture *f = *state;
    struct cold_request *third = add(f, 1, 2 * BLOCK + COLD_READ_GAP_BYTES + BLOCK);
    struct cold_request *first = add(f, 1, BLOCK);
    struct cold_request *second = add(f, 1, 2 * BLOCK);
    struct cold_request *other = add(f, 2, 3 * BLOCK);
    assert_ptr_equal(cold_read_queue_take(&f->queue, 1u << 20), first);
    assert_ptr_equal(first->next, second);
    assert_ptr_equal(second->next, third);
    assert_null(third->next);
    assert_ptr_equal(cold_read_queue_take(&f->queue, 1u << 20), other);
}

static void two_requests_for_one_place_are_one_read(void **state)
{
    struct queue_fixture *f = *state;
    add(f, 1, BLOCK);
    add(f, 1, BLOCK);
    struct cold_request *first = cold_read_queue_take(&f->queue, BLOCK);
    assert_non_null(first->next);
    assert_null(first->next->next);
}

static void distance_size_and_wish_keep_requests_apart(void **state)
{
    struct queue_fixture *f = *state;
    struct cold_request *first = add(f, 1, BLOCK);
    struct cold_request *distant = add(f, 1, 3 * BLOCK + COLD_READ_GAP_BYTES);
    struct cold_request *next = add(f, 1, 4 * BLOCK + COLD_READ_GAP_BYTES);
    struct cold_request *alone = add(f, 1, 5 * BLOCK + COLD_READ_GAP_BYTES);
    alone->alone = true;
    struct cold_request *after = add(f, 1, 6 * BLOCK + COLD_READ_GAP_BYTES);
    struct cold_request *const order[] = {first, distant, next, alone, after};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        struct cold_request *taken = cold_read_queue_take(&f->queue, 2 * BLOCK - 1);
        assert_ptr_equal(taken, order[i]);
        assert_null(taken->next);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(requests_come_in_the_order_of_their_places),
        TEST(what_comes_in_during_a_sweep_waits_for_the_next),
        TEST(neighbours_are_taken_together),
        TEST(two_requests_for_one_place_are_one_read),
        TEST(distance_size_and_wish_keep_requests_apart),
    };
    return cmocka_run_group_tests_name("cold_read_queue", tests, NULL, NULL);
}
