/* See sim_world.h: the order of events, and the story from its beginning to its end. */
#include "sim/sim_world.h"

#include "log.h"
#include "sim/sim_client.h"
#include "sim/sim_members.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#define BEGIN_MS        1000
#define NODES_LEAST     3
#define NODES_MOST      5
#define NODES_OUTSIDE   2
#define FORM_MS_MAX     60000
#define END_MS_MAX      120000
#define DISTURB_MS_MAX  700
#define RESTLESS_MS_MAX 120
#define BOUNCE_ONE_OF   4
#define EVENTS_MAX      20000000

struct sim_world *sim_world;

void sim_event(const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    struct sim_result *result = sim_world->result;
    uint64_t words[] = {sim_world->now_ms, a, b, c};

    result->hash = XXH3_64bits_withSeed(words, sizeof words, result->hash);
    result->hash = XXH3_64bits_withSeed(what, strlen(what), result->hash);
    result->events++;
    if (sim_world->story->trace)
        printf("%8" PRIu64 " %-22s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", sim_world->now_ms, what,
               a, b, c);
    if (result->events > EVENTS_MAX)
        sim_fail("the story does not end");
}

const char *const sim_count_names[SIM_COUNTS_N] = {
#define X(name, text) [SIM_COUNT_##name] = text,
    SIM_COUNTS(X)
#undef X
};

void sim_count(enum sim_count count)
{
    sim_world->result->counts[count]++;
}

void sim_fail(const char *format, ...)
{
    char sentence[900];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    snprintf(sim_world->result->failure, sizeof sim_world->result->failure, "at %" PRIu64 " ms: %s",
             sim_world->now_ms, sentence);
    temp_folder_remove(sim_world->folder);
    fflush(NULL);
    _exit(1);
}

/* ---- Time ---- */

static void message_observed(void *context, const struct sim_message *message)
{
    struct sim_world *world = context;

    sim_event("message", message->from * SIM_ENDPOINTS_MAX + message->to, message->serial,
              (uint64_t)message->message.type);
    if (world->voters_bounce && message->message.type == RAFT_REQUEST_VOTE_RESULT &&
        !message->message.request_vote_result.pre_vote &&
        random_below(&world->random, BOUNCE_ONE_OF) == 0)
        world->bounce[message->from] = true;
}

/* The clock moves at each step, so that nothing goes on for ever at one moment. */
static void world_advance(struct sim_world *world)
{
    uint64_t due_ms = world->disturb_due_ms;
    uint64_t clients_ms = sim_clients_due_ms(world->clients);
    uint64_t members_ms = sim_members_due_ms(world->members);

    due_ms = clients_ms < due_ms ? clients_ms : due_ms;
    due_ms = members_ms < due_ms ? members_ms : due_ms;
    for (size_t i = 0; i < world->n; i++) {
        uint64_t node_ms = sim_node_due_ms(world->nodes[i]);
        due_ms = node_ms < due_ms ? node_ms : due_ms;
    }
    assert(due_ms != SIM_NEVER);
    world->now_ms = due_ms > world->now_ms ? due_ms : world->now_ms + 1;
}

static void world_step(struct sim_world *world)
{
    world_advance(world);
    if (world->disturb_due_ms <= world->now_ms) {
        sim_disturb(world);
        world->disturb_due_ms =
            world->now_ms + 1 + random_below(&world->random, world->disturb_ms_max);
    }
    sim_disturb_bounce(world);
    sim_clients_turn(world->clients);
    sim_members_turn(world->members);
    for (size_t i = 0; i < world->n; i++)
        if (sim_node_due_ms(world->nodes[i]) <= world->now_ms)
            sim_node_turn(world->nodes[i]);
    sim_clients_collect(world->clients);
}

struct sim_node *sim_world_leader(const struct sim_world *world)
{
    /* Of several that believe they are, now this one and now that. */
    for (size_t i = 0; i < world->n; i++) {
        struct sim_node *node = world->nodes[(world->now_ms + i) % world->n];
        if (sim_node_is_leader(node))
            return node;
    }
    return NULL;
}

/* ---- The story ---- */

/* The leader's configuration is those nodes that are to be members. */
static bool are_voters(const struct sim_world *world)
{
    struct replica_view view;
    const struct sim_node *leader = sim_world_leader(world);
    size_t founded = 0, voters = 0;

    if (leader == NULL)
        return false;
    replica_view(leader->replica, &view);
    for (size_t i = 0; i < view.n_members; i++)
        voters += view.members[i].role == REPLICA_MEMBER_VOTER;
    for (size_t i = 0; i < world->n; i++)
        founded += world->nodes[i]->founded;
    return founded == voters && view.n_members == voters;
}

/* A cluster forms, as one does: one node begins, the others join. */
static void cluster_form(struct sim_world *world, size_t n)
{
    sim_node_start(world->nodes[0], true);
    for (size_t i = 1; i < n; i++)
        sim_node_start(world->nodes[i], false);
    while (!sim_members_idle(world->members) || !are_voters(world)) {
        if (world->now_ms > FORM_MS_MAX)
            sim_fail("no cluster of %zu has formed", n);
        world_step(world);
    }
}

