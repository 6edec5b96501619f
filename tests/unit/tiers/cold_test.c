/* The cold tier's writing side: what a sync promised survives reopening, failed writes and
 * abandoned batches; what it did not promise leaves no trace. */
#include "unit/tiers/cold_fixture.h"

#include "little_endian.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <xxhash.h>

#define N_SAMPLES 200
#define N_LOST    40

static void records_survive_reopening_where_their_locations_say(void **state)
{
    struct fixture *f = *state;
    for (int direct = 0; direct < 2; direct++) {
        f->options.direct_io = direct;
        fixture_reopen(f);
        struct sample *samples = samples_make(N_SAMPLES, &f->random);
        for (size_t i = 0; i < N_SAMPLES; i++) {
            append(f, &samples[i]);
            if (random_next(&f->random) % 20 == 0)
                sync_all(f);
        }
        sync_all(f);
        assert_readable(f, samples, N_SAMPLES);
        fixture_reopen(f);
        assert_readable(f, samples, N_SAMPLES);
        samples_free(samples, N_SAMPLES);
    }
}

static void records_at_the_limits_survive(void **state)
{
    struct fixture *f = *state;
    static const size_t lengths[][2] = {
        {1, 0}, {1, 1}, {TIERS_KEY_BYTES_MAX, 3}, {TIERS_KEY_BYTES_MAX, TIERS_VALUE_BYTES_MAX}};
    struct sample samples[4];
    for (size_t i = 0; i < 4; i++) {
        sample_make(&samples[i], &f->random, lengths[i][0], lengths[i][1]);
        random_fill(&f->random, samples[i].value, samples[i].value_len);
        append(f, &samples[i]);
    }
    sync_all(f);
    assert_readable(f, samples, 4);
    for (size_t i = 0; i < 4; i++)
        free(samples[i].value);
}

static void sizes_out_of_range_are_refused(void **state)
{
    struct fixture *f = *state;
    struct tiers_meta meta = {0};
    struct cold_location location;
    char key[TIERS_KEY_BYTES_MAX + 1] = {0};
    assert_int_equal(cold_append(f->cold, TIERS_SPACE_USER, key, 0, &meta, "", 0, &location),
                     TIERS_INVALID);
    assert_int_equal(
        cold_append(f->cold, TIERS_SPACE_USER, key, sizeof key, &meta, "", 0, &location),
        TIERS_INVALID);
    assert_int_equal(cold_append(f->cold, TIERS_SPACE_USER, key, 1, &meta, "",
                                 TIERS_VALUE_BYTES_MAX + 1, &location),
                     TIERS_INVALID);
    assert_int_equal(cold_segments(f->cold), 0);
}

/* ---- Scanning ---- */

struct scan {
    const struct sample *samples;
    size_t next;
    size_t wrong;
    int stop_at; /* Answer 77 at this item; -1: never */
};

static int scan_item(void *context, const struct cold_item *item)
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

/* Random samples of which one is larger than the window of a scan. */
static struct sample *samples_with_a_large_one(struct fixture *f)
{
    struct sample *samples = samples_make(N_SAMPLES, &f->random);
    struct sample *large = &samples[N_SAMPLES / 2];
    free(large->value);
    sample_make(large, &f->random, 100, 5u << 20);
    random_fill(&f->random, large->value, large->value_len);
    return samples;
}

static void a_scan_gives_what_was_appended_in_order(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_with_a_large_one(f);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        append(f, &samples[i]);
        if (i == 0 || random_next(&f->random) % 10 == 0)
            sync_all(f);
    }
    sync_all(f);
    fixture_reopen(f);

    struct scan scan = {.samples = samples, .stop_at = -1};
    for (size_t i = 0; i < f->n_known; i++)
        assert_int_equal(cold_segment_each(f->cold, f->known[i].id, scan_item, &scan), 0);
    assert_int_equal(scan.next, N_SAMPLES);
    assert_int_equal(scan.wrong, 0);
    samples_free(samples, N_SAMPLES);
}

