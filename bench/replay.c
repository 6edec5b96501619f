/* `tierbench replay`: write all keys, warm up, measure, report. The threads of the load end before
 * those of the measurement begin. This thread only watches the time. */
#include "replay.h"

#include "replay_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000u
#define WATCH_NS      10000000
#define WATCHES_SHOWN 50 /* Of so many one is shown */

static bool has_deletes(const struct source *source)
{
    for (size_t i = 0; i < source->trace.n_requests; i++) {
        if (source->trace.requests[i].op == 'd')
            return true;
    }
    return false;
}

/* As many calls as there are to be have come to their end. */
static bool complete(struct replay *replay, uint64_t calls)
{
    return calls > 0 && atomic_load_explicit(&replay->completed, memory_order_relaxed) >= calls;
}

/* Until `until_ns` on the clock, or the end of so many calls (0: any number), or a failure. */
static void watch(struct replay *replay, const char *doing, uint64_t until_ns, uint64_t calls)
{
    bool shown = isatty(STDERR_FILENO) != 0;
    const struct timespec pause = {.tv_nsec = WATCH_NS};

    for (uint64_t i = 0;
         replay_now_ns() < until_ns && !atomic_load(&replay->failed) && !complete(replay, calls);
         i++) {
        nanosleep(&pause, NULL);
        if (shown && i % WATCHES_SHOWN == 0)
            fprintf(stderr, "\r\033[K%s: %" PRIu64 " requests", doing,
                    atomic_load_explicit(&replay->completed, memory_order_relaxed));
    }
    if (shown)
        fputs("\r\033[K", stderr);
}

static struct replay_worker **start_workers(struct replay *replay)
{
    uint64_t n = replay->options->threads;
    struct replay_worker **workers = calloc(n, sizeof(struct replay_worker *));

    if (workers == NULL) {
        replay_fail(replay, "start", "out of memory");
        return NULL;
    }
    atomic_store(&replay->completed, 0);
    for (uint64_t i = 0; i < n && !atomic_load(&replay->failed); i++)
        workers[i] = replay_worker_start(replay, i);
    return workers;
}

static void join_workers(struct replay *replay, struct replay_worker **workers,
                         struct replay_counts *counts)
{
    for (uint64_t i = 0; workers != NULL && i < replay->options->threads; i++)
        replay_worker_join(workers[i], counts);
    free(workers);
}

static double seconds_since(uint64_t began_ns)
{
    return (double)(replay_now_ns() - began_ns) / NS_PER_SECOND;
}

static void load(struct replay *replay, struct replay_counts *counts, double *ret_seconds)
{
    uint64_t began_ns = replay_now_ns();
    struct replay_worker **workers = start_workers(replay);

    watch(replay, "loading", UINT64_MAX, replay->source->keys);
    join_workers(replay, workers, counts);
    *ret_seconds = seconds_since(began_ns);
}

static void measure(struct replay *replay, struct replay_counts *counts, double *ret_seconds)
{
    const struct replay_options *options = replay->options;
    uint64_t requests = replay->source->requests_max;
    bool warms_up = requests == 0 && options->warmup > 0;

    atomic_store(&replay->phase, warms_up ? REPLAY_WARMUP : REPLAY_MEASURE);
    uint64_t began_ns = replay_now_ns();
    struct replay_worker **workers = start_workers(replay);
    if (warms_up) {
        watch(replay, "warming up", began_ns + (uint64_t)(options->warmup * NS_PER_SECOND), 0);
        began_ns = replay_now_ns();
        if (!atomic_load(&replay->failed))
            atomic_store(&replay->phase, REPLAY_MEASURE);
    }
    uint64_t until_ns = began_ns + (uint64_t)(options->seconds * NS_PER_SECOND);
    watch(replay, "measuring", requests > 0 ? UINT64_MAX : until_ns, requests);
    atomic_store(&replay->phase, REPLAY_STOP);
    *ret_seconds = seconds_since(began_ns);
    join_workers(replay, workers, counts);
}

/* The counters of all nodes that answer. */
static size_t ask_nodes(const struct replay_options *options, struct replay_hits *ret_hits)
{
    size_t n = 0;

    *ret_hits = (struct replay_hits){0};
    for (size_t i = 0; i < options->n_addresses; i++)
        n += replay_metrics_add(options->addresses[i], (unsigned)(options->timeout * 1000),
                                ret_hits) == 0;
    return n;
}

static void subtract_hits(struct replay_hits *hits, const struct replay_hits *before)
{
    hits->hot -= before->hot;
    hits->warm -= before->warm;
    hits->cold -= before->cold;
    hits->misses -= before->misses;
    hits->flushed_bytes -= before->flushed_bytes;
    hits->demoted_bytes -= before->demoted_bytes;
    hits->compacted_bytes -= before->compacted_bytes;
}

static int run(const struct replay_options *options, struct source *source)
{
    struct replay replay = {.options = options, .source = source, .deletes = has_deletes(source)};
    struct replay_report report = {.options = options, .source = source};
    struct replay_counts *counts = calloc(1, sizeof(*counts));
    struct replay_hits before;
    int result = 1;

    if (counts == NULL) {
        replay_fail(&replay, "start", "out of memory");
        return 1;
    }
    report.counts = counts;
    report.nodes_counted = ask_nodes(options, &before);
    if (report.nodes_counted == 0)
        replay_fail(&replay, options->http, "no node answers GET /metrics over HTTP/2");
    if (options->load != 0 && !atomic_load(&replay.failed)) {
        load(&replay, counts, &report.load_seconds);
        report.nodes_counted = ask_nodes(options, &before);
    }
    if (!atomic_load(&replay.failed))
        measure(&replay, counts, &report.seconds);
    if (!atomic_load(&replay.failed)) {
        /* A node that has gone or restarted meanwhile would make nonsense of the differences. */
        if (ask_nodes(options, &report.hits) != report.nodes_counted || report.nodes_counted == 0)
            report.hits_unknown = "a node could not be asked at the end";
        else if (report.hits.hot < before.hot)
            report.hits_unknown = "a node has started again meanwhile";
        else
            subtract_hits(&report.hits, &before);
        bool good = counts->wrong == 0 && counts->statuses[200] > 0;
        result = replay_report(&report) == 0 && good ? 0 : 1;
    }
    free(counts);
    return result;
}

int replay_main(int argc, char **argv)
{
    struct replay_options options;
    struct source source;
    char error_text[512];
    int parsed = replay_options_parse(&options, argc, argv);

    if (parsed != 0)
        return parsed > 0 ? 0 : 2;
    if (source_open(&source, &options.source, error_text, sizeof(error_text)) != 0) {
        fprintf(stderr, "tierbench: %s\n", error_text);
        return 2;
    }
    int result = run(&options, &source);
    source_close(&source);
    return result;
}
