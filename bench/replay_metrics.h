/* Which tier answered the reads of a node, from its /metrics. */
#ifndef TIERKV_BENCH_REPLAY_METRICS_H
#define TIERKV_BENCH_REPLAY_METRICS_H

#include <stdint.h>

struct replay_hits {
    uint64_t hot, warm, cold, misses; /* Reads since the node started */
    uint64_t flushed_bytes, demoted_bytes, compacted_bytes;
};

/* Asks the node at "host:port" and adds to *hits. 0 or -1: no answer. Blocks for at most timeout_ms
 * and the time to connect. */
int replay_metrics_add(const char *address, unsigned timeout_ms, struct replay_hits *hits);

/* Reads what a node says into *ret_hits; 0 for what is not there. */
void replay_metrics_parse(const char *text, struct replay_hits *ret_hits);

#endif
