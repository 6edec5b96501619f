/* The settings of tierkvd: one table from which flags, environment, YAML, defaults, help and checks
 * come.
 *
 * Precedence: --flag, then TIERKV_FLAG in the environment, then the YAML file (--config), then the
 * default. Names are those of the table with - for _ in flags and upper case in the environment.
 * An empty environment variable counts as not set.
 */
#ifndef TIERKV_CONFIG_H
#define TIERKV_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* X(type, field, default as text, least, most, help). Types: text (least and most bound its
 * length), u64 (plain), bytes (takes KiB, MiB, GiB, TiB suffixes), ms (takes ms, s, m, h suffixes),
 * flag (true or false), choice (help begins with the choices in braces). */
#define CONFIG_TABLE(X)                                                                            \
    X(text, data_dir, "", 0, 4096, "directory of this node's state (required)")                    \
    X(text, cold_dir, "", 0, 4096, "directory of the cold tier; empty: DATA_DIR/cold")             \
    X(text, node_id, "", 0, 64, "name of this node; empty: the one stored in DATA_DIR, or node1")  \
    X(text, http_listen, "127.0.0.1:8091", 1, 255,                                                 \
      "where clients connect, HOST:PORT; port 0: any free one")                                    \
    X(text, http_address, "", 0, 255, "address given to clients; empty: http_listen")              \
    X(text, raft_listen, "127.0.0.1:8089", 1, 255,                                                 \
      "where peers connect, HOST:PORT; port 0: any free one, for trials")                          \
    X(text, raft_address, "", 0, 255, "address given to peers; empty: raft_listen")                \
    X(text, join, "", 0, 4096,                                                                     \
      "client addresses of running nodes, separated by commas; empty: bootstrap a new cluster")    \
    X(u64, http_loops, "0", 0, 256, "threads that serve clients; 0: one per core")                 \
    X(u64, connections_max, "10000", 1, 1000000, "client connections at most")                     \
    X(u64, requests_in_flight_max, "16384", 1, 1000000,                                            \
      "requests that wait, per thread; beyond: 503")                                               \
    X(bytes, max_value_bytes, "1MiB", 1, 16777216, "size of a value at most")                      \
    X(bytes, max_body_bytes, "4MiB", 64, 67108864, "size of a POST body at most")                  \
    X(ms, request_timeout, "10s", 10, 600000, "time after which a waiting write is answered 503")  \
    X(ms, idle_timeout, "60s", 100, 86400000,                                                      \
      "time after which a connection is closed that is idle, or moves next to nothing")            \
    X(bytes, buffers_bytes_max, "256MiB", 1048576, 1099511627776,                                  \
      "bodies and answers under way at most, about; beyond, connections that hold the most are "   \
      "cut")                                                                                       \
    X(ms, drain_timeout, "5s", 0, 600000, "time that requests under way have at shutdown")         \
    X(ms, election_timeout, "1s", 50, 60000,                                                       \
      "silence of the leader after which an election starts")                                      \
    X(ms, heartbeat, "100ms", 5, 10000, "interval of the leader's heartbeats")                     \
    X(u64, operations_max, "65536", 1, 10000000,                                                   \
      "writes and consistent reads that wait at most; beyond: 503")                                \
    X(bytes, operations_bytes_max, "64MiB", 1048576, 1099511627776,                                \
      "bytes of waiting writes at most")                                                           \
    X(bytes, entry_bytes_max, "1MiB", 4096, 8388608, "a log entry is closed at this size")         \
    X(u64, entries_in_flight_max, "8", 1, 1024, "log entries under way at most")                   \
    X(flag, log_compression, "true", 0, 0, "compress the log entries of many or large writes")     \
    X(bytes, transfer_bytes_per_second_max, "128MiB", 0, 1099511627776,                            \
      "at which the state is sent to a node that lacks it; 0: as fast as it goes")                 \
    X(bytes, transfer_log_bytes_max, "16GiB", 0, 1099511627776,                                    \
      "disk for writes that a node which is given the state has yet to get")                       \
    X(bytes, log_retained_bytes, "1GiB", 0, 1099511627776,                                         \
      "disk for writes that a member which was away has yet to get; beyond: the whole state")      \
    X(bytes, log_cache_bytes, "16MiB", 1048576, 1099511627776,                                     \
      "memory for the log that followers may still need")                                          \
    X(bytes, disk_free_bytes_min, "128MiB", 0, 1099511627776,                                      \
      "writes are refused when a disk has less free space")                                        \
    X(bytes, hot_bytes, "256MiB", 1048576, 1125899906842624, "memory of the hot tier")             \
    X(bytes, warm_bytes, "4GiB", 1048576, 1125899906842624,                                        \
      "SSD space of the warm tier that demotion aims at")                                          \
    X(bytes, warm_map_bytes, "1TiB", 16777216, 17592186044416, "limit of the warm tier's file")    \
    X(bytes, cold_segment_bytes, "256MiB", 1048576, 4294967296,                                    \
      "size at which a cold segment is sealed")                                                    \
    X(ms, flush_interval, "1s", 10, 600000, "age at which writes are flushed to the warm tier")    \
    X(bytes, flush_bytes, "32MiB", 65536, 1099511627776, "amount at which writes are flushed")     \
    X(bytes, dirty_bytes_max, "0", 0, 1125899906842624,                                            \
      "unflushed writes at which applying pauses; 0: half of hot_bytes")                           \
    X(u64, disk_reads_in_flight_max, "256", 1, 65536, "reads of disks under way, per thread")      \
    X(u64, warm_reader_threads, "32", 1, 256,                                                      \
      "threads at most that wait for the warm tier's disk, for all others")                        \
    X(u64, cold_read_percent_max, "5", 1, 100,                                                     \
      "share of reads from the cold disk above which values return more eagerly")                  \
    X(bytes, cold_write_bytes_per_second_max, "0", 0, 1125899906842624,                            \
      "limit on writes to the cold disk unless the warm tier is far over its size; 0: none")       \
    X(bytes, compact_bytes_per_second_max, "0", 0, 1125899906842624,                               \
      "limit on reads and writes of compaction; 0: none")                                          \
    X(ms, scrub_interval, "168h", 0, 31536000000,                                                  \
      "time in which all cold segments are verified once; 0: never")                               \
    X(bytes, scrub_bytes_per_second_max, "8MiB", 0, 1125899906842624,                              \
      "limit on reads of the verification; 0: none")                                               \
    X(flag, force_new_cluster, "false", 0, 0,                                                      \
      "the majority is lost for good: go on alone, as a new cluster with this node's data")        \
    X(flag, direct_io, "true", 0, 0, "bypass the page cache for cold segments where possible")     \
    X(flag, curve, "true", 0, 0,                                                                   \
      "sample some keys to predict the hit rate by memory and policy: GET /tiers/curve")           \
    X(text, tier_prices, "4,0.1,0.02", 5, 64,                                                      \
      "of memory, SSD and HDD per GB and month, for GET /tiers/cost")                              \
    X(text, tier_latencies, "1,100,8000", 5, 64,                                                   \
      "of a read from memory, SSD and HDD in microseconds, likewise")                              \
    X(choice, policy, "lru", 0, 0,                                                                 \
      "{lru,clock,slru,twoq,arc,s3fifo,sieve,wtinylfu,auto} eviction policy of the hot tier; "     \
      "auto: "                                                                                     \
      "whichever the curves show to be the best")                                                  \
    X(choice, log_level, "info", 0, 0, "{debug,info,warning,error} least level that is logged")    \
    X(choice, log_format, "logfmt", 0, 0, "{logfmt,json} form of log lines")

