/* A simulated world: nodes, their network, clients, and a story of what breaks, all from one seed.
 *
 * Time jumps from one event to the next. The same seed and options give the same events, one by
 * one; their hash tells.
 */
#ifndef TIERKV_TESTS_SIM_WORLD_H
#define TIERKV_TESTS_SIM_WORLD_H

#include "lib/random.h"
#include "lib/temp_folder.h"
#include "sim/sim_checks.h"
#include "sim/sim_counts.h"
#include "sim/sim_network.h"
#include "sim/sim_node.h"

#define SIM_NODES_MAX 7 /* Members and those that may become such */

/* What the code under test does wrong on purpose, to see that it is found. */
enum sim_defect {
    SIM_DEFECT_NONE,
    SIM_DEFECT_READ_WITHOUT_QUORUM,  /* A consistent read asks nobody */
    SIM_DEFECT_ANSWER_BEFORE_COMMIT, /* A write is acknowledged once it is proposed */
    SIM_DEFECT_VOTE_NOT_STORED,      /* A vote does not outlive a crash */
    SIM_DEFECT_ENTRIES_NOT_SYNCED,   /* Nor do the newest entries, although they were confirmed */
    SIM_DEFECT_ENTRY_SKIPPED,        /* A node leaves out what a committed entry says */
    SIM_DEFECT_ENTRY_TWICE,          /* A node does it again */
    SIM_DEFECT_READ_ELSEWHERE,       /* A read is answered by another node than the one asked */
    SIM_DEFECTS
};

/* What most of a story is about. */
enum sim_mood {
    SIM_MOOD_ANY,      /* One of these, as the seed says */
    SIM_MOOD_CALM,     /* Time to recover from most of what breaks */
    SIM_MOOD_RESTLESS, /* No time */
    SIM_MOOD_ELECTIONS /* Whoever leads is soon cut off */
};
#define SIM_MOODS 3

struct sim_story {
    uint64_t seed;
    uint64_t duration_ms; /* Of simulated time in which things break */
    enum sim_defect defect;
    enum sim_mood mood;
    bool trace; /* Each event to standard output */
};

/* What a story came to, in memory shared with who started it. */
struct sim_result {
    bool done;
    uint64_t hash; /* Of all events */
    uint64_t events;
    uint64_t counts[SIM_COUNTS_N];
    char failure[1024];
};

struct sim_clients;
struct sim_members;

struct sim_world {
    const struct sim_story *story;
    struct sim_result *result;
    uint64_t now_ms;
    struct random random;
    struct sim_network network;
    struct sim_node *nodes[SIM_NODES_MAX];
    size_t n;
    struct sim_checks *checks;
    struct sim_clients *clients;
    struct sim_members *members;
    uint64_t disturb_due_ms;
    enum sim_mood mood;
    uint64_t disturb_ms_max;    /* Between two disturbances */
    bool voters_bounce;         /* Whoever has voted may crash then, and come back at once */
    bool bounce[SIM_NODES_MAX]; /* Is to do so in the next step */
    char folder[TEMP_FOLDER_PATH_BYTES];
};

/* The world of this process. */
extern struct sim_world *sim_world;

/* An event, for the hash and the trace. `what` is a constant text. */
void sim_event(const char *what, uint64_t a, uint64_t b, uint64_t c);
/* Something does not hold: ends the process, with the sentence in the result. */
_Noreturn __attribute__((format(printf, 1, 2))) void sim_fail(const char *format, ...);

struct sim_node *sim_world_leader(const struct sim_world *world);

/* Tells a story in this process; a breach ends it. */
void sim_story_tell(const struct sim_story *story, struct sim_result *result);
/* Tells it in a process of its own: true if it came to its end. */
bool sim_story_run(const struct sim_story *story, struct sim_result *ret_result);

/* sim_disturb.c: breaks something; crashes those that are to bounce; from _heal on nothing is
 * broken any more. */
void sim_disturb(struct sim_world *world);
void sim_disturb_bounce(struct sim_world *world);
void sim_disturb_heal(struct sim_world *world);

#endif
