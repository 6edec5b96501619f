/* See run_engine.h. Happy path: open the engine, write every key once, let the workers run through
 * warm-up and measurement while this thread takes samples, flush, close, fill in the result.
 *
 * Threads: workers share struct run; writes take turns as the engine's one applier, under its lock.
 */
#include "run_engine.h"

#include "process_usage.h"
#include "run_worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOAD_GROUP     64 /* Keys written in one group while loading */
#define PROGRESS_EVERY 16384
#define WAIT_NS_MAX    10000000

uint64_t run_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * RUN_NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

void run_fail(struct run *run, const char *what, const char *why)
{
    if (!atomic_exchange(&run->failed, true))
        fprintf(stderr, "tierbench: %s: %s\n", what, why);
    atomic_store(&run->phase, RUN_STOP);
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
static int write_one(struct run *run, uint64_t number, bool put)
{
    char key[WORKLOAD_KEY_BYTES + 1];
    bool existed;

    workload_key(number, key);
    if (!put)
        return tiers_delete(run->tiers, TIERS_SPACE_USER, key, WORKLOAD_KEY_BYTES,
                            tiers_revision_next(run->tiers), &existed);
    uint32_t value_bytes = source_value_bytes(run->source, number);
    workload_value(number, run->next_version++, run->value, value_bytes);
    run->put_bytes += WORKLOAD_KEY_BYTES + value_bytes;
    return tiers_put(run->tiers, TIERS_SPACE_USER, key, WORKLOAD_KEY_BYTES, run->value, value_bytes,
                     0, 0, tiers_revision_next(run->tiers));
}

void run_write(struct run *run, uint64_t first, uint64_t n, bool put)
{
    int error = 0;

    pthread_mutex_lock(&run->lock);
    if (write_ready(run)) {
        tiers_apply_begin(run->tiers, run->next_index++);
        for (uint64_t i = 0; i < n && error == 0; i++)
            error = write_one(run, first + i, put);
        tiers_apply_end(run->tiers);
        atomic_fetch_add_explicit(&run->writes, n, memory_order_relaxed);
    }
    pthread_mutex_unlock(&run->lock);
    if (error != 0)
        run_fail(run, "write", tiers_strerror(error));
}

/* Makes all that was written durable. */
static void flush(struct run *run)
{
    int error = tiers_flush(run->tiers);

    if (error != 0)
        run_fail(run, "flush", tiers_strerror(error));
}

static void load(struct run *run, const char *policy)
{
    uint64_t keys = run->source->keys;
    bool shown = isatty(STDERR_FILENO) != 0;

    for (uint64_t first = 0; first < keys && !atomic_load(&run->failed); first += LOAD_GROUP) {
        run_write(run, first, keys - first < LOAD_GROUP ? keys - first : LOAD_GROUP, true);
        if (shown && first % PROGRESS_EVERY == 0)
            fprintf(stderr, "\r\033[K%s: loading, %.0f %%", policy,
                    100 * (double)first / (double)keys);
    }
    flush(run);
}

/* What files were made to take so far. LMDB's writes are counted by the kernel, or, where it does
 * not count, as keys and values without their pages; those of the cold segments, which go by
 * io_uring, by the engine, as values without their headers. */
static uint64_t written_so_far(struct run *run, bool *ret_by_kernel)
{
    struct process_usage usage;
    struct tiers_stats stats;

    process_usage(&usage);
    tiers_stats(run->tiers, &stats);
    *ret_by_kernel = usage.io_known;
    return (usage.io_known ? usage.written_bytes : stats.flushed_bytes) + stats.demoted_bytes +
           stats.compacted_bytes;
}

static void take_sample(struct run *run, uint64_t began_ns, struct run_result *result,
                        size_t samples_max)
{
    run_series_make_room(result->samples, &result->n_samples, samples_max,
                         &result->sample_interval);
    struct run_sample *sample = &result->samples[result->n_samples++];
    sample->seconds = (double)(run_now_ns() - began_ns) / RUN_NS_PER_SECOND;
    sample->writes = atomic_load_explicit(&run->writes, memory_order_relaxed);
    tiers_stats(run->tiers, &sample->stats);
}

/* Makes way for the sample at the end: rates over a short rest of an interval mean little. */
static void drop_last_if_recent(struct run_result *result, double seconds)
{
    if (result->n_samples > 1 &&
        seconds - result->samples[result->n_samples - 1].seconds < result->sample_interval / 2)
        result->n_samples--;
}

static void show_progress(const struct run_result *result, const char *doing)
{
    struct run_rates rates;

    if (result->n_samples < 2 || isatty(STDERR_FILENO) == 0)
        return;
    run_series_rates(&result->samples[result->n_samples - 2],
                     &result->samples[result->n_samples - 1], &rates);
    fprintf(stderr, "\r\033[K%s: %s, %.0f s, %.0f reads/s, hot %.1f %%, cold %.2f %%",
            result->policy, doing, rates.seconds, rates.reads_per_second, rates.share_hot * 100,
            rates.share_cold * 100);
}

/* All requests that there were to be have been taken. */
static bool exhausted(const struct run *run)
{
    return run->source->requests_max > 0 &&
           atomic_load_explicit(&run->source->taken, memory_order_relaxed) >=
               run->source->requests_max;
}

/* When the next sample is due, on the clock. */
static uint64_t next_sample_ns(const struct run_result *result, uint64_t began_ns)
{
    return began_ns + (uint64_t)(result->sample_interval * RUN_NS_PER_SECOND) * result->n_samples;
}

/* Until `until_ns`, or the end of the requests or of the run. */
static void watch(struct run *run, const char *doing, uint64_t began_ns, uint64_t until_ns,
                  struct run_result *result, size_t samples_max)
{
    uint64_t next_ns = next_sample_ns(result, began_ns);

    for (uint64_t now_ns = run_now_ns();
         now_ns < until_ns && !atomic_load(&run->failed) && !exhausted(run);
         now_ns = run_now_ns()) {
        if (now_ns >= next_ns) {
            take_sample(run, began_ns, result, samples_max);
            show_progress(result, doing);
            next_ns = next_sample_ns(result, began_ns);
            continue;
        }
        uint64_t wait_ns = (next_ns < until_ns ? next_ns : until_ns) - now_ns;
        struct timespec pause = {.tv_nsec = (long)(wait_ns < WAIT_NS_MAX ? wait_ns : WAIT_NS_MAX)};
        nanosleep(&pause, NULL);
    }
}

static uint64_t seconds_ns(double seconds)
{
    return (uint64_t)(seconds * RUN_NS_PER_SECOND);
}

static void measure(struct run *run, struct run_result *result, size_t samples_max)
{
    const struct run_options *options = run->options;
    struct run_worker **workers = calloc(options->threads, sizeof(struct run_worker *));

    if (workers == NULL) {
        run_fail(run, "start", tiers_strerror(TIERS_NO_MEMORY));
        return;
    }
    atomic_store(&run->source->taken, 0);
    /* With a number of requests every one of them is measured. */
    bool warms_up = run->source->requests_max == 0 && options->warmup > 0;
    if (!warms_up)
        atomic_store(&run->phase, RUN_MEASURE);
    uint64_t first_ns = run_now_ns(), began_ns = first_ns;
    result->sample_interval = options->interval;
    take_sample(run, first_ns, result, samples_max);
    result->before = result->samples[0].stats;
    for (uint64_t i = 0; i < options->threads && !atomic_load(&run->failed); i++)
        workers[i] = run_worker_start(run, i);
    if (warms_up) {
        watch(run, "warming up", first_ns, first_ns + seconds_ns(options->warmup), result,
              samples_max);
        tiers_stats(run->tiers, &result->before);
        began_ns = run_now_ns();
        if (!atomic_load(&run->failed))
            atomic_store(&run->phase, RUN_MEASURE);
    }
    watch(run, "measuring", first_ns,
          run->source->requests_max > 0 ? UINT64_MAX : began_ns + seconds_ns(options->seconds),
          result, samples_max);
    if (run->source->requests_max == 0)
        atomic_store(&run->phase, RUN_STOP);
    for (uint64_t i = 0; i < options->threads; i++)
        run_worker_join(workers[i], result->latencies, &result->absent);
    result->seconds = (double)(run_now_ns() - began_ns) / RUN_NS_PER_SECOND;
    tiers_stats(run->tiers, &result->after);
    drop_last_if_recent(result, (double)(run_now_ns() - first_ns) / RUN_NS_PER_SECOND);
    take_sample(run, first_ns, result, samples_max);
    free(workers);
}

/* Loads and measures an engine that is open. */
static void use_engine(struct run *run, struct run_result *result, size_t samples_max,
                       const struct process_usage *at_start)
{
    struct process_usage usage;
    uint64_t start_bytes = written_so_far(run, &result->written_by_kernel);
    uint64_t loaded_bytes, began_ns = run_now_ns();

    load(run, result->policy);
    result->load_seconds = (double)(run_now_ns() - began_ns) / RUN_NS_PER_SECOND;
    result->loading.put_bytes = run->put_bytes;
    loaded_bytes = written_so_far(run, &result->written_by_kernel);
    result->loading.disk_bytes = loaded_bytes - start_bytes;
    if (!atomic_load(&run->failed))
        measure(run, result, samples_max);
    if (!atomic_load(&run->failed))
        flush(run);
    result->running.put_bytes = run->put_bytes - result->loading.put_bytes;
    result->running.disk_bytes = written_so_far(run, &result->written_by_kernel) - loaded_bytes;
    process_usage(&usage);
    result->memory_bytes = usage.anonymous_bytes > at_start->anonymous_bytes
                               ? usage.anonymous_bytes - at_start->anonymous_bytes
                               : 0;
    result->mapped_bytes = usage.mapped_bytes;
    if (isatty(STDERR_FILENO) != 0)
        fputs("\r\033[K", stderr);
}

static int open_engine(struct run *run, const char *policy, const char *warm_dir,
                       const char *cold_dir)
{
    const struct run_options *options = run->options;
    struct tiers_options engine;
    char error_text[512] = "";

    tiers_options_init(&engine);
    engine.warm_dir = warm_dir;
    engine.cold_dir = cold_dir;
    engine.hot_bytes = options->hot_bytes;
    engine.warm_bytes = options->warm_bytes;
    engine.read_depth_max = (uint32_t)options->depth;
    engine.direct_io = options->direct_io != 0;
    engine.policy = policy;
    engine.context = run;
    engine.on_ready = on_ready;
    engine.on_failed = on_failed;
    int error = tiers_open(&engine, &run->tiers, error_text, sizeof(error_text));
    if (error != 0)
        run_fail(run, policy, error_text[0] != '\0' ? error_text : tiers_strerror(error));
    return error;
}

static bool has_deletes(const struct source *source)
{
    for (size_t i = 0; i < source->trace.n_requests; i++) {
        if (source->trace.requests[i].op == 'd')
            return true;
    }
    return false;
}

void run_engine(const struct run_options *options, struct source *source, const char *policy,
                const char *warm_dir, const char *cold_dir, struct run_result *result,
                size_t samples_max)
{
    struct run run = {.options = options,
                      .source = source,
                      .deletes = has_deletes(source),
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .ready = PTHREAD_COND_INITIALIZER,
                      .next_index = 1};
    struct process_usage at_start;

    snprintf(result->policy, sizeof(result->policy), "%s", policy);
    process_usage(&at_start);
    run.value = malloc(source_value_bytes_max(source));
    if (run.value == NULL) {
        run_fail(&run, policy, tiers_strerror(TIERS_NO_MEMORY));
        return;
    }
    if (open_engine(&run, policy, warm_dir, cold_dir) == 0) {
        use_engine(&run, result, samples_max, &at_start);
        int error = tiers_close(run.tiers);
        if (error != 0)
            run_fail(&run, "closing", tiers_strerror(error));
    }
    result->complete = !atomic_load(&run.failed);
    free(run.value);
}

void run_result_reads(const struct run_result *result, struct latency *ret_latency)
{
    *ret_latency = (struct latency){0};
    for (size_t i = 0; i < RUN_CALLS_READ; i++)
        latency_merge(ret_latency, &result->latencies[i]);
}
