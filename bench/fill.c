/* Fills a store with distinct keys, for the benchmarks of memory and restart: the same data into
 * TierKV (POST /key) or into etcd (gRPC Txn), several keys to a request, several requests in
 * flight.
 *
 * Happy path: every slot (one curl handle and its buffers) sends the next batch as soon as its last
 * one was answered; the program ends when all batches were. Any answer but success ends it with 1:
 * a benchmark on half the data would be worth nothing. Single-threaded. */
#include <curl/curl.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES     15  /* "fill-" and ten digits */
#define BATCH_MAX     128 /* etcd takes no more operations in one transaction */
#define IN_FLIGHT_MAX 256
#define VALUE_MAX     65536

struct fill {
    bool etcd;
    const char *endpoint;
    uint64_t keys;
    uint64_t value_bytes;
    uint64_t batch;
    uint64_t in_flight;
    uint64_t next;   /* Key to be sent next */
    uint64_t random; /* State of the generator of values */
    CURLM *multi;
    struct curl_slist *headers;
};

struct slot {
    CURL *easy;
    char *body;
    size_t body_bytes;
    bool grpc_ok;
};

static unsigned char *put_varint(unsigned char *out, uint64_t value)
{
    for (; value >= 128; value >>= 7)
        *out++ = (unsigned char)(value | 128);
    *out++ = (unsigned char)value;
    return out;
}

static size_t varint_bytes(uint64_t value)
{
    size_t bytes = 1;

    for (; value >= 128; value >>= 7)
        bytes++;
    return bytes;
}

/* Printable and not repetitive: neither JSON escapes nor a compressor change its size by much. */
static void value_write(struct fill *fill, unsigned char *out)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (uint64_t i = 0; i < fill->value_bytes; i++) {
        fill->random ^= fill->random << 13;
        fill->random ^= fill->random >> 7;
        fill->random ^= fill->random << 17;
        out[i] = (unsigned char)letters[fill->random >> 58];
    }
}

/* {"key":"value",…} */
static size_t body_json(struct fill *fill, char *body, uint64_t first, uint64_t n)
{
    char *out = body;

    for (uint64_t i = 0; i < n; i++) {
        out += sprintf(out, "%c\"fill-%010" PRIu64 "\":\"", i == 0 ? '{' : ',', first + i);
        value_write(fill, (unsigned char *)out);
        out += fill->value_bytes;
        *out++ = '"';
    }
    *out++ = '}';
    return (size_t)(out - body);
}

/* One gRPC message: TxnRequest{success: [RequestOp{request_put: PutRequest{key, value}}, …]}. */
static size_t body_grpc(struct fill *fill, char *body, uint64_t first, uint64_t n)
{
    const size_t frame_bytes = 5;
    unsigned char *out = (unsigned char *)body + frame_bytes;
    uint64_t put_bytes = 2 + KEY_BYTES + 1 + varint_bytes(fill->value_bytes) + fill->value_bytes;
    uint64_t operation_bytes = 1 + varint_bytes(put_bytes) + put_bytes;

    for (uint64_t i = 0; i < n; i++) {
        char key[KEY_BYTES + 1];
        snprintf(key, sizeof(key), "fill-%010" PRIu64, first + i);
        *out++ = 0x12; /* success */
        out = put_varint(out, operation_bytes);
        *out++ = 0x12; /* request_put */
        out = put_varint(out, put_bytes);
        *out++ = 0x0a; /* key */
        out = put_varint(out, KEY_BYTES);
        memcpy(out, key, KEY_BYTES);
        out += KEY_BYTES;
        *out++ = 0x12; /* value */
        out = put_varint(out, fill->value_bytes);
        value_write(fill, out);
        out += fill->value_bytes;
    }
    size_t message_bytes = (size_t)(out - (unsigned char *)body) - frame_bytes;
    body[0] = 0; /* Not compressed */
    for (int i = 0; i < 4; i++)
        body[1 + i] = (char)(unsigned char)(message_bytes >> (24 - 8 * i));
    return frame_bytes + message_bytes;
}

static size_t on_body(char *data, size_t size, size_t n, void *context)
{
    (void)data;
    (void)context;
    return size * n;
}

/* gRPC says how it went in a trailer, which curl hands over like a header. */
static size_t on_header(char *data, size_t size, size_t n, void *context)
{
    struct slot *slot = context;
    static const char success[] = "grpc-status: 0";

    if (size * n >= sizeof(success) - 1 && strncasecmp(data, success, sizeof(success) - 1) == 0)
        slot->grpc_ok = true;
    return size * n;
}

/* Sends the slot's next batch; false when all keys are under way. */
static bool slot_send(struct fill *fill, struct slot *slot)
{
    uint64_t n = fill->keys - fill->next;

    if (n == 0)
        return false;
    if (n > fill->batch)
        n = fill->batch;
    slot->body_bytes = fill->etcd ? body_grpc(fill, slot->body, fill->next, n)
                                  : body_json(fill, slot->body, fill->next, n);
    fill->next += n;
    slot->grpc_ok = false;
    curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, slot->body);
    curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)slot->body_bytes);
    return curl_multi_add_handle(fill->multi, slot->easy) == CURLM_OK;
}

