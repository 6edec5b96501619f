/* `tierbench run`: the policies one after the other, each in a process and in folders of its own,
 * so that none finds another's memory, pages or files. What a run measures comes back through
 * shared memory. A run that fails is told on stderr by its process; the others go on, and the exit
 * status is 1.
 *
 * A signal that asks for the end waits while a policy has its folders and its process: the process
 * is killed, the folders are removed, then the signal does what it does by default. The reports are
 * lost. */
#include "run.h"

#include "run_engine.h"
#include "run_report.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static void remove_folder(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fprintf(stderr, "tierbench: %s was not removed: %s\n", path, strerror(errno));
}

/* Makes a new folder in the first of the two that is named, or else where temporary files go. */
static int make_folder(const char *first, const char *second, char ret_path[PATH_MAX])
{
    const char *temporary = getenv("TMPDIR");
    const char *parent = first[0] != '\0' ? first : second;

    if (parent[0] == '\0')
        parent = temporary != NULL ? temporary : "/tmp";
    else if (mkdir(parent, 0777) != 0 && errno != EEXIST)
        goto fail;
    int n = snprintf(ret_path, PATH_MAX, "%s/tierbench.XXXXXX", parent);
    if (n < 0 || n >= PATH_MAX)
        errno = ENAMETOOLONG;
    else if (mkdtemp(ret_path) != NULL)
        return 0;

fail:
    fprintf(stderr, "tierbench: %s: %s\n", parent, strerror(errno));
    return -1;
}

/* The signals that ask for the end, but for those that the caller had ignored, and SIGCHLD. */
static void signals_waited_for(sigset_t *ret_set)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};

    sigemptyset(ret_set);
    sigaddset(ret_set, SIGCHLD);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct sigaction action;
        if (sigaction(ends[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(ret_set, ends[i]);
    }
}

/* Waits for the process that runs a policy, with the signals blocked. One that asks for the end
 * kills the process and is left pending. */
static void wait_for(pid_t child, const sigset_t *signals)
{
    while (waitpid(child, NULL, WNOHANG) == 0) {
        int number = sigwaitinfo(signals, NULL);
        if (number < 0 || number == SIGCHLD)
            continue;
        kill(child, SIGKILL);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            continue;
        raise(number);
        return;
    }
}

/* What a new process does first: signals as its parent found them, and no life after it. */
static void child_begin(pid_t parent, const sigset_t *mask)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    sigprocmask(SIG_SETMASK, mask, NULL);
}

/* Runs one policy in a process of its own. Does not return if a signal asked for the end. */
static void run_policy(const struct run_options *options, struct source *source, const char *policy,
                       struct run_result *result, size_t samples_max)
{
    char warm_dir[PATH_MAX], cold_dir[PATH_MAX];
    sigset_t signals, mask;

    snprintf(result->policy, sizeof(result->policy), "%s", policy);
    signals_waited_for(&signals);
    sigprocmask(SIG_BLOCK, &signals, &mask);
    if (make_folder(options->warm_dir, options->dir, warm_dir) != 0)
        goto out;
    if (make_folder(options->cold_dir, options->dir, cold_dir) == 0) {
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            child_begin(parent, &mask);
            run_engine(options, source, policy, warm_dir, cold_dir, result, samples_max);
            _exit(result->complete ? 0 : 1);
        }
        if (child < 0)
            fprintf(stderr, "tierbench: no process for %s: %s\n", policy, strerror(errno));
        else
            wait_for(child, &signals);
        remove_folder(cold_dir);
    }
    remove_folder(warm_dir);

out:
    sigprocmask(SIG_SETMASK, &mask, NULL);
}

/* Runs all policies and reports on those that came to their end. */
static int run_all(const struct run_options *options, struct source *source)
{
    /* Even, so that samples stay an interval apart where every second one goes. */
    size_t samples_max = RUN_SAMPLES_SPARE +
                         2 * (size_t)((options->warmup + options->seconds) / options->interval / 2);
    size_t result_bytes = sizeof(struct run_result) + samples_max * sizeof(struct run_sample);
    struct run_result *results[RUN_POLICIES_MAX];
    size_t n = 0;

    result_bytes += -result_bytes % _Alignof(struct run_result);
    size_t whole_bytes = options->n_policies * result_bytes;
    char *shared =
        mmap(NULL, whole_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        fprintf(stderr, "tierbench: no memory for the results: %s\n", strerror(errno));
        return 1;
    }
    for (size_t i = 0; i < options->n_policies; i++) {
        results[n] = (struct run_result *)(void *)(shared + i * result_bytes);
        run_policy(options, source, options->policies[i], results[n], samples_max);
        if (results[n]->complete)
            n++;
        else
            fprintf(stderr, "tierbench: the run of %s failed\n", options->policies[i]);
    }
    struct run_report report = {
        .options = options, .source = source, .results = results, .n_results = n};
    int error = n > 0 ? run_report(&report) : -1;
    munmap(shared, whole_bytes);
    return error == 0 && n == options->n_policies ? 0 : 1;
}

int run_main(int argc, char **argv)
{
    struct run_options options;
    struct source source;
    char error_text[512];
    int parsed = run_options_parse(&options, argc, argv);

    if (parsed != 0)
        return parsed > 0 ? 0 : 2;
    if (run_report_check(&options) != 0)
        return 1;
    if (source_open(&source, &options.source, error_text, sizeof(error_text)) != 0) {
        fprintf(stderr, "tierbench: %s\n", error_text);
        return 2;
    }
    signal(SIGCHLD, SIG_DFL); /* Ignored, it would not tell of the child's end */
    if (options.cold_modelled)
        tiers_cold_model_set(&options.disk);
    int result = run_all(&options, &source);
    source_close(&source);
    return result;
}
