/* How many gets a second the hot tier alone answers, with one thread and with two.
 *
 * Each get hashes the key, calls hot_get and releases the record. Keys are 64 bytes
 * and are drawn and written beforehand, uniformly (the worst case for caches) or skewed (a share of
 * them from a small set of hot keys). Prints one line a run; the ratio is the gain of two threads,
 * the last column the time of a processor that a get takes, which other processes on the machine
 * disturb less. The last line says how often a thread could read two places of as much memory, the
 * second of which the first names, as a bucket names a record: what look-ups that do not overlap
 * could do.
 *
 * Usage: hot_bench [KEYS] [VALUE_BYTES] [GETS of a thread in each of its runs]
 */
#include "hot.h"
#include "record.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* As tierkvd has it; read by jemalloc. */
extern const char *malloc_conf;
const char *malloc_conf = "thp:always";

#define KEY_BYTES      64
#define GETS_DEFAULT   4000000
#define DRAWN          (1u << 20)
#define THREADS_MAX    2
#define RUNS           5
#define HOT_BYTES_MIN  (256u << 20) /* The server's default: decides the number of shards */
#define SKEWED_HOT     1000
#define SKEWED_PERCENT 90

struct worker {
    struct hot *hot;
    unsigned n_keys;
    uint64_t n_gets;
    bool skewed;
    uint64_t random;
    uint64_t hits;
    double cpu_seconds;
    pthread_barrier_t *start;
};

