/* The writers: one thread and one client each, closed loop. */
#include "lib/load.h"

#include "lib/http.h"
#include "lib/random.h"
#include "tierkv/client.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DELETE_EVERY  8
#define KEY_BYTES_MAX 48

struct load_key {
    uint64_t acknowledged, sent; /* Numbers of operations; 0: none */
};

struct writer {
    struct load *load;
    size_t index;
    pthread_t thread;
    struct random random;
    struct load_key *keys;
};

struct load {
    struct load_options options;
    bool running;
    atomic_bool stopping;
    atomic_uint_least64_t n_acknowledged, n_failed;
    struct writer *writers;
};

static void must(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(2);
}

static struct tierkv_client *open_client(const char *endpoints, uint32_t timeout_ms)
{
    struct tierkv_client *client = NULL;
    struct tierkv_client_options options = {.endpoints = endpoints, .timeout_ms = timeout_ms};
    must(tierkv_client_open(&options, &client) == 0, "tierkv_client_open");
    return client;
}

static size_t key_text(const struct load *load, size_t writer, size_t key, char *ret_text)
{
    return (size_t)snprintf(ret_text, KEY_BYTES_MAX, "load/%" PRIx64 "/%zu/%zu",
                            load->options.seed & 0xffff, writer, key);
}

/* The value of operation `number`: the number, and a length and bytes that follow from it. */
static size_t value_make(const struct load *load, const char *key, uint64_t number, char *ret_value)
{
    struct random random;
    size_t head = (size_t)snprintf(ret_value, KEY_BYTES_MAX + 24, "%" PRIu64 ":%s:", number, key);
    random_init(&random, number * 31 + load->options.seed);
    size_t length = head + random_below(&random, load->options.value_bytes - head);
    for (size_t i = head; i < length; i++)
        ret_value[i] = (char)('a' + (number + i) % 26);
    return length;
}

static void write_once(struct writer *writer, struct tierkv_client *client, char *value)
{
    struct load *load = writer->load;
    size_t i = random_below(&writer->random, load->options.n_keys);
    char key[KEY_BYTES_MAX];
    size_t key_len = key_text(load, writer->index, i, key);
    uint64_t number = ++writer->keys[i].sent;
    int status;

    if (number % DELETE_EVERY == 0) {
        status = tierkv_delete(client, key, key_len, NULL);
    } else {
        size_t length = value_make(load, key, number, value);
        status = tierkv_put(client, key, key_len, value, length, NULL);
    }
    if (status == 0) {
        writer->keys[i].acknowledged = number;
        atomic_fetch_add(&load->n_acknowledged, 1);
        return;
    }
    atomic_fetch_add(&load->n_failed, 1);
    if (status == TIERKV_REFUSED || status == TIERKV_INVALID || status == TIERKV_PROTOCOL) {
        fprintf(stderr, "a write was refused: %s\n", tierkv_client_error_text(client));
        exit(1);
    }
    test_sleep_ms(10);
}

static void *writer_run(void *context)
{
    struct writer *writer = context;
    struct load *load = writer->load;
    struct tierkv_client *client = open_client(load->options.endpoints, load->options.timeout_ms);
    char *value = malloc(load->options.value_bytes + KEY_BYTES_MAX);

    must(value != NULL, "malloc");
    while (!atomic_load(&load->stopping))
        write_once(writer, client, value);
    free(value);
    tierkv_client_close(client);
    return NULL;
}

struct load *load_start(const struct load_options *options)
{
    struct load *load = calloc(1, sizeof(*load));
    must(load != NULL, "calloc");
    load->options = *options;
    load->writers = calloc(options->n_threads, sizeof(*load->writers));
    must(load->writers != NULL && options->value_bytes > KEY_BYTES_MAX + 16, "calloc");
    for (size_t i = 0; i < options->n_threads; i++) {
        struct writer *writer = &load->writers[i];
        writer->load = load;
        writer->index = i;
        random_init(&writer->random, options->seed + i);
        writer->keys = calloc(options->n_keys, sizeof(*writer->keys));
        must(writer->keys != NULL, "calloc");
    }
    load_resume(load);
    return load;
}

