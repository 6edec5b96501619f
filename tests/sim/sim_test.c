/* The simulation itself: a seed is a story, and what is broken on purpose is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/sim_world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DURATION_MS 10000
#define SEEDS_MAX   1000 /* In which a defect has to be found */

static void the_same_seed_is_the_same_story(void **unused)
{
    (void)unused;
    uint64_t seed = random_seed();
    for (uint64_t i = 0; i < 5; i++) {
        struct sim_story story = {.seed = seed + i, .duration_ms = DURATION_MS};
        struct sim_result first = {0}, second = {0};
        if (!sim_story_run(&story, &first) || !sim_story_run(&story, &second))
            fail_msg("seed %llu: %s", (unsigned long long)story.seed, first.failure);
        assert_true(first.events > 1000 && first.counts[SIM_COUNT_COMMITTED] > 10);
        assert_true(first.events == second.events);
        assert_true(first.hash == second.hash);
    }
}

static void another_seed_is_another_story(void **unused)
{
    (void)unused;
    struct sim_story story = {.seed = 1, .duration_ms = DURATION_MS};
    struct sim_result first = {0}, second = {0};
    assert_true(sim_story_run(&story, &first));
    story.seed = 2;
    assert_true(sim_story_run(&story, &second));
    assert_true(first.hash != second.hash);
}

static void is_found(enum sim_defect defect, const char *by)
{
    uint64_t seed = random_seed();
    for (uint64_t i = 0; i < SEEDS_MAX; i++) {
        struct sim_story story = {.seed = seed + i, .duration_ms = DURATION_MS, .defect = defect};
        struct sim_result result;
        if (sim_story_run(&story, &result))
            continue;
        print_message("found with seed %llu, the %llu-th: %s\n", (unsigned long long)story.seed,
                      (unsigned long long)i + 1, result.failure);
        assert_non_null(strstr(result.failure, by));
        return;
    }
    fail_msg("not found from seed %llu on", (unsigned long long)seed);
}

static void a_read_without_a_quorum_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_READ_WITHOUT_QUORUM, "not linearizable");
}

static void an_answer_before_the_commit_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_ANSWER_BEFORE_COMMIT, "not linearizable");
}

static void a_vote_that_is_not_stored_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_VOTE_NOT_STORED, "lead in term");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vote_that_is_not_stored_is_found),
        cmocka_unit_test(the_same_seed_is_the_same_story),
        cmocka_unit_test(another_seed_is_another_story),
        cmocka_unit_test(a_read_without_a_quorum_is_found),
        cmocka_unit_test(an_answer_before_the_commit_is_found),
    };
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
