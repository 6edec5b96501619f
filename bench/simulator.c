/* See simulator.h. Nodes stand in an array by key number: an access costs no hashing. */
#include "simulator.h"

#include <assert.h>
#include <stdlib.h>

#define PROGRESS_REQUESTS ((size_t)1 << 16)

struct run {
    const struct policy_type *type;
    struct policy *policy;
    struct policy_node *nodes; /* By key number; those cached are in a list of the policy */
    uint64_t capacity;
    uint64_t used;
};

static void make_room(struct run *run, uint32_t size)
{
    while (run->used + size > run->capacity) {
        struct policy_node *victim = run->type->victim(run->policy);
        assert(victim != NULL);
        run->used -= victim->size;
        run->type->remove(run->policy, victim, true);
    }
}

static void admit(struct run *run, struct policy_node *node)
{
    if (node->size > run->capacity ||
        (run->type->admits != NULL && !run->type->admits(run->policy, node->size)))
        return;
    if (run->type->prepare != NULL)
        run->type->prepare(run->policy, node->key_hash, node->size);
    make_room(run, node->size);
    run->type->insert(run->policy, node);
    run->used += node->size;
}

/* Replays the requests [from, to). */
static void replay(struct run *run, const struct trace *trace, size_t from, size_t to,
                   struct simulation_result *result)
{
    for (size_t i = from; i < to; i++) {
        uint32_t key = trace->requests[i].key, size = trace->key_sizes[key];
        if (trace->requests[i].op == 'd')
            continue;
        result->bytes += size;
        if (run->nodes[key].list != 0) {
            run->type->hit(run->policy, &run->nodes[key]);
            continue;
        }
        result->misses++;
        result->missed_bytes += size;
        admit(run, &run->nodes[key]);
    }
}

int simulation_run(const struct simulation *simulation, struct simulation_result *ret_result)
{
    const struct trace *trace = simulation->trace;
    struct simulation_result result = {.accesses = trace->n_accesses};
    struct run run = {.type = simulation->policy, .capacity = simulation->capacity};
    int error = -1;

    run.policy = run.type->create(run.capacity);
    run.nodes = calloc(trace->n_keys_all, sizeof(*run.nodes));
    if (run.policy == NULL || (run.nodes == NULL && trace->n_keys_all > 0))
        goto out;
    for (size_t i = 0; i < trace->n_keys_all; i++) {
        run.nodes[i].key_hash = trace->key_hashes[i];
        run.nodes[i].size = simulation->by_bytes ? trace->key_sizes[i] : 1;
    }
    for (size_t from = 0; from < trace->n_requests; from += PROGRESS_REQUESTS) {
        size_t left = trace->n_requests - from;
        size_t n = left < PROGRESS_REQUESTS ? left : PROGRESS_REQUESTS;
        replay(&run, trace, from, from + n, &result);
        if (simulation->requests_done != NULL)
            atomic_fetch_add_explicit(simulation->requests_done, n, memory_order_relaxed);
    }
    *ret_result = result;
    error = 0;

out:
    if (run.policy != NULL)
        run.type->destroy(run.policy);
    free(run.nodes);
    return error;
}
