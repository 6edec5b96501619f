/* Copying a warm tier: a snapshot's rows as they lie in the index, and filling a new index with
 * them. Items are opaque here but for their digests and pointers, which are checked.
 */
#ifndef TIERS_WARM_COPY_H
#define TIERS_WARM_COPY_H

#include "warm.h"

enum warm_copy_table { WARM_COPY_USER, WARM_COPY_SYSTEM, WARM_COPY_SEGMENTS, WARM_COPY_TABLES };

/* ---- Reading: one thread ---- */

struct warm_copy; /* A pinned snapshot */

int warm_copy_open(struct warm *warm, struct warm_copy **ret_copy);
void warm_copy_close(struct warm_copy *copy);
void warm_copy_position(const struct warm_copy *copy, struct tiers_position *ret_position);
/* Begins with the first row of a table. */
int warm_copy_table(struct warm_copy *copy, enum warm_copy_table table);
/* The next row, in key order; valid until close. TIERS_NOT_FOUND at the end. */
int warm_copy_next(struct warm_copy *copy, const void **ret_key, size_t *ret_key_len,
                   const void **ret_row, size_t *ret_row_len);
/* What a row of the segments says. False: damaged. */
bool warm_copy_segment(const void *key, size_t key_len, const void *row, size_t row_len,
                       struct warm_segment *ret_segment);

/* ---- Filling: one thread ---- */

struct warm_fill;

/* Makes the index in `directory`, which exists and is empty. */
int warm_fill_open(const char *directory, struct warm_fill **ret_fill, char *error_text,
                   size_t error_text_size);
/* Rows of a table come in key order. TIERS_CORRUPT: a row is not well-formed, or out of order. */
int warm_fill_row(struct warm_fill *fill, enum warm_copy_table table, const void *key,
                  size_t key_len, const void *row, size_t row_len);
/* Stores the position and makes everything durable. TIERS_CORRUPT: the digests of what was filled
 * do not add up to the position's state hash. */
int warm_fill_end(struct warm_fill *fill, const struct tiers_position *position);
/* Also after a failure. */
void warm_fill_close(struct warm_fill *fill);

#endif
