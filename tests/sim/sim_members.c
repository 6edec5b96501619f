/* See sim_members.h. */
#include "sim/sim_members.h"

#include "sim/sim_client.h"
#include "sim/sim_counts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOAL_PAUSE_MS_MAX  2000
#define ASK_PAUSE_MS_LEAST 50
#define ASK_PAUSE_MS_MAX   300
#define GIVE_UP_MS         8000
#define LEAVE_MS_MAX       2000 /* How long a node that was taken out still runs */
#define OPERATIONS_MAX     64
#define MEMBERS_LEAST      3

enum goal { GOAL_NONE, GOAL_HANDOVER, GOAL_REMOVE, GOAL_REPLACE, GOAL_DISK, GOAL_LEAVE };

/* One request to the cluster; free once its operation has come back. */
struct request {
    struct replica_operation *operation; /* NULL: none is under way */
    struct replica_change change;
    uint64_t due_ms; /* When it may be made again */
    bool answered;
    int status; /* The answer */
    bool sure;  /* Of a join: what the node itself believes is not enough */
};

struct sim_members {
    struct sim_world *world;
    struct random random;
    struct inbox *reply;
    bool on;
    enum goal goal;
    struct sim_node *leaves, *comes;
    uint64_t goal_due_ms, give_up_ms;
    struct request goal_request;
    struct request joins[SIM_NODES_MAX];
};

struct sim_members *sim_members_new(struct sim_world *world)
{
    struct sim_members *members = calloc(1, sizeof *members);

    assert(members != NULL);
    members->world = world;
    random_init(&members->random, random_next(&world->random));
    members->reply = inbox_new(OPERATIONS_MAX);
    assert(members->reply != NULL);
    return members;
}

/* ---- Requests ---- */

static void collect(struct sim_members *members)
{
    struct inbox_item *item = inbox_take(members->reply);

    while (item != NULL) {
        struct replica_operation *operation = (struct replica_operation *)item;
        struct request *request = operation->owner;
        item = item->next;
        request->status = operation->status;
        request->operation = NULL;
        request->answered = true;
        sim_event("change answered", operation->type, (uint64_t)-operation->status, 0);
        if (operation->status == REPLICA_CONFLICT)
            sim_count(SIM_COUNT_CHANGES_REFUSED);
        replica_operation_free(operation);
    }
}

static bool ask(struct sim_members *members, struct request *request,
                enum replica_operation_type type)
{
    struct sim_node *leader = sim_world_leader(members->world);
    uint64_t now_ms = members->world->now_ms;

    request->due_ms =
        now_ms + ASK_PAUSE_MS_LEAST + random_below(&members->random, ASK_PAUSE_MS_MAX);
    if (leader == NULL || leader->paused_until_ms > now_ms)
        return false;
    request->operation = replica_change_new(type, &request->change);
    assert(request->operation != NULL);
    request->operation->reply = members->reply;
    request->operation->owner = request;
    request->answered = false;
    sim_event("change asked for", type, leader->place, 0);
    if (sim_node_submit(leader, request->operation) == 0)
        return true;
    replica_operation_free(request->operation);
    request->operation = NULL;
    return false;
}

static void join_fill(struct replica_join *join, const struct sim_node *node)
{
    *join =
        (struct replica_join){.version = "sim", .incarnation = replica_incarnation(node->replica)};
    snprintf(join->name, sizeof join->name, "%s", node->name);
    snprintf(join->http_address, sizeof join->http_address, "%s", node->http_address);
    snprintf(join->raft_address, sizeof join->raft_address, "%s", node->endpoint.address);
}

void sim_members_free(struct sim_members *members)
{
    collect(members);
    inbox_free(members->reply);
    free(members);
}

/* ---- Joining ---- */

static bool is_registered(const struct sim_node *node)
{
    struct replica_view view;

    replica_view(node->replica, &view);
    return view.registered;
}

static void join_turn(struct sim_members *members, struct sim_node *node)
{
    struct request *request = &members->joins[node->place];

    if (!node->joins)
        request->answered = false; /* A late answer, to what is no question any more */
    if (!node->running || !node->joins || node->failed || request->operation != NULL ||
        node->paused_until_ms > members->world->now_ms || request->due_ms > members->world->now_ms)
        return;
    if ((request->answered && request->status == 0) || (!request->sure && is_registered(node))) {
        node->joins = request->sure = request->answered = false;
        sim_count(SIM_COUNT_JOINS);
        return;
    }
    request->change = (struct replica_change){0};
    join_fill(&request->change.join, node);
    ask(members, request, REPLICA_JOIN);
}

