/* For benchmarks and tests of programs that embed libtiers: how the engine behaves on a disk that
 * this machine does not have. */
#ifndef TIERS_TESTING_H
#define TIERS_TESTING_H

#include <stdint.h>

/* A disk with one head. It serves one request at a time, in the order in which they were started;
 * a request that does not begin where the one before it ended costs a seek, and so does a sync. */
struct tiers_disk_model {
    uint64_t seek_us;
    uint64_t bytes_per_second; /* 0: any number of bytes takes no time */
};

/* Every read, write and sync of cold segments, by all engines of the process together, completes no
 * earlier than it would on that one disk. The real work is done all the same, meanwhile, and no
 * thread waits that would not wait for the real disk. NULL takes the model away. No engine may be
 * open; the model is copied. */
void tiers_cold_model_set(const struct tiers_disk_model *model);

#endif
