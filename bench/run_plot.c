/* The chart of `tierbench run`: two panels over time, a curve for each policy. */
#include "plot.h"
#include "run_report.h"

static void write_panel(const struct run_report *report, FILE *script, struct plot *plot,
                        const char *title, int column)
{
    fprintf(script, "set ylabel '%s'\nplot", title);
    for (size_t r = 0; r < report->n_results; r++) {
        fprintf(script, "%s $policy%zu using 1:%d with lines linewidth 2 title ", r == 0 ? "" : ",",
                r, column);
        plot_text(plot, report->results[r]->policy);
    }
    fputc('\n', script);
}

int run_report_plot(const struct run_report *report, const char *path)
{
    struct plot *plot = plot_open(path);
    char text[512];

    if (plot == NULL)
        return -1;
    FILE *script = plot_script(plot);
    for (size_t r = 0; r < report->n_results; r++) {
        const struct run_result *result = report->results[r];
        fprintf(script, "$policy%zu << END\n", r);
        for (size_t i = 1; i < result->n_samples; i++) {
            struct run_rates rates;
            run_series_rates(&result->samples[i - 1], &result->samples[i], &rates);
            fprintf(script, "%.3f %.4f %.4f\n", rates.seconds, rates.share_hot * 100,
                    rates.share_cold * 100);
        }
        fputs("END\n", script);
    }
    source_describe(report->source, &report->options->source, text, sizeof(text));
    fputs("set multiplot layout 2,1 title ", script);
    plot_text(plot, text);
    fputs(" noenhanced\nset xlabel 'seconds'\nset grid\nset key outside right top noenhanced\n",
          script);
    write_panel(report, script, plot, "% of reads answered by hot", 2);
    write_panel(report, script, plot, "% of reads answered by cold", 3);
    fputs("unset multiplot\n", script);
    return plot_close(plot);
}
