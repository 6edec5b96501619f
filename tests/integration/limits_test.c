/* Full disks, directories that cannot be used, and identities that do not fit: clear errors, and
 * nothing acknowledged is lost. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/process.h"
#include "lib/random.h"
#include "lib/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define VALUE_BYTES 32768
#define KEYS_MAX    8192

/* A disk of its own for node 0, mounted on its data directory. */
static struct cluster *cluster;
static bool mounted;
static char ballast[1024];
/* Keys 0 to n_acknowledged - 1 were acknowledged; key i holds its number, then filling. */
static size_t n_acknowledged;

static void value_make(size_t i, char *ret_value)
{
    random_text(i, ret_value, VALUE_BYTES);
    ret_value[snprintf(ret_value, 32, "%zu:", i)] = '.';
}

static struct http_answer put_next(void)
{
    static char value[VALUE_BYTES];
    char path[64];
    struct http_answer answer;

    value_make(n_acknowledged, value);
    snprintf(path, sizeof(path), "/key/full/%zu", n_acknowledged);
    http_run(&(struct http_request){.method = "PUT",
                                    .address = cluster_address(cluster, 0),
                                    .path = path,
                                    .body = value,
                                    .body_len = sizeof(value)},
             &answer);
    if (answer.status == 200)
        n_acknowledged++;
    return answer;
}

static void compare_acknowledged(void)
{
    static char wanted[VALUE_BYTES];

    for (size_t i = 0; i < n_acknowledged; i++) {
        char path[64];
        struct http_answer answer;
        snprintf(path, sizeof(path), "/key/full/%zu?raw", i);
        http_run(&(struct http_request){.address = cluster_address(cluster, 0), .path = path},
                 &answer);
        if (answer.status != 200)
            fail_msg("GET %s: %ld %s", path, answer.status, answer.body);
        value_make(i, wanted);
        assert_int_equal(answer.body_len, VALUE_BYTES);
        assert_memory_equal(answer.body, wanted, VALUE_BYTES);
        http_free(&answer);
    }
}

static bool mount_disk(uint64_t bytes)
{
    char options[32];
    const char *directory = cluster_directory(cluster, 0);

    assert_int_equal(mkdir(directory, 0700), 0);
    snprintf(options, sizeof(options), "size=%llu", (unsigned long long)bytes);
    mounted = mount("tierkv-test", directory, "tmpfs", MS_NODEV | MS_NOSUID, options) == 0;
    if (!mounted)
        print_message("skipped: mounting a small tmpfs is not permitted here: %s\n",
                      strerror(errno));
    snprintf(ballast, sizeof(ballast), "%s/ballast", directory);
    n_acknowledged = 0;
    return mounted;
}

static void unmount_disk(void)
{
    if (mounted && umount2(cluster_directory(cluster, 0), MNT_DETACH) != 0)
        print_message("umount: %s\n", strerror(errno));
    mounted = false;
}

static void discard_cluster(void)
{
    /* The folder goes with the cluster: the mount first. */
    if (cluster_node_running(cluster, 0)) {
        cluster_node_signal(cluster, 0, SIGTERM);
        assert_int_equal(cluster_node_wait_exit(cluster, 0, 60000), 0);
    }
    unmount_disk();
    cluster_stop(cluster);
}

static int teardown(void **state)
{
    if (mounted)
        unmount_disk();
    return cluster_teardown(state);
}

/* Fills the disk until about `left` bytes are free. */
static void fill_disk(uint64_t left)
{
    struct statvfs status = {0};
    int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && statvfs(cluster_directory(cluster, 0), &status) == 0);
    uint64_t bytes_free = (uint64_t)status.f_bavail * status.f_frsize;
    if (bytes_free > left)
        assert_int_equal(posix_fallocate(fd, 0, (off_t)(bytes_free - left)), 0);
    close(fd);
}

static void writes_are_refused_before_the_disk_is_full_and_taken_again_when_it_is_not(void **state)
{
    static const char *const flags[] = {"--flush-interval=100ms", NULL};
    struct http_answer answer;
    long status = 200;

    (void)state;
    cluster = cluster_new(1, flags);
    if (!mount_disk((uint64_t)384 << 20)) {
        cluster_stop(cluster);
        skip();
    }
    cluster_node_start(cluster, 0);
    cluster_node_wait_ready(cluster, 0);
    for (int i = 0; i < 100; i++) {
        answer = put_next();
        assert_int_equal(answer.status, 200);
        http_free(&answer);
    }
    /* Below the reserve of 128 MiB, and far from full. */
    fill_disk((uint64_t)120 << 20);
    for (uint64_t deadline = test_now_ms() + 20000; status == 200 && test_now_ms() < deadline;) {
        answer = put_next();
        status = answer.status;
        if (status != 200)
            assert_non_null(strstr(answer.body, "\"error\""));
        http_free(&answer);
    }
    assert_int_equal(status, 507);
    compare_acknowledged();
    assert_int_equal(http_get_status(cluster_address(cluster, 0), "/livez"), 200);
    assert_int_equal(unlink(ballast), 0);
    for (uint64_t deadline = test_now_ms() + 20000; status != 200 && test_now_ms() < deadline;) {
        answer = put_next();
        status = answer.status;
        http_free(&answer);
        test_sleep_ms(20);
    }
    assert_int_equal(status, 200);
    compare_acknowledged();
    cluster_node_kill(cluster, 0);
    cluster_node_start(cluster, 0);
    cluster_node_wait_ready(cluster, 0);
    compare_acknowledged();
    discard_cluster();
}

