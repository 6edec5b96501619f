/* tierkvd: the composition root. Reads the configuration, opens the parts from
 * the disk upwards, waits for a signal, and closes them from the network
 * downwards.
 *
 *   settings ▶ data directory ▶ tiers ▶ replica ▶ front loops ▶ joiner
 *
 * A part that cannot go on (a failed fsync, a damaged log) ends the process at
 * once with status 1: what was acknowledged is in the logs of a majority, and
 * flushing once more might make things worse. The first SIGTERM or SIGINT
 * drains, a second one ends the process at once. */
#include "address.h"
#include "config.h"
#include "http/server.h"
#include "log.h"
#include "node/datadir.h"
#include "node/joiner.h"
#include "node/listen.h"
#include "raft/replica.h"
#include "tierkv/client.h"
#include "tiers/tiers.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_USAGE 2

/* Beside client connections: files of the log and the cold tier, peers, rings,
 * event loops. */
#define DESCRIPTORS_RESERVED 512

#define ERROR_TEXT_BYTES 512

/* Read by jemalloc before main. The budget of the hot tier is a promise about
 * resident memory, so freed pages go back after a second and by a thread of
 * jemalloc's own, not when the next allocation happens to come; few arenas,
 * because records are allocated on one thread and freed on another, and each
 * arena holds on to pages of its own. A request takes 4 and 10 KiB for libh2o's
 * buffers, of which a thread otherwise caches 20: with hundreds of requests
 * under way all others would be made of pages and given back. Huge pages, where
 * the kernel leaves that to programs: memory that comes and goes with each log
 * entry and flush is then faulted in by 2 MiB, and a look-up in a large hot
 * tier misses fewer translations. */
extern const char *malloc_conf;
const char *malloc_conf = "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:4,"
                          "tcache_nslots_small_min:200,thp:always";

/* Sent to this process by itself: start again. */
#define REOPEN_SIGNAL SIGUSR2

struct node {
    struct config config;
    struct datadir datadir;
    bool datadir_opened;
    struct tiers *tiers;
    struct replica *replica;
    struct http_server *http;
    struct joiner *joiner;
    char endpoints[8192]; /* That the joiner asks: a setting and up to 16 members */
    char http_listen[300], raft_listen[300]; /* With the port that was chosen if it was 0 */
    int http_reserved_fd, raft_reserved_fd;
    uint32_t connections_max;
    bool reopened; /* It was up before in this process */
    struct tiers_cost_tiers tier_prices, tier_latencies;

    /* The tiers' callbacks come from the mover thread, also before the replica is
     * there and after it has gone. */
    pthread_mutex_t callback_mutex;
    struct replica *callback_replica; /* NULL: nobody to tell */
};

/* --------------------------------------------------------------------------
 * events of the parts */

/* Ends the process from whatever thread. Once: a second failure is only a
 * consequence. */
static void fail_now(const char *part, const char *reason)
{
    static atomic_flag failed = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&failed))
        return;
    log_error("failed", LOG_TEXT("part", part), LOG_TEXT("reason", reason));
    _exit(EXIT_FAILURE);
}

static void on_replica_failed(void *context, const char *reason)
{
    (void)context;
    fail_now("raft", reason);
}

static void on_tiers_failed(void *context, int error, const char *detail)
{
    (void)context;
    char reason[ERROR_TEXT_BYTES];
    snprintf(reason, sizeof(reason), "%s: %s", tiers_strerror(error), detail);
    fail_now("tiers", reason);
}

static void on_tiers_event(void *context, enum tiers_event_level level, const char *event,
                           const char *detail)
{
    static const enum log_level levels[] = {[TIERS_EVENT_INFO] = LOG_LEVEL_INFO,
                                            [TIERS_EVENT_WARNING] = LOG_LEVEL_WARNING,
                                            [TIERS_EVENT_ERROR] = LOG_LEVEL_ERROR};
    (void)context;
    log_at(levels[level], event, LOG_TEXT("detail", detail));
}

static void on_tiers_durable(void *context, uint64_t index)
{
    struct node *node = context;
    pthread_mutex_lock(&node->callback_mutex);
    if (node->callback_replica != NULL)
        replica_on_durable(node->callback_replica, index);
    pthread_mutex_unlock(&node->callback_mutex);
}

