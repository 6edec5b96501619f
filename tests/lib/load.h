/* Writers that know exactly what was acknowledged to them.
 *
 * Each writer thread owns some keys and writes numbered operations to them, one after the other: a
 * put whose value carries the number, or, every eighth, a delete. The last acknowledged and the
 * last sent number of each key bound what a later read may find: nothing older than what was
 * acknowledged, nothing newer than what was sent.
 */
#ifndef TIERKV_TESTS_LOAD_H
#define TIERKV_TESTS_LOAD_H

#include <stddef.h>
#include <stdint.h>

struct load;

struct load_options {
    const char *endpoints; /* Must outlive the load */
    size_t n_threads;
    size_t n_keys;       /* Per thread */
    size_t value_bytes;  /* At most; at least 64 */
    uint32_t timeout_ms; /* Of one write */
    uint64_t seed;
};

/* Starts the threads. Exits the program if it cannot. */
struct load *load_start(const struct load_options *options);
/* Lets the threads finish the write under way and waits for them. They can be resumed. */
void load_pause(struct load *load);
void load_resume(struct load *load);
/* Writes acknowledged so far, and those that failed or whose outcome is unknown. */
uint64_t load_acknowledged(struct load *load);
uint64_t load_failed(struct load *load);
/* Waits until n more writes are acknowledged than when it is called; fails the test if this takes
 * too long. */
void load_wait(struct load *load, uint64_t n, uint64_t timeout_ms);
/* While paused: reads every key (consistently) from `endpoints` and fails the test if one holds
 * less than was acknowledged, more than was sent, or bytes that nobody wrote. */
void load_verify(struct load *load, const char *endpoints);
/* Pauses if need be, frees. */
void load_free(struct load *load);

#endif
