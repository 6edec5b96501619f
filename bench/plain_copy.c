/* The baseline of the state transfer: copies a file over a TCP connection on loopback into another
 * file and syncs that, with plain reads and writes and nothing looked at; tells bytes and seconds.
 *
 * Happy path: one thread reads the file and sends, the other receives and writes, each with a
 * buffer of its own, until the end of the stream; the time ends with the sync of the copy. Any
 * failure ends the program with 1. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)1 << 20)

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "plain_copy: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Both ends of a TCP connection on loopback. */
static void connect_pair(int ret_fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || ret_fds[0] < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        connect(ret_fds[0], (struct sockaddr *)&address, sizeof(address)) != 0)
        fail("loopback");
    ret_fds[1] = accept(listener, NULL, NULL);
    if (ret_fds[1] < 0)
        fail("loopback");
    close(listener);
}

/* From one descriptor to the other until the end. Returns the bytes. */
static uint64_t pump(int from, int to, const char *what)
{
    char *buffer = malloc(BUFFER_BYTES);
    uint64_t bytes = 0;
    ssize_t n;

    if (buffer == NULL)
        fail("memory");
    while ((n = read(from, buffer, BUFFER_BYTES)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail(what);
        for (ssize_t done = 0; done < n;) {
            ssize_t written = write(to, buffer + done, (size_t)(n - done));
            if (written < 0 && errno == EINTR)
                continue;
            if (written < 0)
                fail(what);
            done += written;
        }
        bytes += (uint64_t)n;
    }
    free(buffer);
    return bytes;
}

struct sender {
    int file, socket;
};

static void *send_file(void *argument)
{
    const struct sender *sender = argument;

    pump(sender->file, sender->socket, "sending");
    if (shutdown(sender->socket, SHUT_WR) != 0)
        fail("sending");
    return NULL;
}

int main(int argc, char **argv)
{
    struct sender sender;
    pthread_t thread;
    int fds[2], copy;

    if (argc != 3) {
        fputs("usage: plain_copy FROM TO\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    connect_pair(fds);
    sender.socket = fds[0];
    double began = now_seconds();
    sender.file = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (sender.file < 0)
        fail(argv[1]);
    copy = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (copy < 0)
        fail(argv[2]);
    if (pthread_create(&thread, NULL, send_file, &sender) != 0)
        fail("thread");
    uint64_t bytes = pump(fds[1], copy, argv[2]);
    if (fsync(copy) != 0)
        fail(argv[2]);
    double seconds = now_seconds() - began;
    pthread_join(thread, NULL);
    if (close(copy) != 0)
        fail(argv[2]);
    close(sender.file);
    close(fds[0]);
    close(fds[1]);
    printf("bytes %llu\nseconds %.6f\n", (unsigned long long)bytes, seconds);
    return fflush(stdout) == 0 ? 0 : 1;
}
