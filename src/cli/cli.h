/* The parts of the tierkv command line: options, verbs, printing. */
#ifndef TIERKV_CLI_CLI_H
#define TIERKV_CLI_CLI_H

#include "tierkv/client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* X(name, code, meaning). The numbers are part of the interface. */
#define CLI_EXITS(X)                                                                               \
    X(CLI_OK, 0, "done")                                                                           \
    X(CLI_NOT_FOUND, 1, "there is no such key or member")                                          \
    X(CLI_USAGE, 2, "the command line is wrong")                                                   \
    X(CLI_UNAVAILABLE, 3, "no server answered, or the cluster cannot serve now")                   \
    X(CLI_REFUSED, 4, "the server refused the request")                                            \
    X(CLI_OUTCOME_UNKNOWN, 5, "the write may or may not have happened")                            \
    X(CLI_FAILED, 6, "another failure: input, output, memory, an answer not understood")

enum cli_exit {
#define X(name, code, meaning) name = code,
    CLI_EXITS(X)
#undef X
};

struct cli {
    const char *endpoints;
    uint32_t timeout_ms;
    bool json;  /* -o json */
    bool force; /* -f */
    enum tierkv_level level;
    struct tierkv_client *client;
};

struct cli_verb {
    const char *name;
    const char *arguments; /* For the help */
    const char *help;
    int n_least, n_most; /* Arguments */
    int (*run)(struct cli *cli, char **arguments, int n);
};
/* Ends with an entry whose name is NULL. */
extern const struct cli_verb cli_verbs[];

/* Says on standard error what a TIERKV_ code means here and returns the exit code for it. */
int cli_report(const struct cli *cli, int error);

/* Printing. All return an exit code; failures of standard output are reported. */

/* {"key":…,"value":…,"mod_revision":N}; what is not UTF-8 text goes as key_base64, value_base64. */
int cli_print_record(const void *key, size_t key_len, const void *value, size_t value_len,
                     uint64_t mod_revision);
/* The bytes; a terminal also gets a newline. */
int cli_print_bytes(const void *bytes, size_t length);
/* "revision N" or {"revision":N}. */
int cli_print_revision(uint64_t revision, bool json);
/* A JSON text as it came. */
int cli_print_text(const char *text);
/* A JSON object as lines "path.to.name  value", aligned. */
int cli_print_properties(const char *json);
/* The array of objects called `name` in a JSON object as a table with one row an object. */
int cli_print_table(const char *json, const char *name);

#endif
