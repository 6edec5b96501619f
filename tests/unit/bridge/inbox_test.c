#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/inbox.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

static bool readable(const struct inbox *inbox, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = inbox_fd(inbox), .events = POLLIN};
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

static void items_come_out_in_the_order_of_their_puts(void **unused)
{
    (void)unused;
    struct inbox *inbox = inbox_new(3);
    assert_non_null(inbox);
    struct inbox_item items[3];
    for (size_t i = 0; i < 3; i++)
        assert_true(inbox_put(inbox, &items[i]));
    assert_int_equal(inbox_length(inbox), 3);
    struct inbox_item *item = inbox_take(inbox);
    for (size_t i = 0; i < 3; i++, item = item->next)
        assert_ptr_equal(item, &items[i]);
    assert_null(item);
    assert_int_equal(inbox_length(inbox), 0);
    assert_null(inbox_take(inbox));
    inbox_free(inbox);
}

static void a_full_inbox_refuses_until_it_is_emptied(void **unused)
{
    (void)unused;
    struct inbox *inbox = inbox_new(2);
    struct inbox_item items[4];
    assert_true(inbox_put(inbox, &items[0]));
    assert_true(inbox_put(inbox, &items[1]));
    assert_false(inbox_put(inbox, &items[2]));
    assert_int_equal(inbox_length(inbox), 2);
    inbox_put_always(inbox, &items[3]);
    assert_int_equal(inbox_length(inbox), 3);
    struct inbox_item *item = inbox_take(inbox);
    assert_ptr_equal(item, &items[0]);
    assert_ptr_equal(item->next->next, &items[3]);
    assert_true(inbox_put(inbox, &items[2]));
    inbox_free(inbox);
}

static void a_closed_inbox_refuses_but_gives_out_what_it_has(void **unused)
{
    (void)unused;
    struct inbox *inbox = inbox_new(8);
    struct inbox_item items[3];
    assert_true(inbox_put(inbox, &items[0]));
    inbox_close(inbox);
    assert_false(inbox_put(inbox, &items[1]));
    inbox_put_always(inbox, &items[2]);
    struct inbox_item *item = inbox_take(inbox);
    assert_ptr_equal(item, &items[0]);
    assert_ptr_equal(item->next, &items[2]);
    assert_null(item->next->next);
    assert_false(inbox_put(inbox, &items[1]));
    assert_int_equal(inbox_length(inbox), 0);
    inbox_free(inbox);
}

static void the_descriptor_is_readable_exactly_while_something_waits(void **unused)
{
    (void)unused;
    struct inbox *inbox = inbox_new(8);
    struct inbox_item item;
    assert_false(readable(inbox, 0));
    assert_true(inbox_put(inbox, &item));
    assert_true(readable(inbox, 0));
    assert_non_null(inbox_take(inbox));
    assert_false(readable(inbox, 0));
    inbox_wake(inbox);
    assert_true(readable(inbox, 0));
    assert_null(inbox_take(inbox));
    assert_false(readable(inbox, 0));
    inbox_free(inbox);
}

#define PRODUCERS       4
#define ITEMS_EACH      20000
#define CAPACITY        64
#define WAKE_MS_AT_MOST 30000

struct numbered_item {
    struct inbox_item item; /* First */
    unsigned producer, number;
};

struct producer {
    struct inbox *inbox;
    unsigned id;
    struct numbered_item *items;
    pthread_t thread;
};

static void *produce(void *argument)
{
    struct producer *producer = argument;
    for (unsigned i = 0; i < ITEMS_EACH; i++) {
        struct numbered_item *item = &producer->items[i];
        item->producer = producer->id;
        item->number = i;
        while (!inbox_put(producer->inbox, &item->item))
            sched_yield();
    }
    return NULL;
}

