/* Placement on a real engine whose clock stands still between windows: what loads do to the tiers.
 * Shares of reads are compared before and after, each over thousands of reads. */
#include "engine_fixture.h"

#include "controller.h"
#include "mover_private.h"
#include "numbered.h"

#include <math.h>

#define KEYS        4000
#define VALUE_BYTES 1000
#define READS       4000
#define SCAN_SEED   20

struct load {
    struct fixture *f;
    struct model *model;
    struct tiers_reader *reader;
    uint64_t random;
};

static void steps(struct fixture *f)
{
    for (int i = 0; i < 10000 && mover_step(f->tiers->mover); i++) {
    }
}

static int set_up(void **state)
{
    struct load *load = calloc(1, sizeof *load);
    if (load == NULL) {
        abort();
    }
    load->f = fixture_new();
    load->f->options.now_ms = fixture_clock;
    load->f->options.warm_bytes = 2u << 20;
    fixture_open(load->f, false);
    load->model = model_new(2 * KEYS);
    load->random = random_seed();
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(load->f->tiers, load->model, i, VALUE_BYTES);
        if (i % 100 == 99) {
            assert_int_equal(tiers_flush(load->f->tiers), 0);
        }
    }
    steps(load->f);
    assert_int_equal(tiers_reader_open(load->f->tiers, &load->reader), 0);
    *state = load;
    return 0;
}

static int tear_down(void **state)
{
    struct load *load = *state;
    tiers_reader_close(load->reader);
    model_free(load->model);
    fixture_free(load->f);
    free(load);
    return 0;
}

static void read_key(struct load *load, size_t number)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    const struct tiers_record *record = NULL;
    assert_int_equal(tiers_reader_get_wait(load->reader, TIERS_SPACE_USER, key, key_len, &record),
                     0);
    tiers_record_release(record);
}

/* Of keys [first, first + n), spread over the whole store, the low ranks more often. */
static size_t zipf_key(struct load *load, size_t first, size_t n)
{
    double u = (double)(random_next(&load->random) % 1000000) / 1000000;
    size_t rank = (size_t)(pow((double)n, u)) - 1;
    return (first + rank) * 1579 % KEYS;
}

/* One second of reads; what the tiers answered. */
static struct tiers_stats window(struct load *load, size_t first, size_t n)
{
    struct tiers_stats before = fixture_stats(load->f);
    for (int i = 0; i < READS; i++) {
        read_key(load, zipf_key(load, first, n));
    }
    struct tiers_stats after = fixture_stats(load->f);
    load->f->clock_ms += CONTROLLER_WINDOW_MS;
    steps(load->f);
    struct tiers_stats moved = fixture_stats(load->f);
    return (struct tiers_stats){.hits_hot = after.hits_hot - before.hits_hot,
                                .hits_warm = after.hits_warm - before.hits_warm,
                                .hits_cold = after.hits_cold - before.hits_cold,
                                .promoted_warm_keys =
                                    moved.promoted_warm_keys - before.promoted_warm_keys,
                                .demoted_keys = moved.demoted_keys - before.demoted_keys};
}

static struct tiers_stats windows_pass(struct load *load, size_t first, size_t n, int count)
{
    struct tiers_stats last = {0};
    for (int i = 0; i < count; i++) {
        last = window(load, first, n);
    }
    return last;
}

/* The share of zipf reads that hot answers, with so many reads of the scan after each of them. A
 * window is over after READS reads of both kinds. */
static double hot_share(struct load *load, unsigned n, unsigned scan_reads, size_t *scan_next)
{
    unsigned answers = 0;
    unsigned reads = 0;
    for (unsigned i = 0; i < n; i++) {
        read_key(load, zipf_key(load, 0, KEYS));
        answers += tiers_reader_tier(load->reader) == TIERS_TIER_HOT;
        for (unsigned j = 0; j < scan_reads; j++) {
            read_key(load, (*scan_next)++ % KEYS);
        }
        reads += 1 + scan_reads;
        if (reads >= READS) {
            reads = 0;
            load->f->clock_ms += CONTROLLER_WINDOW_MS;
            steps(load->f);
        }
    }
    return (double)answers / n;
}

