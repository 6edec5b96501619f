/* Prints what `tierbench run` measured, as plain tables on stdout. */
#include "run_report.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_PER_MEBIBYTE 1048576.0

/* Resident memory in bytes: `field` of /proc/self/status, 0 if it is not there. */
static uint64_t resident_bytes(const char *field)
{
    char line[256];
    uint64_t kibibytes = 0;
    size_t length = strlen(field);
    FILE *status = fopen("/proc/self/status", "re");

    if (status == NULL)
        return 0;
    while (fgets(line, sizeof(line), status) != NULL) {
        if (strncmp(line, field, length) == 0 && line[length] == ':')
            kibibytes = strtoull(line + length + 1, NULL, 10);
    }
    fclose(status);
    return kibibytes * 1024;
}

static void report_latency(const char *name, const struct latency *latency, double seconds)
{
    printf("%-6s %12" PRIu64 " %12.0f", name, latency->count, (double)latency->count / seconds);
    static const double shares[] = {0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
        printf(" %10.1f", (double)latency_quantile_ns(latency, shares[i]) / 1000);
    printf(" %10.1f\n", (double)latency->max_ns / 1000);
}

void run_report(const struct latency latencies[RUN_CALLS], double seconds,
                const struct tiers_stats *before, const struct tiers_stats *after)
{
    static const char *const names[RUN_CALLS] = {"hot", "warm", "cold", "write"};
    uint64_t operations = 0, reads = 0;

    printf("%-6s %12s %12s %10s %10s %10s %10s %10s\n", "tier", "operations", "per second",
           "p50 us", "p90 us", "p99 us", "p99.9 us", "max us");
    for (size_t i = 0; i < RUN_CALLS; i++) {
        report_latency(names[i], &latencies[i], seconds);
        operations += latencies[i].count;
        reads += i < RUN_CALLS_READ ? latencies[i].count : 0;
    }
    printf("\noperations per second: %.0f\n", (double)operations / seconds);
    printf("reads answered by:     ");
    for (size_t i = 0; i < RUN_CALLS_READ; i++)
        printf("%s %.2f %%%s", names[i],
               reads > 0 ? 100 * (double)latencies[i].count / (double)reads : 0,
               i + 1 < RUN_CALLS_READ ? ", " : "\n");
    printf("moved while measuring: flushed %.1f MiB, demoted %.1f MiB, compacted %.1f MiB; "
           "%" PRIu64 " promoted to warm, %" PRIu64 " to hot, %" PRIu64 " evicted\n",
           (double)(after->flushed_bytes - before->flushed_bytes) / BYTES_PER_MEBIBYTE,
           (double)(after->demoted_bytes - before->demoted_bytes) / BYTES_PER_MEBIBYTE,
           (double)(after->compacted_bytes - before->compacted_bytes) / BYTES_PER_MEBIBYTE,
           after->promoted_warm_keys - before->promoted_warm_keys,
           after->promoted_hot_keys - before->promoted_hot_keys,
           after->evictions - before->evictions);
    printf("tiers:                 hot %.1f MiB with %" PRIu64
           " keys, warm %.1f MiB, cold %.1f MiB "
           "with %" PRIu64 " keys in %" PRIu64 " segments\n",
           (double)after->hot_bytes / BYTES_PER_MEBIBYTE, after->hot_keys,
           (double)after->warm_used_bytes / BYTES_PER_MEBIBYTE,
           (double)after->cold_bytes / BYTES_PER_MEBIBYTE, after->cold_keys, after->cold_segments);
    printf("resident memory:       %.1f MiB, and %.1f MiB of mapped files\n",
           (double)resident_bytes("RssAnon") / BYTES_PER_MEBIBYTE,
           (double)resident_bytes("RssFile") / BYTES_PER_MEBIBYTE);
}