static void on_tiers_ready(void *context)
{
    struct node *node = context;
    pthread_mutex_lock(&node->callback_mutex);
    if (node->callback_replica != NULL)
        replica_on_tiers_ready(node->callback_replica);
    pthread_mutex_unlock(&node->callback_mutex);
}

static void callbacks_lead_to(struct node *node, struct replica *replica)
{
    pthread_mutex_lock(&node->callback_mutex);
    node->callback_replica = replica;
    pthread_mutex_unlock(&node->callback_mutex);
}

static bool is_registered(void *context)
{
    struct node *node = context;
    struct replica_view view;
    replica_view(node->replica, &view);
    return view.registered;
}

/* -------------------------------------------------------------------------------------
 * starting */

static int fail_start(const char *what, const char *reason)
{
    log_error(what, LOG_TEXT("reason", reason));
    return -1;
}

static void log_open(const struct config *config)
{
    static const char *const level_names[] = {"debug", "info", "warning", "error"};
    enum log_level level = LOG_LEVEL_DEBUG;
    while (level < LOG_LEVEL_ERROR && strcmp(level_names[level], config->log_level) != 0)
        level++;
    log_configure(level,
                  strcmp(config->log_format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT);
}

/* As many connections as were asked for must fit. A number that nobody asked
 * for is lowered. */
static int descriptors_open(struct node *node)
{
    const struct config *config = &node->config;
    const uint64_t limit = descriptors_raise();
    node->connections_max = (uint32_t)config->connections_max;
    if (limit >= config->connections_max + DESCRIPTORS_RESERVED)
        return 0;
    if (config->sources[CONFIG_SETTING_connections_max] != CONFIG_FROM_DEFAULT ||
        limit < 2 * DESCRIPTORS_RESERVED) {
        char reason[ERROR_TEXT_BYTES];
        snprintf(reason, sizeof(reason),
                 "connections_max (%llu) and %d more need a higher limit than %llu "
                 "(ulimit -n)",
                 (unsigned long long)config->connections_max, DESCRIPTORS_RESERVED,
                 (unsigned long long)limit);
        return fail_start("too few file descriptors", reason);
    }
    node->connections_max = (uint32_t)(limit - DESCRIPTORS_RESERVED);
    log_warning("connections_max lowered to what the limit of open files allows",
                LOG_U64("connections_max", node->connections_max), LOG_U64("limit", limit));
    return 0;
}

static int directory_open(struct node *node)
{
    const struct config *config = &node->config;
    char error_text[ERROR_TEXT_BYTES] = "";
    if (datadir_open(config->data_dir, config->cold_dir, &node->datadir, error_text,
                     sizeof(error_text)) != 0)
        return fail_start("data directory not opened", error_text);
    node->datadir_opened = true;
    return 0;
}

/* The settings that are lists of numbers. The configuration has checked them. */
static int figures_read(struct node *node)
{
    if (!tiers_cost_tiers_parse(node->config.tier_prices, &node->tier_prices) ||
        !tiers_cost_tiers_parse(node->config.tier_latencies, &node->tier_latencies))
        return fail_start("tier_prices or tier_latencies", "not three decimal numbers");
    return 0;
}

static int storage_open(struct node *node)
{
    const struct config *config = &node->config;
    char error_text[ERROR_TEXT_BYTES] = "";
    struct tiers_options options;
    tiers_options_init(&options);
    options.warm_dir = node->datadir.warm_path;
    options.cold_dir = node->datadir.cold_path;
    options.hot_bytes = config->hot_bytes;
    options.warm_bytes = config->warm_bytes;
    options.warm_map_bytes = config->warm_map_bytes;
    options.cold_segment_bytes = config->cold_segment_bytes;
    options.flush_bytes = config->flush_bytes;
    options.dirty_bytes_max = config->dirty_bytes_max;
    options.flush_interval_ms = (uint32_t)config->flush_interval;
    options.read_depth_max = (uint32_t)config->disk_reads_in_flight_max;
    options.warm_reader_threads = (uint32_t)config->warm_reader_threads;
    options.direct_io = config->direct_io;
    options.cold_read_permille_max = (uint32_t)(10 * config->cold_read_percent_max);
    options.cold_write_bytes_per_second_max = config->cold_write_bytes_per_second_max;
    options.compact_bytes_per_second_max = config->compact_bytes_per_second_max;
    options.scrub_bytes_per_second_max = config->scrub_bytes_per_second_max;
    options.scrub_interval_ms = config->scrub_interval;
    options.policy = config->policy;
    options.curve_off = !config->curve;
    options.context = node;
    options.on_event = on_tiers_event;
    options.on_durable = on_tiers_durable;
    options.on_ready = on_tiers_ready;
    options.on_failed = on_tiers_failed;
    if (tiers_open(&options, &node->tiers, error_text, sizeof(error_text)) != 0)
        return fail_start("tiers not opened", error_text);
    return 0;
}

static const char *http_address(const struct node *node)
{
    return *node->config.http_address != '\0' ? node->config.http_address : node->http_listen;
}

static const char *raft_address(const struct node *node)
{
    return *node->config.raft_address != '\0' ? node->config.raft_address : node->raft_listen;
}

/* A port that was chosen once is kept when the node starts again. */
static int address_open(const char *wanted, char *chosen, size_t size, int *ret_fd,
                        char *error_text)
{
    char listen[300];
    snprintf(listen, sizeof(listen), "%s", *chosen != '\0' ? chosen : wanted);
    return listen_reserve(listen, chosen, size, ret_fd, error_text, ERROR_TEXT_BYTES);
}

static int addresses_open(struct node *node)
{
    const struct config *config = &node->config;
    char error_text[ERROR_TEXT_BYTES] = "";
    if (address_open(config->http_listen, node->http_listen, sizeof(node->http_listen),
                     &node->http_reserved_fd, error_text) != 0)
        return fail_start("clients cannot be served", error_text);
    if (address_open(config->raft_listen, node->raft_listen, sizeof(node->raft_listen),
                     &node->raft_reserved_fd, error_text) != 0)
        return fail_start("peers cannot be served", error_text);
    return 0;
}

static void address_release(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* -------------------------------------------------------------------------------------
 * a state from another node */

static int state_begin(void *context, struct replica_state_paths *ret_paths, char *error_text,
                       size_t error_text_size)
{
    const struct node *node = context;
    struct datadir_next next;
    if (datadir_next(&node->datadir, &next, error_text, error_text_size) != 0)
        return -1;
    int n = snprintf(ret_paths->warm, sizeof(ret_paths->warm), "%s", next.warm_path);
    int m = snprintf(ret_paths->cold, sizeof(ret_paths->cold), "%s", next.cold_path);
    int k = snprintf(ret_paths->manifest, sizeof(ret_paths->manifest), "%s", next.manifest_path);
    datadir_next_free(&next);
    if ((size_t)n < sizeof(ret_paths->warm) && (size_t)m < sizeof(ret_paths->cold) &&
        (size_t)k < sizeof(ret_paths->manifest))
        return 0;
    snprintf(error_text, error_text_size, "the data directory's path is too long");
    return -1;
}

static int state_commit(void *context, char *error_text, size_t error_text_size)
{
    const struct node *node = context;
    return datadir_next_commit(&node->datadir, error_text, error_text_size);
}

/* The main thread starts the node again. */
static void state_received(void *context)
{
    (void)context;
    kill(getpid(), REOPEN_SIGNAL);
}

static int replica_open(struct node *node)
{
    const struct config *config = &node->config;
    char error_text[ERROR_TEXT_BYTES] = "";
    const struct replica_options options = {
        .directory = node->datadir.raft_path,
        .identity_path = node->datadir.identity_path,
        .name = config->node_id,
        .raft_address = raft_address(node),
        .raft_listen = node->raft_listen,
        .http_address = http_address(node),
        .version = TIERKV_VERSION,
        .bootstrap = *config->join == '\0',
        .force_new_cluster = config->force_new_cluster && !node->reopened,
        .election_timeout_ms = (uint32_t)config->election_timeout,
        .heartbeat_ms = (uint32_t)config->heartbeat,
        .operations_max = (uint32_t)config->operations_max,
        .operations_bytes_max = config->operations_bytes_max,
        .entry_bytes_max = config->entry_bytes_max,
        .entries_in_flight_max = (uint32_t)config->entries_in_flight_max,
        .log_compression = config->log_compression,
        .log_cache_bytes = config->log_cache_bytes,
        .disk_free_bytes_min = config->disk_free_bytes_min,
        .tiers = node->tiers,
        .transfer_bytes_per_second_max = config->transfer_bytes_per_second_max,
        .log_retained_bytes = config->log_retained_bytes,
        .transfer_log_bytes_max = config->transfer_log_bytes_max,
        .manifest_path = node->datadir.manifest_path,
        .state_begin = state_begin,
        .state_commit = state_commit,
        .state_received = state_received,
        .on_failed = on_replica_failed,
        .context = node,
    };
    if (replica_start(&options, &node->replica, error_text, sizeof(error_text)) != 0)
        return fail_start("raft not started", error_text);
    address_release(&node->raft_reserved_fd);
    callbacks_lead_to(node, node->replica);
    /* What the tiers told while there was no replica. */
    struct tiers_position durable;
    tiers_position_durable(node->tiers, &durable);
    replica_on_durable(node->replica, durable.index);
    replica_on_tiers_ready(node->replica);
    return 0;
}

static unsigned cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return (unsigned)CPU_COUNT(&set);
}

static int http_open(struct node *node)
{
    const struct config *config = &node->config;
    char error_text[ERROR_TEXT_BYTES] = "";
    const struct http_server_options options = {
        .listen = node->http_listen,
        .loops = config->http_loops != 0 ? (unsigned)config->http_loops : cores(),
        .connections_max = node->connections_max,
        .requests_in_flight_max = (uint32_t)config->requests_in_flight_max,
        .max_value_bytes = config->max_value_bytes,
        .max_body_bytes = config->max_body_bytes,
        .request_timeout_ms = (uint32_t)config->request_timeout,
        .idle_timeout_ms = (uint32_t)config->idle_timeout,
        .buffers_bytes_max = config->buffers_bytes_max,
        .name = replica_name(node->replica),
        .replica = node->replica,
        .tiers = node->tiers,
        .tier_prices = node->tier_prices,
        .tier_latencies = node->tier_latencies,
    };
    if (http_server_start(&options, &node->http, error_text, sizeof(error_text)) != 0)
        return fail_start("clients cannot be served", error_text);
    address_release(&node->http_reserved_fd);
    return 0;
}

/* Whom to ask: the nodes that the setting names, and the other members as this node last knew them,
 * separated by commas. */
static void endpoints_collect(const struct node *node, char *ret_text, size_t size)
{
    struct replica_view view;
    size_t used = (size_t)snprintf(ret_text, size, "%s", node->config.join);
    replica_view(node->replica, &view);
    for (size_t i = 0; i < view.n_members && used < size; i++) {
        const struct replica_member *member = &view.members[i];
        if (member->raft_id == replica_raft_id(node->replica) || *member->http_address == '\0')
            continue;
        used += (size_t)snprintf(ret_text + used, size - used, "%s%s", used > 0 ? "," : "",
                                 member->http_address);
    }
}

/* A new node joins; a member whose addresses or version have changed says so. One that has been a
 * member finds out whether it still is. */
static int joiner_open(struct node *node)
{
    endpoints_collect(node, node->endpoints, sizeof(node->endpoints));
    if (*node->endpoints == '\0')
        return 0;
    const struct joiner_options options = {
        .endpoints = node->endpoints,
        .node = {.name = replica_name(node->replica),
                 .http_address = http_address(node),
                 .raft_address = raft_address(node),
                 .version = TIERKV_VERSION,
                 .incarnation = replica_incarnation(node->replica)},
        .only_if_known = *node->config.join == '\0' || is_registered(node),
        .is_member = is_registered,
        .context = node,
    };
    int error = joiner_start(&options, &node->joiner);
    return error == 0 ? 0 : fail_start("joining not started", tierkv_strerror(error));
}

static int node_open(struct node *node)
{
    if (figures_read(node) != 0 || descriptors_open(node) != 0 || directory_open(node) != 0 ||
        addresses_open(node) != 0 || storage_open(node) != 0 || replica_open(node) != 0 ||
        http_open(node) != 0 || joiner_open(node) != 0)
        return -1;
    log_info("ready", LOG_TEXT("http", node->http_listen),
             LOG_TEXT("http_address", http_address(node)), LOG_TEXT("raft", node->raft_listen),
             LOG_TEXT("raft_address", raft_address(node)),
             LOG_TEXT("node", replica_name(node->replica)),
             LOG_HEX("raft_id", replica_raft_id(node->replica)),
             LOG_TEXT("data_dir", node->config.data_dir), LOG_TEXT("version", TIERKV_VERSION));
    return 0;
}

/* -------------------------------------------------------------------------------------
 * stopping */

/* Closes what is open, from the network downwards. -1: the last flush failed.
 */
static int node_close(struct node *node)
{
    int result = 0;
    /* First, while clients can still be told the new leader. */
    if (node->replica != NULL && node->http != NULL)
        replica_hand_over(node->replica);
    if (node->http != NULL)
        http_server_stop(node->http, (uint32_t)node->config.drain_timeout);
    joiner_stop(node->joiner);
    if (node->replica != NULL) {
        callbacks_lead_to(node, NULL);
        replica_stop(node->replica);
    }
    http_server_free(node->http);
    if (node->tiers != NULL) {
        int error = tiers_close(node->tiers);
        if (error != 0)
            result = fail_start("last flush failed", tiers_strerror(error));
    }
    if (node->datadir_opened)
        datadir_close(&node->datadir);
    address_release(&node->http_reserved_fd);
    address_release(&node->raft_reserved_fd);
    node->http = NULL;
    node->joiner = NULL;
    node->replica = NULL;
    node->tiers = NULL;
    node->datadir_opened = false;
    return result;
}

static void end_at_once(int signal_number)
{
    _exit(128 + signal_number);
}

static void stop_signals(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    sigaddset(ret_signals, REOPEN_SIGNAL);
}

/* Before any thread is made, so that all inherit the mask. */
static void signals_open(void)
{
    sigset_t signals;
    stop_signals(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* Writing to a closed connection is an error code, no more */
}

/* False: the node is to stop; true: to start again, on the state that it has received. */
static bool wait_for_signal(void)
{
    sigset_t signals;
    int signal_number;
    stop_signals(&signals);
    while (sigwait(&signals, &signal_number) != 0)
        ;
    if (signal_number == REOPEN_SIGNAL)
        return true;
    log_info("stopping", LOG_TEXT("signal", strsignal(signal_number)));
    signal(SIGTERM, end_at_once);
    signal(SIGINT, end_at_once);
    /* Nothing starts again any more: a state that is received just now can wait. */
    sigdelset(&signals, REOPEN_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    return false;
}

/* Runs the node, as often as it has to start anew. -1: it could not start, or its last flush
 * failed. */
static int node_run(struct node *node)
{
    for (;;) {
        if (node_open(node) != 0) {
            node_close(node);
            return -1;
        }
        bool again = wait_for_signal();
        node->reopened = true;
        int result = node_close(node);
        if (!again || result != 0)
            return result;
    }
}

int main(int argc, char **argv)
{
    static struct node node = {.http_reserved_fd = -1,
                               .raft_reserved_fd = -1,
                               .callback_mutex = PTHREAD_MUTEX_INITIALIZER};
    enum config_action action;
    char error_text[ERROR_TEXT_BYTES] = "";
    if (config_load(&node.config, argc, argv, &action, error_text, sizeof(error_text)) != 0) {
        fprintf(stderr, "tierkvd: %s\n", error_text);
        config_close(&node.config);
        return EXIT_USAGE;
    }
    if (action != CONFIG_RUN) {
        if (action == CONFIG_HELP)
            config_help(stdout);
        else if (action == CONFIG_VERSION)
            puts("tierkvd " TIERKV_VERSION);
        else
            config_print(&node.config, stdout);
        config_close(&node.config);
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    log_open(&node.config);
    signals_open();
    int result = node_run(&node);
    if (result == 0)
        log_info("stopped");
    pthread_mutex_destroy(&node.callback_mutex);
    config_close(&node.config);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
