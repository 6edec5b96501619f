#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "raft/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
