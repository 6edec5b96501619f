/* A node whose files were damaged while it was down refuses to start and names the file; once the
 * file is what it was, the node has all its keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/cluster.h"
#include "lib/http.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEYS       60
#define PATH_BYTES 1024
#define EXIT_MS    30000

static void keys_put(const struct cluster *cluster)
{
    for (int i = 0; i < KEYS; i++) {
        char path[64];
        struct http_answer answer;
        snprintf(path, sizeof path, "/key/k%d", i);
        struct http_request request = {
            .method = "PUT", .address = cluster_address(cluster, 0), .path = path, .body = path};
        http_run(&request, &answer);
        assert_int_equal(answer.status, 200);
        http_free(&answer);
    }
}

static void keys_expect(const struct cluster *cluster)
{
    for (int i = 0; i < KEYS; i++) {
        char path[64];
        struct http_answer answer;
        snprintf(path, sizeof path, "/key/k%d?raw", i);
        struct http_request request = {.address = cluster_address(cluster, 0), .path = path};
        http_run(&request, &answer);
        assert_int_equal(answer.status, 200);
        assert_memory_equal(answer.body, path, strlen(path) - strlen("?raw"));
        http_free(&answer);
    }
}

static void stop(struct cluster *cluster)
{
    cluster_node_signal(cluster, 0, SIGTERM);
    assert_int_equal(cluster_node_wait_exit(cluster, 0, EXIT_MS), 0);
}

static void bit_flip(const char *path, off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fail_msg("%s cannot be opened", path);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* With the bit flipped the node ends by itself, and its last words have the name. */
static void expect_refusal(struct cluster *cluster, const char *path, off_t at, const char *name)
{
    bit_flip(path, at);
    char *before = cluster_log(cluster, 0);
    cluster_node_start(cluster, 0);
    assert_int_not_equal(cluster_node_wait_exit(cluster, 0, EXIT_MS), 0);
    char *after = cluster_log(cluster, 0);
    if (strstr(after + strlen(before), name) == NULL)
        fail_msg("%s is not named in: %s", name, after + strlen(before));
    free(before);
    free(after);
    bit_flip(path, at);
}

/* The segments of the Raft log that are complete: two numbers. */
static size_t segments_list(const char *folder, char names[][64], size_t n_max)
{
    size_t n = 0;
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL && n < n_max;)
        if (strlen(entry->d_name) == 33 && entry->d_name[16] == '-')
            snprintf(names[n++], 64, "%.63s", entry->d_name);
    closedir(stream);
    return n;
}

static void a_node_with_damaged_files_refuses_to_start_and_names_them(void **state)
{
    struct cluster *cluster = *state = cluster_start(1, NULL);
    char raft[PATH_BYTES / 2], path[PATH_BYTES], names[16][64];
    keys_put(cluster);
    stop(cluster);
    snprintf(raft, sizeof raft, "%s/raft", cluster_directory(cluster, 0));
    size_t n = segments_list(raft, names, 16);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", raft, names[i]);
        expect_refusal(cluster, path, 60, names[i]);
    }
    snprintf(path, sizeof path, "%s/node", cluster_directory(cluster, 0));
    expect_refusal(cluster, path, 40, "/node");
    snprintf(path, sizeof path, "%s/state/CURRENT", cluster_directory(cluster, 0));
    expect_refusal(cluster, path, 15, "CURRENT");
    snprintf(path, sizeof path, "%s/state/1/warm/data.mdb", cluster_directory(cluster, 0));
    expect_refusal(cluster, path, 16 + 8 + 48 + 4, "data.mdb");

    cluster_node_start(cluster, 0);
    cluster_node_wait_ready(cluster, 0);
    keys_expect(cluster);
    cluster_stop(cluster);
    *state = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_node_with_damaged_files_refuses_to_start_and_names_them,
                                  cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
