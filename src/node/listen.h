/* Preparing the process for its sockets: a port when the system is to choose one, and descriptors.
 */
#ifndef TIERKV_NODE_LISTEN_H
#define TIERKV_NODE_LISTEN_H

#include <stddef.h>
#include <stdint.h>

/* Chooses a free port for a HOST:PORT whose port is 0 and writes the whole address to ret_address.
 * The port stays reserved for listeners with SO_REUSEPORT until *ret_fd, which never listens
 * itself, is closed: so the address can be told to others before anyone listens. With another port
 * than 0 the address is copied and *ret_fd is -1. 0, or -1 with one sentence. */
int listen_reserve(const char *listen, char *ret_address, size_t address_size, int *ret_fd,
                   char *error_text, size_t error_text_size);

/* Raises the limit of open descriptors as far as this user may, and returns it. */
uint64_t descriptors_raise(void);

#endif
