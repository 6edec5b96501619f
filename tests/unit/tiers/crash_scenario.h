/* Scenarios for the tests of crashes and of failing disks, and what must hold after each.
 *
 * The log is a function: group i is the same whoever applies it, and the state at any index can be
 * imagined without an engine. A scenario starts from a copy of a prepared state, which has keys in
 * all tiers, applies the groups that follow and does its kind of background work, all on one thread
 * and by a clock of its own, so that each run makes the same operations in the same order.
 *
 * Nothing here asserts through cmocka: it runs in child processes, which answer by exit status and
 * the text of the report.
 */
#ifndef TIERKV_TESTS_TIERS_CRASH_SCENARIO_H
#define TIERKV_TESTS_TIERS_CRASH_SCENARIO_H

#include "engine_fixture.h"

#include "lib/faults/crash_points.h"
#include "lib/folder_copy.h"

#include "cold_compact.h"
#include "mover_private.h"
#include "uring.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCENARIO_KEYS      150
#define SCENARIO_MAP_BYTES (1u << 20)
#define SCENARIO_BASE      120 /* The index of the prepared state */
#define SCENARIO_STEPS_MAX 500

enum scenario_kind {
    SCENARIO_OPENING,    /* A new state */
    SCENARIO_FLUSH,      /* Puts, overwrites and deletes of keys in all tiers */
    SCENARIO_DEMOTION,   /* New values beyond the warm tier's budget */
    SCENARIO_PROMOTION,  /* Cold values that are read often */
    SCENARIO_COMPACTION, /* Overwrites until segments are mostly dead */
    SCENARIO_SCRUB,      /* A damaged record is found, and the rest of its segment saved */
    SCENARIO_PREPARE     /* How the prepared state is made */
};

struct scenario {
    struct fixture *f; /* Its folder has base, work and graves */
    char base[TEMP_FOLDER_PATH_BYTES + 8];
    char work[TEMP_FOLDER_PATH_BYTES + 8];
    char graves[TEMP_FOLDER_PATH_BYTES + 8];
    struct crash_report *report;
    struct model *model; /* Of a run */
    bool failures;       /* Expected: errors are answers, not defects */
    size_t damaged;      /* The number of the key whose record on disk is; SIZE_MAX: none */
    uint64_t n_points;   /* Of an undisturbed run, and what they are */
    uint8_t kinds[CRASH_POINTS_MAX + 1];
};

/* Ends a run that found a defect. */
__attribute__((format(printf, 2, 3))) static _Noreturn inline void
scenario_defect(const struct scenario *scenario, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(scenario->report->text, sizeof scenario->report->text, format, arguments);
    va_end(arguments);
    _exit(1);
}

/* ---- The log ---- */

static inline uint64_t scenario_random(uint64_t index, uint64_t i)
{
    uint64_t state = index * 1000 + i;
    return model_random(&state);
}

/* One mutation of a group. */
struct scenario_change {
    size_t number;
    bool deletes;
    uint32_t value_len;
};

static inline size_t scenario_changes(enum scenario_kind kind, uint64_t index)
{
    return kind == SCENARIO_COMPACTION ? 12 : 1 + scenario_random(index, 0) % 4;
}

static inline struct scenario_change scenario_change(enum scenario_kind kind, uint64_t index,
                                                     uint64_t i)
{
    uint64_t random = scenario_random(index, i);
    struct scenario_change change = {
        .number = random % SCENARIO_KEYS,
        .deletes = (random >> 32) % 5 == 0,
        .value_len = (uint32_t)((random >> 40) % 9000),
    };
    /* Small values: the warm tier stays in its budget, so that nothing but dying happens. */
    if (kind == SCENARIO_COMPACTION || kind == SCENARIO_FLUSH || kind == SCENARIO_SCRUB)
        change.value_len %= 100;
    return change;
}

static inline enum scenario_kind scenario_kind_at(enum scenario_kind kind, uint64_t index)
{
    return index <= SCENARIO_BASE ? SCENARIO_PREPARE : kind;
}

