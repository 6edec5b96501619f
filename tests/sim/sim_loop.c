/* See sim_loop.h. The functions have libuv's names and take the place of its own. */
#include "sim/sim_loop.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Of a uv_run that waits for the last handle to close. */
#define TURNS_MAX 10000

static struct sim_loop *offered;

void sim_loop_offer(struct sim_loop *loop)
{
    offered = loop;
}

static struct sim_handle *handle_add(uv_loop_t *uv, void *handle, uv_handle_type type)
{
    struct sim_loop *loop = uv->data;

    assert(loop->n < SIM_HANDLES_MAX);
    struct sim_handle *added = &loop->handles[loop->n++];
    *added = (struct sim_handle){.handle = handle};
    added->handle->loop = uv;
    added->handle->type = type;
    return added;
}

static struct sim_handle *handle_of(void *handle)
{
    const uv_handle_t *wanted = handle;
    struct sim_loop *loop = wanted->loop->data;

    for (size_t i = 0; i < loop->n; i++)
        if (loop->handles[i].handle == wanted)
            return &loop->handles[i];
    abort(); /* Closed already */
}

/* ---- A turn ---- */

uint64_t sim_loop_due_ms(const struct sim_loop *loop)
{
    uint64_t now_ms = loop->now_ms(loop->context);
    uint64_t due_ms = SIM_NEVER;

    for (size_t i = 0; i < loop->n; i++) {
        const struct sim_handle *handle = &loop->handles[i];
        if (handle->closing || handle->pending ||
            (handle->active && handle->handle->type == UV_IDLE))
            return now_ms;
        if (handle->active && handle->handle->type == UV_TIMER && handle->due_ms < due_ms)
            due_ms = handle->due_ms;
    }
    return due_ms;
}

static void timers_run(struct sim_loop *loop)
{
    for (size_t i = 0; i < loop->n; i++) {
        struct sim_handle *timer = &loop->handles[i];
        if (timer->handle->type != UV_TIMER || !timer->active || timer->due_ms > loop->uv->time)
            continue;
        timer->active = timer->repeat_ms > 0;
        timer->due_ms = loop->uv->time + timer->repeat_ms;
        timer->run.timer((uv_timer_t *)timer->handle);
    }
}

static void asyncs_run(struct sim_loop *loop)
{
    for (size_t i = 0; i < loop->n; i++) {
        struct sim_handle *async = &loop->handles[i];
        if (async->handle->type != UV_ASYNC || !async->pending || async->closing)
            continue;
        async->pending = false;
        async->run.async((uv_async_t *)async->handle);
    }
}

static void descriptors_run(struct sim_loop *loop)
{
    for (size_t i = 0; i < loop->n; i++) {
        struct sim_handle *handle = &loop->handles[i];
        if (handle->handle->type != UV_POLL || !handle->active || handle->closing)
            continue;
        struct pollfd readable = {.fd = (int)handle->repeat_ms, .events = POLLIN};
        if (poll(&readable, 1, 0) == 1)
            handle->run.poll((uv_poll_t *)handle->handle, 0, UV_READABLE);
    }
}

static void phase_run(struct sim_loop *loop, uv_handle_type type)
{
    for (size_t i = 0; i < loop->n; i++) {
        struct sim_handle *handle = &loop->handles[i];
        if (handle->handle->type != type || !handle->active || handle->closing)
            continue;
        if (type == UV_PREPARE)
            handle->run.prepare((uv_prepare_t *)handle->handle);
        else if (type == UV_CHECK)
            handle->run.check((uv_check_t *)handle->handle);
        else
            handle->run.idle((uv_idle_t *)handle->handle);
    }
}

static void closed_tell(struct sim_loop *loop)
{
    for (size_t i = 0; i < loop->n;) {
        struct sim_handle handle = loop->handles[i];
        if (!handle.closing) {
            i++;
            continue;
        }
        loop->n--;
        memmove(&loop->handles[i], &loop->handles[i + 1], (loop->n - i) * sizeof loop->handles[0]);
        if (handle.closed != NULL)
            handle.closed(handle.handle);
    }
}

