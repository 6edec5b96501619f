/* The warm tier's file verified while it is in use: whatever a read could meet is found and named,
 * and a load that goes on beside it is never taken for damage. The limit above which a file is not
 * checked at opening is one of these tests, not the real one.
 *
 * TIERKV_DAMAGE_RUNS: how many bits are flipped (80); TIERKV_SCRUB_ROUNDS: how long the load goes
 * on beside the scrubber (400).
 */
#include "engine_fixture.h"

#include "file.h"
#include "little_endian.h"
#include "mover_private.h"
#include "numbered.h"
#include "warm_layout.h"
#include "warm_row.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS        1500
#define PAGE_BYTES  4096
#define INTERVAL_MS 3600000
#define CHECK_BYTES 65536
#define ROUNDS      400
#define FLIPS       80

struct scrubbed {
    struct fixture *f;
    struct model *model;
    char path[TEMP_FOLDER_PATH_BYTES + 32];
    uint64_t random;
};

static uint64_t environment(const char *name, uint64_t otherwise)
{
    const char *given = getenv(name);
    return given != NULL ? strtoull(given, NULL, 10) : otherwise;
}

static size_t value_bytes(struct scrubbed *s)
{
    static const size_t limits[] = {20, 300, 1500, 12000};
    return random_next(&s->random) % limits[random_next(&s->random) % 4];
}

static void steps(struct fixture *f)
{
    for (int i = 0; i < 10000 && mover_step(f->tiers->mover); i++) {
    }
}

static void change(struct scrubbed *s)
{
    size_t number = random_next(&s->random) % KEYS;
    if (random_next(&s->random) % 4 == 0) {
        model_delete_group(s->f->tiers, s->model, number);
    } else {
        model_put_group(s->f->tiers, s->model, number, value_bytes(s));
    }
}

/* Keys of all sizes, some deleted; nothing was demoted, the file is closed and whole. */
static int set_up(void **state)
{
    struct scrubbed *s = calloc(1, sizeof *s);
    if (s == NULL) {
        abort();
    }
    s->f = fixture_new();
    s->f->options.now_ms = fixture_clock;
    s->f->options.warm_bytes = 64u << 20;
    s->f->options.scrub_interval_ms = INTERVAL_MS;
    s->random = random_seed();
    s->model = model_new(KEYS);
    snprintf(s->path, sizeof s->path, "%s/data.mdb", s->f->warm_dir);
    fixture_open(s->f, false);
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(s->f->tiers, s->model, i, value_bytes(s));
    }
    for (int i = 0; i < KEYS; i++) {
        change(s);
    }
    fixture_close(s->f);
    s->f->options.warm_check_bytes_max = CHECK_BYTES;
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scrubbed *s = *state;
    file_faults_set(NULL);
    model_free(s->model);
    fixture_free(s->f);
    free(s);
    return 0;
}

/* ---- A whole file ---- */

static void a_file_too_large_to_be_checked_at_opening_is_verified_at_once(void **state)
{
    struct scrubbed *s = *state;
    fixture_open(s->f, false);
    steps(s->f);
    struct tiers_stats stats = fixture_stats(s->f);
    assert_int_equal(stats.warm_scrubs, 1);
    assert_true(stats.warm_scrubbed_bytes >= stats.warm_used_bytes);
    s->f->clock_ms += INTERVAL_MS - 1;
    steps(s->f);
    assert_int_equal(fixture_stats(s->f).warm_scrubs, 1);
    s->f->clock_ms += 1;
    steps(s->f);
    assert_int_equal(fixture_stats(s->f).warm_scrubs, 2);
    assert_int_equal(fixture_stats(s->f).checksum_errors, 0);
}

static void a_file_that_was_checked_at_opening_is_verified_an_interval_later(void **state)
{
    struct scrubbed *s = *state;
    s->f->options.warm_check_bytes_max = 0;
    fixture_open(s->f, false);
    steps(s->f);
    assert_int_equal(fixture_stats(s->f).warm_scrubbed_bytes, 0);
    s->f->clock_ms += INTERVAL_MS;
    steps(s->f);
    assert_int_equal(fixture_stats(s->f).warm_scrubs, 1);
}

