/* Histories of operations on one register, and whether they are linearizable.
 *
 * A register holds a number, 0 for absent. An operation has the moments between which it took
 * effect: when its client sent it, and when the client had the answer. One whose outcome nobody
 * knows may have taken effect at any later time, or never.
 *
 * The search is that of Wing and Gong (1993) with the improvements of Lowe (2017): an order is
 * tried out along the list of invocations and answers, and a set of operations done together with
 * the state after them is never tried twice.
 */
#ifndef TIERKV_TESTS_HISTORY_H
#define TIERKV_TESTS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_UNKNOWN UINT64_MAX

struct history_op {
    bool write;
    uint64_t value; /* Written or read */
    uint64_t begin;
    uint64_t end; /* HISTORY_UNKNOWN: no answer came. Only of writes */
};

enum history_verdict {
    HISTORY_LINEARIZABLE,
    HISTORY_NOT_LINEARIZABLE,
    HISTORY_UNDECIDED /* The search took too long */
};

/* The register is absent at first, and no number but 0 is written twice. Pure. */
enum history_verdict history_check(const struct history_op *ops, size_t n);

/* A read that need not be the newest. */
struct history_read {
    uint64_t value;
    uint64_t revision; /* Of the write that it saw; 0: absent, which says no more */
    uint64_t end;      /* When its client had the answer */
};

/* Whether a session that read a register in this order never saw it go back to an older write, and
 * the same write always alike. Pure. */
bool history_is_monotonic(const struct history_read *reads, size_t n);

/* Whether each of the values was written by an operation that had begun before the answer. `ops` as
 * for history_check. Pure. */
bool history_was_written(const struct history_op *ops, size_t n_ops,
                         const struct history_read *reads, size_t n);

#endif
