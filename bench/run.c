/* `tierbench run`: every thread reads and writes Zipf-distributed keys as fast as it can.
 *
 * Happy path: open the engine, write every key once, warm up, measure, print. Reads go through one
 * tiers_reader per thread; those that the cold tier answers overlap, up to --depth. Writes take
 * turns as the engine's one applier, each in a group of its own. Every value read is checked to
 * belong to its key: a wrong or missing one ends the run with 1, as does any error of the engine.
 *
 * Threads: workers share struct run; its counters and histograms are per worker and merged after
 * the join. */
#include "run.h"

#include "latency.h"
#include "run_options.h"
#include "run_report.h"
#include "tiers/tiers.h"
#include "workload.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOAD_GROUP      64 /* Keys written in one group while loading */
#define COMPLETE_EVERY  8  /* Operations between looks at the reader's completions */
#define POLL_TIMEOUT_MS 100
#define NS_PER_SECOND   1000000000u

enum phase { PHASE_WARMUP, PHASE_MEASURE, PHASE_STOP };

struct run {
    struct run_options options;
    struct zipf zipf;
    struct tiers *tiers;
    _Atomic int phase;
    _Atomic bool failed;

    pthread_mutex_t lock; /* Makes its holder the applier */
    pthread_cond_t ready; /* The engine takes writes again */
    uint64_t next_index;
    uint64_t next_version;
    unsigned char *value; /* Of the write under way */
};

struct slot {
    struct tiers_read read;
    struct worker *worker;
    struct slot *next_free;
    uint64_t number;
    uint64_t began_ns;
};

struct worker {
    struct run *run;
    pthread_t thread;
    struct tiers_reader *reader;
    struct workload_random random;
    struct slot *slots;
    struct slot *free;
    uint64_t under_way;
    uint64_t misses;
    bool started;
    struct latency latencies[RUN_CALLS];
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* Any thread. The first failure ends the run. */
static void run_fail(struct run *run, const char *what, const char *why)
{
    if (!atomic_exchange(&run->failed, true))
        fprintf(stderr, "tierbench: %s: %s\n", what, why);
    atomic_store(&run->phase, PHASE_STOP);
}

static void on_ready(void *context)
{
    struct run *run = context;

    pthread_mutex_lock(&run->lock);
    pthread_cond_broadcast(&run->ready);
    pthread_mutex_unlock(&run->lock);
}

static void on_failed(void *context, int error, const char *detail)
{
    run_fail(context, tiers_strerror(error), detail);
    on_ready(context);
}

/* Under the lock: waits until the engine takes writes. False when the run ended meanwhile. */
static bool write_ready(struct run *run)
{
    while (!tiers_apply_ready(run->tiers) && !atomic_load(&run->failed)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++; /* Not for ever, whatever becomes of the mover */
        pthread_cond_timedwait(&run->ready, &run->lock, &until);
    }
    return !atomic_load(&run->failed);
}

/* Under the lock, inside a group. */
static int write_one(struct run *run, uint64_t number)
{
    char key[WORKLOAD_KEY_BYTES + 1];

    workload_key(number, key);
    workload_value(number, run->next_version++, run->value, run->options.value_bytes);
    return tiers_put(run->tiers, TIERS_SPACE_USER, key, WORKLOAD_KEY_BYTES, run->value,
                     run->options.value_bytes, 0, 0, tiers_revision_next(run->tiers));
}

/* Writes the keys [first, first + n) in one group. */
static void write_group(struct run *run, uint64_t first, uint64_t n)
{
    int error = 0;

    pthread_mutex_lock(&run->lock);
    if (write_ready(run)) {
        tiers_apply_begin(run->tiers, run->next_index++);
        for (uint64_t i = 0; i < n && error == 0; i++)
            error = write_one(run, first + i);
        tiers_apply_end(run->tiers);
    }
    pthread_mutex_unlock(&run->lock);
    if (error != 0)
        run_fail(run, "write", tiers_strerror(error));
}

static void load(struct run *run)
{
    uint64_t keys = run->options.keys;

    for (uint64_t first = 0; first < keys && !atomic_load(&run->failed); first += LOAD_GROUP)
        write_group(run, first, keys - first < LOAD_GROUP ? keys - first : LOAD_GROUP);
    int error = tiers_flush(run->tiers);
    if (error != 0)
        run_fail(run, "flush", tiers_strerror(error));
}

static void account(struct worker *worker, size_t call, uint64_t began_ns)
{
    if (atomic_load_explicit(&worker->run->phase, memory_order_relaxed) == PHASE_MEASURE)
        latency_add(&worker->latencies[call], now_ns() - began_ns);
}

/* Takes over the reference. */
static void read_finish(struct slot *slot, int status, const struct tiers_record *record)
{
    struct worker *worker = slot->worker;

    if (status == 0) {
        account(worker, (size_t)tiers_reader_tier(worker->reader), slot->began_ns);
        if (!workload_value_belongs(slot->number, tiers_record_value(record), record->value_len))
            run_fail(worker->run, "read", "a value does not belong to its key");
        tiers_record_release(record);
    } else if (status == TIERS_NOT_FOUND) {
        worker->misses++;
    } else {
        run_fail(worker->run, "read", tiers_strerror(status));
    }
    slot->next_free = worker->free;
    worker->free = slot;
}

static void on_done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    struct slot *slot = read->owner;

