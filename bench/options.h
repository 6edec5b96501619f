/* Command lines of the form --name VALUE or --name=VALUE, from tables. */
#ifndef TIERKV_BENCH_OPTIONS_H
#define TIERKV_BENCH_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

/* count: uint64_t, a whole number. bytes: uint64_t, with KiB, MiB, GiB. real: double. text: const
 * char *. */
enum option_type { OPTION_count, OPTION_bytes, OPTION_real, OPTION_text };

#define OPTION_FIELD_count(field) uint64_t field;
#define OPTION_FIELD_bytes(field) uint64_t field;
#define OPTION_FIELD_real(field)  double field;
#define OPTION_FIELD_text(field)  const char *field;

struct option_entry {
    enum option_type type;
    const char *name; /* As on the command line, with _ for - */
    size_t offset;    /* Of the field */
    const char *text_default;
    double least, most; /* Of numbers */
    const char *help;
};

#define OPTIONS_MAX 48

/* `usage` is printed above the list of options. */
struct option_table {
    const char *usage;
    const struct option_entry *entries;
    size_t n;
};

/* 0: go on; 1: help was printed; -1: a mistake, told on stderr. Fills all fields, with defaults
 * where nothing is said. Texts are borrowed from argv. *ret_argument is the one argument that is no
 * option, untouched if there is none; NULL: none is allowed. */
int options_parse(const struct option_table *table, void *options, int argc, char **argv,
                  const char **ret_argument);

/* Reads a whole number with KiB, MiB, GiB or none behind it. 0, or -1. */
int options_bytes(const char *text, uint64_t *ret_bytes);

#endif