static void the_limit_of_the_scrubber_holds(void **state)
{
    struct scrubbed *s = *state;
    s->f->options.scrub_bytes_per_second_max = 100000;
    fixture_open(s->f, false);
    uint64_t begun_ms = s->f->clock_ms;
    while (fixture_stats(s->f).warm_scrubs == 0) {
        s->f->clock_ms += 50;
        steps(s->f);
        uint64_t ms = s->f->clock_ms - begun_ms;
        assert_true(fixture_stats(s->f).warm_scrubbed_bytes <= 100 * (ms + 250) + (300u << 10));
        assert_true(ms < INTERVAL_MS);
    }
}

/* Flushes, demotion, promotion and compaction between any two pieces. */
static void a_load_that_goes_on_is_not_taken_for_damage(void **state)
{
    struct scrubbed *s = *state;
    struct tiers_reader *reader = NULL;
    s->f->options.warm_bytes = 2u << 20;
    s->f->options.scrub_interval_ms = 1;
    s->f->options.scrub_bytes_per_second_max = 20u << 20;
    fixture_open(s->f, false);
    assert_int_equal(tiers_reader_open(s->f->tiers, &reader), 0);
    for (uint64_t rounds = environment("TIERKV_SCRUB_ROUNDS", ROUNDS); rounds > 0; rounds--) {
        for (uint64_t n = random_next(&s->random) % 20; n > 0; n--) {
            change(s);
        }
        for (uint64_t n = random_next(&s->random) % 20; n > 0; n--) {
            model_expect(s->model, reader, random_next(&s->random) % KEYS);
        }
        if (random_next(&s->random) % 3 == 0) {
            assert_int_equal(tiers_flush(s->f->tiers), 0);
        }
        s->f->clock_ms += random_next(&s->random) % 40;
        steps(s->f);
        assert_int_equal(s->f->failures, 0);
    }
    struct tiers_stats stats = fixture_stats(s->f);
    print_message("%llu passes beside %llu demoted, %llu promoted, %llu compacted\n",
                  (unsigned long long)stats.warm_scrubs, (unsigned long long)stats.demoted_keys,
                  (unsigned long long)stats.promoted_warm_keys,
                  (unsigned long long)stats.compacted_segments);
    assert_true(stats.warm_scrubs > 5);
    assert_true(stats.demoted_keys > 0);
    assert_int_equal(stats.checksum_errors, 0);
    tiers_reader_close(reader);
    model_expect_all(s->model, s->f->tiers);
}

/* ---- Damage ---- */

static void file_read_all(const char *path, unsigned char **ret_bytes, size_t *ret_n)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    *ret_n = (size_t)status.st_size;
    *ret_bytes = malloc(*ret_n);
    assert_non_null(*ret_bytes);
    assert_int_equal(read(fd, *ret_bytes, *ret_n), *ret_n);
    close(fd);
}

static void bytes_put(const char *path, size_t at, const void *bytes, size_t n)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, (off_t)at), n);
    close(fd);
}

enum verdict { UNHURT = 10, REFUSED, STOPPED, REPORTED, WRONG, UNSEEN };

static void child_failed(void *context, int error, const char *detail)
{
    struct fixture *f = context;
    f->failures += error == TIERS_CORRUPT && strstr(detail, "data.mdb is damaged") != NULL;
}

/* Opens what is damaged, has it verified, and then reads all of it. */
static _Noreturn void child(struct scrubbed *s)
{
    struct tiers_reader *reader = NULL;
    unsigned char *scratch = malloc(MODEL_VALUE_BYTES_MAX);
    struct fixture *f = s->f;
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    f->options.on_failed = child_failed;
    f->options.on_event = NULL;
    if (scratch == NULL || engine_open(&f->options, false, &f->tiers, f->text, sizeof f->text)) {
        _exit(REFUSED);
    }
    steps(f);
    if (atomic_load(&f->tiers->stopped) != 0) {
        _exit(f->failures == 1 ? STOPPED : WRONG);
    }
    bool reported = fixture_stats(f).checksum_errors > 0;
    bool met = tiers_reader_open(f->tiers, &reader) != 0;
    for (size_t i = 0; i < KEYS && !met; i++) {
        char key[32];
        const struct tiers_record *record = NULL;
        int error =
            tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, model_key_text(i, key), &record);
        if (error == 0 &&
            (!s->model->keys[i].exists ||
             tiers_record_meta(record)->mod_revision != s->model->keys[i].meta.mod_revision ||
             !model_value_check(i, record, scratch))) {
            _exit(WRONG);
        }
        met = error != (s->model->keys[i].exists ? 0 : TIERS_NOT_FOUND);
    }
    _exit(reported ? REPORTED : met ? UNSEEN : UNHURT);
}

