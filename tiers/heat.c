/* Heat: see heat.h for what it promises.
 *
 * The sketch is cut into blocks of one cache line, so that an access costs one miss: a key's hash
 * names a block and in it one counter of each of four rows. An access raises only those of its
 * four counters that equal their minimum. Counters at their maximum are not written at all, so the
 * hottest keys share their line among threads.
 *
 * Aging is spread out. Each access is ticked off in one of several tallies (many, for threads not
 * to fight over a line); a tally that is full halves the next block of the whole sketch. Tallies
 * are sized so that each block is halved once per SAMPLE_FACTOR accesses per counter.
 *
 * Cannot fail once made. Any thread; all atomics are relaxed. A tick that is lost to a race puts
 * aging off by one access, and an increment that is lost is one of fifteen.
 */
#include "heat.h"

#include "prefetch.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define ROWS               4
#define WORDS_PER_BLOCK    ((size_t)8)
#define COUNTERS_PER_WORD  16
#define WORDS_PER_ROW      (WORDS_PER_BLOCK / ROWS)
#define COUNTERS_PER_ROW   (WORDS_PER_ROW * COUNTERS_PER_WORD)
#define COUNTERS_PER_BLOCK (WORDS_PER_BLOCK * COUNTERS_PER_WORD)
#define TALLIES            64
#define SAMPLE_FACTOR      10
#define TICKS_PER_HALVING  (SAMPLE_FACTOR * COUNTERS_PER_BLOCK)

/* Clears the bit that a shift of the whole word carries over from the counter above. */
#define HALVED_MASK UINT64_C(0x7777777777777777)

struct block {
    _Atomic uint64_t words[WORDS_PER_BLOCK];
} __attribute__((aligned(64)));

struct tally {
    _Atomic uint64_t ticks;
} __attribute__((aligned(64)));

struct heat {
    struct tally tallies[TALLIES];
    _Atomic uint64_t halvings; /* The next one's block, modulo the number of blocks */
    uint64_t halvings_seen;    /* By heat_age, at its last call */
    uint64_t owed;             /* Blocks to be halved by time, in parts of HEAT_HALF_LIFE_MS */
    size_t n_blocks;           /* Power of two */
    size_t n_tallies;          /* At most as many, lest one block is halved twice in a round */
    struct block *blocks;
};

/* One counter: its word and where in the word it stands. */
struct counter {
    _Atomic uint64_t *word;
    unsigned shift;
};

struct heat *heat_new(size_t counters)
{
    size_t n_blocks = 1;

    /* Half a byte a counter: the bytes cannot overflow where the counters did not. */
    while (n_blocks < counters / COUNTERS_PER_BLOCK + (counters % COUNTERS_PER_BLOCK != 0))
        n_blocks *= 2;
    struct heat *heat = aligned_alloc(_Alignof(struct heat), sizeof(*heat));
    if (heat == NULL)
        return NULL;
    heat->blocks = aligned_alloc(_Alignof(struct block), n_blocks * sizeof(struct block));
    if (heat->blocks == NULL) {
        free(heat);
        return NULL;
    }
    heat->n_blocks = n_blocks;
    heat->halvings_seen = 0;
    heat->owed = 0;
    heat->n_tallies = n_blocks < TALLIES ? n_blocks : TALLIES;
    atomic_init(&heat->halvings, 0);
    for (size_t i = 0; i < TALLIES; i++)
        atomic_init(&heat->tallies[i].ticks, 0);
    for (size_t i = 0; i < n_blocks; i++) {
        for (size_t j = 0; j < WORDS_PER_BLOCK; j++)
            atomic_init(&heat->blocks[i].words[j], 0);
    }
    return heat;
}

void heat_free(struct heat *heat)
{
    if (heat == NULL)
        return;
    free(heat->blocks);
    free(heat);
}

size_t heat_bytes(const struct heat *heat)
{
    return sizeof(*heat) + heat->n_blocks * sizeof(struct block);
}

static struct block *block_of(const struct heat *heat, uint64_t key_hash)
{
    return &heat->blocks[key_hash & (heat->n_blocks - 1)];
}

/* The rows take their bits from a second mix, independent of those that name the block. */
static void find_counters(const struct heat *heat, uint64_t key_hash, struct counter found[ROWS])
{
    struct block *block = block_of(heat, key_hash);
    uint64_t mixed = (key_hash ^ (key_hash >> 32)) * UINT64_C(0x9E3779B97F4A7C15);

    for (unsigned row = 0; row < ROWS; row++) {
        size_t number = (mixed >> (24 + 10 * row)) % COUNTERS_PER_ROW;
        found[row].word = &block->words[row * WORDS_PER_ROW + number / COUNTERS_PER_WORD];
        found[row].shift = (unsigned)(number % COUNTERS_PER_WORD) * 4;
    }
}

