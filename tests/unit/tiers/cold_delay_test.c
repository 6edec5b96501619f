/* The cold tier on a disk that answers late and in any order: all answers are right, the bounds
 * hold, a sync covers what was written, and nothing is left under way at a close. */
#include "unit/tiers/cold_fixture.h"

#include "cold_internal.h"
#include "disk_delay.h"

#include <sys/mman.h>

#define N_SAMPLES 200
#define N_READS   400
#define DEPTH     8
#define QUEUE     24
#define MAX_US    300

struct slow {
    struct fixture *f;
    struct disk_delay *delay;
};

static int set_up(void **state)
{
    struct slow *slow = calloc(1, sizeof *slow);
    void *fixture = NULL;
    assert_non_null(slow);
    (void)fixture_set_up(&fixture);
    slow->f = fixture;
    slow->f->options.read_depth = DEPTH;
    slow->f->options.read_queue = QUEUE;
    slow->f->options.segment_bytes = 1u << 20;
    slow->delay = disk_delay_new(random_next(&slow->f->random), MAX_US);
    fixture_reopen(slow->f);
    *state = slow;
    return 0;
}

static int tear_down(void **state)
{
    struct slow *slow = *state;
    fixture_close(slow->f);
    assert_int_equal(slow->delay->n, 0);
    disk_delay_free(slow->delay);
    void *fixture = slow->f;
    (void)fixture_tear_down(&fixture);
    free(slow);
    return 0;
}

static void count_done(struct uring_op *op)
{
    (*(unsigned *)op->owner)++;
}