static int outcome(struct scrubbed *s)
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        child(s);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* Who only looks changes nothing, however it looks. */
static void assert_file_is(const char *path, const unsigned char *bytes, size_t n)
{
    unsigned char *now = NULL;
    size_t now_n = 0;
    file_read_all(path, &now, &now_n);
    assert_int_equal(now_n, n);
    assert_memory_equal(now, bytes, n);
    free(now);
}

/* A bit of any page but the meta pages. What LMDB reads at opening was looked at before: it never
 * crashes. */
static void whatever_a_read_would_meet_is_found_before(void **state)
{
    struct scrubbed *s = *state;
    unsigned char *good = NULL;
    size_t n = 0;
    unsigned outcomes[UNSEEN] = {0};
    file_read_all(s->path, &good, &n);
    for (uint64_t i = environment("TIERKV_DAMAGE_RUNS", FLIPS); i > 0; i--) {
        uint64_t page = 2 + random_next(&s->random) % (n / PAGE_BYTES - 2);
        /* Every second one where the page says what it is. */
        uint64_t part = i % 2 == 0 ? PAGE_BYTES : 64;
        size_t at = page * PAGE_BYTES + random_next(&s->random) % part;
        unsigned bit = random_next(&s->random) % 8;
        unsigned char byte = good[at] ^ (unsigned char)(1u << bit);
        bytes_put(s->path, at, &byte, 1);
        int status = outcome(s);
        bytes_put(s->path, at, &good[at], 1);
        assert_file_is(s->path, good, n);
        if (status == WRONG || status < UNHURT || status >= UNSEEN) {
            fail_msg("page %zu, byte %zu, bit %u: %d", at / PAGE_BYTES, at % PAGE_BYTES, bit,
                     status);
        }
        outcomes[status]++;
    }
    free(good);
    print_message("%u unhurt, %u refused, %u stopped, %u reported\n", outcomes[UNHURT],
                  outcomes[REFUSED], outcomes[STOPPED], outcomes[REPORTED]);
    assert_true(outcomes[STOPPED] + outcomes[REPORTED] > 0);
    assert_int_equal(outcome(s), UNHURT);
}

/* Renames a tree, or a row of the store's own, wherever pages have it. */
static unsigned name_change(unsigned char *bytes, size_t n, const char *name)
{
    size_t name_len = strlen(name);
    unsigned n_changed = 0;
    for (size_t at = 2 * PAGE_BYTES; at < n; at += PAGE_BYTES) {
        unsigned char *page = bytes + at;
        size_t nodes = (get(page, PAGE_LOWER_AT, 2) - PAGE_HEADER_BYTES) / 2;
        if (get(page, 0, 8) != at / PAGE_BYTES || get(page, PAGE_FLAGS_AT, 2) != PAGE_LEAF) {
            continue;
        }
        for (size_t i = 0; i < nodes; i++) {
            unsigned char *node = page + get(page, PAGE_HEADER_BYTES + 2 * i, 2);
            if (get(node, 6, 2) == name_len &&
                memcmp(node + NODE_HEADER_BYTES, name, name_len) == 0) {
                node[NODE_HEADER_BYTES + name_len - 1] ^= 1;
                n_changed++;
            }
        }
    }
    return n_changed;
}

/* Without its name a tree, or a row, looks as if there had never been any. */
static void what_has_lost_its_name_is_not_made_anew(void **state)
{
    static const char *const names[] = {WARM_USER_TREE, WARM_SYSTEM_TREE, WARM_SEGMENTS_TREE,
                                        WARM_META_TREE, WARM_META_FORMAT, WARM_META_POSITION};
    struct scrubbed *s = *state;
    unsigned char *good = NULL;
    size_t n = 0;
    file_read_all(s->path, &good, &n);
    for (size_t i = 0; i < 2 * (sizeof names / sizeof *names); i++) {
        unsigned char *bad = malloc(n);
        assert_non_null(bad);
        memcpy(bad, good, n);
        assert_true(name_change(bad, n, names[i / 2]) > 0);
        bytes_put(s->path, 0, bad, n);
        s->f->options.warm_check_bytes_max = i % 2 == 0 ? CHECK_BYTES : 0;
        assert_int_equal(outcome(s), REFUSED);
        assert_file_is(s->path, bad, n);
        free(bad);
    }
    bytes_put(s->path, 0, good, n);
    free(good);
    assert_int_equal(outcome(s), UNHURT);
}

