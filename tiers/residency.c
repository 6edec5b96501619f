/* See residency.h. Cannot fail. */
#include "residency.h"

/* A file that has just come to fit needs some room to spare, so that it does not go to and fro. */
#define ROOM_DIVISOR 8

void residency_miss(struct residency *residency)
{
    atomic_store_explicit(&residency->missed, true, memory_order_relaxed);
    atomic_store_explicit(&residency->assumed, false, memory_order_relaxed);
}

void residency_step(struct residency *residency, uint64_t file_bytes, uint64_t available_bytes)
{
    uint64_t room = residency_fits(residency) ? 0 : file_bytes / ROOM_DIVISOR;
    bool fits = file_bytes <= available_bytes && room <= available_bytes - file_bytes;
    bool missed = atomic_exchange_explicit(&residency->missed, false, memory_order_relaxed);
    atomic_store_explicit(&residency->fits, fits, memory_order_relaxed);
    residency->calm_steps = missed || !fits ? 0 : residency->calm_steps + 1;
    atomic_store_explicit(&residency->assumed, residency->calm_steps >= RESIDENCY_CALM_STEPS,
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&residency->epoch, 1, memory_order_relaxed);
}
