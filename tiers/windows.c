/* See windows.h. */
#include "windows.h"

#include <string.h>

#define READINGS_MAX       (WINDOWS_SECONDS_MAX + 1)
#define READING_SPACING_MS 1000

void windows_read(struct windows *windows, uint64_t now_ms,
                  const uint64_t totals[static WINDOWS_COUNTERS])
{
    if (windows->n > 0 && now_ms - windows->readings[windows->newest].at_ms < READING_SPACING_MS)
        return;
    windows->newest = windows->n == 0 ? 0 : (windows->newest + 1) % READINGS_MAX;
    windows->n += windows->n < READINGS_MAX;
    windows->readings[windows->newest].at_ms = now_ms;
    memcpy(windows->readings[windows->newest].totals, totals,
           sizeof windows->readings[windows->newest].totals);
}

uint64_t windows_growth(const struct windows *windows, uint64_t now_ms, uint64_t span_ms,
                        const uint64_t totals[static WINDOWS_COUNTERS],
                        uint64_t ret_growth[static WINDOWS_COUNTERS])
{
    const struct windows_reading *from = NULL;

    /* From the newest back to the first one that is old enough. */
    for (size_t i = 0; i < windows->n; i++) {
        from = &windows->readings[(windows->newest + READINGS_MAX - i) % READINGS_MAX];
        if (now_ms - from->at_ms >= span_ms)
            break;
    }
    for (size_t i = 0; i < WINDOWS_COUNTERS; i++)
        ret_growth[i] = totals[i] - (from != NULL ? from->totals[i] : 0);
    return from != NULL ? now_ms - from->at_ms : 0;
}
