/* See sim_fiber.h. */
#include "sim/sim_fiber.h"

#include "sim/sim_node.h"
#include "sim/sim_world.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>

/* Turns that a fiber may take until its end when somebody waits for it. */
#define TURNS_MAX 100000

struct fiber {
    pthread_t thread;
    sem_t go, back; /* Its turn begins, ends */
    struct sim_node *node;
    void *(*run)(void *);
    void *argument;
    uint64_t due_ms;
    bool hurried; /* Somebody waits for its end */
    bool ended;
};

static struct fiber *fibers[SIM_FIBERS_MAX];
static _Thread_local struct fiber *current;

int create_really(pthread_t *ret_thread, const pthread_attr_t *attributes, void *(*run)(void *),
                  void *argument) __asm__("__real_pthread_create");
int join_really(pthread_t thread, void **ret_value) __asm__("__real_pthread_join");

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        assert(errno == EINTR);
}

static void *fiber_run(void *argument)
{
    struct fiber *fiber = argument;

    current = fiber;
    wait_for(&fiber->go);
    fiber->run(fiber->argument);
    fiber->ended = true;
    sem_post(&fiber->back);
    return NULL;
}

pthread_t sim_fiber_start(struct sim_node *node, void *(*run)(void *), void *argument)
{
    struct fiber *fiber = calloc(1, sizeof *fiber);
    size_t i = 0;
    int rv;

    while (i < SIM_FIBERS_MAX && fibers[i] != NULL)
        i++;
    assert(fiber != NULL && i < SIM_FIBERS_MAX);
    fibers[i] = fiber;
    *fiber = (struct fiber){
        .node = node, .run = run, .argument = argument, .due_ms = node->world->now_ms};
    sem_init(&fiber->go, 0, 0);
    sem_init(&fiber->back, 0, 0);
    rv = create_really(&fiber->thread, NULL, fiber_run, fiber);
    assert(rv == 0);
    (void)rv;
    return (pthread_t)fiber;
}

static void turn(struct fiber *fiber)
{
    struct sim_node *before = sim_node_current;

    sim_node_current = fiber->node;
    sem_post(&fiber->go);
    wait_for(&fiber->back);
    sim_node_current = before;
}

void sim_fiber_join(pthread_t thread)
{
    struct fiber *fiber = (struct fiber *)thread; /* NOLINT(performance-no-int-to-ptr) */

    fiber->hurried = true;
    for (unsigned turns = 0; !fiber->ended; turns++) {
        assert(turns < TURNS_MAX);
        turn(fiber);
    }
    join_really(fiber->thread, NULL);
    for (size_t i = 0; i < SIM_FIBERS_MAX; i++)
        if (fibers[i] == fiber)
            fibers[i] = NULL;
    sem_destroy(&fiber->go);
    sem_destroy(&fiber->back);
    free(fiber);
}

uint64_t sim_fibers_due_ms(const struct sim_node *node)
{
    uint64_t due_ms = UINT64_MAX;

    for (size_t i = 0; i < SIM_FIBERS_MAX; i++)
        if (fibers[i] != NULL && fibers[i]->node == node && !fibers[i]->ended &&
            fibers[i]->due_ms < due_ms)
            due_ms = fibers[i]->due_ms;
    return due_ms;
}

void sim_fibers_run(struct sim_node *node)
{
    for (size_t i = 0; i < SIM_FIBERS_MAX; i++)
        if (fibers[i] != NULL && fibers[i]->node == node && !fibers[i]->ended &&
            fibers[i]->due_ms <= node->world->now_ms)
            turn(fibers[i]);
}

bool sim_fiber_wait(uint64_t ms)
{
    struct fiber *fiber = current;

    assert(fiber != NULL);
    if (fiber->hurried)
        return false;
    fiber->due_ms = fiber->node->world->now_ms + ms;
    sem_post(&fiber->back);
    wait_for(&fiber->go);
    return !fiber->hurried;
}
