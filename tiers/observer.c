/* See observer.h. A step comes ten times a second under load: take what was sampled, let the
 * simulation adapt, tell the sampler. What others ask for is copied under the mutex, which is never
 * held during simulation. Fails only to open. */
#include "observer.h"

#include "chooser.h"
#include "miniature.h"
#include "mover.h"
#include "windows.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BATCH_SAMPLES    64
#define STEP_SAMPLES_MAX 2048
#define BUSY_SLEEP_MS    100
#define IDLE_SLEEP_MS    500
#define NICE_LEAST       19

struct observer {
    struct tiers *tiers;
    pthread_t thread;
    bool threaded;
    bool automatic;
    struct miniature *miniature; /* NULL: nothing is sampled. Observer's thread */
    uint64_t reads_seen;
    uint64_t dropped_seen;

    pthread_mutex_t mutex; /* Guards the rest */
    pthread_cond_t cond;
    bool stop;
    struct tiers_curve curve;
    struct windows windows;
    uint64_t opened_ms;
    const struct policy_type *policy; /* In use */
    struct chooser chooser;           /* Its policy: the one wanted */
    struct chooser_decision decision;
    uint64_t switches;
};

/* ---- Opening and closing ---- */

static size_t policy_number(const struct policy_type *policy)
{
    size_t i = 0;

    while (policy_at(i) != policy)
        i++;
    return i;
}

static int simulation_open(struct observer *observer)
{
    struct miniature_options options = {.hot_bytes = observer->tiers->options.hot_bytes,
                                        .now_ms = observer->opened_ms};

    observer->miniature = miniature_new(&options);
    if (observer->miniature == NULL)
        return TIERS_NO_MEMORY;
    miniature_curve(observer->miniature, &observer->curve);
    sampler_threshold_set(observer->tiers->sampler, miniature_threshold(observer->miniature));
    return 0;
}

int observer_open(struct tiers *tiers, const struct observer_options *options,
                  struct observer **ret_observer)
{
    struct observer *observer = calloc(1, sizeof *observer);
    pthread_condattr_t attributes;

    assert(options->curve || !options->automatic);
    if (observer == NULL)
        return TIERS_NO_MEMORY;
    observer->tiers = tiers;
    observer->opened_ms = engine_now_ms(tiers);
    observer->policy = options->policy;
    observer->automatic = options->automatic;
    observer->chooser = (struct chooser){.policy = policy_number(options->policy),
                                         .switched_ms = observer->opened_ms};
    if (options->curve && simulation_open(observer) != 0) {
        free(observer);
        return TIERS_NO_MEMORY;
    }
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&observer->cond, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&observer->mutex, NULL);
    *ret_observer = observer;
    return 0;
}

void observer_close(struct observer *observer)
{
    if (observer->threaded) {
        pthread_mutex_lock(&observer->mutex);
        observer->stop = true;
        pthread_cond_signal(&observer->cond);
        pthread_mutex_unlock(&observer->mutex);
        pthread_join(observer->thread, NULL);
    }
    pthread_cond_destroy(&observer->cond);
    pthread_mutex_destroy(&observer->mutex);
    miniature_free(observer->miniature);
    free(observer);
}

/* ---- A step ---- */

static size_t samples_take(struct observer *observer)
{
    struct sample batch[BATCH_SAMPLES];
    size_t n = 0, taken = 0;

    do {
        taken = sampler_pop(observer->tiers->sampler, batch, BATCH_SAMPLES);
        miniature_feed(observer->miniature, batch, taken);
        n += taken;
    } while (taken == BATCH_SAMPLES && n < STEP_SAMPLES_MAX);
    return n;
}

/* Adapts the simulation and what is sampled for it. True: a window has ended. */
static bool simulation_step(struct observer *observer, uint64_t now_ms, uint64_t reads)
{
    struct sampler *sampler = observer->tiers->sampler;
    uint64_t dropped = sampler_dropped(sampler), excluded[SAMPLER_EXCLUDED_MAX];
    struct miniature_step step = {.now_ms = now_ms,
                                  .reads = reads - observer->reads_seen,
                                  .dropped = dropped - observer->dropped_seen};
    bool ended = miniature_step(observer->miniature, &step);

    observer->reads_seen = reads;
    observer->dropped_seen = dropped;
    sampler_exclude(sampler, excluded, miniature_excluded(observer->miniature, excluded));
    sampler_threshold_set(sampler, miniature_threshold(observer->miniature));
    return ended;
}

/* Mutex held. While a switch is under way nothing new is decided. True: there is to be one. */
static bool policy_choose(struct observer *observer, uint64_t now_ms)
{
    const struct tiers_curve *curve = &observer->curve;
    const struct tiers_curve_point *point = &curve->points[curve->point_now];
    double hit_rates[TIERS_CURVE_POLICIES_MAX];

    if (policy_at(observer->chooser.policy) != observer->policy)
        return false;
    for (size_t i = 0; i < curve->n_policies; i++)
        hit_rates[i] = curve->policies[i].hit_rate[curve->point_now];
    struct chooser_input input = {.now_ms = now_ms,
                                  .samples = point->reads * point->sample_rate,
                                  .n = curve->n_policies,
                                  .hit_rates = hit_rates};
    chooser_step(&observer->chooser, &input, &observer->decision);
    return observer->decision.switched;
}

