/* The mover's insides, shared by mover.c (thread, queue, order of work), mover_flush.c,
 * mover_gather.c, mover_demote.c, demote_chunk.c, mover_control.c, mover_promote.c, mover_cold.c,
 * mover_scrub.c, mover_scrub_warm.c, mover_trouble.c, cold_compact.c and compact_batch.c. All of it
 * belongs to the mover thread but for what the mutex guards, and for what demote_chunk.h says. */
#ifndef TIERS_MOVER_PRIVATE_H
#define TIERS_MOVER_PRIVATE_H

#include "controller.h"
#include "mover.h"
#include "rate.h"

#define MOVER_OFFERS_MAX      1024
#define MOVER_OFFER_BYTES_MAX (8u << 20)
#define MOVER_PENDING_MAX     (2 * COLD_TOUCHED_MAX)
#define MOVER_TROUBLES_MAX    64

/* Items handled in one transaction of demotion or compaction. */
#define MOVER_BATCH_ITEMS_MAX 16384
#define MOVER_BATCH_BYTES_MAX (8u << 20)

struct mover_offer {
    const struct tiers_record *record;
    struct cold_location location;
};

struct mover_demotion {
    bool active; /* From exceeding the budget until a little below it */
    unsigned char hand[TIERS_KEY_BYTES_MAX];
    size_t hand_len;           /* 0: at the start */
    uint64_t round_keys;       /* Demoted since the hand was at the start */
    uint64_t round_leaf_bytes; /* Of leaf pages, that the items seen since then need */
    uint64_t round_can_leave;  /* Values seen since then that could still go, whatever their heat */
    bool sparse;               /* See controller_input; as of the last whole round */
    unsigned rounds_in_vain;   /* See controller_input */
    uint64_t exhausted_bytes;  /* Used bytes when nothing was left to try; 0: not so */
    bool in_window;            /* Some were demoted since mover_control's last step */
    struct controller_histogram histogram;
    struct controller_decision decision; /* The last */
};

struct mover_control {
    struct controller_state state;
    uint64_t window_ms; /* When the window began */
    uint64_t told_ms;   /* Of the last event */
    unsigned untold;    /* Changes since then */
    unsigned promote_heat_told;
    unsigned admit_heat_told;
    uint64_t reads_seen; /* Totals at the last step */
    uint64_t reads_cold_seen;
    uint64_t admitted_seen;
    _Atomic uint64_t changed_ms; /* When the thresholds last changed */
    _Atomic unsigned reason;     /* enum controller_reason of the last step */
    _Atomic unsigned admission;  /* enum controller_admission */
    _Atomic uint64_t promote_us_max;
    uint64_t promote_us; /* Left of it in this window */
};

/* A damaged segment. */
struct mover_trouble {
    uint64_t segment;
    uint64_t retry_ms;
    uint64_t wait_ms; /* Before the last try; 0: it was never tried */
};

struct mover_scrub {
    struct rate rate;
    struct cold_scan *scan; /* NULL: between two segments */
    uint64_t segment;       /* The last one that was begun */
    uint64_t first;         /* The pass began behind this one */
    bool wrapped;           /* It has come to the end and begun again at the start */
    uint64_t pass_ms;       /* When the pass begins or began */

    struct warm_scrub *warm; /* NULL: no pass over the warm tier is under way */
    uint64_t warm_pass_ms;   /* When one begins or began */
    bool warm_turn;          /* The last piece was the warm tier's */
};

struct compaction;

struct mover {
    struct tiers *tiers;
    pthread_t thread;
    bool threaded;

    pthread_mutex_t mutex;
    pthread_cond_t cond; /* Wakes the mover, and those who wait in mover_flush */
    bool stop;
    bool woken;
    bool ready_wanted;
    bool flush_soon;       /* Until a flush has succeeded */
    uint64_t flush_wanted; /* Tickets of mover_flush: taken, and answered */
    uint64_t flush_done;
    int flush_status;
    struct mover_offer offers[MOVER_OFFERS_MAX];
    size_t n_offers;
    size_t offers_bytes;
    uint64_t offers_since_ms;
    uint64_t damaged; /* Reports since the last event, and the place of the first */
    struct cold_location damaged_location;

