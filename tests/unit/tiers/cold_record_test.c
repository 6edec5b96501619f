/* The cold record codec: what goes in comes out, and nothing else ever does. */
#include "unit/tiers/cold_fixture.h"

#include "cold_record.h"
#include "little_endian.h"

#include <xxhash.h>

struct encoded {
    struct cold_codec *codec;
    struct cold_dictionary *dictionary; /* NULL: none */
    unsigned char *bytes;
    size_t n_bytes;
};

static int set_up(void **state)
{
    struct encoded *e = calloc(1, sizeof *e);
    assert_non_null(e);
    e->codec = cold_codec_new();
    assert_non_null(e->codec);
    *state = e;
    return 0;
}

static int tear_down(void **state)
{
    struct encoded *e = *state;
    cold_codec_free(e->codec);
    cold_dictionary_release(e->dictionary);
    free(e->bytes);
    free(e);
    return 0;
}

/* The bytes end exactly at the end of an allocation, so that ASan sees any step beyond. */
static void encode(struct encoded *e, const struct sample *sample)
{
    struct cold_item item = {
        .space = sample->space,
        .key = sample->key,
        .key_len = sample->key_len,
        .meta = sample->meta,
        .value = sample->value,
        .value_len = sample->value_len,
    };
    size_t size = cold_record_bytes_max(sample->key_len, sample->value_len);
    unsigned char *bytes = malloc(size);
    assert_non_null(bytes);
    e->n_bytes = cold_record_encode(e->codec, &item, e->dictionary, bytes);
    assert_true(e->n_bytes <= size);
    assert_int_equal(e->n_bytes % COLD_RECORD_ALIGN, 0);
    free(e->bytes);
    e->bytes = malloc(e->n_bytes);
    assert_non_null(e->bytes);
    memcpy(e->bytes, bytes, e->n_bytes);
    free(bytes);
}

static void assert_round_trip(struct encoded *e, const struct sample *sample)
{
    struct cold_item item;
    size_t n_bytes = 0;
    encode(e, sample);
    assert_int_equal(cold_record_size(e->bytes, &n_bytes), 0);
    assert_int_equal(n_bytes, e->n_bytes);
    assert_int_equal(cold_record_decode(e->codec, e->bytes, e->n_bytes, e->dictionary, &item), 0);
    assert_true(sample_equals(sample, &item));
}

static void random_records_come_back_as_they_were(void **state)
{
    uint64_t random = seed_take();
    struct sample *samples = samples_make(300, &random);
    for (size_t i = 0; i < 300; i++)
        assert_round_trip(*state, &samples[i]);
    samples_free(samples, 300);
}

static void records_at_the_limits_come_back_as_they_were(void **state)
{
    static const size_t lengths[][2] = {
        {1, 0},  {1, 1},  {TIERS_KEY_BYTES_MAX, 0},  {TIERS_KEY_BYTES_MAX, TIERS_VALUE_BYTES_MAX},
        {7, 63}, {7, 64}, {8, TIERS_VALUE_BYTES_MAX}};
    uint64_t random = seed_take();
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct sample sample;
        sample_make(&sample, &random, lengths[i][0], lengths[i][1]);
        assert_round_trip(*state, &sample);
        free(sample.value);
    }
}

static void a_value_is_compressed_only_when_that_saves_enough(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    struct sample sample;
    sample_make(&sample, &random, 10, 10000);

    random_fill(&random, sample.value, 10000);
    encode(e, &sample);
    assert_int_equal(e->n_bytes, cold_record_bytes_max(10, 10000));

    /* 5 % of zeros are not worth a decompression, 50 % are. */
    memset(sample.value, 0, 500);
    encode(e, &sample);
    assert_int_equal(e->n_bytes, cold_record_bytes_max(10, 10000));
    memset(sample.value, 0, 5000);
    encode(e, &sample);
    assert_true(e->n_bytes < 6000);
    free(sample.value);
}

