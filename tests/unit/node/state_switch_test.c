/* A state that is copied from another node takes the live one's place, and at every single file
 * operation on the way the process ends, the power fails, or the disk does: afterwards the old
 * state is live or the new one, each whole, and the copy can be made again.
 *
 * All is done in the order of src/raft/transfer_fetch.c: the state, its manifest, the exchange. */
#include "unit/tiers/engine_fixture.h"

#include "lib/faults/crash_points.h"
#include "lib/folder_copy.h"
#include "node/datadir.h"
#include "raft/manifest.h"

#include "mover_private.h"
#include "tiers/checkpoint.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS 40

/* Forks are slow under the sanitizer, which is to see errors of memory and needs no completeness.
 */
#ifdef __SANITIZE_ADDRESS__
#define POINTS_STRIDE 4
#else
#define POINTS_STRIDE 1
#endif

struct tape {
    unsigned char *bytes;
    size_t n;
    size_t at;
};

struct exchange {
    char folder[TEMP_FOLDER_PATH_BYTES];
    char base[TEMP_FOLDER_PATH_BYTES + 16]; /* A node's folder before the exchange */
    char root[TEMP_FOLDER_PATH_BYTES + 16];
    char graves[TEMP_FOLDER_PATH_BYTES + 16];
    char data[TEMP_FOLDER_PATH_BYTES + 32];
    struct model *old_state;
    struct model *new_state;
    struct tape tape;
    void *manifest;
    size_t manifest_bytes;
    bool live;       /* In a child: the commit succeeded */
    char error[512]; /* What the last step said */
};

static int tape_write(void *context, const void *bytes, size_t n)
{
    struct tape *tape = context;
    tape->bytes = realloc(tape->bytes, tape->n + n);
    assert_non_null(tape->bytes);
    memcpy(tape->bytes + tape->n, bytes, n);
    tape->n += n;
    return 0;
}

static int tape_read(void *context, void *bytes, size_t n)
{
    struct tape *tape = context;
    if (n > tape->n - tape->at)
        return -101;
    memcpy(bytes, tape->bytes + tape->at, n);
    tape->at += n;
    return 0;
}

/* ---- What there is before ---- */

/* Values in both lower tiers. */
static struct model *state_make(struct fixture *f, size_t seed)
{
    struct model *model = model_new(KEYS);
    f->options.now_ms = fixture_clock;
    f->options.cold_segment_bytes = 128u << 10;
    fixture_open(f, false);
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(f->tiers, model, i, (seed + i * 5779) % 60000);
        if (i % 5 != 4)
            continue;
        assert_int_equal(tiers_flush(f->tiers), 0);
        f->clock_ms += 5000;
        for (int step = 0; step < 1000 && mover_step(f->tiers->mover); step++) {
        }
    }
    assert_true(fixture_stats(f).cold_keys > 5);
    return model;
}

static void tape_make(struct exchange *exchange)
{
    struct fixture *f = fixture_new();
    struct tiers_checkpoint *checkpoint = NULL;
    exchange->new_state = state_make(f, 1);
    for (uint64_t hash = 0; hash < 200; hash++)
        heat_touch(f->tiers->heat, hash);
    assert_int_equal(tiers_checkpoint_open(f->tiers, &checkpoint), 0);
    assert_int_equal(tiers_checkpoint_write(checkpoint, tape_write, &exchange->tape), 0);
    tiers_checkpoint_close(checkpoint);
    fixture_free(f);
}

static void manifest_make(struct exchange *exchange)
{
    struct manifest manifest = {
        .cluster_id = 7, .index = exchange->new_state->index, .term = 3, .configuration_index = 1};
    raft_configuration_init(&manifest.configuration);
    assert_int_equal(raft_configuration_add(&manifest.configuration, 1, "a:1", RAFT_VOTER), 0);
    assert_int_equal(manifest_encode(&manifest, &exchange->manifest, &exchange->manifest_bytes), 0);
    manifest_close(&manifest);
}

static void base_make(struct exchange *exchange)
{
    struct fixture *f = fixture_new();
    struct datadir datadir;
    char error[512];
    assert_int_equal(mkdir(exchange->base, 0700), 0);
    snprintf(exchange->data, sizeof exchange->data, "%s/data", exchange->base);
    assert_int_equal(datadir_open(exchange->data, "", &datadir, error, sizeof error), 0);
    f->options.warm_dir = datadir.warm_path;
    f->options.cold_dir = datadir.cold_path;
    exchange->old_state = state_make(f, 4242);
    fixture_free(f);
    datadir_close(&datadir);
    snprintf(exchange->data, sizeof exchange->data, "%s/data", exchange->root);
}

