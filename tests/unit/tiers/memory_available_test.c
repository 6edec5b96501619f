/* What the kernel's files say, in folders that look like them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/temp_folder.h"
#include "memory_available.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MIB (1024ull * 1024)

static char root[TEMP_FOLDER_PATH_BYTES];

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(root);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_folder_remove(root);
    return 0;
}

/* Makes the file below the root, and the folders above it. */
static void say(const char *name, const char *text)
{
    char path[TEMP_FOLDER_PATH_BYTES + 256];
    int n = snprintf(path, sizeof path, "%s/%s", root, name);
    assert_true(n > 0 && n < (int)sizeof path);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void system_say(void)
{
    say("proc/meminfo", "MemTotal:       8192000 kB\nMemFree:  1 kB\nMemAvailable:    4096 kB\n");
}

static void nothing_known_is_no_bound(void **state)
{
    (void)state;
    assert_true(memory_available_below(root) == UINT64_MAX);
}

static void the_system_is_a_bound(void **state)
{
    (void)state;
    system_say();
    say("proc/self/cgroup", "0::/\n");
    assert_int_equal(memory_available_below(root), 4 * MIB);
}

static void a_group_leaves_its_limit_less_what_is_no_file(void **state)
{
    (void)state;
    system_say();
    say("proc/self/cgroup", "0::/app/worker\n");
    say("sys/fs/cgroup/app/worker/memory.max", "3145728\n");
    say("sys/fs/cgroup/app/worker/memory.current", "2097152\n");
    say("sys/fs/cgroup/app/worker/memory.stat",
        "anon 1048576\nfile 1048576\ninactive_file 524288\nactive_file 524288\n");
    assert_int_equal(memory_available_below(root), 2 * MIB);
}

static void the_limit_of_a_group_above_counts(void **state)
{
    (void)state;
    system_say();
    say("proc/self/cgroup", "0::/app/worker\n");
    say("sys/fs/cgroup/app/memory.max", "1048576\n");
    say("sys/fs/cgroup/app/memory.current", "0\n");
    say("sys/fs/cgroup/app/worker/memory.max", "max\n");
    say("sys/fs/cgroup/app/worker/memory.current", "1048576\n");
    assert_int_equal(memory_available_below(root), MIB);
}

static void
groups_of_version_1_count_and_one_that_is_out_of_sight_is_the_topmost_folder(void **state)
{
    (void)state;
    system_say();
    say("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/0123\n0::/\n");
    say("sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152\n");
    say("sys/fs/cgroup/memory/memory.usage_in_bytes", "1048576\n");
    say("sys/fs/cgroup/memory/memory.stat",
        "active_file 1\ntotal_inactive_file 524288\ntotal_active_file 0\n");
    assert_int_equal(memory_available_below(root), MIB + MIB / 2);
}

static void a_group_over_its_limit_leaves_nothing(void **state)
{
    (void)state;
    system_say();
    say("proc/self/cgroup", "0::/app\n");
    say("sys/fs/cgroup/app/memory.max", "1048576\n");
    say("sys/fs/cgroup/app/memory.current", "2097152\n");
    assert_int_equal(memory_available_below(root), 0);
}

static void this_machine_has_some(void **state)
{
    (void)state;
    uint64_t bytes = memory_available_bytes();
    assert_true(bytes > MIB && bytes < UINT64_MAX);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(nothing_known_is_no_bound),
        TEST(the_system_is_a_bound),
        TEST(a_group_leaves_its_limit_less_what_is_no_file),
        TEST(the_limit_of_a_group_above_counts),
        TEST(groups_of_version_1_count_and_one_that_is_out_of_sight_is_the_topmost_folder),
        TEST(a_group_over_its_limit_leaves_nothing),
        TEST(this_machine_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
