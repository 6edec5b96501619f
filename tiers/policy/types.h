/* The policies there are. A new one is declared here and listed in policy.c. */
#ifndef TIERS_POLICY_TYPES_H
#define TIERS_POLICY_TYPES_H

#include "tiers/policy.h"

extern const struct policy_type policy_lru;

#endif
