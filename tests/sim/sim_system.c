/* What code asks of the system, answered by the simulation while a node's code runs: clocks, random
 * numbers, free space, threads. Else the system answers. */
#include "log.h"
#include "raft/replica_private.h"
#include "sim/sim_fiber.h"
#include "sim/sim_node.h"
#include "sim/sim_world.h"

#include <assert.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WALL_CLOCK_MS UINT64_C(1800000000000) /* When stories begin */
#define DISK_BLOCK    4096u

static uint64_t clock_ms(const struct sim_node *node, clockid_t clock)
{
    uint64_t now_ms = node->world->now_ms;

    if (clock == CLOCK_REALTIME)
        return WALL_CLOCK_MS + now_ms + (uint64_t)node->wall_clock_ahead_ms;
    return now_ms + node->clock_ahead_ms;
}

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the system's own are reserved
 */
int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    uint64_t ms;

    if (sim_node_current == NULL)
        return (int)syscall(SYS_clock_gettime, clock, ret_time);
    ms = clock_ms(sim_node_current, clock);
    ret_time->tv_sec = (time_t)(ms / 1000);
    ret_time->tv_nsec = (long)(ms % 1000 * 1000000);
    return 0;
}

uint64_t uv_hrtime(void)
{
    return clock_ms(sim_node_current, CLOCK_MONOTONIC) * 1000000;
}

ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
    if (sim_node_current == NULL)
        return syscall(SYS_getrandom, buffer, length, flags);
    random_fill(&sim_node_current->random, buffer, length);
    return (ssize_t)length;
}

int statvfs(const char *restrict path, struct statvfs *restrict ret_status)
{
    (void)path;
    *ret_status = (struct statvfs){.f_bsize = DISK_BLOCK, .f_frsize = DISK_BLOCK};
    ret_status->f_bavail = sim_node_current->log_disk_low ? 1 : UINT64_C(1) << 24;
    return 0;
}

/* ---- Logs: each line with its node, if the story is traced; disks that are full are no news ----
 */

void log_really(enum log_level level, const char *event, const struct log_field *fields,
                size_t n) __asm__("__real_log_write");
void log_traced(enum log_level level, const char *event, const struct log_field *fields,
                size_t n) __asm__("__wrap_log_write");

void log_traced(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
    if (!sim_world->story->trace)
        return;
    if (log_enabled(level) && sim_node_current != NULL)
        fprintf(stderr, "%s ", sim_node_current->name);
    log_really(level, event, fields, n);
}

/* ---- Threads: the turns of the raft loop are the simulation's, others are fibers ---- */

int create(pthread_t *ret_thread, const pthread_attr_t *attributes, void *(*run)(void *),
           void *argument) __asm__("__wrap_pthread_create");
int join(pthread_t thread, void **ret_value) __asm__("__wrap_pthread_join");
int cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) __asm__("__wrap_pthread_cond_wait");
int sleep_for(const struct timespec *time,
              struct timespec *ret_remaining) __asm__("__wrap_nanosleep");

int create(pthread_t *ret_thread, const pthread_attr_t *attributes, void *(*run)(void *),
           void *argument)
{
    struct sim_node *node = sim_node_current;

    (void)attributes;
    assert(node != NULL);
    if (run != replica_loop_run) {
        *ret_thread = sim_fiber_start(node, run, argument);
        return 0;
    }
    assert(node->thread == NULL);
    node->thread = run;
    node->thread_argument = argument;
    *ret_thread = (pthread_t)(node->place + 1);
    return 0;
}

/* Whoever waits for its end lets it run to its end. */
int join(pthread_t thread, void **ret_value)
{
    struct sim_node *node = sim_node_current;
    void *(*run)(void *) = node->thread;

    (void)ret_value;
    if (thread > SIM_ENDPOINTS_MAX) {
        sim_fiber_join(thread);
        return 0;
    }
    assert(run != NULL);
    node->thread = NULL;
    run(node->thread_argument);
    return 0;
}

/* Wakes up now and then, as it may. */
int cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    (void)cond;
    pthread_mutex_unlock(mutex);
    sim_fiber_wait(1);
    pthread_mutex_lock(mutex);
    return 0;
}

int sleep_for(const struct timespec *time, struct timespec *ret_remaining)
{
    (void)ret_remaining;
    sim_fiber_wait(1 + (uint64_t)time->tv_sec * 1000 + (uint64_t)time->tv_nsec / 1000000);
    return 0;
}

int pthread_setname_np(pthread_t thread, const char *name)
{
    (void)thread;
    (void)name;
    return 0;
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
