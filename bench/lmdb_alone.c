/* The baseline of the warm tier: the keys and values of tiers_load in a bare LMDB environment, and
 * nothing of ours around it. Figures go to standard output as lines of NAME VALUE.
 *
 * Happy path: fill puts all keys in order, as many a transaction as a flush of the engine takes,
 * each transaction synced; read looks up uniformly random keys on several threads for a while, each
 * look-up in a snapshot of its own, its value copied out. LMDB reads on the caller's thread, so
 * that as many wait for the disk at a time as there are threads. Any error ends the program with
 * 1. */
#include "workload.h"

#include <endian.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEY_BYTES            64
#define VALUE_BYTES_MAX      (1u << 20)
#define KEYS_PER_TRANSACTION 4096
#define THREADS_MAX          1024
#define READERS_SPARE        8
#define CLOCK_STRIDE         64 /* Look-ups between two looks at the clock */
#define FILE_MODE            0644
/* Per key beyond it and its value: at most a page half filled, and the branches above. */
#define OVERHEAD_BYTES 8192

struct load {
    uint64_t keys;
    size_t value_bytes;
    unsigned threads;
    double seconds;
    MDB_env *env;
    MDB_dbi tree;
};

struct worker {
    struct load *load;
    unsigned char *value;
    MDB_txn *txn;
    struct workload_random random;
    uint64_t done;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "lmdb_alone: %s: %s\n", what, why);
    exit(1);
}

static void check(int rc, const char *what)
{
    if (rc != 0)
        die(what, mdb_strerror(rc));
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* As tiers_load makes them: numbers are in key order. */
static void fill_key(char key[KEY_BYTES], uint64_t number)
{
    uint64_t big_endian = htobe64(number);

    memset(key, 'k', KEY_BYTES - sizeof big_endian);
    memcpy(key + KEY_BYTES - sizeof big_endian, &big_endian, sizeof big_endian);
}

/* With the flags of the warm tier. */
static void env_open(struct load *load, const char *folder)
{
    MDB_txn *txn;

    check(mdb_env_create(&load->env), "making the environment");
    check(mdb_env_set_mapsize(load->env,
                              load->keys * (load->value_bytes + OVERHEAD_BYTES) + VALUE_BYTES_MAX),
          "setting the size of the map");
    check(mdb_env_set_maxreaders(load->env, THREADS_MAX + READERS_SPARE), "setting the readers");
    check(mdb_env_open(load->env, folder, MDB_NOTLS | MDB_NORDAHEAD, FILE_MODE), folder);
    check(mdb_txn_begin(load->env, NULL, 0, &txn), "a transaction did not begin");
    check(mdb_dbi_open(txn, NULL, 0, &load->tree), "the tree did not open");
    check(mdb_txn_commit(txn), "a transaction did not commit");
}

static void run_fill(struct load *load)
{
    static unsigned char value[VALUE_BYTES_MAX];
    struct workload_random random;
    char key[KEY_BYTES];
    MDB_txn *txn = NULL;
    double began = seconds_of(CLOCK_MONOTONIC);

    workload_random_init(&random, 1);
    for (uint64_t i = 0; i < load->keys; i++) {
        MDB_val name = {.mv_size = KEY_BYTES, .mv_data = key};
        MDB_val data = {.mv_size = load->value_bytes, .mv_data = value};
        if (i % KEYS_PER_TRANSACTION == 0)
            check(mdb_txn_begin(load->env, NULL, 0, &txn), "a transaction did not begin");
        fill_key(key, i);
        for (size_t at = 0; at < load->value_bytes; at += sizeof(uint64_t)) {
            uint64_t word = workload_random_next(&random);
            memcpy(value + at, &word, sizeof word);
        }
        check(mdb_put(txn, load->tree, &name, &data, 0), "a put failed");
        if (i % KEYS_PER_TRANSACTION == KEYS_PER_TRANSACTION - 1 || i + 1 == load->keys)
            check(mdb_txn_commit(txn), "a transaction did not commit");
    }
    printf("puts_per_second %.0f\n", (double)load->keys / (seconds_of(CLOCK_MONOTONIC) - began));
}

static void read_one(struct worker *worker)
{
    char key[KEY_BYTES];
    MDB_val name = {.mv_size = KEY_BYTES, .mv_data = key}, data;

    fill_key(key, workload_random_next(&worker->random) % worker->load->keys);
    check(mdb_txn_renew(worker->txn), "a snapshot was not had");
    check(mdb_get(worker->txn, worker->load->tree, &name, &data), "a read failed");
    if (data.mv_size != worker->load->value_bytes)
        die("a read failed", "a value of another length");
    memcpy(worker->value, data.mv_data, data.mv_size);
    mdb_txn_reset(worker->txn);
    worker->done++;
}

static void *run_reader(void *argument)
{
    struct worker *worker = argument;
    double end = seconds_of(CLOCK_MONOTONIC) + worker->load->seconds;

    while (seconds_of(CLOCK_MONOTONIC) < end) {
        for (unsigned i = 0; i < CLOCK_STRIDE; i++)
            read_one(worker);
    }
    return NULL;
}

static void worker_open(struct worker *worker, struct load *load, unsigned number)
{
    *worker = (struct worker){.load = load, .value = malloc(load->value_bytes)};
    if (worker->value == NULL)
        die("starting a thread", "out of memory");
    check(mdb_txn_begin(load->env, NULL, MDB_RDONLY, &worker->txn), "a snapshot was not had");
    mdb_txn_reset(worker->txn);
    workload_random_init(&worker->random, (uint64_t)getpid() * THREADS_MAX + number);
}

static void run_read(struct load *load)
{
    static struct worker workers[THREADS_MAX];
    static pthread_t threads[THREADS_MAX];
    uint64_t done = 0;

    for (unsigned i = 0; i < load->threads; i++)
        worker_open(&workers[i], load, i);
    double began = seconds_of(CLOCK_MONOTONIC);
    double processor_began = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned i = 0; i < load->threads; i++) {
        if (pthread_create(&threads[i], NULL, run_reader, &workers[i]) != 0)
            die("reading", "a thread could not be started");
    }
    for (unsigned i = 0; i < load->threads; i++)
        pthread_join(threads[i], NULL);
    double elapsed = seconds_of(CLOCK_MONOTONIC) - began;
    double processor = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - processor_began;
    for (unsigned i = 0; i < load->threads; i++) {
        done += workers[i].done;
        mdb_txn_abort(workers[i].txn);
        free(workers[i].value);
    }
    printf("reads_per_second %.0f\nreads_per_cpu_second %.0f\n", (double)done / elapsed,
           (double)done / processor);
}