static int set_up(void **state)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    assert_non_null(exchange);
    /* Syncs are modelled, so that memory does as well as a disk and is faster. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    temp_folder_make(exchange->folder);
    snprintf(exchange->base, sizeof exchange->base, "%s/base", exchange->folder);
    snprintf(exchange->root, sizeof exchange->root, "%s/root", exchange->folder);
    snprintf(exchange->graves, sizeof exchange->graves, "%s/graves", exchange->folder);
    assert_int_equal(mkdir(exchange->root, 0700), 0);
    assert_int_equal(mkdir(exchange->graves, 0700), 0);
    tape_make(exchange);
    manifest_make(exchange);
    base_make(exchange);
    *state = exchange;
    return 0;
}

static int tear_down(void **state)
{
    struct exchange *exchange = *state;
    temp_folder_remove(exchange->folder);
    model_free(exchange->old_state);
    model_free(exchange->new_state);
    free(exchange->tape.bytes);
    free(exchange->manifest);
    free(exchange);
    return 0;
}

static void reset(void *context)
{
    struct exchange *exchange = context;
    temp_folder_remove(exchange->root);
    temp_folder_remove(exchange->graves);
    folder_copy(exchange->base, exchange->root);
    assert_int_equal(mkdir(exchange->graves, 0700), 0);
}

/* ---- The exchange, in a child ---- */

static bool state_take(struct exchange *exchange, const struct datadir *datadir)
{
    char *error = exchange->error;
    size_t size = sizeof exchange->error;
    struct datadir_next next;
    struct tiers_position position;
    exchange->tape.at = 0;
    if (datadir_next(datadir, &next, error, size) != 0)
        return false;
    bool good = tiers_checkpoint_install(next.warm_path, next.cold_path, tape_read, &exchange->tape,
                                         &position, error, size) == 0;
    if (good &&
        manifest_store(next.manifest_path, exchange->manifest, exchange->manifest_bytes) != 0) {
        snprintf(error, size, "%s: %s", next.manifest_path, strerror(errno));
        good = false;
    }
    datadir_next_free(&next);
    return good && datadir_next_commit(datadir, error, size) == 0;
}

static bool run(void *context)
{
    struct exchange *exchange = context;
    struct datadir datadir;
    if (datadir_open(exchange->data, "", &datadir, exchange->error, sizeof exchange->error) != 0)
        return false;
    exchange->live = state_take(exchange, &datadir);
    datadir_close(&datadir);
    return exchange->live;
}

/* ---- What must hold, in a child ---- */

static bool key_holds(struct model *model, struct tiers_reader *reader, size_t number)
{
    const struct model_key *at = &model->keys[number];
    const struct tiers_record *record = NULL;
    char key[32];
    size_t key_len = model_key_text(number, key);
    if (tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, key_len, &record) != 0)
        return false;
    bool same = memcmp(tiers_record_meta(record), &at->meta, sizeof at->meta) == 0 &&
                record->value_len == at->value_len &&
                model_value_check(number, record, model->value);
    tiers_record_release(record);
    return same;
}

static bool engine_holds(struct tiers *tiers, struct model *model)
{
    struct tiers_position position;
    struct tiers_reader *reader = NULL;
    bool same = tiers_reader_open(tiers, &reader) == 0;
    tiers_position_applied(tiers, &position);
    same = same && position.index == model->index && position.revision == model->revision &&
           position.state_hash == model_hash(model);
    for (size_t i = 0; i < KEYS && same; i++)
        same = key_holds(model, reader, i);
    if (reader != NULL)
        tiers_reader_close(reader);
    return same;
}

/* The live state is all of the one that its number promises. */
static bool live_state_holds(struct exchange *exchange, uint64_t *ret_state)
{
    struct datadir datadir;
    struct manifest manifest;
    struct tiers_options options;
    struct tiers *tiers = NULL;
    char error[512] = "";
    if (datadir_open(exchange->data, "", &datadir, error, sizeof error) != 0) {
        fprintf(stderr, "%s\n", error);
        return false;
    }
    *ret_state = datadir.state;
    tiers_options_init(&options);
    options.warm_dir = datadir.warm_path;
    options.cold_dir = datadir.cold_path;
    options.warm_map_bytes = FIXTURE_MAP_BYTES;
    bool same = datadir.state <= 2;
    if (datadir.state == 2) {
        same = manifest_load(datadir.manifest_path, &manifest) == 0;
        same = same && manifest.index == exchange->new_state->index;
        if (same)
            manifest_close(&manifest);
    }
    same = same && engine_open(&options, false, &tiers, error, sizeof error) == 0;
    same =
        same && engine_holds(tiers, datadir.state == 2 ? exchange->new_state : exchange->old_state);
    same = (tiers == NULL || tiers_close(tiers) == 0) && same;
    datadir_close(&datadir);
    if (!same)
        fprintf(stderr, "state %llu is not whole: %s\n", (unsigned long long)*ret_state, error);
    return same;
}

