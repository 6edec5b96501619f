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
    atomic_store(&control->admission, thresholds.admission);
    control->promote_heat_told = thresholds.promote_heat_min;
    control->admit_heat_told = thresholds.admit_heat_min;
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

static void window_count(struct engine_counters *counters,
                         const struct controller_thresholds *thresholds)
{
    _Atomic uint64_t *const reasons[] = {
#define X(name, counter, text) &counters->counter,
        CONTROLLER_REASONS(X)
#undef X
    };
    _Atomic uint64_t *const admissions[] = {
#define X(name, counter, text) &counters->counter,
        CONTROLLER_ADMISSIONS(X)
#undef X
    };
    engine_count(reasons[thresholds->reason], 1);
    engine_count(admissions[thresholds->admission], 1);
}

/* Counts a change of one threshold. */
static void change_note(struct mover_control *control, unsigned before, unsigned now,
                        _Atomic uint64_t *eased, _Atomic uint64_t *tightened)
{
    if (now != before) {
        engine_count(now < before ? eased : tightened, 1);
        control->untold++;
    }
}

/* One line for all changes since the last, so that a load that swings fills no log. */
static void changes_tell(struct mover *mover, const struct controller_thresholds *thresholds,
                         uint64_t now_ms)
{
    struct mover_control *control = &mover->control;
    if (control->untold == 0 ||
        (control->told_ms != 0 && now_ms - control->told_ms < EVENT_SPACING_MS)) {
        return;
    }
    engine_event(mover->tiers, TIERS_EVENT_INFO, "thresholds_changed",
                 "cold values return from heat %u on (%u before): %s; a full hot tier admits from "
                 "heat %u on (%u before): %s; changes since the last such line: %u",
                 thresholds->promote_heat_min, control->promote_heat_told,
                 controller_reason_text(thresholds->reason), thresholds->admit_heat_min,
                 control->admit_heat_told, controller_admission_text(thresholds->admission),
                 control->untold);
    control->told_ms = now_ms;
    control->untold = 0;
    control->promote_heat_told = thresholds->promote_heat_min;
    control->admit_heat_told = thresholds->admit_heat_min;
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
    struct engine_counters *counters = &tiers->counters;
    unsigned untold = control->untold;
    window_count(counters, &thresholds);
    change_note(control, atomic_exchange(&tiers->promote_heat_min, thresholds.promote_heat_min),
                thresholds.promote_heat_min, &counters->promotion_eased,
                &counters->promotion_tightened);
    change_note(control, atomic_exchange(&tiers->admit_heat_min, thresholds.admit_heat_min),
                thresholds.admit_heat_min, &counters->admission_eased,
                &counters->admission_tightened);
    if (control->untold != untold) {
        atomic_store(&control->changed_ms, now_ms);
    }
    atomic_store(&control->reason, thresholds.reason);
    atomic_store(&control->admission, thresholds.admission);
    atomic_store(&control->promote_us_max, thresholds.promote_us_max);
    control->promote_us = thresholds.promote_us_max;
    changes_tell(mover, &thresholds, now_ms);
}

void mover_placement(struct mover *mover, struct tiers_placement *placement)
{
    struct mover_control *control = &mover->control;
    placement->control = (struct tiers_placement_control){
        .cold_read_permille_max = mover->tiers->options.cold_read_permille_max,
        .reason = controller_reason_text(atomic_load(&control->reason)),
        .admit_reason = controller_admission_text(atomic_load(&control->admission)),
        .changed_ms = engine_now_ms(mover->tiers) - atomic_load(&control->changed_ms),
        .admit_heat_min = atomic_load(&mover->tiers->admit_heat_min),
        .promote_us_max = atomic_load(&control->promote_us_max),
    };
}
