/* What sim_checks.c (logs and states) and sim_checks_clients.c (keys and histories) share. */
#ifndef TIERKV_TESTS_SIM_CHECKS_PRIVATE_H
#define TIERKV_TESTS_SIM_CHECKS_PRIVATE_H

#include "sim/sim_checks.h"

/* An entry as some log had it, with all that was before it. */
struct logged {
    raft_term term;
    uint64_t chain;
};

/* All that is known about an index. */
struct entry {
    struct logged *logged; /* One a term */
    size_t n_logged, capacity;
    bool committed;
    bool state_known;
    raft_term term;
    raft_term
        committed_by; /* The term of who applied it first: it was committed in this or before */
    uint64_t digest;
    uint64_t state_hash, revision; /* After it */
};

struct key_state {
    uint64_t index;
    uint64_t value;
};

struct key {
    struct key_state *states; /* By index: what the committed entries made of it */
    size_t n, capacity;
    struct history_op *ops;
    size_t n_ops, ops_capacity;
};

struct sim_checks {
    struct sim_world *world;
    struct entry *entries; /* By index */
    size_t n_entries;
    uint64_t committed;
    unsigned *leaders; /* By term: place, and which life of it; 0: nobody yet */
    size_t n_leaders;
    uint64_t *chains[SIM_ENDPOINTS_MAX]; /* Of each disk, by index */
    size_t n_chains[SIM_ENDPOINTS_MAX];
    struct key keys[SIM_KEYS_MAX];
    uint64_t applied_at[SIM_VALUES_MAX]; /* By value: index; 0: nowhere yet */
    bool refused[SIM_VALUES_MAX];
};

/* An array with room for `wanted` items of that size; what is new is zero. */
void *sim_grow(void *array, size_t *capacity, size_t wanted, size_t size);

/* The number of a key's text. */
size_t sim_key_of(const void *text, size_t n);

#endif
