/* Reads that wait: for a thread of the pool, which looks up the warm tier, or for the cold disk.
 *
 * The happy path: an operation is taken, copies the key and is handed to the pool or to the cold
 * reader; what has completed is first gathered, then answered: a caller's `done` may start and
 * cancel other reads. An operation that comes back from the pool with a pointer goes on to the cold
 * reader. If compaction moved a record between look-up and read (TIERS_STALE) the look-up starts
 * again, from hot.
 *
 * What fails: without a free operation TIERS_BUSY; the codes of the tiers are passed on. */
#include "reader_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Compaction moves a record once in a long while: twice during one read is already odd. */
#define ATTEMPTS_MAX 8

int reader_operations_make(struct tiers_reader *reader, size_t n)
{
    reader->completed_tail = &reader->completed;
    reader->operations = calloc(n, sizeof *reader->operations);
    if (reader->operations == NULL) {
        return TIERS_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        reader->operations[i].reader = reader;
        reader->operations[i].next = reader->free;
        reader->free = &reader->operations[i];
    }
    return 0;
}

static void operation_free(struct operation *operation)
{
    struct tiers_reader *reader = operation->reader;
    assert(operation->record == NULL);
    operation->read = NULL;
    operation->next = reader->free;
    reader->free = operation;
}

static void operation_complete(struct operation *operation)
{
    struct tiers_reader *reader = operation->reader;
    operation->next = NULL;
    *reader->completed_tail = operation;
    reader->completed_tail = &operation->next;
}

/* ---- Starting ---- */

/* Thread of the pool. */
static void warm_run(struct reader_job *job, struct warm_read *snapshot)
{
    struct operation *operation = (struct operation *)job;
    operation->status =
        reader_warm_get(snapshot, &operation->query, true, &operation->record, &operation->item);
}

static void warm_failed(struct reader_job *job, int error)
{
    struct operation *operation = (struct operation *)job;
    operation->status = error;
}

/* Runs inside cold_reader_reap: keeps what it needs of the item and leaves the rest for later. */
static void cold_done(void *owner, int status, const struct cold_item *item)
{
    struct operation *operation = owner;
    if (status == 0 && operation->read != NULL) {
        status = reader_record_make(&operation->query, &operation->item, item->value,
                                    item->value_len, &operation->record);
    }
    operation->status = status;
    operation_complete(operation);
}

static int cold_submit(struct operation *operation)
{
    operation->stage = STAGE_COLD;
    return cold_reader_submit(operation->reader->cold_reader, &operation->item.location,
                              operation->query.space, operation->key, operation->query.key_len,
                              operation->item.meta.mod_revision, cold_done, operation);
}

/* 0: a thread has it. */
static int warm_submit(struct operation *operation)
{
    struct tiers_reader *reader = operation->reader;
    operation->stage = STAGE_WARM;
    operation->job =
        (struct reader_job){.inbox = &reader->inbox, .run = warm_run, .failed = warm_failed};
    if (!reader_pool_submit(reader->tiers->reader_pool, &operation->job)) {
        return TIERS_BUSY;
    }
    engine_count(&reader->counters.warm_reads_pooled, 1);
    return 0;
}

static int stage_submit(struct operation *operation, enum stage stage)
{
    int error = stage == STAGE_WARM ? warm_submit(operation) : cold_submit(operation);
    return error == 0 ? TIERS_PENDING : error;
}

/* Looks up again and starts what that asks for, for as long as compaction is faster. */
static int operation_retry(struct operation *operation, const struct tiers_record **ret_record)
{
    int error = TIERS_STALE;
    while (error == TIERS_STALE && operation->attempts < ATTEMPTS_MAX) {
        enum stage stage = STAGE_COLD;
        operation->attempts++;
        error = reader_lookup(operation->reader, &operation->query, operation->may_wait, ret_record,
                              &operation->item, &stage);
        if (error == TIERS_PENDING) {
            error = stage_submit(operation, stage);
        }
    }
    return error == TIERS_STALE ? TIERS_BUSY : error;
}

int reader_operation_begin(struct tiers_reader *reader, const struct query *query,
                           const struct warm_item *item, bool may_wait, struct tiers_read *read,
                           const struct tiers_record **ret_record)
{
    struct operation *operation = reader->free;
    if (operation == NULL) {
        return TIERS_BUSY;
    }
    reader->free = operation->next;
    memcpy(operation->key, query->key, query->key_len);
    operation->query = *query;
    operation->query.key = operation->key;
    if (item != NULL) {
        operation->item = *item;
    }
    operation->may_wait = may_wait;
    operation->attempts = 1;
    operation->read = read;
    int error = stage_submit(operation, item != NULL ? STAGE_COLD : STAGE_WARM);
    if (error == TIERS_STALE) {
        error = operation_retry(operation, ret_record);
    }
    if (error == TIERS_PENDING) {
        read->operation_ = operation;
    } else {
        operation_free(operation);
    }
    return error;
}

/* ---- Completing ---- */

/* What the operation has come to: TIERS_PENDING if it goes on, else what is to be answered. */
static int operation_advance(struct operation *operation, const struct tiers_record **ret_record)
{
    struct tiers_reader *reader = operation->reader;
    int status = operation->status;
    if (operation->stage == STAGE_WARM && status == TIERS_PENDING) {
        status = stage_submit(operation, STAGE_COLD);
        if (status == TIERS_PENDING) {
            return status;
        }
    } else if (operation->stage == STAGE_WARM) {
        reader_warm_answered(reader, &operation->query, status, operation->record);
    } else {
        reader_cold_answered(reader, &operation->query, status, operation->record,
                             &operation->item.location);
    }
    if (status == TIERS_STALE) {
        return operation_retry(operation, ret_record);
    }
    *ret_record = operation->record;
    operation->record = NULL;
    return status;
}

static void operation_finish(struct operation *operation)
{
    const struct tiers_record *record = NULL;
    struct tiers_read *read = operation->read;
    if (read == NULL) {
        if (operation->record != NULL) {
            tiers_record_release(operation->record);
            operation->record = NULL;
        }
        operation_free(operation);
        return;
    }
    int status = operation_advance(operation, &record);
    if (status == TIERS_PENDING) {
        return;
    }
    operation_free(operation);
    read->operation_ = NULL;
    read->done(read, status, record);
}

static void jobs_complete(struct reader_job *jobs)
{
    while (jobs != NULL) {
        struct reader_job *next = jobs->next;
        operation_complete((struct operation *)jobs);
        jobs = next;
    }
}

static void completed_answer(struct tiers_reader *reader)
{
    struct operation *operation;
    while ((operation = reader->completed) != NULL) {
        reader->completed = operation->next;
        if (reader->completed == NULL) {
            reader->completed_tail = &reader->completed;
        }
        operation_finish(operation);
    }
}

void reader_operations_complete(struct tiers_reader *reader)
{
    jobs_complete(reader_inbox_take(&reader->inbox));
    cold_reader_reap(reader->cold_reader);
    completed_answer(reader);
    /* Together, what the answers made their owners ask for. */
    cold_reader_flush(reader->cold_reader);
}

void reader_operations_wait(struct tiers_reader *reader)
{
    cold_reader_wait(reader->cold_reader);
    completed_answer(reader);
}

void reader_operations_close(struct tiers_reader *reader)
{
    while (reader->inbox.n_away > 0) {
        jobs_complete(reader_inbox_wait(&reader->inbox));
    }
    cold_reader_close(reader->cold_reader);
    for (struct operation *at = reader->completed; at != NULL; at = at->next) {
        if (at->record != NULL) {
            tiers_record_release(at->record);
        }
    }
}
