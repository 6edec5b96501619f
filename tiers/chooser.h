/* Chooses the eviction policy from what each is predicted to reach. Pure: a step after each window
 * of the miniature simulation, predictions in, decision out.
 *
 * A switch costs: the new policy knows nothing of its entries yet. So another policy must be better
 * by a margin, in several windows in a row, and some time must have passed since the last switch.
 */
#ifndef TIERS_CHOOSER_H
#define TIERS_CHOOSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The margin: at least so much of the hit rate, and at least this part of the misses left. */
#define CHOOSER_MARGIN        0.004
#define CHOOSER_MARGIN_MISSES 0.03
#define CHOOSER_LEAD_WINDOWS  3
#define CHOOSER_DWELL_MS      60000
#define CHOOSER_SAMPLES_MIN   500

#define CHOOSER_REASONS(X)                                                                         \
    X(CHOOSER_FEW_SAMPLES, "too few reads were sampled to tell")                                   \
    X(CHOOSER_BEST, "no other is predicted to hit more often")                                     \
    X(CHOOSER_MARGIN_SMALL, "the best other one is better by less than the margin")                \
    X(CHOOSER_LEAD_SHORT, "another one is better, but not for long enough yet")                    \
    X(CHOOSER_DWELL, "another one is better, but the last switch was too recent")                  \
    X(CHOOSER_SWITCH, "it was better than the one before for long enough")

enum chooser_reason {
#define X(name, text) name,
    CHOOSER_REASONS(X)
#undef X
};

/* Zero but for `policy` and `switched_ms` (now) at first. */
struct chooser {
    size_t policy; /* In use */
    size_t leader; /* The one that may take over */
    unsigned lead_windows;
    uint64_t switched_ms;
};

struct chooser_input {
    uint64_t now_ms;
    double samples; /* Sampled reads that the predictions rest on */
    size_t n;
    const double *hit_rates; /* Of n policies */
};

struct chooser_decision {
    bool switched;
    enum chooser_reason reason;
    size_t best;
    double gain; /* Hit rate of the best less that of the one in use before */
};

void chooser_step(struct chooser *chooser, const struct chooser_input *input,
                  struct chooser_decision *ret_decision);

/* A constant string. */
const char *chooser_reason_text(enum chooser_reason reason);

#endif