enum config_setting {
#define X(type, field, text, least, most, help) CONFIG_SETTING_##field,
    CONFIG_TABLE(X)
#undef X
        CONFIG_SETTINGS_N
};

enum config_source {
    CONFIG_FROM_DEFAULT,
    CONFIG_FROM_FILE,
    CONFIG_FROM_ENVIRONMENT,
    CONFIG_FROM_FLAG
};

/* After config_load no text is NULL. */
struct config {
#define CONFIG_FIELD_text(field)                char *field;
#define CONFIG_FIELD_choice(field)              char *field;
#define CONFIG_FIELD_u64(field)                 uint64_t field;
#define CONFIG_FIELD_bytes(field)               uint64_t field;
#define CONFIG_FIELD_ms(field)                  uint64_t field; /* In milliseconds */
#define CONFIG_FIELD_flag(field)                bool field;
#define X(type, field, text, least, most, help) CONFIG_FIELD_##type(field)
    CONFIG_TABLE(X)
#undef X
    enum config_source sources[CONFIG_SETTINGS_N];
};

enum config_action { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION, CONFIG_PRINT };

/* Reads and checks everything, relations between settings included. On failure (-1) error_text is
 * one line that names the setting, where it came from and what is allowed. `config` must be closed
 * in either case. With CONFIG_HELP and CONFIG_VERSION nothing is read and `config` is empty; with
 * CONFIG_PRINT data_dir may be missing. */
int config_load(struct config *config, int argc, char **argv, enum config_action *ret_action,
                char *error_text, size_t error_text_size);
void config_close(struct config *config);

void config_help(FILE *out);
/* The settings in force as a YAML file that --config accepts, each with a comment on where it came
 * from. */
void config_print(const struct config *config, FILE *out);

#endif
