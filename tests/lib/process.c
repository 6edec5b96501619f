/* fork, exec and wait for tests. */
#include "lib/process.h"

#include "lib/http.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 64

static void check(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(2);
}

/* The child's side. Between fork and exec only calls that are safe there. */
static void become(const char *const arguments[], int in, int out, int error)
{
    char *copies[ARGUMENTS_MAX + 1] = {NULL};
    for (size_t i = 0; i < ARGUMENTS_MAX && arguments[i] != NULL; i++)
        memcpy(&copies[i], &arguments[i], sizeof(copies[i]));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    execv(copies[0], copies);
    static const char message[] = "cannot execute the program\n";
    (void)!write(STDERR_FILENO, message, sizeof(message) - 1);
    _exit(127);
}

pid_t process_start(const char *const arguments[], const char *output_path)
{
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open(output_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    check(in >= 0 && out >= 0, output_path);
    fflush(stdout);
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0)
        become(arguments, in, out, out);
    close(in);
    close(out);
    return pid;
}

int process_wait(pid_t pid, uint64_t timeout_ms)
{
    uint64_t deadline = test_now_ms() + timeout_ms;
    for (;;) {
        int status;
        pid_t ended = waitpid(pid, &status, WNOHANG);
        check(ended >= 0 || errno == EINTR, "waitpid");
        if (ended == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (test_now_ms() >= deadline)
            return -1;
        test_sleep_ms(2);
    }
}

/* An anonymous file: unlike a pipe it never makes the child wait for us. */
static int scratch(const void *bytes, size_t length)
{
    FILE *file = tmpfile();
    check(file != NULL, "tmpfile");
    check(length == 0 || fwrite(bytes, 1, length, file) == length, "fwrite");
    rewind(file);
    int fd = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
    check(fd >= 0, "dup");
    fclose(file);
    return fd;
}

static char *read_all(int fd, size_t *ret_length)
{
    off_t length = lseek(fd, 0, SEEK_END);
    check(length >= 0, "lseek");
    char *text = calloc(1, (size_t)length + 1);
    check(text != NULL, "calloc");
    check(pread(fd, text, (size_t)length, 0) == length, "pread");
    close(fd);
    *ret_length = (size_t)length;
    return text;
}

void process_run(const char *const arguments[], const void *input, size_t input_len,
                 uint64_t timeout_ms, struct process_result *ret_result)
{
    int in = scratch(input, input_len), out = scratch(NULL, 0), error = scratch(NULL, 0);
    size_t errors_len;

    fflush(stdout);
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0)
        become(arguments, in, out, error);
    ret_result->status = process_wait(pid, timeout_ms);
    if (ret_result->status == -1) {
        kill(pid, SIGKILL);
        process_wait(pid, 10000);
    }
    close(in);
    ret_result->output = read_all(out, &ret_result->output_len);
    ret_result->errors = read_all(error, &errors_len);
}

struct process_result process_run_list(uint64_t timeout_ms, const char *program, ...)
{
    const char *arguments[32] = {program};
    struct process_result result;
    va_list more;
    size_t n = 0;

    va_start(more, program);
    while (arguments[n] != NULL && n < sizeof(arguments) / sizeof(arguments[0]) - 1)
        arguments[++n] = va_arg(more, const char *);
    va_end(more);
    if (arguments[n] != NULL)
        abort();
    process_run(arguments, NULL, 0, timeout_ms, &result);
    return result;
}

void process_result_free(struct process_result *result)
{
    free(result->output);
    free(result->errors);
}
