/* See chooser.h. A leader stays leader while it beats the policy in use by the margin, even if a
 * third one is a little better still: else two good ones could hinder each other for ever. */
#include "chooser.h"

#include <assert.h>

const char *chooser_reason_text(enum chooser_reason reason)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        CHOOSER_REASONS(X)
#undef X
    };
    return texts[reason];
}

static size_t best_of(const struct chooser_input *input, size_t policy)
{
    size_t best = policy;

    for (size_t i = 0; i < input->n; i++) {
        if (input->hit_rates[i] > input->hit_rates[best])
            best = i;
    }
    return best;
}

static bool beats(const struct chooser_input *input, size_t policy, size_t other)
{
    double gain = input->hit_rates[policy] - input->hit_rates[other];

    return gain >= CHOOSER_MARGIN && gain >= CHOOSER_MARGIN_MISSES * (1 - input->hit_rates[other]);
}

static enum chooser_reason judge(struct chooser *chooser, const struct chooser_input *input,
                                 size_t best)
{
    if (input->samples < CHOOSER_SAMPLES_MIN)
        return CHOOSER_FEW_SAMPLES;
    if (!beats(input, best, chooser->policy)) {
        chooser->lead_windows = 0;
        return best == chooser->policy ? CHOOSER_BEST : CHOOSER_MARGIN_SMALL;
    }
    if (chooser->lead_windows == 0 || !beats(input, chooser->leader, chooser->policy)) {
        chooser->leader = best;
        chooser->lead_windows = 0;
    }
    chooser->lead_windows++;
    if (chooser->lead_windows < CHOOSER_LEAD_WINDOWS)
        return CHOOSER_LEAD_SHORT;
    return input->now_ms - chooser->switched_ms < CHOOSER_DWELL_MS ? CHOOSER_DWELL : CHOOSER_SWITCH;
}

void chooser_step(struct chooser *chooser, const struct chooser_input *input,
                  struct chooser_decision *ret_decision)
{
    assert(chooser->policy < input->n);
    struct chooser_decision decision = {.best = best_of(input, chooser->policy)};

    decision.gain = input->hit_rates[decision.best] - input->hit_rates[chooser->policy];
    decision.reason = judge(chooser, input, decision.best);
    decision.switched = decision.reason == CHOOSER_SWITCH;
    if (decision.switched) {
        /* The leader has shown that it lasts; of equals the best. */
        chooser->policy = chooser->leader;
        chooser->lead_windows = 0;
        chooser->switched_ms = input->now_ms;
    }
    *ret_decision = decision;
}