    slot->worker->under_way--;
    read_finish(slot, status, record);
}

/* Lets reads that have completed finish; waits for one when every slot is under way. */
static void read_complete(struct worker *worker, bool wait)
{
    struct pollfd fd = {.fd = tiers_reader_fd(worker->reader), .events = POLLIN};
    int n = poll(&fd, 1, wait ? POLL_TIMEOUT_MS : 0);

    if (n > 0)
        tiers_reader_complete(worker->reader);
    else if (n < 0 && errno != EINTR)
        run_fail(worker->run, "poll", strerror(errno));
}

static void read_begin(struct worker *worker, uint64_t number)
{
    struct slot *slot = worker->free;
    const struct tiers_record *record = NULL;
    char key[WORKLOAD_KEY_BYTES + 1];

    worker->free = slot->next_free;
    workload_key(number, key);
    slot->number = number;
    slot->began_ns = now_ns();
    int status = tiers_reader_get(worker->reader, TIERS_SPACE_USER, key, WORKLOAD_KEY_BYTES,
                                  &slot->read, &record);
    if (status == TIERS_PENDING)
        worker->under_way++;
    else
        read_finish(slot, status, record);
}

static void *worker_run(void *argument)
{
    struct worker *worker = argument;
    struct run *run = worker->run;
    const struct run_options *options = &run->options;

    for (uint64_t i = 0; atomic_load_explicit(&run->phase, memory_order_relaxed) != PHASE_STOP;
         i++) {
        uint64_t rank = zipf_next(&run->zipf, &worker->random);
        uint64_t number = workload_scatter(rank, options->keys);

        if (workload_random_unit(&worker->random) >= options->read_share) {
            uint64_t began_ns = now_ns();
            write_group(run, number, 1);
            account(worker, RUN_CALL_WRITE, began_ns);
        } else if (worker->free != NULL) {
            read_begin(worker, number);
        }
        if (worker->under_way > 0 && (worker->free == NULL || i % COMPLETE_EVERY == 0))
            read_complete(worker, worker->free == NULL);
    }
    return NULL;
}

static int worker_open(struct worker *worker, struct run *run, uint64_t i)
{
    uint64_t depth = run->options.depth;

    worker->run = run;
    workload_random_init(&worker->random, run->options.seed + i * 7919);
    worker->slots = calloc(depth, sizeof(*worker->slots));
    if (worker->slots == NULL)
        return TIERS_NO_MEMORY;
    for (uint64_t slot = 0; slot < depth; slot++) {
        struct slot *free_slot = &worker->slots[slot];
        free_slot->worker = worker;
        free_slot->read = (struct tiers_read){.done = on_done, .owner = free_slot};
        free_slot->next_free = worker->free;
        worker->free = free_slot;
    }
    return tiers_reader_open(run->tiers, &worker->reader);
}

/* The thread must be joined. */
static void worker_close(struct worker *worker)
{
    if (worker->reader != NULL)
        tiers_reader_close(worker->reader);
    free(worker->slots);
}

static void sleep_until_stop(struct run *run, double seconds)
{
    uint64_t until_ns = now_ns() + (uint64_t)(seconds * NS_PER_SECOND);

    while (now_ns() < until_ns && !atomic_load(&run->failed)) {
        uint64_t left_ns = until_ns - now_ns();
        struct timespec pause = {.tv_nsec = (long)(left_ns < 10000000 ? left_ns : 10000000)};
        if (now_ns() < until_ns)
            nanosleep(&pause, NULL);
    }
}

