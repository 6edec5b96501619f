/* See include/tiers/cost.h. Pure.
 *
 * Both curves consist of straight pieces, and cost is linear: within a pair of pieces the cheapest
 * split that meets a mean lies where one of the two sizes is at the end of its piece (a linear
 * program of two variables and one constraint that joins them). So it is enough to try each end of
 * each piece with the least other size that then meets the target. Where the warm tier answers
 * nothing that memory would not, it is better empty (or, if SSD is the cheaper one, full): both are
 * ends. A quantile is met by a size that answers that share, or it is not: those are tried too. */
#include "tiers/cost.h"

#include "tiers/tiers.h"

#include <math.h>
#include <stdlib.h>

#define GB_BYTES 1e9
/* Points, both ends, and the one that answers the quantile. */
#define CANDIDATES_MAX (TIERS_COST_POINTS_MAX + 4)
/* Rounding must not turn a split away that meets the target exactly. */
#define TOLERANCE 1e-9

/* A curve as it is used: rising, from (0, 0) to (all bytes, 1). */
struct line {
    size_t n;
    struct tiers_cost_point points[TIERS_COST_POINTS_MAX + 2];
};

struct problem {
    const struct tiers_cost_input *input;
    struct line hot;
    struct line values;
};

struct candidates {
    size_t n;
    double bytes[CANDIDATES_MAX];
};

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static bool figure_valid(double figure)
{
    return isfinite(figure) && figure >= 0;
}

static bool tiers_valid(const struct tiers_cost_tiers *tiers)
{
    return figure_valid(tiers->memory) && figure_valid(tiers->ssd) && figure_valid(tiers->hdd);
}

static bool curve_valid(const struct tiers_cost_curve *curve)
{
    if (curve->n > TIERS_COST_POINTS_MAX)
        return false;
    for (size_t i = 0; i < curve->n; i++) {
        if (!figure_valid(curve->points[i].bytes) || !figure_valid(curve->points[i].share) ||
            curve->points[i].share > 1 ||
            (i > 0 && curve->points[i].bytes < curve->points[i - 1].bytes))
            return false;
    }
    return true;
}

static bool input_valid(const struct tiers_cost_input *input)
{
    return tiers_valid(&input->prices) && tiers_valid(&input->latencies) &&
           input->latencies.memory <= input->latencies.ssd &&
           input->latencies.ssd <= input->latencies.hdd && figure_valid(input->target_us) &&
           figure_valid(input->quantile) && input->quantile < 1 &&
           figure_valid(input->hot_bytes_min) && figure_valid(input->memory_bytes) &&
           figure_valid(input->data_bytes) && figure_valid(input->index_bytes) &&
           curve_valid(&input->hot_curve) && curve_valid(&input->value_curve);
}

static void line_make(const struct tiers_cost_curve *curve, double bytes_all, struct line *ret_line)
{
    struct line line = {.n = 1};
    double share = 0;

    for (size_t i = 0; i < curve->n && curve->points[i].bytes < bytes_all; i++) {
        share = larger(share, curve->points[i].share);
        if (curve->points[i].bytes > line.points[line.n - 1].bytes)
            line.points[line.n++].bytes = curve->points[i].bytes;
        line.points[line.n - 1].share = share;
    }
    line.points[line.n++] = (struct tiers_cost_point){.bytes = bytes_all, .share = 1};
    *ret_line = line;
}

static double line_share(const struct line *line, double bytes)
{
    size_t i = 1;

    while (i + 1 < line->n && line->points[i].bytes < bytes)
        i++;
    const struct tiers_cost_point *from = &line->points[i - 1], *to = &line->points[i];
    if (bytes >= to->bytes)
        return to->share;
    return from->share +
           (to->share - from->share) * (bytes - from->bytes) / (to->bytes - from->bytes);
}

/* The least bytes that answer the share, which is at most 1. */
static double line_bytes(const struct line *line, double share)
{
    size_t i = 0;

    while (i + 1 < line->n && line->points[i].share < share)
        i++;
    if (i == 0)
        return 0;
    const struct tiers_cost_point *from = &line->points[i - 1], *to = &line->points[i];
    return from->bytes +
           (to->bytes - from->bytes) * (share - from->share) / (to->share - from->share);
}

static void split_judge(const struct problem *problem, double hot_bytes, double warm_bytes,
                        struct tiers_cost_split *ret_split)
{
    const struct tiers_cost_input *input = problem->input;
    const struct tiers_cost_tiers *latencies = &input->latencies;
    double hot = line_share(&problem->hot, hot_bytes);
    double upper = larger(hot, line_share(&problem->values, warm_bytes));
    struct tiers_cost_split split = {
        .hot_bytes = hot_bytes,
        .warm_bytes = warm_bytes,
        .cold_bytes = input->data_bytes - warm_bytes,
        .share_hot = hot,
        .share_warm = upper - hot,
        .share_cold = 1 - upper,
    };

    split.cost =
        (input->prices.memory * hot_bytes + input->prices.ssd * (warm_bytes + input->index_bytes) +
         input->prices.hdd * split.cold_bytes) /
        GB_BYTES;
    if (input->quantile == 0)
        split.latency_us = latencies->memory * split.share_hot + latencies->ssd * split.share_warm +
                           latencies->hdd * split.share_cold;
    else if (hot >= input->quantile - TOLERANCE)
        split.latency_us = latencies->memory;
    else
        split.latency_us = upper >= input->quantile - TOLERANCE ? latencies->ssd : latencies->hdd;
    split.feasible = split.latency_us <= input->target_us * (1 + TOLERANCE);
    *ret_split = split;
}

