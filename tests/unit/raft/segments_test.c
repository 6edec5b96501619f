/* What an interrupted truncation of the log leaves is removed, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/temp_folder.h"
#include "raft/segments.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static char folder[TEMP_FOLDER_PATH_BYTES];

static int folder_make(void **unused)
{
    (void)unused;
    temp_folder_make(folder);
    return 0;
}

static int folder_remove(void **unused)
{
    (void)unused;
    temp_folder_remove(folder);
    return 0;
}

static void make(const char *name)
{
    char path[TEMP_FOLDER_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static bool there(const char *name)
{
    char path[TEMP_FOLDER_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static unsigned repair(void)
{
    char error_text[256] = "";
    unsigned removed = 0;
    if (segments_repair(folder, &removed, error_text, sizeof error_text) != 0)
        fail_msg("%s", error_text);
    return removed;
}

static void the_shorter_of_two_segments_with_one_beginning_goes(void **unused)
{
    (void)unused;
    make("0000000000000001-0000000000000010");
    make("0000000000000011-0000000000000014");
    make("0000000000000011-0000000000000020");
    assert_int_equal(repair(), 1);
    assert_true(there("0000000000000001-0000000000000010"));
    assert_false(there("0000000000000011-0000000000000014"));
    assert_true(there("0000000000000011-0000000000000020"));
}

static void a_sound_directory_stays_as_it_is(void **unused)
{
    (void)unused;
    static const char *const names[] = {"0000000000000001-0000000000000010",
                                        "0000000000000011-0000000000000014",
                                        "open-1",
                                        "open-2",
                                        "metadata1",
                                        "metadata2",
                                        "snapshot-1-5-1000",
                                        "snapshot-1-5-1000.meta",
                                        "0000000000000011-0000000000000012.old"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        make(names[i]);
    assert_int_equal(repair(), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_true(there(names[i]));
}

static void a_truncation_that_was_interrupted_is_completed(void **unused)
{
    (void)unused;
    make("0000000000000001-0000000000000010");
    make("0000000000000011-0000000000000014");
    make("0000000000000021-0000000000000030"); /* 11 to 20 is gone already */
    make("0000000000000031-0000000000000040");
    make("open-3");
    assert_int_equal(segments_note_truncation(folder, 99), 0);
    assert_int_equal(segments_note_truncation(folder, 15), 0);
    assert_int_equal(repair(), 2);
    assert_true(there("0000000000000011-0000000000000014"));
    assert_false(there("0000000000000021-0000000000000030"));
    assert_false(there("0000000000000031-0000000000000040"));
    assert_true(there("open-3"));
}

static void a_gap_that_no_truncation_explains_is_left_to_people(void **unused)
{
    (void)unused;
    make("0000000000000001-0000000000000010");
    make("0000000000000021-0000000000000030");
    assert_int_equal(repair(), 0);
    assert_int_equal(segments_note_truncation(folder, 5), 0);
    assert_int_equal(repair(), 0);
    assert_int_equal(segments_note_truncation(folder, 110), 0);
    assert_int_equal(repair(), 0);
    assert_true(there("0000000000000021-0000000000000030"));
}

static void a_directory_that_is_not_there_is_named(void **unused)
{
    (void)unused;
    char error_text[256] = "";
    unsigned removed;
    assert_int_equal(segments_repair("/nonexistent", &removed, error_text, sizeof error_text), -1);
    assert_string_equal(error_text, "/nonexistent: No such file or directory");
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_shorter_of_two_segments_with_one_beginning_goes),
        IN_FOLDER(a_sound_directory_stays_as_it_is),
        IN_FOLDER(a_truncation_that_was_interrupted_is_completed),
        IN_FOLDER(a_gap_that_no_truncation_explains_is_left_to_people),
        IN_FOLDER(a_directory_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
