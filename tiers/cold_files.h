/* The segment files of the cold tier: which exist, how large they are, and their descriptors.
 *
 * Names and sizes of all segments are in memory (some 100 bytes each); descriptors for reading are
 * opened on demand and at most COLD_DESCRIPTORS_MAX of those not in use are kept. One lock guards
 * the registry; it is a leaf and never held across I/O. The mover creates, publishes and deletes;
 * any thread acquires and releases.
 */
#ifndef TIERS_COLD_FILES_H
#define TIERS_COLD_FILES_H

#include "cold.h"
#include "cold_header.h"

#include <pthread.h>
#include <stdatomic.h>

#define COLD_DESCRIPTORS_MAX 256

struct cold_file {
    uint64_t id;
    uint64_t bytes; /* Durable size; 0 until the first sync of a new segment */
    unsigned users; /* Acquired and not yet released */
    int fd;         /* For reading; -1: not open */
    bool deleted;   /* Out of the registry; removed by the mover after its last user */
    int cut_fd;     /* Deleted and large: for cutting it; -1: not open. The mover's */

    /* In the idle list, least recently used first, while open and without users; deleted and
     * without users: in the list of those to be removed, by idle_next */
    struct cold_file *idle_previous;
    struct cold_file *idle_next;
};

struct cold_files {
    char *directory; /* For messages */
    int directory_fd;
    _Atomic bool direct; /* Open with O_DIRECT */
    _Atomic uint64_t bytes;
    _Atomic uint64_t count;

    pthread_mutex_t lock;     /* Guards all below, and the fields of every cold_file */
    struct cold_file **items; /* By ascending id */
    size_t n;
    size_t capacity;
    struct cold_file *idle_first;
    struct cold_file *idle_last;
    size_t n_idle;
    struct cold_file *removable;
};

/* Creates the directory if it is absent, deletes unknown segment files, checks and cuts the known
 * ones to their sizes. `known` is as in cold_open. */
int cold_files_open(struct cold_files *files, const char *directory, bool direct,
                    const struct cold_known *known, size_t n_known, char *error_text,
                    size_t error_text_size);
/* For cold_files_open: one more known segment, whose id is above all others / whether it is known.
 */
int cold_files_add(struct cold_files *files, uint64_t id, uint64_t bytes);
bool cold_files_has(const struct cold_files *files, uint64_t id);
/* No file may be acquired. */
void cold_files_close(struct cold_files *files);

/* Mover. Creates an empty segment file, whose id must be above all others, and opens it for
 * writing; *ret_fd is the caller's. Its directory entry is not yet durable. TIERS_ACCESS,
 * TIERS_NO_SPACE, TIERS_NO_MEMORY, TIERS_IO. */
int cold_files_create(struct cold_files *files, uint64_t id, struct cold_file **ret_file,
                      int *ret_fd);
/* Mover. The segment is durable up to `bytes`. */
void cold_files_publish(struct cold_files *files, struct cold_file *file, uint64_t bytes);
/* Mover. Takes the segment out of the registry and unlinks its file. False: not there. Its space is
 * given back at once or, if it is still read, by the first cold_files_sweep after that. */
bool cold_files_delete(struct cold_files *files, uint64_t id);
/* Mover. Gives back the space of deleted segments that nobody reads any more. */
void cold_files_sweep(struct cold_files *files);
/* Mover. Whether the segment of an acquired file was deleted meanwhile. */
bool cold_files_deleted(struct cold_files *files, const struct cold_file *file);
/* Mover. The least id above `id` whose segment has a durable size, `but` left out; 0: none. */
uint64_t cold_files_after(struct cold_files *files, uint64_t id, uint64_t but);
/* Mover. Undoes what was written beyond the durable size. */
void cold_files_cut(struct cold_files *files, const struct cold_file *file);

/* Any thread. The file, open for reading (file->fd) until released, and its durable size.
 * TIERS_STALE: no such segment. TIERS_NO_MEMORY: out of descriptors. TIERS_CORRUPT: its file is
 * gone. */
int cold_files_acquire(struct cold_files *files, uint64_t id, struct cold_file **ret_file,
                       uint64_t *ret_bytes);
void cold_files_release(struct cold_files *files, struct cold_file *file);

/* Called when an operation on `fd` answered EINVAL, which some file systems do to O_DIRECT: stops
 * using it for fd and for files opened later. The operation is worth another try. Any thread. */
void cold_files_refuse_direct(struct cold_files *files, int fd);

#endif
