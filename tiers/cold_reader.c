/* Asynchronous reads of cold records: see cold.h.
 *
 * A submit takes a request, acquires the segment's file and puts the request into the queue
 * (cold_read_queue.h). A fetch, of which there are as many as reads may be under way at the disk,
 * takes the next request and its neighbours out of it and reads the blocks that cover them into one
 * buffer; short reads go on where they ended. The completion checks each record against what was
 * asked for and calls `done`, all inside cold_reader_reap or cold_reader_wait on the reader's own
 * thread.
 *
 * While the disk has little to do a request starts at once; else it waits for the next reap, or for
 * enough of its like, so that one system call starts many and neighbours find each other. Something
 * is always under way while a request waits, so that its turn comes.
 *
 * A fetch for several records that fails is repeated for each of them alone. Bounded twice: by the
 * number of requests, and by the bytes of all their records.
 */
#include "cold_internal.h"
#include "cold_read_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of the records under way together; a single one may always go. */
#define READER_BYTES_MAX (64u << 20)

/* The buffer that each fetch has for good. A larger record has one of its own. */
#define FETCH_BYTES (16u << 10)

/* What neighbours may take together. */
#define MERGED_BYTES_MAX (256u << 10)

/* With fewer fetches under way a request starts at once. */
#define EAGER_FETCHES 4

/* This many requests are worth a system call. */
#define BATCH_REQUESTS 16

struct fetch {
    struct cold_reader *reader;
    struct fetch *next_free;
    struct uring_op op;
    struct cold_request *requests; /* By ascending place */
    unsigned char *kept;           /* FETCH_BYTES of the reader's memory */
    unsigned char *bytes;          /* `kept`, a request's own, or the fetch's for this time */
    uint64_t offset;
    uint32_t length;   /* To read */
    uint32_t progress; /* Already read */
    unsigned tries;    /* Without progress */
};

struct cold_reader {
    struct cold *cold;
    struct uring *ring;
    struct cold_codec *codec;
    size_t n_requests_max;
    size_t n_requests; /* Queued and under way */
    uint64_t bytes;    /* Of their records */
    unsigned finished; /* Requests ever finished; wraps */
    bool delivering;   /* Inside `done` */
    bool closing;

    unsigned char *memory; /* FETCH_BYTES of each fetch */
    struct fetch *fetches;
    struct fetch *fetches_free;
    unsigned n_fetches_busy;
    struct cold_read_queue queue;
    struct cold_request *requests_free;
    /* One more than the bound: `done` may submit while its own request still holds the item. */
    struct cold_request requests[];
};

/* ------------------------------------------------------------------------------ open and close */

static void reader_free(struct cold_reader *reader)
{
    cold_read_queue_close(&reader->queue);
    cold_codec_free(reader->codec);
    free(reader->memory);
    free(reader->fetches);
    free(reader);
}

static int fetches_make(struct cold_reader *reader, uint32_t depth)
{
    reader->memory = aligned_alloc(COLD_BLOCK_BYTES, (size_t)depth * FETCH_BYTES);
    reader->fetches = calloc(depth, sizeof *reader->fetches);
    if (reader->memory == NULL || reader->fetches == NULL)
        return TIERS_NO_MEMORY;
    for (size_t i = 0; i < depth; i++) {
        struct fetch *fetch = &reader->fetches[i];
        fetch->reader = reader;
        fetch->kept = reader->memory + i * FETCH_BYTES;
        fetch->next_free = reader->fetches_free;
        reader->fetches_free = fetch;
    }
    return 0;
}

int cold_reader_open(struct cold *cold, int event_fd, struct cold_reader **ret_reader)
{
    size_t n = (size_t)cold->read_depth + cold->read_queue;
    struct cold_reader *reader = calloc(1, sizeof *reader + (n + 1) * sizeof *reader->requests);
    if (reader == NULL)
        return TIERS_NO_MEMORY;
    reader->cold = cold;
    reader->n_requests_max = n;
    for (size_t i = 0; i <= n; i++) {
        reader->requests[i].reader = reader;
        reader->requests[i].next = reader->requests_free;
        reader->requests_free = &reader->requests[i];
    }
    reader->codec = cold_codec_new();
    int status = reader->codec == NULL ? TIERS_NO_MEMORY : 0;
    if (status == 0)
        status = fetches_make(reader, cold->read_depth);
    if (status == 0)
        status = cold_read_queue_open(&reader->queue, n + 1);
    /* Its sentence was told by cold_open, which needs a ring too. */
    char error_text[1];
    if (status == 0)
        status =
            uring_open(cold->read_depth, event_fd, &reader->ring, error_text, sizeof error_text);
    if (status != 0) {
        reader_free(reader);
        return status;
    }
    (void)uring_memory_register(reader->ring, reader->memory,
                                (size_t)cold->read_depth * FETCH_BYTES);
    *ret_reader = reader;
    return 0;
}

static void request_finish(struct cold_request *request, int status, const struct cold_item *item);

