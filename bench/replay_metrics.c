/* See replay_metrics.h. One request on a connection of its own. */
#include "replay_metrics.h"

#include "h2_client.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_BYTES_MAX ((size_t)1 << 20)
#define POLLS_MAX        10000 /* Each brings bytes, or the time is over */

static uint64_t value_of(const char *text, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ' ')
            return (uint64_t)strtod(line + length, NULL);
    }
    return 0;
}

void replay_metrics_parse(const char *text, struct replay_hits *ret_hits)
{
    ret_hits->hot = value_of(text, "tierkv_tiers_hits_hot_total");
    ret_hits->warm = value_of(text, "tierkv_tiers_hits_warm_total");
    ret_hits->cold = value_of(text, "tierkv_tiers_hits_cold_total");
    ret_hits->misses = value_of(text, "tierkv_tiers_misses_total");
    ret_hits->flushed_bytes = value_of(text, "tierkv_tiers_flushed_bytes_total");
    ret_hits->demoted_bytes = value_of(text, "tierkv_tiers_demoted_bytes_total");
    ret_hits->compacted_bytes = value_of(text, "tierkv_tiers_compacted_bytes_total");
}

static void on_done(struct h2_request *request)
{
    *(bool *)request->owner = true;
}

/* The text of the node's /metrics, ANSWER_BYTES_MAX at most and a NUL. False: no answer. */
static bool fetch(const char *address, unsigned timeout_ms, char *answer)
{
    struct h2_client *client = NULL;
    bool done = false;
    struct h2_request request = {.method = "GET",
                                 .path = "/metrics",
                                 .answer = (unsigned char *)answer,
                                 .answer_max = ANSWER_BYTES_MAX,
                                 .done = on_done,
                                 .owner = &done};

    if (h2_client_open(address, timeout_ms, &client) != 0)
        return false;
    if (h2_client_submit(client, &request)) {
        for (unsigned polls = 0; polls < POLLS_MAX && h2_client_work(client) && !done; polls++) {
            struct pollfd fd = {.fd = h2_client_fd(client), .events = h2_client_events(client)};
            if (poll(&fd, 1, (int)timeout_ms) == 0)
                break;
        }
    }
    h2_client_close(client);
    if (request.status != 200)
        return false;
    answer[request.answer_bytes < ANSWER_BYTES_MAX ? request.answer_bytes : ANSWER_BYTES_MAX] =
        '\0';
    return true;
}

int replay_metrics_add(const char *address, unsigned timeout_ms, struct replay_hits *hits)
{
    char *answer = malloc(ANSWER_BYTES_MAX + 1);
    struct replay_hits found;
    int error = -1;

    if (answer != NULL && fetch(address, timeout_ms, answer)) {
        replay_metrics_parse(answer, &found);
        hits->hot += found.hot;
        hits->warm += found.warm;
        hits->cold += found.cold;
        hits->misses += found.misses;
        hits->flushed_bytes += found.flushed_bytes;
        hits->demoted_bytes += found.demoted_bytes;
        hits->compacted_bytes += found.compacted_bytes;
        error = 0;
    }
    free(answer);
    return error;
}
