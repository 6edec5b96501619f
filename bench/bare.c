/* The baseline of the server benchmarks: libh2o and nothing else. It answers any GET, over HTTP/1.1
 * or HTTP/2, with 256 constant bytes that are never copied, on N loops that share a port.
 *
 * Threads: the main thread is one of the loops. Runs until it is killed. */
#define H2O_USE_LIBUV 0
#include <h2o.h>
#include <h2o/http1.h>
#include <h2o/http2.h>

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_BYTES  256
#define LOOPS_MAX   64
#define ACCEPTS_MAX 16 /* Connections taken per wake-up, so that open ones get their turn */

struct loop {
    pthread_t thread;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener;
};

static char body[BODY_BYTES];
static h2o_globalconf_t config;

static int answer(h2o_handler_t *handler, h2o_req_t *request)
{
    static h2o_generator_t generator;
    h2o_iovec_t piece = h2o_iovec_init(body, sizeof(body));

    (void)handler;
    if (!h2o_memis(request->method.base, request->method.len, H2O_STRLIT("GET")))
        return -1;
    request->res.status = 200;
    request->res.reason = "OK";
    request->res.content_length = sizeof(body);
    h2o_add_header(&request->pool, &request->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/octet-stream"));
    h2o_start_response(request, &generator);
    h2o_send(request, &piece, 1, H2O_SEND_STATE_FINAL);
    return 0;
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct loop *loop = listener->data;

    if (error != NULL)
        return;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        h2o_socket_t *socket = h2o_evloop_socket_accept(listener);
        if (socket == NULL)
            return;
        h2o_accept(&loop->accept, socket);
    }
}

/* A listening socket on loopback, or -1 with errno. */
static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1024) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void *run(void *argument)
{
    struct loop *loop = argument;

    for (;;)
        h2o_evloop_run(loop->context.loop, INT32_MAX);
    return NULL;
}

static int loop_open(struct loop *loop, uint16_t port)
{
    int fd = listen_on(port);

    if (fd < 0)
        return -1;
    h2o_context_init(&loop->context, h2o_evloop_create(), &config);
    loop->accept = (h2o_accept_ctx_t){.ctx = &loop->context, .hosts = config.hosts};
    loop->listener = h2o_evloop_socket_create(loop->context.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->listener->data = loop;
    h2o_socket_read_start(loop->listener, on_accept);
    return 0;
}

/* A whole number in [least, most], or -1. */
static long number(const char *text, long least, long most)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);

    return *text == '\0' || *end != '\0' || value < least || value > most ? -1 : value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static struct loop loops[LOOPS_MAX];
    long port = 8099, n_loops = 1;

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p')
            port = number(optarg, 1, 65535);
        else if (option == 't')
            n_loops = number(optarg, 1, LOOPS_MAX);
        if (option == 'h' || option == '?' || port < 0 || n_loops < 0) {
            fprintf(option == 'h' ? stdout : stderr,
                    "usage: bare [--port PORT] [--threads N]\n"
                    "Answers every GET on 127.0.0.1 with %d constant bytes.\n",
                    BODY_BYTES);
            return option == 'h' ? 0 : 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    memset(body, 'x', sizeof(body));
    h2o_config_init(&config);
    h2o_hostconf_t *host =
        h2o_config_register_host(&config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_handler_t *handler =
        h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof(*handler));
    handler->on_req = answer;

    for (long i = 0; i < n_loops; i++) {
        if (loop_open(&loops[i], (uint16_t)port) != 0) {
            fprintf(stderr, "bare: port %ld: %s\n", port, strerror(errno));
            return 1;
        }
    }
    for (long i = 1; i < n_loops; i++) {
        int error = pthread_create(&loops[i].thread, NULL, run, &loops[i]);
        if (error != 0) {
            fprintf(stderr, "bare: thread: %s\n", strerror(error));
            return 1;
        }
    }
    printf("listening on 127.0.0.1:%ld\n", port);
    fflush(stdout);
    run(&loops[0]);
}
