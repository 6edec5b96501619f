/* Tells stories on all cores, each in a process of its own, and says which breached something. */
#include "sim/sim_world.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEDS       200
#define JOBS_MAX    64
#define DURATION_MS 10000

struct options {
    uint64_t first, seeds, jobs, duration_ms;
    enum sim_defect defect;
    bool covers; /* Each kind of event is to happen */
    bool trace;
};

static const char *const defects[SIM_DEFECTS] = {[SIM_DEFECT_NONE] = "none",
                                                 [SIM_DEFECT_READ_WITHOUT_QUORUM] = "read",
                                                 [SIM_DEFECT_ANSWER_BEFORE_COMMIT] = "answer",
                                                 [SIM_DEFECT_VOTE_NOT_STORED] = "vote",
                                                 [SIM_DEFECT_ENTRIES_NOT_SYNCED] = "sync",
                                                 [SIM_DEFECT_ENTRY_SKIPPED] = "skip",
                                                 [SIM_DEFECT_ENTRY_TWICE] = "twice",
                                                 [SIM_DEFECT_READ_ELSEWHERE] = "elsewhere"};

static bool defect_read(const char *name, enum sim_defect *ret_defect)
{
    for (size_t i = 0; i < SIM_DEFECTS; i++) {
        if (strcmp(defects[i], name) == 0) {
            *ret_defect = (enum sim_defect)i;
            return true;
        }
    }
    return false;
}

static int usage(void)
{
    fputs(
        "usage: sim [--seeds N] [--first SEED] [--jobs N] [--duration MS]\n"
        "           [--covers] [--defect NAME] [--trace]\n"
        "\n"
        "Tells N stories of a cluster in simulated time, one for each seed from SEED on (1), and\n"
        "says which breach what must hold. --duration: simulated time in which things break.\n"
        "--covers: each kind of event has to happen. --defect: what is broken on purpose\n"
        "(read, answer, vote, sync, skip, twice, elsewhere).\n"
        "--trace prints each event, and logs of the nodes to standard error; for one seed:\n"
        "  sim --first 17 --seeds 1 --trace\n",
        stderr);
    return 2;
}

static bool number(const char *text, uint64_t *ret_number)
{
    char *end;

    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0';
}

static bool options_read(int n, char **texts, struct options *ret_options)
{
    static const struct option known[] = {
        {"seeds", required_argument, NULL, 's'},    {"first", required_argument, NULL, 'f'},
        {"jobs", required_argument, NULL, 'j'},     {"trace", no_argument, NULL, 't'},
        {"duration", required_argument, NULL, 'd'}, {"defect", required_argument, NULL, 'x'},
        {"covers", no_argument, NULL, 'c'},         {NULL, 0, NULL, 0}};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    bool ok = true;
    int option;

    *ret_options = (struct options){.first = 1,
                                    .seeds = SEEDS,
                                    .jobs = cores > 0 ? (uint64_t)cores : 1,
                                    .duration_ms = DURATION_MS};
    while (ok && (option = getopt_long(n, texts, "", known, NULL)) != -1) {
        if (option == 's')
            ok = number(optarg, &ret_options->seeds);
        else if (option == 'f')
            ok = number(optarg, &ret_options->first);
        else if (option == 'j')
            ok = number(optarg, &ret_options->jobs);
        else if (option == 'd')
            ok = number(optarg, &ret_options->duration_ms);
        else if (option == 'x')
            ok = defect_read(optarg, &ret_options->defect);
        else if (option == 'c')
            ret_options->covers = true;
        else if (option == 't')
            ret_options->trace = true;
        else
            ok = false;
    }
    if (ret_options->jobs > JOBS_MAX)
        ret_options->jobs = JOBS_MAX;
    return ok && optind == n && ret_options->seeds > 0 && ret_options->jobs > 0 &&
           ret_options->duration_ms > 0;
}

struct sum {
    uint64_t stories, failed, events;
    uint64_t counts[SIM_COUNTS_N];
};

/* Every jobs-th seed from the job's number on. */
static struct sum stories_tell(const struct options *options, uint64_t job)
{
    struct sum sum = {0};

    for (uint64_t i = job; i < options->seeds; i += options->jobs) {
        struct sim_story story = {.seed = options->first + i,
                                  .duration_ms = options->duration_ms,
                                  .defect = options->defect,
                                  .trace = options->trace};
        struct sim_result result;
        sum.stories++;
        if (!sim_story_run(&story, &result)) {
            sum.failed++;
            printf("seed %" PRIu64 " failed %s\n  again, event by event: tests/sim/run 1 %" PRIu64
                   " --duration %" PRIu64 " --trace\n",
                   story.seed, result.failure, story.seed, story.duration_ms);
            fflush(stdout);
        }
        sum.events += result.events;
        for (size_t k = 0; k < SIM_COUNTS_N; k++)
            sum.counts[k] += result.counts[k];
    }
    return sum;
}

int main(int n, char **texts)
{
    struct options options;
    struct sum all = {0};
    size_t never = 0;
    int sums[2];

    if (!options_read(n, texts, &options))
        return usage();
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    if (pipe(sums) != 0) {
        perror("pipe");
        return 2;
    }
    for (uint64_t job = 0; job < options.jobs; job++) {
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            return 2;
        }
        if (child == 0) {
            struct sum sum = stories_tell(&options, job);
            _exit(write(sums[1], &sum, sizeof sum) == sizeof sum ? 0 : 2);
        }
    }
    close(sums[1]);
    for (struct sum sum; read(sums[0], &sum, sizeof sum) == sizeof sum;) {
        all.stories += sum.stories;
        all.failed += sum.failed;
        all.events += sum.events;
        for (size_t k = 0; k < SIM_COUNTS_N; k++)
            all.counts[k] += sum.counts[k];
    }
    while (wait(NULL) > 0)
        ;
    printf("%" PRIu64 " stories, %" PRIu64 " events\n", all.stories, all.events);
    for (size_t k = 0; k < SIM_COUNTS_N; k++) {
        printf("%12" PRIu64 " %s\n", all.counts[k], sim_count_names[k]);
        never += all.counts[k] == 0;
    }
    printf("%" PRIu64 " failed\n", all.failed);
    if (options.covers && never > 0) {
        printf("%zu kinds of events never happened\n", never);
        return 1;
    }
    return all.failed == 0 && all.stories == options.seeds ? 0 : 1;
}
