/* The cluster harness: processes, ports, folders, and waiting with a bound. */
#include "lib/cluster.h"

#include "lib/hosts.h"
#include "lib/http.h"
#include "lib/port.h"
#include "lib/process.h"
#include "lib/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLAGS_MAX     32
#define PREFIX_MAX    8
#define WAIT_MS_MAX   60000
#define LOG_TAIL_MAX  4000
#define CLUSTERS_MAX  4
#define ADDRESS_BYTES 32

struct node {
    pid_t pid; /* 0: not running */
    char http[ADDRESS_BYTES], raft[ADDRESS_BYTES];
    char directory[TEMP_FOLDER_PATH_BYTES + 32], log_path[TEMP_FOLDER_PATH_BYTES + 32];
    char *flags[FLAGS_MAX];
    size_t n_flags;
};

struct cluster {
    char folder[TEMP_FOLDER_PATH_BYTES];
    char endpoints[CLUSTER_NODES_MAX * ADDRESS_BYTES];
    struct node nodes[CLUSTER_NODES_MAX];
    size_t n_nodes;
};

/* Those not yet stopped. */
static struct cluster *alive[CLUSTERS_MAX];

static const char *program = TIERKVD_PATH;

void cluster_use_program(const char *path)
{
    program = path != NULL ? path : TIERKVD_PATH;
}

static void print_tail(const struct cluster *cluster, size_t index)
{
    char *log = cluster_log(cluster, index);
    size_t length = strlen(log);
    const char *tail = length > LOG_TAIL_MAX ? log + length - LOG_TAIL_MAX : log;
    fprintf(stderr, "---- node %zu (%s) %s\n%s\n", index, cluster->nodes[index].http,
            cluster->nodes[index].log_path, tail);
    free(log);
}

/* Ends the test. cluster_teardown prints the logs. */
static void __attribute__((format(printf, 1, 2))) give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "cluster harness: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    fail();
}

/* ------------------------------------------------------------------------------ making, freeing */

static void choose_addresses(struct node *node, size_t index)
{
    bool on_host = hosts_count() > 0;
    const char *host = on_host ? hosts_address(index) : "127.0.0.1";

    snprintf(node->http, sizeof(node->http), "%s:%u", host, on_host ? 8091 : port_free());
    snprintf(node->raft, sizeof(node->raft), "%s:%u", host, on_host ? 8092 : port_free());
}

static void add_flag(struct node *node, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void add_flag(struct node *node, const char *format, ...)
{
    va_list arguments;
    assert_true(node->n_flags < FLAGS_MAX);
    va_start(arguments, format);
    assert_true(vasprintf(&node->flags[node->n_flags], format, arguments) >= 0);
    va_end(arguments);
    node->n_flags++;
}

struct cluster *cluster_new(size_t n_nodes, const char *const flags[])
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    size_t slot = 0;

    assert_non_null(cluster);
    assert_in_range(n_nodes, 1, CLUSTER_NODES_MAX);
    while (slot < CLUSTERS_MAX && alive[slot] != NULL)
        slot++;
    assert_true(slot < CLUSTERS_MAX);
    alive[slot] = cluster;
    temp_folder_make(cluster->folder);
    cluster->n_nodes = n_nodes;
    for (size_t i = 0; i < n_nodes; i++) {
        struct node *node = &cluster->nodes[i];
        choose_addresses(node, i);
        snprintf(node->directory, sizeof(node->directory), "%s/n%zu", cluster->folder, i);
        snprintf(node->log_path, sizeof(node->log_path), "%s/n%zu.log", cluster->folder, i);
        size_t length = strlen(cluster->endpoints);
        snprintf(cluster->endpoints + length, sizeof(cluster->endpoints) - length, "%s%s",
                 i > 0 ? "," : "", node->http);
        add_flag(node, "--data-dir=%s", node->directory);
        add_flag(node, "--node-id=n%zu", i);
        add_flag(node, "--http-listen=%s", node->http);
        add_flag(node, "--raft-listen=%s", node->raft);
        if (i > 0)
            add_flag(node, "--join=%s", cluster->nodes[0].http);
        for (size_t j = 0; flags != NULL && flags[j] != NULL; j++)
            add_flag(node, "%s", flags[j]);
    }
    return cluster;
}

