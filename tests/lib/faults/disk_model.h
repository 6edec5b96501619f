/* What a disk holds after a power cut: a model beside the files of one folder.
 *
 * Between the writes of a file and its fsync a power cut may lose any of their sectors; between the
 * change of a name and the fsync of its folder it may lose the name. Whoever does the I/O tells the
 * model of each operation just before it is done, and of each fsync when it is; the model keeps the
 * durable content of each file in memory and can put it back at the end.
 *
 * One thread. A failure of the model itself is the test's: it ends the process with a message.
 */
#ifndef TIERKV_TESTS_FAULTS_DISK_MODEL_H
#define TIERKV_TESTS_FAULTS_DISK_MODEL_H

#include "lib/faults/libc_faults.h"

#include <stdint.h>

#define DISK_SECTOR_BYTES 512u

/* All that lies in the folder now counts as durable. `graves` is an empty folder on the same file
 * system, where what is deleted is kept. Borrowed. */
void disk_model_start(const char *graves);

/* `fd` is about to be written, or cut or extended to `bytes`. */
void disk_model_write(int fd, uint64_t offset, uint64_t n_bytes);
void disk_model_truncate(int fd, uint64_t bytes);
/* What was just written there became durable by itself (O_DSYNC). */
void disk_model_write_synced(int fd, uint64_t offset, uint64_t n_bytes);
/* A create, rename, unlink or mkdir is about to happen. Paths are absolute. */
void disk_model_name(enum libc_kind kind, const char *path, const char *new_path);

/* A file or folder was synced; or that failed: as on Linux, what was dirty then is clean now but
 * lost, unless it is written again. */
void disk_model_synced(int fd);
void disk_model_sync_failed(int fd);

/* Loses all that is not durable / any part of it, as `seed` says. The model is spent. */
void disk_model_lose_all(void);
void disk_model_lose_some(uint64_t seed);

#endif