/* The layer itself: `op->owner` tells who came first. */
static void held_operations_complete_in_the_order_of_their_release(void **state)
{
    struct slow *slow = *state;
    struct uring *ring = NULL;
    char path[1024];
    char bytes[4] = "abcd";
    struct uring_op ops[4];
    unsigned done[4] = {0};
    snprintf(path, sizeof path, "%s/file", slow->f->folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(uring_open(4, -1, &ring, slow->f->text, sizeof slow->f->text), 0);
    disk_delay_hold(slow->delay, DISK_DELAY_ALL);
    for (unsigned i = 0; i < 4; i++) {
        ops[i] = (struct uring_op){.kind = URING_WRITE,
                                   .fd = fd,
                                   .buffer = &bytes[i],
                                   .length = 1,
                                   .offset = i,
                                   .done = count_done,
                                   .owner = &done[i]};
        uring_submit(ring, &ops[i]);
    }
    for (unsigned left = 4; left > 0; left--) {
        assert_int_equal(uring_reap(ring), 0);
        disk_delay_release(slow->delay, left - 1);
        assert_int_equal(uring_wait(ring), 1);
        assert_int_equal(done[left - 1], 1);
        assert_int_equal(ops[left - 1].result, 1);
        assert_int_equal(slow->delay->n, left - 1);
    }
    assert_int_equal(slow->delay->overtaken, 3);
    assert_int_equal(pread(fd, bytes, 4, 0), 4);
    assert_memory_equal(bytes, "abcd", 4);
    assert_true(uring_close(ring));
    close(fd);
    assert_int_equal(unlink(path), 0);
}

static void reads_that_complete_in_any_order_are_all_right(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    struct sample *samples = samples_store(f, N_SAMPLES);
    struct cold_reader *reader = reader_open(f);
    struct answer *answers = calloc(N_READS, sizeof *answers);
    assert_non_null(answers);
    for (size_t i = 0; i < N_READS; i++) {
        const struct sample *sample = &samples[random_next(&f->random) % N_SAMPLES];
        int status;
        while ((status = submit(reader, sample, &answers[i])) == TIERS_BUSY)
            assert_true(cold_reader_wait(reader) > 0);
        assert_int_equal(status, 0);
    }
    while (cold_reader_wait(reader) > 0)
        ;
    print_message("%u operations were overtaken, %u reads together\n", slow->delay->overtaken,
                  slow->delay->n_kinds_max[URING_READ]);
    for (size_t i = 0; i < N_READS; i++)
        assert_true(answers[i].status == 0 && answers[i].equal);
    assert_true(slow->delay->overtaken > 0);
    assert_in_range(slow->delay->n_kinds_max[URING_READ], 2, DEPTH);
    cold_reader_close(reader);
    free(answers);
    samples_free(samples, N_SAMPLES);
}

/* The requests that were answered, all of them rightly. */
static size_t answered(const struct answer *answers, size_t n)
{
    size_t n_answered = 0;
    for (size_t i = 0; i < n; i++) {
        if (answers[i].status == 1)
            continue;
        assert_true(answers[i].status == 0 && answers[i].equal);
        n_answered++;
    }
    return n_answered;
}

static void reads_wait_within_their_bound_while_the_disk_holds_all_back(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    struct sample *samples = samples_store(f, N_SAMPLES);
    struct cold_reader *reader = reader_open(f);
    struct answer answers[DEPTH + QUEUE];
    struct answer none;
    disk_delay_hold(slow->delay, DISK_DELAY_ALL);
    slow->delay->n_kinds_max[URING_READ] = 0;
    for (size_t i = 0; i < DEPTH + QUEUE; i++)
        assert_int_equal(submit(reader, &samples[i * 37 % N_SAMPLES], &answers[i]), 0);
    assert_int_equal(submit(reader, &samples[0], &none), TIERS_BUSY);
    assert_int_equal(cold_reader_reap(reader), 0);
    while (answered(answers, DEPTH + QUEUE) < DEPTH + QUEUE) {
        unsigned n = disk_delay_under_way(slow->delay);
        assert_in_range(n, 1, DEPTH);
        disk_delay_release_any(slow->delay);
        assert_true(cold_reader_wait(reader) > 0);
    }
    assert_int_equal(slow->delay->n_kinds_max[URING_READ], DEPTH);
    disk_delay_hold(slow->delay, DISK_DELAY_NONE);
    assert_int_equal(read_status(reader, &samples[0]), 0);
    cold_reader_close(reader);
    samples_free(samples, N_SAMPLES);
}

static void a_reader_closes_with_reads_at_the_disk(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    struct sample *samples = samples_store(f, N_SAMPLES);
    for (size_t n = 1; n <= DEPTH + QUEUE; n += 5) {
        struct cold_reader *reader = reader_open(f);
        struct answer answers[DEPTH + QUEUE];
        for (size_t i = 0; i < n; i++)
            assert_int_equal(submit(reader, &samples[i * 37 % N_SAMPLES], &answers[i]), 0);
        cold_reader_close(reader);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(answers[i].status, TIERS_STOPPED);
        assert_int_equal(slow->delay->n, 0);
    }
    samples_free(samples, N_SAMPLES);
}

/* Of 300 kB each, while the disk completes nothing. */
static struct sample *samples_append_held(struct slow *slow, size_t n)
{
    struct fixture *f = slow->f;
    struct sample *samples = calloc(n, sizeof *samples);
    assert_non_null(samples);
    disk_delay_hold(slow->delay, DISK_DELAY_ALL);
    for (size_t i = 0; i < n; i++) {
        sample_make(&samples[i], &f->random, 20, 300000);
        random_fill(&f->random, samples[i].value, samples[i].value_len);
        append(f, &samples[i]);
    }
    return samples;
}

/* Three buffers' worth, none of which waits for another. */
static void a_sync_waits_for_all_that_was_written_before_it(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    enum { N = 11 };
    f->options.segment_bytes = 8u << 20;
    fixture_reopen(f);
    struct sample *samples = samples_append_held(slow, N);
    assert_int_equal(slow->delay->n_kinds[URING_WRITE], 3);
    disk_delay_release_all(slow->delay);
    sync_all(f);
    assert_int_equal(slow->delay->syncs_too_early, 0);
    assert_int_equal(slow->delay->n, 0);
    assert_known_sizes(f);
    fixture_reopen(f);
    assert_known_sizes(f);
    assert_readable(f, samples, N);
    samples_free(samples, N);
}

/* Else the file system does them one after the other. */
static void no_write_makes_its_file_longer(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    enum { N = 11 };
    struct stat status;
    char path[1024];
    f->options.segment_bytes = 8u << 20;
    fixture_reopen(f);
    struct sample *samples = samples_append_held(slow, N);
    assert_int_equal(slow->delay->n_kinds[URING_WRITE], 3);
    segment_path(f, samples[0].location.segment, path);
    assert_int_equal(stat(path, &status), 0);
    disk_delay_release_all(slow->delay);
    assert_int_equal(status.st_size, f->options.segment_bytes);
    samples_free(samples, N);
}

/* And none of them is passed over, though they come in any order. */
static void a_scan_has_two_reads_ahead_at_the_disk(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    enum { N = 40 };
    struct cold_scan *scan = NULL;
    struct cold_item item;
    f->options.segment_bytes = 16u << 20;
    fixture_reopen(f);
    struct sample *samples = samples_append_held(slow, N);
    disk_delay_release_all(slow->delay);
    sync_all(f);
    fixture_reopen(f);
    slow->delay->n_kinds_max[URING_READ] = 0;
    assert_int_equal(cold_scan_open(f->cold, samples[0].location.segment, &scan), 0);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(cold_scan_next(scan, &item), 0);
        assert_int_equal(item.value_len, samples[i].value_len);
        assert_memory_equal(item.value, samples[i].value, item.value_len);
    }
    assert_int_equal(cold_scan_next(scan, &item), TIERS_NOT_FOUND);
    assert_int_equal(slow->delay->n_kinds_max[URING_READ], COLD_SCAN_READS_AHEAD);
    cold_scan_close(scan);
    samples_free(samples, N);
}

