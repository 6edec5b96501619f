/* `tierbench replay`: the load of `tierbench run` against a running cluster. */
#ifndef TIERKV_BENCH_REPLAY_H
#define TIERKV_BENCH_REPLAY_H

/* argv[0] is "replay". Returns the program's exit code. */
int replay_main(int argc, char **argv);

#endif
