/* The scripted server is libh2o on a thread of its own, so that the client meets a real HTTP/2
 * implementation; the mute one is a bare socket. */
#include "unit/client/stub.h"

#include <arpa/inet.h>
#define H2O_USE_LIBUV 0
#include <fcntl.h>
#include <h2o.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* libh2o keeps memory for reuse per thread and never gives it back. The name is LeakSanitizer's. */
const char *__lsan_default_suppressions(void); /* NOLINT(bugprone-reserved-identifier) */
const char *__lsan_default_suppressions(void)  /* NOLINT(bugprone-reserved-identifier) */
{
    return "leak:libh2o-evloop\n";
}

static void check(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(2);
}

static int listen_somewhere(char ret_endpoint[32])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
              listen(fd, 64) == 0 && getsockname(fd, (struct sockaddr *)&address, &length) == 0,
          "listen");
    snprintf(ret_endpoint, 32, "127.0.0.1:%u", ntohs(address.sin_port));
    return fd;
}

void stub_dead_endpoint(char ret_endpoint[32])
{
    close(listen_somewhere(ret_endpoint));
}

/* ----------------------------------------------------------------------------- the scripted one */

struct stub {
    char endpoint[32];
    pthread_t thread;
    stub_script script;
    void *context;
    atomic_uint n_requests;
    atomic_bool stopping;
    h2o_globalconf_t config;
    h2o_context_t h2o;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener;
    int accepted[64]; /* Copies of the connections' descriptors, to cut them at the end */
    atomic_size_t n_accepted;
};

struct stub_handler {
    h2o_handler_t super;
    struct stub *stub;
};

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    static h2o_generator_t generator = {NULL, NULL};
    struct stub *stub = ((struct stub_handler *)handler)->stub;
    struct stub_request request = {.number = atomic_fetch_add(&stub->n_requests, 1) + 1,
                                   .version = req->version};
    struct stub_answer answer = {.status = 200};

    snprintf(request.method, sizeof(request.method), "%.*s", (int)req->method.len,
             req->method.base);
    snprintf(request.path, sizeof(request.path), "%.*s", (int)req->path.len, req->path.base);
    ssize_t i = h2o_find_header(&req->headers, H2O_TOKEN_CONTENT_TYPE, -1);
    if (i >= 0)
        snprintf(request.content_type, sizeof(request.content_type), "%.*s",
                 (int)req->headers.entries[i].value.len, req->headers.entries[i].value.base);
    h2o_iovec_t body =
        h2o_strdup(&req->pool, req->entity.base != NULL ? req->entity.base : "", req->entity.len);
    request.body = body.base;
    request.body_len = req->entity.len;
    stub->script(stub->context, &request, &answer);
    req->res.status = answer.status;
    req->res.reason = "-";
    if (answer.header[0] != '\0') {
        h2o_iovec_t name = h2o_strdup(&req->pool, answer.header, SIZE_MAX);
        h2o_iovec_t value = h2o_strdup(&req->pool, answer.header_value, SIZE_MAX);
        h2o_add_header_by_str(&req->pool, &req->res.headers, name.base, name.len, 1, NULL,
                              value.base, value.len);
    }
    size_t length = answer.body == NULL    ? 0
                    : answer.body_len != 0 ? answer.body_len
                                           : strlen(answer.body);
    /* Else HTTP/1.1 ends with the connection, which the copy of its descriptor keeps open. */
    req->res.content_length = length;
    h2o_iovec_t out = h2o_strdup(&req->pool, answer.body != NULL ? answer.body : "", length);
    h2o_start_response(req, &generator);
    h2o_send(req, &out, 1, H2O_SEND_STATE_FINAL);
    return 0;
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct stub *stub = listener->data;
    h2o_socket_t *socket = error == NULL ? h2o_evloop_socket_accept(listener) : NULL;
    if (socket == NULL)
        return;
    size_t i = atomic_load(&stub->n_accepted);
    check(i < sizeof(stub->accepted) / sizeof(stub->accepted[0]), "accepted");
    stub->accepted[i] = fcntl(h2o_socket_get_fd(socket), F_DUPFD_CLOEXEC, 0);
    atomic_store(&stub->n_accepted, i + 1);
    h2o_accept(&stub->accept, socket);
}

size_t stub_connections(struct stub *stub)
{
    return atomic_load(&stub->n_accepted);
}

