/* Scrubbing: reads the sealed cold segments again and again, slowly, so that damage is found while
 * other replicas still have what was damaged; by turns with the warm tier's file
 * (mover_scrub_warm.c), both together within one limit. Mover thread.
 *
 * The happy path: a pass goes over all segments by ascending id, from a place that differs with
 * each start, one piece a step, when nothing else is due or after many steps of other work; every
 * record's checksum is verified. The next pass begins an interval after the last one began.
 *
 * Failures: damage is counted and reported once for each segment and pass, and the segment is
 * noted, so that compaction saves what is intact in it; the scrubber itself goes on with the next.
 */
#include "mover_private.h"

/* Read in one step. */
#define STEP_BYTES (1u << 20)

void mover_scrub_open(struct mover *mover)
{
    struct mover_scrub *scrub = &mover->scrub;
    const struct tiers_options *options = &mover->tiers->options;
    uint64_t now_ms = engine_now_ms(mover->tiers);
    rate_init(&scrub->rate, options->scrub_bytes_per_second_max, now_ms);
    scrub->pass_ms = now_ms;
    /* Were each pass to begin with the first segment, a node that is restarted often would never
     * see the last one. */
    uint64_t segments = cold_segments(mover->tiers->cold);
    uint64_t skip = segments == 0 ? 0 : now_ms * 0x9e3779b97f4a7c15u % segments;
    while (skip-- > 0) {
        scrub->segment = cold_segment_after(mover->tiers->cold, scrub->segment);
    }
    scrub->first = scrub->segment;
    mover_scrub_warm_open(mover);
}

static void scan_close(struct mover *mover)
{
    cold_scan_close(mover->scrub.scan);
    mover->scrub.scan = NULL;
}

void mover_scrub_close(struct mover *mover)
{
    scan_close(mover);
    mover_scrub_warm_close(mover);
}

/* Turns to the next segment. False: the pass is over. */
static bool segment_next(struct mover *mover)
{
    struct mover_scrub *scrub = &mover->scrub;
    struct cold *cold = mover->tiers->cold;
    uint64_t id = cold_segment_after(cold, scrub->segment);
    if (id == 0 && !scrub->wrapped) {
        scrub->wrapped = true;
        id = cold_segment_after(cold, 0);
    }
    if (id == 0 || (scrub->wrapped && id > scrub->first)) {
        return false;
    }
    scrub->segment = id;
    return true;
}

static void pass_end(struct mover *mover)
{
    struct mover_scrub *scrub = &mover->scrub;
    scrub->pass_ms += mover->tiers->options.scrub_interval_ms;
    uint64_t now_ms = engine_now_ms(mover->tiers);
    if (scrub->pass_ms < now_ms) {
        scrub->pass_ms = now_ms;
    }
    scrub->segment = 0;
    scrub->first = 0;
    scrub->wrapped = false;
}

static void segment_end(struct mover *mover, int status)
{
    struct tiers *tiers = mover->tiers;
    uint64_t id = mover->scrub.segment;
    if (status == TIERS_NOT_FOUND) {
        engine_count(&tiers->counters.scrubbed_segments, 1);
    } else if (status != TIERS_STALE && status != TIERS_NO_MEMORY && status != TIERS_STOPPED) {
        engine_count(&tiers->counters.scrub_damages, 1);
        engine_event(tiers, TIERS_EVENT_ERROR, "segment_damaged", "the scrubber found: %s",
                     cold_error_text(tiers->cold));
        mover_trouble_note(mover, id, false);
    }
    scan_close(mover);
}

/* Reads on in the open segment. */
static void piece_scrub(struct mover *mover)
{
    struct mover_scrub *scrub = &mover->scrub;
    uint64_t before = cold_scan_bytes_read(scrub->scan);
    uint64_t bytes = 0;
    int status = 0;
    while (status == 0 && bytes < STEP_BYTES) {
        struct cold_item item;
        status = cold_scan_next(scrub->scan, &item);
        bytes = cold_scan_bytes_read(scrub->scan) - before;
    }
    rate_pay(&scrub->rate, bytes);
    engine_count(&mover->tiers->counters.scrubbed_bytes, bytes);
    if (status != 0) {
        segment_end(mover, status);
    }
}

static bool cold_scrub_step(struct mover *mover, uint64_t now_ms)
{
    struct mover_scrub *scrub = &mover->scrub;
    if (now_ms < scrub->pass_ms) {
        return false;
    }
    if (scrub->scan == NULL) {
        if (!segment_next(mover)) {
            pass_end(mover);
            return false;
        }
        int status = cold_scan_open(mover->tiers->cold, scrub->segment, &scrub->scan);
        if (status != 0) {
            segment_end(mover, status);
            return true;
        }
    }
    piece_scrub(mover);
    return true;
}

bool mover_scrub_step(struct mover *mover)
{
    struct mover_scrub *scrub = &mover->scrub;
    uint64_t now_ms = engine_now_ms(mover->tiers);
    if (mover->tiers->options.scrub_interval_ms == 0 || rate_wait_ms(&scrub->rate, now_ms) > 0) {
        return false;
    }
    scrub->warm_turn = !scrub->warm_turn;
    if (scrub->warm_turn) {
        return mover_scrub_warm_step(mover) || cold_scrub_step(mover, now_ms);
    }
    return cold_scrub_step(mover, now_ms) || mover_scrub_warm_step(mover);
}
