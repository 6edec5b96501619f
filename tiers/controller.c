/* The arithmetic of demotion and promotion. Pure; the mover asks before each chunk of demotion, and
 * once in a window.
 *
 * The histogram need not be exact: if the part that it cuts off turns out too small, the hand comes
 * round in vain, and each such round spares four degrees of heat less and shorter values too, until
 * everything is taken (controller_exhausted). */
#include "controller.h"

#include <assert.h>

#define CHUNK_BYTES_MAX (16u << 20)
#define CHUNK_BYTES_MIN (32u << 10)

/* As many as rate.c keeps tokens for. */
#define CHUNKS_PER_SECOND 4

/* A pointer takes about ten bytes; below 64 the saving is not worth a disk read. */
#define VALUE_LEN_MIN        64
#define VALUE_LEN_MIN_URGENT 16
#define HEAT_STEP            4

/* Writes in any order leave pages about 69 % full, in key order all but full. */
#define LEAF_PERCENT_MIN 60

/* The model of what moves cost and save; see controller.h. */
#define MOVE_US           50
#define MOVE_BYTES_PER_US 50
#define READ_SAVED_US     8000
#define RANK_LOSS_MAX     8
#define PROMOTE_US_MIN    10000
#define PROMOTE_US_MAX    (CONTROLLER_WINDOW_MS * 500)

#define READS_MIN            100
#define ADMIT_HEAT_MIN       2
#define ADMIT_EXTRA_HEAT_MAX 6
#define PROMOTE_HEAT_MIN     2
#define EXTRA_HEAT_MAX       3
#define CALM_WINDOWS_MIN     3
#define CUT_WINDOWS_MAX      10
#define FADING               (2.0 / 3)

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
    /* Under a limit the disk is to have pauses between pieces, not seconds of work at a time. */
    if (input->bytes_per_second_max > 0 &&
        chunk > input->bytes_per_second_max / CHUNKS_PER_SECOND) {
        chunk = input->bytes_per_second_max / CHUNKS_PER_SECOND;
    }
    if (chunk < CHUNK_BYTES_MIN) {
        chunk = CHUNK_BYTES_MIN;
    }
    *ret_decision = (struct controller_decision){
        .demote_heat_max = heat,
        .demote_value_len_min = input->rounds_in_vain > 0 ? VALUE_LEN_MIN_URGENT : VALUE_LEN_MIN,
        .demote_chunk_bytes = chunk,
        /* Equally cold keys all leave with their chunk: no more of them than have to. */
        .demote_room_bytes = excess > CHUNK_BYTES_MIN ? excess : CHUNK_BYTES_MIN,
        .repack_always = input->rounds_in_vain > 0 && input->sparse,
    };
}

bool controller_exhausted(const struct controller_decision *decision)
{
    return decision->demote_heat_max == HEAT_MAX &&
           decision->demote_value_len_min == VALUE_LEN_MIN_URGENT;
}

bool controller_value_can_leave(uint64_t value_len)
{
    return value_len >= VALUE_LEN_MIN_URGENT;
}

bool controller_pages_sparse(uint64_t used_bytes, uint64_t leaf_bytes)
{
    return used_bytes < leaf_bytes / 100 * LEAF_PERCENT_MIN;
}

unsigned controller_rank(unsigned heat, uint64_t value_len)
{
    uint64_t loss = controller_promotion_us(value_len) / READ_SAVED_US;
    if (loss > RANK_LOSS_MAX) {
        loss = RANK_LOSS_MAX;
    }
    return heat > loss ? heat - (unsigned)loss : 0;
}

uint64_t controller_promotion_us(uint64_t value_len)
{
    return 2 * (MOVE_US + value_len / MOVE_BYTES_PER_US);
}

const char *controller_reason_text(enum controller_reason reason)
{
    static const char *const texts[] = {
#define X(name, counter, text) text,
        CONTROLLER_REASONS(X)
#undef X
    };
    return texts[reason];
}

const char *controller_admission_text(enum controller_admission admission)
{
    static const char *const texts[] = {
#define X(name, counter, text) text,
        CONTROLLER_ADMISSIONS(X)
#undef X
    };
    return texts[admission];
}