static inline int scenario_group_apply(struct scenario *scenario, enum scenario_kind kind)
{
    struct tiers *tiers = scenario->f->tiers;
    struct model *model = scenario->model;
    uint64_t index = ++model->index;
    int error = 0;
    kind = scenario_kind_at(kind, index);
    tiers_apply_begin(tiers, index);
    for (size_t i = 1; i <= scenario_changes(kind, index) && error == 0; i++) {
        struct scenario_change change = scenario_change(kind, index, i);
        error = change.deletes ? model_delete(tiers, model, change.number)
                               : model_put(tiers, model, change.number, change.value_len);
    }
    tiers_apply_end(tiers);
    return error;
}

static inline void scenario_group_imagine(struct model *model, enum scenario_kind kind)
{
    uint64_t index = ++model->index;
    kind = scenario_kind_at(kind, index);
    for (size_t i = 1; i <= scenario_changes(kind, index); i++) {
        struct scenario_change change = scenario_change(kind, index, i);
        struct model_key *at = &model->keys[change.number];
        model->revision++;
        if (change.deletes) {
            at->exists = false;
            continue;
        }
        at->meta.create_revision = at->exists ? at->meta.create_revision : model->revision;
        at->meta.version = at->exists ? at->meta.version + 1 : 1;
        at->meta.mod_revision = model->revision;
        at->meta.flags = change.number;
        at->value_len = change.value_len;
        at->exists = true;
    }
}

static inline struct model *scenario_model_at(enum scenario_kind kind, uint64_t index)
{
    struct model *model = model_new(SCENARIO_KEYS);
    while (model->index < index)
        scenario_group_imagine(model, kind);
    return model;
}

static inline uint64_t scenario_end(enum scenario_kind kind)
{
    return kind == SCENARIO_OPENING   ? 4
           : kind == SCENARIO_PREPARE ? SCENARIO_BASE
           : kind == SCENARIO_SCRUB   ? SCENARIO_BASE + 4
                                      : SCENARIO_BASE + 12;
}

/* ---- Checking ---- */

/* One key against the model. With `failures` an error is an answer, but a wrong value never is. */
static inline void scenario_key_check(struct scenario *scenario, struct tiers_reader *reader,
                                      size_t number)
{
    struct model *model = scenario->model;
    const struct model_key *at = &model->keys[number];
    const struct tiers_record *record = NULL;
    char key[32];
    size_t key_len = model_key_text(number, key);
    int error = tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, key_len, &record);
    if (error != 0 && scenario->failures && error != TIERS_NOT_FOUND)
        return;
    if (number == scenario->damaged && error == TIERS_CORRUPT)
        return;
    if (number == scenario->damaged)
        scenario_defect(scenario, "%s is damaged, but reads as %s", key, tiers_strerror(error));
    if (!at->exists) {
        if (error == 0)
            tiers_record_release(record);
        if (error != TIERS_NOT_FOUND)
            scenario_defect(scenario, "%s was deleted, but reads as %s", key,
                            tiers_strerror(error));
        return;
    }
    if (error != 0)
        scenario_defect(scenario, "%s: %s", key, tiers_strerror(error));
    if (tiers_record_meta(record)->mod_revision != at->meta.mod_revision ||
        memcmp(tiers_record_meta(record), &at->meta, sizeof at->meta) != 0 ||
        record->value_len != at->value_len || !model_value_check(number, record, model->value))
        scenario_defect(scenario, "%s has the value of revision %llu in place of %llu", key,
                        (unsigned long long)tiers_record_meta(record)->mod_revision,
                        (unsigned long long)at->meta.mod_revision);
    tiers_record_release(record);
}

