/* What the kernel says that this process has used. */
#ifndef TIERKV_BENCH_PROCESS_USAGE_H
#define TIERKV_BENCH_PROCESS_USAGE_H

#include <stdbool.h>
#include <stdint.h>

struct process_usage {
    uint64_t anonymous_bytes; /* Resident memory that no file backs */
    uint64_t mapped_bytes;    /* Resident pages of mapped files */
    uint64_t read_bytes;      /* Caused to be read from disks... */
    uint64_t written_bytes;   /* ...and to be written, all threads, page cache or not */
    bool io_known;            /* Else the two are 0: the kernel does not count */
};

/* Figures that cannot be had are 0. */
void process_usage(struct process_usage *ret_usage);

/* Reads "NAME: NUMBER" from the text of a file of /proc; 0 if the name is absent. */
uint64_t process_usage_field(const char *text, const char *name);

#endif
