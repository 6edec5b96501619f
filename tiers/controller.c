/* The arithmetic of demotion and promotion. Pure; the mover asks before each chunk.
 *
 * The histogram need not be exact: if the part that it cuts off turns out too small, the hand comes
 * round in vain, and each such round spares four degrees of heat less and shorter values too, until
 * everything is taken (controller_exhausted). */
#include "controller.h"

#include <assert.h>

#define CHUNK_BYTES_MAX (8u << 20)
#define CHUNK_BYTES_MIN (32u << 10)

/* A pointer takes about ten bytes; below 64 the saving is not worth a disk read. */
#define VALUE_LEN_MIN        64
#define VALUE_LEN_MIN_URGENT 16
#define HEAT_STEP            4

/* The share of reads that may reach the cold tier before promotion gets more eager: 1/20. */
#define COLD_SHARE_TARGET 20
#define READS_MIN         100
#define PROMOTE_HEAT_MIN  2

void controller_histogram_add(struct controller_histogram *histogram, unsigned heat, uint64_t bytes)
{
    assert(heat <= HEAT_MAX);
    histogram->bytes[heat] += bytes;
}

void controller_histogram_halve(struct controller_histogram *histogram)
{
    for (unsigned heat = 0; heat <= HEAT_MAX; heat++) {
        histogram->bytes[heat] /= 2;
    }
}

uint64_t controller_excess_bytes(uint64_t used_bytes, uint64_t budget_bytes)
{
    uint64_t target = budget_bytes - budget_bytes / 16;
    return used_bytes > target ? used_bytes - target : 0;
}

/* The least heat at which everything up to it makes out `part` of `whole`. */
static unsigned heat_cut(const struct controller_histogram *histogram, uint64_t part,
                         uint64_t whole)
{
    double total = 0;
    double below = 0;
    for (unsigned heat = 0; heat <= HEAT_MAX; heat++) {
        total += (double)histogram->bytes[heat];
    }
    double wanted = whole > 0 ? total * ((double)part / (double)whole) : 0;
    unsigned heat = 0;
    while (heat < HEAT_MAX && (below += (double)histogram->bytes[heat]) < wanted) {
        heat++;
    }
    return heat;
}

static unsigned promote_heat(const struct controller_input *input, unsigned demote_heat_max)
{
    unsigned heat = demote_heat_max + 1 > PROMOTE_HEAT_MIN ? demote_heat_max + 1 : PROMOTE_HEAT_MIN;
    /* Few reads are slow: the writes that a promotion costs buy little. */
    if (input->reads >= READS_MIN && input->reads_cold < input->reads / COLD_SHARE_TARGET) {
        heat++;
    }
    /* Everything warm is hotter than what would come in. */
    return heat < HEAT_MAX ? heat : HEAT_MAX;
}

void controller_decide(const struct controller_input *input,
                       struct controller_decision *ret_decision)
{
    uint64_t excess = controller_excess_bytes(input->warm_used_bytes, input->warm_budget_bytes);
    unsigned heat = excess > 0 ? heat_cut(&input->histogram, excess, input->warm_used_bytes) : 0;
    heat += input->rounds_in_vain * HEAT_STEP;
    if (heat > HEAT_MAX) {
        heat = HEAT_MAX;
    }
    /* A transaction rewrites every page it touches: it needs that much room beside the old ones. */
    uint64_t chunk = input->warm_free_bytes / 4;
    if (chunk > CHUNK_BYTES_MAX) {
        chunk = CHUNK_BYTES_MAX;
    }
    /* Equally cold keys all leave with their chunk: no more of them than have to. */
    if (excess > 0 && chunk > excess) {
        chunk = excess;
    }
    if (chunk < CHUNK_BYTES_MIN) {
        chunk = CHUNK_BYTES_MIN;
    }
    *ret_decision = (struct controller_decision){
        .demote_heat_max = heat,
        .promote_heat_min = promote_heat(input, heat),
        .demote_value_len_min = input->rounds_in_vain > 0 ? VALUE_LEN_MIN_URGENT : VALUE_LEN_MIN,
        .demote_chunk_bytes = chunk,
        .repack_always = input->rounds_in_vain > 0,
    };
}

bool controller_exhausted(const struct controller_decision *decision)
{
    return decision->demote_heat_max == HEAT_MAX && decision->repack_always;
}
