/* Bits that flip on the disk while the engine is down, and files that are cut: it refuses to open
 * and names the file, or answers reads of what is damaged with an error, or is unharmed; it never
 * serves a wrong value, loses a key in silence, revives a deleted one, or crashes.
 *
 * TIERKV_DAMAGE_RUNS: how many bits are flipped at random in each kind of place (150). The seed is
 * printed; TIERKV_TEST_SEED sets it.
 */
#include "crash_scenario.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>

#define PAGE_BYTES     4096
#define STATUS_UNHURT  10
#define STATUS_REFUSED 11

static uint64_t seed;

static uint64_t runs(void)
{
    const char *given = getenv("TIERKV_DAMAGE_RUNS");
#ifdef __SANITIZE_ADDRESS__
    return given != NULL ? strtoull(given, NULL, 10) : 25;
#else
    return given != NULL ? strtoull(given, NULL, 10) : 150;
#endif
}

/* Opens what is damaged, reads and works, and looks at every answer. */
static _Noreturn void child(struct scenario *scenario, enum scenario_kind kind)
{
    struct tiers_position position;
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    scenario->failures = true;
    int error = scenario_open(scenario);
    if (error != 0) {
        const char *text = scenario->f->text;
        if (strstr(text, "data.mdb") == NULL && strstr(text, ".seg") == NULL)
            scenario_defect(scenario, "refused without naming a file: %.400s", text);
        _exit(STATUS_REFUSED);
    }
    tiers_position_applied(scenario->f->tiers, &position);
    if (position.index > SCENARIO_BASE)
        scenario_defect(scenario, "opened at index %llu", (unsigned long long)position.index);
    scenario_model_set(scenario, kind, position.index);
    scenario_check(scenario);
    /* The number of the newest transaction lost the bit that makes it newer than the one before:
     * nothing tells such a file from one that the last commit never reached. It holds a complete
     * state; what came after stands in the log, or the log says that it does not fit. */
    if (position.index < SCENARIO_BASE)
        _exit(STATUS_UNHURT);
    if (scenario_run(scenario, kind))
        scenario_check(scenario);
    (void)tiers_close(scenario->f->tiers);
    _exit(STATUS_UNHURT);
}

static int outcome(struct scenario *scenario, enum scenario_kind kind)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        child(scenario, kind);
    return scenario_wait(pid);
}

static off_t file_bytes(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return status.st_size;
}

static void bit_flip(const char *path, off_t at, unsigned bit)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (unsigned char)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Flips one bit of a fresh copy. True if it was refused. */
static bool flip_try(struct scenario *scenario, const char *name, off_t at, unsigned bit)
{
    char path[TEMP_FOLDER_PATH_BYTES + 64];
    enum scenario_kind kind = (at + bit) % 2 == 0 ? SCENARIO_DEMOTION : SCENARIO_COMPACTION;
    snprintf(path, sizeof path, "%s/%s", scenario->work, name);
    scenario_reset(scenario, kind);
    bit_flip(path, at, bit);
    int status = outcome(scenario, kind);
    if (status != STATUS_UNHURT && status != STATUS_REFUSED)
        fail_msg("%s, page %lld byte %lld bit %u (seed %llu): status %d: %s", name,
                 (long long)at / PAGE_BYTES, (long long)at % PAGE_BYTES, bit,
                 (unsigned long long)seed, status, scenario->report->text);
    return status == STATUS_REFUSED;
}

static off_t base_bytes(const struct scenario *scenario, const char *name)
{
    char path[TEMP_FOLDER_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", scenario->base, name);
    return file_bytes(path);
}

/* Random bits in the first `part` bytes of the pages of a file. */
static void flips_try(struct scenario *scenario, const char *name, uint64_t part)
{
    uint64_t state = seed;
    uint64_t pages = (uint64_t)base_bytes(scenario, name) / PAGE_BYTES;
    uint64_t refused = 0;
    for (uint64_t i = 0; i < runs(); i++) {
        off_t at = (off_t)(model_random(&state) % pages * PAGE_BYTES + model_random(&state) % part);
        refused += flip_try(scenario, name, at, model_random(&state) % 8);
    }
    print_message("%llu flips, %llu refused at opening\n", (unsigned long long)runs(),
                  (unsigned long long)refused);
}

static void any_bit_of_a_warm_page_may_flip(void **state)
{
    flips_try(*state, "warm/data.mdb", PAGE_BYTES);
}

static void any_bit_of_the_header_of_a_warm_page_may_flip(void **state)
{
    flips_try(*state, "warm/data.mdb", 16);
}

static void any_bit_of_the_offsets_in_a_warm_page_may_flip(void **state)
{
    flips_try(*state, "warm/data.mdb", 80);
}

/* What stands in them: a header, magic and version, sizes, two trees, last page, transaction. */
static void any_byte_of_the_meta_pages_may_flip(void **state)
{
    uint64_t random = seed;
    uint64_t refused = 0;
    for (off_t at = 0; at < 152; at++) {
        refused += flip_try(*state, "warm/data.mdb", at, model_random(&random) % 8);
        refused += flip_try(*state, "warm/data.mdb", PAGE_BYTES + at, model_random(&random) % 8);
    }
    print_message("304 flips, %llu refused at opening\n", (unsigned long long)refused);
    assert_true(refused > 80);
}

static void any_bit_of_a_segment_may_flip(void **state)
{
    flips_try(*state, "cold/0000000000000002.seg", PAGE_BYTES);
}

static void any_bit_of_a_segments_header_may_flip(void **state)
{
    uint64_t refused = 0;
    for (off_t at = 0; at < 32; at++)
        refused += flip_try(*state, "cold/0000000000000002.seg", at, (unsigned)at % 8);
    assert_int_equal(refused, 32);
}

static void cut_try(struct scenario *scenario, const char *name, off_t bytes)
{
    char path[TEMP_FOLDER_PATH_BYTES + 64];
    scenario_reset(scenario, SCENARIO_DEMOTION);
    snprintf(path, sizeof path, "%s/%s", scenario->work, name);
    assert_int_equal(truncate(path, bytes), 0);
    int status = outcome(scenario, SCENARIO_DEMOTION);
    if (status != STATUS_UNHURT && status != STATUS_REFUSED)
        fail_msg("%s of %lld bytes: status %d: %s", name, (long long)bytes, status,
                 scenario->report->text);
}

static void a_file_may_be_cut_anywhere(void **state)
{
    static const char *const names[] = {"warm/data.mdb", "cold/0000000000000002.seg"};
    for (size_t i = 0; i < 2; i++) {
        off_t size = base_bytes(*state, names[i]);
        for (int part = 1; part <= 20; part++) {
            cut_try(*state, names[i], size * part / 21);
            cut_try(*state, names[i], size * part / 21 / PAGE_BYTES * PAGE_BYTES);
        }
    }
}

int main(void)
{
    const char *given = getenv("TIERKV_TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu (set TIERKV_TEST_SEED to repeat)\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bit_of_a_warm_page_may_flip),
        cmocka_unit_test(any_bit_of_the_header_of_a_warm_page_may_flip),
        cmocka_unit_test(any_bit_of_the_offsets_in_a_warm_page_may_flip),
        cmocka_unit_test(any_byte_of_the_meta_pages_may_flip),
        cmocka_unit_test(any_bit_of_a_segment_may_flip),
        cmocka_unit_test(any_bit_of_a_segments_header_may_flip),
        cmocka_unit_test(a_file_may_be_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, scenario_set_up, scenario_tear_down);
}
