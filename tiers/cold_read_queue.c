/* The order of waiting reads: see cold_read_queue.h. */
#include "cold_read_queue.h"

#include <assert.h>
#include <stdlib.h>

int cold_read_queue_open(struct cold_read_queue *queue, size_t capacity)
{
    *queue = (struct cold_read_queue){.capacity = capacity};
    queue->sweep = calloc(capacity, sizeof(struct cold_request *));
    queue->gathering = calloc(capacity, sizeof(struct cold_request *));
    if (queue->sweep != NULL && queue->gathering != NULL)
        return 0;
    cold_read_queue_close(queue);
    return TIERS_NO_MEMORY;
}

void cold_read_queue_close(struct cold_read_queue *queue)
{
    free(queue->sweep);
    free(queue->gathering);
    *queue = (struct cold_read_queue){0};
}

void cold_read_queue_add(struct cold_read_queue *queue, struct cold_request *request)
{
    assert(cold_read_queue_count(queue) < queue->capacity);
    queue->gathering[queue->n_gathering++] = request;
}

static int compare(const void *a, const void *b)
{
    const struct cold_request *left = *(struct cold_request *const *)a;
    const struct cold_request *right = *(struct cold_request *const *)b;
    if (left->location.segment != right->location.segment)
        return left->location.segment < right->location.segment ? -1 : 1;
    if (left->location.offset != right->location.offset)
        return left->location.offset < right->location.offset ? -1 : 1;
    return 0;
}

static void sweep_begin(struct cold_read_queue *queue)
{
    struct cold_request **swept = queue->sweep;
    queue->sweep = queue->gathering;
    queue->n_sweep = queue->n_gathering;
    queue->sweep_at = 0;
    queue->gathering = swept;
    queue->n_gathering = 0;
    if (queue->n_sweep > 1)
        qsort(queue->sweep, queue->n_sweep, sizeof(struct cold_request *), compare);
}

struct cold_request *cold_read_queue_take(struct cold_read_queue *queue, uint64_t bytes_max)
{
    if (queue->sweep_at == queue->n_sweep)
        sweep_begin(queue);
    if (queue->sweep_at == queue->n_sweep)
        return NULL;

    struct cold_request *first = queue->sweep[queue->sweep_at++];
    struct cold_request *last = first;
    uint64_t end = first->offset + first->length;
    while (!first->alone && queue->sweep_at < queue->n_sweep) {
        struct cold_request *next = queue->sweep[queue->sweep_at];
        uint64_t next_end = next->offset + next->length;
        if (next->alone || next->file != first->file || next->offset > end + COLD_READ_GAP_BYTES)
            break;
        if ((next_end > end ? next_end : end) - first->offset > bytes_max)
            break;
        if (next_end > end)
            end = next_end;
        last->next = next;
        last = next;
        queue->sweep_at++;
    }
    last->next = NULL;
    return first;
}