/* Of the buffers' memory, pages that are in use. */
static size_t buffer_pages(const struct fixture *f)
{
    unsigned char resident[COLD_BUFFERS * COLD_BUFFER_BYTES / COLD_BLOCK_BYTES];
    size_t n = 0;
    assert_int_equal(sysconf(_SC_PAGESIZE), COLD_BLOCK_BYTES);
    assert_int_equal(mincore(f->cold->memory, COLD_BUFFERS * COLD_BUFFER_BYTES, resident), 0);
    for (size_t i = 0; i < sizeof resident; i++)
        n += resident[i] & 1;
    return n;
}

static void what_a_hurry_takes_in_memory_is_given_back(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    enum { N = 36, BUFFERS = 10, TURNS = 3 };
    size_t kept = COLD_BUFFERS_KEPT * COLD_BUFFER_BYTES / COLD_BLOCK_BYTES;
    struct sample *samples[TURNS];
    f->options.segment_bytes = 64u << 20;
    fixture_reopen(f);
    for (size_t turn = 0; turn < TURNS; turn++) {
        samples[turn] = samples_append_held(slow, N);
        assert_int_equal(slow->delay->n_kinds[URING_WRITE], BUFFERS);
        assert_in_range(buffer_pages(f), BUFFERS * COLD_BUFFER_BYTES / COLD_BLOCK_BYTES, SIZE_MAX);
        disk_delay_release_all(slow->delay);
        cold_rest(f->cold); /* There is something left to write: no effect */
        assert_in_range(buffer_pages(f), kept + 1, SIZE_MAX);
        sync_all(f);
        cold_rest(f->cold);
        assert_in_range(buffer_pages(f), 0, kept);
    }
    for (size_t turn = 0; turn < TURNS; turn++) {
        assert_readable(f, samples[turn], N);
        samples_free(samples[turn], N);
    }
}

static void a_hurry_that_was_given_up_leaves_no_memory_behind(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    enum { N = 37 };
    size_t kept = COLD_BUFFERS_KEPT * COLD_BUFFER_BYTES / COLD_BLOCK_BYTES;
    f->options.segment_bytes = 64u << 20;
    fixture_reopen(f);
    samples_free(samples_append_held(slow, N), N);
    disk_delay_release_all(slow->delay);
    cold_abandon(f->cold);
    cold_rest(f->cold);
    assert_in_range(buffer_pages(f), 0, kept);
    samples_free(samples_store(f, N), N);
}

/* The failure of one write comes before or after the success of its neighbours. */
static void a_write_that_fails_late_voids_its_batch_and_no_other(void **state)
{
    struct slow *slow = *state;
    struct fixture *f = slow->f;
    struct sample *kept = samples_store(f, N_SAMPLES);
    for (unsigned nth = 1; nth <= 6; nth++) {
        struct fault fault = {.hook = {.context = &fault, .before = fault_before},
                              .kind = URING_WRITE,
                              .first = nth,
                              .times = 1,
                              .result = -ENOSPC};
        struct sample lost;
        struct cold_known touched[COLD_TOUCHED_MAX];
        size_t n = COLD_TOUCHED_MAX;
        int status = 0;
        slow->delay->inner = &fault.hook;
        while (status == 0) {
            sample_make(&lost, &f->random, 20, 300000);
            random_fill(&f->random, lost.value, lost.value_len);
            status = try_append(f, &lost);
            free(lost.value);
        }
        assert_int_equal(status, TIERS_NO_SPACE);
        assert_int_equal(cold_sync(f->cold, touched, &n), TIERS_NO_SPACE);
        cold_abandon(f->cold);
        slow->delay->inner = NULL;
        assert_int_equal(slow->delay->n, 0);
        assert_known_sizes(f);
        struct sample more;
        sample_make(&more, &f->random, 20, 1000);
        append(f, &more);
        sync_all(f);
        assert_readable(f, &more, 1);
        free(more.value);
    }
    assert_readable(f, kept, N_SAMPLES);
    samples_free(kept, N_SAMPLES);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(held_operations_complete_in_the_order_of_their_release),
        TEST(reads_that_complete_in_any_order_are_all_right),
        TEST(reads_wait_within_their_bound_while_the_disk_holds_all_back),
        TEST(a_reader_closes_with_reads_at_the_disk),
        TEST(a_sync_waits_for_all_that_was_written_before_it),
        TEST(no_write_makes_its_file_longer),
        TEST(a_scan_has_two_reads_ahead_at_the_disk),
        TEST(what_a_hurry_takes_in_memory_is_given_back),
        TEST(a_hurry_that_was_given_up_leaves_no_memory_behind),
        TEST(a_write_that_fails_late_voids_its_batch_and_no_other),
    };
    return cmocka_run_group_tests_name("cold_delay", tests, NULL, NULL);
}
