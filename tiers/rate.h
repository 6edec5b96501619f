/* A limit on bytes per second: a token bucket. Pure; the clock is given. One thread.
 *
 * Work asks before it begins and pays afterwards, so that it may be done in pieces of any size: a
 * large piece leaves a debt, and the next one waits until that is paid. What was not used is kept
 * for a short while only. Over any time the bytes paid for stay below limit * (time + a quarter of
 * a second) + one piece.
 */
#ifndef TIERS_RATE_H
#define TIERS_RATE_H

#include <stdint.h>

struct rate {
    uint64_t bytes_per_second_max; /* 0: no limit */
    double tokens;                 /* Bytes that may go at once; negative: a debt */
    uint64_t filled_ms;            /* Until when tokens were given */
};

void rate_init(struct rate *rate, uint64_t bytes_per_second_max, uint64_t now_ms);
/* 0: work may begin; else the milliseconds until it may. */
uint64_t rate_wait_ms(struct rate *rate, uint64_t now_ms);
void rate_pay(struct rate *rate, uint64_t bytes);

#endif
