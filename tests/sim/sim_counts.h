/* What happened in stories, counted: what the seeds reach, and what they never do. */
#ifndef TIERKV_TESTS_SIM_COUNTS_H
#define TIERKV_TESTS_SIM_COUNTS_H

#define SIM_COUNTS(X)                                                                              \
    X(COMMITTED, "entries committed")                                                              \
    X(WRITES, "writes acknowledged")                                                               \
    X(READS_CONSISTENT, "consistent reads")                                                        \
    X(READS_DEFAULT, "default reads")                                                              \
    X(READS_STALE, "stale reads")                                                                  \
    X(REFUSED, "requests refused")                                                                 \
    X(OUTCOME_UNKNOWN, "requests without an answer")                                               \
    X(ELECTIONS, "elections won")                                                                  \
    X(MESSAGES_LOST, "messages lost")                                                              \
    X(MESSAGES_DOUBLED, "messages doubled")                                                        \
    X(MESSAGES_OVERTAKEN, "messages overtaken")                                                    \
    X(MESSAGES_CUT, "messages into a cut link")                                                    \
    X(PARTITIONS_HALF, "partitions in two")                                                        \
    X(PARTITIONS_ONE, "partitions of one node")                                                    \
    X(PARTITIONS_RING, "partitions to a ring")                                                     \
    X(PARTITIONS_ONE_WAY, "partitions one way")                                                    \
    X(CRASHES, "crashes")                                                                          \
    X(CRASHES_ALL, "crashes of all at once")                                                       \
    X(CRASHES_IN_A_WRITE, "crashes in the middle of the tiers' I/O")                               \
    X(ENTRIES_LOST, "unsynced entries lost by a crash")                                            \
    X(APPENDS_TORN, "appends torn by a crash")                                                     \
    X(STOPS, "orderly stops")                                                                      \
    X(PAUSES, "pauses of a process")                                                               \
    X(CLOCK_JUMPS, "jumps of a monotonic clock")                                                   \
    X(WALL_CLOCK_JUMPS, "jumps of a wall clock")                                                   \
    X(DISKS_SLOW, "slow disks")                                                                    \
    X(DISKS_STALLED, "stalled disks")                                                              \
    X(APPENDS_NO_SPACE, "appends to a full disk")                                                  \
    X(WRITES_NO_SPACE, "writes refused for a full disk")                                           \
    X(TIERS_NO_SPACE, "tier writes to a full disk")                                                \
    X(LOGS_CUT, "log truncations by a snapshot")                                                   \
    X(LOGS_TAKEN_BACK, "log truncations by another leader")                                        \
    X(TRANSFERS_BEGUN, "state transfers begun")                                                    \
    X(TRANSFERS_BROKEN, "state transfers broken off")                                              \
    X(TRANSFERS_DONE, "states installed")                                                          \
    X(JOINS, "nodes joined")                                                                       \
    X(REMOVALS, "members removed")                                                                 \
    X(REPLACEMENTS, "members replaced")                                                            \
    X(DISKS_REPLACED, "members replaced by themselves, with an empty disk")                        \
    X(ADDRESSES_CHANGED, "addresses changed")                                                      \
    X(HANDOVERS, "leadership transfers")                                                           \
    X(CHANGES_REFUSED, "membership changes refused")                                               \
    X(DEMOTED, "values in the cold tier at the end")

enum sim_count {
#define X(name, text) SIM_COUNT_##name,
    SIM_COUNTS(X)
#undef X
        SIM_COUNTS_N
};

extern const char *const sim_count_names[SIM_COUNTS_N];

/* Adds one. */
void sim_count(enum sim_count count);

#endif
