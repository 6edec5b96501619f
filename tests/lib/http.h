/* One HTTP request of a test and its answer, over libcurl, on a connection of its own. */
#ifndef TIERKV_TESTS_HTTP_H
#define TIERKV_TESTS_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http_version { HTTP_1_1, HTTP_2, HTTP_2_UPGRADE };

struct http_request {
    const char *method;  /* NULL: GET */
    const char *address; /* host:port */
    const char *path;    /* With the query, sent as it is */
    const void *body;    /* NULL: none */
    size_t body_len;     /* 0: its length as a text */
    const char *headers[4];
    enum http_version version;
    bool follow;         /* Redirects, as curl -L does */
    uint32_t timeout_ms; /* 0: 20000 */
};

struct http_answer {
    int failure;  /* 0, or libcurl's code: no answer came */
    long status;  /* 0: no answer */
    long version; /* Of the answer: 1 or 2 */
    char *body;   /* NUL-terminated */
    size_t body_len;
    char headers[8192]; /* Of the last answer, one a line */
};

/* http_free the answer. Any thread. */
void http_run(const struct http_request *request, struct http_answer *ret_answer);
void http_free(struct http_answer *answer);
/* The value of a header, without blanks around it; NULL: absent. Valid until the next call in this
 * thread. */
const char *http_header(const struct http_answer *answer, const char *name);

/* Shorthand: GET address/path; the status, 0 without an answer. */
long http_get_status(const char *address, const char *path);

uint64_t test_now_ms(void);
void test_sleep_ms(uint64_t ms);

#endif
