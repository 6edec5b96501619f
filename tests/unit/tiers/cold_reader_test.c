/* Asynchronous reads of the cold tier, one thread: all of them answered, however deep the queue,
 * those that wait in order of place, and none that outlives its reader. */
#include "unit/tiers/cold_fixture.h"

#include "cold_files.h"

#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define N_SAMPLES 300
#define N_READS   1200

static void reads_at_full_depth_in_random_order_are_all_right(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, N_SAMPLES);
    struct cold_reader *reader = reader_open(f);
    struct answer *answers = calloc(N_READS, sizeof *answers);
    assert_non_null(answers);
    bool was_busy = false;
    for (size_t i = 0; i < N_READS; i++) {
        const struct sample *sample = &samples[random_next(&f->random) % N_SAMPLES];
        int status;
        while ((status = submit(reader, sample, &answers[i])) == TIERS_BUSY) {
            was_busy = true;
            assert_true(cold_reader_wait(reader) > 0);
        }
        assert_int_equal(status, 0);
    }
    while (cold_reader_wait(reader) > 0)
        ;
    assert_true(was_busy);
    for (size_t i = 0; i < N_READS; i++) {
        assert_int_equal(answers[i].status, 0);
        assert_true(answers[i].equal);
    }
    assert_int_equal(cold_reader_reap(reader), 0);
    cold_reader_close(reader);
    free(answers);
    samples_free(samples, N_SAMPLES);
}

static void beyond_the_depth_a_reader_is_busy(void **state)
{
    struct fixture *f = *state;
    f->options.read_depth = 2;
    fixture_reopen(f);
    struct sample *samples = samples_store(f, 3);
    struct cold_reader *reader = reader_open(f);
    struct answer answers[3];
    assert_int_equal(submit(reader, &samples[0], &answers[0]), 0);
    assert_int_equal(submit(reader, &samples[1], &answers[1]), 0);
    assert_int_equal(submit(reader, &samples[2], &answers[2]), TIERS_BUSY);
    while (cold_reader_wait(reader) > 0)
        ;
    assert_int_equal(submit(reader, &samples[2], &answers[2]), 0);
    assert_int_equal(cold_reader_wait(reader), 1);
    assert_true(answers[0].equal && answers[1].equal && answers[2].equal);
    cold_reader_close(reader);
    samples_free(samples, 3);
}

/* ---- Waiting ---- */

/* Sees the reads that reach the disk. */
struct watch {
    struct uring_faults hook;
    unsigned n;
    unsigned fail; /* The number of the read to fail, from 1; 0: none */
    uint64_t offsets[64];
    uint32_t lengths[64];
};

static bool watch_before(void *context, const struct uring_op *op, uint32_t *length, int *result)
{
    struct watch *watch = context;
    (void)length;
    if (op->kind != URING_READ)
        return false;
    if (watch->n < 64) {
        watch->offsets[watch->n] = op->offset;
        watch->lengths[watch->n] = op->length;
    }
    watch->n++;
    *result = -EIO;
    return watch->n == watch->fail;
}

static void watch_set(struct watch *watch)
{
    *watch = (struct watch){.hook = {.context = watch, .before = watch_before}};
    uring_faults_set(&watch->hook);
}

/* Records of a block or two each, so far apart that they are not read together. */
static struct sample *samples_store_apart(struct fixture *f, size_t n)
{
    struct sample *samples = calloc(n, sizeof *samples);
    assert_non_null(samples);
    for (size_t i = 0; i < n; i++) {
        struct sample filler;
        sample_make(&samples[i], &f->random, 8, 100);
        append(f, &samples[i]);
        sample_make(&filler, &f->random, 8, 60000);
        random_fill(&f->random, filler.value, filler.value_len);
        append(f, &filler);
        free(filler.value);
    }
    sync_all(f);
    return samples;
}

static void reads_beyond_the_depth_wait_and_go_in_order_of_place(void **state)
{
    struct fixture *f = *state;
    enum { N = 12 };
    f->options.read_depth = 1;
    f->options.read_queue = N - 1;
    fixture_reopen(f);
    struct sample *samples = samples_store_apart(f, N);
    struct cold_reader *reader = reader_open(f);
    struct answer answers[N];
    struct watch watch;
    watch_set(&watch);
    for (size_t i = 0; i < N; i++) /* 0, 5, 10, 3, ...: all of them, mixed */
        assert_int_equal(submit(reader, &samples[i * 5 % N], &answers[i]), 0);
    struct answer none;
    assert_int_equal(submit(reader, &samples[0], &none), TIERS_BUSY);
    while (cold_reader_wait(reader) > 0)
        ;
    uring_faults_set(NULL);
    assert_int_equal(watch.n, N);
    for (size_t i = 1; i < N; i++)
        assert_true(watch.offsets[i] > watch.offsets[i - 1]);
    for (size_t i = 0; i < N; i++)
        assert_true(answers[i].status == 0 && answers[i].equal);
    cold_reader_close(reader);
    samples_free(samples, N);
}

