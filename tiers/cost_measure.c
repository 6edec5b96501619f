/* What the cost model needs to know of a running engine: sizes and curves (include/tiers/cost.h).
 *
 * The share of reads that falls on so many bytes of data is taken from the curve of the policy that
 * hits most often, its bytes of memory turned into bytes on disk, and from the warm tier itself:
 * what it holds keeps the measured share of reads from the cold tier. Any thread; fails only while
 * there is nothing to go by. */
#include "tiers/cost.h"

#include "tiers/tiers.h"

#include <string.h>

/* About what LMDB takes for a key with its metadata and pointer, free space in pages included. */
#define INDEX_BYTES_PER_KEY 120.0
/* About what a record costs in memory beyond its bytes on disk, if there is none to look at. */
#define MEMORY_BYTES_PER_KEY 160.0
#define HOT_BYTES_MIN        (1u << 20)
/* Reads that make a measured share worth believing. */
#define READS_MIN 1000

static void sizes_measure(struct tiers *tiers, const struct tiers_placement *placement,
                          struct tiers_cost_input *input, struct tiers_cost_measured *measured)
{
    struct tiers_stats stats;
    tiers_stats(tiers, &stats);
    double keys = (double)stats.warm_keys, used = (double)stats.warm_used_bytes;
    double index = keys * INDEX_BYTES_PER_KEY;

    index = index < used ? index : used;
    measured->hot_bytes = (double)placement->hot.budget_bytes;
    measured->warm_bytes = used - index;
    input->index_bytes = index;
    input->data_bytes = used - index + (double)stats.cold_live_bytes;
    input->memory_bytes = input->data_bytes + keys * MEMORY_BYTES_PER_KEY;
    input->hot_bytes_min = HOT_BYTES_MIN;
}

static double best_hit_rate(const struct tiers_curve *curve, size_t point)
{
    double best = 0;

    for (size_t i = 0; i < curve->n_policies; i++) {
        if (curve->policies[i].hit_rate[point] > best)
            best = curve->policies[i].hit_rate[point];
    }
    return best;
}

/* The row of the policy in use. */
static size_t policy_row(const struct tiers_curve *curve, const char *name)
{
    size_t i = 0;

    while (i + 1 < curve->n_policies && strcmp(curve->policies[i].name, name) != 0)
        i++;
    return i;
}

static void point_add(struct tiers_cost_curve *curve, double bytes, double share)
{
    size_t i = curve->n;

    for (; i > 0 && curve->points[i - 1].bytes > bytes; i--)
        curve->points[i] = curve->points[i - 1];
    curve->points[i] = (struct tiers_cost_point){.bytes = bytes, .share = share};
    curve->n++;
}

int tiers_cost_measure(struct tiers *tiers, struct tiers_cost_input *input,
                       struct tiers_cost_measured *ret_measured)
{
    struct tiers_curve curve;
    struct tiers_placement placement;
    struct tiers_cost_input filled = *input;
    struct tiers_cost_measured measured;

    tiers_curve(tiers, &curve);
    tiers_placement(tiers, &placement);
    if (curve.n_policies == 0 || curve.points[curve.point_now].reads <= 0)
        return TIERS_NOT_FOUND;
    sizes_measure(tiers, &placement, &filled, &measured);
    filled.hot_curve.n = filled.value_curve.n = 0;
    size_t row = policy_row(&curve, placement.policy.name);
    double disk_bytes_per_memory_byte =
        filled.memory_bytes > 0 ? filled.data_bytes / filled.memory_bytes : 1;
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        if (curve.points[i].reads <= 0)
            continue;
        double bytes = (double)curve.points[i].hot_bytes;
        point_add(&filled.hot_curve, bytes, curve.policies[row].hit_rate[i]);
        point_add(&filled.value_curve, bytes * disk_bytes_per_memory_byte,
                  best_hit_rate(&curve, i));
    }
    const struct tiers_placement_hits *hits = &placement.windows[TIERS_PLACEMENT_WINDOWS - 1];
    uint64_t reads = hits->hot + hits->warm + hits->cold;
    if (placement.cold.keys > 0 && reads >= READS_MIN)
        point_add(&filled.value_curve, measured.warm_bytes, 1 - (double)hits->cold / (double)reads);
    *input = filled;
    *ret_measured = measured;
    return 0;
}
