/* What libraft's backend does to those who take its connections as they come: with Nagle's
 * algorithm a message waits up to 40 ms for the acknowledgement of the one before. */
#include "nodes_fixture.h"

#include "log.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>

#define DESCRIPTORS_MAX 4096

/* Connected ones of this process, in which all three nodes live. */
static bool is_tcp_connection(int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t length = sizeof peer;
    int type = 0;
    socklen_t type_length = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) == 0 && type == SOCK_STREAM &&
           getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.ss_family == AF_INET;
}

static void no_message_between_nodes_waits_for_nagle(void **state)
{
    struct fixture *fixture = *state;
    unsigned n = 0;

    three_nodes(fixture);
    put_settled(fixture, "k", "1");
    wait_for_agreement(fixture);
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        int no_delay = 0;
        socklen_t length = sizeof no_delay;
        if (!is_tcp_connection(fd))
            continue;
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &length), 0);
        assert_int_equal(no_delay != 0, true);
        n++;
    }
    assert_in_range(n, 8,
                    DESCRIPTORS_MAX); /* Both ends of what the leader has with each follower */
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* As main does */
    log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_LOGFMT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_message_between_nodes_waits_for_nagle, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
