/* Start and stop of a replica, and what other threads may call. The rest runs on its loop: loop.c.
 *
 * Starting happens on the caller's thread up to the point where everything is loaded and listening;
 * only then does the raft thread begin. A failure on the way takes down, through the loop, what was
 * up already, and leaves nothing behind.
 */
#include "raft/replica_private.h"

#include "log.h"
#include "raft/install.h"
#include "raft/segments.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_RETRY_MS 100
/* The measured throughput is flat from 8 MiB on, and two prepared segments cost twice their size.
 */
#define SEGMENT_BYTES (8u << 20)
#define TICK_NEVER_MS (1000u * 3600u)

/* ---- Starting and stopping ---- */

static int options_copy(struct replica_options *copy, const struct replica_options *options)
{
    *copy = *options;
    copy->directory = strdup(options->directory);
    copy->identity_path = strdup(options->identity_path);
    copy->name = strdup(options->name);
    copy->raft_address = strdup(options->raft_address);
    copy->raft_listen = strdup(options->raft_listen);
    copy->http_address = strdup(options->http_address);
    copy->version = strdup(options->version);
    copy->manifest_path = options->manifest_path != NULL ? strdup(options->manifest_path) : NULL;
    return copy->directory != NULL && copy->identity_path != NULL && copy->name != NULL &&
                   copy->raft_address != NULL && copy->raft_listen != NULL &&
                   copy->http_address != NULL && copy->version != NULL &&
                   (copy->manifest_path != NULL || options->manifest_path == NULL)
               ? 0
               : -1;
}

static void text_free(const char *text)
{
    free((char *)(uintptr_t)text);
}

static void replica_free(struct replica *replica)
{
    if (replica->state != NULL)
        command_state_close(replica->state);
    inbox_free(replica->inbox);
    command_compressor_free(replica->compressor);
    free(replica->results);
    text_free(replica->options.directory);
    text_free(replica->options.identity_path);
    text_free(replica->options.name);
    text_free(replica->options.raft_address);
    text_free(replica->options.raft_listen);
    text_free(replica->options.http_address);
    text_free(replica->options.version);
    text_free(replica->options.manifest_path);
    pthread_mutex_destroy(&replica->view_mutex);
    free(replica);
}

static struct replica *replica_new(const struct replica_options *options)
{
    struct replica *replica = calloc(1, sizeof *replica);

    if (replica == NULL)
        return NULL;
    pthread_mutex_init(&replica->view_mutex, NULL);
    replica->tiers = options->tiers;
    replica->pending_end = &replica->pending;
    replica->batches_end = &replica->batches;
    replica->inbox = inbox_new(options->operations_max);
    if (options->log_compression)
        replica->compressor = command_compressor_new();
    if (options_copy(&replica->options, options) != 0 || replica->inbox == NULL ||
        (options->log_compression && replica->compressor == NULL)) {
        replica_free(replica);
        return NULL;
    }
    return replica;
}

static int bootstrap(struct replica *replica)
{
    struct raft_configuration configuration;
    int rv;

    raft_configuration_init(&configuration);
    rv = raft_configuration_add(&configuration, replica->identity.raft_id,
                                replica->options.raft_address, RAFT_VOTER);
    if (rv == 0)
        rv = replica->io.bootstrap(&replica->io, &configuration);
    raft_configuration_close(&configuration);
    return rv == RAFT_CANTBOOTSTRAP ? 0 : rv;
}

/* Appends a configuration of this node alone to the log. */
static int recover_alone(struct replica *replica)
{
    struct raft_configuration configuration;
    int rv;

    raft_configuration_init(&configuration);
    rv = raft_configuration_add(&configuration, replica->identity.raft_id,
                                replica->options.raft_address, RAFT_VOTER);
    if (rv == 0)
        rv = replica->io.recover(&replica->io, &configuration);
    raft_configuration_close(&configuration);
    return rv;
}

