/* See dirty_map.h. A place that was copied is left where it was: what the same number says in both
 * tables is the same, so that a search may take whichever it meets first. */
#include "dirty_map.h"

#include "record.h"

#include <assert.h>
#include <stdlib.h>

#define PLACES_MIN 128

/* Of the places so many are used at most before there are twice as many. */
#define USED_MAX(places) ((places) / 4 * 3)

/* By the time the new table is full, there have been as many insertions as three quarters of the
 * old table's places: all of those have been copied by then. */
#define COPIES_PER_INSERT 4

void dirty_map_free(struct dirty_map *map)
{
    free(map->old);
    free(map->places);
    *map = (struct dirty_map){0};
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)hash;
}

static void place_fill(struct dirty_map *map, struct dirty_place entry)
{
    size_t i = entry.tag & (map->n_places - 1);

    while (map->places[i].number_plus_1 != 0)
        i = (i + 1) & (map->n_places - 1);
    map->places[i] = entry;
}

int dirty_map_reserve(struct dirty_map *map)
{
    if (map->used < USED_MAX(map->n_places))
        return 0;
    assert(map->old == NULL);
    size_t wanted = map->n_places == 0 ? PLACES_MIN : 2 * map->n_places;
    struct dirty_place *places = calloc(wanted, sizeof(places[0]));
    if (places == NULL)
        return TIERS_NO_MEMORY;
    map->old = map->places;
    map->n_old = map->n_places;
    map->old_next = 0;
    map->places = places;
    map->n_places = wanted;
    return 0;
}

static void copy_some(struct dirty_map *map)
{
    for (unsigned i = 0; i < COPIES_PER_INSERT && map->old_next < map->n_old; i++) {
        struct dirty_place entry = map->old[map->old_next++];
        if (entry.number_plus_1 != 0)
            place_fill(map, entry);
    }
    if (map->old_next == map->n_old) {
        free(map->old);
        map->old = NULL;
    }
}

void dirty_map_insert(struct dirty_map *map, uint64_t hash, uint32_t number)
{
    assert(map->used < USED_MAX(map->n_places) && number < UINT32_MAX);
    if (map->old != NULL)
        copy_some(map);
    place_fill(map, (struct dirty_place){.tag = tag_of(hash), .number_plus_1 = number + 1});
    map->used++;
}

static bool table_find(const struct dirty_place *places, size_t n_places, uint64_t hash,
                       const struct tiers_record *record, const struct tiers_record *const *records,
                       uint32_t *ret_number)
{
    size_t mask = n_places - 1;

    for (size_t i = tag_of(hash) & mask; places[i].number_plus_1 != 0; i = (i + 1) & mask) {
        uint32_t number = places[i].number_plus_1 - 1;
        if (places[i].tag == tag_of(hash) &&
            record_key_equals(records[number], (enum tiers_space)record->space,
                              tiers_record_key(record), record->key_len)) {
            *ret_number = number;
            return true;
        }
    }
    return false;
}

bool dirty_map_find(const struct dirty_map *map, uint64_t hash, const struct tiers_record *record,
                    const struct tiers_record *const *records, uint32_t *ret_number)
{
    if (map->places == NULL)
        return false;
    return table_find(map->places, map->n_places, hash, record, records, ret_number) ||
           (map->old != NULL &&
            table_find(map->old, map->n_old, hash, record, records, ret_number));
}

size_t dirty_map_bytes(const struct dirty_map *map)
{
    size_t n_places = map->n_places + (map->old != NULL ? map->n_old : 0);

    return n_places * sizeof(map->places[0]);
}
