/* How fast the cold tier appends and reads, to be held against fio on the same file system.
 *
 * Fills a folder with records, then reads random ones at a given depth, with nothing above the cold
 * tier in between. Prints one line each for the appends (synced every 8 MiB, as the mover does) and
 * the reads. The folder must exist; its segments are deleted at the end.
 *
 * Usage: cold_bench FOLDER [MIB] [VALUE_BYTES] [DEPTH] [SECONDS]
 */
#include "cold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define SYNC_BYTES    (8u << 20)
#define VALUE_MAX     (1u << 20)
#define SEGMENT_BYTES (256u << 20)
#define KEY_BYTES     16

struct bench {
    struct cold *cold;
    struct cold_location *locations;
    size_t n;
    uint64_t random;
    uint64_t done;
    uint64_t failed;
};

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void make_key(char key[KEY_BYTES + 1], size_t number)
{
    snprintf(key, KEY_BYTES + 1, "%016zx", number);
}

static int sync_now(struct cold *cold)
{
    struct cold_known touched[COLD_TOUCHED_MAX];
    size_t n = COLD_TOUCHED_MAX;
    return cold_sync(cold, touched, &n);
}

static int fill(struct bench *bench, size_t value_len)
{
    static unsigned char value[VALUE_MAX];
    struct tiers_meta meta = {0};
    uint64_t unsynced = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < value_len; i++)
        value[i] = (unsigned char)random_next(&bench->random);
    double begin = seconds(CLOCK_MONOTONIC);
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < bench->n; i++) {
        char key[KEY_BYTES + 1];
        make_key(key, i);
        memcpy(value, &i, value_len < sizeof i ? value_len : sizeof i);
        meta.mod_revision = i + 1;
        int status = cold_append(bench->cold, TIERS_SPACE_USER, key, KEY_BYTES, &meta, value,
                                 value_len, &bench->locations[i]);
        if (status != 0)
            return status;
        unsynced += bench->locations[i].bytes;
        total += bench->locations[i].bytes;
        if (unsynced < SYNC_BYTES && i + 1 < bench->n)
            continue;
        status = sync_now(bench->cold);
        if (status != 0)
            return status;
        unsynced = 0;
    }
    double elapsed = seconds(CLOCK_MONOTONIC) - begin;
    printf("append  %.1f MiB/s  (%.3f CPU s, %zu records)\n", (double)total / elapsed / (1u << 20),
           seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, bench->n);
    return 0;
}

static void read_done(void *owner, int status, const struct cold_item *item)
{
    struct bench *bench = owner;
    bench->done++;
    bench->failed += status != 0 || item == NULL;
}

static int read_random(struct bench *bench, struct cold_reader *reader, unsigned depth,
                       double duration)
{
    /* One key for each read that may be under way: it is borrowed until done. */
    char(*keys)[KEY_BYTES + 1] = calloc(bench->n, sizeof *keys);
    if (keys == NULL)
        return TIERS_NO_MEMORY;
    for (size_t i = 0; i < bench->n; i++)
        make_key(keys[i], i);
    uint64_t started = 0;
    int status = 0;
    double begin = seconds(CLOCK_MONOTONIC);
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    while (status == 0 && seconds(CLOCK_MONOTONIC) - begin < duration) {
        while (status == 0 && started - bench->done < depth) {
            size_t i = random_next(&bench->random) % bench->n;
            status = cold_reader_submit(reader, &bench->locations[i], TIERS_SPACE_USER, keys[i],
                                        KEY_BYTES, i + 1, read_done, bench);
            started++;
        }
        cold_reader_wait(reader);
    }
    double elapsed = seconds(CLOCK_MONOTONIC) - begin;
    printf("read    %.0f records/s at depth %u  (%.2f us CPU each, %llu failed)\n",
           (double)bench->done / elapsed, depth,
           (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) * 1e6 / (double)bench->done,
           (unsigned long long)bench->failed);
    while (cold_reader_wait(reader) > 0)
        ;
    free(keys);
    return status;
}

static unsigned long argument(int argc, char **argv, int i, unsigned long otherwise)
{
    return argc > i ? strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: cold_bench FOLDER [MIB] [VALUE_BYTES] [DEPTH] [SECONDS]\n");
        return 2;
    }
    size_t value_len = argument(argc, argv, 3, 1000);
    unsigned depth = (unsigned)argument(argc, argv, 4, 64);
    if (value_len == 0 || value_len > VALUE_MAX || depth == 0)
        return 2;
    struct bench bench = {.n = (argument(argc, argv, 2, 512) << 20) / (value_len + 96),
                          .random = 88172645463325252u};
    struct cold_options options = {.directory = argv[1],
                                   .segment_bytes = SEGMENT_BYTES,
                                   .direct_io = true,
                                   .read_depth = depth};
    char text[256] = "";
    struct cold_reader *reader = NULL;
    bench.locations = calloc(bench.n + 1, sizeof *bench.locations);
    int status = bench.locations == NULL ? TIERS_NO_MEMORY : 0;
    if (status == 0)
        status = cold_open(&options, NULL, 0, 1, &bench.cold, text, sizeof text);
    if (status == 0)
        status = fill(&bench, value_len);
    if (status == 0)
        status = cold_reader_open(bench.cold, -1, &reader);
    if (status == 0)
        status = read_random(&bench, reader, depth, (double)argument(argc, argv, 5, 4));
    if (status != 0)
        fprintf(stderr, "cold_bench: %s %s\n", tiers_strerror(status), text);
    if (reader != NULL)
        cold_reader_close(reader);
    for (size_t i = 0; bench.cold != NULL && i < bench.n; i++)
        cold_segment_delete(bench.cold, bench.locations[i].segment);
    if (bench.cold != NULL)
        cold_close(bench.cold);
    free(bench.locations);
    return status == 0 ? 0 : 1;
}
