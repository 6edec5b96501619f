/* See request.h. */
#include "http/request.h"

#include "http/key_endpoint.h"
#include "http/respond.h"
#include "metrics.h"

#include <assert.h>
#include <stdlib.h>

/* A read-index operation and the reads that wait for it. */
struct read_batch {
    struct request *requests;
};

static void unlist(struct request *request)
{
    struct loop *loop = request->loop;

    if (!request->listed)
        return;
    request->listed = false;
    if (request->older != NULL)
        request->older->newer = request->newer;
    else
        loop->waiting_oldest = request->newer;
    if (request->newer != NULL)
        request->newer->older = request->older;
    else
        loop->waiting_newest = request->older;
}

static void list(struct request *request)
{
    struct loop *loop = request->loop;

    request->listed = true;
    request->older = loop->waiting_newest;
    request->newer = NULL;
    if (loop->waiting_newest != NULL)
        loop->waiting_newest->newer = request;
    else
        loop->waiting_oldest = request;
    loop->waiting_newest = request;
}

void request_release(struct request *request)
{
    assert(request->references > 0);
    if (--request->references > 0)
        return;
    assert(!request->listed && !request->reading);
    free(request->change);
    free(request);
}

static void pool_disposed(void *pointer)
{
    struct request *request = *(struct request **)pointer;

    if (request->req != NULL)
        metrics_add(METRIC_REQUESTS_VANISHED, 1);
    request->req = NULL;
    unlist(request);
    if (request->reading) {
        tiers_reader_cancel(request->loop->reader, &request->read);
        request->reading = false;
        request->loop->n_waiting--;
        assert(request->references > 1); /* The pool's is left */
        request_release(request);
    }
    request_release(request);
}

/* No further operation or read may begin. */
static bool is_full(const struct loop *loop)
{
    return loop->n_waiting >= loop->server->options.requests_in_flight_max;
}

static struct request *allocate(struct loop *loop)
{
    struct request *request = calloc(1, sizeof *request);

    if (request != NULL)
        request->loop = loop;
    return request;
}

/* Ties it to the h2o_req_t: from now on it waits. */
static void attach(struct request *request, h2o_req_t *req)
{
    struct request **hook = h2o_mem_alloc_shared(&req->pool, sizeof *hook, pool_disposed);

    *hook = request;
    request->req = req;
    request->references = 1;
    request->outcome_known = true;
    request->began_us = loop_now_us();
    list(request);
}

static void too_many(h2o_req_t *req, struct loop *loop)
{
    metrics_add(METRIC_REFUSED_BUSY, 1);
    respond_unavailable(req, loop, "busy", "too many requests are waiting", OUTCOME_NOT_APPLIED);
}

static void no_memory(h2o_req_t *req, struct loop *loop)
{
    respond_unavailable(req, loop, "out_of_memory", "out of memory", OUTCOME_NOT_APPLIED);
}

struct request *request_new(h2o_req_t *req, struct loop *loop)
{
    struct request *request;

    if (is_full(loop)) {
        too_many(req, loop);
        return NULL;
    }
    request = allocate(loop);
    if (request == NULL) {
        no_memory(req, loop);
        return NULL;
    }
    attach(request, req);
    return request;
}

h2o_req_t *request_take(struct request *request)
{
    h2o_req_t *req = request->req;

    assert(req != NULL);
    request->req = NULL;
    unlist(request);
    return req;
}

/* ---- Operations ---- */

/* Operations leave at the end of the loop's round, all at once: the raft loop is woken once and
 * finds a batch. */
static void outgoing_add(struct loop *loop, struct replica_operation *operation)
{
    if (loop->outgoing_n++ == 0)
        loop->outgoing_first = operation;
    else
        loop->outgoing_last->item.next = &operation->item;
    loop->outgoing_last = operation;
}

void request_outgoing_flush(struct loop *loop)
{
    if (loop->outgoing_n > 0)
        replica_send(loop->server->options.replica, loop->outgoing_first, loop->outgoing_last,
                     loop->outgoing_n);
    loop->outgoing_n = 0;
}

