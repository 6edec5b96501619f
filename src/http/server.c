/* See server.h. Sets up what the loops share, and starts and stops them. */
#include "http/cluster_endpoint.h"
#include "http/framing.h"
#include "http/key_endpoint.h"
#include "http/library_errors.h"
#include "http/loop.h"
#include "http/respond.h"
#include "http/status_endpoint.h"
#include "http/tiers_endpoint.h"

#include "address.h"
#include "metrics.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024

/* ---- Routing ---- */

struct route {
    const char *path;
    const char *allow; /* Methods, for the Allow header */
    void (*endpoint)(h2o_req_t *req, struct loop *loop);
};

static const struct route routes[] = {
    {"/join", "POST", join_endpoint},
    {"/members", "GET, HEAD", members_endpoint},
    {"/status", "GET, HEAD", status_endpoint},
    {"/metrics", "GET, HEAD", metrics_endpoint},
    {"/livez", "GET, HEAD", livez_endpoint},
    {"/readyz", "GET, HEAD", readyz_endpoint},
    {"/transfer", "POST", transfer_endpoint},
    {"/tiers", "GET, HEAD", tiers_endpoint},
    {"/tiers/curve", "GET, HEAD", tiers_curve_endpoint},
    {"/tiers/cost", "GET, HEAD", tiers_cost_endpoint},
};

static void count_method(const h2o_req_t *req)
{
    static const struct {
        const char *name;
        enum metrics_counter counter;
    } methods[] = {{"GET", METRIC_REQUESTS_GET},
                   {"PUT", METRIC_REQUESTS_PUT},
                   {"POST", METRIC_REQUESTS_POST},
                   {"DELETE", METRIC_REQUESTS_DELETE}};

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (h2o_memis(req->method.base, req->method.len, methods[i].name,
                      strlen(methods[i].name))) {
            metrics_add(methods[i].counter, 1);
            return;
        }
    }
    metrics_add(METRIC_REQUESTS_OTHER, 1);
}

/* Methods are case-sensitive, so that h2o_contains_token is of no use. */
static bool method_allowed(const h2o_req_t *req, const char *allow)
{
    while (*allow != '\0') {
        size_t length = strcspn(allow, ",");

        if (h2o_memis(req->method.base, req->method.len, allow, length))
            return true;
        allow += length;
        allow += strspn(allow, ", ");
    }
    return false;
}

/* A target in absolute form, as proxies are sent it: http://host/path. The path is what counts. */
static void to_origin_form(h2o_req_t *req)
{
    const char *base = req->path.base, *authority, *end = base + req->path.len;
    size_t scheme_len = req->path.len >= 7 && h2o_lcstris(base, 7, H2O_STRLIT("http://"))    ? 7
                        : req->path.len >= 8 && h2o_lcstris(base, 8, H2O_STRLIT("https://")) ? 8
                                                                                             : 0;
    const char *path;

    if (scheme_len == 0)
        return;
    authority = base + scheme_len;
    path = memchr(authority, '/', (size_t)(end - authority));
    if (path == NULL)
        return;
    if (req->query_at != SIZE_MAX) {
        if (req->query_at < (size_t)(path - base))
            return;
        req->query_at -= (size_t)(path - base);
    }
    req->path = req->input.path = h2o_iovec_init(path, (size_t)(end - path));
}

/* Of a body over HTTP/1 the head still stands at the start of what was received. */
static bool end_is_certain(const h2o_req_t *req)
{
    const h2o_socket_t *socket;

    if (req->version >= 0x200 || req->entity.base == NULL)
        return true;
    socket = req->conn->callbacks->get_socket(req->conn);
    return framing_is_plain(socket->input->bytes, socket->input->size);
}

/* The path is taken as it was sent: dots and double slashes are bytes of a key like others. */
static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, context, req->conn->ctx);
    const char *path;
    size_t length;

    (void)handler;
    count_method(req);
    if (!end_is_certain(req)) {
        req->http1_is_persistent = 0;
        respond_error(req, loop, 400, "bad_request",
                      "the request tells the length of its body more than once",
                      OUTCOME_NOT_APPLIED);
        return 0;
    }
    if (req->path.len == 0 || req->path.base[0] != '/')
        to_origin_form(req);
    path = req->path.base;
    length = req->query_at == SIZE_MAX ? req->path.len : req->query_at;
    if (length >= 4 && memcmp(path, "/key", 4) == 0 && (length == 4 || path[4] == '/')) {
        key_endpoint(req, loop, path + 4, length - 4);
        return 0;
    }
    if (length > 9 && memcmp(path, "/members/", 9) == 0) {
        member_endpoint(req, loop, path + 9, length - 9);
        return 0;
    }
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!h2o_memis(path, length, routes[i].path, strlen(routes[i].path)))
            continue;
        if (method_allowed(req, routes[i].allow))
            routes[i].endpoint(req, loop);
        else
            respond_not_allowed(req, loop, routes[i].allow);
        return 0;
    }
    respond_error(req, loop, 404, "no_such_path", "there is nothing at this path", OUTCOME_NONE);
    return 0;
}

/* ---- Listening ---- */

static int listen_on(const struct addrinfo *address, uint16_t port)
{
    struct sockaddr_storage name;
    int on = 1, error;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    memcpy(&name, address->ai_addr, address->ai_addrlen);
    if (name.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&name)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&name)->sin_port = htons(port);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&name, address->ai_addrlen) == 0 &&
        listen(fd, LISTEN_BACKLOG) == 0)
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

