/* Draws a chart by the program gnuplot, which the caller's script tells what to draw. */
#ifndef TIERKV_BENCH_PLOT_H
#define TIERKV_BENCH_PLOT_H

#include <stdio.h>

struct plot;

/* Whether plot_open knows how to draw such a file, by its name. 0, or -1: told on stderr. */
int plot_check(const char *path);

/* Starts gnuplot, set up to write `path`, an SVG or PNG file by its ending (taken from the name).
 * NULL: told on stderr in one line. */
struct plot *plot_open(const char *path);

/* Where the script goes; text in it is quoted by plot_text. */
FILE *plot_script(struct plot *plot);

/* Writes the text as a quoted string of gnuplot, its markup switched off. */
void plot_text(struct plot *plot, const char *text);

/* Waits until the chart is drawn. 0, or -1: told on stderr in one line, no chart. */
int plot_close(struct plot *plot);

#endif
