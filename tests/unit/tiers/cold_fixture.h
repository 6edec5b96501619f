/* What the tests of the cold tier share: records made from a seed, a cold tier in a folder of its
 * own, and a fault hook that counts operations. */
#ifndef TIERKV_TESTS_COLD_FIXTURE_H
#define TIERKV_TESTS_COLD_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cold.h"
#include "cold_header.h"
#include "lib/temp_folder.h"
#include "uring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- Random records ---- */

/* The seed of this run: TEST_SEED if set, else the time; printed. */
static inline uint64_t seed_take(void)
{
    const char *text = getenv("TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    print_message("seed: TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t random_next(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct sample {
    enum tiers_space space;
    unsigned char key[TIERS_KEY_BYTES_MAX];
    size_t key_len;
    struct tiers_meta meta;
    unsigned char *value;
    size_t value_len;
    struct cold_location location;
};

static inline void random_fill(uint64_t *random, unsigned char *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (unsigned char)random_next(random);
}

/* Every second sample compresses well. */
static inline void sample_make(struct sample *sample, uint64_t *random, size_t key_len,
                               size_t value_len)
{
    *sample = (struct sample){.key_len = key_len, .value_len = value_len};
    sample->space = random_next(random) % 4 == 0 ? TIERS_SPACE_SYSTEM : TIERS_SPACE_USER;
    random_fill(random, sample->key, key_len);
    sample->meta = (struct tiers_meta){
        .create_revision = random_next(random),
        .mod_revision = random_next(random),
        .version = random_next(random),
        .flags = random_next(random),
        .expires_ms = random_next(random),
    };
    sample->value = malloc(value_len + 1);
    assert_non_null(sample->value);
    if (random_next(random) % 2 == 0)
        random_fill(random, sample->value, value_len);
    else
        memset(sample->value, (int)random_next(random) & 0xff, value_len);
}

static inline size_t random_value_len(uint64_t *random)
{
    static const size_t limits[] = {2, 100, 4096, 70000, 300000};
    return random_next(random) % limits[random_next(random) % 5];
}

static inline struct sample *samples_make(size_t n, uint64_t *random)
{
    struct sample *samples = calloc(n, sizeof *samples);
    assert_non_null(samples);
    for (size_t i = 0; i < n; i++)
        sample_make(&samples[i], random, 1 + random_next(random) % TIERS_KEY_BYTES_MAX,
                    random_value_len(random));
    return samples;
}

static inline void samples_free(struct sample *samples, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(samples[i].value);
    free(samples);
}

/* Without assertions, for any thread. */
static inline bool sample_equals(const struct sample *sample, const struct cold_item *item)
{
    return item->space == sample->space && item->key_len == sample->key_len &&
           memcmp(item->key, sample->key, item->key_len) == 0 &&
           memcmp(&item->meta, &sample->meta, sizeof item->meta) == 0 &&
           item->value_len == sample->value_len &&
           memcmp(item->value, sample->value, item->value_len) == 0;
}

/* ---- A cold tier ---- */

#define KNOWN_MAX 1024

struct fixture {
    char folder[TEMP_FOLDER_PATH_BYTES];
    char text[512]; /* Error text of the last open */
    struct cold_options options;
    struct cold_known known[KNOWN_MAX]; /* What an index would know */
    size_t n_known;
    struct cold *cold;
    uint64_t random;
};

static inline int fixture_try_open(struct fixture *f)
{
    return cold_open(&f->options, f->known, f->n_known, 1, &f->cold, f->text, sizeof f->text);
}

static inline void fixture_close(struct fixture *f)
{
    if (f->cold != NULL)
        cold_close(f->cold);
    f->cold = NULL;
}

static inline void fixture_reopen(struct fixture *f)
{
    fixture_close(f);
    f->text[0] = '\0';
    int status = fixture_try_open(f);
    if (status != 0)
        fail_msg("cold_open: %s", f->text);
}

static inline int fixture_set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    temp_folder_make(f->folder);
    f->options = (struct cold_options){
        .directory = f->folder, .segment_bytes = 8u << 20, .direct_io = true, .read_depth = 32};
    f->random = seed_take();
    fixture_reopen(f);
    *state = f;
    return 0;
}

static inline int fixture_tear_down(void **state)
{
    struct fixture *f = *state;
    uring_faults_set(NULL);
    fixture_close(f);
    temp_folder_remove(f->folder);
    free(f);
    return 0;
}

static inline int try_append(struct fixture *f, struct sample *sample)
{
    return cold_append(f->cold, sample->space, sample->key, sample->key_len, &sample->meta,
                       sample->value, sample->value_len, &sample->location);
}

static inline void append(struct fixture *f, struct sample *sample)
{
    assert_int_equal(try_append(f, sample), 0);
}

/* Syncs and takes down, like an index, which segments grew. */
static inline void sync_all(struct fixture *f)
{
    struct cold_known touched[COLD_TOUCHED_MAX];
    size_t n = COLD_TOUCHED_MAX;
    assert_int_equal(cold_sync(f->cold, touched, &n), 0);
    for (size_t i = 0; i < n; i++) {
        size_t place = 0;
        while (place < f->n_known && f->known[place].id != touched[i].id)
            place++;
        assert_true(place < KNOWN_MAX);
        f->known[place] = touched[i];
        if (place == f->n_known)
            f->n_known++;
    }
}

static inline void segment_path(const struct fixture *f, uint64_t id, char path[1024])
{
    char name[COLD_NAME_BYTES];
    cold_name_print(id, name);
    snprintf(path, 1024, "%s/%s", f->folder, name);
}

static inline bool segment_exists(const struct fixture *f, uint64_t id)
{
    char path[1024];
    segment_path(f, id, path);
    return access(path, F_OK) == 0;
}

/* Changes one byte of a file by exclusive or. */
static inline void file_flip(const char *path, uint64_t offset, unsigned char bits)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* ---- Scanning ---- */

/* Calls `each` for the records of a segment until it answers something else than 0, or until
 * anything else but records is met; 0: the end was reached. */
static inline int segment_each(struct cold *cold, uint64_t id,
                               int (*each)(void *context, const struct cold_item *item),
                               void *context)
{
    struct cold_scan *scan = NULL;
    int status = cold_scan_open(cold, id, &scan);
    if (status != 0)
        return status;
    while (status == 0) {
        struct cold_item item;
        status = cold_scan_next(scan, &item);
        if (status == 0)
            status = each(context, &item);
    }
    cold_scan_close(scan);
    return status == TIERS_NOT_FOUND ? 0 : status;
}

struct scan {
    const struct sample *samples;
    size_t next;
    size_t wrong;
    int stop_at; /* Answer 77 at this item; -1: never */
};

static inline int scan_item(void *context, const struct cold_item *item)
{
    struct scan *scan = context;
    if (scan->stop_at == (int)scan->next)
        return 77;
    const struct sample *sample = &scan->samples[scan->next++];
    if (!sample_equals(sample, item) || item->location.segment != sample->location.segment ||
        item->location.offset != sample->location.offset ||
        item->location.bytes != sample->location.bytes)
        scan->wrong++;
    return 0;
}

/* ---- Files ---- */

static inline unsigned files_in(const char *folder)
{
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    unsigned n = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        n += entry->d_name[0] != '.';
    closedir(directory);
    return n;
}

/* The files have the sizes that the index knows, and there are no others. The one that is appended
 * to has room behind that. */
static inline void assert_known_sizes(const struct fixture *f)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < f->n_known; i++) {
        struct stat status;
        char path[1024];
        segment_path(f, f->known[i].id, path);
        assert_int_equal(stat(path, &status), 0);
        if (cold_segment_active(f->cold, f->known[i].id))
            assert_true((uint64_t)status.st_size >= f->known[i].bytes);
        else
            assert_int_equal(status.st_size, f->known[i].bytes);
        bytes += f->known[i].bytes;
    }
    assert_int_equal(files_in(f->folder), f->n_known);
    assert_int_equal(cold_segments(f->cold), f->n_known);
    assert_int_equal(cold_bytes(f->cold), bytes);
}

