/* See sim_disk.h. */
#include "sim/sim_disk.h"

#include "raft/driver.h"
#include "sim/sim_counts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define LATENCY_MS_MAX 3

static struct sim_disk *disk_of(struct raft_io *io)
{
    return io->impl;
}

static void *copy_of(const void *bytes, size_t n)
{
    void *copy = raft_malloc(n > 0 ? n : 1);

    assert(copy != NULL);
    memcpy(copy, bytes, n);
    return copy;
}

void sim_disk_open(struct sim_disk *disk, const uint64_t *now_ms, struct random *random)
{
    memset(disk, 0, sizeof *disk);
    disk->now_ms = now_ms;
    disk->random = random;
    disk->latency_ms_max = LATENCY_MS_MAX;
    disk->first = 1;
    raft_configuration_init(&disk->snapshot_configuration);
}

static void entries_forget(struct sim_disk *disk, raft_index first, raft_index last)
{
    for (raft_index i = first; i <= last; i++) {
        raft_free(disk->stored[i].bytes);
        disk->stored[i].bytes = NULL;
    }
}

void sim_disk_close(struct sim_disk *disk)
{
    assert(disk->n_requests == 0);
    entries_forget(disk, disk->first, disk->last);
    raft_configuration_close(&disk->snapshot_configuration);
    raft_free(disk->snapshot_contents.base);
    free(disk->stored);
}

void sim_disk_replace(struct sim_disk *disk)
{
    assert(disk->n_requests == 0);
    entries_forget(disk, disk->first, disk->last);
    raft_configuration_close(&disk->snapshot_configuration);
    raft_configuration_init(&disk->snapshot_configuration);
    raft_free(disk->snapshot_contents.base);
    disk->snapshot_contents = (struct raft_buffer){0};
    disk->have_snapshot = false;
    disk->snapshot_index = disk->snapshot_configuration_index = 0;
    disk->snapshot_term = disk->term = 0;
    disk->vote = 0;
    disk->first = 1;
    disk->last = 0;
}

const struct sim_stored *sim_disk_entry(const struct sim_disk *disk, raft_index index)
{
    return index >= disk->first && index <= disk->last ? &disk->stored[index] : NULL;
}

/* ---- What is stored ---- */

static void entry_store(struct sim_disk *disk, const struct raft_entry *entry)
{
    raft_index index = ++disk->last;

    if (index >= disk->stored_capacity) {
        size_t capacity = 2 * index + 256;
        disk->stored = realloc(disk->stored, capacity * sizeof *disk->stored);
        assert(disk->stored != NULL);
        disk->stored_capacity = capacity;
    }
    disk->stored[index] = (struct sim_stored){.term = entry->term,
                                              .type = entry->type,
                                              .len = entry->buf.len,
                                              .bytes = copy_of(entry->buf.base, entry->buf.len)};
    if (disk->stored_entry != NULL)
        disk->stored_entry(disk->context, index, &disk->stored[index]);
}

/* `trailing` entries before the snapshot stay; 0: the log begins anew behind it. */
static void snapshot_store(struct sim_disk *disk, const struct raft_snapshot *snapshot,
                           unsigned trailing)
{
    raft_configuration_close(&disk->snapshot_configuration);
    int rv = driver_configuration_copy(&snapshot->configuration, &disk->snapshot_configuration);
    assert(rv == 0 && snapshot->n_bufs == 1);
    (void)rv;
    raft_free(disk->snapshot_contents.base);
    disk->snapshot_contents.len = snapshot->bufs[0].len;
    disk->snapshot_contents.base = copy_of(snapshot->bufs[0].base, snapshot->bufs[0].len);
    disk->have_snapshot = true;
    disk->snapshot_index = snapshot->index;
    disk->snapshot_term = snapshot->term;
    disk->snapshot_configuration_index = snapshot->configuration_index;
    if (trailing == 0) {
        entries_forget(disk, disk->first, disk->last);
        disk->first = snapshot->index + 1;
        disk->last = snapshot->index;
        if (disk->stored_base != NULL)
            disk->stored_base(disk->context, snapshot->index, snapshot->term);
    }
    while (disk->first + trailing <= snapshot->index) {
        entries_forget(disk, disk->first, disk->first);
        disk->first++;
    }
}