static int backend_open(struct replica *replica, raft_index applied)
{
    struct driver_options options = {
        .id = replica->identity.raft_id,
        .address = replica->options.raft_address,
        .election_timeout_ms = replica->options.election_timeout_ms,
        .heartbeat_ms = replica->options.heartbeat_ms,
        .seed = (unsigned)(uv_hrtime() ^ replica->identity.incarnation),
        .applied = applied,
        .spill_directory = replica->options.directory,
        .spill_bytes_max =
            replica->options.transfer_log_bytes_max + replica->options.log_retained_bytes,
        .spill_free_bytes_min = 2 * replica->options.disk_free_bytes_min};
    struct raft_io *io = &replica->io;
    int rv = raft_uv_init(io, &replica->loop, replica->options.directory,
                          transport_base(replica->transport));

    if (rv != 0)
        return rv;
    replica->stage = REPLICA_STAGE_BACKEND;
    rv = driver_init(&replica->driver, io, &options, &replica_loop_driver_callbacks, replica);
    if (rv != 0)
        return rv;
    replica->stage = REPLICA_STAGE_DRIVER;
    raft_uv_set_segment_size(io, SEGMENT_BYTES);
    raft_uv_set_connect_retry_delay(io, CONNECT_RETRY_MS);
    raft_uv_set_tracer(io, NULL);
    /* It would move a damaged segment aside and go on without entries that were acknowledged. */
    raft_uv_set_auto_recovery(io, false);
    /* The backend keeps the pointer: give it the core's copy. */
    rv = io->init(io, replica->identity.raft_id, replica->driver.raft.address);
    if (rv != 0)
        return rv;
    replica->stage = REPLICA_STAGE_RUNNING;
    replica->backend_truncate = io->truncate;
    io->truncate = truncate_backend;
    /* Only what is new in every respect may form a cluster: a directory that lost its log must not
     * begin another one under the same identity. */
    if (replica->options.force_new_cluster)
        rv = recover_alone(replica);
    else if (replica->options.bootstrap && applied == 0 && replica->identity.cluster_id == 0)
        rv = bootstrap(replica);
    return rv;
}

static int raft_open(struct replica *replica, char *error_text, size_t error_text_size)
{
    struct tiers_position position;
    char reason[400];
    int rv;

    tiers_position_applied(replica->tiers, &position);
    if (replica->options.force_new_cluster && replica->identity.cluster_id == 0) {
        snprintf(error_text, error_text_size,
                 "force_new_cluster: this node was in no cluster that could be continued");
        return -1;
    }
    rv = backend_open(replica, position.index);
    if (rv != 0)
        goto fail;
    uv_update_time(&replica->loop);
    if (driver_start(&replica->driver, reason, sizeof reason) != 0) {
        snprintf(error_text, error_text_size, "%s: %s", replica->options.directory, reason);
        return -1;
    }
    if (replica->driver.disk_term == 0 && replica->identity.cluster_id != 0) {
        /* With its log it has forgotten its vote, and must not vote again. */
        snprintf(error_text, error_text_size,
                 "%s: this node belongs to cluster %" PRIx64
                 ", but its log is gone: join it under another name, with an empty directory",
                 replica->options.directory, replica->identity.cluster_id);
        return -1;
    }
    rv = replica->io.start(&replica->io, TICK_NEVER_MS, replica_loop_tick, replica_loop_received);
    if (rv == 0)
        return 0;
fail:
    snprintf(error_text, error_text_size, "%s: %s (%s)", replica->options.directory,
             raft_strerror(rv), replica->io.errmsg);
    return -1;
}

static int prepare_directory(struct replica *replica, char *error_text, size_t error_text_size)
{
    unsigned removed = 0;
    int rv = segments_repair(replica->options.directory, &removed, error_text, error_text_size);

    if (rv == 0 && removed > 0)
        log_warning("removed what an interrupted truncation of the log left",
                    LOG_U64("files", removed));
    return rv;
}