/* The leaf page loses the node that was added last, as if it had never been there. */
static bool node_lose(unsigned char *page)
{
    uint64_t lower = get(page, PAGE_LOWER_AT, 2);
    uint64_t upper = get(page, PAGE_UPPER_AT, 2);
    size_t n = (lower - PAGE_HEADER_BYTES) / 2;
    for (size_t i = 0; i < n && n > 1; i++) {
        unsigned char *offset = page + PAGE_HEADER_BYTES + 2 * i;
        if (get(offset, 0, 2) != upper) {
            continue;
        }
        const unsigned char *node = page + upper;
        uint64_t inside = get(node, 4, 2) == NODE_ELSEWHERE ? 8 : get(node, 0, 4);
        uint64_t bytes = (NODE_HEADER_BYTES + get(node, 6, 2) + inside + 1) / 2 * 2;
        memmove(offset, offset + 2, 2 * (n - i - 1));
        little_endian_put(page + PAGE_LOWER_AT, lower - 2, 2);
        little_endian_put(page + PAGE_UPPER_AT, upper + bytes, 2);
        return true;
    }
    return false;
}

static bool is_item_leaf(const unsigned char *page, size_t number)
{
    size_t first = get(page, PAGE_HEADER_BYTES, 2);
    return get(page, 0, 8) == number && get(page, PAGE_FLAGS_AT, 2) == PAGE_LEAF &&
           get(page, PAGE_LOWER_AT, 2) > PAGE_HEADER_BYTES + 2 && first < PAGE_BYTES - 32 &&
           memcmp(page + first + NODE_HEADER_BYTES, "key/", 4) == 0;
}

/* Pages that are free now look like others: those are unhurt. */
static void a_key_that_is_lost_without_a_trace_is_missed_in_the_sum(void **state)
{
    struct scrubbed *s = *state;
    unsigned char *good = NULL;
    size_t n = 0;
    unsigned stopped = 0;
    file_read_all(s->path, &good, &n);
    for (size_t i = 2; i < n / PAGE_BYTES && stopped < 5; i++) {
        unsigned char page[PAGE_BYTES];
        memcpy(page, good + i * PAGE_BYTES, PAGE_BYTES);
        if (!is_item_leaf(page, i) || !node_lose(page)) {
            continue;
        }
        bytes_put(s->path, i * PAGE_BYTES, page, PAGE_BYTES);
        int status = outcome(s);
        bytes_put(s->path, i * PAGE_BYTES, good + i * PAGE_BYTES, PAGE_BYTES);
        assert_true(status == STOPPED || status == UNHURT);
        stopped += status == STOPPED;
    }
    free(good);
    assert_int_equal(stopped, 5);
}

static int page_unreadable(void *context, const struct file_op *op)
{
    (void)context;
    return op->kind == FILE_READ && op->offset >= (uint64_t)8 * PAGE_BYTES ? EIO : 0;
}

/* LMDB would end the process by a signal when it comes there. */
static void a_page_that_the_disk_cannot_read_stops_the_engine_by_name(void **state)
{
    static const struct file_faults faults = {.before = page_unreadable};
    struct scrubbed *s = *state;
    struct tiers_reader *reader = NULL;
    const struct tiers_record *record = NULL;
    struct tiers_read read = {0};
    fixture_open(s->f, false);
    assert_int_equal(tiers_reader_open(s->f->tiers, &reader), 0);
    file_faults_set(&faults);
    steps(s->f);
    file_faults_set(NULL);
    assert_int_equal(s->f->failures, 1);
    assert_int_equal(tiers_flush(s->f->tiers), TIERS_STOPPED);
    assert_int_equal(tiers_reader_get(reader, TIERS_SPACE_USER, "key/0", 5, &read, &record),
                     TIERS_NOT_FOUND);
    tiers_reader_close(reader);
    assert_int_equal(tiers_close(s->f->tiers), TIERS_STOPPED);
    s->f->tiers = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_file_too_large_to_be_checked_at_opening_is_verified_at_once),
        TEST(a_file_that_was_checked_at_opening_is_verified_an_interval_later),
        TEST(the_limit_of_the_scrubber_holds),
        TEST(a_load_that_goes_on_is_not_taken_for_damage),
        TEST(whatever_a_read_would_meet_is_found_before),
        TEST(what_has_lost_its_name_is_not_made_anew),
        TEST(a_key_that_is_lost_without_a_trace_is_missed_in_the_sum),
        TEST(a_page_that_the_disk_cannot_read_stops_the_engine_by_name),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