/* ---- Waiting for one read ---- */

struct answer {
    const struct sample *expected;
    int status; /* 1: none yet */
    bool equal;
};

static inline void answer_take(void *owner, int status, const struct cold_item *item)
{
    struct answer *answer = owner;
    answer->status = status;
    answer->equal = item != NULL && sample_equals(answer->expected, item);
}

static inline int submit(struct cold_reader *reader, const struct sample *sample,
                         struct answer *answer)
{
    *answer = (struct answer){.status = 1, .expected = sample};
    return cold_reader_submit(reader, &sample->location, sample->space, sample->key,
                              sample->key_len, sample->meta.mod_revision, answer_take, answer);
}

/* The status of a read of `sample`; 0 only if all of it is right. */
static inline int read_status(struct cold_reader *reader, const struct sample *sample)
{
    struct answer answer;
    int status = submit(reader, sample, &answer);
    if (status != 0)
        return status;
    while (answer.status == 1)
        (void)cold_reader_wait(reader);
    if (answer.status == 0 && !answer.equal)
        return 1;
    return answer.status;
}

static inline struct cold_reader *reader_open(struct fixture *f)
{
    struct cold_reader *reader = NULL;
    assert_int_equal(cold_reader_open(f->cold, -1, &reader), 0);
    return reader;
}

static inline void assert_readable(struct fixture *f, const struct sample *samples, size_t n)
{
    struct cold_reader *reader = reader_open(f);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(read_status(reader, &samples[i]), 0);
    cold_reader_close(reader);
}

/* Samples that are appended and synced. */
static inline struct sample *samples_store(struct fixture *f, size_t n)
{
    struct sample *samples = samples_make(n, &f->random);
    for (size_t i = 0; i < n; i++) {
        append(f, &samples[i]);
        if (i % 50 == 49)
            sync_all(f);
    }
    sync_all(f);
    return samples;
}

/* ---- Faults ---- */

/* From the `first`-th operation of `kind` on, `times` of them complete with `result`, or are cut to
 * `length` bytes. */
struct fault {
    struct uring_faults hook;
    enum uring_kind kind;
    unsigned first; /* From 1 */
    unsigned times;
    int result;      /* 0: cut instead */
    uint32_t length; /* 0: not cut */
    _Atomic unsigned seen;
    _Atomic unsigned unaligned; /* Operations that O_DIRECT would refuse */
};

static inline bool fault_before(void *context, const struct uring_op *op, uint32_t *length,
                                int *result)
{
    struct fault *fault = context;
    if (op->kind != fault->kind)
        return false;
    if (op->offset % COLD_BLOCK_BYTES != 0 || op->length % COLD_BLOCK_BYTES != 0 ||
        (uintptr_t)op->buffer % COLD_BLOCK_BYTES != 0)
        atomic_fetch_add(&fault->unaligned, 1);
    unsigned number = atomic_fetch_add(&fault->seen, 1) + 1;
    if (number < fault->first || number - fault->first >= fault->times)
        return false;
    if (fault->result == 0 && *length > fault->length && fault->length > 0)
        *length = fault->length;
    *result = fault->result;
    return fault->result != 0;
}

static inline void fault_set(struct fault *fault)
{
    fault->hook = (struct uring_faults){.context = fault, .before = fault_before};
    uring_faults_set(&fault->hook);
}

#endif