static const char *usage = "usage: lmdb_alone fill|read FOLDER [NAME=NUMBER]...\n"
                           "numbers: keys value_bytes threads seconds\n";

static void set(struct load *load, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    size_t name_len = equals == NULL ? 0 : (size_t)(equals - assignment);
    uint64_t number = equals == NULL ? 0 : strtoull(equals + 1, NULL, 10);

#define NAMED(name) (name_len == strlen(name) && strncmp(assignment, name, name_len) == 0)
    if (NAMED("keys"))
        load->keys = number;
    else if (NAMED("value_bytes"))
        load->value_bytes = number;
    else if (NAMED("threads"))
        load->threads = (unsigned)number;
    else if (NAMED("seconds"))
        load->seconds = (double)number;
    else
        die(assignment, usage);
#undef NAMED
}

int main(int argc, char **argv)
{
    struct load load = {.keys = 100000, .value_bytes = 1024, .threads = 1, .seconds = 1};

    if (argc < 3)
        die("too few arguments", usage);
    for (int i = 3; i < argc; i++)
        set(&load, argv[i]);
    if (load.keys == 0 || load.keys > UINT32_MAX || load.value_bytes == 0 ||
        load.value_bytes % sizeof(uint64_t) != 0 || load.value_bytes > VALUE_BYTES_MAX ||
        load.threads == 0 || load.threads > THREADS_MAX || load.seconds <= 0)
        die("a number is out of its range", usage);
    env_open(&load, argv[2]);
    if (strcmp(argv[1], "fill") == 0)
        run_fill(&load);
    else if (strcmp(argv[1], "read") == 0)
        run_read(&load);
    else
        die(argv[1], usage);
    mdb_env_close(load.env);
    return fflush(stdout) == 0 ? 0 : 1;
}