/* Reads of `n` neighbours that wait behind one read, at depth one. */
static void neighbours_read(struct cold_reader *reader, const struct sample *samples, size_t n,
                            struct answer *answers)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(submit(reader, &samples[i], &answers[i]), 0);
    while (cold_reader_wait(reader) > 0)
        ;
    uring_faults_set(NULL);
}

static void waiting_neighbours_are_one_read(void **state)
{
    struct fixture *f = *state;
    enum { N = 30 };
    f->options.read_depth = 1;
    f->options.read_queue = N;
    fixture_reopen(f);
    struct sample *samples = calloc(N, sizeof *samples);
    assert_non_null(samples);
    for (size_t i = 0; i < N; i++) {
        sample_make(&samples[i], &f->random, 8, 3000);
        random_fill(&f->random, samples[i].value, 3000);
        append(f, &samples[i]);
    }
    sync_all(f);
    struct cold_reader *reader = reader_open(f);
    struct answer answers[N];
    struct watch watch;
    watch_set(&watch);
    neighbours_read(reader, samples, N, answers);
    assert_int_equal(watch.n, 2);
    for (size_t i = 0; i < N; i++)
        assert_true(answers[i].status == 0 && answers[i].equal);

    /* If the disk refuses them together, each is tried alone: one bad place costs one record. */
    watch_set(&watch);
    watch.fail = 2;
    neighbours_read(reader, samples, N, answers);
    assert_int_equal(watch.n, 2 + N - 1);
    for (size_t i = 0; i < N; i++)
        assert_true(answers[i].status == 0 && answers[i].equal);
    cold_reader_close(reader);
    samples_free(samples, N);
}

static void reads_that_wait_are_stopped_by_closing(void **state)
{
    struct fixture *f = *state;
    f->options.read_depth = 1;
    f->options.read_queue = 3;
    fixture_reopen(f);
    struct sample *samples = samples_store_apart(f, 4);
    struct cold_reader *reader = reader_open(f);
    struct answer answers[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(submit(reader, &samples[i], &answers[i]), 0);
    cold_reader_close(reader);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(answers[i].status, TIERS_STOPPED);
    /* Their segments were let go. */
    cold_segment_delete(f->cold, samples[0].location.segment);
    samples_free(samples, 4);
}

static void the_bytes_under_way_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct sample sample;
    sample_make(&sample, &f->random, 5, TIERS_VALUE_BYTES_MAX);
    random_fill(&f->random, sample.value, sample.value_len);
    append(f, &sample);
    sync_all(f);
    struct cold_reader *reader = reader_open(f);
    struct answer answers[5];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(submit(reader, &sample, &answers[i]), 0);
    assert_int_equal(submit(reader, &sample, &answers[3]), TIERS_BUSY);
    while (cold_reader_wait(reader) > 0)
        ;
    for (size_t i = 0; i < 3; i++)
        assert_true(answers[i].equal);
    assert_int_equal(read_status(reader, &sample), 0);
    cold_reader_close(reader);
    free(sample.value);
}

static void completion_makes_the_eventfd_readable(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, 1);
    struct cold_reader *reader = NULL;
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(event_fd >= 0);
    assert_int_equal(cold_reader_open(f->cold, event_fd, &reader), 0);
    struct answer answer;
    assert_int_equal(submit(reader, &samples[0], &answer), 0);
    while (answer.status == 1) {
        struct pollfd poll_fd = {.fd = event_fd, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        uint64_t signals;
        assert_int_equal(read(event_fd, &signals, sizeof signals), sizeof signals);
        (void)cold_reader_reap(reader);
    }
    assert_true(answer.equal);
    cold_reader_close(reader);
    close(event_fd);
    samples_free(samples, 1);
}

struct chain {
    struct cold_reader *reader;
    const struct sample *samples;
    size_t next;
    size_t right;
};

static void chain_next(void *owner, int status, const struct cold_item *item)
{
    struct chain *chain = owner;
    if (status == 0 && sample_equals(&chain->samples[chain->next], item))
        chain->right++;
    if (++chain->next == N_SAMPLES)
        return;
    const struct sample *sample = &chain->samples[chain->next];
    if (cold_reader_submit(chain->reader, &sample->location, sample->space, sample->key,
                           sample->key_len, sample->meta.mod_revision, chain_next, chain) != 0)
        chain->next = N_SAMPLES;
}

