/* See pace.h. */
#include "raft/pace.h"

#define WINDOW_MS     100
#define SPEED_FIRST   (8.0 * (1 << 20))
#define SPEED_MIN     (1.0 * (1 << 20))
#define SPEED_MAX     (4.0 * (1 << 30))
#define GROWTH_FACTOR 1.5
#define FASTER        1.25
#define SLOWER        0.5
/* Of what is usual; and what a clock of milliseconds does not tell apart. */
#define SLOW_FACTOR 2
#define SLOW_MS     2
/* The weight of a window in what is usual, and in the growth of the log. */
#define USUAL_WEIGHT  0.02
#define GROWTH_WEIGHT 0.2
/* Who was not asked for so long catches up nobody. */
#define IDLE_MS 1000
/* What may be sent at once after a pause. */
#define BURST_SECONDS 0.1

static double smoothed(double before, double now, double weight)
{
    return before == 0 ? now : before + (now - before) * weight;
}

static double speed_min(const struct pace *pace)
{
    double least = pace->growth * GROWTH_FACTOR;

    return least > SPEED_MIN ? least : SPEED_MIN;
}

static void speed_set(struct pace *pace, double bytes_per_second)
{
    double least = speed_min(pace);

    if (bytes_per_second < least)
        bytes_per_second = least;
    pace->bytes_per_second = bytes_per_second < SPEED_MAX ? bytes_per_second : SPEED_MAX;
}

static void window_end(struct pace *pace, uint64_t now_ms)
{
    double took_ms =
        pace->window_commits > 0 ? pace->window_took_ms / pace->window_commits : pace->usual_ms;
    double seconds = (double)(now_ms - pace->window_ms) / 1000;

    pace->growth = smoothed(pace->growth, pace->window_bytes / seconds, GROWTH_WEIGHT);
    if (pace->bytes_per_second == 0)
        pace->usual_ms = smoothed(pace->usual_ms, took_ms, USUAL_WEIGHT);
    else if (took_ms > pace->usual_ms * SLOW_FACTOR + SLOW_MS)
        speed_set(pace, pace->bytes_per_second * SLOWER);
    else
        speed_set(pace, pace->bytes_per_second * FASTER);
    pace->window_ms = now_ms;
    pace->window_took_ms = 0;
    pace->window_commits = 0;
    pace->window_bytes = 0;
}

static void tick(struct pace *pace, uint64_t now_ms)
{
    if (pace->window_ms == 0 || now_ms < pace->window_ms)
        pace->window_ms = now_ms;
    if (now_ms >= pace->window_ms + WINDOW_MS)
        window_end(pace, now_ms);
    if (pace->bytes_per_second != 0 && now_ms > pace->asked_ms + IDLE_MS)
        pace->bytes_per_second = 0;
}

void pace_committed(struct pace *pace, uint64_t now_ms, uint64_t took_ms, size_t bytes)
{
    tick(pace, now_ms);
    pace->window_took_ms += (double)took_ms;
    pace->window_commits++;
    pace->window_bytes += (double)bytes;
}

size_t pace_allowance(struct pace *pace, uint64_t now_ms)
{
    double most;

    tick(pace, now_ms);
    if (pace->bytes_per_second == 0) {
        speed_set(pace, SPEED_FIRST);
        pace->allowance = 0;
        pace->asked_ms = now_ms - 1;
    }
    most = pace->bytes_per_second * BURST_SECONDS;
    if (now_ms > pace->asked_ms)
        pace->allowance += pace->bytes_per_second * (double)(now_ms - pace->asked_ms) / 1000;
    if (pace->allowance > most)
        pace->allowance = most;
    pace->asked_ms = now_ms;
    return pace->allowance > 0 ? (size_t)pace->allowance : 0;
}

void pace_sent(struct pace *pace, size_t bytes)
{
    pace->allowance -= (double)bytes;
}

void pace_lost(struct pace *pace)
{
    if (pace->bytes_per_second > SPEED_FIRST)
        speed_set(pace, SPEED_FIRST);
}
