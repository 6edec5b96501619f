/* An engine that watches its own load: the curve beside what the hot tier really reaches, and the
 * policy "auto". Background work is done step by step, on a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine_fixture.h"
#include "mover.h"
#include "observer.h"

#include "lib/random.h"

#include <math.h>
#include <string.h>

#define N_KEYS         20000
#define VALUE_BYTES    100
#define STEP_MS        100
#define READS_PER_STEP 300

struct load {
    struct fixture *fixture;
    struct tiers_reader *reader;
    struct random random;
    unsigned switches_told;
    char last_event[64];
};

static void on_event(void *context, enum tiers_event_level level, const char *event,
                     const char *detail)
{
    struct load *load = context;

    (void)level;
    if (strcmp(event, "policy_switched") == 0) {
        load->switches_told++;
        print_message("%s\n", detail);
    }
}

static uint64_t load_clock(void *context)
{
    struct load *load = context;

    return atomic_load(&load->fixture->clock_ms);
}

static size_t key_of(unsigned number, char key[16])
{
    return (size_t)snprintf(key, 16, "key-%06u", number);
}

/* An engine that holds N_KEYS keys, all durable; a part fits into its hot tier. */
static void load_open(struct load *load, const char *policy, bool curve_off)
{
    char key[16], value[VALUE_BYTES] = {0};

    *load = (struct load){.fixture = fixture_new()};
    struct fixture *f = load->fixture;
    f->options.context = load;
    f->options.now_ms = load_clock;
    f->options.on_event = on_event;
    f->options.on_durable = NULL;
    f->options.on_ready = NULL;
    f->options.on_failed = NULL;
    f->options.warm_bytes = 64u << 20;
    f->options.policy = policy;
    f->options.curve_off = curve_off;
    random_init(&load->random, random_seed());
    fixture_open(f, false);
    for (unsigned i = 0; i < N_KEYS; i++) {
        size_t key_len = key_of(i, key);
        tiers_apply_begin(f->tiers, i + 1);
        assert_int_equal(tiers_put(f->tiers, TIERS_SPACE_USER, key, key_len, value, sizeof value, 0,
                                   0, tiers_revision_next(f->tiers)),
                         0);
        tiers_apply_end(f->tiers);
        if (i % 1000 == 999)
            assert_int_equal(tiers_flush(f->tiers), 0);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    assert_int_equal(tiers_reader_open(f->tiers, &load->reader), 0);
}

static void load_close(struct load *load)
{
    tiers_reader_close(load->reader);
    fixture_close(load->fixture);
    fixture_free(load->fixture);
}

static void read_number(struct load *load, unsigned number)
{
    char key[16];
    const struct tiers_record *record = NULL;
    size_t key_len = key_of(number, key);

    assert_int_equal(tiers_reader_get_wait(load->reader, TIERS_SPACE_USER, key, key_len, &record),
                     0);
    tiers_record_release(record);
}

/* Reads, the fewer the higher the number, and lets the background work; `seconds` of the clock. */
static void run(struct load *load, unsigned seconds)
{
    for (unsigned i = 0; i < seconds * 1000 / STEP_MS; i++) {
        for (unsigned j = 0; j < READS_PER_STEP; j++) {
            double unit = (double)random_below(&load->random, 1u << 30) / (1u << 30);
            read_number(load, (unsigned)(N_KEYS * unit * unit * unit));
        }
        atomic_fetch_add(&load->fixture->clock_ms, STEP_MS);
        observer_step(load->fixture->tiers->observer);
        for (unsigned j = 0; j < 100 && mover_step(load->fixture->tiers->mover); j++) {
        }
    }
}

static double predicted(struct load *load, const char *policy)
{
    struct tiers_curve curve;

    tiers_curve(load->fixture->tiers, &curve);
    for (size_t i = 0; i < curve.n_policies; i++) {
        if (strcmp(curve.policies[i].name, policy) == 0)
            return curve.policies[i].hit_rate[curve.point_now];
    }
    fail_msg("there is no curve of %s", policy);
    return 0;
}

static double measured(struct load *load)
{
    struct tiers_placement placement;

    tiers_placement(load->fixture->tiers, &placement);
    const struct tiers_placement_hits *minute = &placement.windows[1];
    assert_in_range(minute->span_ms, 59000, 61100);
    return (double)minute->hot / (double)(minute->hot + minute->warm + minute->cold);
}

static void the_curve_tells_what_the_hot_tier_reaches(void **state)
{
    (void)state;
    static const char *const policies[] = {"lru", "s3fifo", "wtinylfu"};

    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        struct load load;
        load_open(&load, policies[i], false);
        run(&load, 90);
        print_message("%s: predicted %.4f, measured %.4f\n", policies[i],
                      predicted(&load, policies[i]), measured(&load));
        assert_true(fabs(predicted(&load, policies[i]) - measured(&load)) < 0.05);
        assert_int_equal(fixture_stats(load.fixture).policy_switches, 0);
        load_close(&load);
    }
}

static void auto_begins_with_lru_and_switches_to_what_is_better(void **state)
{
    (void)state;
    struct load load;
    struct tiers_placement placement;

    load_open(&load, "auto", false);
    tiers_placement(load.fixture->tiers, &placement);
    assert_string_equal(placement.policy.name, "lru");
    assert_true(placement.policy.automatic);
    run(&load, 50);
    assert_int_equal(load.switches_told, 0);
    run(&load, 90);
    assert_in_range(load.switches_told, 1, 2);
    tiers_placement(load.fixture->tiers, &placement);
    assert_string_not_equal(placement.policy.name, "lru");
    assert_int_equal(placement.policy.switches, load.switches_told);
    assert_int_equal(fixture_stats(load.fixture).policy_switches, load.switches_told);
    assert_true(predicted(&load, placement.policy.name) > predicted(&load, "lru"));
    run(&load, 60);
    /* And it delivers what was promised. */
    assert_true(measured(&load) > predicted(&load, "lru"));
    load_close(&load);
}

static void without_curves_nothing_is_sampled_and_auto_is_refused(void **state)
{
    (void)state;
    struct load load;
    struct tiers_curve curve;
    struct tiers *tiers = NULL;

    load_open(&load, "lru", true);
    run(&load, 5);
    tiers_curve(load.fixture->tiers, &curve);
    assert_int_equal(curve.n_policies, 0);
    assert_int_equal(curve.samples, 0);
    load_close(&load);
    struct fixture *f = fixture_new();
    f->options.policy = "auto";
    f->options.curve_off = true;
    assert_int_equal(engine_open(&f->options, false, &tiers, f->text, sizeof f->text),
                     TIERS_INVALID);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_curve_tells_what_the_hot_tier_reaches),
        cmocka_unit_test(auto_begins_with_lru_and_switches_to_what_is_better),
        cmocka_unit_test(without_curves_nothing_is_sampled_and_auto_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
