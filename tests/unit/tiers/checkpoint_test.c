/* A state is copied as a stream and is the same on the other side, or is refused. */
#include "engine_fixture.h"

#include "mover_private.h"

#include "tiers/checkpoint.h"

#define KEYS        400
#define VALUE_BYTES 4000

/* The stream in memory. */
struct tape {
    unsigned char *bytes;
    size_t n;
    size_t capacity;
    size_t at;      /* Read up to here */
    size_t end_max; /* Writing beyond fails; 0: no bound */
};

static int tape_write(void *context, const void *bytes, size_t n)
{
    struct tape *tape = context;
    if (tape->end_max != 0 && tape->n + n > tape->end_max) {
        return -100;
    }
    if (tape->n + n > tape->capacity) {
        tape->capacity = (tape->n + n) * 2;
        tape->bytes = realloc(tape->bytes, tape->capacity);
        assert_non_null(tape->bytes);
    }
    memcpy(tape->bytes + tape->n, bytes, n);
    tape->n += n;
    return 0;
}

static int tape_read(void *context, void *bytes, size_t n)
{
    struct tape *tape = context;
    if (n > tape->n - tape->at) {
        return -101;
    }
    memcpy(bytes, tape->bytes + tape->at, n);
    tape->at += n;
    return 0;
}

struct copy {
    struct fixture *from;
    struct fixture *to; /* Its engine is not open; its folders are absent */
    struct model *model;
    struct tape tape;
};

static void steps(struct fixture *f)
{
    for (int i = 0; i < 10000 && mover_step(f->tiers->mover); i++) {
    }
}

/* Values in the warm and in the cold tier, overwritten and deleted ones among them. */
static int set_up(void **state)
{
    struct copy *copy = calloc(1, sizeof *copy);
    assert_non_null(copy);
    copy->from = fixture_new();
    copy->to = fixture_new();
    copy->from->options.now_ms = fixture_clock;
    fixture_open(copy->from, false);
    copy->model = model_new(KEYS);
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(copy->from->tiers, copy->model, i, VALUE_BYTES);
        if (i % 50 == 49) {
            assert_int_equal(tiers_flush(copy->from->tiers), 0);
            steps(copy->from);
        }
    }
    for (size_t i = 0; i < KEYS; i += 7) {
        model_delete_group(copy->from->tiers, copy->model, i);
    }
    for (size_t i = 1; i < KEYS; i += 9) {
        model_put_group(copy->from->tiers, copy->model, i, 10);
    }
    assert_int_equal(tiers_flush(copy->from->tiers), 0);
    steps(copy->from);
    assert_true(fixture_stats(copy->from).cold_keys > 0);
    *state = copy;
    return 0;
}

static int tear_down(void **state)
{
    struct copy *copy = *state;
    fixture_free(copy->from);
    fixture_free(copy->to);
    model_free(copy->model);
    free(copy->tape.bytes);
    free(copy);
    return 0;
}

static void write_tape(struct copy *copy)
{
    struct tiers_checkpoint *checkpoint = NULL;
    assert_int_equal(tiers_checkpoint_open(copy->from->tiers, &checkpoint), 0);
    copy->tape.n = copy->tape.at = 0;
    assert_int_equal(tiers_checkpoint_write(checkpoint, tape_write, &copy->tape), 0);
    tiers_checkpoint_close(checkpoint);
}

static int install(struct copy *copy, struct tiers_position *ret_position)
{
    struct fixture *to = copy->to;
    copy->tape.at = 0;
    return tiers_checkpoint_install(to->warm_dir, to->cold_dir, tape_read, &copy->tape,
                                    ret_position, to->text, sizeof to->text);
}

static void empty_target(struct copy *copy)
{
    temp_folder_remove(copy->to->warm_dir);
    temp_folder_remove(copy->to->cold_dir);
}

static void the_copy_has_the_same_state_in_the_same_tiers(void **state)
{
    struct copy *copy = *state;
    struct tiers_position position = {0};
    write_tape(copy);
    assert_int_equal(install(copy, &position), 0);
    assert_int_equal(copy->tape.at, copy->tape.n);
    assert_int_equal(position.index, copy->model->index);
    fixture_open(copy->to, false);
    assert_int_equal(fixture_stats(copy->to).warm_keys, fixture_stats(copy->from).warm_keys);
    assert_int_equal(fixture_stats(copy->to).cold_keys, fixture_stats(copy->from).cold_keys);
    model_expect_all(copy->model, copy->to->tiers);
    /* And it goes on from there: nothing that is appended meets what was copied. */
    for (size_t i = 0; i < KEYS; i += 2) {
        model_put_group(copy->to->tiers, copy->model, i, VALUE_BYTES);
    }
    assert_int_equal(tiers_flush(copy->to->tiers), 0);
    steps(copy->to);
    model_expect_all(copy->model, copy->to->tiers);
}

static void heat_travels_along(void **state)
{
    struct copy *copy = *state;
    struct tiers_position position = {0};
    for (int i = 0; i < 9; i++) {
        heat_touch(copy->from->tiers->heat, 12345);
    }
    write_tape(copy);
    assert_int_equal(install(copy, &position), 0);
    fixture_open(copy->to, false);
    assert_int_equal(heat_estimate(copy->to->tiers->heat, 12345),
                     heat_estimate(copy->from->tiers->heat, 12345));
    assert_true(heat_estimate(copy->to->tiers->heat, 12345) >= 4);
    /* Once: what it is worth at a later start nobody knows. */
    fixture_close(copy->to);
    fixture_open(copy->to, false);
    assert_int_equal(heat_estimate(copy->to->tiers->heat, 12345), 0);
}

