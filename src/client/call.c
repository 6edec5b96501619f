/* Redirects, retries and the deadline of one call.
 *
 * The request goes to the leader if one is remembered, else to the endpoints in turn. A redirect
 * names the leader; "unavailable" and broken connections lead to the next endpoint, with a growing
 * pause after each round. All operations are idempotent, so that repeating them is harmless; but a
 * write of which one try may have been carried out is a failure "outcome unknown" unless a later
 * try succeeds. A write whose answer is late is not sent a second time while the first one may
 * still wait in a stopped server's socket: it has the whole remaining time for its one answer.
 */
#include "client/call.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PAUSE_MS_MIN 25
#define PAUSE_MS_MAX 1000
/* How long a pause may go on after the call was cancelled. */
#define SLEEP_SLICE_MS 5
/* Nodes may disagree on who leads for a moment: that many redirects in a row, then a pause. */
#define REDIRECTS_MAX 3

enum verdict {
    VERDICT_DONE,     /* The answer is the caller's */
    VERDICT_STOP,     /* Repeating would not help */
    VERDICT_FOLLOW,   /* The leader is known now */
    VERDICT_ELSEWHERE /* Try the next endpoint */
};

struct progress {
    uint64_t deadline_ms;
    uint64_t pause_ms;
    uint64_t retry_after_ms; /* Longest that was asked for in this round */
    size_t n_failures;       /* Since the last pause */
    unsigned n_redirects;    /* Since the last pause */
    bool any_answer;         /* In this round */
    bool unknown;            /* A try of a write may have been carried out */
    int error;               /* Of the last try */
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Or less, if the client is cancelled. */
static void sleep_ms(const struct tierkv_client *client, uint64_t ms)
{
    const struct timespec slice = {.tv_nsec = SLEEP_SLICE_MS * 1000000L};
    uint64_t until = now_ms() + ms;

    while (now_ms() < until && !exchange_cancelled(client->exchange))
        nanosleep(&slice, NULL);
}

/* Takes code, message and outcome out of {"error":{…}}. True: the outcome is unknown. */
static bool read_error(struct tierkv_client *client, const char *endpoint,
                       const struct exchange_answer *answer)
{
    const char *code = "", *message = "", *outcome = "";
    json_t *root = answer->body == NULL
                       ? NULL
                       : json_loadb(answer->body, answer->body_len, JSON_REJECT_DUPLICATES, NULL);
    if (root == NULL || json_unpack(root, "{s:{s?s,s?s,s?s}}", "error", "code", &code, "message",
                                    &message, "outcome", &outcome) != 0)
        message = "no explanation was given";
    snprintf(client->error_text, sizeof(client->error_text), "%s answered %ld%s%s: %s", endpoint,
             answer->status, *code != '\0' ? " " : "", code, message);
    bool unknown = strcmp(outcome, "unknown") == 0;
    json_decref(root);
    return unknown;
}

static enum verdict judge_status(struct tierkv_client *client, const struct call *call,
                                 const char *endpoint, const struct exchange_answer *answer,
                                 struct progress *progress)
{
    long status = answer->status;
    if (status >= 200 && status < 300)
        return VERDICT_DONE;
    if ((status == 307 || status == 308) && answer->redirect[0] != '\0') {
        snprintf(client->error_text, sizeof(client->error_text), "%s names %s as the leader",
                 endpoint, answer->redirect);
        progress->error = TIERKV_UNAVAILABLE;
        return VERDICT_FOLLOW;
    }
    bool unknown = read_error(client, endpoint, answer);
    switch (status) {
    case 404:
        progress->error = TIERKV_NOT_FOUND;
        return VERDICT_STOP;
    case 408:
    case 429:
    case 503:
        progress->unknown |= call->write && unknown;
        progress->error = TIERKV_UNAVAILABLE;
        return VERDICT_ELSEWHERE;
    case 502: /* Of a proxy on the way, which does not know either */
    case 504:
        progress->unknown |= call->write;
        progress->error = TIERKV_UNAVAILABLE;
        return VERDICT_ELSEWHERE;
    case 507:
        progress->error = TIERKV_UNAVAILABLE;
        return VERDICT_STOP;
    default:
        progress->unknown |= call->write && (unknown || status >= 500);
        progress->error = status >= 400 && status < 500 ? TIERKV_REFUSED
                          : status >= 500               ? TIERKV_UNAVAILABLE
                                                        : TIERKV_PROTOCOL;
        return VERDICT_STOP;
    }
}

static enum verdict judge(struct tierkv_client *client, const struct call *call,
                          const char *endpoint, const struct exchange_answer *answer,
                          struct progress *progress)
{
    if (answer->failure == EXCHANGE_ANSWERED) {
        progress->any_answer = true;
        if (answer->retry_after_ms > progress->retry_after_ms)
            progress->retry_after_ms = answer->retry_after_ms;
        client->status = answer->status;
        return judge_status(client, call, endpoint, answer, progress);
    }
    progress->unknown |= call->write && answer->sent;
    snprintf(client->error_text, sizeof(client->error_text), "%s: %s", endpoint, answer->cause);
    switch (answer->failure) {
    case EXCHANGE_NO_MEMORY:
        progress->error = TIERKV_NO_MEMORY;
        return VERDICT_STOP;
    case EXCHANGE_PROTOCOL:
        progress->error = TIERKV_PROTOCOL;
        return VERDICT_STOP;
    case EXCHANGE_CANCELLED:
        progress->error = TIERKV_CANCELLED;
        return VERDICT_STOP;
    case EXCHANGE_TIMEOUT:
        progress->any_answer = true; /* Someone listens: no reason to give up early */
        progress->error = TIERKV_TIMEOUT;
        return VERDICT_ELSEWHERE;
    default:
        progress->error = TIERKV_UNREACHABLE;
        return VERDICT_ELSEWHERE;
    }
}

/* Waits before the next round. False: there is nothing to wait for, or no time left. */
static bool pause_between_rounds(const struct tierkv_client *client, struct progress *progress)
{
    /* Every endpoint refuses connections: this will not change in a moment. */
    if (!progress->any_answer && !progress->unknown)
        return false;
    uint64_t wait_ms = progress->pause_ms;
    if (wait_ms < progress->retry_after_ms)
        wait_ms = progress->retry_after_ms;
    if (now_ms() + wait_ms >= progress->deadline_ms)
        return false;
    sleep_ms(client, wait_ms);
    progress->pause_ms =
        progress->pause_ms * 2 < PAUSE_MS_MAX ? progress->pause_ms * 2 : PAUSE_MS_MAX;
    progress->retry_after_ms = 0;
    progress->n_failures = 0;
    progress->n_redirects = 0;
    progress->any_answer = false;
    return true;
}

/* Sends the request once. */
static void attempt(struct tierkv_client *client, const struct call *call, const char *endpoint,
                    uint64_t left_ms, struct exchange_answer *ret_answer)
{
    /* With other nodes to ask, one that hangs gets a share of the time. */
    bool alone = client->endpoints.n == 1 && client->leader[0] == '\0';
    uint64_t share_ms = alone || left_ms < 100 ? left_ms : (left_ms + 2) / 3;
    struct exchange_request request = {.method = call->method,
                                       .endpoint = endpoint,
                                       .target = call->target,
                                       .body = call->body,
                                       .body_len = call->body_len,
                                       .content_type = call->content_type,
                                       .timeout_ms = call->write ? left_ms : share_ms,
                                       .connect_timeout_ms = share_ms};
    exchange_run(client->exchange, &request, ret_answer);
}

/* Prepares the next try. False: the call ends here. */
static bool move_on(struct tierkv_client *client, bool at_leader, enum verdict verdict,
                    const char *redirect, struct progress *progress)
{
    if (verdict == VERDICT_FOLLOW) {
        memcpy(client->leader, redirect, sizeof(client->leader));
        return ++progress->n_redirects <= REDIRECTS_MAX || pause_between_rounds(client, progress);
    }
    if (at_leader) {
        /* It is not one of the round's endpoints. */
        client->leader[0] = '\0';
        return true;
    }
    client->cursor = (client->cursor + 1) % client->endpoints.n;
    return ++progress->n_failures < client->endpoints.n || pause_between_rounds(client, progress);
}

int call_run(struct tierkv_client *client, const struct call *call,
             struct exchange_answer *ret_answer)
{
    struct progress progress = {.deadline_ms = now_ms() + client->timeout_ms,
                                .pause_ms = PAUSE_MS_MIN,
                                .error = TIERKV_TIMEOUT};
    client->status = 0;
    client->error_text[0] = '\0';
    for (;;) {
        uint64_t now = now_ms();
        if (now >= progress.deadline_ms)
            break;
        char endpoint[ENDPOINT_BYTES_MAX];
        struct exchange_answer answer;
        bool at_leader = client->leader[0] != '\0' && !call->anywhere;
        memcpy(endpoint, at_leader ? client->leader : client->endpoints.texts[client->cursor],
               sizeof(endpoint));
        attempt(client, call, endpoint, progress.deadline_ms - now, &answer);
        enum verdict verdict = judge(client, call, endpoint, &answer, &progress);
        if (verdict == VERDICT_DONE) {
            *ret_answer = answer;
            return 0;
        }
        exchange_answer_free(&answer);
        if (verdict == VERDICT_STOP ||
            !move_on(client, at_leader, verdict, answer.redirect, &progress))
            break;
    }
    assert(progress.error < 0);
    return progress.unknown ? TIERKV_OUTCOME_UNKNOWN : progress.error;
}
