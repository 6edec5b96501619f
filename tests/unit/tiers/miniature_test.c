/* The miniature simulation beside exact simulation of the whole, and its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "miniature.h"
#include "policy/shadow.h"
#include "tiers/policy.h"

#include <math.h>
#include <stdlib.h>

#define SIZE       256
#define STEP_MS    100
#define STEP_READS 1000

/* Well mixed, as a hash of keys is. */
static uint64_t hash_of(uint64_t number)
{
    number += 0x9e3779b97f4a7c15u;
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9u;
    number = (number ^ (number >> 27)) * 0x94d049bb133111ebu;
    return number ^ (number >> 31);
}

struct zipf {
    uint64_t n;
    double *sums;
};

static struct zipf zipf_new(uint64_t n, double alpha)
{
    struct zipf zipf = {.n = n, .sums = malloc(n * sizeof(double))};
    double sum = 0;

    assert_non_null(zipf.sums);
    for (uint64_t i = 0; i < n; i++)
        zipf.sums[i] = sum += 1 / pow((double)i + 1, alpha);
    return zipf;
}

static uint64_t zipf_draw(const struct zipf *zipf, struct random *random)
{
    double wanted = (double)(random_next(random) >> 11) / 0x1p53 * zipf->sums[zipf->n - 1];
    uint64_t low = 0, high = zipf->n - 1;

    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (zipf->sums[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Feeds one read the way readers do: only what the threshold lets through. */
static void read_feed(struct miniature *miniature, uint64_t hash, enum sample_kind kind)
{
    uint64_t excluded[SAMPLER_EXCLUDED_MAX];
    size_t n = miniature_excluded(miniature, excluded);

    if (hash >= miniature_threshold(miniature))
        return;
    for (size_t i = 0; i < n; i++) {
        if (excluded[i] == hash)
            return;
    }
    struct sample sample = {.key_hash = hash, .size = SIZE, .kind = (uint8_t)kind};
    miniature_feed(miniature, &sample, 1);
}

static void step(struct miniature *miniature, uint64_t *now_ms, uint64_t reads)
{
    *now_ms += STEP_MS;
    struct miniature_step ended = {.now_ms = *now_ms, .reads = reads};
    miniature_step(miniature, &ended);
}

/* Miniatures that look at different samples of the keys of one load. What one predicts depends on
 * which keys it happens to see, by as much as 0.02; what is wrong with all of them is our doing. */
#define N_SAMPLES 4

struct zipf_load {
    struct miniature *miniatures[N_SAMPLES];
    struct shadow *exact[TIERS_CURVE_POINTS][TIERS_CURVE_POLICIES_MAX];
    uint64_t hits[TIERS_CURVE_POINTS][TIERS_CURVE_POLICIES_MAX];
    struct tiers_curve curves[N_SAMPLES];
    size_t n_policies;
};

static bool is_compared(size_t point)
{
    return point % 3 == 0;
}

static void load_open(struct zipf_load *load, uint64_t hot_bytes)
{
    struct miniature_options options = {.hot_bytes = hot_bytes};

    for (size_t i = 0; i < N_SAMPLES; i++) {
        load->miniatures[i] = miniature_new(&options);
        assert_non_null(load->miniatures[i]);
    }
    miniature_curve(load->miniatures[0], &load->curves[0]);
    load->n_policies = load->curves[0].n_policies;
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        for (size_t j = 0; is_compared(i) && j < load->n_policies; j++) {
            load->exact[i][j] = shadow_new(policy_at(j), load->curves[0].points[i].hot_bytes);
            assert_non_null(load->exact[i][j]);
        }
    }
}

static void load_read(struct zipf_load *load, uint64_t key, bool counts)
{
    for (size_t i = 0; i < N_SAMPLES; i++)
        read_feed(load->miniatures[i], hash_of(key * N_SAMPLES + i), SAMPLE_READ);
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        for (size_t j = 0; is_compared(i) && j < load->n_policies; j++) {
            uint32_t size = SIZE + policy_at(j)->bytes_per_entry;
            load->hits[i][j] += shadow_access(load->exact[i][j], hash_of(key), size) && counts;
        }
    }
}

/* Also takes the curves. */
static void load_close(struct zipf_load *load)
{
    for (size_t i = 0; i < N_SAMPLES; i++) {
        miniature_curve(load->miniatures[i], &load->curves[i]);
        miniature_free(load->miniatures[i]);
    }
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        for (size_t j = 0; is_compared(i) && j < load->n_policies; j++)
            shadow_free(load->exact[i][j]);
    }
}

static double mean_predicted(const struct zipf_load *load, size_t point, size_t policy)
{
    double sum = 0;

    for (size_t i = 0; i < N_SAMPLES; i++)
        sum += load->curves[i].policies[policy].hit_rate[point];
    return sum / N_SAMPLES;
}

