/* Taking the state from the leader: see transfer.h.
 *
 * The raft loop starts a thread and hears of its end; the thread owns the socket. On success the
 * owner of the replica is told to stop it and to start again: the log then follows (install.c).
 *
 * The state here may be as new as the leader's, and only the log too old: what is committed is
 * applied before it is written here, and a crash then loses the end of the log. All that is wanted
 * then is the leader's manifest: the log begins anew at its index, behind which the state has what
 * comes once more. */
#include "raft/transfer.h"

#include "address.h"
#include "log.h"
#include "raft/manifest.h"
#include "raft/replica_private.h"

#include "tiers/checkpoint.h"

#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_MS_LEAST 200
#define RETRY_MS_MOST  5000
/* Outside the codes of the tiers. */
#define SOURCE_BROKEN -1000

struct transfer_fetch {
    pthread_t thread;
    struct replica *replica;
    unsigned char preamble[PREAMBLE_BYTES];
    char address[256];
    pthread_mutex_t mutex;
    int fd;         /* -1: none. Under the mutex */
    bool cancelled; /* Under the mutex */
    _Atomic bool ended;
    bool succeeded;
    /* Of a leader whose state is no newer than the one here; NULL: it is, or is not known. */
    void *manifest;
    size_t manifest_bytes;
    char reason[512];
};

/* ---- The thread ---- */

__attribute__((format(printf, 2, 3))) static bool fail(struct transfer_fetch *fetch,
                                                       const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(fetch->reason, sizeof fetch->reason, format, arguments);
    va_end(arguments);
    return false;
}

/* Shows the socket to whoever may want to end the wait. */
static bool socket_publish(struct transfer_fetch *fetch, int fd)
{
    bool go_on;

    pthread_mutex_lock(&fetch->mutex);
    fetch->fd = fd;
    go_on = !fetch->cancelled;
    pthread_mutex_unlock(&fetch->mutex);
    return go_on;
}

static bool connect_to_leader(struct transfer_fetch *fetch)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    struct addrinfo *found = NULL;
    struct address address;
    char port[8];
    int fd = -1;
    bool ok = false;

    if (!address_parse(fetch->address, &address))
        return fail(fetch, "the leader's address %s cannot be read", fetch->address);
    snprintf(port, sizeof port, "%u", address.port);
    if (getaddrinfo(address.host, port, &hints, &found) != 0)
        return fail(fetch, "the leader's address %s cannot be resolved", fetch->address);
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd >= 0) {
        transfer_socket_configure(fd);
        ok = socket_publish(fetch, fd) && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
             transfer_send(fd, fetch->preamble, sizeof fetch->preamble) == 0;
    }
    freeaddrinfo(found);
    return ok || fail(fetch, "%s: %s", fetch->address, strerror(errno));
}

static int source(void *context, void *bytes, size_t n)
{
    struct transfer_fetch *fetch = context;

    return transfer_receive(fetch->fd, bytes, n) == 0 ? 0 : SOURCE_BROKEN;
}

/* *ret_bytes is the caller's. */
static bool manifest_receive(struct transfer_fetch *fetch, struct manifest *ret_manifest,
                             void **ret_bytes, size_t *ret_n)
{
    uint32_t n;
    void *bytes;

    if (source(fetch, &n, sizeof n) != 0)
        return fail(fetch, "the leader refused: %s", strerror(errno));
    n = le32toh(n);
    bytes = n <= MANIFEST_BYTES_MAX ? malloc(n > 0 ? n : 1) : NULL;
    if (bytes == NULL)
        return fail(fetch, "the manifest has %u bytes", n);
    if (source(fetch, bytes, n) != 0 || manifest_decode(bytes, n, ret_manifest) != 0) {
        free(bytes);
        return fail(fetch, "the manifest is damaged");
    }
    *ret_bytes = bytes;
    *ret_n = n;
    return true;
}

static bool state_receive(struct transfer_fetch *fetch, const struct manifest *manifest,
                          const struct replica_state_paths *paths)
{
    struct tiers_position position = {0};
    char reason[400] = "";
    int error = tiers_checkpoint_install(paths->warm, paths->cold, source, fetch, &position, reason,
                                         sizeof reason);

    if (error != 0)
        return fail(fetch, "%s", error == SOURCE_BROKEN ? "the connection broke" : reason);
    if (position.index != manifest->index)
        return fail(fetch, "the state does not belong to its manifest");
    return true;
}

static bool fetch_all(struct transfer_fetch *fetch)
{
    const struct replica_options *options = &fetch->replica->options;
    struct replica_state_paths paths;
    struct manifest manifest = {0};
    struct tiers_position position;
    void *bytes = NULL;
    size_t n = 0;
    bool ok;

    if (!connect_to_leader(fetch) || !manifest_receive(fetch, &manifest, &bytes, &n))
        return false;
    tiers_position_applied(fetch->replica->tiers, &position);
    if (manifest.index <= position.index) {
        fetch->manifest = bytes;
        fetch->manifest_bytes = n;
        manifest_close(&manifest);
        return fail(fetch, "this node has the state, up to index %llu",
                    (unsigned long long)position.index);
    }
    ok = options->state_begin(options->context, &paths, fetch->reason, sizeof fetch->reason) == 0 &&
         state_receive(fetch, &manifest, &paths);
    /* While it came the log may have been continued after all. */
    tiers_position_applied(fetch->replica->tiers, &position);
    if (ok && manifest.index <= position.index)
        ok = fail(fetch, "this node has caught up by itself, up to index %llu",
                  (unsigned long long)position.index);
    if (ok && manifest_store(paths.manifest, bytes, n) != 0)
        ok = fail(fetch, "%s: %s", paths.manifest, strerror(errno));
    if (ok)
        ok = options->state_commit(options->context, fetch->reason, sizeof fetch->reason) == 0;
    manifest_close(&manifest);
    free(bytes);
    return ok;
}