static void a_flipped_bit_anywhere_is_damage(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    struct sample sample;
    sample_make(&sample, &random, 13, 500);
    for (int compressible = 0; compressible < 2; compressible++) {
        if (compressible)
            memset(sample.value, 'x', 500);
        else
            random_fill(&random, sample.value, 500);
        encode(e, &sample);
        for (size_t bit = 0; bit < 8 * e->n_bytes; bit++) {
            struct cold_item item;
            e->bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
            assert_int_equal(
                cold_record_decode(e->codec, e->bytes, e->n_bytes, e->dictionary, &item),
                TIERS_CORRUPT);
            e->bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        }
    }
    free(sample.value);
}

static void a_record_of_another_length_is_damage(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    struct sample sample;
    sample_make(&sample, &random, 20, 100);
    encode(e, &sample);
    for (size_t n = 0; n < e->n_bytes; n++) {
        unsigned char *cut = malloc(n + 1);
        assert_non_null(cut);
        memcpy(cut, e->bytes, n);
        struct cold_item item;
        assert_int_equal(cold_record_decode(e->codec, cut, n, e->dictionary, &item), TIERS_CORRUPT);
        free(cut);
    }
    free(sample.value);
}

static void the_layout_on_disk_is_as_documented(void **state)
{
    struct encoded *e = *state;
    struct sample sample = {.space = TIERS_SPACE_SYSTEM, .key_len = 3, .value_len = 2};
    unsigned char value[] = {'v', 'w'};
    memcpy(sample.key, "abc", 3);
    sample.value = value;
    sample.meta = (struct tiers_meta){1, 2, 3, 4, 0x1122334455667788};
    encode(e, &sample);

    unsigned char expected[80] = {'T', 'K', 'V', 'r', 2, 0, 1, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2};
    expected[24] = 1;
    expected[32] = 2;
    expected[40] = 3;
    expected[48] = 4;
    static const unsigned char expires[] = {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
    static const unsigned char key_and_value[] = {'a', 'b', 'c', 'v', 'w'};
    memcpy(expected + 56, expires, sizeof expires);
    memcpy(expected + 72, key_and_value, sizeof key_and_value);
    assert_int_equal(e->n_bytes, sizeof expected);
    assert_memory_equal(e->bytes, expected, 64);
    assert_memory_equal(e->bytes + 72, expected + 72, 8);
}

static void checksum_repair(unsigned char *bytes, size_t n_bytes)
{
    uint64_t checksum =
        XXH3_64bits_withSeed(bytes + COLD_RECORD_HEADER_BYTES, n_bytes - COLD_RECORD_HEADER_BYTES,
                             XXH3_64bits(bytes, 64));
    little_endian_put(bytes + 64, checksum, 8);
}

static void a_record_of_the_first_format_is_still_read(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    for (int compressible = 0; compressible < 2; compressible++) {
        struct sample sample;
        struct cold_item item;
        sample_make(&sample, &random, 20, 1000);
        if (compressible)
            memset(sample.value, 'z', 1000);
        else
            random_fill(&random, sample.value, 1000);
        encode(e, &sample);
        e->bytes[4] = 1;
        checksum_repair(e->bytes, e->n_bytes);
        assert_int_equal(cold_record_decode(e->codec, e->bytes, e->n_bytes, NULL, &item), 0);
        assert_true(sample_equals(&sample, &item));
        e->bytes[4] = 3;
        checksum_repair(e->bytes, e->n_bytes);
        assert_int_equal(cold_record_decode(e->codec, e->bytes, e->n_bytes, NULL, &item),
                         TIERS_CORRUPT);
        free(sample.value);
    }
}

/* ---- With a dictionary ---- */

static const char phrase[] =
    "{\"service\":\"checkout\",\"region\":\"eu-central-1\",\"healthy\":true}";

static int set_up_dictionary(void **state)
{
    if (set_up(state) != 0)
        return 1;
    struct encoded *e = *state;
    return cold_dictionary_new(phrase, sizeof phrase, &e->dictionary);
}

static void phrase_sample(struct sample *sample, uint64_t *random)
{
    sample_make(sample, random, 20, 60);
    memcpy(sample->value, phrase, 60);
}

static void a_short_value_like_the_dictionary_takes_little_room(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    struct sample sample;
    phrase_sample(&sample, &random);
    encode(e, &sample);
    assert_true(e->n_bytes < cold_record_bytes_max(20, 60) - 24);
    assert_int_equal(cold_record_dictionary(e->bytes), e->dictionary->id);
    assert_round_trip(e, &sample);
    free(sample.value);
}

static void without_its_dictionary_a_record_is_damaged(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    struct sample sample;
    struct cold_item item;
    struct cold_dictionary *other = NULL;
    phrase_sample(&sample, &random);
    encode(e, &sample);
    assert_int_equal(cold_dictionary_new("something else", 14, &other), 0);
    assert_int_equal(cold_record_decode(e->codec, e->bytes, e->n_bytes, NULL, &item),
                     TIERS_CORRUPT);
    assert_int_equal(cold_record_decode(e->codec, e->bytes, e->n_bytes, other, &item),
                     TIERS_CORRUPT);
    /* The first format knew no dictionaries. */
    e->bytes[4] = 1;
    checksum_repair(e->bytes, e->n_bytes);
    assert_int_equal(cold_record_decode(e->codec, e->bytes, e->n_bytes, e->dictionary, &item),
                     TIERS_CORRUPT);
    cold_dictionary_release(other);
    free(sample.value);
}

static void random_records_come_back_with_a_dictionary_too(void **state)
{
    random_records_come_back_as_they_were(state);
}

static void a_flipped_bit_is_damage_with_a_dictionary_too(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    struct sample sample;
    struct cold_item item;
    phrase_sample(&sample, &random);
    encode(e, &sample);
    for (size_t bit = 0; bit < 8 * e->n_bytes; bit++) {
        e->bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(cold_record_decode(e->codec, e->bytes, e->n_bytes, e->dictionary, &item),
                         TIERS_CORRUPT);
        e->bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    free(sample.value);
}

/* Values that never compress must not keep later ones from being tried: one in 65 at the least. */
static void after_many_incompressible_values_compression_is_still_found(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    struct sample noise;
    struct sample plain;
    sample_make(&noise, &random, 20, 1000);
    sample_make(&plain, &random, 20, 1000);
    random_fill(&random, noise.value, 1000);
    memset(plain.value, 'p', 1000);
    for (size_t i = 0; i < 1000; i++)
        assert_round_trip(e, &noise);
    size_t tries = 0;
    do {
        assert_round_trip(e, &plain);
        tries++;
    } while (e->n_bytes > 500 && tries < 100);
    assert_true(tries <= 65);
    assert_round_trip(e, &plain);
    assert_true(e->n_bytes < 500);
    free(noise.value);
    free(plain.value);
}

/* What short ones let pass untried must not be counted in long ones. */
static void after_short_incompressible_values_few_long_ones_pass_untried(void **state)
{
    struct encoded *e = *state;
    uint64_t random = seed_take();
    struct sample noise;
    struct sample plain;
    sample_make(&noise, &random, 20, 64);
    sample_make(&plain, &random, 20, 100000);
    random_fill(&random, noise.value, 64);
    memset(plain.value, 'p', 100000);
    for (size_t i = 0; i < 40000; i++)
        assert_round_trip(e, &noise);
    size_t raw = 0;
    do {
        assert_round_trip(e, &plain);
        raw += e->n_bytes > 50000;
    } while (e->n_bytes > 50000 && raw < 10000);
    assert_true(raw <= 256);
    free(noise.value);
    free(plain.value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(random_records_come_back_as_they_were, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_at_the_limits_come_back_as_they_were, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_value_is_compressed_only_when_that_saves_enough, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_anywhere_is_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_of_another_length_is_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_layout_on_disk_is_as_documented, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_of_the_first_format_is_still_read, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_short_value_like_the_dictionary_takes_little_room,
                                        set_up_dictionary, tear_down),
        cmocka_unit_test_setup_teardown(without_its_dictionary_a_record_is_damaged,
                                        set_up_dictionary, tear_down),
        cmocka_unit_test_setup_teardown(random_records_come_back_with_a_dictionary_too,
                                        set_up_dictionary, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_damage_with_a_dictionary_too,
                                        set_up_dictionary, tear_down),
        cmocka_unit_test_setup_teardown(
            after_short_incompressible_values_few_long_ones_pass_untried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_many_incompressible_values_compression_is_still_found,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests_name("cold_record", tests, NULL, NULL);
}