struct cluster *cluster_start(size_t n_nodes, const char *const flags[])
{
    struct cluster *cluster = cluster_new(n_nodes, flags);
    for (size_t i = 0; i < n_nodes; i++) {
        cluster_node_start(cluster, i);
        cluster_node_wait_ready(cluster, i);
    }
    return cluster;
}

static void release(struct cluster *cluster, bool keep)
{
    for (size_t slot = 0; slot < CLUSTERS_MAX; slot++)
        if (alive[slot] == cluster)
            alive[slot] = NULL;
    if (keep)
        fprintf(stderr, "---- kept: %s\n", cluster->folder);
    else
        temp_folder_remove(cluster->folder);
    for (size_t i = 0; i < cluster->n_nodes; i++)
        for (size_t j = 0; j < cluster->nodes[i].n_flags; j++)
            free(cluster->nodes[i].flags[j]);
    free(cluster);
}

void cluster_stop(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (cluster->nodes[i].pid != 0)
            cluster_node_signal(cluster, i, SIGTERM);
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        if (cluster->nodes[i].pid == 0)
            continue;
        int status = cluster_node_wait_exit(cluster, i, WAIT_MS_MAX);
        if (status != 0)
            give_up("node %zu ended with status %d after SIGTERM", i, status);
    }
    release(cluster, false);
}