/* ---- Goals ---- */

static size_t members_n(const struct sim_world *world)
{
    size_t n = 0;

    for (size_t i = 0; i < world->n; i++)
        n += world->nodes[i]->founded;
    return n;
}

static struct sim_node *any_member(struct sim_members *members, bool founded)
{
    const struct sim_world *world = members->world;
    size_t from = random_below(&members->random, world->n);

    for (size_t i = 0; i < world->n; i++) {
        struct sim_node *node = world->nodes[(from + i) % world->n];
        if (node->founded == founded)
            return node;
    }
    return NULL;
}

static void rest(struct sim_members *members)
{
    members->goal = GOAL_NONE;
    members->leaves = members->comes = NULL;
    members->goal_due_ms =
        members->world->now_ms + 1 + random_below(&members->random, GOAL_PAUSE_MS_MAX);
}

static void node_down(struct sim_node *node, bool crash)
{
    if (node->running && crash)
        sim_node_crash(node);
    else if (node->running)
        sim_node_stop(node);
}

static void address_change(struct sim_members *members, struct sim_node *node)
{
    sim_event("address changes", node->place, node->addresses, 0);
    sim_count(SIM_COUNT_ADDRESSES_CHANGED);
    node_down(node, random_below(&members->random, 2) == 0);
    sim_node_move(node);
    node->joins = true;
    members->joins[node->place].answered = false; /* With the address before */
    sim_node_start(node, false);
    rest(members);
}

static void goal_set(struct sim_members *members, enum goal goal, struct sim_node *leaves,
                     struct sim_node *comes)
{
    members->goal = goal;
    members->leaves = leaves;
    members->comes = comes;
    members->give_up_ms = members->world->now_ms + GIVE_UP_MS;
    members->goal_request = (struct request){.due_ms = members->world->now_ms};
    if (leaves != NULL)
        leaves->joins = false;
    if (comes != NULL)
        comes->joins = false;
    sim_event("goal", goal, leaves != NULL ? leaves->place : 0, comes != NULL ? comes->place : 0);
}

/* Else a disk that is lost may be the last one with what was committed, and of two nodes that move
 * before a leader knows neither finds the other. */
static bool all_joined(const struct sim_members *members)
{
    for (size_t i = 0; i < members->world->n; i++)
        if (members->world->nodes[i]->founded && members->world->nodes[i]->joins)
            return false;
    return true;
}

static void goal_choose(struct sim_members *members)
{
    struct sim_node *member = any_member(members, true);
    struct sim_node *outside = any_member(members, false);
    uint64_t kind = random_below(&members->random, 12);

    if (members->joins[member->place].operation != NULL) {
        rest(members); /* It would undo what it is about to be asked for */
        return;
    }
    if (kind < 4) {
        goal_set(members, GOAL_HANDOVER, NULL, NULL);
    } else if (kind < 5 && all_joined(members)) {
        address_change(members, member);
    } else if (kind < 7 && members_n(members->world) > MEMBERS_LEAST) {
        goal_set(members, GOAL_REMOVE, member, NULL);
    } else if (kind < 9 && outside != NULL) {
        sim_node_start(outside, false); /* Which asks for itself */
        rest(members);
    } else if (kind < 11 && outside != NULL) {
        sim_node_start(outside, false);
        goal_set(members, GOAL_REPLACE, member, outside);
    } else if (kind == 11 && all_joined(members)) {
        node_down(member, true);
        sim_node_replace_disk(member, false);
        sim_node_start(member, false);
        goal_set(members, GOAL_DISK, member, member);
    } else {
        rest(members);
    }
}

static void goal_ask(struct sim_members *members)
{
    struct request *request = &members->goal_request;
    struct replica_change *change = &request->change;

    if (members->comes != NULL && !members->comes->running)
        return;
    *change = (struct replica_change){0};
    if (members->leaves != NULL)
        snprintf(change->name, sizeof change->name, "%s", members->leaves->name);
    if (members->comes != NULL)
        join_fill(&change->join, members->comes);
    if (members->goal == GOAL_HANDOVER && random_below(&members->random, 2) == 0)
        snprintf(change->name, sizeof change->name, "%s", any_member(members, true)->name);
    ask(members, request,
        members->goal == GOAL_HANDOVER ? REPLICA_TRANSFER
        : members->goal == GOAL_REMOVE ? REPLICA_REMOVE
                                       : REPLICA_REPLACE);
}

