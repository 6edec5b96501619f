/* Parses the command line of `tierbench simulate`; every mistake is told in one line on stderr. */
#include "simulate_options.h"

#include "trace_generate.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CAPACITIES_DEFAULT "0.1%,1%,5%,10%,20%"

static void help(void)
{
    puts(
        "usage: tierbench simulate [OPTION]... TRACE\n"
        "       tierbench simulate [OPTION]... --generate NAME[:FIELD=VALUE,...]\n"
        "\n"
        "Replays the trace through each policy at each capacity and tells the miss ratios: every\n"
        "read and write is an access, a miss inserts, deletions are skipped, cold misses count.\n"
        "\n"
        "TRACE has one request a line, KEY [SIZE [r|w|d]], separated by blanks or commas; a first\n"
        "line that names the columns key, size, op may put them in any order. Files compressed\n"
        "with zstd are read too.\n"
        "\n"
        "  --policies LIST    names, separated by commas; or all (the default)\n"
        "  --capacities LIST  each a share of the distinct keys (1% or 0.01) or so many objects\n"
        "                     or bytes (5000, 64MiB); default " CAPACITIES_DEFAULT "\n"
        "  --by UNIT          objects: every key counts 1 (the default); bytes: its size\n"
        "  --format FORMAT    table (the default), csv or json\n"
        "  --output FILE      instead of standard output\n"
        "  --plot FILE        draws the curves too, by gnuplot; FILE ends in .svg or .png\n"
        "  --threads N        default: one per core\n"
        "  --generate WHAT    makes the trace instead of reading a file. WHAT, with its "
        "defaults:\n");
    trace_generate_help(stdout);
    fputs("\npolicies:", stdout);
    for (size_t i = 0; policy_at(i) != NULL; i++)
        printf(" %s", policy_at(i)->name);
    printf(" %s\n", policy_auto.name);
}

static int refuse(const char *option, const char *text, const char *why)
{
    fprintf(stderr, "tierbench: --%s %s: %s\n", option, text, why);
    return -1;
}

static int add_policy(struct simulate_options *options, const struct policy_type *type)
{
    for (size_t i = 0; i < options->n_policies; i++) {
        if (options->policies[i] == type)
            return 0;
    }
    if (options->n_policies == SIMULATE_POLICIES_MAX)
        return -1;
    options->policies[options->n_policies++] = type;
    return 0;
}

static int add_policy_named(struct simulate_options *options, const char *name)
{
    bool is_auto = strcmp(name, policy_auto.name) == 0;
    const struct policy_type *type = is_auto ? &policy_auto : policy_find(name);

    if (strcmp(name, "all") == 0) {
        for (size_t i = 0; policy_at(i) != NULL; i++) {
            if (add_policy(options, policy_at(i)) != 0)
                return refuse("policies", name, "too many");
        }
        if (add_policy(options, &policy_auto) != 0)
            return refuse("policies", name, "too many");
        return 0;
    }
    if (type == NULL)
        return refuse("policies", name, "no such policy (--help lists them)");
    return add_policy(options, type) == 0 ? 0 : refuse("policies", name, "too many");
}

/* The factor that a suffix stands for; 0: none. */
static double factor_of(const char *suffix)
{
    static const struct {
        const char *suffix;
        double factor;
    } suffixes[] = {{"", 1}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        if (strcmp(suffix, suffixes[i].suffix) == 0)
            return suffixes[i].factor;
    }
    return 0;
}

static int add_capacity(struct simulate_options *options, const char *text)
{
    struct simulate_capacity capacity = {0};
    char *end = NULL;
    double value = strtod(text, &end);
    bool percent = strcmp(end, "%") == 0;

    if (end == text || !(value > 0))
        return refuse("capacities", text, "not a number above 0");
    if (percent || (value < 1 && *end == '\0')) {
        capacity.share = percent ? value / 100 : value;
        if (capacity.share > 1)
            return refuse("capacities", text, "above 100%");
    } else {
        value *= factor_of(end);
        if (value == 0)
            return refuse("capacities", text, "unknown unit; there are %, KiB, MiB, GiB, TiB");
        if (value < 1 || value > 0x1p62 || value != floor(value))
            return refuse("capacities", text, "not a whole number of objects or bytes");
        capacity.absolute = (uint64_t)value;
    }
    if (options->n_capacities == SIMULATE_CAPACITIES_MAX)
        return refuse("capacities", text, "too many");
    options->capacities[options->n_capacities++] = capacity;
    return 0;
}

