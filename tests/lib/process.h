/* Programs that a test starts. They die with the test. */
#ifndef TIERKV_TESTS_PROCESS_H
#define TIERKV_TESTS_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Starts a program (path, arguments and a NULL) with standard output and error appended to a file.
 * From the main thread only: the child is killed when the thread that started it ends. */
pid_t process_start(const char *const arguments[], const char *output_path);
/* Waits for the end. The exit status; 128 + signal if one ended it; -1: still running. */
int process_wait(pid_t pid, uint64_t timeout_ms);

struct process_result {
    int status;   /* As process_wait */
    char *output; /* NUL-terminated */
    size_t output_len;
    char *errors; /* Likewise */
};
/* Runs a program to its end with `input` on its standard input (NULL: nothing). Free with
 * process_result_free. */
void process_run(const char *const arguments[], const void *input, size_t input_len,
                 uint64_t timeout_ms, struct process_result *ret_result);
/* The same of a program without input, whose arguments, at most 30, end with NULL. */
__attribute__((sentinel)) struct process_result process_run_list(uint64_t timeout_ms,
                                                                 const char *program, ...);
void process_result_free(struct process_result *result);

#endif
