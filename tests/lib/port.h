/* Ports of loopback for servers that a test starts. */
#ifndef TIERKV_TESTS_PORT_H
#define TIERKV_TESTS_PORT_H

#include <stdint.h>

/* A TCP port of 127.0.0.1 that nobody has bound, for a server that sets SO_REUSEADDR. It is this
 * program's until it ends, also while its server is down: a descriptor stays open for each, and no
 * other test program is given it. Below the range from which the system takes ports for outgoing
 * connections. Fails the test if there is none. */
uint16_t port_free(void);

#endif
