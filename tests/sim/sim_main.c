/* tells stories: sim [--seeds N] [--first SEED] [--jobs N] [--duration MS] [--trace] */
#include "sim/sim_world.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEDS       200
#define JOBS_MAX    64
#define DURATION_MS 10000

struct options {
    uint64_t first, seeds, jobs, duration_ms;
    bool trace;
};

static int usage(void)
{
    fputs(
        "usage: sim [--seeds N] [--first SEED] [--jobs N] [--duration MS] [--trace]\n"
        "\n"
        "Tells N stories of a cluster in simulated time, one for each seed from SEED on (1), and\n"
        "says which breach what must hold. --duration: simulated time in which things break.\n"
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
        {"duration", required_argument, NULL, 'd'}, {NULL, 0, NULL, 0}};
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
    uint64_t stories, failed, events, committed, writes, reads, elections, crashes, cold_keys;
};

/* Every jobs-th seed from the job's number on. */
static struct sum stories_tell(const struct options *options, uint64_t job)
{
    struct sum sum = {0};

    for (uint64_t i = job; i < options->seeds; i += options->jobs) {
        struct sim_story story = {.seed = options->first + i,
                                  .duration_ms = options->duration_ms,
                                  .trace = options->trace};
        struct sim_result result;
        sum.stories++;
        if (!sim_story_run(&story, &result)) {
            sum.failed++;
            printf("seed %" PRIu64 " failed %s\n", story.seed, result.failure);
            fflush(stdout);
        }
        sum.events += result.events;
        sum.committed += result.committed;
        sum.writes += result.writes;
        sum.reads += result.reads;
        sum.elections += result.elections;
        sum.crashes += result.crashes;
        sum.cold_keys += result.cold_keys;
    }
    return sum;
}

int main(int n, char **texts)
{
    struct options options;
    struct sum all = {0};
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
        all.committed += sum.committed;
        all.writes += sum.writes;
        all.reads += sum.reads;
        all.elections += sum.elections;
        all.crashes += sum.crashes;
        all.cold_keys += sum.cold_keys;
    }
    while (wait(NULL) > 0)
        ;
    printf("%" PRIu64 " stories: %" PRIu64 " events, %" PRIu64 " entries committed, %" PRIu64
           " writes, %" PRIu64 " reads, %" PRIu64 " elections, %" PRIu64 " crashes, %" PRIu64
           " cold values; %" PRIu64 " failed\n",
           all.stories, all.events, all.committed, all.writes, all.reads, all.elections,
           all.crashes, all.cold_keys, all.failed);
    return all.failed == 0 && all.stories == options.seeds ? 0 : 1;
}
