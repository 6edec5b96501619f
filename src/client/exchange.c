/* One request, one answer, over HTTP/2 without TLS (prior knowledge); those with a large body over
 * HTTP/1.1.
 *
 * libcurl keeps the connections and chooses one that is open. When a kept connection turns out to
 * be dead it repeats the request by itself on a new one; `sent` therefore comes from its "about to
 * send" callback and not from how the last try ended. Runs on the client's thread; blocks.
 */
#include "client/exchange.h"

#include "tierkv/client.h"

#include <assert.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A body that is larger is sent by HTTP/1.1: should it be far above the server's limit, the server
 * answers 413 there before the end, whereas libh2o's HTTP/2 can then only reset the stream, which
 * looks like a failure that repeating may cure and leaves the outcome open. */
#define HTTP2_BODY_BYTES_MAX ((size_t)1 << 20)

/* libcurl knows its own time limits; this is for whatever it may not. */
#define POLL_MS_MAX 1000

struct exchange {
    CURL *curl;
    CURLM *multi; /* Has the connections, and can be woken by another thread */
    _Atomic bool cancelled;
    bool reuse_broken; /* libcurl before 8.0; see version_and_reuse */
    /* Whose HTTP/2 connection was left in order last; empty: nobody's */
    char kept[ENDPOINT_BYTES_MAX];
};

/* What the callbacks fill while a request runs. */
struct reception {
    char *body;
    size_t length, capacity;
    bool no_memory, too_long, sent;
};

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_status;

static void global_open(void)
{
    global_status = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int exchange_open(struct exchange **ret_exchange)
{
    pthread_once(&global_once, global_open);
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    if (exchange == NULL)
        return TIERKV_NO_MEMORY;
    exchange->curl = global_status == CURLE_OK ? curl_easy_init() : NULL;
    exchange->multi = global_status == CURLE_OK ? curl_multi_init() : NULL;
    if (exchange->curl == NULL || exchange->multi == NULL) {
        exchange_close(exchange);
        return TIERKV_NO_MEMORY;
    }
    exchange->reuse_broken = curl_version_info(CURLVERSION_NOW)->version_num < 0x080000;
    *ret_exchange = exchange;
    return 0;
}

void exchange_close(struct exchange *exchange)
{
    if (exchange == NULL)
        return;
    curl_easy_cleanup(exchange->curl);
    curl_multi_cleanup(exchange->multi);
    free(exchange);
}

void exchange_cancel(struct exchange *exchange)
{
    atomic_store(&exchange->cancelled, true);
    curl_multi_wakeup(exchange->multi); /* The one call of libcurl that any thread may make */
}

bool exchange_cancelled(const struct exchange *exchange)
{
    return atomic_load(&exchange->cancelled);
}

static int on_sending(void *context, char *to, char *from, int to_port, int from_port)
{
    struct reception *reception = context;
    (void)to;
    (void)from;
    (void)to_port;
    (void)from_port;
    reception->sent = true;
    return CURL_PREREQFUNC_OK;
}

static size_t on_body(char *bytes, size_t unit, size_t count, void *context)
{
    struct reception *reception = context;
    size_t length = unit * count;

    if (length > EXCHANGE_BODY_BYTES_MAX - reception->length) {
        reception->too_long = true;
        return CURL_WRITEFUNC_ERROR;
    }
    size_t needed = reception->length + length + 1;
    if (needed > reception->capacity) {
        size_t capacity = reception->capacity < 1024 ? 1024 : reception->capacity;
        while (capacity < needed)
            capacity *= 2;
        char *body = realloc(reception->body, capacity);
        if (body == NULL) {
            reception->no_memory = true;
            return CURL_WRITEFUNC_ERROR;
        }
        reception->body = body;
        reception->capacity = capacity;
    }
    if (length > 0)
        memcpy(reception->body + reception->length, bytes, length);
    reception->length += length;
    reception->body[reception->length] = '\0';
    return length;
}

/* Translates libcurl's result; the only place that knows its codes. */
static enum exchange_failure translate(CURLcode code, const struct reception *reception)
{
    if (reception->no_memory)
        return EXCHANGE_NO_MEMORY;
    if (reception->too_long)
        return EXCHANGE_PROTOCOL;
    switch (code) {
    case CURLE_OK:
        return EXCHANGE_ANSWERED;
    case CURLE_OPERATION_TIMEDOUT:
        return EXCHANGE_TIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        return EXCHANGE_NO_MEMORY;
    case CURLE_ABORTED_BY_CALLBACK:
        return EXCHANGE_CANCELLED;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
        return EXCHANGE_PROTOCOL;
    default:
        return EXCHANGE_UNREACHABLE;
    }
}

static const char *header_value(CURL *curl, const char *name)
{
    struct curl_header *header = NULL;
    if (curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return NULL;
    return header->value;
}

static void read_headers(CURL *curl, struct exchange_answer *answer)
{
    const char *etag = header_value(curl, "ETag");
    if (etag != NULL) {
        if (strncmp(etag, "W/", 2) == 0)
            etag += 2;
        if (*etag == '"')
            etag++;
        answer->etag = strtoull(etag, NULL, 10);
    }
    const char *retry_after = header_value(curl, "Retry-After");
    if (retry_after != NULL) {
        unsigned long seconds = strtoul(retry_after, NULL, 10);
        answer->retry_after_ms = seconds < 3600 ? seconds * 1000 : 3600000;
    }
    const char *location = header_value(curl, "Location");
    if (location != NULL)
        endpoint_of_url(location, answer->redirect);
}

/* libcurl 7.88 fails when prior knowledge of HTTP/2 meets a connection that it kept. There, a kept
 * connection is asked for by HTTP/2's other name, which finds it in order; should it have died
 * meanwhile, the new one begins with HTTP/1.1's upgrade. A connection that is not known to be in
 * order is never reused. */
static bool version_and_reuse(struct exchange *exchange, const struct exchange_request *request)
{
    /* A connection of its own: those that are kept speak HTTP/2. */
    if (request->body_len > HTTP2_BODY_BYTES_MAX)
        return curl_easy_setopt(exchange->curl, CURLOPT_HTTP_VERSION,
                                (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
               curl_easy_setopt(exchange->curl, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK &&
               curl_easy_setopt(exchange->curl, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK;
    bool kept = strcmp(exchange->kept, request->endpoint) == 0;
    long version = kept && exchange->reuse_broken ? CURL_HTTP_VERSION_2_0
                                                  : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
    return curl_easy_setopt(exchange->curl, CURLOPT_HTTP_VERSION, version) == CURLE_OK &&
           curl_easy_setopt(exchange->curl, CURLOPT_FRESH_CONNECT, kept ? 0L : 1L) == CURLE_OK;
}

/* Sets everything that depends on the request. False: out of memory. */
static bool prepare(struct exchange *exchange, const struct exchange_request *request,
                    const char *url, struct curl_slist *headers, struct reception *reception)
{
    CURL *curl = exchange->curl;
    bool good = true;

    curl_easy_reset(curl); /* Connections stay */
    good &= curl_easy_setopt(curl, CURLOPT_URL, url) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
    good &= version_and_reuse(exchange, request);
    good &= curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_NOPROXY, "*") == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)request->connect_timeout_ms) ==
            CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_WRITEDATA, reception) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, on_sending) == CURLE_OK;
    good &= curl_easy_setopt(curl, CURLOPT_PREREQDATA, reception) == CURLE_OK;
    if (request->body != NULL) {
        good &= curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                                 (curl_off_t)request->body_len) == CURLE_OK;
        good &= curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body) == CURLE_OK;
    }
    return good;
}

