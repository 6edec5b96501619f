/* What it costs to keep curves (tiers_curve): hot reads through the public API with it and without.
 *
 * One engine with all keys in memory. Each thread has two readers, one of the engine and one of a
 * copy of its struct that differs in the sampler alone, which takes nothing; so both read the same
 * records at the same places. Threads read through the one, then the other, in many short turns, so
 * that what else the machine does falls on both alike. Keys are drawn beforehand, from a zipf
 * distribution. Printed is the median over all pairs of turns of the ratio of reads a second, and
 * that of the processor time of the whole process, which has the observer's thread in it even where
 * a core is idle.
 *
 * Usage: sampling_bench [KEYS] [THREADS] [TURNS]
 */
#include "engine.h"
#include "workload.h"

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define KEY_BYTES        64
#define VALUE_BYTES      64
#define BYTES_PER_KEY    512
#define DRAWN            (1u << 18)
#define READS_PER_TURN   400000u
#define THREADS_MAX      16
#define TURNS_MAX        1001
#define KEYS_PER_GROUP   1000
#define ZIPF_THETA       0.9
#define WARM_UP_TURNS    10
#define FOLDER_BYTES_MAX 256

struct worker {
    struct tiers_reader *readers[2]; /* By `curve` */
    uint32_t *drawn;
    size_t at;
    int curve;
    pthread_barrier_t *barrier;
    bool stop;
};

static void die(const char *what)
{
    fprintf(stderr, "sampling_bench: %s\n", what);
    exit(1);
}

static void fill_key(char key[KEY_BYTES], uint32_t number)
{
    memset(key, 'k', KEY_BYTES);
    memcpy(key + KEY_BYTES - sizeof number, &number, sizeof number);
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    char key[KEY_BYTES];

    fill_key(key, 0);
    for (;;) {
        pthread_barrier_wait(worker->barrier);
        if (worker->stop)
            return NULL;
        for (unsigned i = 0; i < READS_PER_TURN; i++) {
            const struct tiers_record *record = NULL;
            struct tiers_read read = {.done = NULL};
            uint32_t number = worker->drawn[worker->at++ % DRAWN];
            memcpy(key + KEY_BYTES - sizeof number, &number, sizeof number);
            if (tiers_reader_get(worker->readers[worker->curve], TIERS_SPACE_USER, key, KEY_BYTES,
                                 &read, &record) != 0)
                die("a key is not in memory");
            tiers_record_release(record);
        }
        pthread_barrier_wait(worker->barrier);
    }
}

static double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double processor_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct tiers *engine_new(const char *folder, uint32_t n_keys)
{
    char warm[FOLDER_BYTES_MAX + 16], cold[FOLDER_BYTES_MAX + 16], error[256], key[KEY_BYTES];
    char value[VALUE_BYTES] = {0};
    struct tiers_options options;
    struct tiers *tiers = NULL;

    snprintf(warm, sizeof warm, "%s/warm", folder);
    snprintf(cold, sizeof cold, "%s/cold", folder);
    tiers_options_init(&options);
    options.warm_dir = warm;
    options.cold_dir = cold;
    options.hot_bytes = (uint64_t)n_keys * BYTES_PER_KEY + (64u << 20);
    if (tiers_open(&options, &tiers, error, sizeof error) != 0)
        die(error);
    for (uint32_t i = 0; i < n_keys; i++) {
        if (i % KEYS_PER_GROUP == 0)
            tiers_apply_begin(tiers, i + 1);
        fill_key(key, i);
        if (tiers_put(tiers, TIERS_SPACE_USER, key, KEY_BYTES, value, sizeof value, 0, 0,
                      tiers_revision_next(tiers)) != 0)
            die("a key could not be written");
        if (i % KEYS_PER_GROUP == KEYS_PER_GROUP - 1 || i + 1 == n_keys)
            tiers_apply_end(tiers);
    }
    if (tiers_flush(tiers) != 0)
        die("the keys could not be flushed");
    return tiers;
}

static struct tiers *unsampled_copy(const struct tiers *tiers)
{
    struct tiers *copy = malloc(sizeof *copy);

    if (copy == NULL)
        die("out of memory");
    memcpy(copy, tiers, sizeof *copy);
    pthread_mutex_init(&copy->registry_mutex, NULL);
    copy->readers = NULL;
    copy->sampler = sampler_new();
    if (copy->sampler == NULL)
        die("out of memory");
    return copy;
}

