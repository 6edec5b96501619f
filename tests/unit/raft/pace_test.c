/* The pace at which those without a vote are sent the log: from how long commits take to a speed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "raft/pace.h"

#define MIB      (1u << 20)
#define ENTRY    (64u << 10)
#define BEGIN_MS 5000

/* Whoever takes what is allowed, while commits take so long: bytes taken until that time. */
static uint64_t catch_up(struct pace *pace, uint64_t *now_ms, uint64_t until_ms, uint64_t took_ms,
                         size_t entry_bytes)
{
    uint64_t taken = 0;

    for (; *now_ms < until_ms; ++*now_ms) {
        if (*now_ms % 10 == 0)
            pace_committed(pace, *now_ms, took_ms, entry_bytes);
        size_t allowed = pace_allowance(pace, *now_ms);
        pace_sent(pace, allowed);
        taken += allowed;
    }
    return taken;
}

static void usual(struct pace *pace, uint64_t *now_ms, uint64_t until_ms, uint64_t took_ms,
                  size_t entry_bytes)
{
    for (; *now_ms < until_ms; *now_ms += 10)
        pace_committed(pace, *now_ms, took_ms, entry_bytes);
}

static void it_grows_fast_while_commits_take_what_they_always_do(void **unused)
{
    (void)unused;
    struct pace pace = {0};
    uint64_t now = BEGIN_MS;

    usual(&pace, &now, 10000, 3, ENTRY);
    assert_true(catch_up(&pace, &now, 11000, 3, ENTRY) >= 8 * MIB);
    catch_up(&pace, &now, 13000, 3, ENTRY);
    assert_true(catch_up(&pace, &now, 14000, 3, ENTRY) >= 1000 * (uint64_t)MIB);
}

static void it_falls_at_once_when_commits_take_longer(void **unused)
{
    (void)unused;
    struct pace pace = {0};
    uint64_t now = BEGIN_MS, before, after;

    usual(&pace, &now, 10000, 3, ENTRY);
    catch_up(&pace, &now, 13000, 3, ENTRY);
    before = catch_up(&pace, &now, 14000, 3, ENTRY);
    catch_up(&pace, &now, 15000, 20, ENTRY);
    after = catch_up(&pace, &now, 16000, 20, ENTRY);
    assert_true(after < before / 50);
}

/* Else the node would never come to the log's end. */
static void it_stays_above_the_growth_of_the_log(void **unused)
{
    (void)unused;
    struct pace pace = {0};
    uint64_t now = BEGIN_MS, growth = 100 * (uint64_t)ENTRY;

    usual(&pace, &now, 10000, 3, ENTRY);
    catch_up(&pace, &now, 20000, 50, ENTRY);
    uint64_t taken = catch_up(&pace, &now, 21000, 50, ENTRY);
    assert_in_range(taken, growth * 14 / 10, growth * 17 / 10);
    /* Nor does it stand still when there are no writes at all. */
    now += 100000;
    assert_true(catch_up(&pace, &now, now + 10000, 50, 0) >= MIB);
}

/* What others wait for because of the node itself is not what they always do. */
static void what_is_usual_is_learnt_while_nobody_catches_up(void **unused)
{
    (void)unused;
    struct pace pace = {0};
    uint64_t now = BEGIN_MS;

    usual(&pace, &now, 10000, 3, ENTRY);
    double before = pace.usual_ms;
    catch_up(&pace, &now, 60000, 500, ENTRY);
    assert_true(pace.usual_ms == before);
    usual(&pace, &now, 120000, 500, ENTRY);
    assert_true(pace.usual_ms > 400);
}

static void no_pause_saves_up_more_than_a_tenth_of_a_second(void **unused)
{
    (void)unused;
    struct pace pace = {0};

    pace_allowance(&pace, BEGIN_MS);
    assert_in_range(pace_allowance(&pace, BEGIN_MS + 900), MIB / 2, 2 * MIB);
    /* A clock that goes back gives nothing. */
    size_t allowed = pace_allowance(&pace, BEGIN_MS + 900);
    assert_int_equal(pace_allowance(&pace, BEGIN_MS), allowed);
    pace_sent(&pace, 4 * allowed);
    assert_int_equal(pace_allowance(&pace, BEGIN_MS + 10), 0);
}

static void what_is_lost_brings_it_back_to_its_beginning(void **unused)
{
    (void)unused;
    struct pace pace = {0};
    uint64_t now = BEGIN_MS;

    catch_up(&pace, &now, 10000, 3, ENTRY);
    pace_lost(&pace);
    assert_in_range(catch_up(&pace, &now, 10100, 3, ENTRY), 0, 2 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_grows_fast_while_commits_take_what_they_always_do),
        cmocka_unit_test(it_falls_at_once_when_commits_take_longer),
        cmocka_unit_test(it_stays_above_the_growth_of_the_log),
        cmocka_unit_test(what_is_usual_is_learnt_while_nobody_catches_up),
        cmocka_unit_test(what_is_lost_brings_it_back_to_its_beginning),
        cmocka_unit_test(no_pause_saves_up_more_than_a_tenth_of_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
