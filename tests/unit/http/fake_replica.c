#include "fake_replica.h"

#include "command/command.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HELD_SECONDS_MAX 20

struct replica {
    struct command_state *state;
    pthread_mutex_t mutex; /* Everything below */
    pthread_cond_t changed;
    struct replica_view view;
    uint64_t version;
    uint64_t index;
    int admitted, status;
    bool holding;
    struct replica_operation *held; /* Newest first */
    size_t n_held;
};

/* Of a const pointer, as replica.h has it. */
static struct replica *lock(const struct replica *replica)
{
    struct replica *mutable = (struct replica *)(uintptr_t)replica;
    pthread_mutex_lock(&mutable->mutex);
    return mutable;
}

static void unlock(struct replica *replica)
{
    pthread_mutex_unlock(&replica->mutex);
}

struct replica *fake_replica_new(struct tiers *tiers)
{
    struct replica *replica = calloc(1, sizeof(*replica));
    assert(replica != NULL);
    pthread_mutex_init(&replica->mutex, NULL);
    pthread_cond_init(&replica->changed, NULL);
    assert(command_state_open(tiers, &replica->state) == 0);
    replica->view.term = 7;
    replica->view.caught_up = true;
    replica->view.n_members = 1;
    snprintf(replica->view.members[0].name, sizeof(replica->view.members[0].name), "n0");
    replica->view.members[0].raft_id = 1;
    fake_replica_become(replica, REPLICA_LEADER, "127.0.0.1:1");
    return replica;
}

void fake_replica_free(struct replica *replica)
{
    assert(replica->n_held == 0);
    command_state_close(replica->state);
    pthread_mutex_destroy(&replica->mutex);
    pthread_cond_destroy(&replica->changed);
    free(replica);
}

void fake_replica_become(struct replica *replica, enum replica_role role, const char *leader)
{
    lock(replica);
    replica->view.role = role;
    replica->view.leader_id = *leader == '\0' ? 0 : 1;
    replica->view.last_contact_ms = role == REPLICA_LEADER ? 0 : 40;
    snprintf(replica->view.leader_http_address, sizeof(replica->view.leader_http_address), "%s",
             leader);
    replica->version++;
    unlock(replica);
}

void fake_replica_answer(struct replica *replica, int admitted, int status)
{
    lock(replica);
    replica->admitted = admitted;
    replica->status = status;
    unlock(replica);
}

static void apply(struct replica *replica, struct replica_operation *operation)
{
    size_t bytes = command_entry_begin_size() + command_entry_item_size(operation->command_bytes);
    void *entry = malloc(bytes);
    struct command_entry_writer writer;
    struct command_result result = {0};
    bool members_changed;

    assert(entry != NULL);
    command_entry_begin(&writer, entry);
    command_entry_add(&writer, operation->command, operation->command_bytes);
    command_entry_end(&writer);
    assert(command_apply_entry(replica->state, ++replica->index, entry, bytes, &result, 1,
                               &members_changed) == 0);
    operation->revision = result.revision;
    free(entry);
}

static void finish(struct replica *replica, struct replica_operation *operation)
{
    operation->status = replica->status;
    if (operation->status == 0 && operation->type == REPLICA_WRITE)
        apply(replica, operation);
    inbox_put_always(operation->reply, &operation->item);
}

void fake_replica_hold(struct replica *replica)
{
    lock(replica);
    replica->holding = true;
    unlock(replica);
}

void fake_replica_wait_held(struct replica *replica, size_t n)
{
    struct timespec deadline;
    int error = 0;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += HELD_SECONDS_MAX;
    lock(replica);
    while (replica->n_held < n && error == 0)
        error = pthread_cond_timedwait(&replica->changed, &replica->mutex, &deadline);
    unlock(replica);
    assert(error == 0);
}

size_t fake_replica_held(struct replica *replica)
{
    lock(replica);
    size_t n = replica->n_held;
    unlock(replica);
    return n;
}

void fake_replica_release(struct replica *replica)
{
    lock(replica);
    while (replica->held != NULL) {
        struct replica_operation *operation = replica->held;
        replica->held = (struct replica_operation *)operation->item.next;
        finish(replica, operation);
    }
    replica->n_held = 0;
    replica->holding = false;
    unlock(replica);
}

/* ---- What replica.h promises ---- */

int replica_admit(struct replica *replica, const struct replica_operation *operation)
{
    (void)operation;
    lock(replica);
    int admitted = replica->admitted;
    unlock(replica);
    return admitted;
}

void replica_send(struct replica *replica, struct replica_operation *first,
                  struct replica_operation *last, size_t n)
{
    lock(replica);
    last->item.next = NULL;
    for (struct replica_operation *operation = first, *next; n > 0; operation = next, n--) {
        next = (struct replica_operation *)operation->item.next;
        if (!replica->holding) {
            finish(replica, operation);
            continue;
        }
        operation->item.next = (struct inbox_item *)replica->held;
        replica->held = operation;
        replica->n_held++;
    }
    pthread_cond_broadcast(&replica->changed);
    unlock(replica);
}

uint64_t replica_view_version(const struct replica *replica)
{
    struct replica *locked = lock(replica);
    uint64_t version = locked->version;
    unlock(locked);
    return version;
}

void replica_view(const struct replica *replica, struct replica_view *ret_view)
{
    struct replica *locked = lock(replica);
    *ret_view = locked->view;
    unlock(locked);
}

bool replica_is_leader(const struct replica *replica)
{
    struct replica *locked = lock(replica);
    bool leader = locked->view.role == REPLICA_LEADER;
    unlock(locked);
    return leader;
}

const char *replica_role_name(enum replica_role role)
{
    return role == REPLICA_LEADER ? "leader" : "follower";
}

const char *replica_strerror(int error)
{
    switch (error) {
#define X(name, code, message)                                                                     \
    case name:                                                                                     \
        return message;
        REPLICA_ERRORS(X)
#undef X
    default:
        return "unknown";
    }
}

uint64_t replica_incarnation(const struct replica *replica)
{
    (void)replica;
    return 1;
}
