#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/faults/crash_points.h"
#include "lib/temp_folder.h"
#include "node/datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder for one test, with the paths that most need. */
static char folder[64], data[80], cold[80];

static int folder_make(void **unused)
{
    (void)unused;
    snprintf(folder, sizeof(folder), "/tmp/datadir_test.XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(data, sizeof(data), "%s/data", folder);
    snprintf(cold, sizeof(cold), "%s/hdd", folder);
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int folder_remove(void **unused)
{
    (void)unused;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct datadir open_datadir(const char *cold_directory)
{
    struct datadir datadir;
    char error_text[512] = "";
    if (datadir_open(data, cold_directory, &datadir, error_text, sizeof(error_text)) != 0)
        fail_msg("%s", error_text);
    return datadir;
}

static void assert_refused(const char *cold_directory, const char *part)
{
    struct datadir datadir;
    char error_text[512] = "";
    assert_int_equal(datadir_open(data, cold_directory, &datadir, error_text, sizeof(error_text)),
                     -1);
    if (strstr(error_text, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, error_text);
}

static void write_bytes(const char *name, const char *bytes, size_t n)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", data, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static void write_file(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", data, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    assert_int_equal(fclose(out), 0);
}

static void a_new_directory_gets_the_layout_for_its_owner_only(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir("");
    assert_int_equal(datadir.state, 1);
    struct stat status;
    assert_int_equal(stat(data, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(stat(datadir.raft_path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(stat(datadir.cold_path, &status), 0);
    char expected[160];
    snprintf(expected, sizeof(expected), "%s/state/1/warm", data);
    assert_string_equal(datadir.warm_path, expected);
    snprintf(expected, sizeof(expected), "%s/cold/1", data);
    assert_string_equal(datadir.cold_path, expected);
    snprintf(expected, sizeof(expected), "%s/node", data);
    assert_string_equal(datadir.identity_path, expected);
    datadir_close(&datadir);
}

static void opening_again_finds_the_same_state(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir(cold);
    assert_int_equal(mkdir(datadir.warm_path, 0700), 0);
    datadir_close(&datadir);
    datadir = open_datadir(cold);
    assert_int_equal(datadir.state, 1);
    datadir_close(&datadir);
}

static void a_directory_in_use_is_refused_until_it_is_closed(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir("");
    assert_refused("", "in use by another process");
    datadir_close(&datadir);
    datadir = open_datadir("");
    datadir_close(&datadir);
}

static void a_cold_directory_serves_one_data_directory_only(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir(cold);
    snprintf(data, sizeof(data), "%s/other", folder);
    assert_refused(cold, "in use by another process");
    char path[160];
    snprintf(path, sizeof(path), "%s/segment", datadir.cold_path);
    assert_int_equal(mkdir(path, 0700), 0);
    datadir_close(&datadir);
    assert_refused(cold, "belongs to another data directory");
}

static void a_state_without_its_cold_directory_is_refused(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir(cold);
    assert_int_equal(rmdir(datadir.cold_path), 0);
    datadir_close(&datadir);
    assert_refused(cold, "is its disk mounted?");
}

static void what_else_is_in_the_directory_does_not_matter(void **unused)
{
    (void)unused;
    char path[160];
    assert_int_equal(mkdir(data, 0755), 0);
    snprintf(path, sizeof(path), "%s/lost+found", data);
    assert_int_equal(mkdir(path, 0700), 0);
    struct datadir datadir = open_datadir("");
    datadir_close(&datadir);
    assert_int_equal(access(path, F_OK), 0);
}

static void a_start_that_was_interrupted_is_repeated(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir("");
    char path[160];
    snprintf(path, sizeof(path), "%s/state/CURRENT", data);
    assert_int_equal(unlink(path), 0);
    datadir_close(&datadir);
    datadir = open_datadir("");
    /* But not over a state that someone has written to. */
    assert_int_equal(mkdir(datadir.warm_path, 0700), 0);
    assert_int_equal(unlink(path), 0);
    datadir_close(&datadir);
    assert_refused("", "CURRENT is missing");
}

static void an_unknown_version_or_damage_of_current_is_refused(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir("");
    datadir_close(&datadir);
    write_file("state/CURRENT", "tierkv-state 3\nsomething new\n");
    assert_refused("", "format version 3, which this program does not know");
    static const char *const damaged[] = {"",
                                          "tierkv-state 1\n",
                                          "tierkv-state 1\n0\n",
                                          "tierkv-state 1\n1\nmore",
                                          "another file\n1\n",
                                          "tierkv-state 2\n1\n",
                                          "tierkv-state 2\n1\n3\n"};
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        write_file("state/CURRENT", damaged[i]);
        assert_refused("", "CURRENT is damaged");
    }
}

static void the_first_version_of_current_is_still_read(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir("");
    datadir_close(&datadir);
    write_file("state/CURRENT", "tierkv-state 1\n1\n");
    datadir = open_datadir("");
    assert_int_equal(datadir.state, 1);
    datadir_close(&datadir);
}

static void no_flipped_bit_of_current_leads_to_another_state(void **unused)
{
    (void)unused;
    char path[160], text[64] = "", error_text[512];
    struct datadir datadir = open_datadir("");
    datadir_close(&datadir);
    snprintf(path, sizeof(path), "%s/state/CURRENT", data);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t n = fread(text, 1, sizeof(text) - 1, in);
    fclose(in);
    for (size_t bit = 0; bit < n * 8; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        write_bytes("state/CURRENT", text, n);
        assert_int_equal(datadir_open(data, "", &datadir, error_text, sizeof(error_text)), -1);
        assert_non_null(strstr(error_text, "CURRENT"));
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
    }
}

static void paths_that_cannot_be_used_are_named_with_the_cause(void **unused)
{
    (void)unused;
    snprintf(data, sizeof(data), "%s/no/such", folder);
    assert_refused("", "No such file or directory");
    snprintf(data, sizeof(data), "/proc/tierkv");
    assert_refused("", "cannot create the directory /proc/tierkv");
    snprintf(data, sizeof(data), "%s/data", folder);
    FILE *out = fopen(data, "w");
    assert_non_null(out);
    fclose(out);
    assert_refused("", "is not a directory");
}

static void a_directory_without_write_permission_is_refused(void **unused)
{
    (void)unused;
    if (geteuid() == 0)
        skip(); /* Root may write anywhere */
    assert_int_equal(mkdir(data, 0500), 0);
    assert_refused("", "Permission denied");
}

static void make_directory(const char *path)
{
    assert_int_equal(mkdir(path, 0700), 0);
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Makes the next state as far as its directories; the caller frees `ret_next`. */
static void next_begin(const struct datadir *datadir, struct datadir_next *ret_next)
{
    char error_text[512] = "";
    if (datadir_next(datadir, ret_next, error_text, sizeof(error_text)) != 0)
        fail_msg("%s", error_text);
    assert_false(is_there(ret_next->warm_path));
    assert_false(is_there(ret_next->cold_path));
    assert_false(is_there(ret_next->manifest_path));
    make_directory(ret_next->warm_path);
    make_directory(ret_next->cold_path);
}

static void another_state_takes_the_place_of_the_live_one(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir(cold);
    struct datadir_next next;
    char error_text[512] = "", before[160];
    make_directory(datadir.warm_path);
    snprintf(before, sizeof(before), "%s", datadir.warm_path);
    next_begin(&datadir, &next);
    assert_int_equal(datadir_next_commit(&datadir, error_text, sizeof(error_text)), 0);
    assert_true(is_there(before)); /* It may still be in use */
    datadir_close(&datadir);

    datadir = open_datadir(cold);
    assert_int_equal(datadir.state, 2);
    assert_string_equal(datadir.warm_path, next.warm_path);
    assert_string_equal(datadir.cold_path, next.cold_path);
    assert_string_equal(datadir.manifest_path, next.manifest_path);
    assert_true(is_there(datadir.warm_path));
    assert_false(is_there(before));
    datadir_next_free(&next);
    datadir_close(&datadir);
}

static void an_exchange_that_was_interrupted_leaves_the_live_state(void **unused)
{
    (void)unused;
    struct datadir datadir = open_datadir(cold);
    struct datadir_next next, again;
    make_directory(datadir.warm_path);
    next_begin(&datadir, &next);
    /* Begun anew in the same run: what was there is gone. */
    next_begin(&datadir, &again);
    assert_string_equal(again.warm_path, next.warm_path);
    datadir_close(&datadir);

    datadir = open_datadir(cold);
    assert_int_equal(datadir.state, 1);
    assert_true(is_there(datadir.warm_path));
    assert_false(is_there(next.warm_path));
    assert_false(is_there(next.cold_path));
    datadir_next_free(&next);
    datadir_next_free(&again);
    datadir_close(&datadir);
}

/* ---- Crashes ---- */

static char graves[80], root[80];

static void story_reset(void *unused)
{
    (void)unused;
    temp_folder_remove(root);
    temp_folder_remove(graves);
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(mkdir(graves, 0700), 0);
}

static bool story_open(void *unused)
{
    (void)unused;
    struct datadir datadir;
    char error_text[512];
    if (datadir_open(data, "", &datadir, error_text, sizeof(error_text)) != 0) {
        fprintf(stderr, "%s\n", error_text);
        return false;
    }
    bool first = datadir.state == 1;
    datadir_close(&datadir);
    return first;
}

/* What lies in a directory that was opened once must not be lost with its names. */
static bool story_prove(void *unused, bool complete)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/state/CURRENT", data);
    return (!complete || is_there(path)) && story_open(unused) && story_open(unused);
}

static void a_first_start_may_be_cut_off_anywhere(void **unused)
{
    (void)unused;
    snprintf(root, sizeof(root), "%s/root", folder);
    snprintf(graves, sizeof(graves), "%s/graves", folder);
    snprintf(data, sizeof(data), "%s/root/data", folder);
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(mkdir(graves, 0700), 0);
    const struct crash_story story = {.root = root,
                                      .graves = graves,
                                      .reset = story_reset,
                                      .run = story_open,
                                      .proves = story_prove};
    uint64_t points = 0;
    const char *found = crash_story_try(&story, &points);
    if (found != NULL)
        fail_msg("%s", found);
    assert_true(points > 10);
}

static void exchange_reset(void *unused)
{
    story_reset(unused);
    struct datadir datadir = open_datadir("");
    make_directory(datadir.warm_path);
    datadir_close(&datadir);
}

static bool folder_make_durably(const char *path)
{
    char parent[160];
    snprintf(parent, sizeof(parent), "%s", path);
    *strrchr(parent, '/') = '\0';
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool made = mkdir(path, 0700) == 0 && fsync(fd) == 0;
    close(fd);
    return made;
}

static bool exchange_run(void *unused)
{
    (void)unused;
    char error_text[512];
    struct datadir datadir;
    struct datadir_next next;
    return datadir_open(data, "", &datadir, error_text, sizeof(error_text)) == 0 &&
           datadir_next(&datadir, &next, error_text, sizeof(error_text)) == 0 &&
           folder_make_durably(next.warm_path) && folder_make_durably(next.cold_path) &&
           datadir_next_commit(&datadir, error_text, sizeof(error_text)) == 0;
}

/* One of the two states is live, and all of it is there. */
static bool exchange_prove(void *unused, bool complete)
{
    (void)unused;
    char error_text[512] = "";
    struct datadir datadir;
    if (datadir_open(data, "", &datadir, error_text, sizeof(error_text)) != 0) {
        fprintf(stderr, "%s\n", error_text);
        return false;
    }
    bool whole = is_there(datadir.warm_path) && is_there(datadir.cold_path) && datadir.state <= 2 &&
                 (!complete || datadir.state == 2);
    datadir_close(&datadir);
    return whole;
}

static void an_exchange_of_states_may_be_cut_off_anywhere(void **unused)
{
    (void)unused;
    snprintf(root, sizeof(root), "%s/root", folder);
    snprintf(graves, sizeof(graves), "%s/graves", folder);
    snprintf(data, sizeof(data), "%s/root/data", folder);
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(mkdir(graves, 0700), 0);
    const struct crash_story story = {.root = root,
                                      .graves = graves,
                                      .reset = exchange_reset,
                                      .run = exchange_run,
                                      .proves = exchange_prove};
    uint64_t points = 0;
    const char *found = crash_story_try(&story, &points);
    if (found != NULL)
        fail_msg("%s", found);
    assert_true(points > 5);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_new_directory_gets_the_layout_for_its_owner_only),
        IN_FOLDER(opening_again_finds_the_same_state),
        IN_FOLDER(a_directory_in_use_is_refused_until_it_is_closed),
        IN_FOLDER(a_cold_directory_serves_one_data_directory_only),
        IN_FOLDER(a_state_without_its_cold_directory_is_refused),
        IN_FOLDER(what_else_is_in_the_directory_does_not_matter),
        IN_FOLDER(a_start_that_was_interrupted_is_repeated),
        IN_FOLDER(an_unknown_version_or_damage_of_current_is_refused),
        IN_FOLDER(the_first_version_of_current_is_still_read),
        IN_FOLDER(no_flipped_bit_of_current_leads_to_another_state),
        IN_FOLDER(a_first_start_may_be_cut_off_anywhere),
        IN_FOLDER(an_exchange_of_states_may_be_cut_off_anywhere),
        IN_FOLDER(paths_that_cannot_be_used_are_named_with_the_cause),
        IN_FOLDER(a_directory_without_write_permission_is_refused),
        cmocka_unit_test_setup_teardown(another_state_takes_the_place_of_the_live_one, folder_make,
                                        folder_remove),
        cmocka_unit_test_setup_teardown(an_exchange_that_was_interrupted_leaves_the_live_state,
                                        folder_make, folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