static void refuse(struct request *request, int status)
{
    if (status == REPLICA_BUSY)
        metrics_add(METRIC_REFUSED_BUSY, 1);
    respond_replica_error(request, status, true);
}

void request_submit(struct request *request, struct replica_operation *operation,
                    void (*replied)(struct request *, const struct replica_operation *))
{
    int status;

    if (operation == NULL) {
        refuse(request, REPLICA_NO_MEMORY);
        return;
    }
    operation->owner = request;
    operation->reply = request->loop->inbox;
    request->replied = replied;
    request->outcome_known = false;
    status = replica_admit(request->loop->server->options.replica, operation);
    if (status != 0) {
        replica_operation_free(operation);
        refuse(request, status);
        return;
    }
    outgoing_add(request->loop, operation);
    request->references++;
    request->loop->n_waiting++;
}

void request_submit_consistent(struct request *request,
                               void (*replied)(struct request *, const struct replica_operation *))
{
    request->replied = replied;
    request->references++;
    request->loop->n_waiting++;
    request->next = request->loop->consistent;
    request->loop->consistent = request;
}

/* The reads from this one on, as far as so many at a time are announced. Returns behind them. */
static const struct request *announce(struct loop *loop, const struct request *request)
{
    struct tiers_key keys[TIERS_PREFETCH_MAX];
    size_t n = 0;

    for (; request != NULL && n < TIERS_PREFETCH_MAX; request = request->next)
        if (request->req != NULL)
            keys[n++] = (struct tiers_key){.bytes = request->key, .len = request->key_len};
    tiers_prefetch(loop->server->options.tiers, TIERS_SPACE_USER, keys, n);
    return request;
}

/* Gives each read of the batch the operation's result, and frees the batch. */
static void batch_replied(struct loop *loop, struct read_batch *batch,
                          const struct replica_operation *operation)
{
    struct request *request = batch->requests;
    const struct request *announced = request;

    free(batch);
    while (request != NULL) {
        struct request *next = request->next;
        if (request == announced && next != NULL && operation->status == 0)
            announced = announce(loop, request);
        loop->n_waiting--;
        if (request->req != NULL)
            request->replied(request, operation);
        request_release(request);
        request = next;
    }
}

void request_consistent_flush(struct loop *loop)
{
    struct replica_operation *operation, failed = {.type = REPLICA_READ_INDEX};
    struct read_batch *batch;

    if (loop->consistent == NULL)
        return;
    batch = malloc(sizeof *batch);
    operation = batch != NULL ? replica_read_index_new() : NULL;
    if (operation == NULL) {
        free(batch);
        return; /* They wait for memory, or for their timeout */
    }
    batch->requests = loop->consistent;
    loop->consistent = NULL;
    operation->owner = batch;
    operation->reply = loop->inbox;
    failed.status = replica_admit(loop->server->options.replica, operation);
    if (failed.status != 0) {
        replica_operation_free(operation);
        loop->replies_us = loop_now_us();
        batch_replied(loop, batch, &failed);
        return;
    }
    outgoing_add(loop, operation);
}

void request_replies(struct loop *loop)
{
    struct inbox_item *item = inbox_take(loop->inbox);

    loop->replies_us = loop_now_us();
    while (item != NULL) {
        struct replica_operation *operation = (struct replica_operation *)item;
        item = item->next;
        if (operation->type == REPLICA_READ_INDEX) {
            batch_replied(loop, operation->owner, operation);
        } else {
            struct request *request = operation->owner;
            loop->n_waiting--;
            if (request->req != NULL)
                request->replied(request, operation);
            request_release(request);
        }
        replica_operation_free(operation);
    }
}

/* ---- Reads ---- */

/* Of the reads that do not wait for a disk one in so many is timed. A prime: loads have periods. */
#define TIMED_STRIDE 17

