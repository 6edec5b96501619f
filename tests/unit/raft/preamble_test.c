/* How connections between peers begin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "raft/preamble.h"

#include <string.h>

static struct preamble example(void)
{
    return (struct preamble){.kind = PREAMBLE_RAFT,
                             .cluster_id = 0x0123456789abcdef,
                             .source = 17,
                             .destination = UINT64_C(1) << 61,
                             .incarnation = 42,
                             .address = "[::1]:8089"};
}

static void what_was_said_is_understood(void **unused)
{
    (void)unused;
    const struct preamble said = example();
    unsigned char bytes[PREAMBLE_BYTES];
    struct preamble heard;
    preamble_encode(&said, bytes);
    assert_true(preamble_decode(bytes, &heard));
    assert_int_equal(heard.kind, said.kind);
    assert_true(heard.cluster_id == said.cluster_id && heard.source == said.source);
    assert_true(heard.destination == said.destination && heard.incarnation == said.incarnation);
    assert_string_equal(heard.address, said.address);
}

static void the_bytes_are_the_documented_ones(void **unused)
{
    (void)unused;
    const struct preamble said = example();
    unsigned char bytes[PREAMBLE_BYTES];
    preamble_encode(&said, bytes);
    assert_memory_equal(bytes, "TKVP\1\0\1\0\xef\xcd\xab\x89\x67\x45\x23\x01\x11", 17);
    assert_memory_equal(bytes + 40, "\12\0\0\0\0\0\0\0[::1]:8089\0", 19);
}

static void assert_refused_with(size_t at, unsigned char value)
{
    const struct preamble said = example();
    unsigned char bytes[PREAMBLE_BYTES];
    struct preamble heard;
    preamble_encode(&said, bytes);
    bytes[at] = value;
    assert_false(preamble_decode(bytes, &heard));
}

static void another_protocol_version_or_kind_is_refused(void **unused)
{
    (void)unused;
    assert_refused_with(0, 'G');
    assert_refused_with(4, 2);
    assert_refused_with(6, 3);
}

static void an_address_must_be_a_text_of_its_length(void **unused)
{
    (void)unused;
    assert_refused_with(40, 0);
    assert_refused_with(41, 1);
    assert_refused_with(48, 0);
}

static void no_bytes_do_harm(void **unused)
{
    (void)unused;
    struct random random;
    unsigned char bytes[PREAMBLE_BYTES];
    struct preamble heard;
    random_init(&random, random_seed());
    for (int i = 0; i < 100000; i++) {
        const struct preamble said = example();
        preamble_encode(&said, bytes);
        for (int changes = 0; changes < 3; changes++)
            bytes[random_below(&random, sizeof bytes)] = (unsigned char)random_next(&random);
        if (preamble_decode(bytes, &heard))
            assert_true(strlen(heard.address) < sizeof heard.address && heard.source != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_said_is_understood),
        cmocka_unit_test(the_bytes_are_the_documented_ones),
        cmocka_unit_test(another_protocol_version_or_kind_is_refused),
        cmocka_unit_test(an_address_must_be_a_text_of_its_length),
        cmocka_unit_test(no_bytes_do_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