static bool agree(const struct sim_world *world)
{
    struct tiers_position position;

    for (size_t i = 0; i < world->n; i++) {
        if (!world->nodes[i]->founded)
            continue;
        if (!world->nodes[i]->running)
            return false;
        tiers_position_applied(world->nodes[i]->tiers, &position);
        if (position.index != sim_checks_committed(world->checks))
            return false;
    }
    return are_voters(world);
}

/* Nothing breaks any more: the cluster has to recover by itself, and soon. */
static void recover(struct sim_world *world)
{
    uint64_t end_ms;

    world->disturb_due_ms = SIM_NEVER;
    sim_disturb_heal(world);
    sim_members_change(world->members, false);
    for (end_ms = world->now_ms + world->story->duration_ms / 4; world->now_ms < end_ms;)
        world_step(world);
    for (end_ms = world->now_ms + END_MS_MAX; !sim_members_idle(world->members);) {
        if (world->now_ms >= end_ms)
            sim_fail("the members are not those that were asked for, although nothing is broken "
                     "any more");
        world_step(world);
    }
    sim_clients_rest(world->clients);
    for (end_ms = world->now_ms + END_MS_MAX; world->now_ms < end_ms;) {
        world_step(world);
        if (sim_clients_idle(world->clients) && agree(world))
            return;
    }
    sim_fail("the nodes do not agree, although nothing is broken any more");
}

/* *ret_n of the nodes are to form the cluster. */
static void world_open(struct sim_world *world, const struct sim_story *story,
                       struct sim_result *result, size_t *ret_n)
{
    size_t n;

    world->story = story;
    world->result = result;
    world->now_ms = BEGIN_MS;
    random_init(&world->random, story->seed);
    temp_folder_make(world->folder);
    world->disturb_due_ms = SIM_NEVER;
    sim_network_open(&world->network, &world->now_ms, &world->random);
    world->network.observe = message_observed;
    world->network.context = world;
    world->mood = (enum sim_mood)(1 + random_below(&world->random, SIM_MOODS));
    if (story->mood != SIM_MOOD_ANY)
        world->mood = story->mood;
    world->disturb_ms_max = world->mood == SIM_MOOD_CALM ? DISTURB_MS_MAX : RESTLESS_MS_MAX;
    world->checks = sim_checks_new(world);
    *ret_n = n = random_below(&world->random, 3) == 0 ? NODES_MOST : NODES_LEAST;
    world->n = NODES_OUTSIDE + n;
    world->clients = sim_clients_new(world);
    world->members = sim_members_new(world);
    for (size_t i = 0; i < world->n; i++) {
        world->nodes[i] = calloc(1, sizeof *world->nodes[i]);
        assert(world->nodes[i] != NULL);
        sim_node_init(world->nodes[i], world, i);
        sim_checks_watch_disk(world->checks, world->nodes[i]);
        world->nodes[i]->disk.forgets_entries = story->defect == SIM_DEFECT_ENTRIES_NOT_SYNCED;
        world->nodes[i]->disk.forgets_vote = story->defect == SIM_DEFECT_VOTE_NOT_STORED;
    }
}

static void world_close(struct sim_world *world)
{
    for (size_t i = 0; i < world->n; i++)
        sim_node_free(world->nodes[i]);
    sim_clients_free(world->clients);
    sim_members_free(world->members);
    for (size_t i = 0; i < world->n; i++)
        free(world->nodes[i]);
    sim_network_close(&world->network);
    sim_checks_free(world->checks);
    temp_folder_remove(world->folder);
}

void sim_story_tell(const struct sim_story *story, struct sim_result *result)
{
    struct sim_world *world = calloc(1, sizeof *world);
    uint64_t end_ms;
    size_t n;

    assert(world != NULL);
    sim_world = world;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    world_open(world, story, result, &n);
    cluster_form(world, n);
    sim_members_change(world->members, random_below(&world->random, 3) > 0);
    world->disturb_due_ms = world->now_ms;
    for (end_ms = world->now_ms + story->duration_ms; world->now_ms < end_ms;)
        world_step(world);
    recover(world);
    sim_checks_end(world->checks);
    for (size_t i = 0; i < world->n; i++) {
        struct tiers_stats stats;
        if (!world->nodes[i]->running)
            continue;
        tiers_stats(world->nodes[i]->tiers, &stats);
        result->counts[SIM_COUNT_DEMOTED] += stats.cold_keys;
    }
    world_close(world);
    free(world);
    result->done = true;
}

bool sim_story_run(const struct sim_story *story, struct sim_result *ret_result)
{
    struct sim_result *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;

    assert(shared != MAP_FAILED);
    fflush(NULL);
    pid_t child = fork();
    assert(child >= 0);
    if (child == 0) {
        sim_story_tell(story, shared);
        fflush(NULL);
        _exit(0);
    }
    pid_t waited = waitpid(child, &status, 0);
    assert(waited == child);
    (void)waited;
    if (!shared->done && shared->failure[0] == '\0')
        snprintf(shared->failure, sizeof shared->failure, "the process ended with %s %d",
                 WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    *ret_result = *shared;
    munmap(shared, sizeof *shared);
    return ret_result->done && status == 0;
}