static unsigned counter_value(uint64_t word, unsigned shift)
{
    return (unsigned)(word >> shift) & HEAT_MAX;
}

static unsigned minimum(const struct counter counters[ROWS])
{
    unsigned lowest = HEAT_MAX;

    for (unsigned row = 0; row < ROWS; row++) {
        uint64_t word = atomic_load_explicit(counters[row].word, memory_order_relaxed);
        unsigned value = counter_value(word, counters[row].shift);
        if (value < lowest)
            lowest = value;
    }
    return lowest;
}

void heat_prefetch(const struct heat *heat, uint64_t key_hash)
{
    prefetch_line(block_of(heat, key_hash));
}

unsigned heat_estimate(const struct heat *heat, uint64_t key_hash)
{
    struct counter counters[ROWS];

    find_counters(heat, key_hash, counters);
    return minimum(counters);
}

static void halve_next_block(struct heat *heat)
{
    uint64_t number = atomic_fetch_add_explicit(&heat->halvings, 1, memory_order_relaxed);
    struct block *block = &heat->blocks[number & (heat->n_blocks - 1)];

    for (unsigned i = 0; i < WORDS_PER_BLOCK; i++) {
        uint64_t word = atomic_load_explicit(&block->words[i], memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&block->words[i], &word,
                                                      (word >> 1) & HALVED_MASK,
                                                      memory_order_relaxed, memory_order_relaxed)) {
        }
    }
}

void heat_age(struct heat *heat, uint64_t elapsed_ms)
{
    /* After five halvings every counter is zero. */
    uint64_t limit = (uint64_t)HEAT_HALF_LIFE_MS * 5;
    heat->owed += (elapsed_ms < limit ? elapsed_ms : limit) * heat->n_blocks;
    uint64_t halvings = atomic_load_explicit(&heat->halvings, memory_order_relaxed);
    uint64_t done = halvings - heat->halvings_seen;
    uint64_t due = heat->owed / HEAT_HALF_LIFE_MS;
    heat->owed %= HEAT_HALF_LIFE_MS;
    for (uint64_t i = done; i < due; i++)
        halve_next_block(heat);
    heat->halvings_seen = atomic_load_explicit(&heat->halvings, memory_order_relaxed);
}

static void tick(struct heat *heat, uint64_t key_hash)
{
    _Atomic uint64_t *ticks = &heat->tallies[(key_hash >> 32) & (heat->n_tallies - 1)].ticks;
    uint64_t now = atomic_load_explicit(ticks, memory_order_relaxed) + 1;
    bool full = now >= TICKS_PER_HALVING;

    atomic_store_explicit(ticks, full ? 0 : now, memory_order_relaxed);
    if (full)
        halve_next_block(heat);
}

unsigned heat_touch(struct heat *heat, uint64_t key_hash)
{
    struct counter counters[ROWS];

    tick(heat, key_hash);
    find_counters(heat, key_hash, counters);
    unsigned lowest = minimum(counters);
    if (lowest == HEAT_MAX)
        return HEAT_MAX;
    for (unsigned row = 0; row < ROWS; row++) {
        uint64_t word = atomic_load_explicit(counters[row].word, memory_order_relaxed);
        if (counter_value(word, counters[row].shift) != lowest)
            continue;
        /* Tried once: under a race this access may go uncounted in a row. */
        (void)atomic_compare_exchange_strong_explicit(counters[row].word, &word,
                                                      word + (UINT64_C(1) << counters[row].shift),
                                                      memory_order_relaxed, memory_order_relaxed);
    }
    return lowest + 1;
}

size_t heat_words(const struct heat *heat)
{
    return heat->n_blocks * WORDS_PER_BLOCK;
}

void heat_save(const struct heat *heat, size_t first, uint64_t *ret_words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ret_words[i] = atomic_load_explicit(
            &heat->blocks[(first + i) / WORDS_PER_BLOCK].words[(first + i) % WORDS_PER_BLOCK],
            memory_order_relaxed);
}

void heat_load(struct heat *heat, size_t first, const uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        atomic_store_explicit(
            &heat->blocks[(first + i) / WORDS_PER_BLOCK].words[(first + i) % WORDS_PER_BLOCK],
            words[i], memory_order_relaxed);
}
