/* Which peers this node speaks with, and which cluster it belongs to.
 *
 * A node that has no cluster yet joins the first one whose member calls it by name, and remembers
 * it before the connection is taken. From then on connections of other clusters are refused: a data
 * directory that was moved, or an address that was reused, must not mix two logs. */
#include "raft/replica_private.h"

#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define REFUSAL_LOG_MS 1000

void admission_adopt_cluster(struct replica *replica, uint64_t cluster_id)
{
    if (replica->identity.cluster_id != 0 || cluster_id == 0)
        return;
    replica->identity.cluster_id = cluster_id;
    /* A log without a term under an identity with a cluster is one that was lost. */
    if (driver_mark_log(&replica->driver) != 0)
        return;
    if (identity_store(replica->options.identity_path, &replica->identity) != 0)
        driver_fail(&replica->driver, "%s: %s", replica->options.identity_path, strerror(errno));
}

void admission_change_cluster(struct replica *replica, uint64_t cluster_id)
{
    replica->identity.cluster_id = 0;
    admission_adopt_cluster(replica, cluster_id);
}

static const char *refusal_of(const struct replica *replica, const struct preamble *preamble)
{
    const struct identity *own = &replica->identity;

    if (preamble->destination != own->raft_id)
        return "it is meant for another node";
    if (preamble->incarnation != 0 && preamble->incarnation != own->incarnation)
        return "it expects another incarnation of this node's directory";
    if (preamble->cluster_id == 0)
        return "it names no cluster";
    if (own->cluster_id != 0 && own->cluster_id != preamble->cluster_id)
        return "it belongs to another cluster";
    /* Just bootstrapped, and the id of its own cluster not yet committed. */
    if (own->cluster_id == 0 && replica->driver.raft.configuration.n > 0)
        return "this node is about to form a cluster of its own";
    return NULL;
}

/* Whether this node formed a cluster by itself, nobody has joined it, and so little was written
 * that the log is whole. */
static bool is_alone_and_new(const struct replica *replica)
{
    const struct raft_configuration *configuration = &replica->driver.raft.configuration;

    return configuration->n == 1 && configuration->servers[0].id == replica->identity.raft_id &&
           replica->driver.snapshot_index == 0;
}

/* A member of another cluster calls this node by its id, where it listens, and knows it with
 * another directory: this one's was lost, and in its place the node formed a cluster of its own, in
 * which it would answer for the old one. Nothing that has been in use for long, or has other
 * members, is stopped by a word from outside. */
static bool is_known_elsewhere(const struct replica *replica, const struct preamble *preamble)
{
    const struct identity *own = &replica->identity;

    return preamble->destination == own->raft_id && preamble->incarnation != 0 &&
           preamble->incarnation != own->incarnation && preamble->cluster_id != 0 &&
           preamble->cluster_id != own->cluster_id && is_alone_and_new(replica);
}

static bool admit(void *context, const struct preamble *preamble)
{
    struct replica *replica = context;
    const char *refusal = refusal_of(replica, preamble);
    uint64_t now = replica_now_ms(replica);

    if (is_known_elsewhere(replica, preamble) && !replica->driver.closing)
        driver_fail(&replica->driver,
                    "this node's data was lost, and it formed a cluster of its own: %s knows it as "
                    "a member of cluster %" PRIx64
                    "; start it with --join and an empty data directory, and replace it by itself",
                    preamble->address, preamble->cluster_id);
    if (refusal == NULL) {
        admission_adopt_cluster(replica, preamble->cluster_id);
        return !atomic_load(&replica->stopped) && !replica->driver.closing;
    }
    /* It will try again soon, and others too. */
    if (now - replica->refusal_logged_ms >= REFUSAL_LOG_MS || replica->refusal_logged_ms == 0)
        log_warning("peer connection refused", LOG_TEXT("reason", refusal),
                    LOG_TEXT("peer", preamble->address), LOG_HEX("raft_id", preamble->source));
    replica->refusal_logged_ms = now;
    return false;
}

static struct admission_row *row_of(struct replica *replica, raft_id id)
{
    struct admission_row *row;

    for (size_t i = 0; i < COMMAND_MEMBERS_MAX; i++)
        if (replica->rows[i].id == id)
            return &replica->rows[i];
    row = &replica->rows[replica->n_rows++ % COMMAND_MEMBERS_MAX];
    *row = (struct admission_row){.id = id};
    return row;
}

/* By the newest row there is: a node that has just started does not know yet what of its log is
 * committed, and those whose votes would tell it may have been replaced in there. A row that is
 * never committed does no harm: it is set when the server that it replaces has no vote any more. */
static uint64_t incarnation_of(struct replica *replica, raft_id id)
{
    const struct command_member *member = command_member_find(replica->state, id);
    const struct log_cache *log = &replica->driver.log;
    raft_index applied = replica->driver.applied;
    struct admission_row *row = row_of(replica, id);

    if (row->upto <= applied || !log_cache_has(log, row->upto) ||
        log_cache_at(log, row->upto)->serial != row->serial)
        *row = (struct admission_row){.id = id, .upto = applied};
    for (raft_index i = row->upto + 1; log_cache_has(log, i); i++) {
        const struct log_slot *slot = log_cache_at(log, i);
        struct command_member set;
        row->upto = i;
        row->serial = slot->serial;
        if (slot->type == RAFT_COMMAND &&
            command_entry_member(replica->state, slot->payload.base, slot->payload.len, id, &set)) {
            row->index = i;
            row->incarnation = set.incarnation;
        }
    }
    if (row->index > applied)
        return row->incarnation;
    return member != NULL ? member->incarnation : 0;
}

static void introduce(void *context, raft_id destination, struct preamble *preamble)
{
    struct replica *replica = context;
    const char *leader_address;
    raft_id leader = 0;

    preamble->cluster_id = replica->identity.cluster_id;
    preamble->incarnation = incarnation_of(replica, destination);
    /* The leader of our term is who it is, also if our table is too old to have its directory: it
     * may be just this answer that it needs, to send us what the table lacks. All that a leader is
     * sent are answers. */
    raft_leader(&replica->driver.raft, &leader, &leader_address);
    if (leader == destination)
        preamble->incarnation = 0;
}

static void serve_state(void *context, const struct preamble *preamble, int fd)
{
    transfer_serve(context, preamble, fd);
}

static void peer_gone(void *context, raft_id peer)
{
    struct replica *replica = context;

    if (!replica->driver.closing && !replica->driver.failed)
        driver_reconnect(&replica->driver, peer);
}

const struct transport_callbacks admission_callbacks = {
    .admit = admit, .introduce = introduce, .serve_state = serve_state, .peer_gone = peer_gone};