static struct raft_snapshot *snapshot_load(const struct sim_disk *disk)
{
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof *snapshot);

    assert(snapshot != NULL);
    snapshot->index = disk->snapshot_index;
    snapshot->term = disk->snapshot_term;
    snapshot->configuration_index = disk->snapshot_configuration_index;
    int rv = driver_configuration_copy(&disk->snapshot_configuration, &snapshot->configuration);
    assert(rv == 0);
    (void)rv;
    snapshot->bufs = raft_malloc(sizeof *snapshot->bufs);
    assert(snapshot->bufs != NULL);
    snapshot->bufs[0].len = disk->snapshot_contents.len;
    snapshot->bufs[0].base = copy_of(disk->snapshot_contents.base, disk->snapshot_contents.len);
    snapshot->n_bufs = 1;
    return snapshot;
}

/* Carries the request out; of an append the first `n` entries. */
static void request_store(struct sim_disk *disk, const struct sim_disk_request *request, unsigned n)
{
    if (request->truncate > 0) {
        entries_forget(disk, request->truncate, disk->last);
        disk->last = request->truncate - 1;
        sim_count(SIM_COUNT_LOGS_TAKEN_BACK);
    } else if (request->append != NULL) {
        for (unsigned i = 0; i < n; i++)
            entry_store(disk, &request->entries[i]);
    } else if (request->put != NULL) {
        snapshot_store(disk, request->snapshot, request->n);
        if (request->n > 0)
            sim_count(SIM_COUNT_LOGS_CUT);
    }
}

static void request_answer(const struct sim_disk *disk, const struct sim_disk_request *request,
                           int status)
{
    if (request->append != NULL)
        request->append->cb(request->append, status);
    else if (request->put != NULL)
        request->put->cb(request->put, status);
    else if (request->get != NULL)
        request->get->cb(request->get, status == 0 ? snapshot_load(disk) : NULL, status);
}

static struct sim_disk_request request_take(struct sim_disk *disk)
{
    struct sim_disk_request request = disk->requests[0];

    disk->n_requests--;
    memmove(disk->requests, disk->requests + 1, disk->n_requests * sizeof request);
    return request;
}

uint64_t sim_disk_due_ms(const struct sim_disk *disk)
{
    return disk->n_requests > 0 && !disk->stalled ? disk->requests[0].due_ms : UINT64_MAX;
}

void sim_disk_complete(struct sim_disk *disk, bool all)
{
    while (disk->n_requests > 0 && (all || sim_disk_due_ms(disk) <= *disk->now_ms)) {
        struct sim_disk_request request = request_take(disk);
        bool writes = request.get == NULL;
        bool fails = writes && (disk->failed || (disk->full && request.truncate == 0));
        if (fails && !disk->failed)
            sim_count(SIM_COUNT_APPENDS_NO_SPACE);
        disk->failed = disk->failed || (fails && request.append != NULL);
        if (!fails)
            request_store(disk, &request, request.n);
        request_answer(disk, &request, fails ? RAFT_NOSPACE : 0);
    }
}

void sim_disk_crash(struct sim_disk *disk)
{
    size_t reached = (size_t)random_below(disk->random, disk->n_requests + 1);

    for (size_t i = 0; i < reached && !disk->full && !disk->failed; i++) {
        const struct sim_disk_request *request = &disk->requests[i];
        unsigned n = request->n;
        if (i + 1 == reached && n > 0)
            n = (unsigned)random_below(disk->random, n + UINT64_C(1));
        if (request->append != NULL && n > 0 && n < request->n)
            sim_count(SIM_COUNT_APPENDS_TORN);
        /* A snapshot is there or not. */
        if (request->append != NULL || n == request->n)
            request_store(disk, request, n);
    }
    if (disk->forgets_vote)
        disk->vote = 0;
    if (disk->forgets_entries && disk->last > disk->first) {
        entries_forget(disk, disk->last, disk->last);
        disk->last--;
    }
    while (disk->n_requests > 0) {
        struct sim_disk_request request = request_take(disk);
        if (request.append != NULL && reached == 0)
            sim_count(SIM_COUNT_ENTRIES_LOST);
        reached -= reached > 0;
        request_answer(disk, &request, RAFT_CANCELED);
    }
}

