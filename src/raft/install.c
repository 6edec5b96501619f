/* See install.h.
 *
 * The state was switched to before the log is: a crash between the two leaves a state whose index
 * the log does not know, and the next start comes here again. The backend is opened for this alone
 * and closed again; it is never told of a peer. Main thread. */
#include "raft/install.h"

#include "log.h"

#include <assert.h>
#include <raft/uv.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct install {
    struct raft_io io;
    struct raft_uv_transport transport; /* That connects nobody */
    struct raft_snapshot snapshot;
    struct raft_buffer data;
    struct raft_io_snapshot_put put;
    bool put_done;
    int put_status;
    bool closed;
    raft_uv_transport_close_cb transport_closed;
    uv_idle_t closing; /* A transport closes in a later turn of the loop */
};

/* ---- A transport for nobody ---- */

static int transport_init(struct raft_uv_transport *transport, raft_id id, const char *address)
{
    (void)transport;
    (void)id;
    (void)address;
    return 0;
}

static int transport_listen(struct raft_uv_transport *transport, raft_uv_accept_cb accept)
{
    (void)transport;
    (void)accept;
    return 0;
}

static int transport_connect(struct raft_uv_transport *transport, struct raft_uv_connect *request,
                             raft_id id, const char *address, raft_uv_connect_cb done)
{
    (void)transport;
    (void)request;
    (void)id;
    (void)address;
    (void)done;
    return RAFT_NOCONNECTION;
}

static void idle_closed(uv_handle_t *handle)
{
    struct install *install = handle->data;

    install->transport_closed(&install->transport);
}

static void transport_close(struct raft_uv_transport *transport, raft_uv_transport_close_cb closed)
{
    struct install *install = transport->impl;

    install->transport_closed = closed;
    uv_close((uv_handle_t *)&install->closing, idle_closed);
}

/* ---- Loading and putting ---- */

static void snapshot_free(struct raft_snapshot *snapshot)
{
    raft_configuration_close(&snapshot->configuration);
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        raft_free(snapshot->bufs[i].base);
    raft_free(snapshot->bufs);
    raft_free(snapshot);
}

static void entries_free(struct raft_entry *entries, size_t n)
{
    void *batch = NULL;

    for (size_t i = 0; i < n; i++) {
        if (entries[i].batch != batch)
            raft_free(entries[i].batch);
        batch = entries[i].batch;
    }
    raft_free(entries);
}

/* Whether the log has the index already: in a snapshot, or as an entry of that term. */
static int log_has(struct raft_io *io, const struct manifest *manifest, bool *ret_has)
{
    struct raft_snapshot *snapshot = NULL;
    struct raft_entry *entries = NULL;
    raft_term term;
    raft_id vote;
    raft_index start;
    size_t n;
    int rv = io->load(io, &term, &vote, &snapshot, &start, &entries, &n);

    if (rv != 0)
        return rv;
    *ret_has = (snapshot != NULL && snapshot->index >= manifest->index) ||
               (manifest->index >= start && manifest->index - start < n &&
                entries[manifest->index - start].term == manifest->term);
    if (snapshot != NULL)
        snapshot_free(snapshot);
    if (entries != NULL)
        entries_free(entries, n);
    return 0;
}

static void put_done(struct raft_io_snapshot_put *put, int status)
{
    struct install *install = put->data;

    install->put_status = status;
    install->put_done = true;
}

static int put_snapshot(struct install *install, uv_loop_t *loop, const struct manifest *manifest)
{
    int rv;

    install->snapshot = (struct raft_snapshot){.index = manifest->index,
                                               .term = manifest->term,
                                               .configuration = manifest->configuration,
                                               .configuration_index = manifest->configuration_index,
                                               .bufs = &install->data,
                                               .n_bufs = 1};
    install->put.data = install;
    rv = install->io.snapshot_put(&install->io, 0, &install->put, &install->snapshot, put_done);
    while (rv == 0 && !install->put_done)
        uv_run(loop, UV_RUN_ONCE);
    return rv != 0 ? rv : install->put_status;
}

static void backend_closed(struct raft_io *io)
{
    struct install *install = (struct install *)((char *)io - offsetof(struct install, io));

    install->closed = true;
}

static int backend_use(struct install *install, uv_loop_t *loop, raft_id id, const char *address,
                       const struct manifest *manifest)
{
    struct raft_io *io = &install->io;
    bool has = false;
    int rv = io->init(io, id, address);

    if (rv == 0)
        rv = log_has(io, manifest, &has);
    if (rv == 0 && !has) {
        rv = put_snapshot(install, loop, manifest);
        if (rv == 0)
            log_info("log replaced: it continues the state that was received",
                     LOG_U64("index", manifest->index));
    }
    return rv;
}

int install_log(uv_loop_t *loop, const char *directory, raft_id id, const char *address,
                const struct manifest *manifest, const void *data, size_t data_bytes,
                char *error_text, size_t error_text_size)
{
    struct install install = {0};
    int rv;

    install.transport = (struct raft_uv_transport){.version = 1,
                                                   .impl = &install,
                                                   .init = transport_init,
                                                   .listen = transport_listen,
                                                   .connect = transport_connect,
                                                   .close = transport_close};
    install.data.base = raft_malloc(data_bytes);
    if (install.data.base == NULL) {
        snprintf(error_text, error_text_size, "out of memory");
        return -1;
    }
    memcpy(install.data.base, data, data_bytes);
    install.data.len = data_bytes;
    rv = uv_idle_init(loop, &install.closing);
    assert(rv == 0);
    install.closing.data = &install;
    rv = raft_uv_init(&install.io, loop, directory, &install.transport);
    if (rv == 0) {
        raft_uv_set_tracer(&install.io, NULL);
        raft_uv_set_auto_recovery(&install.io, false);
        rv = backend_use(&install, loop, id, address, manifest);
        if (rv != 0)
            snprintf(error_text, error_text_size, "%s: the log cannot follow the state: %s (%s)",
                     directory, raft_strerror(rv), install.io.errmsg);
        install.io.close(&install.io, backend_closed);
        while (!install.closed)
            uv_run(loop, UV_RUN_ONCE);
        raft_uv_close(&install.io);
    } else {
        snprintf(error_text, error_text_size, "%s: %s", directory, raft_strerror(rv));
        uv_close((uv_handle_t *)&install.closing, NULL);
    }
    uv_run(loop, UV_RUN_NOWAIT);
    raft_free(install.data.base);
    return rv == 0 ? 0 : -1;
}