void cold_reader_close(struct cold_reader *reader)
{
    assert(!reader->delivering);
    reader->closing = true;
    struct cold_request *request;
    while ((request = cold_read_queue_take(&reader->queue, 0)) != NULL)
        request_finish(request, TIERS_STOPPED, NULL);
    while (reader->n_fetches_busy > 0 && uring_wait(reader->ring) >= 0)
        ;
    /* If the ring failed the kernel may still write to the buffers: they are rather leaked. */
    if (uring_close(reader->ring))
        reader_free(reader);
}

/* ----------------------------------------------------------------------------------- completing */

/* Whether the record that was read is the one that was asked for. */
static int request_check(const struct cold_request *request, const struct fetch *fetch,
                         struct cold_item *ret_item)
{
    struct cold *cold = request->reader->cold;
    struct cold_item item = {.location = request->location};
    const unsigned char *bytes = fetch->bytes + (request->location.offset - fetch->offset);
    struct cold_dictionary *dictionary = NULL;
    uint32_t id = cold_record_dictionary(bytes);
    int status = 0;
    if (id != 0)
        status = cold_dictionaries_get(&cold->dictionaries, &cold->files, request->file, id,
                                       &dictionary);
    if (status == 0)
        status = cold_record_decode(request->reader->codec, bytes, request->location.bytes,
                                    dictionary, &item);
    cold_dictionary_release(dictionary);
    if (status == TIERS_NOT_FOUND || status == TIERS_VERSION)
        return TIERS_CORRUPT;
    if (status != 0)
        return status;
    if (item.space != request->space || item.key_len != request->key_len ||
        item.meta.mod_revision != request->mod_revision ||
        memcmp(item.key, request->key, request->key_len) != 0)
        return TIERS_CORRUPT;
    *ret_item = item;
    return 0;
}

static void request_finish(struct cold_request *request, int status, const struct cold_item *item)
{
    struct cold_reader *reader = request->reader;
    cold_files_release(&reader->cold->files, request->file);
    reader->n_requests--;
    reader->bytes -= request->length;
    reader->finished++;

    reader->delivering = true;
    request->done(request->owner, status, item);
    reader->delivering = false;

    free(request->bytes);
    request->bytes = NULL;
    request->next = reader->requests_free;
    reader->requests_free = request;
}

static void fetch_finish(struct fetch *fetch, int status)
{
    struct cold_reader *reader = fetch->reader;
    struct cold_request *request = fetch->requests;
    bool again = status != 0 && !reader->closing && request->next != NULL;
    bool own = fetch->bytes != fetch->kept && fetch->bytes != request->bytes;
    while (request != NULL) {
        struct cold_request *next = request->next;
        struct cold_item item;
        if (again) {
            request->alone = true;
            cold_read_queue_add(&reader->queue, request);
        } else {
            int checked = reader->closing ? TIERS_STOPPED : status;
            if (checked == 0)
                checked = request_check(request, fetch, &item);
            request_finish(request, checked, checked == 0 ? &item : NULL);
        }
        request = next;
    }
    if (own)
        free(fetch->bytes);
    fetch->bytes = NULL;
    fetch->requests = NULL;
    fetch->next_free = reader->fetches_free;
    reader->fetches_free = fetch;
    reader->n_fetches_busy--;
}

static void fetch_read(struct uring_op *op);

static void fetch_queue(struct fetch *fetch)
{
    fetch->op = (struct uring_op){
        .kind = URING_READ,
        .fd = fetch->requests->file->fd,
        .buffer = fetch->bytes + fetch->progress,
        .length = fetch->length - fetch->progress,
        .offset = fetch->offset + fetch->progress,
        .done = fetch_read,
        .owner = fetch,
    };
    uring_queue(fetch->reader->ring, &fetch->op);
}

/* Where the last record ends: what follows in its block need not be there. */
static uint64_t fetch_end(const struct fetch *fetch)
{
    uint64_t end = 0;
    for (const struct cold_request *at = fetch->requests; at != NULL; at = at->next)
        if (at->location.offset + at->location.bytes > end)
            end = at->location.offset + at->location.bytes;
    return end;
}

static void fetch_read(struct uring_op *op)
{
    struct fetch *fetch = op->owner;
    if (op->result > 0) {
        uint64_t progress = (uint64_t)fetch->progress + (uint32_t)op->result;
        if (progress >= fetch->length || fetch->offset + progress >= fetch_end(fetch)) {
            fetch_finish(fetch, 0);
            return;
        }
        progress = cold_align_down(progress);
        if (progress > fetch->progress)
            fetch->tries = 0;
        fetch->progress = (uint32_t)progress;
    } else if (op->result == 0) {
        /* The file ends within a record. */
        fetch_finish(fetch, TIERS_CORRUPT);
        return;
    } else if (op->result == -EINVAL) {
        cold_files_refuse_direct(&fetch->reader->cold->files, op->fd);
    } else if (op->result != -EAGAIN && op->result != -EINTR) {
        fetch_finish(fetch, uring_status(op->result));
        return;
    }
    if (++fetch->tries == COLD_TRIES_MAX)
        fetch_finish(fetch, TIERS_IO);
    else
        fetch_queue(fetch);
}