/* True if there was something to look at. */
static bool step(struct observer *observer)
{
    struct tiers_stats stats = {0};
    size_t n = 0;
    bool ended = false;
    uint64_t now_ms = engine_now_ms(observer->tiers);

    if (observer->miniature != NULL)
        n = samples_take(observer);
    engine_counters_sum(observer->tiers, &stats);
    if (observer->miniature != NULL)
        ended =
            simulation_step(observer, now_ms, stats.hits_hot + stats.hits_warm + stats.hits_cold);
    pthread_mutex_lock(&observer->mutex);
    const uint64_t totals[WINDOWS_COUNTERS] = {stats.hits_hot, stats.hits_warm, stats.hits_cold,
                                               stats.misses};
    windows_read(&observer->windows, now_ms, totals);
    if (observer->miniature != NULL) {
        miniature_curve(observer->miniature, &observer->curve);
        observer->curve.samples_dropped = observer->dropped_seen;
    }
    bool wanted = ended && observer->automatic && policy_choose(observer, now_ms);
    pthread_mutex_unlock(&observer->mutex);
    if (wanted)
        mover_wake(observer->tiers->mover);
    return n > 0;
}

void observer_step(struct observer *observer)
{
    assert(!observer->threaded);
    (void)step(observer);
}

/* ---- The thread ---- */

/* True: it is time to stop. */
static bool sleep_for(struct observer *observer, unsigned ms)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&observer->mutex);
    while (rc == 0 && !observer->stop)
        rc = pthread_cond_timedwait(&observer->cond, &observer->mutex, &until);
    assert(rc == 0 || rc == ETIMEDOUT);
    bool stop = observer->stop;
    pthread_mutex_unlock(&observer->mutex);
    return stop;
}

static void *run(void *argument)
{
    struct observer *observer = argument;
    bool busy = true;

    /* On Linux this is the calling thread's priority alone. If it is refused it stays as it was. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE_LEAST);
    while (!sleep_for(observer, busy ? BUSY_SLEEP_MS : IDLE_SLEEP_MS))
        busy = step(observer);
    return NULL;
}

int observer_start(struct observer *observer)
{
    assert(!observer->threaded);
    if (pthread_create(&observer->thread, NULL, run, observer) != 0)
        return TIERS_NO_MEMORY;
    observer->threaded = true;
    return 0;
}

/* ---- Asked by others ---- */

void observer_curve(struct observer *observer, struct tiers_curve *ret_curve)
{
    pthread_mutex_lock(&observer->mutex);
    *ret_curve = observer->curve;
    pthread_mutex_unlock(&observer->mutex);
}

static struct tiers_placement_hits hits_of(const uint64_t counts[static WINDOWS_COUNTERS],
                                           uint64_t span_ms)
{
    return (struct tiers_placement_hits){.span_ms = span_ms,
                                         .hot = counts[0],
                                         .warm = counts[1],
                                         .cold = counts[2],
                                         .absent = counts[3]};
}

void observer_placement(struct observer *observer, struct tiers_placement *placement)
{
    static const uint64_t spans_ms[TIERS_PLACEMENT_WINDOWS] = {10000, 60000, 300000};
    struct tiers_stats stats = {0};
    uint64_t growth[WINDOWS_COUNTERS];

    engine_counters_sum(observer->tiers, &stats);
    uint64_t now_ms = engine_now_ms(observer->tiers);
    const uint64_t totals[WINDOWS_COUNTERS] = {stats.hits_hot, stats.hits_warm, stats.hits_cold,
                                               stats.misses};
    placement->total = hits_of(totals, now_ms - observer->opened_ms);
    pthread_mutex_lock(&observer->mutex);
    for (size_t i = 0; i < TIERS_PLACEMENT_WINDOWS; i++) {
        uint64_t span_ms = windows_growth(&observer->windows, now_ms, spans_ms[i], totals, growth);
        placement->windows[i] = hits_of(growth, span_ms);
    }
    placement->policy = (struct tiers_placement_policy){
        .name = observer->policy->name,
        .automatic = observer->automatic,
        .reason =
            observer->automatic ? chooser_reason_text(observer->decision.reason) : "it was set so",
        .best = policy_at(observer->automatic ? observer->decision.best
                                              : policy_number(observer->policy))
                    ->name,
        .gain = observer->decision.gain,
        .in_use_ms = now_ms - observer->chooser.switched_ms,
        .switches = observer->switches};
    pthread_mutex_unlock(&observer->mutex);
}

const struct policy_type *observer_policy_wanted(struct observer *observer)
{
    pthread_mutex_lock(&observer->mutex);
    const struct policy_type *wanted = policy_at(observer->chooser.policy);
    bool differs = wanted != observer->policy;
    pthread_mutex_unlock(&observer->mutex);
    return differs ? wanted : NULL;
}

void observer_policy_switched(struct observer *observer, int error)
{
    pthread_mutex_lock(&observer->mutex);
    if (error == 0) {
        observer->policy = policy_at(observer->chooser.policy);
        observer->switches++;
    } else {
        observer->chooser.policy = policy_number(observer->policy);
    }
    pthread_mutex_unlock(&observer->mutex);
}

void observer_stats(struct observer *observer, struct tiers_stats *stats)
{
    pthread_mutex_lock(&observer->mutex);
    stats->policy_switches = observer->switches;
    stats->samples = observer->curve.samples;
    stats->samples_dropped = observer->curve.samples_dropped;
    pthread_mutex_unlock(&observer->mutex);
}