/* All keys, and the position. */
static inline void scenario_check(struct scenario *scenario)
{
    struct tiers *tiers = scenario->f->tiers;
    struct tiers_reader *reader = NULL;
    struct tiers_position position;
    int error = tiers_reader_open(tiers, &reader);
    if (error != 0 && scenario->failures)
        return;
    if (error != 0)
        scenario_defect(scenario, "no reader: %s", tiers_strerror(error));
    for (size_t i = 0; i < SCENARIO_KEYS; i++)
        scenario_key_check(scenario, reader, i);
    tiers_reader_close(reader);
    tiers_position_applied(tiers, &position);
    if (position.index != scenario->model->index ||
        position.revision != scenario->model->revision ||
        position.state_hash != model_hash(scenario->model))
        scenario_defect(scenario, "at index %llu the state hash or revision is not the model's",
                        (unsigned long long)position.index);
}

/* No segment file is there that the index does not know. */
static inline void scenario_files_check(struct scenario *scenario)
{
    uint64_t n = 0;
    DIR *folder = opendir(scenario->f->cold_dir);
    if (folder == NULL)
        scenario_defect(scenario, "the folder of segments is gone");
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        n += strstr(entry->d_name, ".seg") != NULL;
    closedir(folder);
    uint64_t known = fixture_stats(scenario->f).cold_segments;
    if (n != known)
        scenario_defect(scenario, "%llu segment files where %llu are known", (unsigned long long)n,
                        (unsigned long long)known);
}

/* ---- Running ---- */

static inline void scenario_on_durable(void *context, uint64_t index)
{
    struct scenario *scenario = context;
    scenario->report->durable = index;
}

static inline void scenario_on_failed(void *context, int error, const char *detail)
{
    struct scenario *scenario = context;
    if (!scenario->failures)
        scenario_defect(scenario, "the engine stopped: %s (%d)", detail, error);
}

static inline uint64_t scenario_clock(void *context)
{
    struct scenario *scenario = context;
    return scenario->f->clock_ms;
}

static inline int scenario_open(struct scenario *scenario)
{
    struct fixture *f = scenario->f;
    f->options.context = scenario;
    f->options.now_ms = scenario_clock;
    f->options.on_durable = scenario_on_durable;
    f->options.on_failed = scenario_on_failed;
    f->options.on_ready = NULL;
    f->options.on_event = NULL;
    f->options.warm_map_bytes = SCENARIO_MAP_BYTES;
    f->options.cold_segment_bytes = 64u << 10;
    f->options.scrub_interval_ms = scenario->damaged != SIZE_MAX ? 3600000 : 0;
    return engine_open(&f->options, false, &f->tiers, f->text, sizeof f->text);
}

/* Whether a run goes on: an error is a defect unless failures are expected. */
static inline bool scenario_went_well(const struct scenario *scenario, int error, const char *what)
{
    if (error != 0 && !scenario->failures)
        scenario_defect(scenario, "%s: %s", what, tiers_strerror(error));
    return error == 0;
}

static inline void scenario_work(struct scenario *scenario)
{
    struct fixture *f = scenario->f;
    f->clock_ms += 5000; /* Every pause is over */
    for (int i = 0; i < SCENARIO_STEPS_MAX && mover_step(f->tiers->mover); i++) {
    }
}

/* Reads cold values until they are offered, and lets the mover take them up. */
static inline void scenario_promote(struct scenario *scenario)
{
    struct fixture *f = scenario->f;
    struct tiers_reader *reader = NULL;
    if (tiers_reader_open(f->tiers, &reader) != 0)
        return;
    f->options.hot_bytes = 1u << 20;
    atomic_store(&f->tiers->promote_heat_min, 1);
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < SCENARIO_KEYS; i++)
            scenario_key_check(scenario, reader, i);
    tiers_reader_close(reader);
    f->clock_ms += 5000;
    if (mover_promote_due(f->tiers->mover))
        mover_promote_batch(f->tiers->mover);
}

