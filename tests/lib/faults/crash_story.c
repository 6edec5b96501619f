/* Cutting a short story off at each of its points: see crash_points.h. */
#include "lib/faults/crash_points.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEDS 4

static const char *const fates[] = {[CRASH_NEVER] = "to its end",
                                    [CRASH_BEFORE] = "killed before",
                                    [CRASH_MIDDLE] = "killed in the middle of",
                                    [CRASH_POWER_ALL] = "power lost before",
                                    [CRASH_POWER_SOME] = "power lost during"};

static int wait_for(pid_t child)
{
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        exit(2);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* True if the run ended as it was to, and what it left is good. */
static bool holds(const struct crash_story *story, const struct crash_plan *plan,
                  struct crash_report *report)
{
    memset(report, 0, sizeof *report);
    story->reset(story->context);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        crash_points_arm(story->root, story->graves, plan, report);
        if (!story->run(story->context))
            _exit(1);
        crash_points_power_off();
    }
    if (wait_for(child) != CRASH_EXIT_STATUS)
        return false;
    child = fork();
    if (child == 0)
        _exit(story->proves(story->context, plan->fate == CRASH_NEVER) ? 0 : 1);
    return wait_for(child) == 0;
}

const char *crash_story_try(const struct crash_story *story, uint64_t *ret_points)
{
    static char text[256];
    struct crash_report *report = crash_report_new();
    struct crash_plan plan = {.fate = CRASH_NEVER};
    bool good = holds(story, &plan, report);
    uint64_t points = report->points;
    uint64_t stride = story->stride > 0 ? story->stride : 1;
    for (uint64_t point = 1; good && point <= points; point += stride) {
        plan.point = point;
        for (plan.fate = CRASH_BEFORE; good && plan.fate <= CRASH_POWER_ALL; plan.fate++)
            good = holds(story, &plan, report);
        for (plan.seed = 1; good && plan.seed <= SEEDS; plan.seed++) {
            plan.fate = CRASH_POWER_SOME;
            good = holds(story, &plan, report);
        }
    }
    snprintf(text, sizeof text, "%s point %llu (%s)", fates[plan.fate % 5],
             (unsigned long long)plan.point, report->place);
    crash_report_free(report);
    *ret_points = points;
    return good ? NULL : text;
}