void stub_cut(struct stub *stub)
{
    for (size_t i = 0; i < stub_connections(stub); i++)
        shutdown(stub->accepted[i], SHUT_RDWR);
}

static void *stub_run(void *context)
{
    struct stub *stub = context;
    while (!atomic_load(&stub->stopping))
        h2o_evloop_run(stub->h2o.loop, 10);
    h2o_socket_close(stub->listener);
    stub_cut(stub);
    for (size_t i = 0; i < stub_connections(stub); i++)
        close(stub->accepted[i]);
    for (int turn = 0; turn < 200 && (!h2o_linklist_is_empty(&stub->h2o.http1._conns) ||
                                      !h2o_linklist_is_empty(&stub->h2o.http2._conns));
         turn++)
        h2o_evloop_run(stub->h2o.loop, 10);
    return NULL;
}

struct stub *stub_start(stub_script script, void *context)
{
    struct stub *stub = calloc(1, sizeof(*stub));
    check(stub != NULL, "calloc");
    int fd = listen_somewhere(stub->endpoint);
    stub->script = script;
    stub->context = context;
    h2o_config_init(&stub->config);
    h2o_hostconf_t *host =
        h2o_config_register_host(&stub->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    struct stub_handler *handler =
        (struct stub_handler *)h2o_create_handler(path, sizeof(*handler));
    handler->super.on_req = on_request;
    handler->stub = stub;
    h2o_context_init(&stub->h2o, h2o_evloop_create(), &stub->config);
    stub->accept.ctx = &stub->h2o;
    stub->accept.hosts = stub->config.hosts;
    stub->listener = h2o_evloop_socket_create(stub->h2o.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    stub->listener->data = stub;
    h2o_socket_read_start(stub->listener, on_accept);
    check(pthread_create(&stub->thread, NULL, stub_run, stub) == 0, "pthread_create");
    return stub;
}

const char *stub_endpoint(const struct stub *stub)
{
    return stub->endpoint;
}

unsigned stub_requests(const struct stub *stub)
{
    return atomic_load(&stub->n_requests);
}

void stub_stop(struct stub *stub)
{
    atomic_store(&stub->stopping, true);
    pthread_join(stub->thread, NULL);
    h2o_context_dispose(&stub->h2o);
    h2o_config_dispose(&stub->config);
    free(stub);
}

/* ---------------------------------------------------------------------------------- the mute one
 */

struct mute {
    char endpoint[32];
    pthread_t thread;
    enum mute_manner manner;
    int fd, stop[2];
    atomic_uint n_connections;
};

static void *mute_run(void *context)
{
    struct mute *mute = context;
    int kept[256];
    size_t n_kept = 0;

    for (;;) {
        struct pollfd fds[2] = {{.fd = mute->fd, .events = POLLIN},
                                {.fd = mute->stop[0], .events = POLLIN}};
        check(poll(fds, 2, -1) > 0, "poll");
        if (fds[1].revents != 0)
            break;
        int fd = accept4(mute->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        atomic_fetch_add(&mute->n_connections, 1);
        char bytes[4096];
        if (mute->manner == MUTE_CLOSES || n_kept == sizeof(kept) / sizeof(kept[0])) {
            if (read(fd, bytes, sizeof(bytes)) < 0)
                perror("read");
            close(fd);
        } else {
            kept[n_kept++] = fd;
        }
    }
    while (n_kept > 0)
        close(kept[--n_kept]);
    return NULL;
}

struct mute *mute_start(enum mute_manner manner)
{
    struct mute *mute = calloc(1, sizeof(*mute));
    check(mute != NULL && pipe(mute->stop) == 0, "pipe");
    mute->manner = manner;
    mute->fd = listen_somewhere(mute->endpoint);
    check(pthread_create(&mute->thread, NULL, mute_run, mute) == 0, "pthread_create");
    return mute;
}

const char *mute_endpoint(const struct mute *mute)
{
    return mute->endpoint;
}

unsigned mute_connections(const struct mute *mute)
{
    return atomic_load(&mute->n_connections);
}

void mute_stop(struct mute *mute)
{
    check(write(mute->stop[1], "", 1) == 1, "write");
    pthread_join(mute->thread, NULL);
    close(mute->fd);
    close(mute->stop[0]);
    close(mute->stop[1]);
    free(mute);
}
