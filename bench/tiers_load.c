/* Loads the engine through its public API, for bench/tiers: one measurement a call, its figures on
 * standard output as lines of NAME VALUE.
 *
 * Happy path: fill makes folders whose state the other commands open; each prints what it measured
 * and closes the engine. Values are random bytes, so that compression does not flatter a rate. Any
 * error ends the program with 1: a benchmark on half the data would be worth nothing. */
#include "process_usage.h"
#include "workload.h"

#include <tiers/tiers.h>

#include <endian.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* As tierkvd has it; read by jemalloc. */
extern const char *malloc_conf;
const char *malloc_conf = "thp:always";

#define KEY_BYTES       64
#define VALUE_BYTES_MAX (1u << 20)
#define KEYS_PER_GROUP  500
#define THREADS_MAX     64
#define DEPTH_MAX       1024
#define WAIT_SECONDS    600.0 /* For any one piece of background work */
#define STILL_SECONDS   3.0   /* Background work that shows nothing for so long is at its end */
#define START_SECONDS   10.0  /* Or had not begun */
#define POLL_MS         100
#define CLOCK_STRIDE    1024       /* Reads from memory between two looks at the clock */
#define KEYS_AHEAD      1024       /* Keys that are written at a time */
#define DRAWN           (1u << 22) /* Keys of a thread that are drawn beforehand: a draw takes time */

struct load {
    struct tiers_options options;
    const char *command;
    uint64_t keys;
    size_t value_bytes;
    unsigned threads;
    unsigned depth; /* Of all threads together */
    unsigned batch; /* Reads that a thread begins at a time, having told of their keys */
    double seconds;
    double theta; /* Of Zipf's law, by which keys are read; 0: uniformly */
    struct zipf zipf;
    struct tiers *tiers;
};

struct slot {
    struct tiers_read read;
    struct worker *worker;
};

struct worker {
    struct load *load;
    struct tiers_reader *reader;
    struct slot *slots;
    struct slot **idle;
    unsigned n_slots;
    unsigned n_idle;
    struct workload_random random;
    uint32_t *drawn; /* NULL: uniformly, as they are needed */
    size_t n_drawn;  /* Used so far, and over again */
    /* The next ones. Written some time before they are used, as are those that a request brings:
     * what was written just now, in parts, is slow to read as a whole. */
    char (*keys)[KEY_BYTES];
    unsigned n_used; /* Of those */
    uint64_t done;
} __attribute__((aligned(128))); /* No two threads write to one line */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "tiers_load: %s: %s\n", what, why);
    exit(1);
}

static void check(int status, const char *what)
{
    if (status != 0)
        die(what, tiers_strerror(status));
}

static double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double processor_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

/* Numbers are in key order. */
static void fill_key(char key[KEY_BYTES], uint64_t number)
{
    uint64_t big_endian = htobe64(number);

    memset(key, 'k', KEY_BYTES - sizeof big_endian);
    memcpy(key + KEY_BYTES - sizeof big_endian, &big_endian, sizeof big_endian);
}

static void failed(void *context, int error, const char *detail)
{
    (void)context;
    die(tiers_strerror(error), detail);
}

static void load_open(struct load *load)
{
    char error[512] = "";

    load->options.on_failed = failed;
    if (tiers_open(&load->options, &load->tiers, error, sizeof error) != 0)
        die("the engine did not open", error);
}

static struct tiers_stats stats(struct load *load)
{
    struct tiers_stats now;

    tiers_stats(load->tiers, &now);
    return now;
}

static void await_ready(struct load *load)
{
    double began = seconds_now();

    while (!tiers_apply_ready(load->tiers)) {
        if (seconds_now() - began > WAIT_SECONDS)
            die("writing", "the engine took no more writes");
        pause_ms(1);
    }
}

/* Puts all keys, or deletes every key but each `keep_every`-th. */
static void apply_all(struct load *load, uint64_t keep_every)
{
    static unsigned char value[VALUE_BYTES_MAX];
    struct tiers_position position;
    struct workload_random random;
    char key[KEY_BYTES];

    workload_random_init(&random, 1);
    tiers_position_applied(load->tiers, &position);
    for (uint64_t i = 0; i < load->keys; i++) {
        if (i % KEYS_PER_GROUP == 0) {
            await_ready(load);
            tiers_apply_begin(load->tiers, ++position.index);
        }
        fill_key(key, i);
        if (keep_every == 0) {
            for (size_t at = 0; at < load->value_bytes; at += sizeof(uint64_t)) {
                uint64_t word = workload_random_next(&random);
                memcpy(value + at, &word, sizeof word);
            }
            check(tiers_put(load->tiers, TIERS_SPACE_USER, key, KEY_BYTES, value, load->value_bytes,
                            0, 0, tiers_revision_next(load->tiers)),
                  "a put failed");
        } else if (i % keep_every != 0) {
            bool existed = false;
            check(tiers_delete(load->tiers, TIERS_SPACE_USER, key, KEY_BYTES,
                               tiers_revision_next(load->tiers), &existed),
                  "a deletion failed");
        }
        if (i % KEYS_PER_GROUP == KEYS_PER_GROUP - 1 || i + 1 == load->keys)
            tiers_apply_end(load->tiers);
    }
    check(tiers_flush(load->tiers), "the flush failed");
}