int cluster_teardown(void **state)
{
    (void)state;
    for (size_t slot = 0; slot < CLUSTERS_MAX; slot++) {
        struct cluster *cluster = alive[slot];
        if (cluster == NULL)
            continue;
        for (size_t i = 0; i < cluster->n_nodes; i++) {
            print_tail(cluster, i);
            if (cluster->nodes[i].pid != 0) {
                kill(cluster->nodes[i].pid, SIGKILL);
                process_wait(cluster->nodes[i].pid, WAIT_MS_MAX);
            }
        }
        release(cluster, getenv("TIERKV_KEEP") != NULL);
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------- nodes */

void cluster_node_flag(struct cluster *cluster, size_t index, const char *flag)
{
    add_flag(&cluster->nodes[index], "%s", flag);
}

void cluster_node_start(struct cluster *cluster, size_t index)
{
    struct node *node = &cluster->nodes[index];
    const char *arguments[PREFIX_MAX + FLAGS_MAX + 2] = {NULL};
    size_t n = 0;

    assert_int_equal(node->pid, 0);
    if (hosts_count() > 0)
        for (const char *const *word = hosts_prefix(index); *word != NULL; word++)
            arguments[n++] = *word;
    arguments[n++] = program;
    for (size_t j = 0; j < node->n_flags; j++)
        arguments[n++] = node->flags[j];
    node->pid = process_start(arguments, node->log_path);
}

/* Notices a node that ended by itself. */
static void expect_running(struct cluster *cluster, size_t index)
{
    struct node *node = &cluster->nodes[index];
    if (node->pid == 0)
        give_up("node %zu does not run", index);
    int status = process_wait(node->pid, 0);
    if (status == -1)
        return;
    node->pid = 0;
    give_up("node %zu ended with status %d", index, status);
}

void cluster_node_wait_ready(struct cluster *cluster, size_t index)
{
    uint64_t deadline = test_now_ms() + WAIT_MS_MAX;
    while (http_get_status(cluster->nodes[index].http, "/readyz") != 200) {
        expect_running(cluster, index);
        if (test_now_ms() > deadline)
            give_up("node %zu did not become ready", index);
        test_sleep_ms(10);
    }
}

void cluster_node_kill(struct cluster *cluster, size_t index)
{
    cluster_node_signal(cluster, index, SIGKILL);
    cluster_node_wait_exit(cluster, index, WAIT_MS_MAX);
}

void cluster_node_signal(struct cluster *cluster, size_t index, int signal)
{
    expect_running(cluster, index);
    assert_int_equal(kill(cluster->nodes[index].pid, signal), 0);
}

int cluster_node_wait_exit(struct cluster *cluster, size_t index, uint64_t timeout_ms)
{
    struct node *node = &cluster->nodes[index];
    assert_int_not_equal(node->pid, 0);
    int status = process_wait(node->pid, timeout_ms);
    if (status == -1)
        give_up("node %zu did not end in %" PRIu64 " ms", index, timeout_ms);
    node->pid = 0;
    return status;
}

bool cluster_node_running(const struct cluster *cluster, size_t index)
{
    return cluster->nodes[index].pid != 0;
}

const char *cluster_address(const struct cluster *cluster, size_t index)
{
    return cluster->nodes[index].http;
}

const char *cluster_raft_address(const struct cluster *cluster, size_t index)
{
    return cluster->nodes[index].raft;
}

const char *cluster_endpoints(const struct cluster *cluster)
{
    return cluster->endpoints;
}

const char *cluster_directory(const struct cluster *cluster, size_t index)
{
    return cluster->nodes[index].directory;
}

char *cluster_log(const struct cluster *cluster, size_t index)
{
    FILE *file = fopen(cluster->nodes[index].log_path, "re");
    struct stat status;
    size_t length = 0;
    char *text;

    if (file == NULL || fstat(fileno(file), &status) != 0)
        status.st_size = 0;
    text = calloc(1, (size_t)status.st_size + 1);
    assert_non_null(text);
    if (file != NULL) {
        length = fread(text, 1, (size_t)status.st_size, file);
        fclose(file);
    }
    text[length] = '\0';
    return text;
}

/* --------------------------------------------------------------------------------------- status */

json_t *cluster_status(const struct cluster *cluster, size_t index)
{
    struct http_answer answer;
    http_run(&(struct http_request){.address = cluster->nodes[index].http,
                                    .path = "/status",
                                    .timeout_ms = 5000},
             &answer);
    json_t *root = answer.status == 200 ? json_loadb(answer.body, answer.body_len, 0, NULL) : NULL;
    http_free(&answer);
    return root;
}

/* The value at "a.b.c"; NULL: absent. */
static json_t *at_path(json_t *root, const char *path)
{
    char name[64];
    while (root != NULL && *path != '\0') {
        size_t length = strcspn(path, ".");
        snprintf(name, sizeof(name), "%.*s", (int)length, path);
        root = json_object_get(root, name);
        path += length + (path[length] == '.');
    }
    return root;
}

uint64_t cluster_status_number(const struct cluster *cluster, size_t index, const char *path)
{
    json_t *root = cluster_status(cluster, index);
    json_t *value = at_path(root, path);
    if (!json_is_integer(value))
        give_up("/status of node %zu has no number %s", index, path);
    uint64_t number = (uint64_t)json_integer_value(value);
    json_decref(root);
    return number;
}

size_t cluster_wait_leader(struct cluster *cluster)
{
    uint64_t deadline = test_now_ms() + WAIT_MS_MAX;
    while (test_now_ms() < deadline) {
        for (size_t i = 0; i < cluster->n_nodes; i++) {
            if (cluster->nodes[i].pid == 0)
                continue;
            json_t *root = cluster_status(cluster, i);
            const char *role = json_string_value(at_path(root, "role"));
            bool leads = role != NULL && strcmp(role, "leader") == 0;
            json_decref(root);
            if (leads)
                return i;
        }
        test_sleep_ms(20);
    }
    give_up("no node became leader");
    return 0;
}

/* Whether all running nodes are at one index; *ret_equal: with one hash. */
static bool compare_states(struct cluster *cluster, bool *ret_equal)
{
    json_t *first = NULL;
    bool same_index = true;
    *ret_equal = true;
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        if (cluster->nodes[i].pid == 0)
            continue;
        json_t *status = cluster_status(cluster, i);
        if (first == NULL)
            first = json_incref(status);
        same_index &= status != NULL && json_equal(json_object_get(status, "applied_index"),
                                                   json_object_get(first, "applied_index"));
        *ret_equal &=
            json_is_string(json_object_get(status, "state_hash")) &&
            json_equal(json_object_get(status, "state_hash"), json_object_get(first, "state_hash"));
        json_decref(status);
    }
    json_decref(first);
    return same_index;
}

void cluster_expect_agreement(struct cluster *cluster)
{
    uint64_t deadline = test_now_ms() + WAIT_MS_MAX;
    bool equal = false;
    while (!compare_states(cluster, &equal)) {
        if (test_now_ms() > deadline)
            give_up("the nodes did not come to one applied index");
        test_sleep_ms(20);
    }
    if (!equal)
        give_up("the nodes are at one applied index with different states");
}
