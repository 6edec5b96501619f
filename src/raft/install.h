/* The last step of a state transfer, at the start of the node: the log follows the state. */
#ifndef TIERKV_RAFT_INSTALL_H
#define TIERKV_RAFT_INSTALL_H

#include "raft/manifest.h"

#include <uv.h>

/* Puts a snapshot of the manifest's index into the log in `directory`, which loses all its entries,
 * unless it has that index already. `data` (a few bytes, copied) becomes the snapshot's contents.
 * Before the log is opened; runs `loop`, which has no other handles yet. 0, or -1 with one sentence
 * in error_text. May be repeated. */
int install_log(uv_loop_t *loop, const char *directory, raft_id id, const char *address,
                const struct manifest *manifest, const void *data, size_t data_bytes,
                char *error_text, size_t error_text_size);

#endif
