/* What each verb does: one call of libtierkv and one way of printing its result. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No server takes a longer value (the largest max_value_bytes). */
#define VALUE_BYTES_MAX ((size_t)16 << 20)

/* As cli_report, in other words. */
static int report_as(const struct cli *cli, int error, const char *what)
{
    const char *detail = cli->client != NULL ? tierkv_client_error_text(cli->client) : "";

    fprintf(stderr, "tierkv: %s%s%s\n", what, *detail != '\0' ? ": " : "", detail);
    switch (error) {
    case TIERKV_NOT_FOUND:
        return CLI_NOT_FOUND;
    case TIERKV_INVALID:
        return CLI_USAGE;
    case TIERKV_UNREACHABLE:
    case TIERKV_TIMEOUT:
    case TIERKV_UNAVAILABLE:
        return CLI_UNAVAILABLE;
    case TIERKV_REFUSED:
        return CLI_REFUSED;
    case TIERKV_OUTCOME_UNKNOWN:
        return CLI_OUTCOME_UNKNOWN;
    default:
        return CLI_FAILED;
    }
}

int cli_report(const struct cli *cli, int error)
{
    return report_as(cli, error, tierkv_strerror(error));
}

/* Of what names a member, and no key. */
static int report_member(const struct cli *cli, int error)
{
    return report_as(cli, error,
                     error == TIERKV_NOT_FOUND ? "no such member" : tierkv_strerror(error));
}

/* Reads standard input to its end. Exit code; on CLI_OK *ret_value is the caller's. */
static int read_input(void **ret_value, size_t *ret_length)
{
    size_t capacity = (size_t)64 << 10, length = 0;
    char *value = malloc(capacity);

    while (value != NULL) {
        ssize_t n = read(STDIN_FILENO, value + length, capacity - length);
        if (n == 0) {
            *ret_value = value;
            *ret_length = length;
            return CLI_OK;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fprintf(stderr, "tierkv: standard input: %s\n", strerror(errno));
            free(value);
            return CLI_FAILED;
        }
        length += (size_t)n;
        if (length > VALUE_BYTES_MAX) {
            fprintf(stderr, "tierkv: the value on standard input is longer than 16 MiB\n");
            free(value);
            return CLI_REFUSED;
        }
        if (length == capacity) {
            char *longer = realloc(value, capacity * 2);
            if (longer == NULL)
                break;
            value = longer;
            capacity *= 2;
        }
    }
    free(value);
    fprintf(stderr, "tierkv: out of memory\n");
    return CLI_FAILED;
}

static int run_put(struct cli *cli, char **arguments, int n)
{
    void *input = NULL;
    const void *value;
    size_t length;
    uint64_t revision;

    if (n == 2 && strcmp(arguments[1], "-") != 0) {
        value = arguments[1];
        length = strlen(arguments[1]);
    } else {
        int code = read_input(&input, &length);
        if (code != CLI_OK)
            return code;
        value = input;
    }
    int status =
        tierkv_put(cli->client, arguments[0], strlen(arguments[0]), value, length, &revision);
    free(input);
    if (status != 0)
        return cli_report(cli, status);
    return cli_print_revision(revision, cli->json);
}

static int run_get(struct cli *cli, char **arguments, int n)
{
    size_t key_len = strlen(arguments[0]);
    void *value;
    size_t length;
    uint64_t mod_revision;

    (void)n;
    int status =
        tierkv_get(cli->client, arguments[0], key_len, cli->level, &value, &length, &mod_revision);
    if (status != 0)
        return cli_report(cli, status);
    int code = cli->json ? cli_print_record(arguments[0], key_len, value, length, mod_revision)
                         : cli_print_bytes(value, length);
    free(value);
    return code;
}

static int run_delete(struct cli *cli, char **arguments, int n)
{
    uint64_t revision;

    (void)n;
    int status = tierkv_delete(cli->client, arguments[0], strlen(arguments[0]), &revision);
    if (status != 0)
        return cli_report(cli, status);
    return cli_print_revision(revision, cli->json);
}