static void an_empty_state_can_be_copied(void **state)
{
    struct copy *copy = *state;
    struct fixture *empty = fixture_new();
    struct tiers_checkpoint *checkpoint = NULL;
    struct tiers_position position;
    fixture_open(empty, false);
    assert_int_equal(tiers_checkpoint_open(empty->tiers, &checkpoint), 0);
    assert_int_equal(tiers_checkpoint_write(checkpoint, tape_write, &copy->tape), 0);
    tiers_checkpoint_close(checkpoint);
    assert_int_equal(install(copy, &position), 0);
    assert_int_equal(position.index, 0);
    fixture_free(empty);
}

static void what_is_written_meanwhile_is_not_in_the_copy(void **state)
{
    struct copy *copy = *state;
    struct tiers_checkpoint *checkpoint = NULL;
    struct tiers_position before = {0};
    struct tiers_position position = {0};
    tiers_position_durable(copy->from->tiers, &before);
    assert_int_equal(tiers_checkpoint_open(copy->from->tiers, &checkpoint), 0);
    /* All is overwritten, so that every segment is dead; and still the copy reads them. */
    struct model *later = model_new(KEYS);
    later->index = copy->model->index;
    later->revision = copy->model->revision;
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(copy->from->tiers, later, i, 10);
    }
    assert_int_equal(tiers_flush(copy->from->tiers), 0);
    copy->from->clock_ms += 60000;
    steps(copy->from);
    assert_int_equal(tiers_checkpoint_write(checkpoint, tape_write, &copy->tape), 0);
    tiers_checkpoint_close(checkpoint);
    assert_int_equal(install(copy, &position), 0);
    assert_int_equal(position.index, before.index);
    assert_true(position.state_hash == before.state_hash);
    fixture_open(copy->to, false);
    model_expect_all(copy->model, copy->to->tiers);
    /* Now the dead segments go. */
    uint64_t segments = fixture_stats(copy->from).cold_segments;
    copy->from->clock_ms += 60000;
    steps(copy->from);
    assert_true(fixture_stats(copy->from).cold_segments < segments);
    model_free(later);
}

static void a_stream_that_breaks_off_anywhere_is_refused(void **state)
{
    struct copy *copy = *state;
    struct tiers_position position;
    write_tape(copy);
    size_t n = copy->tape.n;
    for (size_t cut = 0; cut < n; cut += 1 + n / 60) {
        copy->tape.n = cut;
        assert_int_not_equal(install(copy, &position), 0);
        empty_target(copy);
    }
    copy->tape.n = n;
    assert_int_equal(install(copy, &position), 0);
}

static void a_bit_that_flips_anywhere_is_noticed(void **state)
{
    struct copy *copy = *state;
    struct tiers_position position;
    uint64_t random = 20261123;
    print_message("seed %llu\n", (unsigned long long)random);
    write_tape(copy);
    for (int i = 0; i < 100; i++) {
        /* Beginning and end are looked at more closely than chance would. */
        size_t at = i < 40   ? (size_t)i
                    : i < 60 ? copy->tape.n - 1 - (size_t)(i - 40)
                             : (size_t)(model_random(&random) % copy->tape.n);
        unsigned char bit = (unsigned char)(1u << (model_random(&random) % 8));
        copy->tape.bytes[at] ^= bit;
        int error = install(copy, &position);
        if (error == 0) {
            fail_msg("bit %u of byte %zu of %zu", bit, at, copy->tape.n);
        }
        copy->tape.bytes[at] ^= bit;
        empty_target(copy);
    }
}

static void a_sink_that_refuses_ends_the_writing(void **state)
{
    struct copy *copy = *state;
    struct tiers_checkpoint *checkpoint = NULL;
    copy->tape.end_max = 300000;
    assert_int_equal(tiers_checkpoint_open(copy->from->tiers, &checkpoint), 0);
    assert_int_equal(tiers_checkpoint_write(checkpoint, tape_write, &copy->tape), -100);
    copy->tape.end_max = 0;
    copy->tape.n = 0;
    assert_int_equal(tiers_checkpoint_write(checkpoint, tape_write, &copy->tape), 0);
    tiers_checkpoint_close(checkpoint);
    struct tiers_position position;
    assert_int_equal(install(copy, &position), 0);
}

static void a_target_that_is_in_use_is_not_touched(void **state)
{
    struct copy *copy = *state;
    struct tiers_position position;
    write_tape(copy);
    assert_int_equal(install(copy, &position), 0);
    fixture_open(copy->to, false);
    assert_int_equal(install(copy, &position), TIERS_LOCKED);
    model_expect_all(copy->model, copy->to->tiers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_copy_has_the_same_state_in_the_same_tiers, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(heat_travels_along, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_state_can_be_copied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_written_meanwhile_is_not_in_the_copy, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_stream_that_breaks_off_anywhere_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_bit_that_flips_anywhere_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sink_that_refuses_ends_the_writing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_target_that_is_in_use_is_not_touched, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
