/* `tierbench run`: mixed reads and writes straight on libtiers. */
#ifndef TIERKV_BENCH_RUN_H
#define TIERKV_BENCH_RUN_H

/* argv[0] is "run". Returns the program's exit code. */
int run_main(int argc, char **argv);

#endif
