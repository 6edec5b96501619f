/* tierbench: measures the tier engine without the server. The first argument names what to do. */
#include "run.h"
#include "simulate.h"

#include <stdio.h>
#include <string.h>

static void usage(FILE *out)
{
    fputs(
        "usage: tierbench COMMAND [OPTION]...\n"
        "\n"
        "  run       mixed reads and writes with Zipf keys straight on libtiers\n"
        "  simulate  miss ratios of the eviction policies on a trace\n"
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