/* A state that came from another node: the log has to follow, if it has not yet. */
static int transferred_log_open(struct replica *replica, char *error_text, size_t error_text_size)
{
    const struct replica_options *options = &replica->options;
    unsigned char contents[TRUNCATE_CONTENTS_BYTES];
    struct manifest manifest;
    int rv = options->manifest_path != NULL ? manifest_load(options->manifest_path, &manifest)
                                            : RAFT_NOTFOUND;

    if (rv == RAFT_NOTFOUND)
        return 0;
    if (rv != 0) {
        snprintf(error_text, error_text_size, "%s: %s", options->manifest_path, raft_strerror(rv));
        return -1;
    }
    truncate_contents(manifest.cluster_id, manifest.index, contents);
    rv = install_log(&replica->loop, options->directory, replica->identity.raft_id,
                     options->raft_address, &manifest, contents, sizeof contents, error_text,
                     error_text_size);
    manifest_close(&manifest);
    return rv;
}

/* What needs no loop. */
static int files_open(struct replica *replica, char *error_text, size_t error_text_size)
{
    const struct replica_options *options = &replica->options;
    int rv;

    if (identity_open(options->identity_path, options->name, &replica->identity, error_text,
                      error_text_size) != 0 ||
        prepare_directory(replica, error_text, error_text_size) != 0)
        return -1;
    self_prepare(replica);
    rv = command_state_open(options->tiers, &replica->state);
    if (rv != 0) {
        snprintf(error_text, error_text_size, "member table: %s", tiers_strerror(rv));
        return -1;
    }
    /* A new cluster was formed, and the end came before this was remembered. */
    if (command_cluster_id_before(replica->state) != 0 &&
        command_cluster_id_before(replica->state) == replica->identity.cluster_id) {
        replica->identity.cluster_id = command_cluster_id(replica->state);
        if (identity_store(options->identity_path, &replica->identity) != 0) {
            snprintf(error_text, error_text_size, "%s: %s", options->identity_path,
                     strerror(errno));
            return -1;
        }
    }
    return 0;
}

static int loop_and_peers_open(struct replica *replica, char *error_text, size_t error_text_size)
{
    int rv = uv_loop_init(&replica->loop);

    if (rv == 0) {
        replica->stage = REPLICA_STAGE_LOOP;
        if (transferred_log_open(replica, error_text, error_text_size) != 0)
            return -1;
        rv = replica_loop_open(replica);
    }
    if (rv != 0) {
        snprintf(error_text, error_text_size, "event loop: %s", uv_strerror(rv));
        return -1;
    }
    replica->stage = REPLICA_STAGE_HANDLES;
    if (transport_open(&replica->loop, replica->options.raft_listen, &admission_callbacks, replica,
                       &replica->transport, error_text, error_text_size) != 0)
        return -1;
    replica->stage = REPLICA_STAGE_TRANSPORT;
    return 0;
}

/* Takes down what a start that failed had opened. */
static void loop_take_down(struct replica *replica)
{
    enum replica_stage stage = replica->stage;
    struct raft_uv_transport *transport;

    if (stage == REPLICA_STAGE_NONE)
        return;
    if (stage == REPLICA_STAGE_RUNNING) {
        driver_stop(&replica->driver);
        replica->io.close(&replica->io, replica_loop_io_closed);
    } else {
        if (stage >= REPLICA_STAGE_DRIVER)
            driver_close(&replica->driver);
        if (stage >= REPLICA_STAGE_BACKEND)
            raft_uv_close(&replica->io);
        if (stage >= REPLICA_STAGE_TRANSPORT) {
            transport = transport_base(replica->transport);
            transport->close(transport, NULL);
        }
        if (stage >= REPLICA_STAGE_HANDLES)
            replica_loop_close(replica);
    }
    uv_run(&replica->loop, UV_RUN_DEFAULT);
}

static void loop_end(struct replica *replica)
{
    int rv;

    if (replica->stage == REPLICA_STAGE_NONE)
        return;
    rv = uv_loop_close(&replica->loop);
    assert(rv == 0);
    (void)rv;
    if (replica->stage >= REPLICA_STAGE_TRANSPORT)
        transport_free(replica->transport);
}

