/* Reads of cold records that wait for their turn at the disk, in the order of their places. Pure.
 *
 * Two sets: one is being worked off by ascending segment and offset, a sweep of the disk's arm,
 * while the other one gathers what comes in meanwhile and is the next sweep. So no read waits for
 * longer than the rest of one sweep and a whole other one, whatever else comes in (FSCAN: Coffman,
 * Klimko, Ryan, "Analysis of scanning policies for reducing disk seek times", 1972).
 *
 * Neighbours are taken together, as one read of the disk. Owned by one reader's thread.
 */
#ifndef TIERS_COLD_READ_QUEUE_H
#define TIERS_COLD_READ_QUEUE_H

#include "cold_files.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Records this far apart are read at once: a disk passes over the gap sooner than it takes another
 * command. */
#define COLD_READ_GAP_BYTES (16u << 10)

/* One record that is asked for. */
struct cold_request {
    struct cold_request *next; /* In whatever list it is */
    struct cold_reader *reader;
    struct cold_file *file; /* Acquired */
    struct cold_location location;
    enum tiers_space space;
    const void *key; /* The caller's */
    size_t key_len;
    uint64_t mod_revision;
    cold_read_done done;
    void *owner;

    uint64_t offset; /* Of the blocks that cover the record */
    uint32_t length;
    unsigned char *bytes; /* A large record's own buffer, else NULL */
    bool alone;           /* Not to be read together with others */
};

struct cold_read_queue {
    struct cold_request **sweep; /* Sorted; those below sweep_at are gone */
    size_t sweep_at;
    size_t n_sweep;
    struct cold_request **gathering;
    size_t n_gathering;
    size_t capacity; /* Of each */
};

/* 0 or TIERS_NO_MEMORY. */
int cold_read_queue_open(struct cold_read_queue *queue, size_t capacity);
void cold_read_queue_close(struct cold_read_queue *queue);

/* At most `capacity` requests may be in the queue. */
void cold_read_queue_add(struct cold_read_queue *queue, struct cold_request *request);

static inline size_t cold_read_queue_count(const struct cold_read_queue *queue)
{
    return queue->n_sweep - queue->sweep_at + queue->n_gathering;
}

/* Takes the next request and those behind it that are near enough to be read with it, all within
 * `bytes_max` bytes of one segment (the first one may be larger). A list in ascending order of
 * places; NULL: the queue is empty. */
struct cold_request *cold_read_queue_take(struct cold_read_queue *queue, uint64_t bytes_max);

#endif
