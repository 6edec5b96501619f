/* A stack that producers push to with one compare-and-swap and that the consumer takes whole and
 * turns round. Nobody pops single items, so a reused address can do no harm (no ABA).
 *
 * Wake-ups are never lost: the producer that finds the stack empty writes the eventfd after its
 * push, and the consumer resets the eventfd before it takes the stack. An item pushed onto a
 * non-empty stack needs no write, because the push that made it non-empty is answered by a take
 * that is still to come.
 *
 * "Closed" is the lowest bit of the head word, so that it is decided together with the push: after
 * inbox_close has returned no bounded put can land. */
#include "bridge/inbox.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CLOSED ((uintptr_t)1)

struct inbox {
    alignas(64) _Atomic uintptr_t head; /* Newest item, and CLOSED */
    atomic_size_t length;               /* Items inside, and puts that are being decided */
    atomic_uint producers; /* Inside a put or wake: inbox_free waits until they have left */
    alignas(64) size_t capacity;
    int fd;
};

static struct inbox_item *head_item(uintptr_t head)
{
    return (struct inbox_item *)(head & ~CLOSED);
}

struct inbox *inbox_new(size_t capacity)
{
    struct inbox *inbox = aligned_alloc(alignof(struct inbox), sizeof(*inbox));
    if (inbox == NULL)
        return NULL;
    atomic_init(&inbox->head, 0);
    atomic_init(&inbox->length, 0);
    atomic_init(&inbox->producers, 0);
    inbox->capacity = capacity;
    inbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (inbox->fd < 0) {
        int error = errno;
        free(inbox);
        errno = error;
        return NULL;
    }
    return inbox;
}

void inbox_free(struct inbox *inbox)
{
    if (inbox == NULL)
        return;
    /* The consumer may have taken an item whose producer has yet to write the eventfd. */
    while (atomic_load_explicit(&inbox->producers, memory_order_acquire) != 0)
        sched_yield();
    close(inbox->fd);
    free(inbox);
}

static void producer_enter(struct inbox *inbox)
{
    atomic_fetch_add_explicit(&inbox->producers, 1, memory_order_relaxed);
}

static void producer_leave(struct inbox *inbox)
{
    atomic_fetch_sub_explicit(&inbox->producers, 1, memory_order_release);
}

static void signal_consumer(struct inbox *inbox)
{
    const uint64_t one = 1;
    ssize_t n;
    do {
        n = write(inbox->fd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
    /* EAGAIN: the counter is at its end, so the descriptor is readable already. */
    assert(n == (ssize_t)sizeof(one) || errno == EAGAIN);
}

/* Pushes a chain that is linked from its newest item to its oldest. False: closed, and
 * `even_closed` does not say to go on. */
static bool push(struct inbox *inbox, struct inbox_item *newest, struct inbox_item *oldest,
                 bool even_closed)
{
    assert(((uintptr_t)newest & CLOSED) == 0);
    uintptr_t head = atomic_load_explicit(&inbox->head, memory_order_relaxed);
    do {
        if ((head & CLOSED) != 0 && !even_closed)
            return false;
        oldest->next = head_item(head);
    } while (!atomic_compare_exchange_weak_explicit(&inbox->head, &head,
                                                    (uintptr_t)newest | (head & CLOSED),
                                                    memory_order_release, memory_order_relaxed));
    /* From here on the items are the consumer's. */
    if (head_item(head) == NULL)
        signal_consumer(inbox);
    return true;
}

bool inbox_put(struct inbox *inbox, struct inbox_item *item)
{
    producer_enter(inbox);
    bool done = false;
    if (atomic_fetch_add_explicit(&inbox->length, 1, memory_order_relaxed) < inbox->capacity)
        done = push(inbox, item, item, false);
    if (!done)
        atomic_fetch_sub_explicit(&inbox->length, 1, memory_order_relaxed);
    producer_leave(inbox);
    return done;
}

void inbox_put_always(struct inbox *inbox, struct inbox_item *item)
{
    inbox_put_chain_always(inbox, item, item, 1);
}

void inbox_put_chain_always(struct inbox *inbox, struct inbox_item *first, struct inbox_item *last,
                            size_t n)
{
    struct inbox_item *newest = NULL;

    producer_enter(inbox);
    atomic_fetch_add_explicit(&inbox->length, n, memory_order_relaxed);
    last->next = NULL;
    for (struct inbox_item *item = first, *next; item != NULL; item = next) {
        next = item->next;
        item->next = newest;
        newest = item;
    }
    push(inbox, newest, first, true);
    producer_leave(inbox);
}

void inbox_wake(struct inbox *inbox)
{
    producer_enter(inbox);
    signal_consumer(inbox);
    producer_leave(inbox);
}

void inbox_close(struct inbox *inbox)
{
    atomic_fetch_or_explicit(&inbox->head, CLOSED, memory_order_relaxed);
}

struct inbox_item *inbox_take(struct inbox *inbox)
{
    uint64_t count;
    ssize_t n;
    do {
        n = read(inbox->fd, &count, sizeof(count));
    } while (n < 0 && errno == EINTR);
    assert(n == (ssize_t)sizeof(count) || errno == EAGAIN);

    uintptr_t head = atomic_fetch_and_explicit(&inbox->head, CLOSED, memory_order_acquire);
    struct inbox_item *oldest = NULL;
    size_t taken = 0;
    for (struct inbox_item *item = head_item(head), *next; item != NULL; item = next) {
        next = item->next;
        item->next = oldest;
        oldest = item;
        taken++;
    }
    if (taken > 0)
        atomic_fetch_sub_explicit(&inbox->length, taken, memory_order_relaxed);
    return oldest;
}

int inbox_fd(const struct inbox *inbox)
{
    return inbox->fd;
}

size_t inbox_length(struct inbox *inbox)
{
    return atomic_load_explicit(&inbox->length, memory_order_relaxed);
}
