/* Pseudo-random numbers of tests: the same seed gives the same numbers. */
#ifndef TIERKV_TESTS_RANDOM_H
#define TIERKV_TESTS_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t words[4];
};

/* TIERKV_SEED of the environment, or a new seed. Prints it, so that a failure can be repeated. */
uint64_t random_seed(void);
void random_init(struct random *random, uint64_t seed);
uint64_t random_next(struct random *random);
/* 0 to bound - 1; bound > 0. */
uint64_t random_below(struct random *random, uint64_t bound);
void random_fill(struct random *random, void *bytes, size_t length);
/* Letters, and a zero at the end: `size` bytes in all. The log cannot compress them. Of a seed the
 * same ones always. */
void random_text(uint64_t seed, char *text, size_t size);

/* A decimal number of the environment, or the default. Exits the program if it is none. */
uint64_t environment_number(const char *name, uint64_t otherwise);

#endif