/* From the position that the engine has to the scenario's end. False: it was cut short. */
static inline bool scenario_run(struct scenario *scenario, enum scenario_kind kind)
{
    struct fixture *f = scenario->f;
    bool steps = kind == SCENARIO_DEMOTION || kind == SCENARIO_COMPACTION ||
                 kind == SCENARIO_SCRUB || kind == SCENARIO_PREPARE;
    if (kind == SCENARIO_PROMOTION)
        scenario_promote(scenario);
    while (scenario->model->index < scenario_end(kind)) {
        if (!scenario_went_well(scenario, scenario_group_apply(scenario, kind), "apply"))
            return false;
        if (scenario->model->index % 4 != 0)
            continue;
        int error = tiers_flush(f->tiers);
        if (!scenario_went_well(scenario, error, "flush") && error == TIERS_STOPPED)
            return true;
        if (steps)
            scenario_work(scenario);
    }
    return true;
}

/* ---- Processes ---- */

static inline void scenario_model_set(struct scenario *scenario, enum scenario_kind kind,
                                      uint64_t index)
{
    if (scenario->model != NULL)
        model_free(scenario->model);
    scenario->model = scenario_model_at(kind, index);
}

/* The run that is to be cut off or to meet a failure. */
static inline void scenario_child(struct scenario *scenario, enum scenario_kind kind,
                                  void (*arm)(struct scenario *scenario))
{
    struct tiers_position position;
    arm(scenario);
    int error = scenario_open(scenario);
    if (!scenario_went_well(scenario, error, scenario->f->text))
        _exit(0);
    tiers_position_applied(scenario->f->tiers, &position);
    scenario_model_set(scenario, kind, position.index);
    if (scenario_run(scenario, kind))
        scenario_check(scenario);
    error = tiers_close(scenario->f->tiers);
    scenario_went_well(scenario, error, "close");
    _exit(0);
}

/* The run that finds what the other one left. */
static inline void scenario_survivor(struct scenario *scenario, enum scenario_kind kind)
{
    struct fixture *f = scenario->f;
    struct tiers_position position;
    uint64_t durable = scenario->report->durable;
    for (int round = 0; round < 2; round++) {
        if (scenario_open(scenario) != 0)
            scenario_defect(scenario, "in round %d it does not open: %.400s", round, f->text);
        tiers_position_applied(f->tiers, &position);
        if (position.index < durable || position.index > scenario_end(kind))
            scenario_defect(scenario, "at index %llu, where %llu was durable",
                            (unsigned long long)position.index, (unsigned long long)durable);
        scenario_model_set(scenario, kind, position.index);
        scenario_check(scenario);
        scenario_run(scenario, kind);
        scenario_work(scenario);
        scenario_check(scenario);
        scenario_files_check(scenario);
        if (tiers_close(f->tiers) != 0)
            scenario_defect(scenario, "it does not close");
        durable = scenario_end(kind);
    }
    _exit(0);
}

/* Appends of the cold tier do not go through the C library. */
static inline bool scenario_uring_before(void *context, const struct uring_op *op, uint32_t *length,
                                         int *result)
{
    (void)context;
    (void)length;
    struct iovec part = {.iov_base = op->buffer, .iov_len = op->length};
    struct libc_op as = {.kind = op->kind == URING_WRITE ? LIBC_WRITE : LIBC_SYNC, .fd = op->fd};
    ssize_t taken;
    if (op->kind == URING_READ)
        return false;
    if (op->kind == URING_WRITE) {
        as.parts = &part;
        as.n_parts = 1;
        as.offset = (off_t)op->offset;
    }
    if (!crash_points_take(&as, &taken))
        return false;
    *result = (int)taken;
    return true;
}

static const struct uring_faults scenario_uring = {.before = scenario_uring_before};

static inline void scenario_arm(struct scenario *scenario, const struct crash_plan *plan)
{
    crash_points_arm(scenario->work, scenario->graves, plan, scenario->report);
    uring_faults_set(&scenario_uring);
}

