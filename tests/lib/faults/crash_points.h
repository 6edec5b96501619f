/* Crashes and failures at each durable I/O operation of a process.
 *
 * A point is one operation that changes a file or a name below a root folder: a write, fsync,
 * truncation, creation, rename, deletion. A test runs its scenario in a child process once to count
 * the points, and then once for each point and fate, and looks at what each run left behind. What a
 * power cut leaves is told by lib/faults/disk_model.h; syncs themselves are not carried out, since
 * within the life of this machine they change nothing that can be seen.
 *
 * Only one thread may do I/O below the root.
 */
#ifndef TIERKV_TESTS_FAULTS_CRASH_POINTS_H
#define TIERKV_TESTS_FAULTS_CRASH_POINTS_H

#include "lib/faults/libc_faults.h"

#include <stdint.h>

#define CRASH_EXIT_STATUS 77 /* Of a process that was ended by its plan */
#define CRASH_POINTS_MAX  4000

enum crash_fate {
    CRASH_NEVER,      /* The points are only counted */
    CRASH_BEFORE,     /* The process is killed before the point; all that it wrote stays */
    CRASH_MIDDLE,     /* ...with half the sectors of a write, or after another operation */
    CRASH_POWER_ALL,  /* Power fails before the point: all that was not synced is lost */
    CRASH_POWER_SOME, /* ...right after the point: any part of it is lost, as `seed` says */
    CRASH_FAIL,       /* The point fails with `error` */
    CRASH_SHORT       /* Half of a write is carried out; another operation is as ever */
};

struct crash_plan {
    enum crash_fate fate;
    uint64_t point; /* From 1 on */
    uint64_t seed;
    int error;
    bool lasting; /* Fail: all writes and creations from the point on, as on a full disk */
};

/* Shared by parent and child. */
struct crash_report {
    uint64_t points;
    uint8_t kinds[CRASH_POINTS_MAX + 1]; /* Of each point: enum libc_kind */
    bool reached;                        /* The plan's point came... */
    enum libc_kind kind;
    char place[160];
    uint64_t durable; /* For the scenario's own use, and so the text */
    char text[512];
};

struct crash_report *crash_report_new(void);
void crash_report_free(struct crash_report *report);

/* In the child: from now on points below `root` (an absolute path without links) are counted and
 * the plan is carried out. `graves`: see disk_model.h. All are borrowed. */
void crash_points_arm(const char *root, const char *graves, const struct crash_plan *plan,
                      struct crash_report *report);

/* Nothing is counted or failed from here on; what is durable is still followed. */
void crash_points_calm(void);

/* Ends the process; what was not synced is lost. */
_Noreturn void crash_points_power_off(void);

/* The hook, for layers that do not call the C library: see libc_faults.h. Operations on files below
 * the root are always taken over. */
bool crash_points_take(const struct libc_op *op, ssize_t *result);

/* A short story told to its end, after which the power fails, and then cut off at each of its
 * points by each fate that ends a process. */
struct crash_story {
    void *context;
    const char *root; /* As crash_points_arm */
    const char *graves;
    uint64_t stride;              /* Every so many points; 0: all */
    void (*reset)(void *context); /* Puts the root and the graves into the state before */
    bool (*run)(void *context);   /* In a child. False: it failed by itself */
    /* In a child, after each end: what must hold does, and more if it was `complete`. */
    bool (*proves)(void *context, bool complete);
};

/* NULL, or what went wrong (valid until the next call). *ret_points: how many points there were. */
const char *crash_story_try(const struct crash_story *story, uint64_t *ret_points);

#endif