/* Every key of the store is read once, in order, while the usual reads go on: as fast as they come,
 * then four times as fast. */
static void the_hot_share_of_a_load_holds_while_a_scan_goes_on(void **state)
{
    struct load *load = *state;
    load->random = SCAN_SEED;
    print_message("seed %llu\n", (unsigned long long)load->random);
    size_t scan_next = 0;
    (void)hot_share(load, 8 * READS, 0, &scan_next);
    for (unsigned scan_reads = 1; scan_reads <= 4; scan_reads *= 4) {
        double before = hot_share(load, 2 * READS, 0, &scan_next);
        double during = hot_share(load, KEYS / scan_reads, scan_reads, &scan_next);
        double after = hot_share(load, READS, 0, &scan_next);
        print_message("hot share before %.3f, during %.3f, after %.3f\n", before, during, after);
        assert_true(before > 0.5);
        assert_true(fabs(during - before) <= 0.05);
        assert_true(fabs(after - before) <= 0.05);
    }
    assert_int_equal(scan_next, 2 * KEYS);
}

/* The share of zipf reads that hot answers while as many new keys are written, a flush after each
 * hundred. */
static double hot_share_beside_writes(struct load *load, size_t first, size_t n)
{
    unsigned answers = 0;
    for (size_t i = 0; i < n; i++) {
        model_put_group(load->f->tiers, load->model, first + i, VALUE_BYTES);
        read_key(load, zipf_key(load, 0, KEYS));
        answers += tiers_reader_tier(load->reader) == TIERS_TIER_HOT;
        if (i % 100 == 99) {
            assert_int_equal(tiers_flush(load->f->tiers), 0);
            steps(load->f);
        }
    }
    load->f->clock_ms += CONTROLLER_WINDOW_MS;
    steps(load->f);
    return (double)answers / (double)n;
}

/* Four times hot_bytes of new keys come in while the usual reads go on. A tenth of hot_bytes is
 * pinned until each flush. */
static void the_hot_share_of_a_load_holds_while_new_keys_are_written(void **state)
{
    struct load *load = *state;
    load->random = SCAN_SEED;
    size_t scan_next = 0;
    (void)hot_share(load, 8 * READS, 0, &scan_next);
    double before = hot_share(load, 2 * READS, 0, &scan_next);
    double during = hot_share_beside_writes(load, KEYS, KEYS);
    double after = hot_share(load, READS, 0, &scan_next);
    print_message("hot share before %.3f, during %.3f, after %.3f\n", before, during, after);
    assert_true(before > 0.5);
    assert_true(fabs(during - before) <= 0.05);
    assert_true(fabs(after - before) <= 0.05);
}

/* The mover has not come by since there was room. */
static void a_scan_takes_the_room_that_there_is_and_no_more(void **state)
{
    struct load *load = *state;
    tiers_reader_close(load->reader);
    fixture_close(load->f);
    fixture_open(load->f, false);
    assert_int_equal(tiers_reader_open(load->f->tiers, &load->reader), 0);
    for (size_t i = 0; i < KEYS; i++) {
        read_key(load, i);
    }
    struct tiers_stats stats = fixture_stats(load->f);
    print_message("%llu keys in hot, %llu evicted\n", (unsigned long long)stats.hot_keys,
                  (unsigned long long)stats.evictions);
    assert_true(stats.hot_keys > 500);
    assert_int_equal(stats.evictions, 0);
}

