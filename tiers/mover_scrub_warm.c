/* Scrubbing the warm tier's file (warm_scrub.h), a piece a step. Mover thread.
 *
 * The happy path: a pass begins an interval after the last one began, or, at opening, at once if
 * the file was too large to be checked then.
 *
 * Failures: damage in the structure may hide keys, or be written to what it names: the engine
 * stops, and says which page. A damaged value is reported: its key is answered by an error, all
 * others are right.
 */
#include "mover_private.h"
#include "warm_scrub.h"

/* Read in one step, page by page. */
#define STEP_BYTES (256u << 10)

void mover_scrub_warm_open(struct mover *mover)
{
    const struct tiers *tiers = mover->tiers;
    mover->scrub.warm_pass_ms =
        engine_now_ms(tiers) + (warm_checked(tiers->warm) ? tiers->options.scrub_interval_ms : 0);
}

void mover_scrub_warm_close(struct mover *mover)
{
    warm_scrub_close(mover->scrub.warm);
    mover->scrub.warm = NULL;
}

static void pass_end(struct mover *mover)
{
    uint64_t now_ms = engine_now_ms(mover->tiers);
    mover->scrub.warm_pass_ms += mover->tiers->options.scrub_interval_ms;
    if (mover->scrub.warm_pass_ms < now_ms) {
        mover->scrub.warm_pass_ms = now_ms;
    }
    engine_count(&mover->tiers->counters.warm_scrubs, 1);
    mover_scrub_warm_close(mover);
}

static void piece_tell(struct mover *mover, const struct warm_scrub_piece *piece)
{
    struct tiers *tiers = mover->tiers;
    rate_pay(&mover->scrub.rate, piece->bytes_read);
    engine_count(&tiers->counters.warm_scrubbed_bytes, piece->bytes_read);
    if (piece->values_damaged > 0) {
        engine_count(&tiers->counters.checksum_errors, piece->values_damaged);
        engine_event(tiers, TIERS_EVENT_ERROR, "warm_value_damaged",
                     "the scrubber found %llu values in the warm tier that fail their check, the "
                     "first one of revision %llu",
                     (unsigned long long)piece->values_damaged,
                     (unsigned long long)piece->damaged_revision);
    }
}

bool mover_scrub_warm_step(struct mover *mover)
{
    struct tiers *tiers = mover->tiers;
    struct mover_scrub *scrub = &mover->scrub;
    if (engine_now_ms(tiers) < scrub->warm_pass_ms) {
        return false;
    }
    int error = scrub->warm == NULL ? warm_scrub_open(tiers->warm, &scrub->warm) : 0;
    if (error == TIERS_NO_MEMORY) {
        return false;
    }
    if (error) {
        engine_fail(tiers, error, "the scrubber cannot open the warm tier's file");
        return false;
    }
    struct warm_scrub_piece piece;
    error = warm_scrub_step(scrub->warm, STEP_BYTES, &piece);
    piece_tell(mover, &piece);
    if (error == TIERS_NOT_FOUND) {
        pass_end(mover);
    } else if (error != 0 && error != TIERS_NO_MEMORY) {
        engine_fail(tiers, error, warm_scrub_error_text(scrub->warm));
    }
    return error == 0 || error == TIERS_NOT_FOUND;
}