void load_resume(struct load *load)
{
    assert_false(load->running);
    atomic_store(&load->stopping, false);
    for (size_t i = 0; i < load->options.n_threads; i++)
        must(pthread_create(&load->writers[i].thread, NULL, writer_run, &load->writers[i]) == 0,
             "pthread_create");
    load->running = true;
}

void load_pause(struct load *load)
{
    if (!load->running)
        return;
    atomic_store(&load->stopping, true);
    for (size_t i = 0; i < load->options.n_threads; i++)
        pthread_join(load->writers[i].thread, NULL);
    load->running = false;
}

uint64_t load_acknowledged(struct load *load)
{
    return atomic_load(&load->n_acknowledged);
}

uint64_t load_failed(struct load *load)
{
    return atomic_load(&load->n_failed);
}

void load_wait(struct load *load, uint64_t n, uint64_t timeout_ms)
{
    uint64_t aim = load_acknowledged(load) + n, deadline = test_now_ms() + timeout_ms;
    while (load_acknowledged(load) < aim) {
        if (test_now_ms() > deadline)
            fail_msg("%" PRIu64 " more writes were not acknowledged in %" PRIu64 " ms", n,
                     timeout_ms);
        test_sleep_ms(2);
    }
}

/* Whether some operation from the last acknowledged to the last sent one deletes the key. */
static bool may_be_absent(const struct load_key *key)
{
    return key->acknowledged == 0 || key->sent / DELETE_EVERY * DELETE_EVERY >= key->acknowledged;
}

static void verify_key(struct load *load, struct tierkv_client *client, size_t writer, size_t i,
                       char *wanted)
{
    const struct load_key *key = &load->writers[writer].keys[i];
    char text[KEY_BYTES_MAX];
    size_t key_len = key_text(load, writer, i, text);
    void *value = NULL;
    size_t length = 0;

    int status = tierkv_get(client, text, key_len, TIERKV_LEVEL_CONSISTENT, &value, &length, NULL);
    if (status == TIERKV_NOT_FOUND) {
        if (!may_be_absent(key))
            fail_msg("%s is absent; acknowledged %" PRIu64 ", sent %" PRIu64, text,
                     key->acknowledged, key->sent);
        return;
    }
    if (status != 0)
        fail_msg("%s cannot be read: %s", text, tierkv_client_error_text(client));
    uint64_t number = strtoull(value, NULL, 10);
    if (number < key->acknowledged || number > key->sent || number % DELETE_EVERY == 0)
        fail_msg("%s has %" PRIu64 "; acknowledged %" PRIu64 ", sent %" PRIu64, text, number,
                 key->acknowledged, key->sent);
    size_t wanted_len = value_make(load, text, number, wanted);
    assert_int_equal(length, wanted_len);
    assert_memory_equal(value, wanted, wanted_len);
    free(value);
}

void load_verify(struct load *load, const char *endpoints)
{
    struct tierkv_client *client = open_client(endpoints, 20000);
    char *wanted = malloc(load->options.value_bytes + KEY_BYTES_MAX);

    must(wanted != NULL, "malloc");
    assert_false(load->running);
    for (size_t writer = 0; writer < load->options.n_threads; writer++)
        for (size_t i = 0; i < load->options.n_keys; i++)
            if (load->writers[writer].keys[i].sent > 0)
                verify_key(load, client, writer, i, wanted);
    free(wanted);
    tierkv_client_close(client);
}

void load_free(struct load *load)
{
    load_pause(load);
    for (size_t i = 0; i < load->options.n_threads; i++)
        free(load->writers[i].keys);
    free(load->writers);
    free(load);
}