static void *fetch_run(void *argument)
{
    struct transfer_fetch *fetch = argument;

    transfer_thread_begin();
    fetch->succeeded = fetch_all(fetch);
    atomic_store(&fetch->ended, true);
    uv_async_send(&fetch->replica->wake);
    return NULL;
}

/* ---- The loop ---- */

static void fetch_free(struct transfer_fetch *fetch)
{
    if (fetch->fd >= 0)
        close(fetch->fd);
    free(fetch->manifest);
    pthread_mutex_destroy(&fetch->mutex);
    free(fetch);
}

static struct transfer_fetch *fetch_new(struct replica *replica, raft_id leader,
                                        const char *address)
{
    struct transfer_fetch *fetch = calloc(1, sizeof *fetch);
    struct preamble preamble = {
        .kind = PREAMBLE_STATE, .source = replica->identity.raft_id, .destination = leader};

    if (fetch == NULL)
        return NULL;
    fetch->replica = replica;
    fetch->fd = -1;
    pthread_mutex_init(&fetch->mutex, NULL);
    snprintf(fetch->address, sizeof fetch->address, "%s", address);
    snprintf(preamble.address, sizeof preamble.address, "%s", replica->options.raft_address);
    admission_callbacks.introduce(replica, leader, &preamble);
    preamble_encode(&preamble, fetch->preamble);
    return fetch;
}

void transfer_fetch(struct replica *replica)
{
    const char *address = NULL;
    raft_id leader = 0;
    struct transfer_fetch *fetch;

    raft_leader(&replica->driver.raft, &leader, &address);
    if (replica->fetch != NULL || replica->state_received || leader == 0 || address == NULL ||
        replica->options.state_begin == NULL || replica_now_ms(replica) < replica->fetch_after_ms)
        return;
    fetch = fetch_new(replica, leader, address);
    if (fetch == NULL)
        return;
    log_info("state is being fetched", LOG_TEXT("leader", address));
    if (pthread_create(&fetch->thread, NULL, fetch_run, fetch) == 0)
        replica->fetch = fetch;
    else
        fetch_free(fetch);
}

/* Whether the log lacks what the manifest says, and follows it from the next start on. */
static bool log_follows(struct replica *replica, struct transfer_fetch *fetch)
{
    const struct log_cache *log = &replica->driver.log;
    struct manifest manifest = {0};
    bool lacks;

    if (fetch->manifest == NULL || replica->options.manifest_path == NULL ||
        manifest_decode(fetch->manifest, fetch->manifest_bytes, &manifest) != 0)
        return false;
    lacks = log_cache_has(log, manifest.index)
                ? log_cache_at(log, manifest.index)->term != manifest.term
                : manifest.index > log->last;
    manifest_close(&manifest);
    return lacks && manifest_store(replica->options.manifest_path, fetch->manifest,
                                   fetch->manifest_bytes) == 0;
}

void transfer_fetch_poll(struct replica *replica)
{
    struct transfer_fetch *fetch = replica->fetch;

    if (fetch == NULL && replica->too_far_behind)
        transfer_fetch(replica);
    if (fetch == NULL || !atomic_load(&fetch->ended))
        return;
    pthread_join(fetch->thread, NULL);
    replica->fetch = NULL;
    if (fetch->succeeded || log_follows(replica, fetch)) {
        log_info(fetch->succeeded ? "state received: starting on it"
                                  : "the state is here: starting with a log that continues it");
        replica->state_received = true;
        replica->options.state_received(replica->options.context);
    } else {
        replica->fetch_pause_ms *= 2;
        if (replica->fetch_pause_ms < RETRY_MS_LEAST)
            replica->fetch_pause_ms = RETRY_MS_LEAST;
        if (replica->fetch_pause_ms > RETRY_MS_MOST)
            replica->fetch_pause_ms = RETRY_MS_MOST;
        replica->fetch_after_ms = replica_now_ms(replica) + replica->fetch_pause_ms;
        log_warning("state not received", LOG_TEXT("leader", fetch->address),
                    LOG_TEXT("reason", fetch->reason));
    }
    fetch_free(fetch);
}

void transfer_fetch_stop(struct replica *replica)
{
    struct transfer_fetch *fetch = replica->fetch;

    if (fetch == NULL)
        return;
    pthread_mutex_lock(&fetch->mutex);
    fetch->cancelled = true;
    if (fetch->fd >= 0)
        shutdown(fetch->fd, SHUT_RDWR);
    pthread_mutex_unlock(&fetch->mutex);
    pthread_join(fetch->thread, NULL);
    replica->fetch = NULL;
    fetch_free(fetch);
}