static void print_memory(struct load *load)
{
    struct tiers_stats now = stats(load);
    struct process_usage usage;

    process_usage(&usage);
    printf("anonymous_bytes %llu\nhot_bytes %llu\ncold_keys %llu\nwarm_keys %llu\n",
           (unsigned long long)usage.anonymous_bytes, (unsigned long long)now.hot_bytes,
           (unsigned long long)now.cold_keys, (unsigned long long)now.warm_keys);
}

/* Bytes that were moved so far, but for a constant. */
typedef uint64_t (*moved_bytes)(const struct tiers_stats *figures);

static uint64_t demoted(const struct tiers_stats *figures)
{
    return figures->cold_written_bytes;
}

/* Read, of segments that are gone, and written again. */
static uint64_t compacted(const struct tiers_stats *figures)
{
    return figures->cold_written_bytes - figures->cold_bytes + figures->compacted_bytes;
}

static uint64_t moved_now(struct load *load, moved_bytes moved)
{
    struct tiers_stats figures = stats(load);

    return moved(&figures);
}

/* Waits until a counter has stood still for STILL_SECONDS; prints how fast it grew before that,
 * from its first step, whose beginning is not known, to its last. Prints nothing if there were not
 * two: small amounts may be moved before the clock starts. */
static void print_rate(struct load *load, const char *name, moved_bytes moved)
{
    double began = seconds_now(), first = 0, last = began;
    uint64_t start = 0, before = moved_now(load, moved);

    while (seconds_now() - began < WAIT_SECONDS) {
        pause_ms(POLL_MS / 10);
        double now = seconds_now();
        uint64_t count = moved_now(load, moved);
        if (count != before) {
            if (first == 0)
                first = now, start = count;
            before = count;
            last = now;
        } else if (now - last > (first == 0 ? START_SECONDS : STILL_SECONDS)) {
            break;
        }
    }
    if (first > 0 && last > first)
        printf("%s_bytes_per_second %.0f\n", name, (double)(before - start) / (last - first));
}

/* Writes all keys and lets demotion end: the index alone may be above the budget, so that only a
 * standstill tells. */
static void run_fill(struct load *load)
{
    struct tiers_placement placement;

    apply_all(load, 0);
    double began = seconds_now(), last = began;
    uint64_t before = 0;
    while (seconds_now() - began < WAIT_SECONDS) {
        double now = seconds_now();
        uint64_t moved = stats(load).demoted_keys;
        tiers_placement(load->tiers, &placement);
        if (moved != before)
            last = now;
        before = moved;
        if (!placement.demoting || moved >= load->keys || now - last > STILL_SECONDS)
            break;
        pause_ms(POLL_MS);
    }
    check(tiers_flush(load->tiers), "the flush failed");
    print_memory(load);
}

/* What lies in the warm tier goes to the cold one, whose budget is what the options say. */
static void run_demote(struct load *load)
{
    print_rate(load, "demote", demoted);
}

/* Three of four values die, and the segments that they lie in are made anew. */
static void run_compact(struct load *load)
{
    apply_all(load, 4);
    print_rate(load, "compact", compacted);
}

static void read_done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    struct slot *slot = read->owner;
    struct worker *worker = slot->worker;

    check(status, "a read failed");
    tiers_record_release(record);
    worker->idle[worker->n_idle++] = slot;
    worker->done++;
}

/* Reads by one after the other of so many keys until one has to wait; returns how many were asked
 * for. A slot is idle. */
static unsigned read_keys(struct worker *worker, const char (*keys)[KEY_BYTES], unsigned n)
{
    struct tiers_reader *reader = worker->reader;
    struct tiers_read *read = &worker->idle[worker->n_idle - 1]->read;

    for (unsigned i = 0; i < n; i++) {
        const struct tiers_record *record = NULL;
        int status = tiers_reader_get(reader, TIERS_SPACE_USER, keys[i], KEY_BYTES, read, &record);
        if (status == TIERS_PENDING) {
            worker->n_idle--;
            worker->done += i;
            return i + 1;
        }
        check(status, "a read failed");
        tiers_record_release(record);
    }
    worker->done += n;
    return n;
}

