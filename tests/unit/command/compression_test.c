/* Entries compressed for the log, and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "command/command.h"
#include "command/compression.h"

#include "lib/random.h"
#include "lib/temp_folder.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES  16
#define VALUE_BYTES 200

struct fixture {
    struct command_compressor *compressor;
    struct command_decompressor *decompressor;
    struct random random;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->compressor = command_compressor_new();
    f->decompressor = command_decompressor_new();
    assert_non_null(f->compressor);
    assert_non_null(f->decompressor);
    random_init(&f->random, random_seed());
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    command_compressor_free(f->compressor);
    command_decompressor_free(f->decompressor);
    free(f);
    return 0;
}

struct blob {
    unsigned char *bytes; /* malloc'ed to the byte, so that a sanitizer sees every read past it */
    size_t size;
};

static struct blob blob_of(const void *bytes, size_t size)
{
    struct blob blob = {.bytes = malloc(size), .size = size};
    assert_non_null(blob.bytes);
    memcpy(blob.bytes, bytes, size);
    return blob;
}

/* An entry of n puts; the values are JSON, or noise. */
static struct blob entry_new(struct fixture *f, size_t n, bool noise)
{
    char key[32], value[VALUE_BYTES + 1];
    struct command_op op = {
        .type = COMMAND_OP_PUT, .key = key, .value = value, .value_len = VALUE_BYTES};
    struct command_entry_writer writer;
    op.key_len = (size_t)snprintf(key, sizeof key, "service/%06d", 0);
    size_t command_bytes = command_size(COMMAND_WRITE, &op, 1);
    struct blob entry = {.size = command_entry_begin_size() +
                                 n * command_entry_item_size(command_bytes)};
    unsigned char *command = malloc(command_bytes);
    entry.bytes = malloc(entry.size);
    assert_true(entry.bytes != NULL && command != NULL);
    command_entry_begin(&writer, entry.bytes);
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "service/%06d", (int)random_below(&f->random, 1000000));
        if (noise) {
            random_fill(&f->random, value, VALUE_BYTES);
        } else {
            int used =
                snprintf(value, sizeof value, "{\"port\":%d,\"zone\":\"eu-%d\",\"on\":true}",
                         (int)random_below(&f->random, 65536), (int)random_below(&f->random, 9));
            memset(value + used, ' ', (size_t)(VALUE_BYTES - used));
        }
        command_encode(COMMAND_WRITE, &op, 1, i, command);
        command_entry_add(&writer, command, command_bytes);
    }
    command_entry_end(&writer);
    free(command);
    return entry;
}

/* Which must succeed. */
static struct blob compressed_new(struct fixture *f, struct blob entry)
{
    const void *compressed = NULL;
    size_t size = command_entry_compress(f->compressor, entry.bytes, entry.size, &compressed);
    assert_true(size > 0);
    return blob_of(compressed, size);
}

static int decompress(struct fixture *f, struct blob blob, const void **ret_entry, size_t *ret_size)
{
    return command_entry_decompress(f->decompressor, blob.bytes, blob.size, ret_entry, ret_size);
}

static bool shrinks(struct fixture *f, struct blob entry)
{
    const void *compressed = NULL;
    return command_entry_compress(f->compressor, entry.bytes, entry.size, &compressed) > 0;
}

static void an_entry_comes_back_as_it_was_and_is_several_times_smaller(void **state)
{
    struct fixture *f = *state;
    for (size_t n = 40; n < 4096; n = n * 3 / 2) {
        const void *back = NULL;
        size_t back_size = 0;
        struct blob entry = entry_new(f, n, false);
        struct blob compressed = compressed_new(f, entry);
        assert_true(compressed.size < entry.size / 3);
        assert_int_equal(command_entry_bytes(compressed.bytes, compressed.size), entry.size);
        assert_int_equal(command_entry_bytes(entry.bytes, entry.size), entry.size);
        assert_int_equal(compressed.size % 8, 0);
        assert_int_equal(decompress(f, compressed, &back, &back_size), 0);
        assert_int_equal(back_size, entry.size);
        assert_memory_equal(back, entry.bytes, entry.size);
        free(compressed.bytes);
        free(entry.bytes);
    }
}

static void an_entry_that_is_not_compressed_is_given_back_itself(void **state)
{
    struct fixture *f = *state;
    struct blob entry = entry_new(f, 1, false);
    const void *back = NULL;
    size_t back_size = 0;
    assert_int_equal(decompress(f, entry, &back, &back_size), 0);
    assert_ptr_equal(back, entry.bytes);
    assert_int_equal(back_size, entry.size);
    free(entry.bytes);
}

static void entries_in_one_block_and_very_large_ones_stay_as_they_are(void **state)
{
    struct fixture *f = *state;
    size_t n_large = COMMAND_COMPRESS_BYTES_MAX / VALUE_BYTES;
    struct blob small = entry_new(f, 10, false), large = entry_new(f, n_large, false);
    assert_true(small.size < COMMAND_COMPRESS_BYTES_MIN);
    assert_true(large.size > COMMAND_COMPRESS_BYTES_MAX);
    assert_false(shrinks(f, small));
    assert_false(shrinks(f, large));
    free(small.bytes);
    free(large.bytes);
}

