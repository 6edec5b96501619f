/* Log entries compressed as a whole: what is written to each node's log and sent to each peer gets
 * several times smaller, and so does all that is done byte by byte with it.
 *
 * A compressed entry (integers little-endian):
 *   u32 magic "TKVZ"   u32 bytes of the entry inside   u32 bytes of the frame   u32 zero
 *   then a zstd frame and zeros to a multiple of 8 bytes
 * What is inside is an entry as command.h has it, not compressed again.
 *
 * An object belongs to one thread: the Raft loop. What it returns lies in its own memory, which
 * grows to about a MiB and stays valid until it is asked again or closed.
 */
#ifndef TIERKV_COMMAND_COMPRESSION_H
#define TIERKV_COMMAND_COMPRESSION_H

#include <stddef.h>

/* Smaller entries lie in one block of the disk anyway; larger ones would hold up the loop. */
#define COMMAND_COMPRESS_BYTES_MIN 4096u
#define COMMAND_COMPRESS_BYTES_MAX (1u << 20)

struct command_compressor;
struct command_decompressor;

/* NULL: out of memory. Both take NULL to be freed. */
struct command_compressor *command_compressor_new(void);
void command_compressor_free(struct command_compressor *compressor);
struct command_decompressor *command_decompressor_new(void);
void command_decompressor_free(struct command_decompressor *decompressor);

/* The entry compressed, and its size; 0: it stays as it is, because it is too small, too large or
 * would not shrink by an eighth, or for want of memory. After entries that did not shrink some are
 * not tried. */
size_t command_entry_compress(struct command_compressor *compressor, const void *entry,
                              size_t bytes, const void **ret_compressed);

/* Bytes of the entry inside, as it says of itself; of one that is not compressed, its own. Pure. */
size_t command_entry_bytes(const void *entry, size_t bytes);

/* The entry inside, or the entry itself if it is not compressed, which is not looked into. 0;
 * TIERS_CORRUPT: these are not exactly the bytes of a compressed entry; TIERS_NO_MEMORY. */
int command_entry_decompress(struct command_decompressor *decompressor, const void *entry,
                             size_t bytes, const void **ret_entry, size_t *ret_bytes);

#endif