static uint64_t key_next(struct worker *worker)
{
    if (worker->drawn != NULL)
        return worker->drawn[worker->n_drawn++ % DRAWN];
    /* There are fewer than 2^32. */
    return (workload_random_next(&worker->random) >> 32) * worker->load->keys >> 32;
}

static void keys_fill(struct worker *worker)
{
    for (size_t i = 0; i < KEYS_AHEAD; i++)
        fill_key(worker->keys[i], key_next(worker));
    worker->n_used = 0;
}

/* Reads of some of the next keys, having told of them if more than one is to be told of at a time;
 * returns how many. */
static unsigned read_some(struct worker *worker)
{
    const unsigned batch = worker->load->batch;
    if (worker->n_used == KEYS_AHEAD)
        keys_fill(worker);
    const char(*keys)[KEY_BYTES] = worker->keys + worker->n_used;
    unsigned n = KEYS_AHEAD - worker->n_used;

    if (batch > 1) {
        struct tiers_key told[TIERS_PREFETCH_MAX];
        n = n < batch ? n : batch;
        for (unsigned i = 0; i < n; i++)
            told[i] = (struct tiers_key){.bytes = keys[i], .len = KEY_BYTES};
        tiers_prefetch(worker->load->tiers, TIERS_SPACE_USER, told, n);
    }
    n = read_keys(worker, keys, n);
    worker->n_used += n;
    return n;
}

static void *run_reader(void *argument)
{
    struct worker *worker = argument;
    double end = seconds_now() + worker->load->seconds;
    struct pollfd waiting = {.fd = tiers_reader_fd(worker->reader), .events = POLLIN};

    while (seconds_now() < end) {
        for (unsigned i = 0; i < CLOCK_STRIDE && worker->n_idle > 0;)
            i += read_some(worker);
        if (worker->n_idle == 0)
            poll(&waiting, 1, POLL_MS);
        if (worker->n_idle < worker->n_slots)
            tiers_reader_complete(worker->reader);
    }
    return NULL;
}

static void keys_draw(struct worker *worker)
{
    const struct load *load = worker->load;

    worker->drawn = malloc(DRAWN * sizeof *worker->drawn);
    if (worker->drawn == NULL)
        die("drawing keys", "out of memory");
    for (size_t i = 0; i < DRAWN; i++)
        worker->drawn[i] =
            (uint32_t)workload_scatter(zipf_next(&load->zipf, &worker->random), load->keys);
}

static void worker_open(struct worker *worker, struct load *load, unsigned number)
{
    *worker =
        (struct worker){.load = load, .n_slots = load->depth / load->threads, .n_used = KEYS_AHEAD};
    worker->slots = calloc(worker->n_slots, sizeof *worker->slots);
    worker->idle = calloc(worker->n_slots, sizeof *worker->idle);
    worker->keys = malloc(KEYS_AHEAD * sizeof *worker->keys);
    if (worker->slots == NULL || worker->idle == NULL || worker->keys == NULL)
        die("opening a reader", "out of memory");
    check(tiers_reader_open(load->tiers, &worker->reader), "a reader did not open");
    workload_random_init(&worker->random, (uint64_t)getpid() * THREADS_MAX + number);
    if (load->theta > 0)
        keys_draw(worker);
    for (unsigned i = 0; i < worker->n_slots; i++) {
        struct slot *slot = &worker->slots[i];
        slot->worker = worker;
        slot->read = (struct tiers_read){.done = read_done, .owner = slot};
        worker->idle[worker->n_idle++] = slot;
    }
}

