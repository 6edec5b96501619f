/* `tierbench simulate`: eviction policies on a trace, without the engine. */
#ifndef TIERKV_BENCH_SIMULATE_H
#define TIERKV_BENCH_SIMULATE_H

/* argv[0] is "simulate". Returns the program's exit code. */
int simulate_main(int argc, char **argv);

#endif