static long ask_leader(const char *method, const char *path, const char *body)
{
    const char *address = cluster_address(cluster, cluster_wait_leader(cluster));
    struct http_answer answer;
    long status;

    http_run(
        &(struct http_request){.method = method, .address = address, .path = path, .body = body},
        &answer);
    status = answer.status;
    http_free(&answer);
    return status;
}

/* Each of them may be the one without whom a new leader's first entry is not committed. */
static void nodes_whose_disks_are_nearly_full_elect_a_leader_and_are_read(void **state)
{
    static const char *const flags[] = {"--election-timeout=500ms", "--heartbeat=50ms", NULL};
    const uint64_t more_than_there_is = UINT64_C(1) << 40;
    char flag[64];
    struct statvfs status;

    (void)state;
    cluster = cluster_start(3, flags);
    assert_int_equal(statvfs(cluster_directory(cluster, 0), &status), 0);
    if ((uint64_t)status.f_bavail * status.f_frsize > more_than_there_is / 2) {
        print_message("skipped: the disk is too large to be called full\n");
        cluster_stop(cluster);
        skip();
    }
    assert_int_equal(ask_leader("PUT", "/key/a", "1"), 200);
    snprintf(flag, sizeof(flag), "--disk-free-bytes-min=%llu",
             (unsigned long long)more_than_there_is);
    for (size_t i = 0; i < 3; i++) {
        cluster_node_kill(cluster, i);
        cluster_node_flag(cluster, i, flag);
    }
    for (size_t i = 0; i < 3; i++)
        cluster_node_start(cluster, i);
    for (size_t i = 0; i < 3; i++)
        cluster_node_wait_ready(cluster, i);
    assert_int_equal(ask_leader("GET", "/key/a?level=consistent", NULL), 200);
    assert_int_equal(ask_leader("PUT", "/key/a", "2"), 507);
    cluster_stop(cluster);
}

/* Waits until the node's log has one of two texts. */
static void expect_log(const char *text, const char *other)
{
    bool found = false;
    for (uint64_t deadline = test_now_ms() + 10000; !found && test_now_ms() < deadline;) {
        char *log = cluster_log(cluster, 0);
        found = strstr(log, text) != NULL || strstr(log, other) != NULL;
        free(log);
        test_sleep_ms(20);
    }
    assert_true(found);
}

/* Without the reserve the disk really fills up. The node may end then, but it has to say why, and
 * to have kept everything. */
static void a_disk_that_is_really_full_loses_no_acknowledged_write(void **state)
{
    static const char *const flags[] = {"--disk-free-bytes-min=0", "--flush-interval=100ms",
                                        "--hot-bytes=8MiB", NULL};
    long status = 200;

    (void)state;
    cluster = cluster_new(1, flags);
    if (!mount_disk((uint64_t)128 << 20)) {
        cluster_stop(cluster);
        skip();
    }
    cluster_node_start(cluster, 0);
    cluster_node_wait_ready(cluster, 0);
    fill_disk((uint64_t)60 << 20);
    while (status == 200 && n_acknowledged < KEYS_MAX) {
        struct http_answer answer = put_next();
        status = answer.status;
        if (status != 200)
            print_message("after %zu writes: %ld %s\n", n_acknowledged, status, answer.body);
        http_free(&answer);
    }
    assert_true(n_acknowledged < KEYS_MAX);
    assert_true(n_acknowledged > 100);
    assert_true(status == 507 || status == 503 || status == 0);
    if (http_get_status(cluster_address(cluster, 0), "/livez") == 200)
        compare_acknowledged();
    expect_log("no space left", "is full");
    assert_int_equal(unlink(ballast), 0);
    for (uint64_t deadline = test_now_ms() + 20000; status != 200 && test_now_ms() < deadline;) {
        if (http_get_status(cluster_address(cluster, 0), "/livez") != 200) {
            assert_int_not_equal(cluster_node_wait_exit(cluster, 0, 20000), 0);
            cluster_node_start(cluster, 0);
            cluster_node_wait_ready(cluster, 0);
        }
        struct http_answer answer = put_next();
        status = answer.status;
        http_free(&answer);
        test_sleep_ms(20);
    }
    assert_int_equal(status, 200);
    compare_acknowledged();
    discard_cluster();
}