static void a_scan_survives_short_and_interrupted_reads(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_with_a_large_one(f);
    for (size_t i = 0; i < N_SAMPLES; i++)
        append(f, &samples[i]);
    sync_all(f);
    fixture_reopen(f);

    struct fault faults[] = {
        {.kind = URING_READ, .first = 1, .times = 10, .length = 5000},
        {.kind = URING_READ, .first = 1, .times = 10, .result = -EINTR},
        {.kind = URING_READ, .first = 1, .times = 1, .result = -EINVAL},
    };
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        fault_set(&faults[k]);
        struct scan scan = {.samples = samples, .stop_at = -1};
        for (size_t i = 0; i < f->n_known; i++)
            assert_int_equal(cold_segment_each(f->cold, f->known[i].id, scan_item, &scan), 0);
        assert_int_equal(scan.next, N_SAMPLES);
        assert_int_equal(scan.wrong, 0);
        assert_true(faults[k].seen > faults[k].times);
        assert_int_equal(faults[k].unaligned, 0);
    }
    samples_free(samples, N_SAMPLES);
}

static void a_scan_stops_when_it_is_told_to(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(3, &f->random);
    for (size_t i = 0; i < 3; i++)
        append(f, &samples[i]);
    sync_all(f);
    fixture_reopen(f);
    struct scan scan = {.samples = samples, .stop_at = 1};
    assert_int_equal(cold_segment_each(f->cold, f->known[0].id, scan_item, &scan), 77);
    assert_int_equal(scan.next, 1);
    samples_free(samples, 3);
}

static void a_scan_of_the_active_or_an_unknown_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(1, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    struct scan scan = {.samples = samples, .stop_at = -1};
    uint64_t id = samples[0].location.segment;
    assert_true(cold_segment_active(f->cold, id));
    assert_int_equal(cold_segment_each(f->cold, id, scan_item, &scan), TIERS_INVALID);
    assert_int_equal(cold_segment_each(f->cold, id + 1, scan_item, &scan), TIERS_STALE);
    samples_free(samples, 1);
}

static void a_scan_names_file_and_offset_of_damage(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(3, &f->random);
    for (size_t i = 0; i < 3; i++)
        append(f, &samples[i]);
    sync_all(f);
    fixture_reopen(f);

    char path[1024];
    segment_path(f, samples[1].location.segment, path);
    file_flip(path, samples[1].location.offset + 30, 4);
    struct scan scan = {.samples = samples, .stop_at = -1};
    assert_int_equal(cold_segment_each(f->cold, f->known[0].id, scan_item, &scan), TIERS_CORRUPT);
    assert_int_equal(scan.next, 1);
    char offset[32];
    snprintf(offset, sizeof offset, "offset %" PRIu64, samples[1].location.offset);
    assert_non_null(strstr(cold_error_text(f->cold), offset));
    assert_non_null(strstr(cold_error_text(f->cold), f->folder));
    samples_free(samples, 3);
}

static void zeros_in_place_of_a_record_are_damage_not_padding(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(1, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    fixture_reopen(f);
    char path[1024];
    segment_path(f, f->known[0].id, path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    char zeros[COLD_BLOCK_BYTES] = {0};
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, COLD_BLOCK_BYTES), sizeof zeros);
    close(fd);
    struct scan scan = {.samples = samples, .stop_at = -1};
    assert_int_equal(cold_segment_each(f->cold, f->known[0].id, scan_item, &scan), TIERS_CORRUPT);
    samples_free(samples, 1);
}

/* ---- Segments ---- */

static unsigned files_in(const char *folder)
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

/* The files have the sizes that the index knows, and there are no others. */
static void assert_known_sizes(const struct fixture *f)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < f->n_known; i++) {
        struct stat status;
        char path[1024];
        segment_path(f, f->known[i].id, path);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_size, f->known[i].bytes);
        bytes += f->known[i].bytes;
    }
    assert_int_equal(files_in(f->folder), f->n_known);
    assert_int_equal(cold_segments(f->cold), f->n_known);
    assert_int_equal(cold_bytes(f->cold), bytes);
}