static void what_is_read_once_does_not_become_warm(void **state)
{
    struct load *load = *state;
    uint64_t before = fixture_stats(load->f).promoted_warm_keys;
    for (size_t i = 0; i < KEYS; i++) {
        read_key(load, i);
        if (i % 500 == 499) {
            load->f->clock_ms += CONTROLLER_WINDOW_MS;
            steps(load->f);
        }
    }
    struct tiers_stats stats = fixture_stats(load->f);
    assert_true(stats.hits_cold > KEYS / 4);
    print_message("%llu of %llu cold reads promoted\n",
                  (unsigned long long)(stats.promoted_warm_keys - before),
                  (unsigned long long)stats.hits_cold);
    assert_true(stats.promoted_warm_keys - before < stats.hits_cold / 50);
}

static void a_shifted_hotspot_is_followed_within_three_windows(void **state)
{
    struct load *load = *state;
    struct tiers_stats settled = windows_pass(load, 0, KEYS / 8, 10);
    struct tiers_stats shifted = windows_pass(load, KEYS / 2, KEYS / 8, 1);
    struct tiers_stats after = windows_pass(load, KEYS / 2, KEYS / 8, 3);
    print_message("hot share settled %.3f, shifted %.3f, followed %.3f; cold %.3f\n",
                  (double)settled.hits_hot / READS, (double)shifted.hits_hot / READS,
                  (double)after.hits_hot / READS, (double)after.hits_cold / READS);
    assert_true(shifted.hits_hot < settled.hits_hot);
    assert_true(after.hits_hot + READS / 20 >= settled.hits_hot);
    assert_true(after.hits_cold <= READS / 20);
}

static void a_steady_load_settles_within_budgets_and_target(void **state)
{
    struct load *load = *state;
    windows_pass(load, 0, KEYS / 4, 30);
    uint64_t moves = 0;
    uint64_t cold = 0;
    for (int i = 0; i < 20; i++) {
        struct tiers_stats last = window(load, 0, KEYS / 4);
        struct tiers_stats stats = fixture_stats(load->f);
        moves += last.promoted_warm_keys + last.demoted_keys;
        cold += last.hits_cold;
        assert_true(stats.hot_bytes <= load->f->options.hot_bytes);
        assert_true(stats.warm_used_bytes <=
                    load->f->options.warm_bytes + load->f->options.warm_bytes / 8);
    }
    print_message("moves %llu, cold reads %llu, in %d reads\n", (unsigned long long)moves,
                  (unsigned long long)cold, 20 * READS);
    assert_true(moves < 20 * READS / 100);
    assert_true(cold <= 20 * READS / 20);
}

static void placement_tells_the_threshold_and_its_reason(void **state)
{
    struct load *load = *state;
    struct tiers_placement placement;
    windows_pass(load, 0, 10, 10);
    tiers_placement(load->f->tiers, &placement);
    assert_string_equal(placement.control.reason,
                        controller_reason_text(CONTROLLER_COLD_SHARE_LOW));
    assert_int_equal(placement.control.cold_read_permille_max, 50);
    assert_true(placement.promote_heat_min > 2);
    assert_true(fixture_stats(load->f).promotion_tightened > 0);
}

/* Each window has one reason of promotion and one of admission. */
static void every_window_is_counted_with_its_reasons(void **state)
{
    struct load *load = *state;
    struct tiers_stats before = fixture_stats(load->f);
    struct tiers_placement placement;
    windows_pass(load, 0, 10, 5);
    load->f->clock_ms += CONTROLLER_WINDOW_MS;
    steps(load->f);
    struct tiers_stats after = fixture_stats(load->f);
    uint64_t low = after.windows_cold_share_low - before.windows_cold_share_low;
    uint64_t promotion = after.windows_few_reads - before.windows_few_reads + low +
                         after.windows_cold_share_high - before.windows_cold_share_high +
                         after.windows_cold_share_held - before.windows_cold_share_held +
                         after.windows_warm_hotter - before.windows_warm_hotter;
    uint64_t admission = after.windows_hot_calm - before.windows_hot_calm +
                         after.windows_hot_steady - before.windows_hot_steady +
                         after.windows_hot_crowded - before.windows_hot_crowded;
    assert_int_equal(promotion, 6);
    assert_int_equal(admission, 6);
    assert_true(low >= 3);
    tiers_placement(load->f->tiers, &placement);
    assert_string_equal(placement.control.admit_reason,
                        controller_admission_text(CONTROLLER_HOT_CALM));
}