/* ---- raft_io ---- */

static int set_term(struct raft_io *io, raft_term term)
{
    disk_of(io)->term = term;
    disk_of(io)->vote = 0; /* As the real one does */
    return 0;
}

static int set_vote(struct raft_io *io, raft_id vote)
{
    disk_of(io)->vote = vote;
    return 0;
}

static int request_add(struct raft_io *io, struct sim_disk_request request)
{
    struct sim_disk *disk = disk_of(io);
    uint64_t after_ms = *disk->now_ms;

    assert(disk->n_requests < SIM_DISK_REQUESTS_MAX);
    if (disk->n_requests > 0 && disk->requests[disk->n_requests - 1].due_ms > after_ms)
        after_ms = disk->requests[disk->n_requests - 1].due_ms;
    request.due_ms = after_ms + random_below(disk->random, disk->latency_ms_max + 1);
    disk->requests[disk->n_requests++] = request;
    return 0;
}

static int append(struct raft_io *io, struct raft_io_append *request,
                  const struct raft_entry entries[], unsigned n, raft_io_append_cb done)
{
    request->cb = done;
    return request_add(io,
                       (struct sim_disk_request){.append = request, .entries = entries, .n = n});
}

static int truncate_from(struct raft_io *io, raft_index index)
{
    return request_add(io, (struct sim_disk_request){.truncate = index});
}

static int snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *put,
                        const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb done)
{
    put->cb = done;
    return request_add(io,
                       (struct sim_disk_request){.put = put, .snapshot = snapshot, .n = trailing});
}

static int snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *get,
                        raft_io_snapshot_get_cb done)
{
    get->cb = done;
    return request_add(io, (struct sim_disk_request){.get = get});
}

static int load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot,
                raft_index *start, struct raft_entry *entries[], size_t *n)
{
    struct sim_disk *disk = disk_of(io);

    disk->failed = false;
    *term = disk->term;
    *vote = disk->vote;
    *snapshot = disk->have_snapshot ? snapshot_load(disk) : NULL;
    *start = disk->first;
    *n = (size_t)(disk->last + 1 - disk->first);
    *entries = *n > 0 ? raft_malloc(*n * sizeof **entries) : NULL;
    for (size_t i = 0; i < *n; i++) {
        const struct sim_stored *stored = &disk->stored[disk->first + i];
        struct raft_entry *entry = &(*entries)[i];
        *entry = (struct raft_entry){.term = stored->term, .type = stored->type};
        entry->buf.len = stored->len;
        entry->buf.base = entry->batch = copy_of(stored->bytes, stored->len);
    }
    return 0;
}

static int bootstrap(struct raft_io *io, const struct raft_configuration *configuration)
{
    struct sim_disk *disk = disk_of(io);
    struct raft_entry entry = {.term = 1, .type = RAFT_CHANGE};
    int rv;

    if (disk->term != 0 || disk->last != 0)
        return RAFT_CANTBOOTSTRAP;
    rv = raft_configuration_encode(configuration, &entry.buf);
    if (rv != 0)
        return rv;
    disk->term = 1;
    entry_store(disk, &entry);
    raft_free(entry.buf.base);
    return 0;
}

void sim_disk_io(struct sim_disk *disk, struct raft_io *io)
{
    io->version = 2;
    io->impl = disk;
    io->load = load;
    io->bootstrap = bootstrap;
    io->set_term = set_term;
    io->set_vote = set_vote;
    io->append = append;
    io->truncate = truncate_from;
    io->snapshot_put = snapshot_put;
    io->snapshot_get = snapshot_get;
}