static void a_completion_may_start_the_next_read_even_at_depth_one(void **state)
{
    struct fixture *f = *state;
    f->options.read_depth = 1;
    fixture_reopen(f);
    struct sample *samples = samples_store(f, N_SAMPLES);
    struct chain chain = {.reader = reader_open(f), .samples = samples};
    assert_int_equal(cold_reader_submit(chain.reader, &samples[0].location, samples[0].space,
                                        samples[0].key, samples[0].key_len,
                                        samples[0].meta.mod_revision, chain_next, &chain),
                     0);
    while (cold_reader_wait(chain.reader) > 0)
        ;
    assert_int_equal(chain.right, N_SAMPLES);
    cold_reader_close(chain.reader);
    samples_free(samples, N_SAMPLES);
}

/* ---- Deleting and closing ---- */

static void a_read_under_way_outlives_the_deletion_of_its_segment(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, 1);
    struct cold_reader *reader = reader_open(f);
    struct answer answer;
    assert_int_equal(submit(reader, &samples[0], &answer), 0);
    cold_segment_delete(f->cold, samples[0].location.segment);
    assert_false(segment_exists(f, samples[0].location.segment));
    while (cold_reader_wait(reader) > 0)
        ;
    assert_int_equal(answer.status, 0);
    assert_true(answer.equal);
    assert_int_equal(submit(reader, &samples[0], &answer), TIERS_STALE);
    cold_reader_close(reader);
    samples_free(samples, 1);
}

/* Descriptors of this process that lead to files without a name. */
static unsigned deleted_open(const struct fixture *f)
{
    unsigned n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char path[64];
        char target[PATH_MAX] = {0};
        snprintf(path, sizeof path, "/proc/self/fd/%.20s", entry->d_name);
        if (readlink(path, target, sizeof target - 1) > 0)
            n += strncmp(target, f->folder, strlen(f->folder)) == 0 &&
                 strstr(target, "(deleted)") != NULL;
    }
    closedir(folder);
    return n;
}

/* It might have to wait for the disk. */
static void what_a_reader_had_of_a_deleted_segment_is_given_back_by_the_mover(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, 1);
    struct cold_reader *reader = reader_open(f);
    struct answer answer;
    assert_int_equal(submit(reader, &samples[0], &answer), 0);
    cold_segment_delete(f->cold, samples[0].location.segment);
    assert_int_equal(deleted_open(f), 1);
    cold_sweep(f->cold);
    while (cold_reader_wait(reader) > 0)
        ;
    assert_true(answer.equal);
    cold_reader_close(reader);
    assert_int_equal(deleted_open(f), 1);
    cold_sweep(f->cold);
    assert_int_equal(deleted_open(f), 0);
    samples_free(samples, 1);
}

static void closing_answers_reads_under_way_with_stopped(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, 10);
    struct cold_reader *reader = reader_open(f);
    struct answer answers[10];
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(submit(reader, &samples[i], &answers[i]), 0);
    cold_reader_close(reader);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(answers[i].status, TIERS_STOPPED);
    samples_free(samples, 10);
}

static unsigned descriptors_open(void)
{
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    unsigned n = 0;
    while (readdir(directory) != NULL)
        n++;
    closedir(directory);
    return n;
}

static void open_descriptors_are_bounded(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 1;
    fixture_reopen(f);
    enum { N = COLD_DESCRIPTORS_MAX + 60 };
    struct sample *samples = calloc(N, sizeof *samples);
    assert_non_null(samples);
    for (size_t i = 0; i < N; i++) {
        sample_make(&samples[i], &f->random, 10, 100);
        append(f, &samples[i]);
        if (i % COLD_TOUCHED_MAX == COLD_TOUCHED_MAX - 1)
            sync_all(f);
    }
    sync_all(f);
    struct cold_reader *reader = reader_open(f);
    unsigned before = descriptors_open();
    for (size_t i = 0; i < (size_t)3 * N; i++)
        assert_int_equal(read_status(reader, &samples[random_next(&f->random) % N]), 0);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(read_status(reader, &samples[i]), 0);
    assert_int_equal(descriptors_open(), before + COLD_DESCRIPTORS_MAX);
    cold_reader_close(reader);
    samples_free(samples, N);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(reads_at_full_depth_in_random_order_are_all_right),
        TEST(beyond_the_depth_a_reader_is_busy),
        TEST(the_bytes_under_way_are_bounded),
        TEST(reads_beyond_the_depth_wait_and_go_in_order_of_place),
        TEST(waiting_neighbours_are_one_read),
        TEST(reads_that_wait_are_stopped_by_closing),
        TEST(completion_makes_the_eventfd_readable),
        TEST(a_completion_may_start_the_next_read_even_at_depth_one),
        TEST(a_read_under_way_outlives_the_deletion_of_its_segment),
        TEST(what_a_reader_had_of_a_deleted_segment_is_given_back_by_the_mover),
        TEST(closing_answers_reads_under_way_with_stopped),
        TEST(open_descriptors_are_bounded),
    };
    return cmocka_run_group_tests_name("cold_reader", tests, NULL, NULL);
}