static bool proves(void *context, bool complete)
{
    struct exchange *exchange = context;
    uint64_t state = 0;
    if (!live_state_holds(exchange, &state) || (complete && state != 2))
        return false;
    return state == 2 || (run(exchange) && live_state_holds(exchange, &state) && state == 2);
}

static void a_crash_anywhere_leaves_the_old_state_or_the_new(void **state)
{
    struct exchange *exchange = *state;
    const struct crash_story story = {.context = exchange,
                                      .root = exchange->root,
                                      .graves = exchange->graves,
                                      .stride = POINTS_STRIDE,
                                      .reset = reset,
                                      .run = run,
                                      .proves = proves};
    uint64_t points = 0;
    const char *found = crash_story_try(&story, &points);
    if (found != NULL)
        fail_msg("%s", found);
    print_message("%llu points\n", (unsigned long long)points);
    assert_true(points > 30);
}

/* ---- Disks that fail ---- */

enum end { LIVE = 10, REFUSED, SILENT };

static int child_wait(pid_t child)
{
    int status = 0;
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* How the run ended; the power is off then. */
static int run_under(struct exchange *exchange, const struct crash_plan *plan,
                     struct crash_report *report)
{
    memset(report, 0, sizeof *report);
    reset(exchange);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        crash_points_arm(exchange->root, exchange->graves, plan, report);
        exchange->error[0] = '\0';
        bool good = run(exchange);
        report->durable = good ? LIVE : exchange->error[0] != '\0' ? REFUSED : SILENT;
        crash_points_power_off();
    }
    int status = child_wait(child);
    return status == CRASH_EXIT_STATUS ? (int)report->durable : status;
}

/* Afterwards, on a disk that works. */
static int look(struct exchange *exchange, bool complete)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(proves(exchange, complete) ? 0 : 1);
    return child_wait(child);
}

static void a_failure_anywhere_is_told_and_leaves_the_old_state_or_the_new(void **state)
{
    static const struct crash_plan plans[] = {
        {.fate = CRASH_FAIL, .error = EIO},
        {.fate = CRASH_FAIL, .error = ENOSPC, .lasting = true},
        {.fate = CRASH_FAIL, .error = EINTR},
        {.fate = CRASH_SHORT}};
    struct exchange *exchange = *state;
    struct crash_report *report = crash_report_new();
    struct crash_plan plan = {.fate = CRASH_NEVER};
    uint8_t kinds[CRASH_POINTS_MAX + 1];
    unsigned refused = 0, runs = 0;
    assert_int_equal(run_under(exchange, &plan, report), LIVE);
    uint64_t points = report->points;
    memcpy(kinds, report->kinds, sizeof kinds);
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        plan = plans[i];
        for (plan.point = 1; plan.point <= points; plan.point += POINTS_STRIDE) {
            /* Only a write is. LMDB takes one that is cut short for a full disk. */
            bool interrupted = plan.error == EINTR;
            if ((interrupted || plan.fate == CRASH_SHORT) && kinds[plan.point] != LIBC_WRITE)
                continue;
            int end = run_under(exchange, &plan, report);
            refused += end == REFUSED;
            runs++;
            if ((end != LIVE && end != REFUSED) || (interrupted && end != LIVE) ||
                look(exchange, end == LIVE) != 0)
                fail_msg("%s at point %llu (%s): ended as %d", strerror(plan.error),
                         (unsigned long long)plan.point, report->place, end);
        }
    }
    crash_report_free(report);
    print_message("%llu points, %u runs, %u refused\n", (unsigned long long)points, runs, refused);
    assert_true(refused > points / POINTS_STRIDE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_anywhere_leaves_the_old_state_or_the_new),
        cmocka_unit_test(a_failure_anywhere_is_told_and_leaves_the_old_state_or_the_new),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