static struct curl_slist *make_headers(const struct exchange_request *request)
{
    char line[128];
    /* Without the first line libcurl would ask before sending a long body. */
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    if (headers == NULL || request->body == NULL)
        return headers;
    snprintf(line, sizeof(line), "Content-Type: %s", request->content_type);
    struct curl_slist *longer = curl_slist_append(headers, line);
    if (longer == NULL)
        curl_slist_free_all(headers);
    return longer;
}

/* As curl_easy_perform, but that exchange_cancel ends it. */
static CURLcode perform(struct exchange *exchange)
{
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    CURLMcode status = curl_multi_add_handle(exchange->multi, exchange->curl);
    int running = 1;

    while (status == CURLM_OK && !exchange_cancelled(exchange)) {
        status = curl_multi_perform(exchange->multi, &running);
        if (status != CURLM_OK || running == 0)
            break;
        status = curl_multi_poll(exchange->multi, NULL, 0, POLL_MS_MAX, NULL);
    }
    if (status != CURLM_OK)
        code = CURLE_OUT_OF_MEMORY;
    else if (running == 0) {
        int left;
        const CURLMsg *message = curl_multi_info_read(exchange->multi, &left);
        code = message != NULL ? message->data.result : CURLE_OUT_OF_MEMORY;
    }
    curl_multi_remove_handle(exchange->multi, exchange->curl);
    return code;
}

void exchange_run(struct exchange *exchange, const struct exchange_request *request,
                  struct exchange_answer *ret_answer)
{
    struct reception reception = {.body = NULL};
    struct exchange_answer answer = {.failure = EXCHANGE_NO_MEMORY, .cause = "out of memory"};
    struct curl_slist *headers = make_headers(request);
    char *url = NULL;

    assert(request->timeout_ms > 0);
    if (headers == NULL || asprintf(&url, "http://%s%s", request->endpoint, request->target) < 0) {
        url = NULL;
        goto out;
    }
    if (!prepare(exchange, request, url, headers, &reception))
        goto out;
    CURLcode code = perform(exchange);
    answer.failure = translate(code, &reception);
    answer.cause = answer.failure == EXCHANGE_NO_MEMORY ? "out of memory"
                   : reception.too_long                 ? "the answer is too long"
                                                        : curl_easy_strerror(code);
    if (request->body_len <= HTTP2_BODY_BYTES_MAX)
        snprintf(exchange->kept, sizeof(exchange->kept), "%s",
                 answer.failure == EXCHANGE_ANSWERED ? request->endpoint : "");
    if (answer.failure == EXCHANGE_ANSWERED) {
        curl_easy_getinfo(exchange->curl, CURLINFO_RESPONSE_CODE, &answer.status);
        read_headers(exchange->curl, &answer);
        answer.body = reception.body;
        answer.body_len = reception.length;
        reception.body = NULL;
    }
out:
    answer.sent = reception.sent;
    free(reception.body);
    free(url);
    curl_slist_free_all(headers);
    *ret_answer = answer;
}

void exchange_answer_free(struct exchange_answer *answer)
{
    free(answer->body);
    answer->body = NULL;
}
