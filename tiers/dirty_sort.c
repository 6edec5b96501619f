/* Sorting a generation by space and key. Mover thread.
 *
 * Records lie anywhere in memory, and a comparison that looks at two keys waits for both. So each
 * record is looked at once: the eight bytes of its key behind what all keys have in common are kept
 * beside its pointer, and decide nearly always.
 *
 * Without memory for that the keys themselves are compared. Cannot fail. */
#include "dirty.h"

#include "prefetch.h"
#include "record.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define PREFETCH_DISTANCE 8

struct place {
    uint64_t head; /* Compares as those bytes do; a key that ends before them has zeros */
    const struct tiers_record *record;
};

static int compare_records(const struct tiers_record *a, const struct tiers_record *b)
{
    if (a->space != b->space)
        return a->space < b->space ? -1 : 1;
    size_t shorter_len = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = memcmp(tiers_record_key(a), tiers_record_key(b), shorter_len);
    if (order != 0)
        return order;
    return (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

static int compare_pointers(const void *left, const void *right)
{
    return compare_records(*(const struct tiers_record *const *)left,
                           *(const struct tiers_record *const *)right);
}

static int compare_places(const void *left, const void *right)
{
    const struct place *a = left;
    const struct place *b = right;

    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    return compare_records(a->record, b->record);
}

/* How many bytes the key has in common with another, of `most` that may be. */
static size_t common_bytes(const struct tiers_record *a, const struct tiers_record *b, size_t most)
{
    const unsigned char *a_key = tiers_record_key(a);
    const unsigned char *b_key = tiers_record_key(b);
    size_t n = 0;

    if (most > b->key_len)
        most = b->key_len;
    if (memcmp(a_key, b_key, most) == 0)
        return most;
    while (n < most && a_key[n] == b_key[n])
        n++;
    return n;
}

static uint64_t head_of(const struct tiers_record *record, size_t skipped)
{
    uint64_t head = 0;
    size_t n = record->key_len - skipped;

    memcpy(&head, (const char *)tiers_record_key(record) + skipped, n < 8 ? n : 8);
    return be64toh(head);
}

/* False: there are records of both spaces, or no memory. */
static bool sort_by_heads(struct dirty_generation *generation)
{
    const struct tiers_record *first = generation->records[0];
    struct place *places = malloc(generation->n * sizeof(*places));
    size_t common = first->key_len;
    bool one_space = true;

    if (places == NULL)
        return false;
    for (size_t i = 0; i < generation->n && one_space; i++) {
        if (i + PREFETCH_DISTANCE < generation->n)
            prefetch_line(generation->records[i + PREFETCH_DISTANCE]);
        common = common_bytes(first, generation->records[i], common);
        one_space = generation->records[i]->space == first->space;
    }
    for (size_t i = 0; i < generation->n && one_space; i++)
        places[i] = (struct place){.head = head_of(generation->records[i], common),
                                   .record = generation->records[i]};
    if (one_space) {
        qsort(places, generation->n, sizeof(*places), compare_places);
        for (size_t i = 0; i < generation->n; i++)
            generation->records[i] = places[i].record;
    }
    free(places);
    return one_space;
}

void dirty_sort(struct dirty_generation *generation)
{
    if (generation->n > 1 && !generation->sorted && !sort_by_heads(generation))
        qsort(generation->records, generation->n, sizeof(const struct tiers_record *),
              compare_pointers);
    generation->sorted = true;
}
