/* See port.h. Test programs that run side by side begin at different places. */
#include "lib/port.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_FIRST 10000
#define PORTS      20000

uint16_t port_free(void)
{
    static uint32_t next;
    if (next == 0)
        next = (uint32_t)getpid() * 97;
    for (int attempt = 0; attempt < 1000; attempt++) {
        uint16_t port = (uint16_t)(PORT_FIRST + next++ % PORTS);
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                      .sin_port = htons(port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_free = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
        if (fd >= 0)
            close(fd);
        if (is_free)
            return port;
    }
    fail_msg("no free port");
    return 0;
}
