/* A limit on bytes per second: see rate.h. */
#include "rate.h"

/* How much time's worth of tokens is kept. */
#define KEPT_SECONDS 0.25

void rate_init(struct rate *rate, uint64_t bytes_per_second_max, uint64_t now_ms)
{
    *rate = (struct rate){.bytes_per_second_max = bytes_per_second_max, .filled_ms = now_ms};
}

uint64_t rate_wait_ms(struct rate *rate, uint64_t now_ms)
{
    double limit = (double)rate->bytes_per_second_max;
    if (limit == 0)
        return 0;
    if (now_ms > rate->filled_ms) {
        rate->tokens += limit * (double)(now_ms - rate->filled_ms) / 1000;
        rate->filled_ms = now_ms;
    }
    if (rate->tokens > limit * KEPT_SECONDS)
        rate->tokens = limit * KEPT_SECONDS;
    if (rate->tokens >= 0)
        return 0;
    double wait_ms = -rate->tokens / limit * 1000;
    uint64_t whole_ms = (uint64_t)wait_ms;
    return (double)whole_ms < wait_ms ? whole_ms + 1 : whole_ms;
}

void rate_pay(struct rate *rate, uint64_t bytes)
{
    if (rate->bytes_per_second_max != 0)
        rate->tokens -= (double)bytes;
}
