/* Segments in which damage was met, and when to try them again. Mover thread.
 *
 * Whoever meets damage notes the segment; compaction then saves what is intact in it. If that
 * leaves something behind, the next try comes after a minute, then after twice as long each time,
 * up to an hour: a cable may come back, a dead sector will not. The table is small; when it is
 * full, the segment that would be tried first makes room. */
#include "mover_private.h"

#define WAIT_MS_MIN 60000
#define WAIT_MS_MAX 3600000

/* The segment's index in the table; n_troubles: it is not there. */
static size_t trouble_find(const struct mover *mover, uint64_t segment)
{
    size_t i = 0;
    while (i < mover->n_troubles && mover->troubles[i].segment != segment) {
        i++;
    }
    return i;
}

static struct mover_trouble *trouble_add(struct mover *mover, uint64_t segment)
{
    struct mover_trouble *place = &mover->troubles[0];
    if (mover->n_troubles < MOVER_TROUBLES_MAX) {
        place = &mover->troubles[mover->n_troubles++];
    } else {
        for (size_t i = 1; i < MOVER_TROUBLES_MAX; i++) {
            if (mover->troubles[i].retry_ms < place->retry_ms) {
                place = &mover->troubles[i];
            }
        }
    }
    *place = (struct mover_trouble){.segment = segment};
    return place;
}

void mover_trouble_note(struct mover *mover, uint64_t segment, bool tried)
{
    size_t i = trouble_find(mover, segment);
    bool known = i < mover->n_troubles;
    if (known && !tried) {
        return;
    }
    struct mover_trouble *trouble = known ? &mover->troubles[i] : trouble_add(mover, segment);
    uint64_t now_ms = engine_now_ms(mover->tiers);
    if (tried) {
        trouble->wait_ms = trouble->wait_ms == 0 ? WAIT_MS_MIN : 2 * trouble->wait_ms;
        if (trouble->wait_ms > WAIT_MS_MAX) {
            trouble->wait_ms = WAIT_MS_MAX;
        }
    }
    trouble->retry_ms = now_ms + trouble->wait_ms;
    mover->compact_check_ms = 0;
}

void mover_trouble_forget(struct mover *mover, uint64_t segment)
{
    size_t i = trouble_find(mover, segment);
    if (i < mover->n_troubles) {
        mover->troubles[i] = mover->troubles[--mover->n_troubles];
    }
}

bool mover_trouble_waits(const struct mover *mover, uint64_t segment, uint64_t now_ms)
{
    size_t i = trouble_find(mover, segment);
    return i < mover->n_troubles && now_ms < mover->troubles[i].retry_ms;
}

uint64_t mover_trouble_due(const struct mover *mover, uint64_t now_ms)
{
    for (size_t i = 0; i < mover->n_troubles; i++) {
        if (now_ms >= mover->troubles[i].retry_ms) {
            return mover->troubles[i].segment;
        }
    }
    return 0;
}