    struct warm_read *read;
    unsigned chunks_since_flush; /* Demoted; so that no work starves the other */
    unsigned chunks_since_compaction;
    unsigned steps_since_scrub;
    uint64_t flushed_ms;
    uint64_t flush_retry_ms; /* No unasked flush before this time */
    uint64_t cold_retry_ms;  /* No demotion or compaction before this time */
    bool one_by_one;         /* The last pointers could not be moved: nothing is prepared ahead */
    /* Segments that grew but whose rows are not yet committed. */
    struct cold_known pending[MOVER_PENDING_MAX];
    size_t n_pending;
    struct mover_demotion demotion;
    struct mover_control control;
    struct rate write_rate;        /* Appends of demotion and compaction */
    uint64_t appended_seen;        /* Bytes that were paid for */
    struct rate compact_rate;      /* Reads and writes of compaction */
    struct compaction *compaction; /* Under way, or NULL */
    struct mover_trouble troubles[MOVER_TROUBLES_MAX];
    size_t n_troubles;
    struct mover_scrub scrub;
    uint64_t compact_check_ms; /* Nothing to compact was found: no look before this time */
};

#define MOVER_GENERATIONS_MAX 16

/* What one flush takes. */
struct mover_batch {
    struct dirty_generation *generations[MOVER_GENERATIONS_MAX]; /* The oldest, in their order */
    size_t n;
    uint64_t charges; /* Bytes in memory */
    uint64_t pages;   /* Of the index that change, as estimated */
    bool full;        /* Worth a transaction, or as much as one may be */
};

/* mover_gather.c. At most so many generations; 0 of them: nothing is frozen. */
void mover_gather(struct mover *mover, size_t n_max, struct mover_batch *ret_batch);
/* Whether what is frozen should be flushed by now. */
bool mover_gathered_enough(struct mover *mover);

/* mover.c. Whether somebody waits for the mover itself: for a flush, or for its end. */
bool mover_is_called(struct mover *mover);

/* mover_flush.c. `force`: also what is not due, even after a recent failure. */
int mover_flush_run(struct mover *mover, bool force);
bool mover_flush_due(struct mover *mover);

/* mover_demote.c */
bool mover_demote_due(struct mover *mover);
/* Moves one chunk, or a few in a hurry. How many. */
unsigned mover_demote(struct mover *mover);
uint64_t mover_warm_budget(struct mover *mover);

/* mover_control.c */
void mover_control_open(struct mover *mover);
/* Tells readers what to admit and to offer; steps the controller if a window has passed. */
void mover_control_step(struct mover *mover);

/* mover_promote.c */
bool mover_promote_due(struct mover *mover);
void mover_promote_batch(struct mover *mover);

/* mover_cold.c: writing to the cold tier, for demotion and compaction alike. */

/* Whether demotion may write now, by the limit on bandwidth. While the warm tier is far over its
 * budget there is none. */
bool mover_cold_may_demote(struct mover *mover);
/* Trains a dictionary for small values, if it is time to. True if it tried. */
bool mover_cold_train(struct mover *mover);
/* Whether the warm tier is so far over its budget that no limit on bandwidth holds. */
bool mover_cold_hurries(uint64_t used_bytes, uint64_t budget_bytes);
/* What was appended is durable: remembers that these segments grew, and pays; so many bytes were
 * appended, ever. */
void mover_cold_synced(struct mover *mover, const struct cold_known *touched, size_t n,
                       uint64_t appended_bytes);
/* Ends a transaction that moved pointers: commits it with the rows of those segments or, if `error`
 * says that it has failed, aborts it. 0 or the failure. */
int mover_cold_commit(struct mover *mover, struct warm_write *write, int error);
/* The segment is gone: a row that waits for its transaction must not name it again. */
void mover_cold_rows_forget(struct mover *mover, uint64_t id);
/* An append or sync failed: gives up the batch, reports, and waits a while or stops the engine. */
void mover_cold_failed(struct mover *mover, int error, const char *what, bool in_sync);
/* A warm transaction of background work failed. */
void mover_warm_failed(struct mover *mover, int error, const char *what);

/* mover_trouble.c: damaged segments. */

/* Damage was met in the segment; `tried`: and what could be saved was saved. */
void mover_trouble_note(struct mover *mover, uint64_t segment, bool tried);
void mover_trouble_forget(struct mover *mover, uint64_t segment);
/* True while it is too early to try the segment again. */
bool mover_trouble_waits(const struct mover *mover, uint64_t segment, uint64_t now_ms);
/* A segment that is to be tried now; 0: none. */
uint64_t mover_trouble_due(const struct mover *mover, uint64_t now_ms);

/* mover_scrub.c: cold segments, and whose turn it is. */
void mover_scrub_open(struct mover *mover);
void mover_scrub_close(struct mover *mover);
/* Verifies one more piece, if it is time to. True if it did. */
bool mover_scrub_step(struct mover *mover);

/* mover_scrub_warm.c: the warm tier's file, in the same way, but for the rate. */
void mover_scrub_warm_open(struct mover *mover);
void mover_scrub_warm_close(struct mover *mover);
bool mover_scrub_warm_step(struct mover *mover);

#endif
