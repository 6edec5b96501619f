/* Decides how hot a key must be to stay warm, or to become so. Pure: statistics in, thresholds out.
 *
 * Demotion takes the coldest part of the warm tier that is large enough to bring it back into its
 * budget: a histogram of value bytes by heat, sampled by the mover's hand as it passes, tells which
 * heat cuts off that part. Promotion asks for more heat than demotion spares, so that a key does
 * not go back and forth, and for still more heat while few reads reach the cold tier.
 */
#ifndef TIERS_CONTROLLER_H
#define TIERS_CONTROLLER_H

#include "heat.h"

#include <stdbool.h>
#include <stdint.h>

/* Bytes of inline values by the heat of their keys. */
struct controller_histogram {
    uint64_t bytes[HEAT_MAX + 1];
};

void controller_histogram_add(struct controller_histogram *histogram, unsigned heat,
                              uint64_t bytes);
/* Old samples fade: call before a new batch. */
void controller_histogram_halve(struct controller_histogram *histogram);

struct controller_input {
    uint64_t warm_used_bytes;
    uint64_t warm_budget_bytes;
    uint64_t warm_free_bytes; /* That the file can still grow by */
    struct controller_histogram histogram;
    unsigned rounds_in_vain; /* Times the hand went round without reaching the budget */
    uint64_t reads;          /* Lately, of present keys */
    uint64_t reads_cold;     /* Of those, answered by the cold tier */
};

struct controller_decision {
    unsigned demote_heat_max;      /* Keys up to this heat leave */
    unsigned promote_heat_min;     /* Keys from this heat on return */
    uint32_t demote_value_len_min; /* Shorter values stay: a pointer would save nothing */
    uint64_t demote_chunk_bytes;   /* Of items looked at in one transaction */
    bool repack_always;
};

/* Bytes that demotion should free: down to a little below the budget. 0: none. */
uint64_t controller_excess_bytes(uint64_t used_bytes, uint64_t budget_bytes);

void controller_decide(const struct controller_input *input,
                       struct controller_decision *ret_decision);

/* True when even this decision leaves nothing more to try in another round. */
bool controller_exhausted(const struct controller_decision *decision);

#endif