/* The exit status; signals count as 256 and more. */
static inline int scenario_wait(pid_t child)
{
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        abort();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* Makes the folders as they are before a run: a fresh copy of the prepared state, or nothing. */
static inline void scenario_reset(struct scenario *scenario, enum scenario_kind kind)
{
    temp_folder_remove(scenario->work);
    temp_folder_remove(scenario->graves);
    assert_int_equal(mkdir(scenario->graves, 0700), 0);
    if (kind == SCENARIO_OPENING)
        assert_int_equal(mkdir(scenario->work, 0700), 0);
    else
        folder_copy(scenario->base, scenario->work);
    memset(scenario->report, 0, sizeof *scenario->report);
    fflush(NULL);
}

/* The survivor's exit status. */
static inline int scenario_survive(struct scenario *scenario, enum scenario_kind kind)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        scenario_survivor(scenario, kind);
    return scenario_wait(child);
}

static const struct crash_plan scenario_plan_counting = {.fate = CRASH_NEVER};

static inline void scenario_arm_counting(struct scenario *scenario)
{
    scenario_arm(scenario, &scenario_plan_counting);
}

/* Counts the points of an undisturbed run. */
static inline void scenario_count(struct scenario *scenario, enum scenario_kind kind)
{
    scenario_reset(scenario, kind);
    pid_t child = fork();
    if (child == 0)
        scenario_child(scenario, kind, scenario_arm_counting);
    int status = scenario_wait(child);
    scenario->n_points = scenario->report->points;
    memcpy(scenario->kinds, scenario->report->kinds, sizeof scenario->kinds);
    if (status != 0 || (status = scenario_survive(scenario, kind)) != 0)
        fail_msg("undisturbed: status %d: %s", status, scenario->report->text);
}

static inline struct scenario *scenario_new(void)
{
    /* Syncs are modelled, so that memory does as well as a disk and is faster. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    struct scenario *scenario = calloc(1, sizeof *scenario);
    if (scenario == NULL)
        abort();
    struct fixture *f = scenario->f = fixture_new();
    scenario->damaged = SIZE_MAX;
    snprintf(scenario->base, sizeof scenario->base, "%s/base", f->folder);
    snprintf(scenario->work, sizeof scenario->work, "%s/work", f->folder);
    snprintf(scenario->graves, sizeof scenario->graves, "%s/graves", f->folder);
    scenario->report = crash_report_new();
    return scenario;
}

static inline void scenario_place(struct scenario *scenario, const char *folder)
{
    struct fixture *f = scenario->f;
    snprintf(f->warm_dir, sizeof f->warm_dir, "%.*s/warm", TEMP_FOLDER_PATH_BYTES, folder);
    snprintf(f->cold_dir, sizeof f->cold_dir, "%.*s/cold", TEMP_FOLDER_PATH_BYTES, folder);
}

static inline void scenario_free(struct scenario *scenario)
{
    if (scenario->model != NULL)
        model_free(scenario->model);
    crash_report_free(scenario->report);
    fixture_free(scenario->f);
    free(scenario);
}

/* Makes the prepared state. */
static inline void scenario_prepare(struct scenario *scenario)
{
    scenario_place(scenario, scenario->base);
    assert_int_equal(scenario_open(scenario), 0);
    scenario_model_set(scenario, SCENARIO_PREPARE, 0);
    assert_true(scenario_run(scenario, SCENARIO_PREPARE));
    scenario_check(scenario);
    struct tiers_stats stats = fixture_stats(scenario->f);
    print_message("prepared: %llu keys, %llu cold in %llu segments\n",
                  (unsigned long long)stats.warm_keys, (unsigned long long)stats.cold_keys,
                  (unsigned long long)stats.cold_segments);
    assert_true(stats.cold_keys > 20 && stats.cold_segments > 1);
    assert_true(stats.warm_keys > stats.cold_keys + 10);
    fixture_close(scenario->f);
    scenario_place(scenario, scenario->work);
    assert_int_equal(mkdir(scenario->work, 0700), 0);
    assert_int_equal(mkdir(scenario->graves, 0700), 0);
}

static inline int scenario_set_up(void **state)
{
    struct scenario *scenario = scenario_new();
    scenario_prepare(scenario);
    *state = scenario;
    return 0;
}

static inline int scenario_tear_down(void **state)
{
    scenario_free(*state);
    return 0;
}

#endif
