/* Ports of loopback for servers that a test starts. */
#ifndef TIERKV_TESTS_PORT_H
#define TIERKV_TESTS_PORT_H

#include <stdint.h>

/* A TCP port of 127.0.0.1 that nobody has bound. Below the range from which the system takes ports
 * for outgoing connections, so that nobody takes it while its server is down; each is given out
 * once in 20,000 times. Fails the test if there is none. */
uint16_t port_free(void);

#endif
