/* xoshiro256** by Blackman and Vigna, seeded by splitmix64. */
#include "lib/random.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint64_t environment_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    char *end;
    if (text == NULL || *text == '\0')
        return otherwise;
    uint64_t number = strtoull(text, &end, 10);
    if (*end != '\0') {
        fprintf(stderr, "%s=%s is not a number\n", name, text);
        exit(2);
    }
    return number;
}

uint64_t random_seed(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t state = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20 ^ (uint64_t)getpid() << 40;
    uint64_t seed = environment_number("TIERKV_SEED", splitmix(&state) >> 16);
    printf("TIERKV_SEED=%" PRIu64 "\n", seed);
    fflush(stdout);
    return seed;
}

void random_init(struct random *random, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++)
        random->words[i] = splitmix(&seed);
}

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

uint64_t random_next(struct random *random)
{
    uint64_t *s = random->words;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    assert(bound > 0);
    return random_next(random) % bound;
}

void random_fill(struct random *random, void *bytes, size_t length)
{
    unsigned char *next = bytes;
    while (length > 0) {
        uint64_t word = random_next(random);
        size_t n = length < sizeof(word) ? length : sizeof(word);
        memcpy(next, &word, n);
        next += n;
        length -= n;
    }
}

void random_text(uint64_t seed, char *text, size_t size)
{
    struct random random;
    random_init(&random, seed);
    assert(size > 0);
    for (size_t i = 0; i + 1 < size; i++)
        text[i] = (char)('a' + random_below(&random, 26));
    text[size - 1] = '\0';
}