static void nothing_is_lost_or_reordered_between_many_producers(void **unused)
{
    (void)unused;
    struct inbox *inbox = inbox_new(CAPACITY);
    struct producer producers[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.inbox = inbox, .id = i};
        producers[i].items = calloc(ITEMS_EACH, sizeof(struct numbered_item));
        assert_non_null(producers[i].items);
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
    unsigned next[PRODUCERS] = {0};
    for (size_t total = 0; total < (size_t)PRODUCERS * ITEMS_EACH;) {
        /* A lost wake-up would leave this waiting although items are inside. */
        assert_true(readable(inbox, WAKE_MS_AT_MOST));
        size_t batch = 0;
        for (struct inbox_item *item = inbox_take(inbox); item != NULL; item = item->next) {
            const struct numbered_item *numbered = (const struct numbered_item *)item;
            assert_int_equal(numbered->number, next[numbered->producer]++);
            batch++;
        }
        assert_true(batch <= CAPACITY);
        total += batch;
    }
    for (unsigned i = 0; i < PRODUCERS; i++) {
        pthread_join(producers[i].thread, NULL);
        free(producers[i].items);
    }
    assert_int_equal(inbox_length(inbox), 0);
    assert_null(inbox_take(inbox));
    inbox_free(inbox);
}

#define HANDOVERS 2000

struct handover {
    _Atomic(struct inbox *) inbox;
    struct inbox_item item;
};

static void *hand_over(void *argument)
{
    struct handover *handover = argument;
    for (unsigned i = 0; i < HANDOVERS; i++) {
        struct inbox *inbox;
        while ((inbox = atomic_exchange(&handover->inbox, NULL)) == NULL)
            sched_yield();
        inbox_put_always(inbox, &handover->item);
    }
    return NULL;
}

static void an_inbox_may_be_freed_as_soon_as_its_last_item_has_arrived(void **unused)
{
    (void)unused;
    struct handover handover = {.inbox = NULL};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, hand_over, &handover), 0);
    for (unsigned i = 0; i < HANDOVERS; i++) {
        struct inbox *inbox = inbox_new(1);
        assert_non_null(inbox);
        atomic_store(&handover.inbox, inbox);
        while (inbox_take(inbox) == NULL)
            sched_yield();
        inbox_free(inbox);
    }
    pthread_join(thread, NULL);
}

static void *put_until_refused(void *argument)
{
    struct producer *producer = argument;
    unsigned i = 0;
    while (i < ITEMS_EACH && inbox_put(producer->inbox, &producer->items[i].item))
        i++;
    producer->id = i;
    return NULL;
}

static void after_close_has_returned_no_put_lands(void **unused)
{
    (void)unused;
    struct inbox *inbox = inbox_new(ITEMS_EACH);
    struct producer producer = {.inbox = inbox};
    producer.items = calloc(ITEMS_EACH, sizeof(struct numbered_item));
    assert_non_null(producer.items);
    assert_int_equal(pthread_create(&producer.thread, NULL, put_until_refused, &producer), 0);
    assert_true(readable(inbox, WAKE_MS_AT_MOST));
    inbox_close(inbox);
    unsigned taken = 0;
    for (struct inbox_item *item = inbox_take(inbox); item != NULL; item = item->next)
        taken++;
    pthread_join(producer.thread, NULL);
    assert_null(inbox_take(inbox));
    assert_int_equal(taken, producer.id);
    free(producer.items);
    inbox_free(inbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_the_order_of_their_puts),
        cmocka_unit_test(a_full_inbox_refuses_until_it_is_emptied),
        cmocka_unit_test(a_closed_inbox_refuses_but_gives_out_what_it_has),
        cmocka_unit_test(the_descriptor_is_readable_exactly_while_something_waits),
        cmocka_unit_test(nothing_is_lost_or_reordered_between_many_producers),
        cmocka_unit_test(an_inbox_may_be_freed_as_soon_as_its_last_item_has_arrived),
        cmocka_unit_test(after_close_has_returned_no_put_lands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
