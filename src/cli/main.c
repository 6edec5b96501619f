/* tierkv: the command line. Reads the options, finds the verb, runs it, and turns its result into
 * the exit code. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENDPOINTS_DEFAULT "127.0.0.1:8091"

static void print_usage(FILE *out)
{
    fputs("Usage: tierkv [OPTION…] VERB [ARGUMENT…]\n\nVerbs:\n", out);
    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++)
        fprintf(out, "  %-8s %-16s %s\n", verb->name, verb->arguments, verb->help);
    fputs(
        "\nOptions:\n"
        "  -e, --endpoints LIST  HOST:PORT[,HOST:PORT…] of servers; default: the environment's\n"
        "                        TIERKV_ENDPOINTS, else " ENDPOINTS_DEFAULT "\n"
        "  -l, --level LEVEL     of get: default (the leader's answer), consistent (never stale,\n"
        "                        one more round among the servers), stale (any server's answer)\n"
        "  -o, --output FORM     text (the default) or json\n"
        "  -f, --force           of members remove and replace: even if the quorum is lost by it\n"
        "  -t, --timeout TIME    for the whole command, as 500ms, 5s (the default) or 1m\n"
        "  -h, --help            this text\n"
        "  -V, --version         the version\n"
        "\nChanges of the members:\n"
        "  members add ID HTTP RAFT [INCARNATION]\n"
        "                        make the node with these addresses a voter, or update them\n"
        "  members remove ID     take a member out\n"
        "  members replace OLD-ID ID HTTP RAFT [INCARNATION]\n"
        "                        the new node in, then the old one out; a node that lost its disk\n"
        "                        replaces itself if its new incarnation is told (tierkv status)\n"
        "  members transfer [ID] make another voter the leader\n"
        "\nA key or value that begins with - stands after --.\n"
        "\nExit codes:\n",
        out);
#define X(name, code, meaning) fprintf(out, "  %d  %s\n", code, meaning);
    CLI_EXITS(X)
#undef X
}

static int usage_error(const char *what, const char *subject)
{
    fprintf(stderr, "tierkv: %s%s; try tierkv --help\n", what, subject);
    return CLI_USAGE;
}

static bool parse_timeout(const char *text, uint32_t *ret_ms)
{
    static const struct {
        const char *suffix;
        unsigned long ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"m", 60000}};
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(end, units[i].suffix) == 0 && errno == 0 && number > 0 &&
            number <= 86400000 / units[i].ms) {
            *ret_ms = (uint32_t)(number * units[i].ms);
            return true;
        }
    return false;
}

static bool parse_level(const char *text, enum tierkv_level *ret_level)
{
    static const char *const names[] = {[TIERKV_LEVEL_DEFAULT] = "default",
                                        [TIERKV_LEVEL_CONSISTENT] = "consistent",
                                        [TIERKV_LEVEL_STALE] = "stale"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0) {
            *ret_level = (enum tierkv_level)i;
            return true;
        }
    return false;
}

static bool parse_output(const char *text, bool *ret_json)
{
    *ret_json = strcmp(text, "json") == 0;
    return *ret_json || strcmp(text, "text") == 0;
}

/* -1: go on; else exit with this code. */
static int parse_options(int argc, char **argv, struct cli *cli)
{
    static const struct option options[] = {
        {"endpoints", required_argument, NULL, 'e'}, {"level", required_argument, NULL, 'l'},
        {"output", required_argument, NULL, 'o'},    {"timeout", required_argument, NULL, 't'},
        {"force", no_argument, NULL, 'f'},           {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},         {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "e:l:o:t:fhV", options, NULL)) != -1) {
        switch (option) {
        case 'e':
            cli->endpoints = optarg;
            break;
        case 'l':
            if (!parse_level(optarg, &cli->level))
                return usage_error("a level is default, consistent or stale, not ", optarg);
            break;
        case 'o':
            if (!parse_output(optarg, &cli->json))
                return usage_error("the output is text or json, not ", optarg);
            break;
        case 'f':
            cli->force = true;
            break;
        case 't':
            if (!parse_timeout(optarg, &cli->timeout_ms))
                return usage_error("a timeout is a number with ms, s or m up to a day, not ",
                                   optarg);
            break;
        case 'h':
            print_usage(stdout);
            return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
        case 'V':
            puts("tierkv " TIERKV_VERSION);
            return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
        default: /* getopt_long has said why */
            return CLI_USAGE;
        }
    }
    return -1;
}

static const struct cli_verb *find_verb(const char *name)
{
    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++)
        if (strcmp(verb->name, name) == 0)
            return verb;
    return NULL;
}

/* Takes the standard descriptors that are closed, lest a socket becomes one of them. Each is opened
 * the wrong way round, so that whoever needs it still fails. */
static bool reserve_descriptors(void)
{
    static const int flags[] = {
        [STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_RDONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", flags[fd]) != fd)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if (!reserve_descriptors())
        return CLI_FAILED;
    const char *endpoints = getenv("TIERKV_ENDPOINTS");
    struct cli cli = {.endpoints =
                          endpoints != NULL && *endpoints != '\0' ? endpoints : ENDPOINTS_DEFAULT,
                      .timeout_ms = 5000};

    int code = parse_options(argc, argv, &cli);
    if (code >= 0)
        return code;
    if (optind == argc)
        return usage_error("a verb is missing", "");
    const struct cli_verb *verb = find_verb(argv[optind]);
    if (verb == NULL)
        return usage_error("there is no verb ", argv[optind]);
    int n_arguments = argc - optind - 1;
    if (n_arguments < verb->n_least || n_arguments > verb->n_most)
        return usage_error("wrong number of arguments to ", verb->name);
    struct tierkv_client_options options = {.endpoints = cli.endpoints,
                                            .timeout_ms = cli.timeout_ms};
    int status = tierkv_client_open(&options, &cli.client);
    if (status == TIERKV_INVALID)
        return usage_error("endpoints are HOST:PORT[,HOST:PORT…], not ", cli.endpoints);
    if (status != 0)
        return cli_report(&cli, status);
    code = verb->run(&cli, argv + optind + 1, n_arguments);
    tierkv_client_close(cli.client);
    return code;
}
