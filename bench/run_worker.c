/* See run_worker.h. Happy path: take the next request of the source, read through this thread's own
 * tiers_reader or write as the applier, note how long it took. Reads that the cold tier answers
 * overlap, up to --depth. One that the engine refuses as TIERS_BUSY is tried again when another has
 * completed; the next request waits for that. Every value is checked to belong to its key: a wrong
 * or missing one fails the run, as does any other error of the engine. All of it belongs to the
 * worker's thread. */
#include "run_worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define COMPLETE_EVERY  8 /* Operations between looks at the reader's completions */
#define POLL_TIMEOUT_MS 100

struct slot {
    struct tiers_read read;
    struct run_worker *worker;
    struct slot *next; /* Free or refused */
    uint64_t number;
    uint64_t began_ns;
};

struct run_worker {
    struct run *run;
    pthread_t thread;
    struct tiers_reader *reader;
    struct source_cursor cursor;
    struct slot *slots;
    struct slot *free;
    struct slot *refused; /* Reads to be tried again */
    uint64_t under_way;
    uint64_t absent;
    struct latency latencies[RUN_CALLS];
};

static void account(struct run_worker *worker, size_t call, uint64_t began_ns)
{
    if (atomic_load_explicit(&worker->run->phase, memory_order_relaxed) == RUN_MEASURE)
        latency_add(&worker->latencies[call], run_now_ns() - began_ns);
}

/* Takes over the reference. */
static void read_finish(struct slot *slot, int status, const struct tiers_record *record)
{
    struct run_worker *worker = slot->worker;

    if (status == 0) {
        account(worker, (size_t)tiers_reader_tier(worker->reader), slot->began_ns);
        if (!workload_value_belongs(slot->number, tiers_record_value(record), record->value_len))
            run_fail(worker->run, "read", "a value does not belong to its key");
        tiers_record_release(record);
    } else if (status == TIERS_NOT_FOUND && worker->run->deletes) {
        worker->absent++;
    } else {
        run_fail(worker->run, "read",
                 status == TIERS_NOT_FOUND ? "a key that was written is missing"
                                           : tiers_strerror(status));
    }
    slot->next = worker->free;
    worker->free = slot;
}

static void read_refused(struct slot *slot)
{
    slot->next = slot->worker->refused;
    slot->worker->refused = slot;
}

static void on_done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    struct slot *slot = read->owner;

    slot->worker->under_way--;
    if (status == TIERS_BUSY)
        read_refused(slot);
    else
        read_finish(slot, status, record);
}

/* Lets reads that have completed finish; waits for one if asked to. */
static void read_complete(struct run_worker *worker, bool wait)
{
    struct pollfd fd = {.fd = tiers_reader_fd(worker->reader), .events = POLLIN};
    int n = poll(&fd, 1, wait ? POLL_TIMEOUT_MS : 0);

    if (n > 0)
        tiers_reader_complete(worker->reader);
    else if (n < 0 && errno != EINTR)
        run_fail(worker->run, "poll", strerror(errno));
}

/* Being refused is fatal if no read is under way whose end could help. */
static void read_try(struct slot *slot)
{
    struct run_worker *worker = slot->worker;
    const struct tiers_record *record = NULL;
    char key[WORKLOAD_KEY_BYTES + 1];

    workload_key(slot->number, key);
    int status = tiers_reader_get(worker->reader, TIERS_SPACE_USER, key, WORKLOAD_KEY_BYTES,
                                  &slot->read, &record);
    if (status == TIERS_PENDING)
        worker->under_way++;
    else if (status == TIERS_BUSY && worker->under_way > 0)
        read_refused(slot);
    else
        read_finish(slot, status, record);
}

static void read_begin(struct run_worker *worker, uint64_t number)
{
    struct slot *slot = worker->free;

    worker->free = slot->next;
    slot->number = number;
    slot->began_ns = run_now_ns();
    read_try(slot);
}

/* Waits for a read to complete, if any is under way, and tries the refused ones again after it. */
static void read_wait(struct run_worker *worker)
{
    uint64_t before = worker->under_way;

    if (before > 0)
        read_complete(worker, true);
    if (before > 0 && worker->under_way == before)
        return;
    struct slot *refused = worker->refused;
    worker->refused = NULL;
    while (refused != NULL) {
        struct slot *slot = refused;
        refused = slot->next;
        read_try(slot);
    }
}

static bool goes_on(const struct run_worker *worker)
{
    return atomic_load_explicit(&worker->run->phase, memory_order_relaxed) != RUN_STOP;
}

static void *work(void *argument)
{
    struct run_worker *worker = argument;
    struct source_request request;

    for (uint64_t i = 0;
         goes_on(worker) && source_next(worker->run->source, &worker->cursor, &request); i++) {
        while ((worker->free == NULL || worker->refused != NULL) && goes_on(worker))
            read_wait(worker);
        if (request.op != 'r') {
            uint64_t began_ns = run_now_ns();
            run_write(worker->run, request.key, 1, request.op == 'w');
            account(worker, RUN_CALL_WRITE, began_ns);
        } else if (worker->free != NULL) {
            read_begin(worker, request.key);
        }
        if (worker->under_way > 0 && i % COMPLETE_EVERY == 0)
            read_complete(worker, false);
    }
    while ((worker->under_way > 0 || worker->refused != NULL) && goes_on(worker))
        read_wait(worker);
    return NULL;
}

static int open_slots(struct run_worker *worker, uint64_t depth)
{
    worker->slots = calloc(depth, sizeof(*worker->slots));
    if (worker->slots == NULL)
        return TIERS_NO_MEMORY;
    for (uint64_t i = 0; i < depth; i++) {
        struct slot *slot = &worker->slots[i];
        slot->worker = worker;
        slot->read = (struct tiers_read){.done = on_done, .owner = slot};
        slot->next = worker->free;
        worker->free = slot;
    }
    return 0;
}

static void worker_free(struct run_worker *worker)
{
    if (worker->reader != NULL)
        tiers_reader_close(worker->reader);
    free(worker->slots);
    free(worker);
}

struct run_worker *run_worker_start(struct run *run, uint64_t number)
{
    struct run_worker *worker = calloc(1, sizeof(*worker));
    int error;

    if (worker == NULL) {
        run_fail(run, "worker", tiers_strerror(TIERS_NO_MEMORY));
        return NULL;
    }
    worker->run = run;
    source_cursor_init(&worker->cursor, run->options->source.seed + number * 7919);
    error = open_slots(worker, run->options->depth);
    if (error == 0)
        error = tiers_reader_open(run->tiers, &worker->reader);
    if (error != 0) {
        run_fail(run, "reader", tiers_strerror(error));
    } else if ((error = pthread_create(&worker->thread, NULL, work, worker)) != 0) {
        run_fail(run, "thread", strerror(error));
    } else {
        return worker;
    }
    worker_free(worker);
    return NULL;
}

void run_worker_join(struct run_worker *worker, struct latency *latencies, uint64_t *absent)
{
    if (worker == NULL)
        return;
    pthread_join(worker->thread, NULL);
    for (size_t call = 0; call < RUN_CALLS; call++)
        latency_merge(&latencies[call], &worker->latencies[call]);
    *absent += worker->absent;
    worker_free(worker);
}
