/* A disk that takes its time: holds io_uring operations back and lets them complete late and in any
 * order, by a random timer each or one at a time by the test's hand. Of those held back, about
 * half are carried out at once and only their completion is late; the others begin late.
 *
 * Meanwhile it watches: how many operations of a kind were under way together, how often one
 * overtook another, and whether an fsync began while a write of its file was under way, which it
 * would not cover. Rings must be opened under it. Any thread; waiting is one thread's.
 */
#ifndef TIERKV_TESTS_TIERS_DISK_DELAY_H
#define TIERKV_TESTS_TIERS_DISK_DELAY_H

#include "uring.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define DISK_DELAY_OPS_MAX 1024
#define DISK_DELAY_KINDS   3
#define DISK_DELAY_NONE    0u
#define DISK_DELAY_ALL     ((1u << DISK_DELAY_KINDS) - 1)

struct disk_delay_op {
    const struct uring_op *op;
    enum uring_kind kind;
    ino_t file;
    int gate;
    bool by_hand;
};

struct disk_delay {
    struct uring_faults hook;
    const struct uring_faults *inner; /* NULL, or faults beside the delays */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t random;
    long max_us;         /* Of the random delays */
    unsigned hand_kinds; /* One bit each: no timers, disk_delay_release lets them go */
    unsigned n_kinds[DISK_DELAY_KINDS]; /* Under way */
    unsigned n_kinds_max[DISK_DELAY_KINDS];
    unsigned overtaken;
    unsigned syncs_too_early;
    unsigned n;                                   /* Under way... */
    struct disk_delay_op ops[DISK_DELAY_OPS_MAX]; /* ...in the order of their beginning */
};

/* xorshift (Marsaglia 2003); under the lock. */
static inline uint64_t disk_delay_random(struct disk_delay *delay)
{
    delay->random ^= delay->random << 13;
    delay->random ^= delay->random >> 7;
    delay->random ^= delay->random << 17;
    return delay->random;
}

/* Under the lock. */
static inline struct disk_delay_op *disk_delay_find(struct disk_delay *delay,
                                                    const struct uring_op *op)
{
    for (unsigned i = 0; i < delay->n; i++)
        if (delay->ops[i].op == op)
            return &delay->ops[i];
    abort();
}

static inline bool disk_delay_before(void *context, const struct uring_op *op, uint32_t *length,
                                     int *result)
{
    struct disk_delay *delay = context;
    struct stat status;
    if (fstat(op->fd, &status) != 0)
        abort();
    pthread_mutex_lock(&delay->lock);
    for (unsigned i = 0; i < delay->n && op->kind == URING_FSYNC; i++)
        delay->syncs_too_early +=
            delay->ops[i].kind == URING_WRITE && delay->ops[i].file == status.st_ino;
    if (delay->n == DISK_DELAY_OPS_MAX)
        abort();
    delay->ops[delay->n++] =
        (struct disk_delay_op){.op = op, .kind = op->kind, .file = status.st_ino};
    unsigned n = ++delay->n_kinds[op->kind];
    if (n > delay->n_kinds_max[op->kind])
        delay->n_kinds_max[op->kind] = n;
    pthread_cond_broadcast(&delay->changed);
    pthread_mutex_unlock(&delay->lock);
    return delay->inner != NULL && delay->inner->before(delay->inner->context, op, length, result);
}

static inline int disk_delay_timer(long us)
{
    const struct itimerspec timer = {.it_value.tv_nsec = 1000 * us};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (fd >= 0 && timerfd_settime(fd, 0, &timer, NULL) != 0)
        abort();
    return fd;
}

static inline int disk_delay_gate(void *context, const struct uring_op *op, bool *ret_late)
{
    struct disk_delay *delay = context;
    pthread_mutex_lock(&delay->lock);
    bool by_hand = (delay->hand_kinds & 1u << op->kind) != 0;
    long us = 1 + (long)(disk_delay_random(delay) % (uint64_t)delay->max_us);
    int gate = by_hand ? eventfd(0, EFD_CLOEXEC) : disk_delay_timer(us);
    if (gate < 0)
        abort();
    *ret_late = disk_delay_random(delay) % 2 == 0;
    struct disk_delay_op *at = disk_delay_find(delay, op);
    at->gate = gate;
    at->by_hand = by_hand;
    pthread_mutex_unlock(&delay->lock);
    return gate;
}

