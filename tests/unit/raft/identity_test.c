#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/faults/crash_points.h"
#include "lib/temp_folder.h"
#include "raft/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[80];

static int folder_make(void **unused)
{
    (void)unused;
    snprintf(folder, sizeof(folder), "/tmp/identity_test.XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/node", folder);
    return 0;
}

static int folder_remove(void **unused)
{
    (void)unused;
    unlink(path);
    return rmdir(folder);
}

static struct identity open_as(const char *name)
{
    struct identity identity;
    char error_text[256] = "";
    if (identity_open(path, name, &identity, error_text, sizeof(error_text)) != 0)
        fail_msg("%s", error_text);
    return identity;
}

static void assert_refused(const char *name, const char *part)
{
    struct identity identity;
    char error_text[256] = "";
    assert_int_equal(identity_open(path, name, &identity, error_text, sizeof(error_text)), -1);
    assert_non_null(strstr(error_text, part));
}

static void write_file(const char *text)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    assert_int_equal(fclose(out), 0);
}

static void an_identity_stays_the_same_once_it_is_made(void **unused)
{
    (void)unused;
    struct identity first = open_as("east-1");
    struct identity again = open_as("east-1");
    assert_string_equal(again.name, "east-1");
    assert_true(again.raft_id == identity_raft_id("east-1"));
    assert_true(again.incarnation == first.incarnation && first.incarnation != 0);
    assert_true(again.cluster_id == 0);
}

static void no_name_means_the_stored_one(void **unused)
{
    (void)unused;
    struct identity first = open_as("east-1");
    struct identity again = open_as("");
    assert_string_equal(again.name, "east-1");
    assert_true(again.incarnation == first.incarnation);
}

static void no_name_in_a_new_directory_means_node1(void **unused)
{
    (void)unused;
    assert_string_equal(open_as("").name, "node1");
}

static void another_name_is_refused(void **unused)
{
    (void)unused;
    open_as("east-1");
    assert_refused("east-2", "belongs to node \"east-1\"");
}

static void the_cluster_is_remembered(void **unused)
{
    (void)unused;
    struct identity identity = open_as("east-1");
    identity.cluster_id = 0xfedcba9876543210;
    assert_int_equal(identity_store(path, &identity), 0);
    assert_true(open_as("east-1").cluster_id == 0xfedcba9876543210);
}

static void a_damaged_or_unknown_file_is_refused(void **unused)
{
    (void)unused;
    write_file("{\"format\": 2}\n");
    assert_refused("", "format 2");
    write_file("{\"format\": 1}\n");
    assert_refused("", "damaged");
    write_file("");
    assert_refused("", path);
}

static void a_file_without_a_check_is_still_read(void **unused)
{
    (void)unused;
    write_file("{\"format\": 1, \"name\": \"a\", \"raft_id\": \"7\", \"incarnation\": \"8\","
               " \"cluster_id\": \"9\"}\n");
    assert_int_equal(open_as("a").cluster_id, 9);
}

static bool same(const struct identity *a, const struct identity *b)
{
    return strcmp(a->name, b->name) == 0 && a->raft_id == b->raft_id &&
           a->incarnation == b->incarnation && a->cluster_id == b->cluster_id;
}

static void no_flipped_bit_makes_another_node(void **unused)
{
    (void)unused;
    char text[512] = "", error_text[512];
    struct identity identity = open_as("east-1");
    identity.cluster_id = 0x123456789abcdef0;
    assert_int_equal(identity_store(path, &identity), 0);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t n = fread(text, 1, sizeof text - 1, in);
    fclose(in);
    for (size_t bit = 0; bit < n * 8; bit++) {
        struct identity found;
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        FILE *out = fopen(path, "w");
        assert_non_null(out);
        assert_int_equal(fwrite(text, 1, n, out), n);
        assert_int_equal(fclose(out), 0);
        if (identity_open(path, "", &found, error_text, sizeof error_text) == 0)
            assert_true(same(&found, &identity));
        else
            assert_non_null(strstr(error_text, path));
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
    }
}

/* ---- Crashes ---- */

#define CLUSTER_ID 0x123456789abcdef0u

static char graves[80], root[80];
static struct identity before;

static void story_reset(void *unused)
{
    (void)unused;
    temp_folder_remove(root);
    temp_folder_remove(graves);
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(mkdir(graves, 0700), 0);
    before = open_as("east-1");
}

static bool story_join(void *unused)
{
    (void)unused;
    struct identity joined = before;
    joined.cluster_id = CLUSTER_ID;
    return identity_store(path, &joined) == 0;
}

static bool story_prove(void *unused, bool complete)
{
    (void)unused;
    struct identity found, expected = before;
    char error_text[256];
    if (identity_open(path, "east-1", &found, error_text, sizeof error_text) != 0) {
        fprintf(stderr, "%s\n", error_text);
        return false;
    }
    expected.cluster_id = found.cluster_id == 0 && !complete ? 0 : CLUSTER_ID;
    return same(&found, &expected);
}

static void a_change_may_be_cut_off_anywhere(void **unused)
{
    (void)unused;
    snprintf(root, sizeof root, "%s/root", folder);
    snprintf(graves, sizeof graves, "%s/graves", folder);
    snprintf(path, sizeof path, "%s/root/node", folder);
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(mkdir(graves, 0700), 0);
    const struct crash_story story = {.root = root,
                                      .graves = graves,
                                      .reset = story_reset,
                                      .run = story_join,
                                      .proves = story_prove};
    uint64_t points = 0;
    const char *found = crash_story_try(&story, &points);
    temp_folder_remove(root);
    temp_folder_remove(graves);
    if (found != NULL)
        fail_msg("%s", found);
    assert_int_equal(points, 5); /* Create, write, sync, rename, sync of the folder */
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(an_identity_stays_the_same_once_it_is_made),
        IN_FOLDER(no_name_means_the_stored_one),
        IN_FOLDER(no_name_in_a_new_directory_means_node1),
        IN_FOLDER(another_name_is_refused),
        IN_FOLDER(the_cluster_is_remembered),
        IN_FOLDER(a_damaged_or_unknown_file_is_refused),
        IN_FOLDER(a_file_without_a_check_is_still_read),
        IN_FOLDER(no_flipped_bit_makes_another_node),
        IN_FOLDER(a_change_may_be_cut_off_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
