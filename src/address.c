/* The form of addresses only: whether a name resolves is found out by who binds or connects. */
#include "address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

static bool port_parse(const char *text, uint16_t *ret_port)
{
    unsigned long port = 0;
    size_t length = strlen(text);
    if (length == 0 || length > 5)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        port = port * 10 + (unsigned long)(text[i] - '0');
    }
    if (port > UINT16_MAX)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

static bool is_host_name(const char *host)
{
    for (const char *at = host; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr(".-_", *at) == NULL)
            return false;
    return *host != '\0';
}

bool address_parse(const char *text, struct address *ret_address)
{
    const char *host = text;
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return false;
    size_t host_len = (size_t)(colon - text);
    const bool bracketed = host_len >= 2 && text[0] == '[' && colon[-1] == ']';
    if (bracketed) {
        host++;
        host_len -= 2;
    }
    struct address address;
    if (host_len >= sizeof(address.host))
        return false;
    memcpy(address.host, host, host_len);
    address.host[host_len] = '\0';
    struct in6_addr ip6;
    if (bracketed ? inet_pton(AF_INET6, address.host, &ip6) != 1 : !is_host_name(address.host))
        return false;
    if (!port_parse(colon + 1, &address.port))
        return false;
    *ret_address = address;
    return true;
}

bool address_is_wildcard(const struct address *address)
{
    struct in_addr ip4;
    struct in6_addr ip6;
    if (inet_pton(AF_INET, address->host, &ip4) == 1)
        return ip4.s_addr == htonl(INADDR_ANY);
    return inet_pton(AF_INET6, address->host, &ip6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&ip6);
}
