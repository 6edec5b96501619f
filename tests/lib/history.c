/* See history.h.
 *
 * A set of operations is told by the exclusive or of random numbers, one for each (Zobrist): 64
 * bits for the place in the table and 64 to compare, so that two sets are taken for one about once
 * in 10^19 comparisons. */
#include "lib/history.h"

#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 20000000u

struct event {
    const struct history_op *op; /* NULL: the list's head */
    struct event *answer;        /* Of an invocation; NULL in an answer */
    struct event *previous, *next;
    uint64_t at;
    uint64_t mark[2]; /* Of an invocation */
};

/* What was done, and the state after it. */
struct done {
    uint64_t mark[2];
    uint64_t state;
};

struct frame {
    struct event *invocation;
    uint64_t state_before;
};

struct search {
    struct event head;
    struct done now;
    struct frame *stack;
    size_t depth;
    struct done *seen; /* Open addressing; mark[0] 0: free */
    size_t capacity;   /* Power of two */
    size_t n_seen;
};

static uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* An answer at the moment of an invocation may have come after it. */
static int by_time(const void *left, const void *right)
{
    const struct event *a = *(struct event *const *)left, *b = *(struct event *const *)right;

    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    if ((a->answer != NULL) != (b->answer != NULL))
        return a->answer != NULL ? -1 : 1;
    return 0;
}

static void lift(struct event *event)
{
    event->previous->next = event->next;
    if (event->next != NULL)
        event->next->previous = event->previous;
}

static void unlift(struct event *event)
{
    event->previous->next = event;
    if (event->next != NULL)
        event->next->previous = event;
}

static bool seen_grow(struct search *search)
{
    size_t capacity = search->capacity * 2;
    struct done *table = calloc(capacity, sizeof *table);

    if (table == NULL)
        return false;
    for (size_t i = 0; i < search->capacity; i++) {
        if (search->seen[i].mark[0] == 0)
            continue;
        size_t at = search->seen[i].mark[0] & (capacity - 1);
        while (table[at].mark[0] != 0)
            at = (at + 1) & (capacity - 1);
        table[at] = search->seen[i];
    }
    free(search->seen);
    search->seen = table;
    search->capacity = capacity;
    return true;
}

/* 1: new; 0: was there; -1: out of memory. */
static int seen_add(struct search *search, struct done done)
{
    size_t at;

    done.mark[0] ^= done.state * 0x9e3779b97f4a7c15u;
    done.mark[0] |= done.mark[0] == 0;
    if (search->n_seen * 2 >= search->capacity && !seen_grow(search))
        return -1;
    at = done.mark[0] & (search->capacity - 1);
    for (; search->seen[at].mark[0] != 0; at = (at + 1) & (search->capacity - 1))
        if (memcmp(&search->seen[at], &done, sizeof done) == 0)
            return 0;
    search->seen[at] = done;
    search->n_seen++;
    return 1;
}

/* False: it does not fit the state. */
static bool apply(const struct history_op *op, uint64_t state, uint64_t *ret_state)
{
    if (!op->write && op->value != state)
        return false;
    *ret_state = op->write ? op->value : state;
    return true;
}

static enum history_verdict run(struct search *search)
{
    struct event *event = search->head.next;

    for (unsigned step = 0; search->head.next != NULL; step++) {
        if (step == STEPS_MAX)
            return HISTORY_UNDECIDED;
        if (event->answer == NULL) {
            /* It had to be done before here, and could not: the last choice was wrong. */
            struct frame *frame;
            if (search->depth == 0)
                return HISTORY_NOT_LINEARIZABLE;
            frame = &search->stack[--search->depth];
            event = frame->invocation;
            search->now.state = frame->state_before;
            search->now.mark[0] ^= event->mark[0];
            search->now.mark[1] ^= event->mark[1];
            unlift(event->answer);
            unlift(event);
            event = event->next;
            continue;
        }
        struct done next = search->now;
        int added = 0;
        if (apply(event->op, search->now.state, &next.state)) {
            next.mark[0] ^= event->mark[0];
            next.mark[1] ^= event->mark[1];
            added = seen_add(search, next);
            if (added < 0)
                return HISTORY_UNDECIDED;
        }
        if (added == 0) {
            event = event->next;
            continue;
        }
        search->stack[search->depth++] = (struct frame){event, search->now.state};
        search->now = next;
        lift(event);
        lift(event->answer);
        event = search->head.next;
    }
    return HISTORY_LINEARIZABLE;
}

