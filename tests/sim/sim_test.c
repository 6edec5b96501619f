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
        assert_memory_equal(first.counts, second.counts, sizeof first.counts);
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

/* One of the seeds breaches what must hold, and is told again: it does so in the same way. */
static void is_found(enum sim_defect defect, enum sim_mood mood, uint64_t seeds, const char *by)
{
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct sim_story story = {
            .seed = seed, .duration_ms = DURATION_MS, .defect = defect, .mood = mood};
        struct sim_result result, again;
        if (sim_story_run(&story, &result))
            continue;
        print_message("found with seed %llu: %s\n", (unsigned long long)seed, result.failure);
        if (strstr(result.failure, by) == NULL)
            continue; /* Seen elsewhere first */
        assert_false(sim_story_run(&story, &again));
        assert_string_equal(again.failure, result.failure);
        assert_true(again.hash == result.hash);
        return;
    }
    fail_msg("not found with %llu seeds", (unsigned long long)seeds);
}

static void a_read_without_a_quorum_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_READ_WITHOUT_QUORUM, SIM_MOOD_ANY, 100, "not linearizable");
}

static void an_answer_before_the_commit_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_ANSWER_BEFORE_COMMIT, SIM_MOOD_ANY, 50, "not linearizable");
}

static void a_vote_that_is_not_stored_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_VOTE_NOT_STORED, SIM_MOOD_ELECTIONS, 500, "lead in term");
}

static void entries_that_were_confirmed_and_not_synced_are_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_ENTRIES_NOT_SYNCED, SIM_MOOD_ANY, 50, "which is committed");
}

static void an_entry_that_one_node_leaves_out_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_ENTRY_SKIPPED, SIM_MOOD_ANY, 50, "is not that of others");
}

static void an_entry_that_one_node_applies_twice_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_ENTRY_TWICE, SIM_MOOD_ANY, 50, "is not that of others");
}

static void a_session_that_goes_back_is_found(void **unused)
{
    (void)unused;
    is_found(SIM_DEFECT_READ_ELSEWHERE, SIM_MOOD_ANY, 50, "and then");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_is_the_same_story),
        cmocka_unit_test(another_seed_is_another_story),
        cmocka_unit_test(a_read_without_a_quorum_is_found),
        cmocka_unit_test(an_answer_before_the_commit_is_found),
        cmocka_unit_test(a_vote_that_is_not_stored_is_found),
        cmocka_unit_test(entries_that_were_confirmed_and_not_synced_are_found),
        cmocka_unit_test(an_entry_that_one_node_leaves_out_is_found),
        cmocka_unit_test(an_entry_that_one_node_applies_twice_is_found),
        cmocka_unit_test(a_session_that_goes_back_is_found),
    };
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
