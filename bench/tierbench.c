/* tierbench: measures eviction policies, the tier engine, and a running cluster. The first argument
 * names what to do. */
#include "replay.h"
#include "run.h"
#include "simulate.h"

#include <stdio.h>
#include <string.h>

static void usage(FILE *out)
{
    fputs(
        "usage: tierbench COMMAND [OPTION]...\n"
        "\n"
        "  simulate  miss ratios of the eviction policies on a trace\n"
        "  run       the tier engine on real folders: reads and writes by Zipf's law or a trace\n"
        "  replay    the same through a running cluster, over HTTP/2\n"
        "\n"
        "`tierbench COMMAND --help` tells the options. `tierbench --version` tells the version.\n",
        out);
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "run") == 0)
        return run_main(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "simulate") == 0)
        return simulate_main(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "replay") == 0)
        return replay_main(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        puts("tierbench " TIERKV_VERSION);
        return 0;
    }
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        usage(stdout);
        return 0;
    }
    usage(stderr);
    return 2;
}