static void noise_stays_as_it_is_and_is_tried_ever_less(void **state)
{
    struct fixture *f = *state;
    struct blob noise = entry_new(f, 100, true), json = entry_new(f, 100, false);
    /* Keys and heads shrink, but these are noise all through. */
    random_fill(&f->random, noise.bytes + 8, noise.size - 8);
    for (int i = 0; i < 1000; i++) {
        assert_false(shrinks(f, noise));
    }
    int skipped = 0;
    while (!shrinks(f, json)) {
        skipped++;
        assert_true(skipped <= 64);
    }
    assert_true(shrinks(f, json));
    free(noise.bytes);
    free(json.bytes);
}

static void what_is_not_wholly_a_compressed_entry_is_refused(void **state)
{
    struct fixture *f = *state;
    const void *back = NULL;
    size_t back_size = 0;
    struct blob entry = entry_new(f, 50, false), compressed = compressed_new(f, entry);
    for (size_t size = HEAD_BYTES; size < compressed.size; size++) {
        struct blob cut = blob_of(compressed.bytes, size);
        assert_int_equal(decompress(f, cut, &back, &back_size), TIERS_CORRUPT);
        free(cut.bytes);
    }
    struct blob longer = {.bytes = calloc(1, compressed.size + 8), .size = compressed.size + 8};
    assert_non_null(longer.bytes);
    memcpy(longer.bytes, compressed.bytes, compressed.size);
    assert_int_equal(decompress(f, longer, &back, &back_size), TIERS_CORRUPT);
    free(longer.bytes);
    free(compressed.bytes);
    free(entry.bytes);
}

/* Past the magic number of 4 bytes, without which it is no compressed entry. */
static void a_flipped_bit_is_refused_or_leads_to_an_entry_of_the_same_size(void **state)
{
    struct fixture *f = *state;
    struct blob entry = entry_new(f, 50, false), compressed = compressed_new(f, entry);
    for (size_t bit = 32; bit < 8 * compressed.size; bit++) {
        const void *back = NULL;
        size_t back_size = 0;
        compressed.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        int error = decompress(f, compressed, &back, &back_size);
        assert_true(error == TIERS_CORRUPT || (error == 0 && back_size == entry.size));
        assert_true(bit >= 8 * HEAD_BYTES || error == TIERS_CORRUPT);
        compressed.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    free(compressed.bytes);
    free(entry.bytes);
}

static void an_entry_compressed_twice_is_refused(void **state)
{
    struct fixture *f = *state;
    const void *back = NULL;
    size_t back_size = 0;
    /* Its values are alike, so that its compressed form is not noise to the compressor. */
    struct blob entry = entry_new(f, 400, false), once = compressed_new(f, entry);
    struct blob padded = {.bytes = calloc(1, 4 * once.size), .size = 4 * once.size};
    assert_non_null(padded.bytes);
    memcpy(padded.bytes, once.bytes, once.size);
    struct blob twice = compressed_new(f, padded);
    assert_int_equal(decompress(f, twice, &back, &back_size), TIERS_CORRUPT);
    free(twice.bytes);
    free(padded.bytes);
    free(once.bytes);
    free(entry.bytes);
}

static uint64_t hash_after(struct blob entry, const char *folder)
{
    char warm[TEMP_FOLDER_PATH_BYTES + 8], cold[TEMP_FOLDER_PATH_BYTES + 8], text[256];
    struct tiers_options options;
    struct tiers *tiers = NULL;
    struct command_state *command_state = NULL;
    struct tiers_position position;
    bool members_changed = true;
    snprintf(warm, sizeof warm, "%s/warm", folder);
    snprintf(cold, sizeof cold, "%s/cold", folder);
    tiers_options_init(&options);
    options.warm_dir = warm;
    options.cold_dir = cold;
    options.hot_bytes = 8u << 20;
    options.warm_bytes = 64u << 20;
    options.warm_map_bytes = 256u << 20;
    assert_int_equal(tiers_open(&options, &tiers, text, sizeof text), 0);
    assert_int_equal(command_state_open(tiers, &command_state), 0);
    assert_int_equal(
        command_apply_entry(command_state, 1, entry.bytes, entry.size, NULL, 0, &members_changed),
        0);
    assert_false(members_changed);
    tiers_position_applied(tiers, &position);
    command_state_close(command_state);
    assert_int_equal(tiers_close(tiers), 0);
    return position.state_hash;
}

static void a_compressed_entry_is_applied_as_the_one_inside(void **state)
{
    struct fixture *f = *state;
    char plain[TEMP_FOLDER_PATH_BYTES], packed[TEMP_FOLDER_PATH_BYTES];
    struct blob entry = entry_new(f, 500, false), compressed = compressed_new(f, entry);
    temp_folder_make(plain);
    temp_folder_make(packed);
    uint64_t hash = hash_after(entry, plain);
    assert_true(hash != 0);
    assert_true(hash == hash_after(compressed, packed));
    temp_folder_remove(plain);
    temp_folder_remove(packed);
    free(compressed.bytes);
    free(entry.bytes);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_entry_comes_back_as_it_was_and_is_several_times_smaller),
        TEST(an_entry_that_is_not_compressed_is_given_back_itself),
        TEST(entries_in_one_block_and_very_large_ones_stay_as_they_are),
        TEST(noise_stays_as_it_is_and_is_tried_ever_less),
        TEST(what_is_not_wholly_a_compressed_entry_is_refused),
        TEST(a_flipped_bit_is_refused_or_leads_to_an_entry_of_the_same_size),
        TEST(an_entry_compressed_twice_is_refused),
        TEST(a_compressed_entry_is_applied_as_the_one_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