static enum metrics_histogram latency_of(const struct loop *loop)
{
    static const enum metrics_histogram histograms[] = {
        [TIERS_TIER_HOT] = METRIC_READ_LATENCY_HOT,
        [TIERS_TIER_WARM] = METRIC_READ_LATENCY_WARM,
        [TIERS_TIER_COLD] = METRIC_READ_LATENCY_COLD,
    };

    return histograms[tiers_reader_tier(loop->reader)];
}

static void read_done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    struct request *request = read->owner;

    request->reading = false;
    request->loop->n_waiting--;
    if (request->req != NULL) {
        if (status == 0)
            metrics_observe(latency_of(request->loop), loop_now_us() - request->read_us);
        key_endpoint_found(request_take(request), request->loop, &request->query, request->head,
                           request->key, request->key_len, status, record);
    } else if (record != NULL) {
        tiers_record_release(record);
    }
    request_release(request);
}

static void began_reading(struct request *request)
{
    request->reading = true;
    request->read_us = loop_now_us();
    request->references++;
    request->loop->n_waiting++;
}

static int read_start(struct request *request, const struct tiers_record **ret_record)
{
    struct loop *loop = request->loop;
    bool timed = ++loop->reads_begun % TIMED_STRIDE == 0;
    uint64_t began_us = timed ? loop_now_us() : 0;
    int status;

    request->read = (struct tiers_read){.done = read_done, .owner = request};
    status = tiers_reader_get(loop->reader, TIERS_SPACE_USER, request->key, request->key_len,
                              &request->read, ret_record);
    if (timed && status == 0)
        metrics_observe_many(latency_of(loop), loop_now_us() - began_us, TIMED_STRIDE);
    return status;
}

void request_read(struct request *request)
{
    const struct tiers_record *record = NULL;
    int status = read_start(request, &record);

    if (status == TIERS_PENDING)
        began_reading(request);
    else
        key_endpoint_found(request_take(request), request->loop, &request->query, request->head,
                           request->key, request->key_len, status, record);
}

void request_get(h2o_req_t *req, struct loop *loop, const struct uri_query *query, bool head,
                 const char *key, size_t key_len)
{
    const struct tiers_record *record = NULL;
    struct request *request = loop->spare != NULL ? loop->spare : allocate(loop);
    int status;

    if (request == NULL) {
        no_memory(req, loop);
        return;
    }
    request->key = key;
    request->key_len = key_len;
    loop->spare = request;
    status = read_start(request, &record);
    if (status != TIERS_PENDING) {
        key_endpoint_found(req, loop, query, head, key, key_len, status, record);
        return;
    }
    /* What memory answers is answered also when all places to wait are taken. */
    if (is_full(loop)) {
        tiers_reader_cancel(loop->reader, &request->read);
        too_many(req, loop);
        return;
    }
    loop->spare = NULL;
    request->query = *query;
    request->head = head;
    attach(request, req);
    began_reading(request);
}

/* ---- Timeouts ---- */

static void give_up(struct request *request, const char *code, const char *message)
{
    respond_unavailable(request_take(request), request->loop, code, message,
                        request->outcome_known ? OUTCOME_NOT_APPLIED : OUTCOME_UNKNOWN);
}

void request_expire(struct loop *loop)
{
    uint64_t limit = (uint64_t)loop->server->options.request_timeout_ms * 1000;
    uint64_t now = loop->waiting_oldest != NULL ? loop_now_us() : 0;
    struct request *request;

    for (request = loop->waiting_oldest; request != NULL && now - request->began_us >= limit;
         request = loop->waiting_oldest) {
        if (request->no_timeout) {
            /* The replica ends it. At the end of the list it does not hide younger ones. */
            unlist(request);
            request->began_us = now;
            list(request);
            continue;
        }
        give_up(request, "timeout", "the request was not answered in time");
    }
}

void request_end_all(struct loop *loop)
{
    while (loop->waiting_oldest != NULL)
        give_up(loop->waiting_oldest, "shutting_down", replica_strerror(REPLICA_SHUTDOWN));
}