static int run_status(struct cli *cli, char **arguments, int n)
{
    char *text;

    (void)arguments;
    (void)n;
    int status = tierkv_status(cli->client, &text);
    if (status != 0)
        return cli_report(cli, status);
    int code = cli->json ? cli_print_text(text) : cli_print_properties(text);
    free(text);
    return code;
}

static int members_list(struct cli *cli)
{
    char *text;
    int status = tierkv_members(cli->client, &text);

    if (status != 0)
        return cli_report(cli, status);
    int code = cli->json ? cli_print_text(text) : cli_print_table(text, "members");
    free(text);
    return code;
}

/* ID HTTP-ADDRESS RAFT-ADDRESS [INCARNATION]. False: the last is not a hexadecimal number. */
static bool node_read(char **arguments, int n, struct tierkv_node *ret_node)
{
    char *end = NULL;

    *ret_node = (struct tierkv_node){
        .name = arguments[0], .http_address = arguments[1], .raft_address = arguments[2]};
    if (n < 4)
        return true;
    ret_node->incarnation = strtoull(arguments[3], &end, 16);
    return *arguments[3] != '\0' && *end == '\0' && ret_node->incarnation != 0;
}

static int members_add(struct cli *cli, char **arguments, int n)
{
    struct tierkv_node node;

    return node_read(arguments, n, &node) ? tierkv_join(cli->client, &node) : TIERKV_INVALID;
}

static int members_replace(struct cli *cli, char **arguments, int n)
{
    struct tierkv_node node;

    return node_read(arguments + 1, n - 1, &node)
               ? tierkv_member_replace(cli->client, arguments[0], &node, cli->force)
               : TIERKV_INVALID;
}

static int members_remove(struct cli *cli, char **arguments, int n)
{
    (void)n;
    return tierkv_member_remove(cli->client, arguments[0], cli->force);
}

static int members_transfer(struct cli *cli, char **arguments, int n)
{
    return tierkv_transfer(cli->client, n > 0 ? arguments[0] : NULL);
}

static const struct members_verb {
    const char *name;
    int n_min, n_max; /* Arguments behind the name */
    int (*run)(struct cli *cli, char **arguments, int n);
} members_verbs[] = {
    {"add", 3, 4, members_add},
    {"remove", 1, 1, members_remove},
    {"replace", 4, 5, members_replace},
    {"transfer", 0, 1, members_transfer},
};

static int run_members(struct cli *cli, char **arguments, int n)
{
    if (n == 0)
        return members_list(cli);
    for (size_t i = 0; i < sizeof(members_verbs) / sizeof(members_verbs[0]); i++) {
        const struct members_verb *verb = &members_verbs[i];
        if (strcmp(arguments[0], verb->name) != 0 || n - 1 < verb->n_min || n - 1 > verb->n_max)
            continue;
        int status = verb->run(cli, arguments + 1, n - 1);
        return status != 0 ? report_member(cli, status) : CLI_OK;
    }
    fputs("tierkv: members takes add ID HTTP RAFT [INCARNATION], remove ID, replace OLD-ID ID HTTP "
          "RAFT [INCARNATION], or transfer [ID]\n",
          stderr);
    return CLI_USAGE;
}

const struct cli_verb cli_verbs[] = {
    {"put", "KEY [VALUE|-]", "set a key; without VALUE, or with -, to standard input", 1, 2,
     run_put},
    {"get", "KEY", "write a key's value to standard output", 1, 1, run_get},
    {"del", "KEY", "delete a key, if there is one", 1, 1, run_delete},
    {"status", "", "the state of the first server that answers", 0, 0, run_status},
    {"members", "[VERB …]", "the servers of the cluster, or a change of them: see below", 0, 6,
     run_members},
    {NULL, NULL, NULL, 0, 0, NULL},
};