static void worker_open(struct worker *worker, struct tiers *const tiers[2],
                        const struct zipf *zipf, unsigned number)
{
    struct workload_random random;

    *worker = (struct worker){.drawn = malloc(DRAWN * sizeof worker->drawn[0])};
    if (worker->drawn == NULL)
        die("out of memory");
    workload_random_init(&random, number + 1);
    for (size_t i = 0; i < DRAWN; i++)
        worker->drawn[i] = (uint32_t)workload_scatter(zipf_next(zipf, &random), zipf->n);
    for (int curve = 0; curve < 2; curve++) {
        if (tiers_reader_open(tiers[curve], &worker->readers[curve]) != 0)
            die("a reader could not be opened");
    }
}

static void worker_close(struct worker *worker)
{
    for (int curve = 0; curve < 2; curve++)
        tiers_reader_close(worker->readers[curve]);
    free(worker->drawn);
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof values[0], compare_doubles);
    return values[n / 2];
}

/* One turn of all threads: seconds by the clock and of the processor. */
static void turn(struct worker *workers, unsigned n_threads, int curve, double ret_seconds[2])
{
    for (unsigned i = 0; i < n_threads; i++)
        workers[i].curve = curve;
    double began = seconds_now(), processor_began = processor_seconds();
    pthread_barrier_wait(workers[0].barrier);
    pthread_barrier_wait(workers[0].barrier);
    ret_seconds[0] = seconds_now() - began;
    ret_seconds[1] = processor_seconds() - processor_began;
}

static void compare(struct worker *workers, unsigned n_threads, unsigned n_turns)
{
    static double ratios[TURNS_MAX], processor_ratios[TURNS_MAX], rates[TURNS_MAX];

    for (unsigned i = 0; i < n_turns + WARM_UP_TURNS; i++) {
        double with[2], without[2];
        /* Each goes first as often as the other. */
        turn(workers, n_threads, i % 2 == 0, i % 2 == 0 ? with : without);
        turn(workers, n_threads, i % 2 != 0, i % 2 == 0 ? without : with);
        if (i < WARM_UP_TURNS)
            continue;
        ratios[i - WARM_UP_TURNS] = without[0] / with[0];
        processor_ratios[i - WARM_UP_TURNS] = with[1] / without[1];
        rates[i - WARM_UP_TURNS] = READS_PER_TURN * (double)n_threads / with[0];
    }
    printf(
        "%u threads: %.2f M reads/s with curves, %.4f of the rate without, %.4f of the processor "
        "time\n",
        n_threads, median(rates, n_turns) / 1e6, median(ratios, n_turns),
        median(processor_ratios, n_turns));
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

int main(int argc, char **argv)
{
    unsigned n_keys = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 500000;
    unsigned n_threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1;
    unsigned n_turns = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 101;
    char folder[FOLDER_BYTES_MAX];
    const char *parent = getenv("TMPDIR");
    struct zipf zipf;
    struct tiers *tiers[2];
    struct worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    pthread_barrier_t barrier;

    if (n_keys == 0 || n_threads == 0 || n_threads > THREADS_MAX || n_turns == 0 ||
        n_turns > TURNS_MAX) {
        fprintf(stderr, "usage: sampling_bench [KEYS] [THREADS, at most %d] [TURNS, at most %d]\n",
                THREADS_MAX, TURNS_MAX);
        return 2;
    }
    snprintf(folder, sizeof folder, "%s/sampling-XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(folder) == NULL || pthread_barrier_init(&barrier, NULL, n_threads + 1) != 0)
        die("no temporary folder");
    tiers[1] = engine_new(folder, n_keys);
    tiers[0] = unsampled_copy(tiers[1]);
    zipf_init(&zipf, n_keys, ZIPF_THETA);
    for (unsigned i = 0; i < n_threads; i++) {
        worker_open(&workers[i], tiers, &zipf, i);
        workers[i].barrier = &barrier;
        if (pthread_create(&threads[i], NULL, run_worker, &workers[i]) != 0)
            die("no thread could be started");
    }
    compare(workers, n_threads, n_turns);
    for (unsigned i = 0; i < n_threads; i++)
        workers[i].stop = true;
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        worker_close(&workers[i]);
    }
    sampler_free(tiers[0]->sampler);
    free(tiers[0]);
    if (tiers_close(tiers[1]) != 0)
        die("the engine did not close");
    pthread_barrier_destroy(&barrier);
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