/* Random reads by all threads for the given time. */
static void run_read(struct load *load)
{
    struct worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    struct tiers_stats before = stats(load), after;
    uint64_t done = 0;

    for (unsigned i = 0; i < load->threads; i++)
        worker_open(&workers[i], load, i);
    double began = seconds_now(), processor_began = processor_seconds();
    for (unsigned i = 0; i < load->threads; i++) {
        if (pthread_create(&threads[i], NULL, run_reader, &workers[i]) != 0)
            die("reading", "a thread could not be started");
    }
    for (unsigned i = 0; i < load->threads; i++)
        pthread_join(threads[i], NULL);
    double elapsed = seconds_now() - began, processor = processor_seconds() - processor_began;
    for (unsigned i = 0; i < load->threads; i++) {
        done += workers[i].done;
        tiers_reader_close(workers[i].reader);
        free(workers[i].slots);
        free(workers[i].idle);
        free(workers[i].keys);
        free(workers[i].drawn);
    }
    after = stats(load);
    double hits = (double)(after.hits_hot - before.hits_hot + after.hits_warm - before.hits_warm +
                           after.hits_cold - before.hits_cold);
    printf("reads_per_second %.0f\nreads_per_cpu_second %.0f\nhot_share %.4f\nwarm_share %.4f\n"
           "cold_share %.4f\n",
           (double)done / elapsed, (double)done / processor,
           (double)(after.hits_hot - before.hits_hot) / hits,
           (double)(after.hits_warm - before.hits_warm) / hits,
           (double)(after.hits_cold - before.hits_cold) / hits);
}

/* Keys that all fit in memory, read by one thread and then by two. */
static void run_hot(struct load *load)
{
    apply_all(load, 0);
    for (load->threads = 1; load->threads <= 2; load->threads++) {
        load->depth = load->threads * load->batch;
        printf("threads %u\n", load->threads);
        run_read(load);
    }
}

static void run_stay(struct load *load)
{
    uint64_t before = stats(load).cold_written_bytes;

    pause_ms((long)(load->seconds * 1000));
    printf("cold_bytes_per_second %.0f\n",
           (double)(stats(load).cold_written_bytes - before) / load->seconds);
}

static const struct {
    const char *name;
    void (*run)(struct load *load);
} commands[] = {{"fill", run_fill},      {"demote", run_demote}, {"compact", run_compact},
                {"read", run_read},      {"hot", run_hot},       {"stay", run_stay},
                {"memory", print_memory}};

static const char *usage =
    "usage: tiers_load COMMAND WARM_DIR COLD_DIR [NAME=NUMBER]...\n"
    "commands: fill demote compact read hot stay memory\n"
    "numbers: keys value_bytes threads depth seconds hot_bytes warm_bytes map_bytes\n"
    "         segment_bytes cold_limit direct_io batch zipf_percent\n";

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
    else if (NAMED("depth"))
        load->depth = (unsigned)number;
    else if (NAMED("batch"))
        load->batch = number < TIERS_PREFETCH_MAX ? (unsigned)number : TIERS_PREFETCH_MAX;
    else if (NAMED("seconds"))
        load->seconds = (double)number;
    else if (NAMED("zipf_percent"))
        load->theta = (double)number / 100;
    else if (NAMED("hot_bytes"))
        load->options.hot_bytes = number;
    else if (NAMED("warm_bytes"))
        load->options.warm_bytes = number;
    else if (NAMED("map_bytes"))
        load->options.warm_map_bytes = number;
    else if (NAMED("segment_bytes"))
        load->options.cold_segment_bytes = number;
    else if (NAMED("cold_limit"))
        load->options.cold_write_bytes_per_second_max = number;
    else if (NAMED("direct_io"))
        load->options.direct_io = number != 0;
    else
        die(assignment, usage);
#undef NAMED
}

int main(int argc, char **argv)
{
    struct load load = {
        .keys = 100000, .value_bytes = 64, .threads = 1, .depth = 1, .batch = 1, .seconds = 1};
    size_t at = 0;

    if (argc < 4)
        die("too few arguments", usage);
    tiers_options_init(&load.options);
    load.options.warm_dir = argv[2];
    load.options.cold_dir = argv[3];
    for (int i = 4; i < argc; i++)
        set(&load, argv[i]);
    if (load.keys == 0 || load.value_bytes == 0 || load.value_bytes % sizeof(uint64_t) != 0 ||
        load.value_bytes > VALUE_BYTES_MAX || load.threads == 0 || load.threads > THREADS_MAX ||
        load.theta >= 1 || load.keys > UINT32_MAX || load.depth < load.threads ||
        load.depth > DEPTH_MAX || load.seconds <= 0)
        die("a number is out of its range", usage);
    load.options.read_depth_max = load.depth / load.threads;
    while (at < sizeof commands / sizeof commands[0] && strcmp(commands[at].name, argv[1]) != 0)
        at++;
    if (at == sizeof commands / sizeof commands[0])
        die(argv[1], usage);
    if (load.theta > 0)
        zipf_init(&load.zipf, load.keys, load.theta);
    load_open(&load);
    commands[at].run(&load);
    check(tiers_close(load.tiers), "the engine did not close well");
    return fflush(stdout) == 0 ? 0 : 1;
}
