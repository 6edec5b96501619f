/* For scenarios of the scrubber: a bit of a cold record of the prepared state is flipped, and back.
 */
#ifndef TIERKV_TESTS_TIERS_CRASH_DAMAGE_H
#define TIERKV_TESTS_TIERS_CRASH_DAMAGE_H

#include "crash_scenario.h"

#include "cold_header.h"

#include <fcntl.h>

static struct cold_location scenario_damage_at;

/* Whether the scenario's own groups leave the key alone. */
static inline bool scenario_scrub_spares(size_t number)
{
    for (uint64_t index = SCENARIO_BASE + 1; index <= scenario_end(SCENARIO_SCRUB); index++)
        for (uint64_t i = 1; i <= scenario_changes(SCENARIO_SCRUB, index); i++)
            if (scenario_change(SCENARIO_SCRUB, index, i).number == number)
                return false;
    return true;
}

static inline bool scenario_is_cold(struct tiers *tiers, size_t number,
                                    struct cold_location *ret_location)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    struct warm_read *read = NULL;
    struct warm_item item;
    assert_int_equal(warm_read_open(tiers->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    bool cold = warm_get(read, TIERS_SPACE_USER, key, key_len, &item) == 0 && item.cold;
    if (cold)
        *ret_location = item.location;
    warm_read_end(read);
    warm_read_close(read);
    return cold;
}

static inline void scenario_damage_flip(const struct scenario *scenario)
{
    char name[COLD_NAME_BYTES];
    char path[TEMP_FOLDER_PATH_BYTES + 64];
    unsigned char byte;
    off_t at = (off_t)(scenario_damage_at.offset + scenario_damage_at.bytes / 2);
    cold_name_print(scenario_damage_at.segment, name);
    snprintf(path, sizeof path, "%s/cold/%s", scenario->base, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 16;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Damages a key in the oldest segment that has one which stays: a sealed one. */
static inline int scenario_damage(void **state)
{
    struct scenario *scenario = *state;
    struct cold_location location;
    scenario_damage_at.segment = UINT64_MAX;
    scenario_place(scenario, scenario->base);
    assert_int_equal(scenario_open(scenario), 0);
    for (size_t i = 0; i < SCENARIO_KEYS; i++) {
        if (scenario_scrub_spares(i) && scenario_is_cold(scenario->f->tiers, i, &location) &&
            location.segment < scenario_damage_at.segment) {
            scenario->damaged = i;
            scenario_damage_at = location;
        }
    }
    assert_true(scenario->damaged != SIZE_MAX);
    assert_false(cold_segment_active(scenario->f->tiers->cold, scenario_damage_at.segment));
    fixture_close(scenario->f);
    scenario_place(scenario, scenario->work);
    scenario_damage_flip(scenario);
    return 0;
}

static inline int scenario_repair(void **state)
{
    struct scenario *scenario = *state;
    scenario_damage_flip(scenario);
    scenario->damaged = SIZE_MAX;
    return 0;
}

#endif