static int measure(struct run *run)
{
    uint64_t n = run->options.threads, misses = 0;
    struct latency *total = calloc(RUN_CALLS, sizeof(*total));
    struct worker *workers = calloc(n, sizeof(*workers));
    struct tiers_stats before, after;
    uint64_t began_ns, ended_ns;

    if (total == NULL || workers == NULL) {
        run_fail(run, "start", tiers_strerror(TIERS_NO_MEMORY));
        goto out;
    }
    for (uint64_t i = 0; i < n && !atomic_load(&run->failed); i++) {
        int error = worker_open(&workers[i], run, i);
        if (error != 0)
            run_fail(run, "reader", tiers_strerror(error));
        else if ((error = pthread_create(&workers[i].thread, NULL, worker_run, &workers[i])) != 0)
            run_fail(run, "thread", strerror(error));
        else
            workers[i].started = true;
    }
    sleep_until_stop(run, run->options.warmup);
    tiers_stats(run->tiers, &before);
    began_ns = now_ns();
    if (!atomic_load(&run->failed))
        atomic_store(&run->phase, PHASE_MEASURE);
    sleep_until_stop(run, run->options.seconds);
    atomic_store(&run->phase, PHASE_STOP);
    ended_ns = now_ns();
    tiers_stats(run->tiers, &after);

    for (uint64_t i = 0; i < n; i++) {
        if (workers[i].started)
            pthread_join(workers[i].thread, NULL);
        worker_close(&workers[i]);
        for (size_t call = 0; call < RUN_CALLS; call++)
            latency_merge(&total[call], &workers[i].latencies[call]);
        misses += workers[i].misses;
    }
    if (misses > 0)
        run_fail(run, "read", "keys that were written are missing");
    if (!atomic_load(&run->failed))
        run_report(total, (double)(ended_ns - began_ns) / NS_PER_SECOND, &before, &after);

out:
    free(workers);
    free(total);
    return atomic_load(&run->failed) ? 1 : 0;
}

static int open_tiers(struct run *run, const char *dir)
{
    char warm_dir[PATH_MAX], cold_dir[PATH_MAX], error_text[512] = "";
    struct tiers_options options;
    struct tiers_position position;

    snprintf(warm_dir, sizeof(warm_dir), "%s/warm", dir);
    snprintf(cold_dir, sizeof(cold_dir), "%s/cold", dir);
    tiers_options_init(&options);
    options.warm_dir = warm_dir;
    options.cold_dir = cold_dir;
    options.hot_bytes = run->options.hot_bytes;
    options.warm_bytes = run->options.warm_bytes;
    options.read_depth_max = (uint32_t)run->options.depth;
    options.policy = run->options.policy;
    options.context = run;
    options.on_ready = on_ready;
    options.on_failed = on_failed;
    int error = tiers_open(&options, &run->tiers, error_text, sizeof(error_text));
    if (error != 0) {
        fprintf(stderr, "tierbench: %s\n",
                error_text[0] != '\0' ? error_text : tiers_strerror(error));
        return error;
    }
    tiers_position_applied(run->tiers, &position);
    run->next_index = position.index + 1;
    return 0;
}

static int run_in(struct run *run, const char *dir)
{
    const struct run_options *options = &run->options;
    int result = 1;

    run->value = malloc(options->value_bytes);
    if (run->value == NULL || open_tiers(run, dir) != 0)
        goto out;
    printf("%" PRIu64 " keys of %" PRIu64 " bytes, %.0f %% reads, zipf %g, %" PRIu64
           " threads, policy %s, seed %" PRIu64 "\n",
           options->keys, options->value_bytes, options->read_share * 100, options->zipf,
           options->threads, options->policy, options->seed);
    zipf_init(&run->zipf, options->keys, options->zipf);
    uint64_t began_ns = now_ns();
    load(run);
    double seconds = (double)(now_ns() - began_ns) / NS_PER_SECOND;
    if (!atomic_load(&run->failed)) {
        printf("loaded in %.1f s, %.0f keys per second, all durable\n\n", seconds,
               (double)options->keys / seconds);
        fflush(stdout);
        result = measure(run);
    }
    int error = tiers_close(run->tiers);
    if (error != 0) {
        fprintf(stderr, "tierbench: closing: %s\n", tiers_strerror(error));
        result = 1;
    }

out:
    free(run->value);
    return result;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

int run_main(int argc, char **argv)
{
    struct run run = {.lock = PTHREAD_MUTEX_INITIALIZER, .ready = PTHREAD_COND_INITIALIZER};
    int parsed = run_options_parse(&run.options, argc, argv);

    if (parsed != 0)
        return parsed > 0 ? 0 : 2;
    if (run.options.dir[0] != '\0') {
        if (mkdir(run.options.dir, 0777) != 0 && errno != EEXIST) {
            fprintf(stderr, "tierbench: %s: %s\n", run.options.dir, strerror(errno));
            return 1;
        }
        return run_in(&run, run.options.dir);
    }
    const char *parent = getenv("TMPDIR");
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s/tierbench.XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(dir) == NULL) {
        fprintf(stderr, "tierbench: %s: %s\n", dir, strerror(errno));
        return 1;
    }
    int result = run_in(&run, dir);
    if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fprintf(stderr, "tierbench: %s was not removed: %s\n", dir, strerror(errno));
    return result;
}
