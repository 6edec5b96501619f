/* Heat that came with a state from another node: a file beside the index, read once.
 *
 * Integers little-endian: "TKVHEAT" and a zero, u64 words, the words, u64 XXH3-64 of all before. It
 * is a hint: one that is damaged, or of a sketch of another size, is as good as none.
 */
#ifndef TIERS_HEAT_FILE_H
#define TIERS_HEAT_FILE_H

#include "heat.h"

#include <stdbool.h>

#define HEAT_FILE_NAME         "heat"
#define HEAT_FILE_HEADER_BYTES 16
#define HEAT_FILE_MAGIC        "TKVHEAT"

/* Takes over what the file in `directory` says, if there is one, and removes it. Mover's thread or
 * before there is one. True: it was taken. */
bool heat_file_take(const char *directory, struct heat *heat);

#endif