static void a_full_segment_is_sealed_and_the_next_begins(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 100000;
    fixture_reopen(f);
    struct sample *samples = samples_make(N_SAMPLES, &f->random);
    uint64_t last = 0;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        append(f, &samples[i]);
        assert_true(samples[i].location.segment >= last);
        last = samples[i].location.segment;
        assert_true(samples[i].location.offset < 100000);
        if (i % 10 == 9)
            sync_all(f);
    }
    assert_true(f->n_known > 2);
    assert_known_sizes(f);
    assert_readable(f, samples, N_SAMPLES);
    samples_free(samples, N_SAMPLES);
}

static void a_sealed_segment_keeps_no_preallocated_blocks(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 64u << 20;
    fixture_reopen(f);
    struct sample sample;
    sample_make(&sample, &f->random, 5, 100);
    append(f, &sample);
    sync_all(f);
    fixture_close(f);
    struct stat status;
    char path[1024];
    segment_path(f, sample.location.segment, path);
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_blocks * 512 <= 64 << 10);
    free(sample.value);
}

static void after_reopening_a_new_segment_is_appended_to(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(2, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    fixture_reopen(f);
    assert_false(cold_segment_active(f->cold, samples[0].location.segment));
    append(f, &samples[1]);
    assert_true(samples[1].location.segment > samples[0].location.segment);
    samples_free(samples, 2);
}

static void a_sync_without_appends_touches_nothing(void **state)
{
    struct fixture *f = *state;
    struct cold_known touched[COLD_TOUCHED_MAX];
    size_t n = COLD_TOUCHED_MAX;
    assert_int_equal(cold_sync(f->cold, touched, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(files_in(f->folder), 0);
}

static void too_many_segments_ask_for_a_sync(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 1;
    fixture_reopen(f);
    struct sample *samples = samples_make(COLD_TOUCHED_MAX + 1, &f->random);
    for (size_t i = 0; i < COLD_TOUCHED_MAX; i++)
        append(f, &samples[i]);
    assert_int_equal(try_append(f, &samples[COLD_TOUCHED_MAX]), TIERS_BUSY);
    sync_all(f);
    assert_int_equal(f->n_known, COLD_TOUCHED_MAX);
    append(f, &samples[COLD_TOUCHED_MAX]);
    sync_all(f);
    assert_readable(f, samples, COLD_TOUCHED_MAX + 1);
    samples_free(samples, COLD_TOUCHED_MAX + 1);
}

static void a_deleted_segment_is_gone_from_the_disk(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 1;
    fixture_reopen(f);
    struct sample *samples = samples_make(2, &f->random);
    for (size_t i = 0; i < 2; i++)
        append(f, &samples[i]);
    sync_all(f);
    cold_segment_delete(f->cold, samples[0].location.segment);
    cold_segment_delete(f->cold, 12345);
    assert_false(segment_exists(f, samples[0].location.segment));
    assert_int_equal(cold_segments(f->cold), 1);
    assert_int_equal(cold_bytes(f->cold), f->known[1].bytes);
    assert_readable(f, &samples[1], 1);
    samples_free(samples, 2);
}

static void the_active_segment_can_be_deleted(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(3, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    append(f, &samples[1]);
    cold_segment_delete(f->cold, samples[0].location.segment);
    assert_int_equal(files_in(f->folder), 0);
    f->n_known = 0;
    append(f, &samples[2]);
    sync_all(f);
    assert_readable(f, &samples[2], 1);
    samples_free(samples, 3);
}

/* ---- Opening ---- */

static void write_file(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "left", 4), 4);
    close(fd);
}

static void leftover_segments_are_deleted_at_open_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(1, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    fixture_close(f);
    write_file(f->folder, "00000000000000ff.seg");
    write_file(f->folder, "00000000000000ff.segment");
    write_file(f->folder, "notes.txt");
    assert_int_equal(files_in(f->folder), 4);
    fixture_reopen(f);
    assert_int_equal(files_in(f->folder), 3);
    assert_false(segment_exists(f, 0xff));
    assert_readable(f, samples, 1);
    samples_free(samples, 1);
}

static void what_lies_beyond_the_known_size_is_cut_off(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(2, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    struct cold_known known = f->known[0];
    append(f, &samples[1]);
    sync_all(f);
    f->known[0] = known; /* As if the index had not committed the second sync. */
    fixture_reopen(f);
    struct stat status;
    char path[1024];
    segment_path(f, known.id, path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, known.bytes);
    struct scan scan = {.samples = samples, .stop_at = -1};
    assert_int_equal(cold_segment_each(f->cold, known.id, scan_item, &scan), 0);
    assert_int_equal(scan.next, 1);
    samples_free(samples, 2);
}

/* Leaves one synced segment and closes. */
static uint64_t leave_a_segment(struct fixture *f)
{
    struct sample *samples = samples_make(1, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    fixture_close(f);
    samples_free(samples, 1);
    return f->known[0].id;
}

static void assert_open_refused(struct fixture *f, int status, uint64_t id, const char *word)
{
    char name[COLD_NAME_BYTES];
    cold_name_print(id, name);
    write_file(f->folder, "00000000000000ff.seg");
    assert_int_equal(fixture_try_open(f), status);
    assert_null(f->cold);
    if (strstr(f->text, name) == NULL || strstr(f->text, word) == NULL)
        fail_msg("unclear message: %s", f->text);
    /* A refused open has deleted nothing. */
    assert_true(segment_exists(f, 0xff));
}

static void a_missing_segment_is_named(void **state)
{
    struct fixture *f = *state;
    uint64_t id = leave_a_segment(f);
    char path[1024];
    segment_path(f, id, path);
    assert_int_equal(unlink(path), 0);
    assert_open_refused(f, TIERS_CORRUPT, id, "No such file");
}

static void a_segment_that_is_too_short_is_named(void **state)
{
    struct fixture *f = *state;
    uint64_t id = leave_a_segment(f);
    char path[1024];
    segment_path(f, id, path);
    assert_int_equal(truncate(path, 4096), 0);
    assert_open_refused(f, TIERS_CORRUPT, id, "4096 bytes");
}

static void a_segment_with_a_damaged_header_is_named(void **state)
{
    struct fixture *f = *state;
    uint64_t id = leave_a_segment(f);
    char path[1024];
    segment_path(f, id, path);
    file_flip(path, 17, 1);
    assert_open_refused(f, TIERS_CORRUPT, id, "header");
}

static void an_unknown_format_version_is_named(void **state)
{
    struct fixture *f = *state;
    uint64_t id = leave_a_segment(f);
    char path[1024];
    segment_path(f, id, path);
    /* The intact header of a later program. */
    unsigned char block[COLD_BLOCK_BYTES];
    cold_header_write(id, block);
    block[8] = COLD_SEGMENT_FORMAT + 1;
    little_endian_put(block + 24, XXH3_64bits(block, 24), 8);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
    close(fd);
    assert_open_refused(f, TIERS_VERSION, id, "version 2");
}

static void a_directory_that_cannot_be_made_is_named(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    write_file(f->folder, "file");
    char path[1024];
    snprintf(path, sizeof path, "%s/file/cold", f->folder);
    f->options.directory = path;
    assert_int_equal(fixture_try_open(f), TIERS_IO);
    assert_non_null(strstr(f->text, path));
    snprintf(path, sizeof path, "%s/new", f->folder);
    fixture_reopen(f);
    assert_int_equal(files_in(path), 0);
    fixture_close(f);
    f->options.directory = f->folder;
}

/* In a child process: forbids io_uring as container runtimes do, and opens. */
static int open_without_uring(struct fixture *f)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 1;
    if (fixture_try_open(f) != TIERS_ACCESS)
        return 2;
    return strstr(f->text, "io_uring") != NULL && strstr(f->text, "seccomp") != NULL ? 0 : 3;
}

static void a_forbidden_io_uring_is_explained(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(open_without_uring(f));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- Faults ---- */

/* Appends and syncs until it fails; returns how. */
static int append_until_failure(struct fixture *f, struct sample *samples, size_t n_samples)
{
    for (size_t i = 0; i < n_samples; i++) {
        int status = try_append(f, &samples[i]);
        if (status != 0)
            return status;
    }
    struct cold_known touched[COLD_TOUCHED_MAX];
    size_t n = COLD_TOUCHED_MAX;
    return cold_sync(f->cold, touched, &n);
}

/* The limit of the file size stands for the full disk: the kernel itself refuses the write. */
static void the_kernels_refusal_to_write_more_is_survived(void **state)
{
    struct fixture *f = *state;
    struct sample samples[2];
    sample_make(&samples[0], &f->random, 10, 1000);
    sample_make(&samples[1], &f->random, 10, 10u << 20);
    random_fill(&f->random, samples[1].value, samples[1].value_len);
    append(f, &samples[0]);
    sync_all(f);

    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = 3000000, .rlim_max = before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int status = append_until_failure(f, &samples[1], 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);

    assert_int_equal(status, TIERS_NO_SPACE);
    cold_abandon(f->cold);
    assert_readable(f, samples, 1);
    append(f, &samples[1]);
    sync_all(f);
    assert_readable(f, samples, 2);
    free(samples[0].value);
    free(samples[1].value);
}

static void short_and_interrupted_writes_are_continued(void **state)
{
    struct fixture *f = *state;
    struct fault faults[] = {
        {.kind = URING_WRITE, .first = 1, .times = 20, .length = 5000},
        {.kind = URING_WRITE, .first = 1, .times = 20, .length = 100},
        {.kind = URING_WRITE, .first = 1, .times = 20, .result = -EAGAIN},
        {.kind = URING_WRITE, .first = 2, .times = 20, .result = -EINTR},
        {.kind = URING_WRITE, .first = 1, .times = 1, .result = -EINVAL},
    };
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        fault_set(&faults[k]);
        struct sample *samples = samples_make(N_SAMPLES, &f->random);
        for (size_t i = 0; i < N_SAMPLES; i++)
            append(f, &samples[i]);
        sync_all(f);
        assert_true(faults[k].seen > faults[k].times);
        assert_int_equal(faults[k].unaligned, 0);
        uring_faults_set(NULL);
        assert_readable(f, samples, N_SAMPLES);
        samples_free(samples, N_SAMPLES);
    }
}

static void a_write_that_never_progresses_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct fault fault = {.kind = URING_WRITE, .first = 1, .times = 1u << 30, .result = -EAGAIN};
    fault_set(&fault);
    struct sample *samples = samples_make(1, &f->random);
    append(f, &samples[0]);
    struct cold_known touched[COLD_TOUCHED_MAX];
    size_t n = COLD_TOUCHED_MAX;
    assert_int_equal(cold_sync(f->cold, touched, &n), TIERS_IO);
    assert_int_equal(n, COLD_TOUCHED_MAX);
    samples_free(samples, 1);
}

static void after_no_space_and_abandon_only_synced_records_are_left(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 3u << 20;
    for (unsigned nth = 1; nth < 8; nth++) {
        fixture_reopen(f);
        f->n_known = 0;
        fixture_reopen(f);
        struct sample *samples = samples_make(N_SAMPLES, &f->random);
        for (size_t i = 0; i < N_SAMPLES / 2; i++)
            append(f, &samples[i]);
        sync_all(f);

        struct fault fault = {.kind = URING_WRITE, .first = nth, .times = 1, .result = -ENOSPC};
        fault_set(&fault);
        struct sample *lost = calloc(N_LOST, sizeof *lost);
        assert_non_null(lost);
        for (size_t i = 0; i < N_LOST; i++) {
            sample_make(&lost[i], &f->random, 20, 300000);
            random_fill(&f->random, lost[i].value, lost[i].value_len);
        }
        assert_int_equal(append_until_failure(f, lost, N_LOST), TIERS_NO_SPACE);
        /* The failure lasts until it is acknowledged. */
        assert_int_equal(try_append(f, &samples[N_SAMPLES / 2]), TIERS_NO_SPACE);
        assert_non_null(strstr(cold_error_text(f->cold), "No space"));
        cold_abandon(f->cold);
        uring_faults_set(NULL);
        assert_known_sizes(f);
        assert_readable(f, samples, N_SAMPLES / 2);

        for (size_t i = N_SAMPLES / 2; i < N_SAMPLES; i++)
            append(f, &samples[i]);
        sync_all(f);
        fixture_reopen(f);
        assert_readable(f, samples, N_SAMPLES);
        samples_free(samples, N_SAMPLES);
        samples_free(lost, N_LOST);
    }
}

static void an_abandoned_batch_leaves_no_file(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 50000;
    fixture_reopen(f);
    struct sample *samples = samples_make(40, &f->random);
    for (size_t i = 0; i < 40; i++)
        append(f, &samples[i]);
    assert_true(files_in(f->folder) > 1);
    cold_abandon(f->cold);
    assert_int_equal(files_in(f->folder), 0);
    assert_int_equal(cold_segments(f->cold), 0);
    samples_free(samples, 40);
}

static void after_a_failed_fsync_nothing_is_written_any_more(void **state)
{
    struct fixture *f = *state;
    for (unsigned nth = 1; nth <= 2; nth++) { /* Of the data, of the directory */
        fixture_reopen(f);
        struct sample *samples = samples_make(1, &f->random);
        append(f, &samples[0]);
        struct fault fault = {.kind = URING_FSYNC, .first = nth, .times = 1, .result = -EIO};
        fault_set(&fault);
        struct cold_known touched[COLD_TOUCHED_MAX];
        size_t n = COLD_TOUCHED_MAX;
        assert_int_equal(cold_sync(f->cold, touched, &n), TIERS_IO);
        assert_int_equal(cold_sync(f->cold, touched, &n), TIERS_STOPPED);
        assert_int_equal(try_append(f, &samples[0]), TIERS_STOPPED);
        cold_abandon(f->cold);
        assert_int_equal(try_append(f, &samples[0]), TIERS_STOPPED);
        assert_int_equal(fault.seen, nth);
        samples_free(samples, 1);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(records_survive_reopening_where_their_locations_say),
        TEST(records_at_the_limits_survive),
        TEST(sizes_out_of_range_are_refused),
        TEST(a_scan_gives_what_was_appended_in_order),
        TEST(a_scan_survives_short_and_interrupted_reads),
        TEST(a_scan_stops_when_it_is_told_to),
        TEST(a_scan_of_the_active_or_an_unknown_segment_is_refused),
        TEST(a_scan_names_file_and_offset_of_damage),
        TEST(zeros_in_place_of_a_record_are_damage_not_padding),
        TEST(a_full_segment_is_sealed_and_the_next_begins),
        TEST(a_sealed_segment_keeps_no_preallocated_blocks),
        TEST(after_reopening_a_new_segment_is_appended_to),
        TEST(a_sync_without_appends_touches_nothing),
        TEST(too_many_segments_ask_for_a_sync),
        TEST(a_deleted_segment_is_gone_from_the_disk),
        TEST(the_active_segment_can_be_deleted),
        TEST(leftover_segments_are_deleted_at_open_and_nothing_else),
        TEST(what_lies_beyond_the_known_size_is_cut_off),
        TEST(a_missing_segment_is_named),
        TEST(a_segment_that_is_too_short_is_named),
        TEST(a_segment_with_a_damaged_header_is_named),
        TEST(an_unknown_format_version_is_named),
        TEST(a_directory_that_cannot_be_made_is_named),
        TEST(a_forbidden_io_uring_is_explained),
        TEST(the_kernels_refusal_to_write_more_is_survived),
        TEST(short_and_interrupted_writes_are_continued),
        TEST(a_write_that_never_progresses_is_an_error),
        TEST(after_no_space_and_abandon_only_synced_records_are_left),
        TEST(an_abandoned_batch_leaves_no_file),
        TEST(after_a_failed_fsync_nothing_is_written_any_more),
    };
    return cmocka_run_group_tests_name("cold", tests, NULL, NULL);
}
