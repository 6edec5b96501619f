/* Connections whose end is noticed, on real sockets and a loop of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "raft/peer_watch.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEER 7

struct fixture {
    uv_loop_t loop;
    struct peer_watches watches;
    uv_tcp_t stream;
    int peer_fd; /* The other end */
    uv_timer_t timer;
    raft_id gone;
    unsigned n_gone;
    unsigned n_ended;
};

static void on_gone(void *context, raft_id peer)
{
    struct fixture *fixture = context;

    fixture->gone = peer;
    fixture->n_gone++;
    uv_stop(&fixture->loop);
}

static void on_ended(void *context)
{
    struct fixture *fixture = context;

    fixture->n_ended++;
    uv_stop(&fixture->loop);
}

static void connect_stream(struct fixture *fixture)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(listener >= 0 && fd >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    fixture->peer_fd = accept(listener, NULL, NULL);
    assert_true(fixture->peer_fd >= 0);
    close(listener);
    assert_int_equal(uv_tcp_init(&fixture->loop, &fixture->stream), 0);
    assert_int_equal(uv_tcp_open(&fixture->stream, fd), 0);
}

static int setup(void **state)
{
    static struct fixture fixture;

    fixture = (struct fixture){.peer_fd = -1};
    assert_int_equal(uv_loop_init(&fixture.loop), 0);
    assert_int_equal(uv_timer_init(&fixture.loop, &fixture.timer), 0);
    fixture.watches = (struct peer_watches){
        .loop = &fixture.loop, .gone = on_gone, .ended = on_ended, .context = &fixture};
    connect_stream(&fixture);
    peer_watches_add(&fixture.watches, PEER, (uv_stream_t *)&fixture.stream);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    if (fixture->peer_fd >= 0)
        close(fixture->peer_fd);
    peer_watches_close(&fixture->watches);
    uv_close((uv_handle_t *)&fixture->stream, NULL);
    uv_close((uv_handle_t *)&fixture->timer, NULL);
    fixture->watches.gone = NULL;
    while (uv_run(&fixture->loop, UV_RUN_DEFAULT) != 0)
        continue;
    assert_true(peer_watches_closed(&fixture->watches));
    return uv_loop_close(&fixture->loop);
}

static void peer_ends(struct fixture *fixture)
{
    close(fixture->peer_fd);
    fixture->peer_fd = -1;
}

static void on_written(uv_write_t *write, int status)
{
    *(int *)write->data = status;
    uv_stop(write->handle->loop);
}

/* How the backend learns of it: the write is taken, and fails. */
static int write_status(struct fixture *fixture)
{
    int status = 1;
    uv_write_t write = {.data = &status};
    uv_buf_t bytes = uv_buf_init((char[]){"message"}, 7);

    assert_int_equal(uv_write(&write, (uv_stream_t *)&fixture->stream, &bytes, 1, on_written), 0);
    while (status == 1)
        uv_run(&fixture->loop, UV_RUN_ONCE);
    return status;
}

static void on_time(uv_timer_t *timer)
{
    peer_ends(timer->data);
}

static void on_time_with_reset(uv_timer_t *timer)
{
    struct fixture *fixture = timer->data;
    const struct linger none = {.l_onoff = 1};

    assert_int_equal(setsockopt(fixture->peer_fd, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    peer_ends(fixture);
}

/* Longer than what is taken for a refusal. */
static void end_after_use(struct fixture *fixture, uv_timer_cb how)
{
    fixture->timer.data = fixture;
    assert_int_equal(uv_timer_start(&fixture->timer, how, 1200, 0), 0);
    while (fixture->n_gone == 0)
        uv_run(&fixture->loop, UV_RUN_DEFAULT);
}

static void the_end_of_a_used_connection_is_told_once_and_writes_fail(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(write_status(fixture), 0);
    end_after_use(fixture, on_time);
    assert_int_equal(fixture->gone, PEER);
    assert_true(write_status(fixture) < 0);
    uv_run(&fixture->loop, UV_RUN_NOWAIT);
    assert_int_equal(fixture->n_gone, 1);
}

static void so_is_its_reset(void **state)
{
    struct fixture *fixture = *state;

    end_after_use(fixture, on_time_with_reset);
    assert_true(write_status(fixture) < 0);
}

static void a_connection_that_ends_at_once_is_not_told_but_its_writes_fail(void **state)
{
    struct fixture *fixture = *state;

    peer_ends(fixture);
    while (fixture->n_ended == 0)
        uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(fixture->n_gone, 0);
    assert_true(write_status(fixture) < 0);
}

static void a_newer_connection_takes_the_place_of_the_older(void **state)
{
    struct fixture *fixture = *state;

    peer_watches_add(&fixture->watches, PEER, (uv_stream_t *)&fixture->stream);
    while (fixture->n_ended == 0)
        uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(fixture->watches.n, 1);
    assert_int_equal(write_status(fixture), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_end_of_a_used_connection_is_told_once_and_writes_fail,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(so_is_its_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_connection_that_ends_at_once_is_not_told_but_its_writes_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(a_newer_connection_takes_the_place_of_the_older, setup,
                                        teardown),
    };
    signal(SIGPIPE, SIG_IGN); /* As in the server */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