static unsigned lines_told;
static unsigned changes_told;

static void on_event_count_changes(void *context, enum tiers_event_level level, const char *event,
                                   const char *detail)
{
    (void)context;
    (void)level;
    if (strcmp(event, "thresholds_changed") == 0) {
        const char *number = strrchr(detail, ' ');
        assert_non_null(number);
        lines_told++;
        changes_told += (unsigned)strtoul(number, NULL, 10);
    }
}

/* Many changes, few lines, and none of the changes is left out. */
static void the_log_tells_every_change_of_a_threshold_in_a_line_each_ten_seconds(void **state)
{
    struct load *load = *state;
    enum { WINDOWS = 60 };
    lines_told = 0;
    changes_told = 0;
    load->f->tiers->options.on_event = on_event_count_changes;
    struct tiers_stats before = fixture_stats(load->f);
    for (int i = 0; i < WINDOWS / 10; i++) {
        windows_pass(load, 0, i % 2 == 0 ? 10 : KEYS, 10);
    }
    struct tiers_stats after = fixture_stats(load->f);
    /* What is still untold is told when its time has come. */
    for (int i = 0; i < 12; i++) {
        load->f->clock_ms += CONTROLLER_WINDOW_MS;
        steps(load->f);
    }
    struct tiers_stats end = fixture_stats(load->f);
    uint64_t changes = after.promotion_eased + after.promotion_tightened + after.admission_eased +
                       after.admission_tightened - before.promotion_eased -
                       before.promotion_tightened - before.admission_eased -
                       before.admission_tightened;
    uint64_t later = end.promotion_eased + end.promotion_tightened + end.admission_eased +
                     end.admission_tightened - after.promotion_eased - after.promotion_tightened -
                     after.admission_eased - after.admission_tightened;
    print_message("%llu changes and %llu more, %u told in %u lines\n", (unsigned long long)changes,
                  (unsigned long long)later, changes_told, lines_told);
    assert_true(changes > lines_told);
    assert_in_range(lines_told, 2, (WINDOWS + 12) / 10 + 1);
    assert_true(changes_told >= changes && changes_told <= changes + later);
}

/* The cold share cannot be met: moving goes on, but within its bounds. */
static void a_load_too_large_for_the_tiers_moves_little(void **state)
{
    struct load *load = *state;
    windows_pass(load, 0, KEYS, 30);
    uint64_t moves = 0;
    for (int i = 0; i < 20; i++) {
        struct tiers_stats last = window(load, 0, KEYS);
        moves += last.promoted_warm_keys + last.demoted_keys;
    }
    print_message("moves %llu in %d reads\n", (unsigned long long)moves, 20 * READS);
    assert_true(moves < 20 * READS / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(the_hot_share_of_a_load_holds_while_a_scan_goes_on),
        TEST(the_hot_share_of_a_load_holds_while_new_keys_are_written),
        TEST(a_scan_takes_the_room_that_there_is_and_no_more),
        TEST(what_is_read_once_does_not_become_warm),
        TEST(a_shifted_hotspot_is_followed_within_three_windows),
        TEST(a_steady_load_settles_within_budgets_and_target),
        TEST(a_load_too_large_for_the_tiers_moves_little),
        TEST(placement_tells_the_threshold_and_its_reason),
        TEST(every_window_is_counted_with_its_reasons),
        TEST(the_log_tells_every_change_of_a_threshold_in_a_line_each_ten_seconds),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
