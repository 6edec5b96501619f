/* How often keys were seen lately, for admission: a count-min sketch (Cormode, Muthukrishnan 2005)
 * of 8-bit counters in four rows with conservative update. sketch_age halves every counter. Pure;
 * the caller's thread. */
#ifndef TIERS_POLICY_SKETCH_H
#define TIERS_POLICY_SKETCH_H

#include <stddef.h>
#include <stdint.h>

struct sketch;

/* NULL: out of memory. */
struct sketch *sketch_new(void);
void sketch_free(struct sketch *sketch);
/* Widens the rows for that many entries, if they are narrower: estimates stay what they were. Does
 * nothing when memory runs out. */
void sketch_fit(struct sketch *sketch, uint64_t entries);
void sketch_add(struct sketch *sketch, uint64_t key_hash);
unsigned sketch_estimate(const struct sketch *sketch, uint64_t key_hash);
void sketch_age(struct sketch *sketch);
/* Memory that it takes. */
size_t sketch_bytes(const struct sketch *sketch);

#endif
