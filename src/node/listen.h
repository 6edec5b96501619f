/* Preparing the process for its sockets: a port when the system is to choose one, and descriptors.
 */
#ifndef TIERKV_NODE_LISTEN_H
#define TIERKV_NODE_LISTEN_H

#include <stddef.h>
#include <stdint.h>

/* Sees that a HOST:PORT can be listened on and that nobody else does, which listeners with
 * SO_REUSEPORT would not notice. If its port is 0, a free one is chosen and stays reserved, for
 * listeners with SO_REUSEPORT or SO_REUSEADDR, until *ret_fd is closed, which never listens itself:
 * so the address can be told to others before anyone listens. *ret_fd is -1 otherwise; ret_address
 * gets the address with the port. 0, or -1 with one sentence. */
int listen_reserve(const char *listen, char *ret_address, size_t address_size, int *ret_fd,
                   char *error_text, size_t error_text_size);

/* Raises the limit of open descriptors as far as this user may, and returns it. */
uint64_t descriptors_raise(void);

#endif
