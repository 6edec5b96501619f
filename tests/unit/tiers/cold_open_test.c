/* Opening the cold tier: leftovers go, what is known must be there, and what is wrong is named. */
#include "unit/tiers/cold_fixture.h"

#include "little_endian.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <xxhash.h>

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
    assert_int_equal(segment_each(f->cold, known.id, scan_item, &scan), 0);
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

/* A crash left what was allocated ahead: with KEEP_SIZE behind the end of the file, else in it. */
static void assert_room_given_back(struct fixture *f, int mode)
{
    uint64_t id = leave_a_segment(f);
    char path[1024];
    struct stat before;
    struct stat longer;
    struct stat after;
    segment_path(f, id, path);
    assert_int_equal(stat(path, &before), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    bool allocated = fallocate(fd, mode, 0, 16 << 20) == 0;
    assert_int_equal(fstat(fd, &longer), 0);
    close(fd);
    if (!allocated || longer.st_blocks < 2 * 16384)
        skip();
    assert_true(mode != 0 || longer.st_size == 16 << 20);
    fixture_reopen(f);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_true(after.st_blocks < 16384);
}

static void blocks_that_a_crash_left_behind_the_end_are_given_back(void **state)
{
    assert_room_given_back(*state, FALLOC_FL_KEEP_SIZE);
}

static void room_that_a_crash_left_in_a_segment_is_given_back(void **state)
{
    assert_room_given_back(*state, 0);
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
    cold_header_write(id, &(struct cold_header){0}, block);
    block[8] = COLD_SEGMENT_FORMAT + 1;
    little_endian_put(block + 24, XXH3_64bits(block, 24), 8);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
    close(fd);
    assert_open_refused(f, TIERS_VERSION, id, "version 3");
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(leftover_segments_are_deleted_at_open_and_nothing_else),
        TEST(what_lies_beyond_the_known_size_is_cut_off),
        TEST(blocks_that_a_crash_left_behind_the_end_are_given_back),
        TEST(room_that_a_crash_left_in_a_segment_is_given_back),
        TEST(a_missing_segment_is_named),
        TEST(a_segment_that_is_too_short_is_named),
        TEST(a_segment_with_a_damaged_header_is_named),
        TEST(an_unknown_format_version_is_named),
        TEST(a_directory_that_cannot_be_made_is_named),
        TEST(a_forbidden_io_uring_is_explained),
    };
    return cmocka_run_group_tests_name("cold_open", tests, NULL, NULL);
}
