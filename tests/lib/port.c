/* See port.h. Test programs that run side by side begin at different places. */
#include "lib/port.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_FIRST 10000
#define PORTS      20000

/* Keeps the port bound until the program ends. First without SO_REUSEADDR, so that it is taken by
 * one program only; then with it, which lets in whoever sets it too, as servers do. */
static bool reserve(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0)
        return true;
    close(fd);
    return false;
}

uint16_t port_free(void)
{
    static uint32_t next;
    if (next == 0)
        next = (uint32_t)getpid() * 97;
    for (int attempt = 0; attempt < 1000; attempt++) {
        uint16_t port = (uint16_t)(PORT_FIRST + next++ % PORTS);
        if (reserve(port))
            return port;
    }
    fail_msg("no free port: %s", strerror(errno));
    return 0;
}
