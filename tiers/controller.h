/* Decides how hot a key must be to stay warm, or to become so. Pure: statistics in, thresholds out.
 *
 * Demotion takes the coldest part of the warm tier that is large enough to bring it back into its
 * budget: a histogram of value bytes by heat, sampled by the mover's hand as it passes, tells which
 * heat cuts off that part. Promotion asks for more heat than demotion spares, so that a key does
 * not go back and forth, and for still more heat while few reads reach the cold tier.
 *
 * Both compare ranks: the heat of a key less what its size costs. The model, in time of the disks:
 * a move takes 50 us and 20 ns a byte, and a value that comes in makes another one leave, so that a
 * promotion costs two moves; each later read of it saves 8 ms, the seek of a hard disk. Expected
 * are as many later reads as the sketch counted lately. A value therefore gives up one degree of
 * heat for each 8 ms that moving it costs: none below 200 KB, five at 1 MB.
 *
 * Once in a window controller_step looks at the reads. While more than the wanted share of them
 * reach the cold tier, promotion asks for one degree less in each window; after three windows with
 * less than half of that share it asks for one more; between the two it stays. Promotions may take
 * at most half of the time that cold reads took lately, and half of the whole: they cannot save
 * more than those reads cost, so that a load that promotions do not help is not made worse by them.
 *
 * A full hot tier admits what was read twice lately. A window in which more than an eighth of its
 * records were exchanged raises that by one, up to eight; three with less than a 64th lower it.
 */
#ifndef TIERS_CONTROLLER_H
#define TIERS_CONTROLLER_H

#include "heat.h"

#include <stdbool.h>
#include <stdint.h>

/* What inline values take in the warm file, by the rank of their keys. */
struct controller_histogram {
    uint64_t bytes[HEAT_MAX + 1];
};

void controller_histogram_add(struct controller_histogram *histogram, unsigned heat,
                              uint64_t bytes);
/* Old samples fade: call before a new batch. */
void controller_histogram_halve(struct controller_histogram *histogram);

struct controller_input {
    uint64_t warm_used_bytes;
    uint64_t warm_budget_bytes;
    uint64_t warm_free_bytes; /* That the file can still grow by */
    struct controller_histogram histogram;
    unsigned rounds_in_vain;       /* Times the hand went round without reaching the budget */
    bool sparse;                   /* Leaf pages are emptier than they would be if packed anew */
    uint64_t bytes_per_second_max; /* Of writing to the cold tier; 0: no limit */
};

struct controller_decision {
    unsigned demote_heat_max;      /* Keys up to this rank leave */
    uint32_t demote_value_len_min; /* Shorter values stay: a pointer would save nothing */
    /* Of items looked at in one transaction: of their values, and of what they take in the file */
    uint64_t demote_chunk_bytes;
    uint64_t demote_room_bytes;
    bool repack_always;
};

/* Bytes that demotion should free: down to a little below the budget. 0: none. */
uint64_t controller_excess_bytes(uint64_t used_bytes, uint64_t budget_bytes);

void controller_decide(const struct controller_input *input,
                       struct controller_decision *ret_decision);

/* True when even this decision leaves nothing more to try in another round. */
bool controller_exhausted(const struct controller_decision *decision);

/* Whether a value of that length may ever leave the warm tier: else a pointer takes as much. */
bool controller_value_can_leave(uint64_t value_len);

/* Whether packing pages anew is worth it: `used_bytes` of `leaf_bytes` are taken. */
bool controller_pages_sparse(uint64_t used_bytes, uint64_t leaf_bytes);

/* ---- Once in a window ---- */

#define CONTROLLER_WINDOW_MS 1000

/* The heat of a key less what the size of its value costs, 0 to HEAT_MAX. */
unsigned controller_rank(unsigned heat, uint64_t value_len);

/* Microseconds that the disks spend on promoting a value, by the model above. */
uint64_t controller_promotion_us(uint64_t value_len);

/* Why promotion asks for the heat that it does: name, counter of the windows, text. */
#define CONTROLLER_REASONS(X)                                                                      \
    X(START, windows_few_reads, "nothing was measured yet")                                        \
    X(FEW_READS, windows_few_reads, "too few reads to judge by")                                   \
    X(COLD_SHARE_HIGH, windows_cold_share_high, "more reads reach the cold tier than wanted")      \
    X(COLD_SHARE_LOW, windows_cold_share_low,                                                      \
      "few reads reach the cold tier: moving would gain little")                                   \
    X(COLD_SHARE_HELD, windows_cold_share_held, "the cold share of reads is near what is wanted")  \
    X(WARM_HOTTER, windows_warm_hotter, "what the warm tier would have to give up is as hot")

/* The same of what the full hot tier admits. */
#define CONTROLLER_ADMISSIONS(X)                                                                   \
    X(CALM, windows_hot_calm, "little is pushed out of the hot tier")                              \
    X(STEADY, windows_hot_steady, "what enters the hot tier and what leaves it hold the balance")  \
    X(CROWDED, windows_hot_crowded, "records push each other out of the hot tier")

enum controller_reason {
#define X(name, counter, text) CONTROLLER_##name,
    CONTROLLER_REASONS(X)
#undef X
};

enum controller_admission {
#define X(name, counter, text) CONTROLLER_HOT_##name,
    CONTROLLER_ADMISSIONS(X)
#undef X
};

/* Constant strings. */
const char *controller_reason_text(enum controller_reason reason);
const char *controller_admission_text(enum controller_admission admission);

/* What one step leaves for the next. All zero: the beginning. */
struct controller_state {
    double reads; /* Of present keys, older ones fading by a third in each window */
    double reads_cold;
    unsigned extra_heat; /* Asked of promotions above what demotion spares */
    unsigned calm_windows;
    unsigned admit_extra_heat; /* Asked above two of what enters a full hot tier */
    unsigned quiet_windows;
    unsigned cut_heat;    /* The hottest that demotion took lately */
    unsigned cut_windows; /* Since it last took any */
};

struct controller_window {
    uint64_t reads;
    uint64_t reads_cold;
    uint32_t cold_read_permille_max;
    uint64_t hot_keys;
    uint64_t hot_admitted;    /* By reads, in this window */
    bool demoted;             /* Values were demoted in this window, */
    unsigned demote_heat_max; /* up to this rank */
};

struct controller_thresholds {
    unsigned promote_heat_min; /* Of the rank of cold values that may return; above demote's */
    unsigned admit_heat_min;   /* Of what enters a full hot tier */
    uint64_t promote_us_max;   /* That promotions may cost until the next window */
    enum controller_reason reason;
    enum controller_admission admission;
};

/* `state` as the last step left it, and changed for the next. */
void controller_step(struct controller_state *state, const struct controller_window *window,
                     struct controller_thresholds *ret_thresholds);

/* Whether what was read once may enter the hot tier, given whether it did so far. */
bool controller_hot_has_room(bool has_room, uint64_t used_bytes, uint64_t budget_bytes);

#endif
