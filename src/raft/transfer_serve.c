/* Giving the state to a node that lacks it: see transfer.h.
 *
 * A slot per transfer: the raft loop takes the connection, remembers from where on the log must
 * stay, and starts a thread. That takes a checkpoint, asks the loop for the term and the
 * configuration that go with its position (the core is the loop's), and sends. After it ended the
 * log stays for a while, for the node to start and to be sent what came meanwhile. */
#include "raft/transfer.h"

#include "log.h"
#include "raft/manifest.h"
#include "raft/replica_private.h"

#include "tiers/checkpoint.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* How long after its end the log waits for the node to come and continue it. */
#define HOLD_MS_MAX 60000
/* Codes of our own for the sink, outside those of the tiers. */
#define SINK_BROKEN -1000

/* ---- The thread ---- */

/* Waits until what was sent is no more than the limit allows. */
static void throttle(struct transfer_serving *serving, size_t n)
{
    uint64_t limit = serving->replica->options.transfer_bytes_per_second_max;
    struct timespec now;

    serving->sent_bytes += n;
    if (limit == 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double elapsed = (double)(now.tv_sec - serving->began.tv_sec) +
                     (double)(now.tv_nsec - serving->began.tv_nsec) / 1e9;
    double ahead = (double)serving->sent_bytes / (double)limit - elapsed;
    if (ahead < 0.005)
        return;
    struct timespec pause = {.tv_sec = (time_t)ahead,
                             .tv_nsec = (long)((ahead - (double)(time_t)ahead) * 1e9)};
    nanosleep(&pause, NULL);
}

static int sink(void *context, const void *bytes, size_t n)
{
    struct transfer_serving *serving = context;

    if (atomic_load(&serving->cancelled) || transfer_send(serving->fd, bytes, n) != 0)
        return SINK_BROKEN;
    throttle(serving, n);
    return 0;
}

/* Asks the raft loop. False: it cannot tell. */
static bool ask(struct transfer_serving *serving, raft_index index)
{
    bool known;

    pthread_mutex_lock(&serving->mutex);
    serving->asked = index;
    pthread_mutex_unlock(&serving->mutex);
    uv_async_send(&serving->replica->wake);
    pthread_mutex_lock(&serving->mutex);
    while (serving->asked != 0 && !atomic_load(&serving->cancelled))
        pthread_cond_wait(&serving->answered, &serving->mutex);
    known = serving->asked == 0 && serving->manifest != NULL;
    pthread_mutex_unlock(&serving->mutex);
    return known;
}

static const char *give(struct transfer_serving *serving, struct tiers_checkpoint *checkpoint)
{
    struct tiers_position position;
    uint32_t n;
    int error;

    tiers_checkpoint_position(checkpoint, &position);
    if (!ask(serving, position.index))
        return "the log does not reach back to what the tiers hold durably";
    n = htole32((uint32_t)serving->manifest_bytes);
    if (sink(serving, &n, sizeof n) != 0 ||
        sink(serving, serving->manifest, serving->manifest_bytes) != 0)
        return "the connection broke";
    error = tiers_checkpoint_write(checkpoint, sink, serving);
    if (error == SINK_BROKEN)
        return "the connection broke";
    return error != 0 ? tiers_strerror(error) : NULL;
}

static void *serving_run(void *argument)
{
    struct transfer_serving *serving = argument;
    struct tiers_checkpoint *checkpoint = NULL;
    const char *failure = NULL;
    int error;

    transfer_thread_begin();
    error = tiers_checkpoint_open(serving->replica->tiers, &checkpoint);
    if (error != 0) {
        failure = tiers_strerror(error);
    } else {
        failure = give(serving, checkpoint);
        tiers_checkpoint_close(checkpoint);
    }
    if (failure == NULL)
        log_info("state sent", LOG_HEX("raft_id", serving->peer),
                 LOG_U64("bytes", serving->sent_bytes));
    else
        log_warning("state not sent", LOG_HEX("raft_id", serving->peer),
                    LOG_TEXT("reason", failure), LOG_U64("bytes", serving->sent_bytes));
    atomic_store(&serving->ended, true);
    uv_async_send(&serving->replica->wake);
    return NULL;
}

/* ---- The loop ---- */

static struct transfer_serving *slot_for(struct replica *replica, uint64_t peer)
{
    for (size_t i = 0; i < TRANSFERS_MAX; i++)
        if (replica->servings[i].used && replica->servings[i].peer == peer)
            return replica->servings[i].running ? NULL : &replica->servings[i];
    for (size_t i = 0; i < TRANSFERS_MAX; i++)
        if (!replica->servings[i].used)
            return &replica->servings[i];
    return NULL;
}

static void slot_free(struct transfer_serving *serving)
{
    free(serving->manifest);
    pthread_cond_destroy(&serving->answered);
    pthread_mutex_destroy(&serving->mutex);
    memset(serving, 0, sizeof *serving);
}

void transfer_serve(struct replica *replica, const struct preamble *preamble, int fd)
{
    struct transfer_serving *serving = slot_for(replica, preamble->source);

    if (serving == NULL || !driver_is_leader(&replica->driver) ||
        driver_server_find(&replica->driver, preamble->source) == NULL) {
        close(fd);
        return;
    }
    if (serving->used)
        slot_free(serving);
    serving->used = true;
    serving->running = true;
    serving->replica = replica;
    serving->peer = preamble->source;
    serving->fd = fd;
    /* What is durable by now is in any checkpoint that is taken later. */
    serving->hold = atomic_load(&replica->durable_index);
    pthread_mutex_init(&serving->mutex, NULL);
    pthread_cond_init(&serving->answered, NULL);
    clock_gettime(CLOCK_MONOTONIC, &serving->began);
    transfer_socket_configure(fd);
    log_info("state is being sent", LOG_HEX("raft_id", serving->peer),
             LOG_TEXT("address", preamble->address));
    if (pthread_create(&serving->thread, NULL, serving_run, serving) != 0) {
        close(fd);
        slot_free(serving);
    }
}

/* NULL: the log no longer has that index, or memory is short. */
static void *manifest_for(struct replica *replica, raft_index index, size_t *ret_bytes)
{
    struct driver *driver = &replica->driver;
    struct manifest manifest = {.cluster_id = command_cluster_id(replica->state), .index = index};
    void *bytes = NULL;

    /* After a restart the state may be ahead of what the core knows to be committed, and may have
     * to be given away before anything can be. */
    if (!log_cache_has(&driver->log, index) || index > driver->applied ||
        driver_configuration_applied(driver, index, &manifest.configuration,
                                     &manifest.configuration_index) != 0)
        return NULL;
    manifest.term = log_cache_at(&driver->log, index)->term;
    /* Newer than the index it may be: it is committed, and its entry will come again. */
    if (manifest.configuration_index > index)
        manifest.configuration_index = index;
    if (manifest_encode(&manifest, &bytes, ret_bytes) != 0)
        bytes = NULL;
    raft_configuration_close(&manifest.configuration);
    return bytes;
}

static void answer(struct replica *replica, struct transfer_serving *serving)
{
    pthread_mutex_lock(&serving->mutex);
    if (serving->asked != 0) {
        serving->hold = serving->asked;
        serving->manifest = manifest_for(replica, serving->asked, &serving->manifest_bytes);
        serving->asked = 0;
        pthread_cond_signal(&serving->answered);
    }
    pthread_mutex_unlock(&serving->mutex);
}

void transfer_serve_poll(struct replica *replica)
{
    for (size_t i = 0; i < TRANSFERS_MAX; i++) {
        struct transfer_serving *serving = &replica->servings[i];
        if (!serving->running)
            continue;
        answer(replica, serving);
        if (!atomic_load(&serving->ended))
            continue;
        pthread_join(serving->thread, NULL);
        close(serving->fd);
        serving->running = false;
        serving->hold_until_ms = replica_now_ms(replica) + HOLD_MS_MAX;
    }
}

/* The node goes on in the log, and needs it from there on until it has come so far that it loses
 * nothing any more: to what the tiers here hold durably. Or it never came back for more. */
static bool hold_is_over(struct replica *replica, struct transfer_serving *serving)
{
    uint64_t now = replica_now_ms(replica);
    raft_index match = 0;

    if (!driver_is_leader(&replica->driver))
        return true;
    if (raft_match_index(&replica->driver.raft, serving->peer, &match) == 0 &&
        match > serving->hold) {
        serving->hold = match;
        serving->hold_until_ms = now + HOLD_MS_MAX;
    }
    return now >= serving->hold_until_ms || match >= atomic_load(&replica->durable_index);
}

raft_index transfer_serve_hold(struct replica *replica)
{
    raft_index least = UINT64_MAX;

    for (size_t i = 0; i < TRANSFERS_MAX; i++) {
        struct transfer_serving *serving = &replica->servings[i];
        if (!serving->used)
            continue;
        if (!serving->running && hold_is_over(replica, serving))
            slot_free(serving);
        else if (serving->hold < least)
            least = serving->hold;
    }
    return least;
}

void transfer_serve_stop(struct replica *replica)
{
    for (size_t i = 0; i < TRANSFERS_MAX; i++) {
        struct transfer_serving *serving = &replica->servings[i];
        if (serving->running) {
            pthread_mutex_lock(&serving->mutex);
            atomic_store(&serving->cancelled, true);
            pthread_cond_signal(&serving->answered);
            pthread_mutex_unlock(&serving->mutex);
            shutdown(serving->fd, SHUT_RDWR);
            pthread_join(serving->thread, NULL);
            close(serving->fd);
        }
        if (serving->used)
            slot_free(serving);
    }
}
