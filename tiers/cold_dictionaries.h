/* The dictionaries that are loaded: shared by the writer and all readers.
 *
 * The few that were used last are kept. One that is not among them is read from the segment that
 * names it, which happens once in a long while; that read blocks. Any thread; one lock, a leaf that
 * is not held across I/O.
 */
#ifndef TIERS_COLD_DICTIONARIES_H
#define TIERS_COLD_DICTIONARIES_H

#include "cold_dictionary.h"
#include "cold_files.h"

#include <pthread.h>

#define COLD_DICTIONARIES_KEPT 16

struct cold_dictionaries {
    pthread_mutex_t lock;
    struct cold_dictionary *items[COLD_DICTIONARIES_KEPT]; /* Used last first */
    size_t n;
};

void cold_dictionaries_open(struct cold_dictionaries *set);
void cold_dictionaries_close(struct cold_dictionaries *set);

/* Keeps it, with a reference of its own. */
void cold_dictionaries_put(struct cold_dictionaries *set, struct cold_dictionary *dictionary);

/* The dictionary `id` (0: whichever it has) of an acquired segment file; the caller gets a
 * reference. TIERS_NOT_FOUND: the segment has none. TIERS_CORRUPT: it has another one, or header or
 * dictionary are damaged. TIERS_VERSION, TIERS_IO, TIERS_NO_MEMORY. */
int cold_dictionaries_get(struct cold_dictionaries *set, struct cold_files *files,
                          const struct cold_file *file, uint32_t id,
                          struct cold_dictionary **ret_dictionary);

#endif
