/* What the kernel says that this process has used. */
#ifndef TIERKV_BENCH_PROCESS_USAGE_H
#define TIERKV_BENCH_PROCESS_USAGE_H

#include <stdbool.h>
#include <stdint.h>

struct process_usage {
    uint64_t anonymous_bytes; /* Resident memory that no file backs */
    uint64_t mapped_bytes;    /* Resident pages of mapped files */
    uint64_t written_bytes;   /* Handed to write(2) and its kin by all threads; not by io_uring */
    bool io_known;            /* Else written_bytes is 0: the kernel does not count */
};

/* Figures that cannot be had are 0. */
void process_usage(struct process_usage *ret_usage);

/* Reads "NAME: NUMBER" from the text of a file of /proc; 0 if the name is absent. */
uint64_t process_usage_field(const char *text, const char *name);

#endif