static void fill_key(char key[KEY_BYTES], unsigned number)
{
    memset(key, 'k', KEY_BYTES);
    memcpy(key + KEY_BYTES - sizeof(number), &number, sizeof(number));
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static unsigned draw(struct worker *worker)
{
    uint64_t random = random_next(&worker->random);

    if (worker->skewed && random % 100 < SKEWED_PERCENT)
        return (unsigned)((random >> 32) % SKEWED_HOT);
    return (unsigned)((random >> 32) % worker->n_keys);
}

static double seconds_now(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    char(*keys)[KEY_BYTES] = malloc(DRAWN * sizeof(*keys));

    if (keys == NULL)
        abort();
    for (size_t i = 0; i < DRAWN; i++)
        fill_key(keys[i], draw(worker));
    pthread_barrier_wait(worker->start);
    worker->cpu_seconds = -seconds_now(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < worker->n_gets; i++) {
        const struct tiers_record *record = NULL;
        uint64_t ticket = 0;
        const char *key = keys[i % DRAWN];
        uint64_t hash = record_key_hash(TIERS_SPACE_USER, key, KEY_BYTES);
        if (hot_get(worker->hot, hash, TIERS_SPACE_USER, key, KEY_BYTES, &record, &ticket) ==
            HOT_HIT) {
            worker->hits++;
            tiers_record_release(record);
        }
    }
    worker->cpu_seconds += seconds_now(CLOCK_THREAD_CPUTIME_ID);
    pthread_barrier_wait(worker->start);
    free(keys);
    return NULL;
}

struct measured {
    double rate;   /* Gets a second of all threads together */
    double cpu_ns; /* Of one get */
};

/* All runs read this hot table so. */
struct subject {
    struct hot *hot;
    unsigned n_keys;
    uint64_t n_gets; /* Of each thread */
};

static struct measured measure(const struct subject *subject, bool skewed, unsigned n_threads)
{
    struct measured measured = {0};
    struct worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    pthread_barrier_t start;

    if (pthread_barrier_init(&start, NULL, n_threads + 1) != 0)
        abort();
    for (unsigned i = 0; i < n_threads; i++) {
        workers[i] = (struct worker){.hot = subject->hot,
                                     .n_keys = subject->n_keys,
                                     .n_gets = subject->n_gets,
                                     .skewed = skewed,
                                     .random = 88172645463325252u + i,
                                     .start = &start};
        if (pthread_create(&threads[i], NULL, run_worker, &workers[i]) != 0)
            abort();
    }
    pthread_barrier_wait(&start);
    double began = seconds_now(CLOCK_MONOTONIC);
    pthread_barrier_wait(&start);
    double seconds = seconds_now(CLOCK_MONOTONIC) - began;
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        if (workers[i].hits != subject->n_gets) {
            fprintf(stderr, "hot_bench: only %llu of %llu gets were hits\n",
                    (unsigned long long)workers[i].hits, (unsigned long long)subject->n_gets);
            exit(1);
        }
        measured.cpu_ns += workers[i].cpu_seconds * 1e9 / (double)subject->n_gets / n_threads;
    }
    pthread_barrier_destroy(&start);
    measured.rate = (double)subject->n_gets * n_threads / seconds;
    return measured;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

static struct measured median(const struct subject *subject, bool skewed, unsigned n_threads)
{
    double rates[RUNS];
    double cpu_ns[RUNS];

    for (size_t i = 0; i < RUNS; i++) {
        struct measured measured = measure(subject, skewed, n_threads);
        rates[i] = measured.rate;
        cpu_ns[i] = measured.cpu_ns;
    }
    qsort(rates, RUNS, sizeof(rates[0]), compare_doubles);
    qsort(cpu_ns, RUNS, sizeof(cpu_ns[0]), compare_doubles);
    return (struct measured){.rate = rates[RUNS / 2], .cpu_ns = cpu_ns[RUNS / 2]};
}

/* ---- Memory alone ---- */

/* About an entry, a record and an allocator's rounding. */
#define PLACE_BYTES 256

struct place {
    struct place *next;
    unsigned char other[PLACE_BYTES - sizeof(struct place *)];
};

/* All places in one random ring (Sattolo's shuffle). NULL: out of memory. */
static struct place *places_new(unsigned n, uint64_t *random)
{
    struct place *places = calloc(n, sizeof(*places));
    unsigned *order = malloc(n * sizeof(*order));

    if (order == NULL) {
        free(places);
        return NULL;
    }
    if (places != NULL) {
        for (unsigned i = 0; i < n; i++)
            order[i] = i;
        for (unsigned i = n - 1; i > 0; i--) {
            unsigned other = (unsigned)(random_next(random) % i);
            unsigned moved = order[i];
            order[i] = order[other];
            order[other] = moved;
        }
        for (unsigned i = 0; i < n; i++)
            places[order[i]].next = &places[order[(i + 1) % n]];
    }
    free(order);
    return places;
}

/* Pairs of such reads a second, one thread. */
static double memory_rate(unsigned n_places, uint64_t n_pairs)
{
    uint64_t random = 88172645463325252u;
    struct place *places = places_new(n_places, &random);

    if (places == NULL)
        abort();
    const struct place *volatile at = places;
    double began = seconds_now(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < n_pairs; i++)
        at = at->next->next;
    double rate = (double)n_pairs / (seconds_now(CLOCK_MONOTONIC) - began);
    free(places);
    return rate;
}

static void fill(struct hot *hot, unsigned n_keys, size_t value_bytes)
{
    struct tiers_meta meta = {.mod_revision = 1};
    char key[KEY_BYTES];
    char *value = calloc(1, value_bytes + 1);

    if (value == NULL)
        abort();
    for (unsigned i = 0; i < n_keys; i++) {
        fill_key(key, i);
        uint64_t hash = record_key_hash(TIERS_SPACE_USER, key, KEY_BYTES);
        struct tiers_record *record =
            record_new(TIERS_SPACE_USER, key, KEY_BYTES, value, value_bytes, &meta);
        if (record == NULL)
            abort();
        hot_write(hot, hash, record);
        hot_clean(hot, hash, record, false);
        tiers_record_release(record);
    }
    free(value);
}

int main(int argc, char **argv)
{
    unsigned n_keys = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000000;
    size_t value_bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 64;
    struct hot_options options = {.bytes = HOT_BYTES_MIN, .policy = policy_find("lru")};
    struct subject subject = {.n_keys = n_keys,
                              .n_gets = argc > 3 ? strtoul(argv[3], NULL, 10) : GETS_DEFAULT};

    if (options.bytes < 2 * (uint64_t)n_keys * (value_bytes + 512))
        options.bytes = 2 * (uint64_t)n_keys * (value_bytes + 512);
    if (n_keys < SKEWED_HOT || subject.n_gets == 0 || hot_open(&options, &subject.hot) != 0) {
        fprintf(stderr, "usage: hot_bench [KEYS, at least %d] [VALUE_BYTES] [GETS]\n", SKEWED_HOT);
        return 2;
    }
    fill(subject.hot, n_keys, value_bytes);
    for (int skewed = 1; skewed >= 0; skewed--) {
        struct measured one = median(&subject, skewed != 0, 1);
        struct measured two = median(&subject, skewed != 0, 2);
        printf("%-7s  %u keys  1 thread %.2f M gets/s  2 threads %.2f M gets/s  ratio %.2f  "
               "CPU %.0f and %.0f ns\n",
               skewed ? "skewed" : "uniform", n_keys, one.rate / 1e6, two.rate / 1e6,
               two.rate / one.rate, one.cpu_ns, two.cpu_ns);
    }
    hot_close(subject.hot);
    printf("memory   %u places  two reads %.2f M/s\n", n_keys,
           memory_rate(n_keys, subject.n_gets) / 1e6);
    return 0;
}
