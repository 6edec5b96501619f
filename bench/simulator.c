/* See simulator.h. Nodes stand in an array by key number: an access costs no hashing. */
#include "simulator.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct run {
    const struct policy_type *type;
    struct policy *policy;
    struct policy_node *nodes;
    unsigned char *cached; /* By key number */
    uint64_t capacity;
    uint64_t used;
};

static void make_room(struct run *run, uint32_t size)
{
    while (run->used + size > run->capacity) {
        struct policy_node *victim = run->type->victim(run->policy);
        assert(victim != NULL);
        run->used -= victim->size;
        run->cached[victim - run->nodes] = 0;
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
    run->cached[node - run->nodes] = 1;
}

int simulation_run(const struct simulation *simulation, struct simulation_result *ret_result)
{
    const struct trace *trace = simulation->trace;
    struct simulation_result result = {0};
    struct run run = {.type = simulation->policy, .capacity = simulation->capacity};
    int rv = -1;

    run.policy = run.type->create(run.capacity);
    run.nodes = calloc(trace->n_keys_all, sizeof *run.nodes);
    run.cached = calloc(trace->n_keys_all, 1);
    if (run.policy == NULL || run.nodes == NULL || run.cached == NULL)
        goto out;
    for (size_t i = 0; i < trace->n_keys_all; i++) {
        run.nodes[i].key_hash = trace->key_hashes[i];
        run.nodes[i].size = simulation->by_bytes ? trace->key_sizes[i] : 1;
    }
    for (size_t i = 0; i < trace->n_requests; i++) {
        uint32_t key = trace->requests[i].key;
        if (trace->requests[i].op == 'd')
            continue;
        result.accesses++;
        result.bytes += trace->key_sizes[key];
        if (run.cached[key]) {
            run.type->hit(run.policy, &run.nodes[key]);
            continue;
        }
        result.misses++;
        result.missed_bytes += trace->key_sizes[key];
        admit(&run, &run.nodes[key]);
    }
    *ret_result = result;
    rv = 0;
out:
    if (run.policy != NULL)
        run.type->destroy(run.policy);
    free(run.nodes);
    free(run.cached);
    return rv;
}
