/* Zipf ranks by the method of Gray et al., "Quickly Generating Billion-Record Synthetic Databases"
 * (SIGMOD 1994), which YCSB uses too (Cooper et al., SoCC 2010): the sum zeta(n) once, then
 * constant time for each rank. Random numbers: xorshift128+ (Vigna, 2014), seeded by splitmix64.
 * Pure; no function fails. */
#include "workload.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void workload_random_init(struct workload_random *random, uint64_t seed)
{
    random->state[0] = splitmix64(&seed);
    random->state[1] = splitmix64(&seed);
}

uint64_t workload_random_next(struct workload_random *random)
{
    uint64_t a = random->state[0];
    uint64_t b = random->state[1];

    random->state[0] = b;
    a ^= a << 23;
    random->state[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return random->state[1] + b;
}

double workload_random_unit(struct workload_random *random)
{
    return (double)(workload_random_next(random) >> 11) * 0x1.0p-53;
}

static double zeta(uint64_t n, double theta)
{
    double sum = 0;

    for (uint64_t i = 1; i <= n; i++)
        sum += pow((double)i, -theta);
    return sum;
}

void zipf_init(struct zipf *zipf, uint64_t n, double theta)
{
    assert(n >= 1);
    assert(theta >= 0 && theta < 1);
    zipf->n = n;
    zipf->theta = theta;
    zipf->alpha = 1 / (1 - theta);
    zipf->zeta_n = zeta(n, theta);
    zipf->eta =
        n < 3 ? 0 : (1 - pow(2.0 / (double)n, 1 - theta)) / (1 - zeta(2, theta) / zipf->zeta_n);
    zipf->threshold_second = 1 + pow(0.5, theta);
}

uint64_t zipf_next(const struct zipf *zipf, struct workload_random *random)
{
    double unit = workload_random_unit(random);

    if (zipf->theta == 0)
        return (uint64_t)(unit * (double)zipf->n);
    double scaled = unit * zipf->zeta_n;
    if (scaled < 1 || zipf->n == 1)
        return 0;
    if (scaled < zipf->threshold_second || zipf->n == 2)
        return 1;
    double rank = (double)zipf->n * pow(zipf->eta * unit - zipf->eta + 1, zipf->alpha);
    return rank < (double)zipf->n ? (uint64_t)rank : zipf->n - 1;
}

uint64_t workload_scatter(uint64_t rank, uint64_t n)
{
    /* A permutation of [0, 2^bits), walked until it lands below n: on average under two steps. Odd
     * multipliers and shifts to the right are invertible, so no two ranks meet. */
    unsigned bits = n <= 2 ? 1 : 64u - (unsigned)__builtin_clzll(n - 1);
    uint64_t mask = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    uint64_t x = rank;

    assert(rank < n);
    do {
        x = (x * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u) & mask;
        x ^= x >> (bits / 2 + 1);
        x = (x * 0xbf58476d1ce4e5b9u) & mask;
        x ^= x >> (bits / 2 + 1);
    } while (x >= n);
    return x;
}

void workload_key(uint64_t number, char key[WORKLOAD_KEY_BYTES + 1])
{
    snprintf(key, WORKLOAD_KEY_BYTES + 1, "key-%016" PRIu64, number % UINT64_C(10000000000000000));
}

void workload_value(uint64_t number, uint64_t version, void *value, size_t value_bytes)
{
    unsigned char *bytes = value;
    uint64_t state = number * 31 + version;

    assert(value_bytes >= WORKLOAD_VALUE_BYTES_MIN);
    memcpy(bytes, &number, sizeof(number));
    memcpy(bytes + sizeof(number), &version, sizeof(version));
    for (size_t i = WORKLOAD_VALUE_BYTES_MIN; i < value_bytes; i += sizeof(state)) {
        uint64_t word = i / sizeof(state) % 2 == 0 ? splitmix64(&state) : 0x2020202020202020u;
        size_t left = value_bytes - i;
        memcpy(bytes + i, &word, left < sizeof(word) ? left : sizeof(word));
    }
}

bool workload_value_belongs(uint64_t number, const void *value, size_t value_bytes)
{
    return value_bytes >= WORKLOAD_VALUE_BYTES_MIN && memcmp(value, &number, sizeof(number)) == 0;
}
