/* See plot.h. gnuplot reads the script from a pipe; its exit status says whether it could draw. One
 * thread. */
#include "plot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct plot {
    FILE *script;
    pid_t gnuplot;
    char *path;
};

/* The terminal that writes such a file; NULL: none. */
static const char *terminal_of(const char *path)
{
    const char *ending = strrchr(path, '.');

    if (ending != NULL && strcmp(ending, ".svg") == 0)
        return "svg size 900,600 dynamic background 'white' font 'sans,13'";
    if (ending != NULL && strcmp(ending, ".png") == 0)
        return "pngcairo size 1200,800 font 'sans,13'";
    return NULL;
}

int plot_check(const char *path)
{
    if (terminal_of(path) != NULL)
        return 0;
    fprintf(stderr, "tierbench: %s: a plot is a .svg or a .png file\n", path);
    return -1;
}

/* Starts gnuplot with its input from read_end. 0 or an errno. */
static int start(int read_end, pid_t *ret_pid)
{
    char *arguments[] = {(char[]){"gnuplot"}, NULL};
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);

    if (error != 0)
        return error;
    error = posix_spawn_file_actions_adddup2(&actions, read_end, STDIN_FILENO);
    if (error == 0)
        error = posix_spawnp(ret_pid, "gnuplot", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

struct plot *plot_open(const char *path)
{
    struct plot *plot;
    int ends[2] = {-1, -1}, error = ENOMEM;

    if (plot_check(path) != 0)
        return NULL;
    plot = calloc(1, sizeof(*plot));
    if (plot == NULL || (plot->path = strdup(path)) == NULL)
        goto fail;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        error = errno;
        goto fail;
    }
    plot->script = fdopen(ends[1], "w");
    if (plot->script == NULL) {
        error = errno;
        goto fail;
    }
    ends[1] = -1;
    error = start(ends[0], &plot->gnuplot);
    if (error != 0)
        goto fail;
    close(ends[0]);
    /* If gnuplot ends early its exit status tells, not a signal. */
    signal(SIGPIPE, SIG_IGN);
    fprintf(plot->script, "set terminal %s\nset output ", terminal_of(path));
    plot_text(plot, path);
    fputc('\n', plot->script);
    return plot;

fail:
    if (error == ENOENT)
        fprintf(stderr, "tierbench: %s: gnuplot is not installed (package gnuplot-nox)\n", path);
    else
        fprintf(stderr, "tierbench: %s: gnuplot cannot be started: %s\n", path, strerror(error));
    if (plot != NULL && plot->script != NULL)
        (void)fclose(plot->script);
    for (size_t i = 0; i < 2; i++) {
        if (ends[i] >= 0)
            close(ends[i]);
    }
    free(plot != NULL ? plot->path : NULL);
    free(plot);
    return NULL;
}

FILE *plot_script(struct plot *plot)
{
    return plot->script;
}

void plot_text(struct plot *plot, const char *text)
{
    fputc('\'', plot->script);
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputc('\'', plot->script);
        fputc(*text == '\n' ? ' ' : *text, plot->script);
    }
    fputc('\'', plot->script);
}

int plot_close(struct plot *plot)
{
    int status = 0, written = fclose(plot->script);
    pid_t ended;

    do {
        ended = waitpid(plot->gnuplot, &status, 0);
    } while (ended < 0 && errno == EINTR);
    bool drawn =
        written == 0 && ended == plot->gnuplot && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!drawn)
        fprintf(stderr, "tierbench: %s: gnuplot failed\n", plot->path);
    free(plot->path);
    free(plot);
    return drawn ? 0 : -1;
}
