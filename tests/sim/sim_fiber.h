/* Threads of the code under test, as the simulation runs them.
 *
 * Each is a real thread, but only one of all runs at a time, and when is the simulation's choice:
 * where such a thread would wait, it gives its turn back and gets the next one when simulated time
 * has come that far.
 */
#ifndef TIERKV_TESTS_SIM_FIBER_H
#define TIERKV_TESTS_SIM_FIBER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct sim_node;

#define SIM_FIBERS_MAX 32

/* Its first turn comes with the next sim_fibers_run. */
pthread_t sim_fiber_start(struct sim_node *node, void *(*run)(void *), void *argument);
/* Lets it run to its end: simulated time stands still meanwhile. */
void sim_fiber_join(pthread_t thread);

/* When the next one of that node wants its turn; UINT64_MAX. */
uint64_t sim_fibers_due_ms(const struct sim_node *node);
/* Gives turns to those that are due. */
void sim_fibers_run(struct sim_node *node);

/* On a fiber: lets so much simulated time pass. False: somebody waits for the fiber's end, and no
 * time has passed. */
bool sim_fiber_wait(uint64_t ms);

#endif
