/* What connections hold in memory, bounded: bodies on their way in, answers on their way out.
 *
 * libh2o waits without end for an HTTP/2 peer that opens no window for its answers or dribbles a
 * body, and gathers bodies whole. So each loop looks at all that its connections hold many times a
 * second. A connection that has something to move and moves next to nothing for the idle timeout is
 * cut; and if all together hold more than the loop's share of buffers_bytes_max, those that hold
 * the most. Large answers are refused before they are made when there is no room. Between two looks
 * a loop can take in what it reads meanwhile, and no more.
 *
 * All of it is the loop's thread's. */
#ifndef TIERKV_HTTP_BUFFERS_H
#define TIERKV_HTTP_BUFFERS_H

#include "http/loop.h"

/* Answers below need not be asked for. */
#define BUFFERS_LARGE_BYTES 4096

/* Whether there is room for a further answer of that size; an answer alone always has it. */
bool buffers_admit(struct loop *loop, size_t bytes);

/* Called each round. */
void buffers_check(struct loop *loop);

#endif