static void
the_curve_of_a_zipf_load_is_that_of_exact_simulation_within_three_hundredths(void **state)
{
    (void)state;
    const uint64_t n_keys = 100000, warm_up = 300000, n_reads = 500000;
    const uint64_t hot_bytes = n_keys / 16 * SIZE;
    struct zipf_load load = {.n_policies = 0};
    struct zipf zipf = zipf_new(n_keys, 0.9);
    struct random random;
    uint64_t now_ms = 0;
    double error_sum = 0, error_most = 0;
    size_t n_errors = 0;

    random_init(&random, random_seed());
    load_open(&load, hot_bytes);
    for (uint64_t i = 0; i < warm_up + n_reads; i++) {
        load_read(&load, zipf_draw(&zipf, &random), i >= warm_up);
        if ((i + 1) % STEP_READS != 0)
            continue;
        now_ms += STEP_MS;
        struct miniature_step ended = {.now_ms = now_ms, .reads = STEP_READS};
        for (size_t j = 0; j < N_SAMPLES; j++)
            miniature_step(load.miniatures[j], &ended);
    }
    load_close(&load);
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        for (size_t j = 0; is_compared(i) && j < load.n_policies; j++) {
            double truth = (double)load.hits[i][j] / (double)n_reads;
            double predicted = mean_predicted(&load, i, j);
            double error = fabs(predicted - truth);
            print_message("%-8s x%-5.3g exact %.4f predicted %.4f rate 1/%.0f\n",
                          load.curves[0].policies[j].name,
                          (double)load.curves[0].points[i].hot_bytes / (double)hot_bytes, truth,
                          predicted, 1 / load.curves[0].points[i].sample_rate);
            error_sum += error;
            /* The smallest holds some hundred of the sampled keys: there chance has its say. */
            if (i > 0)
                error_most = fmax(error_most, error);
            n_errors++;
        }
    }
    print_message("mean error %.4f, largest %.4f\n", error_sum / (double)n_errors, error_most);
    assert_true(error_most < 0.03);
    assert_true(error_sum / (double)n_errors < 0.01);
    free(zipf.sums);
}

static void no_small_cache_holds_more_keys_than_it_may(void **state)
{
    (void)state;
    struct miniature_options options = {.hot_bytes = 1ull << 40, .keys_max = 100};
    struct miniature *miniature = miniature_new(&options);
    struct tiers_curve curve;
    struct random random;
    uint64_t now_ms = 0;

    assert_non_null(miniature);
    random_init(&random, random_seed());
    for (uint64_t i = 0; i < 300000; i++) {
        read_feed(miniature, random_next(&random), SAMPLE_READ);
        if ((i + 1) % STEP_READS == 0) {
            step(miniature, &now_ms, STEP_READS);
            miniature_curve(miniature, &curve);
            assert_true(curve.keys_tracked <= 100 * TIERS_CURVE_POINTS * curve.n_policies);
        }
    }
    assert_true(curve.points[0].sample_rate < 0.01);
    assert_true(curve.keys_tracked > 0);
    miniature_free(miniature);
}

static void a_flood_of_samples_lowers_the_rate_until_there_are_few(void **state)
{
    (void)state;
    struct miniature_options options = {.hot_bytes = 1ull << 30, .samples_per_s_max = 1000};
    struct miniature *miniature = miniature_new(&options);
    struct tiers_curve before, after;
    struct random random;
    uint64_t now_ms = 0;

    assert_non_null(miniature);
    random_init(&random, random_seed());
    /* 900 keys, 200 000 reads a second. */
    for (uint64_t i = 0; i < 4000000; i++) {
        read_feed(miniature, hash_of(random_below(&random, 900)), SAMPLE_READ);
        if ((i + 1) % 20000 == 0)
            step(miniature, &now_ms, 20000);
        if (i == 2000000)
            miniature_curve(miniature, &before);
    }
    miniature_curve(miniature, &after);
    assert_true((after.samples - before.samples) / 10 <= 2 * 1000 * TIERS_CURVE_POINTS);
    /* Everything fits: what is not looked at any more is not taken for misses. */
    assert_true(after.policies[0].hit_rate[after.point_now] > 0.99);
    miniature_free(miniature);
}

static void a_single_very_hot_key_is_left_out_and_the_rate_kept(void **state)
{
    (void)state;
    struct miniature_options options = {.hot_bytes = 1ull << 30};
    struct miniature *miniature = miniature_new(&options);
    struct tiers_curve curve;
    struct random random;
    uint64_t now_ms = 0, excluded[SAMPLER_EXCLUDED_MAX];

    assert_non_null(miniature);
    random_init(&random, random_seed());
    for (uint64_t i = 0; i < 60; i++) {
        for (unsigned j = 0; j < 5000; j++)
            read_feed(miniature, 12345, SAMPLE_READ);
        for (unsigned j = 0; j < 50; j++)
            read_feed(miniature, hash_of(random_below(&random, 500)), SAMPLE_READ);
        step(miniature, &now_ms, 5050);
    }
    miniature_curve(miniature, &curve);
    assert_int_equal(miniature_excluded(miniature, excluded), 1);
    assert_int_equal(excluded[0], 12345);
    assert_true(curve.points[curve.point_now].sample_rate == 1);
    miniature_free(miniature);
}

