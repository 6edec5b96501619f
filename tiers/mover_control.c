/* The controller at work: measures a window, asks the controller, passes its answer on. Mover
 * thread; what tiers_placement shows is atomic. Cannot fail. */
#include "memory_available.h"
#include "mover_private.h"

/* A load that swings is told of once in this time. */
#define EVENT_SPACING_MS 10000

void mover_control_open(struct mover *mover)
{
    struct mover_control *control = &mover->control;
    struct controller_thresholds thresholds;
    struct controller_window window = {0};
    /* A step of nothing: the thresholds to begin with. */
    controller_step(&control->state, &window, &thresholds);
    control->window_ms = engine_now_ms(mover->tiers);
    atomic_store(&control->changed_ms, control->window_ms);
    atomic_store(&control->reason, CONTROLLER_START);
    atomic_store(&control->promote_us_max, thresholds.promote_us_max);
    control->promote_us = thresholds.promote_us_max;
    atomic_store(&mover->tiers->admit_heat_min, thresholds.admit_heat_min);
    atomic_store(&mover->tiers->promote_heat_min, thresholds.promote_heat_min);
}

static void window_measure(struct mover *mover, const struct hot_stats *in_hot,
                           struct controller_window *ret_window)
{
    struct mover_control *control = &mover->control;
    struct tiers_stats stats = {0};
    engine_counters_sum(mover->tiers, &stats);
    uint64_t reads = stats.hits_hot + stats.hits_warm + stats.hits_cold;
    uint64_t cold = stats.hits_cold - control->reads_cold_seen;
    /* While there was room nothing was pushed out. */
    uint64_t admitted = atomic_load(&mover->tiers->hot_has_room)
                            ? 0
                            : stats.promoted_hot_keys - control->admitted_seen;
    uint64_t all = reads - control->reads_seen;
    *ret_window = (struct controller_window){
        .reads = all,
        /* The readers count while they are summed. */
        .reads_cold = cold < all ? cold : all,
        .cold_read_permille_max = mover->tiers->options.cold_read_permille_max,
        .hot_keys = in_hot->keys,
        .hot_admitted = admitted,
        .demoted = mover->demotion.in_window,
        .demote_heat_max = mover->demotion.decision.demote_heat_max,
    };
    control->admitted_seen = stats.promoted_hot_keys;
    control->reads_seen = reads;
    control->reads_cold_seen = stats.hits_cold;
    mover->demotion.in_window = false;
}

static void change_tell(struct mover *mover, unsigned before,
                        const struct controller_thresholds *thresholds, uint64_t now_ms)
{
    struct mover_control *control = &mover->control;
    bool eased = thresholds->promote_heat_min < before;
    engine_count(eased ? &mover->tiers->counters.promotion_eased
                       : &mover->tiers->counters.promotion_tightened,
                 1);
    atomic_store(&control->changed_ms, now_ms);
    if (control->told_ms == 0 || now_ms - control->told_ms >= EVENT_SPACING_MS) {
        control->told_ms = now_ms;
        engine_event(
            mover->tiers, TIERS_EVENT_INFO, eased ? "promotion_eased" : "promotion_tightened",
            "cold values return from heat %u on, before from %u: %s", thresholds->promote_heat_min,
            before, controller_reason_text(thresholds->reason));
    }
}

void mover_control_step(struct mover *mover)
{
    struct tiers *tiers = mover->tiers;
    struct mover_control *control = &mover->control;
    uint64_t now_ms = engine_now_ms(tiers);
    struct hot_stats in_hot;
    hot_stats(tiers->hot, &in_hot);
    atomic_store(&tiers->hot_has_room,
                 controller_hot_has_room(atomic_load(&tiers->hot_has_room), in_hot.bytes,
                                         tiers->options.hot_bytes));
    atomic_store(&tiers->demote_heat_max, mover->demotion.decision.demote_heat_max);
    atomic_store(&tiers->demoting, mover->demotion.active);
    uint64_t elapsed_ms = now_ms - control->window_ms;
    if (elapsed_ms < CONTROLLER_WINDOW_MS) {
        return;
    }
    control->window_ms = now_ms;
    heat_age(tiers->heat, elapsed_ms);
    struct warm_usage in_warm;
    warm_usage(tiers->warm, &in_warm);
    residency_step(&tiers->residency, in_warm.file_bytes, memory_available_bytes());

    struct controller_window window;
    struct controller_thresholds thresholds;
    window_measure(mover, &in_hot, &window);
    controller_step(&control->state, &window, &thresholds);
    unsigned before = atomic_exchange(&tiers->promote_heat_min, thresholds.promote_heat_min);
    atomic_store(&tiers->admit_heat_min, thresholds.admit_heat_min);
    atomic_store(&control->reason, thresholds.reason);
    atomic_store(&control->promote_us_max, thresholds.promote_us_max);
    control->promote_us = thresholds.promote_us_max;
    if (before != thresholds.promote_heat_min) {
        change_tell(mover, before, &thresholds, now_ms);
    }
}

void mover_placement(struct mover *mover, struct tiers_placement *placement)
{
    struct mover_control *control = &mover->control;
    placement->control = (struct tiers_placement_control){
        .cold_read_permille_max = mover->tiers->options.cold_read_permille_max,
        .reason = controller_reason_text(atomic_load(&control->reason)),
        .changed_ms = engine_now_ms(mover->tiers) - atomic_load(&control->changed_ms),
        .admit_heat_min = atomic_load(&mover->tiers->admit_heat_min),
        .promote_us_max = atomic_load(&control->promote_us_max),
    };
}
