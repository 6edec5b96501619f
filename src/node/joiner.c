/* POST /join through libtierkv, which goes round the endpoints and follows redirects to the leader.
 * The request is repeatable, so that every failure is met alike: wait, twice as long each time up
 * to a bound, and ask again. Attempts are logged at powers of two, so that a cluster that is away
 * for a day does not fill the log. */
#include "node/joiner.h"

#include "log.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REQUEST_TIMEOUT_MS 5000
#define PAUSE_MS_LEAST     100
#define PAUSE_MS_MOST      3000
/* A node that does not find itself among the members so many times in a row believes it. */
#define MISSED_MOST     5
#define MISSED_PAUSE_MS 500

struct joiner {
    struct joiner_options options;
    struct tierkv_client *client;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stopping; /* Under the mutex */
};

static bool is_stopping(struct joiner *joiner)
{
    pthread_mutex_lock(&joiner->mutex);
    bool stopping = joiner->stopping;
    pthread_mutex_unlock(&joiner->mutex);
    return stopping;
}

/* False: told to stop. */
static bool pause_for(struct joiner *joiner, uint64_t pause_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(pause_ms / 1000);
    until.tv_nsec += (long)(pause_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&joiner->mutex);
    int error = 0;
    while (!joiner->stopping && error == 0)
        error = pthread_cond_timedwait(&joiner->wake, &joiner->mutex, &until);
    bool stopping = joiner->stopping;
    pthread_mutex_unlock(&joiner->mutex);
    return !stopping;
}

/* Whether the members that a node names are without this one. It may be a node that is behind. */
static bool is_missing(struct joiner *joiner)
{
    char *text = NULL;
    if (tierkv_members(joiner->client, &text) != 0)
        return false;
    json_t *members = json_loads(text, 0, NULL);
    const json_t *list = json_object_get(members, "members");
    bool missing = json_array_size(list) > 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(list, i), "id"));
        missing = missing && name != NULL && strcmp(name, joiner->options.node.name) != 0;
    }
    json_decref(members);
    free(text);
    return missing;
}

/* Whether the cluster is without this node, by several answers in a row. Whom it asks may not
 * answer: then nothing is held against it. */
static bool is_out(struct joiner *joiner)
{
    unsigned missed = 0;
    while (missed < MISSED_MOST && is_missing(joiner)) {
        missed++;
        if (!pause_for(joiner, MISSED_PAUSE_MS))
            return false;
    }
    return missed == MISSED_MOST;
}

static void *joiner_run(void *argument)
{
    struct joiner *joiner = argument;
    const struct joiner_options *options = &joiner->options;
    uint64_t pause_ms = PAUSE_MS_LEAST;
    if (options->only_if_known && is_out(joiner)) {
        log_error("this node is no longer a member, and does not join by itself",
                  LOG_TEXT("name", options->node.name),
                  LOG_TEXT("reason", "it was removed or replaced; with an empty data directory and "
                                     "the setting join it joins anew"));
        return NULL;
    }
    for (uint64_t attempt = 1; !options->is_member(options->context); attempt++) {
        int error = tierkv_join(joiner->client, &options->node);
        if (error == 0) {
            log_info("joined", LOG_TEXT("name", options->node.name), LOG_U64("attempts", attempt));
            break;
        }
        if (is_stopping(joiner))
            break;
        if ((attempt & (attempt - 1)) == 0)
            log_warning("not joined yet", LOG_TEXT("through", options->endpoints),
                        LOG_TEXT("reason", tierkv_client_error_text(joiner->client)),
                        LOG_U64("attempts", attempt));
        if (!pause_for(joiner, pause_ms))
            break;
        pause_ms = pause_ms * 2 < PAUSE_MS_MOST ? pause_ms * 2 : PAUSE_MS_MOST;
    }
    return NULL;
}

int joiner_start(const struct joiner_options *options, struct joiner **ret_joiner)
{
    struct joiner *joiner = calloc(1, sizeof(*joiner));
    if (joiner == NULL)
        return TIERKV_NO_MEMORY;
    joiner->options = *options;
    const struct tierkv_client_options client_options = {.endpoints = options->endpoints,
                                                         .timeout_ms = REQUEST_TIMEOUT_MS};
    int error = tierkv_client_open(&client_options, &joiner->client);
    if (error != 0) {
        free(joiner);
        return error;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&joiner->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&joiner->mutex, NULL);
    if (pthread_create(&joiner->thread, NULL, joiner_run, joiner) != 0) {
        pthread_mutex_destroy(&joiner->mutex);
        pthread_cond_destroy(&joiner->wake);
        tierkv_client_close(joiner->client);
        free(joiner);
        return TIERKV_NO_MEMORY;
    }
    *ret_joiner = joiner;
    return 0;
}

void joiner_stop(struct joiner *joiner)
{
    if (joiner == NULL)
        return;
    pthread_mutex_lock(&joiner->mutex);
    joiner->stopping = true;
    pthread_cond_signal(&joiner->wake);
    pthread_mutex_unlock(&joiner->mutex);
    tierkv_client_cancel(joiner->client);
    pthread_join(joiner->thread, NULL);
    pthread_mutex_destroy(&joiner->mutex);
    pthread_cond_destroy(&joiner->wake);
    tierkv_client_close(joiner->client);
    free(joiner);
}