static void turn(struct sim_loop *loop, bool wait)
{
    uv_update_time(loop->uv);
    if (wait)
        asyncs_run(loop); /* Whoever runs the loop to its end has sent one to say so */
    timers_run(loop);
    phase_run(loop, UV_IDLE);
    phase_run(loop, UV_PREPARE);
    asyncs_run(loop);
    descriptors_run(loop);
    loop->poll(loop->context, wait);
    phase_run(loop, UV_CHECK);
    closed_tell(loop);
}

void sim_loop_turn(struct sim_loop *loop)
{
    turn(loop, false);
}

/* ---- libuv's names ---- */

int uv_loop_init(uv_loop_t *uv)
{
    struct sim_loop *loop = offered;

    assert(loop != NULL);
    offered = NULL;
    memset(uv, 0, sizeof *uv);
    uv->data = loop;
    loop->uv = uv;
    loop->n = 0;
    uv_update_time(uv);
    return 0;
}

int uv_loop_close(uv_loop_t *uv)
{
    struct sim_loop *loop = uv->data;

    if (loop->n > 0)
        return UV_EBUSY;
    loop->uv = NULL;
    return 0;
}

const char *uv_strerror(int error)
{
    return error == UV_EBUSY ? "busy" : "error of the loop";
}

int uv_run(uv_loop_t *uv, uv_run_mode mode)
{
    struct sim_loop *loop = uv->data;
    unsigned turns = 0;

    do {
        turn(loop, true);
        turns++;
        assert(turns < TURNS_MAX);
    } while (mode == UV_RUN_DEFAULT && loop->n > 0);
    return loop->n > 0;
}

void uv_update_time(uv_loop_t *uv)
{
    const struct sim_loop *loop = uv->data;

    uv->time = loop->now_ms(loop->context);
}

uint64_t uv_now(const uv_loop_t *uv)
{
    return uv->time;
}

int uv_async_init(uv_loop_t *uv, uv_async_t *async, uv_async_cb run)
{
    handle_add(uv, async, UV_ASYNC)->run.async = run;
    return 0;
}

int uv_async_send(uv_async_t *async)
{
    handle_of(async)->pending = true;
    return 0;
}

/* The descriptor stands where a timer has its period. */
int uv_poll_init(uv_loop_t *uv, uv_poll_t *handle, int fd)
{
    handle_add(uv, handle, UV_POLL)->repeat_ms = (uint64_t)fd;
    return 0;
}

int uv_poll_start(uv_poll_t *handle, int events, uv_poll_cb run)
{
    struct sim_handle *started = handle_of(handle);

    assert(events == UV_READABLE);
    started->run.poll = run;
    started->active = true;
    return 0;
}

int uv_timer_init(uv_loop_t *uv, uv_timer_t *timer)
{
    handle_add(uv, timer, UV_TIMER);
    return 0;
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb run, uint64_t timeout, uint64_t repeat)
{
    struct sim_handle *started = handle_of(timer);

    started->run.timer = run;
    started->due_ms = timer->loop->time + timeout;
    started->repeat_ms = repeat;
    started->active = true;
    return 0;
}

int uv_prepare_init(uv_loop_t *uv, uv_prepare_t *handle)
{
    handle_add(uv, handle, UV_PREPARE);
    return 0;
}

int uv_prepare_start(uv_prepare_t *handle, uv_prepare_cb run)
{
    handle_of(handle)->run.prepare = run;
    handle_of(handle)->active = true;
    return 0;
}

int uv_check_init(uv_loop_t *uv, uv_check_t *handle)
{
    handle_add(uv, handle, UV_CHECK);
    return 0;
}

int uv_check_start(uv_check_t *handle, uv_check_cb run)
{
    handle_of(handle)->run.check = run;
    handle_of(handle)->active = true;
    return 0;
}

int uv_idle_init(uv_loop_t *uv, uv_idle_t *handle)
{
    handle_add(uv, handle, UV_IDLE);
    return 0;
}

int uv_idle_start(uv_idle_t *handle, uv_idle_cb run)
{
    handle_of(handle)->run.idle = run;
    handle_of(handle)->active = true;
    return 0;
}

int uv_idle_stop(uv_idle_t *handle)
{
    handle_of(handle)->active = false;
    return 0;
}

void uv_close(uv_handle_t *handle, uv_close_cb closed)
{
    struct sim_handle *closing = handle_of(handle);

    closing->active = false;
    closing->closing = true;
    closing->closed = closed;
}