/* Demotion does not run in each window: what it took last is the mark for a while, then fades. */
static void cut_follow(struct controller_state *state, const struct controller_window *window)
{
    if (window->demoted) {
        state->cut_heat = window->demote_heat_max;
        state->cut_windows = 0;
    } else if (++state->cut_windows >= CUT_WINDOWS_MAX) {
        state->cut_heat -= state->cut_heat > 0;
        state->cut_windows = 0;
    }
}

static enum controller_reason extra_heat_follow(struct controller_state *state,
                                                const struct controller_window *window)
{
    if (state->reads < READS_MIN) {
        state->calm_windows = 0;
        return CONTROLLER_FEW_READS;
    }
    double wanted = state->reads * window->cold_read_permille_max / 1000;
    if (state->reads_cold > wanted) {
        state->calm_windows = 0;
        state->extra_heat -= state->extra_heat > 0;
        return CONTROLLER_COLD_SHARE_HIGH;
    }
    if (state->reads_cold >= wanted / 2) {
        state->calm_windows = 0;
        return CONTROLLER_COLD_SHARE_HELD;
    }
    if (++state->calm_windows >= CALM_WINDOWS_MIN) {
        state->calm_windows = 0;
        state->extra_heat += state->extra_heat < EXTRA_HEAT_MAX;
    }
    return CONTROLLER_COLD_SHARE_LOW;
}

/* Records that push each other out earn nothing: fewer may enter. */
static enum controller_admission admission_follow(struct controller_state *state,
                                                  const struct controller_window *window)
{
    if (window->hot_admitted > window->hot_keys / 8) {
        state->quiet_windows = 0;
        state->admit_extra_heat += state->admit_extra_heat < ADMIT_EXTRA_HEAT_MAX;
        return CONTROLLER_HOT_CROWDED;
    }
    if (window->hot_admitted > window->hot_keys / 64) {
        state->quiet_windows = 0;
        return CONTROLLER_HOT_STEADY;
    }
    if (++state->quiet_windows >= CALM_WINDOWS_MIN) {
        state->quiet_windows = 0;
        state->admit_extra_heat -= state->admit_extra_heat > 0;
    }
    return CONTROLLER_HOT_CALM;
}

void controller_step(struct controller_state *state, const struct controller_window *window,
                     struct controller_thresholds *ret_thresholds)
{
    assert(window->reads_cold <= window->reads && window->demote_heat_max <= HEAT_MAX);
    state->reads = state->reads * FADING + (double)window->reads;
    state->reads_cold = state->reads_cold * FADING + (double)window->reads_cold;
    cut_follow(state, window);
    enum controller_admission admission = admission_follow(state, window);
    enum controller_reason reason = extra_heat_follow(state, window);

    unsigned floor = state->cut_heat + 2;
    if (floor <= PROMOTE_HEAT_MIN) {
        floor = PROMOTE_HEAT_MIN;
    } else if (reason == CONTROLLER_COLD_SHARE_HIGH && state->extra_heat == 0) {
        reason = CONTROLLER_WARM_HOTTER;
    }
    unsigned heat = floor + state->extra_heat;
    /* The cold reads of one window: the faded sum is three windows' worth. */
    double us = state->reads_cold * (1 - FADING) * READ_SAVED_US / 2;
    us = us < PROMOTE_US_MAX ? us : PROMOTE_US_MAX;
    *ret_thresholds = (struct controller_thresholds){
        .promote_heat_min = heat < HEAT_MAX ? heat : HEAT_MAX,
        .admit_heat_min = ADMIT_HEAT_MIN + state->admit_extra_heat,
        .promote_us_max = us > PROMOTE_US_MIN ? (uint64_t)us : PROMOTE_US_MIN,
        .reason = reason,
        .admission = admission,
    };
}

bool controller_hot_has_room(bool has_room, uint64_t used_bytes, uint64_t budget_bytes)
{
    /* Two marks, an eighth and a quarter below the budget: between them it stays as it is. */
    return used_bytes < budget_bytes - budget_bytes / (has_room ? 8 : 4);
}
