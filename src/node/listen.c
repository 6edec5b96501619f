/* Main thread, at start. */
#include "node/listen.h"

#include "address.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* A bound socket, or -1 with errno. */
static int bind_socket(const struct addrinfo *info, int share_port)
{
    const int on = 1;
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, info->ai_protocol);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &share_port, sizeof(share_port)) != 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* The port a socket is bound to, as digits. False: errno says why not. */
static bool port_of(int fd, char ret_port[static NI_MAXSERV])
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return false;
    if (getnameinfo((struct sockaddr *)&address, length, NULL, 0, ret_port, NI_MAXSERV,
                    NI_NUMERICSERV) == 0)
        return true;
    errno = EAFNOSUPPORT;
    return false;
}

int listen_reserve(const char *listen, char *ret_address, size_t address_size, int *ret_fd,
                   char *error_text, size_t error_text_size)
{
    struct address address;
    if (!address_parse(listen, &address) || strlen(listen) + sizeof("65535") > address_size) {
        snprintf(error_text, error_text_size, "%s is not HOST:PORT", listen);
        return -1;
    }
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *info;
    int error = getaddrinfo(address.host, strrchr(listen, ':') + 1, &hints, &info);
    if (error != 0) {
        snprintf(error_text, error_text_size, "cannot listen on %s: %s", listen,
                 gai_strerror(error));
        return -1;
    }
    char port[NI_MAXSERV];
    int fd = bind_socket(info, address.port == 0);
    freeaddrinfo(info);
    if (fd < 0 || !port_of(fd, port)) {
        snprintf(error_text, error_text_size, "cannot listen on %s: %s", listen, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (address.port != 0) {
        close(fd);
        fd = -1;
    }
    const int host_len = (int)(strrchr(listen, ':') - listen);
    snprintf(ret_address, address_size, "%.*s:%s", host_len, listen, port);
    *ret_fd = fd;
    return 0;
}

uint64_t descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    const rlim_t soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : soft;
}