static bool better(const struct tiers_cost_split *split, const struct tiers_cost_split *than)
{
    if (split->feasible != than->feasible)
        return split->feasible;
    if (!split->feasible && split->latency_us != than->latency_us)
        return split->latency_us < than->latency_us;
    return split->cost < than->cost;
}

static void consider(const struct problem *problem, double hot_bytes, double warm_bytes,
                     struct tiers_cost_split *best)
{
    struct tiers_cost_split split;

    split_judge(problem, hot_bytes, warm_bytes, &split);
    if (better(&split, best))
        *best = split;
}

static void candidates_make(const struct line *line, double bytes_min, double quantile,
                            struct candidates *ret_candidates)
{
    size_t n = 0;

    ret_candidates->bytes[n++] = bytes_min;
    ret_candidates->bytes[n++] = larger(bytes_min, line_bytes(line, quantile));
    for (size_t i = 0; i < line->n; i++) {
        if (line->points[i].bytes >= bytes_min)
            ret_candidates->bytes[n++] = line->points[i].bytes;
    }
    ret_candidates->n = n;
}

/* The share of reads, each sped up by so much, that brings the mean to the target if the other tier
 * has saved `saved_us` of it already. At most 1. */
static double share_missing(const struct tiers_cost_input *input, double saved_us,
                            double saving_per_share_us)
{
    double wanted_us = input->latencies.hdd - input->target_us - saved_us;

    if (wanted_us <= 0)
        return 0;
    return saving_per_share_us > wanted_us ? wanted_us / saving_per_share_us : 1;
}

/* For each size of the warm tier, the least memory that meets the mean, and the other way round. */
static void consider_means(const struct problem *problem, const struct candidates *hot,
                           const struct candidates *warm, struct tiers_cost_split *best)
{
    const struct tiers_cost_input *input = problem->input;
    double by_memory = input->latencies.ssd - input->latencies.memory;
    double by_ssd = input->latencies.hdd - input->latencies.ssd;

    for (size_t i = 0; i < warm->n; i++) {
        double share = line_share(&problem->values, warm->bytes[i]);
        double hot_share = share_missing(input, share * by_ssd, by_memory);
        /* Memory that answers more than the warm tier saves the whole way for the rest. */
        if (hot_share > share)
            hot_share = share_missing(input, 0, by_memory + by_ssd);
        consider(problem, larger(input->hot_bytes_min, line_bytes(&problem->hot, hot_share)),
                 warm->bytes[i], best);
    }
    for (size_t i = 0; i < hot->n; i++) {
        double share = line_share(&problem->hot, hot->bytes[i]);
        double warm_share = share_missing(input, share * by_memory, by_ssd);
        consider(problem, hot->bytes[i], line_bytes(&problem->values, warm_share), best);
    }
}

static int problem_make(const struct tiers_cost_input *input, struct problem *ret_problem)
{
    if (!input_valid(input))
        return TIERS_INVALID;
    ret_problem->input = input;
    line_make(&input->hot_curve, input->memory_bytes, &ret_problem->hot);
    line_make(&input->value_curve, input->data_bytes, &ret_problem->values);
    return 0;
}

int tiers_cost(const struct tiers_cost_input *input, struct tiers_cost *ret_cost)
{
    struct problem problem;
    struct candidates hot, warm;
    struct tiers_cost_split best;

    if (problem_make(input, &problem) != 0)
        return TIERS_INVALID;
    candidates_make(&problem.hot, input->hot_bytes_min, input->quantile, &hot);
    candidates_make(&problem.values, 0, input->quantile, &warm);
    split_judge(&problem, hot.bytes[0], warm.bytes[0], &best);
    for (size_t i = 0; i < hot.n; i++) {
        for (size_t j = 0; j < warm.n; j++)
            consider(&problem, hot.bytes[i], warm.bytes[j], &best);
    }
    if (input->quantile == 0)
        consider_means(&problem, &hot, &warm, &best);
    *ret_cost = (struct tiers_cost){
        .cheapest = best, .memory_cost = input->prices.memory * input->memory_bytes / GB_BYTES};
    return 0;
}

int tiers_cost_of(const struct tiers_cost_input *input, double hot_bytes, double warm_bytes,
                  struct tiers_cost_split *ret_split)
{
    struct problem problem;

    if (!figure_valid(hot_bytes) || !figure_valid(warm_bytes) || problem_make(input, &problem) != 0)
        return TIERS_INVALID;
    split_judge(&problem, hot_bytes, smaller(warm_bytes, input->data_bytes), ret_split);
    return 0;
}

bool tiers_cost_tiers_parse(const char *text, struct tiers_cost_tiers *ret_tiers)
{
    double figures[3];

    for (size_t i = 0; i < 3; i++) {
        char *end = NULL;
        /* strtod would take blanks, signs, words and hexadecimal digits too. */
        size_t digits = 0;
        while ((text[digits] >= '0' && text[digits] <= '9') || text[digits] == '.')
            digits++;
        figures[i] = strtod(text, &end);
        if (digits == 0 || end != text + digits || *end != (i < 2 ? ',' : '\0'))
            return false;
        text = end + 1;
    }
    *ret_tiers =
        (struct tiers_cost_tiers){.memory = figures[0], .ssd = figures[1], .hdd = figures[2]};
    return tiers_valid(ret_tiers);
}
