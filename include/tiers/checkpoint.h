/* Copying the state of an engine to another node: a stream of bytes that holds everything, and
 * installing one.
 *
 * The stream is consistent: the state at one position, although the engine goes on meanwhile. It is
 * checked end to end: each frame carries a hash, the digests of all keys must add up to the state
 * hash, and its end is marked. Neither side holds more of it in memory than a frame, or one value
 * of the largest size. Placement travels along: warm values arrive warm, cold ones cold.
 *
 * While a checkpoint is open the engine deletes no cold segment, and LMDB reuses no page that the
 * snapshot sees: close it soon.
 */
#ifndef TIERS_CHECKPOINT_H
#define TIERS_CHECKPOINT_H

#include "tiers/tiers.h"

struct tiers_checkpoint;

/* What is durable at this moment. Any thread; the checkpoint is used by one at a time. */
int tiers_checkpoint_open(struct tiers *tiers, struct tiers_checkpoint **ret_checkpoint);
void tiers_checkpoint_close(struct tiers_checkpoint *checkpoint);

void tiers_checkpoint_position(const struct tiers_checkpoint *checkpoint,
                               struct tiers_position *ret_position);

/* Takes all `n` bytes: 0, or a negative code that ends the writing. May block. */
typedef int (*tiers_checkpoint_sink)(void *context, const void *bytes, size_t n);

/* Writes the whole stream. Blocks: reads disks. 0; the sink's code; a TIERS_ code. */
int tiers_checkpoint_write(struct tiers_checkpoint *checkpoint, tiers_checkpoint_sink sink,
                           void *context);

/* Fills all of `n` bytes: 0, or a negative code that ends the reading. May block. */
typedef int (*tiers_checkpoint_source)(void *context, void *bytes, size_t n);

/* Reads a stream into two directories, which must be empty or absent, and makes it durable; they
 * can then be opened as warm_dir and cold_dir. Reads not a byte beyond the stream's end. On failure
 * error_text says why, and the directories hold nothing of use. 0; the source's code; TIERS_CORRUPT
 * (a hash is wrong, or the state is not what it claims to be); TIERS_VERSION; another TIERS_ code.
 */
int tiers_checkpoint_install(const char *warm_dir, const char *cold_dir,
                             tiers_checkpoint_source source, void *context,
                             struct tiers_position *ret_position, char *error_text,
                             size_t error_text_size);

#endif