int replica_start(const struct replica_options *options, struct replica **ret_replica,
                  char *error_text, size_t error_text_size)
{
    struct replica *replica = replica_new(options);
    int rv;

    if (replica == NULL) {
        snprintf(error_text, error_text_size, "out of memory");
        return -1;
    }
    if (files_open(replica, error_text, error_text_size) != 0 ||
        loop_and_peers_open(replica, error_text, error_text_size) != 0 ||
        raft_open(replica, error_text, error_text_size) != 0)
        goto fail;
    view_publish(replica);
    rv = pthread_create(&replica->thread, NULL, replica_loop_run, replica);
    if (rv != 0) {
        snprintf(error_text, error_text_size, "thread: %s", strerror(rv));
        goto fail;
    }
    *ret_replica = replica;
    return 0;
fail:
    loop_take_down(replica);
    loop_end(replica);
    replica_free(replica);
    return -1;
}

void replica_stop(struct replica *replica)
{
    atomic_store(&replica->stopping, true);
    uv_async_send(&replica->wake);
    pthread_join(replica->thread, NULL);
    loop_end(replica);
    replica_free(replica);
}

/* ---- What other threads call ---- */

int replica_admit(struct replica *replica, const struct replica_operation *operation)
{
    bool write = operation->type == REPLICA_WRITE;
    size_t bytes = write ? operation->command_bytes : 0;

    if (atomic_load_explicit(&replica->stopped, memory_order_relaxed))
        return REPLICA_STOPPED;
    if (atomic_load_explicit(&replica->stopping, memory_order_relaxed))
        return REPLICA_SHUTDOWN;
    if (write && (atomic_load_explicit(&replica->no_space, memory_order_relaxed) ||
                  tiers_no_space(replica->tiers)))
        return REPLICA_NO_SPACE;
    if (atomic_fetch_add(&replica->waiting_n, 1) >= replica->options.operations_max) {
        atomic_fetch_sub(&replica->waiting_n, 1);
        return REPLICA_BUSY;
    }
    if (atomic_fetch_add(&replica->waiting_bytes, bytes) + bytes >
        replica->options.operations_bytes_max) {
        atomic_fetch_sub(&replica->waiting_bytes, bytes);
        atomic_fetch_sub(&replica->waiting_n, 1);
        return REPLICA_BUSY;
    }
    return 0;
}

void replica_send(struct replica *replica, struct replica_operation *first,
                  struct replica_operation *last, size_t n)
{
    /* Admission bounds the number: the inbox need not. */
    inbox_put_chain_always(replica->inbox, &first->item, &last->item, n);
}

int replica_submit(struct replica *replica, struct replica_operation *operation)
{
    int status = replica_admit(replica, operation);

    if (status == 0)
        replica_send(replica, operation, operation, 1);
    return status;
}

bool replica_hand_over(struct replica *replica)
{
    struct replica_change change = {0};
    struct replica_operation *operation = replica_change_new(REPLICA_TRANSFER, &change);
    struct inbox *reply = inbox_new(1);
    bool done = false;

    if (operation != NULL && reply != NULL && replica_is_leader(replica)) {
        operation->reply = reply;
        if (replica_submit(replica, operation) == 0) {
            /* It always comes back, and not much later than asked for. */
            struct pollfd readable = {.fd = inbox_fd(reply), .events = POLLIN};
            while (inbox_take(reply) == NULL)
                poll(&readable, 1, -1);
            done = operation->status == 0 || operation->status == REPLICA_NOT_LEADER;
        }
    } else {
        done = !replica_is_leader(replica);
    }
    replica_operation_free(operation);
    inbox_free(reply);
    return done;
}

void replica_on_durable(struct replica *replica, uint64_t index)
{
    /* Two threads may tell at once, and the older news last. */
    uint64_t known = atomic_load(&replica->durable_index);

    while (known < index && !atomic_compare_exchange_weak(&replica->durable_index, &known, index))
        ;
    uv_async_send(&replica->wake);
}

void replica_on_tiers_ready(struct replica *replica)
{
    uv_async_send(&replica->wake); /* The loop's next turn applies */
}

const char *replica_name(const struct replica *replica)
{
    return replica->identity.name;
}

uint64_t replica_raft_id(const struct replica *replica)
{
    return replica->identity.raft_id;
}

uint64_t replica_incarnation(const struct replica *replica)
{
    return replica->identity.incarnation;
}
