/* The query of GET /tiers/cost: prices, latencies and the target, over the defaults. Pure. */
#ifndef TIERKV_HTTP_COST_QUERY_H
#define TIERKV_HTTP_COST_QUERY_H

#include "tiers/cost.h"

#include <stdbool.h>
#include <stddef.h>

/* Reads the text behind the question mark into the figures it names; others are left alone. False:
 * a name or a number that is not allowed; *ret_error, a constant string, says what is. */
bool cost_query_parse(const char *text, size_t n, struct tiers_cost_input *input,
                      const char **ret_error);

#endif
