/* Dictionaries and the samples they are trained from: see cold_dictionary.h.
 *
 * Every few values one is copied, until there are enough. Three quarters of the samples train, the
 * others tell whether it pays: they are compressed with what is in use now and with the candidate,
 * each stored as it is where compression saves nothing. After a success values must have passed by
 * in great number before the next try; after a failure twice as many each time.
 */
#include "cold_dictionary.h"

#include "tiers/tiers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zdict.h>
#include <zstd.h>

#define COMPRESSION        3
#define SAMPLES_BYTES      (1u << 20)
#define SAMPLES_MAX        8192
#define SAMPLES_MIN        256 /* Fewer say little about other values */
#define SAMPLE_EVERY       8
#define VALUE_MIN          32
#define HELD_BACK          4 /* One sample in so many only judges */
#define VALUE_BYTES_BEFORE ((uint64_t)1 << 30)
#define WAIT_DOUBLINGS_MAX 8

struct cold_samples {
    unsigned char *bytes; /* SAMPLES_BYTES while gathering, else NULL */
    size_t n_bytes;
    size_t sizes[SAMPLES_MAX];
    size_t n;
    uint64_t seen;        /* Values */
    uint64_t seen_bytes;  /* Of values, since the last training */
    uint64_t begin_bytes; /* Gathering begins when that many were seen */
    unsigned failures;    /* In a row */
};

/* ------------------------------------------------------------------------------- a dictionary */

uint32_t cold_dictionary_id(uint64_t checksum)
{
    uint32_t id = (uint32_t)checksum;
    return id != 0 ? id : 1;
}

static void dictionary_free(struct cold_dictionary *dictionary)
{
    ZSTD_freeCDict(dictionary->compressor);
    ZSTD_freeDDict(dictionary->decompressor);
    free(dictionary->bytes);
    free(dictionary);
}

int cold_dictionary_new(const void *bytes, size_t n_bytes, struct cold_dictionary **ret_dictionary)
{
    assert(n_bytes > 0 && n_bytes <= COLD_DICTIONARY_BYTES_MAX);
    struct cold_dictionary *dictionary = calloc(1, sizeof *dictionary);
    if (dictionary == NULL)
        return TIERS_NO_MEMORY;
    atomic_init(&dictionary->references, 1);
    dictionary->n_bytes = (uint32_t)n_bytes;
    dictionary->checksum = XXH3_64bits(bytes, n_bytes);
    dictionary->id = cold_dictionary_id(dictionary->checksum);
    dictionary->bytes = malloc(n_bytes);
    if (dictionary->bytes != NULL) {
        memcpy(dictionary->bytes, bytes, n_bytes);
        dictionary->compressor = ZSTD_createCDict(bytes, n_bytes, COMPRESSION);
        dictionary->decompressor = ZSTD_createDDict(bytes, n_bytes);
    }
    if (dictionary->compressor == NULL || dictionary->decompressor == NULL) {
        dictionary_free(dictionary);
        return TIERS_NO_MEMORY;
    }
    *ret_dictionary = dictionary;
    return 0;
}

void cold_dictionary_retain(struct cold_dictionary *dictionary)
{
    atomic_fetch_add(&dictionary->references, 1);
}

void cold_dictionary_release(struct cold_dictionary *dictionary)
{
    if (dictionary != NULL && atomic_fetch_sub(&dictionary->references, 1) == 1)
        dictionary_free(dictionary);
}

/* ----------------------------------------------------------------------------------- samples */

struct cold_samples *cold_samples_new(void)
{
    return calloc(1, sizeof(struct cold_samples));
}

static void samples_drop(struct cold_samples *samples)
{
    free(samples->bytes);
    samples->bytes = NULL;
    samples->n_bytes = 0;
    samples->n = 0;
    samples->seen_bytes = 0;
}

void cold_samples_free(struct cold_samples *samples)
{
    if (samples == NULL)
        return;
    free(samples->bytes);
    free(samples);
}

bool cold_samples_ready(const struct cold_samples *samples)
{
    return samples->n == SAMPLES_MAX ||
           (samples->n >= SAMPLES_MIN &&
            SAMPLES_BYTES - samples->n_bytes < COLD_DICTIONARY_VALUE_MAX);
}

