/* The policies there are. A new one is declared here and listed in policy.c. */
#ifndef TIERS_POLICY_TYPES_H
#define TIERS_POLICY_TYPES_H

#include "tiers/policy.h"

extern const struct policy_type policy_lru;
extern const struct policy_type policy_clock;
extern const struct policy_type policy_slru;
extern const struct policy_type policy_twoq;
extern const struct policy_type policy_arc;
extern const struct policy_type policy_s3fifo;
extern const struct policy_type policy_sieve;
extern const struct policy_type policy_wtinylfu;

#endif
