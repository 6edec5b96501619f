/* See cost_query.h. Numbers are plain decimals: nothing in them needs to be percent-encoded. */
#include "http/cost_query.h"

#include <stdlib.h>
#include <string.h>

#define NUMBER_BYTES_MAX 32

struct parameter {
    const char *name;
    size_t offset; /* In struct tiers_cost_input */
};

static const struct parameter parameters[] = {
    {"memory", offsetof(struct tiers_cost_input, prices.memory)},
    {"ssd", offsetof(struct tiers_cost_input, prices.ssd)},
    {"hdd", offsetof(struct tiers_cost_input, prices.hdd)},
    {"memory_us", offsetof(struct tiers_cost_input, latencies.memory)},
    {"ssd_us", offsetof(struct tiers_cost_input, latencies.ssd)},
    {"hdd_us", offsetof(struct tiers_cost_input, latencies.hdd)},
    {"latency_us", offsetof(struct tiers_cost_input, target_us)},
    {"quantile", offsetof(struct tiers_cost_input, quantile)},
};

static double *figure_of(const char *name, size_t n, struct tiers_cost_input *input)
{
    for (size_t i = 0; i < sizeof parameters / sizeof parameters[0]; i++) {
        if (strlen(parameters[i].name) == n && memcmp(parameters[i].name, name, n) == 0)
            return (double *)(void *)((char *)input + parameters[i].offset);
    }
    return NULL;
}

static bool number_parse(const char *text, size_t n, double *ret_number)
{
    char copy[NUMBER_BYTES_MAX], *end = NULL;

    if (n == 0 || n >= sizeof copy)
        return false;
    memcpy(copy, text, n);
    copy[n] = '\0';
    if (strspn(copy, "0123456789.") != n)
        return false;
    *ret_number = strtod(copy, &end);
    return end == copy + n;
}

bool cost_query_parse(const char *text, size_t n, struct tiers_cost_input *input,
                      const char **ret_error)
{
    const char *end = text + n;

    while (text < end) {
        const char *next = memchr(text, '&', (size_t)(end - text));
        const char *stop = next != NULL ? next : end;
        const char *equals = memchr(text, '=', (size_t)(stop - text));
        double *figure = equals != NULL ? figure_of(text, (size_t)(equals - text), input) : NULL;

        if (figure == NULL) {
            *ret_error = "parameters are memory, ssd, hdd (prices per GB and month), memory_us, "
                         "ssd_us, hdd_us (latencies), latency_us (the target) and quantile";
            return false;
        }
        if (!number_parse(equals + 1, (size_t)(stop - equals - 1), figure)) {
            *ret_error = "a parameter must be a decimal number such as 0.08";
            return false;
        }
        text = stop + 1;
    }
    return true;
}