void cold_samples_add(struct cold_samples *samples, const void *value, size_t value_len)
{
    samples->seen_bytes += value_len;
    if (samples->seen_bytes < samples->begin_bytes || value_len < VALUE_MIN ||
        value_len > COLD_DICTIONARY_VALUE_MAX || ++samples->seen % SAMPLE_EVERY != 0)
        return;
    if (samples->n == SAMPLES_MAX || value_len > SAMPLES_BYTES - samples->n_bytes)
        return;
    if (samples->bytes == NULL)
        samples->bytes = malloc(SAMPLES_BYTES);
    /* Without memory for them there are no samples this time. */
    if (samples->bytes == NULL)
        return;
    memcpy(samples->bytes + samples->n_bytes, value, value_len);
    samples->n_bytes += value_len;
    samples->sizes[samples->n++] = value_len;
}

/* What the samples that were held back take with a dictionary, or without. 0: out of memory. */
static uint64_t held_back_bytes(const struct cold_samples *samples, size_t first,
                                const unsigned char *bytes,
                                const struct cold_dictionary *dictionary)
{
    unsigned char *to = malloc(COLD_DICTIONARY_VALUE_MAX);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    uint64_t total = 0;
    for (size_t i = first; i < samples->n && to != NULL && context != NULL; i++) {
        size_t size = samples->sizes[i];
        size_t n = dictionary != NULL
                       ? ZSTD_compress_usingCDict(context, to, size - 1, bytes, size,
                                                  dictionary->compressor)
                       : ZSTD_compressCCtx(context, to, size - 1, bytes, size, COMPRESSION);
        total += ZSTD_isError(n) ? size : n;
        bytes += size;
    }
    ZSTD_freeCCtx(context);
    free(to);
    return total;
}

static int train(const struct cold_samples *samples, const struct cold_dictionary *current,
                 struct cold_dictionary **ret_dictionary, unsigned *ret_saved_percent)
{
    size_t n_training = samples->n - samples->n / HELD_BACK;
    size_t training_bytes = 0;
    for (size_t i = 0; i < n_training; i++)
        training_bytes += samples->sizes[i];
    unsigned char *bytes = malloc(COLD_DICTIONARY_BYTES_MAX);
    if (bytes == NULL)
        return TIERS_NO_MEMORY;
    size_t n_bytes = ZDICT_trainFromBuffer(bytes, COLD_DICTIONARY_BYTES_MAX, samples->bytes,
                                           samples->sizes, (unsigned)n_training);
    struct cold_dictionary *dictionary = NULL;
    int status =
        ZDICT_isError(n_bytes) ? TIERS_NOT_FOUND : cold_dictionary_new(bytes, n_bytes, &dictionary);
    free(bytes);
    if (status != 0)
        return status;
    const unsigned char *held_back = samples->bytes + training_bytes;
    uint64_t before = held_back_bytes(samples, n_training, held_back, current);
    uint64_t after = held_back_bytes(samples, n_training, held_back, dictionary);
    if (before == 0 || after == 0 ||
        after > before - before * COLD_DICTIONARY_SAVES_PERCENT / 100) {
        cold_dictionary_release(dictionary);
        return before == 0 || after == 0 ? TIERS_NO_MEMORY : TIERS_NOT_FOUND;
    }
    *ret_saved_percent = (unsigned)((before - after) * 100 / before);
    *ret_dictionary = dictionary;
    return 0;
}

int cold_samples_train(struct cold_samples *samples, const struct cold_dictionary *current,
                       struct cold_dictionary **ret_dictionary, unsigned *ret_saved_percent)
{
    assert(cold_samples_ready(samples));
    int status = train(samples, current, ret_dictionary, ret_saved_percent);
    samples->failures = status == 0 ? 0 : samples->failures + 1;
    unsigned doublings =
        samples->failures < WAIT_DOUBLINGS_MAX ? samples->failures : WAIT_DOUBLINGS_MAX;
    samples->begin_bytes = VALUE_BYTES_BEFORE << doublings;
    samples_drop(samples);
    return status;
}
