/* Requests of tests. Nothing is kept between two of them, so that each shows what a new client
 * would see. */
#include "lib/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

uint64_t test_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void test_sleep_ms(uint64_t ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

static void *must(void *pointer)
{
    if (pointer == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return pointer;
}

static size_t on_body(char *bytes, size_t unit, size_t count, void *context)
{
    struct http_answer *answer = context;
    size_t length = unit * count;
    answer->body = must(realloc(answer->body, answer->body_len + length + 1));
    memcpy(answer->body + answer->body_len, bytes, length);
    answer->body_len += length;
    answer->body[answer->body_len] = '\0';
    return length;
}

static size_t on_header(char *bytes, size_t unit, size_t count, void *context)
{
    struct http_answer *answer = context;
    size_t length = unit * count, have = strlen(answer->headers);
    if (length > 5 && memcmp(bytes, "HTTP/", 5) == 0)
        have = 0; /* A further answer: after a redirect or an upgrade */
    if (length < sizeof(answer->headers) - have) {
        memcpy(answer->headers + have, bytes, length);
        answer->headers[have + length] = '\0';
    }
    return length;
}

void http_run(const struct http_request *request, struct http_answer *ret_answer)
{
    static const long versions[] = {
        [HTTP_1_1] = CURL_HTTP_VERSION_1_1,
        [HTTP_2] = CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,
        [HTTP_2_UPGRADE] = CURL_HTTP_VERSION_2_0,
    };
    char url[4096];
    struct curl_slist *headers = must(curl_slist_append(NULL, "Expect:"));
    CURL *curl = must(curl_easy_init());

    *ret_answer = (struct http_answer){.body = must(calloc(1, 1))};
    snprintf(url, sizeof(url), "http://%s%s", request->address, request->path);
    for (size_t i = 0; i < 4 && request->headers[i] != NULL; i++)
        headers = must(curl_slist_append(headers, request->headers[i]));
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, versions[request->version]);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
                     (long)(request->timeout_ms != 0 ? request->timeout_ms : 20000));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, ret_answer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, ret_answer);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, request->follow ? 1L : 0L);
    if (request->body != NULL) {
        size_t length = request->body_len != 0 ? request->body_len : strlen(request->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
    }
    if (request->method != NULL && strcmp(request->method, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    else if (request->method != NULL)
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    ret_answer->failure = (int)curl_easy_perform(curl);
    if (ret_answer->failure == 0) {
        long version = 0;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret_answer->status);
        curl_easy_getinfo(curl, CURLINFO_HTTP_VERSION, &version);
        ret_answer->version = version == CURL_HTTP_VERSION_2_0 ? 2 : 1;
    }
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
}

void http_free(struct http_answer *answer)
{
    free(answer->body);
    answer->body = NULL;
}

const char *http_header(const struct http_answer *answer, const char *name)
{
    static _Thread_local char value[1024];
    size_t length = strlen(name);

    for (const char *line = answer->headers; line != NULL && *line != '\0';) {
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            const char *begin = line + length + 1 + strspn(line + length + 1, " ");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(begin, "\r\n"), begin);
            return value;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return NULL;
}

long http_get_status(const char *address, const char *path)
{
    struct http_answer answer;
    http_run(&(struct http_request){.address = address, .path = path, .timeout_ms = 2000}, &answer);
    http_free(&answer);
    return answer.status;
}
