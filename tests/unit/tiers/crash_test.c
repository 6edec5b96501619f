/* kill -9 at random moments: what was reported durable is there, whole groups only, and replaying
 * the log from there leads to the state that it always would have led to.
 *
 * The log is a function of the seed: group i is the same whoever applies it. A child applies it and
 * reports each durable index through a pipe; the parent kills it, reopens, compares with a model
 * that applied exactly the groups up to the position found, and lets the next child go on.
 */
#include "engine_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEYS   1500
#define ROUNDS 20

struct crash {
    struct fixture *f;
    uint64_t seed;
    int pipe[2];
};

/* Mutation `i` of group `index`. */
static uint64_t step_random(const struct crash *crash, uint64_t index, uint64_t i)
{
    uint64_t state = crash->seed ^ (index * 1000 + i);
    return model_random(&state);
}

static int group_apply(const struct crash *crash, struct tiers *tiers, struct model *model)
{
    uint64_t index = ++model->index;
    size_t n = step_random(crash, index, 0) % 12;
    int error = 0;
    tiers_apply_begin(tiers, index);
    for (size_t i = 1; i <= n && error == 0; i++) {
        uint64_t random = step_random(crash, index, i);
        size_t number = random % KEYS;
        if (random >> 32 & 1 && random >> 33 & 1) {
            error = model_delete(tiers, model, number);
        } else {
            error = model_put(tiers, model, number, (random >> 40) % 3000);
        }
    }
    tiers_apply_end(tiers);
    return error;
}

/* What group_apply does to the model, without an engine. */
static void group_imagine(const struct crash *crash, struct model *model)
{
    uint64_t index = ++model->index;
    size_t n = step_random(crash, index, 0) % 12;
    for (size_t i = 1; i <= n; i++) {
        uint64_t random = step_random(crash, index, i);
        size_t number = random % KEYS;
        struct model_key *at = &model->keys[number];
        model->revision++;
        if (random >> 32 & 1 && random >> 33 & 1) {
            at->exists = false;
            continue;
        }
        at->meta.create_revision = at->exists ? at->meta.create_revision : model->revision;
        at->meta.version = at->exists ? at->meta.version + 1 : 1;
        at->meta.mod_revision = model->revision;
        at->meta.flags = number;
        at->value_len = (uint32_t)((random >> 40) % 3000);
        at->exists = true;
    }
}

static struct model *model_at(const struct crash *crash, uint64_t index)
{
    struct model *model = model_new(KEYS);
    while (model->index < index) {
        group_imagine(crash, model);
    }
    return model;
}

static void durable_report(void *context, uint64_t index)
{
    struct fixture *f = context;
    /* Less than PIPE_BUF: whole or not at all. */
    if (write(f->report_fd, &index, sizeof index) != sizeof index) {
        _exit(3);
    }
}

static void child_run(struct crash *crash)
{
    struct fixture *f = crash->f;
    struct tiers_position position;
    close(crash->pipe[0]);
    f->options.on_durable = durable_report;
    f->report_fd = crash->pipe[1];
    if (tiers_open(&f->options, &f->tiers, f->text, sizeof f->text) != 0) {
        fprintf(stderr, "child: %s\n", f->text);
        _exit(2);
    }
    tiers_position_applied(f->tiers, &position);
    struct model *model = model_at(crash, position.index);
    struct tiers_reader *reader = NULL;
    if (tiers_reader_open(f->tiers, &reader) != 0) {
        _exit(2);
    }
    /* Reads keep promotion and admission busy. The parent's kill ends the loop. */
    for (uint64_t i = 0; i < 1000000; i++) {
        char key[32];
        const struct tiers_record *record = NULL;
        size_t key_len = model_key_text(i * 7919 % (KEYS / 10), key);
        if (group_apply(crash, f->tiers, model) != 0) {
            _exit(2);
        }
        int error = tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, key_len, &record);
        if (error == 0) {
            tiers_record_release(record);
        } else if (error != TIERS_NOT_FOUND) {
            fprintf(stderr, "child: %s: %s\n", key, tiers_strerror(error));
            _exit(2);
        }
        if (!tiers_apply_ready(f->tiers) && tiers_flush(f->tiers) != 0) {
            _exit(2);
        }
    }
    _exit(4);
}

/* The last index that the child reported before it was killed. */
static uint64_t child_crash(struct crash *crash, uint64_t delay_us)
{
    assert_int_equal(pipe(crash->pipe), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        child_run(crash);
    }
    close(crash->pipe[1]);
    uint64_t durable = 0;
    uint64_t index = 0;
    /* The first report says that it is at work; the crash comes a random time later. */
    if (read(crash->pipe[0], &index, sizeof index) == sizeof index) {
        durable = index;
    }
    usleep((useconds_t)delay_us);
    kill(child, SIGKILL);
    while (read(crash->pipe[0], &index, sizeof index) == sizeof index) {
        durable = index;
    }
    close(crash->pipe[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return durable;
}

static void nothing_durable_is_lost_by_kill_9(void **state)
{
    (void)state;
    const char *given = getenv("TIERKV_TEST_SEED");
    struct crash crash = {.f = fixture_new()};
    crash.seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000003;
    print_message("seed %llu (set TIERKV_TEST_SEED to repeat)\n", (unsigned long long)crash.seed);
    uint64_t random = crash.seed;
    crash.f->options.flush_interval_ms = 5;
    uint64_t last = 0;
    uint64_t cold_keys = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t durable = child_crash(&crash, model_random(&random) % 150000);
        assert_true(durable > last);
        last = durable;
        fixture_open(crash.f, true);
        struct tiers_position position;
        tiers_position_durable(crash.f->tiers, &position);
        assert_true(position.index >= durable);
        struct model *model = model_at(&crash, position.index);
        model_expect_all(model, crash.f->tiers);
        if (round + 1 == ROUNDS) {
            for (int i = 0; i < 100; i++) {
                assert_int_equal(group_apply(&crash, crash.f->tiers, model), 0);
            }
            model_expect_all(model, crash.f->tiers);
        }
        struct tiers_stats stats = fixture_stats(crash.f);
        cold_keys += stats.cold_keys;
        print_message("at index %llu: %llu keys, %llu cold, %llu segments\n",
                      (unsigned long long)position.index, (unsigned long long)stats.warm_keys,
                      (unsigned long long)stats.cold_keys, (unsigned long long)stats.cold_segments);
        model_free(model);
        fixture_close(crash.f);
    }
    assert_true(cold_keys > 0);
    fixture_free(crash.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_durable_is_lost_by_kill_9),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