/* ------------------------------------------------------------------------------------- starting */

/* Gives the fetch a buffer for the requests, as many of them as memory allows; what does not fit
 * goes back into the queue. */
static void fetch_take(struct fetch *fetch, struct cold_request *requests)
{
    struct cold_read_queue *queue = &fetch->reader->queue;
    fetch->requests = requests;
    fetch->offset = requests->offset;
    uint64_t end = 0;
    for (const struct cold_request *at = requests; at != NULL; at = at->next)
        if (at->offset + at->length > end)
            end = at->offset + at->length;
    fetch->length = (uint32_t)(end - fetch->offset);
    fetch->progress = 0;
    fetch->tries = 0;

    fetch->bytes = requests->bytes != NULL ? requests->bytes : fetch->kept;
    if (requests->bytes != NULL || fetch->length <= FETCH_BYTES)
        return;
    fetch->bytes = aligned_alloc(COLD_BLOCK_BYTES, fetch->length);
    if (fetch->bytes != NULL)
        return;
    fetch->bytes = fetch->kept;
    fetch->length = requests->length;
    while (requests->next != NULL) {
        struct cold_request *back = requests->next;
        requests->next = back->next;
        cold_read_queue_add(queue, back);
    }
}

void cold_reader_flush(struct cold_reader *reader)
{
    while (reader->fetches_free != NULL) {
        struct cold_request *requests = cold_read_queue_take(&reader->queue, MERGED_BYTES_MAX);
        if (requests == NULL)
            break;
        struct fetch *fetch = reader->fetches_free;
        reader->fetches_free = fetch->next_free;
        reader->n_fetches_busy++;
        fetch_take(fetch, requests);
        fetch_queue(fetch);
    }
    uring_flush(reader->ring);
}

unsigned cold_reader_reap(struct cold_reader *reader)
{
    assert(!reader->delivering);
    unsigned before = reader->finished;
    (void)uring_reap(reader->ring);
    cold_reader_flush(reader);
    return reader->finished - before;
}

unsigned cold_reader_wait(struct cold_reader *reader)
{
    assert(!reader->delivering);
    unsigned before = reader->finished;
    cold_reader_flush(reader);
    while (reader->n_requests > 0 && reader->finished == before) {
        if (uring_wait(reader->ring) < 0)
            break;
        cold_reader_flush(reader);
    }
    return reader->finished - before;
}

/* ----------------------------------------------------------------------------------- submitting */

static bool location_possible(const struct cold_location *location, uint64_t file_bytes)
{
    return location->offset >= COLD_BLOCK_BYTES && location->bytes >= COLD_RECORD_HEADER_BYTES &&
           location->bytes <= COLD_RECORD_BYTES_MAX && location->offset <= file_bytes &&
           location->bytes <= file_bytes - location->offset;
}

/* Whether there is room for a record of these blocks; a large one gets its buffer. */
static int request_reserve(const struct cold_reader *reader, struct cold_request *request)
{
    if (reader->n_requests > 0 && reader->bytes + request->length > READER_BYTES_MAX)
        return TIERS_BUSY;
    request->alone = request->length > FETCH_BYTES;
    if (!request->alone)
        return 0;
    request->bytes = aligned_alloc(COLD_BLOCK_BYTES, request->length);
    return request->bytes == NULL ? TIERS_NO_MEMORY : 0;
}

int cold_reader_submit(struct cold_reader *reader, const struct cold_location *location,
                       enum tiers_space space, const void *key, size_t key_len,
                       uint64_t mod_revision, cold_read_done done, void *owner)
{
    if (reader->closing)
        return TIERS_STOPPED;
    if (reader->n_requests == reader->n_requests_max)
        return TIERS_BUSY;
    struct cold_file *file = NULL;
    uint64_t file_bytes = 0;
    int status = cold_files_acquire(&reader->cold->files, location->segment, &file, &file_bytes);
    if (status != 0)
        return status;

    struct cold_request *request = reader->requests_free;
    assert(request != NULL && request->bytes == NULL);
    status = TIERS_CORRUPT;
    if (location_possible(location, file_bytes)) {
        request->offset = cold_align_down(location->offset);
        request->length =
            (uint32_t)(cold_align_up(location->offset + location->bytes) - request->offset);
        status = request_reserve(reader, request);
    }
    if (status != 0) {
        cold_files_release(&reader->cold->files, file);
        return status;
    }
    reader->requests_free = request->next;
    request->file = file;
    request->location = *location;
    request->space = space;
    request->key = key;
    request->key_len = key_len;
    request->mod_revision = mod_revision;
    request->done = done;
    request->owner = owner;
    reader->n_requests++;
    reader->bytes += request->length;
    cold_read_queue_add(&reader->queue, request);
    if (!reader->delivering && (reader->n_fetches_busy < EAGER_FETCHES ||
                                cold_read_queue_count(&reader->queue) >= BATCH_REQUESTS))
        cold_reader_flush(reader);
    return 0;
}