/* Starts a node that must refuse, and say why in words that name `reason`. */
static void expect_refusal(const char *reason, const char *data_dir, const char *flag)
{
    char directory[1024];
    struct process_result result;

    snprintf(directory, sizeof(directory), "--data-dir=%s", data_dir);
    process_run((const char *const[]){TIERKVD_PATH, directory, "--http-listen=127.0.0.1:0",
                                      "--raft-listen=127.0.0.1:0", flag, NULL},
                NULL, 0, 30000, &result);
    if (result.status <= 0 || result.status > 127 || strstr(result.errors, reason) == NULL)
        print_message("status %d: %s\n", result.status, result.errors);
    assert_in_range(result.status, 1, 127);
    assert_non_null(strstr(result.errors, reason));
    process_result_free(&result);
}

static void directories_that_cannot_be_used_are_named(void **state)
{
    char folder[TEMP_FOLDER_PATH_BYTES], file[TEMP_FOLDER_PATH_BYTES + 16],
        below[TEMP_FOLDER_PATH_BYTES + 16], cold[TEMP_FOLDER_PATH_BYTES + 32];

    (void)state;
    temp_folder_make(folder);
    snprintf(file, sizeof(file), "%s/file", folder);
    snprintf(below, sizeof(below), "%s/file/x", folder);
    snprintf(cold, sizeof(cold), "--cold-dir=%s/file", folder);
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    expect_refusal(file, file, NULL);
    expect_refusal(below, below, NULL);
    snprintf(below, sizeof(below), "%s/data", folder);
    expect_refusal(file, below, cold);
    expect_refusal("/proc/nowhere", "/proc/nowhere", NULL);
    temp_folder_remove(folder);
}

static void a_read_only_disk_is_named(void **state)
{
    (void)state;
    cluster = cluster_new(1, NULL);
    if (!mount_disk((uint64_t)16 << 20)) {
        cluster_stop(cluster);
        skip();
    }
    assert_int_equal(mount(NULL, cluster_directory(cluster, 0), NULL, MS_REMOUNT | MS_RDONLY, NULL),
                     0);
    expect_refusal(cluster_directory(cluster, 0), cluster_directory(cluster, 0), NULL);
    unmount_disk();
    cluster_stop(cluster);
}

static void a_second_process_and_another_identity_are_refused(void **state)
{
    (void)state;
    cluster = cluster_start(1, NULL);
    expect_refusal(cluster_directory(cluster, 0), cluster_directory(cluster, 0), NULL);
    assert_int_equal(http_get_status(cluster_address(cluster, 0), "/readyz"), 200);
    cluster_node_signal(cluster, 0, SIGTERM);
    assert_int_equal(cluster_node_wait_exit(cluster, 0, 60000), 0);
    expect_refusal("n0", cluster_directory(cluster, 0), "--node-id=other");
    cluster_node_start(cluster, 0);
    cluster_node_wait_ready(cluster, 0);
    cluster_stop(cluster);
}

static void a_port_in_use_is_named(void **state)
{
    char folder[TEMP_FOLDER_PATH_BYTES], flag[64];

    (void)state;
    cluster = cluster_start(1, NULL);
    temp_folder_make(folder);
    snprintf(flag, sizeof(flag), "--http-listen=%s", cluster_address(cluster, 0));
    expect_refusal(cluster_address(cluster, 0), folder, flag);
    temp_folder_remove(folder);
    temp_folder_make(folder);
    snprintf(flag, sizeof(flag), "--raft-listen=%s", cluster_raft_address(cluster, 0));
    expect_refusal(cluster_raft_address(cluster, 0), folder, flag);
    temp_folder_remove(folder);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(
            writes_are_refused_before_the_disk_is_full_and_taken_again_when_it_is_not, teardown),
        cmocka_unit_test_teardown(nodes_whose_disks_are_nearly_full_elect_a_leader_and_are_read,
                                  teardown),
        cmocka_unit_test_teardown(a_disk_that_is_really_full_loses_no_acknowledged_write, teardown),
        cmocka_unit_test_teardown(directories_that_cannot_be_used_are_named, teardown),
        cmocka_unit_test_teardown(a_read_only_disk_is_named, teardown),
        cmocka_unit_test_teardown(a_second_process_and_another_identity_are_refused, teardown),
        cmocka_unit_test_teardown(a_port_in_use_is_named, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