/* Calls `add` for each part between commas. */
static int each_part(struct simulate_options *options, const char *text,
                     int (*add)(struct simulate_options *options, const char *part))
{
    char *copy = strdup(text), *rest = NULL;
    int error = 0;

    if (copy == NULL) {
        fprintf(stderr, "tierbench: out of memory\n");
        return -1;
    }
    for (char *part = strtok_r(copy, ",", &rest); part != NULL && error == 0;
         part = strtok_r(NULL, ",", &rest))
        error = add(options, part);
    free(copy);
    return error;
}

/* The number of the word, negative: none of them, told. */
static int choose(const char *option, const char *text, const char *const *words, const char *why)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0)
            return i;
    }
    return refuse(option, text, why);
}

static int set_threads(struct simulate_options *options, const char *text)
{
    char *end = NULL;

    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || n < 1 || n > SIMULATE_THREADS_MAX || *text == '-')
        return refuse("threads", text, "not a whole number from 1 to 256");
    options->threads = n;
    return 0;
}

static int set(struct simulate_options *options, int flag, const char *text)
{
    static const char *const units[] = {"objects", "bytes", NULL};
    static const char *const formats[] = {"table", "csv", "json", NULL};
    int chosen;

    switch (flag) {
    case 'p':
        return each_part(options, text, add_policy_named);
    case 'c':
        return each_part(options, text, add_capacity);
    case 'b':
        chosen = choose("by", text, units, "objects or bytes");
        options->by_bytes = chosen == 1;
        return chosen < 0 ? -1 : 0;
    case 'f':
        chosen = choose("format", text, formats, "table, csv or json");
        if (chosen >= 0)
            options->format = (unsigned)chosen;
        return chosen < 0 ? -1 : 0;
    case 'o':
        options->output = text;
        return 0;
    case 'P':
        options->plot = text;
        return 0;
    case 'g':
        options->generate = text;
        return 0;
    case 't':
        return set_threads(options, text);
    default:
        return -1; /* getopt has told what is wrong */
    }
}

static int complete(struct simulate_options *options, int argc, char **argv)
{
    int arguments = argc - optind;

    if (options->generate == NULL && arguments == 1)
        options->trace = argv[optind];
    if ((options->generate == NULL) != (arguments == 1) || arguments > 1) {
        fprintf(stderr, "tierbench: give one trace file, or --generate (try --help)\n");
        return -1;
    }
    if (options->n_policies == 0 && add_policy_named(options, "all") != 0)
        return -1;
    if (options->n_capacities == 0)
        return each_part(options, CAPACITIES_DEFAULT, add_capacity);
    return 0;
}

int simulate_options_parse(struct simulate_options *options, int argc, char **argv)
{
    static const struct option flags[] = {
        {"policies", required_argument, NULL, 'p'}, {"capacities", required_argument, NULL, 'c'},
        {"by", required_argument, NULL, 'b'},       {"format", required_argument, NULL, 'f'},
        {"output", required_argument, NULL, 'o'},   {"plot", required_argument, NULL, 'P'},
        {"generate", required_argument, NULL, 'g'}, {"threads", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
    };
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    *options = (struct simulate_options){.threads = cores > 0 ? (size_t)cores : 1};
    if (options->threads > SIMULATE_THREADS_MAX)
        options->threads = SIMULATE_THREADS_MAX;
    for (int flag; (flag = getopt_long(argc, argv, "h", flags, NULL)) != -1;) {
        if (flag == 'h') {
            help();
            return 1;
        }
        if (set(options, flag, optarg) != 0)
            return -1;
    }
    return complete(options, argc, argv);
}

uint64_t simulate_capacity_of(const struct simulate_capacity *capacity, uint64_t whole)
{
    return capacity->share > 0 ? (uint64_t)llround(capacity->share * (double)whole)
                               : capacity->absolute;
}