static inline void disk_delay_after(void *context, const struct uring_op *op)
{
    struct disk_delay *delay = context;
    pthread_mutex_lock(&delay->lock);
    struct disk_delay_op *at = disk_delay_find(delay, op);
    delay->overtaken += at != delay->ops;
    delay->n_kinds[at->kind]--;
    close(at->gate);
    delay->n--;
    memmove(at, at + 1, (size_t)(delay->ops + delay->n - at) * sizeof *at);
    pthread_cond_broadcast(&delay->changed);
    pthread_mutex_unlock(&delay->lock);
}

/* Installed from now on, with random delays of up to `max_us`, below a second. */
static inline struct disk_delay *disk_delay_new(uint64_t seed, long max_us)
{
    struct disk_delay *delay = calloc(1, sizeof *delay);
    if (delay == NULL || pthread_mutex_init(&delay->lock, NULL) != 0 ||
        pthread_cond_init(&delay->changed, NULL) != 0)
        abort();
    delay->random = seed | 1;
    delay->max_us = max_us;
    delay->hook = (struct uring_faults){.context = delay,
                                        .before = disk_delay_before,
                                        .gate = disk_delay_gate,
                                        .after = disk_delay_after};
    uring_faults_set(&delay->hook);
    return delay;
}

/* How many completions came before those of operations that had begun earlier. Any thread. */
static inline unsigned disk_delay_overtaken(struct disk_delay *delay)
{
    pthread_mutex_lock(&delay->lock);
    unsigned overtaken = delay->overtaken;
    pthread_mutex_unlock(&delay->lock);
    return overtaken;
}

/* Nothing is under way, and no ring that was opened under it is left. */
static inline void disk_delay_free(struct disk_delay *delay)
{
    uring_faults_set(NULL);
    pthread_cond_destroy(&delay->changed);
    pthread_mutex_destroy(&delay->lock);
    free(delay);
}

/* Operations of these kinds (a bit each) that begin from now on are let go by hand. */
static inline void disk_delay_hold(struct disk_delay *delay, unsigned kinds)
{
    pthread_mutex_lock(&delay->lock);
    delay->hand_kinds = kinds;
    pthread_mutex_unlock(&delay->lock);
}

/* Lets the operation at this place, of those under way, go: at once if it waits for that. */
static inline void disk_delay_release(struct disk_delay *delay, unsigned place)
{
    pthread_mutex_lock(&delay->lock);
    if (place >= delay->n ||
        (delay->ops[place].by_hand && eventfd_write(delay->ops[place].gate, 1) != 0))
        abort();
    pthread_mutex_unlock(&delay->lock);
}

/* All that are under way; those to come are let go by their timers. */
static inline void disk_delay_release_all(struct disk_delay *delay)
{
    pthread_mutex_lock(&delay->lock);
    delay->hand_kinds = DISK_DELAY_NONE;
    for (unsigned i = 0; i < delay->n; i++)
        if (delay->ops[i].by_hand && eventfd_write(delay->ops[i].gate, 1) != 0)
            abort();
    pthread_mutex_unlock(&delay->lock);
}

/* One of those under way, by chance. */
static inline void disk_delay_release_any(struct disk_delay *delay)
{
    pthread_mutex_lock(&delay->lock);
    uint64_t number = disk_delay_random(delay);
    unsigned n = delay->n;
    pthread_mutex_unlock(&delay->lock);
    if (n > 0)
        disk_delay_release(delay, (unsigned)(number % n));
}

static inline unsigned disk_delay_under_way(struct disk_delay *delay)
{
    pthread_mutex_lock(&delay->lock);
    unsigned n = delay->n;
    pthread_mutex_unlock(&delay->lock);
    return n;
}

/* Until an operation of the kind is under way. */
static inline void disk_delay_await(struct disk_delay *delay, enum uring_kind kind)
{
    pthread_mutex_lock(&delay->lock);
    while (delay->n_kinds[kind] == 0)
        pthread_cond_wait(&delay->changed, &delay->lock);
    pthread_mutex_unlock(&delay->lock);
}

#endif