static int slot_open(struct fill *fill, struct slot *slot)
{
    char url[512];

    snprintf(url, sizeof(url), "http://%s%s", fill->endpoint,
             fill->etcd ? "/etcdserverpb.KV/Txn" : "/key");
    slot->easy = curl_easy_init();
    slot->body = malloc(16 + fill->batch * (fill->value_bytes + 64));
    if (slot->easy == NULL || slot->body == NULL)
        return -1;
    curl_easy_setopt(slot->easy, CURLOPT_URL, url);
    /* gRPC needs HTTP/2, of which libcurl before 8.0 cannot use a connection twice. */
    curl_easy_setopt(slot->easy, CURLOPT_HTTP_VERSION,
                     fill->etcd ? (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
                                : (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, fill->headers);
    curl_easy_setopt(slot->easy, CURLOPT_FORBID_REUSE, fill->etcd ? 1L : 0L);
    curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(slot->easy, CURLOPT_TIMEOUT, 120L);
    curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(slot->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(slot->easy, CURLOPT_HEADERDATA, slot);
    curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
    return 0;
}

static void slot_close(struct slot *slot)
{
    curl_easy_cleanup(slot->easy);
    free(slot->body);
}

/* True when the store has taken the batch. */
static bool slot_succeeded(const struct fill *fill, const struct slot *slot, CURLcode result)
{
    long status = 0;

    curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
    if (result == CURLE_OK && status == 200 && (!fill->etcd || slot->grpc_ok))
        return true;
    fprintf(stderr, "fill: a request failed: %s, status %ld\n", curl_easy_strerror(result), status);
    return false;
}

/* Takes what was answered and sends the next batches. */
static int fill_collect(struct fill *fill, uint64_t *waiting)
{
    struct CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(fill->multi, &left)) != NULL) {
        CURLcode result = message->data.result;
        CURL *easy = message->easy_handle;
        struct slot *slot = NULL;

        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &slot);
        curl_multi_remove_handle(fill->multi, easy);
        (*waiting)--;
        if (!slot_succeeded(fill, slot, result))
            return -1;
        *waiting += slot_send(fill, slot);
    }
    return 0;
}

/* Runs until every batch was answered. */
static int fill_run(struct fill *fill, struct slot *slots)
{
    uint64_t waiting = 0;

    for (uint64_t i = 0; i < fill->in_flight; i++)
        waiting += slot_send(fill, &slots[i]);
    while (waiting > 0) {
        int running;

        if (curl_multi_perform(fill->multi, &running) != CURLM_OK ||
            fill_collect(fill, &waiting) != 0)
            return -1;
        /* A request just sent has its first step in perform, so the poll returns at once. */
        if (curl_multi_poll(fill->multi, NULL, 0, 1000, NULL) != CURLM_OK)
            return -1;
    }
    return fill->next == fill->keys ? 0 : -1;
}

static void usage(FILE *out)
{
    fputs("usage: fill --endpoint HOST:PORT [--etcd] [--keys N] [--value-bytes N] [--batch N]\n"
          "            [--in-flight N]\n"
          "Writes N distinct keys (fill-0000000000 …) into TierKV, or into etcd.\n",
          out);
}

/* True when text is a whole number in [1, most]. */
static bool number(const char *text, uint64_t most, uint64_t *ret_value)
{
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || value == 0 || value > most)
        return false;
    *ret_value = value;
    return true;
}

/* 0 to go on, 1 when help was asked for, -1 for a mistake. */
static int arguments(struct fill *fill, int argc, char **argv)
{
    static const struct option options[] = {
        {"endpoint", required_argument, NULL, 'e'}, {"etcd", no_argument, NULL, 'E'},
        {"keys", required_argument, NULL, 'k'},     {"value-bytes", required_argument, NULL, 'v'},
        {"batch", required_argument, NULL, 'b'},    {"in-flight", required_argument, NULL, 'i'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
    bool fine = true;

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'h':
            return 1;
        case 'e':
            fill->endpoint = optarg;
            break;
        case 'E':
            fill->etcd = true;
            break;
        case 'k':
            fine &= number(optarg, 9999999999, &fill->keys);
            break;
        case 'v':
            fine &= number(optarg, VALUE_MAX, &fill->value_bytes);
            break;
        case 'b':
            fine &= number(optarg, BATCH_MAX, &fill->batch);
            break;
        case 'i':
            fine &= number(optarg, IN_FLIGHT_MAX, &fill->in_flight);
            break;
        default:
            fine = false;
        }
    }
    return fine && fill->endpoint != NULL && optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
    static struct slot slots[IN_FLIGHT_MAX];
    struct fill fill = {.keys = 1000,
                        .value_bytes = 1024,
                        .batch = 64,
                        .in_flight = 8,
                        .random = 88172645463325252};
    int result = arguments(&fill, argc, argv);

    if (result != 0) {
        usage(result > 0 ? stdout : stderr);
        return result > 0 ? 0 : 2;
    }
    result = -1;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        goto out;
    fill.multi = curl_multi_init();
    fill.headers = curl_slist_append(NULL, fill.etcd ? "content-type: application/grpc"
                                                     : "content-type: application/json");
    if (fill.multi == NULL || fill.headers == NULL ||
        (fill.etcd && curl_slist_append(fill.headers, "te: trailers") == NULL))
        goto out;
    curl_multi_setopt(fill.multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    for (uint64_t i = 0; i < fill.in_flight; i++) {
        if (slot_open(&fill, &slots[i]) != 0)
            goto out;
    }
    result = fill_run(&fill, slots);
    if (result == 0)
        printf("%" PRIu64 " keys of %" PRIu64 " bytes\n", fill.keys, fill.value_bytes);

out:
    if (result != 0)
        fprintf(stderr, "fill: stopped after %" PRIu64 " of %" PRIu64 " keys\n", fill.next,
                fill.keys);
    for (uint64_t i = 0; i < fill.in_flight; i++)
        slot_close(&slots[i]);
    curl_slist_free_all(fill.headers);
    curl_multi_cleanup(fill.multi);
    curl_global_cleanup();
    return result == 0 ? 0 : 1;
}
