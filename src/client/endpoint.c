/* Addresses and keys as texts. libcurl's URL parser does the judging of hosts and ports. */
#include "client/endpoint.h"

#include "tierkv/client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Writes host:port of a parsed URL. */
static bool authority(CURLU *url, char ret_endpoint[ENDPOINT_BYTES_MAX])
{
    bool good = false;
    char *scheme = NULL, *host = NULL, *port = NULL;

    if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        strcmp(scheme, "http") == 0 && curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        bool has_port = curl_url_get(url, CURLUPART_PORT, &port, 0) == CURLUE_OK;
        int length = snprintf(ret_endpoint, ENDPOINT_BYTES_MAX, "%s:%s", host,
                              has_port ? port : ENDPOINT_PORT);
        good = length > 0 && length < ENDPOINT_BYTES_MAX;
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    return good;
}

/* An endpoint is an address and nothing else: no user, path, query or fragment. */
static bool only_address(CURLU *url)
{
    static const CURLUPart absent[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY,
                                       CURLUPART_FRAGMENT};
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        char *part = NULL;
        bool found = curl_url_get(url, absent[i], &part, 0) == CURLUE_OK;
        curl_free(part);
        if (found)
            return false;
    }
    char *path = NULL;
    bool root = curl_url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK && strcmp(path, "/") == 0;
    curl_free(path);
    return root;
}

static int endpoint_parse(const char *text, size_t length, char ret_endpoint[ENDPOINT_BYTES_MAX])
{
    char address[ENDPOINT_BYTES_MAX + 8];
    const char *scheme = memmem(text, length, "://", 3) == NULL ? "http://" : "";
    if (length == 0 || length >= ENDPOINT_BYTES_MAX ||
        snprintf(address, sizeof(address), "%s%.*s", scheme, (int)length, text) >=
            (int)sizeof(address))
        return TIERKV_INVALID;
    CURLU *url = curl_url();
    if (url == NULL)
        return TIERKV_NO_MEMORY;
    char result[ENDPOINT_BYTES_MAX];
    int status = TIERKV_INVALID;
    if (curl_url_set(url, CURLUPART_URL, address, 0) == CURLUE_OK && only_address(url) &&
        authority(url, result)) {
        memcpy(ret_endpoint, result, sizeof(result));
        status = 0;
    }
    curl_url_cleanup(url);
    return status;
}

int endpoints_parse(const char *list, struct endpoints *ret_endpoints)
{
    struct endpoints endpoints = {.n = 0};
    int status = 0;

    endpoints.texts = calloc(ENDPOINTS_MAX, sizeof(*endpoints.texts));
    if (endpoints.texts == NULL)
        return TIERKV_NO_MEMORY;
    for (const char *next = list; next != NULL && status == 0;) {
        const char *comma = strchr(next, ',');
        const char *item = next;
        size_t length = comma != NULL ? (size_t)(comma - next) : strlen(next);
        while (length > 0 && *item == ' ') {
            item++;
            length--;
        }
        while (length > 0 && item[length - 1] == ' ')
            length--;
        status = endpoints.n < ENDPOINTS_MAX
                     ? endpoint_parse(item, length, endpoints.texts[endpoints.n])
                     : TIERKV_INVALID;
        if (status == 0)
            endpoints.n++;
        next = comma != NULL ? comma + 1 : NULL;
    }
    if (status == 0 && endpoints.n == 0)
        status = TIERKV_INVALID;
    if (status != 0)
        endpoints_free(&endpoints);
    else
        *ret_endpoints = endpoints;
    return status;
}

void endpoints_free(struct endpoints *endpoints)
{
    free(endpoints->texts);
    *endpoints = (struct endpoints){.n = 0};
}

bool endpoint_of_url(const char *text, char ret_endpoint[ENDPOINT_BYTES_MAX])
{
    char result[ENDPOINT_BYTES_MAX];
    CURLU *url = curl_url();
    bool good = url != NULL &&
                curl_url_set(url, CURLUPART_URL, text, CURLU_PATH_AS_IS) == CURLUE_OK &&
                authority(url, result);
    if (good)
        memcpy(ret_endpoint, result, sizeof(result));
    curl_url_cleanup(url);
    return good;
}

static bool stands_for_itself(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || (byte != 0 && strchr("-._~/", byte) != NULL);
}

char *endpoint_key_target(const void *key, size_t key_len, const char *query)
{
    static const char hex[] = "0123456789ABCDEF";
    static const char prefix[] = "/key/";
    const unsigned char *bytes = key;
    size_t query_len = strlen(query);

    char *target = malloc(sizeof(prefix) + 3 * key_len + query_len);
    if (target == NULL)
        return NULL;
    memcpy(target, prefix, sizeof(prefix) - 1);
    char *out = target + sizeof(prefix) - 1;
    for (size_t i = 0; i < key_len; i++) {
        if (stands_for_itself(bytes[i])) {
            *out++ = (char)bytes[i];
        } else {
            *out++ = '%';
            *out++ = hex[bytes[i] >> 4];
            *out++ = hex[bytes[i] & 15];
        }
    }
    memcpy(out, query, query_len + 1);
    return target;
}