/* Whoever goes runs on for a while, and does not know it. */
static void leave_begin(struct sim_members *members)
{
    members->goal = GOAL_LEAVE;
    members->goal_due_ms =
        members->world->now_ms + 1 + random_below(&members->random, LEAVE_MS_MAX);
}

static void goal_reached(struct sim_members *members)
{
    sim_event("goal reached", members->goal, 0, 0);
    switch (members->goal) {
    case GOAL_HANDOVER:
        sim_count(SIM_COUNT_HANDOVERS);
        rest(members);
        break;
    case GOAL_REMOVE:
        sim_count(SIM_COUNT_REMOVALS);
        leave_begin(members);
        break;
    case GOAL_REPLACE:
        sim_count(SIM_COUNT_REPLACEMENTS);
        members->comes->joins = true;
        leave_begin(members);
        break;
    default:
        sim_count(SIM_COUNT_DISKS_REPLACED);
        members->comes->joins = true;
        rest(members);
    }
}

/* It may have been taken out, or not. */
static void join_surely(struct sim_members *members, struct sim_node *node)
{
    if (node == NULL)
        return;
    node->joins = true;
    members->joins[node->place].sure = true;
}

static void goal_give_up(struct sim_members *members)
{
    sim_event("goal given up", members->goal, 0, 0);
    join_surely(members, members->leaves);
    join_surely(members, members->comes);
    rest(members);
}

static void goal_turn(struct sim_members *members)
{
    struct request *request = &members->goal_request;
    uint64_t now_ms = members->world->now_ms;
    /* A removal that was repeated: whatever it was that removed the member. */
    bool reached = request->answered &&
                   (request->status == 0 ||
                    (request->status == REPLICA_NO_MEMBER && members->goal == GOAL_REMOVE));
    /* Whoever was to be replaced had never joined; or it took too long. */
    bool hopeless = (request->answered && request->status == REPLICA_NO_MEMBER) ||
                    (members->goal != GOAL_DISK && members->on && now_ms >= members->give_up_ms);

    if (request->operation != NULL || request->due_ms > now_ms)
        return;
    if (reached)
        goal_reached(members);
    else if (members->goal == GOAL_HANDOVER && request->answered)
        rest(members);
    else if (hopeless)
        goal_give_up(members);
    else
        goal_ask(members);
}

static void leave_end(struct sim_members *members)
{
    node_down(members->leaves, random_below(&members->random, 2) == 0);
    sim_node_replace_disk(members->leaves, true);
    members->leaves->founded = false;
    rest(members);
}

void sim_members_turn(struct sim_members *members)
{
    struct sim_world *world = members->world;

    collect(members);
    for (size_t i = 0; i < world->n; i++)
        join_turn(members, world->nodes[i]);
    if (members->goal == GOAL_NONE && members->on && world->now_ms >= members->goal_due_ms)
        goal_choose(members);
    else if (members->goal == GOAL_LEAVE && world->now_ms >= members->goal_due_ms)
        leave_end(members);
    else if (members->goal != GOAL_NONE && members->goal != GOAL_LEAVE)
        goal_turn(members);
}

uint64_t sim_members_due_ms(const struct sim_members *members)
{
    const struct sim_world *world = members->world;
    uint64_t due_ms = SIM_NEVER;

    for (size_t i = 0; i < world->n; i++) {
        const struct request *request = &members->joins[i];
        if (world->nodes[i]->running && world->nodes[i]->joins && request->operation == NULL &&
            request->due_ms < due_ms)
            due_ms = request->due_ms;
    }
    if ((members->goal == GOAL_NONE && members->on) || members->goal == GOAL_LEAVE)
        due_ms = members->goal_due_ms < due_ms ? members->goal_due_ms : due_ms;
    else if (members->goal != GOAL_NONE && members->goal_request.operation == NULL &&
             members->goal_request.due_ms < due_ms)
        due_ms = members->goal_request.due_ms;
    return due_ms;
}

void sim_members_change(struct sim_members *members, bool on)
{
    members->on = on;
}

bool sim_members_idle(const struct sim_members *members)
{
    return members->goal == GOAL_NONE && all_joined(members);
}

bool sim_members_lost_disk(const struct sim_members *members, const struct sim_node *node)
{
    return members->goal == GOAL_DISK && members->leaves == node;
}
