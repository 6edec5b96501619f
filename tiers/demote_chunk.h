/* The demotion of one chunk of keys, in two halves: preparing (look up, choose, append to cold,
 * sync) and pointing (one warm transaction).
 *
 * The halves of two chunks may run at once. Whoever prepares owns the hand, the histogram and the
 * decision of mover->demotion, and the cold tier's writing side, until the next is prepared or the
 * demotion ends; all else is the mover thread's.
 *
 * A third chunk may be collected ahead while the disk takes what was appended last: the copies of a
 * chunk are on their way while the processor looks for the next. */
#ifndef TIERS_DEMOTE_CHUNK_H
#define TIERS_DEMOTE_CHUNK_H

#include "mover_private.h"

/* An item under the hand. The pointers lead into the chunk's snapshot. */
struct demote_candidate {
    const void *key;
    size_t key_len;
    struct warm_item item;
    uint64_t room; /* warm_item_bytes, of an inline one */
    unsigned rank; /* Heat less the size's share */
    bool chosen;
    struct cold_location location;
};

enum demote_step { DEMOTE_LOOK_UP, DEMOTE_APPEND, DEMOTE_SYNC };

struct demote_chunk {
    struct mover *mover;
    struct warm_read *read;
    bool reading;   /* Begun and not ended */
    bool collected; /* Ahead, and not prepared yet; what it found there before: */
    struct controller_histogram histogram_before;
    struct controller_decision decision_before;
    uint64_t leaving_bytes; /* Of the chunk that is being pointed when this one is prepared */
    struct demote_candidate *candidates;
    size_t n;
    uint64_t bytes; /* Of inline values */
    uint64_t room;  /* That they take */
    uint64_t chosen_keys;
    uint64_t chosen_bytes;
    uint64_t chosen_room;
    uint64_t can_leave;  /* Items that stay and could leave */
    uint64_t leaf_bytes; /* Of leaf pages, that all items take afterwards */
    bool last;           /* The hand is at the end of the keys */
    struct controller_decision decision;
    unsigned char hand_before[TIERS_KEY_BYTES_MAX];
    size_t hand_before_len;
    struct cold_known touched[COLD_TOUCHED_MAX]; /* Segments that grew */
    size_t n_touched;
    uint64_t appended_bytes; /* cold_appended_bytes afterwards */
    int error;               /* Of the step that failed */
    enum demote_step step;
};

/* NULL: out of memory. */
struct demote_chunk *demote_chunk_open(struct mover *mover);
/* NULL is allowed. */
void demote_chunk_close(struct demote_chunk *chunk);

/* Takes what comes next under the hand, unless that was done ahead, moves the hand behind it, and
 * makes copies of what is cold enough durable in the cold tier. `leaving_bytes`: of warm, that the
 * chunk before is giving back just now. `ahead`, unless NULL, is the one to be prepared after
 * this: what comes next is taken into it meanwhile. On failure chunk->error and chunk->step say so,
 * and the hand has to be put back to hand_before. */
void demote_chunk_prepare(struct demote_chunk *chunk, struct demote_chunk *ahead,
                          uint64_t leaving_bytes);

/* What was collected ahead, if it was, will not be prepared: as if it had not been looked at. Mover
 * thread, when nobody prepares. NULL is allowed. */
void demote_chunk_drop(struct demote_chunk *chunk);

/* Turns what was chosen, and has not changed since, into pointers. Mover thread. */
int demote_chunk_point(const struct demote_chunk *chunk);

/* Adds a chunk that is done to what is known of the round. Mover thread. */
void demote_chunk_note(const struct demote_chunk *chunk);

#endif