static void the_rate_rises_again_when_the_load_becomes_light(void **state)
{
    (void)state;
    struct miniature_options options = {.hot_bytes = 1ull << 24, .keys_max = 256};
    struct miniature *miniature = miniature_new(&options);
    struct tiers_curve curve;
    uint64_t now_ms = 0;

    assert_non_null(miniature);
    for (uint64_t i = 0; i < 1000; i++)
        read_feed(miniature, hash_of(i), SAMPLE_READ);
    miniature_curve(miniature, &curve);
    assert_true(curve.points[curve.point_now].sample_rate < 1);
    for (uint64_t i = 0; i < 1000; i++)
        read_feed(miniature, hash_of(i), SAMPLE_DELETE);
    for (uint64_t i = 0; i < 1000; i++) {
        for (uint64_t j = 0; j < 10; j++)
            read_feed(miniature, hash_of(j), SAMPLE_READ);
        step(miniature, &now_ms, 10);
    }
    miniature_curve(miniature, &curve);
    assert_true(curve.points[curve.point_now].sample_rate == 1);
    assert_true(curve.policies[0].hit_rate[curve.point_now] > 0.95);
    miniature_free(miniature);
}

static void the_curve_follows_a_load_that_changes(void **state)
{
    (void)state;
    struct miniature_options options = {.hot_bytes = 1ull << 16};
    struct miniature *miniature = miniature_new(&options);
    struct tiers_curve curve;
    struct random random;
    uint64_t now_ms = 0;

    assert_non_null(miniature);
    random_init(&random, random_seed());
    for (unsigned round = 0; round < 1200; round++) {
        /* 200 keys fit into 64 KiB, 20 000 do not fit at all. */
        uint64_t n_keys = round < 600 ? 200 : 20000;
        for (unsigned i = 0; i < 50; i++)
            read_feed(miniature, hash_of(random_below(&random, n_keys)), SAMPLE_READ);
        step(miniature, &now_ms, 50);
        miniature_curve(miniature, &curve);
        if (round == 599)
            assert_true(curve.policies[0].hit_rate[curve.point_now] > 0.95);
    }
    assert_true(curve.policies[0].hit_rate[curve.point_now] < 0.4);
    miniature_free(miniature);
}

/* Of a load whose keys fit, with a stream of others beside it. */
static double hit_rate_beside(enum sample_kind others)
{
    struct miniature_options options = {.hot_bytes = 256 * SIZE};
    struct miniature *miniature = miniature_new(&options);
    struct tiers_curve curve;
    uint64_t now_ms = 0;

    assert_non_null(miniature);
    for (unsigned round = 0; round < 200; round++) {
        for (uint64_t i = 0; i < 200; i++)
            read_feed(miniature, hash_of(i), SAMPLE_READ);
        for (uint64_t i = 0; i < 200; i++)
            read_feed(miniature, hash_of(1000 + round * 200 + i), others);
        now_ms += 1000;
        bool are_reads = others == SAMPLE_READ || others == SAMPLE_READ_SELDOM;
        struct miniature_step ended = {.now_ms = now_ms, .reads = are_reads ? 400 : 200};
        miniature_step(miniature, &ended);
    }
    miniature_curve(miniature, &curve);
    miniature_free(miniature);
    return curve.policies[0].hit_rate[curve.point_now];
}

/* LRU would lose everything to the scan. */
static void reads_that_come_once_do_not_enter_a_full_cache(void **state)
{
    (void)state;
    assert_true(hit_rate_beside(SAMPLE_READ) < 0.02);
    assert_true(hit_rate_beside(SAMPLE_READ_SELDOM) > 0.48);
}

static void new_keys_that_nobody_reads_do_not_enter_a_full_cache(void **state)
{
    (void)state;
    assert_true(hit_rate_beside(SAMPLE_WRITE) < 0.02);
    assert_true(hit_rate_beside(SAMPLE_WRITE_SELDOM) > 0.96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            the_curve_of_a_zipf_load_is_that_of_exact_simulation_within_three_hundredths),
        cmocka_unit_test(no_small_cache_holds_more_keys_than_it_may),
        cmocka_unit_test(a_flood_of_samples_lowers_the_rate_until_there_are_few),
        cmocka_unit_test(a_single_very_hot_key_is_left_out_and_the_rate_kept),
        cmocka_unit_test(the_rate_rises_again_when_the_load_becomes_light),
        cmocka_unit_test(the_curve_follows_a_load_that_changes),
        cmocka_unit_test(reads_that_come_once_do_not_enter_a_full_cache),
        cmocka_unit_test(new_keys_that_nobody_reads_do_not_enter_a_full_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