static uint16_t port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {.v6 = {0}};
    socklen_t length = sizeof name;

    if (getsockname(fd, &name.any, &length) != 0)
        return 0;
    return ntohs(name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port);
}

static struct addrinfo *resolve(const char *listen, char *error_text, size_t error_text_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    struct address parsed;
    char port[8];
    int rv;

    if (!address_parse(listen, &parsed)) {
        snprintf(error_text, error_text_size, "http_listen %s: not HOST:PORT", listen);
        return NULL;
    }
    snprintf(port, sizeof port, "%u", parsed.port);
    rv = getaddrinfo(parsed.host, port, &hints, &found);
    if (rv != 0)
        snprintf(error_text, error_text_size, "http_listen %s: %s", listen, gai_strerror(rv));
    return rv == 0 ? found : NULL;
}

static uint16_t port_wanted(const struct addrinfo *address)
{
    return ntohs(address->ai_family == AF_INET6
                     ? ((struct sockaddr_in6 *)address->ai_addr)->sin6_port
                     : ((struct sockaddr_in *)address->ai_addr)->sin_port);
}

static int open_loops(struct http_server *server, char *error_text, size_t error_text_size)
{
    struct addrinfo *found = resolve(server->options.listen, error_text, error_text_size);
    const struct addrinfo *address = found;
    int rv = -1;

    if (address == NULL)
        return -1;
    server->port = port_wanted(address);
    while (server->n_loops < server->options.loops) {
        int fd = listen_on(address, server->port);
        /* A name may stand for addresses that this machine does not have. */
        if (fd < 0 && errno == EADDRNOTAVAIL && server->n_loops == 0 && address->ai_next != NULL) {
            address = address->ai_next;
            continue;
        }
        if (fd < 0) {
            snprintf(error_text, error_text_size, "http_listen %s: %s", server->options.listen,
                     strerror(errno));
            goto out;
        }
        server->port = port_of(fd);
        if (loop_open(&server->loops[server->n_loops], server, fd, error_text, error_text_size) !=
            0)
            goto out;
        server->n_loops++;
    }
    rv = 0;
out:
    freeaddrinfo(found);
    return rv;
}

/* ---- Start and stop ---- */

static void configure(struct http_server *server)
{
    const struct http_server_options *options = &server->options;
    h2o_globalconf_t *config = &server->config;
    size_t body_max = options->max_body_bytes > options->max_value_bytes ? options->max_body_bytes
                                                                         : options->max_value_bytes;
    h2o_hostconf_t *host;
    h2o_handler_t *handler;

    h2o_config_init(config);
    config->server_name = h2o_iovec_init(H2O_STRLIT("tierkv"));
    /* What is over an endpoint's limit but below this gets its own 413; beyond it libh2o refuses:
     * by 413 in HTTP/1, by resetting the stream in HTTP/2, without buffering more. */
    config->max_request_entity_size = 2 * body_max + 65536;
    config->http1.req_timeout = options->idle_timeout_ms;
    config->http2.idle_timeout = options->idle_timeout_ms;
    config->http2.max_concurrent_requests_per_connection = 1024;
    host = h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    handler = h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof *handler);
    handler->on_req = on_request;
    library_errors_as_json(&host->fallback_path);
}

static void ask_to_stop(struct http_server *server, uint32_t drain_ms)
{
    for (size_t i = 0; i < server->n_loops; i++) {
        atomic_store(&server->loops[i].drain_until, loop_now_ms() + drain_ms);
        atomic_store(&server->loops[i].stopping, true);
        inbox_wake(server->loops[i].inbox);
    }
    for (size_t i = 0; i < server->n_loops; i++)
        if (server->loops[i].thread_started)
            pthread_join(server->loops[i].thread, NULL);
}

int http_server_start(const struct http_server_options *options, struct http_server **ret_server,
                      char *error_text, size_t error_text_size)
{
    struct http_server *server = calloc(1, sizeof *server);

    if (server == NULL) {
        snprintf(error_text, error_text_size, "out of memory");
        return -1;
    }
    server->options = *options;
    server->options.listen = strdup(options->listen);
    server->options.name = strdup(options->name);
    server->loops = aligned_alloc(64, (options->loops * sizeof(struct loop) + 63) / 64 * 64);
    server->started_ms = loop_now_ms();
    configure(server);
    if (server->loops == NULL || server->options.listen == NULL || server->options.name == NULL) {
        snprintf(error_text, error_text_size, "out of memory");
        goto fail;
    }
    if (open_loops(server, error_text, error_text_size) != 0)
        goto fail;
    for (size_t i = 0; i < server->n_loops; i++) {
        if (loop_start(&server->loops[i]) != 0) {
            snprintf(error_text, error_text_size, "thread: %s", strerror(errno));
            goto fail;
        }
    }
    *ret_server = server;
    return 0;
fail:
    http_server_stop(server, 0);
    http_server_free(server);
    return -1;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_stop(struct http_server *server, uint32_t drain_ms)
{
    ask_to_stop(server, drain_ms);
    for (size_t i = 0; i < server->n_loops; i++)
        loop_close(&server->loops[i]);
}

void http_server_free(struct http_server *server)
{
    if (server == NULL)
        return;
    for (size_t i = 0; i < server->n_loops; i++)
        loop_free(&server->loops[i]);
    h2o_config_dispose(&server->config);
    free(server->loops);
    free((char *)(uintptr_t)server->options.listen);
    free((char *)(uintptr_t)server->options.name);
    free(server);
}