/* Copies the operations that matter; returns how many. A write of unknown outcome that nobody has
 * seen may be taken to come last, and so be left out. One that was seen took effect before the
 * first read that saw it was over. Without this each such write would double the search. */
static size_t simplify(const struct history_op *ops, size_t n, struct history_op *ret_ops)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        struct history_op op = ops[i];
        if (op.write && op.end == HISTORY_UNKNOWN && op.value != 0) {
            for (size_t k = 0; k < n; k++)
                if (!ops[k].write && ops[k].value == op.value && ops[k].end < op.end)
                    op.end = ops[k].end;
            if (op.end == HISTORY_UNKNOWN)
                continue;
            if (op.end < op.begin)
                op.end = op.begin; /* Seen before it was sent: the search will say so */
        }
        ret_ops[kept++] = op;
    }
    return kept;
}

static void list_make(struct search *search, struct event *events, struct event **order,
                      const struct history_op *ops, size_t n)
{
    uint64_t random = 1;
    struct event *last = &search->head;

    for (size_t i = 0; i < n; i++) {
        struct event *invocation = &events[2 * i], *answer = &events[2 * i + 1];
        *invocation = (struct event){.op = &ops[i],
                                     .answer = answer,
                                     .at = ops[i].begin,
                                     .mark = {mix(&random), mix(&random)}};
        *answer = (struct event){.op = &ops[i], .at = ops[i].end};
        order[2 * i] = invocation;
        order[2 * i + 1] = answer;
    }
    qsort(order, 2 * n, sizeof *order, by_time);
    for (size_t i = 0; i < 2 * n; i++) {
        last->next = order[i];
        order[i]->previous = last;
        last = order[i];
    }
    last->next = NULL;
}

enum history_verdict history_check(const struct history_op *all_ops, size_t n)
{
    struct search search = {.capacity = 1024};
    struct history_op *ops = malloc((n + 1) * sizeof *ops);
    struct event *events = malloc((2 * n + 1) * sizeof *events);
    struct event **order = malloc((2 * n + 1) * sizeof *order);
    enum history_verdict verdict = HISTORY_UNDECIDED;

    search.stack = malloc((n + 1) * sizeof *search.stack);
    search.seen = calloc(search.capacity, sizeof *search.seen);
    if (ops != NULL && events != NULL && order != NULL && search.stack != NULL &&
        search.seen != NULL) {
        n = simplify(all_ops, n, ops);
        list_make(&search, events, order, ops, n);
        verdict = run(&search);
    }
    free(search.seen);
    free(search.stack);
    free(order);
    free(events);
    free(ops);
    return verdict;
}

bool history_is_monotonic(const struct history_read *reads, size_t n)
{
    struct history_read newest = {.revision = 0};

    for (size_t i = 0; i < n; i++) {
        if (reads[i].revision == 0)
            continue;
        if (reads[i].revision < newest.revision ||
            (reads[i].revision == newest.revision && reads[i].value != newest.value))
            return false;
        newest = reads[i];
    }
    return true;
}

static bool was_written(const struct history_op *ops, size_t n_ops, const struct history_read *read)
{
    for (size_t i = 0; i < n_ops; i++)
        if (ops[i].write && ops[i].value == read->value && ops[i].begin < read->end)
            return true;
    return false;
}

bool history_was_written(const struct history_op *ops, size_t n_ops,
                         const struct history_read *reads, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (reads[i].value != 0 && !was_written(ops, n_ops, &reads[i]))
            return false;
    return true;
}
