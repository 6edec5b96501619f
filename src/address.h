/* HOST:PORT texts. Pure. */
#ifndef TIERKV_ADDRESS_H
#define TIERKV_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

struct address {
    char host[256]; /* Without the brackets of an IPv6 address */
    uint16_t port;
};

/* HOST:PORT, where HOST is a name, an IPv4 address or an IPv6 address in brackets. False: it is
 * not. */
bool address_parse(const char *text, struct address *ret_address);

/* "0.0.0.0" and the IPv6 kin: every address of the machine, so none that others could use. */
bool address_is_wildcard(const struct address *address);

#endif
