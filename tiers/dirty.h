/* The write-back buffer: which records are not yet in the warm tier, in groups called generations.
 *
 * The applier appends to the active generation; overwriting a key within it replaces the record in
 * place, so that a hot key costs one warm write per flush. dirty_freeze closes the generation at a
 * group boundary: from then on it is an immutable, exact difference between two positions, which
 * the mover writes in one transaction. Several frozen generations may wait.
 *
 * A map from key to slot exists only for the active generation. All memory counts as dirty bytes.
 */
#ifndef TIERS_DIRTY_H
#define TIERS_DIRTY_H

#include "tiers/tiers.h"

struct dirty;

struct dirty_generation {
    struct dirty_generation *next;
    struct tiers_position position; /* Of the store with this generation included */
    uint64_t bytes;                 /* Charges of its records, and its own arrays */
    uint64_t opened_ms;             /* When its first record came; 0: it has none */
    uint64_t pages;                 /* The mover's: see mover_gather.c; 0: not known yet */
    bool sorted;
    size_t n;
    const struct tiers_record **records; /* One per key; sorted by (space, key) by dirty_sort */
};

int dirty_open(struct dirty **ret_dirty);
void dirty_close(struct dirty *dirty);

/* Applier. Takes a reference of its own. `now_ms` is looked at if the active generation is empty.
 * 0, or TIERS_NO_MEMORY with the records as before. */
int dirty_add(struct dirty *dirty, uint64_t hash, const struct tiers_record *record,
              uint64_t now_ms);

/* Applier (or the mover while the applier is kept out): closes the active generation, if it has
 * records or the position's index has moved since the last one, and queues it. So a generation may
 * be empty: it moves the durable position over entries that changed nothing. The index never goes
 * back. 0, or TIERS_NO_MEMORY with nothing changed. */
int dirty_freeze(struct dirty *dirty, const struct tiers_position *position);

/* Bytes, keys and age of the active generation. Applier. */
uint64_t dirty_active_bytes(const struct dirty *dirty);
size_t dirty_active_keys(const struct dirty *dirty);
uint64_t dirty_active_opened_ms(const struct dirty *dirty); /* 0: empty */

/* Bytes of all generations, frozen and in flush included. Any thread. */
uint64_t dirty_bytes(const struct dirty *dirty);

/* Mover. The oldest frozen generation or NULL; it stays queued until dirty_done. */
struct dirty_generation *dirty_oldest(struct dirty *dirty);
void dirty_sort(struct dirty_generation *generation);
/* Mover, after the oldest generation is durable: releases it and its records. */
void dirty_done(struct dirty *dirty, struct dirty_generation *generation);

#endif
