/* zstd dictionaries for small values: what many of them have in common is stored once.
 *
 * A dictionary is trained from values that pass by on their way to the cold tier, and kept only if
 * it saves a good share of their bytes. It lies in each segment that was begun while it was the
 * current one, in the blocks behind the header (cold_header.h), so that a segment can be read,
 * moved to another node and deleted by itself; records name it by its id. In memory there is one
 * copy, shared by reference counts. No I/O here; any thread, but for the samples, which are the
 * mover's.
 */
#ifndef TIERS_COLD_DICTIONARY_H
#define TIERS_COLD_DICTIONARY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COLD_DICTIONARY_BYTES_MAX (16u << 10)

/* Longer values have enough in common with themselves. */
#define COLD_DICTIONARY_VALUE_MAX (8u << 10)

struct cold_dictionary {
    _Atomic unsigned references;
    uint32_t id;       /* Never 0; follows from the checksum */
    uint64_t checksum; /* XXH3-64 of the bytes */
    uint32_t n_bytes;
    unsigned char *bytes;
    struct ZSTD_CDict_s *compressor;
    struct ZSTD_DDict_s *decompressor;
};

uint32_t cold_dictionary_id(uint64_t checksum);

/* Copies the bytes. The caller has the one reference. 0, TIERS_NO_MEMORY. */
int cold_dictionary_new(const void *bytes, size_t n_bytes, struct cold_dictionary **ret_dictionary);
void cold_dictionary_retain(struct cold_dictionary *dictionary);
void cold_dictionary_release(struct cold_dictionary *dictionary); /* NULL is ignored */

/* ---- Samples ---- */

struct cold_samples;

/* NULL: out of memory. Little memory is used until samples are gathered. */
struct cold_samples *cold_samples_new(void);
void cold_samples_free(struct cold_samples *samples);

/* A value passes by; it may be copied. */
void cold_samples_add(struct cold_samples *samples, const void *value, size_t value_len);

/* Whether enough was gathered to train. */
bool cold_samples_ready(const struct cold_samples *samples);

/* Trains from the samples and drops them. 0: *ret_dictionary saves at least
 * COLD_DICTIONARY_SAVES_PERCENT of what samples that it was not trained from take with `current`
 * (NULL: without any dictionary). TIERS_NOT_FOUND: it does not pay. TIERS_NO_MEMORY. After either
 * the next samples are gathered only when many more values have passed. Takes a fraction of a
 * second. */
#define COLD_DICTIONARY_SAVES_PERCENT 10
int cold_samples_train(struct cold_samples *samples, const struct cold_dictionary *current,
                       struct cold_dictionary **ret_dictionary, unsigned *ret_saved_percent);

#endif
