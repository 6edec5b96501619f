/* What must hold at each step, whatever breaks.
 *
 *   one leader a term
 *   log matching: logs that agree on the term at an index agree up to there
 *   leader completeness: a new leader has all that was ever committed
 *   a committed entry lies on the disks of a majority
 *   nodes apply the same entry at an index, and have the same state hash and revision after it
 *   an acknowledged write is in the entry that the answer named; a refused one is in none; none is
 *   in two
 *   a read returns what the state at the reader's index has
 *   a client that stays with a node never sees that go back, as long as the node runs
 *   the writes and the consistent reads of each key are linearizable
 *
 * A breach ends the process by sim_fail.
 */
#ifndef TIERKV_TESTS_SIM_CHECKS_H
#define TIERKV_TESTS_SIM_CHECKS_H

#include "lib/history.h"
#include "sim/sim_node.h"

#define SIM_KEYS_MAX   128
#define SIM_VALUES_MAX 65536 /* Numbers of values written in one story */

struct sim_checks;

struct sim_checks *sim_checks_new(struct sim_world *world);
void sim_checks_free(struct sim_checks *checks);

/* Watches the disk of a node; its driver is watched anyway. */
void sim_checks_watch_disk(struct sim_checks *checks, struct sim_node *node);

/* It has started, on what was durable: a state that all had at its index. */
void sim_checks_started(struct sim_checks *checks, const struct sim_node *node);

/* The highest index applied by anybody. */
uint64_t sim_checks_committed(const struct sim_checks *checks);

/* ---- Of clients ---- */

/* Keys are numbers; so are values, none of which is written twice; 0 is absence. */
#define SIM_KEY_BYTES 16
size_t sim_key_text(size_t key, char ret_text[SIM_KEY_BYTES]);

/* Was acknowledged under that log index / was refused: it is never to be applied. */
void sim_checks_acknowledged(struct sim_checks *checks, uint64_t value, uint64_t index);
void sim_checks_refused(struct sim_checks *checks, uint64_t value);
/* Reads the key on a node: the value is the one of its applied index. */
uint64_t sim_checks_read(struct sim_checks *checks, const struct sim_node *node, size_t key);

/* An operation of the history of one key, as history.h has it. */
void sim_checks_history(struct sim_checks *checks, size_t key, const struct history_op *op);
/* The story is over: judges the histories; running nodes have all that was ever committed. */
void sim_checks_end(struct sim_checks *checks);

#endif
