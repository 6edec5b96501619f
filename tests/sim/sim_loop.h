/* libuv in simulated time: stands in for the library where a program links it.
 *
 * It has what src/raft asks of libuv, and no thread, clock or descriptor of its own: a loop turns
 * when the simulation says so, and its clock is the simulation's. Descriptors of inboxes are real
 * and are asked without waiting. One thread.
 */
#ifndef TIERKV_TESTS_SIM_LOOP_H
#define TIERKV_TESTS_SIM_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define SIM_HANDLES_MAX 32
#define SIM_NEVER       UINT64_MAX

struct sim_handle {
    uv_handle_t *handle;
    bool active;
    bool closing;
    bool pending; /* An async that was sent */
    uint64_t due_ms;
    uint64_t repeat_ms;
    union {
        uv_timer_cb timer;
        uv_async_cb async;
        uv_poll_cb poll;
        uv_prepare_cb prepare;
        uv_check_cb check;
        uv_idle_cb idle;
    } run;
    uv_close_cb closed;
};

struct sim_loop {
    uint64_t (*now_ms)(void *context);
    /* In the middle of a turn: whatever came from the disk and the network. `wait`: the loop wants
     * to wait for it, so that what takes time is to be done at once. */
    void (*poll)(void *context, bool wait);
    void *context;
    uv_loop_t *uv; /* NULL: not initialised */
    struct sim_handle handles[SIM_HANDLES_MAX];
    size_t n;
};

/* The next uv_loop_init makes this one; now_ms, poll and context are set. */
void sim_loop_offer(struct sim_loop *loop);

/* When a turn has something to do of the loop's own; SIM_NEVER. */
uint64_t sim_loop_due_ms(const struct sim_loop *loop);
/* One turn, in libuv's order: timers, prepare, asyncs and descriptors, check, closed handles. */
void sim_loop_turn(struct sim_loop *loop);

#endif
