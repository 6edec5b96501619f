/* Counters seen through sliding windows: how much each grew during the last so many seconds. A
 * reading of all is kept for each second of the longest window. Pure; one thread at a time. */
#ifndef TIERS_WINDOWS_H
#define TIERS_WINDOWS_H

#include <stddef.h>
#include <stdint.h>

#define WINDOWS_COUNTERS    4
#define WINDOWS_SECONDS_MAX 300

struct windows_reading {
    uint64_t at_ms;
    uint64_t totals[WINDOWS_COUNTERS];
};

/* All zero: no reading yet. */
struct windows {
    struct windows_reading readings[WINDOWS_SECONDS_MAX + 1]; /* A ring */
    size_t n;
    size_t newest;
};

/* Keeps a reading if the last one is a second old; times never go back. */
void windows_read(struct windows *windows, uint64_t now_ms,
                  const uint64_t totals[static WINDOWS_COUNTERS]);

/* What the totals grew by in the last `span_ms`, or since the oldest reading if that is later.
 * Returns the span that it is in fact, to within the time between two readings. */
uint64_t windows_growth(const struct windows *windows, uint64_t now_ms, uint64_t span_ms,
                        const uint64_t totals[static WINDOWS_COUNTERS],
                        uint64_t ret_growth[static WINDOWS_COUNTERS]);

#endif
