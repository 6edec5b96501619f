/* A bounded many-producer, one-consumer queue between event loops, with an eventfd to wait on.
 *
 * Items are intrusive: a producer hands over an object, the consumer takes all that waits at once.
 * The eventfd is written only when the queue turns from empty to non-empty, so that a busy queue
 * costs no system calls. inbox_put never blocks; a full inbox refuses and the caller answers
 * "busy". Replies of requests that were admitted must never be refused: open their inbox with the
 * bound that admission guarantees, or use inbox_put_always.
 */
#ifndef TIERKV_BRIDGE_INBOX_H
#define TIERKV_BRIDGE_INBOX_H

#include <stdbool.h>
#include <stddef.h>

struct inbox;

/* Embedded in what travels. Belongs to the inbox between put and take. */
struct inbox_item {
    struct inbox_item *next;
};

/* NULL: out of memory or descriptors (errno). `capacity` counts items. */
struct inbox *inbox_new(size_t capacity);
/* The consumer, at its end. Items still inside are forgotten. Waits for producers whose item it has
 * already taken to leave; no put may begin any more. NULL is allowed. */
void inbox_free(struct inbox *inbox);

/* Any thread. False: full or closed; the item stays the caller's. */
bool inbox_put(struct inbox *inbox, struct inbox_item *item);
/* Any thread. Ignores the bound. */
void inbox_put_always(struct inbox *inbox, struct inbox_item *item);
/* Any thread. The same for `n` items linked by next, `first` to `last`, in that order: at most one
 * wake-up for all of them. */
void inbox_put_chain_always(struct inbox *inbox, struct inbox_item *first, struct inbox_item *last,
                            size_t n);
/* Any thread: wakes the consumer although nothing was put. */
void inbox_wake(struct inbox *inbox);
/* From now on inbox_put refuses. Any thread. */
void inbox_close(struct inbox *inbox);

/* Consumer: everything that waits, oldest first, linked by next; NULL if nothing. Resets the
 * eventfd. */
struct inbox_item *inbox_take(struct inbox *inbox);
int inbox_fd(const struct inbox *inbox);
size_t inbox_length(struct inbox *inbox);

#endif
